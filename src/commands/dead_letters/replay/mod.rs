//! Runs `dead-letters replay`: sends dead letters to their sinks once more, through the present configuration.
//! One ordinary pipeline for each sink does it, so that a replayed event is as durable as any other (D54).

mod letters;
mod pass;
mod progress;
mod refusals;
mod report;
mod source;

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;

pub(super) use self::letters::ReplayArgs;
use self::letters::{Replayed, is_owed};
use self::pass::{Pass, Stop, Target};
use self::progress::Progress;
use self::report::{Outcome, Planned, planned_table, sent_table};
use super::reading::{Foreign, read_each};
use crate::bridge::{dead_letter_stores, replay_marks};
use crate::budget::Budget;
use crate::commands::signals::StopSignals;
use crate::commands::{Console, Exit};
use crate::config::Settings;
use crate::dead_letter::{DeadLetterStore, StoredLetter, StoredLine};
use crate::display::one_line;
use crate::event::{Defect, Event};
use crate::sink::SinkError;
use crate::telemetry::logging;

/// The states of the parts and the refused letters are shown by the verb itself.
const LOG_FILTER: &str =
    "warn,atdata_bridge::telemetry::status=off,atdata_bridge::pipeline::worker::dead_letter_writes=off";

/// What one reading of the place has found.
#[derive(Default)]
struct Survey {
    replayed: Replayed,
    /// Letters of sinks that are not configured, by sink.
    unconfigured: BTreeMap<String, u64>,
    foreign: Foreign,
}

/// Replays the letters.
///
/// # Errors
/// The output can't be written, or the system refuses signal handlers.
pub(super) async fn run(
    args: &ReplayArgs,
    settings: &Settings,
    console: &mut Console<'_>,
) -> io::Result<Exit> {
    let Some(store) = dead_letter_stores(settings).into_iter().next() else { return Ok(Exit::Fault) };
    let mut targets = match targets(args, settings) {
        Ok(targets) => targets,
        Err(mistake) => {
            writeln!(console.err, "error: {mistake}")?;
            return Ok(Exit::Usage);
        }
    };
    let mut stop = StopSignals::new()?;
    let survey = tokio::select! {
        survey = survey(args, settings, &mut targets, store.as_ref()) => survey?,
        _ = stop.asked() => return Ok(Exit::Abandoned),
    };
    let survey = match survey {
        Ok(survey) => survey,
        Err(cause) => {
            let cause = settings.origins.annotate(&cause.to_string());
            let cause = one_line(&cause);
            writeln!(console.err, "error: dead letters: {cause}; nothing was sent")?;
            return Ok(Exit::Failure);
        }
    };
    survey.foreign.tell(store.place(), console.err)?;
    for (sink, letters) in &survey.unconfigured {
        let (sink, names) = (one_line(sink), names(settings).join(", "));
        writeln!(
            console.err,
            "warning: {} of the sink {sink}, which is not configured: to send them to another one, say --sink {sink} \
             --to SINK with one of {names}",
            if *letters == 1 { "1 letter is".to_owned() } else { format!("{letters} letters are") }
        )?;
    }
    targets.retain(|target| target.letters > 0);
    if targets.is_empty() {
        writeln!(console.out, "no dead letters to replay in {}", one_line(store.place()))?;
        return Ok(Exit::Success);
    }
    match args.dry_run {
        true => plan(args, settings, &targets, &survey.replayed, store.as_ref(), console).await,
        false => send(args, settings, &targets, survey.replayed, store.as_ref(), stop, console).await,
    }
}

fn names(settings: &Settings) -> Vec<&str> {
    let sinks = settings.subscriptions.iter().flat_map(|subscription| &subscription.sinks);
    sinks.map(|sink| sink.name.as_str()).collect()
}

fn targets(args: &ReplayArgs, settings: &Settings) -> Result<Vec<Target>, String> {
    let all = settings.subscriptions.iter().flat_map(|subscription| {
        let source = &subscription.source;
        subscription.sinks.iter().map(|sink| Target {
            sink: sink.clone(),
            source: source.clone(),
            letters: 0,
        })
    });
    let targets: Vec<_> =
        all.filter(|target| args.to.as_ref().is_none_or(|to| *to == target.sink.name)).collect();
    match (&args.to, targets.is_empty()) {
        (Some(to), true) => {
            Err(format!("--to {}: the sinks are {}", one_line(to), names(settings).join(", ")))
        }
        _ => Ok(targets),
    }
}

/// Reads the whole place: the marks may be anywhere behind their letters.
async fn survey(
    args: &ReplayArgs,
    settings: &Settings,
    targets: &mut [Target],
    store: &dyn DeadLetterStore,
) -> io::Result<Result<Survey, SinkError>> {
    let names = names(settings);
    let mut survey = Survey::default();
    let read = read_each(store, None, |record| {
        match StoredLine::parse(&record.content) {
            Ok(StoredLine::Mark(mark)) => survey.replayed.add(&mark),
            Ok(StoredLine::Letter(letter)) => {
                let mut is_owed_to_any = false;
                for target in targets.iter_mut().filter(|target| is_owed(args, &letter, &target.sink.name)) {
                    target.letters += 1;
                    is_owed_to_any = true;
                }
                let unconfigured = letter.sink.as_ref().filter(|sink| !names.contains(&sink.as_str()));
                if let Some(sink) = unconfigured
                    && !is_owed_to_any
                    && args.filter.matches(&letter)
                {
                    *survey.unconfigured.entry(sink.clone()).or_default() += 1;
                }
            }
            Err(why) => survey.foreign.add(record.position, &why.to_string()),
        }
        Ok(ControlFlow::Continue(()))
    });
    let read = read.await?;
    Ok(read.map(|()| survey))
}

/// Counts what would be sent.
async fn plan(
    args: &ReplayArgs,
    settings: &Settings,
    targets: &[Target],
    replayed: &Replayed,
    store: &dyn DeadLetterStore,
    console: &mut Console<'_>,
) -> io::Result<Exit> {
    let mut planned: Vec<_> = targets.iter().map(|target| Planned::new(&target.sink.name)).collect();
    let budget = Budget::new(settings.max_in_flight);
    let read = read_each(store, args.filter.from.clone(), |record| {
        if let Ok(StoredLine::Letter(letter)) = StoredLine::parse(&record.content) {
            let defect = defect(&letter, settings, &budget);
            for planned in planned.iter_mut().filter(|planned| is_owed(args, &letter, &planned.sink)) {
                planned.add(replayed.holds(&letter.message_id, &planned.sink), defect.as_ref());
            }
        }
        Ok(ControlFlow::Continue(()))
    });
    let read = read.await?;
    write!(console.out, "{}", planned_table(&planned))?;
    if planned.iter().any(|planned| planned.to_send > 0) {
        console.note("\nnothing was sent; without --dry-run it is")?;
    }
    match read {
        Ok(()) => Ok(Exit::Success),
        Err(cause) => {
            writeln!(console.err, "error: dead letters: {}", one_line(&cause.to_string()))?;
            Ok(Exit::Failure)
        }
    }
}

fn defect(letter: &StoredLetter, settings: &Settings, budget: &Budget) -> Option<Defect> {
    Event::new(letters::message(letter.clone(), budget), &settings.keying).defect
}

/// Sends the letters to one sink after the other.
async fn send(
    args: &ReplayArgs,
    settings: &Settings,
    targets: &[Target],
    mut replayed: Replayed,
    store: &dyn DeadLetterStore,
    mut stop: StopSignals,
    console: &mut Console<'_>,
) -> io::Result<Exit> {
    let Some(marks) = replay_marks(settings) else { return Ok(Exit::Fault) };
    if let Err(cause) = marks.open().await {
        let cause = settings.origins.annotate(&cause.to_string());
        let (cause, place) = (one_line(&cause), one_line(store.place()));
        writeln!(
            console.err,
            "error: dead letters: can't note in {place} what is replayed: {cause}; nothing was sent"
        )?;
        return Ok(Exit::Failure);
    }
    logging::start(LOG_FILTER, false);
    console.note("note: a replayed event comes after events of its key that were sent later")?;
    let mut outcomes = Vec::new();
    let mut stopped = None;
    for target in targets {
        let pass = Pass { args, target, settings, store, marks: marks.as_ref(), replayed: &mut replayed };
        let mut progress = Progress::new(&target.sink.name, target.letters, console);
        let (outcome, ended) = pass.run(&mut stop, &mut progress).await;
        progress.end();
        outcomes.push(outcome);
        if let Err(stop) = ended {
            stopped = Some(stop);
            break;
        }
    }
    marks.close().await;
    write!(console.out, "{}", sent_table(&outcomes))?;
    tell(&outcomes, stopped, settings, console)
}

fn tell(
    outcomes: &[Outcome],
    stopped: Option<Stop>,
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
    match stopped {
        None if outcomes.iter().any(|outcome| !outcome.refused.is_empty()) => Ok(Exit::Failure),
        None => Ok(Exit::Success),
        Some(Stop::Asked(signal)) => {
            writeln!(console.err, "{signal}: stopped; the same command goes on from here")?;
            Ok(Exit::Abandoned)
        }
        Some(Stop::Failed(cause)) => {
            let cause = settings.origins.annotate(&cause);
            let cause = one_line(&cause);
            writeln!(
                console.err,
                "error: {cause}; correct the cause, and the same command goes on from here"
            )?;
            Ok(Exit::Failure)
        }
        Some(Stop::Fault(cause)) => {
            writeln!(
                console.err,
                "error: a fault of the bridge itself, please report it: {}",
                one_line(&cause)
            )?;
            Ok(Exit::Fault)
        }
    }
}
