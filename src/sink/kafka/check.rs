//! Writes the lines that the verb `check` shows about the topic.

use super::classify;
use super::names::Names;
use super::settings::KafkaSettings;
use super::topic::Topic;
use super::topic_settings::TopicSettings;

/// Returns lines about a topic that was found, its warnings last.
pub(super) fn lines(
    settings: &KafkaSettings,
    names: &Names,
    topic: &Topic,
    topic_settings: &TopicSettings,
    max_body: usize,
) -> Vec<String> {
    let Topic { partitions, brokers, round_trip, .. } = topic;
    let mut lines = vec![format!(
        "{}: found, with {partitions} partitions, on a cluster of {brokers} brokers, {} ms away and back",
        settings.place(),
        round_trip.as_millis()
    )];
    let sent = settings.client.record_bytes();
    if sent < max_body {
        lines.push(format!(
            "events of more than {sent} bytes become dead letters: raise {} and max.message.bytes of the topic for \
             more",
            names.option("properties.\"message.max.bytes\"")
        ));
    }
    let mut warnings = topic_settings.warnings(topic, names, sent, max_body);
    if topic.may_read == Some(false) {
        warnings.push(classify::not_allowed_to_read(names));
    }
    lines.extend(warnings.into_iter().map(|warning| format!("warning: {warning}")));
    lines
}
