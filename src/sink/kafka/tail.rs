//! Reads the tail of each partition for the message ids of the newest records of a queue, so that the bridge
//! does not write again what was written before a crash.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::metadata::{Metadata, MetadataPartition, MetadataTopic};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use crate::sink::headers;

/// The properties of the consumer. librdkafka wants a group, but a consumer that is given its partitions
/// joins none and stores nothing.
const PROPERTIES: [(&str, &str); 10] = [
    ("group.id", "atdata-bridge"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "earliest"),
    ("isolation.level", "read_committed"),
    // At the end of a partition a request would wait for more records.
    ("fetch.wait.max.ms", "10"),
    ("enable.partition.eof", "true"),
    // Bounds the memory for records that were not looked at yet. A partition that waits for that goes on soon.
    ("queued.max.messages.kbytes", "4096"),
    ("fetch.queue.backoff.ms", "5"),
    ("statistics.interval.ms", "0"),
];

/// How long the tail is read at least: requests of a killed process may still wait in the brokers' queues.
const LATE_REQUESTS: Duration = Duration::from_millis(200);

/// How long one call of librdkafka may last, so that the thread notices when nobody waits for it any more.
const CALL: Duration = Duration::from_millis(250);

/// The newest ids that were found, and how.
pub(super) struct Tail {
    /// The newest last, by the time of their records.
    pub(super) ids: Vec<Bytes>,
    /// How many records were read.
    pub(super) records: usize,
    /// Whether the end of every partition was reached in time.
    pub(super) is_complete: bool,
}

/// The part of a topic that is read, and which of its records count.
pub(super) struct TailRequest {
    pub(super) topic: String,
    pub(super) partitions: i32,
    /// The name of the queue: records of other queues do not count.
    pub(super) queue: String,
    /// How many records of each partition are read.
    pub(super) records: usize,
    /// How many ids are kept at most.
    pub(super) ids: usize,
    /// The topic's `min.insync.replicas`, if it is known.
    pub(super) min_in_sync: Option<usize>,
    pub(super) within: Duration,
}

/// The records found so far: time, running number, partition and message id, the oldest first.
type Newest = BinaryHeap<Reverse<(Option<i64>, usize, i32, Bytes)>>;

impl TailRequest {
    /// Reads with a client of its own and answers before it destroys the client, which may take long. Ends
    /// early when nobody waits for the answer. Blocks.
    pub(super) fn answer(&self, mut config: ClientConfig, answer: oneshot::Sender<KafkaResult<Tail>>) {
        for (name, value) in PROPERTIES {
            config.set(name, value);
        }
        match config.create_with_context::<_, BaseConsumer<Quiet>>(Quiet) {
            Ok(consumer) => {
                let tail = self.read(&consumer, || answer.is_closed());
                let _nobody_waits = answer.send(tail);
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn read(&self, consumer: &BaseConsumer<Quiet>, is_over: impl Fn() -> bool) -> KafkaResult<Tail> {
        let began = Instant::now();
        let left = |until: Duration| until.saturating_sub(began.elapsed()).min(CALL);
        // Without the leaders librdkafka would look for the end of a partition only after half a second.
        while let Err(error) = consumer.fetch_metadata(Some(&self.topic), CALL) {
            if is_over() || left(self.within).is_zero() {
                return Err(error);
            }
        }
        self.assign(consumer)?;
        let mut unread: HashSet<i32> = (0..self.partitions).collect();
        let mut newest = Newest::new();
        let mut records = 0;
        loop {
            let left = left(if unread.is_empty() { LATE_REQUESTS } else { self.within });
            if left.is_zero() || is_over() {
                break;
            }
            match consumer.poll(left) {
                Some(Ok(record)) => {
                    records += 1;
                    if let Some(id) = self.id(&record) {
                        newest.push(Reverse((
                            record.timestamp().to_millis(),
                            records,
                            record.partition(),
                            id,
                        )));
                        if newest.len() > self.ids {
                            newest.pop();
                        }
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    unread.remove(&partition);
                }
                // The consumer goes on by itself after an error that passes.
                Some(Err(error)) if is_refusal(&error) => return Err(error),
                Some(Err(_)) | None => {}
            }
        }
        let safe = self.in_sync(&consumer.fetch_metadata(Some(&self.topic), self.within)?);
        let mut ids: Vec<_> = newest.into_iter().map(|Reverse(found)| found).collect();
        ids.sort_unstable();
        ids.retain(|(_, _, partition, _)| safe.contains(partition));
        let ids = ids.into_iter().map(|(.., id)| id).collect();
        Ok(Tail { ids, records, is_complete: unread.is_empty() })
    }

    fn assign(&self, consumer: &BaseConsumer<Quiet>) -> KafkaResult<()> {
        let mut assignment = TopicPartitionList::new();
        let from_end = i64::try_from(self.records).unwrap_or(i64::MAX);
        for partition in 0..self.partitions {
            assignment.add_partition_offset(&self.topic, partition, Offset::OffsetTail(from_end))?;
        }
        consumer.assign(&assignment)
    }

    /// Returns the partitions whose records count as durable. Brokers may show a record that fewer replicas
    /// have than `min.insync.replicas` (before KIP-966), and that they have not acknowledged. If that number
    /// is not known, most replicas must be in sync.
    fn in_sync(&self, metadata: &Metadata) -> HashSet<i32> {
        let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
        let is_safe = |partition: &&MetadataPartition| {
            let wanted = self.min_in_sync.unwrap_or(partition.replicas().len() / 2 + 1);
            partition.isr().len() >= wanted
        };
        partitions.filter(is_safe).map(MetadataPartition::id).collect()
    }

    /// Returns the message id of a record of the queue.
    fn id(&self, record: &BorrowedMessage<'_>) -> Option<Bytes> {
        let found = record.headers()?;
        let value = |name| found.iter().find(|header| header.key == name)?.value;
        let is_ours = value(headers::DESTINATION) == Some(self.queue.as_bytes());
        value(headers::MESSAGE_ID).filter(|_| is_ours).map(Bytes::copy_from_slice)
    }
}

/// Whether the brokers do not let this user read the topic.
pub(super) fn is_refusal(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    error.rdkafka_error_code() == Some(Code::TopicAuthorizationFailed)
}

/// A client whose errors the sink's own clients find as well.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!("librdkafka, reading the tail: {facility}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("librdkafka, reading the tail: {error}: {reason}");
    }
}

impl ConsumerContext for Quiet {}
