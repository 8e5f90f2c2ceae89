//! Tests the worker's state against a broker and a sink that make every error that their contracts allow, and
//! against crashes of the bridge: I1 to I5.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use proptest::prelude::*;

use super::pending_event::VerdictEffect;
use super::state::WorkerState;
use crate::event::{Batch, Event, EventTimes, SessionId};
use crate::key::Key;
use crate::pipeline::ack_tracker::{AckTracker, SinkSet};
use crate::sink::testing::message;
use crate::sink::{Delivery, DeliveryId, Rejection, SinkError, Verdict};

#[derive(Clone, Debug)]
enum WorkerAction {
    Dispatch(usize),
    HandOver {
        most: usize,
        taken: usize,
    },
    Durable(usize),
    Retry(usize),
    /// The sink refuses an event for ever, and the limits allow no dead letter.
    Refuse(usize),
    Break {
        durable: Vec<bool>,
    },
    Requeue,
    Report,
    LoseSession,
    /// The bridge is killed and started again, if the sink can tell what it holds.
    Crash {
        durable: Vec<bool>,
    },
}

fn action() -> impl Strategy<Value = WorkerAction> {
    prop_oneof![
        8 => (1usize..8).prop_map(WorkerAction::Dispatch),
        12 => (1usize..8, any::<usize>()).prop_map(|(most, taken)| WorkerAction::HandOver { most, taken }),
        16 => any::<usize>().prop_map(WorkerAction::Durable),
        2 => any::<usize>().prop_map(WorkerAction::Retry),
        2 => any::<usize>().prop_map(WorkerAction::Refuse),
        1 => proptest::collection::vec(any::<bool>(), 16).prop_map(|durable| WorkerAction::Break { durable }),
        6 => Just(WorkerAction::Requeue),
        6 => Just(WorkerAction::Report),
        1 => Just(WorkerAction::LoseSession),
        1 => proptest::collection::vec(any::<bool>(), 16).prop_map(|durable| WorkerAction::Crash { durable }),
    ]
}

/// A broker that redelivers, one worker, and a sink whose log shows what a reader would see.
struct World {
    keys: Vec<u8>,
    keeps_order: bool,
    /// Whether the sink says what it holds.
    tells: bool,
    state: WorkerState,
    tracker: AckTracker,
    session: u64,
    /// All events before this index are acknowledged.
    acked: usize,
    /// The events from `acked` to this index are dispatched in the current session.
    dispatched: usize,
    /// The index of the first event of the current session.
    session_start: usize,
    /// The deliveries without a verdict in the sink: delivery id and event index.
    in_flight: Vec<(DeliveryId, usize)>,
    /// The deliveries that were in flight when the connection was lost.
    broken: Vec<(DeliveryId, usize)>,
    log: Vec<usize>,
    /// The events that became dead letters because a later event of the same key overtook them.
    dead: Vec<usize>,
    /// How many events became durable without a verdict: the sink may show them twice.
    unanswered: usize,
}

impl World {
    fn new(keys: Vec<u8>, keeps_order: bool, tells: bool) -> Self {
        let mut world = Self {
            state: state(keys.len(), keeps_order),
            keys,
            keeps_order,
            tells,
            tracker: AckTracker::default(),
            session: 0,
            acked: 0,
            dispatched: 0,
            session_start: 0,
            in_flight: Vec::new(),
            broken: Vec::new(),
            log: Vec::new(),
            dead: Vec::new(),
            unanswered: 0,
        };
        world.new_session();
        world
    }

    fn new_session(&mut self) {
        self.session += 1;
        self.tracker.begin(SessionId(self.session));
        self.state.switch(Some(SessionId(self.session)));
        self.dispatched = self.acked;
        self.session_start = self.acked;
    }

    fn dispatch(&mut self, count: usize) {
        let end = (self.dispatched + count).min(self.keys.len());
        if end == self.dispatched {
            return;
        }
        let events: Vec<Event> = (self.dispatched..end).map(|n| event(n, self.keys[n])).collect();
        let first = self.tracker.next_position();
        self.tracker.take(
            EventTimes { received: Instant::now(), sent: None },
            std::iter::repeat_n(SinkSet::of(0), events.len()),
        );
        let batch = Batch { session: SessionId(self.session), first, events, received: Instant::now() };
        self.state.take(&Arc::new(batch));
        self.dispatched = end;
    }

    fn hand_over(&mut self, most: usize, taken: impl Fn(usize) -> usize) {
        if self.state.wants_claim() {
            let id = |number: &usize| Bytes::from(format!("ID:{number}"));
            let held = self.tells.then(|| self.log.iter().map(id).collect());
            self.state.claim_begins();
            self.state.claimed(Instant::now(), held);
        }
        let mut deliveries: Vec<Delivery> = Vec::new();
        self.state.stage(most, &mut deliveries);
        assert!(deliveries.len() <= most);
        let taken = taken(deliveries.len());
        self.state.handed_over(taken);
        for delivery in &deliveries[..taken] {
            let number = number(&delivery.event.message.id);
            if !self.keeps_order {
                let same_key = |(_, other): &(DeliveryId, usize)| self.keys[*other] == self.keys[number];
                assert!(!self.in_flight.iter().any(same_key), "two events of one key in flight");
            }
            self.in_flight.push((delivery.id, number));
        }
    }

    fn durable(&mut self, pick: usize) {
        if self.in_flight.is_empty() {
            return;
        }
        let at = if self.keeps_order { 0 } else { pick % self.in_flight.len() };
        let (id, number) = self.in_flight.remove(at);
        self.log.push(number);
        assert!(matches!(self.state.verdict(id, Verdict::Durable), Ok(VerdictEffect::Durable(_))));
        self.write_dead_letters();
    }

    /// Refuses one event. The events behind it may still become durable.
    fn refuse(&mut self, pick: usize) {
        // A dead letter is not remembered over a crash.
        if self.in_flight.is_empty() || self.tells {
            return;
        }
        let (id, _) = self.in_flight.remove(pick % self.in_flight.len());
        let rejection = Rejection { reason: "refused", detail: String::new() };
        self.state.refuse(id, rejection).expect("it is in flight");
    }

    fn write_dead_letters(&mut self) {
        for (pending, _) in self.state.take_overtaken() {
            let number = number(&pending.event.message.id);
            let later = |other: &usize| self.keys[*other] == self.keys[number] && *other > number;
            let in_flight = |(_, other): &(DeliveryId, usize)| later(other);
            assert!(
                self.log.iter().any(later) || self.broken.iter().any(in_flight),
                "{number} could still have been offered in order"
            );
            self.dead.push(number);
            self.state.dead_letters_written(std::iter::once(&pending.event));
        }
    }

    /// Answers one event with `Retry`. In a sink that keeps order, all events behind it fail too.
    fn retry(&mut self, pick: usize) {
        if self.in_flight.is_empty() {
            return;
        }
        let at = pick % self.in_flight.len();
        if self.keeps_order {
            for _ in 0..at {
                self.durable(pick);
            }
        }
        let failing = if self.keeps_order { 0..self.in_flight.len() } else { at..at + 1 };
        for (id, _) in self.in_flight.drain(failing) {
            let verdict = Verdict::Retry(SinkError::unavailable("away"));
            assert!(matches!(self.state.verdict(id, verdict), Ok(VerdictEffect::Retry(_))));
        }
    }

    fn crash(&mut self, durable: &[bool]) {
        if !self.tells {
            return;
        }
        self.break_sink(durable);
        self.broken.clear();
        self.state = state(self.keys.len(), self.keeps_order);
        self.tracker = AckTracker::default();
        self.new_session();
    }

    fn break_connection(&mut self, durable: &[bool]) {
        self.break_sink(durable);
        self.state.connection_lost();
        self.write_dead_letters();
        self.broken.clear();
    }

    /// Loses the verdicts of the deliveries in flight.
    fn break_sink(&mut self, durable: &[bool]) {
        // In a sink that keeps order, the events that became durable without a verdict are a prefix.
        let lost = std::mem::take(&mut self.in_flight);
        self.broken.clone_from(&lost);
        for ((_, number), durable) in lost.into_iter().zip(durable.iter().chain(std::iter::repeat(&false))) {
            if *durable {
                self.log.push(number);
                self.unanswered += 1;
            } else if self.keeps_order {
                break;
            }
        }
    }

    fn report(&mut self) {
        for range in self.state.take_settled() {
            let end = self.tracker.settle(SessionId(self.session), 0, range).expect("owed");
            if let Some(through) = end {
                self.acked = self.session_start + usize::try_from(through).unwrap();
                for number in 0..self.acked {
                    let settled = self.log.contains(&number) || self.dead.contains(&number);
                    assert!(settled, "I1: {number} acked, neither durable nor a dead letter");
                }
            }
        }
    }

    fn finish(&mut self) {
        for _ in 0..10_000 {
            self.dispatch(usize::MAX / 2);
            self.state.requeue_failed();
            self.hand_over(5, |offered| offered);
            self.durable(0);
            self.report();
            if self.acked == self.keys.len() {
                return;
            }
        }
        panic!("stuck: {} of {} acked", self.acked, self.keys.len());
    }

    fn check(&self) {
        let mut seen: HashMap<u8, Vec<usize>> = HashMap::new();
        for number in &self.log {
            let of_key = seen.entry(self.keys[*number]).or_default();
            if !of_key.contains(number) {
                assert!(of_key.iter().all(|before| before < number), "I3: {number} after {of_key:?}");
                of_key.push(*number);
            }
        }
        let is_there = |number: usize| self.log.contains(&number) || self.dead.contains(&number);
        assert!((0..self.keys.len()).all(is_there), "lost");
        let delivered: usize = seen.values().map(Vec::len).sum();
        let allowed = if self.tells { 0 } else { self.unanswered };
        assert!(self.log.len() - delivered <= allowed, "I5: doubled without need");
        assert!(self.state.is_idle());
    }
}

pub(super) fn state(events: usize, keeps_order: bool) -> WorkerState {
    WorkerState::new(|_| true, keeps_order, false, 4 * events.max(1))
}

pub(super) fn event(number: usize, key: u8) -> Event {
    Event { message: message(number as u64, ""), key: Key::digest(&[key]), defect: None, is_json: false }
}

pub(super) fn number(id: &Bytes) -> usize {
    std::str::from_utf8(id).unwrap().strip_prefix("ID:").unwrap().parse().unwrap()
}

pub(super) fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(0u8..10, 0..60),
        // One key that many events have, among others.
        proptest::collection::vec(prop_oneof![3 => Just(0u8), 1 => 1u8..20], 0..60),
        // All events have the same key.
        (0usize..60).prop_map(|count| vec![0; count]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn nothing_lost_order_kept_and_nothing_doubled_without_need(
        keys in keys(),
        keeps_order in any::<bool>(),
        tells in any::<bool>(),
        actions in proptest::collection::vec(action(), 0..200),
    ) {
        let mut world = World::new(keys, keeps_order, tells);
        for action in actions {
            match action {
                WorkerAction::Dispatch(count) => world.dispatch(count),
                WorkerAction::HandOver { most, taken } => world.hand_over(most, |offered| taken % (offered + 1)),
                WorkerAction::Durable(pick) => world.durable(pick),
                WorkerAction::Retry(pick) => world.retry(pick),
                WorkerAction::Refuse(pick) => world.refuse(pick),
                WorkerAction::Break { durable } => world.break_connection(&durable),
                WorkerAction::Requeue => { world.state.requeue_failed(); }
                WorkerAction::Report => world.report(),
                WorkerAction::LoseSession => {
                    world.state.switch(None);
                    world.tracker.end();
                    world.new_session();
                }
                WorkerAction::Crash { durable } => world.crash(&durable),
            }
        }
        world.finish();
        world.check();
    }
}

#[test]
fn a_verdict_on_nothing_is_refused() {
    let mut state = WorkerState::new(|_| true, true, false, 1);
    assert!(state.verdict(DeliveryId(0), Verdict::Durable).is_err());
}
