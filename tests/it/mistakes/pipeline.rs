//! Tests mistakes in keys and bodies.

use super::{Scenario, scenarios};
use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared_if_available};
use kit::consumer::{Acks, Consumer};
use kit::events::Events;
use kit::publisher::Publisher;
use kit::scenario::{drain, emptied, place};

scenarios!(
    "pipeline":
    wrong_key_pointer,
    wrong_key_pointer_openwire,
    no_md5_at_all,
    key_is_not_an_md5,
    body_is_not_json,
);

const WAITING: u64 = 5;

async fn wrong_key_pointer(id: &str) {
    repaired_by_the_pointer(Protocol::Stomp, id).await;
}

async fn wrong_key_pointer_openwire(id: &str) {
    repaired_by_the_pointer(Protocol::OpenWire, id).await;
}

async fn repaired_by_the_pointer(protocol: Protocol, id: &str) {
    let Some(broker) = shared_if_available(Version::V6, id) else { return };
    let Some(setup) = shows(protocol, id, |key| format!(r#"{{"email":{{"md5":"{key}"}}}}"#)).await else {
        return;
    };
    let repaired = setup.set("EVENT__KEYS", "/email/md5");
    let bridge = repaired.start();
    emptied(broker, &place(protocol, id).1).await;
    drain(bridge).await;
    assert_eq!(kit::output::json_lines(repaired.files()).len() as u64, WAITING);
}

async fn no_md5_at_all(id: &str) {
    shows(Protocol::Stomp, id, |_| r#"{"type":"open"}"#.to_owned()).await;
}

async fn key_is_not_an_md5(id: &str) {
    shows(Protocol::Stomp, id, |key| format!(r#"{{"hash":"0x{key}"}}"#)).await;
}

async fn body_is_not_json(id: &str) {
    shows(Protocol::Stomp, id, |key| format!("md5_email={key}&label=x")).await;
}

/// Publishes events whose bodies `body` makes from a key, and starts a bridge that expects the key at `/hash`
/// and may write no dead letter.
async fn shows(protocol: Protocol, id: &str, body: impl Fn(String) -> String) -> Option<Setup> {
    let broker = shared_if_available(Version::V6, id)?;
    let (namespace, queue) = &place(protocol, id);
    Consumer::subscribe(broker, queue, 1, Acks::Never).await.close().await;
    let bodies = (0..WAITING).map(|number| body(Events::good(WAITING).key(number)));
    Publisher::connect(broker, namespace).await.publish(bodies).await.expect("publish");
    let setup = Setup::new(broker, protocol, namespace, "main", namespace)
        .set("EVENT__KEYS", "/hash")
        .set("DEAD_LETTERS__MAX_SHARE", "0");
    Some(Scenario::new(setup).seen_by_subscribing().keeps(broker, queue, WAITING).shows(id).await)
}
