//! Decides when the sink must say what it holds, and when nothing may go to it because another bridge has taken
//! the queue over.

use std::time::Instant;

use bytes::Bytes;

use super::WorkerState;
use crate::event::EventRef;

impl WorkerState {
    /// Notes that another bridge has taken the queue over, or may have: until the next session nothing is handed
    /// over, and the sink is not asked what it holds, because that would end the other bridge in turn.
    pub fn fence(&mut self) {
        if self.session.is_some() {
            self.fence.begin();
        }
    }

    /// Returns whether the dispatcher must learn that another bridge has taken the queue over, and notes that
    /// it does.
    pub fn take_fence(&mut self) -> bool {
        self.fence.take_news()
    }

    /// Whether the broker has delivered this event to somebody since the sink was asked what it holds.
    pub(super) fn may_be_stored_by_another(&self, event: &EventRef) -> bool {
        event.message.redelivered
            && self.asked.is_some_and(|asked| event.received() > asked)
            && !self.recent_ids.holds(&event.message.id)
    }

    /// Returns whether the sink must say now what it holds: events wait for that, and nothing is in flight.
    pub fn wants_claim(&self) -> bool {
        self.owes_claim()
            && self.in_flight_count == 0
            && !self.must_requeue()
            && !self.waits_for_an_earlier_session()
    }

    /// Returns whether the sink must say what it holds before an event that waits.
    pub fn owes_claim(&self) -> bool {
        let waits = !(self.backlog.is_empty() && self.ready.is_empty());
        !self.fence.is_up() && self.claim_due && (waits || self.must_requeue())
    }

    /// Notes that the sink is asked what it holds. A new session that begins before the answer asks again.
    pub fn claim_begins(&mut self) {
        self.claim_due = false;
    }

    /// Notes which events the sink held at the moment `asked` or later, or that it can't tell.
    pub fn claimed(&mut self, asked: Instant, ids: Option<Vec<Bytes>>) {
        self.asked = ids.is_some().then_some(asked);
        self.recent_ids.claim(ids.unwrap_or_default());
        // What is ready was compared with the ids of an earlier answer.
        self.put_back(Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::super::tests::{event, state};
    use super::*;
    use crate::event::{Batch, SessionId};

    /// The sink had no room for the first event. Then another bridge wrote it, and the broker delivered both to this
    /// one.
    #[test]
    fn what_was_ready_before_a_claim_is_compared_with_its_answer() {
        for keeps_order in [true, false] {
            let (mut state, session) = (state(2, keeps_order), SessionId(1));
            state.switch(Some(session));
            state.claim_begins();
            state.claimed(Instant::now(), Some(Vec::new()));
            let batch = |first: u64, redelivered| {
                let mut event = event(first as usize, 0);
                event.message.redelivered = redelivered;
                Arc::new(Batch { session, first, events: vec![event], received: Instant::now() })
            };
            let mut deliveries = Vec::new();
            state.take(&batch(1, false));
            state.stage(10, &mut deliveries);
            assert_eq!(deliveries.len(), 1);
            let first = deliveries.remove(0).event.message.id.clone();
            state.take(&batch(2, true));
            state.stage(10, &mut deliveries);
            assert!(
                state.wants_claim() && deliveries.is_empty(),
                "the second may be stored by another bridge"
            );
            state.claim_begins();
            state.claimed(Instant::now(), Some(vec![first]));
            state.stage(10, &mut deliveries);
            assert_eq!(deliveries.iter().map(|delivery| delivery.event.position()).collect::<Vec<_>>(), [2]);
            assert_eq!(state.take_settled(), [1..=1]);
        }
    }
}
