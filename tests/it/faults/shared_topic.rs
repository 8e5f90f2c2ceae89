//! Tests a bridge that is killed while it holds, in a topic that other programs write to: its last records lie far
//! behind when it comes back.

use std::fs;

use tokio::task::block_in_place;

use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared};
use kit::events::{Events, Spread};
use kit::kafka_reader::{committed, each_record, record_count};
use kit::kafka_writer::{delete_group, write_records};
use kit::output::Tally;
use kit::scenario::{drain, emptied, publish, subscribed};
use kit::{SOON, kafka, on_each_broker, wait_until};

on_each_broker!(
    over each protocol, with a real kafka:
    a_held_bridge_that_is_killed_doubles_nothing_in_a_topic_of_many,
    without_its_position_a_held_bridge_that_is_killed_doubles_its_events,
);

const PARTITIONS: u32 = 3;
/// More than the 4096 records of a partition that the bridge reads in any case.
const OTHERS: u64 = 20_000;
/// As many as the broker sends at once.
const EVENTS: Events = Events { count: 1000, keys: 1000, spread: Spread::Even, bad_every: None };

async fn a_held_bridge_that_is_killed_doubles_nothing_in_a_topic_of_many(
    version: Version,
    protocol: Protocol,
) {
    assert_eq!(killed_while_it_holds(version, protocol, "sharedtopic", false).await, 0);
}

/// Proves that the test above can fail.
async fn without_its_position_a_held_bridge_that_is_killed_doubles_its_events(
    version: Version,
    protocol: Protocol,
) {
    let doubled = killed_while_it_holds(version, protocol, "forgottentopic", true).await;
    assert_eq!(doubled, EVENTS.count);
}

/// Returns how many events the topic has twice at the end.
async fn killed_while_it_holds(version: Version, protocol: Protocol, name: &str, forget: bool) -> u64 {
    let (broker, kafka) = (shared(version), kafka::shared());
    let namespace = &protocol.named(name);
    let (queue, topic) = (format!("main.RTO.{namespace}"), format!("{namespace}-{version:?}"));
    kafka.create_topic(&topic, PARTITIONS, &[]);
    let bootstrap = kafka.bootstrap();
    let others_write = || {
        for partition in 0..PARTITIONS {
            let values = (0..OTHERS).map(|_| "of another program".to_owned());
            block_in_place(|| write_records(&bootstrap, &topic, partition, values));
        }
    };
    let records = || block_in_place(|| record_count(&bootstrap, &topic));
    let positions = || block_in_place(|| committed(&bootstrap, &queue, &topic));
    let setup = Setup::new(broker, protocol, namespace, "main", &topic)
        .set("SOURCE__PREFETCH", "1024")
        .set("SINKS__KAFKA__BROKERS", &bootstrap)
        .set("SINKS__KAFKA__TOPIC", &topic);

    others_write();
    // The files can't be opened, so no event is acknowledged.
    fs::write(setup.files(), "in the way").expect("put a file in place of the directory");
    let bridge = setup.start();
    subscribed(broker, &queue, 1).await;
    publish(broker, namespace, EVENTS).await;
    let others = u64::from(PARTITIONS) * OTHERS;
    wait_until("all events are in Kafka", SOON, || records() == others + EVENTS.count).await;
    wait_until("the position is known", SOON, || positions().len() == PARTITIONS as usize).await;
    bridge.kill();
    others_write();
    while forget && !positions().is_empty() {
        delete_group(&bootstrap, &queue).await;
    }

    fs::remove_file(setup.files()).expect("remove the file");
    let bridge = setup.start();
    emptied(broker, &queue).await;
    drain(bridge).await;
    let mut found = Tally::in_any_order(EVENTS);
    block_in_place(|| {
        each_record(&bootstrap, &topic, |record| {
            if record.header("atdata-message-id").is_some() {
                found.add(std::str::from_utf8(record.value.as_deref().expect("a body")).expect("text"));
            }
        });
    });
    found.assert_nothing_lost_in_any_order();
    assert_eq!(found.distinct(), EVENTS.count);
    found.doubled()
}
