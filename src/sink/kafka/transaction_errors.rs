//! Words the errors of transactions.

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::classify;
use super::client::{COMMIT_WITHIN, READABLE_WITHIN};
use super::names::Names;
use crate::sink::{SinkError, SinkErrorKind};

/// The transaction has a record that was refused, or its connection has ended.
pub(super) fn given_up(names: &Names) -> SinkError {
    SinkError::unavailable(format!(
        "a transaction was given up; going on behind what the topic {} has",
        names.topic
    ))
}

/// The transaction was not committed before the brokers would end it.
pub(super) fn not_committed(names: &Names) -> SinkError {
    SinkError::unavailable(format!(
        "the brokers did not accept all records of a transaction within {} s; going on behind what the topic {} has",
        COMMIT_WITHIN.as_secs(),
        names.topic
    ))
}

/// A transaction that was committed is still open in these partitions.
pub(super) fn hidden(partitions: &[i32], names: &Names) -> SinkError {
    SinkError::unavailable(format!(
        "a transaction was committed {} s ago, but readers of the topic {} do not see it in the partitions \
         {partitions:?}: another producer's transaction is open there, or Kafka has not marked this one \
         (KAFKA-20734); going on behind what the topic has",
        READABLE_WITHIN.as_secs(),
        names.topic
    ))
}

/// The brokers do not say whether readers see a transaction that was committed.
pub(super) fn not_seen(error: &KafkaError, names: &Names) -> SinkError {
    SinkError::unavailable(format!(
        "a transaction was committed {} s ago, but the brokers do not say whether readers of the topic {} see it; \
         going on behind what the topic has: {error}",
        READABLE_WITHIN.as_secs(),
        names.topic
    ))
}

/// A call for a transaction has failed.
pub(super) fn failed(code: Code, error: &KafkaError, names: &Names) -> SinkError {
    match classify::classify_error(code, names) {
        error if error.is_fenced() || error.kind == SinkErrorKind::Misconfigured => error,
        _ => SinkError::unavailable(format!("a transaction failed, a new Kafka client follows: {error}")),
    }
}
