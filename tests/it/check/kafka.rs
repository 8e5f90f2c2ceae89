//! Plants mistakes in Kafka: in topics, in rights, and in a cluster of two brokers.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{Found, finds, held, ok, retrying, warning};
use kit::bridge::Setup;
use kit::kafka::{self, CUSTOMER, Kafka, Listener, client};
use kit::kafka_reader::contents;
use kit::on_kafka;
use kit::ports::{free_port, loopback};
use kit::proxy::Proxy;
use kit::scenario::PATIENCE;
use kit::tls_front::{Flaw, TlsFront};
use kit::{SOON, wait_until};

on_kafka!(mistakes_of_a_topic, mistakes_of_rights, mistakes_of_a_connection, mistakes_of_a_cluster);

/// A bridge that writes into `topic`. Its broker is away, which is another part.
fn writes_to(brokers: &str, topic: &str) -> Setup {
    Setup::at("stomp://127.0.0.1:1", topic, "main", topic)
        .unset("SINKS__FILE__DIRECTORY")
        .set("SINKS__KAFKA__BROKERS", brokers)
        .set("SINKS__KAFKA__TOPIC", topic)
}

async fn mistakes_of_a_topic() {
    let kafka = kafka::shared();
    for (number, (setting, code)) in [
        ("retention.bytes=1000000", "kafka-retention-bytes"),
        ("compression.type=gzip", "kafka-recompression"),
        ("compression.type=uncompressed", "kafka-recompression"),
        ("message.timestamp.before.max.ms=60000", "kafka-timestamp-limit"),
        ("message.timestamp.after.max.ms=1000", "kafka-timestamp-limit"),
        ("cleanup.policy=compact,delete", "kafka-compacted-topic"),
        ("segment.bytes=1048576", "kafka-one-replica"),
    ]
    .into_iter()
    .enumerate()
    {
        let topic = format!("check-topic-{number}");
        kafka.create_topic(&topic, 1, &[setting]);
        finds(setting, &writes_to(&kafka.bootstrap(), &topic), &[], warning(code));
    }
    let missing = writes_to(&kafka.bootstrap(), "check-topic-missing");
    finds("a missing topic", &missing, &[], held("kafka-topic-missing"));
    let five = writes_to(&kafka.bootstrap(), "check-topic-0").set("EVENT__PARTITIONS", "5");
    finds("five partitions", &five, &[], held("kafka-partitions-differ"));
}

async fn mistakes_of_rights() {
    let kafka = kafka::shared();
    let plant = |name: &str, exactly_once: bool, found: Found, rule: &dyn Fn(&str, &str)| {
        let topic = format!("check-{name}");
        kafka.create_topic(&topic, 1, &[]);
        rule(&topic, &format!("main.RTO.{topic}"));
        let setup = writes_to(&kafka.bootstrap(), &topic)
            .set("SOURCE__ORDERING", "strict")
            .set("SINKS__KAFKA__EXACTLY_ONCE", exactly_once.to_string());
        finds(name, &setup, &[], found)
    };
    // The first rule about something forbids everything else.
    let deny = |operation: &str, name: &str| {
        kafka.allow("User:*", "ALL", name);
        kafka.deny("User:*", operation, name);
    };
    plant("write-denied", false, held("kafka-write-denied"), &|topic, _| deny("WRITE", topic));
    plant("settings-denied", false, ok("kafka-settings-not-known"), &|topic, _| {
        deny("DESCRIBE_CONFIGS", topic);
    });
    plant("group-denied", false, ok("kafka-group-denied"), &|_, queue| {
        deny("ALL", &format!("group:{queue}"))
    });
    plant("read-denied", true, held("kafka-read-denied"), &|topic, _| deny("READ", topic));
    for operation in ["WRITE", "DESCRIBE"] {
        let name = format!("transactions-{operation}").to_lowercase();
        plant(&name, true, held("kafka-transactions-denied"), &|_, queue| {
            deny(operation, &format!("transactional-id:{queue}"));
        });
    }
    plant("transactions-allowed", true, ok("kafka-transactions"), &|_, _| {});
    // A check neither ends the transaction of a bridge that runs nor leaves an id behind.
    let id = "main.RTO.check-transactions-running.check-transactions-running";
    let bridge: BaseProducer =
        client(kafka, Listener::Plain).set("transactional.id", id).create().expect("make a producer");
    tokio::task::block_in_place(|| bridge.init_transactions(PATIENCE).expect("take the id"));
    bridge.begin_transaction().expect("begin");
    plant("transactions-running", true, ok("kafka-transactions"), &|topic, _| {
        bridge
            .send(BaseRecord::<(), str>::to(topic).payload("event"))
            .map_err(|(error, _)| error)
            .expect("send");
    });
    tokio::task::block_in_place(|| {
        bridge.commit_transaction(PATIENCE).expect("the transaction is still its own");
        let ids = contents(&kafka.bootstrap(), "__transaction_state");
        let ends = |text: &str| {
            let ends = |key: &[u8]| key.ends_with(text.as_bytes());
            ids.iter().any(|record| record.key.as_deref().is_some_and(ends))
        };
        assert!(ends(id), "the id of the bridge is there");
        assert!(!ends(".check"), "the check has left an id");
    });
}

async fn mistakes_of_a_connection() {
    let kafka = kafka::shared();
    kafka.create_topic("check-connection", 1, &[]);
    let at = |addr: &dyn ToString| writes_to(&addr.to_string(), "check-connection");
    let login = |setup: Setup, mechanism: &str, password: &str| {
        setup
            .set("SINKS__KAFKA__SASL__MECHANISM", mechanism)
            .set("SINKS__KAFKA__SASL__USERNAME", CUSTOMER.0)
            .set("SINKS__KAFKA__SASL__PASSWORD", password)
    };
    let sasl = kafka.addr(Listener::Sasl);
    finds("a dead address", &at(&"127.0.0.1:1"), &[], retrying("kafka-unreachable"));
    finds("a port with TLS", &at(&kafka.addr(Listener::Tls)), &[], held("kafka-wrong-port"));
    finds("no login", &at(&sasl), &[], held("kafka-login"));
    finds("a wrong password", &login(at(&sasl), "plain", "wrong"), &[], held("kafka-login"));
    let other = login(at(&kafka.addr(Listener::PlainLoginOnly)), "scram-sha-256", CUSTOMER.1);
    finds("another mechanism", &other, &[], held("kafka-login"));
    for (flaw, found) in
        [(Flaw::Expired, held("kafka-tls")), (Flaw::ExpiresSoon, warning("certificate-expires-soon"))]
    {
        let front = TlsFront::start(flaw, kafka.addr(Listener::Plain)).await;
        let setup = at(&front.addr())
            .set("SINKS__KAFKA__TLS__ENABLED", "true")
            .set("SINKS__KAFKA__TLS__CA_FILE", front.ca_file());
        finds(&format!("{flaw:?}"), &setup, &[], found);
    }
    let missing = writes_to(&kafka.addr(Listener::Tls).to_string(), "check-certificate")
        .set("SINKS__KAFKA__TLS__ENABLED", "true")
        .set("SINKS__KAFKA__TLS__CA_FILE", kafka.certificates().authority.display().to_string());
    finds("the certificate of a broker without the topic", &missing, &[], ok("certificate"));
}

/// Makes a topic with one partition that has these replicas, the first of which leads it. Waits until all brokers know.
async fn make_topic(brokers: [&Kafka; 2], topic: &str, replicas: &[i32], least: &str) {
    let admin: AdminClient<DefaultClientContext> =
        client(brokers[0], Listener::Plain).create().expect("make a client");
    let assignment = [replicas];
    let new =
        NewTopic::new(topic, 1, TopicReplication::Variable(&assignment)).set("min.insync.replicas", least);
    let made = admin.create_topics([&new], &AdminOptions::new()).await.expect("ask for a topic");
    made.into_iter().for_each(|result| drop(result.expect("make a topic")));
    let is_known = || brokers.iter().all(|broker| broker.partitions(topic) == Some(1));
    wait_until("both brokers know the topic", SOON, is_known).await;
}

/// Waits until the only partition has so many replicas in sync, or no leader.
async fn in_sync(kafka: &Kafka, topic: &str, count: usize) {
    let consumer: BaseConsumer = client(kafka, Listener::Plain).create().expect("make a client");
    wait_until("the replicas in sync", SOON, || {
        let metadata = tokio::task::block_in_place(|| consumer.fetch_metadata(Some(topic), PATIENCE));
        let metadata = metadata.expect("metadata");
        let partition = &metadata.topics()[0].partitions()[0];
        if partition.leader() < 0 { count == 0 } else { partition.isr().len() == count }
    })
    .await;
}

/// Two brokers; then one of them is killed.
async fn mistakes_of_a_cluster() {
    let first = &Kafka::start();
    let second = &first.start_second();
    let brokers = [first, second];
    for (topic, replicas, least) in
        [("two-1", &[1, 2][..], "1"), ("two-2", &[1, 2], "2"), ("three", &[1, 2], "3"), ("second", &[2], "1")]
    {
        make_topic(brokers, topic, replicas, least).await;
    }
    let both = format!("{},{}", first.bootstrap(), second.bootstrap());
    finds("one in sync is enough", &writes_to(&both, "two-1"), &[], warning("kafka-one-in-sync"));
    finds("both must be in sync", &writes_to(&both, "two-2"), &[], warning("kafka-no-spare-replica"));
    finds("one address", &writes_to(&first.bootstrap(), "two-2"), &[], warning("kafka-one-bootstrap"));
    let dead = format!("{},{}", first.bootstrap(), loopback(free_port()));
    finds("a dead address", &writes_to(&dead, "two-2"), &[], warning("kafka-bootstrap-address"));
    let with_tls = format!("{},{}", first.bootstrap(), second.addr(Listener::Tls));
    finds("an address with TLS", &writes_to(&with_tls, "two-2"), &[], warning("kafka-bootstrap-address"));

    // Nothing listens where the second broker says that its clients shall connect.
    let _proxy = Proxy::start_at(first.proxy_addr(), first.addr(Listener::Proxied)).await;
    let proxied = first.proxy_addr().to_string();
    finds("a follower", &writes_to(&proxied, "two-2"), &[], warning("kafka-advertised-address"));
    finds("a leader", &writes_to(&proxied, "second"), &[], retrying("kafka-advertised-address"));

    second.kill();
    in_sync(first, "two-2", 1).await;
    in_sync(first, "second", 0).await;
    let left = first.bootstrap();
    finds("a replica is away", &writes_to(&left, "two-1"), &[], warning("kafka-replica-away"));
    finds("too few are in sync", &writes_to(&left, "two-2"), &[], retrying("kafka-not-in-sync"));
    finds("no leader", &writes_to(&left, "second"), &[], retrying("kafka-no-leader"));
}
