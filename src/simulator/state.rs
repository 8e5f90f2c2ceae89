//! Holds the state that all tasks of a simulator share.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::broker::{AlreadyConnectedError, ClientSessionId, SimulatedBroker};
use super::config::{SimulatorConfig, SimulatorLogin};
use super::faults::Faults;
use super::stream::{Content, EventStream};

/// The name of the broker in its messages.
pub(super) const NAME: &str = "simulator";

#[derive(Debug)]
pub(crate) struct SimulatorState {
    /// The part of every id that identifies the broker.
    id: String,
    logins: Vec<SimulatorLogin>,
    broker: Mutex<SimulatedBroker>,
    /// Marked whenever the broker may have something new for a client.
    pub(super) changed: watch::Sender<()>,
    pub(super) faults: watch::Sender<Faults>,
    /// Marked when all connections must end.
    pub(super) cuts: watch::Sender<()>,
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

    /// The part of every message and ack id that identifies the broker.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Locks the broker for reading. Use [`SimulatorState::change`] for changes that concern other clients.
    pub(crate) fn broker(&self) -> MutexGuard<'_, SimulatedBroker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the broker and wakes every connection.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut SimulatedBroker) -> T) -> T {
        let outcome = change(&mut self.broker());
        self.changed.send_replace(());
        outcome
    }

    /// Returns the login with this username and password.
    pub(crate) fn login(&self, username: &str, password: &str) -> Option<&SimulatorLogin> {
        self.logins.iter().find(|login| login.username == username && login.password.reveal() == password)
    }

    /// Opens a session, unless its client id is held or a fault refuses it.
    pub(crate) fn connect(
        &self,
        client_id: Option<&str>,
        peer: SocketAddr,
        now: Instant,
    ) -> Result<ClientSessionId, AlreadyConnectedError> {
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

    /// Creates the stream of a new producer.
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
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
