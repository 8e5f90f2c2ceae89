//! Runs `dead-letters replay`: sends dead letters to their sinks once more, through the present configuration.
//! One ordinary pipeline for each sink does it, so that a replayed event is as durable as any other (D54).

mod counts;
mod letters;
mod marker;
mod pass;
mod progress;
mod refusals;
mod report;
mod source;
mod survey;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

pub(super) use self::letters::ReplayArgs;
use self::letters::{ReplayDestination, Replayed};
use self::pass::{Pass, StopReason, Target};
use self::progress::ReplayProgress;
use self::report::{Planned, ReplayOutcome, planned_table, sent_table};
use self::survey::{names, survey};
use super::output::{PlaceSummary, counted};
use super::reading::read_each;
use crate::bridge::{dead_letter_stores, replay_marks};
use crate::budget::Budget;
use crate::commands::signals::StopSignals;
use crate::commands::{Console, Exit};
use crate::config::Settings;
use crate::dead_letter::{DeadLetterStore, ReplayMarks, StoredLetter, StoredLine};
use crate::display::one_line;
use crate::event::{Event, EventError};
use crate::telemetry::logging;

/// The states of the parts and the refused letters are shown by the verb itself.
const LOG_FILTER: &str =
    "warn,atdata_bridge::telemetry::status=off,atdata_bridge::pipeline::worker::dead_letter_writes=off";

/// What a replay works with.
struct Replay<'a> {
    args: &'a ReplayArgs,
    settings: &'a Settings,
    store: Arc<dyn DeadLetterStore>,
    /// `None` if nothing is sent.
    marks: Option<Arc<dyn ReplayMarks>>,
    targets: Vec<Target>,
    stop: StopSignals,
}

/// Sends to each sink the letters that it lacks, or counts them.
///
/// # Errors
/// The output can't be written, or the system refuses signal handlers.
pub(super) async fn run(
    args: &ReplayArgs,
    settings: &Settings,
    console: &mut Console<'_>,
) -> io::Result<Exit> {
    let Some(store) = dead_letter_stores(settings).into_iter().next() else { return Ok(Exit::Fault) };
    let targets = match targets(args, settings) {
        Ok(targets) => targets,
        Err(mistake) => {
            writeln!(console.err, "error: {mistake}")?;
            return Ok(Exit::Usage);
        }
    };
    let marks = if args.dry_run { None } else { replay_marks(settings) };
    let stop = StopSignals::new()?;
    let replay = Replay { args, settings, store, marks: marks.clone(), targets, stop };
    let exit = replay.run(console).await;
    if let Some(marks) = marks {
        marks.close().await;
    }
    exit
}

/// The advice for a place that must be read as a whole.
const MEND: &str = "; what can't be read may say what was replayed before, so mend it or move it away";

impl Replay<'_> {
    async fn run(mut self, console: &mut Console<'_>) -> io::Result<Exit> {
        // Their lock comes first: what another replay marks after the survey would be sent twice.
        if let Some(marks) = self.marks.clone() {
            let opened = tokio::select! {
                opened = marks.open() => opened,
                signal = self.stop.asked() => return nothing_sent(signal, console),
            };
            if let Err(cause) = opened {
                let what = format!("can't write replay marks into {}", self.store.place());
                return self.failed(&format!("{what}: {cause}; nothing was sent"), console);
            }
        }
        console.note(&format!("reading the dead letters in {}", one_line(self.store.place())))?;
        let survey = tokio::select! {
            survey = survey(self.args, self.settings, &mut self.targets, self.store.as_ref()) => survey?,
            signal = self.stop.asked() => return nothing_sent(signal, console),
        };
        let survey = match survey {
            Ok(survey) => survey,
            Err(cause) => {
                let advice = if self.args.filter.from.is_some() { "" } else { MEND };
                return self.failed(&format!("{cause}; nothing was sent{advice}"), console);
            }
        };
        survey.tell(self.store.place(), &names(self.settings), console)?;
        self.targets.retain(|target| target.letters > 0);
        if self.targets.is_empty() {
            let found = PlaceSummary { letters: survey.letters, ..PlaceSummary::new(self.store.place()) };
            console.note(&counted(&found))?;
            return Ok(Exit::Success);
        }
        match self.args.dry_run {
            true => self.plan(survey.replayed, console).await,
            false => self.send(survey.replayed, console).await,
        }
    }

    fn failed(&self, cause: &str, console: &mut Console<'_>) -> io::Result<Exit> {
        let cause = self.settings.origins.annotate(cause);
        writeln!(console.err, "error: dead letters: {}", one_line(&cause))?;
        Ok(Exit::Failure)
    }
}

fn nothing_sent(signal: &str, console: &mut Console<'_>) -> io::Result<Exit> {
    console.note(&format!("{signal}: stopped; nothing was sent"))?;
    Ok(Exit::Abandoned)
}

fn targets(args: &ReplayArgs, settings: &Settings) -> Result<Vec<Target>, String> {
    let all = settings.subscriptions.iter().flat_map(|subscription| {
        let source = &subscription.source;
        subscription.sinks.iter().map(|sink| {
            let to = ReplayDestination { queue: source.queue(), sink: sink.name.clone() };
            Target { to, sink: sink.clone(), source: source.clone(), letters: 0 }
        })
    });
    let targets: Vec<_> =
        all.filter(|target| args.to.as_ref().is_none_or(|to| *to == target.to.sink)).collect();
    match (&args.to, targets.is_empty()) {
        (Some(to), true) => {
            Err(format!("--to {}: the sinks are {}", one_line(to), names(settings).join(", ")))
        }
        _ => Ok(targets),
    }
}

impl Replay<'_> {
    /// Counts what would be sent.
    async fn plan(mut self, mut replayed: Replayed, console: &mut Console<'_>) -> io::Result<Exit> {
        let Self { args, settings, targets, store, stop, .. } = &mut self;
        let mut planned: Vec<_> = targets.iter().map(|target| Planned::new(&target.to.sink)).collect();
        let budget = Budget::new(settings.max_in_flight);
        let read = read_each(store.as_ref(), args.filter.from.clone(), |record| {
            if let Ok(StoredLine::Letter(letter)) = StoredLine::parse(&record.content) {
                let defect = defect(&letter, settings, &budget);
                let wanting =
                    targets.iter().zip(&mut planned).filter(|(target, _)| target.to.wants(args, &letter));
                for (target, planned) in wanting {
                    planned.add(replayed.take(&target.to, &letter.message_id), defect.as_ref());
                }
            }
            Ok(ControlFlow::Continue(()))
        });
        let read = tokio::select! {
            read = read => read?,
            signal = stop.asked() => return nothing_sent(signal, console),
        };
        if let Err(cause) = read {
            return self.failed(&cause.to_string(), console);
        }
        write!(console.out, "{}", planned_table(&planned))?;
        if planned.iter().any(|planned| planned.to_send > 0) {
            console.note("\nnothing was sent; without --dry-run it is")?;
        }
        Ok(Exit::Success)
    }

    /// Sends the letters to one sink after the other.
    async fn send(mut self, mut replayed: Replayed, console: &mut Console<'_>) -> io::Result<Exit> {
        let Self { args, settings, targets, store, marks: Some(marks), stop } = &mut self else {
            return Ok(Exit::Fault);
        };
        logging::start(LOG_FILTER, false);
        console.note("note: a replayed event comes after events of its key that were sent later")?;
        let (mut outcomes, mut stops) = (Vec::new(), Vec::new());
        for target in targets.iter() {
            let (store, marks) = (store.as_ref(), marks.as_ref());
            let pass = Pass { args, target, settings, store, marks, replayed: &mut replayed };
            let mut progress = ReplayProgress::new(&target.to.sink, target.letters, console);
            let (outcome, ended) = pass.run(stop, &mut progress).await;
            progress.end();
            outcomes.push(outcome);
            stops.extend(ended.err());
            // What is wrong with one sink need not be wrong with the next.
            if !stops.iter().all(|stop| matches!(stop, StopReason::Failed(_))) {
                break;
            }
        }
        // Standard output may be a sink.
        console.note(sent_table(&outcomes).trim_end())?;
        tell(&outcomes, stops, settings, console)
    }
}

fn defect(letter: &StoredLetter, settings: &Settings, budget: &Budget) -> Option<EventError> {
    Event::new(letters::message(letter.clone(), budget), &settings.keying).defect
}

fn tell(
    outcomes: &[ReplayOutcome],
    stops: Vec<StopReason>,
    settings: &Settings,
    console: &mut Console<'_>,
) -> io::Result<Exit> {
    for outcome in outcomes {
        for (reason, refused) in &outcome.refused {
            let (sink, last) = (one_line(&outcome.sink), one_line(&refused.last));
            let letters = refused.letters;
            writeln!(console.err, "{sink}: refused again: {reason} {letters}; the last: {last}")?;
        }
    }
    let is_refused = outcomes.iter().any(|outcome| !outcome.refused.is_empty());
    let mut exit = if is_refused { Exit::Failure } else { Exit::Success };
    for stop in stops {
        exit = match stop {
            StopReason::Asked(signal) => {
                writeln!(console.err, "{signal}: stopped; the same command goes on from here")?;
                Exit::Abandoned
            }
            StopReason::Failed(cause) => {
                let cause = settings.origins.annotate(&cause);
                let cause = one_line(&cause);
                writeln!(
                    console.err,
                    "error: {cause}; correct the cause, and the same command goes on from here"
                )?;
                Exit::Failure
            }
            StopReason::Fault(cause) => {
                let cause = one_line(&cause);
                writeln!(console.err, "error: a fault of the bridge itself, please report it: {cause}")?;
                Exit::Fault
            }
        };
    }
    Ok(exit)
}
