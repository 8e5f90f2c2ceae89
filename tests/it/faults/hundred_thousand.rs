//! Tests all guarantees together: a hundred thousand events, some of them bad, from a real broker into Kafka,
//! JetStream and files.

use crate::sinks::kafka::partitions::partitions_in_java;
use kit::broker::{Protocol, Version, shared};
use kit::events::Events;
use kit::output::assert_dead_letters;
use kit::scenario::{counts, drain, emptied, publish, subscribed};
use kit::three::{PARTITIONS, Sinks};
use kit::{any_kafka, did_not_run, kafka, nats, on_each_broker};

on_each_broker!(
    over each protocol, with every sink:
    every_event_is_once_in_each_sink_and_every_bad_event_is_a_dead_letter_with_its_reason,
);

async fn every_event_is_once_in_each_sink_and_every_bad_event_is_a_dead_letter_with_its_reason(
    version: Version,
    protocol: Protocol,
) {
    let broker = shared(version);
    let namespace = &protocol.named("hundred");
    let sinks = Sinks::make(version, namespace, any_kafka::shared(), nats::shared()).await;
    let queue = sinks.queue();
    let events = Events::good(100_000).with_bad(1000);
    let setup = sinks.setup(broker, protocol);
    let bridge = setup.start();
    subscribed(broker, &queue, 1).await;

    publish(broker, namespace, events).await;
    emptied(broker, &queue).await;
    let counts = counts(broker, &queue);
    assert_eq!((counts.messages, counts.enqueued, counts.dequeued), (0, events.count, events.count));
    drain(bridge).await;

    assert_dead_letters(events, setup.dead_letters());
    let found = sinks.assert_complete(events, &setup, [0; 3]).await;
    assert_eq!((found.tally.distinct(), found.tally.repeated_ids()), (99_900, 0));
    let (keys, partitions): (Vec<String>, Vec<u32>) = found.partitions(events).into_iter().unzip();
    match kafka::directory() {
        Ok(_) => assert_eq!(partitions, partitions_in_java(&keys, PARTITIONS)),
        Err(reason) => did_not_run("hundred_thousand, in its comparison with Java's partitions,", &reason),
    }
}
