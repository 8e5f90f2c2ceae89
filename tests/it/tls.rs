//! `stomp+tls://`: works with the right authority and name, and says clearly what is wrong otherwise.

use crate::support::bridge::Setup;
use crate::support::broker::{Broker, Options, Version, shared};
use crate::support::events::Events;
use crate::support::output::Tally;
use crate::support::scenario::{drain, emptied, publish, says, subscribed};
use crate::support::{SOON, on_each_broker};

on_each_broker!(
    carries_events_over_tls,
    refuses_a_certificate_of_an_unknown_authority,
    refuses_a_certificate_for_another_name,
);

fn over_tls(broker: &Broker, namespace: &str) -> Setup {
    let url = format!("stomp+tls://localhost:{}", broker.tls_addr().port());
    Setup::new(broker, namespace, "main", &format!("{namespace}-1"))
        .set("SOURCE__URL", url)
        .set("SOURCE__TLS__CA_FILE", broker.ca_file().display().to_string())
}

async fn carries_events_over_tls(version: Version) {
    let (broker, queue) = (shared(version), "main.RTO.tls");
    let events = Events::good(10_000);
    let setup = over_tls(broker, "tls");
    let bridge = setup.start();
    subscribed(broker, queue, 1).await;
    publish(broker, "tls", events).await;
    emptied(broker, queue).await;
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
}

async fn refuses_a_certificate_of_an_unknown_authority(version: Version) {
    let setup = over_tls(shared(version), "tls-unknown").unset("SOURCE__TLS__CA_FILE");
    is_refused(setup, "UnknownIssuer").await;
}

async fn refuses_a_certificate_for_another_name(version: Version) {
    let names = vec!["broker.example.com".to_owned()];
    let broker = Broker::start(version, Options { certificate_names: names, ..Options::default() });
    is_refused(over_tls(&broker, "acme"), "not valid for name").await;
}

/// The line says what, why and where to look; the process lives on, and `check` finds it too.
async fn is_refused(setup: Setup, why: &str) {
    let mut bridge = setup.start();
    says(&mut bridge, "held: TLS with stomp+tls://localhost:").await;
    let log = bridge.log();
    assert!(log.contains(why) && log.contains("check source.url and source.tls.ca_file"), "{log}");
    drain(bridge).await;

    let setup = setup.argument("check");
    let mut check = setup.start();
    assert_eq!(check.ended(SOON).await.code(), Some(1));
    assert!(check.log().contains("FAILED  broker stomp+tls://localhost:"), "{}", check.log());
}
