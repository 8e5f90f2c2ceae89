//! Writes lines durably to files in one directory: appends in groups, rotates by size and age, repairs when
//! opened. The file sink and the dead letters are built on it.
//!
//! ```text
//! callers ── lines ──▶ JournalWriter (a thread) ── group ──▶ Journal ── closed files ──▶ FinishThread
//!                                                               │                         compress, rename
//!                                                   write, sync, or take everything back
//! ```
//!
//! The tests prove these rules on a disk that fails and crashes between any two steps:
//!
//! * A group is durable as a whole or not at all. Either every file that it touches is synced (and the
//!   directory, if a file is new), or all of them are cut back to the length that was last synced.
//! * The group that was being written at a crash is taken back when the journal is next opened, unless it is
//!   complete. The ids of its events are recorded with it (`id_log.rs`), so that nobody writes them again.
//! * `SyncedLengths` keeps that length for each file as long as the process lives. If a file can't be cut
//!   back at once, it is cut back when the journal is next opened, before anything is written. If another
//!   process has held the lock in the meantime, only the id log counts.
//! * A file has exactly one name that readers may take, and only once it is complete (see [`name`]).
//! * At most `line_file::UNSYNCED` bytes at the end of a file were written since it was last synced. After a
//!   power cut, any page of these bytes may contain zeros. No line holds a zero byte, so recovery cuts the
//!   file off at the first one.
//! * A full disk does not stop the work that makes room. Compression has a reserve. It needs no room once the
//!   reserve is used up, because files are then finished uncompressed. On a full disk, files are finished
//!   early.
//!
//! The journal does not know what a line means. It only requires that a line has no zero byte.

pub mod config;
pub(crate) mod disk;
mod error;
mod file_system;
mod finish;
mod finish_thread;
mod group;
mod holdings;
mod id_log;
mod id_record;
mod line_file;
pub mod name;
pub mod name_template;
mod probe;
mod quota;
mod read_back;
mod recovery;
mod rotation;
mod settings;
mod store;
mod sync_threads;
mod synced_lengths;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

pub(crate) use disk::{Disk, OsDisk};
pub use error::JournalError;
pub(crate) use read_back::{ReadBackError, read_lines};
pub(crate) use settings::{FEWEST_IDS, JournalSettings};
pub(crate) use store::{CommitError, Journal};
pub(crate) use synced_lengths::SyncedLengths;
pub(crate) use writer::{AfterFailure, JournalWriter, WriterEnd};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::task::spawn_blocking;

use crate::finding::Finding;

/// Opens a journal on a thread for blocking work.
pub(crate) async fn open(
    disk: Arc<dyn Disk>,
    settings: JournalSettings,
    lengths: SyncedLengths,
) -> Result<Journal, JournalError> {
    blocking(move || {
        let journal = Journal::open(disk, settings, lengths.clone(), Timestamp::now())?;
        if lengths.is_first_opening()
            && let Ok(Some(warning)) = probe::open_to_others(&journal.settings().directory)
        {
            tracing::warn!("{warning}");
        }
        Ok(journal)
    })
    .await
}

/// Returns the ids of the newest events in the files, at most `most`, the newest last, read on a thread for
/// blocking work. Call it while the journal is open and writes nothing.
pub(crate) async fn recorded_ids(
    disk: Arc<dyn Disk>,
    settings: JournalSettings,
    most: usize,
) -> Result<Vec<Bytes>, JournalError> {
    blocking(move || id_log::recorded_ids(disk.as_ref(), &settings, most)).await
}

/// Checks on a thread for blocking work whether a journal could be opened. Leaves no files behind. Returns
/// what it found, for people.
pub(crate) async fn probe(settings: JournalSettings) -> Result<Vec<Finding>, JournalError> {
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
