//! Tests that the harness's Kafka does what the tests of the sink rely on.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use kit::SOON;
use kit::any_kafka;
use kit::kafka::{CUSTOMER, Kafka, Listener, client, on_kafka, shared};
use kit::kafka_reader::{Record, contents};
use kit::proxy::Proxy;

on_kafka!(
    each_listener_serves_clients_with_a_valid_login,
    topics_change_as_requested,
    a_rule_forbids_one_user_and_allows_another,
    a_killed_server_restarts_with_its_store,
    a_client_stays_behind_the_proxy,
);

/// Keeps the delivery result of the one record that is produced.
struct Verdict(std::sync::Mutex<Option<Result<(), KafkaError>>>);

impl ClientContext for Verdict {}

impl ProducerContext for Verdict {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let verdict = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        *self.0.lock().unwrap() = Some(verdict);
    }
}

fn produce(client: &mut ClientConfig, topic: &str, value: &str) -> Result<(), RDKafkaErrorCode> {
    let verdict = Verdict(std::sync::Mutex::new(None));
    client.set("message.timeout.ms", "10000").set("enable.idempotence", "true");
    let producer: BaseProducer<Verdict> = client.create_with_context(verdict).expect("make a producer");
    let headers = OwnedHeaders::new().insert(Header { key: "kind", value: Some("test") });
    let record = BaseRecord::to(topic).key("key").payload(value).headers(headers);
    producer.send(record).map_err(|(error, _)| error).expect("queue a record");
    producer.flush(SOON).expect("flush");
    let verdict = producer.context().0.lock().unwrap().take().expect("a verdict");
    verdict.map_err(|error| error.rdkafka_error_code().expect("a code"))
}

fn values(kafka: &Kafka, topic: &str) -> Vec<String> {
    let text = |record: Record| String::from_utf8(record.value.expect("a value")).expect("text");
    contents(&kafka.bootstrap(), topic).into_iter().map(text).collect()
}

async fn each_listener_serves_clients_with_a_valid_login() {
    let kafka = shared();
    kafka.create_topic("listeners", 1, &[]);
    kafka.add_user("scrammer", "SCRAM-SHA-256", "scram-secret");
    kafka.add_user("scrammer", "SCRAM-SHA-512", "scram-secret");
    for listener in [Listener::Plain, Listener::Tls] {
        produce(&mut client(kafka, listener), "listeners", "plain").expect("a record is taken");
    }
    for listener in [Listener::Sasl, Listener::SaslTls] {
        for (mechanism, (user, password)) in [
            ("PLAIN", CUSTOMER),
            ("SCRAM-SHA-256", ("scrammer", "scram-secret")),
            ("SCRAM-SHA-512", ("scrammer", "scram-secret")),
        ] {
            let mut client = client(kafka, listener);
            client.set("sasl.mechanism", mechanism).set("sasl.username", user).set("sasl.password", password);
            produce(&mut client, "listeners", mechanism).expect("a record is taken");
        }
        let mut client = client(kafka, listener);
        client.set("sasl.mechanism", "OAUTHBEARER").set("enable.sasl.oauthbearer.unsecure.jwt", "true");
        client.set("sasl.oauthbearer.config", "principal=someone");
        produce(&mut client, "listeners", "token").expect("a record is taken");
    }
    assert_eq!(values(kafka, "listeners").len(), 10);
}

async fn topics_change_as_requested() {
    let kafka = shared();
    assert_eq!(kafka.partitions("changing"), None);
    kafka.create_topic("changing", 2, &["max.message.bytes=300"]);
    assert_eq!(kafka.partitions("changing"), Some(2));
    let mut client = client(kafka, Listener::Plain);
    let long = "x".repeat(1000);
    let refused = produce(&mut client, "changing", &long);
    assert_eq!(refused, Err(RDKafkaErrorCode::MessageSizeTooLarge));
    kafka.configure_topic("changing", "max.message.bytes=3000");
    produce(&mut client, "changing", &long).expect("a record is taken");
    kafka.grow_topic("changing", 5);
    assert_eq!(kafka.partitions("changing"), Some(5));
    kafka.delete_topic("changing");
    assert_eq!(kafka.partitions("changing"), None);
    kafka.create_topic("changing", 3, &[]);
    assert_eq!(values(kafka, "changing"), Vec::<String>::new());
}

async fn a_rule_forbids_one_user_and_allows_another() {
    let kafka = shared();
    kafka.create_topic("ruled", 1, &[]);
    let mut anonymous = client(kafka, Listener::Plain);
    let mut customer = client(kafka, Listener::Tls);
    let certificates = kafka.certificates();
    customer.set("ssl.certificate.location", certificates.client.display().to_string());
    customer.set("ssl.key.location", certificates.client_key.display().to_string());

    kafka.make_read_only("ruled");
    kafka.allow("User:CN=customer", "WRITE", "ruled");
    let forbidden = Err(RDKafkaErrorCode::TopicAuthorizationFailed);
    assert_eq!(produce(&mut anonymous, "ruled", "anonymous"), forbidden);
    assert_eq!(produce(&mut customer, "ruled", "customer"), Ok(()));
    kafka.deny("User:CN=customer", "WRITE", "ruled");
    assert_eq!(produce(&mut customer, "ruled", "denied"), forbidden);
    kafka.forget_rules("ruled");
    assert_eq!(produce(&mut anonymous, "ruled", "anonymous"), Ok(()));
    assert_eq!(values(kafka, "ruled"), ["customer", "anonymous"]);
}

async fn a_killed_server_restarts_with_its_store() {
    let kafka = Kafka::start();
    kafka.create_topic("kept", 1, &[]);
    let mut client = client(&kafka, Listener::Plain);
    produce(&mut client, "kept", "before").expect("a record is taken");
    kafka.restart();
    produce(&mut client, "kept", "after").expect("a record is taken");
    kafka.freeze();
    client.set("socket.timeout.ms", "1000");
    let producer: BaseProducer = client.create().expect("make a producer");
    let silence = producer.client().fetch_metadata(Some("kept"), Duration::from_millis(500));
    assert!(silence.is_err(), "a frozen server answered");
    kafka.thaw();
    assert_eq!(values(&kafka, "kept"), ["before", "after"]);
    kafka.stop();
}

async fn a_client_stays_behind_the_proxy() {
    let kafka = shared();
    kafka.create_topic("proxied", 1, &[]);
    let proxy = Proxy::start_at(kafka.proxy_addr(), kafka.addr(Listener::Proxied)).await;
    let mut client = client(kafka, Listener::Proxied);
    tokio::task::block_in_place(|| produce(&mut client, "proxied", "through")).expect("a record is taken");
    let connections = proxy.connections();
    assert!(connections >= 2, "only {connections} connections: to begin with, and to the leader");
}

/// Also used by tests that run without Kafka.
#[test]
fn a_record_is_read_as_written() {
    let kafka = any_kafka::shared();
    kafka.create_topic("written", 3);
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", kafka.bootstrap()).set("partitioner", "murmur2_random");
    produce(&mut client, "written", "value").expect("a record is taken");
    let records = contents(&kafka.bootstrap(), "written");
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"key"[..]), Some(&b"value"[..])));
    assert_eq!((record.offset, record.header("kind"), record.header("other")), (0, Some("test"), None));
    assert!(record.timestamp.is_some());
}
