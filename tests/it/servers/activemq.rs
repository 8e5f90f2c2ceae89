//! Tests that the brokers behave like AtData's, and that the harness measures them correctly: all other tests
//! rely on it.

use std::collections::HashSet;
use std::time::Duration;

use kit::broker::{Broker, Options, Protocol, Version, shared};
use kit::consumer::{Acks, Consumer};
use kit::events::{Events, number_in};
use kit::output::Tally;
use kit::publisher::Publisher;
use kit::stomp::{Connection, Frame, Login};
use kit::{SOON, on_each_broker, wait_until};

on_each_broker!(
    mirrors_by_destination_id,
    balances_within_a_destination_id,
    has_no_events_from_before_the_first_subscribe,
    refuses_a_foreign_namespace,
    refuses_a_wrong_password,
    refuses_a_second_session_with_the_same_client_id,
    redelivers_the_events_of_a_killed_consumer,
    counts_exactly,
    survives_a_kill_with_its_ports_and_confirmed_events,
    serves_tls_only_for_the_name_in_its_certificate,
    offers_openwire_on_its_openwire_port,
    serves_an_independent_client,
    delivers_many_events_in_order,
);

/// Creates a queue: it exists from the first SUBSCRIBE.
async fn create(broker: &Broker, queue: &str) {
    Consumer::subscribe(broker, queue, 1, Acks::Never).await.close().await;
}

fn numbers(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(|frame| number_in(frame.text()).expect("an event")).collect()
}

async fn mirrors_by_destination_id(version: Version) {
    let broker = shared(version);
    let mut first = Consumer::subscribe(broker, "one.RTO.mirror", 100, Acks::Ready).await;
    let mut second = Consumer::subscribe(broker, "two.RTO.mirror", 100, Acks::Ready).await;
    let events = Events::good(50);
    Publisher::connect(broker, "mirror").await.publish(events.bodies()).await.unwrap();

    let all: Vec<u64> = (0..50).collect();
    assert_eq!(numbers(&first.take(50).await), all);
    assert_eq!(numbers(&second.take(50).await), all);
}

async fn balances_within_a_destination_id(version: Version) {
    let broker = shared(version);
    let mut first = Consumer::subscribe(broker, "one.RTO.balance", 10, Acks::Ready).await;
    let mut second = Consumer::subscribe(broker, "one.RTO.balance", 10, Acks::Ready).await;
    let publish = async {
        let mut publisher = Publisher::connect(broker, "balance").await;
        publisher.publish(Events::good(500).bodies()).await.unwrap();
    };
    let (mine, yours) = (tokio::sync::Mutex::new(Vec::new()), tokio::sync::Mutex::new(Vec::new()));
    let consume = async |consumer: &mut Consumer, into: &tokio::sync::Mutex<Vec<u64>>| loop {
        let frame = consumer.next().await;
        into.lock().await.extend(numbers(&[frame]));
    };
    tokio::select! {
        () = consume(&mut first, &mine) => {}
        () = consume(&mut second, &yours) => {}
        () = async {
            publish.await;
            wait_until("both consumers have acknowledged everything", SOON, || broker.depth("one.RTO.balance") == 0).await;
        } => {}
    }
    let (mine, yours) = (mine.into_inner(), yours.into_inner());
    assert!(!mine.is_empty() && !yours.is_empty(), "{} and {}", mine.len(), yours.len());
    assert_eq!(mine.len() + yours.len(), 500);
    assert_eq!(mine.iter().chain(&yours).collect::<HashSet<_>>().len(), 500);
}

async fn has_no_events_from_before_the_first_subscribe(version: Version) {
    let broker = shared(version);
    let mut publisher = Publisher::connect(broker, "early").await;
    publisher.publish(["{\"n\":1}"]).await.unwrap();
    assert_eq!(broker.queue("one.RTO.early"), None);
    let mut consumer = Consumer::subscribe(broker, "one.RTO.early", 10, Acks::Ready).await;
    publisher.publish(["{\"n\":2}"]).await.unwrap();
    assert_eq!(numbers(&consumer.take(1).await), [2]);
}

async fn refuses_a_foreign_namespace(version: Version) {
    let broker = shared(version);
    let refusal = async |queue: &str| {
        let connection = Connection::login(broker.addr(), &Login::other_customer()).await.unwrap();
        Consumer::over(connection, queue, &[], Acks::Never).await.err().map(|error| error.to_string())
    };
    assert_eq!(refusal("one.RTO.other").await, None);

    create(broker, "one.RTO.foreign").await;
    let error = refusal("one.RTO.foreign").await.expect("a refusal");
    assert!(error.contains("User 67890 is not authorized to read from: queue://one.RTO.foreign"), "{error}");

    let error = refusal("missing.RTO.fixed").await.expect("a refusal");
    assert!(error.contains("User 67890 is not authorized to create: queue://missing.RTO.fixed"), "{error}");
}

async fn refuses_a_wrong_password(version: Version) {
    let login = Login { password: "ffffffffffffffffffffffffffffffff", ..Login::customer() };
    let error = refused(shared(version), &login).await;
    assert!(error.contains("User name [12345] or password is invalid"), "{error}");
    let mut connection = Connection::open(shared(version).addr()).await.unwrap();
    connection.log_in(&login).await.expect_err("a refusal");
    let end = connection.receive().await.expect_err("the end");
    assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof);
}

/// Returns the broker's error for this login. On a busy machine the broker may close the connection before it
/// has sent the error: then the function tries again.
async fn refused(broker: &Broker, login: &Login) -> String {
    for _ in 0..10 {
        let error = Connection::login(broker.addr(), login).await.err().expect("a refusal");
        if error.kind() != std::io::ErrorKind::UnexpectedEof {
            return error.to_string();
        }
    }
    panic!("the broker closed the connection without an error, ten times");
}

async fn refuses_a_second_session_with_the_same_client_id(version: Version) {
    let broker = shared(version);
    let login = Login::customer().client_id("the-same");
    let first = Connection::login(broker.addr(), &login).await.unwrap();
    let error = refused(broker, &login).await;
    assert!(error.contains("Client: the-same already connected from tcp://127.0.0.1:"), "{error}");
    first.disconnect().await.unwrap();
}

async fn redelivers_the_events_of_a_killed_consumer(version: Version) {
    let broker = shared(version);
    let mut victim = Consumer::subscribe(broker, "one.RTO.killed", 50, Acks::Never).await;
    Publisher::connect(broker, "killed").await.publish(Events::good(50).bodies()).await.unwrap();
    let held = victim.take(30).await;
    victim.ack(&held[9]).await;
    wait_until("ten events are acknowledged", SOON, || broker.depth("one.RTO.killed") == 40).await;
    // The socket closes without a DISCONNECT, as the kernel closes that of a killed process.
    drop(victim);

    let mut heir = Consumer::subscribe(broker, "one.RTO.killed", 50, Acks::Ready).await;
    let returned = heir.take(40).await;
    assert_eq!(numbers(&returned), (10..50).collect::<Vec<_>>());
    // All messages sent to the killed consumer are marked, even those that it did not read.
    assert!(returned.iter().all(|frame| frame.get("redelivered").as_deref() == Some("true")));
    assert_eq!(returned[0].get("message-id"), held[10].get("message-id"));
}

async fn counts_exactly(version: Version) {
    let (broker, queue) = (shared(version), "one.RTO.counted");
    create(broker, queue).await;
    assert_eq!(broker.depth(queue), 0);
    Publisher::connect(broker, "counted").await.publish(Events::good(1234).bodies()).await.unwrap();
    assert_eq!(broker.depth(queue), 1234);

    let mut consumer = Consumer::subscribe(broker, queue, 20, Acks::Every(7)).await;
    consumer.take(7).await;
    wait_until("seven events are acknowledged and the window is full again", SOON, || {
        let counts = broker.queue(queue).expect("the queue");
        (counts.messages, counts.in_flight, counts.consumers) == (1227, 20, 1)
    })
    .await;
    consumer.close().await;
    let counts = broker.queue(queue).expect("the queue");
    assert_eq!((counts.messages, counts.enqueued, counts.dequeued), (1227, 1234, 7));
}

async fn survives_a_kill_with_its_ports_and_confirmed_events(version: Version) {
    let broker = Broker::start(version, Options::default());
    create(&broker, "one.RTO.acme").await;
    Publisher::connect(&broker, "acme").await.publish(Events::good(1000).bodies()).await.unwrap();
    let ports = || Protocol::ALL.map(|protocol| (broker.addr_of(protocol), broker.tls_addr_of(protocol)));
    let before = ports();

    broker.restart();
    assert_eq!(ports(), before);
    let mut consumer = Consumer::subscribe(&broker, "one.RTO.acme", 500, Acks::Every(100)).await;
    assert_eq!(numbers(&consumer.take(1000).await), (0..1000).collect::<Vec<_>>());
    consumer.close().await;

    broker.stop();
    broker.restart();
    create(&broker, "one.RTO.acme").await;
    assert_eq!(broker.depth("one.RTO.acme"), 0);

    broker.freeze();
    let login = Login::customer();
    let mut waiting = std::pin::pin!(Connection::login(broker.addr(), &login));
    let silence = tokio::time::timeout(Duration::from_millis(200), &mut waiting).await;
    assert!(silence.is_err(), "a frozen broker answered");
    broker.thaw();
    waiting.await.expect("a thawed broker answers");
}

async fn serves_tls_only_for_the_name_in_its_certificate(version: Version) {
    let broker = shared(version);
    let open = async |protocol, name: &'static str| {
        Connection::open_tls(broker.tls_addr_of(protocol), name, broker.ca_file()).await
    };
    for name in ["localhost", "127.0.0.1"] {
        open(Protocol::Stomp, name).await.unwrap().log_in(&Login::customer()).await.unwrap();
        assert!(offers_openwire(open(Protocol::OpenWire, name).await.unwrap()).await);
    }
    for protocol in Protocol::ALL {
        let wrong_name = open(protocol, "broker.example.com").await;
        assert!(wrong_name.is_err(), "a certificate for another name was accepted");
    }
}

async fn offers_openwire_on_its_openwire_port(version: Version) {
    let broker = shared(version);
    let open = async |protocol| Connection::open(broker.addr_of(protocol)).await.unwrap();
    assert!(offers_openwire(open(Protocol::OpenWire).await).await);
    let mut stomp = open(Protocol::Stomp).await;
    stomp.log_in(&Login::customer()).await.expect("STOMP, and nothing before CONNECTED");
}

/// Returns whether the broker sends the OpenWire handshake first: a size, the type 1, the magic.
async fn offers_openwire(mut connection: Connection) -> bool {
    let handshake = connection.receive_bytes(13).await.expect("a handshake");
    handshake[4..] == *b"\x01ActiveMQ"
}

/// `stomp-rs`, which shares no code with the tests, reads from these brokers a message that our publisher
/// sent.
async fn serves_an_independent_client(version: Version) {
    use stomp_rs::client::{Client, ClientBuilder};
    use stomp_rs::protocol::frame::Subscribe;

    // It cannot log in.
    let broker = Broker::start(version, Options { anonymous: true, ..Options::default() });
    let client = Client::connect(ClientBuilder::new(broker.addr().to_string())).await.unwrap();
    let (sender, mut messages) = tokio::sync::mpsc::channel(16);
    client.subscribe(Subscribe::new_with_random_id("/queue/one.RTO.acme"), sender).await.unwrap();
    wait_until("the queue exists", SOON, || broker.queue("one.RTO.acme").is_some()).await;

    Publisher::connect(&broker, "acme").await.publish(["{\"n\":1}"]).await.unwrap();
    let frame =
        tokio::time::timeout(SOON, messages.recv()).await.expect("a message in time").expect("a message");
    assert_eq!(frame.body.trim_end_matches('\0'), "{\"n\":1}");
}

async fn delivers_many_events_in_order(version: Version) {
    let (broker, queue) = (shared(version), "one.RTO.many");
    create(broker, queue).await;
    let events = Events::good(20_000);
    Publisher::connect(broker, "many").await.publish(events.bodies()).await.unwrap();
    let mut consumer = Consumer::subscribe(broker, queue, 1024, Acks::Every(100)).await;
    let mut tally = Tally::new(events);
    for frame in consumer.take(20_000).await {
        tally.add(frame.text());
    }
    consumer.close().await;
    tally.assert_complete(0);
    assert_eq!(broker.depth(queue), 0);
}
