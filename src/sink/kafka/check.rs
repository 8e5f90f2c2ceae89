//! Tells the verb `check` about the topic.

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
use crate::finding::{Finding, codes};

/// Returns what is known about a topic that was found, its warnings last.
pub(super) fn findings(
    settings: &KafkaSettings,
    names: &Names,
    topic: &Topic,
    topic_settings: &TopicSettings,
    max_body: usize,
    is_group_refused: bool,
) -> Vec<Finding> {
    let Topic { partitions, brokers, round_trip, .. } = topic;
    let message = format!(
        "{}: found, with {partitions} partitions, on a cluster of {brokers} brokers, {} ms away and back",
        settings.place(),
        round_trip.as_millis()
    );
    let mut found = vec![Finding::detail(codes::KAFKA_TOPIC, message)];
    let sent = settings.client.record_bytes();
    if sent < max_body {
        let message = format!(
            "events of more than {sent} bytes become dead letters: raise {} and max.message.bytes of the topic for \
             more",
            names.option("properties.\"message.max.bytes\"")
        );
        found.push(Finding::detail(codes::KAFKA_LARGE_EVENTS, message));
    }
    if is_group_refused {
        found.push(Finding::detail(codes::KAFKA_GROUP_DENIED, classify::marks_refused(names)));
    }
    if settings.exactly_once {
        let message = format!(
            "events are written in transactions: consumers must set isolation.level=read_committed, or they see \
             events that were given up (Java's default is read_uncommitted); {}",
            classify::transactional_rights(names)
        );
        found.push(Finding::detail(codes::KAFKA_TRANSACTIONS, message));
    }
    found.extend(topic_settings.warnings(topic, names, sent, max_body));
    if topic.may_read == Some(false) {
        found.push(Finding::warning(codes::KAFKA_READ_DENIED, classify::not_allowed_to_read(names)));
    }
    found
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
    config.set("group.id", names.group());
    let ask = move || {
        let Ok(consumer) = config.create_with_context::<_, BaseConsumer<Quiet>>(Quiet) else { return };
        let request = MarksRequest { topic: &topic, partitions: 1, within };
        let found = request.committed(&consumer, || answer.is_closed());
        let _nobody_waits = answer.send(found.is_err_and(|error| is_group_refusal(&error)));
    };
    // Without an answer nothing is known to be wrong.
    thread.start("check-group".to_owned(), ask).is_ok() && asked.await.unwrap_or(false)
}
