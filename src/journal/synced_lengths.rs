//! Keeps the synced length of each file while the journal is closed and opened again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The synced length of every file being written, by path. It lives longer than the journal: a file that
/// could not be cut back after a failed write is cut back at the next open.
#[derive(Clone, Debug)]
pub(crate) struct SyncedLengths {
    /// Tells the holder of the lock from every other one. A random number, because the process of a container
    /// usually has the id 1.
    holder: u64,
    lengths: Arc<Mutex<HashMap<PathBuf, u64>>>,
    opened: Arc<AtomicBool>,
    recovering: Arc<AtomicBool>,
}

impl Default for SyncedLengths {
    fn default() -> Self {
        Self {
            holder: fastrand::u64(..),
            lengths: Arc::default(),
            opened: Arc::default(),
            recovering: Arc::default(),
        }
    }
}

impl SyncedLengths {
    pub(super) fn holder(&self) -> u64 {
        self.holder
    }

    /// Forgets everything about the files, because another process may have written to them. It synced what it
    /// acknowledged, and its id log says how far.
    pub(super) fn forget_all(&self) {
        self.with(HashMap::clear);
        self.recovered();
    }

    /// Returns true for the first call only, when this process has not yet seen the state of the disk.
    pub(super) fn is_first_opening(&self) -> bool {
        !self.opened.swap(true, Ordering::Relaxed)
    }

    /// Notes that a recovery begins. Returns whether an earlier one has not ended with [`Self::recovered`].
    pub(super) fn recovering(&self) -> bool {
        self.recovering.swap(true, Ordering::Relaxed)
    }

    pub(super) fn recovered(&self) {
        self.recovering.store(false, Ordering::Relaxed);
    }

    pub(super) fn synced(&self, path: &Path) -> Option<u64> {
        self.with(|lengths| lengths.get(path).copied())
    }

    pub(super) fn remember(&self, path: &Path, len: u64) {
        self.with(|lengths| match lengths.get_mut(path) {
            Some(known) => *known = len,
            None => drop(lengths.insert(path.to_owned(), len)),
        });
    }

    pub(super) fn forget(&self, path: &Path) {
        self.with(|lengths| lengths.remove(path));
    }

    pub(super) fn retain(&self, keep: impl Fn(&Path) -> bool) {
        self.with(|lengths| lengths.retain(|path, _| keep(path)));
    }

    fn with<R>(&self, work: impl FnOnce(&mut HashMap<PathBuf, u64>) -> R) -> R {
        work(&mut self.lengths.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
