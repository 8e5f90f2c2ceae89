//! Tells the verb `check` about the topic, the brokers, and what the login may do.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::oneshot;

use super::classify;
use super::client::{ANSWER_WITHIN, make_transactional};
use super::client_threads::ClientThread;
use super::low_water_marks::{MarksRequest, is_group_refusal};
use super::names::Names;
use super::permissions;
use super::settings::KafkaSettings;
use super::tail::Quiet;
use super::topic::Topic;
use super::topic_settings::TopicSettings;
use crate::finding::{Finding, codes};
use crate::sink::SinkError;

/// What the transactional id of the check has behind that of the sink.
const OF_CHECK: &str = ".check";

/// Returns why the topic takes no event now, although it was found and may be written to.
pub(super) fn refusal(
    settings: &KafkaSettings,
    names: &Names,
    topic: &Topic,
    topic_settings: &TopicSettings,
) -> Option<SinkError> {
    // The sink must read what earlier bridges have written, to begin behind it.
    if settings.exactly_once && topic.may_read == Some(false) {
        return Some(permissions::may_not_read(names));
    }
    let (in_sync, partition) = topic.in_sync;
    let least = topic_settings.min_in_sync()?.min(topic.replicas);
    (in_sync < least).then(|| classify::too_few_in_sync(in_sync, least, partition, names))
}

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
    found.extend(not_known(names, topic, topic_settings));
    found.extend(topic_settings.warnings(topic, names, sent, max_body));
    found.extend(topic_settings.recompression(&names.topic, settings.client.compression()));
    found.extend(lagging(names, topic));
    if topic.may_read == Some(false) {
        found.push(Finding::warning(codes::KAFKA_READ_DENIED, classify::not_allowed_to_read(names)));
    }
    found
}

/// Tells what could not be checked.
fn not_known(names: &Names, topic: &Topic, topic_settings: &TopicSettings) -> Vec<Finding> {
    let name = &names.topic;
    let mut found = Vec::new();
    if !topic_settings.is_known {
        let message = format!(
            "not known whether the settings of the topic {name} lose events: the brokers do not tell them; give the \
             bridge DescribeConfigs on the topic to let check find out"
        );
        found.push(Finding::detail(codes::KAFKA_SETTINGS_NOT_KNOWN, message));
    }
    if topic.may_read.is_none() {
        let message = format!(
            "not known whether the bridge may write to the topic {name}: the brokers do not tell; the first event shows it"
        );
        found.push(Finding::detail(codes::KAFKA_RIGHTS_NOT_KNOWN, message));
    }
    found
}

/// Returns a warning if a replica is not in sync.
fn lagging(names: &Names, topic: &Topic) -> Option<Finding> {
    let (in_sync, partition) = topic.in_sync;
    let (name, replicas) = (&names.topic, topic.replicas);
    let message = || {
        format!(
            "partition {partition} of the topic {name} has {in_sync} of its {replicas} replicas in sync: one more failure \
             may lose events or stop the writing; see that every broker runs"
        )
    };
    (in_sync < replicas).then(|| Finding::warning(codes::KAFKA_REPLICA_AWAY, message()))
}

/// Fails if the login may not use the transactional ids of the sink. Asks in `thread`. It leaves nothing behind, and
/// does not end the transactions of a bridge that runs (D53): the brokers check the rights first, and then refuse the
/// time limit of this request.
pub(super) async fn try_transactions(
    thread: ClientThread,
    mut config: ClientConfig,
    names: &Names,
) -> Result<(), SinkError> {
    let (answer, asked) = oneshot::channel();
    let own_names = names.clone();
    let ask = move || {
        let mut denied = |id: &str| {
            make_transactional(&mut config, id);
            config.set("transaction.timeout.ms", i32::MAX.to_string());
            let tried = config.create::<BaseProducer>();
            denial(&tried.and_then(|client| client.init_transactions(ANSWER_WITHIN)).err()?, &own_names)
        };
        let id = own_names.transactional_id();
        // A rule may allow the id of the sink and no other.
        let refused = denied(&format!("{id}{OF_CHECK}")).and_then(|_| denied(&id));
        let _nobody_waits = answer.send(refused);
    };
    // Without an answer nothing is known to be wrong.
    let started = thread.start("check-transactions".to_owned(), ask);
    let refused = if started.is_ok() { asked.await.ok().flatten() } else { None };
    refused.map_or(Ok(()), Err)
}

fn denial(error: &KafkaError, names: &Names) -> Option<SinkError> {
    let KafkaError::Transaction(error) = error else { return None };
    let code = error.code();
    let is_denied =
        matches!(code, Code::TransactionalIdAuthorizationFailed | Code::ClusterAuthorizationFailed);
    is_denied.then(|| classify::classify_error(code, names))
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
