//! Counts the sessions in a row that the same message may have ended.

use super::error::{SourceError, SuspectMessage};

/// After this many sessions ended by the same message the source is held (D2).
const POISONED: u32 = 3;

/// The message that may have ended the last sessions, and how many in a row.
#[derive(Debug, Default)]
pub(super) struct Suspicion(Option<(SuspectMessage, u32)>);

impl Suspicion {
    /// Forgets the message, because a session has lasted so long that it is past it.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    /// Counts the error that ended a session. Returns the error that names the message, if it has ended too many.
    pub(super) fn of(&mut self, error: SourceError) -> SourceError {
        let Some(suspect) = error.suspect().cloned() else {
            return error;
        };
        let sessions = match self.0.take() {
            Some((before, sessions)) if before == suspect => sessions + 1,
            _ => 1,
        };
        self.0 = Some((suspect.clone(), sessions));
        if sessions < POISONED {
            return error;
        }
        let (remedy, detail) = error.split_remedy();
        SourceError::Poison { suspect, sessions, detail, remedy }
    }
}
