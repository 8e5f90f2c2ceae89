//! Finds out whether readers of committed records see what a transaction wrote.
//!
//! The brokers answer a commit when it is decided, and mark it in each partition afterwards (KIP-98). Kafka 4.3 and
//! 4.4 leave out a partition that has no leader at this moment (KAFKA-20734). Its records stay in an open
//! transaction, and the next abort with the same transactional id discards them although they were committed. So a
//! record counts as durable when its transaction is no longer open.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;

use super::tail::Quiet;
use super::tail_end::TopicEnd;

/// The properties of the consumer. It gets no partitions and joins no group.
const PROPERTIES: [(&str, &str); 3] =
    [("enable.auto.commit", "false"), ("isolation.level", "read_committed"), ("statistics.interval.ms", "0")];

/// A reader of committed records, for all transactions of one connection.
pub(super) struct Visibility {
    consumer: BaseConsumer<Quiet>,
    topic: String,
}

impl Visibility {
    /// Makes the reader, which connects when it is first used.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub(super) fn new(mut config: ClientConfig, topic: &str) -> KafkaResult<Self> {
        for (name, value) in PROPERTIES {
            config.set(name, value);
        }
        Ok(Self { consumer: config.create_with_context(Quiet)?, topic: topic.to_owned() })
    }

    /// Finds the leaders of the partitions, so that the first answer of [`short_of`](Self::short_of) is quick.
    ///
    /// # Errors
    /// The brokers did not answer within `patience`.
    pub(super) fn find_leaders(&self, patience: Duration) -> KafkaResult<()> {
        self.consumer.fetch_metadata(Some(&self.topic), patience).map(drop)
    }

    /// Returns the partitions in which readers do not see everything before `end`. A transaction that was committed
    /// and not marked hides it, until it is marked or discarded.
    ///
    /// # Errors
    /// The leaders of the partitions did not answer within `patience`.
    pub(super) fn short_of(&self, end: &TopicEnd, patience: Duration) -> KafkaResult<Vec<i32>> {
        if end.places().is_empty() {
            return Ok(Vec::new());
        }
        let partitions = end.places().keys().copied();
        Ok(TopicEnd::ask(&self.consumer, &self.topic, partitions, patience)?.short_of(end))
    }

    /// Takes one of librdkafka's events, which would pile up otherwise.
    pub(super) fn poll(&self) {
        drop(self.consumer.poll(Duration::ZERO));
    }
}
