//! Passes what the client's threads know to the sink worker: verdicts, the end of the connection, and the
//! health of the brokers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::Notify;

use super::broker_health::BrokerHealth;
use super::client_error::ClientError;
use super::first_records::FirstRecords;
use crate::sink::{Delivery, DeliveryId, SinkError, SinkErrorKind, Verdict};

/// The length of a key in bytes: 32 hex digits.
const KEY: usize = 32;
/// The most deliveries without a verdict.
pub(super) const MAX_DELIVERIES: usize = 16_384;
/// The most bytes of bodies without a verdict. One larger body is accepted when nothing is in flight.
pub(super) const MAX_BYTES: usize = 32 << 20;
/// With so few in flight the next wave may start: sending the rest in pieces costs nothing.
const FEW: usize = 64;
/// If nothing is reported for this time while something is in flight, health returns an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// Holds one verdict for each delivery, so it is bounded by what was submitted.
pub(super) struct KafkaInFlight {
    state: Mutex<KafkaInFlightState>,
    news: Notify,
    /// How long deliveries are accepted into one wave, if they go in waves (`latency.rs`).
    gathering: Option<Duration>,
}

#[derive(Default)]
struct KafkaInFlightState {
    verdicts: Vec<(DeliveryId, Verdict)>,
    /// Deliveries that were accepted and whose verdict the sink worker has not taken yet.
    open: usize,
    /// Deliveries that were accepted and that librdkafka has not reported yet.
    count: usize,
    /// The bytes of the deliveries that `count` counts.
    bytes: usize,
    /// When the first delivery of the last wave was accepted.
    wave: Option<Instant>,
    first_records: FirstRecords,
    /// Why the connection ends. If set, nothing more is accepted, and the connection is broken once `count`
    /// is zero.
    ending: Option<SinkError>,
    /// Records that are not in a request yet must come back.
    purge: bool,
    /// Since when the oldest record in flight waits, or when the last report came.
    heard: Option<Instant>,
    /// When the brokers have accepted records last.
    accepted: Option<Instant>,
    /// Why the previous connection ended; cleared by the first durable record.
    last_fatal_error: Option<SinkError>,
    health: BrokerHealth,
}

/// The size that librdkafka's report gives again: body and key, in bytes.
pub(super) fn size(delivery: &Delivery) -> usize {
    delivery.event.body().len() + KEY
}

impl KafkaInFlight {
    /// Starts a connection after one that ended with `last_fatal_error`. With `gathering`, a delivery that
    /// comes later than this after the first one of a wave waits until nearly all of the wave has come back.
    pub(super) fn new(last_fatal_error: Option<SinkError>, gathering: Option<Duration>) -> Self {
        let state = KafkaInFlightState { last_fatal_error, ..KafkaInFlightState::default() };
        Self { state: Mutex::new(state), news: Notify::new(), gathering }
    }

    /// Reserves room for the first of the deliveries with these sizes, and returns for how many; they count as
    /// in flight from now on. Returns 0 if the connection ends, is full, or still has a wave in flight.
    ///
    /// # Errors
    /// The connection is broken and nothing is in flight any more.
    pub(super) fn reserve(&self, sizes: impl Iterator<Item = usize>) -> Result<usize, SinkError> {
        let mut state = self.lock();
        if let Some(error) = &state.ending {
            return if state.open == 0 { Err(error.clone()) } else { Ok(0) };
        }
        let now = Instant::now();
        if state.count == 0 {
            state.heard = Some(now);
        }
        if let Some(gathering) = self.gathering
            && state.wave.is_none_or(|began| now.duration_since(began) > gathering)
        {
            if state.count >= FEW {
                return Ok(0);
            }
            state.wave = Some(now);
        }
        let mut taken = 0;
        for size in sizes {
            let is_full = state.open >= MAX_DELIVERIES || state.bytes + size > MAX_BYTES;
            if is_full && state.open > 0 {
                break;
            }
            state.open += 1;
            state.count += 1;
            state.bytes += size;
            taken += 1;
        }
        Ok(taken)
    }

    /// Returns how many of these deliveries, with their partitions, may be sent now. The others wait for the
    /// first record of a partition.
    pub(super) fn admit(&self, deliveries: impl Iterator<Item = (DeliveryId, u32)>) -> usize {
        let mut state = self.lock();
        let now = Instant::now();
        deliveries.take_while(|&(id, partition)| state.first_records.admit(id, partition, now)).count()
    }

    /// Releases the room of deliveries that librdkafka did not accept.
    pub(super) fn give_back(&self, sizes: impl Iterator<Item = usize>) {
        let mut state = self.lock();
        for size in sizes {
            state.open = state.open.saturating_sub(1);
            state.answered(size);
        }
    }

    /// Records the report on a delivery.
    pub(super) fn report(&self, id: DeliveryId, bytes: usize, verdict: Verdict) {
        let mut state = self.lock();
        state.answered(bytes);
        state.heard = Some(Instant::now());
        let is_durable = matches!(verdict, Verdict::Durable);
        state.first_records.answered(id, is_durable);
        if is_durable {
            state.accepted = state.heard;
            state.last_fatal_error = None;
            state.health.clear();
        }
        state.verdicts.push((id, verdict));
        let is_first = state.verdicts.len() == 1;
        let is_last = state.count == 0;
        drop(state);
        if is_first || is_last {
            self.news.notify_one();
        }
    }

    /// Ends the connection because of `error`, unless it ends already. That another bridge has taken over
    /// replaces every other reason.
    pub(super) fn end(&self, error: SinkError) {
        self.change(|state| match state.ending {
            Some(_) if !error.is_fenced() => {}
            _ => state.ending = Some(error),
        });
    }

    /// Ends the connection because of `error`, which replaces an earlier, less exact reason.
    pub(super) fn end_since(&self, error: SinkError) {
        self.change(|state| match &state.ending {
            Some(exact) if exact.is_fenced() => {}
            _ => state.ending = Some(error),
        });
    }

    /// Expects no report any more on `missing` deliveries of a connection that ends.
    pub(super) fn abandon(&self, missing: usize) {
        self.change(|state| state.count = state.count.saturating_sub(missing));
    }

    /// Whether a delivery has no verdict yet, or one that the sink worker has not taken.
    pub(super) fn is_busy(&self) -> bool {
        self.lock().open > 0
    }

    /// Whether the brokers have accepted records within the last `time`.
    pub(super) fn has_accepted_within(&self, time: Duration) -> bool {
        self.lock().accepted.is_some_and(|accepted| accepted.elapsed() < time)
    }

    /// Why the connection ends, if it does.
    pub(super) fn ending(&self) -> Option<SinkError> {
        self.lock().ending.clone()
    }

    /// The error for a record that failed with others.
    pub(super) fn collateral_failure(&self) -> SinkError {
        let unknown = || SinkError::unavailable("the record came back with others that failed");
        self.ending().unwrap_or_else(unknown)
    }

    /// From now on all records that are not in a request come back.
    pub(super) fn purge(&self) {
        self.change(|state| state.purge = true);
    }

    /// Whether `purge` was called and records wait that it concerns.
    pub(super) fn wants_purge(&self) -> bool {
        let state = self.lock();
        state.purge && state.count > 0
    }

    /// Sets the current error of the brokers, or clears it.
    pub(super) fn set_health(&self, health_error: Option<SinkError>) {
        self.lock().health.set_error(health_error);
    }

    /// Records that a connection failed; with several brokers that is no error by itself. A refused login is
    /// kept, because it tells more than a connection that was closed after it.
    pub(super) fn set_failure(&self, code: Code, words: &str) {
        self.lock().health.set_failure(code, words);
    }

    /// Why a connection failed last, if none has succeeded since.
    pub(super) fn failure(&self) -> Option<ClientError> {
        self.lock().health.failure.clone()
    }

    /// librdkafka has lost its connections to all brokers.
    pub(super) fn set_all_down(&self) {
        self.lock().health.all_down = true;
    }

    /// Whether librdkafka has lost all brokers since the last call.
    pub(super) fn take_all_down(&self) -> bool {
        std::mem::take(&mut self.lock().health.all_down)
    }

    /// Records that the brokers have delayed their answers by `delay`. Returns whether that is news.
    pub(super) fn set_throttled(&self, delay: Duration) -> bool {
        self.lock().health.set_throttled(delay)
    }

    /// Whether the brokers throttle at the moment.
    pub(super) fn is_throttled(&self) -> bool {
        self.lock().health.is_throttled()
    }

    /// The current error of the brokers, if there is one.
    pub(super) fn health_error(&self) -> Option<SinkError> {
        self.lock().health.error.clone()
    }

    /// Notes that the brokers accept records, or tell about them, although no delivery has its verdict yet.
    pub(super) fn touch(&self) {
        let mut state = self.lock();
        state.heard = Some(Instant::now());
        state.accepted = state.heard;
    }

    /// Forgets the error that has ended the connection before this one.
    pub(super) fn forget_fatal_error(&self) {
        self.lock().last_fatal_error = None;
    }

    /// What is wrong with the brokers, as [`crate::sink::Verdicts::health`] wants it.
    pub(super) fn health(&self) -> Result<(), SinkError> {
        let state = self.lock();
        let known = [&state.health.error, &state.last_fatal_error].into_iter().flatten();
        // An error that an operator must correct comes first.
        if let Some(error) = known.max_by_key(|error| error.kind == SinkErrorKind::Misconfigured) {
            return Err(error.clone());
        }
        // Brokers that throttle are not silent; the log reports the throttling.
        let is_silent = state.heard.is_some_and(|heard| heard.elapsed() > PATIENCE);
        if state.count > 0 && is_silent && !state.health.is_throttled() {
            let silent =
                format!("events wait, and the brokers are silent for more than {} s", PATIENCE.as_secs());
            return Err(SinkError::unavailable(silent));
        }
        Ok(())
    }

    /// Returns once there is a verdict or the connection is broken. Cancel-safe.
    pub(super) async fn wait(&self) {
        loop {
            {
                let state = self.lock();
                if !state.verdicts.is_empty() || (state.ending.is_some() && state.count == 0) {
                    return;
                }
            }
            self.news.notified().await;
        }
    }

    /// Removes and returns all verdicts.
    pub(super) fn take(&self) -> Vec<(DeliveryId, Verdict)> {
        let mut state = self.lock();
        state.open = state.open.saturating_sub(state.verdicts.len());
        std::mem::take(&mut state.verdicts)
    }

    fn change(&self, change: impl FnOnce(&mut KafkaInFlightState)) {
        change(&mut self.lock());
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, KafkaInFlightState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KafkaInFlightState {
    fn answered(&mut self, bytes: usize) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests;
