//! Tests that the simulator answers an OpenWire client exactly as ActiveMQ does, except for ids, times and
//! names.

use std::net::SocketAddr;
use std::time::Duration;

use atdata_bridge::simulator::{Simulator, SimulatorConfig, SimulatorLogin};
use atdata_bridge::source::openwire::wire::ack::AckType;
use atdata_bridge::source::openwire::wire::command::{Command, Received};
use atdata_bridge::source::openwire::wire::info::Removed;
use atdata_bridge::source::openwire::wire::message::Dispatch;

use super::super::compared_with_activemq::without_names;
use super::client::Client;
use kit::broker::{Protocol, Version, shared};
use kit::on_each_broker;
use kit::publisher::Publisher;

on_each_broker!(answers_like_activemq);

const NAMESPACE: &str = "openwire-likeness";
const BODIES: [&str; 3] = ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"];

async fn answers_like_activemq(version: Version) {
    let broker = shared(version);
    let mut publisher = Publisher::connect(broker, NAMESPACE).await;
    let real = exchange(broker.addr_of(Protocol::OpenWire), async || {
        publisher.publish(BODIES).await.unwrap();
    });
    let real = real.await;

    let login = SimulatorLogin { namespace: NAMESPACE.to_owned(), ..Default::default() };
    let config = SimulatorConfig { logins: vec![login], ..Default::default() };
    let simulator = Simulator::start(config).await.unwrap();
    let simulated = exchange(simulator.address(), async || {
        for body in BODIES {
            simulator.publish(NAMESPACE, body);
        }
    });
    let simulated = simulated.await;
    assert!(real == simulated, "ActiveMQ:\n{}\nthe simulator:\n{}", real.join("\n"), simulated.join("\n"));
}

/// Runs one exchange and returns the broker's answers.
async fn exchange(address: SocketAddr, publish: impl AsyncFnOnce()) -> Vec<String> {
    let mut answers = Vec::new();
    let open = async || Client::open(address, Duration::from_secs(30)).await;
    for (user, client_id) in [("54321", Some("openwire-likeness-1")), ("12345", None)] {
        let mut client = open().await;
        answers.push(describe(&client.log_in(user, client_id).await, &client));
        record(&mut client, &mut answers, 1).await;
    }
    let mut client = open().await;
    answers.push(client.log_in("12345", Some("openwire-likeness-1")).await);
    let mut second = open().await;
    answers.push(describe(&second.log_in("12345", Some("openwire-likeness-1")).await, &second));
    record(&mut second, &mut answers, 1).await;

    let queue = format!("one.RTO.{NAMESPACE}");
    answers.push(describe(&client.consume(1, &queue, 10).await, &client));
    answers.push(client.open_session().await);
    answers.push(describe(&client.consume(1, "nobodys", 10).await, &client));
    answers.push(client.consume(1, &queue, 10).await);
    publish().await;
    let dispatches = record(&mut client, &mut answers, 3).await;
    for (kind, first, last, count) in [
        (AckType::Standard, None, 1, 3),
        (AckType::Standard, Some(2), 1, 2),
        (AckType::Delivered, None, 2, 3),
        (AckType::Redelivered, None, 0, 1),
        (AckType::Individual, None, 1, 1),
        (AckType::Individual, None, 1, 1),
        (AckType::Delivered, None, 1, 1),
        (AckType::Standard, None, 1, 2),
        (AckType::Standard, Some(1), 2, 2),
        (AckType::Standard, Some(0), 0, 1),
    ] {
        let ack = client.ack(kind, first.map(|first: usize| &dispatches[first]), &dispatches[last], count);
        answers.push(describe(&client.request(ack).await, &client));
    }
    let unanswered = client.ack(AckType::Standard, None, &dispatches[0], 1);
    client.send(unanswered, false).await;
    record(&mut client, &mut answers, 1).await;
    client.send(Command::KeepAliveInfo, true).await;
    record(&mut client, &mut answers, 1).await;

    let unknown = Removed::Consumer(client.consumer(7));
    answers.push(describe(&client.remove(unknown, -1).await, &client));
    for (value, last_delivered) in [(1, -1), (2, -2)] {
        let consumer = Removed::Consumer(client.consumer(value));
        answers.push(client.remove(consumer, last_delivered).await);
        answers.push(client.consume(value + 1, &queue, 10).await);
        record(&mut client, &mut answers, 1).await;
    }
    let connection = Removed::Connection(client.session().connection);
    answers.push(client.remove(connection, -2).await);
    client.send(Command::ShutdownInfo, false).await;
    record(&mut client, &mut answers, 1).await;
    answers
}

/// Waits for `count` commands, records them and returns the dispatches. ActiveMQ sometimes sends an error
/// twice.
async fn record(client: &mut Client, answers: &mut Vec<String>, count: usize) -> Vec<Dispatch> {
    let mut dispatches = Vec::new();
    let expected = answers.len() + count;
    while answers.len() < expected {
        match client.receive().await {
            None => answers.push("(the end)".to_owned()),
            Some(Received { command: Command::MessageDispatch(dispatch), .. }) => {
                answers.push(describe_dispatch(&dispatch));
                dispatches.push(dispatch);
            }
            Some(Received { command_id, command, .. }) => {
                // A response repeats the command id of our request.
                let number = if command_id == 0 { "0" } else { "n" };
                let answer = describe(&format!("{number} {command:?}"), client);
                if !matches!(command, Command::ConnectionError { .. }) || !answers.contains(&answer) {
                    answers.push(answer);
                }
            }
        }
    }
    dispatches
}

/// Describes a dispatch without the values that differ between brokers.
fn describe_dispatch(dispatch: &Dispatch) -> String {
    let mut dispatch = dispatch.clone();
    dispatch.consumer.connection = "…".into();
    let message = dispatch.message.as_mut().unwrap();
    message.id = Default::default();
    message.raw_id = Default::default();
    assert!(std::mem::take(&mut message.timestamp) > 0);
    assert!(std::mem::take(&mut message.broker_in_time) > 0);
    format!("{dispatch:?}")
}

fn describe(text: &str, client: &Client) -> String {
    let connection = String::from_utf8(client.session().connection.to_vec()).unwrap();
    let text = without(&without_names(text), "MessageAck {", "}");
    let text = without(&text, "IllegalStateException: ", " Cannot");
    without(&text, "Message-ID ", " in ").replace(&connection, "…")
}

/// Replaces the text between `before` and `after`.
fn without(text: &str, before: &str, after: &str) -> String {
    let found = text.split_once(before).and_then(|(head, rest)| Some((head, rest.split_once(after)?.1)));
    found.map_or_else(|| text.to_owned(), |(head, tail)| format!("{head}{before}…{after}{tail}"))
}
