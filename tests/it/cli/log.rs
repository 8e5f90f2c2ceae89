//! Tests that no line of the log names a person or holds a secret, at any level (D14).

use kit::admin::Admin;
use kit::all_available;
use kit::any_kafka::AnyKafka;
use kit::broker::{Protocol, Version, shared};
use kit::events::Events;
use kit::nats::NatsServer;
use kit::scenario::{drain, emptied, publish, subscribed};
use kit::stomp::Login;
use kit::three::Sinks;

/// Every part of the program logs everything, with one exception: it is for the NATS client, whose subjects hold
/// keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_of_the_log_has_a_key_a_body_or_a_secret() {
    if !all_available(Version::V6, "cli::log::no_line_of_the_log_has_a_key_a_body_or_a_secret") {
        return;
    }
    let (kafka, nats) = (AnyKafka::start(), NatsServer::start(""));
    for protocol in [Protocol::Stomp, Protocol::OpenWire] {
        let namespace = protocol.named("logged");
        let sinks = Sinks::make(Version::V6, &namespace, &kafka, &nats).await;
        let log = log_of_a_run(protocol, &sinks, "trace").await;
        assert!(log.contains("TRACE") && log.contains("DEBUG"), "{log}");
        assert_eq!(private_line(&log), None, "{protocol:?}");
    }
    let namespace = "logged-by-the-client";
    let sinks = Sinks::make(Version::V6, namespace, &kafka, &nats).await;
    let log = log_of_a_run(Protocol::Stomp, &sinks, "trace,async_nats=trace").await;
    assert_ne!(private_line(&log), None, "a line with a key is not found");
}

fn events() -> Events {
    Events::good(60).with_bad(5)
}

/// Mirrors all events into three sinks, with this filter of the log, and returns the log.
async fn log_of_a_run(protocol: Protocol, sinks: &Sinks<'_>, filter: &str) -> String {
    let broker = shared(Version::V6);
    let setup = sinks.setup(broker, protocol).set("LOG__FILTER", filter);
    let bridge = setup.start();
    subscribed(broker, &sinks.queue(), 1).await;
    publish(broker, sinks.namespace, events()).await;
    emptied(broker, &sinks.queue()).await;
    let admin = Admin::of(&bridge).await;
    for path in ["/config", "/status", "/metrics"] {
        admin.get(path).await;
    }
    let file = bridge.log_file();
    drain(bridge).await;
    String::from_utf8_lossy(&std::fs::read(file).expect("read a log")).into_owned()
}

/// Returns a line with a part of an event, or with the password.
fn private_line(log: &str) -> Option<&str> {
    let keys = (0..events().count).map(|number| events().key(number));
    let others = ["\"type\":\"open\"", "this is no event", Login::customer().password];
    let private: Vec<String> = keys.chain(others.map(str::to_owned)).collect();
    log.lines().find(|line| private.iter().any(|text| line.contains(text)))
}
