//! Tests the store of dead letters in a sink, over a sink in memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use atdata_bridge::dead_letter::sink_store::SinkDeadLetters;
use atdata_bridge::dead_letter::{DeadLetter, DeadLetterStore};
use atdata_bridge::event::{Batch, SessionId};
use atdata_bridge::sink::Rejection;
use proptest::prelude::*;
use tokio::time::Instant;

use super::memory::{MemoryHandle, MemorySink, ScriptedVerdict};
use super::nats;

const CAPACITY: usize = 100;

/// The shortest time between two questions what the sink holds.
const CLAIM_EVERY: Duration = Duration::from_secs(1);

fn letter(number: u64) -> DeadLetter {
    delivered(number, None, 1, true)
}

fn letter_of(number: u64, sink: &str) -> DeadLetter {
    DeadLetter { worker: sink.into(), sink: Some(sink.into()), ..letter(number) }
}

#[tokio::test]
async fn a_letter_is_kept_when_the_sink_says_so_however_small_its_window() {
    let sink = MemorySink::new(true, 2);
    let handle = sink.handle();
    let store = SinkDeadLetters::new(Box::new(sink), "letters".to_owned(), CAPACITY);
    let letters: Vec<_> = (1..=5).map(|number| letter_of(number, "kafka")).collect();
    store.write(&letters).await.unwrap();
    store.write(&[letter_of(5, "file"), letter(5)]).await.unwrap();
    let ids: Vec<_> = handle.log().iter().map(ToString::to_string).collect();
    let expected =
        ["ID:1/kafka", "ID:2/kafka", "ID:3/kafka", "ID:4/kafka", "ID:5/kafka", "ID:5/file", "ID:5/event"];
    assert_eq!(ids, expected);
    store.close().await;
    assert_eq!(handle.closed(), 1);
}

#[tokio::test]
async fn whatever_is_not_durable_is_an_error_and_the_next_call_starts_anew() {
    let sink = MemorySink::new(true, 2);
    let handle = sink.handle();
    let store = SinkDeadLetters::new(Box::new(sink), "letters".to_owned(), CAPACITY);
    for answer in [ScriptedVerdict::Retry, ScriptedVerdict::Reject, ScriptedVerdict::Break] {
        handle.script(move |_| answer);
        store.write(&[letter(1), letter(2), letter(3)]).await.unwrap_err();
    }
    handle.reachable(false);
    store.write(&[letter(1)]).await.unwrap_err();
    store.probe().await.unwrap_err();
    handle.reachable(true);
    handle.script(|_| ScriptedVerdict::Durable);
    store.write(&[letter(1)]).await.unwrap();
    assert_eq!(handle.log().len(), 1);
}

/// Covers a write that is dropped in the middle, as at an abandoned drain, and a sink that handles an
/// outage without a verdict.
#[tokio::test(start_paused = true)]
async fn a_silent_sink_is_an_error_once_it_says_that_it_is_degraded() {
    let sink = MemorySink::new(true, 2);
    let handle = sink.handle();
    handle.answering(false);
    let store = SinkDeadLetters::new(Box::new(sink), "letters".to_owned(), CAPACITY);
    let dropped = [letter(1)];
    tokio::time::timeout(Duration::from_secs(60), store.write(&dropped)).await.unwrap_err();
    handle.set_degraded(true);
    let error = store.write(&[letter(2)]).await.unwrap_err();
    assert!(error.to_string().contains("is degraded"), "{error}");
    handle.set_degraded(false);
    handle.answering(true);
    store.write(&[letter(3)]).await.unwrap();
    assert_eq!(handle.log().iter().map(|id| &**id).collect::<Vec<_>>(), ["ID:3/event"]);
}

/// A letter whose event is delivered now, in this session.
fn delivered(number: u64, sink: Option<&str>, session: u64, redelivered: bool) -> DeadLetter {
    let mut event = nats::event(&format!("ID:{number}"), "a body");
    event.message.redelivered = redelivered;
    let received = std::time::Instant::now();
    let batch = Batch { session: SessionId(session), first: 1, events: vec![event], received };
    DeadLetter {
        event: Arc::new(batch).refs().next().unwrap(),
        queue: "main.RTO.acme".into(),
        worker: sink.unwrap_or("event").into(),
        sink: sink.map(Arc::from),
        rejection: Rejection { reason: "too_large", detail: "too large".to_owned() },
        attempts: 1,
        first: SystemTime::UNIX_EPOCH,
        last: SystemTime::now(),
    }
}

fn first_delivered(number: u64) -> DeadLetter {
    delivered(number, None, 1, false)
}

/// A sink that says what it holds.
fn readable() -> MemoryHandle {
    let handle = MemorySink::new(true, 2).handle();
    handle.readable(true);
    handle
}

/// A store in the same place as all others with this handle.
fn store(place: &MemoryHandle) -> SinkDeadLetters {
    SinkDeadLetters::new(Box::new(place.sink(true)), "letters".to_owned(), CAPACITY)
}

fn log(place: &MemoryHandle) -> Vec<String> {
    place.log().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn letters_from_before_a_crash_are_not_written_again() {
    let place = readable();
    store(&place).write(&[1, 2, 3].map(first_delivered)).await.unwrap();
    let restarted = store(&place);
    restarted.open().await.unwrap();
    assert_eq!(place.claims(), 1, "a standby asks only when it gets an event");
    restarted.write(&[2, 3, 4].map(first_delivered)).await.unwrap();
    restarted.write(&[first_delivered(5)]).await.unwrap();
    restarted.write(&[]).await.unwrap();
    assert_eq!(log(&place), [1, 2, 3, 4, 5].map(|number| format!("ID:{number}/event")));
    assert_eq!(place.claims(), 2);
}

#[tokio::test]
async fn the_letters_of_several_sinks_about_one_event_stay_apart() {
    let place = readable();
    store(&place).write(&[letter_of(1, "kafka")]).await.unwrap();
    store(&place).write(&[letter_of(1, "kafka"), letter_of(1, "file"), letter(1)]).await.unwrap();
    assert_eq!(log(&place), ["ID:1/kafka", "ID:1/file", "ID:1/event"]);
}

#[tokio::test(start_paused = true)]
async fn the_letters_of_a_bridge_that_has_died_are_not_written_again() {
    let place = readable();
    let survivor = store(&place);
    let begin = Instant::now();
    survivor.write(&[first_delivered(1)]).await.unwrap();
    place.add("ID:2/event");
    place.add("ID:3/event");
    let covered = delivered(4, None, 1, true);
    survivor.write(&[delivered(2, None, 1, true)]).await.unwrap();
    assert!(begin.elapsed() >= CLAIM_EVERY);
    assert_eq!(log(&place), ["ID:1/event", "ID:2/event", "ID:3/event"]);
    // This one was delivered before the last question, so the answer says that nobody has written it.
    let claims = place.claims();
    survivor.write(&[covered]).await.unwrap();
    assert_eq!((log(&place).len(), place.claims()), (4, claims));
}

/// A broker that was restarted marks no event as redelivered.
#[tokio::test(start_paused = true)]
async fn the_letters_of_a_bridge_that_died_with_the_broker_are_not_written_again() {
    let place = readable();
    let survivor = store(&place);
    survivor.write(&[first_delivered(1)]).await.unwrap();
    place.add("ID:2/event");
    survivor.write(&[delivered(2, None, 2, false)]).await.unwrap();
    assert_eq!(log(&place), ["ID:1/event", "ID:2/event"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_before_the_sink_says_what_it_holds() {
    let place = readable();
    store(&place).write(&[first_delivered(1)]).await.unwrap();
    let restarted = store(&place);
    place.fail_claims(2);
    for _ in 0..2 {
        restarted.write(&[1, 2].map(first_delivered)).await.unwrap_err();
        assert_eq!(log(&place), ["ID:1/event"]);
    }
    restarted.write(&[1, 2].map(first_delivered)).await.unwrap();
    assert_eq!(log(&place), ["ID:1/event", "ID:2/event"]);
}

#[tokio::test(start_paused = true)]
async fn of_a_write_that_fails_in_part_only_the_rest_is_written_again() {
    let place = readable();
    place.readable(false);
    place.script(|event| match event.message_id().contains('3') {
        true => ScriptedVerdict::Break,
        false => ScriptedVerdict::Durable,
    });
    let store = store(&place);
    store.write(&[1, 2, 3, 4].map(first_delivered)).await.unwrap_err();
    place.script(|_| ScriptedVerdict::Durable);
    store.write(&[1, 2, 3, 4].map(first_delivered)).await.unwrap();
    assert_eq!(log(&place), [1, 2, 3, 4].map(|number| format!("ID:{number}/event")));
}

/// The verdicts behind the one that fails count too.
#[tokio::test]
async fn what_is_durable_behind_a_failed_letter_is_not_written_again() {
    let sink = MemorySink::new(false, 4);
    let place = sink.handle();
    let store = SinkDeadLetters::new(Box::new(sink), "letters".to_owned(), CAPACITY);
    place.script(|event| match event.message_id().contains('2') {
        true => ScriptedVerdict::Retry,
        false => ScriptedVerdict::Durable,
    });
    store.write(&[1, 2, 3, 4].map(first_delivered)).await.unwrap_err();
    place.script(|_| ScriptedVerdict::Durable);
    store.write(&[1, 2, 3, 4].map(first_delivered)).await.unwrap();
    assert_eq!(log(&place), [4, 3, 1, 2].map(|number| format!("ID:{number}/event")));
}

#[derive(Clone, Debug)]
enum StoreAction {
    /// Writes the next letters; the sink answers the first deliveries like this.
    Write { count: u64, answers: Vec<ScriptedVerdict>, failing_claims: u64 },
    /// The bridge is killed before its last letters count as settled.
    Crash { unsettled: u64, redelivered: bool },
    /// Another bridge writes the next letters and dies. The broker marks its events, or ends the session.
    Peer { count: u64, redelivered: bool },
}

fn action() -> impl Strategy<Value = StoreAction> {
    use ScriptedVerdict::{Break, Durable, KeepAndBreak, Reject, Retry};
    let answer = prop::sample::select(vec![Durable, Durable, Retry, Reject, Break, KeepAndBreak]);
    let answers = prop::collection::vec(answer, 0..8);
    prop_oneof![
        4 => (1u64..6, answers, 0u64..3).prop_map(|(count, answers, failing_claims)| {
            StoreAction::Write { count, answers, failing_claims }
        }),
        1 => (0u64..6, any::<bool>())
            .prop_map(|(unsettled, redelivered)| StoreAction::Crash { unsettled, redelivered }),
        1 => (1u64..6, any::<bool>())
            .prop_map(|(count, redelivered)| StoreAction::Peer { count, redelivered }),
    ]
}

/// A bridge whose place says what it holds. Letter `n` is about event `n / 2`.
struct World {
    place: MemoryHandle,
    store: SinkDeadLetters,
    session: u64,
    /// The number of the next letter.
    next: u64,
    /// The letters before this one are redelivered.
    redelivered: u64,
}

impl World {
    async fn act(&mut self, action: &StoreAction) {
        match action {
            StoreAction::Write { count, answers, failing_claims } => {
                let mut answers = answers.clone().into_iter();
                self.place.script(move |_| answers.next().unwrap_or(ScriptedVerdict::Durable));
                self.place.fail_claims(*failing_claims);
                let letters = self.letters(*count);
                // Each failure uses an answer or a failing claim.
                let mut failures = 0;
                while self.store.write(&letters).await.is_err() {
                    failures += 1;
                    assert!(failures < 20);
                }
                self.next += count;
            }
            StoreAction::Crash { unsettled, redelivered } => {
                self.store = store(&self.place);
                self.redelivered = if *redelivered { self.next } else { 0 };
                self.next = self.next.saturating_sub(*unsettled);
                self.session = 1;
            }
            StoreAction::Peer { count, redelivered } => {
                let letters = self.letters(*count).into_iter();
                let ids = letters.map(|letter| format!("{}/{}", letter.event.message_id(), letter.worker));
                let place = log(&self.place);
                ids.filter(|id| !place.contains(id)).for_each(|id| self.place.add(&id));
                match redelivered {
                    true => self.redelivered = self.redelivered.max(self.next + count),
                    false => self.session += 1,
                }
            }
        }
    }

    fn letters(&self, count: u64) -> Vec<DeadLetter> {
        let numbers = self.next..self.next + count;
        numbers
            .map(|number| {
                let sink = number.is_multiple_of(2).then_some("kafka");
                delivered(number / 2, sink, self.session, number < self.redelivered)
            })
            .collect()
    }
}

proptest! {
    #[test]
    fn each_letter_is_there_once_whatever_crashes(
        actions in prop::collection::vec(action(), 1..20),
        window in 1usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let (log, letters) = runtime.unwrap().block_on(async {
            let place = MemorySink::new(true, window).handle();
            place.readable(true);
            let store = store(&place);
            let mut world = World { place, store, session: 1, next: 0, redelivered: 0 };
            for action in &actions {
                world.act(action).await;
            }
            world.act(&StoreAction::Write { count: 6, answers: vec![], failing_claims: 0 }).await;
            (log(&world.place), world.next)
        });
        let distinct: BTreeSet<_> = log.iter().collect();
        prop_assert_eq!(distinct.len(), log.len(), "{:?}", log);
        prop_assert!(log.len() as u64 >= letters);
    }
}
