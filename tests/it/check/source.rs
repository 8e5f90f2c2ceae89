//! Plants mistakes at the broker.

use std::sync::Arc;

use super::{check, finds, held, is_good, ok, retrying, warning};
use kit::bridge::Setup;
use kit::broker::{Broker, Protocol, Version, shared_if_available};
use kit::certificates::{Certificates, Kind};
use kit::consumer::{Acks, Consumer};
use kit::events::Events;
use kit::listener::{Listener, Manner};
use kit::rewriting::{Rewriting, replace_between};
use kit::scenario::{place, publish};
use kit::stomp::{Connection, Login};

const SUBSCRIBE: &[&str] = &["--subscribe"];

/// A bridge at a real broker, with an empty directory.
struct Scene {
    broker: &'static Broker,
    protocol: Protocol,
    namespace: String,
    queue: String,
    setup: Setup,
}

impl Scene {
    /// Returns `None`, and reports the skipped test, where there is no server.
    fn new(test: &str, protocol: Protocol) -> Option<Self> {
        let broker = shared_if_available(Version::V6, test)?;
        let (namespace, queue) = place(protocol, test);
        let setup = Setup::new(broker, protocol, &namespace, "main", &namespace);
        Some(Self { broker, protocol, namespace, queue, setup })
    }

    /// Puts a relay between the bridge and the broker that changes what the broker sends.
    async fn behind(mut self, change: fn(&mut Vec<u8>)) -> (Self, Rewriting) {
        let relay = Rewriting::start(self.broker.addr_of(self.protocol), change).await;
        self.setup = self.setup.set("SOURCE__URL", self.protocol.url(relay.addr()));
        (self, relay)
    }
}

/// As a broker whose connector has no heart-beats.
fn without_heart_beats(bytes: &mut Vec<u8>) {
    const OPENWIRE: &[u8] = b"MaxInactivityDuration\x06";
    replace_between(bytes, "heart-beat:", "\n", "0,0");
    if let Some(at) = bytes.windows(OPENWIRE.len()).position(|window| window == OPENWIRE) {
        let begin = at + OPENWIRE.len();
        bytes[begin..begin + 8].fill(0);
    }
}

async fn heart_beats(test: &str, protocol: Protocol) {
    let Some(scene) = Scene::new(test, protocol) else { return };
    is_good(&scene.setup, &[], "broker");
    finds("the good broker", &scene.setup, &[], ok("source-heart-beats"));
    let (Scene { setup, .. }, _relay) = scene.behind(without_heart_beats).await;
    finds("a broker without", &setup, &[], warning("source-no-heart-beats"));
    let off = setup.set("SOURCE__HEART_BEAT", "0s");
    finds("switched off here", &off, &[], warning("source-heart-beats-off"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heart_beats_over_stomp() {
    heart_beats("check-beats-stomp", Protocol::Stomp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heart_beats_over_openwire() {
    heart_beats("check-beats-openwire", Protocol::OpenWire).await;
}

/// Another client has the id of the bridge, or of its check.
async fn connection_ids(test: &str, protocol: Protocol) {
    let Some(Scene { broker, namespace, setup, .. }) = Scene::new(test, protocol) else { return };
    finds("nobody", &setup, SUBSCRIBE, ok("source-id-free"));
    let login = Login::customer().client_id(&namespace);
    let other = Connection::login(broker.addr(), &login).await.expect("log in");
    let said = finds("a bridge", &setup, SUBSCRIBE, ok("source-id-in-use"));
    assert!(said.contains(&namespace), "{said}");
    // A check that only logs in does not ask, and does not disturb.
    is_good(&setup, &[], "broker");
    assert!(check(&setup, &[]).iter().all(|result| result["code"] != "source-id-in-use"));
    other.disconnect().await.expect("the other client is still connected");

    let login = Login::customer().client_id(format!("{namespace}-check"));
    let other = Connection::login(broker.addr(), &login).await.expect("log in");
    finds("another check", &setup, &[], retrying("source-other-check"));
    other.disconnect().await.expect("the other check is still connected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_ids_over_stomp() {
    connection_ids("check-ids-stomp", Protocol::Stomp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_ids_over_openwire() {
    connection_ids("check-ids-openwire", Protocol::OpenWire).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_from_the_future_tell_that_a_clock_is_wrong() {
    let Some(scene) = Scene::new("check-clock", Protocol::Stomp) else { return };
    finds("an empty queue", &scene.setup, SUBSCRIBE, ok("clock-not-known"));
    Consumer::subscribe(scene.broker, &scene.queue, 1, Acks::Never).await.close().await;
    publish(scene.broker, &scene.namespace, Events::good(3)).await;
    is_good(&scene.setup, SUBSCRIBE, "broker");
    // The year 2286.
    let from_future = |bytes: &mut Vec<u8>| replace_between(bytes, "timestamp:", "\n", "9999999999999");
    let (Scene { setup, .. }, _relay) = scene.behind(from_future).await;
    let said = finds("events from the future", &setup, SUBSCRIBE, warning("clock-skew"));
    assert!(said.contains("ahead of the one here"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_and_keys() {
    let Some(scene) = Scene::new("check-rights", Protocol::Stomp) else { return };
    let other = Login::other_customer();
    let foreign = Setup::new(scene.broker, Protocol::Stomp, "acme", "main", "check-rights-foreign")
        .set("SOURCE__USERNAME", other.username)
        .set("SOURCE__PASSWORD", other.password);
    is_good(&foreign, &[], "broker");
    finds("a foreign namespace", &foreign, SUBSCRIBE, held("source-not-authorized"));

    Consumer::subscribe(scene.broker, &scene.queue, 1, Acks::Never).await.close().await;
    publish(scene.broker, &scene.namespace, Events::good(4).with_bad(2)).await;
    finds("some keys are missing", &scene.setup, SUBSCRIBE, warning("source-some-keys-missing"));
    let elsewhere = scene.setup.set("EVENT__KEYS", "/not/there");
    finds("all keys are missing", &elsewhere, SUBSCRIBE, held("source-all-keys-missing"));
}

/// The errors of the connection have codes too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_fail() {
    let Some(Scene { broker, .. }) = Scene::new("check-connections", Protocol::Stomp) else { return };
    let at = |url: String| Setup::at(&url, "acme", "main", "check-connections");
    let good = || at(broker.url_of(Protocol::Stomp));
    finds("nothing listens", &at("stomp://127.0.0.1:1".to_owned()), &[], retrying("source-unreachable"));
    let port = Listener::start(Manner::Silent).await;
    let silent = at(Protocol::Stomp.url(port.addr())).set("SOURCE__CONNECT_TIMEOUT", "1s");
    finds("a silent port", &silent, &[], retrying("source-timeout"));
    let openwire = at(Protocol::Stomp.url(broker.addr_of(Protocol::OpenWire)));
    finds("a port of OpenWire", &openwire, &[], held("source-wrong-port"));
    finds(
        "a wrong password",
        &good().set("SOURCE__PASSWORD", "0".repeat(32)),
        &[],
        held("source-credentials"),
    );
    let untrusted = at(broker.tls_url_of(Protocol::Stomp));
    finds("an unknown authority", &untrusted, &[], held("source-tls"));

    let home = tempfile::tempdir().expect("a directory");
    let certificates = Certificates::with(home.path(), Kind::ExpiresSoon);
    let config = Arc::new(certificates.server_config(false));
    let front = Listener::start(Manner::Forwards(config, broker.addr_of(Protocol::Stomp))).await;
    let expiring = at(Protocol::Stomp.tls_url(front.addr()))
        .set("SOURCE__TLS__CA_FILE", certificates.authority.display().to_string());
    let said = finds("a certificate for ten days", &expiring, &[], warning("certificate-expires-soon"));
    assert!(said.contains("(source.tls)"), "{said}");
}
