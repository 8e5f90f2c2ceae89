//! Provides a topic on a Kafka server of its own, as a destination of benchmarks.

use std::cmp::Ordering;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext};

use super::{Destination, Route, Server};
use crate::bridge::Setup;
use crate::kafka::{Kafka, Listener};
use crate::kafka_reader::{self, Record};

/// The properties that the sink sets by default.
const PROPERTIES: [(&str, &str); 13] = [
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("enable.gapless.guarantee", "true"),
    ("message.timeout.ms", "0"),
    ("retries", "2147483647"),
    ("queue.buffering.max.messages", "0"),
    ("queue.buffering.max.kbytes", "2147483647"),
    ("linger.ms", "0"),
    ("batch.size", "1000000"),
    ("compression.codec", "lz4"),
    ("partitioner", "murmur2_random"),
    ("topic.metadata.propagation.max.ms", "0"),
    ("socket.keepalive.enable", "true"),
];
/// The time that one poll may take.
const WAIT: Duration = Duration::from_millis(1);

/// The server and its current topic.
pub struct Topic {
    kafka: Kafka,
    /// Applies from the next renewal on.
    pub partitions: u32,
    /// Properties of librdkafka, in addition to [`PROPERTIES`].
    properties: Vec<(String, String)>,
    made: u32,
}

impl Topic {
    /// Starts the server. `settings` are the bridge's; the bare loop uses the properties in them.
    pub fn start(partitions: u32, settings: &[String]) -> Self {
        let property = |setting: &String| {
            let (name, value) = setting.strip_prefix("SINKS__KAFKA__PROPERTIES__")?.split_once('=')?;
            Some((name.to_lowercase().replace('_', "."), value.to_owned()))
        };
        let properties = settings.iter().filter_map(property).collect();
        Self { kafka: Kafka::start_as_operators_do(), partitions, properties, made: 0 }
    }

    /// The name of the current topic.
    pub fn name(&self) -> String {
        format!("bench{:03}", self.made)
    }

    /// The address of the server, for its clients.
    pub fn bootstrap(&self) -> String {
        self.kafka.bootstrap()
    }
}

impl Destination for Topic {
    const NAME: &'static str = "Kafka";

    async fn renew(&mut self) {
        if self.made > 0 {
            self.kafka.delete_topic(&self.name());
        }
        self.made += 1;
        self.kafka.create_topic(&self.name(), self.partitions, &[]);
    }

    fn configure(&self, setup: Setup, route: Route) -> Setup {
        let addr =
            if route == Route::Proxy { self.kafka.proxy_addr() } else { self.kafka.addr(Listener::Plain) };
        setup.set("SINKS__KAFKA__BROKERS", addr.to_string()).set("SINKS__KAFKA__TOPIC", self.name())
    }

    async fn count(&mut self) -> u64 {
        let mut count = 0;
        kafka_reader::each_record(&self.bootstrap(), &self.name(), |_| count += 1);
        count
    }
}

impl Server for Topic {
    type Records = Vec<Record>;

    const MAX_IN_FLIGHT: usize = 16_384;

    fn proxy_addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.kafka.proxy_addr(), self.kafka.addr(Listener::Proxied))
    }

    async fn records(&mut self) -> Self::Records {
        let mut records = kafka_reader::contents(&self.bootstrap(), &self.name());
        // They were read partition by partition. This restores the order in which they were published.
        records.sort_by(in_order);
        records
    }

    /// Uses the library as it is intended: hands records over while there is room, and polls for delivery
    /// reports in between.
    async fn produce(&mut self, records: &Self::Records, window: usize) -> Duration {
        let topic = self.name();
        let reports = Reports::default();
        let producer = self.producer(reports.clone());
        producer.client().fetch_metadata(Some(&topic), Duration::from_secs(10)).expect("the topic");
        let all = records.len() as u64;
        let records: Vec<_> = records.iter().map(|record| (record, headers(record))).collect();
        let begun = Instant::now();
        for (sent, (record, headers)) in (0..).zip(records) {
            while sent - reports.count() >= window as u64 {
                producer.poll(WAIT);
            }
            send(&producer, &topic, record, headers);
        }
        while reports.count() < all {
            producer.poll(WAIT);
        }
        begun.elapsed()
    }

    fn windows(prefetch: usize) -> Vec<(usize, String)> {
        vec![
            (prefetch, format!("bare librdkafka, {prefetch} in flight")),
            (usize::MAX, "bare librdkafka, everything in flight".to_owned()),
        ]
    }
}

impl Topic {
    fn producer(&self, reports: Reports) -> BaseProducer<Reports> {
        let mut config = ClientConfig::new();
        for (name, value) in PROPERTIES {
            config.set(name, value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", self.bootstrap());
        config.create_with_context(reports).expect("make a producer")
    }
}

fn headers(record: &Record) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(record.headers.len());
    record
        .headers
        .iter()
        .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

fn send(producer: &BaseProducer<Reports>, topic: &str, record: &Record, headers: OwnedHeaders) {
    let record = BaseRecord::to(topic)
        .partition(i32::try_from(record.partition).expect("a partition"))
        .key(record.key.as_deref().expect("a key"))
        .payload(record.value.as_deref().expect("a value"))
        .headers(headers);
    let mut record = Some(record);
    while let Some(waiting) = record.take() {
        match producer.send(waiting) {
            Ok(()) => producer.poll(Duration::ZERO),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                producer.poll(WAIT);
                record = Some(refused);
            }
            Err((error, _)) => panic!("send: {error}"),
        };
    }
}

/// Compares the numbers at the end of the message ids.
fn in_order(a: &Record, b: &Record) -> Ordering {
    let number = |record: &Record| {
        let id = record.header("atdata-message-id").expect("a message id");
        id.rsplit(':').next().and_then(|number| number.parse::<u64>().ok()).expect("a number")
    };
    number(a).cmp(&number(b))
}

/// Counts durable records.
#[derive(Clone, Default)]
struct Reports(Arc<AtomicU64>);

impl Reports {
    fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = report {
            panic!("a record was not written: {error}");
        }
        self.0.fetch_add(1, Relaxed);
    }
}
