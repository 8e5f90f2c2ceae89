//! Mirrors into a topic that others write into as well.

use std::time::Duration;

use kit::any_kafka::AnyKafka;
use kit::nats::NatsServer;
use kit::output::Tally;
use kit::scenario::{counts, emptied, in_trouble, publish_from, subscribed};
use kit::stored::each_in_topic;
use kit::three::{PARTITIONS, Sinks};
use kit::wait_until;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::events;
use super::stage::{
    KAFKA, PATIENCE, Process, Row, Stage, acknowledged, in_topic, only_kafka, under_load, without_files,
};
use crate::round::{PREFETCH, setups};

const KILLS: usize = 6;
/// How many records others write into each partition: more than a claim reads without a low-water mark, which
/// is 4 × prefetch, at least 4096.
const FOREIGN: u64 = 5000;

/// The bridges of two destination ids, each with a full copy of the events, write into one topic.
pub async fn two_mirrors(mut stage: Stage<'_>) -> Vec<Row> {
    let (broker, mut random) = (stage.broker(), stage.random.fork());
    let sinks = stage.sinks().await;
    let queues = ["main", "other"].map(|id| format!("{id}.RTO.{}", stage.name));
    let mut mirrors = ["main", "other"].map(|id| {
        let setups = setups(&sinks, broker).map(|setup| {
            only_kafka(setup)
                .set("SOURCE__DESTINATION_ID", id)
                .set("SOURCE__CONNECTION_ID", format!("{}-{id}", sinks.name))
        });
        Process::new(setups, &format!("{id}.RTO.{}", stage.name))
    });
    for (mirror, queue) in mirrors.iter_mut().zip(&queues) {
        mirror.start();
        subscribed(broker, queue, 1).await;
    }

    let (published, ()) = under_load(broker, &stage.name, &queues[0], async {
        for kill in 0..KILLS {
            acknowledged(broker, &queues[kill % 2], random.u64(1..4000)).await;
            mirrors[kill % 2].kill(&mut random).await;
            mirrors[kill % 2].start();
        }
    })
    .await;
    for (mirror, queue) in mirrors.iter_mut().zip(&queues) {
        emptied(broker, queue).await;
        mirror.stop().await;
    }

    assert_same_ids(&sinks, &queues);
    let found = mirrors.iter().zip(&queues).map(|(mirror, queue)| {
        let tally = in_topic(&sinks, queue, Tally::new(events(published)));
        Row::new(KAFKA, 0..=0, published, [mirror], &tally)
    });
    found.collect()
}

/// Asserts that both copies of an event have one message id. So only the name of the queue in the records tells
/// a double from the copy of the other mirror.
fn assert_same_ids(sinks: &Sinks<'_>, queues: &[String; 2]) {
    let mut ids = [Vec::new(), Vec::new()];
    tokio::task::block_in_place(|| {
        each_in_topic(&sinks.kafka.bootstrap(), &sinks.name, |stored| {
            let copy = queues.iter().position(|queue| queue == stored.queue).expect("one of the queues");
            ids[copy].push(stored.message_id.to_owned());
        });
    });
    for copy in &mut ids {
        copy.sort_unstable();
        copy.dedup();
    }
    assert!(ids[0] == ids[1], "the copies have other message ids");
}

/// Kafka has events whose acknowledgement waits for another sink. Meanwhile others write more into the topic
/// than a claim reads of its end.
pub async fn long_hold(mut stage: Stage<'_>) -> Vec<Row> {
    let (broker, nats, mut random) = (stage.broker(), NatsServer::start(""), stage.random.fork());
    let sinks = Sinks::make(stage.version, &stage.name, &stage.servers.kafka, &nats).await;
    let queue = sinks.queue();
    let mut process = Process::new(setups(&sinks, broker).map(without_files), &queue);
    process.start();
    subscribed(broker, &queue, 1).await;

    let (before, ()) = under_load(broker, &stage.name, &queue, async {
        acknowledged(broker, &queue, random.u64(1000..4000)).await;
        let said = process.bridge().log().len();
        nats.kill();
        in_trouble(process.bridge(), said, "sink nats").await;
        // Everything that the broker may send before it gets an acknowledgement.
        let stored = || sinks.topic_len() >= counts(broker, &queue).dequeued + PREFETCH;
        wait_until("Kafka has the events in flight", PATIENCE, stored).await;
        tokio::task::block_in_place(|| write_foreign(&stage.servers.kafka, &sinks.name));
        process.kill(&mut random).await;
        tokio::task::block_in_place(|| nats.restart());
        process.start();
        acknowledged(broker, &queue, 2 * PREFETCH).await;
    })
    .await;
    let published = before + PREFETCH;
    publish_from(broker, &stage.name, events(published), before).await;
    emptied(broker, &queue).await;
    process.stop().await;

    let tally = in_topic(&sinks, &queue, Tally::new(events(published)));
    vec![Row::new(KAFKA, 0..=0, published, [&process], &tally)]
}

fn write_foreign(kafka: &AnyKafka, topic: &str) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().expect("make a producer");
    for number in 0..FOREIGN {
        for partition in 0..PARTITIONS {
            let partition = i32::try_from(partition).expect("a partition");
            let payload = number.to_string();
            let record = BaseRecord::<[u8], str>::to(topic).partition(partition).payload(&payload);
            producer.send(record).map_err(|(error, _)| error).expect("write a record");
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE).expect("write all records");
}
