//! Does what a process asks of a simulated disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use atdata_bridge::journal::disk::{DirEntry, Disk, DiskFile, Lock, Locking};
use atdata_bridge::journal::threads::{DiskThreads, Thread, ThreadWork};
use jiff::Timestamp;

use super::content::Content;
use super::{DiskState, LockFile, NO_ROOM, Operation, SimulatedDisk};
use crate::files::check_published;

#[derive(Clone)]
pub struct DiskOfProcess {
    pub disk: SimulatedDisk,
    pub process: u64,
}

impl DiskOfProcess {
    /// Begins an operation, which takes its time.
    fn begin(&self, operation: Operation) -> io::Result<MutexGuard<'_, DiskState>> {
        let mut state = self.alive()?;
        let delay = state.delay(operation);
        if delay.is_zero() {
            return Ok(state);
        }
        drop(state);
        self.disk.0.threads.pause(delay);
        self.alive()
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, DiskState>> {
        let state = self.disk.state();
        match state.ended.contains(&self.process) {
            true => Err(io::Error::other("the process has ended")),
            false => Ok(state),
        }
    }

    /// Does an operation that has no effect if it fails.
    fn step(&self, operation: Operation) -> io::Result<MutexGuard<'_, DiskState>> {
        let mut state = self.begin(operation)?;
        state.fails(operation)?;
        Ok(state)
    }

    fn note(&self, what: impl FnOnce() -> String) {
        self.disk.0.trace.note(|| format!("{}: process {} {}", self.disk.0.name, self.process, what()));
    }

    fn file(&self, content: usize) -> Arc<dyn DiskFile> {
        Arc::new(FileOfProcess { disk: self.clone(), content })
    }
}

impl DiskThreads for DiskOfProcess {
    fn start(&self, name: &str, work: ThreadWork) -> io::Result<Box<dyn Thread>> {
        // These wait for each other in a way that is not simulated. Without them files are synced one after the other.
        if name == "sync" {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.disk.0.threads.start(self.process, name, work)
    }

    fn park(&self, longest: Duration) {
        self.disk.0.threads.park(longest);
    }
}

fn name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for DiskOfProcess {
    fn make_directory(&self, _: &Path) -> io::Result<()> {
        self.step(Operation::Look).map(drop)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.step(Operation::Look)?;
        let entry = |(name, content): (String, usize)| DirEntry {
            name,
            len: state.contents[content].bytes().len() as u64,
            modified: Timestamp::UNIX_EPOCH,
        };
        Ok(state.names.now(directory).map(entry).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.step(Operation::Create)?;
        if state.names.find(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if state.room() == 0 {
            return Err(io::Error::from_raw_os_error(NO_ROOM));
        }
        state.contents.push(Content::default());
        let content = state.contents.len() - 1;
        state.names.create(path, content);
        self.note(|| format!("creates {}", name(path)));
        Ok(self.file(content))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let content = self.step(Operation::Open)?.names.find(path).ok_or_else(not_found)?;
        Ok(self.file(content))
    }

    fn write_again(&self, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.step(Operation::Append)?;
        let content = state.names.find(path).ok_or_else(not_found)?;
        unpublished(&mut state, content).write_again(offset as usize, bytes.len());
        self.note(|| format!("writes {} bytes of {content} again", bytes.len()));
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let is_directory = path.extension().is_none();
        Ok(self.step(Operation::Look)?.names.find(path).is_some() || is_directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step(Operation::Rename)?;
        let content = state.names.find(from).ok_or_else(not_found)?;
        if state.names.find(to).is_some() {
            state.violations.push(format!("{} is overwritten", to.display()));
        }
        let published = check_published(&name(to), &state.contents[content]);
        match published {
            Ok(is_published) => state.contents[content].is_published |= is_published,
            Err(why) => state.violations.push(why),
        }
        state.names.rename(from, to, content);
        self.note(|| format!("renames {} to {}", name(from), name(to)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step(Operation::Remove)?;
        let content = state.names.find(path).ok_or_else(not_found)?;
        state.names.remove(path, content);
        self.note(|| format!("removes {}", name(path)));
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.step(Operation::SyncDirectory)?.names.sync(path);
        Ok(())
    }

    fn room(&self, _: &Path) -> io::Result<u64> {
        Ok(self.step(Operation::Look)?.room())
    }

    fn lock(&self, path: &Path) -> io::Result<Locking> {
        let mut state = self.step(Operation::Look)?;
        let lock = state.locks.entry(path.to_owned()).or_default();
        if let Some(holder) = lock.process {
            return Ok(Locking::HeldBy(format!("process {holder}")));
        }
        lock.process = Some(self.process);
        Ok(Locking::Locked(Box::new(HeldLock { disk: self.clone(), path: path.to_owned() })))
    }
}

struct HeldLock {
    disk: DiskOfProcess,
    path: PathBuf,
}

impl HeldLock {
    fn with<R>(&self, work: impl FnOnce(&mut LockFile) -> R) -> io::Result<R> {
        let mut state = self.disk.step(Operation::Look)?;
        Ok(work(state.locks.get_mut(&self.path).expect("it is held")))
    }
}

impl Lock for HeldLock {
    fn hold(&self, holder: u64) -> io::Result<bool> {
        self.with(|lock| lock.holder.replace(holder) == Some(holder))
    }

    fn note(&self) -> io::Result<String> {
        self.with(|lock| lock.note.clone())
    }

    fn set_note(&self, text: &str) -> io::Result<()> {
        self.with(|lock| text.clone_into(&mut lock.note))
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let mut state = self.disk.disk.state();
        let lock = state.locks.get_mut(&self.path).expect("it is held");
        lock.process.take_if(|process| *process == self.disk.process);
    }
}

struct FileOfProcess {
    disk: DiskOfProcess,
    content: usize,
}

impl FileOfProcess {
    fn step(&self, operation: Operation) -> io::Result<MutexGuard<'_, DiskState>> {
        self.disk.step(operation)
    }
}

/// Refuses to change a file that readers may have.
fn unpublished(state: &mut DiskState, content: usize) -> &mut Content {
    if state.contents[content].is_published {
        state.violations.push("a file that readers may have is changed".to_owned());
    }
    &mut state.contents[content]
}

impl DiskFile for FileOfProcess {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        // A process that is killed meanwhile has often written a part.
        let half = bytes.len() / 2;
        let mut state = self.disk.alive()?;
        let delay = state.delay(Operation::Append);
        let room = usize::try_from(state.room()).unwrap_or(usize::MAX);
        let first = half.min(room);
        unpublished(&mut state, self.content).append(&bytes[..first]);
        drop(state);
        if !delay.is_zero() {
            self.disk.disk.0.threads.pause(delay);
        }
        let mut state = self.disk.alive()?;
        state.fails(Operation::Append)?;
        let room = usize::try_from(state.room()).unwrap_or(usize::MAX);
        let fits = (bytes.len() - first).min(room);
        unpublished(&mut state, self.content).append(&bytes[first..first + fits]);
        self.disk.note(|| format!("appends {} bytes to {}", first + fits, self.content));
        if first + fits < bytes.len() { Err(io::Error::from_raw_os_error(NO_ROOM)) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.begin(Operation::Sync)?;
        let failed = state.fails(Operation::Sync);
        let DiskState { contents, random, .. } = &mut *state;
        match &failed {
            Ok(()) => contents[self.content].sync(),
            Err(_) => contents[self.content].fail_to_sync(random),
        }
        self.disk.note(|| format!("syncs {}: {}", self.content, failed.is_ok()));
        failed
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.step(Operation::Truncate)?;
        unpublished(&mut state, self.content).truncate(len as usize);
        self.disk.note(|| format!("cuts {} to {len} bytes", self.content));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.step(Operation::Look)?.contents[self.content].bytes().len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.step(Operation::Look)?;
        let rest = state.contents[self.content].bytes().get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(self.step(Operation::Look)?.names.find(path) == Some(self.content))
    }
}
