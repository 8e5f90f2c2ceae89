//! One file for each verb; what they share is here.

pub mod check;
pub mod config;
pub mod demo;
pub mod partition;
pub mod run;
mod signals;
pub mod simulate;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{Loaded, SinkRegistry, load};

/// How a verb ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success,
    /// Failed; the cause was said.
    Failure,
    /// The configuration or the command line is wrong (`EX_USAGE` of sysexits.h).
    Usage,
    /// A fault of the bridge itself (`EX_SOFTWARE`).
    Fault,
    /// Stopped before everything was settled; what was not acknowledged comes again (`EX_TEMPFAIL`).
    Abandoned,
    /// Everything is settled, but the broker has not said that it knows: the last events may come again
    /// (`EX_PROTOCOL`).
    Unconfirmed,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Success => Self::SUCCESS,
            Exit::Failure => Self::FAILURE,
            Exit::Usage => Self::from(64),
            Exit::Fault => Self::from(70),
            Exit::Abandoned => Self::from(75),
            Exit::Unconfirmed => Self::from(76),
        }
    }
}

/// Where a verb writes: results to `out`, everything else to `err`.
pub struct Console<'a> {
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
}

/// Loads the configuration and tells warnings and mistakes, one line each; `None` after mistakes, for
/// which the verb ends with [`Exit::Usage`].
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
