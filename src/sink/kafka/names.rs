//! Holds the names that messages use.

use std::sync::Arc;

use crate::sink::SinkContext;

/// The topic, the user, and the full keys of the sink's options.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) topic: String,
    context: Arc<SinkContext>,
    /// The user name or client id of the login.
    pub(super) user: String,
}

impl Names {
    pub(super) fn new(context: &Arc<SinkContext>, topic: &str, user: &str) -> Self {
        Self { topic: topic.to_owned(), context: Arc::clone(context), user: user.to_owned() }
    }

    /// Returns the full key of an option, such as `sinks.kafka.tls.enabled`.
    pub(super) fn option(&self, key: &str) -> String {
        self.context.option(key)
    }

    /// The name of the queue.
    pub(super) fn queue(&self) -> &str {
        &self.context.queue
    }

    /// The name of the consumer group with the low-water marks.
    pub(super) fn group(&self) -> String {
        self.context.writer()
    }

    /// The transactional id. It has the topic, and not the sink's name, because it must be the same
    /// in every bridge that writes this queue into this topic, and another one elsewhere. It begins with the
    /// queue, so that one rule with a prefix allows those of all topics.
    pub(super) fn transactional_id(&self) -> String {
        format!("{}.{}", self.context.writer(), self.topic)
    }

    /// Names of a sink in a test, for the topic `topic`.
    #[cfg(test)]
    pub(super) fn of(topic: &str) -> Self {
        let context = SinkContext { table: "sinks.kafka".to_owned(), ..SinkContext::default() };
        Self::new(&Arc::new(context), topic, "bridge")
    }
}
