//! One connection to a server, which ends with its opening and never comes back by itself.
//!
//! The client library reconnects on its own and then publishes what it had queued before: later than the
//! lane believes, and out of order (I3). So each opening has a client of its own, in a thread of its own, that
//! waits for ever instead of reconnecting, and all of it is gone before the next one is opened.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectError, ConnectOptions, Event, ServerError};
use futures_util::future::join_all;
use tokio::runtime;
use tokio::sync::{oneshot, watch};

use super::explain::Explainer;
use super::settings::{Auth, NatsSettings, TlsSettings};
use crate::sink::{SinkError, SinkErrorKind};
use crate::tls::{self, TlsError};

/// How often the server must show that it lives; it is given up after the third time in a row.
const PING_EVERY: Duration = Duration::from_secs(10);
/// A wait that no connection outlives.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A connection; it ends when this is dropped.
pub(super) struct NatsConnection {
    /// Hands over publishes and requests.
    pub(super) client: Client,
    troubles: watch::Receiver<Option<SinkError>>,
    /// When it came about: what the server has said of itself is so old.
    pub(super) since: Instant,
    /// The thread ends once this is gone.
    _life: oneshot::Sender<()>,
}

/// Tells when a connection's thread has ended.
pub(super) struct ConnectionEnded(Option<oneshot::Receiver<()>>);

impl ConnectionEnded {
    /// Waits for it.
    pub(super) async fn wait(&mut self) {
        if let Some(thread) = &mut self.0 {
            // Nothing is ever sent: the sender goes with the thread.
            let _closed = thread.await;
        }
        self.0 = None;
    }
}

impl NatsConnection {
    /// The connection's own trouble, once it is in one: then nothing more will come of it.
    pub(super) async fn next_error(&mut self) -> SinkError {
        match self.troubles.wait_for(Option::is_some).await {
            Ok(trouble) => trouble.clone(),
            Err(_) => None,
        }
        .unwrap_or_else(|| SinkError::unavailable("the connection to the NATS server has ended"))
    }

    /// The result of `request`, unless the connection is in trouble first: a request that the server
    /// forbids gets no answer.
    pub(super) async fn unless_in_trouble<T>(
        &mut self,
        request: impl Future<Output = Result<T, SinkError>>,
    ) -> Result<T, SinkError> {
        tokio::select! {
            biased;
            trouble = self.next_error() => Err(trouble),
            result = request => result,
        }
    }
}

/// How servers are dialled: what all tries of one opening share.
struct Dial {
    settings: Arc<NatsSettings>,
    explainer: Explainer,
    name: String,
    troubling: Arc<watch::Sender<Option<SinkError>>>,
    connected: Arc<AtomicBool>,
}

/// Starts to connect to one of `servers`, tried in this order.
///
/// # Errors
/// No thread can be started.
pub(super) fn start(
    settings: &Arc<NatsSettings>,
    explainer: &Explainer,
    name: &str,
    servers: Vec<String>,
) -> Result<
    (ConnectionEnded, impl Future<Output = Result<NatsConnection, SinkError>> + Send + use<>),
    SinkError,
> {
    let (troubling, troubles) = watch::channel(None);
    let dial = Dial {
        settings: Arc::clone(settings),
        explainer: explainer.clone(),
        name: name.to_owned(),
        troubling: Arc::new(troubling),
        connected: Arc::default(),
    };
    let (ended, when_ended) = oneshot::channel();
    let (life, death) = oneshot::channel();
    let (opened, opening) = oneshot::channel();
    let life_of_client = async move {
        let result = dial.first_of(&servers).await;
        dial.connected.store(true, Ordering::Release);
        if opened.send(result).is_ok() {
            pending::<()>().await;
        }
    };
    let run = move || {
        // Told by being dropped, last of all.
        let _ended: oneshot::Sender<()> = ended;
        run_client(life_of_client, death);
    };
    thread::Builder::new()
        .name(format!("{name}-nats"))
        .spawn(run)
        .map_err(|error| SinkError::unavailable("cannot start a thread").caused_by(error))?;
    let connection = async move {
        let gone = |_| SinkError::unavailable("the thread of the connection has ended");
        let client = opening.await.map_err(gone)??;
        Ok(NatsConnection { client, troubles, since: Instant::now(), _life: life })
    };
    Ok((ConnectionEnded(Some(when_ended)), connection))
}

/// Runs the client with a runtime of its own until its opening is over: nothing of it is left then.
fn run_client(client: impl Future<Output = ()>, mut death: oneshot::Receiver<()>) {
    let Ok(runtime) = runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        tokio::select! {
            () = client => {}
            // Nothing is ever sent: the sender goes with the opening.
            _ = &mut death => {}
        }
    });
    // A look-up of a host name that hangs is not waited for.
    runtime.shutdown_background();
}

impl Dial {
    async fn first_of(&self, servers: &[String]) -> Result<Client, SinkError> {
        let mut failures = Vec::new();
        for server in servers {
            let tls = tls::Client::new(&self.explainer.tls_options());
            match self.options(&tls)?.connect(server.as_str()).await {
                Ok(client) => return Ok(client),
                Err(error) => failures.push(ServerFailure { server, error, tls: tls.ok() }),
            }
        }
        // Only now, since a look at what listens takes seconds, and the next server may be a good one.
        Err(together(join_all(failures.iter().map(|failure| self.told(failure))).await))
    }

    async fn told<'a>(&self, failure: &ServerFailure<'a>) -> (&'a str, SinkError) {
        let ServerFailure { server, error, tls } = failure;
        (server, self.explainer.not_connected(server, error, tls.as_ref()).await)
    }

    fn options(&self, tls: &Result<tls::Client, TlsError>) -> Result<ConnectOptions, SinkError> {
        let settings = &self.settings;
        let (troubling, explainer) = (Arc::clone(&self.troubling), self.explainer.clone());
        let connected = Arc::clone(&self.connected);
        let options = ConnectOptions::new()
            .name(&self.name)
            .connection_timeout(settings.timeout)
            .request_timeout(Some(settings.timeout))
            .ping_interval(PING_EVERY)
            // Room for everything in flight, so that handing over never waits, and no answer is ever dropped.
            .client_capacity(2 * settings.window + 64)
            .subscription_capacity(2 * settings.window + 64)
            .custom_inbox_prefix(&settings.inbox_prefix)
            .retain_servers_order()
            // Checked with the template.
            .skip_subject_validation(true)
            .reconnect_delay_callback(
                move |_| if connected.load(Ordering::Acquire) { NEVER } else { Duration::ZERO },
            )
            .event_callback(move |event| {
                note(&troubling, &event, &explainer);
                std::future::ready(())
            });
        self.with_tls(self.with_auth(options)?, tls)
    }

    fn with_auth(&self, options: ConnectOptions) -> Result<ConnectOptions, SinkError> {
        Ok(match &self.settings.auth {
            Auth::None => options,
            Auth::Password { username, password } => {
                options.user_and_password(username.clone(), password.current().reveal().to_owned())
            }
            Auth::Token(token) => options.token(token.current().reveal().to_owned()),
            Auth::Nkey(seed) => options.nkey(seed.current().reveal().to_owned()),
            Auth::Credentials(path) => {
                let unusable = |error: std::io::Error| self.explainer.unusable_credentials(path, &error);
                // Read anew each time, so that rotated credentials are picked up.
                let credentials = std::fs::read_to_string(path).map_err(unusable)?;
                options.credentials(&credentials).map_err(unusable)?
            }
        })
    }

    fn with_tls(
        &self,
        options: ConnectOptions,
        tls: &Result<tls::Client, TlsError>,
    ) -> Result<ConnectOptions, SinkError> {
        let TlsSettings { required, first, .. } = self.settings.tls;
        let options = if first { options.tls_first() } else { options };
        match tls {
            Ok(client) => Ok(options.tls_client_config(client.config()).require_tls(required)),
            // Where nothing asks for TLS, a system without root certificates is none the worse.
            Err(_) if !required => Ok(options),
            Err(error) => Err(Explainer::no_tls(error)),
        }
    }
}

/// A try that has failed.
struct ServerFailure<'a> {
    server: &'a str,
    error: ConnectError,
    /// What was trusted, and what the server has shown.
    tls: Option<tls::Client>,
}

/// One error for all servers, in the same order each time. Somebody must act where one of them needs it.
fn together(mut failures: Vec<(&str, SinkError)>) -> SinkError {
    failures.sort_by_key(|(server, _)| *server);
    let mut texts: Vec<String> = failures.iter().map(|(_, error)| error.to_string()).collect();
    texts.dedup();
    let text = texts.join("; ");
    match failures.iter().any(|(_, error)| error.kind == SinkErrorKind::Misconfigured) {
        true => SinkError::misconfigured(text),
        false => SinkError::unavailable(text),
    }
}

/// Notes what ends a connection; the first word of it counts, but for one that asks for an operator.
fn note(troubling: &watch::Sender<Option<SinkError>>, event: &Event, explainer: &Explainer) {
    let Some(trouble) = error_of_event(event, explainer) else { return };
    troubling.send_if_modified(|noted| {
        let news = match noted {
            Some(known) => known.kind == SinkErrorKind::Unavailable && trouble.kind != known.kind,
            None => true,
        };
        if news {
            *noted = Some(trouble);
        }
        news
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
        let (troubling, troubles) = watch::channel(None);
        let refusal = Event::ServerError(ServerError::Other("User Authentication Expired".to_owned()));
        for event in
            [Event::Connected, Event::Disconnected, refusal, Event::Disconnected, Event::LameDuckMode]
        {
            note(&troubling, &event, &explainer("e"));
        }
        let noted = troubles.borrow().clone().unwrap();
        assert_eq!(noted.kind, SinkErrorKind::Misconfigured);
    }

    /// The order of tries is drawn anew each time; the text must not change with it.
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
