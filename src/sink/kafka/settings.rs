//! Defines the checked settings of a Kafka sink.

use std::num::NonZeroU32;

use super::client::ClientSettings;
use super::config::{KafkaTlsConfig, Mechanism};

/// The checked settings of one Kafka sink.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    pub(super) topic: String,
    /// `event.partitions`: the topic must have this number.
    pub(super) partitions: Option<NonZeroU32>,
    /// The properties of librdkafka.
    pub(super) client: ClientSettings,
    pub(super) mechanism: Mechanism,
    /// The user name or client id of the login.
    pub(super) user: String,
    pub(super) tls: KafkaTlsConfig,
}

impl KafkaSettings {
    /// Names the destination for people, and to recognise two sinks with the same destination. The order of
    /// the brokers does not matter.
    pub(super) fn place(&self) -> String {
        let mut brokers: Vec<&str> = self.client.brokers().split(',').collect();
        brokers.sort_unstable();
        brokers.dedup();
        format!("the Kafka topic {} of {}", self.topic, brokers.join(","))
    }
}
