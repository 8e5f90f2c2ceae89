//! Starts, runs and stops the simulator as a whole.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::broker::Stats;
use super::config::SimulatorConfig;
use super::connection;
use super::faults::Faults;
use super::form::Form;
use super::rate::{self, Generation};
use super::state::SimulatorState;
use super::stream::{Content, Run};

/// The simulator could not start because its address is not available.
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
    /// The simulator can't listen on the address.
    pub async fn start(config: SimulatorConfig) -> Result<Self, StartError> {
        let fail = |source| StartError { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let simulator = Self::without_listener(SimulatorConfig { listen: address, ..config });
        let (shared, stop) = (Arc::clone(&simulator.shared), simulator.stop.clone());
        simulator.tasks.spawn(accept(listener, shared, stop, simulator.tasks.clone()));
        Ok(simulator)
    }

    /// Makes a broker that does not listen: its clients come through [`Simulator::serve`].
    pub fn without_listener(config: SimulatorConfig) -> Self {
        let address = config.listen;
        let shared = Arc::new(SimulatorState::new(config, address));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        Self { shared, address, _guard: stop.clone().drop_guard(), stop, tasks }
    }

    /// Serves a client on the caller's runtime. Its first byte tells the protocol.
    pub fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        self.tasks.spawn(connection::serve(stream, peer, shared, stop));
    }

    /// Returns the address where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the value of the bridge's `source.url` for STOMP.
    pub fn url(&self) -> String {
        format!("stomp://{}", self.address)
    }

    /// Returns the value of the bridge's `source.url` for OpenWire.
    pub fn openwire_url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Creates a queue before a consumer subscribes to it.
    pub fn declare_queue(&self, namespace: &str, destination_id: &str) {
        self.shared.change(|broker| broker.declare(&format!("{destination_id}.RTO.{namespace}")));
    }

    /// Sends one text to the topic `RTO.<namespace>`. Every existing queue of the namespace gets a copy.
    pub fn publish(&self, namespace: &str, body: impl Into<Bytes>) {
        self.publish_as(namespace, Form::Text, body);
    }

    /// Sends one message of any type to the topic `RTO.<namespace>`.
    pub fn publish_as(&self, namespace: &str, form: Form, body: impl Into<Bytes>) {
        let stream = self.shared.stream(namespace, None, Content::Body(form, body.into()));
        self.shared.change(|broker| broker.publish(&Run::new(stream, 1, 1)));
    }

    /// Starts to send generated events to the topic `RTO.<namespace>`, once a queue of the namespace exists.
    pub fn generate(&self, namespace: &str, generation: Generation) {
        let task = rate::run(Arc::clone(&self.shared), namespace.to_owned(), generation);
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(task));
    }

    /// Returns the current counters of the broker.
    pub fn stats(&self) -> Stats {
        self.shared.broker().stats()
    }

    /// Returns the messages of `queue` that nobody has acknowledged, in ranges of their numbers in the order of
    /// publishing, from 1.
    pub fn unacknowledged(&self, queue: &str) -> Vec<RangeInclusive<u64>> {
        let runs = self.shared.broker().unacknowledged(queue);
        runs.into_iter().map(|run| run.sequence..=run.sequence + run.count - 1).collect()
    }

    /// Waits until `wanted` accepts the counters, and returns them. Cancel-safe; use it with a time limit.
    pub async fn wait_until(&self, mut wanted: impl FnMut(&Stats) -> bool) -> Stats {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let stats = self.stats();
            if wanted(&stats) || changed.changed().await.is_err() {
                return stats;
            }
        }
    }

    /// Returns the faults that are active.
    pub fn faults(&self) -> Faults {
        self.shared.faults.borrow().clone()
    }

    /// Changes the faults, also for connections that are up.
    pub fn change_faults(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.faults.send_modify(change);
    }

    /// Closes every open connection without a message to the client.
    pub fn cut(&self) {
        self.shared.cuts.send_replace(());
    }

    /// Closes the listener and every connection, and waits until all have ended.
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
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) if !shared.faults.borrow().closed => {
                if let Err(error) = socket.set_nodelay(true) {
                    debug!(%peer, %error, "no low delay");
                }
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
