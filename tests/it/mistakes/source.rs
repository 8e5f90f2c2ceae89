//! Tests mistakes with AtData's broker.

mod foreign;

use atdata_bridge::simulator::{Faults, HeartBeats, Simulator, SimulatorConfig};

use super::{Scenario, scenarios};
use kit::bridge::Setup;
use kit::broker::{Broker, Options, Protocol, Version, shared_if_available};
use kit::consumer::{Acks, Consumer};
use kit::events::{Events, Spread};
use kit::output::Tally;
use kit::publisher::Publisher;
use kit::scenario::{drain, emptied, place, publish};
use kit::stomp::{Connection, Login};
use kit::{SOON, wait_until};

scenarios!(
    "source":
    nothing_listens,
    nothing_listens_openwire,
    unknown_host,
    wrong_password,
    wrong_password_openwire,
    wrong_password_and_no_standby,
    unknown_user,
    unknown_user_openwire,
    foreign_namespace,
    foreign_namespace_openwire,
    no_right_to_create,
    no_right_to_create_openwire,
    connection_id_in_use,
    connection_id_in_use_openwire,
    large_body,
    large_body_openwire,
    large_properties_openwire,
    long_header,
    many_headers,
    nul_in_a_text,
    broker_stopped,
    broker_frozen,
    broker_frozen_openwire,
    broker_falls_silent,
    broker_falls_silent_openwire,
    consumer_removed,
    virtual_host_refused,
    virtual_host_artemis,
    virtual_host_openwire,
    login_rabbitmq,
    login_artemis,
    login_other_error,
    right_rabbitmq,
    right_artemis,
);

const STOMP: Protocol = Protocol::Stomp;
const OPENWIRE: Protocol = Protocol::OpenWire;

/// How many events wait in every queue.
const WAITING: Events = Events { count: 5, keys: 1000, spread: Spread::Even, bad_every: None };

/// A queue of the test with events, and a bridge that consumes it.
struct Waiting {
    broker: &'static Broker,
    namespace: String,
    queue: String,
    setup: Setup,
}

impl Waiting {
    /// Returns `None` where there is no broker.
    async fn new(protocol: Protocol, id: &str) -> Option<Self> {
        let waiting = Self::empty(protocol, id).await?;
        publish(waiting.broker, &waiting.namespace, WAITING).await;
        Some(waiting)
    }

    async fn empty(protocol: Protocol, id: &str) -> Option<Self> {
        Some(Self::at(shared_if_available(Version::V6, id)?, protocol, id).await)
    }

    /// Uses a broker that the test has started.
    async fn at(broker: &'static Broker, protocol: Protocol, id: &str) -> Self {
        let (namespace, queue) = place(protocol, id);
        Consumer::subscribe(broker, &queue, 1, Acks::Never).await.close().await;
        let setup = Setup::new(broker, protocol, &namespace, "main", &namespace);
        Self { broker, namespace, queue, setup }
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.setup = self.setup.set(name, value);
        self
    }

    fn scenario(self) -> Scenario {
        Scenario::new(self.setup).keeps(self.broker, &self.queue, WAITING.count)
    }
}

/// Checks that every event of the queue is delivered once after the repair.
async fn delivers(setup: &Setup, broker: &Broker, queue: &str) {
    let bridge = setup.start();
    emptied(broker, queue).await;
    drain(bridge).await;
    Tally::of(WAITING, setup.files()).assert_complete(0);
}

fn leaked(options: Options, id: &str) -> Option<&'static Broker> {
    let runs = kit::available(Version::V6, id);
    runs.then(|| &*Box::leak(Box::new(Broker::start(Version::V6, options))))
}

async fn nothing_listens(id: &str) {
    at_an_address(STOMP, "stomp://127.0.0.1:1", id).await;
}

async fn nothing_listens_openwire(id: &str) {
    at_an_address(OPENWIRE, "tcp://127.0.0.1:1", id).await;
}

async fn unknown_host(id: &str) {
    at_an_address(STOMP, "stomp://no-such-host.invalid:61613", id).await;
}

async fn at_an_address(protocol: Protocol, url: &str, id: &str) {
    let Some(waiting) = Waiting::new(protocol, id).await else { return };
    let (broker, queue) = (waiting.broker, waiting.queue.clone());
    let setup = waiting.set("SOURCE__URL", url).scenario().shows(id).await;
    delivers(&setup.set("SOURCE__URL", broker.url_of(protocol)), broker, &queue).await;
}

async fn wrong_password(id: &str) {
    with_a_wrong_login(STOMP, "SOURCE__PASSWORD", "ffffffffffffffffffffffffffffffff", id).await;
}

async fn wrong_password_openwire(id: &str) {
    with_a_wrong_login(OPENWIRE, "SOURCE__PASSWORD", "ffffffffffffffffffffffffffffffff", id).await;
}

/// In a pair of brokers the second one does not listen before the first one stops.
async fn wrong_password_and_no_standby(id: &str) {
    let Some(waiting) = Waiting::new(STOMP, id).await else { return };
    let (broker, queue) = (waiting.broker, waiting.queue.clone());
    let mut waiting = waiting.set("SOURCE__PASSWORD", "ffffffffffffffffffffffffffffffff");
    let urls = format!("{}, stomp://127.0.0.1:1", broker.url_of(STOMP));
    waiting.setup = waiting.setup.unset("SOURCE__URL").set("SOURCE__URLS", urls);
    let setup = waiting.scenario().shows(id).await;
    delivers(&setup.set("SOURCE__PASSWORD", Login::customer().password), broker, &queue).await;
}

async fn unknown_user(id: &str) {
    with_a_wrong_login(STOMP, "SOURCE__USERNAME", "54321", id).await;
}

async fn unknown_user_openwire(id: &str) {
    with_a_wrong_login(OPENWIRE, "SOURCE__USERNAME", "54321", id).await;
}

async fn with_a_wrong_login(protocol: Protocol, name: &str, value: &str, id: &str) {
    let Some(waiting) = Waiting::new(protocol, id).await else { return };
    let (broker, queue) = (waiting.broker, waiting.queue.clone());
    let setup = waiting.set(name, value).scenario().shows(id).await;
    let Login { username, password, .. } = Login::customer();
    let repaired = setup.set("SOURCE__USERNAME", username).set("SOURCE__PASSWORD", password);
    delivers(&repaired, broker, &queue).await;
}

async fn foreign_namespace(id: &str) {
    in_a_foreign_namespace(STOMP, id).await;
}

async fn foreign_namespace_openwire(id: &str) {
    in_a_foreign_namespace(OPENWIRE, id).await;
}

async fn in_a_foreign_namespace(protocol: Protocol, id: &str) {
    let Some(waiting) = Waiting::new(protocol, id).await else { return };
    let Login { username, password, .. } = Login::other_customer();
    let waiting = waiting.set("SOURCE__USERNAME", username).set("SOURCE__PASSWORD", password);
    waiting.scenario().seen_by_subscribing().shows(id).await;
}

async fn no_right_to_create(id: &str) {
    without_the_right_to_create(STOMP, id).await;
}

async fn no_right_to_create_openwire(id: &str) {
    without_the_right_to_create(OPENWIRE, id).await;
}

/// In the namespace `fixed` this user may only read existing queues.
async fn without_the_right_to_create(protocol: Protocol, id: &str) {
    let Some(broker) = shared_if_available(Version::V6, id) else { return };
    let Login { username, password, .. } = Login::other_customer();
    let setup = Setup::new(broker, protocol, "fixed", &protocol.named("no-right"), id)
        .set("SOURCE__USERNAME", username)
        .set("SOURCE__PASSWORD", password);
    Scenario::new(setup).seen_by_subscribing().shows(id).await;
}

async fn connection_id_in_use(id: &str) {
    with_a_connection_id_in_use(STOMP, id).await;
}

async fn connection_id_in_use_openwire(id: &str) {
    with_a_connection_id_in_use(OPENWIRE, id).await;
}

async fn with_a_connection_id_in_use(protocol: Protocol, id: &str) {
    let Some(waiting) = Waiting::new(protocol, id).await else { return };
    let (broker, queue) = (waiting.broker, waiting.queue.clone());
    let login = Login::customer().client_id(&waiting.namespace);
    let holder = Connection::login(broker.addr(), &login).await.expect("log in");
    // The broker drops a dead session after three heart-beats.
    let waiting = waiting.set("SOURCE__HEART_BEAT", "1s");
    let setup = waiting.scenario().unseen_by_check().shows(id).await;
    holder.disconnect().await.expect("disconnect");
    delivers(&setup, broker, &queue).await;
}

async fn large_body(id: &str) {
    with_large_bodies(STOMP, id).await;
}

async fn large_body_openwire(id: &str) {
    with_large_bodies(OPENWIRE, id).await;
}

async fn with_large_bodies(protocol: Protocol, id: &str) {
    let Some(waiting) = Waiting::new(protocol, id).await else { return };
    let (broker, queue) = (waiting.broker, waiting.queue.clone());
    let setup = waiting.set("SOURCE__MAX_BODY", "32").scenario().seen_by_subscribing().shows(id).await;
    delivers(&setup.unset("SOURCE__MAX_BODY"), broker, &queue).await;
}

async fn large_properties_openwire(id: &str) {
    let Some(waiting) = Waiting::empty(OPENWIRE, id).await else { return };
    publish_with(&waiting, 1, &"x".repeat(5000)).await;
    let (broker, queue) = (waiting.broker, waiting.queue.clone());
    let waiting = waiting.set("SOURCE__MAX_HEADER_SIZE", "1KiB").set("SOURCE__MAX_BODY", "1KiB");
    let setup = waiting.scenario().seen_by_subscribing().shows(id).await;
    delivers(&setup.set("SOURCE__MAX_HEADER_SIZE", "8KiB"), broker, &queue).await;
}

async fn long_header(id: &str) {
    let Some(waiting) = Waiting::empty(STOMP, id).await else { return };
    publish_with(&waiting, 1, &"x".repeat(5000)).await;
    let (broker, queue) = (waiting.broker, waiting.queue.clone());
    let setup = waiting.set("SOURCE__MAX_HEADER_SIZE", "1KiB").scenario().unseen_by_check().shows(id).await;
    delivers(&setup.set("SOURCE__MAX_HEADER_SIZE", "8KiB"), broker, &queue).await;
}

/// The message id may follow after too many headers. Every remedy that the log names must work.
async fn many_headers(id: &str) {
    let Some(waiting) = Waiting::empty(STOMP, id).await else { return };
    publish_with(&waiting, 300, "x").await;
    let (broker, queue) = (waiting.broker, waiting.queue.clone());
    let setup = waiting.set("SOURCE__MAX_HEADERS", "100").scenario().unseen_by_check().shows(id).await;
    let log = setup.log();
    let (_, after) = log.split_once("retrying: ").expect("a retry before the hold");
    assert!(!after.contains(r#"ready part="source""#), "ready between the retry and the hold: {log}");
    let over_openwire = setup.set("SOURCE__URL", broker.url_of(OPENWIRE));
    delivers(&over_openwire, broker, &queue).await;

    let Some(waiting) = Waiting::empty(STOMP, &format!("{id}-raised")).await else { return };
    publish_with(&waiting, 300, "x").await;
    let raised = waiting.setup.set("SOURCE__MAX_HEADERS", "400");
    delivers(&raised, broker, &waiting.queue).await;
}

/// Publishes the events with `count` properties of this value.
async fn publish_with(waiting: &Waiting, count: u32, value: &str) {
    let mut publisher = Publisher::connect(waiting.broker, &waiting.namespace).await;
    for number in 0..count {
        publisher = publisher.with_header(&format!("property{number}"), value);
    }
    publisher.publish(WAITING.bodies()).await.expect("publish");
}

/// Only Java's client publishes such a text. The simulator sends it as ActiveMQ does.
async fn nul_in_a_text(id: &str) {
    let simulator = Simulator::start(SimulatorConfig::default()).await.expect("a simulator");
    simulator.declare_queue("acme", "main");
    simulator.publish("acme", "a\0b");
    let setup = Setup::at(&simulator.url(), "acme", "main", id);
    let setup = Scenario::new(setup).unseen_by_check().shows(id).await;
    assert_eq!(simulator.stats().total().acked, 0);
    let bridge = setup.set("SOURCE__URL", simulator.openwire_url()).start();
    wait_until("the event is acknowledged", SOON, || simulator.stats().total().acked == 1).await;
    drain(bridge).await;
}

async fn broker_stopped(id: &str) {
    let Some(broker) = leaked(Options::default(), id) else { return };
    let waiting = Waiting::at(broker, STOMP, id).await;
    publish(broker, &waiting.namespace, WAITING).await;
    broker.stop();
    let queue = waiting.queue.clone();
    let setup = Scenario::new(waiting.setup).shows(id).await;
    broker.restart();
    assert_eq!(broker.depth(&queue), WAITING.count);
    delivers(&setup, broker, &queue).await;
}

async fn broker_frozen(id: &str) {
    at_a_frozen_broker(STOMP, id).await;
}

async fn broker_frozen_openwire(id: &str) {
    at_a_frozen_broker(OPENWIRE, id).await;
}

async fn at_a_frozen_broker(protocol: Protocol, id: &str) {
    let Some(broker) = leaked(Options::default(), id) else { return };
    let waiting = Waiting::at(broker, protocol, id).await.set("SOURCE__CONNECT_TIMEOUT", "1s");
    publish(broker, &waiting.namespace, WAITING).await;
    broker.freeze();
    let queue = waiting.queue.clone();
    let setup = Scenario::new(waiting.setup).shows(id).await;
    broker.thaw();
    assert_eq!(broker.depth(&queue), WAITING.count);
    delivers(&setup.unset("SOURCE__CONNECT_TIMEOUT"), broker, &queue).await;
}

async fn broker_falls_silent(id: &str) {
    at_a_broker_that_falls_silent(STOMP, id).await;
}

async fn broker_falls_silent_openwire(id: &str) {
    at_a_broker_that_falls_silent(OPENWIRE, id).await;
}

async fn at_a_broker_that_falls_silent(protocol: Protocol, id: &str) {
    let faults = Faults { silent_after: Some(1), heart_beats: HeartBeats::Never, ..Faults::default() };
    at_a_faulty_broker(protocol, faults, id).await;
}

/// Uses the simulator, because a real broker cannot be told to fail in this way.
async fn at_a_faulty_broker(protocol: Protocol, faults: Faults, id: &str) {
    let config = SimulatorConfig { faults, ..Default::default() };
    let simulator = Simulator::start(config).await.expect("a simulator");
    simulator.declare_queue("acme", "main");
    simulator.publish("acme", WAITING.body(0));
    let url = match protocol {
        Protocol::Stomp => simulator.url(),
        Protocol::OpenWire => simulator.openwire_url(),
    };
    let setup = Setup::at(&url, "acme", "main", id)
        .set("SOURCE__HEART_BEAT", "1s")
        .set("SOURCE__BACKOFF__INITIAL", "20s")
        .set("SOURCE__BACKOFF__MAX", "20s");
    // The broker may not have read the acknowledgement of the event that it sent.
    Scenario::new(setup).unseen_by_check().exits(76).shows(id).await;
    assert_eq!(simulator.stats().total().dead, 0);
}

/// The broker sends the event and closes the consumer together, so that no event is accepted.
async fn consumer_removed(id: &str) {
    let faults = Faults { close_consumers_after: Some(1), ..Faults::default() };
    at_a_faulty_broker(OPENWIRE, faults, id).await;
}

async fn virtual_host_refused(id: &str) {
    foreign::answers(&[foreign::RABBITMQ_HOST], id).await;
}

async fn virtual_host_artemis(id: &str) {
    foreign::answers(&[foreign::ARTEMIS_HOST], id).await;
}

async fn virtual_host_openwire(id: &str) {
    let Some(waiting) = Waiting::empty(OPENWIRE, id).await else { return };
    Scenario::new(waiting.set("SOURCE__VIRTUAL_HOST", "/atdata").setup).shows(id).await;
}

async fn login_rabbitmq(id: &str) {
    foreign::answers(&[foreign::RABBITMQ_LOGIN], id).await;
}

async fn login_artemis(id: &str) {
    foreign::answers(&[foreign::ARTEMIS_LOGIN], id).await;
}

/// It may pass by itself, so it is held only after three heart-beats.
async fn login_other_error(id: &str) {
    let setup = foreign::setup(&[foreign::LDAP], id).await;
    Scenario::new(setup.set("SOURCE__HEART_BEAT", "1s").set("SOURCE__BACKOFF__MAX", "500ms")).shows(id).await;
}

async fn right_rabbitmq(id: &str) {
    foreign::refuses_the_queue(&[foreign::CONNECTED, foreign::RABBITMQ_RIGHT], id).await;
}

async fn right_artemis(id: &str) {
    foreign::refuses_the_queue(&[foreign::CONNECTED, foreign::ARTEMIS_RIGHT], id).await;
}
