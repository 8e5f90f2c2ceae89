//! Durable line files in one directory: appended in groups, rotated by size and age, repaired at opening.
//! The file sink and the dead letters are built on it.
//!
//! ```text
//! callers ── lines ──▶ Writer (one thread) ── group ──▶ Journal ── finished files ──▶ Finisher (one thread)
//!                                                          │                            compress, rename
//!                                             write, sync, or take everything back
//! ```
//!
//! The rules, which the tests prove on a disk that fails and crashes between any two steps:
//!
//! * A group is durable as a whole or not at all: every file it touches is synced (and the directory, when
//!   a file is new), or all of them are cut back to the length that was last synced.
//! * That length is remembered for each file (`memory.rs`) as long as the process lives: what could not be
//!   cut back at once is cut back when the journal is next opened, before anything is written.
//! * A file has exactly one name that readers may take, and only once it is complete (see [`name`]).
//! * At most `line_file::UNSYNCED` bytes at a file's end were written since it was last synced. Of these a power
//!   cut may leave any page as zeros. No line holds a zero byte, so recovery cuts the end off where it finds one.
//! * A full disk does not stop what makes room: compressing has a reserve, needs none where that is gone, too, and
//!   begins early when the disk is full.
//!
//! Nothing here knows what a line means, but that it has no zero byte.

pub mod config;
pub(crate) mod disk;
mod error;
mod finish;
mod finisher;
mod group;
mod holdings;
mod line_file;
pub mod name;
mod probe;
mod quota;
mod recovery;
mod rotation;
mod settings;
mod store;
mod synced_lengths;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

pub(crate) use disk::{Disk, OsDisk};
pub use error::JournalError;
pub use rotation::Rotation;
pub(crate) use settings::JournalSettings;
pub(crate) use store::{CommitError, Journal};
pub(crate) use synced_lengths::SyncedLengths;
pub(crate) use writer::{AfterFailure, JournalWriter, WriterEnd};

use jiff::Timestamp;
use tokio::task::spawn_blocking;

/// Opens a journal off the async threads.
///
/// # Errors
/// Why it can't be opened now.
pub(crate) async fn open(
    disk: Arc<dyn Disk>,
    settings: JournalSettings,
    memory: SyncedLengths,
) -> Result<Journal, JournalError> {
    blocking(move || {
        let journal = Journal::open(disk, settings, memory.clone(), Timestamp::now())?;
        if memory.is_first_opening()
            && let Ok(Some(warning)) = probe::open_to_others(&journal.settings().directory)
        {
            tracing::warn!("{warning}");
        }
        Ok(journal)
    })
    .await
}

/// Whether a journal could be opened, found out off the async threads; leaves nothing behind. Returns lines
/// worth knowing; a line that begins with `warning: ` is a warning.
///
/// # Errors
/// What would keep it from being opened.
pub(crate) async fn probe(settings: JournalSettings) -> Result<Vec<String>, JournalError> {
    blocking(move || probe::probe(&settings)).await
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, JournalError> + Send + 'static,
) -> Result<R, JournalError> {
    spawn_blocking(work).await.unwrap_or_else(|error| {
        let why = if error.is_cancelled() {
            "the bridge is ending"
        } else {
            "a fault of the bridge itself: report it"
        };
        Err(JournalError::Interrupted(why.to_owned()))
    })
}
