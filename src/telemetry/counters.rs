//! Counts what a bridge does, without a lock on the event path: one addition for each batch. The exported
//! names are in [`super::metrics`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

use super::histogram::{BatchRecorder, Histogram};
use crate::event::{EventTimes, Message};

/// The sink name for events without a usable key. No configured sink can have this name.
pub const NO_SINK: &str = "-";

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down, set by one owner.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A moment, or none. One owner sets it and others read it without a lock.
#[derive(Debug)]
pub struct Moment {
    base: Instant,
    /// Nanoseconds since `base`, plus one; 0 means none.
    nanos: AtomicU64,
}

impl Moment {
    /// Sets the moment. A moment before the creation of this value counts as its creation.
    pub fn set(&self, moment: Option<Instant>) {
        let since = |moment: Instant| moment.saturating_duration_since(self.base).as_nanos();
        let nanos = moment.map_or(0, |moment| u64::try_from(since(moment) + 1).unwrap_or(u64::MAX));
        self.nanos.store(nanos, Ordering::Relaxed);
    }

    /// Returns the moment that was set last.
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

/// Counts per label, where a label is a short fixed word. Takes a lock, so it is only for rare events.
#[derive(Debug, Default)]
pub struct LabelledCounter(Mutex<BTreeMap<&'static str, u64>>);

impl LabelledCounter {
    /// Adds `n` to the count of `word`.
    pub fn add(&self, word: &'static str, n: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(word).or_default() += n;
    }

    /// Returns every word that was counted, with its count.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.iter().map(|(word, count)| (*word, *count)).collect()
    }

    /// Returns the sum over all words.
    pub fn total(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

/// The last text per label, where a label is a short fixed word. Takes a lock, so it is only for rare events.
#[derive(Debug, Default)]
pub struct LabelledText(Mutex<BTreeMap<&'static str, String>>);

impl LabelledText {
    /// Replaces the text of `word`.
    pub fn set(&self, word: &'static str, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(word, text);
    }

    /// Returns the text of `word`, if it has one.
    pub fn get(&self, word: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(word).cloned()
    }
}

/// The counters of one sink worker, in events.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    /// Events settled by the sink's own durable verdict.
    pub durable: Counter,
    /// Events settled by a durable dead letter, by reason.
    pub dead_lettered: LabelledCounter,
    /// The message id of the newest dead letter, safe to show, by reason.
    pub newest_dead_letters: LabelledText,
    /// Events settled without being handed over, because the sink already held them (I5).
    pub suppressed: Counter,
    /// Events handed over again after a retry verdict or a broken sink connection.
    pub retried: Counter,
    /// Time from receipt until the event is durable in the sink or in a dead letter.
    pub settling: Histogram,
    /// Time from the broker's timestamp until then.
    pub ages: Histogram,
    /// How long the sink took each time to name the events that it holds.
    pub claiming: Histogram,
    /// Events that the sink named the last time.
    pub claimed: Gauge,
    /// How many times the sink could not say what it holds, because of an error.
    pub claims_failed: Counter,
}

impl WorkerCounters {
    /// Returns how many events this sink has settled.
    pub fn settled(&self) -> u64 {
        self.durable.get() + self.dead_lettered.total() + self.suppressed.get()
    }

    /// Returns a recorder for events that become durable now.
    pub fn durable_now(&self) -> DurableRecorder<'_> {
        DurableRecorder { settling: self.settling.ending_now(), ages: self.ages.ages_now() }
    }
}

/// Counts how long events took until they became durable.
#[derive(Debug)]
pub struct DurableRecorder<'a> {
    settling: BatchRecorder<'a, Instant>,
    ages: BatchRecorder<'a, i64>,
}

impl DurableRecorder<'_> {
    /// Counts one event that has become durable.
    pub fn add(&mut self, times: EventTimes) {
        self.settling.add(times.received);
        if let Some(sent) = times.sent {
            self.ages.add(sent);
        }
    }
}

/// The counters of one subscription: its source, its dispatcher, and a worker for each of its sinks.
#[derive(Debug, Default)]
pub struct SubscriptionCounters {
    /// Events received from the broker, redelivered ones included.
    pub received: Counter,
    /// Time from the broker's timestamp until the event was received.
    pub ages: Histogram,
    /// Events whose timestamp was more than a second ahead of this machine's clock.
    pub ahead: Counter,
    /// When the last event was received, in milliseconds since 1970; 0 if none was.
    pub last_received: Gauge,
    /// The broker's timestamp of the last event that has one, in milliseconds since 1970; 0 if none has.
    pub last_sent: Gauge,
    /// Events that were taken and that the broker had marked as redelivered.
    pub redelivered: Counter,
    /// Events acknowledged to the broker.
    pub acked: Counter,
    /// Events whose body had the CESU-8 of an old broker, which was repaired to UTF-8 (D6).
    pub repaired: Counter,
    /// Sessions begun: connected and subscribed.
    pub sessions: Counter,
    /// Sessions that ended or failed to begin, by cause. Each is followed by another try.
    pub reconnects: LabelledCounter,
    /// Events taken in this session and not yet acknowledged.
    pub in_flight: Gauge,
    /// Events taken in this session. 0 between two sessions.
    pub taken: Gauge,
    /// Events received in this session and not taken. The broker delivers them again.
    pub left: Gauge,
    /// 1 in a session, 0 between two sessions.
    pub is_subscribed: Gauge,
    /// The broker's timestamp of the first events of these, in milliseconds since 1970; 0 if they have none.
    pub left_sent: Gauge,
    /// When the oldest event in flight was received.
    pub oldest: Moment,
    /// The broker's timestamp of the oldest event in flight, in milliseconds since 1970; 0 if it has none.
    pub oldest_sent: Gauge,
    /// The counters of each sink worker, by the name of its sink.
    pub workers: Named<WorkerCounters>,
}

impl SubscriptionCounters {
    /// Returns how many seconds the bridge is behind: the age of the oldest event that was received and is not
    /// acknowledged, from the broker's timestamp. It is below 0 if that is ahead of this machine's clock, and 0 if there is
    /// no such event. It is unknown between two sessions, and without a timestamp.
    pub fn behind(&self) -> Option<f64> {
        let sent = match (self.is_subscribed.get(), self.in_flight.get(), self.left.get()) {
            (0, ..) => return None,
            (_, 0, 0) => return Some(0.0),
            (_, 0, _) => self.left_sent.get(),
            _ => self.oldest_sent.get(),
        };
        (sent > 0).then(|| (Timestamp::now().as_millisecond() as f64 - sent as f64) / 1000.0)
    }

    /// Counts messages that were received now, in broker order.
    pub fn receive(&self, messages: &[Message]) {
        self.received.add(messages.len() as u64);
        let now = Timestamp::now().as_millisecond();
        let mut ages = self.ages.ages_now();
        let (mut ahead, mut last) = (0, None);
        for sent in messages.iter().filter_map(Message::sent) {
            ages.add(sent);
            ahead += u64::from(sent > now.saturating_add(CLOCK_TOLERANCE));
            last = Some(sent);
        }
        self.ahead.add(ahead);
        self.last_received.set(u64::try_from(now).unwrap_or(0));
        if let Some(sent) = last {
            self.last_sent.set(u64::try_from(sent).unwrap_or(0));
        }
    }
}

/// The difference between two clocks that counts as none, in milliseconds.
const CLOCK_TOLERANCE: i64 = 1000;

/// The counters of one bridge, by queue.
pub type Counters = Named<SubscriptionCounters>;

/// Counters by name. They are kept for the life of the process, because a counter must not start again.
#[derive(Debug)]
pub struct Named<T>(Mutex<BTreeMap<String, Arc<T>>>);

impl<T: Default> Named<T> {
    /// Returns the counters of `name`; the first call creates them.
    pub fn get(&self, name: &str) -> Arc<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(name.to_owned()).or_default())
    }

    /// Returns every name and its counters, sorted by name.
    pub fn all(&self) -> Vec<(String, Arc<T>)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(name, counters)| (name.clone(), Arc::clone(counters))).collect()
    }
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Mutex::default())
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
    fn the_age_of_events_is_counted_from_their_timestamps() {
        let now = Timestamp::now().as_millisecond();
        let message = |timestamp| Message { timestamp, ..crate::sink::testing::message(1, String::new()) };
        let counters = SubscriptionCounters::default();
        counters
            .receive(&[None, Some(now - 20_000), Some(now + 500), Some(now + 60_000), Some(0)].map(message));
        assert_eq!(
            (counters.received.get(), counters.ages.snapshot().count, counters.ahead.get()),
            (5, 3, 1)
        );
        assert_eq!(counters.last_sent.get() as i64, now + 60_000);
        assert!(counters.last_received.get() as i64 >= now);
        counters.receive(&[message(None)]);
        assert_eq!(counters.last_sent.get() as i64, now + 60_000, "the last one with a timestamp");
        let worker = WorkerCounters::default();
        worker.durable_now().add(EventTimes { received: Instant::now(), sent: None });
        worker.durable_now().add(EventTimes { received: Instant::now(), sent: Some(now - 1000) });
        assert_eq!((worker.settling.snapshot().count, worker.ages.snapshot().count), (2, 1));
        assert!(worker.ages.snapshot().sum >= 1.0);
    }

    #[test]
    fn how_far_behind_is_known_in_a_session_only_and_shows_a_clock_that_is_wrong() {
        let now = Timestamp::now().as_millisecond().unsigned_abs();
        let counters = SubscriptionCounters::default();
        assert_eq!(counters.behind(), None, "no session yet");
        counters.is_subscribed.set(1);
        assert_eq!(counters.behind(), Some(0.0), "nothing waits");
        counters.in_flight.set(1);
        assert_eq!(counters.behind(), None, "an event without a timestamp");
        counters.oldest_sent.set(now - 20_000);
        assert!((20.0..30.0).contains(&counters.behind().unwrap()));
        counters.oldest_sent.set(now + 60_000);
        assert!((-60.0..-50.0).contains(&counters.behind().unwrap()));
        counters.in_flight.set(0);
        counters.left.set(3);
        assert_eq!(counters.behind(), None, "events without a timestamp are left");
        counters.left_sent.set(now - 40_000);
        assert!((40.0..50.0).contains(&counters.behind().unwrap()));
    }

    #[test]
    fn settled_is_whatever_a_worker_is_done_with() {
        let subscription = Counters::default().get("main.RTO.acme");
        let worker = subscription.workers.get("file");
        worker.durable.add(5);
        worker.dead_lettered.add("too_large", 2);
        worker.dead_lettered.add("invalid", 1);
        worker.suppressed.add(4);
        worker.retried.add(100);
        assert_eq!(subscription.workers.get("file").settled(), 12);
        assert_eq!(worker.dead_lettered.all(), [("invalid", 1), ("too_large", 2)]);
    }
}
