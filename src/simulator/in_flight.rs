//! Tracks the messages that one consumer was given and has not acknowledged, as runs with consecutive
//! delivery numbers. The ack ids carry these numbers.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::stream::Run;

/// A run with the delivery number of its first message.
#[derive(Clone, Debug)]
pub(crate) struct DeliveredMessages {
    pub(crate) number: u64,
    pub(crate) run: Run,
}

impl DeliveredMessages {
    fn end(&self) -> u64 {
        self.number + self.run.count
    }

    /// Splits off the first `count` messages, which must be fewer than all.
    pub(crate) fn split_front(&mut self, count: u64) -> Self {
        let front = Self { number: self.number, run: self.run.split_front(count) };
        self.number += count;
        front
    }
}

/// The un-acked deliveries of one consumer, in the order of dispatch.
#[derive(Debug, Default)]
pub(crate) struct ConsumerWindow {
    messages: VecDeque<DeliveredMessages>,
    count: u64,
}

impl ConsumerWindow {
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Appends deliveries, whose numbers must follow all earlier ones.
    pub(crate) fn push(&mut self, delivered: DeliveredMessages) {
        self.count += delivered.run.count;
        self.messages.push_back(delivered);
    }

    /// Returns the un-acked messages in the order of dispatch.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.messages.iter().map(|delivered| delivered.run.clone())
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.position(number).is_some()
    }

    pub(crate) fn first(&self) -> Option<u64> {
        self.messages.front().map(|delivered| delivered.number)
    }

    /// Returns the delivery number of message `number` of `producer`.
    pub(crate) fn find(&self, producer: u64, number: u64) -> Option<u64> {
        self.locate(|run| Some(run.first).filter(|_| run.stream.producer == producer), number)
    }

    /// Returns the delivery number of the message with this broker-wide sequence number.
    pub(crate) fn find_sequence(&self, sequence: u64) -> Option<u64> {
        self.locate(|run| Some(run.sequence), sequence)
    }

    /// Finds the message `wanted`; `first_of` gives the number of the first message of a run.
    fn locate(&self, first_of: impl Fn(&Run) -> Option<u64>, wanted: u64) -> Option<u64> {
        self.messages.iter().find_map(|delivered| {
            let at = wanted.checked_sub(first_of(&delivered.run)?)?;
            (at < delivered.run.count).then_some(delivered.number + at)
        })
    }

    pub(crate) fn count_in(&self, numbers: RangeInclusive<u64>) -> u64 {
        let overlap = |delivered: &DeliveredMessages| {
            let (first, last) =
                (delivered.number.max(*numbers.start()), (delivered.end() - 1).min(*numbers.end()));
            (last + 1).saturating_sub(first)
        };
        self.messages.iter().map(overlap).sum()
    }

    /// Removes the deliveries of a range and returns how many there were.
    pub(crate) fn remove(&mut self, numbers: RangeInclusive<u64>) -> u64 {
        let (first, last) = numbers.into_inner();
        let before = self.count;
        let mut at = self.messages.partition_point(|delivered| delivered.end() <= first);
        while let Some(delivered) = self.messages.get_mut(at).filter(|delivered| delivered.number <= last) {
            if delivered.number < first {
                let kept = delivered.split_front(first - delivered.number);
                self.messages.insert(at, kept);
                at += 1;
            } else if delivered.end() > last + 1 {
                self.count -= delivered.split_front(last + 1 - delivered.number).run.count;
            } else {
                self.count -= delivered.run.count;
                self.messages.remove(at);
            }
        }
        before - self.count
    }

    /// Adds one redelivery to every delivery up to and including `last`.
    pub(crate) fn mark_through(&mut self, last: u64) {
        let mut at = 0;
        while let Some(delivered) = self.messages.get_mut(at).filter(|delivered| delivered.number <= last) {
            if delivered.end() > last + 1 {
                let marked = delivered.split_front(last + 1 - delivered.number);
                self.messages.insert(at, marked);
            } else {
                delivered.run.redeliveries += 1;
                at += 1;
            }
        }
    }

    /// Returns all un-acked messages, newest first.
    pub(crate) fn into_runs_newest_first(self) -> impl Iterator<Item = Run> {
        self.messages.into_iter().rev().map(|delivered| delivered.run)
    }

    fn position(&self, number: u64) -> Option<usize> {
        let after = self.messages.partition_point(|delivered| delivered.number <= number);
        let position = after.checked_sub(1)?;
        (number < self.messages.get(position)?.end()).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::form::Form;
    use super::super::stream::{Content, EventStream};
    use super::*;

    /// Deliveries 1 to 30 in three runs, of messages 11 to 40.
    fn window() -> ConsumerWindow {
        let content = Content::Body(Form::Text, Bytes::new());
        let stream =
            EventStream { producer: 1, namespace: "acme".into(), started_ms: 0, rate: None, content };
        let stream = Arc::new(stream);
        let mut window = ConsumerWindow::default();
        for number in [1, 11, 21] {
            let run = Run { sequence: number + 100, ..Run::new(Arc::clone(&stream), number + 10, 10) };
            window.push(DeliveredMessages { number, run });
        }
        window
    }

    fn plain(window: &ConsumerWindow) -> BTreeMap<u64, u32> {
        let each = |delivered: &DeliveredMessages| {
            let (number, run) = (delivered.number, delivered.run.clone());
            (0..run.count).map(move |n| {
                assert_eq!((run.first + n, run.sequence + n), (number + n + 10, number + n + 100));
                (number + n, run.redeliveries)
            })
        };
        window.messages.iter().flat_map(each).collect()
    }

    proptest! {
        #[test]
        fn it_does_what_a_list_would(
            steps in prop::collection::vec((any::<bool>(), 0u64..35, 0u64..35), 0..12)
        ) {
            let mut window = window();
            let mut model: BTreeMap<u64, u32> = (1..=30).map(|number| (number, 0)).collect();
            for (remove, first, last) in steps {
                let inside = model.keys().filter(|number| (first..=last).contains(number)).count() as u64;
                prop_assert_eq!(window.count_in(first..=last), inside);
                if remove {
                    prop_assert_eq!(window.remove(first..=last), inside);
                    model.retain(|number, _| !(first..=last).contains(number));
                } else {
                    window.mark_through(last);
                    model.range_mut(..=last).for_each(|(_, redeliveries)| *redeliveries += 1);
                }
                prop_assert_eq!(&plain(&window), &model);
                prop_assert_eq!(window.count(), model.len() as u64);
                prop_assert_eq!(window.first(), model.keys().next().copied());
                let delivery = model.contains_key(&first).then_some(first);
                prop_assert_eq!(window.find(1, first + 10), delivery);
                prop_assert_eq!(window.find_sequence(first + 100), delivery);
            }
        }
    }
}
