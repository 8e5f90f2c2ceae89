//! Tests that no record becomes durable before an earlier one of its partition that a broker refuses, when the
//! broker does not know the producer yet.

use std::time::Duration;

use super::{config, sink};
use crate::sinks::contract::Rig;
use kit::kafka::{Kafka, Listener, on_kafka};
use kit::kafka_reader::contents;
use kit::kafka_relay::Relay;
use kit::scenario::PATIENCE;
use kit::wait_until;

on_kafka!(records_behind_a_refused_first_request_keep_their_order);

/// Long enough for the client to send what it may send: many times its `linger.ms`.
const LONG: Duration = Duration::from_millis(500);

/// A broker that has no state of a producer takes any sequence number, and so also a second request after it
/// refused the first one.
async fn records_behind_a_refused_first_request_keep_their_order() {
    // A server of its own, because each server supports one relay.
    let kafka = &Kafka::start();
    kafka.create_topic("first-request", 1, &["max.message.bytes=20000"]);
    let relay = Relay::start_at(kafka.proxy_addr(), kafka.addr(Listener::Proxied)).await;
    let mut config = config(kafka, Listener::Proxied, "first-request");
    config.brokers = Some(vec![kafka.proxy_addr().to_string()]);
    let mut rig = Rig::start(sink(config, Some(1)), 0).await;

    relay.hold_confirmations(true);
    // Together they are too large for the topic, which only shows when both are in one batch.
    rig.send_bodies([body(1, 15_000), body(2, 15_000)]).await;
    wait_until("the first request is sent", PATIENCE, || relay.produced() >= 1).await;
    rig.send_bodies([body(3, 100)]).await;
    let second = async {
        while relay.produced() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _sent_too_early = tokio::time::timeout(LONG, second).await;
    relay.hold_confirmations(false);

    rig.wait_for_ack(3).await;
    let records = tokio::task::block_in_place(|| contents(&kafka.bootstrap(), "first-request"));
    let stored: Vec<_> = records.iter().map(|record| record.value.as_deref().map_or(0, number)).collect();
    assert_eq!(stored, [1, 2, 3]);
    rig.drain().await;
}

/// Makes the body of an event with `bytes` bytes that can't be compressed. All have the same key.
fn body(number: u64, bytes: usize) -> String {
    let noise: String = (0..bytes).map(|_| fastrand::alphanumeric()).collect();
    format!(r#"{{"md5":"{:032x}","n":{number},"noise":"{noise}"}}"#, 7)
}

fn number(body: &[u8]) -> u64 {
    serde_json::from_slice::<serde_json::Value>(body).expect("JSON")["n"].as_u64().expect("a number")
}
