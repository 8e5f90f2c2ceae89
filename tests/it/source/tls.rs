//! `stomp+tls://` and `ssl://`: work with the right authority and name, and say clearly what is wrong otherwise.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kit::bridge::Setup;
use kit::broker::{Broker, Options, Protocol, Version, shared};
use kit::certificates::{Certificates, Kind};
use kit::events::Events;
use kit::listener::{Listener, Manner};
use kit::output::Tally;
use kit::proxy::Proxy;
use kit::scenario::{drain, emptied, place, publish, says, subscribed};
use kit::{SOON, on_each_broker};

on_each_broker!(
    over each protocol:
    carries_events_over_tls,
    refuses_a_certificate_of_an_unknown_authority,
    refuses_a_certificate_for_another_name,
    shows_its_certificate_where_the_broker_wants_one,
    an_address_with_a_wrong_certificate_keeps_no_good_one_waiting,
    an_address_that_resets_the_handshake_keeps_no_good_one_waiting,
    an_address_that_does_not_answer_the_handshake_is_no_reason_to_hold,
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
    let words = [
        "was issued by CN=test authority, whose certificate is neither in the system's certificates nor sent",
        "set source.tls.ca_file to a file with that authority's certificate",
    ];
    is_refused(setup.unset("SOURCE__TLS__CA_FILE"), shared(version), protocol, words).await;
}

async fn refuses_a_certificate_for_another_name(version: Version, protocol: Protocol) {
    let names = vec!["broker.example.com".to_owned()];
    let broker = Broker::start(version, Options { certificate_names: names, ..Options::default() });
    let words = ["is for broker.example.com, not for localhost", "write such a name in source.url"];
    is_refused(over_tls(&broker, protocol, "acme"), &broker, protocol, words).await;
}

/// Before the real broker stands a server that insists on a certificate of the client.
async fn shows_its_certificate_where_the_broker_wants_one(version: Version, protocol: Protocol) {
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

/// It held for 30 to 60 s, and then tried the other one.
async fn an_address_with_a_wrong_certificate_keeps_no_good_one_waiting(version: Version, protocol: Protocol) {
    let home = tempfile::tempdir().expect("a directory");
    let certificates = Certificates::with(home.path(), Kind::Expired);
    let config = Arc::new(certificates.server_config(false));
    passes_over(version, protocol, Manner::Tls(config), "tls-passed-over").await;
}

async fn an_address_that_resets_the_handshake_keeps_no_good_one_waiting(
    version: Version,
    protocol: Protocol,
) {
    passes_over(version, protocol, Manner::Resets, "tls-reset").await;
}

/// Nothing but the other address helps: with this one, what is published would not arrive.
async fn passes_over(version: Version, protocol: Protocol, manner: Manner, name: &str) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, name));
    let listener = Listener::start(manner).await;
    let urls = format!("{}, {}", protocol.tls_url(listener.addr()), broker.tls_url_of(protocol));
    let setup = over_tls(broker, protocol, namespace).unset("SOURCE__URL").set("SOURCE__URLS", urls);
    let events = Events::good(100);
    let bridge = setup.start();
    let begun = Instant::now();
    subscribed(broker, queue, 1).await;
    // The shortest wait that an operator's cause brings.
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited first: {}", bridge.log());
    publish(broker, namespace, events).await;
    emptied(broker, queue).await;
    let log = bridge.log();
    assert!(log.contains("; trying the next address") && !log.contains("held: "), "{log}");
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
}

/// A broker whose clock stands still, as one that is being moved.
async fn an_address_that_does_not_answer_the_handshake_is_no_reason_to_hold(
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

/// The line says what, why and where to look; the process lives on, and `check` finds it too.
async fn is_refused(setup: Setup, broker: &Broker, protocol: Protocol, words: [&str; 2]) {
    let url = broker.tls_url_of(protocol);
    let mut bridge = setup.start();
    says(&mut bridge, &format!("held: TLS with {url} failed: ")).await;
    let log = bridge.log();
    assert!(words.iter().all(|word| log.contains(word)), "{log}");
    drain(bridge).await;

    let setup = setup.argument("check");
    let mut check = setup.start();
    assert_eq!(check.ended(SOON).await.code(), Some(1));
    assert!(check.log().contains(&format!("FAILED  broker {url}")), "{}", check.log());
}
