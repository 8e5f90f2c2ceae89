//! Sends the letters of one sink through a pipeline.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::reading::WAITING;
use super::counts::{Counts, add};
use super::letters::{ReplayArgs, ReplayDestination, Replayed, SendDecision, message};
use super::marker::Marker;
use super::progress::ReplayProgress;
use super::refusals::Refusals;
use super::report::ReplayOutcome;
use super::source::{ReplaySource, WINDOW};
use crate::bridge::replay_context;
use crate::budget::Budget;
use crate::commands::signals::StopSignals;
use crate::config::Settings;
use crate::dead_letter::{DeadLetterLimits, DeadLetterStore, ReplayMarks, StoredLetter, StoredLine};
use crate::event::{Event, Message};
use crate::key::Keying;
use crate::pipeline::{self, PipelineParts};
use crate::sink::StoredRecord;
use crate::sink::factory::SinkSettings;
use crate::source::config::SourceSettings;
use crate::telemetry::Telemetry;
use crate::telemetry::status::{Status, StatusRegistry};

/// The time between two looks at the state of the sink.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a stopped replay waits for letters that are on their way.
const DRAIN: Duration = Duration::from_secs(30);

/// Why a replay has stopped before its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// A signal has asked for it; holds its name.
    Asked(&'static str),
    /// Something must be corrected first.
    Failed(String),
    /// An error of the bridge itself.
    Fault(String),
}

/// A sink that letters are sent to.
pub(super) struct Target {
    pub(super) to: ReplayDestination,
    pub(super) sink: SinkSettings,
    pub(super) source: SourceSettings,
    /// How many letters are for it, replayed or not.
    pub(super) letters: u64,
}

/// The replay of the letters of one sink.
pub(super) struct Pass<'a> {
    pub(super) args: &'a ReplayArgs,
    pub(super) target: &'a Target,
    pub(super) settings: &'a Settings,
    pub(super) store: &'a dyn DeadLetterStore,
    pub(super) marks: &'a dyn ReplayMarks,
    pub(super) replayed: &'a mut Replayed,
}

impl Pass<'_> {
    /// Sends until all letters are settled and marked, or something stops it. What is settled until then is marked.
    pub(super) async fn run(
        self,
        stop: &mut StopSignals,
        progress: &mut ReplayProgress<'_>,
    ) -> (ReplayOutcome, Result<(), StopReason>) {
        let state = PassState::new(self.settings, self.store);
        let (sender, messages) = mpsc::channel(WAITING);
        let (settled, settlements) = mpsc::channel(WINDOW);
        let source = ReplaySource::new(messages, settled, state.end.clone());
        let running = pipeline::run(self.parts(source, &state), state.end.clone());
        let Self { args, target, settings, store, marks, replayed } = self;
        let (to, PassState { telemetry, refusals, counts, asked, .. }) = (&target.to, &state);
        let (keying, max_run) = (&settings.keying, settings.dead_letters.max_run);
        let letters = Letters { args, to, keying, refusals, counts, max_run };
        let budget = Budget::new(settings.max_in_flight);
        let sending = async {
            let pipeline = async { running.await.map_err(|fault| StopReason::Fault(fault.to_string())) };
            let reading = letters.read(store, replayed, &budget, sender);
            let sent = tokio::try_join!(pipeline, reading);
            asked.get().map_or_else(|| sent.map(|_| ()), |signal| Err(StopReason::Asked(signal)))
        };
        let marker = Marker { marks, to, refusals, counts };
        let marking = async {
            let marked = marker.run(settlements, telemetry.statuses.reporter("replay marks")).await;
            let place = store.place();
            marked.map_err(|error| {
                StopReason::Failed(format!("can't write replay marks into {place}: {error}"))
            })
        };
        let ended = send_and_mark(sending, marking, state.control(stop, progress)).await;
        (state.outcome(target), ended)
    }

    /// Describes the pipeline from `source` to the sink.
    fn parts(&self, source: ReplaySource, state: &PassState) -> PipelineParts {
        let (Self { target, settings, .. }, PassState { telemetry, refusals, .. }) = (self, state);
        let to = &target.to;
        let context = replay_context(&to.sink, &target.source, settings.partitions);
        PipelineParts {
            name: None,
            queue: to.queue.clone(),
            source: Box::new(source),
            sinks: vec![(to.sink.clone(), target.sink.factory.build(context))],
            keying: settings.keying.clone(),
            prefetch: WINDOW,
            dead_letters: Arc::clone(refusals) as Arc<dyn DeadLetterStore>,
            // `Letters` counts them, because what is refused is a letter already.
            limits: DeadLetterLimits::new(u32::MAX, 1.0),
            backoff: target.source.backoff,
            counters: telemetry.counters.get(&to.queue),
            statuses: telemetry.statuses.clone(),
            watchdog: telemetry.watchdog.clone(),
        }
    }
}

/// What the parts of a pass share.
struct PassState {
    telemetry: Telemetry,
    refusals: Arc<Refusals>,
    counts: Counts,
    /// The signal that has asked the replay to stop.
    asked: Cell<Option<&'static str>>,
    /// Ends the pipeline when it is cancelled.
    end: CancellationToken,
}

impl PassState {
    fn new(settings: &Settings, store: &dyn DeadLetterStore) -> Self {
        let origins = Arc::clone(&settings.origins);
        let statuses = StatusRegistry::annotated_by(move |text| origins.annotate(text));
        Self {
            telemetry: Telemetry { statuses, ..Telemetry::default() },
            refusals: Arc::new(Refusals::new(store.place())),
            counts: Counts::default(),
            asked: Cell::new(None),
            end: CancellationToken::new(),
        }
    }

    /// Shows the progress until something must stop the replay.
    async fn control(&self, stop: &mut StopSignals, progress: &mut ReplayProgress<'_>) -> StopReason {
        tokio::select! {
            reason = self.watch(progress) => reason,
            reason = self.obey(stop) => reason,
        }
    }

    /// Shows the progress until a part needs somebody.
    async fn watch(&self, progress: &mut ReplayProgress<'_>) -> StopReason {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let parts = self.telemetry.statuses.all();
            progress.show(self.counts.done(), &parts, self.asked.get());
            for (part, status, _) in parts {
                if let Status::Held(reason) = status {
                    return StopReason::Failed(format!("{part}: {reason}"));
                }
            }
        }
    }

    /// Ends the pipeline at the first signal. Returns at the second one, or if letters on their way take too long.
    async fn obey(&self, stop: &mut StopSignals) -> StopReason {
        let signal = stop.asked().await;
        self.asked.set(Some(signal));
        self.end.cancel();
        tokio::select! {
            _ = stop.asked() => {}
            () = sleep(DRAIN) => {}
        }
        StopReason::Asked(signal)
    }

    fn outcome(&self, target: &Target) -> ReplayOutcome {
        let Target { to, letters, .. } = target;
        let suppressed = self.telemetry.counters.get(&to.queue).workers.get(&to.sink).suppressed.get();
        ReplayOutcome {
            sink: to.sink.clone(),
            letters: *letters,
            replayed_before: self.counts.replayed_before.get(),
            sent: self.counts.delivered.get().saturating_sub(suppressed),
            held: suppressed + self.counts.repeated.get(),
            refused: self.refusals.by_reason(),
        }
    }
}

/// Waits until all letters are sent and marked, or until `control` stops the sending. Then it marks what was settled
/// before, for at most [`DRAIN`].
async fn send_and_mark(
    sending: impl Future<Output = Result<(), StopReason>>,
    marking: impl Future<Output = Result<(), StopReason>>,
    control: impl Future<Output = StopReason>,
) -> Result<(), StopReason> {
    let (mut marking, mut control) = (pin!(marking), pin!(control));
    // When `sending` is dropped, so is the source, and with it the sender of settled letters.
    let sending = async {
        tokio::select! { sent = sending => sent, stop = &mut control => Err(stop) }
    };
    tokio::select! {
        biased;
        // It ends first only with an error.
        marked = &mut marking => {
            marked.and_then(|()| Err(StopReason::Fault("the source has ended before the pipeline".to_owned())))
        }
        sent = sending => match sent {
            Ok(()) => tokio::select! {
                marked = &mut marking => marked,
                stop = &mut control => Err(stop),
            },
            Err(stop) => match timeout(DRAIN, &mut marking).await {
                Ok(Err(unmarked)) => Err(unmarked),
                Ok(Ok(())) | Err(_) => Err(stop),
            },
        },
    }
}

/// The letters that one sink gets.
struct Letters<'a> {
    args: &'a ReplayArgs,
    to: &'a ReplayDestination,
    keying: &'a Keying,
    refusals: &'a Refusals,
    counts: &'a Counts,
    /// The most letters in a row that the sink may refuse.
    max_run: u32,
}

impl Letters<'_> {
    /// Sends them to the source, but none that was replayed, and none whose event has no usable key.
    async fn read(
        &self,
        store: &dyn DeadLetterStore,
        replayed: &mut Replayed,
        budget: &Budget,
        sender: mpsc::Sender<Message>,
    ) -> Result<(), StopReason> {
        let (records, mut stored) = mpsc::channel::<StoredRecord>(WAITING);
        let send = async {
            while let Some(record) = stored.recv().await {
                self.are_too_many_refused()?;
                // Before the letter takes room itself, or a letter as large as all room would wait for ever.
                budget.room().await;
                let Ok(StoredLine::Letter(letter)) = StoredLine::parse(&record.content) else { continue };
                if let Some(message) = self.message(*letter, replayed, budget)
                    && sender.send(message).await.is_err()
                {
                    break;
                }
            }
            // These end the reading and the source.
            drop((stored, sender));
            Ok(())
        };
        let (read, sent) = tokio::join!(store.read_back(self.args.filter.from.clone(), records), send);
        sent.and_then(|()| read.map_err(|error| StopReason::Failed(format!("dead letters: {error}"))))
    }

    /// If the sink refuses one letter after the other, the fault is in a setting.
    fn are_too_many_refused(&self) -> Result<(), StopReason> {
        match self.refusals.more_in_a_row_than(self.max_run) {
            Some(last) => Err(StopReason::Failed(format!(
                "more than {} letters in a row were refused again; the last one: {last}; letters that must stay can be \
                 left out with --reason, --until or --from, or raise dead_letters.max_run",
                self.max_run
            ))),
            None => Ok(()),
        }
    }

    /// Returns the message to send, if this letter is to be sent.
    fn message(&self, letter: StoredLetter, replayed: &mut Replayed, budget: &Budget) -> Option<Message> {
        if !self.to.wants(self.args, &letter) {
            return None;
        }
        match replayed.take(self.to, &letter.message_id) {
            SendDecision::ReplayedBefore => {
                add(&self.counts.replayed_before, 1);
                return None;
            }
            SendDecision::Repeated => {
                add(&self.counts.repeated, 1);
                return None;
            }
            SendDecision::First => {}
        }
        let event = Event::new(message(letter, budget), self.keying);
        if let Some(defect) = &event.defect {
            self.refusals.add_keyless(&event.message_id(), defect);
            add(&self.counts.refused, 1);
            return None;
        }
        Some(event.message)
    }
}
