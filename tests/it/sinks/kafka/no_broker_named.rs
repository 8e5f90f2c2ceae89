//! A cluster that for a moment names none of its brokers, as one does whose only broker is fenced.

use super::{config, numbers, sink};
use crate::sinks::contract::Rig;
use kit::kafka::{Kafka, Listener, on_kafka};
use kit::kafka_relay::Relay;
use kit::scenario::PATIENCE;
use kit::wait_until;

on_kafka!(a_cluster_that_names_no_broker_for_a_moment_is_found_again_and_holds_nothing_twice);

/// How often: the client must be found ready for the next time.
const TIMES: u64 = 2;

/// librdkafka then forgets all brokers that it knows, and mostly stays without any for good
/// (`sink/kafka/broker_refresh.rs`). What they hold unconfirmed at that moment comes once more, by the same client.
async fn a_cluster_that_names_no_broker_for_a_moment_is_found_again_and_holds_nothing_twice() {
    // Of its own, since a server has one place for a relay.
    let kafka = &Kafka::start();
    kafka.create_topic("nameless", 4, &[]);
    let relay = Relay::start_at(kafka.proxy_addr(), kafka.addr(Listener::Proxied)).await;
    let mut config = config(kafka, Listener::Proxied, "nameless");
    config.brokers = Some(vec![kafka.proxy_addr().to_string()]);
    let mut rig = Rig::start(sink(config, Some(4)), 0).await;
    rig.send_to(100).await;
    rig.wait_for_ack(100).await;
    for time in 1..=TIMES {
        relay.swallow_confirmations(true);
        rig.send_to(100 + time * 100).await;
        let held = || numbers(kafka, "nameless").len() as u64 >= 100 + time * 100;
        wait_until("the topic holds them", PATIENCE, held).await;
        assert_eq!(rig.acked(), time * 100, "confirmed");
        relay.hide_brokers();
        // Each look at a topic that confirms nothing asks.
        wait_until("no broker is named", PATIENCE, || !relay.is_hiding()).await;
        relay.swallow_confirmations(false);
        rig.wait_for_ack(100 + time * 100).await;
    }
    assert_eq!(numbers(kafka, "nameless"), (1..=100 + TIMES * 100).collect::<Vec<_>>());
    rig.drain().await;
}
