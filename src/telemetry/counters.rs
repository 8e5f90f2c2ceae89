//! What a bridge counts, cheap enough for the event path: one addition per batch, no lock. The names under
//! which it is told are in [`super::metrics`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::histogram::Histogram;

/// The lane of events without a usable key, where names of sinks stand; no sink can have this name.
pub const NO_SINK: &str = "-";

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down, set by one owner.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A moment, or none, set by one owner and read by others without a lock.
#[derive(Debug)]
pub struct Moment {
    base: Instant,
    /// Nanoseconds since `base`, and one; 0 is none.
    nanos: AtomicU64,
}

impl Moment {
    /// Sets it; a moment before this was made counts as its making.
    pub fn set(&self, moment: Option<Instant>) {
        let since = |moment: Instant| moment.saturating_duration_since(self.base).as_nanos();
        let nanos = moment.map_or(0, |moment| u64::try_from(since(moment) + 1).unwrap_or(u64::MAX));
        self.nanos.store(nanos, Ordering::Relaxed);
    }

    /// The moment that was set last.
    pub fn get(&self) -> Option<Instant> {
        let nanos = self.nanos.load(Ordering::Relaxed).checked_sub(1)?;
        self.base.checked_add(std::time::Duration::from_nanos(nanos))
    }
}

impl Default for Moment {
    fn default() -> Self {
        Self { base: Instant::now(), nanos: AtomicU64::new(0) }
    }
}

/// Counts of things that are told apart by a short fixed word. Locks, so it is for what is rare.
#[derive(Debug, Default)]
pub struct LabelledCounter(Mutex<BTreeMap<&'static str, u64>>);

impl LabelledCounter {
    /// Adds `n` to the count of `word`.
    pub fn add(&self, word: &'static str, n: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(word).or_default() += n;
    }

    /// Every word that was counted, and how often.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.iter().map(|(word, count)| (*word, *count)).collect()
    }

    /// All words together.
    pub fn total(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

/// What one lane did, in events.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    /// Settled by the sink's own durable verdict.
    pub durable: Counter,
    /// Settled by a durable dead letter, by reason.
    pub dead_lettered: LabelledCounter,
    /// Settled without being handed over: the sink already held them (I5).
    pub suppressed: Counter,
    /// Handed over again after a verdict of retry or a broken opening.
    pub retried: Counter,
    /// From receipt to being durable or a dead letter.
    pub settling: Histogram,
}

impl WorkerCounters {
    /// Events that this sink is done with.
    pub fn settled(&self) -> u64 {
        self.durable.get() + self.dead_lettered.total() + self.suppressed.get()
    }
}

/// What one subscription did: its source, its pump, and a lane for each of its sinks.
#[derive(Debug, Default)]
pub struct SubscriptionCounters {
    /// Events received from the broker, redelivered ones included.
    pub received: Counter,
    /// Of these, taken and marked as redelivered by the broker.
    pub redelivered: Counter,
    /// Events acknowledged to the broker.
    pub acked: Counter,
    /// Bodies of which an old broker's CESU-8 was repaired to UTF-8 (D6).
    pub repaired: Counter,
    /// Sessions begun.
    pub sessions: Counter,
    /// Sessions that ended or failed to begin, each of which is tried again, by cause.
    pub reconnects: LabelledCounter,
    /// Events taken in this session and not acknowledged.
    pub in_flight: Gauge,
    /// Events received in this session and not taken: the broker delivers them again.
    pub left: Gauge,
    /// When the oldest event in flight was received.
    pub oldest: Moment,
    lanes: Mutex<BTreeMap<String, Arc<WorkerCounters>>>,
}

impl SubscriptionCounters {
    /// The counters of the lane `name`, made at the first call.
    pub fn worker(&self, name: &str) -> Arc<WorkerCounters> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(name.to_owned()).or_default())
    }

    /// Every lane and its counters, by name.
    pub fn workers(&self) -> Vec<(String, Arc<WorkerCounters>)> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.iter().map(|(name, counters)| (name.clone(), Arc::clone(counters))).collect()
    }
}

/// The counters of one bridge.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<String, Arc<SubscriptionCounters>>>);

impl Counters {
    /// The counters of the subscription to `queue`, made at the first call.
    pub fn subscription(&self, queue: &str) -> Arc<SubscriptionCounters> {
        let mut subscriptions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(subscriptions.entry(queue.to_owned()).or_default())
    }

    /// Every subscription and its counters, by queue.
    pub fn subscriptions(&self) -> Vec<(String, Arc<SubscriptionCounters>)> {
        let subscriptions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        subscriptions.iter().map(|(queue, counters)| (queue.clone(), Arc::clone(counters))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_is_told_as_it_was_set() {
        let moment = Moment::default();
        assert_eq!(moment.get(), None);
        for later in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(1 << 30)] {
            moment.set(Some(moment.base + later));
            assert_eq!(moment.get(), Some(moment.base + later));
        }
        moment.set(None);
        assert_eq!(moment.get(), None);
    }

    #[test]
    fn settled_is_whatever_a_lane_is_done_with() {
        let subscription = Counters::default().subscription("main.RTO.acme");
        let lane = subscription.worker("file");
        lane.durable.add(5);
        lane.dead_lettered.add("too_large", 2);
        lane.dead_lettered.add("invalid", 1);
        lane.suppressed.add(4);
        lane.retried.add(100);
        assert_eq!(subscription.worker("file").settled(), 12);
        assert_eq!(lane.dead_lettered.all(), [("invalid", 1), ("too_large", 2)]);
    }
}
