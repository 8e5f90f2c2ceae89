//! Tests the two ways to stop (D10). After a drain no settled event appears twice; after an abandoned drain
//! every event that was not settled is redelivered.

use std::time::Duration;

use kit::bridge::{Bridge, Setup};
use kit::broker::{Broker, Protocol, Version, shared};
use kit::events::{Events, Spread};
use kit::kafka::{self, Listener};
use kit::output::{Tally, bytes};
use kit::proxy::Proxy;
use kit::publisher::Publisher;
use kit::scenario::{
    Unusable, counts, drain, emptied, grown, place, publish, says, says_after, seeded, subscribed,
};
use kit::{SOON, on_each_broker};

on_each_broker!(
    over each protocol:
    a_drain_under_load_duplicates_nothing,
    a_second_signal_abandons,
    the_deadline_abandons,
    an_unconfirmed_drain_is_reported,
);
on_each_broker!(
    over each protocol, with a real kafka:
    a_stop_while_a_sink_cannot_open_does_not_crash,
);

const STOPS: usize = 8;

async fn a_drain_under_load_duplicates_nothing(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "drained"));
    let events = Events { spread: Spread::Hot, ..Events::good(40_000) };
    let setup = Setup::new(broker, protocol, namespace, "main", namespace);
    let mut bridge = setup.start();
    subscribed(broker, queue, 1).await;

    let restarts = async {
        for _ in 0..4 {
            grown(setup.files(), bytes(setup.files()) + 400_000).await;
            drain(bridge).await;
            bridge = setup.start();
        }
        assert!(counts(broker, queue).dequeued < events.count, "the last signal came after the last event");
        bridge
    };
    let ((), bridge) = tokio::join!(publish(broker, namespace, events), restarts);
    emptied(broker, queue).await;
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
}

/// librdkafka's threads continue after an open that failed or that the drain interrupted. The process must
/// not crash when it ends before them.
async fn a_stop_while_a_sink_cannot_open_does_not_crash(version: Version, protocol: Protocol) {
    let (broker, kafka, namespace) = (shared(version), kafka::shared(), &protocol.named("unopened"));
    let mut random = seeded();
    for stop in 0..STOPS {
        let setup = Setup::new(broker, protocol, namespace, "main", namespace)
            .set("SINKS__KAFKA__BROKERS", kafka.addr(Listener::SaslTls).to_string())
            .set("SINKS__KAFKA__TOPIC", "unopened")
            .set("SINKS__KAFKA__SASL__MECHANISM", "plain")
            .set("SINKS__KAFKA__SASL__USERNAME", kafka::CUSTOMER.0)
            .set("SINKS__KAFKA__SASL__PASSWORD", kafka::CUSTOMER.1)
            .set("SINKS__KAFKA__TLS__ENABLED", "true")
            .set("SINKS__KAFKA__TLS__CA_FILE", kafka.certificates().authority.display().to_string());
        let mut bridge = setup.start();
        let is_opening = stop % 2 == 0;
        says(&mut bridge, if is_opening { r#"ready part="source""# } else { "unopened does not exist" })
            .await;
        // The test does not wait here: the signal comes at a random moment of the open.
        tokio::time::sleep(Duration::from_micros(random.u64(..120_000))).await;
        let log = bridge.log_file();
        drain(bridge).await;
        let log = std::fs::read_to_string(log).expect("read the log");
        assert!(!log.contains("does not end"), "{log}");
    }
}

async fn a_second_signal_abandons(version: Version, protocol: Protocol) {
    let (broker, namespace) = (shared(version), &protocol.named("again"));
    let setup = Setup::new(broker, protocol, namespace, "main", namespace);
    let setup = setup.set("SHUTDOWN__DRAIN_TIMEOUT", "1h");
    let (mut bridge, unusable) = held(broker, namespace, &setup).await;
    bridge.terminate();
    says(&mut bridge, "SIGTERM: draining").await;
    bridge.terminate();
    is_abandoned(bridge, "SIGTERM again").await;
    unusable.restore();
    gets_everything(broker, namespace, &setup).await;
}

async fn the_deadline_abandons(version: Version, protocol: Protocol) {
    let (broker, namespace) = (shared(version), &protocol.named("late"));
    let setup = Setup::new(broker, protocol, namespace, "main", namespace);
    let setup = setup.set("SHUTDOWN__DRAIN_TIMEOUT", "1s");
    let (bridge, unusable) = held(broker, namespace, &setup).await;
    bridge.terminate();
    is_abandoned(bridge, "shutdown.drain_timeout has passed").await;
    unusable.restore();
    gets_everything(broker, namespace, &setup).await;
}

async fn an_unconfirmed_drain_is_reported(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "unheard"));
    let proxy = Proxy::start(broker.addr_of(protocol)).await;
    let setup = Setup::at(&protocol.url(proxy.addr()), namespace, "main", namespace)
        .set("SOURCE__CONNECT_TIMEOUT", "1s");
    let begin = async || {
        subscribed(broker, queue, 0).await;
        let bridge = setup.start();
        subscribed(broker, queue, 1).await;
        bridge
    };

    let mut bridge = begin().await;
    publish(broker, namespace, Events::good(100)).await;
    emptied(broker, queue).await;
    proxy.silence();
    bridge.terminate();
    assert_eq!(bridge.ended(SOON).await.code(), Some(76));
    let log = bridge.log();
    assert!(log.contains("did not confirm our disconnect") && !log.contains("and acknowledged"), "{log}");
    // The broker learns that the connection has ended.
    proxy.resume();
    proxy.cut();

    // No event was received, so none is redelivered.
    let bridge = begin().await;
    proxy.silence();
    drain(bridge).await;
}

const EVENTS: Events = Events { count: 2000, keys: 50, spread: Spread::Even, bad_every: None };

/// Starts a bridge that has written half of the events and holds the others, because it cannot write them.
async fn held(broker: &Broker, namespace: &str, setup: &Setup) -> (Bridge, Unusable) {
    let queue = format!("main.RTO.{namespace}");
    let mut bridge = setup.start();
    subscribed(broker, &queue, 1).await;
    let mut publisher = Publisher::connect(broker, namespace).await;
    publisher.publish(EVENTS.bodies().take(1000)).await.expect("publish");
    emptied(broker, &queue).await;
    let said = bridge.log().len();
    let unusable = Unusable::make(setup.files());
    publisher.publish(EVENTS.bodies().skip(1000)).await.expect("publish");
    says_after(&mut bridge, said, r#"part="sink file""#).await;
    (bridge, unusable)
}

async fn is_abandoned(mut bridge: Bridge, why: &str) {
    let status = bridge.ended(SOON).await;
    assert_eq!(status.code(), Some(75), "{status}");
    assert!(bridge.log().contains(&format!("{why}: abandoned")), "{}", bridge.log());
}

/// Runs a working bridge and checks that it gets the abandoned events, all of which are still in the queue.
async fn gets_everything(broker: &Broker, namespace: &str, setup: &Setup) {
    let queue = format!("main.RTO.{namespace}");
    assert_eq!(counts(broker, &queue).dequeued, 1000, "an event that is in no file was acknowledged");
    let bridge = setup.start();
    emptied(broker, &queue).await;
    drain(bridge).await;
    Tally::of(EVENTS, setup.files()).assert_complete(0);
}
