//! What `check` says of the topic.

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::client::ANSWER_WITHIN;
use super::config::KafkaSettings;
use super::distance::SHORTEST;
use super::opening::Topic;

/// Lines worth knowing; the topic was found.
pub(super) async fn lines(settings: &KafkaSettings, topic: &Topic) -> Vec<String> {
    let Topic { partitions, replicas, brokers, round_trip } = topic;
    let mut lines = vec![format!(
        "{}: found, with {partitions} partitions, on a cluster of {brokers} brokers, {} ms away and back",
        settings.place(),
        round_trip.as_millis()
    )];
    let least = in_sync(settings).await;
    if *replicas < 2 {
        lines.push(
            "warning: its partitions have one replica: events are as durable as one broker's disk".to_owned(),
        );
    } else if least == Some(1) {
        lines.push(
            "warning: min.insync.replicas of the topic is 1: an event may be on one broker only when it counts as \
             delivered"
                .to_owned(),
        );
    }
    lines
}

/// `min.insync.replicas` of the topic, where the bridge may know it.
async fn in_sync(settings: &KafkaSettings) -> Option<usize> {
    let config = settings.client.config("atdata-bridge-check", settings.client.batch_bytes(), SHORTEST);
    let admin: AdminClient<DefaultClientContext> = config.create().ok()?;
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
    let topic = ResourceSpecifier::Topic(&settings.topic);
    let asked = admin.describe_configs([&topic], &options);
    let answer = tokio::time::timeout(ANSWER_WITHIN, asked).await.ok()?.ok()?;
    let resource = answer.into_iter().next()?.ok()?;
    resource.get("min.insync.replicas")?.value.as_deref()?.parse().ok()
}
