//! Tests that the simulator answers a STOMP client exactly as ActiveMQ does, except for ids, times and names.

use std::net::SocketAddr;

use atdata_bridge::simulator::{Simulator, SimulatorConfig, SimulatorLogin};

use super::client::{Client, Frame};
use kit::broker::{Version, shared};
use kit::on_each_broker;
use kit::publisher::Publisher;

on_each_broker!(
    answers_like_activemq,
    answers_old_stomp_versions_like_activemq,
    sends_as_many_heart_beats_as_activemq_on_an_idle_connection,
);

const NAMESPACE: &str = "likeness";

async fn answers_like_activemq(version: Version) {
    let broker = shared(version);
    let mut publisher = Publisher::connect(broker, NAMESPACE).await;
    let real = exchange(broker.addr(), async || {
        publisher.publish(["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"]).await.unwrap();
    });
    let real = real.await;

    let login = SimulatorLogin { namespace: NAMESPACE.to_owned(), ..Default::default() };
    let config = SimulatorConfig { logins: vec![login], ..Default::default() };
    let simulator = Simulator::start(config).await.unwrap();
    let simulated = exchange(simulator.address(), async || {
        for body in ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"] {
            simulator.publish(NAMESPACE, body);
        }
    });
    let simulated = simulated.await;
    assert!(real == simulated, "ActiveMQ:\n{}\nthe simulator:\n{}", real.join("\n"), simulated.join("\n"));
}

/// Runs one exchange and returns the broker's answers.
async fn exchange(address: SocketAddr, publish: impl AsyncFnOnce()) -> Vec<String> {
    let mut answers = Vec::new();
    record_refusal(address, ("54321", ""), &mut answers).await;

    let mut client = Client::open(address).await;
    client.connect("12345", "client-id:likeness-1\nheart-beat:30000,20000\n").await;
    record(&mut client, &mut answers, 1).await;
    record_refusal(address, ("12345", "client-id:likeness-1\n"), &mut answers).await;

    let subscribe = "SUBSCRIBE\nid:0\nreceipt:r:1\nack:client\ndestination:/queue";
    client.send(&format!("{subscribe}/nobodys\n\n")).await;
    record(&mut client, &mut answers, 1).await;
    client.send(&format!("{subscribe}/one.RTO.{NAMESPACE}\n\n")).await;
    record(&mut client, &mut answers, 1).await;
    publish().await;
    let second = record(&mut client, &mut answers, 3).await.swap_remove(1).unwrap();
    let mut browser = Client::open(address).await;
    browser.connect("12345", "client-id:likeness-2\n").await;
    let browse = format!("{subscribe}/one.RTO.{NAMESPACE}\nbrowser:true\n");
    browser.send(&format!("{browse}\n")).await;
    // To the end of the browse: otherwise the next receipt may come before it.
    record(&mut browser, &mut answers, 6).await;
    browser.send(&format!("{browse}activemq.prefetchSize:2\nid:1\n\n").replacen("id:0\n", "", 1)).await;
    record(&mut browser, &mut answers, 3).await;
    browser.send("DISCONNECT\nreceipt:bye\n\n").await;
    record(&mut browser, &mut answers, 1).await;
    client.ack(&second).await;
    for frame in [
        "ACK\nid:ID\\cnobody\\c1\nreceipt:a\n\n",
        "SEND\ndestination:/topic/RTO.likeness\nreceipt:b\n\n{}",
        "UNSUBSCRIBE\nid:7\nreceipt:c\n\n",
        "SUBSCRIBE\nreceipt:d\ndestination:/queue/one.RTO.likeness\n\n",
        "UNSUBSCRIBE\nid:0\nreceipt:e\n\n",
    ] {
        client.send(frame).await;
        record(&mut client, &mut answers, 1).await;
    }
    client.send(&format!("{subscribe}/one.RTO.{NAMESPACE}\n\n")).await;
    let third = record(&mut client, &mut answers, 2).await.swap_remove(1).unwrap();
    client.ack(&third).await;
    client.send("DISCONNECT\nreceipt:bye\n\n").await;
    record(&mut client, &mut answers, 1).await;
    for connect in [
        "CONNECT\naccept-version:2.0\nhost:h\n\n",
        "CONNECT\naccept-version:1.2\nhost:h\nheart-beat:often\n\n",
    ] {
        let mut client = Client::open(address).await;
        client.send(connect).await;
        record(&mut client, &mut answers, 1).await;
    }
    answers
}

async fn answers_old_stomp_versions_like_activemq(version: Version) {
    let broker = shared(version);
    for old in ["1.0", "1.1"] {
        let namespace = format!("likeness-{}", old.replace('.', "-"));
        let mut publisher = Publisher::connect(broker, &namespace).await;
        let real = exchange_in(old, broker.addr(), &namespace, async || {
            publisher.publish(["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"]).await.unwrap();
        });
        let real = real.await;

        let login = SimulatorLogin { namespace: namespace.clone(), ..Default::default() };
        let config = SimulatorConfig { logins: vec![login], ..Default::default() };
        let simulator = Simulator::start(config).await.unwrap();
        let simulated = exchange_in(old, simulator.address(), &namespace, async || {
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

/// Runs an exchange with a client that supports no version above `version`.
async fn exchange_in(
    version: &str,
    address: SocketAddr,
    namespace: &str,
    publish: impl AsyncFnOnce(),
) -> Vec<String> {
    let mut answers = Vec::new();
    let mut client = Client::open(address).await;
    let password = "0123456789abcdef0123456789abcdef";
    let login =
        format!("login:12345\npasscode:{password}\nclient-id:{namespace}-1\nheart-beat:30000,20000\n");
    client.send(&format!("CONNECT\naccept-version:{version}\n{login}\n")).await;
    record(&mut client, &mut answers, 1).await;
    let subscribe = "SUBSCRIBE\nreceipt:r:1\nack:client\n";
    let id = if version == "1.0" { "" } else { "id:0\n" };
    client.send(&format!("{subscribe}{id}destination:/queue/nobodys\n\n")).await;
    record(&mut client, &mut answers, 1).await;
    let queue = format!("destination:/queue/one.RTO.{namespace}\n");
    client.send(&format!("{subscribe}{id}{queue}\n")).await;
    record(&mut client, &mut answers, 1).await;
    publish().await;
    let second = record(&mut client, &mut answers, 3).await.swap_remove(1).unwrap();
    let acknowledged = &second["message-id"];
    for headers in ["receipt:a\n", "subscription:0\nreceipt:b\n"] {
        // In 1.0 the first ACK is valid, in 1.1 the second; the other one is refused.
        client.send(&format!("ACK\nmessage-id:{acknowledged}\n{headers}\n")).await;
        record(&mut client, &mut answers, 1).await;
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
        record(&mut client, &mut answers, 1).await;
    }
    answers
}

/// Counts heart-beats until the broker closes a silent client's connection, so that a slow machine slows both
/// sides. The tests' broker waits half as long again.
async fn sends_as_many_heart_beats_as_activemq_on_an_idle_connection(version: Version) {
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

/// Waits for `count` frames and records them; the end of the connection counts as one.
/// Records the answers to a refused login. A broker that is busy may close the connection before it has sent the
/// error: then this tries again.
async fn record_refusal(address: SocketAddr, (username, headers): (&str, &str), answers: &mut Vec<String>) {
    for _ in 0..10 {
        let mut client = Client::open(address).await;
        client.connect(username, headers).await;
        let mut refusal = Vec::new();
        if record(&mut client, &mut refusal, 2).await.iter().any(Option::is_some) {
            return answers.append(&mut refusal);
        }
    }
    panic!("the broker closed the connection without an error, ten times");
}

async fn record(client: &mut Client, answers: &mut Vec<String>, count: usize) -> Vec<Option<Frame>> {
    let mut frames = Vec::new();
    for _ in 0..count {
        let frame = client.frame().await;
        answers.push(frame.as_ref().map_or_else(|| "(the end)".to_owned(), describe));
        frames.push(frame);
    }
    frames
}

/// Describes a frame without the values that differ between brokers.
fn describe(frame: &Frame) -> String {
    let mut lines = vec![frame.command.clone()];
    for (name, value) in &frame.headers {
        let value = match name.as_str() {
            "ack" | "message-id" | "timestamp" | "server" => "…",
            "message" => &without_names(value),
            _ => value,
        };
        lines.push(format!("  {name}:{value}"));
    }
    // The rest of the body of an ERROR is a stack trace.
    let body = String::from_utf8_lossy(&frame.body);
    lines.push(format!("  {}", without_names(body.lines().next().unwrap_or_default())));
    lines.join("\n")
}

/// Removes the broker's name and the client's port, and maps the class names of ActiveMQ 6 to the old ones.
pub(super) fn without_names(text: &str) -> String {
    let text = text.split("tcp://").next().unwrap_or_default().replace("jakarta.", "javax.");
    let text = text.split("message-id [ID").next().unwrap_or_default().to_owned();
    match (text.split_once("Broker: "), text.split_once(" - Client")) {
        (Some((before, _)), Some((_, after))) => format!("{before}Broker: … - Client{after}"),
        _ => text,
    }
}
