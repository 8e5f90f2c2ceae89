//! Tests topics that are missing, removed, made again differently, not writable, or too small for a record.

use atdata_bridge::sink::kafka::config::KafkaProperties;

use super::{config, holds, key_of, noisy_body, numbers, sink};
use crate::sinks::contract::Rig;
use kit::kafka::{Listener, on_kafka, shared};
use kit::kafka_reader::contents;
use kit::{SOON, wait_until};

on_kafka!(
    a_missing_topic_holds_the_sink_until_it_exists,
    a_topic_with_the_wrong_number_of_partitions_holds_the_sink_until_it_is_right,
    new_partitions_of_a_topic_are_used,
    the_partitions_of_a_topic_made_again_are_used,
    a_read_only_topic_holds_the_sink_and_loses_and_duplicates_nothing,
    only_records_that_the_broker_finds_too_large_are_rejected,
    batches_that_are_too_large_are_made_smaller,
);

fn is_ready(rig: &Rig) -> bool {
    rig.states.all().iter().all(|(_, state, _)| state.is_ready())
}

async fn a_missing_topic_holds_the_sink_until_it_exists() {
    let kafka = shared();
    let mut rig = Rig::start(sink(config(kafka, Listener::Plain, "missing"), Some(4)), 0).await;
    rig.send_to(100).await;
    holds(&rig, "the topic missing does not exist: create it").await;
    assert_eq!(kafka.partitions("missing"), None, "made by accident");
    assert_eq!(rig.acked(), 0);
    kafka.create_topic("missing", 4, &[]);
    rig.wait_for_ack(100).await;
    assert_eq!(numbers(kafka, "missing"), (1..=100).collect::<Vec<_>>());
    rig.drain().await;
}

async fn a_topic_with_the_wrong_number_of_partitions_holds_the_sink_until_it_is_right() {
    let kafka = shared();
    kafka.create_topic("recreated", 4, &[]);
    let mut rig = Rig::start(sink(config(kafka, Listener::Plain, "recreated"), Some(4)), 0).await;
    rig.send_to(100).await;
    rig.wait_for_ack(100).await;
    // The sink notices it without any events.
    kafka.delete_topic("recreated");
    kafka.create_topic("recreated", 3, &[]);
    holds(&rig, "has 3 partitions").await;
    rig.send_to(200).await;
    kafka.delete_topic("recreated");
    kafka.create_topic("recreated", 4, &[]);
    rig.wait_for_ack(200).await;
    assert_eq!(numbers(kafka, "recreated"), (101..=200).collect::<Vec<_>>());
    wait_until("the sink is ready", SOON, || is_ready(&rig)).await;
    rig.drain().await;
}

/// Checks that every record is in the partition of its key, of `partitions`.
fn assert_partitions(topic: &str, partitions: u32) {
    let records = tokio::task::block_in_place(|| contents(&shared().bootstrap(), topic));
    for record in records {
        let key = key_of(&record.value.unwrap());
        assert_eq!(record.partition, key.partition(partitions.try_into().unwrap()));
    }
}

async fn new_partitions_of_a_topic_are_used() {
    let kafka = shared();
    kafka.create_topic("growing", 2, &[]);
    let mut config = config(kafka, Listener::Plain, "growing");
    // The client sees new partitions when it asks for metadata, by default every five minutes.
    config.properties = KafkaProperties::new([("topic.metadata.refresh.interval.ms", "500")]);
    let mut rig = Rig::start(sink(config, None), 0).await;
    rig.send_to(100).await;
    rig.wait_for_ack(100).await;
    assert_partitions("growing", 2);
    kafka.grow_topic("growing", 5);
    // Twenty events at a time, until records are in the new partitions.
    let mut sent = 100;
    while tokio::task::block_in_place(|| contents(&kafka.bootstrap(), "growing"))
        .iter()
        .all(|it| it.partition < 2)
    {
        sent += 20;
        rig.send_to(sent).await;
        rig.wait_for_ack(sent).await;
    }
    assert_eq!(numbers(kafka, "growing"), (1..=sent).collect::<Vec<_>>());
    rig.drain().await;
}

async fn the_partitions_of_a_topic_made_again_are_used() {
    let kafka = shared();
    kafka.create_topic("anew", 6, &[]);
    let mut rig = Rig::start(sink(config(kafka, Listener::Plain, "anew"), None), 0).await;
    rig.send_to(100).await;
    rig.wait_for_ack(100).await;
    kafka.delete_topic("anew");
    rig.send_to(200).await;
    holds(&rig, "does not exist").await;
    kafka.create_topic("anew", 4, &[]);
    rig.wait_for_ack(200).await;
    assert_eq!(numbers(kafka, "anew"), (101..=200).collect::<Vec<_>>());
    assert_partitions("anew", 4);
    rig.drain().await;
}

async fn a_read_only_topic_holds_the_sink_and_loses_and_duplicates_nothing() {
    let kafka = shared();
    kafka.create_topic("read-only", 3, &[]);
    let mut rig = Rig::start(sink(config(kafka, Listener::Plain, "read-only"), None), 0).await;
    rig.send_to(500).await;
    rig.wait_for_ack(500).await;
    kafka.make_read_only("read-only");
    rig.send_to(1000).await;
    holds(&rig, "not allowed to write to the topic read-only").await;
    assert!(rig.acked() < 1000);
    kafka.forget_rules("read-only");
    rig.wait_for_ack(1000).await;
    assert_eq!(numbers(kafka, "read-only"), (1..=1000).collect::<Vec<_>>());
    wait_until("the sink is ready", SOON, || is_ready(&rig)).await;
    rig.drain().await;
}

fn body(number: u64, bytes: usize) -> String {
    noisy_body(number % 7, number, bytes)
}

async fn only_records_that_the_broker_finds_too_large_are_rejected() {
    let kafka = shared();
    kafka.create_topic("limited", 2, &["max.message.bytes=20000"]);
    let mut rig = Rig::start(sink(config(kafka, Listener::Plain, "limited"), None), 0).await;
    for number in 1..=60 {
        rig.send_body(body(number, if number % 20 == 7 { 30_000 } else { 100 })).await;
    }
    rig.wait_for_ack(60).await;
    let expected: Vec<_> = (1..=60).filter(|number| number % 20 != 7).collect();
    assert_eq!(numbers(kafka, "limited"), expected);
    let letters = std::mem::take(&mut *rig.letters.0.lock().unwrap());
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| letter.rejection.reason == "too_large"), "{letters:?}");
    rig.drain().await;
}

async fn batches_that_are_too_large_are_made_smaller() {
    let kafka = shared();
    kafka.create_topic("small-batches", 1, &["max.message.bytes=20000"]);
    let mut rig = Rig::start(sink(config(kafka, Listener::Plain, "small-batches"), None), 0).await;
    for number in 1..=200 {
        rig.send_body(body(number, 1000)).await;
    }
    rig.wait_for_ack(200).await;
    assert_eq!(numbers(kafka, "small-batches"), (1..=200).collect::<Vec<_>>());
    assert!(rig.letters.0.lock().unwrap().is_empty());
    rig.drain().await;
}
