//! Runs `dead-letters export`: writes the records as they are stored.

use std::io::{self, Write};
use std::ops::ControlFlow;

use super::output::{Found, FoundLetter, Output, counted};
use crate::commands::Console;

/// Writes each letter as it comes.
pub(super) struct Export;

impl Output for Export {
    fn take(&mut self, letter: FoundLetter, out: &mut dyn Write) -> io::Result<ControlFlow<()>> {
        out.write_all(&letter.record.content)?;
        out.write_all(b"\n")?;
        Ok(ControlFlow::Continue(()))
    }

    fn end(&mut self, found: &Found, console: &mut Console<'_>) -> io::Result<()> {
        console.note(&counted(found))
    }
}
