//! What outlives an opening.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::batch_refusal::{BatchRefusals, Plan, RefusalScope};
use super::latency::LatencyTuning;
use super::topic_settings::TopicSettings;
use crate::sink::{Delivery, DeliveryId, SinkError, SinkErrorKind};

/// Shared by a sink and its openings. Cheap to clone.
#[derive(Clone)]
pub(super) struct ReconnectState(Arc<Mutex<Remembered>>);

struct Remembered {
    batch_bytes: usize,
    distance: LatencyTuning,
    carried: Option<SinkError>,
    /// Since a batch was refused, until it is clear why.
    doubt: Option<BatchRefusals>,
    warned: Warned,
    /// The topic's settings, and when they were asked for.
    facts: Option<(TopicSettings, Instant)>,
}

/// What was said of the topic's settings last, and when.
type Warned = Option<(Vec<String>, Instant)>;

/// The same warnings are logged again after so long, and the settings of the topic are asked for again.
const AGAIN: Duration = Duration::from_secs(600);

impl ReconnectState {
    /// Batches begin with `batch_bytes` at most.
    pub(super) fn new(batch_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Remembered {
            batch_bytes,
            distance: LatencyTuning::NEAR,
            carried: None,
            doubt: None,
            warned: None,
            facts: None,
        })))
    }

    /// The largest batch that the topic may accept.
    pub(super) fn batch_bytes(&self) -> usize {
        self.lock().batch_bytes
    }

    /// How far away the brokers are, as far as it is known.
    pub(super) fn latency_tuning(&self) -> LatencyTuning {
        self.lock().distance
    }

    /// The brokers have answered for `topic`. Whether its opening should have been another one; how long records
    /// are gathered is the sink's choice only without a `linger` of the user's.
    pub(super) fn learn_latency(
        &self,
        round_trip: Duration,
        partitions: NonZeroU32,
        linger: Option<Duration>,
    ) -> bool {
        let mut remembered = self.lock();
        let mut distance = remembered.distance.after(round_trip, partitions);
        if linger.is_some() {
            distance.linger = remembered.distance.linger;
        }
        let changes = distance != remembered.distance;
        if changes {
            let (away, clients) = (round_trip.as_millis(), distance.clients);
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
    pub(super) fn last_fatal_error(&self) -> Option<SinkError> {
        self.lock().carried.clone()
    }

    /// An opening ended because of `error`.
    pub(super) fn keep_fatal_error(&self, error: SinkError) -> SinkError {
        let needs_operator = error.kind == SinkErrorKind::Misconfigured;
        self.lock().carried = needs_operator.then(|| error.clone());
        error
    }

    /// A new client begins.
    pub(super) fn opened(&self) {
        if let Some(doubt) = &mut self.lock().doubt {
            doubt.opened();
        }
    }

    /// What goes next of `deliveries`, while there is a doubt. Call it only while nothing is on its way.
    pub(super) fn plan(&self, deliveries: &[Delivery], partitions: NonZeroU32) -> Option<Plan> {
        self.lock().doubt.as_mut().map(|doubt| doubt.plan(deliveries, partitions))
    }

    /// Whether there is a doubt.
    pub(super) fn has_refused_batch(&self) -> bool {
        self.lock().doubt.is_some()
    }

    /// See [`Doubt::keep_back`].
    pub(super) fn keep_back(&self, deliveries: impl Iterator<Item = (DeliveryId, usize)>) {
        if let Some(doubt) = &mut self.lock().doubt {
            doubt.keep_back(deliveries);
        }
    }

    /// See [`Doubt::let_go`].
    pub(super) fn let_go(&self) -> Vec<(DeliveryId, usize)> {
        self.lock().doubt.as_mut().map(BatchRefusals::let_go).unwrap_or_default()
    }

    /// A record was accepted.
    pub(super) fn accepted(&self) {
        let mut remembered = self.lock();
        if remembered.doubt.as_mut().is_some_and(BatchRefusals::accepted) {
            remembered.doubt = None;
        }
    }

    /// The topic refused a record.
    pub(super) fn refused(&self) -> RefusalScope {
        self.lock().doubt.get_or_insert_with(BatchRefusals::new).refused()
    }

    /// The topic's settings, unless they were asked for long ago.
    pub(super) fn facts(&self) -> Option<TopicSettings> {
        let fresh = |(facts, at): &(TopicSettings, Instant)| (at.elapsed() < AGAIN).then(|| facts.clone());
        self.lock().facts.as_ref().and_then(fresh)
    }

    /// The topic's settings as they were found just now.
    pub(super) fn learn_facts(&self, facts: TopicSettings) {
        self.lock().facts = Some((facts, Instant::now()));
    }

    /// Those of `warnings` that are to be logged: all, unless they were a while ago.
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
