//! Reads the records of a Kafka topic, with a client that shares no code with the bridge.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long reading a topic may take.
const PATIENCE: Duration = Duration::from_secs(180);
const MOMENT: Duration = Duration::from_millis(200);

/// A record of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub partition: u32,
    pub offset: i64,
    /// The time set by the producer or by Kafka, in milliseconds since 1970.
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// The headers in their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The first header with this name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(std::str::from_utf8(value).expect("a header of text"))
    }
}

/// Returns all records in `topic` now, in the order of each partition. Blocks. Panics if it cannot read to
/// the end of each partition within three minutes.
pub fn contents(bootstrap: &str, topic: &str) -> Vec<Record> {
    let mut records = Vec::new();
    each_record(bootstrap, topic, |record| records.push(record));
    records
}

/// Calls `each` with every record in `topic` now, like [`contents`]; for topics that are too large for
/// memory.
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
            // The server may still be starting. librdkafka retries.
            Some(Err(_)) | None => {}
        }
    }
}

/// Returns the number of records in `topic` now. Blocks.
pub fn record_count(bootstrap: &str, topic: &str) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    let consumer = consumer(bootstrap);
    let count = |partition| {
        loop {
            if let Ok((low, high)) = consumer.fetch_watermarks(topic, partition, MOMENT) {
                return u64::try_from(high - low).expect("a count");
            }
            assert!(Instant::now() < deadline, "{topic}: the end of partition {partition} is not known");
        }
    };
    partitions(&consumer, topic, deadline).into_iter().map(count).sum()
}

/// Returns the offsets that a consumer group has committed in `topic`, of the partitions that have one. Blocks.
pub fn committed(bootstrap: &str, group: &str, topic: &str) -> Vec<i64> {
    let deadline = Instant::now() + PATIENCE;
    let consumer = consumer_of(bootstrap, group);
    let mut asked = TopicPartitionList::new();
    for partition in partitions(&consumer, topic, deadline) {
        asked.add_partition(topic, partition);
    }
    loop {
        if let Ok(found) = consumer.committed_offsets(asked.clone(), MOMENT * 10) {
            return found
                .elements()
                .iter()
                .filter_map(|found| found.offset().to_raw().filter(|&raw| raw >= 0))
                .collect();
        }
        assert!(Instant::now() < deadline, "{topic}: the offsets of the group {group} are not known");
    }
}

fn consumer(bootstrap: &str) -> BaseConsumer {
    // The group is never joined, because partitions are assigned by hand. But librdkafka requires a name.
    consumer_of(bootstrap, "tests")
}

fn consumer_of(bootstrap: &str, group: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
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
