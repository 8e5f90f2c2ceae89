//! Tests brokers that remove slow consumers; over STOMP they do it silently. Nothing is lost, the bridge
//! subscribes again at once, and it counts an event as acknowledged only when the broker knows of it.

use std::fs;

use kit::admin::{Admin, Metrics};
use kit::bridge::{Bridge, Setup};
use kit::broker::{Broker, Options, Protocol, SLOW_ACKS, Version, shared};
use kit::events::Events;
use kit::output::Tally;
use kit::scenario::{Unusable, counts, drain, emptied, place, publish, publish_from, says, subscribed};
use kit::{SOON, on_each_broker, wait_until};

on_each_broker!(
    over each protocol:
    a_consumer_removed_while_a_sink_was_unusable_comes_back,
    a_late_consumer_that_was_not_removed_continues,
);

on_each_broker!(a_drain_after_which_the_last_events_are_redelivered_reports_it);

const QUEUE: &str = "main.RTO.acme";
const REMOVED: &str = "the broker has taken the subscription away";

/// Starts a bridge whose sink is unusable; dropping the second value makes the sink usable.
fn without_its_sink(setup: &Setup) -> (Bridge, Unusable) {
    fs::create_dir_all(setup.files()).expect("make a directory");
    let unusable = Unusable::make(setup.files());
    (setup.start(), unusable)
}

/// The broker removes slow consumers with `abortSlowAckConsumerStrategy`, because ActiveMQ's
/// `abortSlowConsumerStrategy` ignores the consumers of queues.
async fn a_consumer_removed_while_a_sink_was_unusable_comes_back(version: Version, protocol: Protocol) {
    let broker = Broker::start(version, Options { slow_consumers: Some(SLOW_ACKS), ..Options::default() });
    let events = Events::good(3000);
    let setup = Setup::new(&broker, protocol, "acme", "main", "acme-1");
    let (mut bridge, unusable) = without_its_sink(&setup);
    subscribed(&broker, QUEUE, 1).await;
    publish(&broker, "acme", events).await;
    match protocol {
        Protocol::Stomp => subscribed(&broker, QUEUE, 0).await,
        Protocol::OpenWire => says(&mut bridge, REMOVED).await,
    }
    unusable.restore();
    says(&mut bridge, REMOVED).await;
    emptied(&broker, QUEUE).await;
    let dequeued = counts(&broker, QUEUE).dequeued;
    wait_until_acked(&bridge, QUEUE, dequeued).await;
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
}

async fn wait_until_acked(bridge: &Bridge, queue: &str, count: u64) {
    let sample = format!(r#"atdata_bridge_events_acked_total{{queue="{queue}"}}"#);
    let admin = Admin::of(bridge).await;
    let metrics = admin
        .metrics_until("all are counted as acknowledged", |metrics| {
            metrics.find(&sample).is_some_and(|acked| acked as u64 >= count)
        })
        .await;
    assert_eq!(metrics.value(&sample) as u64, count, "more than the broker knows of");
}

/// Waits until the oldest event is so old that its acknowledgement counts as late.
async fn late(bridge: &Bridge, queue: &str) {
    let sample = format!(r#"atdata_bridge_oldest_unacked_age_seconds{{queue="{queue}"}}"#);
    let wanted = |metrics: &Metrics| metrics.find(&sample).is_some_and(|age| age > 1.5);
    Admin::of(bridge).await.metrics_until("the oldest event has waited", wanted).await;
}

/// The bridge asks the broker, and stays ready.
async fn a_late_consumer_that_was_not_removed_continues(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "late-and-kept"));
    let events = Events::good(120);
    let setup = Setup::new(broker, protocol, namespace, "main", namespace).set("LOG__FILTER", "debug");
    let (mut bridge, unusable) = without_its_sink(&setup);
    subscribed(broker, queue, 1).await;
    publish(broker, namespace, Events { count: 100, ..events }).await;
    wait_until("the events are in flight", SOON, || counts(broker, queue).in_flight == 100).await;
    late(&bridge, queue).await;
    let said = bridge.log().len();
    unusable.restore();
    emptied(broker, queue).await;
    if protocol == Protocol::Stomp {
        says(&mut bridge, "the subscription was still there").await;
    }
    subscribed(broker, queue, 1).await;
    publish_from(broker, namespace, events, 100).await;
    emptied(broker, queue).await;
    wait_until_acked(&bridge, queue, 120).await;
    let log = bridge.log();
    let failing = |line: &&str| {
        line.contains(r#"part="source""#) && (line.contains("retrying") || line.contains("held"))
    };
    assert_eq!(log.get(said..).expect("a longer log").lines().find(failing), None);
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
}

/// Over OpenWire the broker reports the removal, so that a new session settles the events before the drain.
async fn a_drain_after_which_the_last_events_are_redelivered_reports_it(version: Version) {
    let broker = Broker::start(version, Options { slow_consumers: Some(SLOW_ACKS), ..Options::default() });
    let setup = Setup::new(&broker, Protocol::Stomp, "acme", "main", "acme-1");
    let (mut bridge, unusable) = without_its_sink(&setup);
    subscribed(&broker, QUEUE, 1).await;
    publish(&broker, "acme", Events::good(10)).await;
    subscribed(&broker, QUEUE, 0).await;
    bridge.terminate();
    says(&mut bridge, "draining").await;
    unusable.restore();
    let status = bridge.ended(SOON).await;
    assert_eq!(status.code(), Some(76), "{}", bridge.log());
    assert_eq!(counts(&broker, QUEUE).messages, 10);
    let bridge = setup.start();
    emptied(&broker, QUEUE).await;
    drain(bridge).await;
}
