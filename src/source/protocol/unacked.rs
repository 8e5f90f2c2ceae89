//! Tracks which messages of a session are not acknowledged. Acknowledgements advance over a contiguous prefix
//! (I2).

use std::collections::VecDeque;

/// What a session must remember of each message until it is acknowledged, in broker order.
#[derive(Debug)]
pub struct Unacked<T> {
    messages: VecDeque<T>,
    /// The position of the last message that was acknowledged, counted from 1.
    acked: u64,
}

/// Messages to acknowledge together: the oldest unacknowledged ones of a session.
#[derive(Debug, PartialEq, Eq)]
pub struct SettledRange<T> {
    /// The first of them, if there is more than one.
    pub oldest: Option<T>,
    /// The last of them, which the acknowledgement names.
    pub newest: T,
    /// The number of messages, at least 1.
    pub count: usize,
}

impl<T> Default for Unacked<T> {
    fn default() -> Self {
        Self { messages: VecDeque::new(), acked: 0 }
    }
}

impl<T> Unacked<T> {
    /// Adds the next message that has come.
    pub fn push(&mut self, message: T) {
        self.messages.push_back(message);
    }

    /// Notes that everything up to and including position `through` is settled, and returns the messages to
    /// acknowledge now.
    pub fn settle(&mut self, through: u64) -> Option<SettledRange<T>> {
        let count = self.up_to(through);
        let mut settled = self.messages.drain(..count);
        let newest = settled.next_back()?;
        let oldest = settled.next();
        drop(settled);
        self.acked += count as u64;
        Some(SettledRange { oldest, newest, count })
    }

    /// Returns the message at position `through`, or the last one before it; none if they are all
    /// acknowledged.
    pub fn last_up_to(&self, through: u64) -> Option<&T> {
        self.messages.get(self.up_to(through).checked_sub(1)?)
    }

    /// Returns the message that came last.
    pub fn newest(&self) -> Option<&T> {
        self.messages.back()
    }

    /// Returns the number of unacknowledged messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether no message is unacknowledged.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn up_to(&self, through: u64) -> usize {
        let count = usize::try_from(through.saturating_sub(self.acked)).unwrap_or(usize::MAX);
        count.min(self.messages.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The messages in this test are their own positions.
        #[test]
        fn every_message_is_settled_once_and_in_order(
            steps in prop::collection::vec(prop_oneof![Just(None), (0..30_u64).prop_map(Some)], 0..60),
        ) {
            let mut unacked = Unacked::default();
            let (mut came, mut settled) = (0, 0);
            for step in steps {
                match step {
                    None => {
                        came += 1;
                        unacked.push(came);
                    }
                    Some(through) => {
                        let expected = through.min(came);
                        let last = (expected > settled).then_some(expected);
                        prop_assert_eq!(unacked.last_up_to(through).copied(), last);
                        let count = expected.saturating_sub(settled) as usize;
                        let oldest = (count > 1).then_some(settled + 1);
                        let settles = last.map(|newest| SettledRange { oldest, newest, count });
                        prop_assert_eq!(unacked.settle(through), settles);
                        settled = settled.max(expected);
                    }
                }
                prop_assert_eq!(unacked.len() as u64, came - settled);
                prop_assert_eq!(unacked.newest().copied(), (came > settled).then_some(came));
                prop_assert_eq!(unacked.is_empty(), came == settled);
            }
        }
    }
}
