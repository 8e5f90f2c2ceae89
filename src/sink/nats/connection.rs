//! Opens one connection to a server that never reconnects by itself.
//!
//! The client library normally reconnects and then publishes the messages that it had queued before: later
//! than the worker expects, and out of order (I3). So each connection has its own client in its own thread.
//! This client waits for ever instead of reconnecting, and its thread must end before the next connection is
//! opened.

use std::fs;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectError, ConnectOptions, Event, ServerError};
use futures_util::future::join_all;
use tokio::runtime;
use tokio::sync::{oneshot, watch};

use super::explain::Explainer;
use super::settings::{Auth, NatsSettings};
use crate::file_reads;
use crate::secret::Secret;
use crate::sink::{SinkError, SinkErrorKind};
use crate::tls::{self, TlsError};

/// The time between two pings. The client gives the server up when three pings in a row get no answer.
const PING_EVERY: Duration = Duration::from_secs(10);
/// A wait that is longer than any connection: one year.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// An open connection to a server. It ends when this value is dropped.
pub(super) struct NatsConnection {
    pub(super) client: Client,
    /// The address of the server, as it is configured or as the cluster has named it.
    pub(super) server: String,
    errors: watch::Receiver<Option<SinkError>>,
    /// When the connection was opened. The server's information about itself has the same age.
    pub(super) since: Instant,
    /// The thread ends when this is dropped.
    _stop: oneshot::Sender<()>,
}

/// Gets no value, but an error when the thread of a connection has ended.
pub(super) type ConnectionEnded = oneshot::Receiver<()>;

impl NatsConnection {
    /// Waits for an error that ends the connection. No more answers arrive after it.
    pub(super) async fn next_error(&mut self) -> SinkError {
        match self.errors.wait_for(Option::is_some).await {
            Ok(error) => error.clone(),
            Err(_) => None,
        }
        .unwrap_or_else(|| SinkError::unavailable("the connection to the NATS server has ended"))
    }

    /// Returns the result of `request`, or the connection's error if that comes first: a request that the
    /// server forbids gets no answer.
    pub(super) async fn unless_broken<T>(
        &mut self,
        request: impl Future<Output = Result<T, SinkError>>,
    ) -> Result<T, SinkError> {
        tokio::select! {
            biased;
            error = self.next_error() => Err(error),
            result = request => result,
        }
    }
}

/// Connects to servers. Holds the values that all attempts of one connection share.
struct Dial {
    settings: Arc<NatsSettings>,
    explainer: Explainer,
    name: String,
    error_sender: Arc<watch::Sender<Option<SinkError>>>,
    connected: Arc<AtomicBool>,
}

/// Starts a thread that connects to one of `servers`, tried in this order.
pub(super) fn start(
    settings: &Arc<NatsSettings>,
    explainer: &Explainer,
    name: &str,
    servers: Vec<String>,
) -> Result<
    (ConnectionEnded, impl Future<Output = Result<NatsConnection, SinkError>> + Send + use<>),
    SinkError,
> {
    let (error_sender, errors) = watch::channel(None);
    let dial = Dial {
        settings: Arc::clone(settings),
        explainer: explainer.clone(),
        name: name.to_owned(),
        error_sender: Arc::new(error_sender),
        connected: Arc::default(),
    };
    let (ended, when_ended) = oneshot::channel();
    let (stop_sender, stopped) = oneshot::channel();
    let (result_sender, client_result) = oneshot::channel();
    let client = async move {
        let result = dial.first_of(&servers).await;
        dial.connected.store(true, Ordering::Release);
        if result_sender.send(result).is_ok() {
            pending::<()>().await;
        }
    };
    let run = move || {
        // The drop of this sender reports the end of the thread, so it must be dropped last.
        let _ended: oneshot::Sender<()> = ended;
        run_client(client, stopped);
    };
    thread::Builder::new()
        .name(format!("{name}-nats"))
        .spawn(run)
        .map_err(|error| SinkError::unavailable("cannot start a thread").caused_by(error))?;
    let connection = async move {
        let gone = |_| SinkError::unavailable("the thread of the connection has ended");
        let (client, server) = client_result.await.map_err(gone)??;
        Ok(NatsConnection { client, server, errors, since: Instant::now(), _stop: stop_sender })
    };
    Ok((when_ended, connection))
}

/// Runs the client in its own runtime until the connection is dropped. No task of the client is left after
/// that.
fn run_client(client: impl Future<Output = ()>, mut stopped: oneshot::Receiver<()>) {
    let Ok(runtime) = runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        tokio::select! {
            () = client => {}
            // No value is ever sent: the sender is dropped with the connection.
            _ = &mut stopped => {}
        }
    });
    // This does not wait for a look-up of a host name that hangs.
    runtime.shutdown_background();
}

impl Dial {
    async fn first_of(&self, servers: &[String]) -> Result<(Client, String), SinkError> {
        let mut failures = Vec::new();
        for server in servers {
            let tls = tls::TlsClient::read(&self.explainer.tls_options(), self.settings.timeout).await;
            match self.options(&tls).await?.connect(server.as_str()).await {
                Ok(client) => return Ok((client, server.clone())),
                Err(error) => failures.push(ServerFailure { server, error, tls: tls.ok() }),
            }
        }
        // The probe of an address takes seconds and the next server may work, so the failed ones are examined
        // last.
        Err(together(join_all(failures.iter().map(|failure| self.explained(failure))).await))
    }

    async fn explained<'a>(&self, failure: &ServerFailure<'a>) -> (&'a str, SinkError) {
        let ServerFailure { server, error, tls } = failure;
        (server, self.explainer.not_connected(server, error, tls.as_ref()).await)
    }

    async fn options(&self, tls: &Result<tls::TlsClient, TlsError>) -> Result<ConnectOptions, SinkError> {
        let settings = &self.settings;
        let (error_sender, explainer) = (Arc::clone(&self.error_sender), self.explainer.clone());
        let connected = Arc::clone(&self.connected);
        let options = ConnectOptions::new()
            .name(&self.name)
            .connection_timeout(settings.timeout)
            .request_timeout(Some(settings.timeout))
            .ping_interval(PING_EVERY)
            // There must be room for all events in flight, so that handing over never waits.
            .client_capacity(2 * settings.window + 64)
            .subscription_capacity(settings.subscription_capacity())
            .custom_inbox_prefix(&settings.inbox_prefix)
            .retain_servers_order()
            // The subjects are checked with the template.
            .skip_subject_validation(true)
            .reconnect_delay_callback(
                move |_| if connected.load(Ordering::Acquire) { NEVER } else { Duration::ZERO },
            )
            .event_callback(move |event| {
                note(&error_sender, &event, &explainer);
                std::future::ready(())
            });
        self.with_tls(self.with_auth(options).await?, tls)
    }

    /// Files are read for each connection, so that rotated credentials are used.
    async fn with_auth(&self, options: ConnectOptions) -> Result<ConnectOptions, SinkError> {
        let current = async |secret: &Secret| {
            secret.refresh(self.settings.timeout).await;
            secret.current().reveal().to_owned()
        };
        Ok(match &self.settings.auth {
            Auth::None => options,
            Auth::Password { username, password } => {
                options.user_and_password(username.clone(), current(password).await)
            }
            Auth::Token(token) => options.token(current(token).await),
            Auth::Nkey(seed) => options.nkey(current(seed).await),
            Auth::Credentials(path) => {
                let unusable = |error: io::Error| self.explainer.unusable_credentials(path, &error);
                let file = path.clone();
                let read = file_reads::within(self.settings.timeout, || fs::read_to_string(file)).await;
                let credentials = read.unwrap_or_else(|| Err(file_reads::no_answer())).map_err(unusable)?;
                options.credentials(&credentials).map_err(unusable)?
            }
        })
    }

    fn with_tls(
        &self,
        options: ConnectOptions,
        tls: &Result<tls::TlsClient, TlsError>,
    ) -> Result<ConnectOptions, SinkError> {
        let required = self.settings.tls_required;
        let options = if self.settings.tls.first { options.tls_first() } else { options };
        match tls {
            Ok(client) => Ok(options.tls_client_config(client.config()).require_tls(required)),
            // Without TLS, it does not matter that the system has no root certificates.
            Err(_) if !required => Ok(options),
            Err(error) => Err(SinkError::misconfigured(error.to_string())),
        }
    }
}

/// A failed attempt to connect to one server.
struct ServerFailure<'a> {
    server: &'a str,
    error: ConnectError,
    /// The TLS client of this attempt, with the certificates it trusts and those of the server.
    tls: Option<tls::TlsClient>,
}

/// Makes one error of the errors of all servers, always in the same order. If one of them needs an operator,
/// the result needs one too.
fn together(mut failures: Vec<(&str, SinkError)>) -> SinkError {
    failures.sort_by_key(|(server, _)| *server);
    let mut texts: Vec<String> = failures.iter().map(|(_, error)| error.to_string()).collect();
    texts.dedup();
    let text = texts.join("; ");
    // The error that somebody must correct comes first.
    failures.sort_by_key(|(_, error)| error.kind != SinkErrorKind::Misconfigured);
    match failures.into_iter().next() {
        Some((_, error)) => error.with_message(text),
        None => SinkError::unavailable(text),
    }
}

/// Stores the error that ends a connection. The first error counts, but a later one that needs an operator
/// replaces it.
fn note(error_sender: &watch::Sender<Option<SinkError>>, event: &Event, explainer: &Explainer) {
    let Some(error) = error_of_event(event, explainer) else { return };
    error_sender.send_if_modified(|noted| {
        let is_new = match noted {
            Some(known) => known.kind == SinkErrorKind::Unavailable && error.kind != known.kind,
            None => true,
        };
        if is_new {
            *noted = Some(error);
        }
        is_new
    });
}

fn error_of_event(event: &Event, explainer: &Explainer) -> Option<SinkError> {
    match event {
        Event::Disconnected | Event::Closed => {
            Some(SinkError::unavailable("the NATS server has closed the connection, or does not answer"))
        }
        Event::ServerError(ServerError::AuthorizationViolation) => {
            Some(explainer.login_refused("it no longer takes it"))
        }
        Event::ServerError(ServerError::Other(said)) => explainer.server_error(said),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::nats::explain::testing::explainer;

    #[test]
    fn a_refusal_is_not_hidden_behind_the_end_that_follows() {
        let (error_sender, errors) = watch::channel(None);
        let refusal = Event::ServerError(ServerError::Other("User Authentication Expired".to_owned()));
        for event in
            [Event::Connected, Event::Disconnected, refusal, Event::Disconnected, Event::LameDuckMode]
        {
            note(&error_sender, &event, &explainer("e"));
        }
        let noted = errors.borrow().clone().unwrap();
        assert_eq!(noted.kind, SinkErrorKind::Misconfigured);
    }

    /// The order of the attempts is random; the text must not depend on it.
    #[test]
    fn what_all_servers_say_is_one_text() {
        let away = || SinkError::unavailable("can't reach a:1");
        let wrong = || SinkError::misconfigured("b:1 is a STOMP port");
        for failures in [vec![("a", away()), ("b", wrong())], vec![("b", wrong()), ("a", away())]] {
            let error = together(failures);
            assert_eq!(error.to_string(), "can't reach a:1; b:1 is a STOMP port");
            assert_eq!(error.kind, SinkErrorKind::Misconfigured);
        }
        assert_eq!(together(vec![("a", away()), ("a", away())]).to_string(), "can't reach a:1");
    }
}
