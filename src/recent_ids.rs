//! Remembers the ids of the last events that one sink or store of dead letters made durable, and of those that
//! its destination held before. The broker delivers events again after a session is lost or the bridge has
//! crashed; each of them then goes only to the destinations that do not have it yet (I5). Does no I/O.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

/// The memory limit, in bytes for each id of the capacity (I4). The ids of ActiveMQ are several times
/// shorter, so the limit reduces the number of remembered ids only when a broker sends very long ids.
const BYTES_PER_ID: usize = 256;
/// How many ids of a destination are kept. They must reach back to the events of a bridge that was frozen: the
/// broker takes up to 30 s to notice that, and other bridges of the queue write on meanwhile.
const CLAIMED: usize = 65_536;

/// Keeps the last ids in a ring that is limited in number and in bytes. [`Self::record`] copies an id into
/// the ring and allocates nothing. [`Self::refresh`] builds the index for look-ups, because only a new
/// session brings redeliveries.
#[derive(Debug)]
pub struct RecentIds {
    capacity: usize,
    bytes: VecDeque<u8>,
    lengths: VecDeque<usize>,
    index: HashSet<Box<[u8]>>,
    /// Fingerprints instead of ids: there are many, and each takes 16 bytes.
    claimed: HashSet<u128>,
    keys: [RandomState; 2],
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
            keys: [RandomState::new(), RandomState::new()],
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
        let newest = ids.iter().rev().take(CLAIMED.max(self.capacity));
        self.claimed = newest.map(|id| self.fingerprint(id)).collect();
    }

    /// Two ids have the same fingerprint with a probability of 2^-128.
    fn fingerprint(&self, id: &[u8]) -> u128 {
        let [high, low] = self.keys.each_ref().map(|key| u128::from(key.hash_one(id)));
        high << 64 | low
    }

    fn is_claimed(&self, id: &[u8]) -> bool {
        !self.claimed.is_empty() && self.claimed.contains(&self.fingerprint(id))
    }

    /// Returns whether only the destination has the id: another process wrote the event.
    pub fn is_found(&self, id: &[u8]) -> bool {
        self.is_claimed(id) && !self.index.contains(id)
    }

    /// Returns whether the id was recorded before the last [`Self::refresh`], or is in the destination.
    pub fn holds(&self, id: &[u8]) -> bool {
        (!self.index.is_empty() && self.index.contains(id)) || self.is_claimed(id)
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
        let ids = |numbers: std::ops::Range<usize>| numbers.map(|n| Bytes::from(n.to_string())).collect();
        recent_ids.claim(ids(0..CLAIMED + 10));
        assert!(recent_ids.holds((CLAIMED + 9).to_string().as_bytes()));
        assert!(recent_ids.holds(b"10") && !recent_ids.holds(b"9"));
        recent_ids.claim(ids(5..6));
        assert!(recent_ids.is_found(b"5") && !recent_ids.holds(b"10"));
        recent_ids.record(b"5");
        recent_ids.refresh();
        assert!(recent_ids.holds(b"5") && !recent_ids.is_found(b"5"));
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
