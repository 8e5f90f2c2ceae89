//! Finds out which events the topic holds already ([`Sink::claim`](crate::sink::Sink::claim)).

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;

use super::client::ANSWER_WITHIN;
use super::client_threads::THREADS;
use super::low_water_commits::LowWaterCommits;
use super::tail::{TailExtent, TopicTail, TopicTailRequest, is_refusal};
use super::tail_end::is_leader_change;
use super::{KafkaSink, classify};
use crate::sink::{Held, SinkError};

/// How many records of each partition are read at least.
const RECORDS: usize = 4096;
/// How many ids are kept at most, if the worker does not want more.
const IDS: usize = 65_536;

impl KafkaSink {
    /// Takes the transactional id over, unless this connection has it: after that no other bridge can commit
    /// anything. A later claim of the same session need not do it again: if another bridge has taken the id over
    /// in between, our next commit fails.
    pub(super) async fn fence(&self) -> Result<(), SinkError> {
        match self.gate.as_ref().and_then(|gate| gate.initialise()) {
            Some(answer) => answer.await.map_err(ended)?,
            None => Ok(()),
        }
    }

    /// Discards what earlier transactions of the queue have left open in these partitions. An open transaction of
    /// another producer stays.
    async fn discard_open(&mut self, partitions: &[i32]) -> Result<(), SinkError> {
        let Some(gate) = &self.gate else { return Ok(()) };
        let warning = format!(
            "a transaction is open in the partitions {partitions:?} of the topic {}: ending it, if it is of this queue",
            self.names.topic
        );
        self.claim_failures.warn(&self.context.sink, warning);
        gate.discard_open(partitions.to_vec()).await.map_err(ended)?
    }

    /// Finds out which events of the queue the last records of each partition are.
    pub(super) async fn held(
        &mut self,
        partitions: NonZeroU32,
        at_least: usize,
    ) -> Result<Option<Held>, SinkError> {
        let request = self.tail_request(partitions, at_least).await;
        let (records, began) = (request.records, Instant::now());
        match self.read_tail(request).await? {
            Ok(tail) => self.held_in(tail, records, began.elapsed()).await,
            Err(error) => self.held_without_tail(&error),
        }
    }

    async fn tail_request(&mut self, partitions: NonZeroU32, at_least: usize) -> TopicTailRequest {
        let min_in_sync = self.topic_settings().await.min_in_sync();
        TopicTailRequest {
            topic: self.names.topic.clone(),
            partitions: i32::try_from(partitions.get()).unwrap_or(i32::MAX),
            queue: self.context.queue.clone(),
            group: self.names.group(),
            records: at_least.max(RECORDS),
            ids: IDS.max(at_least),
            is_fenced: self.settings.exactly_once,
            min_in_sync,
            within: ANSWER_WITHIN,
            marks_within: self.settings.optional_answer_within,
        }
    }

    /// Reads the tail of the topic in a thread of its own, because librdkafka's calls block.
    async fn read_tail(&self, request: TopicTailRequest) -> Result<Result<TopicTail, KafkaError>, SinkError> {
        let client = &self.settings.client;
        let config = client.config(&self.context.connection_id, client.batch_bytes(), Duration::ZERO);
        let (answer, asked) = oneshot::channel();
        let thread = THREADS.one_more(&self.threads);
        let read = move || request.answer(config, answer);
        let started = thread.start(format!("{}-tail", self.context.sink), read);
        started.map_err(|error| SinkError::unavailable("cannot start a thread").caused_by(error))?;
        Ok(asked.await.map_err(|_| KafkaError::Canceled).flatten())
    }

    /// Returns the events in the tail. The reading took so long.
    async fn held_in(
        &mut self,
        tail: TopicTail,
        records: usize,
        took: Duration,
    ) -> Result<Option<Held>, SinkError> {
        if let Some(why) = tail.extent.missing() {
            if let TailExtent::OpenTransaction(partitions) = &tail.extent {
                self.discard_open(partitions).await?;
            }
            return self.not_read(why, tail.ids);
        }
        self.claim_failures.end();
        self.tell(&tail, took);
        self.keep_marks(records, tail.places);
        Ok(Some(Held { ids: tail.ids }))
    }

    /// Decides whether the sink goes on if the tail can't be read.
    fn held_without_tail(&mut self, error: &KafkaError) -> Result<Option<Held>, SinkError> {
        let is_strict = self.settings.exactly_once;
        let warning = match error {
            _ if is_refusal(error) && is_strict => {
                return Err(SinkError::misconfigured(classify::not_allowed_to_read(&self.names)));
            }
            _ if is_refusal(error) => classify::not_allowed_to_read(&self.names),
            KafkaError::ClientCreation(_) | KafkaError::ClientConfig(..) if !is_strict => {
                classify::can_come_twice(&self.names, &format!("no consumer can be made: {error}"))
            }
            _ if is_outage(error) => {
                self.claim_failures.end();
                return Err(self.unread(&error.to_string()));
            }
            _ => return self.not_read(&error.to_string(), Vec::new()),
        };
        self.claim_failures.warn(&self.context.sink, warning);
        Ok(None)
    }

    /// Starts to store the low-water marks, which the first claim sets.
    fn keep_marks(&mut self, window: usize, places: BTreeMap<i32, i64>) {
        self.reconnect_state.claimed(window, places);
        if self.low_water_commits.is_none() {
            let (client, state) = (&self.settings.client, self.reconnect_state.clone());
            let commits = LowWaterCommits::start(client, &self.context, &self.names, state);
            self.low_water_commits = commits
                .inspect_err(|error| tracing::debug!("the low-water marks are not stored: {error}"))
                .ok();
        }
    }

    fn tell(&mut self, tail: &TopicTail, took: Duration) {
        let TopicTail { ids, records, .. } = tail;
        if tail.is_cut {
            let why = "too many records were written to it since the last known position, so only the last were read";
            self.claim_failures.warn(&self.context.sink, classify::can_come_twice(&self.names, why));
        }
        tracing::info!(
            sink = self.context.sink,
            "the last {records} records of the topic {} hold {} events of this queue, which are not written again \
             (read in {} ms)",
            self.names.topic,
            ids.len(),
            took.as_millis()
        );
    }

    fn unread(&self, why: &str) -> SinkError {
        SinkError::unavailable(format!(
            "can't read the last records of the topic {}: {why}",
            self.names.topic
        ))
    }

    /// Lets the worker try again, or go on with the ids that were found, unless events must not come twice.
    fn not_read(&mut self, why: &str, ids: Vec<bytes::Bytes>) -> Result<Option<Held>, SinkError> {
        if self.settings.exactly_once || !self.claim_failures.are_too_many(Instant::now()) {
            return Err(self.unread(why));
        }
        let why = format!("its last records can't be read: {why}");
        self.claim_failures.warn(&self.context.sink, classify::can_come_twice(&self.names, &why));
        Ok(Some(Held { ids }))
    }
}

/// Whether the brokers take no records either, for the same reason.
fn is_outage(error: &KafkaError) -> bool {
    let Some(code) = error.rdkafka_error_code() else { return false };
    let is_cluster_away = matches!(
        code,
        Code::KafkaStorageError
            // librdkafka's answer if no partition has a leader. Opening the sink finds a topic that is missing.
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::BrokerNotAvailable
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::RequestTimedOut
    );
    is_cluster_away || is_leader_change(error)
}

fn ended(_: RecvError) -> SinkError {
    SinkError::unavailable("the connection to the brokers has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_topic_that_takes_no_records_either_is_an_outage() {
        let outages = [
            KafkaError::OffsetFetch(Code::LeaderNotAvailable),
            KafkaError::MetadataFetch(Code::UnknownPartition),
            KafkaError::MetadataFetch(Code::OperationTimedOut),
        ];
        assert!(outages.iter().all(is_outage));
        let others = [KafkaError::OffsetFetch(Code::UnsupportedVersion), KafkaError::Canceled];
        assert!(!others.iter().any(is_outage));
    }
}
