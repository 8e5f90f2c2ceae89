//! Which publishes have no answer yet.

use std::collections::VecDeque;
use std::time::Instant;

use crate::sink::DeliveryId;

/// Publishes on the way, in the order of submission, each with its moment. Memory follows the oldest that has
/// no answer: the lane hands over no more than the prefetch beyond it, since nothing behind it is acknowledged.
#[derive(Debug, Default)]
pub(super) struct NatsInFlight {
    /// The id of the first slot.
    first: u64,
    slots: VecDeque<Option<Instant>>,
    flying: usize,
}

impl NatsInFlight {
    /// One more is on the way; ids grow.
    pub(super) fn begin(&mut self, id: DeliveryId, now: Instant) {
        if self.slots.is_empty() {
            self.first = id.0;
        }
        // What was refused here, without being sent, leaves a gap.
        while self.first + (self.slots.len() as u64) < id.0 {
            self.slots.push_back(None);
        }
        self.slots.push_back(Some(now));
        self.flying += 1;
    }

    /// Its answer has come; `false` for one that is not on the way.
    pub(super) fn land(&mut self, id: DeliveryId) -> bool {
        let slot = id.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let landed = slot.and_then(|index| self.slots.get_mut(index)).and_then(Option::take).is_some();
        if landed {
            self.flying -= 1;
            self.trim();
        }
        landed
    }

    /// The answer to it and to all before it has come; answers which those are.
    pub(super) fn land_through(&mut self, id: DeliveryId) -> Vec<DeliveryId> {
        let mut landed = Vec::new();
        while self.first <= id.0
            && let Some(slot) = self.slots.pop_front()
        {
            landed.extend(slot.map(|_| DeliveryId(self.first)));
            self.first += 1;
        }
        self.flying -= landed.len();
        self.trim();
        landed
    }

    /// How many have no answer.
    pub(super) fn flying(&self) -> usize {
        self.flying
    }

    /// Since when the oldest has been waiting.
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
        /// Held against a map of everything on the way.
        #[test]
        fn every_answer_counts_once(steps in prop::collection::vec((0..4u8, 0..40u64), 0..200)) {
            let start = Instant::now();
            let (mut flights, mut model, mut next) = (NatsInFlight::default(), BTreeMap::new(), 5);
            for (step, (kind, number)) in (0u64..).zip(steps) {
                match kind {
                    0 | 1 => {
                        next += u64::from(kind) * 2;
                        let now = start + Duration::from_millis(step);
                        flights.begin(DeliveryId(next), now);
                        model.insert(next, now);
                        next += 1;
                    }
                    2 => prop_assert_eq!(flights.land(DeliveryId(number)), model.remove(&number).is_some()),
                    _ => {
                        let later = model.split_off(&(number + 1));
                        let landed: Vec<u64> = std::mem::replace(&mut model, later).into_keys().collect();
                        let ids = flights.land_through(DeliveryId(number));
                        prop_assert_eq!(ids.into_iter().map(|id| id.0).collect::<Vec<_>>(), landed);
                    }
                }
                prop_assert_eq!(flights.flying(), model.len());
                prop_assert_eq!(flights.oldest(), model.values().next().copied());
            }
        }
    }
}
