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

mod chunk;
pub mod config;
pub mod disk;
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
pub mod threads;
mod writer;

use std::sync::Arc;

pub use disk::Disk;
pub(crate) use disk::OsDisk;
pub use error::JournalError;
pub(crate) use read_back::{ReadBackError, read_lines};
pub(crate) use settings::{FEWEST_IDS, JournalSettings};
pub(crate) use store::{CommitError, Journal};
pub(crate) use synced_lengths::SyncedLengths;
pub(crate) use writer::{AfterFailure, JournalWriter, WriterEnd};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::oneshot;

use self::threads::DiskThreads;
use crate::finding::Finding;

/// Opens a journal on a thread of its own.
pub(crate) async fn open(
    disk: Arc<dyn Disk>,
    settings: JournalSettings,
    lengths: SyncedLengths,
) -> Result<Journal, JournalError> {
    let threads = Arc::clone(&disk);
    on_a_thread(threads.as_ref(), move || {
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

/// Returns the ids of the newest events in the files, at most `most`, the newest last, read on a thread of its own.
/// Call it while the journal is open and writes nothing.
pub(crate) async fn recorded_ids(
    disk: Arc<dyn Disk>,
    settings: JournalSettings,
    most: usize,
) -> Result<Vec<Bytes>, JournalError> {
    let threads = Arc::clone(&disk);
    on_a_thread(threads.as_ref(), move || id_log::recorded_ids(disk.as_ref(), &settings, most)).await
}

/// Checks on a thread of its own whether a journal could be opened. Leaves no files behind. Returns
/// what it found, for people.
pub(crate) async fn probe(settings: JournalSettings) -> Result<Vec<Finding>, JournalError> {
    on_a_thread(&OsDisk, move || probe::probe(&settings)).await
}

async fn on_a_thread<R: Send + 'static>(
    threads: &dyn DiskThreads,
    work: impl FnOnce() -> Result<R, JournalError> + Send + 'static,
) -> Result<R, JournalError> {
    let (outcome, done) = oneshot::channel();
    // Nobody waits for the outcome if the bridge is ending.
    let work = move || drop(outcome.send(work()));
    let started = threads.start("journal", Box::new(work));
    started.map_err(|error| JournalError::Interrupted(format!("cannot start a thread: {error}")))?;
    let panicked = |_| JournalError::Interrupted("a fault of the bridge itself: report it".to_owned());
    done.await.map_err(panicked)?
}
