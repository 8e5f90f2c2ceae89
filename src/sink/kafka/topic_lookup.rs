//! Looks up the topic: whether it exists, and whether the leaders of its partitions can be reached. A record
//! goes to the leader of its partition, at the address that this broker advertises, whichever broker was
//! asked before.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::metadata::{Metadata, MetadataBroker, MetadataPartition, MetadataTopic};
use rdkafka::producer::Producer;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::classify;
use super::delivery_reports::KafkaClient;
use super::names::Names;
use super::topic::{Leader, Topic};
use crate::display::one_line;
use crate::finding::codes;
use crate::sink::SinkError;

/// Why a lookup gave no usable topic.
pub(super) enum TopicLookupError {
    /// The brokers answered that something is wrong.
    Wrong(SinkError),
    /// No broker answered in time; holds librdkafka's error.
    NoAnswer(KafkaError),
}

/// Asks the brokers for the topic. Never creates it.
pub(super) fn lookup(
    client: &KafkaClient,
    names: &Names,
    pinned: Option<NonZeroU32>,
    within: Duration,
) -> Result<Topic, TopicLookupError> {
    let asked = Instant::now();
    let metadata =
        client.client().fetch_metadata(Some(&names.topic), within).map_err(TopicLookupError::NoAnswer)?;
    let round_trip = asked.elapsed();
    if metadata.brokers().is_empty() {
        // librdkafka now has no brokers left either (`broker_refresh.rs`).
        return Err(TopicLookupError::NoAnswer(KafkaError::MetadataFetch(Code::BrokerNotAvailable)));
    }
    let missing = || TopicLookupError::Wrong(classify::classify_error(Code::UnknownTopic, names));
    let topic = metadata.topics().first().ok_or_else(missing)?;
    if let Some(code) = topic.error() {
        return Err(TopicLookupError::Wrong(classify::classify_error(code.into(), names)));
    }
    let partitions =
        u32::try_from(topic.partitions().len()).ok().and_then(NonZeroU32::new).ok_or_else(missing)?;
    match pinned {
        Some(pinned) if pinned != partitions => {
            let message = format!(
                "the topic {} has {partitions} partitions, but event.partitions is {pinned}: make them the same",
                names.topic
            );
            let error = SinkError::misconfigured(message).coded(codes::KAFKA_PARTITIONS_DIFFER);
            Err(TopicLookupError::Wrong(error))
        }
        _ => Ok(described(&metadata, topic, partitions, round_trip)),
    }
}

fn described(
    metadata: &Metadata,
    topic: &MetadataTopic,
    partitions: NonZeroU32,
    round_trip: Duration,
) -> Topic {
    let address =
        |broker: &MetadataBroker| one_line(&format!("{}:{}", broker.host(), broker.port())).into_owned();
    let mut leaders = BTreeMap::new();
    let mut leaderless = None;
    for partition in topic.partitions() {
        let broker = metadata.brokers().iter().find(|broker| broker.id() == partition.leader());
        match broker {
            Some(broker) => {
                leaders.entry(broker.id()).or_insert_with(|| Leader {
                    id: broker.id(),
                    address: address(broker),
                    partition: partition.id(),
                });
            }
            None => leaderless = leaderless.or(Some(partition.id())),
        }
    }
    let follows = |broker: &&MetadataBroker| {
        let holds = |partition: &MetadataPartition| partition.replicas().contains(&broker.id());
        !leaders.contains_key(&broker.id()) && topic.partitions().iter().any(holds)
    };
    let brokers = metadata.brokers();
    let followers = brokers.iter().filter(follows).map(|broker| (broker.id(), address(broker))).collect();
    let in_sync = topic.partitions().iter().map(|partition| (partition.isr().len(), partition.id())).min();
    Topic {
        partitions,
        followers,
        in_sync: in_sync.unwrap_or_default(),
        advertised: brokers.iter().map(address).collect(),
        replicas: topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
        brokers: brokers.len(),
        round_trip,
        leaders: leaders.into_values().collect(),
        leaderless,
        may_read: None,
    }
}

/// Whether the leader answers on a connection of this client. The content of the answer does not matter.
pub(super) fn reaches(client: &KafkaClient, names: &Names, leader: &Leader, within: Duration) -> bool {
    let asked = client.client().fetch_watermarks(&names.topic, leader.partition, within);
    let Err(error) = asked else { return true };
    // Codes of librdkafka itself mean that no answer came back. A code for a broker that no longer leads
    // means that the leader was not asked.
    let silent = [
        Code::OperationTimedOut,
        Code::TimedOutQueue,
        Code::BrokerTransportFailure,
        Code::AllBrokersDown,
        Code::Resolve,
        Code::SSL,
        Code::Authentication,
        Code::NodeUpdate,
        Code::Fail,
        Code::LeaderNotAvailable,
        Code::BrokerNotAvailable,
    ];
    !error.rdkafka_error_code().is_some_and(|code| silent.contains(&code))
}
