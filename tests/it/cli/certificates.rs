//! Tests that the metrics tell when the certificates expire that each connection has shown.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kit::admin::Admin;
use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared};
use kit::certificates::{Certificates, Kind};
use kit::kafka::{self, Listener};
use kit::listener::{Listener as Front, Manner};
use kit::nats::{NatsServer, available};
use kit::on_each_broker;
use kit::scenario::drain;

on_each_broker!(
    over each protocol, with a real kafka:
    the_expiry_of_every_certificate_is_a_metric,
);

async fn the_expiry_of_every_certificate_is_a_metric(version: Version, protocol: Protocol) {
    if !available(module_path!()) {
        return;
    }
    let (broker, kafka, namespace) =
        (shared(version), kafka::shared(), &protocol.named(&format!("expiry-{version:?}")));
    let home = tempfile::tempdir().expect("a directory");
    let certificates = Certificates::with(home.path(), Kind::WithIntermediate);
    let config = Arc::new(certificates.server_config(true));
    let front = Front::start(Manner::Forwards(config, broker.addr_of(protocol))).await;
    kafka.create_topic(namespace, 1, &[]);
    let nats = NatsServer::with_tls(&certificates, "");
    let authority = certificates.authority.display().to_string();
    let setup = Setup::new(broker, protocol, namespace, "main", namespace)
        .set("SOURCE__URL", protocol.tls_url(front.addr()))
        .set("SOURCE__TLS__CA_FILE", &authority)
        .set("SOURCE__TLS__CERTIFICATE_FILE", certificates.client.display().to_string())
        .set("SOURCE__TLS__KEY_FILE", certificates.client_key.display().to_string())
        .set("SINKS__NATS__URL", nats.url())
        .set("SINKS__NATS__STREAM", "expiry")
        .set("SINKS__NATS__SUBJECT", "expiry")
        .set("SINKS__NATS__TLS__CA_FILE", &authority)
        .set("SINKS__KAFKA__BROKERS", kafka.addr(Listener::Tls).to_string())
        .set("SINKS__KAFKA__TOPIC", namespace)
        .set("SINKS__KAFKA__TLS__ENABLED", "true")
        .set("SINKS__KAFKA__TLS__CA_FILE", kafka.certificates().authority.display().to_string());
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs_f64();
    let day = Duration::from_secs(24 * 60 * 60).as_secs_f64();
    for (connection, host, subject) in [
        ("source", "localhost", "CN=server"),
        ("source", "localhost", "CN=test intermediate"),
        ("source", "", "CN=customer"),
        ("sinks.nats", "127.0.0.1", "CN=server"),
        ("sinks.kafka", "127.0.0.1", "CN=rcgen self signed cert"),
    ] {
        let labels = format!("connection=\"{connection}\",host=\"{host}\",subject=\"{subject}\"");
        let sample = format!("atdata_bridge_certificate_expiry_timestamp_seconds{{{labels}}}");
        let metrics = admin.metrics_until(&sample, |metrics| metrics.find(&sample).is_some()).await;
        assert!(metrics.value(&sample) > now + day, "{sample}");
    }
    drain(bridge).await;
}
