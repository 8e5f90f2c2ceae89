//! The simulator as a whole: listens, knows the logins, starts and stops.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::secret::Secret;

use super::broker::{AlreadyConnected, ClientSessionId, SimulatedBroker, Stats};
use super::connection;
use super::faults::Faults;
use super::rate::{self, Generation};
use super::stream::{Content, EventStream, Form, Run};

/// One of AtData's customers.
#[derive(Clone, Debug)]
pub struct SimulatorLogin {
    /// At AtData 4 to 5 digits.
    pub username: String,
    /// At AtData 32 hex digits.
    pub password: Secret,
    /// The namespace whose queues this login may consume.
    pub namespace: String,
}

impl Default for SimulatorLogin {
    fn default() -> Self {
        Self {
            username: "12345".to_owned(),
            password: Secret::new("0123456789abcdef0123456789abcdef"),
            namespace: "acme".to_owned(),
        }
    }
}

/// How to start a simulator.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// Port 0 takes any that is free.
    pub listen: SocketAddr,
    /// Who may log in.
    pub logins: Vec<SimulatorLogin>,
    /// How long the client id of a session that died is still held; the real one holds it until it notices.
    pub hold: Duration,
    /// What goes wrong from the start.
    pub faults: Faults,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 0).into(),
            logins: vec![SimulatorLogin::default()],
            hold: Duration::ZERO,
            faults: Faults::default(),
        }
    }
}

/// The simulator could not start.
#[derive(Debug, thiserror::Error)]
#[error("the simulator cannot listen on {address}: {source}; choose another address or port")]
pub struct StartError {
    address: SocketAddr,
    source: std::io::Error,
}

/// A running broker. Dropping it closes the listener and every connection.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<SimulatorState>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
    _guard: DropGuard,
}

impl Simulator {
    /// Listens, and serves on the caller's runtime.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(config: SimulatorConfig) -> Result<Self, StartError> {
        let fail = |source| StartError { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let shared = Arc::new(SimulatorState::new(config, address));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(accept(listener, Arc::clone(&shared), stop.clone(), tasks.clone()));
        Ok(Self { shared, address, _guard: stop.clone().drop_guard(), stop, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as the bridge's `source.url`, for STOMP.
    pub fn url(&self) -> String {
        format!("stomp://{}", self.address)
    }

    /// The same for OpenWire.
    pub fn openwire_url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Makes a queue exist before anybody subscribes to it.
    pub fn declare_queue(&self, namespace: &str, destination_id: &str) {
        self.shared.change(|broker| broker.declare(&format!("{destination_id}.RTO.{namespace}")));
    }

    /// Sends one text to the topic `RTO.<namespace>`; every queue that exists for it gets a copy.
    pub fn publish(&self, namespace: &str, body: impl Into<Bytes>) {
        self.publish_as(namespace, Form::Text, body);
    }

    /// Sends one message of any sort to the topic `RTO.<namespace>`.
    pub fn publish_as(&self, namespace: &str, form: Form, body: impl Into<Bytes>) {
        let stream = self.shared.stream(namespace, None, Content::Body(form, body.into()));
        self.shared.change(|broker| broker.publish(&Run::new(stream, 1, 1)));
    }

    /// Begins to send generated events to the topic `RTO.<namespace>`, once a queue exists for it.
    pub fn generate(&self, namespace: &str, generation: Generation) {
        let task = rate::run(Arc::clone(&self.shared), namespace.to_owned(), generation);
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(task));
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        self.shared.broker().stats()
    }

    /// Waits until the counters are as wanted, and returns them. Cancel-safe; give it a time limit.
    pub async fn wait_until(&self, mut wanted: impl FnMut(&Stats) -> bool) -> Stats {
        let mut changed = self.shared.watch();
        loop {
            changed.mark_unchanged();
            let stats = self.stats();
            if wanted(&stats) || changed.changed().await.is_err() {
                return stats;
            }
        }
    }

    /// The faults in force.
    pub fn faults(&self) -> Faults {
        self.shared.faults.borrow().clone()
    }

    /// Changes the faults of all connections, also of those that are up.
    pub fn change_faults(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.faults.send_modify(change);
    }

    /// Ends every connection that is up, without a word.
    pub fn cut(&self) {
        self.shared.cuts.send_replace(());
    }

    /// Closes the listener and every connection, and waits until all are gone.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<SimulatorState>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) if !shared.faults.borrow().closed => {
                tasks.spawn(connection::serve(socket, peer, Arc::clone(&shared), stop.clone()));
            }
            Ok((_, peer)) => debug!(%peer, "closed at once"),
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// What all tasks of a simulator share.
#[derive(Debug)]
pub(crate) struct SimulatorState {
    /// The broker's part of every id.
    id: String,
    logins: Vec<SimulatorLogin>,
    broker: Mutex<SimulatedBroker>,
    /// Marked whenever the broker may have something new for somebody.
    changed: watch::Sender<()>,
    faults: watch::Sender<Faults>,
    cuts: watch::Sender<()>,
}

impl SimulatorState {
    pub(crate) fn new(config: SimulatorConfig, address: SocketAddr) -> Self {
        Self {
            id: format!("ID:simulator-{}-{}", address.port(), now_ms()),
            logins: config.logins,
            broker: Mutex::new(SimulatedBroker::new(config.hold)),
            changed: watch::Sender::new(()),
            faults: watch::Sender::new(config.faults),
            cuts: watch::Sender::new(()),
        }
    }

    /// The broker's name in its messages.
    pub(crate) fn name(&self) -> &'static str {
        "simulator"
    }

    /// The broker's part of every message and ack id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The broker, for a look; use [`Shared::change`] where others may be concerned.
    pub(crate) fn broker(&self) -> MutexGuard<'_, SimulatedBroker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the broker and wakes every connection.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut SimulatedBroker) -> T) -> T {
        let outcome = change(&mut self.broker());
        self.changed.send_replace(());
        outcome
    }

    /// Who logs in with these.
    pub(crate) fn login(&self, username: &str, password: &str) -> Option<&SimulatorLogin> {
        self.logins.iter().find(|login| login.username == username && login.password.reveal() == password)
    }

    /// Opens a session, unless its client id is held or a fault pretends so.
    pub(crate) fn connect(
        &self,
        client_id: Option<&str>,
        peer: SocketAddr,
        now: Instant,
    ) -> Result<ClientSessionId, AlreadyConnected> {
        let known = client_id.is_some_and(|client_id| self.broker().knows(client_id));
        let refuse = known
            && self.faults.send_if_modified(|faults| {
                let refuse = faults.refuse_reconnects > 0;
                faults.refuse_reconnects = faults.refuse_reconnects.saturating_sub(1);
                refuse
            });
        self.change(|broker| match refuse {
            true => Err(broker.refuse(peer)),
            false => broker.connect(client_id, peer, now),
        })
    }

    /// A new producer's stream.
    pub(crate) fn stream(&self, namespace: &str, rate: Option<f64>, content: Content) -> Arc<EventStream> {
        let producer = self.broker().next_producer();
        Arc::new(EventStream {
            producer,
            namespace: namespace.to_owned(),
            started_ms: now_ms(),
            rate,
            content,
        })
    }

    /// Marked whenever the broker may have something new.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Marked whenever the faults change.
    pub(crate) fn watch_faults(&self) -> watch::Receiver<Faults> {
        self.faults.subscribe()
    }

    /// Marked when all connections are to end.
    pub(crate) fn watch_cuts(&self) -> watch::Receiver<()> {
        self.cuts.subscribe()
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
