//! Tests two replicas with strict ordering and `exactly_once`: the active one is frozen until the other has taken
//! over, and then goes on. Nothing is lost, doubled or out of order in Kafka.

use std::cell::Cell;
use std::time::{Duration, Instant};

use atdata_bridge::telemetry::bridge_status::BridgeStatus;
use kit::admin::Admin;
use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared};
use kit::events::{Events, Spread};
use kit::kafka_reader::each_record;
use kit::output::Tally;
use kit::scenario::{PATIENCE, counts, drain, emptied, publish_while, ready_after, seeded, subscribed};
use kit::{SOON, any_kafka, on_each_broker, wait_until};

on_each_broker!(
    over each protocol, with a real kafka: a_frozen_replica_that_goes_on_is_fenced_and_stands_by,
);

async fn a_frozen_replica_that_goes_on_is_fenced_and_stands_by(version: Version, protocol: Protocol) {
    const FREEZES: usize = 3;
    let (broker, kafka) = (shared(version), any_kafka::shared());
    let namespace = &protocol.named("frozenpair");
    let (queue, topic) = (format!("main.RTO.{namespace}"), format!("{namespace}-{version:?}"));
    kafka.create_topic(&topic, 6);
    let setup = |id: &str| {
        Setup::new(broker, protocol, namespace, "main", &format!("{namespace}-{id}"))
            .unset("SINKS__FILE__DIRECTORY")
            .set("SOURCE__ORDERING", "strict")
            .set("SOURCE__PREFETCH", "1024")
            .set("SOURCE__HEART_BEAT", "1s")
            .set("SINKS__KAFKA__BROKERS", kafka.bootstrap())
            .set("SINKS__KAFKA__TOPIC", &topic)
            .set("SINKS__KAFKA__EXACTLY_ONCE", "true")
    };
    let setups = [setup("a"), setup("b")];
    let mut random = seeded();
    let over = Cell::new(false);
    let first = setups[0].start();
    subscribed(broker, &queue, 1).await;
    let mut bridges = [first, setups[1].start()];
    subscribed(broker, &queue, 2).await;

    let freezes = async {
        for freeze in 0..FREEZES {
            let (active, standby) = (freeze % 2, 1 - freeze % 2);
            let grown = counts(broker, &queue).dequeued + random.u64(1000..3000);
            wait_until("events are acknowledged", PATIENCE, || counts(broker, &queue).dequeued > grown).await;
            let claims = |setup: &Setup| setup.log().matches("records of the topic").count();
            let before = claims(&setups[standby]);
            bridges[active].freeze();
            wait_until("the standby has claimed", PATIENCE, || claims(&setups[standby]) > before).await;
            tokio::time::sleep(Duration::from_millis(random.u64(0..300))).await;
            let offset = bridges[active].log().len();
            bridges[active].thaw();
            // The broker has removed the consumer of the frozen replica, which comes back as the standby.
            ready_after(&mut bridges[active], offset, "source").await;
            subscribed(broker, &queue, 2).await;
        }
        over.set(true);
    };
    let load = publish_while(
        broker,
        namespace,
        &queue,
        Events { keys: 50, spread: Spread::Hot, ..Events::good(u64::MAX) },
        4096,
        &over,
    );
    let (published, ()) = tokio::join!(load, freezes);
    emptied(broker, &queue).await;
    let admins = [Admin::of(&bridges[0]).await, Admin::of(&bridges[1]).await];
    let deadline = Instant::now() + SOON;
    loop {
        let mut replicas = Vec::new();
        for admin in &admins {
            let status: BridgeStatus =
                serde_json::from_str(&admin.get("/status").await.body).expect("a status");
            replicas.extend(status.queues[0].replica.clone());
        }
        replicas.sort();
        if replicas == ["active", "standby"] {
            break;
        }
        assert!(Instant::now() < deadline, "{replicas:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for bridge in bridges {
        drain(bridge).await;
    }

    let events = Events { keys: 50, spread: Spread::Hot, ..Events::good(published) };
    let mut found = Tally::new(events);
    let bootstrap = kafka.bootstrap();
    tokio::task::block_in_place(|| {
        each_record(&bootstrap, &topic, |record| {
            found.add(std::str::from_utf8(record.value.as_deref().expect("a body")).expect("text"));
        });
    });
    let fenced = setups.iter().map(|setup| setup.log().matches("has taken over the queue").count());
    eprintln!("{published} events, {FREEZES} freezes, {} lines of a fence", fenced.sum::<usize>());
    found.assert_complete(0);
}
