//! Defines the settings of a Kafka sink, once they are checked.

use std::num::NonZeroU32;

use super::client::ClientSettings;
use super::config::{KafkaTlsConfig, Mechanism};

/// The checked settings of one Kafka sink.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// The topic.
    pub(super) topic: String,
    /// `event.partitions`: the topic must have so many.
    pub(super) partitions: Option<NonZeroU32>,
    /// What librdkafka is told.
    pub(super) client: ClientSettings,
    /// How the bridge logs in.
    pub(super) mechanism: Mechanism,
    /// As whom.
    pub(super) user: String,
    /// Encryption.
    pub(super) tls: KafkaTlsConfig,
}

impl KafkaSettings {
    /// For people, and to tell two sinks with the same destination: whatever the order of the brokers.
    pub(super) fn place(&self) -> String {
        let mut brokers: Vec<&str> = self.client.brokers().split(',').collect();
        brokers.sort_unstable();
        brokers.dedup();
        format!("the Kafka topic {} of {}", self.topic, brokers.join(","))
    }
}
