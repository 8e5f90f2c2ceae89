//! A broker that refuses us: a clear line, a process that stays alive and does not hammer, and a `check`
//! that finds it before.

use crate::support::bridge::Setup;
use crate::support::broker::{Broker, Version, shared};
use crate::support::consumer::{Acks, Consumer};
use crate::support::proxy::Proxy;
use crate::support::scenario::{drain, says, subscribed};
use crate::support::stomp::Login;
use crate::support::{SOON, on_each_broker, wait_until};

on_each_broker!(
    a_wrong_password_is_told_and_retried_slowly,
    a_foreign_namespace_is_told_and_retried_slowly,
    check_finds_them_and_ends_with_1,
);

const WRONG_PASSWORD: &str = "the broker refused the login: ";
const FOREIGN: &str = "the broker refused to let this user read the queue: ";

fn with_wrong_password(broker: &Broker) -> Setup {
    Setup::new(broker, "refused", "main", "refused-1")
        .set("SOURCE__PASSWORD", "ffffffffffffffffffffffffffffffff")
}

/// The queue exists, and this user may not read it.
async fn with_foreign_namespace(broker: &Broker, namespace: &str) -> Setup {
    let queue = format!("main.RTO.{namespace}");
    Consumer::subscribe(broker, &queue, 1, Acks::Never).await.close().await;
    let login = Login::other_customer();
    Setup::new(broker, namespace, "main", &format!("{namespace}-1"))
        .set("SOURCE__USERNAME", login.username)
        .set("SOURCE__PASSWORD", login.password)
}

async fn a_wrong_password_is_told_and_retried_slowly(version: Version) {
    let broker = shared(version);
    let setup = with_wrong_password(broker);
    is_told_and_retried_slowly(broker, setup, WRONG_PASSWORD, "check source.username and source.password")
        .await;
}

async fn a_foreign_namespace_is_told_and_retried_slowly(version: Version) {
    let broker = shared(version);
    let setup = with_foreign_namespace(broker, "foreign-run").await;
    is_told_and_retried_slowly(broker, setup, FOREIGN, "check source.namespace and source.destination_id")
        .await;
}

async fn is_told_and_retried_slowly(broker: &Broker, setup: Setup, words: &str, advice: &str) {
    let proxy = Proxy::start(broker.addr()).await;
    let setup = setup.set("SOURCE__URL", format!("stomp://{}", proxy.addr()));
    let mut refused = setup.start();
    says(&mut refused, &format!("held: {words}")).await;
    assert!(refused.log().contains(advice), "{}", refused.log());

    // Meanwhile another one lives through the usual back-off several times, and this one tries no second.
    let unreachable = Proxy::start(broker.addr()).await;
    let other = Setup::new(broker, "unrefused", "main", &format!("other-{}", proxy.addr().port()))
        .set("SOURCE__URL", format!("stomp://{}", unreachable.addr()));
    let mut cut = other.start();
    for connections in 1..=3 {
        wait_until("the other one connects", SOON, || unreachable.connections() >= connections).await;
        unreachable.cut();
    }
    says(&mut cut, "retrying: ").await;
    assert_eq!(proxy.connections(), 1, "it hammers");
    assert_eq!(refused.status(), None, "it has ended");
    // Nothing was taken, so there is nothing to settle.
    drain(refused).await;
    drain(cut).await;
}

async fn check_finds_them_and_ends_with_1(version: Version) {
    let broker = shared(version);
    fails(with_wrong_password(broker).argument("check"), WRONG_PASSWORD).await;
    let foreign = with_foreign_namespace(broker, "foreign-check").await;
    fails(foreign.argument("check").argument("--subscribe"), FOREIGN).await;

    let healthy = Setup::new(broker, "checked", "main", "checked-1").argument("check");
    let mut check = healthy.start();
    let status = check.ended(SOON).await;
    assert_eq!(status.code(), Some(0), "{}", check.log());
    assert_eq!(broker.queue("main.RTO.checked"), None, "a mere check has created a queue");

    // Beside a bridge that runs with the same connection id.
    let running = Setup::new(broker, "checked-beside", "main", "checked-beside-1");
    let bridge = running.start();
    subscribed(broker, "main.RTO.checked-beside", 1).await;
    let checking = Setup::new(broker, "checked-beside", "main", "checked-beside-1").argument("check");
    let mut beside = checking.start();
    let status = beside.ended(SOON).await;
    assert_eq!(status.code(), Some(0), "{}", beside.log());
    drain(bridge).await;
}

async fn fails(setup: Setup, words: &str) {
    let mut check = setup.start();
    let status = check.ended(SOON).await;
    assert_eq!(status.code(), Some(1), "{}", check.log());
    let log = check.log();
    assert!(log.contains("FAILED  broker stomp://") && log.contains(words), "{log}");
}
