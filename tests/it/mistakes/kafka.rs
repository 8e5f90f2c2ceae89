//! Tests mistakes with Kafka.

use std::convert::identity;
use std::net::SocketAddr;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Scenario, scenarios};
use crate::sinks::kafka::logins::token_endpoint;
use kit::admin::Admin;
use kit::bridge::Setup;
use kit::broker::{Broker, Protocol, Version, shared_if_available};
use kit::consumer::{Acks, Consumer};
use kit::events::Events;
use kit::kafka::{self, CUSTOMER, Kafka, Listener, client};
use kit::kafka_reader::contents;
use kit::nats;
use kit::ports::loopback;
use kit::proxy::Proxy;
use kit::scenario::{PATIENCE, drain, emptied, place, publish, says_after};
use kit::tls_front::{Flaw, TlsFront};
use kit::{SOON, wait_until};

scenarios!("kafka":
    nothing_listens,
    unknown_host,
    stomp_port,
    openwire_port,
    nats_port,
    http_port,
    silent_port,
    dropping_port,
    tls_to_a_port_without,
    tls_to_stomp_port,
    tls_to_a_silent_port,
    no_tls_to_a_port_with,
    no_login,
    login_to_a_port_without,
    login_without_tls_to_a_port_with,
    tls_without_login,
    wrong_password,
    unknown_user,
    mechanism_not_offered,
    token_refused,
    token_endpoint_away,
    unknown_issuer,
    expired_certificate,
    certificate_not_yet_valid,
    other_host_name,
    authority_as_server,
    incomplete_chain,
    client_certificate_wanted,
    advertised_address_away,
    topic_missing,
    partitions_differ,
    write_denied,
    describe_denied,
    read_denied,
    transactions_denied,
    exactly_once_shared,
    exactly_once_linger,
    open_transaction,
    timestamps_refused,
    too_few_replicas,
    compacted_topic,
    short_retention,
    unclean_election,
    small_records,
    quota,
    brokers_as_url,
    topic_name,
    acks_changed,
    ca_file_without_tls,
    ca_file_missing,
    certificate_without_key,
    password_missing,
    password_without_mechanism,
    unknown_property,
);

/// How many events are in the queue before and after.
const EVENTS: u64 = 3;

/// A real ActiveMQ broker, a real Kafka with a topic for the row, and a bridge between them.
struct Scene {
    id: String,
    broker: &'static Broker,
    kafka: &'static Kafka,
    namespace: String,
    queue: String,
    setup: Setup,
}

impl Scene {
    /// Returns `None`, and reports the skipped test, where there is no server.
    async fn new(id: &str) -> Option<Self> {
        Self::with_topic(id, &[]).await
    }

    /// The same, with these settings of the topic.
    async fn with_topic(id: &str, settings: &[&str]) -> Option<Self> {
        let broker = shared_if_available(Version::V6, id)?;
        if !kafka::available(id) {
            return None;
        }
        let kafka = kafka::shared();
        kafka.create_topic(id, 3, settings);
        let (namespace, queue) = place(Protocol::Stomp, id);
        let setup = Setup::new(broker, Protocol::Stomp, &namespace, "main", &namespace)
            .unset("SINKS__FILE__DIRECTORY")
            .set("SINKS__KAFKA__BROKERS", kafka.bootstrap())
            .set("SINKS__KAFKA__TOPIC", id);
        Some(Self { id: id.to_owned(), broker, kafka, namespace, queue, setup })
    }

    fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.setup = self.setup.set(&format!("SINKS__KAFKA__{name}"), value);
        self
    }

    fn brokers(self, addr: impl ToString) -> Self {
        self.set("BROKERS", addr.to_string())
    }

    fn listener(self, listener: Listener) -> Self {
        let addr = self.kafka.addr(listener);
        self.brokers(addr)
    }

    fn tls(self) -> Self {
        let ca_file = self.kafka.certificates().authority.display().to_string();
        self.set("TLS__ENABLED", "true").set("TLS__CA_FILE", ca_file)
    }

    fn login(self, mechanism: &str, (user, password): (&str, &str)) -> Self {
        self.set("SASL__MECHANISM", mechanism).set("SASL__USERNAME", user).set("SASL__PASSWORD", password)
    }

    async fn behind(self, front: &TlsFront) -> Self {
        self.set("TLS__ENABLED", "true").set("TLS__CA_FILE", front.ca_file()).brokers(front.addr())
    }

    /// Checks the report while events wait in the queue: none is acknowledged, and each is still there
    /// afterwards.
    async fn shows(self) -> Repaired {
        self.run(identity).await
    }

    /// The same for a mistake that `check` cannot find.
    async fn shows_when_events_move(self) -> Repaired {
        self.run(Scenario::unseen_by_check).await
    }

    async fn run(self, change: fn(Scenario) -> Scenario) -> Repaired {
        let Self { id, broker, kafka, namespace, queue, setup } = self;
        Consumer::subscribe(broker, &queue, 1, Acks::Never).await.close().await;
        publish(broker, &namespace, Events::good(EVENTS)).await;
        let setup = setup.set("SHUTDOWN__DRAIN_TIMEOUT", "1s");
        let scenario = change(Scenario::new(setup)).exits(75).keeps(broker, &queue, EVENTS);
        let setup = scenario.shows(&id).await;
        Repaired { topic: id, broker, kafka, queue, setup }
    }

    /// Checks that a warning is reported and events are delivered.
    async fn warns(self, change: fn(Scenario) -> Scenario) {
        let Self { id, broker, queue, setup, .. } = self;
        Consumer::subscribe(broker, &queue, 1, Acks::Never).await.close().await;
        change(Scenario::new(setup)).keeps(broker, &queue, 0).shows(&id).await;
    }
}

/// The same bridge, for a test that repairs the mistake.
struct Repaired {
    topic: String,
    broker: &'static Broker,
    kafka: &'static Kafka,
    queue: String,
    setup: Setup,
}

impl Repaired {
    fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.setup = self.setup.set(&format!("SINKS__KAFKA__{name}"), value);
        self
    }

    /// Checks that every event is delivered once after the repair.
    async fn delivers(self) {
        let bridge = self.setup.start();
        emptied(self.broker, &self.queue).await;
        drain(bridge).await;
        let records = tokio::task::block_in_place(|| contents(&self.kafka.bootstrap(), &self.topic));
        assert_eq!(records.len() as u64, EVENTS, "{}", self.topic);
    }
}

// Ports and protocols

async fn nothing_listens(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let right = scene.kafka.bootstrap();
    scene.brokers("127.0.0.1:1").shows().await.set("BROKERS", right).delivers().await;
}

async fn unknown_host(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    scene.brokers("kafka.invalid:9092").shows().await;
}

async fn stomp_port(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let addr = scene.broker.addr_of(Protocol::Stomp);
    scene.brokers(addr).shows().await;
}

async fn openwire_port(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let addr = scene.broker.addr_of(Protocol::OpenWire);
    scene.brokers(addr).shows().await;
}

async fn nats_port(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    if nats::available(id) {
        scene.brokers(nats::shared().addr()).shows().await;
    }
}

async fn http_port(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let port = Port::http().await;
    scene.brokers(port.addr).shows().await;
}

async fn silent_port(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let port = Port::silent().await;
    scene.brokers(port.addr).shows().await;
}

async fn dropping_port(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let port = Port::dropping().await;
    scene.brokers(port.addr).shows().await;
}

async fn tls_to_a_port_without(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    scene.tls().shows().await;
}

async fn tls_to_stomp_port(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let addr = scene.broker.addr_of(Protocol::Stomp);
    scene.tls().brokers(addr).shows().await;
}

async fn tls_to_a_silent_port(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let port = Port::silent().await;
    scene.tls().brokers(port.addr).shows().await;
}

async fn no_tls_to_a_port_with(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let ca_file = scene.kafka.certificates().authority.display().to_string();
    let repaired = scene.listener(Listener::Tls).shows().await;
    repaired.set("TLS__ENABLED", "true").set("TLS__CA_FILE", ca_file).delivers().await;
}

// Logins

async fn no_login(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let repaired = scene.listener(Listener::Sasl).shows().await;
    let repaired = repaired.set("SASL__MECHANISM", "plain");
    repaired.set("SASL__USERNAME", CUSTOMER.0).set("SASL__PASSWORD", CUSTOMER.1).delivers().await;
}

async fn login_to_a_port_without(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    scene.login("plain", CUSTOMER).shows().await;
}

async fn login_without_tls_to_a_port_with(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    scene.login("plain", CUSTOMER).listener(Listener::SaslTls).shows().await;
}

async fn tls_without_login(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    scene.tls().listener(Listener::SaslTls).shows().await;
}

async fn wrong_password(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let wrong = scene.login("plain", (CUSTOMER.0, "wrong-secret")).listener(Listener::Sasl);
    let repaired = wrong.shows().await;
    assert!(!repaired.setup.log().contains("wrong-secret"));
    repaired.set("SASL__PASSWORD", CUSTOMER.1).delivers().await;
}

async fn unknown_user(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    scene.login("scram-sha-512", ("nobody", "secret")).listener(Listener::Sasl).shows().await;
}

async fn mechanism_not_offered(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    scene.login("scram-sha-256", CUSTOMER).listener(Listener::PlainLoginOnly).shows().await;
}

fn token(scene: Scene, url: &str) -> Scene {
    let scene = scene.set("SASL__MECHANISM", "oauthbearer").set("SASL__TOKEN_URL", url);
    let scene = scene.set("SASL__CLIENT_ID", "bridge").set("SASL__CLIENT_SECRET", "wrong-secret");
    scene.listener(Listener::Sasl)
}

async fn token_refused(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let url = token_endpoint().await;
    token(scene, &url).shows().await;
}

async fn token_endpoint_away(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    token(scene, "http://127.0.0.1:1/token").shows().await;
}

// Certificates

async fn unknown_issuer(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let right = scene.kafka.certificates().authority.display().to_string();
    let addr = scene.kafka.addr(Listener::Plain);
    let other = TlsFront::start(Flaw::OtherName, addr).await;
    let wrong = scene.tls().set("TLS__CA_FILE", other.ca_file()).listener(Listener::Tls);
    wrong.shows().await.set("TLS__CA_FILE", right).delivers().await;
}

async fn flawed(id: &str, flaw: Flaw) -> Option<(TlsFront, Repaired)> {
    let scene = Scene::new(id).await?;
    let front = TlsFront::start(flaw, scene.kafka.addr(Listener::Plain)).await;
    let repaired = scene.behind(&front).await.shows().await;
    Some((front, repaired))
}

async fn expired_certificate(id: &str) {
    flawed(id, Flaw::Expired).await;
}

async fn certificate_not_yet_valid(id: &str) {
    flawed(id, Flaw::NotYetValid).await;
}

async fn other_host_name(id: &str) {
    flawed(id, Flaw::OtherName).await;
}

async fn authority_as_server(id: &str) {
    flawed(id, Flaw::Authority).await;
}

async fn incomplete_chain(id: &str) {
    flawed(id, Flaw::NoIntermediate).await;
}

async fn client_certificate_wanted(id: &str) {
    flawed(id, Flaw::WantsClient).await;
}

// The cluster and the topic

/// No server listens at the advertised address. The sink must never become ready before one does.
async fn advertised_address_away(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let server = Kafka::start();
    server.create_topic(id, 3, &[]);
    let repaired = scene.brokers(server.addr(Listener::Proxied)).shows().await;
    let said = repaired.setup.log().len();
    let mut bridge = repaired.setup.start();
    // Otherwise this could be the address of the process before.
    says_after(&mut bridge, said, "admin: /livez").await;
    let admin = Admin::of(&bridge).await;
    admin.not_ready(&[": retrying", "advertised.listeners"]).await;
    let _proxy = Proxy::start_at(server.proxy_addr(), server.addr(Listener::Proxied)).await;
    admin.ready().await;
    emptied(repaired.broker, &repaired.queue).await;
    bridge.terminate();
    assert_eq!(bridge.ended(SOON).await.code(), Some(0));
    let log = repaired.setup.log();
    let log = log.get(said..).unwrap_or_default();
    let ready = log.lines().filter(|line| line.contains("sink kafka") && line.contains(" ready"));
    assert_eq!(ready.count(), 1, "ready more than once: {log}");
    let records = tokio::task::block_in_place(|| contents(&server.bootstrap(), id));
    assert_eq!(records.len() as u64, EVENTS);
}

async fn topic_missing(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let repaired = scene.set("TOPIC", "kafka-not-there").shows().await;
    repaired.set("TOPIC", id).delivers().await;
}

async fn partitions_differ(id: &str) {
    let Some(mut scene) = Scene::new(id).await else { return };
    scene.setup = scene.setup.set("EVENT__PARTITIONS", "5");
    scene.shows().await;
}

async fn write_denied(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let kafka = scene.kafka;
    kafka.make_read_only(id);
    let repaired = scene.shows().await;
    kafka.forget_rules(id);
    repaired.delivers().await;
}

async fn describe_denied(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    scene.kafka.allow("User:somebody", "ALL", id);
    scene.shows().await;
}

/// The running bridge warns before it writes the first event.
async fn read_denied(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let (broker, namespace) = (scene.broker, scene.namespace.clone());
    scene.kafka.allow("User:*", "WRITE", id);
    Consumer::subscribe(broker, &scene.queue, 1, Acks::Never).await.close().await;
    publish(broker, &namespace, Events::good(EVENTS)).await;
    scene.warns(identity).await;
}

async fn transactions_denied(id: &str) {
    let Some(mut scene) = Scene::new(id).await else { return };
    let (kafka, rule) = (scene.kafka, format!("transactional-id:{}", scene.queue));
    kafka.deny("User:*", "WRITE", &rule);
    scene.setup = scene.setup.set("SOURCE__ORDERING", "strict");
    let repaired = scene.set("EXACTLY_ONCE", "true").shows().await;
    kafka.forget_rules(&rule);
    repaired.delivers().await;
}

async fn exactly_once_shared(id: &str) {
    let setup = Setup::at("stomp://127.0.0.1:1", id, "main", id)
        .set("SINKS__KAFKA__BROKERS", "127.0.0.1:1")
        .set("SINKS__KAFKA__TOPIC", id)
        .set("SINKS__KAFKA__EXACTLY_ONCE", "true");
    Scenario::new(setup).shows(id).await;
}

async fn exactly_once_linger(id: &str) {
    let setup = Setup::at("stomp://127.0.0.1:1", id, "main", id)
        .set("SOURCE__ORDERING", "strict")
        .set("SINKS__KAFKA__BROKERS", "127.0.0.1:1")
        .set("SINKS__KAFKA__TOPIC", id)
        .set("SINKS__KAFKA__EXACTLY_ONCE", "true")
        .set("SINKS__KAFKA__PROPERTIES__LINGER_MS", "20");
    Scenario::new(setup).shows(id).await;
}

async fn open_transaction(id: &str) {
    let Some(mut scene) = Scene::new(id).await else { return };
    let other: BaseProducer = client(scene.kafka, Listener::Plain)
        .set("transactional.id", format!("other-{id}"))
        .create()
        .expect("make a producer");
    tokio::task::block_in_place(|| {
        other.init_transactions(PATIENCE).expect("take the id");
        other.begin_transaction().expect("begin");
        other.send(BaseRecord::to(id).key("key").payload("value")).map_err(|(error, _)| error).expect("send");
        other.flush(PATIENCE).expect("the record is written");
    });
    scene.setup = scene.setup.set("SOURCE__ORDERING", "strict");
    let repaired = scene.set("EXACTLY_ONCE", "true").shows_when_events_move().await;
    tokio::task::block_in_place(|| other.abort_transaction(PATIENCE).expect("abort"));
    repaired.delivers().await;
}

/// As with a wrong clock: every event is good, and none becomes a dead letter. The linger makes each record too
/// old: one that arrives in the millisecond of its timestamp is accepted.
async fn timestamps_refused(id: &str) {
    let Some(scene) = Scene::with_topic(id, &["message.timestamp.before.max.ms=0"]).await else { return };
    let kafka = scene.kafka;
    let repaired = scene.set("PROPERTIES__LINGER_MS", "20").shows_when_events_move().await;
    kafka.configure_topic(id, "message.timestamp.before.max.ms=3600000");
    repaired.delivers().await;
}

async fn too_few_replicas(id: &str) {
    let Some(scene) = Scene::with_topic(id, &["min.insync.replicas=2"]).await else { return };
    scene.warns(identity).await;
}

async fn warned(id: &str, setting: &str) {
    let Some(scene) = Scene::with_topic(id, &[setting]).await else { return };
    scene.warns(identity).await;
}

async fn compacted_topic(id: &str) {
    warned(id, "cleanup.policy=compact").await;
}

async fn short_retention(id: &str) {
    warned(id, "retention.ms=3600000").await;
}

async fn unclean_election(id: &str) {
    warned(id, "unclean.leader.election.enable=true").await;
}

async fn small_records(id: &str) {
    warned(id, "max.message.bytes=1000").await;
}

/// The warning appears only after enough records to use up the quota.
async fn quota(id: &str) {
    let Some(scene) = Scene::new(id).await else { return };
    let (broker, kafka, namespace) = (scene.broker, scene.kafka, scene.namespace.clone());
    kafka.add_user("throttled", "SCRAM-SHA-256", "secret");
    limit_writing(kafka.addr(Listener::Plain), "throttled", 4000.0).await;
    let scene = scene.login("scram-sha-256", ("throttled", "secret")).listener(Listener::Sasl);
    let scene = scene.set("COMPRESSION", "none");
    Consumer::subscribe(broker, &scene.queue, 1, Acks::Never).await.close().await;
    publish(broker, &namespace, Events::good(200)).await;
    scene.warns(Scenario::unseen_by_check).await;
}

// The configuration

async fn refused(id: &str, settings: &[(&str, &str)]) {
    let mut setup = Setup::at("stomp://127.0.0.1:1", id, "main", id)
        .unset("SINKS__FILE__DIRECTORY")
        .set("SINKS__KAFKA__BROKERS", "127.0.0.1:9092")
        .set("SINKS__KAFKA__TOPIC", "events");
    for (name, value) in settings {
        setup = setup.set(&format!("SINKS__KAFKA__{name}"), *value);
    }
    Scenario::new(setup).shows(id).await;
}

async fn brokers_as_url(id: &str) {
    refused(id, &[("BROKERS", "kafka://127.0.0.1:9092")]).await;
}

async fn topic_name(id: &str) {
    refused(id, &[("TOPIC", "main/events")]).await;
}

async fn acks_changed(id: &str) {
    refused(id, &[("PROPERTIES__ACKS", "1")]).await;
}

async fn ca_file_without_tls(id: &str) {
    refused(id, &[("TLS__CA_FILE", "/etc/hostname")]).await;
}

async fn ca_file_missing(id: &str) {
    refused(id, &[("TLS__ENABLED", "true"), ("TLS__CA_FILE", "/not/there.pem")]).await;
}

async fn certificate_without_key(id: &str) {
    refused(id, &[("TLS__ENABLED", "true"), ("TLS__CERTIFICATE_FILE", "/etc/hostname")]).await;
}

async fn password_missing(id: &str) {
    refused(id, &[("SASL__MECHANISM", "plain"), ("SASL__USERNAME", "bridge")]).await;
}

async fn password_without_mechanism(id: &str) {
    refused(id, &[("SASL__PASSWORD", "secret")]).await;
}

async fn unknown_property(id: &str) {
    refused(id, &[("PROPERTIES__LINGER_MSEC", "5")]).await;
}

/// A port of the test. Dropping it closes the port.
struct Port {
    addr: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Port {
    /// Accepts connections and sends nothing.
    async fn silent() -> Self {
        Self::start(|mut stream| async move {
            let mut buffer = [0; 1024];
            while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        })
        .await
    }

    /// Accepts connections and closes them.
    async fn dropping() -> Self {
        Self::start(|_| async {}).await
    }

    /// Answers requests that end like those of HTTP, and closes after anything else.
    async fn http() -> Self {
        Self::start(|mut stream| async move {
            let mut buffer = [0; 1024];
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            if buffer[..count].ends_with(b"\r\n\r\n") {
                drop(stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await);
            }
        })
        .await
    }

    async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + Copy + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(loopback(0)).await.expect("bind a free port");
        let addr = listener.local_addr().expect("an address");
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Self { addr, accepting }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Limits a user's write rate (AlterClientQuotas, which neither librdkafka nor the harness supports:
/// <https://kafka.apache.org/protocol.html>).
async fn limit_writing(kafka: SocketAddr, user: &str, bytes_per_second: f64) {
    fn text(text: &str) -> Vec<u8> {
        let length = u16::try_from(text.len()).expect("a short text");
        [&length.to_be_bytes()[..], text.as_bytes()].concat()
    }
    let one = 1_i32.to_be_bytes();
    let request = [
        &[0, 49, 0, 0][..],
        &one,
        &text("tests"),
        &one,
        &one,
        &text("user"),
        &text(user),
        &one,
        &text("producer_byte_rate"),
        &bytes_per_second.to_be_bytes(),
        &[0, 0],
    ]
    .concat();
    let mut stream = TcpStream::connect(kafka).await.expect("connect to Kafka");
    stream.write_u32(u32::try_from(request.len()).expect("a short request")).await.expect("ask");
    stream.write_all(&request).await.expect("ask");
    let size = stream.read_u32().await.expect("an answer");
    let mut answer = vec![0; size as usize];
    stream.read_exact(&mut answer).await.expect("an answer");
    // Correlation id, throttle time, number of entries, and the error of the first entry.
    assert_eq!(answer[12..14], [0, 0], "refused: {answer:?}");
}

/// A lasting cause is logged once, however often the client retries, and without librdkafka's own log lines.
mod a_lasting_cause {
    use super::*;

    async fn assert_logged_once(id: &str, scene: Scene) {
        let setup = scene.setup.set("LOG__FILTER", "debug").set("SOURCE__BACKOFF__MAX", "500ms");
        let bridge = setup.start();
        let tries = || bridge.log().lines().filter(|line| line.contains("librdkafka: FAIL")).count();
        wait_until(&format!("{id} has failed often"), 2 * SOON, || tries() >= 8).await;
        let log = bridge.log();
        let is_problem = |line: &&str| line.contains(" WARN ") || line.contains("ERROR ");
        let lines: Vec<_> = log.lines().filter(is_problem).filter(|line| line.contains("kafka")).collect();
        assert_eq!(lines.len(), 1, "{lines:#?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_wrong_password_is_logged_once() {
        let id = "kafka-password-once";
        let Some(scene) = Scene::new(id).await else { return };
        assert_logged_once(id, scene.login("plain", (CUSTOMER.0, "wrong")).listener(Listener::Sasl)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_wrong_authority_is_logged_once() {
        let id = "kafka-authority-once";
        let Some(scene) = Scene::new(id).await else { return };
        let addr = scene.kafka.addr(Listener::Plain);
        let other = TlsFront::start(Flaw::OtherName, addr).await;
        let scene = scene.tls().set("TLS__CA_FILE", other.ca_file()).listener(Listener::Tls);
        assert_logged_once(id, scene).await;
    }
}
