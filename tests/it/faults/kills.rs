//! Tests SIGKILL of the bridge and of the broker at random points under load: nothing is lost, and nothing is
//! doubled in any sink.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use kit::bridge::Setup;
use kit::broker::{Broker, Options, Protocol, Version, shared};
use kit::events::{Events, Spread, number_in};
use kit::kafka_reader::each_record;
use kit::output::{Tally, assert_dead_letters, bytes};
use kit::publisher::Publisher;
use kit::scenario::{counts, drain, emptied, grown, publish_while, seeded, subscribed};
use kit::three::Sinks;
use kit::{SOON, any_kafka, nats, on_each_broker, wait_until};

on_each_broker!(over each protocol, with every sink: a_bridge_that_is_killed_repeatedly_loses_nothing);
on_each_broker!(over each protocol, with a real kafka: a_replica_that_is_killed_repeatedly_doubles_nothing_in_kafka);
on_each_broker!(
    over each protocol, with a real kafka:
    a_bridge_that_is_killed_repeatedly_writes_each_letter_once,
);
on_each_broker!(over each protocol: a_broker_that_is_killed_repeatedly_loses_nothing);

const PREFETCH: u64 = 1024;

/// The bridge finds out which events the topic and the files have already, and the stream recognises them by
/// their message ids (D7).
async fn a_bridge_that_is_killed_repeatedly_loses_nothing(version: Version, protocol: Protocol) {
    const KILLS: u64 = 6;
    let broker = shared(version);
    let namespace = &protocol.named("slain");
    let sinks = Sinks::make(version, namespace, any_kafka::shared(), nats::shared()).await;
    let queue = sinks.queue();
    let mut random = seeded();
    // The stream takes the events of the first key one by one.
    let endless = Events { spread: Spread::Hot, ..Events::good(u64::MAX) }.with_bad(1000);
    let setup = sinks.setup(broker, protocol).set("SOURCE__PREFETCH", PREFETCH.to_string());
    let mut bridge = setup.start();
    subscribed(broker, &queue, 1).await;

    let over = Cell::new(false);
    let kills = async {
        for _ in 0..KILLS {
            // At a random point of the pipeline, up to a few thousand events later.
            grown(setup.files(), bytes(setup.files()) + random.u64(1..400_000)).await;
            tokio::time::sleep(Duration::from_micros(random.u64(..3000))).await;
            bridge.kill();
            bridge = setup.start();
        }
        over.set(true);
        bridge
    };
    let load = publish_while(broker, namespace, &queue, endless, 4 * PREFETCH, &over);
    let (published, bridge) = tokio::join!(load, kills);
    emptied(broker, &queue).await;
    drain(bridge).await;

    let events = Events { count: published, ..endless };
    sinks.assert_complete(events, &setup, [0, 0, 0]).await;
    assert_dead_letters(events, setup.dead_letters());
}

/// The broker gives the events of the killed replica to the other one, which has never had them.
async fn a_replica_that_is_killed_repeatedly_doubles_nothing_in_kafka(version: Version, protocol: Protocol) {
    const KILLS: u64 = 4;
    let (broker, kafka) = (shared(version), any_kafka::shared());
    let namespace = &protocol.named("replicas");
    let (queue, topic) = (format!("main.RTO.{namespace}"), format!("{namespace}-{version:?}"));
    kafka.create_topic(&topic, 6);
    let setup = |id: &str| {
        Setup::new(broker, protocol, namespace, "main", &format!("{namespace}-{id}"))
            .unset("SINKS__FILE__DIRECTORY")
            .set("SINKS__KAFKA__BROKERS", kafka.bootstrap())
            .set("SINKS__KAFKA__TOPIC", &topic)
    };
    let (killed, spared) = (setup("a"), setup("b"));
    let mut random = seeded();
    let over = Cell::new(false);
    let (mut victim, other) = (killed.start(), spared.start());
    subscribed(broker, &queue, 2).await;

    let kills = async {
        for kill in 0..KILLS {
            // The line of its claim: it has received events.
            let claims = || killed.log().matches("records of the topic").count() as u64;
            wait_until("the replica has claimed", SOON, || claims() > kill).await;
            let more = counts(broker, &queue).dequeued + random.u64(1..2000);
            wait_until("more events are acknowledged", SOON, || counts(broker, &queue).dequeued >= more)
                .await;
            tokio::time::sleep(Duration::from_micros(random.u64(..3000))).await;
            victim.kill();
            victim = killed.start();
        }
        over.set(true);
        victim
    };
    let load = publish_while(broker, namespace, &queue, Events::good(u64::MAX), 4 * PREFETCH, &over);
    let (published, victim) = tokio::join!(load, kills);
    emptied(broker, &queue).await;
    drain(victim).await;
    drain(other).await;

    let mut found = Tally::in_any_order(Events::good(published));
    let (mut came_again, bootstrap) = (0, kafka.bootstrap());
    tokio::task::block_in_place(|| {
        each_record(&bootstrap, &topic, |record| {
            came_again += u64::from(record.header("atdata-redelivered") == Some("true"));
            found.add(std::str::from_utf8(record.value.as_deref().expect("a body")).expect("text"));
        });
    });
    eprintln!(
        "{KILLS} kills of a replica: {came_again} written events came again, {} doubled",
        found.doubled()
    );
    found.assert_nothing_lost_in_any_order();
    assert_eq!(found.doubled(), 0);
}

/// Of four events one has no usable key, and one is larger than the sink's client allows. Both become dead
/// letters.
async fn a_bridge_that_is_killed_repeatedly_writes_each_letter_once(version: Version, protocol: Protocol) {
    const KILLS: u64 = 6;
    const LARGE: usize = 2000;
    let (broker, kafka) = (shared(version), any_kafka::shared());
    let namespace = &protocol.named("killedletters");
    let (queue, topic) = (format!("main.RTO.{namespace}"), format!("{namespace}-{version:?}"));
    let letters = format!("{topic}-letters");
    kafka.create_topic(&topic, 3);
    kafka.create_topic(&letters, 3);
    let setup = Setup::new(broker, protocol, namespace, "main", &topic)
        .unset("SINKS__FILE__DIRECTORY")
        .set("SINKS__KAFKA__BROKERS", kafka.bootstrap())
        .set("SINKS__KAFKA__TOPIC", &topic)
        .set("SINKS__KAFKA__PROPERTIES__MESSAGE_MAX_BYTES", LARGE.to_string())
        .unset("DEAD_LETTERS__DIRECTORY")
        .set("DEAD_LETTERS__KAFKA__TOPIC", &letters)
        .set("DEAD_LETTERS__KAFKA__PROPERTIES__MESSAGE_MAX_BYTES", "1000000")
        .set("DEAD_LETTERS__MAX_SHARE", "1")
        .set("DEAD_LETTERS__MAX_RUN", "1000000");
    let mut random = seeded();
    let events = Events::good(12_000).with_bad(4);
    let bodies = events.bodies().zip(0..).map(|(body, number)| match number % 4 {
        1 => body.replace(r#""type""#, &format!(r#""pad":"{:LARGE$}","type""#, "")),
        _ => body,
    });
    let mut bridge = setup.start();
    subscribed(broker, &queue, 1).await;

    let publish =
        async { Publisher::connect(broker, namespace).await.publish(bodies).await.expect("publish") };
    let kills = async {
        for _ in 0..KILLS {
            let more = counts(broker, &queue).dequeued + random.u64(1..1000);
            wait_until("more events are acknowledged", SOON, || counts(broker, &queue).dequeued >= more)
                .await;
            tokio::time::sleep(Duration::from_micros(random.u64(..3000))).await;
            bridge.kill();
            bridge = setup.start();
        }
        assert!(counts(broker, &queue).dequeued < events.count, "the last kill came after the last event");
        bridge
    };
    let ((), bridge) = tokio::join!(publish, kills);
    emptied(broker, &queue).await;
    drain(bridge).await;

    let (written, dead) = tokio::task::block_in_place(|| {
        (numbers(&kafka.bootstrap(), &topic), numbers(&kafka.bootstrap(), &letters))
    });
    let doubled = |found: &BTreeMap<u64, u32>| found.values().map(|times| times - 1).sum::<u32>();
    eprintln!("{KILLS} kills: {} doubled events, {} doubled letters", doubled(&written), doubled(&dead));
    let expected = |is: fn(u64) -> bool| (0..events.count).filter(move |n| is(*n)).map(|n| (n, 1));
    assert!(written == expected(|number| number % 2 == 0).collect(), "{} events", written.len());
    assert!(dead == expected(|number| number % 2 == 1).collect(), "{} letters", dead.len());
}

/// How many times each event is in a topic, or a letter about it.
fn numbers(bootstrap: &str, topic: &str) -> BTreeMap<u64, u32> {
    let mut numbers = BTreeMap::new();
    each_record(bootstrap, topic, |record| {
        let text = String::from_utf8(record.value.expect("a value")).expect("text");
        *numbers.entry(number_in(&text).expect("a number")).or_default() += 1;
    });
    numbers
}

/// The broker's own journal keeps what the broker has confirmed, and the bridge remembers which events its
/// sinks have.
async fn a_broker_that_is_killed_repeatedly_loses_nothing(version: Version, protocol: Protocol) {
    const KILLS: u64 = 3;
    let broker = Broker::start(version, Options::default());
    let queue = "main.RTO.acme";
    let mut random = seeded();
    // The kills take fifteen thousand events at most.
    let events = Events { spread: Spread::Hot, ..Events::good(20_000) };
    let setup = Setup::new(&broker, protocol, "acme", "main", "acme-1")
        .set("SINKS__FILE__FORMAT", "envelope")
        .set("SOURCE__BACKOFF__MAX", "1s");
    let bridge = setup.start();
    subscribed(&broker, queue, 1).await;

    let bodies: Vec<String> = events.bodies().collect();
    let publish = Publisher::publish_through_kills(&broker, "acme", &bodies);
    let kills = async {
        for _ in 0..KILLS {
            grown(setup.files(), bytes(setup.files()) + random.u64(1..1_000_000)).await;
            tokio::task::block_in_place(|| broker.restart());
        }
    };
    tokio::join!(publish, kills);
    emptied(&broker, queue).await;
    drain(bridge).await;

    let found = Tally::of_envelopes(events, [setup.files()]);
    eprintln!("{KILLS} kills of the broker: {} duplicates", found.repeated_ids());
    found.assert_nothing_lost();
    assert!(found.repeated_ids() <= KILLS * PREFETCH, "{} duplicates", found.repeated_ids());
}
