//! Tests `stomp+tls://` and `ssl://`: they work with the right authority and name, and other certificates
//! give a clear error.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kit::admin::Admin;
use kit::bridge::Setup;
use kit::broker::{Broker, Options, Protocol, Version, shared};
use kit::certificates::{Certificates, Kind};
use kit::disk::HangingFile;
use kit::events::Events;
use kit::listener::{Listener, Manner};
use kit::output::Tally;
use kit::proxy::Proxy;
use kit::scenario::{drain, emptied, place, publish, says, subscribed};
use kit::{SOON, on_each_broker};
use tokio::time::timeout;

on_each_broker!(
    over each protocol:
    carries_events_over_tls,
    refuses_a_certificate_of_an_unknown_authority,
    refuses_a_certificate_for_another_name,
    sends_its_certificate_if_the_broker_requires_one,
    an_address_with_a_wrong_certificate_does_not_delay_a_good_one,
    an_address_that_resets_the_handshake_does_not_delay_a_good_one,
    an_address_that_does_not_answer_the_handshake_does_not_hold_the_source,
    a_file_that_can_not_be_read_to_its_end_is_told_and_stops_nothing_else,
);

fn over_tls(broker: &Broker, protocol: Protocol, namespace: &str) -> Setup {
    Setup::new(broker, protocol, namespace, "main", namespace)
        .set("SOURCE__URL", broker.tls_url_of(protocol))
        .set("SOURCE__TLS__CA_FILE", broker.ca_file().display().to_string())
}

async fn carries_events_over_tls(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "tls"));
    let events = Events::good(10_000);
    let setup = over_tls(broker, protocol, namespace);
    let bridge = setup.start();
    subscribed(broker, queue, 1).await;
    publish(broker, namespace, events).await;
    emptied(broker, queue).await;
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
}

async fn refuses_a_certificate_of_an_unknown_authority(version: Version, protocol: Protocol) {
    let setup = over_tls(shared(version), protocol, &protocol.named("tls-unknown"));
    let expected = [
        "was issued by CN=test authority, whose certificate is neither in the system's certificates nor sent",
        "set source.tls.ca_file to a file with that authority's certificate",
    ];
    is_refused(setup.unset("SOURCE__TLS__CA_FILE"), shared(version), protocol, expected).await;
}

async fn refuses_a_certificate_for_another_name(version: Version, protocol: Protocol) {
    let names = vec!["broker.example.com".to_owned()];
    let broker = Broker::start(version, Options { certificate_names: names, ..Options::default() });
    let expected = ["is for broker.example.com, not for localhost", "write such a name in source.url"];
    is_refused(over_tls(&broker, protocol, "acme"), &broker, protocol, expected).await;
}

/// In front of the real broker is a server that requires a client certificate.
async fn sends_its_certificate_if_the_broker_requires_one(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "tls-client"));
    let home = tempfile::tempdir().expect("a directory");
    let certificates = Certificates::with(home.path(), Kind::WithIntermediate);
    let config = Arc::new(certificates.server_config(true));
    let listener = Listener::start(Manner::Forwards(config, broker.addr_of(protocol))).await;
    let setup = over_tls(broker, protocol, namespace)
        .set("SOURCE__URL", protocol.tls_url(listener.addr()))
        .set("SOURCE__TLS__CA_FILE", certificates.authority.display().to_string());
    let mut refused = setup.start();
    says(&mut refused, "held: the broker refused the TLS connection: the server wants a client certificate")
        .await;
    drain(refused).await;

    let setup = setup
        .set("SOURCE__TLS__CERTIFICATE_FILE", certificates.client.display().to_string())
        .set("SOURCE__TLS__KEY_FILE", certificates.client_key.display().to_string());
    let events = Events::good(1000);
    let bridge = setup.start();
    subscribed(broker, queue, 1).await;
    publish(broker, namespace, events).await;
    emptied(broker, queue).await;
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
}

/// The bridge once held for 30 to 60 s before it tried the other address.
async fn an_address_with_a_wrong_certificate_does_not_delay_a_good_one(version: Version, protocol: Protocol) {
    let home = tempfile::tempdir().expect("a directory");
    let certificates = Certificates::with(home.path(), Kind::Expired);
    let config = Arc::new(certificates.server_config(false));
    skips(version, protocol, Manner::Tls(config), "tls-passed-over").await;
}

async fn an_address_that_resets_the_handshake_does_not_delay_a_good_one(
    version: Version,
    protocol: Protocol,
) {
    skips(version, protocol, Manner::Resets, "tls-reset").await;
}

/// Events must arrive through the other address, since the first one never works.
async fn skips(version: Version, protocol: Protocol, manner: Manner, name: &str) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, name));
    let listener = Listener::start(manner).await;
    let urls = format!("{}, {}", protocol.tls_url(listener.addr()), broker.tls_url_of(protocol));
    let setup = over_tls(broker, protocol, namespace).unset("SOURCE__URL").set("SOURCE__URLS", urls);
    let events = Events::good(100);
    let bridge = setup.start();
    let started = Instant::now();
    subscribed(broker, queue, 1).await;
    // The shortest hold for a problem that an operator must solve.
    assert!(started.elapsed() < Duration::from_secs(30), "the bridge waited first: {}", bridge.log());
    publish(broker, namespace, events).await;
    emptied(broker, queue).await;
    let log = bridge.log();
    assert!(log.contains("; trying the next address") && !log.contains("held: "), "{log}");
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
}

/// A broker whose process is stopped, like one that is being moved.
async fn an_address_that_does_not_answer_the_handshake_does_not_hold_the_source(
    version: Version,
    protocol: Protocol,
) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "tls-late"));
    let proxy = Proxy::start(broker.tls_addr_of(protocol)).await;
    proxy.silence();
    let setup = over_tls(broker, protocol, namespace)
        .set("SOURCE__URL", protocol.tls_url(proxy.addr()))
        .set("SOURCE__CONNECT_TIMEOUT", "1s");
    let mut bridge = setup.start();
    says(&mut bridge, "retrying: TLS with ").await;
    proxy.resume();
    subscribed(broker, queue, 1).await;
    let log = bridge.log();
    assert!(log.contains("does not answer the TLS handshake within 1 s") && !log.contains("held: "), "{log}");
    drain(bridge).await;
}

/// The log line says what failed, why, and which setting to check. The process stays alive, and `check` finds
/// the problem too.
async fn is_refused(setup: Setup, broker: &Broker, protocol: Protocol, expected: [&str; 2]) {
    let url = broker.tls_url_of(protocol);
    let mut bridge = setup.start();
    says(&mut bridge, &format!("held: TLS with {url} failed: ")).await;
    let log = bridge.log();
    assert!(expected.iter().all(|word| log.contains(word)), "{log}");
    drain(bridge).await;

    let setup = setup.argument("check");
    let mut check = setup.start();
    assert_eq!(check.ended(SOON).await.code(), Some(1));
    assert!(check.log().contains(&format!("FAILED  broker {url}")), "{}", check.log());
}

async fn a_file_that_can_not_be_read_to_its_end_is_told_and_stops_nothing_else(
    version: Version,
    protocol: Protocol,
) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "tls-hangs"));
    let proxy = Proxy::start(broker.tls_addr_of(protocol)).await;
    let setup = over_tls(broker, protocol, namespace);
    let authority = setup.home().join("ca.pem");
    fs::copy(broker.ca_file(), &authority).expect("copy the authority's certificate");
    let setup = setup
        .set("SOURCE__URL", protocol.tls_url(proxy.addr()))
        .set("SOURCE__TLS__CA_FILE", authority.display().to_string())
        .set("SOURCE__CONNECT_TIMEOUT", "1s");
    let mut bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    subscribed(broker, queue, 1).await;
    let file = HangingFile::replace(&authority);
    proxy.cut();
    says(&mut bridge, "can't read the files of source.tls: the file system does not answer").await;
    assert!(file.is_read(), "{}", bridge.log());
    assert_eq!(timeout(SOON, admin.get("/livez")).await.expect("an answer").status, 200);
    drain(bridge).await;
}
