//! Simulates the disk of a machine, which outlives the processes that write to it. It is slow, full or fails as it is
//! told, and a power cut loses or reorders what was not synced.

pub mod content;
mod names;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use atdata_bridge::journal::disk::Disk;
use fastrand::Rng;
use tokio::time::Instant;

use self::content::Content;
use self::names::Names;
use self::process::DiskOfProcess;
use crate::threads::Threads;
use crate::trace::Trace;

/// What a disk is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Open,
    Append,
    Sync,
    Truncate,
    Rename,
    Remove,
    SyncDirectory,
    /// All that changes nothing.
    Look,
}

/// All operations.
pub const OPERATIONS: [Operation; 9] = [
    Operation::Create,
    Operation::Open,
    Operation::Append,
    Operation::Sync,
    Operation::Truncate,
    Operation::Rename,
    Operation::Remove,
    Operation::SyncDirectory,
    Operation::Look,
];

/// How the disk does at the moment.
#[derive(Clone, Copy, Debug)]
pub struct DiskTrouble {
    /// Of how many hundred operations one fails: of this kind, or of all kinds.
    pub fails: (u8, Option<Operation>),
    /// How many bytes it has room for.
    pub size: u64,
    pub longest_delay: Duration,
    /// No operation ends before this.
    pub hangs_until: Option<Instant>,
}

impl DiskTrouble {
    fn none(longest_delay: Duration) -> Self {
        Self { fails: (0, None), size: u64::MAX, longest_delay, hangs_until: None }
    }
}

/// A disk. Cheap to clone.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Shared>);

struct Shared {
    name: String,
    /// The longest delay of a sync or a write without a fault.
    delay: Duration,
    threads: Threads,
    trace: Trace,
    state: Mutex<DiskState>,
}

struct DiskState {
    random: Rng,
    trouble: DiskTrouble,
    delay: Duration,
    contents: Vec<Content>,
    names: Names,
    /// The lock files, with the process that holds each, its note, and who held it last.
    locks: BTreeMap<PathBuf, LockFile>,
    /// The processes that have ended. Whatever they still try has no effect.
    ended: BTreeSet<u64>,
    /// What a journal must never do.
    violations: Vec<String>,
}

#[derive(Default)]
struct LockFile {
    process: Option<u64>,
    note: String,
    holder: Option<u64>,
}

impl SimulatedDisk {
    pub fn new(name: String, delay: Duration, random: Rng, threads: Threads, trace: Trace) -> Self {
        let state = DiskState {
            random,
            trouble: DiskTrouble::none(delay),
            delay,
            contents: Vec::new(),
            names: Names::default(),
            locks: BTreeMap::new(),
            ended: BTreeSet::new(),
            violations: Vec::new(),
        };
        Self(Arc::new(Shared { name, delay, threads, trace, state: Mutex::new(state) }))
    }

    /// The disk as a process sees it.
    pub fn of_process(&self, process: u64) -> Arc<dyn Disk> {
        Arc::new(DiskOfProcess { disk: self.clone(), process })
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.state.lock().unwrap()
    }

    /// Changes how the disk does.
    pub fn trouble(&self, change: impl FnOnce(&mut DiskTrouble)) {
        change(&mut self.state().trouble);
    }

    /// Leaves room for so many bytes more.
    pub fn leave_room(&self, bytes: u64) {
        let mut state = self.state();
        state.trouble.size = state.used() + bytes;
    }

    /// How the disk does without a fault.
    pub fn heal(&self) {
        self.trouble(|trouble| *trouble = DiskTrouble::none(self.0.delay));
    }

    /// Notes the end of a process. All that it has written stays.
    pub fn process_ended(&self, process: u64) {
        let mut state = self.state();
        state.ended.insert(process);
        for lock in state.locks.values_mut() {
            lock.process.take_if(|holder| *holder == process);
        }
    }

    /// Loses what is not on the disk yet: of each file any of the pages that were not synced, and any of the names.
    /// Every process must have ended.
    pub fn power_cut(&self) {
        let mut state = self.state();
        let DiskState { random, contents, names, locks, .. } = &mut *state;
        names.power_cut(random);
        contents.iter_mut().for_each(|content| content.power_cut(random));
        names.published().for_each(|content| contents[content].is_published = true);
        for lock in locks.values_mut() {
            if random.bool() {
                lock.note.clear();
            }
        }
    }

    /// What a journal has done that it must not do.
    pub fn violation(&self) -> Option<String> {
        self.state().violations.first().map(|what| format!("{}: {what}", self.0.name))
    }

    /// The files of a directory, with the bytes of each.
    pub fn files(&self, directory: &Path) -> Vec<(String, Vec<u8>)> {
        let state = self.state();
        let bytes = |content: usize| state.contents[content].bytes().to_vec();
        state.names.now(directory).map(|(name, content)| (name, bytes(content))).collect()
    }

    /// Shows the files of a directory that a power cut would leave, with their names.
    pub fn each_durable(&self, directory: &Path, mut show: impl FnMut(&str, &mut Content)) {
        let mut state = self.state();
        let DiskState { names, contents, .. } = &mut *state;
        names.durable(directory).for_each(|(name, content)| show(&name, &mut contents[content]));
    }

    /// The files of a directory that a power cut would leave, with the bytes that it would leave of each.
    pub fn durable_files(&self, directory: &Path) -> Vec<(String, Vec<u8>)> {
        let state = self.state();
        let bytes = |content: usize| state.contents[content].durable().to_vec();
        state.names.durable(directory).map(|(name, content)| (name, bytes(content))).collect()
    }
}

impl DiskState {
    fn used(&self) -> u64 {
        self.names.contents().map(|content| self.contents[content].bytes().len() as u64).sum()
    }

    fn room(&self) -> u64 {
        match self.trouble.size {
            u64::MAX => u64::MAX,
            size => size.saturating_sub(self.used()),
        }
    }

    /// How long an operation takes.
    fn delay(&mut self, operation: Operation) -> Duration {
        let longest = self.trouble.longest_delay;
        let is_slow = longest > self.delay;
        let takes_long = match operation {
            Operation::Sync | Operation::SyncDirectory => true,
            Operation::Append => self.random.u8(0..8) == 0 || is_slow,
            _ => is_slow,
        };
        let drawn = self.random.u64(0..=longest.as_micros() as u64);
        let delay = if takes_long { Duration::from_micros(drawn) } else { Duration::ZERO };
        let hangs = self.trouble.hangs_until.map(|end| end.saturating_duration_since(Instant::now()));
        delay.max(hangs.unwrap_or_default())
    }

    fn fails(&mut self, operation: Operation) -> io::Result<()> {
        let (percent, which) = self.trouble.fails;
        let is_meant = which.is_none_or(|which| which == operation);
        if is_meant && self.random.u8(0..100) < percent {
            return Err(io::Error::from_raw_os_error(INPUT_OUTPUT));
        }
        Ok(())
    }
}

/// The numbers of errors of Linux.
const INPUT_OUTPUT: i32 = 5;
const NO_ROOM: i32 = 28;
