//! Defines the checked settings of a Kafka sink.

use std::num::NonZeroU32;
use std::time::Duration;

use super::client::ClientSettings;
use super::config::{KafkaTlsConfig, Mechanism};

/// The checked settings of one Kafka sink.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    pub(super) topic: String,
    /// `event.partitions`: the topic must have this number.
    pub(super) partitions: Option<NonZeroU32>,
    /// Whether records are written in transactions that another bridge can end.
    pub(super) exactly_once: bool,
    pub(super) client: ClientSettings,
    pub(super) mechanism: Mechanism,
    /// The user name or client id of the login.
    pub(super) user: String,
    pub(super) tls: KafkaTlsConfig,
    /// How long the sink waits for an answer that some clusters never give: on the permission to write, and on
    /// the topic's own settings. It goes on without that answer. By default
    /// [`OPTIONAL_ANSWER_WITHIN`](Self::OPTIONAL_ANSWER_WITHIN).
    pub optional_answer_within: Duration,
}

impl KafkaSettings {
    /// The brokers have answered for the topic before, and most answer these requests too.
    pub const OPTIONAL_ANSWER_WITHIN: Duration = Duration::from_secs(3);

    /// Names the destination for people, and to recognise two sinks with the same destination. The order of
    /// the brokers does not matter.
    pub(super) fn place(&self) -> String {
        let mut brokers: Vec<&str> = self.client.brokers().split(',').collect();
        brokers.sort_unstable();
        brokers.dedup();
        format!("the Kafka topic {} of {}", self.topic, brokers.join(","))
    }
}
