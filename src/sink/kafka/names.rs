//! How texts for people name what they speak of.

use crate::sink::SinkContext;

/// The topic, and the sink's table in the configuration.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// The topic.
    pub(super) topic: String,
    table: String,
    /// Who logs in: a user name or client id.
    pub(super) user: String,
}

impl Names {
    pub(super) fn new(context: &SinkContext, topic: &str, user: &str) -> Self {
        Self { topic: topic.to_owned(), table: context.table.clone(), user: user.to_owned() }
    }

    /// The full key of an option: `sinks.kafka.tls.enabled`.
    pub(super) fn option(&self, key: &str) -> String {
        format!("{}.{key}", self.table)
    }

    /// For tests.
    #[cfg(test)]
    pub(super) fn of(topic: &str) -> Self {
        Self { topic: topic.to_owned(), table: "sinks.kafka".to_owned(), user: "bridge".to_owned() }
    }
}
