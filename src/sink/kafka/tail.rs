//! Reads the tail of each partition for the message ids of the newest records of a queue, so that the bridge
//! does not write again what was written before a crash.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};
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

use super::client::CALL;
use super::low_water_marks::{Marks, MarksRequest};
use crate::sink::headers;

/// The properties of the consumer. It is given its partitions, so it joins no group and stores nothing.
const PROPERTIES: [(&str, &str); 9] = [
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

/// The longest that the records since the low-water marks are read. A topic that takes longer has so many of other
/// programs that events should not wait for them.
const LONGEST: Duration = Duration::from_secs(300);

/// The newest ids that were found, and how.
pub(super) struct Tail {
    /// The newest last, by the time of their records.
    pub(super) ids: Vec<Bytes>,
    /// How many records were read.
    pub(super) records: usize,
    /// Whether the end of every partition was reached in time.
    pub(super) is_complete: bool,
    /// Whether the records since the low-water marks were too many, so that only the last ones were read.
    pub(super) is_cut: bool,
    /// For each partition that was read to its end, from where on the newest records of the queue are found next
    /// time, as many as were read of each partition at least. Without such a record it is the end.
    pub(super) places: BTreeMap<i32, i64>,
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
    /// How long the brokers may be silent.
    pub(super) within: Duration,
    /// How long the brokers may take to name the low-water marks.
    pub(super) marks_within: Duration,
}

/// A record of the queue: time, running number, partition, offset and message id.
type Found = (Option<i64>, usize, i32, i64, Bytes);

/// What was read so far.
#[derive(Default)]
struct Reading {
    records: usize,
    /// The newest records of the queue, the oldest first.
    newest: BinaryHeap<Reverse<Found>>,
    /// The offset behind the last record of each partition.
    next: BTreeMap<i32, i64>,
    /// The partitions whose end was not reached.
    unread: HashSet<i32>,
}

impl TailRequest {
    /// Reads with a client of its own and answers before it destroys the client, which may take long. Ends
    /// early when nobody waits for the answer. Blocks.
    pub(super) fn answer(&self, mut config: ClientConfig, answer: oneshot::Sender<KafkaResult<Tail>>) {
        config.set("group.id", &self.queue);
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
        // Without the leaders librdkafka would look for the end of a partition only after half a second.
        while let Err(error) = consumer.fetch_metadata(Some(&self.topic), CALL) {
            if is_over() || began.elapsed() >= self.within {
                return Err(error);
            }
        }
        let marks = self.marks(consumer, &is_over);
        let mut reading = Reading::default();
        self.read_from(consumer, &marks, &mut reading, &is_over)?;
        let is_cut = !reading.unread.is_empty() && began.elapsed() >= LONGEST;
        if is_cut {
            self.read_from(consumer, &Marks::new(), &mut reading, &is_over)?;
        }
        let safe = self.in_sync(&consumer.fetch_metadata(Some(&self.topic), self.within)?);
        let Reading { records, newest, next, unread } = reading;
        let mut found: Vec<_> = newest.into_iter().map(|Reverse(found)| found).collect();
        found.sort_unstable();
        found.retain(|(_, _, partition, ..)| safe.contains(partition));
        let read = (0..self.partitions).filter(|partition| !unread.contains(partition));
        // A partition without a record is empty: it is read from its beginning next time.
        let mut places: BTreeMap<_, _> =
            read.map(|partition| (partition, next.get(&partition).copied().unwrap_or(0))).collect();
        for (_, _, partition, offset, _) in found.iter().rev().take(self.records) {
            places.entry(*partition).and_modify(|place| *place = *offset.min(place));
        }
        let ids = found.into_iter().map(|(.., id)| id).collect();
        Ok(Tail { ids, records, is_complete: unread.is_empty(), is_cut, places })
    }

    /// Returns the low-water marks that are further back than what is read in any case. Without an answer there is
    /// none: a mark only ever extends what is read.
    fn marks(&self, consumer: &BaseConsumer<Quiet>, is_over: impl Fn() -> bool) -> Marks {
        let Self { topic, partitions, queue, marks_within, .. } = self;
        let request = MarksRequest { topic, partitions: *partitions, within: *marks_within };
        let mut marks = request.marks(consumer, is_over).unwrap_or_else(|error| {
            tracing::debug!("the offsets of the group {queue} are not known: {error}");
            Marks::new()
        });
        let read_anyway = i64::try_from(self.records).unwrap_or(i64::MAX);
        marks.retain(|_, range| range.end - range.start > read_anyway);
        if !marks.is_empty() {
            let records: i64 = marks.values().map(|range| range.end - range.start).sum();
            tracing::info!(
                "reading {records} records of {} partitions of the topic {topic} since the last known position of \
                 the queue {queue}",
                marks.len()
            );
        }
        marks
    }

    /// Reads the partitions from their marks, or the last records of those that have none, until the end of each.
    /// Gives up when the brokers are silent for too long, or when there are too many records.
    fn read_from(
        &self,
        consumer: &BaseConsumer<Quiet>,
        marks: &Marks,
        reading: &mut Reading,
        is_over: impl Fn() -> bool,
    ) -> KafkaResult<()> {
        self.assign(consumer, marks)?;
        reading.unread = (0..self.partitions).collect();
        let began = Instant::now();
        let mut heard = began;
        loop {
            let left = match reading.unread.is_empty() {
                true => LATE_REQUESTS.saturating_sub(began.elapsed()),
                false => {
                    self.within.saturating_sub(heard.elapsed()).min(LONGEST.saturating_sub(began.elapsed()))
                }
            };
            if left.is_zero() || is_over() {
                return Ok(());
            }
            match consumer.poll(left.min(CALL)) {
                Some(Ok(record)) => {
                    // What others go on writing behind an end is no progress of the partitions that are left.
                    if reading.unread.contains(&record.partition()) {
                        heard = Instant::now();
                    }
                    reading.take(&record, self);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    heard = Instant::now();
                    reading.unread.remove(&partition);
                }
                // The consumer goes on by itself after an error that passes.
                Some(Err(error)) if is_refusal(&error) => return Err(error),
                Some(Err(_)) | None => {}
            }
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Quiet>, marks: &Marks) -> KafkaResult<()> {
        let mut assignment = TopicPartitionList::new();
        let last = Offset::OffsetTail(i64::try_from(self.records).unwrap_or(i64::MAX));
        for partition in 0..self.partitions {
            let from = marks.get(&partition).map_or(last, |range| Offset::Offset(range.start));
            assignment.add_partition_offset(&self.topic, partition, from)?;
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

impl Reading {
    fn take(&mut self, record: &BorrowedMessage<'_>, request: &TailRequest) {
        let (partition, offset) = (record.partition(), record.offset());
        self.records += 1;
        self.next.insert(partition, offset + 1);
        if let Some(id) = request.id(record) {
            let time = record.timestamp().to_millis();
            self.newest.push(Reverse((time, self.records, partition, offset, id)));
            if self.newest.len() > request.ids {
                self.newest.pop();
            }
        }
    }
}

/// Whether the brokers do not let this user read the topic.
pub(super) fn is_refusal(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    error.rdkafka_error_code() == Some(Code::TopicAuthorizationFailed)
}

/// A client whose errors the sink's own clients find as well.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!("librdkafka, reading the topic: {facility}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("librdkafka, reading the topic: {error}: {reason}");
    }
}

impl ConsumerContext for Quiet {}
