//! Connects to the server and finds the stream, both for opening the sink and for the verb `check`.

use std::sync::Arc;

use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::{Config, Info};
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::connection::{self, ConnectionEnded, NatsConnection};
use super::explain::{CheckedStream, Explainer};
use super::open_backoff::OpenBackoff;
use super::server_version;
use super::settings::NatsSettings;
use super::{stream, stream_warnings};
use crate::finding::Finding;
use crate::sink::claim_failures::ClaimFailures;
use crate::sink::{SinkContext, SinkError};

/// A sink that publishes events to NATS servers.
pub struct NatsSink {
    pub(super) settings: Arc<NatsSettings>,
    pub(super) context: SinkContext,
    pub(super) explainer: Explainer,
    pub(super) open_backoff: Arc<OpenBackoff>,
    /// JetStream has answered a question about the stream before.
    seen: bool,
    /// The servers that a cluster has named. If the configured ones can't be reached, one of these may work.
    discovered: Vec<String>,
    /// The server of the last connection.
    server: Option<String>,
    previous: Option<ConnectionEnded>,
    warned: Vec<Finding>,
    pub(super) claim_failures: ClaimFailures,
}

impl NatsSink {
    /// Creates the sink from checked settings, without any connection.
    pub fn new(settings: NatsSettings, context: SinkContext) -> Self {
        let settings = Arc::new(settings);
        let subject = settings.subject.bind(&context);
        let explainer = Explainer::new(Arc::clone(&settings), context.clone(), subject);
        let open_backoff = Arc::new(OpenBackoff::new());
        Self {
            settings,
            context,
            explainer,
            open_backoff,
            seen: false,
            discovered: Vec::new(),
            server: None,
            previous: None,
            warned: Vec::new(),
            claim_failures: ClaimFailures::default(),
        }
    }

    pub(super) async fn connect(&mut self) -> Result<NatsConnection, SinkError> {
        if let Some(previous) = &mut self.previous {
            let _ended = previous.await;
            self.previous = None;
        }
        let name = format!("atdata-bridge {}", self.context.connection_id);
        let (ended, connection) = connection::start(&self.settings, &self.explainer, &name, self.servers())?;
        self.previous = Some(ended);
        let connection = connection.await?;
        self.discovered = discovered(&connection.client, self.settings.tls_required);
        self.server = Some(connection.server.clone());
        Ok(connection)
    }

    /// Opens a second connection beside that of the sink, to the same server if it answers.
    pub(super) async fn connect_beside(&self) -> Result<NatsConnection, SinkError> {
        let name = format!("atdata-bridge {} tail", self.context.connection_id);
        let servers = self.server.iter().cloned().chain(self.servers()).collect();
        let (_ended, connection) = connection::start(&self.settings, &self.explainer, &name, servers)?;
        connection.await
    }

    /// Returns the configured servers in random order, then the servers that the cluster has named.
    fn servers(&self) -> Vec<String> {
        let mut servers = self.settings.servers.clone();
        fastrand::shuffle(&mut servers);
        let others = self.discovered.iter().filter(|server| !self.settings.servers.contains(server));
        servers.extend(others.cloned());
        servers
    }

    pub(super) fn jetstream(&self, client: Client) -> async_nats::jetstream::Context {
        let builder = ContextBuilder::new().timeout(self.settings.timeout);
        match &self.settings.domain {
            Some(domain) => builder.domain(domain).build(client),
            None => builder.build(client),
        }
    }

    /// Returns the stream if it exists, and checks it.
    pub(super) async fn look_up(
        &mut self,
        connection: &mut NatsConnection,
        name: &str,
    ) -> Result<Option<Info>, SinkError> {
        let jetstream = self.jetstream(connection.client.clone());
        let offered = connection.client.server_info().jetstream;
        let known = CheckedStream { domain: self.settings.domain.as_deref(), offered, seen: self.seen };
        let looking_up = stream::look_up(&jetstream, name, &self.explainer, known);
        let info = connection.unless_broken(looking_up).await?;
        self.seen = true;
        if let Some(info) = &info {
            stream::verify(&info.config, &self.explainer)?;
        }
        Ok(info)
    }

    /// Returns the stream; creates it if it is missing and the settings allow this.
    pub(super) async fn find_or_make(
        &mut self,
        connection: &mut NatsConnection,
        name: &str,
    ) -> Result<Info, SinkError> {
        if let Some(info) = self.look_up(connection, name).await? {
            return Ok(info);
        }
        let wanted = self.settings.create.as_ref().ok_or_else(|| self.explainer.no_stream(name))?;
        let jetstream = self.jetstream(connection.client.clone());
        let making = stream::create(&jetstream, name, wanted, &self.explainer);
        let info = connection.unless_broken(making).await?;
        tracing::info!(sink = self.context.sink, "made stream {name}");
        Ok(info)
    }

    /// Logs the warnings that `check` would show, each time the sink is opened, except for those of the time
    /// before.
    pub(super) fn warn(&mut self, warnings: Vec<Finding>) {
        for warning in warnings.iter().filter(|warning| !self.warned.contains(warning)) {
            tracing::warn!(sink = self.context.sink, "{}", warning.message);
        }
        self.warned = warnings;
    }

    /// Returns the warnings about the server, and about the stream that exists or will be created.
    pub(super) fn warnings(&self, client: &Client, stream: Option<(&Config, Option<usize>)>) -> Vec<Finding> {
        let max_body = self.context.max_body;
        let server = client.server_info();
        // Core NATS acknowledges nothing that a server could lose.
        let of_version = stream.and_then(|_| server_version::warning(&server.version));
        let of_payload = stream_warnings::payload_warning(server.max_payload, max_body);
        let of_stream = stream
            .map(|(config, consumers)| stream_warnings::warnings(config, consumers, max_body))
            .unwrap_or_default();
        of_stream.into_iter().chain(of_version).chain(of_payload).collect()
    }

    /// Sends a message to the own inbox and waits for it. In core NATS there is no stream whose answer would
    /// prove that the server works.
    pub(super) async fn try_round_trip(
        &self,
        connection: &mut NatsConnection,
        inbox: &str,
        answers: &mut Subscriber,
    ) -> Result<(), SinkError> {
        let client = connection.client.clone();
        let round_trip = async {
            let sent = client.publish(format!("{inbox}.open"), Bytes::new()).await;
            sent.map_err(|error| SinkError::unavailable("the NATS client has ended").caused_by(error))?;
            let back = timeout(self.settings.timeout, answers.next()).await;
            let silent = "the NATS server does not send back what is published to the inbox";
            back.ok().flatten().map(|_| ()).ok_or_else(|| SinkError::unavailable(silent))
        };
        connection.unless_broken(round_trip).await
    }
}

fn discovered(client: &Client, tls: bool) -> Vec<String> {
    let scheme = if tls { "tls" } else { "nats" };
    client.server_info().connect_urls.iter().map(|address| format!("{scheme}://{address}")).collect()
}

/// Returns the values that warnings about a stream are made from.
pub(super) fn values(info: &Info) -> (&Config, Option<usize>) {
    (&info.config, Some(info.state.consumer_count))
}

pub(super) async fn subscribe(client: &Client) -> Result<(String, Subscriber), SinkError> {
    let inbox = client.new_inbox();
    let subscribed = client.subscribe(format!("{inbox}.*")).await;
    let subscriber = subscribed
        .map_err(|error| SinkError::misconfigured("can't subscribe to the inbox").caused_by(error))?;
    Ok((inbox, subscriber))
}
