//! Tests a cluster whose metadata names no broker for a moment, as when its only broker is fenced.

use atdata_bridge::sink::kafka::config::KafkaProperties;

use super::{config, numbers, sink};
use crate::sinks::contract::Rig;
use kit::kafka::{Kafka, Listener, on_kafka};
use kit::kafka_relay::Relay;
use kit::scenario::PATIENCE;
use kit::wait_until;

on_kafka!(a_cluster_that_names_no_broker_for_a_moment_is_found_again_and_has_no_duplicates);

/// More than once: the client must recover completely each time.
const TIMES: u64 = 2;

/// librdkafka then forgets all brokers that it knows, and usually never finds any again
/// (`sink/kafka/broker_refresh.rs`). The same client must send the unconfirmed records again without
/// duplicates.
async fn a_cluster_that_names_no_broker_for_a_moment_is_found_again_and_has_no_duplicates() {
    // A server of its own, because each server supports one relay.
    let kafka = &Kafka::start();
    kafka.create_topic("nameless", 2, &[]);
    let relay = Relay::start_at(kafka.proxy_addr(), kafka.addr(Listener::Proxied)).await;
    let mut config = config(kafka, Listener::Proxied, "nameless");
    config.brokers = Some(vec![kafka.proxy_addr().to_string()]);
    // One request for each partition, and fewer than the client may have in flight: more would wait for responses
    // that are dropped, records as well as questions for metadata.
    config.properties = KafkaProperties::new([("linger.ms", "500")]);
    let mut rig = Rig::start(sink(config, Some(2)), 0).await;
    rig.send_to(100).await;
    rig.wait_for_ack(100).await;
    for time in 1..=TIMES {
        relay.swallow_confirmations(true);
        rig.send_to(100 + time * 100).await;
        let stored = || numbers(kafka, "nameless").len() as u64 >= 100 + time * 100;
        wait_until("the topic has the records", PATIENCE, stored).await;
        assert_eq!(rig.acked(), time * 100, "confirmed");
        relay.hide_brokers();
        // The sink asks for metadata each time it checks a topic that confirms nothing.
        wait_until("the metadata has named no broker", PATIENCE, || !relay.is_hiding()).await;
        relay.swallow_confirmations(false);
        rig.wait_for_ack(100 + time * 100).await;
    }
    assert_eq!(numbers(kafka, "nameless"), (1..=100 + TIMES * 100).collect::<Vec<_>>());
    rig.drain().await;
}
