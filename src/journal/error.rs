//! What can go wrong with a journal, whether it passes by itself, and what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::disk::Disk;
use super::holdings::Holdings;
use super::settings::JournalSettings;
use crate::display::one_line;
use crate::units::{Period, Size};

/// Why a journal could not be opened or written. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// An operation on a file or directory failed.
    #[error("cannot {action} {}: {} ({advice})", shown(path), words(cause))]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
        /// What to do.
        advice: String,
    },
    /// Room is left, but no more than compressing the files that are not finished may take.
    #[error(
        "{} has {} left, and compressing the files that are not finished may take {}: {advice}",
        shown(directory), Size(*room), Size(*needed)
    )]
    Reserve {
        /// Where they lie.
        directory: PathBuf,
        /// The bytes that can still be written there.
        room: u64,
        /// The bytes that must stay.
        needed: u64,
        /// Whether files are being finished meanwhile: then there may soon be more room.
        finishing: bool,
        /// What to do.
        advice: String,
    },
    /// Somebody else writes files of the same names.
    #[error(
        "{} is locked by {holder}: a bridge with the same source.connection_id, or another sink of this one with \
         the same names, writes there; stop it, or give each its own source.connection_id, {section}.name or \
         {section}.directory",
        shown(path)
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it.
        holder: String,
        /// The table of the options.
        section: String,
    },
    /// A file was moved or removed while it was written.
    #[error(
        "{} was moved or removed while it was being written: leave files that end in .open alone",
        shown(path)
    )]
    Moved {
        /// Where it was.
        path: PathBuf,
    },
    /// The finished form of a file exists already.
    #[error(
        "{} exists already, so a file that is not finished can't get that name, and nothing is overwritten: move \
         it away",
        shown(path)
    )]
    Exists {
        /// The finished name.
        path: PathBuf,
    },
    /// The work was cut short: the process is ending, or it panicked.
    #[error("opening was interrupted: {0}")]
    Interrupted(String),
    /// `max_total` is reached.
    #[error(
        "the files in {} take {} and {section}.max_total is {}: {movable}, or raise {section}.max_total",
        shown(directory), Size(*total), Size(*limit)
    )]
    Full {
        /// Where they lie.
        directory: PathBuf,
        /// What they take, in bytes, with what was to be written.
        total: u64,
        /// What they may take.
        limit: u64,
        /// The table of the options.
        section: String,
        /// What can be moved away.
        movable: String,
    },
    /// `max_age` is reached.
    #[error(
        "a finished file in {} has not been moved away for longer than {section}.max_age ({}): move finished files \
         away",
        shown(directory), Period(*limit)
    )]
    Stale {
        /// Where it lies.
        directory: PathBuf,
        /// How long it may lie there.
        limit: Duration,
        /// The table of the options.
        section: String,
    },
}

impl JournalError {
    /// For `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| {
            let advice = ErrorAdvice::of(&cause).advice.to_owned();
            Self::Io { action, path, cause, advice }
        }
    }

    /// Whether somebody must act before it can pass.
    pub fn needs_operator(&self) -> bool {
        match self {
            Self::Io { cause, .. } => ErrorAdvice::of(cause).needs_operator,
            Self::Reserve { finishing, .. } => !finishing,
            Self::Moved { .. } | Self::Interrupted(_) => false,
            Self::Locked { .. } | Self::Exists { .. } | Self::Full { .. } | Self::Stale { .. } => true,
        }
    }

    /// Whether more room would help. Then files are finished early, so that there is something to move away.
    pub(super) fn wants_room(&self) -> bool {
        match self {
            Self::Io { cause, .. } => is_no_room(cause),
            Self::Reserve { .. } | Self::Full { .. } => true,
            _ => false,
        }
    }

    /// The same, with the options that it is about, and what can be moved away.
    pub(super) fn explained(mut self, disk: &dyn Disk, settings: &JournalSettings) -> Self {
        let wants_room = self.wants_room();
        let found = if wants_room { movable(disk, settings) } else { String::new() };
        match &mut self {
            Self::Io { advice, .. } | Self::Reserve { advice, .. } => {
                *advice = advice.replace("{section}", &settings.section).replace("{movable}", &found);
            }
            Self::Full { movable, .. } => *movable = found,
            _ => {}
        }
        self
    }
}

/// What an error of the system means for people.
struct ErrorAdvice {
    needs_operator: bool,
    advice: &'static str,
}

impl ErrorAdvice {
    /// Every kind that somebody must mend is named here; all others are taken to pass by themselves, such as what
    /// a file system on a network says while its server is away.
    fn of(cause: &io::Error) -> Self {
        let held = |advice| Self { needs_operator: true, advice };
        let retried = |advice| Self { needs_operator: false, advice };
        match cause.kind() {
            io::ErrorKind::StorageFull => {
                return held(
                    "make room on its file system: {movable}; nothing is lost, it goes on by itself",
                );
            }
            io::ErrorKind::QuotaExceeded => {
                return held("raise the quota of the bridge's user or make room: {movable}; nothing is lost");
            }
            io::ErrorKind::PermissionDenied => {
                return held("let the bridge's user read and write there, or change {section}.directory");
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                return held("mount its file system for writing, or change {section}.directory");
            }
            io::ErrorKind::NotADirectory => {
                return held(
                    "something else is in the place of a directory: move it away, or change {section}.directory",
                );
            }
            io::ErrorKind::IsADirectory => {
                return held("a directory is in the place of a file: move it away");
            }
            io::ErrorKind::AlreadyExists => return held("something else has this name: move it away"),
            io::ErrorKind::InvalidFilename => {
                return held("shorten {section}.name, {section}.directory or source.connection_id");
            }
            io::ErrorKind::FileTooLarge => {
                return held("lower {section}.rotate.size, or raise the limit on the size of a file");
            }
            io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::CrossesDevices => {
                return held("its file system can't do this: set {section}.directory to one that can");
            }
            io::ErrorKind::NotFound => {
                return retried("it was removed; it is made anew with the next opening");
            }
            _ => {}
        }
        match Errno::from_io_error(cause) {
            Some(Errno::LOOP) => held("it is a symbolic link, which is not followed: remove it"),
            Some(Errno::NOLCK) => {
                held("its file system has no locks: set {section}.directory to one that has")
            }
            Some(Errno::MFILE | Errno::NFILE) => {
                held("raise the limit on open files, or lower {section}.max_open")
            }
            Some(Errno::IO | Errno::NXIO | Errno::NODEV | Errno::UCLEAN) => held(
                "the disk or its file system is damaged: look at the kernel's log; nothing acknowledged depends on it",
            ),
            _ => retried("look at the disk and its file system; nothing is lost, it is tried again"),
        }
    }
}

/// Whether the disk, or the share of it that this user may take, is full.
pub(super) fn is_no_room(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What can be moved away. The directory is looked at: this is for when nothing else goes on.
fn movable(disk: &dyn Disk, settings: &JournalSettings) -> String {
    match Holdings::of(disk, settings) {
        Ok(seen) if seen.finished > 0 => format!(
            "{} finished file{} of {} in {} can be moved away",
            seen.finished,
            if seen.finished == 1 { "" } else { "s" },
            Size(seen.finished_bytes),
            shown(&settings.directory)
        ),
        _ => format!("no finished file is in {}", shown(&settings.directory)),
    }
}

fn shown(path: &Path) -> String {
    one_line(&path.display().to_string()).into_owned()
}

/// What the system said, without its number.
fn words(cause: &io::Error) -> String {
    let text = cause.to_string();
    let number = cause.raw_os_error().map(|number| format!(" (os error {number})")).unwrap_or_default();
    one_line(text.strip_suffix(number.as_str()).unwrap_or(&text)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::{MemoryDisk, settings};

    fn said(errno: Errno) -> (bool, String) {
        let trouble = JournalError::io("write", Path::new("/data/b1.jsonl.open"))(errno.into());
        let trouble = trouble.explained(&MemoryDisk::default(), &settings());
        (trouble.needs_operator(), trouble.to_string())
    }

    #[test]
    fn what_somebody_must_mend_is_held_and_says_what_to_do() {
        for (errno, words) in [
            (
                Errno::NOSPC,
                "No space left on device (make room on its file system: no finished file is in /data",
            ),
            (Errno::DQUOT, "raise the quota of the bridge's user"),
            (Errno::ACCESS, "let the bridge's user read and write there, or change sinks.file.directory"),
            (Errno::PERM, "let the bridge's user read and write there"),
            (Errno::ROFS, "mount its file system for writing, or change sinks.file.directory"),
            (Errno::NOTDIR, "move it away, or change sinks.file.directory"),
            (Errno::ISDIR, "a directory is in the place of a file"),
            (Errno::EXIST, "something else has this name"),
            (Errno::NAMETOOLONG, "shorten sinks.file.name, sinks.file.directory or source.connection_id"),
            (Errno::FBIG, "lower sinks.file.rotate.size"),
            (Errno::INVAL, "set sinks.file.directory to one that can"),
            (Errno::OPNOTSUPP, "set sinks.file.directory to one that can"),
            (Errno::NOSYS, "set sinks.file.directory to one that can"),
            (Errno::XDEV, "set sinks.file.directory to one that can"),
            (Errno::LOOP, "it is a symbolic link, which is not followed: remove it"),
            (Errno::NOLCK, "has no locks"),
            (Errno::MFILE, "lower sinks.file.max_open"),
            (Errno::NFILE, "raise the limit on open files"),
            (Errno::IO, "damaged"),
            (Errno::UCLEAN, "damaged"),
        ] {
            let (held, text) = said(errno);
            assert!(held && text.contains(words), "{errno:?}: {text}");
            assert!(!text.contains("os error") && !text.contains(['{', '}']), "{text}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_not_held() {
        for errno in [
            Errno::NOENT,
            Errno::INTR,
            Errno::AGAIN,
            Errno::TIMEDOUT,
            Errno::STALE,
            Errno::BUSY,
            Errno::NOMEM,
            Errno::HOSTDOWN,
            Errno::CONNRESET,
            Errno::NOTCONN,
        ] {
            let (held, text) = said(errno);
            assert!(!held && text.starts_with("cannot write /data/b1.jsonl.open: "), "{errno:?}: {text}");
        }
        let section = || "sinks.file".to_owned();
        let (path, directory) = (PathBuf::from("/data/x"), PathBuf::from("/data"));
        for (trouble, held) in [
            (JournalError::Moved { path: path.clone() }, false),
            (JournalError::Interrupted(String::new()), false),
            (JournalError::Exists { path: path.clone() }, true),
            (JournalError::Locked { path, holder: "process 7".to_owned(), section: section() }, true),
            (JournalError::Stale { directory, limit: Duration::from_secs(7), section: section() }, true),
        ] {
            assert_eq!(trouble.needs_operator(), held, "{trouble}");
        }
    }
}
