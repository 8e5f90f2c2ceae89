//! Tests that the simulator's faults occur over OpenWire too.

use std::time::{Duration, Instant};

use atdata_bridge::simulator::HeartBeats;
use atdata_bridge::source::openwire::wire::ack::AckType;
use atdata_bridge::source::openwire::wire::command::Command;
use atdata_bridge::source::openwire::wire::control::ConsumerControl;
use atdata_bridge::source::openwire::wire::info::Removed;

use super::super::{start, wait_until, with_backlog};
use super::client::Client;
use super::{counters, number, numbers};

#[tokio::test]
async fn dropped_connections_cut_a_frame_and_lose_nothing() {
    let simulator = with_backlog(1000).await;
    simulator.change_faults(|faults| faults.drop_every = Some(100));
    let (mut next, mut connections) = (1, 0);
    while next <= 1000 {
        let mut client = Client::consuming(&simulator, "dest1", 50).await;
        connections += 1;
        let mut seen = 0;
        while next <= 1000 {
            let Some(received) = client.receive().await else { break };
            let Command::MessageDispatch(dispatch) = received.command else { panic!("{received:?}") };
            seen += 1;
            assert!(number(&dispatch) <= next, "{} was received before {next}", number(&dispatch));
            next = next.max(number(&dispatch) + 1);
            let ack = client.ack(AckType::Standard, None, &dispatch, 1);
            client.send(ack, false).await;
        }
        assert!(seen <= 100, "{seen}");
        drop(client);
        wait_until(&simulator, |stats| stats.total().consumers == 0).await;
    }
    assert!(connections >= 10, "{connections}");
}

#[tokio::test]
async fn an_error_is_sent_between_events() {
    let simulator = with_backlog(5).await;
    simulator.change_faults(|faults| faults.error_after = Some(3));
    let mut client = Client::consuming(&simulator, "dest1", 100).await;
    client.dispatches(3).await;
    let Command::ConnectionError { exception } = client.receive().await.unwrap().command else { panic!() };
    assert_eq!(exception.to_string(), "javax.jms.JMSException: simulated error");
    client.dispatches(2).await;
}

#[tokio::test]
async fn a_consumer_is_closed_and_a_new_one_continues() {
    let simulator = with_backlog(10).await;
    simulator.change_faults(|faults| faults.close_consumers_after = Some(4));
    let mut client = Client::consuming(&simulator, "dest1", 5).await;
    let dispatches = client.dispatches(4).await;
    let command = client.receive().await.unwrap().command;
    let consumer = Some(client.consumer(1));
    assert_eq!(
        command,
        Command::ConsumerControl(ConsumerControl { close: true, consumer, ..Default::default() })
    );
    let late = client.ack(AckType::Standard, None, &dispatches[3], 4);
    assert_eq!(client.request(late).await, "done");
    let answer = client.remove(Removed::Consumer(client.consumer(1)), -2).await;
    assert!(answer.starts_with("java.lang.IllegalStateException: "), "{answer}");
    assert_eq!(client.consume(2, "dest1.RTO.acme", 100).await, "done");
    let again = client.dispatches(10).await;
    assert_eq!(numbers(&again), (1..=10).collect::<Vec<_>>());
    assert_eq!(counters(&again), [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]);
}

#[tokio::test]
async fn silence_lasts_until_it_is_switched_off() {
    let simulator = with_backlog(5).await;
    simulator.change_faults(|faults| faults.silent_after = Some(3));
    let mut client = Client::consuming(&simulator, "dest1", 100).await;
    let dispatches = client.dispatches(3).await;
    let ack = client.ack(AckType::Standard, None, &dispatches[2], 3);
    let asked = client.send(ack, true).await;
    wait_until(&simulator, |stats| stats.total().acked == 3).await;
    simulator.change_faults(|faults| faults.silent_after = None);
    let answer = client.receive().await.unwrap().command;
    assert_eq!(answer, Command::Response { correlation_id: asked });
    client.dispatches(2).await;
}

#[tokio::test]
async fn bytes_sent_slowly_arrive_complete() {
    let simulator = with_backlog(20).await;
    simulator.change_faults(|faults| faults.dribble = Some(3));
    let mut client = Client::consuming(&simulator, "dest1", 100).await;
    assert_eq!(numbers(&client.dispatches(20).await), (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn keep_alives_can_be_late_or_missing() {
    let simulator = start().await;
    simulator.change_faults(|faults| faults.heart_beats = HeartBeats::Late(Duration::from_millis(300)));
    let started = Instant::now();
    let mut client = Client::open(simulator.address(), Duration::from_secs(1)).await;
    assert_eq!(client.receive().await.unwrap().command, Command::KeepAliveInfo);
    assert!(started.elapsed() >= Duration::from_millis(1600), "on time it is after 1333 ms");

    simulator.change_faults(|faults| faults.heart_beats = HeartBeats::Never);
    let mut client = Client::open(simulator.address(), Duration::from_millis(50)).await;
    assert!(client.receive().await.is_none(), "closed without a keep-alive before");
}

#[tokio::test]
async fn a_reconnect_is_refused_as_often_as_configured() {
    let simulator = start().await;
    let mut client = Client::consuming(&simulator, "dest1", 10).await;
    simulator.change_faults(|faults| faults.refuse_reconnects = 1);
    simulator.cut();
    assert!(client.receive().await.is_none());
    let mut client = Client::open(simulator.address(), Duration::ZERO).await;
    assert!(client.log_in("12345", Some("acme-d1")).await.contains("already connected"));
    Client::consuming(&simulator, "dest1", 10).await;
}
