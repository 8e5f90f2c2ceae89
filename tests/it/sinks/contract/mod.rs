//! Tests that every sink meets the sink contract (`src/sink/contract.rs`), with the real dispatcher and
//! workers and a source that the test controls.

mod claims;
mod subjects;
mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use atdata_bridge::backoff::BackoffConfig;
use atdata_bridge::dead_letter::{DeadLetter, DeadLetterLimits, DeadLetterStore};
use atdata_bridge::event::{Headers, Message, SessionId};
use atdata_bridge::finding::Finding;
use atdata_bridge::key::Keying;
use atdata_bridge::pipeline::{self, PipelineError, PipelineParts};
use atdata_bridge::sink::file::config::FileCompression;
use atdata_bridge::sink::{Position, RecordSender, Sink, SinkError};
use atdata_bridge::source::{Disconnect, Incoming, Source};
use atdata_bridge::telemetry::counters::SubscriptionCounters;
use atdata_bridge::telemetry::status::{Status, StatusRegistry};
use atdata_bridge::telemetry::watchdog::Watchdog;
use atdata_bridge::units::Period;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::subjects::context;
use crate::sinks::memory::{MemorySink, ScriptedVerdict};
use kit::{SOON, wait_until};

/// A destination under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Builds a sink for this destination, as a new process would.
    fn sink(&self) -> Box<dyn Sink>;

    /// Whether not even a crash doubles an event.
    fn is_exactly_once(&self) -> bool {
        false
    }

    /// Makes the destination unavailable, so that nothing more becomes durable.
    async fn fail(&self);

    /// Makes the destination available again, with all events it had stored.
    async fn heal(&self);

    /// Returns the numbers of the events stored now, in the order of reading for each key.
    async fn contents(&self) -> Vec<u64>;
}

const KEYS: u64 = 37;

fn key_of(number: u64) -> u64 {
    // A hot key takes every third event.
    if number.is_multiple_of(3) { 0 } else { number % KEYS }
}

fn message(number: u64) -> Message {
    let body = format!(r#"{{"md5":"{:032x}","n":{number}}}"#, key_of(number));
    Message {
        id: Bytes::from(format!("ID:test-1:1:1:1:{number}")),
        body: Bytes::from(body),
        timestamp: Some(1_700_000_000_000),
        redelivered: false,
        headers: Headers::empty(),
        unreadable: None,
    }
}

/// A source that passes on the messages that the test sends, and records the acknowledgements.
struct TestSource {
    incoming: mpsc::Receiver<Incoming>,
    acked: watch::Sender<(SessionId, u64)>,
    given_up: watch::Sender<SessionId>,
}

#[async_trait]
impl Source for TestSource {
    async fn next(&mut self) -> Option<Incoming> {
        match self.incoming.recv().await {
            Some(incoming) => Some(incoming),
            None => std::future::pending().await,
        }
    }

    fn ack(&mut self, session: SessionId, through: u64) {
        self.acked.send_replace((session, through));
    }

    fn give_up(&mut self, session: SessionId) {
        self.given_up.send_replace(session);
    }

    async fn close(&mut self) -> Disconnect {
        Disconnect::Confirmed
    }
}

fn watched(sink: Box<dyn Sink>) -> (String, Box<dyn Sink>) {
    ("subject".to_owned(), Box::new(watched::Watched(sink)))
}

#[derive(Default)]
pub struct Letters(pub std::sync::Mutex<Vec<DeadLetter>>);

#[async_trait]
impl DeadLetterStore for Letters {
    fn place(&self) -> &str {
        "memory"
    }

    async fn write(&self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        self.0.lock().unwrap().extend_from_slice(letters);
        Ok(())
    }

    async fn open(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn probe(&self) -> Result<Vec<Finding>, SinkError> {
        Ok(Vec::new())
    }

    async fn read_back(&self, _: Option<Position>, _: RecordSender) -> Result<(), SinkError> {
        Ok(())
    }

    async fn close(&self) {}
}

/// A running dispatcher with one sink, and the broker's side of it. Events are numbered from 1.
pub struct Rig {
    incoming: mpsc::Sender<Incoming>,
    acked: watch::Receiver<(SessionId, u64)>,
    given_up: watch::Receiver<SessionId>,
    drain: CancellationToken,
    dispatcher: JoinHandle<Result<Disconnect, PipelineError>>,
    pub states: StatusRegistry,
    pub counters: Arc<SubscriptionCounters>,
    pub letters: Arc<Letters>,
    session: u64,
    /// Every event up to this number was acknowledged in earlier sessions.
    base: u64,
    /// How many events were sent in this session.
    sent: u64,
}

impl Rig {
    /// Starts the dispatcher with the events after `base`, which are not acknowledged yet.
    pub async fn start(sink: Box<dyn Sink>, base: u64) -> Self {
        let mut rig = Self::with(vec![sink], base).await;
        rig.new_session().await;
        rig
    }

    async fn with(sinks: Vec<Box<dyn Sink>>, base: u64) -> Self {
        let (incoming, messages) = mpsc::channel(64);
        let (acked_sender, acked) = watch::channel((SessionId(0), 0));
        let (given_up_sender, given_up) = watch::channel(SessionId(0));
        let (states, counters, letters) =
            (StatusRegistry::default(), Arc::<SubscriptionCounters>::default(), Arc::<Letters>::default());
        let parts = PipelineParts {
            name: None,
            queue: "main.RTO.acme".to_owned(),
            source: Box::new(TestSource {
                incoming: messages,
                acked: acked_sender,
                given_up: given_up_sender,
            }),
            sinks: sinks.into_iter().map(watched).collect(),
            keying: Keying::new(vec!["/md5".to_owned()], false),
            prefetch: 4096,
            dead_letters: Arc::clone(&letters) as Arc<dyn DeadLetterStore>,
            limits: DeadLetterLimits::new(100, 0.5),
            backoff: BackoffConfig { initial: Period::millis(5), max: Period::millis(50) },
            counters: Arc::clone(&counters),
            statuses: states.clone(),
            watchdog: Watchdog::default(),
        };
        let drain = CancellationToken::new();
        let dispatcher = tokio::spawn(pipeline::run(parts, drain.clone()));
        Self {
            incoming,
            acked,
            given_up,
            drain,
            dispatcher,
            states,
            counters,
            letters,
            session: 0,
            base,
            sent: 0,
        }
    }

    /// Starts a session, in which the broker sends again every event that is not acknowledged.
    pub async fn new_session(&mut self) {
        self.base = self.acked();
        self.session += 1;
        self.sent = 0;
        self.incoming.send(Incoming::Session(SessionId(self.session))).await.unwrap();
    }

    /// Reports a lost connection to the dispatcher and starts the next session.
    pub async fn lose_session(&mut self) {
        self.incoming.send(Incoming::Lost(SessionId(self.session))).await.unwrap();
        self.new_session().await;
    }

    /// Sends events up to and including number `to`, in batches of different sizes.
    pub async fn send_to(&mut self, to: u64) {
        while self.base + self.sent < to {
            let first = self.base + self.sent + 1;
            let count = (1 + first % 61).min(to + 1 - first);
            self.incoming
                .send(Incoming::Messages((first..first + count).map(message).collect()))
                .await
                .unwrap();
            self.sent += count;
        }
    }

    /// Returns the number of the last acknowledged event; all earlier events are acknowledged too.
    pub fn acked(&self) -> u64 {
        match *self.acked.borrow() {
            (session, through) if session == SessionId(self.session) => self.base + through,
            _ => self.base,
        }
    }

    pub async fn send_body(&mut self, body: String) {
        self.send_bodies([body]).await;
    }

    /// Sends events with these bodies in one batch.
    pub async fn send_bodies(&mut self, bodies: impl IntoIterator<Item = String>) {
        let next = self.base + self.sent + 1;
        let with_body = |(number, body)| Message { body: Bytes::from(body), ..message(number) };
        let messages: Vec<_> = (next..).zip(bodies).map(with_body).collect();
        self.sent += messages.len() as u64;
        self.incoming.send(Incoming::Messages(messages)).await.unwrap();
    }

    /// Waits until the dispatcher ends by itself.
    pub async fn ended(self) -> Result<Disconnect, PipelineError> {
        tokio::time::timeout(SOON, self.dispatcher).await.expect("it ends").expect("it does not panic")
    }

    /// Waits until the pipeline gives up the session, because another bridge has taken over, or may have.
    pub async fn wait_until_given_up(&self) {
        wait_until("the session is given up", SOON, || self.is_given_up()).await;
    }

    /// Whether the pipeline has given up the current session.
    pub fn is_given_up(&self) -> bool {
        *self.given_up.borrow() == SessionId(self.session)
    }

    /// Waits until an event is acknowledged. If the pipeline gives the session up, the events come again in another
    /// one, as from a source.
    pub async fn wait_for_ack(&mut self, number: u64) {
        let sent = self.base + self.sent;
        let what = format!("event {number} was acknowledged");
        loop {
            wait_until(&what, SOON, || self.acked() >= number || self.is_given_up()).await;
            if self.acked() >= number {
                return;
            }
            self.lose_session().await;
            self.send_to(sent).await;
        }
    }

    pub async fn wait_for_failure(&self) {
        let has_failed = |state: &Status| matches!(state, Status::Retrying(_) | Status::Held(_));
        let failed =
            || self.states.all().iter().any(|(part, state, _)| part.starts_with("sink") && has_failed(state));
        wait_until("the sink reports a failure", SOON, failed).await;
    }

    /// Drains the dispatcher and returns the number of the last acknowledged event.
    pub async fn drain(self) -> u64 {
        self.drain.cancel();
        let acked = self.acked.clone();
        let base = self.base;
        let session = SessionId(self.session);
        let ended = tokio::time::timeout(SOON, self.dispatcher).await.expect("drains in time").unwrap();
        assert_eq!(ended.expect("no fault"), Disconnect::Confirmed);
        let (last, through) = *acked.borrow();
        if last == session { base + through } else { base }
    }

    /// Aborts the dispatcher, as SIGKILL would, and returns the number of the last acknowledged event.
    pub async fn abandon(self) -> u64 {
        self.dispatcher.abort();
        assert!(self.dispatcher.await.is_err_and(|error| error.is_cancelled()));
        // Aborting the dispatcher dropped its source and its sinks: nothing can be acknowledged any more.
        match *self.acked.borrow() {
            (session, through) if session == SessionId(self.session) => self.base + through,
            _ => self.base,
        }
    }
}

/// Compares the stored events with the events sent, which are 1 to `sent`.
pub struct Account {
    pub lost: Vec<u64>,
    pub duplicates: usize,
}

/// Counts lost and duplicate events, and checks that the first copies of one key are in the broker's order
/// (I3).
pub fn account(contents: &[u64], sent: u64) -> Account {
    let mut seen = BTreeSet::new();
    let mut last_of_key = BTreeMap::new();
    for number in contents {
        assert!((1..=sent).contains(number), "event {number} was never sent");
        if seen.insert(*number) {
            let last = last_of_key.insert(key_of(*number), *number).unwrap_or(0);
            assert!(last < *number, "key {}: {number} became durable after {last}", key_of(*number));
        }
    }
    let lost = (1..=sent).filter(|number| !seen.contains(number)).collect();
    Account { lost, duplicates: contents.len() - seen.len() }
}

async fn assert_exactly(subject: &dyn Subject, sent: u64) {
    let account = account(&subject.contents().await, sent);
    assert_eq!(account.lost, [] as [u64; 0], "lost");
    assert_eq!(account.duplicates, 0, "duplicates");
}

async fn every_event_becomes_durable_once_and_in_order(subject: &dyn Subject) {
    let mut rig = Rig::start(subject.sink(), 0).await;
    rig.send_to(3000).await;
    rig.wait_for_ack(3000).await;
    assert_exactly(subject, 3000).await;
    assert_eq!(rig.drain().await, 3000);
}

async fn an_outage_loses_and_duplicates_nothing(subject: &dyn Subject) {
    let mut rig = Rig::start(subject.sink(), 0).await;
    rig.send_to(500).await;
    rig.wait_for_ack(100).await;
    subject.fail().await;
    rig.send_to(1500).await;
    rig.wait_for_failure().await;
    let held = rig.acked();
    assert!(held < 1500, "acknowledged while the destination was unavailable");
    subject.heal().await;
    rig.send_to(2000).await;
    rig.wait_for_ack(2000).await;
    assert_exactly(subject, 2000).await;
    rig.drain().await;
}

async fn an_outage_at_the_start_is_waited_out(subject: &dyn Subject) {
    subject.fail().await;
    let mut rig = Rig::start(subject.sink(), 0).await;
    rig.send_to(200).await;
    rig.wait_for_failure().await;
    assert_eq!(rig.acked(), 0);
    subject.heal().await;
    rig.wait_for_ack(200).await;
    assert_exactly(subject, 200).await;
    rig.drain().await;
}

async fn a_lost_session_duplicates_nothing(subject: &dyn Subject) {
    let mut rig = Rig::start(subject.sink(), 0).await;
    for round in 1..=20 {
        rig.send_to(round * 150).await;
        rig.wait_for_ack(round * 100).await;
        rig.lose_session().await;
    }
    rig.send_to(4000).await;
    rig.wait_for_ack(4000).await;
    assert_exactly(subject, 4000).await;
    rig.drain().await;
}

async fn a_session_lost_during_an_outage_duplicates_nothing(subject: &dyn Subject) {
    let mut rig = Rig::start(subject.sink(), 0).await;
    rig.send_to(300).await;
    rig.wait_for_ack(50).await;
    subject.fail().await;
    for _ in 0..10 {
        rig.send_to(600).await;
        rig.wait_for_failure().await;
        rig.lose_session().await;
    }
    rig.send_to(700).await;
    subject.heal().await;
    rig.wait_for_ack(700).await;
    assert_exactly(subject, 700).await;
    rig.drain().await;
}

async fn a_restart_continues_where_the_last_run_stopped(subject: &dyn Subject) {
    for run in 0..4 {
        let mut rig = Rig::start(subject.sink(), run * 250).await;
        rig.send_to((run + 1) * 250).await;
        rig.wait_for_ack((run + 1) * 250).await;
        assert_eq!(rig.drain().await, (run + 1) * 250);
    }
    assert_exactly(subject, 1000).await;
}

async fn closing_while_busy_settles_all_accepted_events(subject: &dyn Subject) {
    let mut acked = 0;
    for _ in 0..5 {
        let mut rig = Rig::start(subject.sink(), acked).await;
        rig.send_to(acked + 700).await;
        rig.wait_for_ack(acked + 50).await;
        acked = rig.drain().await;
        assert_exactly(subject, acked).await;
    }
}

async fn a_crash_loses_nothing_and_duplicates_only_events_in_flight(subject: &dyn Subject) {
    let mut acked = 0;
    let mut sent = 0;
    let mut in_flight = 0;
    for round in 0..6 {
        let mut rig = Rig::start(subject.sink(), acked).await;
        sent = sent.max(acked + 600);
        rig.send_to(sent).await;
        rig.wait_for_ack(acked + 40 * round).await;
        acked = rig.abandon().await;
        in_flight += usize::try_from(sent - acked).unwrap();
    }
    let mut rig = Rig::start(subject.sink(), acked).await;
    rig.send_to(sent + 100).await;
    rig.wait_for_ack(sent + 100).await;
    let account = account(&subject.contents().await, sent + 100);
    assert_eq!(account.lost, [] as [u64; 0], "lost");
    let allowed = if subject.is_exactly_once() { 0 } else { in_flight };
    assert!(account.duplicates <= allowed, "{} duplicates, {in_flight} in flight", account.duplicates);
    rig.drain().await;
}

async fn a_probe_stores_nothing(subject: &dyn Subject) {
    subject.sink().probe().await.expect("reachable");
    assert_eq!(subject.contents().await, [] as [u64; 0]);
    subject.fail().await;
    subject.sink().probe().await.expect_err("unreachable");
    subject.heal().await;
    every_event_becomes_durable_once_and_in_order(subject).await;
}

/// Makes one test of each promise, or of the named promises, for the subject that `$make` builds. If `$needs`
/// reports that the server is not installed here, the tests report that they did not run.
macro_rules! test_every_promise {
    ($subject:ident, $make:expr $(, if $needs:path)?) => {
        test_every_promise!($subject, $make $(, if $needs)?;
            every_event_becomes_durable_once_and_in_order
            an_outage_loses_and_duplicates_nothing
            an_outage_at_the_start_is_waited_out
            a_lost_session_duplicates_nothing
            a_session_lost_during_an_outage_duplicates_nothing
            a_restart_continues_where_the_last_run_stopped
            closing_while_busy_settles_all_accepted_events
            a_crash_loses_nothing_and_duplicates_only_events_in_flight
            a_probe_stores_nothing);
    };
    ($subject:ident, $make:expr $(, if $needs:path)?; $($promise:ident)+) => {
        mod $subject {
            test_every_promise!(@each $make, [$($needs)?]; $($promise)+);
        }
    };
    (@each $make:expr, $needs:tt; $($promise:ident)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            if test_every_promise!(@can_run $needs, concat!(module_path!(), "::", stringify!($promise))) {
                let subject = $make;
                super::$promise(&subject).await;
            }
        }
    )+};
    (@can_run [], $test:expr) => { true };
    (@can_run [$needs:path], $test:expr) => { $needs($test) };
}

test_every_promise!(memory_in_order, super::subjects::Memory::new(true));
test_every_promise!(memory_in_any_order, super::subjects::Memory::new(false));
test_every_promise!(files, super::subjects::Files::new(super::FileCompression::None));
test_every_promise!(files_compressed, super::subjects::Files::new(super::FileCompression::Zstd));
test_every_promise!(sink_of_another_crate, super::subjects::Webhook::new().await);
test_every_promise!(kafka_killed, super::subjects::Topic::killed().await, if kit::kafka::available);
test_every_promise!(kafka_frozen, super::subjects::Topic::frozen().await, if kit::kafka::available);
test_every_promise!(
    kafka_exactly_once_killed,
    super::subjects::Topic::killed_exactly_once().await,
    if kit::kafka::available
);
test_every_promise!(
    kafka_exactly_once_frozen,
    super::subjects::Topic::frozen_exactly_once().await,
    if kit::kafka::available
);
// Duplicates after an outage of the mock cluster prove nothing about a real broker.
test_every_promise!(kafka_mock, super::subjects::MockTopic::new();
    every_event_becomes_durable_once_and_in_order
    a_lost_session_duplicates_nothing
    a_restart_continues_where_the_last_run_stopped
    closing_while_busy_settles_all_accepted_events
    a_crash_loses_nothing_and_duplicates_only_events_in_flight);
test_every_promise!(jetstream, super::subjects::JetStream::start().await, if kit::nats::available);
// Core NATS stores nothing: nobody can tell what an outage or a crash of the server loses.
test_every_promise!(core_nats, super::subjects::CoreNats::start().await, if kit::nats::available;
    every_event_becomes_durable_once_and_in_order
    a_lost_session_duplicates_nothing
    a_restart_continues_where_the_last_run_stopped
    closing_while_busy_settles_all_accepted_events
    a_crash_loses_nothing_and_duplicates_only_events_in_flight);

#[tokio::test]
async fn a_dispatcher_with_too_few_or_too_many_sinks_takes_no_events() {
    for sinks in [0, 64] {
        let rig = Rig::with((0..sinks).map(|_| subjects::Memory::new(true).sink()).collect(), 0).await;
        let fault =
            tokio::time::timeout(SOON, rig.dispatcher).await.expect("ends at once").unwrap().unwrap_err();
        assert!(matches!(fault, PipelineError::Sinks(number) if number == sinks), "{fault}");
    }
}

/// The connection breaks when an event is stored and has no verdict yet, as in a crash. At first the sink can't
/// say what it holds.
#[tokio::test]
async fn a_sink_that_says_what_it_holds_gets_nothing_twice() {
    for keeps_order in [true, false] {
        let sink = MemorySink::new(keeps_order, 100);
        let handle = sink.handle();
        handle.readable(true);
        handle.fail_claims(3);
        let mut offered = 0;
        handle.script(move |_| {
            offered += 1;
            if offered % 200 == 0 { ScriptedVerdict::KeepAndBreak } else { ScriptedVerdict::Durable }
        });
        let mut rig = Rig::start(Box::new(sink), 0).await;
        rig.send_to(1000).await;
        rig.wait_for_ack(1000).await;
        let stored: Vec<u64> =
            handle.log().iter().map(|id| id.rsplit(':').next().unwrap().parse().unwrap()).collect();
        let account = account(&stored, 1000);
        assert_eq!((account.lost, account.duplicates), (Vec::new(), 0));
        assert!(handle.claims() > 4, "the connection never broke");
        rig.drain().await;
    }
}

/// Crashes when events are stored and not acknowledged. What was on its way then has arrived before the next
/// start, and the duplicate window has passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_says_what_it_holds_gets_nothing_twice() {
    const WINDOW: Duration = Duration::from_millis(100);
    if !kit::nats::available(concat!(module_path!(), "::a_stream_that_says_what_it_holds_gets_nothing_twice"))
    {
        return;
    }
    let subject = subjects::JetStream::with_window(WINDOW).await;
    let (mut acked, mut came_again) = (0, 0);
    for round in 1..=6 {
        let mut rig = Rig::start(subject.sink(), acked).await;
        rig.send_to(600 * round).await;
        rig.wait_for_ack(acked + 40 * round).await;
        acked = rig.abandon().await;
        tokio::time::sleep(5 * WINDOW).await;
        came_again += subject.contents().await.iter().filter(|number| **number > acked).count();
    }
    let mut rig = Rig::start(subject.sink(), acked).await;
    rig.send_to(4000).await;
    rig.wait_for_ack(4000).await;
    assert_exactly(&subject, 4000).await;
    assert!(came_again > 0, "every event that was stored was acknowledged");
    rig.drain().await;
}

#[tokio::test]
async fn rejected_events_become_dead_letters_and_the_others_reach_the_sink() {
    let subject = subjects::Memory::new(true);
    let sink = subject.scripted(|event| {
        if event.message_id().ends_with("00") { ScriptedVerdict::Reject } else { ScriptedVerdict::Durable }
    });
    let mut rig = Rig::start(sink, 0).await;
    rig.send_to(1000).await;
    rig.wait_for_ack(1000).await;
    assert_eq!(account(&subject.contents().await, 1000).lost, (1..=10).map(|n| n * 100).collect::<Vec<_>>());
    let letters = std::mem::take(&mut *rig.letters.0.lock().unwrap());
    assert_eq!(letters.len(), 10);
    assert!(letters.iter().all(|letter| letter.rejection.reason == "scripted" && letter.attempts == 1));
    assert_eq!(rig.counters.workers.get("subject").dead_lettered.total(), 10);
    rig.drain().await;
}

#[tokio::test]
async fn too_many_rejections_hold_the_worker_instead_of_emptying_the_queue() {
    let subject = subjects::Memory::new(true);
    let sink = subject.scripted(|event| {
        let number: u64 = event.message_id().rsplit(':').next().unwrap().parse().unwrap();
        if number > 200 { ScriptedVerdict::Reject } else { ScriptedVerdict::Durable }
    });
    let mut rig = Rig::start(sink, 0).await;
    rig.send_to(3000).await;
    let held = || rig.states.all().iter().any(|(_, state, _)| matches!(state, Status::Held(_)));
    wait_until("the worker holds", SOON, held).await;
    assert!(rig.acked() <= 300, "at most 100 in a row may be dead letters, {} acked", rig.acked());
    assert!(rig.letters.0.lock().unwrap().len() <= 100);
    rig.abandon().await;
}

/// Events that were refused while the worker held are delivered in order once the destination accepts them,
/// and are not dead letters.
#[tokio::test]
async fn a_hold_ends_when_the_destination_accepts_the_refused_event() {
    for keeps_order in [true, false] {
        let subject = subjects::Memory::new(keeps_order);
        let limit = Arc::new(AtomicU64::new(200));
        let (limited, offers) = (Arc::clone(&limit), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&offers);
        let sink = subject.scripted(move |event| {
            counted.fetch_add(1, Ordering::SeqCst);
            let number: u64 = event.message_id().rsplit(':').next().unwrap().parse().unwrap();
            if number > limited.load(Ordering::SeqCst) {
                ScriptedVerdict::Reject
            } else {
                ScriptedVerdict::Durable
            }
        });
        let mut rig = Rig::start(sink, 0).await;
        rig.send_to(3000).await;
        let held = || rig.states.all().iter().any(|(_, state, _)| matches!(state, Status::Held(_)));
        wait_until("the worker holds", SOON, held).await;
        // The oldest event is offered again and again, but counts only once towards the limit.
        let before = offers.load(Ordering::SeqCst);
        let offered = || offers.load(Ordering::SeqCst) >= before + 5;
        wait_until("the refused event was offered again", SOON, offered).await;
        let letters = rig.letters.0.lock().unwrap().len() as u64;
        assert!(held(), "the event was offered, but not accepted");
        // Without order, accepted events come between the refused events and end the row of refusals.
        assert!(letters <= 100 || !keeps_order, "{letters} dead letters");
        limit.store(u64::MAX, Ordering::SeqCst);
        rig.wait_for_ack(3000).await;
        let account = account(&subject.contents().await, 3000);
        assert_eq!(account.lost.len() as u64, letters, "a good event became a dead letter");
        assert_eq!(account.duplicates, 0);
        let ready = || rig.states.all().iter().all(|(_, state, _)| state.is_ready());
        wait_until("the worker is ready again", SOON, ready).await;
        rig.drain().await;
    }
}

#[tokio::test]
async fn partial_failures_and_broken_connections_keep_order_and_duplicate_only_events_without_a_verdict() {
    for keeps_order in [true, false] {
        let subject = subjects::Memory::new(keeps_order);
        let mut offers = 0;
        let sink = subject.scripted(move |_| {
            offers += 1;
            match offers {
                n if n % 97 == 0 => ScriptedVerdict::Retry,
                n if n % 331 == 0 => ScriptedVerdict::Break,
                n if n % 503 == 0 => ScriptedVerdict::KeepAndBreak,
                _ => ScriptedVerdict::Durable,
            }
        });
        let mut rig = Rig::start(sink, 0).await;
        rig.send_to(2000).await;
        rig.wait_for_ack(2000).await;
        let account = account(&subject.contents().await, 2000);
        assert_eq!(account.lost, [] as [u64; 0]);
        // Each connection that breaks after it stored an event, but before its verdict, causes one duplicate.
        assert!((1..=5).contains(&account.duplicates), "{} duplicates", account.duplicates);
        rig.drain().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_ends_when_another_replica_gets_its_events() {
    let sink = MemorySink::new(true, 100);
    sink.handle().script(|_| ScriptedVerdict::Retry);
    ends_its_error_without_the_event(sink).await;
}

async fn ends_its_error_without_the_event(sink: MemorySink) {
    let mut rig = Rig::start(Box::new(sink), 0).await;
    rig.send_to(1).await;
    rig.wait_for_failure().await;
    rig.lose_session().await;
    let is_ready = || rig.states.all().iter().all(|(_, state, _)| state.is_ready());
    wait_until("all parts are ready", SOON, is_ready).await;
    rig.drain().await;
}

/// A lost connection may be about the events, as one to Kafka that refuses them.
#[tokio::test(start_paused = true)]
async fn what_a_lost_connection_leaves_ends_when_another_replica_gets_its_events() {
    let sink = MemorySink::new(true, 100);
    sink.handle().remember_losses();
    sink.handle().script(|_| ScriptedVerdict::Break);
    ends_its_error_without_the_event(sink).await;
}

#[tokio::test]
async fn a_degraded_sink_is_not_ready_and_still_delivers() {
    let subject = subjects::Memory::new(true);
    let mut rig = Rig::start(subject.sink(), 0).await;
    rig.send_to(100).await;
    rig.wait_for_ack(100).await;
    subject.set_degraded(true);
    rig.wait_for_failure().await;
    rig.send_to(200).await;
    rig.wait_for_ack(200).await;
    let ready = || rig.states.all().iter().all(|(_, state, _)| state.is_ready());
    assert!(!ready(), "a verdict does not end a failure that lasts");
    subject.set_degraded(false);
    wait_until("the sink is ready again", SOON, ready).await;
    rig.drain().await;
}
