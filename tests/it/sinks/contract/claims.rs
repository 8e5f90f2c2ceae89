//! Tests what happens while a worker waits for its sink to say what it holds.

use std::time::Duration;

use atdata_bridge::event::Event;
use atdata_bridge::telemetry::status::{Status, StatusRegistry};
use kit::{SOON, wait_until};

use super::{Rig, account};
use crate::sinks::memory::ScriptedVerdict::{Break, BreakAndDelay, Durable, Fenced, Reject};
use crate::sinks::memory::{MemoryHandle, MemorySink};

/// The sink holds the events up to this one from before a crash.
const HELD: u64 = 300;
/// The broker sends the events up to this one.
const SENT: u64 = 500;

/// A sink with events from before a crash that was asked what it holds, and has not answered yet.
struct Asked {
    keeps_order: bool,
    rig: Rig,
    handle: MemoryHandle,
    claims: u64,
}

impl Asked {
    async fn start(keeps_order: bool) -> Self {
        let sink = MemorySink::new(keeps_order, 100);
        let handle = sink.handle();
        handle.readable(true);
        let mut rig = Rig::start(Box::new(sink), 0).await;
        rig.send_to(HELD).await;
        rig.wait_for_ack(HELD).await;
        rig.abandon().await;
        handle.delay_claims(true);
        let mut asked = Self {
            rig: Rig::start(Box::new(handle.restarted(keeps_order)), 0).await,
            claims: handle.claims() + 1,
            handle,
            keeps_order,
        };
        asked.rig.send_to(SENT).await;
        asked.wait_for_claims(asked.claims).await;
        asked
    }

    async fn wait_for_claims(&self, claims: u64) {
        wait_until("the sink is asked", SOON, || self.handle.claims() == claims).await;
    }
}

fn assert_each_once(handle: &MemoryHandle) {
    let account = account(&stored(handle), SENT);
    assert_eq!((account.lost, account.duplicates), (Vec::new(), 0));
}

/// The numbers of the events in the sink.
fn stored(handle: &MemoryHandle) -> Vec<u64> {
    handle.log().iter().map(|id| id.rsplit(':').next().unwrap().parse().unwrap()).collect()
}

/// Returns whether a part of this name begins with `part` and has a state that `is` accepts.
fn shows(states: &StatusRegistry, part: &str, is: impl Fn(&Status) -> bool) -> bool {
    states.all().iter().any(|(name, state, _)| name.starts_with(part) && is(state))
}

#[tokio::test(start_paused = true)]
async fn a_long_claim_is_shown_and_counted() {
    let Asked { mut rig, handle, .. } = Asked::start(true).await;
    let counters = rig.counters.workers.get("subject");
    let is_shown =
        |state: &Status| matches!(state, Status::Starting(why) if why.contains("it holds already"));
    wait_until("the claim is shown", SOON, || shows(&rig.states, "sink", is_shown)).await;
    assert_eq!((rig.acked(), counters.claiming.snapshot().count), (0, 0));
    handle.fail_claims(1);
    handle.delay_claims(false);
    rig.wait_for_ack(SENT).await;
    wait_until("the sink is ready again", SOON, || shows(&rig.states, "sink", Status::is_ready)).await;
    assert_each_once(&handle);
    let claiming = counters.claiming.snapshot();
    assert_eq!((claiming.count, counters.claims_failed.get(), counters.claimed.get()), (1, 1, HELD));
    assert_eq!(counters.suppressed.get(), HELD);

    rig.lose_session().await;
    rig.send_to(SENT + 1).await;
    rig.wait_for_ack(SENT + 1).await;
    assert_eq!((counters.claiming.snapshot().count, counters.claimed.get()), (2, SENT));
    rig.drain().await;
}

/// The state of a part must not change to and fro, or no alert on an error that lasts would be raised.
#[tokio::test(start_paused = true)]
async fn a_long_claim_after_a_failed_one_shows_the_failure() {
    let asked = Asked::start(true).await;
    asked.handle.fail_claims(1);
    asked.wait_for_claims(asked.claims + 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let fails = |state: &Status| matches!(state, Status::Retrying(why) if why.contains("broke off"));
    assert!(shows(&asked.rig.states, "sink", fails), "{:?}", asked.rig.states);
    asked.rig.abandon().await;
}

/// The answer was for the session before: a bridge that died in between may have stored more.
#[tokio::test]
async fn a_session_that_begins_during_a_claim_asks_again() {
    for keeps_order in [true, false] {
        let mut asked = Asked::start(keeps_order).await;
        asked.rig.lose_session().await;
        asked.rig.send_to(HELD / 2).await;
        let in_flight = || asked.rig.counters.in_flight.get();
        wait_until("the new session has begun", SOON, || in_flight() == HELD / 2).await;
        asked.handle.delay_claims(false);
        asked.wait_for_claims(asked.claims + 1).await;
        asked.rig.send_to(SENT).await;
        asked.rig.wait_for_ack(SENT).await;
        assert_each_once(&asked.handle);
        assert_eq!(asked.rig.counters.workers.get("subject").suppressed.get(), HELD);
        asked.rig.drain().await;
    }
}

#[tokio::test]
async fn a_drain_that_begins_during_a_claim_settles_the_events_that_wait() {
    for keeps_order in [true, false] {
        let Asked { rig, handle, .. } = Asked::start(keeps_order).await;
        let states = rig.states.clone();
        let drained = tokio::spawn(rig.drain());
        let is_draining = |state: &Status| state.reason().contains("draining");
        wait_until("it drains", SOON, || shows(&states, "events", is_draining)).await;
        handle.delay_claims(false);
        assert_eq!(drained.await.unwrap(), SENT);
        assert_each_once(&handle);
        assert_eq!(handle.closed(), 1);
    }
}

#[tokio::test]
async fn an_abort_during_a_claim_acknowledges_and_stores_nothing() {
    for keeps_order in [true, false] {
        let Asked { rig, handle, keeps_order, .. } = Asked::start(keeps_order).await;
        assert_eq!(rig.abandon().await, 0);
        handle.delay_claims(false);
        assert_eq!(handle.log().len() as u64, HELD);
        let mut rig = Rig::start(Box::new(handle.restarted(keeps_order)), 0).await;
        rig.send_to(SENT).await;
        rig.wait_for_ack(SENT).await;
        assert_each_once(&handle);
        rig.drain().await;
    }
}

/// The process was killed in the middle of events of which every second one is refused. The next process must not
/// take the refused ones for a run only because the sink has the others.
#[tokio::test]
async fn events_that_the_sink_holds_from_before_end_a_run_of_refused_ones() {
    let sink = MemorySink::new(true, 100);
    let handle = sink.handle();
    handle.readable(true);
    handle.script(|event| if number_of(event).is_multiple_of(2) { Durable } else { Reject });
    let mut rig = Rig::start(Box::new(sink), 0).await;
    rig.send_to(HELD).await;
    rig.wait_for_ack(HELD).await;
    rig.abandon().await;

    let mut rig = Rig::start(Box::new(handle.restarted(true)), 0).await;
    rig.send_to(HELD).await;
    rig.wait_for_ack(HELD).await;
    assert_eq!(rig.letters.0.lock().unwrap().len() as u64, HELD / 2);
    assert_eq!(handle.log().len() as u64, HELD / 2);
    rig.drain().await;
}

/// The other bridge has the events of this session: this one may neither submit them again nor claim them back.
#[tokio::test]
async fn a_fence_ends_the_session_and_the_next_one_claims_again() {
    for keeps_order in [true, false] {
        let sink = MemorySink::new(keeps_order, 100);
        let handle = sink.handle();
        handle.readable(true);
        let mut rig = Rig::start(Box::new(sink), 0).await;
        rig.send_to(HELD).await;
        rig.wait_for_ack(HELD).await;
        handle.script(|_| Fenced);
        rig.send_to(SENT).await;
        rig.wait_until_given_up().await;
        handle.script(|_| Durable);
        let is_ready = |state: &Status| state.is_ready();
        wait_until("the sink is open again", SOON, || shows(&rig.states, "sink", is_ready)).await;
        assert_eq!((rig.acked(), handle.fences(), handle.claims()), (HELD, 1, 1));
        assert_eq!(handle.log().len() as u64, HELD);
        rig.lose_session().await;
        rig.send_to(SENT).await;
        rig.wait_for_ack(SENT).await;
        assert_each_once(&handle);
        assert_eq!(handle.claims(), 2);
        rig.drain().await;
    }
}

/// A new connection would take the queue over again. Another bridge may have it by now, and the broker of this session
/// may not have told.
#[tokio::test]
async fn a_lost_connection_that_had_taken_over_ends_the_session() {
    let sink = MemorySink::new(true, 100);
    let handle = sink.handle();
    handle.readable(true);
    handle.takes_over(true);
    let mut rig = Rig::start(Box::new(sink), 0).await;
    rig.send_to(HELD).await;
    rig.wait_for_ack(HELD).await;
    handle.script(|_| Break);
    rig.send_to(SENT).await;
    rig.wait_until_given_up().await;
    handle.script(|_| Durable);
    let is_ready = |state: &Status| state.is_ready();
    wait_until("the sink is open again", SOON, || shows(&rig.states, "sink", is_ready)).await;
    assert_eq!((rig.acked(), handle.claims()), (HELD, 1), "claimed in the session that may have ended");
    rig.lose_session().await;
    rig.send_to(SENT).await;
    rig.wait_for_ack(SENT).await;
    assert_each_once(&handle);
    assert_eq!(handle.claims(), 2);
    rig.drain().await;
}

/// The worker relies on the claim alone, so it must not go on without one.
#[tokio::test]
async fn a_sink_that_takes_over_and_does_not_tell_what_it_holds_ends_the_bridge() {
    let sink = MemorySink::new(true, 100);
    let handle = sink.handle();
    handle.takes_over(true);
    let mut rig = Rig::start(Box::new(sink), 0).await;
    rig.send_to(1).await;
    let error = rig.ended().await.unwrap_err().to_string();
    assert!(
        error.contains("subject broke its contract: it takes the queue over, and does not tell"),
        "{error}"
    );
    assert_eq!(handle.log().len(), 0);
}

/// The network delivers what a lost connection has sent only after its successor has asked what the sink holds.
#[tokio::test]
async fn what_arrives_late_is_doubled_unless_the_claim_takes_over() {
    for takes_over in [false, true] {
        let sink = MemorySink::new(true, 100);
        let handle = sink.handle();
        handle.readable(true);
        handle.takes_over(takes_over);
        let mut is_lost = false;
        handle.script(move |event| {
            match number_of(event) == HELD && !std::mem::replace(&mut is_lost, true) {
                true => BreakAndDelay,
                false => Durable,
            }
        });
        let mut rig = Rig::start(Box::new(sink), 0).await;
        rig.send_to(SENT).await;
        if takes_over {
            rig.wait_until_given_up().await;
            rig.lose_session().await;
            rig.send_to(SENT).await;
        }
        rig.wait_for_ack(SENT).await;
        let late = handle.deliver_late();
        assert_eq!(late == 0, takes_over, "{late} events");
        let account = account(&stored(&handle), SENT);
        assert_eq!((account.lost, account.duplicates), (Vec::new(), late));
        rig.drain().await;
    }
}

fn number_of(event: &Event) -> u64 {
    event.message_id().rsplit(':').next().unwrap().parse().unwrap()
}
