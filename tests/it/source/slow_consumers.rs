//! Brokers that take consumers away which are slow to acknowledge: over STOMP without a word. Nothing is lost, events
//! move again at once, and what counts as acknowledged is what the broker has heard.

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
    a_consumer_that_was_taken_away_while_a_sink_was_away_comes_back,
    one_that_was_late_and_kept_goes_on,
);

on_each_broker!(a_drain_after_which_the_last_events_come_again_says_so);

const QUEUE: &str = "main.RTO.acme";
const TAKEN_AWAY: &str = "the broker has taken the subscription away";

/// A bridge whose sink is away, and the sink's way back.
fn without_its_sink(setup: &Setup) -> (Bridge, Unusable) {
    fs::create_dir_all(setup.files()).expect("make a directory");
    let unusable = Unusable::make(setup.files());
    (setup.start(), unusable)
}

/// ActiveMQ's `abortSlowConsumerStrategy` leaves the consumers of queues alone.
async fn a_consumer_that_was_taken_away_while_a_sink_was_away_comes_back(
    version: Version,
    protocol: Protocol,
) {
    let broker = Broker::start(version, Options { slow_consumers: Some(SLOW_ACKS), ..Options::default() });
    let events = Events::good(3000);
    let setup = Setup::new(&broker, protocol, "acme", "main", "acme-1");
    let (mut bridge, unusable) = without_its_sink(&setup);
    subscribed(&broker, QUEUE, 1).await;
    publish(&broker, "acme", events).await;
    match protocol {
        Protocol::Stomp => subscribed(&broker, QUEUE, 0).await,
        Protocol::OpenWire => says(&mut bridge, TAKEN_AWAY).await,
    }
    unusable.restore();
    says(&mut bridge, TAKEN_AWAY).await;
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
    assert_eq!(metrics.value(&sample) as u64, count, "more than the broker has heard of");
}

/// Waits until the oldest event has waited longer than an acknowledgement that is not late.
async fn late(bridge: &Bridge, queue: &str) {
    let sample = format!(r#"atdata_bridge_oldest_unacked_age_seconds{{queue="{queue}"}}"#);
    let wanted = |metrics: &Metrics| metrics.find(&sample).is_some_and(|age| age > 1.5);
    Admin::of(bridge).await.metrics_until("the oldest event has waited", wanted).await;
}

/// It asks, and is ready all the while.
async fn one_that_was_late_and_kept_goes_on(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "late-and-kept"));
    let events = Events::good(120);
    let setup = Setup::new(broker, protocol, namespace, "main", namespace).set("LOG__FILTER", "debug");
    let (mut bridge, unusable) = without_its_sink(&setup);
    subscribed(broker, queue, 1).await;
    publish(broker, namespace, Events { count: 100, ..events }).await;
    wait_until("they are on the way", SOON, || counts(broker, queue).in_flight == 100).await;
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
    let troubled = |line: &&str| {
        line.contains(r#"part="source""#) && (line.contains("retrying") || line.contains("held"))
    };
    assert_eq!(log.get(said..).expect("a longer log").lines().find(troubled), None);
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
}

/// OpenWire says it, so that a new session settles them before the drain.
async fn a_drain_after_which_the_last_events_come_again_says_so(version: Version) {
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
