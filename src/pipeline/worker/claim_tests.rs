//! Tests when a worker asks its sink what it holds, and what the answer changes.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::state::WorkerState;
use super::tests::{event, state};
use crate::event::{Batch, SessionId};
use crate::sink::{DeliveryId, Verdict};

/// Another bridge of the queue may have stored an event and died before the broker knew.
#[test]
fn before_an_unknown_event_that_comes_again_the_sink_is_asked_once() {
    let mut state = state(8, true);
    state.switch(Some(SessionId(1)));
    let mut deliveries = Vec::new();
    let take = |state: &mut WorkerState, number: u64, redelivered| {
        let mut event = event(usize::try_from(number).unwrap(), 0);
        event.message.redelivered = redelivered;
        let session = state.session().unwrap();
        let batch = Batch { session, first: number, events: vec![event], received: Instant::now() };
        state.take(&Arc::new(batch));
    };
    let mut staged = |state: &mut WorkerState| {
        state.stage(8, &mut deliveries);
        deliveries.len()
    };
    assert!(!state.wants_claim(), "no event waits");
    take(&mut state, 1, true);
    assert!(state.wants_claim() && staged(&mut state) == 0, "the first event of a session");
    state.claim_begins();
    state.claimed(Instant::now(), Some(Vec::new()));
    assert!(!state.wants_claim() && staged(&mut state) == 1, "the answer covers what came before it");
    state.handed_over(1);
    take(&mut state, 2, true);
    assert!(staged(&mut state) == 0 && !state.wants_claim(), "waits for what is in flight");
    state.verdict(DeliveryId(0), Verdict::Durable).unwrap();
    assert!(state.wants_claim());
    state.claim_begins();
    state.claimed(Instant::now(), Some(vec![Bytes::from_static(b"ID:2")]));
    assert_eq!((staged(&mut state), state.take_suppressed().found), (0, 1), "the other bridge has stored it");
    take(&mut state, 3, false);
    assert!(staged(&mut state) == 1 && !state.wants_claim(), "nobody had this one before");
    state.handed_over(1);
    state.verdict(DeliveryId(1), Verdict::Durable).unwrap();

    state.switch(Some(SessionId(2)));
    take(&mut state, 4, true);
    assert!(state.wants_claim(), "the first event of a session");
    state.claim_begins();
    state.claimed(Instant::now(), None);
    take(&mut state, 5, true);
    assert!(staged(&mut state) == 2 && !state.wants_claim(), "a sink that can't tell is not asked again");

    state.connection_lost();
    state.claim_begins();
    state.switch(Some(SessionId(3)));
    state.claimed(Instant::now(), Some(Vec::new()));
    take(&mut state, 6, false);
    assert!(state.wants_claim(), "the answer was for the session before");
}

/// A bridge that was frozen reports an event as durable that its successor has discarded.
#[test]
fn a_sink_that_takes_over_has_only_what_its_claim_tells() {
    for takes_over in [false, true] {
        let mut state = WorkerState::new(|_| true, true, takes_over, 8);
        let offered = |state: &mut WorkerState, session: u64| {
            let session = SessionId(session);
            state.switch(Some(session));
            let batch = Batch { session, first: 1, events: vec![event(1, 0)], received: Instant::now() };
            state.take(&Arc::new(batch));
            state.claim_begins();
            state.claimed(Instant::now(), Some(Vec::new()));
            let mut deliveries = Vec::new();
            state.stage(8, &mut deliveries);
            deliveries.len()
        };
        assert_eq!(offered(&mut state, 1), 1);
        state.handed_over(1);
        state.verdict(DeliveryId(0), Verdict::Durable).unwrap();
        assert_eq!(offered(&mut state, 2), usize::from(takes_over), "takes over: {takes_over}");
    }
}
