//! What can go wrong with a journal.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::units::{Period, Size};

/// Why a journal could not be opened or written. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// An operation on a file or directory failed.
    #[error("cannot {action} {}: {cause} ({})", path.display(), advice(cause))]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Somebody else writes files of the same names.
    #[error(
        "{} is locked by {holder}: a bridge with the same connection id, or another sink of this one with the \
         same names, writes there; stop it, or give each its own connection_id, name or directory",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it.
        holder: String,
    },
    /// A file was moved or removed while it was written.
    #[error(
        "{} was moved or removed while it was being written: leave files that end in .open alone",
        path.display()
    )]
    Moved {
        /// Where it was.
        path: PathBuf,
    },
    /// The finished form of a file exists already.
    #[error("{} exists already and is not overwritten: move it away", path.display())]
    Exists {
        /// The finished name.
        path: PathBuf,
    },
    /// The work was cut short: the process is ending, or it panicked.
    #[error("opening was interrupted: {0}")]
    Interrupted(String),
    /// `max_total` is reached.
    #[error(
        "the files in {} take {} and max_total is {}: move finished files away or raise max_total",
        directory.display(), Size(*total), Size(*limit)
    )]
    Full {
        /// Where they lie.
        directory: PathBuf,
        /// What they take, in bytes, with what was to be written.
        total: u64,
        /// What they may take.
        limit: u64,
    },
    /// `max_age` is reached.
    #[error(
        "a finished file in {} has not been moved away for longer than max_age ({}): move finished files away",
        directory.display(), Period(*limit)
    )]
    Stale {
        /// Where it lies.
        directory: PathBuf,
        /// How long it may lie there.
        limit: Duration,
    },
}

impl Trouble {
    /// For `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { action, path, cause }
    }

    /// Whether somebody must act before it can pass; a full disk or an unreachable one may pass by itself.
    pub fn needs_operator(&self) -> bool {
        match self {
            Self::Io { cause, .. } => {
                matches!(cause.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
            }
            Self::Locked { .. } | Self::Moved { .. } | Self::Interrupted(_) => false,
            Self::Exists { .. } | Self::Full { .. } | Self::Stale { .. } => true,
        }
    }
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on its file system; nothing is lost, it goes on by itself"
        }
        io::ErrorKind::PermissionDenied => "allow the bridge's user to read and write there",
        io::ErrorKind::ReadOnlyFilesystem => "mount its file system for writing",
        io::ErrorKind::NotFound => "it was removed; it is made anew with the next opening",
        io::ErrorKind::NotADirectory => "name a directory",
        io::ErrorKind::InvalidFilename => "shorten the name",
        _ => "look at the disk and its file system; nothing is lost, it is tried again",
    }
}
