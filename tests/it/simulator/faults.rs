//! Tests that each fault occurs as configured, and nothing else goes wrong.

use std::time::Duration;

use atdata_bridge::simulator::{Faults, GeneratorConfig, HeartBeats, Malformation, Simulator};

use super::client::Client;
use super::{Generation, Rate, all_at_once, start, wait_until, with_backlog};

fn inject(simulator: &Simulator, change: impl FnOnce(&mut Faults)) {
    simulator.change_faults(change);
}

#[tokio::test]
async fn dropped_connections_cut_a_frame_and_lose_nothing() {
    let simulator = with_backlog(1000).await;
    inject(&simulator, |faults| faults.drop_every = Some(100));
    let (mut next, mut connections) = (0, 0);
    while next < 1000 {
        let headers = "ack:client\nactivemq.prefetchSize:50\n";
        let mut client = Client::subscribed(&simulator, "dest1", headers).await;
        connections += 1;
        let mut seen = 0;
        while next < 1000 {
            let Some(message) = client.frame().await else { break };
            seen += 1;
            let serial = message.json()["serial"].as_u64().unwrap();
            assert!(serial <= next, "{serial} was received before {next}");
            next = next.max(serial + 1);
            client.ack(&message).await;
        }
        assert!(seen <= 100, "{seen}");
        drop(client);
        wait_until(&simulator, |stats| stats.total().consumers == 0).await;
    }
    assert!(connections >= 10, "{connections}");
}

#[tokio::test]
async fn reconnects_are_refused_exactly_as_often_as_configured() {
    let simulator = start().await;
    inject(&simulator, |faults| faults.refuse_reconnects = 2);
    for expected in ["CONNECTED", "ERROR", "ERROR", "CONNECTED"] {
        let (mut client, answer) = Client::log_in(&simulator, "client-id:c\n").await;
        assert_eq!(answer.unwrap().command, expected);
        if expected == "CONNECTED" {
            client.send("DISCONNECT\n\n").await;
        }
        assert!(client.frame().await.is_none());
    }
    assert_eq!(simulator.faults().refuse_reconnects, 0);
}

#[tokio::test]
async fn an_error_frame_is_sent_between_events() {
    let simulator = with_backlog(5).await;
    inject(&simulator, |faults| faults.error_after = Some(3));
    let mut client = Client::subscribed(&simulator, "dest1", "ack:client\n").await;
    client.messages(3).await;
    let error = client.frame().await.unwrap();
    assert_eq!((error.command.as_str(), &error["message"]), ("ERROR", "simulated error"));
    client.messages(2).await;
}

#[tokio::test]
async fn silence_lasts_until_it_is_switched_off() {
    let simulator = with_backlog(5).await;
    inject(&simulator, |faults| faults.silent_after = Some(3));
    let mut client = Client::subscribed(&simulator, "dest1", "ack:client\n").await;
    let messages = client.messages(3).await;
    client.ack(&messages[2]).await;
    wait_until(&simulator, |stats| stats.total().acked == 3).await;
    client.send("UNSUBSCRIBE\nid:0\nreceipt:late\n\n").await;
    wait_until(&simulator, |stats| stats.total().consumers == 0).await;
    inject(&simulator, |faults| faults.silent_after = None);
    assert_eq!(&client.frame().await.unwrap()["receipt-id"], "late");
}

#[tokio::test]
async fn bytes_sent_slowly_arrive_complete() {
    let simulator = with_backlog(20).await;
    inject(&simulator, |faults| faults.dribble = Some(3));
    let mut client = Client::subscribed(&simulator, "dest1", "ack:client\n").await;
    for (serial, message) in client.messages(20).await.iter().enumerate() {
        assert_eq!(message.json()["serial"], serial);
    }
}

#[tokio::test]
async fn heart_beats_can_be_switched_off() {
    let simulator = with_backlog(1).await;
    inject(&simulator, |faults| faults.heart_beats = HeartBeats::Never);
    let (mut client, _) = Client::log_in(&simulator, "heart-beat:50,20\n").await;
    assert_eq!(client.byte().await, Some(b'\n'), "the line feed after the NUL");
    assert_eq!(client.byte().await, None, "closed without a heart-beat before");
}

#[tokio::test]
async fn a_closed_broker_sends_nothing_and_can_open_again() {
    let simulator = start().await;
    let (mut up, _) = Client::log_in(&simulator, "").await;
    inject(&simulator, |faults| faults.closed = true);
    let mut refused = Client::open(simulator.address()).await;
    assert_eq!(refused.byte().await, None);
    simulator.cut();
    assert!(up.frame().await.is_none());
    inject(&simulator, |faults| faults.closed = false);
    let (_, connected) = Client::log_in(&simulator, "").await;
    assert_eq!(connected.unwrap().command, "CONNECTED");
}

#[tokio::test]
async fn late_heart_beats_are_late() {
    let simulator = start().await;
    inject(&simulator, |faults| faults.heart_beats = HeartBeats::Late(Duration::from_millis(300)));
    let started = std::time::Instant::now();
    let (mut client, _) = Client::log_in(&simulator, "heart-beat:0,20\n").await;
    assert_eq!(client.byte().await, Some(b'\n'), "the line feed after the NUL");
    assert_eq!(client.byte().await, Some(b'\n'), "a heart-beat");
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn malformed_events_are_sent_in_turn() {
    let simulator = start().await;
    let mut client = Client::subscribed(&simulator, "dest1", "ack:client\n").await;
    let malformations: Vec<_> =
        Malformation::all().filter(|malformation| *malformation != Malformation::Nul).collect();
    let events = 2 * malformations.len();
    let generator = GeneratorConfig { odd_every: 2, malformations, ..Default::default() };
    let rate = Rate::FlatOut { ahead: u64::MAX };
    simulator.generate("acme", Generation { events: Some(events as u64), rate, generator });
    let messages = client.messages(events).await;
    let body = |nth: usize| String::from_utf8_lossy(&messages[2 * nth + 1].body).into_owned();
    assert_eq!(body(0), "{\"type\":\"open\",\"serial\":1}");
    assert!(body(1).starts_with('<'));
    assert!(body(2).starts_with("{\"md5_email\":\"0x"));
    assert!(body(6).contains("\r\n"));
    assert!(body(8).len() > 1_000_000);
    assert_eq!(body(9), "", "a map");
    assert!(body(10).starts_with("{\"md5_email\":\""), "{}", body(10));
    assert!(messages.iter().step_by(2).all(|message| message.json()["md5_email"].is_string()));
}

#[tokio::test]
async fn a_nul_in_a_body_is_sent_unchanged() {
    let simulator = start().await;
    let mut client = Client::subscribed(&simulator, "dest1", "ack:client\n").await;
    simulator.publish("acme", "before\0after");
    assert_eq!(client.message().await.body, b"before");
    for expected in b"after\0\n" {
        assert_eq!(client.byte().await, Some(*expected));
    }
    simulator.generate("acme", all_at_once(1));
    assert_eq!(client.message().await.json()["serial"], 0);
}
