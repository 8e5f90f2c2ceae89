//! Finds out where the partitions of a topic end.
//!
//! A reader of committed records sees nothing behind an open transaction, not even records that were written
//! without one. So if another application of a shared topic has one open, the end that such a reader finds is not
//! the end of the topic.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;

/// The end of each partition: the offset of the next record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicEnd(Vec<i64>);

impl TopicEnd {
    #[cfg(test)]
    pub(super) fn at(offsets: &[i64]) -> Self {
        Self(offsets.to_vec())
    }

    /// Asks the leaders, with one request to each. The end is the one for the isolation level of `consumer`.
    /// Blocks.
    pub(super) fn ask<C: ConsumerContext>(
        consumer: &BaseConsumer<C>,
        topic: &str,
        partitions: i32,
        within: Duration,
    ) -> KafkaResult<Self> {
        let mut asked = TopicPartitionList::new();
        for partition in 0..partitions {
            asked.add_partition_offset(topic, partition, Offset::End)?;
        }
        let answer = consumer.offsets_for_times(asked, within)?;
        let end = |partition| match answer.find_partition(topic, partition) {
            Some(found) => found.error().and_then(|()| offset(found.offset())),
            None => Err(KafkaError::OffsetFetch(Code::UnknownPartition)),
        };
        (0..partitions).map(end).collect::<KafkaResult<_>>().map(Self)
    }

    /// The end of one partition, if it exists.
    pub(super) fn of(&self, partition: i32) -> Option<i64> {
        usize::try_from(partition).ok().and_then(|partition| self.0.get(partition)).copied()
    }

    /// The end of each partition.
    pub(super) fn places(&self) -> BTreeMap<i32, i64> {
        (0..).zip(self.0.iter().copied()).collect()
    }

    /// Whether every partition ends here or behind.
    pub(super) fn reaches(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(here, there)| here >= there)
    }
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
    }
}
