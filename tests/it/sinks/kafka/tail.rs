//! Tests that the sink does not write again what the topic holds from before a crash.

use super::{config, noisy_body, numbers, sink};
use crate::sinks::contract::{Rig, context};
use atdata_bridge::sink::SinkContext;
use kit::kafka::{Kafka, Listener, on_kafka, shared};
use kit::{SOON, wait_until};

on_kafka!(
    events_from_before_a_crash_are_not_written_again,
    a_claim_waits_for_partitions_without_leader,
    events_of_another_queue_do_not_count,
    without_the_right_to_read_events_are_written_again,
    a_check_warns_of_doubles_only_without_the_right_to_read,
    the_order_is_kept_when_only_some_events_were_written,
    a_tail_larger_than_the_clients_queue_is_read_to_its_end,
);

/// Writes events up to `to` with a bridge that ends before it acknowledges one.
async fn crash_after(kafka: &Kafka, topic: &str, to: u64) {
    let mut rig = Rig::start(sink(config(kafka, Listener::Plain, topic), None), 0).await;
    rig.send_to(to).await;
    // Nothing is in flight any more, so nothing is written late.
    rig.wait_for_ack(to).await;
    rig.abandon().await;
}

/// Delivers all events up to `to` again, and returns how many were not written since the topic has them.
async fn deliver_again(rig: &mut Rig, to: u64) -> u64 {
    rig.send_to(to).await;
    rig.wait_for_ack(to).await;
    rig.counters.workers.get("subject").suppressed.get()
}

async fn events_from_before_a_crash_are_not_written_again() {
    let kafka = shared();
    kafka.create_topic("tail", 5, &[]);
    crash_after(kafka, "tail", 300).await;
    let mut rig = Rig::start(sink(config(kafka, Listener::Plain, "tail"), None), 0).await;
    assert_eq!(deliver_again(&mut rig, 500).await, 300);
    assert_eq!(numbers(kafka, "tail"), (1..=500).collect::<Vec<_>>());
    let counters = rig.counters.workers.get("subject");
    let claiming = counters.claiming.snapshot();
    assert_eq!((claiming.count, counters.claimed.get(), counters.claims_failed.get()), (1, 300, 0));
    assert!(claiming.sum > 0.1, "a claim reads for 200 ms at least: {claiming:?}");
    rig.drain().await;
}

/// The bridge and a node of Kafka end at the same time, and the bridge is back first.
async fn a_claim_waits_for_partitions_without_leader() {
    let (kafka, topic) = (&Kafka::start(), "tail-without-leader");
    let second = &kafka.start_second();
    kafka.create_topic(topic, 6, &[]);
    crash_after(kafka, topic, 300).await;
    tokio::task::block_in_place(|| second.kill());
    let is_led = || kafka.partitions(topic) == Some(6);
    wait_until("the partitions of the dead node have no leader", SOON, || !is_led()).await;
    let mut rig = Rig::start(sink(config(kafka, Listener::Plain, topic), None), 0).await;
    rig.send_to(500).await;
    let counters = rig.counters.workers.get("subject");
    wait_until("claims have failed", SOON, || counters.claims_failed.get() >= 4).await;
    tokio::task::block_in_place(|| second.restart());
    assert_eq!(deliver_again(&mut rig, 500).await, 300);
    assert_eq!(numbers(kafka, topic), (1..=500).collect::<Vec<_>>());
    rig.drain().await;
}

/// Copies of an event for other destination ids have the same message id, and may share a topic.
async fn events_of_another_queue_do_not_count() {
    let kafka = shared();
    kafka.create_topic("tail-of-two", 5, &[]);
    crash_after(kafka, "tail-of-two", 100).await;
    let other = SinkContext { queue: "other.RTO.acme".to_owned(), ..context() };
    let sink = super::sink_in(config(kafka, Listener::Plain, "tail-of-two"), other);
    let mut rig = Rig::start(sink, 0).await;
    assert_eq!(deliver_again(&mut rig, 100).await, 0);
    assert_eq!(numbers(kafka, "tail-of-two").len(), 200);
    rig.drain().await;
}

async fn without_the_right_to_read_events_are_written_again() {
    let kafka = shared();
    kafka.create_topic("tail-unread", 5, &[]);
    crash_after(kafka, "tail-unread", 100).await;
    kafka.allow("User:*", "WRITE", "tail-unread");
    let mut rig = Rig::start(sink(config(kafka, Listener::Plain, "tail-unread"), None), 0).await;
    assert_eq!(deliver_again(&mut rig, 100).await, 0);
    kafka.forget_rules("tail-unread");
    wait_until("both copies can be read", SOON, || numbers(kafka, "tail-unread").len() == 200).await;
    rig.drain().await;
}

async fn a_check_warns_of_doubles_only_without_the_right_to_read() {
    let (kafka, topic) = (shared(), "tail-checked");
    kafka.create_topic(topic, 5, &[]);
    let warned = async || {
        let lines = sink(config(kafka, Listener::Plain, topic), None).probe().await.expect("it may write");
        lines.iter().any(|line| {
            line.to_string().starts_with("warning: events can come twice into the topic tail-checked")
        })
    };
    assert!(!warned().await, "everybody may do everything");
    kafka.allow("User:*", "WRITE", topic);
    assert!(warned().await);
    kafka.allow("User:*", "READ", topic);
    assert!(!warned().await);
}

/// The bridge goes on behind what is written, in the order of the broker.
async fn the_order_is_kept_when_only_some_events_were_written() {
    let kafka = shared();
    kafka.create_topic("tail-in-part", 1, &[]);
    let mut rig = Rig::start(sink(config(kafka, Listener::Plain, "tail-in-part"), None), 0).await;
    rig.send_to(150).await;
    rig.wait_for_ack(150).await;
    rig.abandon().await;
    let mut rig = Rig::start(sink(config(kafka, Listener::Plain, "tail-in-part"), None), 50).await;
    assert_eq!(deliver_again(&mut rig, 400).await, 100);
    assert_eq!(super::stored(kafka, "tail-in-part"), (1..=400).collect::<Vec<_>>());
    rig.drain().await;
}

/// The newest records come last, behind several times as many bytes as the client may queue.
async fn a_tail_larger_than_the_clients_queue_is_read_to_its_end() {
    const EVENTS: u64 = 8000;
    let kafka = shared();
    kafka.create_topic("tail-large", 2, &[]);
    let mut rig = Rig::start(sink(config(kafka, Listener::Plain, "tail-large"), None), 0).await;
    for first in (1..=EVENTS).step_by(500) {
        rig.send_bodies((first..first + 500).map(|number| noisy_body(number, number, 4000))).await;
        rig.wait_for_ack(first + 499).await;
    }
    rig.abandon().await;
    let mut rig = Rig::start(sink(config(kafka, Listener::Plain, "tail-large"), None), EVENTS / 2).await;
    assert_eq!(deliver_again(&mut rig, EVENTS).await, EVENTS / 2);
    rig.drain().await;
}
