//! Turns librdkafka's delivery reports into verdicts, and handles its errors, its log and its statistics.
//! librdkafka calls all of this on the thread that polls it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::batch_refusal::RefusalScope;
use super::classify::{self, DeliveryOutcome, classify_delivery};
use super::commit_gate::CommitGate;
use super::in_flight::KafkaInFlight;
use super::names::Names;
use super::reconnect_state::ReconnectState;
use super::throttle;
use super::transaction_errors;
use crate::sink::{DeliveryId, SinkError, Verdict};

/// The facility in librdkafka's log for a changed number of partitions.
const PARTITION_COUNT: &str = "PARTCNT";

pub(super) type KafkaClient = BaseProducer<Context>;

/// The opaque value of a record that belongs to no delivery.
pub(super) const NO_DELIVERY: usize = usize::MAX;

/// Receives the callbacks of one client.
pub(super) struct Context {
    pub(super) sink: String,
    pub(super) names: Names,
    /// The largest batch of this client, in bytes.
    pub(super) batch_bytes: usize,
    pub(super) in_flight: Arc<KafkaInFlight>,
    pub(super) reconnect_state: ReconnectState,
    /// Requests a check of the topic.
    pub(super) check_request: SyncSender<()>,
    /// Where accepted records wait for their commit; `None` without transactions.
    pub(super) gate: Option<Arc<CommitGate>>,
    /// The number of reports that this client has given.
    pub(super) reports: AtomicU64,
}

impl Context {
    /// If a check is due already, it serves this request too.
    fn request_check(&self) {
        let _due = self.check_request.try_send(());
    }

    fn verdict(&self, code: Option<Code>, bytes: usize, (partition, offset): (i32, i64)) -> Verdict {
        match classify_delivery(code, bytes, self.batch_bytes, &self.names) {
            DeliveryOutcome::Durable => {
                self.reconnect_state.accepted(partition, offset);
                Verdict::Durable
            }
            DeliveryOutcome::Reject(rejection) => Verdict::Reject(rejection),
            DeliveryOutcome::Refused => self.refused(),
            DeliveryOutcome::FailedWithBatch => Verdict::Retry(self.in_flight.collateral_failure()),
            DeliveryOutcome::Retry(error) => self.fail(error),
            DeliveryOutcome::BatchTooLarge => {
                let batch_bytes = self.reconnect_state.shrink_batches(self.batch_bytes);
                self.fail(SinkError::unavailable(format!(
                    "a batch was too large for the topic {}: going on with batches of {batch_bytes} bytes",
                    self.names.topic
                )))
            }
        }
    }

    fn refused(&self) -> Verdict {
        match self.reconnect_state.refused() {
            RefusalScope::ThisOne => Verdict::Reject(classify::invalid(&self.names)),
            RefusalScope::Alone | RefusalScope::NotOnlyOne => self.fail(classify::refused_alone(&self.names)),
            RefusalScope::OneOfSeveral => self.fail(classify::refused_with_others(&self.names)),
        }
    }

    /// Returns the verdict on a record of a transaction, if it has one before the commit.
    fn in_transaction(
        &self,
        gate: &CommitGate,
        id: DeliveryId,
        bytes: usize,
        place: (i32, i64),
        verdict: Verdict,
    ) -> Option<Verdict> {
        match verdict {
            // Without its offset nobody can see whether it can be read.
            Verdict::Durable if place.1 < 0 => {
                gate.refused();
                return Some(self.fail(transaction_errors::given_up(&self.names)));
            }
            Verdict::Durable if gate.accepted(id, bytes, place) => return None,
            Verdict::Durable => return Some(Verdict::Retry(self.in_flight.collateral_failure())),
            // librdkafka can't commit a transaction in which a record was refused.
            Verdict::Reject(_) => self.in_flight.end(transaction_errors::given_up(&self.names)),
            Verdict::Retry(_) => {}
        }
        gate.refused();
        Some(verdict)
    }

    /// After this failure nothing more may be accepted, because it could overtake the failed record (I3).
    fn fail(&self, error: SinkError) -> Verdict {
        self.in_flight.end_since(error.clone());
        Verdict::Retry(error)
    }
}

impl ProducerContext for Context {
    /// The number of the delivery: needs no allocation.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, id: usize) {
        let (message, code) = match result {
            Ok(message) => (message, None),
            Err((error, message)) => (message, Some(error.rdkafka_error_code().unwrap_or(Code::Unknown))),
        };
        self.reports.fetch_add(1, Ordering::Relaxed);
        if id == NO_DELIVERY {
            return;
        }
        let bytes = message.payload().map_or(0, <[u8]>::len) + message.key().map_or(0, <[u8]>::len);
        let place = (message.partition(), message.offset());
        let verdict = self.verdict(code, bytes, place);
        // Deliveries that were kept back for this verdict go back to the sink worker, and come first again.
        for (held, size) in self.reconnect_state.let_go() {
            let error = self.in_flight.ending().unwrap_or_else(|| classify::offered_once_more(&self.names));
            self.in_flight.report(held, size, Verdict::Retry(error));
        }
        let id = DeliveryId(id as u64);
        let verdict = match &self.gate {
            None => Some(verdict),
            Some(gate) => self.in_transaction(gate, id, bytes, place, verdict),
        };
        if let Some(verdict) = verdict {
            self.in_flight.report(id, bytes, verdict);
        }
    }
}

impl ClientContext for Context {
    /// This log is never the only place for what an operator must do: the sink's status reports that, once.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == PARTITION_COUNT {
            self.request_check();
        }
        tracing::debug!(sink = self.sink.as_str(), "librdkafka: {facility}: {message}");
    }

    /// Called twice for each error, because the crate passes an event of this kind on in two places.
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        match code {
            // This client has ended. The polling thread finds that out by itself, because the code reports it
            // only sometimes.
            Code::Fatal | Code::GaplessGuarantee | Code::Inconsistent => {}
            Code::AllBrokersDown => {
                self.in_flight.set_all_down();
                self.request_check();
            }
            code => {
                self.in_flight.set_failure(code, reason);
                self.request_check();
            }
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        if let Some(delay) = throttle::delay(statistics)
            && self.in_flight.set_throttled(delay)
        {
            tracing::warn!(sink = self.sink.as_str(), "{}", throttle::text(&self.names));
        }
    }
}
