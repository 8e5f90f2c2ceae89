//! NATS: a JetStream stream, or core NATS.
//!
//! Publishes are pipelined, up to a window; each names its delivery in its reply subject, and one subscription
//! hears all answers. JetStream may store them in another order than they were sent, after an error, so the
//! lane keeps one event per key in flight (I3). `Durable` is said on the acknowledgement of the configured
//! stream alone.
//!
//! An opening is one connection. It ends with the connection, with an answer that does not come in time, and
//! with one that says that the stream is not what it was; then everything without an answer is published
//! again over a new connection, after another look at the stream, and the stream drops by `Nats-Msg-Id` what
//! it had stored. An outage that outlasts the duplicate window can so leave doubles of what was in flight.
//!
//! Core NATS keeps order (one connection) and is at most once: `Durable` means that the server has read the
//! event, and a permission that is missing shows only after some were.

mod acks;
pub mod config;
mod connection;
mod explain;
mod in_flight;
mod open_backoff;
mod port_probe;
mod producer;
mod publish_ack;
mod servers;
pub mod settings;
mod stream;
mod stream_config;
mod subject_match;
mod template;

use std::sync::Arc;

use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::{Config, Info};
use async_nats::{Client, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::timeout;

use self::acks::NatsAcks;
use self::connection::{ConnectionEnded, NatsConnection};
use self::explain::Explainer;
use self::open_backoff::OpenBackoff;
use self::producer::{NatsProducer, ProducerShared};
use self::settings::NatsSettings;
use self::stream::CheckedStream;
use super::{Sink, SinkContext, SinkError, Submit, Verdicts};

/// The NATS sink.
pub struct NatsSink {
    settings: Arc<NatsSettings>,
    context: SinkContext,
    explainer: Explainer,
    holding: Arc<OpenBackoff>,
    /// JetStream has told about the stream.
    seen: bool,
    /// Servers that a cluster told us of: where the configured ones are away, one of these may be there.
    discovered: Vec<String>,
    previous: Option<ConnectionEnded>,
    /// What was warned of already.
    warned: Vec<String>,
}

impl NatsSink {
    /// Touches nothing yet.
    pub fn new(settings: NatsSettings, context: SinkContext) -> Self {
        let settings = Arc::new(settings);
        let subject = settings.subject.bind(&context);
        let explainer = Explainer::new(Arc::clone(&settings), context.clone(), subject);
        let holding = Arc::new(OpenBackoff::new());
        Self {
            settings,
            context,
            explainer,
            holding,
            seen: false,
            discovered: Vec::new(),
            previous: None,
            warned: Vec::new(),
        }
    }

    async fn connect(&mut self) -> Result<NatsConnection, SinkError> {
        if let Some(previous) = &mut self.previous {
            previous.wait().await;
        }
        let name = format!("atdata-bridge {}", self.context.connection_id);
        let (ended, connection) = connection::start(&self.settings, &self.explainer, &name, self.servers())?;
        self.previous = Some(ended);
        let connection = connection.await?;
        self.discovered = discovered(&connection.client, self.settings.tls.required);
        Ok(connection)
    }

    /// The configured servers in any order, then those that they told us of.
    fn servers(&self) -> Vec<String> {
        let mut servers = self.settings.servers.clone();
        fastrand::shuffle(&mut servers);
        let others = self.discovered.iter().filter(|server| !self.settings.servers.contains(server));
        servers.extend(others.cloned());
        servers
    }

    fn jetstream(&self, client: Client) -> async_nats::jetstream::Context {
        let builder = ContextBuilder::new().timeout(self.settings.timeout);
        match &self.settings.domain {
            Some(domain) => builder.domain(domain).build(client),
            None => builder.build(client),
        }
    }

    /// The stream, if it exists; checked.
    async fn look_up(
        &mut self,
        connection: &mut NatsConnection,
        name: &str,
    ) -> Result<Option<Info>, SinkError> {
        let jetstream = self.jetstream(connection.client.clone());
        let offered = connection.client.server_info().jetstream;
        let known = CheckedStream { domain: self.settings.domain.as_deref(), offered, seen: self.seen };
        let look = stream::look_up(&jetstream, name, &self.explainer, known);
        let info = connection.unless_in_trouble(look).await?;
        self.seen = true;
        if let Some(info) = &info {
            stream::verify(&info.config, &self.explainer)?;
        }
        Ok(info)
    }

    /// The stream, made if it is missing and may be.
    async fn find_or_make(&mut self, connection: &mut NatsConnection, name: &str) -> Result<Info, SinkError> {
        if let Some(info) = self.look_up(connection, name).await? {
            return Ok(info);
        }
        let wanted = self.settings.create.as_ref().ok_or_else(|| self.explainer.no_stream(name))?;
        let jetstream = self.jetstream(connection.client.clone());
        let making = stream::create(&jetstream, name, wanted, &self.explainer);
        let info = connection.unless_in_trouble(making).await?;
        tracing::info!(sink = self.context.sink, "made stream {name}");
        Ok(info)
    }

    /// Logs what `check` warns of, at each opening; what was said at the one before is known.
    fn warn(&mut self, warnings: Vec<String>) {
        for warning in warnings.iter().filter(|warning| !self.warned.contains(warning)) {
            tracing::warn!(sink = self.context.sink, "{warning}");
        }
        self.warned = warnings;
    }

    /// What there is to warn of: of the server, and of the stream that is there or will be made.
    fn warnings(&self, client: &Client, stream: Option<(&Config, Option<usize>)>) -> Vec<String> {
        let max_body = self.context.max_body;
        let of_server = stream::payload_warning(client.server_info().max_payload, max_body);
        let of_stream = stream
            .map(|(config, consumers)| stream::warnings(config, consumers, max_body))
            .unwrap_or_default();
        of_stream.into_iter().chain(of_server).collect()
    }

    /// Without a stream to ask for, the way to the server and back is tried.
    async fn try_the_way(
        &self,
        connection: &mut NatsConnection,
        inbox: &str,
        answers: &mut Subscriber,
    ) -> Result<(), SinkError> {
        let client = connection.client.clone();
        let way = async {
            let sent = client.publish(format!("{inbox}.open"), Bytes::new()).await;
            sent.map_err(|error| SinkError::unavailable("the NATS client has ended").caused_by(error))?;
            let back = timeout(self.settings.timeout, answers.next()).await;
            let silent = "the NATS server does not send back what is published to the inbox";
            back.ok().flatten().map(|_| ()).ok_or_else(|| SinkError::unavailable(silent))
        };
        connection.unless_in_trouble(way).await
    }
}

/// The other servers of the cluster, as far as the server names them.
fn discovered(client: &Client, tls: bool) -> Vec<String> {
    let scheme = if tls { "tls" } else { "nats" };
    client.server_info().connect_urls.iter().map(|address| format!("{scheme}://{address}")).collect()
}

/// What warnings are made of.
fn found(info: &Info) -> (&Config, Option<usize>) {
    (&info.config, Some(info.state.consumer_count))
}

async fn subscribe(client: &Client) -> Result<(String, Subscriber), SinkError> {
    let inbox = client.new_inbox();
    let subscribed = client.subscribe(format!("{inbox}.*")).await;
    let subscriber = subscribed
        .map_err(|error| SinkError::misconfigured("can't subscribe to the inbox").caused_by(error))?;
    Ok((inbox, subscriber))
}

#[async_trait]
impl Sink for NatsSink {
    fn keeps_order(&self) -> bool {
        self.settings.stream.is_none()
    }

    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        self.holding.check()?;
        let mut connection = self.connect().await?;
        let (inbox, mut subscriber) = subscribe(&connection.client).await?;
        let stream = self.settings.stream.clone();
        let info = match &stream {
            Some(name) => Some(self.find_or_make(&mut connection, name).await?),
            None => {
                self.try_the_way(&mut connection, &inbox, &mut subscriber).await?;
                None
            }
        };
        self.warn(self.warnings(&connection.client, info.as_ref().map(found)));
        let shared = Arc::<ProducerShared>::default();
        let publisher = NatsProducer {
            client: connection.client.clone(),
            inbox: inbox.clone(),
            subject: self.explainer.subject().clone(),
            connected: connection.since,
            message_id: self.settings.message_id.bind(&self.context),
            context: self.context.clone(),
            stream: stream.clone(),
            window: self.settings.window,
            shared: Arc::clone(&shared),
        };
        let terms = (stream, self.settings.timeout);
        let holding = Arc::clone(&self.holding);
        let answers = NatsAcks::new(connection, (inbox, subscriber), terms, shared, holding);
        Ok((Box::new(publisher), Box::new(answers)))
    }

    async fn probe(&mut self) -> Result<Vec<String>, SinkError> {
        let mut connection = self.connect().await?;
        let (inbox, mut subscriber) = subscribe(&connection.client).await?;
        let server = connection.client.server_info();
        let mut lines =
            vec![format!("connected to nats-server {} at {}:{}", server.version, server.host, server.port)];
        let client = connection.client.clone();
        let warnings = match self.settings.stream.clone() {
            None => {
                self.try_the_way(&mut connection, &inbox, &mut subscriber).await?;
                self.warnings(&client, None)
            }
            Some(name) => match self.look_up(&mut connection, &name).await? {
                Some(info) => {
                    stream::has_room(&info)?;
                    lines.push(stream::describe(&info));
                    self.warnings(&client, Some(found(&info)))
                }
                None => {
                    let create = self.settings.create.as_ref();
                    let wanted = create.ok_or_else(|| self.explainer.no_stream(&name))?;
                    let config = wanted.config(&name, self.explainer.subject().pattern());
                    stream::verify(&config, &self.explainer)?;
                    lines.push(format!("stream {name} does not exist yet and will be made"));
                    self.warnings(&client, Some((&config, None)))
                }
            },
        };
        lines.extend(warnings.into_iter().map(|text| format!("warning: {text}")));
        Ok(lines)
    }
}
