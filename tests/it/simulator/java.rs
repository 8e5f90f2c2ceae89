//! Tests the simulator's OpenWire with Java's own client.

use std::time::Duration;

use atdata_bridge::simulator::{
    Generation, Generator, GeneratorConfig, Malformation, Rate, Simulator, SimulatorConfig,
};

use super::{start, wait_until, with_backlog};
use kit::broker::Version;
use kit::java_client::{JavaClient, Message};
use kit::on_each_broker;

on_each_broker!(
    every_event_is_received_once,
    the_client_acknowledges_batches_by_itself,
    unacknowledged_messages_are_redelivered,
    refusals_are_exceptions,
    every_kind_of_message_is_read,
);

const PASSWORD: &str = "0123456789abcdef0123456789abcdef";
const QUEUE: &str = "dest1.RTO.acme";

fn client(version: Version, simulator: &Simulator, password: &str, options: &str) -> JavaClient {
    let url = format!("{}{options}", simulator.openwire_url());
    JavaClient::new(version, &url, "12345", password, "acme-d1")
}

/// Starts a client that is connected and consumes `dest1`.
fn consuming(version: Version, simulator: &Simulator, mode: &str, options: &str) -> JavaClient {
    let client = client(version, simulator, PASSWORD, options);
    assert_eq!(client.connect(), "connected");
    assert_eq!(client.consume(mode, QUEUE), "consuming");
    client
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body.as_str()).collect()
}

fn generated(generator: &GeneratorConfig, serials: std::ops::Range<u64>) -> Vec<String> {
    let generator = Generator::new(generator.clone());
    let body = |serial| {
        let mut body = Vec::new();
        generator.write(serial, &mut body);
        String::from_utf8(body).unwrap()
    };
    serials.map(body).collect()
}

async fn every_event_is_received_once(version: Version) {
    const EVENTS: u64 = 1500;
    let simulator = start().await;
    let client = consuming(version, &simulator, "client", "");
    let generator = GeneratorConfig { keys: 10, ..Default::default() };
    let rate = Rate::PerSecond(1000.try_into().unwrap());
    simulator.generate("acme", Generation { events: Some(EVENTS), rate, generator: generator.clone() });
    let mut messages = Vec::new();
    for _ in 0..EVENTS / 100 {
        messages.extend(client.messages(100));
        client.acknowledge();
    }
    assert_eq!(bodies(&messages), generated(&generator, 0..EVENTS));
    let producer = messages[0].id.strip_suffix(":1").unwrap();
    assert!(producer.starts_with("ID:simulator-"), "{producer}");
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(message.id, format!("{producer}:{}", number + 1));
        assert_eq!(message.timestamp, messages[0].timestamp + number as u64);
        assert_eq!(message.redeliveries, 0);
    }
    wait_until(&simulator, |stats| stats.total().acked == EVENTS).await;
    client.0.stop();
    let stats = wait_until(&simulator, |stats| stats.total().consumers == 0).await;
    assert_eq!((stats.sessions, stats.total().dispatched), (1, EVENTS));
}

/// With `optimizeAcknowledge` the client acknowledges ranges, also after a time of its own.
async fn the_client_acknowledges_batches_by_itself(version: Version) {
    let simulator = with_backlog(1000).await;
    let options = "?jms.optimizeAcknowledge=true&jms.prefetchPolicy.queuePrefetch=100";
    let client = consuming(version, &simulator, "auto", options);
    let messages = client.messages(1000);
    assert!(messages.iter().all(|message| message.redeliveries == 0));
    client.0.stop();
    let stats = wait_until(&simulator, |stats| stats.total().acked == 1000).await;
    assert_eq!(stats.total().dispatched, 1000);
}

/// After a kill, the client's whole prefetch is marked as redelivered. After a close, only the messages that
/// it had received are.
async fn unacknowledged_messages_are_redelivered(version: Version) {
    let simulator = with_backlog(20).await;
    let options = "?jms.prefetchPolicy.queuePrefetch=10";
    let client = consuming(version, &simulator, "client", options);
    let first = client.messages(5);
    client.acknowledge();
    wait_until(&simulator, |stats| stats.total().acked == 5 && stats.total().in_flight == 10).await;
    client.0.kill();
    wait_until(&simulator, |stats| stats.total().consumers == 0).await;

    let client = consuming(version, &simulator, "client", options);
    let second = client.messages(3);
    assert!(second.iter().all(|message| message.redeliveries == 1));
    client.acknowledge();
    client.messages(2);
    client.0.stop();
    wait_until(&simulator, |stats| stats.total().consumers == 0).await;

    let client = consuming(version, &simulator, "client", "");
    let third = client.messages(12);
    let redeliveries: Vec<_> = third.iter().map(|message| message.redeliveries).collect();
    // Two messages were received twice, five more only by the killed client, and the others never.
    assert_eq!(redeliveries, [2, 2, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]);
    client.acknowledge();
    let ids: Vec<_> = first.iter().chain(&second).chain(&third).map(|message| &message.id).collect();
    assert!(ids.iter().enumerate().all(|(n, id)| id.ends_with(&format!(":{}", n + 1))), "{ids:?}");
    wait_until(&simulator, |stats| stats.total().acked == 20).await;
    client.0.stop();
}

async fn refusals_are_exceptions(version: Version) {
    let config = SimulatorConfig { hold: Duration::from_secs(3600), ..Default::default() };
    let simulator = Simulator::start(config).await.unwrap();
    let wrong = client(version, &simulator, "wrong", "");
    let refused = wrong.connect();
    assert!(refused.contains("SecurityException: User name [12345] or password is invalid."), "{refused}");

    let first = consuming(version, &simulator, "client", "");
    for queue in ["dest1.RTO.other", "*.RTO.acme", "dest1"] {
        let refused = first.consume("client", queue);
        let expected =
            format!("SecurityException: User 12345 is not authorized to read from: queue://{queue}");
        assert!(refused.contains(&expected), "{refused}");
    }
    let second = client(version, &simulator, PASSWORD, "");
    let refused = second.connect();
    let expected = "Broker: simulator - Client: acme-d1 already connected from tcp://127.0.0.1:";
    assert!(refused.contains(expected), "{refused}");
    assert!(
        refused.starts_with("refused javax.jms.InvalidClientIDException: ") || version == Version::V6,
        "{refused}"
    );
    first.0.kill();
    wait_until(&simulator, |stats| stats.total().consumers == 0).await;
    let refused = second.connect();
    assert!(refused.contains(expected), "the client id is in use: {refused}");
}

async fn every_kind_of_message_is_read(version: Version) {
    use atdata_bridge::simulator::Form;

    let simulator = start().await;
    let client = consuming(version, &simulator, "client", "");
    let malformations =
        vec![Malformation::Compressed, Malformation::Map, Malformation::Cesu8, Malformation::Large];
    let generator = GeneratorConfig { odd_every: 1, malformations, ..Default::default() };
    let rate = Rate::FlatOut { ahead: u64::MAX };
    simulator.generate("acme", Generation { events: Some(4), rate, generator });
    let messages = client.messages(4);
    let json = |n: usize| serde_json::from_str::<serde_json::Value>(&messages[n].body).unwrap();
    assert_eq!(json(0)["serial"], 0);
    assert!(messages[1].body.starts_with('{') && messages[1].body.contains("serial=1"), "{messages:?}");
    assert_eq!(json(2)["name"], "😀");
    assert_eq!(json(3)["padding"].as_str().unwrap().len(), 1_000_000);

    simulator.publish_as("acme", Form::Bytes, b"\0\xff".as_slice());
    assert_eq!(client.next().body, "AP8=");
    client.0.stop();
}
