//! What librdkafka calls: delivery reports, errors and its log, on the thread that polls it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::judge::{self, Judgement, judge};
use super::memory::Memory;
use super::outbox::Outbox;
use crate::sink::{DeliveryId, SinkError, SinkErrorKind, Verdict};

/// How librdkafka's log says that the number of partitions has changed.
const PARTITION_COUNT: &str = "PARTCNT";
/// How it says that a property is experimental, at each start; ours are chosen, and tested.
const PROPERTY_WARNING: &str = "CONFWARN";

/// The ears of one client.
pub(super) struct Context {
    pub(super) sink: String,
    pub(super) topic: String,
    /// The largest batch of this client.
    pub(super) batch_bytes: usize,
    pub(super) outbox: Arc<Outbox>,
    pub(super) memory: Memory,
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
        match judge(code, bytes, self.batch_bytes, &self.topic) {
            Judgement::Durable => Verdict::Durable,
            Judgement::Reject(rejection) => Verdict::Reject(rejection),
            Judgement::Swept => Verdict::Retry(self.outbox.swept()),
            Judgement::Retry(error) => self.fail(error),
            Judgement::BatchTooLarge => {
                let batch_bytes = self.memory.shrink_batches(self.batch_bytes);
                self.fail(SinkError::unavailable(format!(
                    "a batch was too large for the topic {}: going on with batches of {batch_bytes} bytes",
                    self.topic
                )))
            }
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
        self.outbox.report(DeliveryId(id as u64), bytes, self.verdict(code, bytes));
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == PARTITION_COUNT {
            self.look_now();
        }
        let sink = self.sink.as_str();
        match level {
            _ if facility == PROPERTY_WARNING => tracing::debug!(sink, "librdkafka: {facility}: {message}"),
            // Nothing that an operator must act on is said here only: the state of the sink has it.
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(sink, "librdkafka: {facility}: {message}"),
            RDKafkaLogLevel::Notice => tracing::info!(sink, "librdkafka: {facility}: {message}"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(sink, "librdkafka: {facility}: {message}");
            }
        }
    }

    /// Comes twice for each error: the crate hands an event of this kind over in two places.
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        match code {
            // The end of this client, which the thread that polls finds out for itself: the code says it
            // only sometimes.
            Code::Fatal | Code::GaplessGuarantee | Code::Inconsistent => {}
            Code::AllBrokersDown => {
                // The reason of a refused login comes first and says more.
                let is_known = |known: SinkError| known.kind == SinkErrorKind::Misconfigured;
                if !self.outbox.trouble().is_some_and(is_known) {
                    self.outbox.set_trouble(Some(judge::no_answer(self.outbox.reason().as_deref(), reason)));
                }
                self.look_now();
            }
            Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => {
                self.outbox.set_reason(reason);
                self.look_now();
            }
            code => {
                let error = judge::trouble(code, &self.topic);
                let text = format!("{error}: {reason}");
                self.outbox.set_trouble(Some(match error.kind {
                    SinkErrorKind::Misconfigured => SinkError::misconfigured(text),
                    SinkErrorKind::Unavailable => SinkError::unavailable(text),
                }));
            }
        }
    }

    fn stats(&self, _: Statistics) {}
}
