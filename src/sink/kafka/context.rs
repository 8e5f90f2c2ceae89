//! What librdkafka calls: delivery reports, errors and its log, on the thread that polls it.

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
use super::in_flight::KafkaInFlight;
use super::names::Names;
use super::reconnect_state::ReconnectState;
use super::throttle;
use crate::sink::{DeliveryId, SinkError, Verdict};

/// How librdkafka's log says that the number of partitions has changed.
const PARTITION_COUNT: &str = "PARTCNT";

/// A client of librdkafka.
pub(super) type Client = BaseProducer<Context>;

/// The ears of one client.
pub(super) struct Context {
    pub(super) sink: String,
    pub(super) names: Names,
    /// The largest batch of this client.
    pub(super) batch_bytes: usize,
    pub(super) outbox: Arc<KafkaInFlight>,
    pub(super) memory: ReconnectState,
    /// Asks for a look at the topic.
    pub(super) look: SyncSender<()>,
    /// How many reports this client has given.
    pub(super) reports: AtomicU64,
}

impl Context {
    /// A look that is due already is as good as this one.
    fn look_now(&self) {
        let _due = self.look.try_send(());
    }

    fn verdict(&self, code: Option<Code>, bytes: usize) -> Verdict {
        match classify_delivery(code, bytes, self.batch_bytes, &self.names) {
            DeliveryOutcome::Durable => {
                self.memory.accepted();
                Verdict::Durable
            }
            DeliveryOutcome::Reject(rejection) => Verdict::Reject(rejection),
            DeliveryOutcome::Refused => self.refused(),
            DeliveryOutcome::Swept => Verdict::Retry(self.outbox.collateral_failure()),
            DeliveryOutcome::Retry(error) => self.fail(error),
            DeliveryOutcome::BatchTooLarge => {
                let batch_bytes = self.memory.shrink_batches(self.batch_bytes);
                self.fail(SinkError::unavailable(format!(
                    "a batch was too large for the topic {}: going on with batches of {batch_bytes} bytes",
                    self.names.topic
                )))
            }
        }
    }

    fn refused(&self) -> Verdict {
        match self.memory.refused() {
            RefusalScope::ThisOne => Verdict::Reject(classify::invalid(&self.names)),
            RefusalScope::Alone | RefusalScope::NotOnlyOne => self.fail(classify::refused_alone(&self.names)),
            RefusalScope::OneOfSeveral => self.fail(classify::refused_with_others(&self.names)),
        }
    }

    /// After a failure of its own nothing more may be taken: it could overtake what failed (I3).
    fn fail(&self, error: SinkError) -> Verdict {
        self.outbox.end_since(error.clone());
        Verdict::Retry(error)
    }
}

impl ProducerContext for Context {
    /// The number of the delivery: no allocation.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, id: usize) {
        let (message, code) = match result {
            Ok(message) => (message, None),
            Err((error, message)) => (message, Some(error.rdkafka_error_code().unwrap_or(Code::Unknown))),
        };
        self.reports.fetch_add(1, Ordering::Relaxed);
        let bytes = message.payload().map_or(0, <[u8]>::len) + message.key().map_or(0, <[u8]>::len);
        let verdict = self.verdict(code, bytes);
        // What was kept back for this verdict goes back to the lane, and comes first again.
        for (held, size) in self.memory.let_go() {
            let error = self.outbox.ending().unwrap_or_else(|| classify::offered_once_more(&self.names));
            self.outbox.report(held, size, Verdict::Retry(error));
        }
        self.outbox.report(DeliveryId(id as u64), bytes, verdict);
    }
}

impl ClientContext for Context {
    /// Nothing that an operator must act on is said here only: the state of the sink has it, once.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == PARTITION_COUNT {
            self.look_now();
        }
        tracing::debug!(sink = self.sink.as_str(), "librdkafka: {facility}: {message}");
    }

    /// Comes twice for each error: the crate hands an event of this kind over in two places.
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        match code {
            // The end of this client, which the thread that polls finds out for itself: the code says it
            // only sometimes.
            Code::Fatal | Code::GaplessGuarantee | Code::Inconsistent => {}
            Code::AllBrokersDown => {
                self.outbox.set_all_down();
                self.look_now();
            }
            code => {
                self.outbox.set_failure(code, reason);
                self.look_now();
            }
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        if let Some(delay) = throttle::delay(statistics)
            && self.outbox.set_throttled(delay)
        {
            tracing::warn!(sink = self.sink.as_str(), "{}", throttle::text(&self.names));
        }
    }
}
