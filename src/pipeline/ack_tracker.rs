//! Who still owes what: for every event of the current session, in broker order, the lanes that have not
//! settled it. Pure; the heart of I1 and I2.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Instant;

use crate::event::SessionId;

/// A set of lanes, by their number; at most 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkSet(u64);

impl SinkSet {
    /// How many lanes a set can hold.
    pub const MOST: usize = u64::BITS as usize;

    /// The set of one lane.
    pub fn of(lane: usize) -> Self {
        Self(1 << lane)
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A lane says it has settled what it does not owe: a bug, and nothing may be acknowledged after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lane {lane} settled position {position}, which it does not owe")]
pub struct NotOwedError {
    /// Which lane.
    pub lane: usize,
    /// Which position of the current session.
    pub position: u64,
}

/// See the module text.
#[derive(Debug, Default)]
pub struct AckTracker {
    session: Option<SessionId>,
    /// The position of the first event in `owed`.
    first: u64,
    owed: VecDeque<SinkSet>,
    /// The last position of each batch, and when it was received.
    batches: VecDeque<(u64, Instant)>,
}

impl AckTracker {
    /// A session begins, at position 1; whatever was owed before is void.
    pub fn begin(&mut self, session: SessionId) {
        self.end();
        self.session = Some(session);
        self.first = 1;
    }

    /// The session is over: nothing of it will be acknowledged any more.
    pub fn end(&mut self) {
        self.session = None;
        self.owed.clear();
        self.batches.clear();
    }

    /// The session whose events are taken.
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Where the next event will stand.
    pub fn next_position(&self) -> u64 {
        self.first + self.owed.len() as u64
    }

    /// Takes one event after another, each with the lanes that owe it; never an empty set, since an event
    /// nobody has settled is not settled (I1).
    pub fn take(&mut self, received: Instant, owed: impl Iterator<Item = SinkSet>) {
        self.owed.extend(owed.inspect(|owed| debug_assert!(!owed.is_empty())));
        self.batches.push_back((self.next_position() - 1, received));
    }

    /// `lane` has settled `positions` of `session`. Answers the end of the settled prefix if it has moved:
    /// everything up to it may be acknowledged. News of an earlier session changes nothing.
    ///
    /// # Errors
    /// The lane does not owe one of them.
    pub fn settle(
        &mut self,
        session: SessionId,
        lane: usize,
        positions: RangeInclusive<u64>,
    ) -> Result<Option<u64>, NotOwedError> {
        if self.session != Some(session) {
            return Ok(None);
        }
        for position in positions {
            let index = position.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
            let owed =
                index.and_then(|index| self.owed.get_mut(index)).ok_or(NotOwedError { lane, position })?;
            let left = owed.without(SinkSet::of(lane));
            if left == *owed {
                return Err(NotOwedError { lane, position });
            }
            *owed = left;
        }
        let settled = self.owed.iter().take_while(|owed| owed.is_empty()).count();
        if settled == 0 {
            return Ok(None);
        }
        self.owed.drain(..settled);
        self.first += settled as u64;
        while self.batches.front().is_some_and(|(last, _)| *last < self.first) {
            self.batches.pop_front();
        }
        Ok(Some(self.first - 1))
    }

    /// Events taken and not yet part of the settled prefix.
    pub fn outstanding(&self) -> usize {
        self.owed.len()
    }

    /// When the oldest of them was received.
    pub fn oldest(&self) -> Option<Instant> {
        self.batches.front().map(|(_, received)| *received)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const LANES: usize = 3;

    fn all() -> SinkSet {
        (0..LANES).map(SinkSet::of).fold(SinkSet::default(), SinkSet::with)
    }

    #[test]
    fn a_lane_cannot_settle_what_it_does_not_owe() {
        let mut ledger = AckTracker::default();
        ledger.begin(SessionId(1));
        ledger.take(Instant::now(), [SinkSet::of(0)].into_iter());
        assert_eq!(ledger.settle(SessionId(1), 1, 1..=1), Err(NotOwedError { lane: 1, position: 1 }));
        assert_eq!(ledger.settle(SessionId(1), 0, 1..=2), Err(NotOwedError { lane: 0, position: 2 }));
        assert_eq!(ledger.settle(SessionId(1), 0, 0..=0), Err(NotOwedError { lane: 0, position: 0 }));
    }

    #[test]
    fn news_of_an_earlier_session_acknowledges_nothing() {
        let mut ledger = AckTracker::default();
        ledger.begin(SessionId(1));
        ledger.take(Instant::now(), [SinkSet::of(0)].into_iter());
        ledger.begin(SessionId(2));
        ledger.take(Instant::now(), [SinkSet::of(0)].into_iter());
        assert_eq!(ledger.settle(SessionId(1), 0, 1..=1), Ok(None));
        assert_eq!(ledger.settle(SessionId(2), 0, 1..=1), Ok(Some(1)));
    }

    #[derive(Clone, Debug)]
    enum TrackerAction {
        Session,
        Lost,
        Take(usize),
        Settle { lane: usize, pick: prop::sample::Index, stale: bool },
    }

    fn action() -> impl Strategy<Value = TrackerAction> {
        prop_oneof![
            1 => Just(TrackerAction::Session),
            1 => Just(TrackerAction::Lost),
            6 => (1usize..6).prop_map(TrackerAction::Take),
            20 => (0..LANES, any::<prop::sample::Index>(), proptest::bool::weighted(0.1))
                .prop_map(|(lane, pick, stale)| TrackerAction::Settle { lane, pick, stale }),
        ]
    }

    /// Every event of the current session by position, with the lanes that owe it.
    type Naive = BTreeMap<u64, BTreeSet<usize>>;

    proptest! {
        /// I1 and I2 against a model that keeps everything: an ack covers exactly the longest prefix of
        /// which every event is settled by every lane.
        #[test]
        fn acks_cover_the_settled_prefix_and_nothing_else(actions in proptest::collection::vec(action(), 1..200)) {
            let mut ledger = AckTracker::default();
            let mut session = 0;
            let mut live = false;
            let mut naive = Naive::new();
            let mut acked = 0;
            for action in actions {
                match action {
                    TrackerAction::Session => {
                        session += 1;
                        live = true;
                        naive.clear();
                        acked = 0;
                        ledger.begin(SessionId(session));
                    }
                    TrackerAction::Lost => {
                        live = false;
                        naive.clear();
                        ledger.end();
                    }
                    TrackerAction::Take(count) if live => {
                        for _ in 0..count {
                            naive.insert(naive.len() as u64 + 1, (0..LANES).collect());
                        }
                        ledger.take(Instant::now(), std::iter::repeat_n(all(), count));
                    }
                    TrackerAction::Take(_) => {}
                    TrackerAction::Settle { lane, stale: true, .. } => {
                        prop_assert_eq!(ledger.settle(SessionId(session + 1), lane, 1..=1), Ok(None));
                    }
                    TrackerAction::Settle { lane, pick, .. } => {
                        let owed: Vec<u64> =
                            naive.iter().filter(|(_, lanes)| lanes.contains(&lane)).map(|(at, _)| *at).collect();
                        if owed.is_empty() {
                            continue;
                        }
                        let position = *pick.get(&owed);
                        naive.get_mut(&position).unwrap().remove(&lane);
                        let prefix = naive.values().take_while(|lanes| lanes.is_empty()).count() as u64;
                        let expected = (prefix > acked).then_some(prefix);
                        acked = prefix;
                        prop_assert_eq!(ledger.settle(SessionId(session), lane, position..=position), Ok(expected));
                    }
                }
                prop_assert_eq!(ledger.outstanding() as u64, naive.len() as u64 - if live { acked } else { 0 });
                prop_assert_eq!(ledger.oldest().is_some(), ledger.outstanding() > 0);
            }
        }
    }
}
