//! One file for each verb; what they share is here.

pub mod config;
pub mod partition;
pub mod simulate;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{Loaded, load};

/// How a verb ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success,
    /// Failed; the cause was said.
    Failure,
    /// The configuration or the command line is wrong (`EX_USAGE` of sysexits.h).
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Success => Self::SUCCESS,
            Exit::Failure => Self::FAILURE,
            Exit::Usage => Self::from(64),
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
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    console: &mut Console<'_>,
) -> io::Result<Option<Loaded>> {
    match load(file, env) {
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
