//! What outlives an opening.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::distance::Distance;
use super::opening::Topic;
use crate::sink::{SinkError, SinkErrorKind};

/// Shared by a sink and its openings. Cheap to clone.
#[derive(Clone)]
pub(super) struct Memory(Arc<Mutex<Remembered>>);

struct Remembered {
    batch_bytes: usize,
    distance: Distance,
    carried: Option<SinkError>,
}

impl Memory {
    /// Batches begin with `batch_bytes` at most.
    pub(super) fn new(batch_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Remembered { batch_bytes, distance: Distance::NEAR, carried: None })))
    }

    /// The largest batch that the topic may accept.
    pub(super) fn batch_bytes(&self) -> usize {
        self.lock().batch_bytes
    }

    /// How far away the brokers are, as far as it is known.
    pub(super) fn distance(&self) -> Distance {
        self.lock().distance
    }

    /// The brokers have answered for `topic`. Whether its opening should have been another one; how long records
    /// are gathered is the sink's choice only without a `linger` of the user's.
    pub(super) fn learn_distance(&self, topic: &Topic, linger: Option<Duration>) -> bool {
        let mut remembered = self.lock();
        let mut distance = remembered.distance.after(topic.round_trip, topic.partitions);
        if linger.is_some() {
            distance.linger = remembered.distance.linger;
        }
        let changes = distance != remembered.distance;
        if changes {
            let (away, clients) = (topic.round_trip.as_millis(), distance.clients);
            let gathered = linger.unwrap_or(distance.linger).as_millis();
            tracing::info!(
                "Kafka is {away} ms away and back: clients={clients}, gathering for {gathered} ms"
            );
            remembered.distance = distance;
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
