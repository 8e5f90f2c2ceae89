//! Stores the low-water marks (`low_water.rs`) as the committed offsets of a consumer group with the name of the
//! queue, where the next bridge of the queue finds them. No delivery waits for it, and nothing fails with it:
//! without the marks a bridge reads fewer records after a crash.
//!
//! It keeps one consumer for the life of the sink: 0.5 to 0.8 MB, and four threads and one more for each broker of a
//! cluster, all idle (measured). A new one for each commit would log in 17,000 times a day, which the brokers log.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::classify;
use super::client::ClientSettings;
use super::client_threads::{THREADS, ThreadGroup};
use super::low_water_marks::{MarksRequest, is_group_refusal};
use super::names::Names;
use super::reconnect_state::ReconnectState;
use super::tail::{Quiet, is_refusal};
use crate::sink::SinkContext;

/// The wait between two commits.
const EVERY: Duration = Duration::from_secs(5);
/// After this time marks that have not changed are committed again, because brokers forget the offsets of a group
/// without members after some time (`offsets.retention.minutes`). A refused commit is tried again then, too.
const AGAIN: Duration = Duration::from_secs(3600);
/// The longest wait until one commit is stored. The end of the bridge waits too.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The properties of the consumer. It gets no partitions and joins no group.
const PROPERTIES: [(&str, &str); 5] = [
    ("enable.auto.commit", "false"),
    ("statistics.interval.ms", "0"),
    ("topic.metadata.refresh.interval.ms", "-1"),
    // A commit without a coordinator waits so long, and the end of the client with it.
    ("session.timeout.ms", "2000"),
    ("heartbeat.interval.ms", "1000"),
];

/// Stores the marks until it is dropped, and then once more.
pub(super) struct LowWaterCommits {
    _sink_lives: SyncSender<()>,
}

struct Committer {
    config: ClientConfig,
    names: Names,
    state: ReconnectState,
    consumer: Option<BaseConsumer<Quiet>>,
    /// The marks that the brokers have, and when they got them.
    done: Option<(BTreeMap<i32, i64>, Instant)>,
    /// When the brokers last refused a commit.
    refused: Option<Instant>,
}

impl LowWaterCommits {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can't be another thread.
    pub(super) fn start(
        client: &ClientSettings,
        context: &SinkContext,
        names: &Names,
        state: ReconnectState,
    ) -> io::Result<Self> {
        let mut config = client.config(&context.connection_id, client.batch_bytes(), Duration::ZERO);
        for (name, value) in PROPERTIES {
            config.set(name, value);
        }
        config.set("group.id", context.writer());
        let committer =
            Committer { config, names: names.clone(), state, consumer: None, done: None, refused: None };
        let (sink_lives, ended) = sync_channel(0);
        // No connection waits for this thread, only the end of the process.
        let thread = THREADS.one_more(&ThreadGroup::default());
        thread.start(format!("{}-marks", context.sink), move || committer.run(&ended))?;
        Ok(Self { _sink_lives: sink_lives })
    }
}

impl Committer {
    fn run(mut self, ended: &Receiver<()>) {
        loop {
            self.commit();
            if ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected) {
                return self.commit();
            }
        }
    }

    fn commit(&mut self) {
        let marks = self.state.low_water_marks();
        let is_done = self.done.as_ref().is_some_and(|(done, at)| *done == marks && at.elapsed() < AGAIN);
        if is_done || marks.is_empty() || self.refused.is_some_and(|at| at.elapsed() < AGAIN) {
            return;
        }
        match self.ask(&marks) {
            Ok(()) => self.done = Some((marks, Instant::now())),
            Err(error) if is_group_refusal(&error) || is_refusal(&error) => {
                if self.refused.is_none() {
                    tracing::info!("{}", classify::marks_refused(&self.names));
                }
                self.refused = Some(Instant::now());
                self.consumer = None;
            }
            Err(error) => {
                tracing::debug!("the low-water marks of {} are not stored: {error}", self.names.topic)
            }
        }
    }

    fn ask(&mut self, marks: &BTreeMap<i32, i64>) -> KafkaResult<()> {
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => self.config.create_with_context(Quiet)?,
        };
        let consumer = self.consumer.insert(consumer);
        let mut offsets = TopicPartitionList::new();
        for (&partition, &mark) in marks {
            offsets.add_partition_offset(&self.names.topic, partition, Offset::Offset(mark))?;
        }
        // No answer comes to this call, so ask for what was stored. The broker answers in the order of the requests.
        consumer.commit(&offsets, CommitMode::Async)?;
        let partitions = marks.keys().next_back().map_or(0, |last| last + 1);
        let request = MarksRequest { topic: &self.names.topic, partitions, within: ANSWER_WITHIN };
        let stored = request.committed(consumer, || false)?;
        match marks.iter().all(|(partition, mark)| stored.get(partition) == Some(mark)) {
            true => Ok(()),
            false => Err(KafkaError::ConsumerCommit(Code::NoOffset)),
        }
    }
}
