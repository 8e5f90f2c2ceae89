//! Sends the letters of one sink through a pipeline, and marks those that are durable.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::super::reading::WAITING;
use super::letters::{ReplayArgs, Replayed, is_owed, message};
use super::progress::Progress;
use super::refusals::Refusals;
use super::report::Outcome;
use super::source::{ReplaySource, Settled, WINDOW};
use crate::bridge::replay_context;
use crate::budget::Budget;
use crate::commands::signals::StopSignals;
use crate::config::Settings;
use crate::dead_letter::{DeadLetterLimits, DeadLetterStore, ReplayMark, ReplayMarks, StoredLine};
use crate::event::Message;
use crate::pipeline::{self, PipelineParts};
use crate::sink::factory::SinkSettings;
use crate::sink::{SinkError, StoredRecord};
use crate::source::config::SourceSettings;
use crate::telemetry::Telemetry;
use crate::telemetry::status::{Status, StatusRegistry};

/// The most letters of one mark, and the most bytes of their ids: every place takes such a line.
const MARKED_AT_ONCE: usize = 1000;
const MARK_BYTES: usize = 16 << 10;
/// How long settled letters wait for others, to be marked together.
const GATHER: Duration = Duration::from_millis(200);

/// The time between two looks at the state of the sink.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a stopped replay waits for letters that are on their way.
const DRAIN: Duration = Duration::from_secs(30);

/// Why a replay has stopped before its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// A signal has asked for it; holds its name.
    Asked(&'static str),
    /// Something must be corrected first.
    Failed(String),
    /// An error of the bridge itself.
    Fault(String),
}

/// A sink that letters are sent to.
pub(super) struct Target {
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

/// How many letters this pass is done with.
#[derive(Debug, Default)]
struct Counts {
    replayed_before: Cell<u64>,
    delivered: Cell<u64>,
    refused: Cell<u64>,
}

impl Counts {
    fn done(&self) -> u64 {
        self.replayed_before.get() + self.delivered.get() + self.refused.get()
    }
}

fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get() + count);
}

impl Pass<'_> {
    /// Sends until all letters are settled and marked, or something stops it. What is settled until then is marked.
    pub(super) async fn run(
        self,
        stop: &mut StopSignals,
        progress: &mut Progress<'_>,
    ) -> (Outcome, Result<(), Stop>) {
        let Self { args, target, settings, store, marks, replayed } = self;
        let sink = target.sink.name.as_str();
        let origins = Arc::clone(&settings.origins);
        let statuses = StatusRegistry::annotated_by(move |text| origins.annotate(text));
        let telemetry = Telemetry { statuses, ..Telemetry::default() };
        let counters = telemetry.counters.get(&target.source.queue());
        let refusals = Arc::new(Refusals::new(store.place()));
        let counts = Counts::default();
        let end = CancellationToken::new();
        let budget = Budget::new(settings.max_in_flight);
        let (sender, messages) = mpsc::channel(WAITING);
        let (settled, settlements) = mpsc::channel(WINDOW);
        let context = replay_context(sink, &target.source, settings.partitions);
        let running = pipeline::run(
            PipelineParts {
                name: None,
                source: Box::new(ReplaySource::new(messages, budget.clone(), settled, end.clone())),
                sinks: vec![(sink.to_owned(), target.sink.factory.build(context))],
                keying: settings.keying.clone(),
                prefetch: WINDOW,
                dead_letters: Arc::clone(&refusals) as Arc<dyn DeadLetterStore>,
                limits: DeadLetterLimits::new(settings.dead_letters.max_run, settings.dead_letters.max_share),
                backoff: target.source.backoff,
                counters: Arc::clone(&counters),
                statuses: telemetry.statuses.clone(),
                watchdog: telemetry.watchdog.clone(),
            },
            end.clone(),
        );
        let reading = read(args, sink, store, replayed, &counts, &budget, sender);
        let asked = Cell::new(None);
        // When this ends it has dropped the source, and with it the sender of settled letters.
        let sending = async {
            let pipeline = async { running.await.map_err(|fault| Stop::Fault(fault.to_string())) };
            let reading =
                async { reading.await.map_err(|error| Stop::Failed(format!("dead letters: {error}"))) };
            tokio::select! {
                sent = async { tokio::try_join!(pipeline, reading) } => match asked.get() {
                    Some(signal) => Err(Stop::Asked(signal)),
                    None => sent.map(|_| ()),
                },
                stop = watch(&telemetry.statuses, &counts, progress) => Err(stop),
                stop = obey(stop, &asked, &end) => Err(stop),
            }
        };
        let mut marking = pin!(mark(marks, sink, &refusals, &counts, settlements));
        let unmarked = |error: SinkError| {
            Err(Stop::Failed(format!("can't note in {} what is replayed: {error}", store.place())))
        };
        let ended = tokio::select! {
            biased;
            // It ends first only with an error.
            marked = &mut marking => marked.map_or_else(unmarked, |()| {
                Err(Stop::Fault("the source has ended before the pipeline".to_owned()))
            }),
            ended = sending => match marking.await {
                Ok(()) => ended,
                Err(error) => unmarked(error),
            },
        };
        let held = counters.workers.get(sink).suppressed.get();
        let outcome = Outcome {
            sink: sink.to_owned(),
            letters: target.letters,
            replayed_before: counts.replayed_before.get(),
            sent: counts.delivered.get().saturating_sub(held),
            held,
            refused: refusals.by_reason(),
        };
        (outcome, ended)
    }
}

/// Sends the letters for the sink to the source, but none that was replayed.
async fn read(
    args: &ReplayArgs,
    sink: &str,
    store: &dyn DeadLetterStore,
    replayed: &mut Replayed,
    counts: &Counts,
    budget: &Budget,
    sender: mpsc::Sender<Message>,
) -> Result<(), SinkError> {
    let (records, mut stored) = mpsc::channel::<StoredRecord>(WAITING);
    let send = async {
        while let Some(record) = stored.recv().await {
            let Ok(StoredLine::Letter(letter)) = StoredLine::parse(&record.content) else { continue };
            if !is_owed(args, &letter, sink) {
                continue;
            }
            if !replayed.insert(&letter.message_id, sink) {
                add(&counts.replayed_before, 1);
                continue;
            }
            if sender.send(message(*letter, budget)).await.is_err() {
                break;
            }
        }
        // These end the reading and the source.
        drop((stored, sender));
    };
    let (read, ()) = tokio::join!(store.read_back(args.filter.from.clone(), records), send);
    read
}

/// Marks what the pipeline has settled, until the source is dropped.
async fn mark(
    marks: &dyn ReplayMarks,
    sink: &str,
    refusals: &Refusals,
    counts: &Counts,
    mut settlements: mpsc::Receiver<Settled>,
) -> Result<(), SinkError> {
    while let Some(first) = settlements.recv().await {
        let mut settled = vec![first];
        let until = Instant::now() + GATHER;
        while settled.len() < MARKED_AT_ONCE
            && let Ok(1..) = timeout_at(until, settlements.recv_many(&mut settled, MARKED_AT_ONCE)).await
        {
        }
        let (mut marked, mut refused) = (Vec::new(), 0);
        for Settled { message, .. } in &settled {
            match refusals.has(&message.id) {
                true => refused += 1,
                false => marked.push(String::from_utf8_lossy(&message.id).into_owned()),
            }
        }
        let delivered = marked.len() as u64;
        if delivered > 0 {
            marks.add(&in_marks(sink, marked)).await?;
        }
        add(&counts.delivered, delivered);
        add(&counts.refused, refused);
    }
    Ok(())
}

/// Divides the ids into marks that every place takes.
fn in_marks(sink: &str, message_ids: Vec<String>) -> Vec<ReplayMark> {
    let time = Timestamp::now();
    let mut marks: Vec<ReplayMark> = Vec::new();
    let mut bytes = 0;
    for id in message_ids {
        bytes += id.len();
        match marks.last_mut().filter(|_| bytes <= MARK_BYTES) {
            Some(mark) => mark.message_ids.push(id),
            None => {
                bytes = id.len();
                marks.push(ReplayMark { sink: sink.to_owned(), time, message_ids: vec![id] });
            }
        }
    }
    marks
}

/// Shows the progress until a part needs somebody.
async fn watch(statuses: &StatusRegistry, counts: &Counts, progress: &mut Progress<'_>) -> Stop {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let parts = statuses.all();
        let held = parts.iter().find_map(|(part, status, _)| match status {
            Status::Held(reason) => Some(format!("{part}: {reason}")),
            _ => None,
        });
        progress.show(counts.done(), &parts);
        if let Some(held) = held {
            return Stop::Failed(held);
        }
    }
}

/// Ends the pipeline at the first signal. Returns at the second one, or if letters on their way take too long.
async fn obey(stop: &mut StopSignals, asked: &Cell<Option<&'static str>>, end: &CancellationToken) -> Stop {
    let signal = stop.asked().await;
    asked.set(Some(signal));
    end.cancel();
    tokio::select! {
        _ = stop.asked() => {}
        () = sleep(DRAIN) => {}
    }
    Stop::Asked(signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_no_longer_than_every_place_takes() {
        let ids: Vec<_> = (0..1000).map(|number| format!("{number:0>100}")).collect();
        let marks = in_marks("kafka", ids.clone());
        assert!(marks.len() > 1 && marks.len() < 10, "{}", marks.len());
        assert!(marks.iter().all(|mark| mark.message_ids.concat().len() <= MARK_BYTES));
        assert_eq!(marks.iter().flat_map(|mark| mark.message_ids.clone()).collect::<Vec<_>>(), ids);
        let long = vec!["a".repeat(MARK_BYTES + 1), "b".to_owned()];
        assert_eq!(in_marks("kafka", long).len(), 2);
    }
}
