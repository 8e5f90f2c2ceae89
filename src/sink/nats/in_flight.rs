//! Tracks the publishes that have no answer yet.

use std::collections::VecDeque;
use std::time::Instant;

use crate::sink::DeliveryId;

/// The publishes in flight, in the order of submission, each with its time. The size depends on the oldest
/// publish without an answer. It is limited: no event behind that one is acknowledged, so the worker hands
/// over at most the prefetch beyond it.
#[derive(Debug, Default)]
pub(super) struct NatsInFlight {
    first: u64,
    slots: VecDeque<Option<Instant>>,
    count: usize,
}

impl NatsInFlight {
    /// Adds a publish. Its id must be larger than all before.
    pub(super) fn begin(&mut self, id: DeliveryId, now: Instant) {
        if self.slots.is_empty() {
            self.first = id.0;
        }
        // A delivery that the sink refused without sending it leaves a gap.
        while self.first + (self.slots.len() as u64) < id.0 {
            self.slots.push_back(None);
        }
        self.slots.push_back(Some(now));
        self.count += 1;
    }

    /// Removes a publish, because its answer has arrived. Returns `false` if it is not in flight.
    pub(super) fn answer(&mut self, id: DeliveryId) -> bool {
        let slot = id.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let answered = slot.and_then(|index| self.slots.get_mut(index)).and_then(Option::take).is_some();
        if answered {
            self.count -= 1;
            self.trim();
        }
        answered
    }

    /// Removes the publish with this id and all before it, because they are answered. Returns their ids.
    pub(super) fn answer_through(&mut self, id: DeliveryId) -> Vec<DeliveryId> {
        let mut answered = Vec::new();
        while self.first <= id.0
            && let Some(slot) = self.slots.pop_front()
        {
            answered.extend(slot.map(|_| DeliveryId(self.first)));
            self.first += 1;
        }
        self.count -= answered.len();
        self.trim();
        answered
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.slots.front().copied().flatten()
    }

    fn trim(&mut self) {
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Compares it with a map of all publishes in flight.
        #[test]
        fn every_answer_counts_once(steps in prop::collection::vec((0..4u8, 0..40u64), 0..200)) {
            let start = Instant::now();
            let (mut in_flight, mut model, mut next) = (NatsInFlight::default(), BTreeMap::new(), 5);
            for (step, (kind, number)) in (0u64..).zip(steps) {
                match kind {
                    0 | 1 => {
                        next += u64::from(kind) * 2;
                        let now = start + Duration::from_millis(step);
                        in_flight.begin(DeliveryId(next), now);
                        model.insert(next, now);
                        next += 1;
                    }
                    2 => prop_assert_eq!(in_flight.answer(DeliveryId(number)), model.remove(&number).is_some()),
                    _ => {
                        let later = model.split_off(&(number + 1));
                        let answered: Vec<u64> = std::mem::replace(&mut model, later).into_keys().collect();
                        let ids = in_flight.answer_through(DeliveryId(number));
                        prop_assert_eq!(ids.into_iter().map(|id| id.0).collect::<Vec<_>>(), answered);
                    }
                }
                prop_assert_eq!(in_flight.count(), model.len());
                prop_assert_eq!(in_flight.oldest(), model.values().next().copied());
            }
        }
    }
}
