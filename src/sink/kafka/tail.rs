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

use super::client::{CALL, READABLE_WITHIN};
use super::low_water_marks::{self, Marks, MarksRequest};
use super::tail_end::TopicEnd;
use crate::sink::headers;

/// The properties of a consumer that reads to the end. It is given its partitions, so it joins no group and stores
/// nothing.
pub(super) const PROPERTIES: [(&str, &str); 10] = [
    // A follower may not have the last records yet.
    ("client.rack", ""),
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

/// The time between two questions whether an open transaction has ended.
const OPEN_TRANSACTION: Duration = Duration::from_millis(50);

/// How long an open transaction may hide the end of a partition. What is still open then, and of this queue, is
/// discarded; so the connection that has written it must not wait for readers any longer.
const OPEN_WITHIN: Duration = Duration::from_secs(13);
const _: () = assert!(OPEN_WITHIN.as_secs() > READABLE_WITHIN.as_secs());

/// The longest that the tail is read, as long as records come.
const LONGEST: Duration = Duration::from_secs(60);

/// The newest ids that were found, and how.
pub(super) struct TopicTail {
    /// The newest last, by the time of their records.
    pub(super) ids: Vec<Bytes>,
    /// How many records were read.
    pub(super) records: usize,
    pub(super) extent: TailExtent,
    /// Whether there were too many records since the low-water marks, so that only the last ones were read.
    pub(super) is_cut: bool,
    /// For each partition, from where on the newest records of the queue are found next time, as many as were read
    /// of each partition at least. Without such a record it is the end.
    pub(super) places: BTreeMap<i32, i64>,
}

/// How far the tail was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TailExtent {
    /// To the end of every partition.
    Complete,
    /// Not to every end in time.
    TimedOut,
    /// In these partitions only to an open transaction.
    OpenTransaction(Vec<i32>),
    /// To the end, but a partition has too few replicas in sync.
    NotInSync,
}

impl TailExtent {
    /// Why the tail says too little, if it does.
    pub(super) fn missing(&self) -> Option<&'static str> {
        match self {
            Self::Complete => None,
            Self::TimedOut => Some("the brokers did not answer in time"),
            Self::OpenTransaction(_) => {
                Some("a transaction is open (kafka-transactions.sh describe-producers shows whose)")
            }
            Self::NotInSync => Some("a partition has fewer replicas in sync than min.insync.replicas"),
        }
    }
}

/// The part of a topic that is read, and which of its records count.
pub(super) struct TopicTailRequest {
    pub(super) topic: String,
    pub(super) partitions: i32,
    /// The name of the queue: records of other queues do not count.
    pub(super) queue: String,
    /// The name of the consumer group with the low-water marks.
    pub(super) group: String,
    /// How many records of each partition are read.
    pub(super) records: usize,
    /// How many ids are kept at most.
    pub(super) ids: usize,
    /// No earlier bridge can write into the topic any more.
    pub(super) is_fenced: bool,
    /// The topic's `min.insync.replicas`, if it is known.
    pub(super) min_in_sync: Option<usize>,
    /// How long the brokers may be silent.
    pub(super) within: Duration,
    /// How long the brokers may take to name the low-water marks.
    pub(super) marks_within: Duration,
}

impl TopicTailRequest {
    /// Reads with a client of its own and answers before it destroys the client, which may take long. Ends
    /// early when nobody waits for the answer. Blocks.
    pub(super) fn answer(&self, mut config: ClientConfig, answer: oneshot::Sender<KafkaResult<TopicTail>>) {
        config.set("group.id", &self.group);
        for (name, value) in PROPERTIES {
            config.set(name, value);
        }
        let committed = config.create_with_context::<_, BaseConsumer<Quiet>>(Quiet);
        let all = config
            .set("isolation.level", "read_uncommitted")
            .create_with_context::<_, BaseConsumer<Quiet>>(Quiet);
        match committed.and_then(|committed| Ok((committed, all?))) {
            Ok((committed, all)) => {
                let reading =
                    TailReading { request: self, began: Instant::now(), is_over: &|| answer.is_closed() };
                let tail = reading.read(&committed, &all);
                let _nobody_waits = answer.send(tail);
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Returns the low-water marks that are further back than what is read in any case, and whether they were
    /// too far back. Without an answer there is none: a mark only ever extends what is read.
    fn marks(
        &self,
        consumer: &BaseConsumer<Quiet>,
        end: &TopicEnd,
        is_over: impl Fn() -> bool,
    ) -> (Marks, bool) {
        let Self { topic, partitions, queue, marks_within, .. } = self;
        let request = MarksRequest { topic, partitions: *partitions, within: *marks_within };
        let mut marks = request.committed(consumer, is_over).unwrap_or_else(|error| {
            tracing::debug!("the offsets of the group {queue} are not known: {error}");
            Marks::new()
        });
        let (records, is_cut) = low_water_marks::keep_far(&mut marks, end, self.records);
        if records > 0 {
            tracing::info!(
                "reading {records} records of {} partitions of the topic {topic} since the last known position of \
                 the queue {queue}",
                marks.len()
            );
        }
        (marks, is_cut)
    }

    fn assign(&self, consumer: &BaseConsumer<Quiet>, marks: &Marks) -> KafkaResult<()> {
        let mut assignment = TopicPartitionList::new();
        let last = Offset::OffsetTail(i64::try_from(self.records).unwrap_or(i64::MAX));
        for partition in 0..self.partitions {
            let from = marks.get(&partition).map_or(last, |&mark| Offset::Offset(mark));
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

/// One reading of the tail.
struct TailReading<'a> {
    request: &'a TopicTailRequest,
    began: Instant,
    /// Nobody waits for the result any more.
    is_over: &'a (dyn Fn() -> bool + Sync),
}

impl TailReading<'_> {
    /// Reads what `committed` sees, to the end that `all` sees.
    fn read(&self, committed: &BaseConsumer<Quiet>, all: &BaseConsumer<Quiet>) -> KafkaResult<TopicTail> {
        // Both at once, because each needs connections of its own.
        let (visible, wanted) = std::thread::scope(|scope| {
            let wanted = scope.spawn(|| self.end(all));
            (self.end(committed), wanted.join())
        });
        let (mut visible, wanted) = (visible?, wanted.unwrap_or(Err(KafkaError::Canceled))?);
        if !visible.reaches(&wanted) {
            // Others write into the topic; most likely they only wrote in between.
            visible = self.end(committed)?;
        }
        let (mut marks, mut is_cut) = self.request.marks(committed, &visible, self.is_over);
        let (mut newest, mut extent) = self.pass(committed, &marks)?;
        if extent == TailExtent::TimedOut && !marks.is_empty() {
            (marks, is_cut) = (Marks::new(), true);
            (newest, extent) = self.pass(committed, &marks)?;
        }
        if !visible.reaches(&wanted) {
            match self.wait_for(&wanted, committed)? {
                // What is visible only now is not in what was read.
                open if open.is_empty() => (newest, extent) = self.pass(committed, &marks)?,
                open => extent = TailExtent::OpenTransaction(open),
            }
        }
        let safe =
            self.request.in_sync(&committed.fetch_metadata(Some(&self.request.topic), self.request.within)?);
        // Committed records are durable all the same, but not those of an earlier bridge without transactions.
        let is_known = self.request.min_in_sync.is_some();
        let mut partitions = 0..self.request.partitions;
        let is_in_sync = partitions.all(|partition| safe.contains(&partition));
        if extent == TailExtent::Complete && self.request.is_fenced && is_known && !is_in_sync {
            extent = TailExtent::NotInSync;
        }
        let is_safe = |partition| (self.request.is_fenced && !is_known) || safe.contains(&partition);
        let (records, found) = (newest.records, newest.oldest_first(is_safe));
        let mut places = visible.places().clone();
        for (_, _, partition, offset, _) in found.iter().rev().take(self.request.records) {
            places.entry(*partition).and_modify(|place| *place = *offset.min(place));
        }
        let ids = found.into_iter().map(|(.., id)| id).collect();
        Ok(TopicTail { ids, records, extent, is_cut, places })
    }

    fn end(&self, consumer: &BaseConsumer<Quiet>) -> KafkaResult<TopicEnd> {
        let TopicTailRequest { topic, partitions, within, .. } = self.request;
        TopicEnd::find(consumer, topic, *partitions, *within, self.is_over)
    }

    /// Waits until `consumer` sees everything before `wanted`. Returns the partitions in which that takes too long.
    fn wait_for(&self, wanted: &TopicEnd, consumer: &BaseConsumer<Quiet>) -> KafkaResult<Vec<i32>> {
        let began = Instant::now();
        loop {
            let open = self.end(consumer)?.short_of(wanted);
            let left = OPEN_WITHIN.saturating_sub(began.elapsed());
            if open.is_empty() || left.is_zero() || (self.is_over)() {
                return Ok(open);
            }
            // What comes meanwhile is read once more.
            drop(consumer.poll(left.min(OPEN_TRANSACTION)));
        }
    }

    /// Reads each partition from its mark, or its last records, to the end that `consumer` sees.
    fn pass(
        &self,
        consumer: &BaseConsumer<Quiet>,
        marks: &Marks,
    ) -> KafkaResult<(NewestRecords, TailExtent)> {
        let request = self.request;
        let mut newest = NewestRecords::default();
        request.assign(consumer, marks)?;
        let mut unread: HashSet<i32> = (0..request.partitions).collect();
        let began = Instant::now();
        let mut heard = began;
        loop {
            let silent = request.within.saturating_sub(heard.elapsed());
            let left = match unread.is_empty() {
                true => LATE_REQUESTS.saturating_sub(self.began.elapsed()),
                false => silent.min(LONGEST.saturating_sub(began.elapsed())),
            };
            if left.is_zero() || (self.is_over)() {
                let is_read = unread.is_empty();
                return Ok((newest, if is_read { TailExtent::Complete } else { TailExtent::TimedOut }));
            }
            match consumer.poll(left.min(CALL)) {
                Some(Ok(record)) => {
                    // What others go on writing behind an end is no progress of the partitions that are left.
                    if unread.contains(&record.partition()) {
                        heard = Instant::now();
                    }
                    newest.add(&record, request);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    heard = Instant::now();
                    unread.remove(&partition);
                }
                // The consumer goes on by itself after an error that passes.
                Some(Err(error)) if is_refusal(&error) => return Err(error),
                Some(Err(_)) | None => {}
            }
        }
    }
}

/// A record of the queue: time, running number, partition, offset and message id.
type FoundRecord = (Option<i64>, usize, i32, i64, Bytes);

/// The records found so far.
#[derive(Default)]
struct NewestRecords {
    /// How many records were read, those of other queues included.
    records: usize,
    /// Those of the queue, the oldest first.
    found: BinaryHeap<Reverse<FoundRecord>>,
}

impl NewestRecords {
    fn add(&mut self, record: &BorrowedMessage<'_>, request: &TopicTailRequest) {
        self.records += 1;
        let Some(id) = request.id(record) else { return };
        let time = record.timestamp().to_millis();
        self.found.push(Reverse((time, self.records, record.partition(), record.offset(), id)));
        if self.found.len() > request.ids {
            self.found.pop();
        }
    }

    fn oldest_first(self, is_safe: impl Fn(i32) -> bool) -> Vec<FoundRecord> {
        let mut found: Vec<_> = self.found.into_iter().map(|Reverse(found)| found).collect();
        found.sort_unstable();
        found.retain(|(_, _, partition, ..)| is_safe(*partition));
        found
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
