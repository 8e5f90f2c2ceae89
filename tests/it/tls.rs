//! `stomp+tls://` and `ssl://`: work with the right authority and name, and say clearly what is wrong otherwise.

use crate::support::bridge::Setup;
use crate::support::broker::{Broker, Options, Protocol, Version, shared};
use crate::support::events::Events;
use crate::support::output::Tally;
use crate::support::scenario::{drain, emptied, place, publish, says, subscribed};
use crate::support::{SOON, on_each_broker};

on_each_broker!(
    over each protocol:
    carries_events_over_tls,
    refuses_a_certificate_of_an_unknown_authority,
    refuses_a_certificate_for_another_name,
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
    is_refused(setup.unset("SOURCE__TLS__CA_FILE"), shared(version), protocol, "UnknownIssuer").await;
}

async fn refuses_a_certificate_for_another_name(version: Version, protocol: Protocol) {
    let names = vec!["broker.example.com".to_owned()];
    let broker = Broker::start(version, Options { certificate_names: names, ..Options::default() });
    is_refused(over_tls(&broker, protocol, "acme"), &broker, protocol, "not valid for name").await;
}

/// The line says what, why and where to look; the process lives on, and `check` finds it too.
async fn is_refused(setup: Setup, broker: &Broker, protocol: Protocol, why: &str) {
    let url = broker.tls_url_of(protocol);
    let mut bridge = setup.start();
    says(&mut bridge, &format!("held: TLS with {url} failed: ")).await;
    let log = bridge.log();
    assert!(log.contains(why) && log.contains("check source.url and source.tls.ca_file"), "{log}");
    drain(bridge).await;

    let setup = setup.argument("check");
    let mut check = setup.start();
    assert_eq!(check.ended(SOON).await.code(), Some(1));
    assert!(check.log().contains(&format!("FAILED  broker {url}")), "{}", check.log());
}
