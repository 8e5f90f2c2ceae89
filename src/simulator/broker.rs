//! Models the broker without sockets: topics, queues, client ids. No I/O and no clock; times are arguments.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::in_flight::DeliveredMessages;
use super::queue::{ConsumerNumber, LastDelivered, QueueStats, SimulatedQueue, Wish};
use super::stream::Run;

/// Counters of the whole broker, in messages unless stated otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages sent to topics. Each is copied to every queue of its namespace.
    pub published: u64,
    /// Sessions that logged in since the start.
    pub sessions: u64,
    /// Connections refused since the start because their client id was in use or held.
    pub refused: u64,
    /// The counters of each queue, by name: `<destination id>.RTO.<namespace>`.
    pub queues: BTreeMap<String, QueueStats>,
}

impl Stats {
    /// Returns the sums over all queues.
    pub fn total(&self) -> QueueStats {
        self.queues.values().fold(QueueStats::default(), |sum, queue| QueueStats {
            enqueued: sum.enqueued + queue.enqueued,
            pending: sum.pending + queue.pending,
            in_flight: sum.in_flight + queue.in_flight,
            dispatched: sum.dispatched + queue.dispatched,
            redelivered: sum.redelivered + queue.redelivered,
            acked: sum.acked + queue.acked,
            dead: sum.dead + queue.dead,
            consumers: sum.consumers + queue.consumers,
        })
    }
}

/// The client id is in use by another session, or held for one that died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AlreadyConnectedError {
    /// The address of that session.
    pub(crate) peer: SocketAddr,
}

/// Identifies a session; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientSessionId(pub(crate) u64);

/// The session that has, or had, a client id.
#[derive(Debug)]
struct Holder {
    session: ClientSessionId,
    peer: SocketAddr,
    /// Set when the session has ended: the time from which the id is free.
    until: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct SimulatedBroker {
    /// How long the client id of a dead session is held.
    hold: Duration,
    queues: BTreeMap<String, SimulatedQueue>,
    clients: HashMap<String, Holder>,
    consumers: BTreeMap<ConsumerNumber, (ClientSessionId, String)>,
    last_session: u64,
    last_consumer: u64,
    last_producer: u64,
    published: u64,
    refused: u64,
}

impl SimulatedBroker {
    pub(crate) fn new(hold: Duration) -> Self {
        Self { hold, ..Self::default() }
    }

    /// Copies messages to every existing queue of their namespace.
    pub(crate) fn publish(&mut self, run: &Run) {
        let run = Run { sequence: self.published + 1, ..run.clone() };
        self.published += run.count;
        self.queues_of(&run.stream.namespace).for_each(|queue| queue.enqueue(run.clone()));
    }

    /// Creates a queue, as its first SUBSCRIBE does.
    pub(crate) fn declare(&mut self, queue: &str) {
        self.queues.entry(queue.to_owned()).or_default();
    }

    /// Returns the most messages that wait in any queue of `namespace`, or `None` if it has no queue.
    pub(crate) fn deepest(&mut self, namespace: &str) -> Option<u64> {
        self.queues_of(namespace).map(|queue| queue.stats().pending).max()
    }

    fn queues_of(&mut self, namespace: &str) -> impl Iterator<Item = &mut SimulatedQueue> {
        let suffix = format!(".RTO.{namespace}");
        self.queues.iter_mut().filter(move |(name, _)| name.ends_with(&suffix)).map(|(_, queue)| queue)
    }

    /// Opens a session. Without a client id the broker chooses a unique one, so there can be no conflict.
    pub(crate) fn connect(
        &mut self,
        client_id: Option<&str>,
        peer: SocketAddr,
        now: Instant,
    ) -> Result<ClientSessionId, AlreadyConnectedError> {
        let session = ClientSessionId(self.last_session + 1);
        if let Some(client_id) = client_id {
            if let Some(holder) = self.clients.get(client_id)
                && holder.until.is_none_or(|until| now < until)
            {
                self.refused += 1;
                return Err(AlreadyConnectedError { peer: holder.peer });
            }
            self.clients.insert(client_id.to_owned(), Holder { session, peer, until: None });
        }
        self.last_session = session.0;
        Ok(session)
    }

    /// Refuses a connection although it would be allowed, as if `peer` still held its client id.
    pub(crate) fn refuse(&mut self, peer: SocketAddr) -> AlreadyConnectedError {
        self.refused += 1;
        AlreadyConnectedError { peer }
    }

    /// Returns whether a client id has been used before.
    pub(crate) fn knows(&self, client_id: &str) -> bool {
        self.clients.contains_key(client_id)
    }

    /// Returns the number for a new producer.
    pub(crate) fn next_producer(&mut self) -> u64 {
        self.last_producer += 1;
        self.last_producer
    }

    /// Ends a session and its consumers. `clean`: the client disconnected, so its client id is free at once.
    pub(crate) fn leave(&mut self, session: ClientSessionId, clean: bool, now: Instant) {
        let owned = self.consumers.iter().filter(|(_, (owner, _))| *owner == session);
        for consumer in owned.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.unsubscribe(consumer);
        }
        if let Some(holder) = self.clients.values_mut().find(|holder| holder.session == session)
            && holder.until.is_none()
        {
            holder.until = Some(if clean { now } else { now + self.hold });
        }
    }

    /// Adds a consumer to a queue. Creates the queue if it does not exist.
    pub(crate) fn subscribe(&mut self, session: ClientSessionId, queue: &str, wish: Wish) -> ConsumerNumber {
        self.last_consumer += 1;
        let id = ConsumerNumber(self.last_consumer);
        self.consumers.insert(id, (session, queue.to_owned()));
        self.queues.entry(queue.to_owned()).or_default().add(id, wish);
        id
    }

    /// Removes a consumer. Its un-acked messages return to the queue, all marked as redelivered.
    pub(crate) fn unsubscribe(&mut self, consumer: ConsumerNumber) {
        self.remove(consumer, LastDelivered::Unknown);
    }

    /// Removes a consumer. Its un-acked messages return to the queue.
    pub(crate) fn remove(&mut self, consumer: ConsumerNumber, delivered: LastDelivered) {
        if let Some(queue) = self.queue_of(consumer) {
            queue.remove(consumer, delivered);
        }
        self.consumers.remove(&consumer);
    }

    /// Returns the first messages of a queue. Creates the queue if it does not exist.
    pub(crate) fn browse(&mut self, queue: &str, most: u64) -> Vec<Run> {
        self.queues.entry(queue.to_owned()).or_default().browse(most)
    }

    /// Returns all messages of a queue that are not acknowledged; none if it does not exist.
    pub(crate) fn unacknowledged(&self, queue: &str) -> Vec<Run> {
        self.queues.get(queue).map_or_else(Vec::new, |queue| queue.browse(u64::MAX))
    }

    /// Returns the next messages to write to a consumer: at most `limit`, of one run.
    pub(crate) fn take(&mut self, consumer: ConsumerNumber, limit: u64) -> Option<DeliveredMessages> {
        self.queue_of(consumer)?.take(consumer, limit)
    }

    /// Acknowledges a delivery in the mode of its consumer. Returns `false` if there is no such un-acked
    /// delivery.
    pub(crate) fn ack(&mut self, consumer: ConsumerNumber, number: u64) -> bool {
        self.queue_of(consumer).is_some_and(|queue| queue.ack(consumer, number))
    }

    /// Makes a delivery dead. Returns `false` if there is no such un-acked delivery.
    pub(crate) fn nack(&mut self, consumer: ConsumerNumber, number: u64) -> bool {
        self.queue_of(consumer).is_some_and(|queue| queue.nack(consumer, number))
    }

    /// Returns the queue of a consumer that exists.
    pub(crate) fn queue_of(&mut self, consumer: ConsumerNumber) -> Option<&mut SimulatedQueue> {
        let (_, name) = self.consumers.get(&consumer)?;
        self.queues.get_mut(name)
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            published: self.published,
            sessions: self.last_session,
            refused: self.refused,
            queues: self.queues.iter().map(|(name, queue)| (name.clone(), queue.stats())).collect(),
        }
    }
}

#[cfg(test)]
#[path = "broker_tests.rs"]
mod tests;
