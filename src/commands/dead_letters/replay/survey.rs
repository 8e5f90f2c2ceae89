//! Reads the place before a replay: what was replayed before, how many letters each sink gets, and which stay.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;

use super::super::reading::{Foreign, read_each};
use super::letters::{ReplayArgs, Replayed};
use super::pass::Target;
use crate::commands::Console;
use crate::config::Settings;
use crate::dead_letter::{DeadLetterStore, StoredLetter, StoredLine};
use crate::display::one_line;
use crate::sink::SinkError;

/// What one reading of the place has found.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) replayed: Replayed,
    pub(super) letters: u64,
    /// Letters of sinks that are not configured, by sink.
    other_sinks: BTreeMap<String, u64>,
    /// Letters of queues that this configuration does not consume, by queue.
    other_queues: BTreeMap<String, u64>,
    foreign: Foreign,
}

/// Reads the whole place, because marks may be anywhere behind their letters. Letters count from the position on that
/// the arguments name.
pub(super) async fn survey(
    args: &ReplayArgs,
    settings: &Settings,
    targets: &mut [Target],
    store: &dyn DeadLetterStore,
) -> io::Result<Result<Survey, SinkError>> {
    let mut survey = Survey::default();
    let from = &args.filter.from;
    let read = read_each(store, None, |record| {
        match StoredLine::parse(&record.content) {
            Ok(StoredLine::Mark(mark)) => survey.replayed.add(&mark),
            Ok(StoredLine::Letter(letter)) if from.is_none() => {
                survey.count(args, settings, targets, &letter)
            }
            Ok(StoredLine::Letter(_)) => {}
            Err(why) => survey.foreign.add(record.position, &why.to_string()),
        }
        Ok(ControlFlow::Continue(()))
    });
    let mut read = read.await?;
    if from.is_some() && read.is_ok() {
        let again = read_each(store, from.clone(), |record| {
            if let Ok(StoredLine::Letter(letter)) = StoredLine::parse(&record.content) {
                survey.count(args, settings, targets, &letter);
            }
            Ok(ControlFlow::Continue(()))
        });
        read = again.await?;
    }
    Ok(read.map(|()| survey))
}

impl Survey {
    fn count(
        &mut self,
        args: &ReplayArgs,
        settings: &Settings,
        targets: &mut [Target],
        letter: &StoredLetter,
    ) {
        self.letters += 1;
        let mut is_wanted = false;
        for target in targets.iter_mut().filter(|target| target.to.wants(args, letter)) {
            target.letters += 1;
            is_wanted = true;
        }
        if is_wanted || !args.filter.matches(letter) {
            return;
        }
        let is_consumed = |queue: &String| {
            settings.subscriptions.iter().any(|subscription| subscription.source.queue() == *queue)
        };
        let other_queue = letter.queue.as_ref().filter(|queue| !is_consumed(queue));
        let other_sink = letter.sink.as_ref().filter(|sink| !names(settings).contains(&sink.as_str()));
        let counted = match (other_queue, other_sink) {
            (Some(queue), _) => self.other_queues.entry(queue.clone()),
            (None, Some(sink)) => self.other_sinks.entry(sink.clone()),
            (None, None) => return,
        };
        *counted.or_default() += 1;
    }

    /// Warns of what stays, and of what is no letter.
    pub(super) fn tell(&self, place: &str, sinks: &[&str], console: &mut Console<'_>) -> io::Result<()> {
        self.foreign.tell(place, console.err)?;
        let of = |count: u64, what: &str, name: &str| match count {
            1 => format!("warning: 1 letter is of the {what} {name}"),
            count => format!("warning: {count} letters are of the {what} {name}"),
        };
        for (sink, count) in &self.other_sinks {
            let sink = one_line(sink);
            writeln!(
                console.err,
                "{}, which is not configured: to send them to another one, say --sink {sink} --to SINK with one of {}",
                of(*count, "sink", &sink),
                sinks.join(", ")
            )?;
        }
        for (queue, count) in &self.other_queues {
            let queue = one_line(queue);
            writeln!(
                console.err,
                "{}, which this configuration does not consume: to send them all the same, say --queue {queue}",
                of(*count, "queue", &queue)
            )?;
        }
        Ok(())
    }
}

/// Returns the names of all sinks.
pub(super) fn names(settings: &Settings) -> Vec<&str> {
    let sinks = settings.subscriptions.iter().flat_map(|subscription| &subscription.sinks);
    sinks.map(|sink| sink.name.as_str()).collect()
}
