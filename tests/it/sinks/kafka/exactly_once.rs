//! Tests `exactly_once = true`: transactions that a later bridge of the queue ends.

use atdata_bridge::sink::Sink;
use atdata_bridge::sink::kafka::config::{KafkaConfig, KafkaProperties};
use tokio::time::timeout;

use super::{holds, numbers, sink};
use crate::sinks::contract::Rig;
use kit::kafka::{Kafka, Listener, client, on_kafka, shared};
use kit::kafka_relay::{Held, Relay};
use kit::scenario::PATIENCE;
use kit::{SOON, wait_until};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

on_kafka!(
    a_later_bridge_ends_the_open_transaction_of_an_earlier_one,
    a_bridge_that_was_replaced_in_between_is_fenced_at_its_first_commit,
    records_that_the_network_delivers_late_are_doubled_only_without_transactions,
    a_commit_without_an_answer_is_found_in_the_topic,
    a_commit_that_a_partition_without_leader_misses_is_not_acknowledged,
    behind_an_open_transaction_of_another_producer_nothing_is_read_twice,
    a_record_that_is_too_large_becomes_a_dead_letter_and_ends_nothing,
    a_record_that_the_topic_refuses_becomes_a_dead_letter,
    without_the_right_to_transactions_the_sink_holds,
    without_the_right_to_read_the_sink_holds,
    a_check_names_what_readers_and_rights_need,
);

fn config(kafka: &Kafka, listener: Listener, topic: &str, exactly_once: bool) -> KafkaConfig {
    // With transactions the sink decides itself how long it collects records.
    KafkaConfig {
        exactly_once,
        properties: KafkaProperties::default(),
        ..super::config(kafka, listener, topic)
    }
}

fn exact(kafka: &Kafka, topic: &str) -> Box<dyn Sink> {
    sink(config(kafka, Listener::Plain, topic, true), None)
}

/// A sink whose connections go through the relay.
fn relayed(kafka: &Kafka, topic: &str, exactly_once: bool) -> Box<dyn Sink> {
    let brokers = Some(vec![kafka.proxy_addr().to_string()]);
    sink(KafkaConfig { brokers, ..config(kafka, Listener::Proxied, topic, exactly_once) }, None)
}

async fn relay(kafka: &Kafka) -> Relay {
    Relay::start_at(kafka.proxy_addr(), kafka.addr(Listener::Proxied)).await
}

async fn a_later_bridge_ends_the_open_transaction_of_an_earlier_one() {
    let kafka = &Kafka::start();
    kafka.create_topic("fenced", 5, &[]);
    let relay = relay(kafka).await;
    let mut first = Rig::start(relayed(kafka, "fenced", true), 0).await;
    first.send_to(100).await;
    first.wait_for_ack(100).await;
    relay.hold(Held::Commits);
    first.send_to(150).await;
    timeout(PATIENCE, relay.holds(1)).await.expect("a transaction is complete but not committed");
    assert_eq!(first.acked(), 100, "acknowledged before the commit");

    let mut second = Rig::start(exact(kafka, "fenced"), 100).await;
    second.send_to(200).await;
    second.wait_for_ack(200).await;
    assert_eq!(numbers(kafka, "fenced"), (1..=200).collect::<Vec<_>>());

    relay.release();
    first.wait_until_given_up().await;
    assert_eq!(first.acked(), 100);
    // In the same session it neither writes nor takes the transactional id back.
    first.send_to(250).await;
    second.send_to(300).await;
    second.wait_for_ack(300).await;
    assert_eq!(numbers(kafka, "fenced"), (1..=300).collect::<Vec<_>>());

    // The broker makes it the active one again.
    second.drain().await;
    let mut third = Rig::start(exact(kafka, "fenced"), 300).await;
    third.send_to(400).await;
    third.wait_for_ack(400).await;
    assert_eq!(numbers(kafka, "fenced"), (1..=400).collect::<Vec<_>>());
    first.abandon().await;
    third.drain().await;
}

/// Its connection to Kafka outlives the other bridge, which has come and gone within a session of the first one.
async fn a_bridge_that_was_replaced_in_between_is_fenced_at_its_first_commit() {
    let (kafka, topic) = (shared(), "fenced-in-between");
    kafka.create_topic(topic, 5, &[]);
    let replaced = async |base: u64| {
        let mut second = Rig::start(exact(kafka, topic), base).await;
        second.send_to(base + 100).await;
        second.wait_for_ack(base + 100).await;
        second.drain().await;
    };
    let mut first = Rig::start(exact(kafka, topic), 0).await;
    first.send_to(100).await;
    first.wait_for_ack(100).await;
    replaced(100).await;
    first.send_to(300).await;
    first.wait_until_given_up().await;
    assert_eq!(numbers(kafka, topic), (1..=200).collect::<Vec<_>>());
    first.lose_session().await;
    first.send_to(300).await;
    first.wait_for_ack(300).await;
    assert_eq!(numbers(kafka, topic), (1..=300).collect::<Vec<_>>());

    // Between two sessions it is no fence: a new session begins with a new connection.
    replaced(300).await;
    first.lose_session().await;
    first.send_to(500).await;
    first.wait_for_ack(500).await;
    assert!(!first.is_given_up(), "fenced by a bridge that is gone");
    assert_eq!(numbers(kafka, topic), (1..=500).collect::<Vec<_>>());
    first.drain().await;
}

/// The client is killed while its last records are on the way. They arrive after its successor has read the topic.
async fn records_that_the_network_delivers_late_are_doubled_only_without_transactions() {
    let kafka = &Kafka::start();
    for exactly_once in [false, true] {
        let topic = &format!("late-{exactly_once}");
        kafka.create_topic(topic, 5, &[]);
        let relay = relay(kafka).await;
        let mut killed = Rig::start(relayed(kafka, topic, exactly_once), 0).await;
        killed.send_to(100).await;
        killed.wait_for_ack(100).await;
        relay.hold(Held::Records);
        killed.send_to(200).await;
        timeout(PATIENCE, relay.holds(1)).await.expect("records are on the way");
        killed.abandon().await;

        let mut successor = Rig::start(relayed(kafka, topic, exactly_once), 100).await;
        successor.send_to(300).await;
        successor.wait_for_ack(300).await;
        relay.release();
        timeout(PATIENCE, relay.released()).await.expect("the broker has got everything");
        let doubled = numbers(kafka, topic).len() - 300;
        eprintln!("exactly_once={exactly_once}: {doubled} events doubled");
        assert_eq!(doubled == 0, exactly_once, "{doubled} events doubled");
        successor.drain().await;
        // The next relay listens at the same address.
        drop(relay);
    }
}

/// The outcome is unclear until the sink has read the topic.
async fn a_commit_without_an_answer_is_found_in_the_topic() {
    let kafka = &Kafka::start();
    kafka.create_topic("unanswered", 5, &[]);
    let relay = relay(kafka).await;
    let mut rig = Rig::start(relayed(kafka, "unanswered", true), 0).await;
    rig.send_to(100).await;
    rig.wait_for_ack(100).await;
    relay.swallow_commits(true);
    rig.send_to(200).await;
    rig.wait_for_failure().await;
    relay.swallow_commits(false);
    rig.wait_for_ack(200).await;
    assert_eq!(numbers(kafka, "unanswered"), (1..=200).collect::<Vec<_>>());
    let suppressed = rig.counters.workers.get("subject").suppressed.get();
    assert!(suppressed > 0, "committed and not found again");
    rig.drain().await;
}

/// Kafka 4.3 and 4.4 do not mark a commit in a partition that has no leader, and call it complete (KAFKA-20734).
async fn a_commit_that_a_partition_without_leader_misses_is_not_acknowledged() {
    let (kafka, topic) = (&Kafka::start(), "without-leader");
    make_coordinator(kafka);
    let second = &kafka.start_second();
    kafka.create_topic(topic, 6, &[]);
    let (relay, _relay_of_second) = (relay(kafka).await, relay(second).await);
    let mut rig = Rig::start(relayed(kafka, topic, true), 0).await;
    rig.send_to(100).await;
    rig.wait_for_ack(100).await;
    relay.hold(Held::Commits);
    rig.send_to(200).await;
    timeout(PATIENCE, relay.holds(1)).await.expect("a transaction is complete but not committed");
    tokio::task::block_in_place(|| second.kill());
    wait_until("the partitions of the dead node have no leader", SOON, || kafka.partitions(topic) == Some(3))
        .await;
    assert!(!rig.is_given_up(), "too late: the transactions are given up");
    relay.release();
    let is_decided = || rig.acked() == 200 || rig.is_given_up();
    wait_until("the commits have their answers", SOON, is_decided).await;
    let acked = rig.abandon().await;
    tokio::task::block_in_place(|| second.restart());
    let readable = numbers(kafka, topic);
    let lost: Vec<_> = (1..=acked).filter(|number| !readable.contains(number)).collect();
    assert_eq!(lost, [0; 0], "acknowledged, but nobody can read it");

    let mut rig = Rig::start(exact(kafka, topic), acked).await;
    rig.send_to(300).await;
    rig.wait_for_ack(300).await;
    assert_eq!(numbers(kafka, topic), (1..=300).collect::<Vec<_>>());
    rig.drain().await;
}

/// Makes this node the coordinator of all transactions.
fn make_coordinator(kafka: &Kafka) {
    let client: BaseProducer =
        client(kafka, Listener::Plain).set("transactional.id", "first").create().expect("make a producer");
    tokio::task::block_in_place(|| client.init_transactions(PATIENCE)).expect("the coordinator answers");
}

/// Committed records behind the open transaction are invisible at first.
async fn behind_an_open_transaction_of_another_producer_nothing_is_read_twice() {
    let kafka = shared();
    for exactly_once in [false, true] {
        let topic = &format!("behind-{exactly_once}");
        kafka.create_topic(topic, 1, &[]);
        let other = client(kafka, Listener::Plain)
            .set("transactional.id", topic)
            .create::<BaseProducer>()
            .expect("a producer");
        tokio::task::block_in_place(|| {
            other.init_transactions(PATIENCE).expect("a transactional id");
            other.begin_transaction().expect("a transaction");
            let record = BaseRecord::to(topic).partition(0).key("other").payload(r#"{"n":1000}"#);
            other.send(record).map_err(|(error, _)| error).expect("send");
            other.flush(PATIENCE).expect("the record is written");
        });
        let mut rig = Rig::start(sink(config(kafka, Listener::Plain, topic, exactly_once), None), 0).await;
        // Its first claim waits for the transaction, too.
        rig.send_to(100).await;
        wait_for_long_claim(&rig).await;
        assert_eq!(rig.acked(), 0, "acknowledged without knowing what the topic holds");
        tokio::task::block_in_place(|| other.commit_transaction(PATIENCE).expect("commit"));
        rig.wait_for_ack(100).await;
        tokio::task::block_in_place(|| {
            other.begin_transaction().expect("a transaction");
            let record = BaseRecord::to(topic).partition(0).key("other").payload(r#"{"n":1001}"#);
            other.send(record).map_err(|(error, _)| error).expect("send");
            other.flush(PATIENCE).expect("the record is written");
        });
        rig.send_to(200).await;
        if exactly_once {
            rig.wait_for_failure().await;
            assert_eq!(rig.acked(), 100, "acknowledged, but nobody can read it");
        } else {
            rig.wait_for_ack(200).await;
        }
        rig.abandon().await;

        let mut rig = Rig::start(sink(config(kafka, Listener::Plain, topic, exactly_once), None), 0).await;
        rig.send_to(300).await;
        wait_for_long_claim(&rig).await;
        tokio::task::block_in_place(|| other.commit_transaction(PATIENCE).expect("commit"));
        rig.wait_for_ack(300).await;
        let expected: Vec<u64> = (1..=300).chain([1000, 1001]).collect();
        assert_eq!(numbers(kafka, topic), expected);
        rig.drain().await;
    }
}

/// The claim goes on, and long enough to be shown.
async fn wait_for_long_claim(rig: &Rig) {
    let is_shown =
        || rig.states.all().iter().any(|(_, state, _)| state.reason().contains("it holds already"));
    wait_until("the claim is shown", SOON, is_shown).await;
}

async fn a_record_that_is_too_large_becomes_a_dead_letter_and_ends_nothing() {
    let (kafka, topic) = (shared(), "exactly-too-large");
    kafka.create_topic(topic, 3, &[]);
    let properties = KafkaProperties::new([("message.max.bytes", "1000")]);
    let config = KafkaConfig { properties, ..config(kafka, Listener::Plain, topic, true) };
    let mut rig = Rig::start(sink(config, None), 0).await;
    // Alone in its transaction, and with others.
    rig.send_body(super::noisy_body(1, 1, 5000)).await;
    rig.wait_for_ack(1).await;
    rig.send_bodies(
        [10, 5000, 10].into_iter().zip(2..).map(|(bytes, number)| super::noisy_body(1, number, bytes)),
    )
    .await;
    let is_over = || rig.acked() == 4 || rig.is_given_up();
    wait_until("all have a verdict, or the session is given up", SOON, is_over).await;
    assert!(!rig.is_given_up());
    assert_eq!(numbers(kafka, topic), [2, 4]);
    assert_eq!(rig.letters.0.lock().unwrap().len(), 2);
    rig.drain().await;
}

/// Each refusal ends a transaction, its connection and the session.
async fn a_record_that_the_topic_refuses_becomes_a_dead_letter() {
    let (kafka, topic) = (shared(), "exactly-refused");
    kafka.create_topic(topic, 3, &["max.message.bytes=2000"]);
    let mut rig = Rig::start(exact(kafka, topic), 0).await;
    let body = |number| super::noisy_body(number, number, if number == 20 { 5000 } else { 10 });
    while rig.acked() < 40 {
        rig.send_bodies((rig.acked() + 1..=40).map(body)).await;
        let is_over = || rig.acked() == 40 || rig.is_given_up();
        wait_until("all have a verdict, or the session is given up", SOON, is_over).await;
        if rig.is_given_up() {
            rig.lose_session().await;
        }
    }
    let expected: Vec<u64> = (1..=40).filter(|&number| number != 20).collect();
    assert_eq!(numbers(kafka, topic), expected);
    assert_eq!(rig.letters.0.lock().unwrap().len(), 1);
    rig.drain().await;
}

async fn without_the_right_to_transactions_the_sink_holds() {
    let (kafka, topic) = (shared(), "exactly-unallowed");
    kafka.create_topic(topic, 3, &[]);
    kafka.deny("User:*", "WRITE", &format!("transactional-id:d.RTO.acme.{topic}"));
    let mut rig = Rig::start(exact(kafka, topic), 0).await;
    rig.send_to(10).await;
    holds(&rig, "Write and Describe on the transactional ids").await;
    assert_eq!(rig.acked(), 0);
    kafka.forget_rules(&format!("transactional-id:d.RTO.acme.{topic}"));
    rig.wait_for_ack(10).await;
    rig.drain().await;
}

async fn without_the_right_to_read_the_sink_holds() {
    let (kafka, topic) = (shared(), "exactly-unread");
    kafka.create_topic(topic, 3, &[]);
    kafka.allow("User:*", "WRITE", topic);
    let mut rig = Rig::start(exact(kafka, topic), 0).await;
    rig.send_to(10).await;
    holds(&rig, "give the bridge Read on it").await;
    kafka.allow("User:*", "READ", topic);
    rig.wait_for_ack(10).await;
    rig.drain().await;
}

async fn a_check_names_what_readers_and_rights_need() {
    let (kafka, topic) = (shared(), "exactly-checked");
    kafka.create_topic(topic, 3, &[]);
    let lines = exact(kafka, topic).probe().await.expect("reachable");
    for words in ["isolation.level=read_committed", "Write and Describe on the transactional ids"] {
        assert!(lines.iter().any(|line| line.message.contains(words)), "{words}: {lines:?}");
    }
    wait_until("nothing was fenced or left", SOON, || numbers(kafka, topic).is_empty()).await;
}
