//! Tests a Kafka topic that is deleted, made again differently, or read-only, while events come from a real
//! broker into Kafka, JetStream and files. The events are held and reported, and nothing is lost or
//! duplicated.

use std::time::Duration;

use tokio::task::block_in_place;

use crate::sinks::kafka::partitions::partitions_in_java;
use kit::admin::Admin;
use kit::any_kafka::AnyKafka;
use kit::broker::{Protocol, Version, shared};
use kit::events::{Events, Spread};
use kit::kafka::Listener;
use kit::output::Tally;
use kit::preload::Preload;
use kit::proxy::Proxy;
use kit::scenario::{drain, emptied, grown, publish, publish_from, ready_after, says, subscribed};
use kit::three::{PARTITIONS, Sinks};
use kit::{any_kafka, kafka, nats, on_each_broker};

on_each_broker!(
    over each protocol, with a real kafka:
    a_topic_made_again_with_the_wrong_number_of_partitions_holds_until_the_number_is_right,
    without_a_fixed_number_the_partitions_of_the_new_topic_are_used,
    a_read_only_topic_holds_all_events_and_duplicates_nothing,
    a_distant_kafka_that_is_killed_and_restarted_has_every_event_once,
    a_clock_that_was_ahead_and_is_corrected_holds_nothing_any_more,
);

/// How many events are published before the topic is deleted.
const BEFORE: u64 = 1000;
const EVENTS: Events = Events { count: 3000, keys: 200, spread: Spread::Even, bad_every: None };

async fn a_topic_made_again_with_the_wrong_number_of_partitions_holds_until_the_number_is_right(
    version: Version,
    protocol: Protocol,
) {
    let (broker, kafka) = (shared(version), kafka::shared());
    let namespace = protocol.named("recount");
    let sinks = Sinks::make(version, &namespace, any_kafka::shared(), nats::shared()).await;
    let setup = sinks.setup(broker, protocol);
    let mut bridge = setup.start();
    subscribed(broker, &sinks.queue(), 1).await;
    publish(broker, sinks.namespace, Events { count: BEFORE, ..EVENTS }).await;
    emptied(broker, &sinks.queue()).await;

    kafka.delete_topic(&sinks.name);
    publish_from(broker, sinks.namespace, EVENTS, BEFORE).await;
    says(&mut bridge, &format!("held: the topic {} does not exist", sinks.name)).await;
    kafka.create_topic(&sinks.name, PARTITIONS - 2, &[]);
    let (now, wanted) = (PARTITIONS - 2, PARTITIONS);
    says(&mut bridge, &format!("{} has {now} partitions, but event.partitions is {wanted}", sinks.name))
        .await;
    assert_eq!(broker.depth(&sinks.queue()), EVENTS.count - BEFORE, "acknowledged without Kafka");
    let admin = Admin::of(&bridge).await;
    admin.not_ready(&["sink kafka: held: ", "partitions"]).await;
    let said = bridge.log().len();
    kafka.grow_topic(&sinks.name, PARTITIONS);
    ready_after(&mut bridge, said, "sink kafka").await;
    admin.ready().await;
    emptied(broker, &sinks.queue()).await;
    drain(bridge).await;

    sinks.topic(EVENTS).tally.assert_complete_from(BEFORE);
    sinks.stream(EVENTS).await.tally.assert_complete(0);
    sinks.files(EVENTS, setup.files()).tally.assert_complete(0);
}

async fn without_a_fixed_number_the_partitions_of_the_new_topic_are_used(
    version: Version,
    protocol: Protocol,
) {
    let (broker, kafka) = (shared(version), kafka::shared());
    let namespace = protocol.named("uncounted");
    let sinks = Sinks::make(version, &namespace, any_kafka::shared(), nats::shared()).await;
    let setup = sinks
        .setup(broker, protocol)
        .unset("EVENT__PARTITIONS")
        .unset("SINKS__FILE__NAME")
        .set("SINKS__NATS__SUBJECT", format!("{}.0.{{key}}", sinks.name));
    let mut bridge = setup.start();
    subscribed(broker, &sinks.queue(), 1).await;
    publish(broker, sinks.namespace, Events { count: BEFORE, ..EVENTS }).await;
    emptied(broker, &sinks.queue()).await;
    assert_in_java_of(PARTITIONS, &sinks);

    kafka.delete_topic(&sinks.name);
    publish_from(broker, sinks.namespace, EVENTS, BEFORE).await;
    says(&mut bridge, &format!("held: the topic {} does not exist", sinks.name)).await;
    kafka.create_topic(&sinks.name, PARTITIONS - 2, &[]);
    emptied(broker, &sinks.queue()).await;
    drain(bridge).await;

    assert_in_java_of(PARTITIONS - 2, &sinks);
    sinks.topic(EVENTS).tally.assert_complete_from(BEFORE);
    sinks.stream(EVENTS).await.tally.assert_complete(0);
    Tally::of_envelopes(EVENTS, [setup.files()]).assert_complete(0);
}

async fn a_read_only_topic_holds_all_events_and_duplicates_nothing(version: Version, protocol: Protocol) {
    let (broker, kafka) = (shared(version), kafka::shared());
    let namespace = protocol.named("readonly");
    let sinks = Sinks::make(version, &namespace, any_kafka::shared(), nats::shared()).await;
    // The rule comes after two thousand. The stream takes the events of the first key one by one.
    let events = Events { spread: Spread::Hot, ..Events::good(8000) };
    let setup = sinks.setup(broker, protocol);
    let mut bridge = setup.start();
    subscribed(broker, &sinks.queue(), 1).await;

    let rules = async {
        grown(setup.files(), 400_000).await;
        kafka.make_read_only(&sinks.name);
        says(&mut bridge, &format!("held: not allowed to write to the topic {}", sinks.name)).await;
        assert!(broker.depth(&sinks.queue()) > 0, "the rule came after the last event");
        let admin = Admin::of(&bridge).await;
        admin.not_ready(&["sink kafka: held: ", "not allowed to write"]).await;
        let said = bridge.log().len();
        kafka.forget_rules(&sinks.name);
        ready_after(&mut bridge, said, "sink kafka").await;
        admin.ready().await;
    };
    tokio::join!(publish(broker, sinks.namespace, events), rules);
    emptied(broker, &sinks.queue()).await;
    drain(bridge).await;
    sinks.assert_complete(events, &setup, [0; 3]).await;
}

/// The threads of librdkafka waited for as long as the clock had been ahead.
async fn a_clock_that_was_ahead_and_is_corrected_holds_nothing_any_more(
    version: Version,
    protocol: Protocol,
) {
    let (broker, namespace) = (shared(version), protocol.named("clock"));
    let sinks = Sinks::make(version, &namespace, any_kafka::shared(), nats::shared()).await;
    let setup = sinks.setup(broker, protocol);
    let clock = Preload::new(setup.home());
    let setup = clock.variables().into_iter().fold(setup, |setup, (name, value)| setup.variable(name, value));
    let mut bridge = setup.start();
    subscribed(broker, &sinks.queue(), 1).await;
    publish(broker, sinks.namespace, Events { count: BEFORE, ..EVENTS }).await;
    emptied(broker, &sinks.queue()).await;

    clock.move_clock(2 * 3600);
    publish_from(broker, sinks.namespace, EVENTS, BEFORE).await;
    says(&mut bridge, &format!("held: the topic {} refuses the timestamps", sinks.name)).await;
    let said = bridge.log().len();
    clock.move_clock(0);
    ready_after(&mut bridge, said, "sink kafka").await;
    emptied(broker, &sinks.queue()).await;
    drain(bridge).await;
    sinks.assert_complete(EVENTS, &setup, [0; 3]).await;
}

/// Checks that each key is in the partition that Java computes for a topic with `count` partitions.
fn assert_in_java_of(count: u32, sinks: &Sinks<'_>) {
    let held = sinks.topic(EVENTS).partitions(EVENTS);
    let (keys, partitions): (Vec<String>, Vec<u32>) = held.into_iter().unzip();
    assert_eq!(partitions, partitions_in_java(&keys, count));
}

/// At such a distance records go in waves, through several clients (`sink/kafka/latency.rs`).
async fn a_distant_kafka_that_is_killed_and_restarted_has_every_event_once(
    version: Version,
    protocol: Protocol,
) {
    let (broker, kafka) = (shared(version), AnyKafka::start());
    let AnyKafka::Real(server) = &kafka else { panic!("the mock cluster has no proxied listener") };
    let address = server.addr(Listener::Proxied);
    let proxy = Proxy::delayed_at(server.proxy_addr(), address, Duration::from_millis(25)).await;
    let namespace = protocol.named("far");
    let sinks = Sinks::make(version, &namespace, &kafka, nats::shared()).await;
    let setup = sinks
        .setup(broker, protocol)
        .set("SINKS__KAFKA__BROKERS", proxy.addr().to_string())
        // After the restart librdkafka waits up to 10 s by default.
        .set("SINKS__KAFKA__PROPERTIES__RECONNECT_BACKOFF_MAX_MS", "1000");
    let mut bridge = setup.start();
    subscribed(broker, &sinks.queue(), 1).await;
    publish(broker, sinks.namespace, Events { count: BEFORE, ..EVENTS }).await;
    emptied(broker, &sinks.queue()).await;
    assert!(bridge.log().contains("clients=4"), "{}", bridge.log());

    block_in_place(|| server.kill());
    publish_from(broker, sinks.namespace, EVENTS, BEFORE).await;
    says(&mut bridge, "retrying: ").await;
    block_in_place(|| server.restart());
    emptied(broker, &sinks.queue()).await;
    drain(bridge).await;

    sinks.topic(EVENTS).tally.assert_complete(0);
    sinks.stream(EVENTS).await.tally.assert_complete(0);
    sinks.files(EVENTS, setup.files()).tally.assert_complete(0);
}
