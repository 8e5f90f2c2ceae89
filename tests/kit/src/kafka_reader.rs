//! Reads what is in a topic of Kafka, with a client that is not the bridge's.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long reading a topic may take.
const PATIENCE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(200);

/// A record as it is in the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its partition.
    pub partition: u32,
    /// Its place in the partition.
    pub offset: i64,
    /// When the producer, or Kafka, says it came to be: milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers in their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The first header of this name as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(std::str::from_utf8(value).expect("a header of text"))
    }
}

/// All that is in `topic` now, in the order of each partition; blocks. Panics when it can't be read to its
/// ends in a minute.
pub fn contents(bootstrap: &str, topic: &str) -> Vec<Record> {
    let mut records = Vec::new();
    each_record(bootstrap, topic, |record| records.push(record));
    records
}

/// Calls `each` with every record that is in `topic` now, as [`contents`]: for topics too large to hold.
pub fn each_record(bootstrap: &str, topic: &str, mut each: impl FnMut(Record)) {
    let deadline = Instant::now() + PATIENCE;
    let consumer = consumer(bootstrap);
    let mut unread = partitions(&consumer, topic, deadline);
    let mut from = TopicPartitionList::new();
    for &partition in &unread {
        from.add_partition_offset(topic, partition, Offset::Beginning).expect("the beginning of a partition");
    }
    consumer.assign(&from).expect("assign partitions");
    while !unread.is_empty() {
        assert!(Instant::now() < deadline, "{topic}: partitions {unread:?} were not read in {PATIENCE:?}");
        match consumer.poll(MOMENT) {
            Some(Ok(message)) => each(record(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => unread.retain(|&other| other != partition),
            // A server that is just starting: librdkafka tries again.
            Some(Err(_)) | None => {}
        }
    }
}

fn consumer(bootstrap: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        // Never joined: partitions are assigned by hand. librdkafka wants a name all the same.
        .set("group.id", "tests")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("reconnect.backoff.max.ms", "500")
        .create()
        .expect("make a consumer")
}

fn partitions(consumer: &BaseConsumer, topic: &str, deadline: Instant) -> Vec<i32> {
    loop {
        if let Ok(metadata) = consumer.fetch_metadata(Some(topic), MOMENT)
            && let [found] = metadata.topics()
            && found.error().is_none()
        {
            return found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect();
        }
        assert!(Instant::now() < deadline, "there is no topic {topic} to read");
    }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    Record {
        partition: u32::try_from(message.partition()).expect("a partition"),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect(),
    }
}
