//! Sends the first record of a producer in each partition alone.
//!
//! A broker compares the sequence numbers of an idempotent producer with the last ones that it has stored for
//! this producer in the partition. While it has stored none, it accepts any number. So if it refuses the first
//! request of a partition, it accepts a second one that was sent meanwhile, and records overtake each other
//! (I3; seen with Kafka 4.4 by `tests/it/sinks/kafka/first_request.rs`). That is why nothing follows the first
//! record until it is durable (D48).

use std::time::{Duration, Instant};

use crate::sink::DeliveryId;

/// After this time without a record the broker may have forgotten the producer. Kafka's own default is a day
/// (`producer.id.expiration.ms`).
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Knows which partitions wait for their first record. It belongs to one connection.
#[derive(Default)]
pub(super) struct FirstRecords {
    /// When the last record was sent to each partition; `None` where the broker may not know the producer.
    sent: Vec<Option<Instant>>,
    /// The first records that have no verdict yet, and their partitions.
    waiting: Vec<(DeliveryId, u32)>,
}

impl FirstRecords {
    /// Returns whether this delivery may be sent to `partition` now. If so, it counts as sent.
    pub(super) fn admit(&mut self, id: DeliveryId, partition: u32, now: Instant) -> bool {
        if self.waiting.iter().any(|&(_, waiting)| waiting == partition) {
            return false;
        }
        let index = partition as usize;
        if index >= self.sent.len() {
            self.sent.resize(index + 1, None);
        }
        let last = self.sent[index].replace(now);
        if last.is_none_or(|last| now.duration_since(last) >= FORGOTTEN) {
            self.waiting.push((id, partition));
        }
        true
    }

    /// Records the verdict on a delivery.
    pub(super) fn answered(&mut self, id: DeliveryId, is_durable: bool) {
        let Some(place) = self.waiting.iter().position(|&(waiting, _)| waiting == id) else { return };
        let (_, partition) = self.waiting.swap_remove(place);
        if !is_durable {
            self.sent[partition as usize] = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_durable_record_lets_others_of_its_partition_follow() {
        let now = Instant::now();
        let mut first = FirstRecords::default();
        assert!(first.admit(DeliveryId(0), 3, now));
        assert!(!first.admit(DeliveryId(1), 3, now));
        assert!(first.admit(DeliveryId(1), 0, now), "another partition");
        first.answered(DeliveryId(1), true);
        assert!(!first.admit(DeliveryId(2), 3, now));
        first.answered(DeliveryId(0), true);
        assert!((2..9).all(|id| first.admit(DeliveryId(id), 3, now)));
    }

    #[test]
    fn after_a_refused_record_the_next_one_is_the_first() {
        let now = Instant::now();
        let mut first = FirstRecords::default();
        assert!(first.admit(DeliveryId(0), 0, now));
        first.answered(DeliveryId(0), false);
        assert!(first.admit(DeliveryId(1), 0, now));
        assert!(!first.admit(DeliveryId(2), 0, now));
    }

    #[test]
    fn a_partition_without_records_for_a_while_begins_again() {
        let begin = Instant::now();
        let mut first = FirstRecords::default();
        assert!(first.admit(DeliveryId(0), 0, begin));
        first.answered(DeliveryId(0), true);
        // Each record extends the time.
        let almost = FORGOTTEN - Duration::from_millis(1);
        assert!(first.admit(DeliveryId(1), 0, begin + almost));
        assert!(first.admit(DeliveryId(2), 0, begin + 2 * almost));
        let late = begin + 2 * almost + FORGOTTEN;
        assert!(first.admit(DeliveryId(3), 0, late));
        assert!(!first.admit(DeliveryId(4), 0, late));
    }
}
