//! Knows from which offset of each partition on the newest records of this bridge are found: its low-water mark.
//! Does no I/O.
//!
//! After a crash the broker delivers again only what it has not seen acknowledged. That is never more than
//! `prefetch` events for each bridge, so they are among the last records that the bridge has written, or found in
//! the topic. A count of records therefore suffices, and no acknowledgement must be followed: `window` is several
//! times the prefetch (D7). Other programs may have written any number of records in between.

use std::collections::BTreeMap;
use std::mem::take;

/// The lowest offset of each partition in the last `window` to 2 × `window` records. Two maps take turns: it is
/// exact enough to know the lowest offset of each, and takes two numbers for each partition instead of a ring of
/// all offsets (I4).
#[derive(Debug, Default)]
pub(super) struct LowWater {
    window: usize,
    /// How many records of the bridge are in `current`.
    count: usize,
    current: BTreeMap<i32, i64>,
    previous: BTreeMap<i32, i64>,
}

impl LowWater {
    /// Takes what a claim has found as well: it may come again after the next crash too. `places` has the lowest
    /// offset of each partition that must be read next time. They count as long as a record that is written now.
    pub(super) fn claimed(&mut self, window: usize, places: impl IntoIterator<Item = (i32, i64)>) {
        self.window = window;
        for (partition, offset) in places {
            lower(&mut self.current, partition, offset);
        }
    }

    /// Counts a record that is durable. Its offset is negative if the brokers did not say it, as for a record that
    /// they had already; its place is then somewhere behind the mark.
    pub(super) fn durable(&mut self, partition: i32, offset: i64) {
        let offset = if offset < 0 { self.mark(partition) } else { Some(offset) };
        if let Some(offset) = offset {
            lower(&mut self.current, partition, offset);
        }
        self.count += 1;
        if self.count >= self.window {
            self.count = 0;
            self.previous = take(&mut self.current);
        }
    }

    /// The mark of each partition that has one.
    pub(super) fn marks(&self) -> BTreeMap<i32, i64> {
        let mut marks = self.previous.clone();
        self.current.iter().for_each(|(&partition, &offset)| lower(&mut marks, partition, offset));
        marks
    }

    fn mark(&self, partition: i32) -> Option<i64> {
        [&self.previous, &self.current].into_iter().filter_map(|marks| marks.get(&partition)).min().copied()
    }
}

fn lower(marks: &mut BTreeMap<i32, i64>, partition: i32, offset: i64) {
    marks.entry(partition).and_modify(|mark| *mark = offset.min(*mark)).or_insert(offset);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(window: usize) -> LowWater {
        LowWater { window, ..LowWater::default() }
    }

    #[test]
    fn what_was_claimed_is_kept_until_a_window_of_records_is_written() {
        let mut low_water = LowWater::default();
        low_water.claimed(3, [(0, 7), (1, 2), (0, 9)]);
        (100..103).for_each(|offset| low_water.durable(0, offset));
        assert_eq!(low_water.marks(), [(0, 7), (1, 2)].into());
        (103..106).for_each(|offset| low_water.durable(0, offset));
        assert_eq!(low_water.marks(), [(0, 103)].into());
    }

    #[test]
    fn a_record_with_an_unknown_offset_keeps_the_mark_of_its_partition() {
        let mut low_water = of(2);
        low_water.durable(0, -1001);
        assert_eq!(low_water.marks(), BTreeMap::new(), "nothing is known");
        low_water.durable(0, 5);
        low_water.durable(0, -1001);
        low_water.durable(1, 8);
        assert_eq!(low_water.marks(), [(0, 5), (1, 8)].into());
    }

    #[test]
    fn a_topic_that_is_made_anew_begins_at_its_new_offsets() {
        let mut low_water = of(2);
        [900, 901, 902, 0].into_iter().for_each(|offset| low_water.durable(0, offset));
        assert_eq!(low_water.marks(), [(0, 0)].into());
    }

    proptest! {
        /// No mark is behind one of the last `window` records, and none is before the last 2 × `window`.
        #[test]
        fn marks_are_between_one_and_two_windows_back(
            partitions in proptest::collection::vec(0i32..4, 0..200),
            claims in proptest::collection::vec(0usize..200, 0..4),
            window in 1usize..30,
        ) {
            let mut low_water = of(window);
            // One topic, to whose partitions others write as well.
            let written: Vec<_> = (1i64..).zip(partitions).map(|(n, partition)| (partition, n * 3)).collect();
            for (n, &(partition, offset)) in written.iter().enumerate() {
                if claims.contains(&n) {
                    low_water.claimed(window, written[n.saturating_sub(window)..n].iter().copied());
                }
                low_water.durable(partition, offset);
            }
            let marks = low_water.marks();
            for (partition, offset) in written.iter().rev().take(window) {
                prop_assert!(marks[partition] <= *offset);
            }
            // What was claimed had been written up to a window before.
            let oldest = written.len().saturating_sub(3 * window);
            let low = written.get(oldest).map_or(0, |(_, offset)| *offset);
            prop_assert!(marks.values().all(|mark| *mark >= low), "{marks:?} {low}");
        }
    }
}
