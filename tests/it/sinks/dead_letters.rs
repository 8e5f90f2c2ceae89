//! Tests that dead letters go into a Kafka topic or a JetStream stream without any directory: a pod may lose
//! its disk. The dead-letter store takes unset settings from the sink of the same name.

use std::collections::BTreeMap;

use kit::admin::Admin;
use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared};
use kit::events::{Events, number_in};
use kit::kafka_reader::each_record;
use kit::nats::read_stream;
use kit::output::assert_dead_letter_lines;
use kit::scenario::{drain, emptied, in_trouble, publish, subscribed};
use kit::three::Sinks;
use kit::{any_kafka, kafka, nats, on_each_broker};

on_each_broker!(
    over each protocol, with a real kafka:
    bad_events_go_into_a_topic_and_wait_until_it_is_writable,
    the_letters_of_two_queues_in_one_topic_stay_apart,
);
on_each_broker!(
    over each protocol, with every sink:
    bad_events_go_into_a_stream_and_wait_until_it_exists,
);

const BAD_EVERY: u64 = 50;

fn events() -> Events {
    Events::good(2000).with_bad(BAD_EVERY)
}

async fn bad_events_go_into_a_topic_and_wait_until_it_is_writable(version: Version, protocol: Protocol) {
    let (broker, kafka) = (shared(version), kafka::shared());
    let namespace = protocol.named("lettertopic");
    let sinks = Sinks::make(version, &namespace, any_kafka::shared(), nats::shared()).await;
    let letters = format!("{}-letters", sinks.name);
    kafka.create_topic(&letters, 2, &[]);
    kafka.make_read_only(&letters);
    let setup = sinks
        .setup(broker, protocol)
        .unset("DEAD_LETTERS__DIRECTORY")
        .set("DEAD_LETTERS__KAFKA__TOPIC", &letters);

    mirror(version, &sinks, &setup, async || kafka.forget_rules(&letters)).await;
    let mut lines = Vec::new();
    each_record(&kafka.bootstrap(), &letters, |record| {
        assert!(record.header("atdata-message-id").is_some_and(|id| id.ends_with("/event")));
        lines.push(String::from_utf8(record.value.expect("a value")).expect("text"));
    });
    assert_dead_letter_lines(events(), lines);
}

async fn bad_events_go_into_a_stream_and_wait_until_it_exists(version: Version, protocol: Protocol) {
    let broker = shared(version);
    let namespace = protocol.named("letterstream");
    let sinks = Sinks::make(version, &namespace, any_kafka::shared(), nats::shared()).await;
    let letters = format!("{}-letters", sinks.name);
    let setup = sinks
        .setup(broker, protocol)
        .unset("DEAD_LETTERS__DIRECTORY")
        .set("DEAD_LETTERS__NATS__STREAM", &letters)
        .set("DEAD_LETTERS__NATS__SUBJECT", &letters);

    mirror(version, &sinks, &setup, async || {
        nats::make_stream(&sinks.jetstream, &letters, &[&letters]).await;
    })
    .await;
    let messages = read_stream(&sinks.jetstream, &letters).await;
    let lines = messages.iter().map(|message| String::from_utf8(message.payload.to_vec()).expect("text"));
    assert_dead_letter_lines(events(), lines.collect());
}

/// With `isolation = "mirror"` the copies of an event in several queues have the same id. Each letter names
/// its own queue, so that the bridge finds only the letters of that queue.
async fn the_letters_of_two_queues_in_one_topic_stay_apart(version: Version, protocol: Protocol) {
    let (broker, kafka) = (shared(version), kafka::shared());
    let namespace = &protocol.named("lettersoftwo");
    let topic = format!("{namespace}-{version:?}");
    let letters = format!("{topic}-letters");
    kafka.create_topic(&topic, 2, &[]);
    kafka.create_topic(&letters, 2, &[]);
    let one = Setup::new(broker, protocol, namespace, "main", &topic)
        .set("SOURCE__ISOLATION", "mirror")
        .unset("DEAD_LETTERS__DIRECTORY")
        .set("DEAD_LETTERS__LETTERS__KIND", "kafka")
        .set("DEAD_LETTERS__LETTERS__BROKERS", kafka.bootstrap())
        .set("DEAD_LETTERS__LETTERS__TOPIC", &letters);
    let queues = ["file", "kafka"].map(|sink| format!("main-{sink}.RTO.{namespace}"));
    let two = Setup::new(broker, protocol, namespace, "main", &topic)
        .set("SOURCE__ISOLATION", "mirror")
        .set("SINKS__KAFKA__BROKERS", kafka.bootstrap())
        .set("SINKS__KAFKA__TOPIC", &topic)
        .unset("DEAD_LETTERS__DIRECTORY")
        .set("DEAD_LETTERS__KAFKA__TOPIC", &letters);

    let bridge = two.start();
    for queue in &queues {
        subscribed(broker, queue, 1).await;
    }
    drain(bridge).await;
    let bridge = one.start();
    publish(broker, namespace, events()).await;
    emptied(broker, &queues[0]).await;
    drain(bridge).await;
    let bridge = two.start();
    emptied(broker, &queues[1]).await;
    drain(bridge).await;

    let mut found: BTreeMap<(String, u64), u32> = BTreeMap::new();
    each_record(&kafka.bootstrap(), &letters, |record| {
        let queue = record.header("atdata-destination").expect("a queue").to_owned();
        let line = String::from_utf8(record.value.expect("a value")).expect("text");
        *found.entry((queue, number_in(&line).expect("a number"))).or_default() += 1;
    });
    let bad = || (0..events().count).filter(|number| events().defect(*number).is_some());
    let expected = queues.iter().flat_map(|queue| bad().map(|number| ((queue.clone(), number), 1)));
    assert_eq!(found, expected.collect::<BTreeMap<_, _>>(), "queue and event → number of letters");
}

/// Mirrors all events. The first bad event holds its worker, and is not acknowledged before `repair` makes
/// the store usable (I6).
async fn mirror(version: Version, sinks: &Sinks<'_>, setup: &Setup, repair: impl AsyncFnOnce()) {
    let (broker, queue) = (shared(version), sinks.queue());
    let mut bridge = setup.start();
    subscribed(broker, &queue, 1).await;
    publish(broker, sinks.namespace, events()).await;
    in_trouble(&mut bridge, 0, "dead letters").await;
    let left = broker.depth(&queue);
    assert!(
        left > events().count - BAD_EVERY,
        "{left} left: a bad event was acknowledged without a dead letter"
    );
    let admin = Admin::of(&bridge).await;
    admin.not_ready(&["dead letters: "]).await;
    repair().await;
    emptied(broker, &queue).await;
    admin.ready().await;
    drain(bridge).await;
    sinks.assert_complete(events(), setup, [0; 3]).await;
}
