//! How texts for people name what they speak of.

use std::sync::Arc;

use crate::sink::SinkContext;

/// The topic, the user, and the full keys of the sink's options.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// The topic.
    pub(super) topic: String,
    context: Arc<SinkContext>,
    /// Who logs in: a user name or client id.
    pub(super) user: String,
}

impl Names {
    pub(super) fn new(context: &Arc<SinkContext>, topic: &str, user: &str) -> Self {
        Self { topic: topic.to_owned(), context: Arc::clone(context), user: user.to_owned() }
    }

    /// The full key of an option: `sinks.kafka.tls.enabled`.
    pub(super) fn option(&self, key: &str) -> String {
        self.context.option(key)
    }

    /// For tests.
    #[cfg(test)]
    pub(super) fn of(topic: &str) -> Self {
        let context = SinkContext { table: "sinks.kafka".to_owned(), ..SinkContext::default() };
        Self::new(&Arc::new(context), topic, "bridge")
    }
}
