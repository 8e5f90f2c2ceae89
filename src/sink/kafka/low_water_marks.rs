//! Reads the low-water marks (`low_water.rs`) that a bridge of the queue has stored: they are the committed offsets
//! of a consumer group with the name of the queue.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::client::CALL;

/// The offsets from the mark to the end of each partition that has a mark.
pub(super) type Marks = BTreeMap<i32, Range<i64>>;

/// How long to wait before the same question.
const AGAIN: Duration = Duration::from_millis(20);

/// The question for the marks of a topic.
pub(super) struct MarksRequest<'a> {
    pub(super) topic: &'a str,
    pub(super) partitions: i32,
    /// How long the brokers may take for one answer.
    pub(super) within: Duration,
}

impl MarksRequest<'_> {
    /// Returns the marks of the group of the consumer that are in the topic. Blocks.
    ///
    /// # Errors
    /// As [`Self::committed`].
    pub(super) fn marks<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        is_over: impl Fn() -> bool,
    ) -> KafkaResult<Marks> {
        let committed = self.committed(consumer, is_over)?;
        if committed.is_empty() {
            return Ok(Marks::new());
        }
        let mut ends = TopicPartitionList::new();
        for &partition in committed.keys() {
            // As a time, this number stands for the end.
            ends.add_partition_offset(self.topic, partition, Offset::End)?;
        }
        let ends = offsets(&consumer.offsets_for_times(ends, self.within)?);
        let range = |(partition, mark)| Some((partition, mark..*ends.get(&partition)?));
        // A topic that was made anew may end before the mark.
        let is_in_topic = |(_, range): &(i32, Range<i64>)| range.start <= range.end;
        Ok(committed.into_iter().filter_map(range).filter(is_in_topic).collect())
    }

    /// Returns the offsets that the group of the consumer has committed. Blocks.
    ///
    /// # Errors
    /// The brokers refuse to tell ([`is_group_refusal`]), or do not answer.
    pub(super) fn committed<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        is_over: impl Fn() -> bool,
    ) -> KafkaResult<BTreeMap<i32, i64>> {
        let began = Instant::now();
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_range(self.topic, 0, self.partitions - 1);
        loop {
            let left = self.within.saturating_sub(began.elapsed());
            let error = match consumer.committed_offsets(wanted.clone(), left.min(CALL)) {
                Ok(found) => return Ok(offsets(&found)),
                Err(error) => error,
            };
            // librdkafka waits for the coordinator of the group, also if the brokers refuse to name it.
            let refusal = match consumer.poll(AGAIN) {
                Some(Err(error)) if is_group_refusal(&error) => Some(error),
                _ => None,
            };
            if refusal.is_some() || is_group_refusal(&error) || left.is_zero() || is_over() {
                return Err(refusal.unwrap_or(error));
            }
        }
    }
}

/// The offsets in a list, of the partitions that have one.
fn offsets(list: &TopicPartitionList) -> BTreeMap<i32, i64> {
    let known = list.elements().into_iter().filter(|found| found.error().is_ok());
    known
        .filter_map(|found| match found.offset() {
            Offset::Offset(offset) => Some((found.partition(), offset)),
            _ => None,
        })
        .collect()
}

/// Whether the brokers do not let this user read the offsets of the group.
pub(super) fn is_group_refusal(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(Code::GroupAuthorizationFailed)
}
