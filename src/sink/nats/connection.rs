//! One connection to a server, which ends with its opening and never comes back by itself.
//!
//! The client library reconnects on its own and then publishes what it had queued before: later than the
//! lane believes, and out of order (I3). So each opening has a client of its own, in a thread of its own, that
//! waits for ever instead of reconnecting, and all of it is gone before the next one is opened.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerError};
use tokio::runtime;
use tokio::sync::{oneshot, watch};

use super::settings::{Auth, NatsSettings};
use crate::sink::{SinkError, SinkErrorKind};
use crate::tls;

/// How often the server must show that it lives; it is given up after the third time in a row.
const PING_EVERY: Duration = Duration::from_secs(10);
/// A wait that no connection outlives.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A connection; it ends when this is dropped.
pub(super) struct Connection {
    /// Hands over publishes and requests.
    pub(super) client: Client,
    troubles: watch::Receiver<Option<SinkError>>,
    /// The thread ends once this is gone.
    _life: oneshot::Sender<()>,
}

/// Tells when a connection's thread has ended.
pub(super) struct Ended(Option<oneshot::Receiver<()>>);

impl Ended {
    /// Waits for it.
    pub(super) async fn wait(&mut self) {
        if let Some(thread) = &mut self.0 {
            // Nothing is ever sent: the sender goes with the thread.
            let _closed = thread.await;
        }
        self.0 = None;
    }
}

impl Connection {
    /// The connection's own trouble, once it is in one: then nothing more will come of it.
    pub(super) async fn trouble(&mut self) -> SinkError {
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
            trouble = self.trouble() => Err(trouble),
            result = request => result,
        }
    }
}

/// Starts to connect to one of `servers`, tried in this order.
///
/// # Errors
/// No thread can be started, or a file of the settings can't be used.
pub(super) fn start(
    settings: &NatsSettings,
    name: &str,
    servers: Vec<String>,
) -> Result<(Ended, impl Future<Output = Result<Connection, SinkError>> + Send + use<>), SinkError> {
    let (troubling, troubles) = watch::channel(None);
    let connected = Arc::new(AtomicBool::new(false));
    let options = options(settings, name, troubling, Arc::clone(&connected))?;
    let (ended, when_ended) = oneshot::channel();
    let (life, death) = oneshot::channel();
    let (opened, opening) = oneshot::channel();
    let shown = servers.join(", ");
    let life_of_client = async move {
        let result = options.connect(servers).await;
        connected.store(true, Ordering::Release);
        if opened.send(result).is_ok() {
            pending::<()>().await;
        }
    };
    let run = move || {
        // Told by being dropped, last of all.
        let _ended: oneshot::Sender<()> = ended;
        live(life_of_client, death);
    };
    thread::Builder::new()
        .name(format!("{name}-nats"))
        .spawn(run)
        .map_err(|error| SinkError::unavailable("cannot start a thread").caused_by(error))?;
    let connection = async move {
        let connected = opening.await;
        let gone = |_| SinkError::unavailable("the thread of the connection has ended");
        let client = connected.map_err(gone)?.map_err(|error| not_connected(&shown, &error))?;
        Ok(Connection { client, troubles, _life: life })
    };
    Ok((Ended(Some(when_ended)), connection))
}

/// Runs the client with a runtime of its own until its opening is over: nothing of it is left then.
fn live(client: impl Future<Output = ()>, mut death: oneshot::Receiver<()>) {
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

fn options(
    settings: &NatsSettings,
    name: &str,
    troubling: watch::Sender<Option<SinkError>>,
    connected: Arc<AtomicBool>,
) -> Result<ConnectOptions, SinkError> {
    let troubling = Arc::new(troubling);
    let subject = settings.subject.to_string();
    let mut options = ConnectOptions::new()
        .name(name)
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
            note(&troubling, &event, &subject);
            std::future::ready(())
        });
    options = with_auth(options, &settings.auth)?;
    with_tls(options, settings)
}

fn with_auth(options: ConnectOptions, auth: &Auth) -> Result<ConnectOptions, SinkError> {
    Ok(match auth {
        Auth::None => options,
        Auth::Password { username, password } => {
            options.user_and_password(username.clone(), password.current().reveal().to_owned())
        }
        Auth::Token(token) => options.token(token.current().reveal().to_owned()),
        Auth::Nkey(seed) => options.nkey(seed.current().reveal().to_owned()),
        Auth::Credentials(path) => {
            let unusable = |error: std::io::Error| {
                let message = format!("the credentials file {} can't be used", path.display());
                SinkError::misconfigured(message).caused_by(error)
            };
            // Read anew each time, so that rotated credentials are picked up.
            let credentials = std::fs::read_to_string(path).map_err(unusable)?;
            options.credentials(&credentials).map_err(unusable)?
        }
    })
}

fn with_tls(options: ConnectOptions, settings: &NatsSettings) -> Result<ConnectOptions, SinkError> {
    let tls = &settings.tls;
    let identity = tls.certificate_file.as_deref().zip(tls.key_file.as_deref());
    let options = if tls.first { options.tls_first() } else { options };
    match tls::client_config_as(tls.ca_file.as_deref(), identity) {
        Ok(config) => Ok(options.tls_client_config(config).require_tls(tls.required)),
        // Where nothing asks for TLS, a system without root certificates is none the worse.
        Err(_) if !tls.required => Ok(options),
        Err(error) => Err(SinkError::misconfigured("can't set up TLS to the NATS server").caused_by(error)),
    }
}

/// Notes what ends a connection; the first word of it counts, but for one that asks for an operator.
fn note(troubling: &watch::Sender<Option<SinkError>>, event: &Event, subject: &str) {
    let Some(trouble) = trouble_in(event, subject) else { return };
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

fn trouble_in(event: &Event, subject: &str) -> Option<SinkError> {
    match event {
        Event::Disconnected | Event::Closed => {
            Some(SinkError::unavailable("the NATS server has closed the connection, or does not answer"))
        }
        Event::ServerError(ServerError::AuthorizationViolation) => Some(refused("it no longer accepts them")),
        Event::ServerError(ServerError::Other(said)) => server_error(said, subject),
        _ => None,
    }
}

/// The server's `-ERR`. What is forbidden is named by the settings: a subject may hold a key (D14).
fn server_error(said: &str, subject: &str) -> Option<SinkError> {
    let lower = said.to_ascii_lowercase();
    if lower.starts_with("permissions violation for subscription") {
        Some(SinkError::misconfigured(
            "this user may not subscribe to its inbox, where the acknowledgements arrive: allow it, or set inbox_prefix",
        ))
    } else if lower.starts_with("permissions violation") {
        let what = if lower.contains("\"$js.") { "JetStream's $JS.API.STREAM.INFO" } else { subject };
        Some(SinkError::misconfigured(format!("this user may not publish to {what}: give it the permission")))
    } else if lower.contains("authentication") || lower.contains("authorization") {
        Some(refused(said))
    } else {
        None
    }
}

fn refused(said: &str) -> SinkError {
    SinkError::misconfigured(format!("the NATS server refuses these credentials: {said}"))
}

fn not_connected(servers: &str, error: &ConnectError) -> SinkError {
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => refused("authorization violation"),
        ConnectErrorKind::Authentication => {
            SinkError::misconfigured("nkey or credentials can't sign: the seed is not one of NATS")
        }
        ConnectErrorKind::Tls => {
            SinkError::misconfigured(format!("no TLS with {servers}: {error}; look at `tls`"))
        }
        _ => SinkError::unavailable(format!(
            "can't connect to {servers}: {error}; see that it runs and can be reached from here, and that `url` is \
             right"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_forbids_is_the_operator_s_and_names_no_one() {
        for (said, part) in [
            (
                r#"Permissions Violation for Publish to "e.9e107d9d372bb6826bd81d3542a419d6""#,
                "publish to e.{key}",
            ),
            (r#"Permissions Violation for Publish to "$JS.API.STREAM.INFO.E""#, "$JS.API.STREAM.INFO"),
            (r#"Permissions Violation for Subscription to "_INBOX.x.*""#, "inbox_prefix"),
            ("User Authentication Expired", "credentials"),
            ("Authorization Violation", "credentials"),
        ] {
            let error = server_error(said, "e.{key}").unwrap();
            assert_eq!(error.kind, SinkErrorKind::Misconfigured);
            let shown = error.to_string();
            assert!(shown.contains(part) && !shown.contains("9e107"), "{shown}");
        }
        assert!(server_error("Stale Connection", "e").is_none(), "the end of the connection follows");
    }

    #[test]
    fn a_server_that_is_not_reached_is_named_with_the_option_to_look_at() {
        for (kind, option) in [(ConnectErrorKind::Io, "`url`"), (ConnectErrorKind::Tls, "`tls`")] {
            let shown = not_connected("nats://a:4222", &ConnectError::from(kind)).to_string();
            assert!(shown.contains("nats://a:4222: ") && shown.contains(option), "{shown}");
        }
    }

    #[test]
    fn a_refusal_is_not_hidden_behind_the_end_that_follows() {
        let (troubling, troubles) = watch::channel(None);
        let refusal = Event::ServerError(ServerError::Other("User Authentication Expired".to_owned()));
        for event in
            [Event::Connected, Event::Disconnected, refusal, Event::Disconnected, Event::LameDuckMode]
        {
            note(&troubling, &event, "e");
        }
        let noted = troubles.borrow().clone().unwrap();
        assert_eq!(noted.kind, SinkErrorKind::Misconfigured);
    }
}
