//! Carries events with a bare loop: a STOMP client, librdkafka without a linger, and an acknowledgement once
//! all that was sent is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kit::broker::Broker;
use kit::consumer::{Acks, Consumer};
use kit::stomp::Frame;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::Notify;

use super::Run;
use super::kafka::Topic;
use super::load::Load;

const PREFETCH: u32 = 1024;

pub async fn run(broker: &Broker, topic: &Topic, load: Load) -> Run {
    let durable = Durable::default();
    let producer: BaseProducer<Durable> = ClientConfig::new()
        .set("bootstrap.servers", topic.bootstrap())
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "0")
        .set("compression.codec", "lz4")
        .set("partitioner", "murmur2_random")
        .create_with_context(durable.clone())
        .expect("make a producer");
    let producer = Arc::new(producer);
    producer.client().fetch_metadata(Some(&topic.name()), Duration::from_secs(10)).expect("the topic");
    let over = Arc::new(AtomicBool::new(false));
    let polling = {
        let (producer, over) = (Arc::clone(&producer), Arc::clone(&over));
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                producer.poll(Duration::from_millis(10));
            }
        })
    };
    let consumer = Consumer::subscribe(broker, &load.queue(), PREFETCH, Acks::Never).await;
    let carrying = tokio::spawn(carry(consumer, producer, topic.name(), durable, load.events));
    let (latencies, _) = load.run(topic).await;
    carrying.await.expect("carry the events");
    over.store(true, Ordering::Relaxed);
    polling.join().expect("poll");
    (latencies, None)
}

async fn carry(
    mut consumer: Consumer,
    producer: Arc<BaseProducer<Durable>>,
    topic: String,
    durable: Durable,
    events: u64,
) {
    let (mut sent, mut acked) = (0, 0);
    let mut last: Option<Frame> = None;
    while acked < events {
        tokio::select! {
            frame = consumer.next(), if sent < events => {
                let body = frame.text();
                let key = body.split('"').nth(3).expect("a key");
                let record = BaseRecord::to(&topic).key(key).payload(body);
                producer.send(record).unwrap_or_else(|(error, _)| panic!("send: {error}"));
                sent += 1;
                last = Some(frame);
            }
            () = durable.news.notified() => {}
        }
        if durable.count.load(Ordering::Relaxed) == sent
            && let Some(frame) = last.take()
        {
            consumer.ack(&frame).await;
            acked = sent;
        }
    }
    consumer.close().await;
}

/// Counts durable records.
#[derive(Clone, Default)]
struct Durable {
    count: Arc<AtomicU64>,
    news: Arc<Notify>,
}

impl ClientContext for Durable {}

impl ProducerContext for Durable {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = report {
            panic!("a record was not written: {error}");
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.news.notify_one();
    }
}
