//! Runs `dead-letters export`: writes the records as they are stored.

use std::io::{self, Write};
use std::ops::ControlFlow;

use super::output::{FoundLetter, LetterOutput, PlaceSummary, counted};
use crate::commands::Console;

/// Writes each letter as it comes.
pub(super) struct Export;

impl LetterOutput for Export {
    fn take(&mut self, letter: FoundLetter, out: &mut dyn Write) -> io::Result<ControlFlow<()>> {
        out.write_all(&letter.record.content)?;
        out.write_all(b"\n")?;
        Ok(ControlFlow::Continue(()))
    }

    fn end(&mut self, found: &PlaceSummary, console: &mut Console<'_>) -> io::Result<()> {
        console.note(&counted(found))
    }
}
