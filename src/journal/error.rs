//! Defines the errors of a journal: whether each needs an operator, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::disk::Disk;
use super::holdings::Holdings;
use super::settings::JournalSettings;
use crate::display::one_line;
use crate::units::{Period, Size};

/// Why a journal could not be opened or written. The text tells people what to do.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// An operation on a file or directory failed.
    #[error("cannot {action} {}: {} ({advice})", shown(path), words(cause))]
    Io {
        /// The operation that failed, as a verb such as `write`.
        action: &'static str,
        path: PathBuf,
        cause: io::Error,
        advice: String,
    },
    /// Some room is left on the disk, but compressing the unfinished files may need all of it.
    #[error(
        "{} has {} left, and compressing the files that are not finished may take {}: {advice}",
        shown(directory), Size(*room), Size(*needed)
    )]
    Reserve {
        directory: PathBuf,
        room: u64,
        /// Bytes that must stay free for compression.
        needed: u64,
        /// Whether files are being finished now. If so, there may soon be more room.
        finishing: bool,
        advice: String,
    },
    /// Another process or sink writes files with the same names.
    #[error(
        "{} is locked by {holder}: a bridge with the same source.connection_id, or another sink of this one with \
         the same names, writes there; stop it, or give each its own source.connection_id, {section}.name or \
         {section}.directory",
        shown(path)
    )]
    Locked {
        path: PathBuf,
        /// The text that the holder wrote into the lock file.
        holder: String,
        /// The configuration table of the options, such as `sinks.file`.
        section: String,
    },
    /// Another replay writes files with the same names.
    #[error("{} is locked by {holder}: another replay is running; wait until it has ended", shown(path))]
    LockedByReplay {
        path: PathBuf,
        /// The text that the holder wrote into the lock file.
        holder: String,
    },
    /// A file was moved or removed while the journal wrote to it.
    #[error(
        "{} was moved or removed while it was being written: leave files that end in .open or .ids alone",
        shown(path)
    )]
    Moved { path: PathBuf },
    /// A file with the finished name exists already.
    #[error(
        "{} exists already, so a file that is not finished can't get that name, and nothing is overwritten: move \
         it away",
        shown(path)
    )]
    Exists { path: PathBuf },
    /// The work was interrupted: the process is ending, or the work panicked.
    #[error("opening was interrupted: {0}")]
    Interrupted(String),
    /// The files have reached the limit `max_total`.
    #[error(
        "the files in {} take {} and {section}.max_total is {}: {movable}, or raise {section}.max_total",
        shown(directory), Size(*total), Size(*limit)
    )]
    Full {
        directory: PathBuf,
        /// Bytes of all files, including the bytes that were to be written.
        total: u64,
        limit: u64,
        section: String,
        /// Which finished files can be moved away, for people.
        movable: String,
    },
    /// A finished file is older than the limit `max_age`.
    #[error(
        "a finished file in {} has not been moved away for longer than {section}.max_age ({}): move finished files \
         away",
        shown(directory), Period(*limit)
    )]
    Stale { directory: PathBuf, limit: Duration, section: String },
}

impl JournalError {
    /// Makes the error for a lock that `holder` has.
    pub(super) fn locked(path: PathBuf, holder: String, settings: &JournalSettings) -> Self {
        match settings.is_replay {
            true => Self::LockedByReplay { path, holder },
            false => Self::Locked { path, holder, section: settings.section.clone() },
        }
    }

    /// Returns a closure for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| {
            let advice = advice(&cause).1.to_owned();
            Self::Io { action, path, cause, advice }
        }
    }

    /// Returns whether the directory is not as the journal left it. Only opening the journal again helps then.
    pub(super) fn needs_opening(&self) -> bool {
        use io::ErrorKind::{AlreadyExists, NotFound};
        match self {
            Self::Moved { .. } => true,
            Self::Io { cause, .. } => matches!(cause.kind(), NotFound | AlreadyExists),
            _ => false,
        }
    }

    /// Returns whether an operator must act before the error can go away.
    pub fn needs_operator(&self) -> bool {
        match self {
            Self::Io { cause, .. } => advice(cause).0,
            Self::Reserve { finishing, .. } => !finishing,
            Self::Moved { .. } | Self::Interrupted(_) => false,
            Self::Locked { .. }
            | Self::LockedByReplay { .. }
            | Self::Exists { .. }
            | Self::Full { .. }
            | Self::Stale { .. } => true,
        }
    }

    /// Returns whether more disk room would help. If so, the journal finishes files early so that they can be
    /// moved away.
    pub(super) fn wants_room(&self) -> bool {
        match self {
            Self::Io { cause, .. } => is_no_room(cause),
            Self::Reserve { .. } | Self::Full { .. } => true,
            _ => false,
        }
    }

    /// Fills in the option names and the files that can be moved away.
    pub(super) fn explained(mut self, disk: &dyn Disk, settings: &JournalSettings) -> Self {
        let wants_room = self.wants_room();
        let found = if wants_room { movable(disk, settings) } else { String::new() };
        if settings.is_replay
            && let Self::Io { advice, .. } = &mut self
            && let Some((advice_for_all, _)) = advice.split_once(": {movable}")
        {
            *advice = advice_for_all.to_owned();
        }
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

/// Returns whether an error of the operating system needs an operator, and the advice for people. Lists every
/// error that does. All others are expected to go away without help, for example the errors of a network file
/// system while its server is down.
fn advice(cause: &io::Error) -> (bool, &'static str) {
    use io::ErrorKind as Kind;
    let advice = match (cause.kind(), Errno::from_io_error(cause)) {
        (Kind::StorageFull, _) => {
            "make room on its file system: {movable}; nothing is lost, it goes on by itself"
        }
        (Kind::QuotaExceeded, _) => {
            "raise the quota of the bridge's user or make room: {movable}; nothing is lost"
        }
        (Kind::PermissionDenied, _) => {
            "let the bridge's user read and write there, or change {section}.directory"
        }
        (Kind::ReadOnlyFilesystem, _) => "mount its file system for writing, or change {section}.directory",
        (Kind::NotADirectory, _) => {
            "something else is in the place of a directory: move it away, or change {section}.directory"
        }
        (Kind::IsADirectory, _) => "a directory is in the place of a file: move it away",
        (Kind::AlreadyExists, _) => "something else has this name: move it away",
        (Kind::InvalidFilename, _) => "shorten {section}.name, {section}.directory or source.connection_id",
        (Kind::FileTooLarge, _) => "lower {section}.rotate.size, or raise the limit on the size of a file",
        (Kind::InvalidInput | Kind::Unsupported | Kind::CrossesDevices, _) => {
            "its file system can't do this: set {section}.directory to one that can"
        }
        (Kind::NotFound, _) => return (false, "it was removed; it is made anew with the next opening"),
        (_, Some(Errno::LOOP)) => "it is a symbolic link, which is not followed: remove it",
        (_, Some(Errno::NOLCK)) => "its file system has no locks: set {section}.directory to one that has",
        (_, Some(Errno::MFILE | Errno::NFILE)) => {
            "raise the limit on open files, or lower {section}.max_open"
        }
        (_, Some(Errno::IO | Errno::NXIO | Errno::NODEV | Errno::UCLEAN)) => {
            "the disk or its file system is damaged: look at the kernel's log; nothing acknowledged depends on it"
        }
        _ => return (false, "look at the disk and its file system; nothing is lost, it is tried again"),
    };
    (true, advice)
}

/// Returns whether the disk is full, or the quota of this user.
pub(super) fn is_no_room(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Describes the files that can be moved away. It lists the directory, which is acceptable because writing
/// has stopped.
fn movable(disk: &dyn Disk, settings: &JournalSettings) -> String {
    if settings.is_replay {
        return "make room there".to_owned();
    }
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

pub(super) fn shown(path: &Path) -> String {
    one_line(&path.display().to_string()).into_owned()
}

/// The error text of the operating system without its error number.
pub(super) fn words(cause: &io::Error) -> String {
    let text = cause.to_string();
    let number = cause.raw_os_error().map(|number| format!(" (os error {number})")).unwrap_or_default();
    one_line(text.strip_suffix(number.as_str()).unwrap_or(&text)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::{MemoryDisk, settings};

    fn said(errno: Errno) -> (bool, String) {
        let error = JournalError::io("write", Path::new("/data/b1.jsonl.open"))(errno.into());
        let error = error.explained(&MemoryDisk::default(), &settings());
        (error.needs_operator(), error.to_string())
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

    /// The marks of a replay must stay, and a replay does not go on by itself.
    #[test]
    fn a_replay_is_told_to_make_room_and_which_other_one_runs() {
        let settings = JournalSettings { is_replay: true, ..settings() };
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let error = JournalError::io("write", Path::new("/data/b1.jsonl.open"))(errno.into());
            let text = error.explained(&MemoryDisk::default(), &settings).to_string();
            assert!(text.contains("room") && !text.contains("moved away"), "{text}");
            assert!(!text.contains("by itself") && !text.contains('{'), "{text}");
        }
        let locked = JournalError::locked(PathBuf::from("/data/.x.lock"), "process 7".to_owned(), &settings);
        assert!(locked.needs_operator());
        let text = "/data/.x.lock is locked by process 7: another replay is running; wait until it has ended";
        assert_eq!(locked.to_string(), text);
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
        for (error, held) in [
            (JournalError::Moved { path: path.clone() }, false),
            (JournalError::Interrupted(String::new()), false),
            (JournalError::Exists { path: path.clone() }, true),
            (JournalError::Locked { path, holder: "process 7".to_owned(), section: section() }, true),
            (JournalError::Stale { directory, limit: Duration::from_secs(7), section: section() }, true),
        ] {
            assert_eq!(error.needs_operator(), held, "{error}");
        }
    }
}
