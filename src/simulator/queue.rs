//! One queue: what waits, who consumes, and who is given what.

use std::collections::VecDeque;

use super::flights::{Flight, Flights};
use super::stream::{Run, Runs};

/// How a consumer acknowledges (`ack` of SUBSCRIBE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AckMode {
    /// Acknowledged by the broker just before the frame is written.
    #[default]
    Auto,
    /// An ACK covers everything dispatched before it, too.
    Client,
    /// An ACK covers its own message.
    ClientIndividual,
}

/// What a SUBSCRIBE asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) mode: AckMode,
    /// Messages un-acked at most.
    pub(crate) prefetch: u64,
    /// `activemq.exclusive`: while such a consumer exists, only the first of them is given messages.
    pub(crate) exclusive: bool,
    /// `activemq.priority`: higher ones are filled first.
    pub(crate) priority: u8,
}

/// Names a consumer; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConsumerId(pub(crate) u64);

#[derive(Debug)]
struct Consumer {
    id: ConsumerId,
    wish: Wish,
    unacked: Flights,
    /// Given, but not yet taken to be written; part of `unacked`.
    outbox: VecDeque<Flight>,
    /// The delivery number of the next message.
    next: u64,
}

impl Consumer {
    fn room(&self) -> u64 {
        self.wish.prefetch.saturating_sub(self.unacked.count())
    }

    fn give(&mut self, run: Run) {
        let flight = Flight { number: self.next, run };
        self.next += flight.run.count;
        self.unacked.push(flight.clone());
        self.outbox.push_back(flight);
    }

    /// Whether delivery `number` was written and is un-acked.
    fn awaits(&self, number: u64) -> bool {
        let unwritten = self.outbox.front().map_or(self.next, |flight| flight.number);
        number < unwritten && self.unacked.contains(number)
    }
}

/// Counters of one queue, all in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Copied into the queue.
    pub enqueued: u64,
    /// Waiting for a consumer.
    pub pending: u64,
    /// Given to consumers and not acknowledged.
    pub in_flight: u64,
    /// Given to consumers, every time counted.
    pub dispatched: u64,
    /// Given to consumers with `redelivered:true`, every time counted.
    pub redelivered: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Refused with NACK and so dead.
    pub dead: u64,
    /// Consumers now.
    pub consumers: u64,
}

/// A queue and its consumers.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pending: Runs,
    /// By priority, then by arrival.
    consumers: Vec<Consumer>,
    /// The consumer whose turn it is.
    turn: usize,
    stats: QueueStats,
}

impl Queue {
    /// Appends messages.
    pub(crate) fn enqueue(&mut self, run: Run) {
        self.stats.enqueued += run.count;
        self.pending.push_back(run);
        self.distribute();
    }

    /// Adds a consumer, behind those of the same priority.
    pub(crate) fn add(&mut self, id: ConsumerId, wish: Wish) {
        let at = self.consumers.partition_point(|other| other.wish.priority >= wish.priority);
        let consumer = Consumer { id, wish, unacked: Flights::default(), outbox: VecDeque::new(), next: 1 };
        self.consumers.insert(at, consumer);
        self.distribute();
    }

    /// Removes a consumer; what it has not acknowledged returns to the head of the queue in order of
    /// dispatch, marked as redelivered whether it was written or not.
    pub(crate) fn remove(&mut self, id: ConsumerId) {
        let Some(at) = self.consumers.iter().position(|consumer| consumer.id == id) else { return };
        let consumer = self.consumers.remove(at);
        for mut run in consumer.unacked.into_runs_newest_first() {
            run.redelivered = true;
            self.pending.push_front(run);
        }
        self.distribute();
    }

    /// The next messages to write to a consumer: at most `limit`, of one run.
    pub(crate) fn take(&mut self, id: ConsumerId, limit: u64) -> Option<Flight> {
        let consumer = self.consumers.iter_mut().find(|consumer| consumer.id == id)?;
        let first = consumer.outbox.front_mut()?;
        let taken =
            if first.run.count > limit { first.split_front(limit) } else { consumer.outbox.pop_front()? };
        if consumer.wish.mode == AckMode::Auto {
            self.stats.acked += consumer.unacked.remove_through(taken.number + taken.run.count - 1);
            self.distribute();
        }
        Some(taken)
    }

    /// Acknowledges delivery `number`, and all before it where the consumer's mode is cumulative.
    /// `false`: there is no such un-acked delivery.
    pub(crate) fn ack(&mut self, id: ConsumerId, number: u64) -> bool {
        let Some(consumer) = self.awaiting(id, number) else { return false };
        let removed = match consumer.wish.mode {
            AckMode::ClientIndividual => u64::from(consumer.unacked.remove_one(number)),
            AckMode::Auto | AckMode::Client => consumer.unacked.remove_through(number),
        };
        self.stats.acked += removed;
        self.distribute();
        true
    }

    /// Kills delivery `number` alone, in every mode. `false`: there is no such un-acked delivery.
    pub(crate) fn nack(&mut self, id: ConsumerId, number: u64) -> bool {
        let Some(consumer) = self.awaiting(id, number) else { return false };
        consumer.unacked.remove_one(number);
        self.stats.dead += 1;
        self.distribute();
        true
    }

    /// The counters now.
    pub(crate) fn stats(&self) -> QueueStats {
        QueueStats {
            pending: self.pending.count(),
            in_flight: self.consumers.iter().map(|consumer| consumer.unacked.count()).sum(),
            consumers: self.consumers.len() as u64,
            ..self.stats
        }
    }

    fn awaiting(&mut self, id: ConsumerId, number: u64) -> Option<&mut Consumer> {
        self.consumers.iter_mut().find(|consumer| consumer.id == id && consumer.awaits(number))
    }

    /// Gives out what waits while somebody has room: in turn, in equal shares.
    fn distribute(&mut self) {
        while self.pending.count() > 0 {
            let Some(level) = self.entitled() else { return };
            let share = (self.pending.count() / level.len() as u64).max(1);
            for at in level {
                let Some(consumer) = self.consumers.get_mut(at) else { return };
                let Some(run) = self.pending.pop_front(consumer.room().min(share)) else { break };
                self.stats.dispatched += run.count;
                self.stats.redelivered += if run.redelivered { run.count } else { 0 };
                self.turn = at + 1;
                consumer.give(run);
            }
        }
    }

    /// Who is given messages next: those with room of the highest priority that has any, beginning with
    /// the one whose turn it is; of exclusive consumers only the first.
    fn entitled(&self) -> Option<Vec<usize>> {
        if let Some(master) = self.consumers.iter().position(|consumer| consumer.wish.exclusive) {
            return (self.consumers.get(master)?.room() > 0).then(|| vec![master]);
        }
        let roomy = self.consumers.iter().find(|consumer| consumer.room() > 0)?;
        let count = self.consumers.len();
        let in_turn = (0..count).map(|step| (self.turn + step) % count);
        let level = in_turn.filter(|at| {
            self.consumers
                .get(*at)
                .is_some_and(|other| other.wish.priority == roomy.wish.priority && other.room() > 0)
        });
        Some(level.collect())
    }
}
