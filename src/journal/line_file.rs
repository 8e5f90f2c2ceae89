//! One of the files being written.

use std::io;
use std::path::PathBuf;
use std::thread::{self, ScopedJoinHandle};

use jiff::Timestamp;

use super::disk::{Disk, DiskFile};
use super::error::JournalError;
use super::name::Base;

/// The most bytes written to a file since it was last synced: what recovery must look at. A group of the file
/// sink is smaller, so that syncing in between is for what is out of the common only.
pub(super) const UNSYNCED: usize = 8 << 20;
/// The most syncs at once.
const PARALLEL_SYNCS: usize = 16;

/// One file being written.
pub(super) struct LineFile {
    pub(super) base: Base,
    pub(super) path: PathBuf,
    /// `None` while it is closed to keep within `max_open`.
    pub(super) handle: Option<Box<dyn DiskFile>>,
    /// What is durable and answered for.
    pub(super) synced: u64,
    /// What may have been written.
    pub(super) written: u64,
    /// Cut back since it was last synced: until then a crash may bring back what was cut off, so the file
    /// must not be finished and its lines written elsewhere.
    pub(super) cut: bool,
    pub(super) opened: Timestamp,
    /// When it was last written to.
    pub(super) wave: u64,
}

impl LineFile {
    /// A file of `len` durable bytes, not open yet.
    pub(super) fn new(base: Base, path: PathBuf, len: u64, opened: Timestamp) -> Self {
        Self { base, path, handle: None, synced: len, written: len, cut: false, opened, wave: 0 }
    }

    /// Appends, and syncs only where more than [`UNSYNCED`] bytes would wait for it; after an error any part of
    /// `lines` may be there.
    pub(super) fn append(&mut self, disk: &dyn Disk, lines: &[u8]) -> Result<(), JournalError> {
        // Before a cut is durable, a crash could mix what was cut off with what is written now.
        self.settle_cut(disk)?;
        self.written += lines.len() as u64;
        let handle = match &mut self.handle {
            Some(handle) => handle,
            none => none.insert(disk.open(&self.path).map_err(JournalError::io("open", &self.path))?),
        };
        for (n, chunk) in lines.chunks(UNSYNCED).enumerate() {
            if n > 0 {
                handle.sync().map_err(JournalError::io("sync", &self.path))?;
            }
            handle.append(chunk).map_err(JournalError::io("write", &self.path))?;
        }
        Ok(())
    }

    /// Whether something was written that is not answered for.
    pub(super) fn is_dirty(&self) -> bool {
        self.written != self.synced
    }

    /// Takes back what is not answered for.
    pub(super) fn cut_back(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let handle = match &mut self.handle {
            Some(handle) => handle,
            none => none.insert(disk.open(&self.path)?),
        };
        handle.truncate(self.synced)?;
        self.written = self.synced;
        self.cut = true;
        Ok(())
    }

    /// Makes durable what was cut off, if anything was.
    pub(super) fn settle_cut(&mut self, disk: &dyn Disk) -> Result<(), JournalError> {
        if self.cut {
            if self.handle.is_none() {
                self.handle = Some(disk.open(&self.path).map_err(JournalError::io("open", &self.path))?);
            }
            self.sync()?;
            self.cut = false;
        }
        Ok(())
    }

    /// Returns once everything written is durable, and still found under its name.
    fn sync(&self) -> Result<(), JournalError> {
        let Some(handle) = &self.handle else { return Ok(()) };
        handle.sync().map_err(JournalError::io("sync", &self.path))?;
        match handle.is_at(&self.path).map_err(JournalError::io("look for", &self.path))? {
            true => Ok(()),
            false => Err(JournalError::Moved { path: self.path.clone() }),
        }
    }
}

/// Syncs the files side by side: the disk's cache is flushed about once for all, not once for each.
pub(super) fn sync_all(files: &[&LineFile]) -> Result<(), JournalError> {
    if let [file] = files {
        return file.sync();
    }
    let sync_each = |files: &[&LineFile]| files.iter().try_for_each(|file| file.sync());
    let shares = files.chunks(files.len().div_ceil(PARALLEL_SYNCS).max(1));
    thread::scope(|scope| {
        let start = |share| (share, thread::Builder::new().spawn_scoped(scope, move || sync_each(share)));
        let threads: Vec<_> = shares.map(start).collect();
        let mut outcome = Ok(());
        for (share, thread) in threads {
            outcome = outcome.and(match thread.map(ScopedJoinHandle::join) {
                Ok(Ok(synced)) => synced,
                // No thread could be had, or it panicked: here, then.
                _ => sync_each(share),
            });
        }
        outcome
    })
}
