//! Tests the Kafka sink on a real Kafka: permissions, topics that disappear or change, records that are too
//! large. `sinks/contract` tests that the sink meets the contract during outages.

mod exactly_once;
mod first_request;
pub mod logins;
mod low_water;
mod mock_cluster;
mod no_broker_named;
pub mod partitions;
mod tail;
mod topics;

use atdata_bridge::diagnostics::Diagnostics;
use atdata_bridge::event::{Event, Headers, Message};
use atdata_bridge::key::Keying;
use atdata_bridge::sink::factory::{BuildContext, SinkKind};
use atdata_bridge::sink::kafka::KafkaKind;
use atdata_bridge::sink::kafka::config::{KafkaConfig, KafkaProperties};
use atdata_bridge::sink::{Sink, SinkContext};
use bytes::Bytes;

use crate::sinks::contract::Rig;
use kit::kafka::{Kafka, Listener};
use kit::kafka_reader::contents;
use kit::{SOON, wait_until};

/// Returns the smallest configuration of a sink that writes to `topic` through `listener`.
fn config(kafka: &Kafka, listener: Listener, topic: &str) -> KafkaConfig {
    KafkaConfig {
        brokers: Some(vec![kafka.addr(listener).to_string()]),
        topic: Some(topic.to_owned()),
        properties: KafkaProperties::new([("linger.ms", "1")]),
        ..KafkaConfig::default()
    }
}

/// Builds the sink of a bridge whose `event.partitions` is `partitions`.
fn sink(config: KafkaConfig, partitions: Option<u32>) -> Box<dyn Sink> {
    let partitions = partitions.map(|count| count.try_into().expect("some partitions"));
    sink_in(config, SinkContext { partitions, ..crate::sinks::contract::context() })
}

/// Builds the sink of a bridge with this context.
fn sink_in(config: KafkaConfig, context: SinkContext) -> Box<dyn Sink> {
    let partitions = context.partitions;
    let mut diagnostics = Diagnostics::default();
    let factory = KafkaKind::check(
        config,
        &BuildContext { partitions, prefetch: 4096, is_strict: true, is_for_dead_letters: false },
        &mut diagnostics,
    );
    factory.unwrap_or_else(|| panic!("{:?}", diagnostics.problems())).build(context)
}

/// Waits until the sink holds with a reason that contains `text`.
async fn holds(rig: &Rig, text: &str) {
    let held = || {
        let states = rig.states.all();
        states.iter().any(|(_, state, _)| {
            format!("{state:?}").starts_with("Held(") && format!("{state:?}").contains(text)
        })
    };
    wait_until(&format!("the sink holds: {text}"), SOON, held).await;
}

/// Returns the numbers of the events in the topic, in the order of each partition.
fn stored(kafka: &Kafka, topic: &str) -> Vec<u64> {
    let records = tokio::task::block_in_place(|| contents(&kafka.bootstrap(), topic));
    let number =
        |value: &[u8]| serde_json::from_slice::<serde_json::Value>(value).expect("JSON")["n"].as_u64();
    let numbers = records.iter().map(|record| number(record.value.as_deref().expect("a value")));
    numbers.map(|number| number.expect("a number")).collect()
}

/// Returns the numbers of the events in the topic, sorted.
fn numbers(kafka: &Kafka, topic: &str) -> Vec<u64> {
    let mut numbers = stored(kafka, topic);
    numbers.sort_unstable();
    numbers
}

/// Makes the body of an event with at least so many bytes. Random text does not compress, and the broker measures
/// the compressed batch.
fn noisy_body(key: u64, number: u64, bytes: usize) -> String {
    let noise: String = (0..bytes).map(|_| fastrand::alphanumeric()).collect();
    format!(r#"{{"md5":"{key:032x}","n":{number},"noise":"{noise}"}}"#)
}

/// Returns the key that the bridge finds in a body.
fn key_of(body: &[u8]) -> atdata_bridge::key::Key {
    let message = Message {
        id: Bytes::from_static(b"ID:1"),
        body: Bytes::copy_from_slice(body),
        timestamp: None,
        redelivered: false,
        headers: Headers::empty(),
        unreadable: None,
    };
    Event::new(message, &Keying::new(vec!["/md5".to_owned()], false)).key
}
