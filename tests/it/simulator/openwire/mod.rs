//! Tests the simulator's answers in OpenWire, command by command (`protocols.md §3.6` to 3.8).

mod client;
mod compared_with_activemq;
mod faults;

use std::time::Duration;

use atdata_bridge::simulator::{Simulator, SimulatorConfig};
use atdata_bridge::source::openwire::wire::ack::AckType;
use atdata_bridge::source::openwire::wire::command::{Command, Received};
use atdata_bridge::source::openwire::wire::control::ConsumerControl;
use atdata_bridge::source::openwire::wire::info::Removed;
use atdata_bridge::source::openwire::wire::message::Dispatch;

use self::client::Client;
use super::client::Client as StompClient;
use super::{start, wait_until, with_backlog};

fn number(dispatch: &Dispatch) -> i64 {
    dispatch.message.as_ref().unwrap().id.producer_sequence
}

fn numbers(dispatches: &[Dispatch]) -> Vec<i64> {
    dispatches.iter().map(number).collect()
}

fn counters(dispatches: &[Dispatch]) -> Vec<i32> {
    dispatches.iter().map(|dispatch| dispatch.redelivery_counter).collect()
}

#[tokio::test]
async fn both_protocols_consume_the_same_messages_from_one_queue() {
    let simulator = with_backlog(4).await;
    let mut openwire = Client::consuming(&simulator, "dest1", 2).await;
    let dispatches = openwire.dispatches(2).await;
    let mut stomp = StompClient::subscribed(&simulator, "dest1", "ack:client\n").await;
    assert_eq!(stomp.messages(2).await[0].json()["serial"], 2);
    drop(openwire);
    let again = stomp.messages(2).await;
    for (dispatch, frame) in dispatches.iter().zip(&again) {
        let message = dispatch.message.as_ref().unwrap();
        let mut id = Vec::new();
        message.id.write_text(&mut id);
        assert_eq!(String::from_utf8(id).unwrap(), frame["message-id"].replace("\\c", ":"));
        assert_eq!(message.timestamp.to_string(), frame["timestamp"]);
        assert_eq!(message.content.as_ref().unwrap()[4..], frame.body);
        assert_eq!((dispatch.redelivery_counter, &frame["redelivered"]), (0, "true"));
    }
}

#[tokio::test]
async fn a_session_needs_a_login_and_a_consumer_needs_a_session() {
    let simulator = start().await;
    let mut client = Client::open(simulator.address(), Duration::ZERO).await;
    let unregistered = client.open_session().await;
    assert!(
        unregistered.starts_with("java.lang.IllegalStateException: Cannot add a session"),
        "{unregistered}"
    );
    assert_eq!(client.log_in("12345", Some("c")).await, "done");
    let unregistered = client.consume(1, "d1.RTO.acme", 10).await;
    assert!(
        unregistered.starts_with("java.lang.IllegalStateException: simulator Cannot add a consumer"),
        "{unregistered}"
    );
    assert_eq!(client.open_session().await, "done");
    assert_eq!(client.consume(1, "d1.RTO.acme", 10).await, "done");
    assert_eq!(client.consume(1, "d1.RTO.acme", 10).await, "done", "a repeated ConsumerInfo has no effect");
    assert_eq!(simulator.stats().total().consumers, 1);
}

#[tokio::test]
async fn a_client_that_cannot_log_in_gets_an_error_and_is_closed() {
    let simulator = start().await;
    let cases = [
        ("99999", Some("c"), "java.lang.SecurityException: User name [99999] or password is invalid."),
        ("12345", None, "javax.jms.InvalidClientIDException: No clientID specified for connection request"),
    ];
    for (user, client_id, expected) in cases {
        let mut client = Client::open(simulator.address(), Duration::ZERO).await;
        assert_eq!(client.log_in(user, client_id).await, expected);
        assert!(client.receive().await.is_none());
    }
}

#[tokio::test]
async fn bytes_that_are_not_openwire_end_the_connection_without_an_answer() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let simulator = start().await;
    let wrong: [&[u8]; 3] =
        [&[0, 0, 0, 0], &[0, 0, 0, 6, 10, 0, 0, 0, 7, 0], b"\0\0\0\x12\x01ActiveMX\0\0\0\x0c\0\0\0\0\0"];
    for bytes in wrong {
        let mut socket = tokio::net::TcpStream::connect(simulator.address()).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(super::PATIENCE, socket.read_to_end(&mut answer)).await;
        read.expect("the end in time").ok();
        assert_eq!(answer, b"", "{bytes:?}");
    }
}

#[tokio::test]
async fn a_range_is_acknowledged_if_its_count_is_exact() {
    let simulator = with_backlog(10).await;
    let mut client = Client::consuming(&simulator, "dest1", 100).await;
    let dispatches = client.dispatches(10).await;
    let acked = || simulator.stats().total().acked;
    for (first, last, count, expected) in [
        (None, 4, 7, "Expected message count (7) differs from count in dispatched-list (5)"),
        (Some(3), 2, 1, "in dispatched-list (start of ack)"),
    ] {
        let first = first.map(|first: usize| &dispatches[first]);
        let ack = client.ack(AckType::Standard, first, &dispatches[last], count);
        let refused = client.request(ack).await;
        assert!(
            refused.starts_with("javax.jms.JMSException: Unmatched acknowledge: MessageAck {"),
            "{refused}"
        );
        assert!(refused.ends_with(expected), "{refused}");
        assert_eq!(acked(), 0);
    }
    // A range inside the window; earlier messages stay.
    let ack = client.ack(AckType::Standard, Some(&dispatches[2]), &dispatches[4], 3);
    assert_eq!(client.request(ack).await, "done");
    assert_eq!(acked(), 3);
    let ack = client.ack(AckType::Standard, None, &dispatches[3], 2);
    assert!(client.request(ack).await.ends_with("in dispatched-list (end of ack)"), "acknowledged already");
    // The three acknowledged messages are missing from this range.
    let ack = client.ack(AckType::Standard, None, &dispatches[5], 3);
    client.send(ack, false).await;
    wait_until(&simulator, |stats| stats.total().acked == 6).await;
    let again = client.ack(AckType::Standard, None, &dispatches[5], 3);
    client.send(again, false).await;
    let error = client.receive().await.unwrap().command;
    assert!(matches!(error, Command::ConnectionError { .. }), "{error:?}");
    client.assert_nothing_more().await;
}

#[tokio::test]
async fn single_messages_are_acknowledged_or_become_dead() {
    let simulator = with_backlog(6).await;
    let mut client = Client::consuming(&simulator, "dest1", 100).await;
    let dispatches = client.dispatches(6).await;
    for _ in 0..2 {
        let ack = client.ack(AckType::Individual, None, &dispatches[3], 1);
        assert_eq!(client.request(ack).await, "done", "of no effect the second time");
    }
    let poison = client.ack(AckType::Poison, Some(&dispatches[1]), &dispatches[2], 2);
    assert_eq!(client.request(poison).await, "done");
    let total = simulator.stats().total();
    assert_eq!((total.acked, total.dead, total.in_flight), (1, 2, 3));
}

#[tokio::test]
async fn each_delivered_message_makes_room_for_another_one() {
    let simulator = with_backlog(30).await;
    let mut client = Client::consuming(&simulator, "dest1", 10).await;
    let mut dispatches = client.dispatches(10).await;
    client.assert_nothing_more().await;
    let delivered = client.ack(AckType::Delivered, None, &dispatches[6], 7);
    client.send(delivered, false).await;
    dispatches.extend(client.dispatches(7).await);
    client.assert_nothing_more().await;
    let standard = client.ack(AckType::Standard, None, &dispatches[9], 10);
    client.send(standard, false).await;
    dispatches.extend(client.dispatches(3).await);
    client.assert_nothing_more().await;
    assert_eq!(numbers(&dispatches), (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_consumer_can_change_its_prefetch() {
    let simulator = with_backlog(10).await;
    let mut client = Client::consuming(&simulator, "dest1", 2).await;
    client.dispatches(2).await;
    let consumer = Some(client.consumer(1));
    let control = ConsumerControl { consumer, prefetch: 5, ..Default::default() };
    assert_eq!(client.request(Command::ConsumerControl(control)).await, "done");
    client.dispatches(3).await;
    client.assert_nothing_more().await;
}

#[tokio::test]
async fn a_removed_consumer_reports_its_last_delivered_message() {
    let simulator = with_backlog(6).await;
    let mut client = Client::consuming(&simulator, "dest1", 100).await;
    let dispatches = client.dispatches(6).await;
    let last_delivered = dispatches[2].message.as_ref().unwrap().id.broker_sequence;
    assert_eq!(client.remove(Removed::Consumer(client.consumer(1)), last_delivered).await, "done");
    let late = client.ack(AckType::Standard, None, &dispatches[0], 1);
    assert_eq!(client.request(late).await, "done", "of no effect");
    let answer = client.remove(Removed::Consumer(client.consumer(1)), -1).await;
    assert!(answer.starts_with("java.lang.IllegalStateException: Cannot remove a consumer"), "{answer}");

    assert_eq!(client.consume(2, "dest1.RTO.acme", 100).await, "done");
    assert_eq!(counters(&client.dispatches(6).await), [1, 1, 1, 0, 0, 0]);
    let session = client.session();
    assert_eq!(client.remove(Removed::Session(session), -1).await, "done");
    assert_eq!(client.open_session().await, "done");
    assert_eq!(client.consume(3, "dest1.RTO.acme", 100).await, "done");
    assert_eq!(counters(&client.dispatches(6).await), [1, 1, 1, 0, 0, 0]);
    let connection = Removed::Connection(client.session().connection);
    assert_eq!(client.remove(connection, -2).await, "done");
    client.send(Command::ShutdownInfo, false).await;
    assert!(client.receive().await.is_none());

    let mut client = Client::consuming(&simulator, "dest1", 100).await;
    assert_eq!(counters(&client.dispatches(6).await), [2, 2, 2, 1, 1, 1]);
}

#[tokio::test]
async fn only_a_clean_disconnect_frees_the_client_id_at_once() {
    let config = SimulatorConfig { hold: Duration::from_secs(3600), ..Default::default() };
    let simulator = Simulator::start(config).await.unwrap();
    let mut client = Client::consuming(&simulator, "dest1", 10).await;
    let connection = Removed::Connection(client.session().connection);
    assert_eq!(client.remove(connection, -1).await, "done");
    let mut client = Client::consuming(&simulator, "dest1", 10).await;
    client.send(Command::ShutdownInfo, false).await;
    assert!(client.receive().await.is_none());
    let mut client = Client::open(simulator.address(), Duration::ZERO).await;
    let refused = client.log_in("12345", Some("acme-d1")).await;
    assert!(
        refused.starts_with("javax.jms.InvalidClientIDException: Broker: simulator - Client: acme-d1"),
        "{refused}"
    );
}

#[tokio::test]
async fn keep_alives_go_in_both_directions() {
    let simulator = start().await;
    let mut client = Client::open(simulator.address(), Duration::from_secs(1)).await;
    let asked = client.send(Command::KeepAliveInfo, true).await;
    let answer = client.receive().await.unwrap();
    assert_eq!(
        answer,
        Received { command_id: asked, response_required: false, command: Command::KeepAliveInfo }
    );
    // This client sends no more keep-alives, so the simulator closes its connection.
    let mut keep_alives = 0;
    while let Some(received) = client.receive().await {
        assert_eq!((received.command, received.command_id), (Command::KeepAliveInfo, 0));
        keep_alives += 1;
    }
    assert!(keep_alives >= 2, "{keep_alives}");

    // Without an agreed interval the simulator sends no keep-alives and closes no connection.
    let mut client = Client::open(simulator.address(), Duration::ZERO).await;
    assert_eq!(client.log_in("12345", Some("c")).await, "done");
    client.assert_nothing_more().await;
}

#[tokio::test]
async fn unsupported_commands_are_refused_or_have_no_effect() {
    let simulator = start().await;
    let mut client = Client::consuming(&simulator, "dest1", 10).await;
    let transaction = client.request(Command::Other(7)).await;
    assert_eq!(transaction, "javax.jms.JMSException: Transactions are not simulated");
    assert_eq!(client.request(Command::Other(8)).await, "done");
    client.assert_nothing_more().await;
}
