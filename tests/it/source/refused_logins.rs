//! Tests a broker that refuses the login: a clear log line, a process that stays alive and retries slowly,
//! and a `check` that finds the problem beforehand.

use std::time::Instant;

use kit::bridge::Setup;
use kit::broker::{Broker, Protocol, QueueCounts, Version, shared};
use kit::consumer::{Acks, Consumer};
use kit::events::Events;
use kit::proxy::Proxy;
use kit::publisher::Publisher;
use kit::scenario::{closed_without_reason, counts, drain, place, publish, says, subscribed};
use kit::stomp::Login;
use kit::{SOON, on_each_broker, wait_until};

on_each_broker!(
    over each protocol:
    a_wrong_password_is_reported_and_retried_slowly,
    a_foreign_namespace_is_reported_and_retried_slowly,
    check_finds_them_and_ends_with_1,
    check_looks_for_keys_and_does_not_change_the_queue,
);

const WRONG_PASSWORD: &str = "the broker refused the login: ";
const FOREIGN: &str = "the broker refused to let this user read the queue: ";

fn with_wrong_password(broker: &Broker, protocol: Protocol) -> Setup {
    let namespace = &protocol.named("refused");
    Setup::new(broker, protocol, namespace, "main", namespace)
        .set("SOURCE__PASSWORD", "ffffffffffffffffffffffffffffffff")
}

/// The queue exists, but this user may not read it.
async fn with_foreign_namespace(broker: &Broker, protocol: Protocol, name: &str) -> Setup {
    let (namespace, queue) = &place(protocol, name);
    Consumer::subscribe(broker, queue, 1, Acks::Never).await.close().await;
    let login = Login::other_customer();
    Setup::new(broker, protocol, namespace, "main", namespace)
        .set("SOURCE__USERNAME", login.username)
        .set("SOURCE__PASSWORD", login.password)
}

async fn a_wrong_password_is_reported_and_retried_slowly(version: Version, protocol: Protocol) {
    let setup = with_wrong_password(shared(version), protocol);
    let advice = "check source.username and source.password";
    is_reported_and_retried_slowly(version, protocol, setup, WRONG_PASSWORD, advice).await;
}

async fn a_foreign_namespace_is_reported_and_retried_slowly(version: Version, protocol: Protocol) {
    let setup = with_foreign_namespace(shared(version), protocol, "foreign-run").await;
    let advice = "check source.namespace and source.destination_id";
    is_reported_and_retried_slowly(version, protocol, setup, FOREIGN, advice).await;
}

async fn is_reported_and_retried_slowly(
    version: Version,
    protocol: Protocol,
    setup: Setup,
    expected: &str,
    advice: &str,
) {
    let broker = shared(version);
    let proxy = Proxy::start(broker.addr_of(protocol)).await;
    let setup = setup.set("SOURCE__URL", protocol.url(proxy.addr()));
    let mut refused = setup.start();
    says(&mut refused, &format!("held: {expected}")).await;
    assert!(refused.log().contains(advice), "{}", refused.log());
    let connections = proxy.connections();

    // Meanwhile another bridge goes through the usual back-off several times; the refused bridge does not try
    // again.
    let unreachable = Proxy::start(broker.addr_of(protocol)).await;
    let id = format!("other-{}", proxy.addr().port());
    let other = Setup::new(broker, protocol, "unrefused", "main", &id)
        .set("SOURCE__URL", protocol.url(unreachable.addr()));
    let mut cut = other.start();
    for attempt in 1..=3 {
        wait_until("the other bridge connects", SOON, || unreachable.connections() >= attempt).await;
        unreachable.cut();
    }
    says(&mut cut, "retrying: ").await;
    assert_eq!(proxy.connections(), connections, "the bridge retried too soon");
    assert_eq!(refused.status(), None, "the process ended");
    // No event was received, so there is nothing to settle.
    drain(refused).await;
    drain(cut).await;
}

async fn check_finds_them_and_ends_with_1(version: Version, protocol: Protocol) {
    let broker = shared(version);
    let expected = format!("FAILED  broker {}", broker.url_of(protocol));
    let wrong = with_wrong_password(broker, protocol);
    fails(wrong.argument("check"), &[&expected, WRONG_PASSWORD]).await;
    let foreign = with_foreign_namespace(broker, protocol, "foreign-check").await;
    fails(foreign.argument("check").argument("--subscribe"), &[&expected, FOREIGN]).await;

    let (asked, other) = match protocol {
        Protocol::Stomp => ("speaks OpenWire: write tcp://", Protocol::OpenWire),
        Protocol::OpenWire => ("speaks STOMP: write stomp://", Protocol::Stomp),
    };
    let url = protocol.url(broker.addr_of(other));
    let elsewhere = Setup::new(broker, protocol, "elsewhere", "main", "elsewhere").set("SOURCE__URL", &url);
    let elsewhere = match protocol {
        Protocol::Stomp => elsewhere,
        // A STOMP port does not answer OpenWire.
        Protocol::OpenWire => elsewhere.set("SOURCE__CONNECT_TIMEOUT", "5s"),
    };
    fails(elsewhere.argument("check"), &[&format!("FAILED  broker {url}"), asked]).await;

    let (namespace, queue) = &place(protocol, "checked");
    let setup = || Setup::new(broker, protocol, namespace, "main", namespace);
    succeeds(setup().argument("check")).await;
    assert_eq!(broker.queue(queue), None, "a check without --subscribe created a queue");
    succeeds(setup().argument("check").argument("--subscribe")).await;
    subscribed(broker, queue, 0).await;

    // Beside a running bridge with the same connection id.
    let running = setup();
    let bridge = running.start();
    subscribed(broker, queue, 1).await;
    succeeds(setup().argument("check")).await;
    drain(bridge).await;
}

/// A browser consumes nothing and marks nothing as redelivered.
async fn check_looks_for_keys_and_does_not_change_the_queue(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "browsed"));
    let check = || {
        let setup = Setup::new(broker, protocol, namespace, "main", namespace);
        setup.argument("check").argument("--subscribe")
    };
    let said = succeeds(check()).await;
    assert!(said.contains("no event waits in it whose key could be looked for"), "{said}");
    publish(broker, namespace, Events::good(99)).await;
    let said = succeeds(check()).await;
    assert!(said.contains("the keys of 99 events that wait in it were found"), "{said}");
    let mut publisher = Publisher::connect(broker, namespace).await;
    let elsewhere = |n: u64| format!(r#"{{"email":{{"md5":"{}"}},"n":{n}}}"#, Events::good(9).key(0));
    publisher.publish((99..250).map(elsewhere)).await.expect("publish");
    let said = succeeds(check()).await;
    let found = ["warning: 1 of 100 events that wait in ", "`/email/md5` holds an MD5 in 1 of 1"];
    assert!(found.iter().all(|expected| said.contains(expected)), "{said}");
    let before = QueueCounts { messages: 250, in_flight: 0, enqueued: 250, dequeued: 0, consumers: 0 };
    wait_until("the queue is as before", SOON, || counts(broker, queue) == before).await;

    // Also while a consumer has all of them.
    let mut consumer = Consumer::subscribe(broker, queue, 300, Acks::Never).await;
    let frames = consumer.take(250).await;
    succeeds(check()).await;
    assert!(frames.iter().all(|frame| frame.get("redelivered").is_none()), "a browser marked them");
    consumer.ack(&frames[98]).await;
    wait_until("the good events were consumed", SOON, || broker.depth(queue) == 151).await;
    let all = "all 100 events that wait in ";
    fails(check(), &["FAILED  broker ", all, "`/email/md5` holds an MD5 in 100 of 100"]).await;
    consumer.close().await;
    assert_eq!(broker.depth(queue), 151);
}

async fn succeeds(setup: Setup) -> String {
    let mut check = setup.start();
    let status = check.ended(SOON).await;
    assert_eq!(status.code(), Some(0), "{}", check.log());
    check.log()
}

async fn fails(setup: Setup, expected: &[&str]) {
    let deadline = Instant::now() + SOON;
    loop {
        let mut check = setup.start();
        let status = check.ended(SOON).await;
        assert_eq!(status.code(), Some(1), "{}", check.log());
        let log = check.log().split_off(check.began());
        if expected.iter().all(|expected| log.contains(expected)) {
            return;
        }
        assert!(closed_without_reason(&log) && Instant::now() < deadline, "{log}");
    }
}
