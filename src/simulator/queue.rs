//! Models one queue: waiting messages, consumers, and the distribution among them.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::in_flight::{ConsumerWindow, DeliveredMessages};
use super::stream::{Run, Runs};

/// How a consumer acknowledges (the header `ack` of SUBSCRIBE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AckMode {
    /// The broker acknowledges just before it writes the frame.
    #[default]
    Auto,
    /// An ACK also covers everything dispatched before it.
    Client,
    /// An ACK covers only its own message.
    ClientIndividual,
}

/// What a consumer requests when it subscribes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) mode: AckMode,
    /// The most messages that the consumer holds un-acked.
    pub(crate) prefetch: u64,
    /// `activemq.exclusive`: while such consumers exist, only the first of them gets messages.
    pub(crate) exclusive: bool,
    /// `activemq.priority`: consumers with higher values get messages first.
    pub(crate) priority: u8,
}

/// Identifies a consumer; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConsumerNumber(pub(crate) u64);

#[derive(Debug)]
struct Consumer {
    id: ConsumerNumber,
    wish: Wish,
    unacked: ConsumerWindow,
    /// Given but not yet taken to be written; part of `unacked`.
    unwritten: VecDeque<DeliveredMessages>,
    next: u64,
    /// How many messages above the prefetch may be in flight, because the consumer has reported messages as
    /// delivered.
    extension: u64,
}

impl Consumer {
    fn room(&self) -> u64 {
        (self.wish.prefetch + self.extension).saturating_sub(self.unacked.count())
    }

    fn give(&mut self, run: Run) {
        let delivered = DeliveredMessages { number: self.next, run };
        self.next += delivered.run.count;
        self.unacked.push(delivered.clone());
        self.unwritten.push_back(delivered);
    }

    /// Returns whether delivery `number` was written and is un-acked.
    fn awaits(&self, number: u64) -> bool {
        self.is_written(number) && self.unacked.contains(number)
    }

    fn is_written(&self, number: u64) -> bool {
        number < self.unwritten.front().map_or(self.next, |delivered| delivered.number)
    }

    /// Removes deliveries and reduces the extension by their number.
    fn settle(&mut self, numbers: RangeInclusive<u64>) -> u64 {
        let removed = self.unacked.remove(numbers);
        self.extension = self.extension.saturating_sub(removed);
        removed
    }
}

/// Which un-acked messages a leaving consumer reports as delivered. These come again marked as redelivered,
/// the others unmarked (`protocols.md §3.8`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastDelivered {
    /// It does not report any: all are marked, written or not.
    Unknown,
    /// Everything up to the message with this broker-wide sequence number. Nothing, if the consumer does not
    /// have this message.
    Sequence(u64),
}

/// Counters of one queue, all in messages except `consumers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Messages that were copied into the queue.
    pub enqueued: u64,
    /// Messages that wait for a consumer.
    pub pending: u64,
    /// Messages given to consumers and not acknowledged.
    pub in_flight: u64,
    /// Messages given to consumers; each delivery counts.
    pub dispatched: u64,
    /// Messages given to consumers marked as redelivered; each delivery counts.
    pub redelivered: u64,
    /// Messages acknowledged by a consumer or automatically.
    pub acked: u64,
    /// Messages refused (NACK, POISON) and so dead.
    pub dead: u64,
    /// The number of consumers now.
    pub consumers: u64,
}

#[derive(Debug, Default)]
pub(crate) struct SimulatedQueue {
    pending: Runs,
    /// Sorted by priority, then by arrival.
    consumers: Vec<Consumer>,
    /// The index of the consumer that is next.
    turn: usize,
    stats: QueueStats,
}

impl SimulatedQueue {
    pub(crate) fn enqueue(&mut self, run: Run) {
        self.stats.enqueued += run.count;
        self.pending.push_back(run);
        self.distribute();
    }

    /// Adds a consumer behind those of the same priority.
    pub(crate) fn add(&mut self, id: ConsumerNumber, wish: Wish) {
        let at = self.consumers.partition_point(|other| other.wish.priority >= wish.priority);
        let consumer = Consumer {
            id,
            wish,
            unacked: ConsumerWindow::default(),
            unwritten: VecDeque::new(),
            next: 1,
            extension: 0,
        };
        self.consumers.insert(at, consumer);
        self.distribute();
    }

    /// Removes a consumer. Its un-acked messages return to the head of the queue in the order of dispatch.
    pub(crate) fn remove(&mut self, id: ConsumerNumber, delivered: LastDelivered) {
        let Some(at) = self.consumers.iter().position(|consumer| consumer.id == id) else { return };
        let mut consumer = self.consumers.remove(at);
        let last = match delivered {
            LastDelivered::Unknown => Some(consumer.next - 1),
            LastDelivered::Sequence(sequence) => consumer.unacked.find_sequence(sequence),
        };
        if let Some(last) = last {
            consumer.unacked.mark_through(last);
        }
        for run in consumer.unacked.into_runs_newest_first() {
            self.pending.push_front(run);
        }
        self.distribute();
    }

    /// Returns the next messages to write to a consumer: at most `limit`, of one run.
    pub(crate) fn take(&mut self, id: ConsumerNumber, limit: u64) -> Option<DeliveredMessages> {
        let consumer = self.consumer(id)?;
        let first = consumer.unwritten.front_mut()?;
        let taken = if first.run.count > limit {
            first.split_front(limit)
        } else {
            consumer.unwritten.pop_front()?
        };
        if consumer.wish.mode == AckMode::Auto {
            self.stats.acked += consumer.settle(taken.number..=taken.number + taken.run.count - 1);
            self.distribute();
        }
        Some(taken)
    }

    /// Acknowledges delivery `number`, and all before it if the mode of the consumer is cumulative. Returns
    /// `false` if there is no such un-acked delivery.
    pub(crate) fn ack(&mut self, id: ConsumerNumber, number: u64) -> bool {
        let Some(consumer) = self.awaiting(id, number) else { return false };
        let first = if consumer.wish.mode == AckMode::ClientIndividual { number } else { 0 };
        self.stats.acked += consumer.settle(first..=number);
        self.distribute();
        true
    }

    /// Acknowledges the un-acked deliveries in a range.
    pub(crate) fn ack_range(&mut self, id: ConsumerNumber, numbers: RangeInclusive<u64>) {
        let Some(consumer) = self.consumer(id) else { return };
        self.stats.acked += consumer.settle(numbers);
        self.distribute();
    }

    /// Makes only delivery `number` dead, in every mode. Returns `false` if there is no such un-acked
    /// delivery.
    pub(crate) fn nack(&mut self, id: ConsumerNumber, number: u64) -> bool {
        if self.awaiting(id, number).is_none() {
            return false;
        }
        self.kill_range(id, number..=number);
        true
    }

    /// Makes the un-acked deliveries in a range dead.
    pub(crate) fn kill_range(&mut self, id: ConsumerNumber, numbers: RangeInclusive<u64>) {
        let Some(consumer) = self.consumer(id) else { return };
        self.stats.dead += consumer.settle(numbers);
        self.distribute();
    }

    /// Returns the first `most` messages of the queue, including those that consumers hold.
    pub(crate) fn browse(&self, most: u64) -> Vec<Run> {
        let mut runs: Vec<Run> = self.consumers.iter().flat_map(|consumer| consumer.unacked.runs()).collect();
        runs.sort_by_key(|run| run.sequence);
        runs.extend(self.pending.iter().cloned());
        let mut left = most;
        for run in &mut runs {
            run.count = run.count.min(left);
            left -= run.count;
        }
        runs.retain(|run| run.count > 0);
        runs
    }

    /// Returns the number of a consumer's oldest un-acked delivery.
    pub(crate) fn oldest(&self, id: ConsumerNumber) -> Option<u64> {
        self.consumers.iter().find(|consumer| consumer.id == id)?.unacked.first()
    }

    /// Returns the number of the un-acked delivery that gave message `number` of `producer` to a consumer.
    pub(crate) fn find(&self, id: ConsumerNumber, producer: u64, number: u64) -> Option<u64> {
        let consumer = self.consumers.iter().find(|consumer| consumer.id == id)?;
        consumer.unacked.find(producer, number).filter(|number| consumer.is_written(*number))
    }

    /// Returns how many deliveries of a range a consumer has not acknowledged.
    pub(crate) fn unacked_in(&self, id: ConsumerNumber, numbers: RangeInclusive<u64>) -> u64 {
        let consumer = self.consumers.iter().find(|consumer| consumer.id == id);
        consumer.map_or(0, |consumer| consumer.unacked.count_in(numbers))
    }

    /// Allows `count` messages more than the prefetch, until as many are acknowledged.
    pub(crate) fn extend(&mut self, id: ConsumerNumber, count: u64) {
        let Some(consumer) = self.consumer(id) else { return };
        consumer.extension += count;
        self.distribute();
    }

    pub(crate) fn resize(&mut self, id: ConsumerNumber, prefetch: u64) {
        let Some(consumer) = self.consumer(id) else { return };
        consumer.wish.prefetch = prefetch;
        self.distribute();
    }

    pub(crate) fn stats(&self) -> QueueStats {
        QueueStats {
            pending: self.pending.count(),
            in_flight: self.consumers.iter().map(|consumer| consumer.unacked.count()).sum(),
            consumers: self.consumers.len() as u64,
            ..self.stats
        }
    }

    fn consumer(&mut self, id: ConsumerNumber) -> Option<&mut Consumer> {
        self.consumers.iter_mut().find(|consumer| consumer.id == id)
    }

    fn awaiting(&mut self, id: ConsumerNumber, number: u64) -> Option<&mut Consumer> {
        self.consumer(id).filter(|consumer| consumer.awaits(number))
    }

    /// Gives waiting messages to consumers with room: in turn, in equal shares.
    fn distribute(&mut self) {
        while self.pending.count() > 0 {
            let Some(level) = self.entitled() else { return };
            let share = (self.pending.count() / level.len() as u64).max(1);
            for at in level {
                let Some(consumer) = self.consumers.get_mut(at) else { return };
                let Some(run) = self.pending.pop_front(consumer.room().min(share)) else { break };
                self.stats.dispatched += run.count;
                self.stats.redelivered += if run.redeliveries > 0 { run.count } else { 0 };
                self.turn = at + 1;
                consumer.give(run);
            }
        }
    }

    /// Returns the consumers that get messages next: those with room of the highest priority that has room,
    /// beginning with the one that is next. If there are exclusive consumers, returns only the first of them.
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

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
