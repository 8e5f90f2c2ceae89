//! Remembers the ids of the last events that one sink or store of dead letters made durable, and of those that
//! its destination held before. The broker delivers events again after a session is lost or the bridge has
//! crashed; each of them then goes only to the destinations that do not have it yet (I5). Does no I/O.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;

/// The memory limit, in bytes for each id of the capacity (I4). The ids of ActiveMQ are several times
/// shorter, so the limit reduces the number of remembered ids only when a broker sends very long ids.
const BYTES_PER_ID: usize = 256;
/// How many ids of a destination are kept, for each id of the capacity: those of several bridges that share a
/// queue.
const CLAIMED_PER_ID: usize = 4;

/// Keeps the last ids in a ring that is limited in number and in bytes. [`Self::record`] copies an id into
/// the ring and allocates nothing. [`Self::refresh`] builds the index for look-ups, because only a new
/// session brings redeliveries.
#[derive(Debug)]
pub struct RecentIds {
    capacity: usize,
    bytes: VecDeque<u8>,
    lengths: VecDeque<usize>,
    index: HashSet<Box<[u8]>>,
    claimed: HashSet<Bytes>,
}

impl RecentIds {
    /// Creates a ring for at most `capacity` ids.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            bytes: VecDeque::new(),
            lengths: VecDeque::new(),
            index: HashSet::new(),
            claimed: HashSet::new(),
        }
    }

    /// Remembers the id of an event that is durable in the sink, or whose dead letter is durable.
    pub fn record(&mut self, id: &[u8]) {
        let most = self.capacity * BYTES_PER_ID;
        if id.len() > most {
            return;
        }
        while (self.lengths.len() == self.capacity || self.bytes.len() + id.len() > most)
            && let Some(oldest) = self.lengths.pop_front()
        {
            self.bytes.drain(..oldest);
        }
        self.bytes.extend(id);
        self.lengths.push_back(id.len());
    }

    /// Makes all ids recorded so far visible to [`Self::holds`]. Call it when a new session begins.
    pub fn refresh(&mut self) {
        self.index.clear();
        let mut rest = &*self.bytes.make_contiguous();
        for length in &self.lengths {
            let (id, others) = rest.split_at(*length);
            self.index.insert(id.into());
            rest = others;
        }
    }

    /// Replaces the ids that the destination holds. Keeps the last ones, as many as there is room for.
    pub fn claim(&mut self, ids: Vec<Bytes>) {
        let mut room = self.capacity * CLAIMED_PER_ID * BYTES_PER_ID;
        let newest = ids.into_iter().rev().take(self.capacity * CLAIMED_PER_ID);
        self.claimed = newest
            .take_while(|id| {
                let fits = id.len() <= room;
                room = room.saturating_sub(id.len());
                fits
            })
            .collect();
    }

    /// Returns whether only the destination has the id: another process wrote the event.
    pub fn is_found(&self, id: &[u8]) -> bool {
        self.claimed.contains(id) && !self.index.contains(id)
    }

    /// Returns whether the id was recorded before the last [`Self::refresh`], or is in the destination.
    pub fn holds(&self, id: &[u8]) -> bool {
        (!self.index.is_empty() && self.index.contains(id))
            || (!self.claimed.is_empty() && self.claimed.contains(id))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn enormous_ids_take_no_more_than_their_share() {
        let mut recent_ids = RecentIds::new(100);
        let id = |n: u8| vec![n; 10_000];
        (0..200).for_each(|n| recent_ids.record(&id(n)));
        recent_ids.record(&vec![0; 100 * BYTES_PER_ID + 1]);
        recent_ids.refresh();
        assert!(recent_ids.bytes.len() <= 100 * BYTES_PER_ID && recent_ids.index.len() == 2);
        assert!(recent_ids.holds(&id(199)) && recent_ids.holds(&id(198)) && !recent_ids.holds(&id(197)));
    }

    #[test]
    fn the_newest_ids_of_a_destination_are_kept_and_replaced() {
        let mut recent_ids = RecentIds::new(10);
        let ids = |numbers: std::ops::Range<u32>| numbers.map(|n| Bytes::from(n.to_string())).collect();
        recent_ids.claim(ids(0..100));
        assert!(recent_ids.holds(b"99") && recent_ids.holds(b"60") && !recent_ids.holds(b"59"));
        recent_ids.claim(ids(100..101));
        assert!(recent_ids.holds(b"100") && !recent_ids.holds(b"99"));
        let enormous = Bytes::from(vec![0; 10 * CLAIMED_PER_ID * BYTES_PER_ID]);
        recent_ids.claim(vec![enormous, Bytes::from_static(b"new")]);
        assert!(recent_ids.holds(b"new") && recent_ids.claimed.len() == 1);
    }

    proptest! {
        #[test]
        fn holds_exactly_the_last_ids(
            ids in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..4), 0..60),
            capacity in 1usize..20,
            probe in proptest::collection::vec(0u8..3, 0..4),
        ) {
            let mut recent_ids = RecentIds::new(capacity);
            for id in &ids {
                recent_ids.record(id);
            }
            prop_assert!(!recent_ids.holds(&probe));
            recent_ids.refresh();
            let last = &ids[ids.len().saturating_sub(capacity)..];
            prop_assert_eq!(recent_ids.holds(&probe), last.contains(&probe));
            for id in last {
                prop_assert!(recent_ids.holds(id));
            }
        }
    }
}
