//! Implements the commands, one file each, and what they share.

pub mod check;
pub mod completions;
pub mod config;
pub mod dead_letters;
pub mod demo;
pub mod man;
pub mod partition;
pub mod peek;
mod reload;
pub mod run;
mod signals;
pub mod simulate;
pub mod status;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{Loaded, SinkRegistry, load};

/// The exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command has done its work.
    Success = 0,
    /// The command failed; it has reported the cause.
    Failure = 1,
    /// The configuration or the command line is wrong (`EX_USAGE` of sysexits.h).
    Usage = 64,
    /// An internal error of the bridge (`EX_SOFTWARE`).
    Fault = 70,
    /// Stopped before everything was settled. Events that were not acknowledged come again (`EX_TEMPFAIL`).
    Abandoned = 75,
    /// Everything is settled, but the broker did not confirm the acknowledgements. The last events may come
    /// again (`EX_PROTOCOL`).
    Unconfirmed = 76,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The outputs of a command: results go to `out`, everything else to `err`.
pub struct Console<'a> {
    /// The stream for results, standard output.
    pub out: &'a mut dyn Write,
    /// The stream for messages, standard error.
    pub err: &'a mut dyn Write,
    /// Leave out what is neither a warning nor an error: notes and progress.
    pub quiet: bool,
}

impl<'a> Console<'a> {
    /// Makes a console that is not quiet.
    pub fn new(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self { out, err, quiet: false }
    }

    /// Writes a line that is neither a result nor a warning nor an error, unless the console is quiet.
    ///
    /// # Errors
    /// Standard error can't be written.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        match self.quiet {
            true => Ok(()),
            false => writeln!(self.err, "{text}"),
        }
    }
}

/// Loads the configuration and writes warnings and mistakes, one line each. Returns `None` after mistakes;
/// the command must then end with [`Exit::Usage`].
///
/// # Errors
/// Standard error can't be written.
pub fn configured(
    kinds: &SinkRegistry,
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    console: &mut Console<'_>,
) -> io::Result<Option<Loaded>> {
    match load(kinds, file, env) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                writeln!(console.err, "warning: {warning}")?;
            }
            Ok(Some(loaded))
        }
        Err(errors) => {
            for problem in &errors.0 {
                writeln!(console.err, "error: {problem}")?;
            }
            Ok(None)
        }
    }
}
