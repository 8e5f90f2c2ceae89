//! The simulator against the real thing: one conversation, word for word the same but for what must
//! differ (ids, times, names).

use std::net::SocketAddr;

use atdata_bridge::simulator::{Simulator, SimulatorConfig, SimulatorLogin};

use super::client::{Client, Frame};
use kit::broker::{Version, shared};
use kit::on_each_broker;
use kit::publisher::Publisher;

on_each_broker!(
    speaks_like_activemq,
    speaks_old_versions_like_activemq,
    beats_as_often_as_activemq_while_nothing_else_is_said,
);

const NAMESPACE: &str = "likeness";

async fn speaks_like_activemq(version: Version) {
    let broker = shared(version);
    let mut publisher = Publisher::connect(broker, NAMESPACE).await;
    let real = converse(broker.addr(), async || {
        publisher.publish(["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"]).await.unwrap();
    });
    let real = real.await;

    let login = SimulatorLogin { namespace: NAMESPACE.to_owned(), ..Default::default() };
    let config = SimulatorConfig { logins: vec![login], ..Default::default() };
    let simulator = Simulator::start(config).await.unwrap();
    let simulated = converse(simulator.address(), async || {
        for body in ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"] {
            simulator.publish(NAMESPACE, body);
        }
    });
    let simulated = simulated.await;
    assert!(real == simulated, "ActiveMQ:\n{}\nthe simulator:\n{}", real.join("\n"), simulated.join("\n"));
}

/// What the broker answers.
async fn converse(address: SocketAddr, publish: impl AsyncFnOnce()) -> Vec<String> {
    let mut said = Vec::new();
    let mut client = Client::open(address).await;
    client.connect("54321", "").await;
    hear(&mut client, &mut said, 2).await;

    let mut client = Client::open(address).await;
    client.connect("12345", "client-id:likeness-1\nheart-beat:30000,20000\n").await;
    hear(&mut client, &mut said, 1).await;
    let mut second = Client::open(address).await;
    second.connect("12345", "client-id:likeness-1\n").await;
    hear(&mut second, &mut said, 2).await;

    let subscribe = "SUBSCRIBE\nid:0\nreceipt:r:1\nack:client\ndestination:/queue";
    client.send(&format!("{subscribe}/nobodys\n\n")).await;
    hear(&mut client, &mut said, 1).await;
    client.send(&format!("{subscribe}/one.RTO.{NAMESPACE}\n\n")).await;
    hear(&mut client, &mut said, 1).await;
    publish().await;
    let second = hear(&mut client, &mut said, 3).await.swap_remove(1).unwrap();
    let mut browser = Client::open(address).await;
    browser.connect("12345", "client-id:likeness-2\n").await;
    let browse = format!("{subscribe}/one.RTO.{NAMESPACE}\nbrowser:true\n");
    browser.send(&format!("{browse}\n")).await;
    hear(&mut browser, &mut said, 5).await;
    browser.send(&format!("{browse}activemq.prefetchSize:2\nid:1\n\n").replacen("id:0\n", "", 1)).await;
    hear(&mut browser, &mut said, 3).await;
    browser.send("DISCONNECT\nreceipt:bye\n\n").await;
    hear(&mut browser, &mut said, 1).await;
    client.ack(&second).await;
    for frame in [
        "ACK\nid:ID\\cnobody\\c1\nreceipt:a\n\n",
        "SEND\ndestination:/topic/RTO.likeness\nreceipt:b\n\n{}",
        "UNSUBSCRIBE\nid:7\nreceipt:c\n\n",
        "SUBSCRIBE\nreceipt:d\ndestination:/queue/one.RTO.likeness\n\n",
        "UNSUBSCRIBE\nid:0\nreceipt:e\n\n",
    ] {
        client.send(frame).await;
        hear(&mut client, &mut said, 1).await;
    }
    client.send(&format!("{subscribe}/one.RTO.{NAMESPACE}\n\n")).await;
    let third = hear(&mut client, &mut said, 2).await.swap_remove(1).unwrap();
    client.ack(&third).await;
    client.send("DISCONNECT\nreceipt:bye\n\n").await;
    hear(&mut client, &mut said, 1).await;
    for connect in [
        "CONNECT\naccept-version:2.0\nhost:h\n\n",
        "CONNECT\naccept-version:1.2\nhost:h\nheart-beat:often\n\n",
    ] {
        let mut client = Client::open(address).await;
        client.send(connect).await;
        hear(&mut client, &mut said, 1).await;
    }
    said
}

async fn speaks_old_versions_like_activemq(version: Version) {
    let broker = shared(version);
    for old in ["1.0", "1.1"] {
        let namespace = format!("likeness-{}", old.replace('.', "-"));
        let mut publisher = Publisher::connect(broker, &namespace).await;
        let real = converse_in(old, broker.addr(), &namespace, async || {
            publisher.publish(["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"]).await.unwrap();
        });
        let real = real.await;

        let login = SimulatorLogin { namespace: namespace.clone(), ..Default::default() };
        let config = SimulatorConfig { logins: vec![login], ..Default::default() };
        let simulator = Simulator::start(config).await.unwrap();
        let simulated = converse_in(old, simulator.address(), &namespace, async || {
            for body in ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"] {
                simulator.publish(&namespace, body);
            }
        });
        let simulated = simulated.await;
        assert!(
            real == simulated,
            "ActiveMQ:\n{}\nthe simulator:\n{}",
            real.join("\n"),
            simulated.join("\n")
        );
    }
}

/// What the broker answers to a client that speaks nothing newer than `version`.
async fn converse_in(
    version: &str,
    address: SocketAddr,
    namespace: &str,
    publish: impl AsyncFnOnce(),
) -> Vec<String> {
    let mut said = Vec::new();
    let mut client = Client::open(address).await;
    let password = "0123456789abcdef0123456789abcdef";
    let login =
        format!("login:12345\npasscode:{password}\nclient-id:{namespace}-1\nheart-beat:30000,20000\n");
    client.send(&format!("CONNECT\naccept-version:{version}\n{login}\n")).await;
    hear(&mut client, &mut said, 1).await;
    let subscribe = "SUBSCRIBE\nreceipt:r:1\nack:client\n";
    let id = if version == "1.0" { "" } else { "id:0\n" };
    client.send(&format!("{subscribe}{id}destination:/queue/nobodys\n\n")).await;
    hear(&mut client, &mut said, 1).await;
    let queue = format!("destination:/queue/one.RTO.{namespace}\n");
    client.send(&format!("{subscribe}{id}{queue}\n")).await;
    hear(&mut client, &mut said, 1).await;
    publish().await;
    let second = hear(&mut client, &mut said, 3).await.swap_remove(1).unwrap();
    let acknowledged = &second["message-id"];
    for headers in ["receipt:a\n", "subscription:0\nreceipt:b\n"] {
        // In 1.0 the first of them does it, in 1.1 the second; the other one is refused.
        client.send(&format!("ACK\nmessage-id:{acknowledged}\n{headers}\n")).await;
        hear(&mut client, &mut said, 1).await;
    }
    for frame in [
        "UNSUBSCRIBE\nreceipt:c\n\n".to_owned(),
        "UNSUBSCRIBE\nid:7\nreceipt:d\n\n".to_owned(),
        match version {
            "1.0" => format!("UNSUBSCRIBE\n{queue}receipt:e\n\n"),
            _ => "UNSUBSCRIBE\nid:0\nreceipt:e\n\n".to_owned(),
        },
        "DISCONNECT\nreceipt:bye\n\n".to_owned(),
    ] {
        client.send(&frame).await;
        hear(&mut client, &mut said, 1).await;
    }
    said
}

/// Counted until a silent client is cut, so that a slow machine is slow for both: the tests' broker is more patient
/// by a half.
async fn beats_as_often_as_activemq_while_nothing_else_is_said(version: Version) {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let real = beats(shared(version).addr(), 1000).await;
    let simulated = beats(simulator.address(), 1500).await;
    assert!(
        real > 4 && 3 * simulated > 2 * real && 3 * real > 2 * simulated,
        "ActiveMQ: {real}, the simulator: {simulated}"
    );
}

async fn beats(address: SocketAddr, announced: u32) -> u32 {
    let mut client = Client::open(address).await;
    client.connect("12345", &format!("heart-beat:{announced},300\n")).await;
    assert_eq!(client.frame().await.unwrap().command, "CONNECTED");
    let mut beats = 0;
    while let Some(byte) = client.byte().await {
        assert_eq!(byte, b'\n');
        beats += 1;
    }
    beats
}

/// Waits for so many frames, the end counting as one, and writes them down.
async fn hear(client: &mut Client, said: &mut Vec<String>, count: usize) -> Vec<Option<Frame>> {
    let mut frames = Vec::new();
    for _ in 0..count {
        let frame = client.frame().await;
        said.push(frame.as_ref().map_or_else(|| "(the end)".to_owned(), plain));
        frames.push(frame);
    }
    frames
}

/// A frame without what differs from broker to broker.
fn plain(frame: &Frame) -> String {
    let mut lines = vec![frame.command.clone()];
    for (name, value) in &frame.headers {
        let value = match name.as_str() {
            "ack" | "message-id" | "timestamp" | "server" => "…",
            "message" => &without_names(value),
            _ => value,
        };
        lines.push(format!("  {name}:{value}"));
    }
    // The rest of an ERROR's body is a stack trace.
    let body = String::from_utf8_lossy(&frame.body);
    lines.push(format!("  {}", without_names(body.lines().next().unwrap_or_default())));
    lines.join("\n")
}

/// Without the broker's name, the client's port, and what Java calls its classes since version 6.
pub(super) fn without_names(text: &str) -> String {
    let text = text.split("tcp://").next().unwrap_or_default().replace("jakarta.", "javax.");
    let text = text.split("message-id [ID").next().unwrap_or_default().to_owned();
    match (text.split_once("Broker: "), text.split_once(" - Client")) {
        (Some((before, _)), Some((_, after))) => format!("{before}Broker: … - Client{after}"),
        _ => text,
    }
}
