//! What a sink already holds: the ids of the last events it made durable, so that after a session loss a
//! redelivered event goes only to the sinks that still lack it (I5). Pure.

use std::collections::{HashSet, VecDeque};

/// How many bytes of ids are kept for each id that may be, altogether: several times what ActiveMQ's take, so that
/// only a broker with enormous ids makes it remember fewer of them (I4).
const BYTES_PER_ID: usize = 256;

/// The last ids, exactly, in a ring bounded in number and bytes. Recording copies an id into the ring and allocates nothing;
/// the index for look-ups is built when a new session makes redeliveries possible.
#[derive(Debug)]
pub(super) struct RecentIds {
    capacity: usize,
    bytes: VecDeque<u8>,
    lengths: VecDeque<usize>,
    index: HashSet<Box<[u8]>>,
}

impl RecentIds {
    /// Remembers `capacity` ids.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, bytes: VecDeque::new(), lengths: VecDeque::new(), index: HashSet::new() }
    }

    /// The sink has made this event durable, or its dead letter is durable.
    pub(super) fn record(&mut self, id: &[u8]) {
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

    /// A new session begins: look-ups from now on find everything recorded before.
    pub(super) fn refresh(&mut self) {
        self.index.clear();
        let mut rest = &*self.bytes.make_contiguous();
        for length in &self.lengths {
            let (id, others) = rest.split_at(*length);
            self.index.insert(id.into());
            rest = others;
        }
    }

    /// Whether the event was recorded before the last [`Memory::refresh`].
    pub(super) fn holds(&self, id: &[u8]) -> bool {
        !self.index.is_empty() && self.index.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn enormous_ids_take_no_more_than_their_share() {
        let mut memory = RecentIds::new(100);
        let id = |n: u8| vec![n; 10_000];
        (0..200).for_each(|n| memory.record(&id(n)));
        memory.record(&vec![0; 100 * BYTES_PER_ID + 1]);
        memory.refresh();
        assert!(memory.bytes.len() <= 100 * BYTES_PER_ID && memory.index.len() == 2);
        assert!(memory.holds(&id(199)) && memory.holds(&id(198)) && !memory.holds(&id(197)));
    }

    proptest! {
        #[test]
        fn holds_exactly_the_last_ids(
            ids in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..4), 0..60),
            capacity in 1usize..20,
            probe in proptest::collection::vec(0u8..3, 0..4),
        ) {
            let mut memory = RecentIds::new(capacity);
            for id in &ids {
                memory.record(id);
            }
            prop_assert!(!memory.holds(&probe));
            memory.refresh();
            let last = &ids[ids.len().saturating_sub(capacity)..];
            prop_assert_eq!(memory.holds(&probe), last.contains(&probe));
            for id in last {
                prop_assert!(memory.holds(id));
            }
        }
    }
}
