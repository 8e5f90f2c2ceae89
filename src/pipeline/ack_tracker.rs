//! Records for every event of the current session, in broker order, which sink workers have not settled it
//! yet. Decides from this which events may be acknowledged (I1, I2). Does no I/O.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use crate::event::{EventTimes, SessionId};

/// A set of sink workers, by their number from 0 to 63.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkSet(u64);

impl SinkSet {
    /// The number of sink workers that a set can hold: 64.
    pub const MOST: usize = u64::BITS as usize;

    /// Creates the set with the one worker that has this number.
    pub fn of(worker: usize) -> Self {
        Self(1 << worker)
    }

    /// Returns the union of both sets.
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

/// A sink worker reports an event as settled that it does not owe. This is a bug in the bridge: nothing may
/// be acknowledged after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sink worker {worker} settled position {position}, which it does not owe")]
pub struct NotOwedError {
    /// The number of the sink worker.
    pub worker: usize,
    /// The position of the event in the current session, counted from 1.
    pub position: u64,
}

/// Tracks for each event of the current session which sink workers still owe it.
#[derive(Debug, Default)]
pub struct AckTracker {
    session: Option<SessionId>,
    /// The position in the session of the first event in `owed`.
    first: u64,
    owed: VecDeque<SinkSet>,
    /// For each batch: the position of its last event, and when its events were received and the oldest was sent.
    batches: VecDeque<(u64, EventTimes)>,
}

impl AckTracker {
    /// Begins a session, at position 1, and forgets the events of the session before.
    pub fn begin(&mut self, session: SessionId) {
        self.end();
        self.session = Some(session);
        self.first = 1;
    }

    /// Ends the session: none of its events is acknowledged after this call.
    pub fn end(&mut self) {
        self.session = None;
        self.owed.clear();
        self.batches.clear();
    }

    /// Returns the current session, or `None` between two sessions.
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Returns the position in the session that the next event gets.
    pub fn next_position(&self) -> u64 {
        self.first + self.owed.len() as u64
    }

    /// Adds the events of a batch, each with the set of workers that owe it. A set must not be empty: the
    /// event would count as settled although no worker has settled it (I1). `times` are when they were received,
    /// and when the oldest of them was sent.
    pub fn take(&mut self, times: EventTimes, owed: impl Iterator<Item = SinkSet>) {
        self.owed.extend(owed.inspect(|owed| debug_assert!(!owed.is_empty())));
        self.batches.push_back((self.next_position() - 1, times));
    }

    /// Notes that a worker has settled `positions` of `session`. Returns the last position of the settled
    /// prefix if the prefix has grown: all events up to it may be acknowledged. Reports for an earlier
    /// session change nothing.
    ///
    /// # Errors
    /// The worker does not owe one of these events.
    pub fn settle(
        &mut self,
        session: SessionId,
        worker: usize,
        positions: RangeInclusive<u64>,
    ) -> Result<Option<u64>, NotOwedError> {
        if self.session != Some(session) {
            return Ok(None);
        }
        for position in positions {
            let index = position.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
            let owed =
                index.and_then(|index| self.owed.get_mut(index)).ok_or(NotOwedError { worker, position })?;
            let left = owed.without(SinkSet::of(worker));
            if left == *owed {
                return Err(NotOwedError { worker, position });
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

    /// Returns how many events were taken and are not yet part of the settled prefix.
    pub fn outstanding(&self) -> usize {
        self.owed.len()
    }

    /// Returns the times of the oldest batch that has outstanding events.
    pub fn oldest(&self) -> Option<EventTimes> {
        self.batches.front().map(|(_, times)| *times)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    const WORKERS: usize = 3;

    fn now() -> EventTimes {
        EventTimes { received: Instant::now(), sent: None }
    }

    fn all() -> SinkSet {
        (0..WORKERS).map(SinkSet::of).fold(SinkSet::default(), SinkSet::with)
    }

    #[test]
    fn a_lane_cannot_settle_what_it_does_not_owe() {
        let mut tracker = AckTracker::default();
        tracker.begin(SessionId(1));
        tracker.take(now(), [SinkSet::of(0)].into_iter());
        assert_eq!(tracker.settle(SessionId(1), 1, 1..=1), Err(NotOwedError { worker: 1, position: 1 }));
        assert_eq!(tracker.settle(SessionId(1), 0, 1..=2), Err(NotOwedError { worker: 0, position: 2 }));
        assert_eq!(tracker.settle(SessionId(1), 0, 0..=0), Err(NotOwedError { worker: 0, position: 0 }));
    }

    #[test]
    fn news_of_an_earlier_session_acknowledges_nothing() {
        let mut tracker = AckTracker::default();
        tracker.begin(SessionId(1));
        tracker.take(now(), [SinkSet::of(0)].into_iter());
        tracker.begin(SessionId(2));
        tracker.take(now(), [SinkSet::of(0)].into_iter());
        assert_eq!(tracker.settle(SessionId(1), 0, 1..=1), Ok(None));
        assert_eq!(tracker.settle(SessionId(2), 0, 1..=1), Ok(Some(1)));
    }

    #[derive(Clone, Debug)]
    enum TrackerAction {
        Session,
        Lost,
        Take(usize),
        Settle { worker: usize, pick: prop::sample::Index, stale: bool },
    }

    fn action() -> impl Strategy<Value = TrackerAction> {
        prop_oneof![
            1 => Just(TrackerAction::Session),
            1 => Just(TrackerAction::Lost),
            6 => (1usize..6).prop_map(TrackerAction::Take),
            20 => (0..WORKERS, any::<prop::sample::Index>(), proptest::bool::weighted(0.1))
                .prop_map(|(worker, pick, stale)| TrackerAction::Settle { worker, pick, stale }),
        ]
    }

    /// Every event of the current session by position, with the workers that owe it.
    type Model = BTreeMap<u64, BTreeSet<usize>>;

    proptest! {
        /// Checks I1 and I2 against a model that keeps every event: an ack covers exactly the longest prefix
        /// whose events are all settled by all workers.
        #[test]
        fn acks_cover_the_settled_prefix_and_nothing_else(actions in proptest::collection::vec(action(), 1..200)) {
            let mut tracker = AckTracker::default();
            let mut session = 0;
            let mut live = false;
            let mut model = Model::new();
            let mut acked = 0;
            for action in actions {
                match action {
                    TrackerAction::Session => {
                        session += 1;
                        live = true;
                        model.clear();
                        acked = 0;
                        tracker.begin(SessionId(session));
                    }
                    TrackerAction::Lost => {
                        live = false;
                        model.clear();
                        tracker.end();
                    }
                    TrackerAction::Take(count) if live => {
                        for _ in 0..count {
                            model.insert(model.len() as u64 + 1, (0..WORKERS).collect());
                        }
                        tracker.take(now(), std::iter::repeat_n(all(), count));
                    }
                    TrackerAction::Take(_) => {}
                    TrackerAction::Settle { worker, stale: true, .. } => {
                        prop_assert_eq!(tracker.settle(SessionId(session + 1), worker, 1..=1), Ok(None));
                    }
                    TrackerAction::Settle { worker, pick, .. } => {
                        let owed: Vec<u64> =
                            model.iter().filter(|(_, owing)| owing.contains(&worker)).map(|(at, _)| *at).collect();
                        if owed.is_empty() {
                            continue;
                        }
                        let position = *pick.get(&owed);
                        model.get_mut(&position).unwrap().remove(&worker);
                        let prefix = model.values().take_while(|workers| workers.is_empty()).count() as u64;
                        let expected = (prefix > acked).then_some(prefix);
                        acked = prefix;
                        prop_assert_eq!(tracker.settle(SessionId(session), worker, position..=position), Ok(expected));
                    }
                }
                prop_assert_eq!(tracker.outstanding() as u64, model.len() as u64 - if live { acked } else { 0 });
                prop_assert_eq!(tracker.oldest().is_some(), tracker.outstanding() > 0);
            }
        }
    }
}
