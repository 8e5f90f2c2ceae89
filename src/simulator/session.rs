//! Handles one client at the broker in any protocol: its login, its consumers, and which of them is next. No
//! I/O; it calls the broker under the broker's lock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::broker::ClientSessionId;
use super::config::SimulatorLogin;
use super::exception::JavaException;
use super::in_flight::DeliveredMessages;
use super::queue::{ConsumerNumber, LastDelivered, Wish};
use super::state::{NAME, SimulatorState};

/// The most messages taken from the broker under one lock.
const TAKE: u64 = 64;

/// The most messages that a browser gets (`maxBrowsePageSize`).
const MOST_BROWSED: u64 = 400;

/// The messages for a browser.
pub(crate) struct BrowseResult {
    pub(crate) queue: String,
    pub(crate) messages: Vec<DeliveredMessages>,
    /// Whether the browser is told that these are all.
    pub(crate) is_all: bool,
}

/// A consumer in the form of its protocol.
pub(crate) trait SimulatedSubscription {
    /// The number of the consumer at the broker.
    fn consumer(&self) -> ConsumerNumber;

    /// Appends one frame for each message in `delivered`.
    fn write(&mut self, delivered: &DeliveredMessages, out: &mut Vec<u8>);
}

#[derive(Debug)]
struct LoggedIn {
    id: ClientSessionId,
    login: SimulatorLogin,
}

/// A client, also before its login. Dropping it means that the client was lost.
#[derive(Debug)]
pub(crate) struct ClientSession<S> {
    shared: Arc<SimulatorState>,
    peer: SocketAddr,
    logged_in: Option<LoggedIn>,
    pub(crate) subscriptions: Vec<S>,
    /// The index of the consumer that was written last.
    turn: usize,
}

impl<S> ClientSession<S> {
    pub(crate) fn new(shared: Arc<SimulatorState>, peer: SocketAddr) -> Self {
        Self { shared, peer, logged_in: None, subscriptions: Vec::new(), turn: 0 }
    }

    pub(crate) fn shared(&self) -> &SimulatorState {
        &self.shared
    }

    pub(crate) fn is_logged_in(&self) -> bool {
        self.logged_in.is_some()
    }

    /// Checks the login, and takes the client id if there is one.
    pub(crate) fn log_in(
        &mut self,
        username: Option<&str>,
        password: &str,
        client_id: Option<&str>,
        now: Instant,
    ) -> Result<ClientSessionId, JavaException> {
        let login = self.shared.login(username.unwrap_or_default(), password).cloned();
        let login = login.ok_or_else(|| {
            let shown = username.unwrap_or("null");
            JavaException::security(format!("User name [{shown}] or password is invalid."))
        })?;
        let id = self.shared.connect(client_id, self.peer, now).map_err(|held| {
            let message = format!(
                "Broker: {} - Client: {} already connected from tcp://{}",
                NAME,
                client_id.unwrap_or_default(),
                held.peer
            );
            JavaException::new("javax.jms.InvalidClientIDException", message)
        })?;
        self.logged_in = Some(LoggedIn { id, login });
        Ok(id)
    }

    /// Adds a consumer to a queue that this login may consume; `destination` has the form `queue://name`. The
    /// caller adds the subscription.
    pub(crate) fn consume(
        &self,
        destination: &str,
        wish: Wish,
    ) -> Result<(ConsumerNumber, String), JavaException> {
        let readable = self.logged_in.as_ref().zip(self.readable(destination));
        let Some((logged_in, queue)) = readable else {
            return Err(self.unauthorized("read from", destination));
        };
        let consumer = self.shared.change(|broker| broker.subscribe(logged_in.id, queue, wish));
        Ok((consumer, queue.to_owned()))
    }

    /// Returns the first messages of a queue for a browser, at most as many as the prefetch, and whether
    /// these are all.
    pub(crate) fn browse(&self, destination: &str, prefetch: u64) -> Result<BrowseResult, JavaException> {
        let queue = self.readable(destination).ok_or_else(|| self.unauthorized("read from", destination))?;
        let most = prefetch.min(MOST_BROWSED);
        let mut runs = self.shared.change(|broker| broker.browse(queue, most + 1));
        let all = runs.iter().map(|run| run.count).sum::<u64>() <= most;
        if let Some(last) = runs.last_mut().filter(|_| !all) {
            last.count -= 1;
        }
        let mut number = 1;
        let messages = runs.into_iter().map(|run| {
            let delivered = DeliveredMessages { number, run };
            number += delivered.run.count;
            delivered
        });
        Ok(BrowseResult {
            queue: queue.to_owned(),
            messages: messages.collect(),
            is_all: all || prefetch > MOST_BROWSED,
        })
    }

    /// Returns the name of the queue if this login may consume it.
    fn readable<'a>(&self, destination: &'a str) -> Option<&'a str> {
        let namespace = &self.logged_in.as_ref()?.login.namespace;
        let queue = destination.strip_prefix("queue://")?;
        let destination_id = queue.strip_suffix(namespace.as_str())?.strip_suffix(".RTO.")?;
        let plain = |character| !matches!(character, '.' | '*' | '>' | ',' | '/');
        (!destination_id.is_empty() && destination_id.chars().all(plain)).then_some(queue)
    }

    pub(crate) fn unauthorized(&self, verb: &str, destination: &str) -> JavaException {
        let user = self.logged_in.as_ref().map_or("", |logged_in| &logged_in.login.username);
        JavaException::security(format!("User {user} is not authorized to {verb}: {destination}"))
    }

    /// Ends the session; `clean`: the client has disconnected.
    pub(crate) fn leave(&mut self, clean: bool, now: Instant) {
        self.subscriptions.clear();
        if let Some(logged_in) = self.logged_in.take() {
            self.shared.change(|broker| broker.leave(logged_in.id, clean, now));
        }
    }
}

impl<S: SimulatedSubscription> ClientSession<S> {
    /// Removes consumers and returns their number. Their un-acked messages return to the queue.
    pub(crate) fn remove(&mut self, delivered: LastDelivered, which: impl Fn(&S) -> bool) -> usize {
        let removed: Vec<S> = self.subscriptions.extract_if(.., |subscription| which(subscription)).collect();
        for subscription in &removed {
            self.shared.change(|broker| broker.remove(subscription.consumer(), delivered));
        }
        removed.len()
    }

    /// Removes all consumers, as the broker does with slow ones.
    pub(crate) fn close_consumers(&mut self) -> Vec<S> {
        let closed = std::mem::take(&mut self.subscriptions);
        for subscription in &closed {
            self.shared.change(|broker| broker.unsubscribe(subscription.consumer()));
        }
        closed
    }

    /// Appends waiting messages, at most `limit` and until the buffer has `size` bytes. Returns their number.
    pub(crate) fn fill(&mut self, limit: u64, size: usize, out: &mut Vec<u8>) -> u64 {
        let (mut written, mut idle) = (0, 0);
        while written < limit && out.len() < size && idle < self.subscriptions.len() {
            self.turn = (self.turn + 1) % self.subscriptions.len();
            let Some(subscription) = self.subscriptions.get_mut(self.turn) else { break };
            let delivered = self.shared.broker().take(subscription.consumer(), TAKE.min(limit - written));
            match delivered {
                None => idle += 1,
                Some(delivered) => {
                    subscription.write(&delivered, out);
                    written += delivered.run.count;
                    idle = 0;
                }
            }
        }
        written
    }
}

impl<S> Drop for ClientSession<S> {
    fn drop(&mut self) {
        self.leave(false, Instant::now());
    }
}
