//! What outlives an opening.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::linger;
use crate::sink::{SinkError, SinkErrorKind};

/// Shared by a sink and its openings. Cheap to clone.
#[derive(Clone)]
pub(super) struct Memory(Arc<Mutex<Remembered>>);

struct Remembered {
    batch_bytes: usize,
    linger: Duration,
    carried: Option<SinkError>,
}

impl Memory {
    /// Batches begin with `batch_bytes` at most.
    pub(super) fn new(batch_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Remembered { batch_bytes, linger: linger::SHORTEST, carried: None })))
    }

    /// The largest batch that the topic may accept.
    pub(super) fn batch_bytes(&self) -> usize {
        self.lock().batch_bytes
    }

    /// How long records are gathered, where the user does not say.
    pub(super) fn linger(&self) -> Duration {
        self.lock().linger
    }

    /// The brokers answer after `round_trip`. Whether a new client would now gather for another time.
    pub(super) fn learn_distance(&self, round_trip: Duration) -> bool {
        let mut remembered = self.lock();
        let wanted = linger::for_round_trip(round_trip);
        let changes = linger::is_worth_a_change(remembered.linger, wanted);
        if changes {
            let (away, linger) = (round_trip.as_millis(), wanted.as_millis());
            tracing::info!("Kafka is {away} ms away and back: records are gathered for {linger} ms");
            remembered.linger = wanted;
        }
        changes
    }

    /// A batch of a client with `batch_bytes` was too large: the next one tries half of it. A record larger
    /// than that travels alone, so that halving ends at the record that is too large, if there is one.
    pub(super) fn shrink_batches(&self, batch_bytes: usize) -> usize {
        let mut remembered = self.lock();
        remembered.batch_bytes = remembered.batch_bytes.min((batch_bytes / 2).max(1));
        remembered.batch_bytes
    }

    /// Why the last opening ended, where an operator must act and a new opening alone can't know.
    pub(super) fn carried(&self) -> Option<SinkError> {
        self.lock().carried.clone()
    }

    /// An opening ended because of `error`.
    pub(super) fn carry(&self, error: SinkError) -> SinkError {
        let needs_operator = error.kind == SinkErrorKind::Misconfigured;
        self.lock().carried = needs_operator.then(|| error.clone());
        error
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
