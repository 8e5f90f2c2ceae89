//! Tests that a hold ends when its cause is gone, that events are counted once, and that an exit reports
//! unsettled events.

use std::time::Duration;

use kit::admin::Admin;
use kit::bridge::{Bridge, Setup};
use kit::broker::{Broker, Options, Protocol, Version, shared};
use kit::events::{Events, number_in};
use kit::kafka_reader::each_record;
use kit::output::{Tally, json_lines};
use kit::proxy::Proxy;
use kit::publisher::Publisher;
use kit::scenario::{
    Unusable, counts, drain, emptied, in_trouble, publish, ready_after, says, says_after, subscribed,
};
use kit::{SOON, kafka, on_each_broker, wait_until};

on_each_broker!(
    over each protocol, with a real kafka:
    a_hold_ends_when_the_topic_accepts_the_refused_event,
);
on_each_broker!(
    over each protocol:
    redelivered_keyless_events_are_counted_once,
    the_hold_for_a_wrong_key_pointer_names_the_right_one,
    an_unreachable_sink_takes_no_memory_from_the_others,
    unsettled_events_when_the_broker_closes_end_with_75,
    dead_letters_are_logged,
);

/// Makes an event of more than `size` bytes, identified by its number. Kafka's client cannot compress it
/// much.
fn body(number: u64, size: usize) -> String {
    let events = Events { keys: u64::MAX, ..Events::good(1) };
    let filling: String = (0..).map(|n| events.key(number * 10_000 + n)).take(size / 32 + 1).collect();
    format!(r#"{{"md5":"{}","n":{number},"x":"{filling}"}}"#, events.key(number))
}

async fn send(broker: &Broker, namespace: &str, bodies: impl IntoIterator<Item = String>) {
    Publisher::connect(broker, namespace).await.publish(bodies).await.expect("publish");
}

/// Limit, hold, higher limit: every event that is not yet a dead letter is delivered, without a restart.
async fn a_hold_ends_when_the_topic_accepts_the_refused_event(version: Version, protocol: Protocol) {
    const EVENTS: u64 = 30;
    const LIMIT: u64 = 2;
    let (broker, kafka) = (shared(version), kafka::shared());
    let namespace = &protocol.named("refusing");
    let (topic, queue) = (format!("{namespace}-{version:?}"), &format!("main.RTO.{namespace}"));
    kafka.create_topic(&topic, 3, &["max.message.bytes=1000"]);
    let setup = Setup::new(broker, protocol, namespace, "main", namespace)
        .unset("SINKS__FILE__DIRECTORY")
        .set("SINKS__KAFKA__BROKERS", kafka.bootstrap())
        .set("SINKS__KAFKA__TOPIC", &topic)
        // Each halving of a batch and each refused event is logged with two lines, and of one part only ten lines
        // at once. After these the log has the next line half a minute later (`telemetry/status.rs`).
        .set("SINKS__KAFKA__PROPERTIES__BATCH_SIZE", "5000")
        .set("DEAD_LETTERS__MAX_RUN", LIMIT.to_string());
    let mut bridge = setup.start();
    subscribed(broker, queue, 1).await;
    send(broker, namespace, (0..EVENTS).map(|number| body(number, 5000))).await;
    says(&mut bridge, &format!("held: more than {LIMIT} events in a row were refused")).await;
    let letters = || json_lines(setup.dead_letters()).len() as u64;
    wait_until("the dead letters have reached the limit", SOON, || letters() == LIMIT).await;
    let (said, dead) = (bridge.log().len(), letters());
    assert!(broker.depth(queue) >= EVENTS - dead, "acknowledged without a dead letter");

    kafka.configure_topic(&topic, "max.message.bytes=1000000");
    emptied(broker, queue).await;
    says_after(&mut bridge, said, "ready again after ").await;
    drain(bridge).await;
    let mut delivered = Vec::new();
    each_record(&kafka.bootstrap(), &topic, |record| {
        let value = String::from_utf8(record.value.expect("a value")).expect("text");
        delivered.push(number_in(&value).expect("a number"));
    });
    delivered.sort_unstable();
    assert_eq!(letters(), dead, "a good event became a dead letter");
    assert_eq!(delivered.len() as u64, EVENTS - dead, "lost or duplicated");
    delivered.dedup();
    assert_eq!(delivered.len() as u64, EVENTS - dead, "duplicated");
}

/// Sixty events without a key that the broker delivers three times count as sixty, not as a hundred and
/// eighty.
async fn redelivered_keyless_events_are_counted_once(version: Version, protocol: Protocol) {
    const KEYLESS: u64 = 60;
    const GOOD: u64 = 20;
    let broker = Broker::start(version, Options::default());
    let queue = "main.RTO.acme";
    let setup = Setup::new(&broker, protocol, "acme", "main", "acme-1").set("SOURCE__BACKOFF__MAX", "1s");
    std::fs::create_dir(setup.dead_letters()).expect("make a directory");
    let unusable = Unusable::make(setup.dead_letters());
    let mut bridge = setup.start();
    subscribed(&broker, queue, 1).await;
    send(&broker, "acme", (0..KEYLESS).map(|number| format!(r#"{{"n":{number}}}"#))).await;
    for _ in 0..2 {
        wait_until("the events are in flight", SOON, || counts(&broker, queue).in_flight == KEYLESS).await;
        let said = bridge.log().len();
        tokio::task::block_in_place(|| broker.restart());
        ready_after(&mut bridge, said, "source").await;
    }
    send(&broker, "acme", (KEYLESS..KEYLESS + GOOD).map(|number| body(number, 1))).await;
    unusable.restore();
    emptied(&broker, queue).await;
    assert!(!bridge.log().contains("events in a row"), "{}", bridge.log());
    drain(bridge).await;
    assert_eq!(json_lines(setup.dead_letters()).len() as u64, KEYLESS);
    assert_eq!(json_lines(setup.files()).len() as u64, GOOD);
}

async fn the_hold_for_a_wrong_key_pointer_names_the_right_one(version: Version, protocol: Protocol) {
    let (broker, namespace) = (shared(version), &protocol.named("pointer"));
    let queue = &format!("main.RTO.{namespace}");
    let setup = Setup::new(broker, protocol, namespace, "main", namespace)
        .set("EVENT__KEYS", "/hash")
        .set("DEAD_LETTERS__MAX_RUN", "10");
    let mut bridge = setup.start();
    subscribed(broker, queue, 1).await;
    let key = Events::good(1).key(0);
    send(broker, namespace, (0..30).map(|n| format!(r#"{{"n":{n},"email":{{"md5":"{key}"}}}}"#))).await;
    says(&mut bridge, "held: more than 10 events in a row have no usable key").await;
    let log = bridge.log();
    assert!(
        log.contains(r#"`/email/md5` holds an MD5 in 11 of 11: set event.keys = ["/email/md5"] and restart"#),
        "{log}"
    );
    assert!(!log.contains(&key), "a key is personal data: {log}");
    bridge.terminate();
    bridge.ended(SOON).await;
    for letter in json_lines(setup.dead_letters()) {
        assert_eq!(letter["detail"], "no key at /hash; there is an MD5 at /email/md5");
    }

    let repaired = setup.set("EVENT__KEYS", "/email/md5");
    let bridge = repaired.start();
    emptied(broker, queue).await;
    drain(bridge).await;
    let (letters, events) = (json_lines(repaired.dead_letters()).len(), json_lines(repaired.files()).len());
    assert_eq!(letters + events, 30, "{letters} dead letters, {events} events");
    assert!(letters <= 10, "{letters} dead letters");
}

/// If an unreachable sink has a subscription of its own, it does not delay other sinks, even with large
/// events.
async fn an_unreachable_sink_takes_no_memory_from_the_others(version: Version, protocol: Protocol) {
    const EVENTS: u64 = 600;
    // A broker of its own: the events left in the queue of the unreachable sink would fill a shared broker.
    let (broker, namespace) = (&Broker::start(version, Options::default()), &protocol.named("shares"));
    // Nothing listens on port 9, and the proxy keeps its own port for this test.
    let unreachable = Proxy::start("127.0.0.1:9".parse().expect("an address")).await;
    let setup = Setup::new(broker, protocol, namespace, "main", namespace)
        .set("SOURCE__ISOLATION", "mirror")
        .set("SOURCE__MAX_BODY", "1MiB")
        .set("SOURCE__MAX_IN_FLIGHT", "16MiB")
        .set("SINKS__NATS__URL", format!("nats://{}", unreachable.addr()))
        .set("SINKS__NATS__STREAM", "NOWHERE")
        .set("SINKS__NATS__SUBJECT", "nowhere");
    let bridge = setup.start();
    let (file, nats) = (format!("main-file.RTO.{namespace}"), format!("main-nats.RTO.{namespace}"));
    subscribed(broker, &file, 1).await;
    subscribed(broker, &nats, 1).await;
    send(broker, namespace, (0..EVENTS).map(|number| body(number, 100_000))).await;
    emptied(broker, &file).await;
    let admin = Admin::of(&bridge).await;
    admin
        .not_ready(&[&format!("events of {nats}: "), "all of their share of source.max_in_flight, 8MiB"])
        .await;
    assert_eq!(broker.depth(&nats), EVENTS, "an event that no sink has was acknowledged");
    assert!(bridge.peak_memory() < 120_000_000, "{} bytes", bridge.peak_memory());
    bridge.kill();
    assert_eq!(json_lines(setup.files()).len() as u64, EVENTS);
}

/// A drain that loses its connection while a sink is unusable must not report that the events are settled.
async fn unsettled_events_when_the_broker_closes_end_with_75(version: Version, protocol: Protocol) {
    const EVENTS: u64 = 2000;
    let broker = shared(version);
    let namespace = &protocol.named("unsettled");
    let queue = &format!("main.RTO.{namespace}");
    let proxy = Proxy::start(broker.addr_of(protocol)).await;
    let setup =
        Setup::at(&protocol.url(proxy.addr()), namespace, "main", namespace).set("SOURCE__PREFETCH", "500");
    std::fs::create_dir(setup.files()).expect("make a directory");
    let unusable = Unusable::make(setup.files());
    let mut bridge = setup.start();
    subscribed(broker, queue, 1).await;
    publish(broker, namespace, Events::good(EVENTS)).await;
    in_trouble(&mut bridge, 0, "sink file").await;
    wait_until("events are in flight", SOON, || counts(broker, queue).in_flight >= 400).await;
    bridge.terminate();
    says(&mut bridge, "SIGTERM: draining").await;
    proxy.cut();
    let status = bridge.ended(SOON).await;
    let log = bridge.log();
    assert_eq!(status.code(), Some(75), "{log}");
    assert!(!log.contains("settled and acknowledged"), "{log}");
    assert!(log.contains("were settled: the broker delivers them again"), "{log}");
    unusable.restore();
    assert_eq!(broker.depth(queue), EVENTS, "lost");
    let bridge = setup.start();
    emptied(broker, queue).await;
    drain(bridge).await;
    Tally::of(Events::good(EVENTS), setup.files()).assert_complete(0);
}

async fn dead_letters_are_logged(version: Version, protocol: Protocol) {
    let (broker, namespace) = (shared(version), &protocol.named("told"));
    let queue = &format!("main.RTO.{namespace}");
    let setup = Setup::new(broker, protocol, namespace, "main", namespace);
    let mut bridge: Bridge = setup.start();
    subscribed(broker, queue, 1).await;
    send(broker, namespace, [r#"{"n":1}"#.to_owned()]).await;
    says(&mut bridge, "1 event has become a dead letter (key_missing 1); the last: ").await;
    let line = format!(", in the directory {}", setup.dead_letters().display());
    assert!(bridge.log().contains(&line), "{}", bridge.log());
    send(broker, namespace, (2..52).map(|n| format!(r#"{{"n":{n}}}"#))).await;
    emptied(broker, queue).await;
    bridge.terminate();
    bridge.ended(Duration::from_secs(60)).await;
    let log = bridge.log();
    assert_eq!(log.matches("a dead letter (").count() + log.matches("dead letters (").count(), 2, "{log}");
    assert!(log.contains("50 events have become dead letters (key_missing 50)"), "{log}");
}
