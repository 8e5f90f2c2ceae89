//! Reads the destinations: measures when each event can be read, and compares what is stored with what was
//! published.

use std::fs::File;
use std::io::Read;
use std::thread::sleep;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::push::OrderedConfig;
use futures_util::StreamExt;
use kit::bench::files::Files;
use kit::bench::jetstream::{self, JetStream};
use kit::bench::kafka::Topic;
use kit::bench::{Destination, Server};
use kit::events::Events;
use kit::kafka_reader::each_record;
use kit::output::{Tally, files};
use kit::rival::RivalSink;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::load::age;

/// The longest wait for the next event.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a file is read: the resolution of its latency.
const LOOK: Duration = Duration::from_micros(200);

/// A destination that can be read while events arrive.
#[allow(async_fn_in_trait, reason = "only this benchmark uses it")]
pub trait Readable: Destination {
    /// The destination for a rival, which sends each event at once or as its library does by default.
    fn of_rival(&self, at_once: bool) -> RivalSink;

    /// Starts to read. The task returns the latencies of the first `count` events, in the order of reading.
    async fn read(&self, count: u64) -> JoinHandle<Vec<Duration>>;

    /// Compares all that is stored with `events`.
    async fn tally(&mut self, events: Events) -> Tally;
}

/// Collects latencies until there are enough.
struct Reading {
    latencies: Vec<Duration>,
    count: usize,
    deadline: Instant,
}

impl Reading {
    fn new(count: u64) -> Self {
        let count = usize::try_from(count).expect("a length");
        Self { latencies: Vec::with_capacity(count), count, deadline: Instant::now() + PATIENCE }
    }

    fn add(&mut self, body: &[u8]) {
        self.latencies.push(age(body));
        self.deadline = Instant::now() + PATIENCE;
    }

    /// Whether more events are to be read. Panics if none has come for too long.
    fn goes_on(&self) -> bool {
        let (read, count) = (self.latencies.len(), self.count);
        assert!(Instant::now() < self.deadline, "{read} of {count} events");
        read < count
    }
}

impl Readable for Topic {
    fn of_rival(&self, at_once: bool) -> RivalSink {
        RivalSink::Kafka { bootstrap: self.bootstrap(), topic: self.name(), at_once }
    }

    async fn read(&self, count: u64) -> JoinHandle<Vec<Duration>> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            // The group is never joined, because partitions are assigned by hand.
            .set("group.id", "latency")
            .set("enable.auto.commit", "false")
            .set("fetch.queue.backoff.ms", "0")
            .set("enable.partition.eof", "true")
            .create()
            .expect("make a consumer");
        let mut partitions = TopicPartitionList::new();
        for partition in 0..self.partitions {
            let partition = i32::try_from(partition).expect("few partitions");
            partitions.add_partition_offset(&self.name(), partition, Offset::Beginning).expect("a partition");
        }
        consumer.assign(&partitions).expect("assign partitions");
        // Otherwise the first events would wait until the consumer has found its place in their partition.
        let partitions = self.partitions;
        let found = spawn_blocking(move || {
            let mut ends = 0;
            while ends < partitions {
                match consumer.poll(PATIENCE).expect("an answer in time") {
                    Err(KafkaError::PartitionEOF(_)) => ends += 1,
                    other => panic!("the topic is new: {other:?}"),
                }
            }
            consumer
        });
        let consumer = found.await.expect("find the end of each partition");
        spawn_blocking(move || {
            let mut reading = Reading::new(count);
            while reading.goes_on() {
                match consumer.poll(Duration::from_millis(100)) {
                    Some(Ok(record)) => reading.add(record.payload().expect("a body")),
                    Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                    Some(Err(error)) => panic!("read the topic: {error}"),
                }
            }
            reading.latencies
        })
    }

    async fn tally(&mut self, events: Events) -> Tally {
        let mut tally = Tally::new(events);
        each_record(&self.bootstrap(), &self.name(), |record| {
            tally.add(text(&record.value.expect("a body")));
        });
        tally
    }
}

impl Readable for JetStream {
    fn of_rival(&self, _at_once: bool) -> RivalSink {
        RivalSink::JetStream { url: self.url(), subject: jetstream::SUBJECT.to_owned() }
    }

    async fn read(&self, count: u64) -> JoinHandle<Vec<Duration>> {
        let stream = self.context().get_stream(jetstream::STREAM).await.expect("the stream");
        let inbox = format!("latency.{}", stream.cached_info().created.unix_timestamp_nanos());
        let config = OrderedConfig { deliver_subject: inbox, ..OrderedConfig::default() };
        let consumer = stream.create_consumer(config).await.expect("make a consumer");
        let mut messages = consumer.messages().await.expect("read the stream");
        tokio::spawn(async move {
            let mut reading = Reading::new(count);
            while reading.goes_on() {
                let message = timeout(PATIENCE, messages.next()).await.expect("a message in time");
                reading.add(&message.expect("a message").expect("a message").payload);
            }
            reading.latencies
        })
    }

    async fn tally(&mut self, events: Events) -> Tally {
        let mut tally = Tally::new(events);
        self.records().await.iter().for_each(|(_, _, body)| tally.add(text(body)));
        tally
    }
}

impl Readable for Files {
    fn of_rival(&self, _at_once: bool) -> RivalSink {
        RivalSink::File(self.directory().join("events.jsonl"))
    }

    /// Follows the first file as it grows. A run is too short for a second one.
    #[allow(clippy::disallowed_methods, reason = "its own thread looks at a file that nothing announces")]
    async fn read(&self, count: u64) -> JoinHandle<Vec<Duration>> {
        let directory = self.directory();
        spawn_blocking(move || {
            let mut reading = Reading::new(count);
            let mut file = loop {
                assert!(reading.goes_on(), "no events are expected");
                match files(&directory).first().map(File::open) {
                    Some(Ok(file)) => break file,
                    Some(Err(_)) | None => sleep(LOOK),
                }
            };
            let mut lines = Vec::new();
            while reading.goes_on() {
                let new = file.read_to_end(&mut lines).expect("read a file");
                let complete = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
                lines[..complete].split_inclusive(|byte| *byte == b'\n').for_each(|line| reading.add(line));
                lines.drain(..complete);
                if new == 0 {
                    sleep(LOOK);
                }
            }
            reading.latencies
        })
    }

    async fn tally(&mut self, events: Events) -> Tally {
        Tally::of(events, &self.directory())
    }
}

fn text(body: &[u8]) -> &str {
    std::str::from_utf8(body).expect("text")
}
