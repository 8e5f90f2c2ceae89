//! Which messages of a session are not acknowledged: acknowledgements advance over a contiguous prefix (I2).

use std::collections::VecDeque;

/// What a session must know of each message until it is acknowledged, in broker order.
#[derive(Debug)]
pub struct Unacked<T> {
    messages: VecDeque<T>,
    /// The position of the last message that was acknowledged, counted from 1.
    acked: u64,
}

/// Messages to be acknowledged together: the oldest of a session that were not yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled<T> {
    /// The first of them, if they are more than one.
    pub oldest: Option<T>,
    /// The last of them.
    pub newest: T,
    /// How many they are; never 0.
    pub count: usize,
}

impl<T> Default for Unacked<T> {
    fn default() -> Self {
        Self { messages: VecDeque::new(), acked: 0 }
    }
}

impl<T> Unacked<T> {
    /// The next message has come.
    pub fn push(&mut self, message: T) {
        self.messages.push_back(message);
    }

    /// Everything up to and including position `through` is settled: what of it is to be acknowledged now.
    pub fn settle(&mut self, through: u64) -> Option<Settled<T>> {
        let count = self.up_to(through);
        let mut settled = self.messages.drain(..count);
        let newest = settled.next_back()?;
        let oldest = settled.next();
        drop(settled);
        self.acked += count as u64;
        Some(Settled { oldest, newest, count })
    }

    /// The message at position `through`, or the last one before it; none if they are all acknowledged.
    pub fn last_up_to(&self, through: u64) -> Option<&T> {
        self.messages.get(self.up_to(through).checked_sub(1)?)
    }

    /// The message that came last.
    pub fn newest(&self) -> Option<&T> {
        self.messages.back()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are none.
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
        /// Messages are their own positions.
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
                        let settles = last.map(|newest| Settled { oldest, newest, count });
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
