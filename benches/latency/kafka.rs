//! Provides a topic on a Kafka server of its own, and a reader that measures when each record can be read.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kit::bridge::Setup;
use kit::kafka::{Kafka, Listener};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::load::age;

pub const PARTITIONS: u32 = 12;
/// The longest wait for the next record.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server and its current topic.
pub struct Topic {
    kafka: Kafka,
    made: u32,
}

impl Topic {
    pub fn start() -> Self {
        Self { kafka: Kafka::start(), made: 0 }
    }

    pub fn name(&self) -> String {
        format!("latency{:03}", self.made)
    }

    pub fn bootstrap(&self) -> String {
        self.kafka.bootstrap()
    }

    /// Makes a new, empty topic.
    pub fn renew(&mut self) {
        if self.made > 0 {
            self.kafka.delete_topic(&self.name());
        }
        self.made += 1;
        self.kafka.create_topic(&self.name(), PARTITIONS, &[]);
    }

    pub fn configure(&self, setup: Setup) -> Setup {
        setup
            .set("SINKS__KAFKA__BROKERS", self.kafka.addr(Listener::Plain).to_string())
            .set("SINKS__KAFKA__TOPIC", self.name())
    }

    /// Reads `count` records in a thread, which returns the latency of each.
    pub fn read(&self, count: u64) -> JoinHandle<Vec<Duration>> {
        let consumer = self.consumer();
        thread::spawn(move || {
            let mut latencies = Vec::new();
            let mut deadline = Instant::now() + PATIENCE;
            while (latencies.len() as u64) < count {
                assert!(Instant::now() < deadline, "{} of {count} records", latencies.len());
                if let Some(record) = consumer.poll(Duration::from_millis(100)) {
                    let record = record.expect("a record");
                    latencies.push(age(record.payload().expect("a body")));
                    deadline = Instant::now() + PATIENCE;
                }
            }
            latencies
        })
    }

    fn consumer(&self) -> BaseConsumer {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            // The group is never joined, because partitions are assigned by hand.
            .set("group.id", "latency")
            .set("enable.auto.commit", "false")
            .set("fetch.queue.backoff.ms", "0")
            .create()
            .expect("make a consumer");
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            let partition = i32::try_from(partition).expect("few partitions");
            partitions.add_partition_offset(&self.name(), partition, Offset::Beginning).expect("a partition");
        }
        consumer.assign(&partitions).expect("assign partitions");
        consumer
    }
}
