//! Tests that no record becomes durable before an earlier one of its partition that a broker refuses, when the
//! broker does not know the producer yet.

use std::time::Duration;

use tokio::time::timeout;

use super::{config, noisy_body, sink, stored};
use crate::sinks::contract::Rig;
use kit::kafka::{Kafka, Listener, on_kafka};
use kit::kafka_relay::Relay;
use kit::scenario::PATIENCE;

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
    timeout(PATIENCE, relay.produced(1)).await.expect("the first request is sent");
    rig.send_bodies([body(3, 100)]).await;
    let _too_early = timeout(LONG, relay.produced(2)).await;
    relay.hold_confirmations(false);

    rig.wait_for_ack(3).await;
    assert_eq!(stored(kafka, "first-request"), [1, 2, 3]);
    rig.drain().await;
}

/// Makes the body of an event; all have the same key.
fn body(number: u64, bytes: usize) -> String {
    noisy_body(7, number, bytes)
}
