//! Tests two bridges of one queue, of which the broker serves one at a time, and a sink that writes in
//! transactions: records of a bridge that is frozen or gone may become durable late, until another bridge
//! claims. Nothing is lost or doubled, and the order of each key is kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use proptest::prelude::*;

use super::state::WorkerState;
use super::tests::{event, keys, number};
use crate::event::{Batch, EventTimes, SessionId};
use crate::pipeline::ack_tracker::{AckTracker, SinkSet};
use crate::sink::{Delivery, DeliveryId, SinkError, Verdict};

#[derive(Clone, Copy, Debug)]
enum Action {
    Dispatch(usize),
    HandOver(usize, usize),
    Commit(usize),
    /// The connection to the sink is lost, and with it the verdicts.
    Break(usize),
    /// What a lost connection has sent arrives.
    ArriveLate,
    Report(usize),
    /// The broker serves the other bridge from now on. This one does not know yet.
    SwitchOver,
    /// A bridge finds out that its session is over.
    Notice(usize),
    Kill(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let bridge = || 0usize..2;
    prop_oneof![
        8 => (1usize..8).prop_map(Action::Dispatch),
        12 => (bridge(), 1usize..8).prop_map(|(bridge, most)| Action::HandOver(bridge, most)),
        8 => bridge().prop_map(Action::Commit),
        2 => bridge().prop_map(Action::Break),
        4 => Just(Action::ArriveLate),
        6 => bridge().prop_map(Action::Report),
        2 => Just(Action::SwitchOver),
        3 => bridge().prop_map(Action::Notice),
        1 => bridge().prop_map(Action::Kill),
    ]
}

struct Bridge {
    state: WorkerState,
    tracker: AckTracker,
    session: Option<SessionId>,
    /// The index of the first event of the session.
    start: usize,
    /// What its connection has sent in the current transaction.
    in_flight: Vec<(DeliveryId, usize)>,
    /// The epoch of its connection, if it has claimed.
    epoch: Option<u64>,
}

struct World {
    keys: Vec<u8>,
    bridges: [Bridge; 2],
    active: usize,
    session: u64,
    acked: usize,
    dispatched: usize,
    log: Vec<usize>,
    epoch: u64,
    /// Transactions of lost connections: epoch and events.
    late: Vec<(u64, Vec<usize>)>,
}

fn state(keys: &[u8]) -> WorkerState {
    WorkerState::new(|_| true, true, true, 4 * keys.len().max(1))
}

impl World {
    fn new(keys: Vec<u8>) -> Self {
        let bridge = || Bridge {
            state: state(&keys),
            tracker: AckTracker::default(),
            session: None,
            start: 0,
            in_flight: Vec::new(),
            epoch: None,
        };
        let bridges = [bridge(), bridge()];
        let (log, late) = (Vec::new(), Vec::new());
        let mut world =
            Self { keys, bridges, active: 0, session: 0, acked: 0, dispatched: 0, log, epoch: 0, late };
        world.begin_session();
        world
    }

    /// The broker begins a session with the active bridge.
    fn begin_session(&mut self) {
        self.session += 1;
        let session = SessionId(self.session);
        let bridge = &mut self.bridges[self.active];
        bridge.state.switch(Some(session));
        bridge.tracker.begin(session);
        (bridge.session, bridge.start) = (Some(session), self.acked);
        self.dispatched = self.acked;
    }

    fn switch_over(&mut self) {
        self.active = 1 - self.active;
        self.begin_session();
    }

    fn notice(&mut self, bridge: usize) {
        if bridge == self.active {
            return self.begin_session();
        }
        let bridge = &mut self.bridges[bridge];
        bridge.session = None;
        bridge.state.switch(None);
        bridge.tracker.end();
    }

    fn dispatch(&mut self, count: usize) {
        let end = (self.dispatched + count).min(self.keys.len());
        let events: Vec<_> = (self.dispatched..end).map(|n| event(n, self.keys[n])).collect();
        let bridge = &mut self.bridges[self.active];
        if let (Some(session), false) = (bridge.session, events.is_empty()) {
            let first = bridge.tracker.next_position();
            bridge.tracker.take(
                EventTimes { received: Instant::now(), sent: None },
                std::iter::repeat_n(SinkSet::of(0), events.len()),
            );
            bridge.state.take(&Arc::new(Batch { session, first, events, received: Instant::now() }));
            self.dispatched = end;
        }
    }

    fn hand_over(&mut self, bridge: usize, most: usize) {
        let bridge = &mut self.bridges[bridge];
        bridge.state.requeue_failed();
        if bridge.state.wants_claim() {
            bridge.epoch.get_or_insert_with(|| {
                self.epoch += 1;
                self.epoch
            });
            let held = self.log.iter().map(|number| Bytes::from(format!("ID:{number}"))).collect();
            bridge.state.claim_begins();
            bridge.state.claimed(Instant::now(), Some(held));
        }
        let mut deliveries: Vec<Delivery> = Vec::new();
        bridge.state.stage(most, &mut deliveries);
        bridge.state.handed_over(deliveries.len());
        let sent = deliveries.iter().map(|delivery| (delivery.id, number(&delivery.event.message.id)));
        bridge.in_flight.extend(sent);
    }

    fn commit(&mut self, number: usize) {
        let bridge = &mut self.bridges[number];
        if bridge.in_flight.is_empty() {
            return;
        }
        let is_fenced = bridge.epoch != Some(self.epoch);
        for (id, number) in std::mem::take(&mut bridge.in_flight) {
            let verdict = match is_fenced {
                true => Verdict::Retry(SinkError::fenced("taken over")),
                false => Verdict::Durable,
            };
            if !is_fenced {
                self.log.push(number);
            }
            bridge.state.verdict(id, verdict).expect("it is in flight");
        }
        if is_fenced {
            bridge.state.fence();
            bridge.state.connection_lost();
            bridge.epoch = None;
        }
    }

    fn break_connection(&mut self, bridge: usize) {
        let bridge = &mut self.bridges[bridge];
        let lost = std::mem::take(&mut bridge.in_flight).into_iter().map(|(_, number)| number).collect();
        self.late.extend(bridge.epoch.take().map(|epoch| (epoch, lost)));
        bridge.state.connection_lost();
    }

    fn arrive_late(&mut self) {
        for (epoch, events) in self.late.drain(..) {
            if epoch == self.epoch {
                self.log.extend(events);
            }
        }
    }

    fn kill(&mut self, number: usize) {
        self.break_connection(number);
        let bridge = &mut self.bridges[number];
        (bridge.state, bridge.tracker) = (state(&self.keys), AckTracker::default());
        bridge.session = None;
        if number == self.active {
            self.switch_over();
        }
    }

    fn report(&mut self, number: usize) {
        let bridge = &mut self.bridges[number];
        let Some(session) = bridge.session else { return };
        for range in bridge.state.take_settled() {
            let through = bridge.tracker.settle(session, 0, range).expect("owed");
            // The broker ignores acknowledgements of a session that is over.
            if let Some(through) = through.filter(|_| number == self.active) {
                self.acked = bridge.start + usize::try_from(through).unwrap();
                assert!((0..self.acked).all(|number| self.log.contains(&number)), "I1");
            }
        }
        if bridge.state.take_fence() {
            self.notice(number);
        }
    }

    fn finish(&mut self) {
        for _ in 0..10_000 {
            self.dispatch(usize::MAX / 2);
            self.hand_over(self.active, 5);
            self.commit(self.active);
            self.report(self.active);
            if self.acked == self.keys.len() {
                return;
            }
        }
        panic!("stuck: {} of {} acknowledged", self.acked, self.keys.len());
    }

    fn check(&self) {
        let mut last: HashMap<u8, usize> = HashMap::new();
        for number in &self.log {
            let before = last.insert(self.keys[*number], *number);
            assert!(
                before.is_none_or(|before| before < *number),
                "{number} after {before:?}: {:?}",
                self.log
            );
        }
        assert_eq!(self.log.len(), self.keys.len(), "lost or doubled: {:?}", self.log);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn two_bridges_lose_double_and_reorder_nothing_where_the_later_one_ends_the_earlier(
        keys in keys(),
        actions in proptest::collection::vec(action(), 0..200),
    ) {
        let mut world = World::new(keys);
        for action in actions {
            match action {
                Action::Dispatch(count) => world.dispatch(count),
                Action::HandOver(bridge, most) => world.hand_over(bridge, most),
                Action::Commit(bridge) => world.commit(bridge),
                Action::Break(bridge) => world.break_connection(bridge),
                Action::ArriveLate => world.arrive_late(),
                Action::Report(bridge) => world.report(bridge),
                Action::SwitchOver => world.switch_over(),
                Action::Notice(bridge) => world.notice(bridge),
                Action::Kill(bridge) => world.kill(bridge),
            }
        }
        world.finish();
        world.arrive_late();
        world.check();
    }
}

#[test]
fn after_a_fence_nothing_is_claimed_or_handed_over_until_the_next_session() {
    let mut world = World::new(vec![0; 4]);
    world.dispatch(2);
    world.hand_over(0, 2);
    world.epoch += 1;
    world.commit(0);
    world.dispatch(2);
    world.hand_over(0, 2);
    let bridge = &mut world.bridges[0];
    assert!(bridge.in_flight.is_empty() && bridge.epoch.is_none(), "neither sent nor claimed");
    assert!(bridge.state.has_news() && bridge.state.take_fence() && !bridge.state.take_fence(), "told once");
    world.begin_session();
    world.finish();
    world.check();
}
