//! Runs `dead-letters`: reads the place of the dead letters back, and lists, shows or exports them. It changes
//! nothing there, so it may run beside the bridge.

mod export;
mod filter;
mod list;
mod output;
mod show;

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use clap::{Args, Subcommand};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use self::export::Export;
use self::filter::FilterArgs;
use self::list::{List, ListArgs};
use self::output::{Found, FoundLetter, Output};
use self::show::{Show, ShowArgs};
use super::{Console, Exit, configured};
use crate::bridge::dead_letter_stores;
use crate::config::SinkRegistry;
use crate::dead_letter::{DeadLetterStore, StoredLetter};
use crate::display::one_line;
use crate::sink::{Position, SinkError, StoredRecord};

/// How many records may wait for their turn. A record may have six times the size of the largest body.
const WAITING: usize = 1;

/// How many records that are no dead letters are told one by one.
const FOREIGN_SHOWN: usize = 10;

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
}

/// Reads the dead letters and writes what the verb makes of them to standard output.
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
    let (filter, checked, output): (_, _, Box<dyn Output>) = match &args.verb {
        DeadLettersVerb::List(args) => (&args.filter, args.filter.check(), Box::new(List::new(args, file))),
        DeadLettersVerb::Show(args) => (&args.filter, args.check(), Box::new(Show::new(args))),
        DeadLettersVerb::Export(filter) => (filter, filter.check(), Box::new(Export)),
    };
    if let Err(mistake) = checked {
        writeln!(console.err, "error: {mistake}")?;
        return Ok(Exit::Usage);
    }
    let Some(loaded) = configured(kinds, file, env, console)? else { return Ok(Exit::Usage) };
    // The stores of all subscriptions are in one place.
    let Some(store) = dead_letter_stores(&loaded.settings).into_iter().next() else { return Ok(Exit::Fault) };
    let found = Found { place: store.place().to_owned(), letters: 0, matching: 0 };
    let mut reading = Reading { filter, output, found, foreign: Foreign::default() };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let read = runtime.block_on(reading.read(store.as_ref(), console.out));
    runtime.shutdown_background();
    let read = read?.map_err(|cause| loaded.settings.origins.annotate(&cause.to_string()));
    reading.end(read, console)
}

/// One reading of the place.
struct Reading<'a> {
    filter: &'a FilterArgs,
    output: Box<dyn Output>,
    found: Found,
    foreign: Foreign,
}

impl Reading<'_> {
    /// Gives the letters to the output until it wants no more. Returns whether the place could be read.
    async fn read(
        &mut self,
        store: &dyn DeadLetterStore,
        out: &mut dyn Write,
    ) -> io::Result<Result<(), SinkError>> {
        let mut out = BufWriter::new(out);
        let (sender, mut records) = mpsc::channel(WAITING);
        let from = self.filter.from.clone();
        let take = async {
            while let Some(record) = records.recv().await {
                if self.take(record, &mut out)?.is_break() {
                    break;
                }
            }
            // This ends the reading.
            drop(records);
            out.flush()
        };
        let (read, taken) = tokio::join!(store.read_back(from, sender), take);
        taken.map(|()| read)
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
        match StoredLetter::parse(&record.content) {
            Ok(letter) => {
                self.found.letters += 1;
                if self.filter.matches(&letter) {
                    self.found.matching += 1;
                    return self.output.take(FoundLetter { record, letter }, out);
                }
            }
            Err(why) => self.foreign.add(record.position, &why.to_string()),
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The records that are no dead letters.
#[derive(Default)]
struct Foreign {
    count: usize,
    /// The first ones, each with the reason.
    first: Vec<(Position, String)>,
}

impl Foreign {
    fn add(&mut self, position: Position, why: &str) {
        self.count += 1;
        if self.first.len() < FOREIGN_SHOWN {
            self.first.push((position, one_line(why).into_owned()));
        }
    }

    fn tell(&self, place: &str, err: &mut dyn Write) -> io::Result<()> {
        let Self { count, first } = self;
        match count {
            0 => return Ok(()),
            1 => writeln!(err, "warning: 1 record in {place} is not a dead letter, and was left out:")?,
            _ => {
                writeln!(err, "warning: {count} records in {place} are not dead letters, and were left out:")?
            }
        }
        for (position, why) in first {
            writeln!(err, "  {}: {why}", one_line(&position.to_string()))?;
        }
        match count - first.len() {
            0 => Ok(()),
            more => writeln!(err, "  and {more} more"),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
