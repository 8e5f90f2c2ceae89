//! Counters of one bridge, cheap enough for the event path: one addition per batch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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

/// What one lane did, in events.
#[derive(Debug, Default)]
pub struct LaneCounters {
    /// Settled by the sink's own durable verdict.
    pub durable: Counter,
    /// Settled by a durable dead letter.
    pub dead_lettered: Counter,
    /// Settled without being handed over: the sink already held them (I5).
    pub suppressed: Counter,
    /// Handed over again after a verdict of retry or a broken opening.
    pub retried: Counter,
}

/// The counters of one bridge.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events received from the broker, redelivered ones included.
    pub received: Counter,
    /// Of these, marked as redelivered by the broker.
    pub redelivered: Counter,
    /// Events acknowledged to the broker.
    pub acked: Counter,
    /// Bodies of which an old broker's CESU-8 was repaired to UTF-8 (D6).
    pub repaired: Counter,
    /// Sessions begun.
    pub sessions: Counter,
    lanes: Mutex<BTreeMap<String, Arc<LaneCounters>>>,
    troubles: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    /// The counters of the lane `name`, made at the first call.
    pub fn lane(&self, name: &str) -> Arc<LaneCounters> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(name.to_owned()).or_default())
    }

    /// Counts one end of a session, or failure to begin one, by its cause.
    pub fn trouble(&self, cause: &'static str) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        *troubles.entry(cause).or_default() += 1;
    }

    /// How often sessions have ended or failed to begin, by cause.
    pub fn troubles(&self) -> Vec<(&'static str, u64)> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.iter().map(|(cause, count)| (*cause, *count)).collect()
    }

    /// Every lane and its counters, by name.
    pub fn lanes(&self) -> Vec<(String, Arc<LaneCounters>)> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.iter().map(|(name, counters)| (name.clone(), Arc::clone(counters))).collect()
    }
}
