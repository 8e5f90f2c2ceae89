//! Writes the lines that the verb `check` shows about the topic.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use tokio::sync::oneshot;

use super::classify;
use super::client_threads::ClientThread;
use super::low_water_marks::{MarksRequest, is_group_refusal};
use super::names::Names;
use super::settings::KafkaSettings;
use super::tail::Quiet;
use super::topic::Topic;
use super::topic_settings::TopicSettings;

/// Returns lines about a topic that was found, its warnings last.
pub(super) fn lines(
    settings: &KafkaSettings,
    names: &Names,
    topic: &Topic,
    topic_settings: &TopicSettings,
    max_body: usize,
    is_group_refused: bool,
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
    if is_group_refused {
        lines.push(classify::marks_refused(names));
    }
    if settings.exactly_once {
        lines.push(format!(
            "events are written in transactions: consumers must set isolation.level=read_committed, or they see \
             events that were given up (Java's default is read_uncommitted); {}",
            classify::transactional_rights(names)
        ));
    }
    let mut warnings = topic_settings.warnings(topic, names, sent, max_body);
    if topic.may_read == Some(false) {
        warnings.push(classify::not_allowed_to_read(names));
    }
    lines.extend(warnings.into_iter().map(|warning| format!("warning: {warning}")));
    lines
}

/// Returns whether the brokers refuse to tell the low-water marks. Asks in `thread`, and writes nothing.
pub(super) async fn is_group_refused(
    thread: ClientThread,
    mut config: ClientConfig,
    names: &Names,
    within: Duration,
) -> bool {
    let (answer, asked) = oneshot::channel();
    let topic = names.topic.clone();
    config.set("group.id", names.queue());
    let ask = move || {
        let Ok(consumer) = config.create_with_context::<_, BaseConsumer<Quiet>>(Quiet) else { return };
        let request = MarksRequest { topic: &topic, partitions: 1, within };
        let found = request.committed(&consumer, || answer.is_closed());
        let _nobody_waits = answer.send(found.is_err_and(|error| is_group_refusal(&error)));
    };
    // Without an answer nothing is known to be wrong.
    thread.start("check-group".to_owned(), ask).is_ok() && asked.await.unwrap_or(false)
}
