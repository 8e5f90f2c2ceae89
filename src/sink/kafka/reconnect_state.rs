//! Keeps what the sink learns across its connections.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::batch_refusal::{BatchRefusals, RefusalScope};
use super::latency::LatencyTuning;
use super::topic_settings::TopicSettings;
use crate::sink::{DeliveryId, SinkError, SinkErrorKind};

/// Shared by a sink and its connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct ReconnectState(Arc<Mutex<Remembered>>);

struct Remembered {
    batch_bytes: usize,
    tuning: LatencyTuning,
    last_fatal_error: Option<SinkError>,
    /// Set after a batch was refused, until the cause is clear.
    batch_refusals: Option<BatchRefusals>,
    warned: Warned,
    /// The topic's settings, and when they were read.
    topic_settings: Option<(TopicSettings, Instant)>,
}

/// The last warnings about the topic's settings, and when they were logged.
type Warned = Option<(Vec<String>, Instant)>;

/// After this time the same warnings are logged again, and the settings of the topic are read again.
const AGAIN: Duration = Duration::from_secs(600);

impl ReconnectState {
    /// Starts with batches of at most `batch_bytes`.
    pub(super) fn new(batch_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Remembered {
            batch_bytes,
            tuning: LatencyTuning::NEAR,
            last_fatal_error: None,
            batch_refusals: None,
            warned: None,
            topic_settings: None,
        })))
    }

    /// The largest batch that the topic may accept, in bytes.
    pub(super) fn batch_bytes(&self) -> usize {
        self.lock().batch_bytes
    }

    /// The settings for the latency of the brokers, as far as it is known.
    pub(super) fn latency_tuning(&self) -> LatencyTuning {
        self.lock().tuning
    }

    /// Records the round trip to the brokers. Returns whether the connection must be replaced by one with
    /// other settings. If the user has set `linger`, the sink does not choose how long records are collected.
    pub(super) fn learn_latency(
        &self,
        round_trip: Duration,
        partitions: NonZeroU32,
        linger: Option<Duration>,
    ) -> bool {
        let mut remembered = self.lock();
        let mut tuning = remembered.tuning.after(round_trip, partitions);
        if linger.is_some() {
            tuning.linger = remembered.tuning.linger;
        }
        let changes = tuning != remembered.tuning;
        if changes {
            let (away, clients) = (round_trip.as_millis(), tuning.clients);
            let gathered = linger.unwrap_or(tuning.linger).as_millis();
            tracing::info!(
                "Kafka is {away} ms away and back: clients={clients}, gathering for {gathered} ms"
            );
            remembered.tuning = tuning;
        }
        changes
    }

    /// Records that a batch of a client with `batch_bytes` was too large. Returns the next limit, which is
    /// half of it. A record larger than that travels alone, so halving ends at the record that is too large,
    /// if there is one.
    pub(super) fn shrink_batches(&self, batch_bytes: usize) -> usize {
        let mut remembered = self.lock();
        remembered.batch_bytes = remembered.batch_bytes.min((batch_bytes / 2).max(1));
        remembered.batch_bytes
    }

    /// Why the last connection ended, if an operator must act. A new connection alone can't know this.
    pub(super) fn last_fatal_error(&self) -> Option<SinkError> {
        self.lock().last_fatal_error.clone()
    }

    /// Records that a connection ended because of `error`, and returns `error`.
    pub(super) fn keep_fatal_error(&self, error: SinkError) -> SinkError {
        let needs_operator = error.kind == SinkErrorKind::Misconfigured;
        self.lock().last_fatal_error = needs_operator.then(|| error.clone());
        error
    }

    /// Whether a batch was refused and the cause is not clear yet.
    pub(super) fn has_refused_batch(&self) -> bool {
        self.lock().batch_refusals.is_some()
    }

    /// Calls `act` if a batch was refused and the cause is not clear yet.
    pub(super) fn with_refusals<T>(&self, act: impl FnOnce(&mut BatchRefusals) -> T) -> Option<T> {
        self.lock().batch_refusals.as_mut().map(act)
    }

    /// Releases the deliveries that were kept back: id and size in bytes.
    pub(super) fn let_go(&self) -> Vec<(DeliveryId, usize)> {
        self.with_refusals(BatchRefusals::let_go).unwrap_or_default()
    }

    /// Records that the topic accepted a record.
    pub(super) fn accepted(&self) {
        let mut remembered = self.lock();
        if remembered.batch_refusals.as_mut().is_some_and(BatchRefusals::accepted) {
            remembered.batch_refusals = None;
        }
    }

    /// Records that the topic refused a record.
    pub(super) fn refused(&self) -> RefusalScope {
        self.lock().batch_refusals.get_or_insert_with(BatchRefusals::new).refused()
    }

    /// The topic's settings, unless they were read too long ago.
    pub(super) fn topic_settings(&self) -> Option<TopicSettings> {
        let fresh = |(topic_settings, at): &(TopicSettings, Instant)| {
            (at.elapsed() < AGAIN).then(|| topic_settings.clone())
        };
        self.lock().topic_settings.as_ref().and_then(fresh)
    }

    /// Keeps the topic's settings, which were read just now.
    pub(super) fn learn_topic_settings(&self, topic_settings: TopicSettings) {
        self.lock().topic_settings = Some((topic_settings, Instant::now()));
    }

    /// Returns the warnings to log: all, unless the same ones were logged a short time ago.
    pub(super) fn news(&self, warnings: &[String]) -> Vec<String> {
        let mut remembered = self.lock();
        let known = |(told, at): &(Vec<String>, Instant)| told == warnings && at.elapsed() < AGAIN;
        if remembered.warned.as_ref().is_some_and(known) {
            return Vec::new();
        }
        remembered.warned = Some((warnings.to_vec(), Instant::now()));
        warnings.to_vec()
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
