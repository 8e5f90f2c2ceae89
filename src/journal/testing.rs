//! Provides a disk in memory that fails on request and crashes like a real one.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;

use super::config::{FileCompression, RotateConfig};
use super::disk::{DirEntry, Disk, DiskFile, Lock, Locking, OsDisk};
use super::name_template::NameTemplate;
use super::settings::JournalSettings;
use super::threads::{DiskThreads, Thread, ThreadWork};
use crate::units::{Period, Size};

/// How many ids the journals of tests record at least. So few make a new log begin all the time.
pub(crate) const WINDOW: usize = 12;

/// Returns the settings of a file sink called `file`, with files of 60 bytes in `/data`.
pub(crate) fn settings() -> JournalSettings {
    JournalSettings {
        section: "sinks.file".to_owned(),
        directory: "/data".into(),
        stems: NameTemplate::parse("{connection_id}").unwrap().bind("b1"),
        compression: FileCompression::None,
        rotation: RotateConfig { size: Size(60), age: Period::secs(3600) },
        ids: WINDOW,
        max_open: 2,
        max_total: None,
        max_age: None,
        is_replay: false,
    }
}

/// Bytes of a page. A power cut may leave any page as zeros.
const PAGE: usize = 16;

/// An operation that a test can make fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Create,
    Open,
    Append,
    Sync,
    Truncate,
    Rename,
    Remove,
    SyncDirectory,
    /// Every operation that changes nothing.
    Look,
}

/// A file system with one directory. Synced data survives [`MemoryDisk::crash`]; other data may survive.
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<DiskState>>);

type Failing = Arc<Mutex<dyn FnMut(Op, &Path) -> Option<io::Error> + Send>>;

#[derive(Clone, Default)]
struct DiskState {
    nodes: Vec<DiskNode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    directory: bool,
    operations: usize,
    /// The machine is off from this operation on.
    crash_at: Option<usize>,
    /// How many more bytes can be written.
    room: Option<usize>,
    failing: Option<Failing>,
    has_no_threads: bool,
    /// The content of the lock file.
    note: String,
    holder: Option<u64>,
}

#[derive(Clone, Default)]
struct DiskNode {
    data: Vec<u8>,
    durable: Vec<u8>,
    /// Bytes that a sync which failed has left in the cache: no later one writes them.
    forgotten: Range<usize>,
}

impl MemoryDisk {
    /// Makes the operations fail for which `failing` returns an error.
    pub(crate) fn fail(&self, failing: impl FnMut(Op, &Path) -> Option<io::Error> + Send + 'static) {
        self.state().failing = Some(Arc::new(Mutex::new(failing)));
    }

    pub(crate) fn fail_all(&self, ops: &'static [Op]) {
        self.fail(move |op, _| ops.contains(&op).then(|| io::Error::other("injected")));
    }

    /// Lets every operation succeed again.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        (state.failing, state.room) = (None, None);
    }

    /// Starts no thread, so all operations are in an order that every run repeats.
    pub(crate) fn without_threads(self) -> Self {
        self.state().has_no_threads = true;
        self
    }

    /// Returns a disk with the same content, on which the same operations fail.
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Leaves room for `bytes` more; removed bytes count as room. A write beyond that fails half way.
    pub(crate) fn leave_room(&self, bytes: usize) {
        self.state().room = Some(bytes);
    }

    pub(crate) fn crash_at(&self, n: usize) {
        let mut state = self.state();
        state.crash_at = Some(state.operations + n);
    }

    pub(crate) fn is_off(&self) -> bool {
        let state = self.state();
        state.crash_at.is_some_and(|at| state.operations > at)
    }

    /// Switches the machine on again. Synced data is there. For other data `keep` decides how much of the
    /// unsynced end of a file is there, and whether unsynced names are there.
    pub(crate) fn crash(&self, keep: impl FnMut(usize) -> usize) {
        self.crash_leaving(keep, |_| false);
    }

    /// Does the same and leaves some pages of a file's unsynced end as zeros: only its length was written.
    pub(crate) fn crash_leaving(
        &self,
        mut keep: impl FnMut(usize) -> usize,
        mut is_zero: impl FnMut(usize) -> bool,
    ) {
        let mut state = self.state();
        (state.crash_at, state.failing, state.room) = (None, None, None);
        if keep(1) == 0 {
            state.names = state.durable_names.clone();
            state.note.clear();
            state.holder = None;
        } else {
            state.durable_names = state.names.clone();
        }
        for node in &mut state.nodes {
            let common = node.durable.iter().zip(&node.data).take_while(|(a, b)| a == b).count();
            let kept = common + keep(node.data.len() - common);
            // A truncation that was not synced may be undone.
            if kept > common || keep(1) == 1 {
                node.durable = node.data[..kept].to_vec();
                for (n, page) in node.durable[common..].chunks_mut(PAGE).enumerate() {
                    if is_zero(n) {
                        page.fill(0);
                    }
                }
            }
            node.data = node.durable.clone();
            node.forgotten = 0..0;
        }
    }

    /// Leaves what a killed process leaves: every written byte, synced or not.
    pub(crate) fn kill(&self) {
        let mut state = self.state();
        (state.crash_at, state.failing, state.room) = (None, None, None);
    }

    /// Returns the files that a listing without hidden ones shows, which leaves out the id log.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let files = state.names.iter().map(|(path, node)| (name(path), state.nodes[*node].data.clone()));
        files.filter(|(name, _)| !name.starts_with('.')).collect()
    }

    /// Returns the content of a file; nothing if there is no such file.
    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.names.get(path).map(|node| state.nodes[*node].data.clone()).unwrap_or_default()
    }

    pub(crate) fn put(&self, path: &Path, data: &[u8]) {
        let mut state = self.state();
        state.directory = true;
        let node = DiskNode { data: data.to_vec(), durable: data.to_vec(), forgotten: 0..0 };
        state.nodes.push(node);
        let at = state.nodes.len() - 1;
        state.names.insert(path.to_owned(), at);
        state.durable_names.insert(path.to_owned(), at);
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap()
    }

    fn step(&self, op: Op, path: &Path) -> io::Result<MutexGuard<'_, DiskState>> {
        let mut state = self.state();
        state.operations += 1;
        if state.crash_at.is_some_and(|at| state.operations > at) {
            return Err(io::Error::other("the machine is off"));
        }
        if let Some(error) = state.failing.as_ref().and_then(|failing| failing.lock().unwrap()(op, path)) {
            return Err(error);
        }
        Ok(state)
    }

    fn file(&self, node: usize, path: &Path) -> Arc<dyn DiskFile> {
        Arc::new(MemoryFile { disk: self.clone(), node, path: path.to_owned() })
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl DiskThreads for MemoryDisk {
    fn start(&self, name: &str, work: ThreadWork) -> io::Result<Box<dyn Thread>> {
        if self.state().has_no_threads {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        OsDisk.start(name, work)
    }
}

impl Disk for MemoryDisk {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.step(Op::Look, path)?.directory = true;
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.step(Op::Look, directory)?;
        let entry = |(path, node): (&PathBuf, &usize)| DirEntry {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            len: state.nodes[*node].data.len() as u64,
            modified: Timestamp::UNIX_EPOCH,
        };
        Ok(state.names.iter().map(entry).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.step(Op::Create, path)?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !state.directory {
            return Err(not_found());
        }
        state.nodes.push(DiskNode::default());
        let node = state.nodes.len() - 1;
        state.names.insert(path.to_owned(), node);
        drop(state);
        Ok(self.file(node, path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let node = *self.step(Op::Open, path)?.names.get(path).ok_or_else(not_found)?;
        Ok(self.file(node, path))
    }

    fn write_again(&self, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.step(Op::Append, path)?;
        let node = *state.names.get(path).ok_or_else(not_found)?;
        let (node, written) = (&mut state.nodes[node], offset as usize..offset as usize + bytes.len());
        assert_eq!(&node.data[written.clone()], bytes, "the file has other bytes there");
        if written.start <= node.forgotten.start && node.forgotten.end <= written.end {
            node.forgotten = 0..0;
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.step(Op::Look, path)?;
        Ok(state.names.contains_key(path) || (state.directory && path.extension().is_none()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step(Op::Rename, from)?;
        assert!(!state.names.contains_key(to), "{} is overwritten", to.display());
        let node = state.names.remove(from).ok_or_else(not_found)?;
        state.names.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step(Op::Remove, path)?;
        let node = state.names.remove(path).ok_or_else(not_found)?;
        let freed = state.nodes[node].data.len();
        state.room = state.room.map(|room| room + freed);
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step(Op::SyncDirectory, path)?;
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn room(&self, directory: &Path) -> io::Result<u64> {
        Ok(self.step(Op::Look, directory)?.room.map_or(u64::MAX, |room| room as u64))
    }

    fn lock(&self, path: &Path) -> io::Result<Locking> {
        self.step(Op::Look, path).map(|_| Locking::Locked(Box::new(MemoryLock(self.clone()))))
    }
}

struct MemoryLock(MemoryDisk);

impl Lock for MemoryLock {
    fn hold(&self, holder: u64) -> io::Result<bool> {
        Ok(self.0.state().holder.replace(holder) == Some(holder))
    }

    fn note(&self) -> io::Result<String> {
        Ok(self.0.state().note.clone())
    }

    fn set_note(&self, text: &str) -> io::Result<()> {
        text.clone_into(&mut self.0.state().note);
        Ok(())
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    node: usize,
    path: PathBuf,
}

impl DiskFile for MemoryFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let step = self.disk.step(Op::Append, &self.path);
        let mut state = match step {
            Err(error) if !self.disk.is_off() => {
                // A failed write has often written some bytes.
                self.disk.state().nodes[self.node].data.extend_from_slice(&bytes[..bytes.len() / 2]);
                return Err(error);
            }
            step => step?,
        };
        let fits = state.room.unwrap_or(bytes.len()).min(bytes.len());
        state.room = state.room.map(|room| room - fits);
        state.nodes[self.node].data.extend_from_slice(&bytes[..fits]);
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.step(Op::Sync, &self.path) {
            Ok(mut state) => {
                let node = &mut state.nodes[self.node];
                node.durable = node.data.clone();
                node.durable[node.forgotten.clone()].fill(0);
                Ok(())
            }
            Err(error) => {
                let mut state = self.disk.state();
                let node = &mut state.nodes[self.node];
                let common = node.durable.iter().zip(&node.data).take_while(|(a, b)| a == b).count();
                node.forgotten = common..node.data.len();
                Err(error)
            }
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.step(Op::Truncate, &self.path)?;
        let data = &mut state.nodes[self.node].data;
        let freed = data.len().saturating_sub(len as usize);
        data.truncate(len as usize);
        let forgotten = &mut state.nodes[self.node].forgotten;
        *forgotten = forgotten.start.min(len as usize)..forgotten.end.min(len as usize);
        state.room = state.room.map(|room| room + freed);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.step(Op::Look, &self.path)?.nodes[self.node].data.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.step(Op::Look, &self.path)?;
        let rest = state.nodes[self.node].data.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(self.disk.step(Op::Look, path)?.names.get(path) == Some(&self.node))
    }
}
