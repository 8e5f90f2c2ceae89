//! Finds out where the partitions of a topic end.
//!
//! A reader of committed records sees nothing behind an open transaction, not even records that were written
//! without one. So if another application of a shared topic has one open, the end that such a reader finds is not
//! the end of the topic.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::client::CALL;

/// The end of some partitions: the offset of the next record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TopicEnd(BTreeMap<i32, i64>);

impl TopicEnd {
    #[cfg(test)]
    pub(super) fn at(offsets: &[i64]) -> Self {
        Self((0..).zip(offsets.iter().copied()).collect())
    }

    /// Finds the leaders of all partitions and asks them. `within` limits each of both steps. Gives up early when
    /// it `is_over`. Blocks.
    pub(super) fn find<C: ConsumerContext>(
        consumer: &BaseConsumer<C>,
        topic: &str,
        partitions: i32,
        within: Duration,
        is_over: impl Fn() -> bool,
    ) -> KafkaResult<Self> {
        let began = Instant::now();
        // Without the leaders librdkafka would look for the end of a partition only after half a second.
        let mut patience = CALL;
        while let Err(error) = consumer.fetch_metadata(Some(topic), patience) {
            if began.elapsed() >= within || is_over() {
                return Err(error);
            }
            patience += CALL;
        }
        Self::ask(consumer, topic, 0..partitions, within)
    }

    /// Asks the leaders of these partitions, with one request to each. The end is the one for the isolation level of
    /// `consumer`. Blocks.
    pub(super) fn ask<C: ConsumerContext>(
        consumer: &BaseConsumer<C>,
        topic: &str,
        partitions: impl IntoIterator<Item = i32>,
        within: Duration,
    ) -> KafkaResult<Self> {
        let mut asked = TopicPartitionList::new();
        for partition in partitions {
            asked.add_partition_offset(topic, partition, Offset::End)?;
        }
        let answer = consumer.offsets_for_times(asked, within)?;
        let end = |found: &TopicPartitionListElem<'_>| {
            found.error()?;
            Ok((found.partition(), offset(found.offset())?))
        };
        answer.elements().iter().map(end).collect::<KafkaResult<_>>().map(Self)
    }

    /// Notes that a partition has a record at `offset`.
    pub(super) fn add(&mut self, partition: i32, offset: i64) {
        let end = self.0.entry(partition).or_default();
        *end = (*end).max(offset + 1);
    }

    /// The end of one partition, if it is known.
    pub(super) fn of(&self, partition: i32) -> Option<i64> {
        self.0.get(&partition).copied()
    }

    /// The end of each partition.
    pub(super) fn places(&self) -> &BTreeMap<i32, i64> {
        &self.0
    }

    /// The partitions of `other` that end there behind their end here.
    pub(super) fn short_of(&self, other: &Self) -> Vec<i32> {
        let is_short = |(partition, end): &(&i32, &i64)| self.of(**partition).is_none_or(|here| here < **end);
        other.0.iter().filter(is_short).map(|(&partition, _)| partition).collect()
    }

    /// Whether every partition of `other` ends here as there, or behind.
    pub(super) fn reaches(&self, other: &Self) -> bool {
        self.short_of(other).is_empty()
    }
}

/// Whether the broker that was asked is not the leader any more, or does not know yet that it is.
pub(super) fn is_leader_change(error: &KafkaError) -> bool {
    let Some(code) = error.rdkafka_error_code() else { return false };
    matches!(
        code,
        Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::ReplicaNotAvailable
    )
}

fn offset(found: Offset) -> KafkaResult<i64> {
    match found {
        Offset::Offset(offset) => Ok(offset),
        _ => Err(KafkaError::OffsetFetch(Code::OffsetOutOfRange)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_must_reach_the_end() {
        assert!(TopicEnd::at(&[3, 5]).reaches(&TopicEnd::at(&[3, 4])));
        assert!(!TopicEnd::at(&[3, 5]).reaches(&TopicEnd::at(&[4, 4])));
        assert!(!TopicEnd::at(&[3]).reaches(&TopicEnd::at(&[3, 0])));
        assert_eq!(TopicEnd::at(&[3, 5, 1]).short_of(&TopicEnd::at(&[3, 6, 2])), [1, 2]);
    }

    #[test]
    fn the_end_is_behind_the_last_record() {
        let mut end = TopicEnd::default();
        for (partition, offset) in [(2, 0), (0, 7), (0, 5)] {
            end.add(partition, offset);
        }
        assert_eq!((end.of(0), end.of(1), end.of(2)), (Some(8), None, Some(1)));
    }
}
