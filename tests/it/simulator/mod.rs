//! Tests the simulator with clients that share no session code with the bridge.

mod client;
mod compared_with_activemq;
mod faults;
mod java;
mod openwire;

use std::num::NonZeroU32;
use std::time::Duration;

use atdata_bridge::secret::Secret;
use atdata_bridge::simulator::{
    Generation, Generator, GeneratorConfig, Rate, Simulator, SimulatorConfig, SimulatorLogin, Stats,
};
use tokio::time::timeout;

use client::{Client, PATIENCE};

async fn start() -> Simulator {
    Simulator::start(SimulatorConfig::default()).await.unwrap()
}

fn events(events: u64, rate: Rate) -> Generation {
    let generator = GeneratorConfig { keys: 10, ..Default::default() };
    Generation { events: Some(events), rate, generator }
}

fn all_at_once(count: u64) -> Generation {
    events(count, Rate::FlatOut { ahead: u64::MAX })
}

/// Starts a simulator whose queue `dest1.RTO.acme` has `count` generated events.
async fn with_backlog(count: u64) -> Simulator {
    let simulator = start().await;
    simulator.declare_queue("acme", "dest1");
    simulator.generate("acme", all_at_once(count));
    wait_until(&simulator, |stats| stats.published == count).await;
    simulator
}

async fn wait_until(simulator: &Simulator, wanted: impl FnMut(&Stats) -> bool) -> Stats {
    let waited = timeout(PATIENCE, simulator.wait_until(wanted)).await;
    waited.unwrap_or_else(|_| panic!("not reached: {:?}", simulator.stats()))
}

#[tokio::test]
async fn a_login_is_answered_like_activemq() {
    let simulator = start().await;
    let (_client, connected) = Client::log_in(&simulator, "client-id:acme-d1\nheart-beat:3000,5000\n").await;
    let connected = connected.unwrap();
    assert_eq!(connected.command, "CONNECTED");
    assert_eq!((&connected["session"], &connected["version"]), ("acme-d1", "1.2"));
    assert_eq!(&connected["heart-beat"], "5000,3000");
    assert!(connected["server"].starts_with("ActiveMQ/"));
    // Without a client id the broker generates one, with colons that are not escaped in CONNECTED.
    let (_client, connected) = Client::log_in(&simulator, "").await;
    assert!(connected.unwrap()["session"].starts_with("ID:simulator-"));
}

#[tokio::test]
async fn a_client_that_cannot_log_in_gets_an_error_and_is_closed() {
    let simulator = start().await;
    let cases = [
        ("99999", "", "User name [99999] or password is invalid."),
        ("12345", "heart-beat:fast\n", "Invalid heart-beat header:fast"),
    ];
    for (username, headers, message) in cases {
        let mut client = Client::open(simulator.address()).await;
        client.connect(username, headers).await;
        let answer = client.frame().await.unwrap();
        assert_eq!((answer.command.as_str(), &answer["message"]), ("ERROR", message));
        assert!(client.frame().await.is_none());
    }
    let mut client = Client::open(simulator.address()).await;
    client.send("CONNECT\naccept-version:2.0,1.3\nhost:h\n\n").await;
    assert!(client.frame().await.unwrap()["message"].starts_with("Invalid Protocol version[2.0,1.3]"));
    assert!(client.frame().await.is_none());
    let mut client = Client::open(simulator.address()).await;
    client.send("SUBSCRIBE\nid:0\n\n").await;
    assert_eq!(&client.frame().await.unwrap()["message"], "Not connected.");
    assert!(client.frame().await.is_none());
    let mut client = Client::open(simulator.address()).await;
    client.send("GET / HTTP/1.1\n").await;
    assert_eq!(client.frame().await.unwrap().command, "ERROR");
    assert!(client.frame().await.is_none());
}

#[tokio::test]
async fn a_client_id_has_one_session_at_a_time() {
    let simulator = start().await;
    let (mut first, _) = Client::log_in(&simulator, "client-id:acme-d1\n").await;
    let (mut second, refused) = Client::log_in(&simulator, "client-id:acme-d1\n").await;
    let expected =
        format!("Broker: simulator - Client: acme-d1 already connected from tcp://{}", first.local_address());
    assert_eq!(refused.unwrap()["message"], *expected);
    assert!(second.frame().await.is_none());
    first.send("DISCONNECT\nreceipt:bye\n\n").await;
    assert_eq!(&first.frame().await.unwrap()["receipt-id"], "bye");
    assert!(first.frame().await.is_none());
    let (_third, connected) = Client::log_in(&simulator, "client-id:acme-d1\n").await;
    assert_eq!(connected.unwrap().command, "CONNECTED");
    assert_eq!(simulator.stats().refused, 1);
}

#[tokio::test]
async fn a_refused_subscription_gets_an_error_and_the_connection_continues() {
    let simulator = start().await;
    let (mut client, _) = Client::log_in(&simulator, "").await;
    let cases = [
        ("/queue/d1.RTO.other", "queue://d1.RTO.other"),
        ("/queue/*.RTO.acme", "queue://*.RTO.acme"),
        ("/queue/a.b.RTO.acme", "queue://a.b.RTO.acme"),
        ("d1", "queue://d1"),
        ("/topic/RTO.acme", "topic://RTO.acme"),
    ];
    for (destination, named) in cases {
        client.send(&format!("SUBSCRIBE\nid:0\ndestination:{destination}\nreceipt:7\n\n")).await;
        let error = client.frame().await.unwrap();
        assert_eq!((error.command.as_str(), &error["receipt-id"]), ("ERROR", "7"));
        let expected = format!("User 12345 is not authorized to read from: {named}");
        assert_eq!(error["message"].replace("\\c", ":"), expected);
        assert_eq!(error.body, expected.as_bytes(), "a security exception has no stack trace");
    }
    client.send("SEND\ndestination:/topic/RTO.acme\n\n{}").await;
    assert!(client.frame().await.unwrap()["message"].contains("not authorized to write to"));
    client.subscribe("d1", "ack:client\n").await;
    assert_eq!(simulator.stats().queues.len(), 1, "only the allowed queue was created");
}

#[tokio::test]
async fn messages_follow_the_receipt_and_have_the_headers_of_activemq() {
    let simulator = with_backlog(3).await;
    let mut client = Client::subscribed(&simulator, "dest1", "ack:client\n").await;
    let messages = client.messages(3).await;
    for (serial, message) in messages.iter().enumerate() {
        assert_eq!(message.json()["serial"], serial);
        assert_eq!(&message["destination"], "/queue/dest1.RTO.acme");
        assert_eq!(&message["subscription"], "0");
        assert!(message["message-id"].starts_with("ID\\csimulator-"), "{message:?}");
        assert!(message["message-id"].ends_with(&format!("\\c{}", serial + 1)), "{message:?}");
        assert!(message["timestamp"].parse::<u64>().is_ok());
        assert!(!message.headers.contains_key("content-length"));
        assert!(!message.headers.contains_key("redelivered"));
    }
    client.assert_nothing_more().await;
}

#[tokio::test]
async fn unacknowledged_messages_are_redelivered_with_the_same_id() {
    let simulator = with_backlog(10).await;
    let mut client = Client::subscribed(&simulator, "dest1", "ack:client\nactivemq.prefetchSize:6\n").await;
    let first = client.messages(6).await;
    client.ack(&first[2]).await;
    wait_until(&simulator, |stats| stats.total().acked == 3).await;
    drop(client);
    wait_until(&simulator, |stats| stats.total().consumers == 0).await;

    let mut client = Client::subscribed(&simulator, "dest1", "ack:client\n").await;
    let second = client.messages(7).await;
    for (n, message) in second.iter().enumerate() {
        assert_eq!(message.json()["serial"], n + 3);
        // Dispatched before: three that were read, and three more after the acknowledgement.
        assert_eq!(&message["redelivered"], if n < 6 { "true" } else { "" }, "{n}");
        if let Some(earlier) = first.get(n + 3) {
            assert_eq!(message["message-id"], earlier["message-id"]);
            assert_eq!(message["timestamp"], earlier["timestamp"]);
        }
    }
    // An ack id of an earlier session is invalid in this one.
    client.ack(&first[5]).await;
    let error = client.frame().await.unwrap();
    assert!(error["message"].starts_with("Unexpected ACK received"), "{error:?}");
    client.ack(&second[6]).await;
    wait_until(&simulator, |stats| stats.total().acked == 10 && stats.total().pending == 0).await;
}

#[tokio::test]
async fn individual_acks_and_nacks_affect_one_message() {
    let simulator = with_backlog(4).await;
    let mut client = Client::subscribed(&simulator, "dest1", "ack:client-individual\n").await;
    let messages = client.messages(4).await;
    client.ack(&messages[2]).await;
    client.send(&format!("NACK\nid:{}\nreceipt:n\n\n", &messages[0]["ack"])).await;
    assert_eq!(&client.frame().await.unwrap()["receipt-id"], "n");
    let total = simulator.stats().total();
    assert_eq!((total.acked, total.dead, total.in_flight), (1, 1, 2));
}

#[tokio::test]
async fn destination_ids_get_copies_and_consumers_of_one_share_them() {
    let simulator = start().await;
    let mut mirror = Client::subscribed(&simulator, "dest2", "ack:client\n").await;
    let mut one = Client::subscribed(&simulator, "dest1", "ack:client\n").await;
    let mut two = Client::subscribed(&simulator, "dest1", "ack:client\n").await;
    simulator.generate("acme", all_at_once(100));
    let serials = |messages: Vec<client::Frame>| {
        messages.iter().map(|message| message.json()["serial"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let all: Vec<_> = (0..100).collect();
    assert_eq!(serials(mirror.messages(100).await), all);
    let mut shared = serials(one.messages(50).await);
    shared.extend(serials(two.messages(50).await));
    shared.sort_unstable();
    assert_eq!(shared, all);
}

#[tokio::test]
async fn the_rate_is_kept_until_the_last_event() {
    let simulator = start().await;
    let mut client = Client::subscribed(&simulator, "dest1", "ack:client\n").await;
    let rate = NonZeroU32::new(1000).unwrap();
    simulator.generate("acme", events(50, Rate::PerSecond(rate)));
    let messages = client.messages(50).await;
    let sent = |n: usize| messages[n]["timestamp"].parse::<u64>().unwrap();
    assert_eq!(sent(49) - sent(0), 49);
    client.assert_nothing_more().await;
    assert_eq!(simulator.stats().published, 50);
}

#[tokio::test]
async fn the_rate_flat_out_waits_for_the_consumers() {
    let simulator = start().await;
    let rate = Rate::FlatOut { ahead: 100 };
    simulator.generate("acme", Generation { events: None, rate, generator: Default::default() });
    let mut client = Client::subscribed(&simulator, "dest1", "ack:client\nactivemq.prefetchSize:50\n").await;
    for _ in 0..20 {
        let messages = client.messages(50).await;
        let stats = simulator.stats();
        assert!(stats.total().pending <= 100, "{stats:?}");
        client.ack(&messages[49]).await;
    }
}

#[tokio::test]
async fn bodies_come_from_the_generator() {
    let simulator = with_backlog(100).await;
    let mut client = Client::subscribed(&simulator, "dest1", "ack:client\n").await;
    let generator = Generator::new(GeneratorConfig { keys: 10, ..Default::default() });
    for (serial, message) in client.messages(100).await.iter().enumerate() {
        let mut body = Vec::new();
        generator.write(serial as u64, &mut body);
        assert_eq!(message.body, body);
    }
    simulator.publish("acme", "my own");
    assert_eq!(client.message().await.body, b"my own");
    simulator.stop().await;
    assert!(client.frame().await.is_none());
}

/// `stomp-rs` cannot log in, so the login has no username and no password.
#[tokio::test]
async fn an_independent_client_consumes() {
    use stomp_rs::client::{Client, ClientBuilder};
    use stomp_rs::protocol::frame::{AckMode, Subscribe};

    let nobody =
        SimulatorLogin { username: String::new(), password: Secret::new(""), namespace: "acme".to_owned() };
    let config = SimulatorConfig { logins: vec![nobody], ..Default::default() };
    let simulator = Simulator::start(config).await.unwrap();
    let client = Client::connect(ClientBuilder::new(simulator.address().to_string())).await.unwrap();
    // The client does not read the receipt while this channel is full.
    let (sender, mut receiver) = tokio::sync::mpsc::channel(20);
    let subscribe = Subscribe::new("0", "/queue/dest1.RTO.acme").ack(AckMode::Client);
    client.subscribe(subscribe, sender).await.unwrap();
    simulator.generate("acme", all_at_once(20));
    for serial in 0..20 {
        let frame = timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap();
        let body: serde_json::Value = serde_json::from_str(&frame.body).unwrap();
        assert_eq!(body["serial"], serial);
        client.ack(frame.ack().unwrap()).await.unwrap();
    }
    wait_until(&simulator, |stats| stats.total().acked == 20).await;
}

#[tokio::test]
async fn heart_beats_go_in_both_directions() {
    let simulator = start().await;
    let (mut client, _) = Client::log_in(&simulator, "client-id:c\nheart-beat:50,50\n").await;
    assert_eq!(client.byte().await, Some(b'\n'), "the line feed after the NUL");
    assert_eq!(client.byte().await, Some(b'\n'), "a heart-beat");
    // This client sends no heart-beats, so the simulator closes its connection.
    while let Some(byte) = client.byte().await {
        assert_eq!(byte, b'\n');
    }
    let again = wait_until(&simulator, |stats| stats.sessions == 1).await;
    assert_eq!(again.refused, 0);
}

#[tokio::test]
async fn the_id_of_a_dead_session_is_held() {
    let config = SimulatorConfig { hold: Duration::from_secs(3600), ..Default::default() };
    let simulator = Simulator::start(config).await.unwrap();
    let (client, _) = Client::log_in(&simulator, "client-id:c\n").await;
    drop(client);
    let (_, refused) = Client::log_in(&simulator, "client-id:c\n").await;
    assert!(refused.unwrap()["message"].contains("already connected"));
}
