//! Defines the few file operations that a journal needs, so that tests can replace the disk with one that
//! fails.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::{OFlags, statvfs};

use super::threads::DiskThreads;
use crate::display::one_line;

/// Keys in the files identify people (D14), so only the bridge's user may read them.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// A file system, and the threads that wait for it. Tests implement it in memory.
pub trait Disk: DiskThreads {
    /// Makes a directory and its missing parents, durably. Does not change directories that exist.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    fn list(&self, directory: &Path) -> io::Result<Vec<DirEntry>>;
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Writes bytes where the file has them already. The next sync makes them durable, also if an earlier one failed.
    fn write_again(&self, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns whether the name exists. A symbolic link with no target counts as existing.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Returns how many bytes can still be written to the file system of `directory`. Does not see quotas.
    fn room(&self, directory: &Path) -> io::Result<u64>;
    /// Locks `path`, which is created if missing, until the returned lock is dropped.
    fn lock(&self, path: &Path) -> io::Result<Locking>;
}

/// An open file, which is written at its end only.
#[expect(clippy::len_without_is_empty, reason = "nobody asks")]
pub trait DiskFile: Send + Sync {
    /// Writes all of `bytes` at the end. After an error, some of them may be in the file.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once the content is durable.
    fn sync(&self) -> io::Result<()>;
    fn truncate(&self, len: u64) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    /// Reads at `offset`. Returns 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Returns whether `path` still names this file.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
}

/// A file in a directory.
#[derive(Clone, Debug)]
pub struct DirEntry {
    pub name: String,
    pub len: u64,
    pub modified: Timestamp,
}

/// A lock, held until it is dropped. Its file also holds a note, which stays after the process has ended.
pub trait Lock: Send + Sync {
    /// Records that `holder` holds the lock. Returns whether it also held it last.
    fn hold(&self, holder: u64) -> io::Result<bool>;
    /// Reads the last note, by this process or an earlier one. Empty if there is none.
    fn note(&self) -> io::Result<String>;
    /// Replaces the note with `text`, one line. Not synced, so a crash may undo it.
    fn set_note(&self, text: &str) -> io::Result<()>;
}

/// The answer to an attempt to lock.
pub enum Locking {
    /// The lock is held from now on.
    Locked(Box<dyn Lock>),
    /// Another process holds the lock; this is the text that it wrote into the file.
    HeldBy(String),
}

/// The most bytes that are read from a lock file.
const LONGEST_NOTE: usize = 1024;

/// The file system of the machine. It never opens a file through a symbolic link. Otherwise a user who can
/// put a link into the directory could choose which file the bridge's user truncates or fills. The path to
/// the directory may contain links.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OsDisk;

impl DiskThreads for OsDisk {}

impl Disk for OsDisk {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.make_directory(parent)?;
        match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(io::ErrorKind::NotADirectory.into())
            }
            Err(error) => Err(error),
            Ok(()) => self.sync_directory(parent),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // moved away since the listing
                metadata => metadata?,
            };
            if metadata.is_file() {
                let modified = Timestamp::try_from(metadata.modified()?).unwrap_or(Timestamp::UNIX_EPOCH);
                entries.push(DirEntry { name, len: metadata.len(), modified });
            }
        }
        Ok(entries)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().create_new(true).read(true).append(true).mode(FILE_MODE).open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(no_link().read(true).append(true).open(path)?))
    }

    fn write_again(&self, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        // A file that is open for appending takes bytes at its end only.
        no_link().write(true).open(path)?.write_all_at(bytes, offset)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn room(&self, directory: &Path) -> io::Result<u64> {
        let found = statvfs(directory)?;
        // Some file systems report no sizes at all.
        let is_unknown = found.f_blocks == 0;
        Ok(if is_unknown { u64::MAX } else { found.f_bavail.saturating_mul(found.f_frsize) })
    }

    fn lock(&self, path: &Path) -> io::Result<Locking> {
        let file =
            no_link().create(true).truncate(false).read(true).write(true).mode(FILE_MODE).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Locking::Locked(Box::new(OsLock(file)))),
            Err(TryLockError::WouldBlock) => {
                let [process, ..] = first_lines(&file).unwrap_or_default();
                Ok(Locking::HeldBy(if process.is_empty() { "another process".to_owned() } else { process }))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

pub(super) fn no_link() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// The file holds three lines: the process that holds the lock, for people; the note; and the holder.
struct OsLock(File);

impl OsLock {
    fn write(&self, note: &str, holder: &str) -> io::Result<()> {
        let lines = format!("process {}\n{note}\n{holder}\n", std::process::id());
        // Overwrite first and truncate afterwards, so that it also works on a full disk.
        self.0.write_all_at(lines.as_bytes(), 0)?;
        self.0.set_len(lines.len() as u64)
    }
}

impl Lock for OsLock {
    fn hold(&self, holder: u64) -> io::Result<bool> {
        let [_, note, last] = first_lines(&self.0)?;
        let holder = format!("{holder:016x}");
        let is_last = last == holder;
        // The holder before must be able to rely on this line, also if this machine loses power.
        if !is_last {
            self.write(&note, &holder)?;
            self.0.sync_data()?;
        }
        Ok(is_last)
    }

    fn note(&self) -> io::Result<String> {
        let [_, note, _] = first_lines(&self.0)?;
        Ok(note)
    }

    fn set_note(&self, text: &str) -> io::Result<()> {
        let [_, _, holder] = first_lines(&self.0)?;
        self.write(text, &holder)
    }
}

fn first_lines(file: &File) -> io::Result<[String; 3]> {
    let mut content = vec![0; LONGEST_NOTE];
    let read = FileExt::read_at(file, &mut content, 0)?;
    let text = String::from_utf8_lossy(&content[..read]);
    let mut lines = text.lines().map(|line| one_line(line).into_owned());
    Ok([(); 3].map(|()| lines.next().unwrap_or_default()))
}

impl DiskFile for File {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self;
        file.write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let there = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            metadata => metadata?,
        };
        let here = self.metadata()?;
        Ok((there.dev(), there.ino()) == (here.dev(), here.ino()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_knows_who_held_it_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".events.lock");
        let lock = || match OsDisk.lock(&path).unwrap() {
            Locking::Locked(lock) => lock,
            Locking::HeldBy(process) => panic!("held by {process}"),
        };
        let one = lock();
        assert!(!one.hold(1).unwrap(), "nobody has held it");
        one.set_note("the newest name").unwrap();
        let Locking::HeldBy(process) = OsDisk.lock(&path).unwrap() else { panic!("locked twice") };
        assert_eq!(process, format!("process {}", std::process::id()));
        drop(one);
        let same = lock();
        assert!(same.hold(1).unwrap());
        drop(same);
        let other = lock();
        assert!(!other.hold(2).unwrap());
        assert_eq!(other.note().unwrap(), "the newest name");
        drop(other);
        assert!(!lock().hold(1).unwrap(), "another one has held it since");
    }
}
