//! Reads the low-water marks (`low_water.rs`) that a bridge of the queue has stored: they are the committed offsets
//! of a consumer group with the name of the queue.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::client::CALL;
use super::tail_end::TopicEnd;

/// The mark of each partition that has one.
pub(super) type Marks = BTreeMap<i32, i64>;

/// The most records that are read since the marks. A topic with more has so many of other programs that events
/// should not wait for them.
pub(super) const MOST_RECORDS: i64 = 1_000_000;

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
    /// Returns the offsets that the group of the consumer has committed. Blocks.
    ///
    /// # Errors
    /// The brokers refuse to tell ([`is_group_refusal`]), or do not answer.
    pub(super) fn committed<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        is_over: impl Fn() -> bool,
    ) -> KafkaResult<Marks> {
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

/// Keeps the marks that are more than `read_anyway` records before the end of their partition, and moves them forward
/// where the records from them on would be too many. Returns how many records there are now, and whether a mark was
/// moved. In a topic that was made anew a mark may be behind the end.
pub(super) fn keep_far(marks: &mut Marks, end: &TopicEnd, read_anyway: usize) -> (i64, bool) {
    let records = |partition, mark| end.of(partition).map_or(0, |end| end - mark);
    let read_anyway = i64::try_from(read_anyway).unwrap_or(i64::MAX);
    marks.retain(|&partition, &mut mark| records(partition, mark) > read_anyway);
    let share = MOST_RECORDS / i64::try_from(marks.len().max(1)).unwrap_or(i64::MAX);
    let (mut all, mut is_cut) = (0, false);
    for (&partition, mark) in marks {
        let too_many = records(partition, *mark) - share.max(read_anyway);
        if too_many > 0 {
            *mark += too_many;
            is_cut = true;
        }
        all += records(partition, *mark);
    }
    (all, is_cut)
}

/// The offsets in a list, of the partitions that have one.
fn offsets(list: &TopicPartitionList) -> Marks {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marks_that_are_further_back_than_what_is_read_anyway_are_kept() {
        let mut marks = Marks::from([(0, 100), (1, 950), (2, 2000), (3, 5)]);
        let end = TopicEnd::at(&[1000, 1000, 1000]);
        assert_eq!(
            keep_far(&mut marks, &end, 50),
            (900, false),
            "1 is near, 2 is behind the end, 3 does not exist"
        );
        assert_eq!(marks, [(0, 100)].into());
    }

    #[test]
    fn no_more_records_are_read_than_may_be() {
        let mut marks = Marks::from([(0, 0), (1, 0)]);
        let end = TopicEnd::at(&[10 * MOST_RECORDS, 1000]);
        assert_eq!(keep_far(&mut marks, &end, 50), (MOST_RECORDS / 2 + 1000, true));
        assert_eq!(marks, [(0, 10 * MOST_RECORDS - MOST_RECORDS / 2), (1, 0)].into());
    }
}
