//! Runs `dead-letters`: reads the place of the dead letters back, and lists, shows, exports or replays them. It
//! changes no letter, so it may run beside the bridge.

mod export;
mod filter;
mod list;
mod output;
mod reading;
mod replay;
mod show;

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use clap::{Args, Subcommand};
use tokio::runtime::Builder;

use self::export::Export;
use self::filter::FilterArgs;
use self::list::{List, ListArgs};
use self::output::{FoundLetter, LetterOutput, PlaceSummary};
use self::reading::{Foreign, read_each};
use self::replay::ReplayArgs;
use self::show::{Show, ShowArgs};
use super::{Console, Exit, configured};
use crate::bridge::dead_letter_stores;
use crate::config::{Settings, SinkRegistry};
use crate::dead_letter::{DeadLetterStore, StoredLine};
use crate::display::one_line;
use crate::sink::{SinkError, StoredRecord};

#[derive(Clone, Debug, Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    pub verb: DeadLettersVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum DeadLettersVerb {
    /// Count them by day, reason and sink
    List(ListArgs),
    /// Show each of them for people: reason, detail, times, headers and body
    Show(ShowArgs),
    /// Write them to standard output as they are stored, one JSON object a line
    Export(FilterArgs),
    /// Send them to their sinks once more, through the present configuration, each once
    Replay(ReplayArgs),
}

impl DeadLettersArgs {
    /// Whether the verb does nothing but write to its output.
    pub fn only_writes(&self) -> bool {
        !matches!(self.verb, DeadLettersVerb::Replay(_))
    }
}

/// Reads the dead letters, and writes what the verb makes of them to standard output.
///
/// # Errors
/// The output can't be written, or the system refuses threads.
pub fn run(
    kinds: &SinkRegistry,
    args: &DeadLettersArgs,
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    console: &mut Console<'_>,
) -> io::Result<Exit> {
    let checked = match &args.verb {
        DeadLettersVerb::List(args) => args.filter.check(),
        DeadLettersVerb::Show(args) => args.check(),
        DeadLettersVerb::Export(filter) => filter.check(),
        DeadLettersVerb::Replay(args) => args.filter.check(),
    };
    if let Err(mistake) = checked {
        writeln!(console.err, "error: {mistake}")?;
        return Ok(Exit::Usage);
    }
    let Some(loaded) = configured(kinds, file, env, console)? else { return Ok(Exit::Usage) };
    let settings = &loaded.settings;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let exit = match &args.verb {
        DeadLettersVerb::List(args) => {
            runtime.block_on(read(&args.filter, Box::new(List::new(args, file)), settings, console))
        }
        DeadLettersVerb::Show(args) => {
            runtime.block_on(read(&args.filter, Box::new(Show::new(args)), settings, console))
        }
        DeadLettersVerb::Export(filter) => {
            runtime.block_on(read(filter, Box::new(Export), settings, console))
        }
        DeadLettersVerb::Replay(args) => runtime.block_on(replay::run(args, settings, console)),
    };
    runtime.shutdown_background();
    exit
}

/// Gives the letters to an output.
async fn read(
    filter: &FilterArgs,
    output: Box<dyn LetterOutput>,
    settings: &Settings,
    console: &mut Console<'_>,
) -> io::Result<Exit> {
    // The stores of all subscriptions are in one place.
    let Some(store) = dead_letter_stores(settings).into_iter().next() else { return Ok(Exit::Fault) };
    let found = PlaceSummary::new(store.place());
    let mut reading = LetterReading { filter, output, found, foreign: Foreign::default() };
    let read = reading.read(store.as_ref(), console.out).await?;
    let read = read.map_err(|cause| settings.origins.annotate(&cause.to_string()));
    reading.end(read, console)
}

/// One reading of the place.
struct LetterReading<'a> {
    filter: &'a FilterArgs,
    output: Box<dyn LetterOutput>,
    found: PlaceSummary,
    foreign: Foreign,
}

impl LetterReading<'_> {
    /// Gives the letters to the output until it wants no more. Returns whether the place could be read.
    async fn read(
        &mut self,
        store: &dyn DeadLetterStore,
        out: &mut dyn Write,
    ) -> io::Result<Result<(), SinkError>> {
        let mut out = BufWriter::new(out);
        let from = self.filter.from.clone();
        let read = read_each(store, from, |record| self.take(record, &mut out)).await?;
        out.flush()?;
        Ok(read)
    }

    /// Writes what comes last. `read` is the cause if the place could not be read.
    fn end(mut self, read: Result<(), String>, console: &mut Console<'_>) -> io::Result<Exit> {
        if read.is_ok() || self.found.letters > 0 {
            self.output.end(&self.found, console)?;
        }
        self.foreign.tell(&self.found.place, console.err)?;
        match read {
            Ok(()) => Ok(Exit::Success),
            Err(cause) => {
                writeln!(console.err, "error: dead letters: {}", one_line(&cause))?;
                Ok(Exit::Failure)
            }
        }
    }

    fn take(&mut self, record: StoredRecord, out: &mut dyn Write) -> io::Result<ControlFlow<()>> {
        match StoredLine::parse(&record.content) {
            Ok(StoredLine::Letter(letter)) => {
                self.found.letters += 1;
                if self.filter.matches(&letter) {
                    self.found.matching += 1;
                    return self.output.take(FoundLetter { record, letter: *letter }, out);
                }
            }
            Ok(StoredLine::Mark(mark)) => self.found.add(&mark),
            Err(why) => self.foreign.add(record.position, &why.to_string()),
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
