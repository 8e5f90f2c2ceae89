//! Commits to a journal in groups on a separate thread. While one group is written and synced, the next one
//! collects lines. No line ever waits for a group to fill.
//!
//! The thread owns the journal as long as it is open. A blocking task for each group would not do: the
//! journal would move between threads, nothing would rotate idle files, and a disk that hangs would block
//! threads of a shared pool.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::finish_thread::FinishThread;
use super::group::Group;
use super::store::{CommitError, Journal};
use super::threads::{DiskThreads, Thread};

/// The shortest wait before a file that is due and could not be taken out is tried again.
const SHORTEST_IDLE: Duration = Duration::from_secs(1);
/// The longest wait when no file is being written.
const LONGEST_IDLE: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// All lines handed over so far fail with it. No line is accepted until [`JournalWriter::resume`], so
    /// that no line overtakes a failed one.
    Pause,
    /// Later groups are tried as usual.
    GoOn,
}

/// The handle of the thread. Dropping it abandons lines that are not being written yet. The thread then ends,
/// and releases the files and their lock, as soon as the disk allows it.
pub(crate) struct JournalWriter<T> {
    shared: Arc<WriterShared<T>>,
    thread: Box<dyn Thread>,
    ended: watch::Receiver<()>,
}

struct WriterShared<T> {
    state: Mutex<WriterState<T>>,
    after_failure: AfterFailure,
}

struct WriterState<T> {
    pending: Group<T>,
    /// Bytes of the group being written.
    writing: usize,
    paused: bool,
    stop: Option<StopMode>,
    /// The journal must be opened again.
    broken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StopMode {
    Drain,
    Abandon,
}

enum Turn {
    Write,
    Idle,
    Stop(StopMode),
}

impl<T: Send + 'static> JournalWriter<T> {
    /// Starts the thread with the name `name`. It calls `done` with the tickets of each group and the result,
    /// in the order of the groups. After an error with [`CommitError::is_broken`] it ends.
    pub(crate) fn start(
        name: &str,
        journal: Journal,
        after_failure: AfterFailure,
        done: impl FnMut(&mut Vec<T>, Result<(), &CommitError>) + Send + 'static,
    ) -> io::Result<Self> {
        let disk = journal.disk();
        let finish_thread = FinishThread::start(Arc::clone(&disk), journal.settings().clone())?;
        let state =
            WriterState { pending: Group::default(), writing: 0, paused: false, stop: None, broken: false };
        let shared = Arc::new(WriterShared { state: Mutex::new(state), after_failure });
        let (end, ended) = watch::channel(());
        let work = Work { shared: Arc::clone(&shared), finish_thread, journal, done, _end: end };
        let thread = disk.start(name, Box::new(move || work.run()))?;
        Ok(Self { shared, thread, ended })
    }

    /// Lets `add` append to the next group. `add` also gets the number of bytes that wait or are being
    /// written. Returns `None` while the writer is paused, ended or broken.
    pub(crate) fn append<R>(&self, add: impl FnOnce(&mut Group<T>, usize) -> R) -> Option<R> {
        let mut state = self.shared.lock();
        if state.paused || state.broken || state.stop.is_some() {
            return None;
        }
        let before = state.pending.bytes() + state.writing;
        let result = add(&mut state.pending, before);
        if !state.pending.tickets.is_empty() {
            self.thread.unpark();
        }
        Some(result)
    }

    /// Returns whether it accepts no more lines, so that the journal must be opened again.
    pub(crate) fn is_over(&self) -> bool {
        self.shared.lock().broken || self.ended.has_changed().is_err()
    }

    /// Accepts lines again after a failure.
    pub(crate) fn resume(&self) {
        self.shared.lock().paused = false;
    }

    /// Writes the waiting lines, finishes every file and ends the thread. [`WriterEnd`] tells when it has
    /// ended.
    pub(crate) fn drain(&self) {
        self.stop(StopMode::Drain);
    }

    /// Returns a value that waits until the thread has ended and the lock is free.
    pub(crate) fn ended(&self) -> WriterEnd {
        WriterEnd(self.ended.clone())
    }
}

impl<T> JournalWriter<T> {
    fn stop(&self, how: StopMode) {
        let mut state = self.shared.lock();
        if state.stop != Some(StopMode::Abandon) {
            state.stop = Some(how);
        }
        drop(state);
        self.thread.unpark();
    }
}

impl<T> Drop for JournalWriter<T> {
    fn drop(&mut self) {
        self.stop(StopMode::Abandon);
    }
}

#[derive(Clone, Debug)]
pub(crate) struct WriterEnd(watch::Receiver<()>);

impl WriterEnd {
    /// Returns once the thread has ended. Cancel-safe.
    pub(crate) async fn wait(&mut self) {
        // An error means that the thread has dropped its sender, which happens however it ends.
        while self.0.changed().await.is_ok() {}
    }
}

impl<T> WriterShared<T> {
    fn lock(&self) -> MutexGuard<'_, WriterState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work, at most until files are due. Moves the lines to write into `group`.
    fn next(&self, group: &mut Group<T>, threads: &dyn DiskThreads, idle: Option<Duration>) -> Turn {
        let is_idle = {
            let state = self.lock();
            state.stop.is_none() && state.pending.tickets.is_empty()
        };
        if is_idle {
            threads.park(idle.unwrap_or(LONGEST_IDLE).clamp(SHORTEST_IDLE, LONGEST_IDLE));
        }
        let mut state = self.lock();
        match state.stop {
            Some(StopMode::Abandon) => Turn::Stop(StopMode::Abandon),
            _ if !state.pending.tickets.is_empty() => {
                std::mem::swap(&mut state.pending, group);
                state.writing = group.bytes();
                Turn::Write
            }
            Some(StopMode::Drain) => Turn::Stop(StopMode::Drain),
            None => Turn::Idle,
        }
    }

    /// Notes a failure. Returns the tickets of the lines handed over meanwhile, if they fail too.
    fn failed(&self, broken: bool) -> Vec<T> {
        let mut state = self.lock();
        state.broken |= broken;
        if !broken && self.after_failure == AfterFailure::GoOn {
            return Vec::new();
        }
        state.paused = true;
        let tickets = std::mem::take(&mut state.pending.tickets);
        state.pending.clear();
        tickets
    }
}

struct Work<T, F> {
    shared: Arc<WriterShared<T>>,
    /// Dropped before the journal, which holds the lock.
    finish_thread: FinishThread,
    journal: Journal,
    done: F,
    /// Dropped last: by then the lock is free.
    _end: watch::Sender<()>,
}

impl<T, F: FnMut(&mut Vec<T>, Result<(), &CommitError>)> Work<T, F> {
    fn run(mut self) {
        let mut group = Group::default();
        let disk = self.journal.disk();
        loop {
            let idle = self.journal.next_rotation(Timestamp::now());
            match self.shared.next(&mut group, disk.as_ref(), idle) {
                Turn::Idle => {}
                Turn::Stop(StopMode::Abandon) => return,
                Turn::Stop(StopMode::Drain) => return self.close(),
                Turn::Write => {
                    if !self.write(&mut group) {
                        return;
                    }
                }
            }
            self.rotate();
        }
    }

    /// Returns whether the journal may continue.
    fn write(&mut self, group: &mut Group<T>) -> bool {
        self.journal.finishing(self.finish_thread.largest());
        let outcome = self.journal.commit(group, Timestamp::now());
        let broken = outcome.as_ref().is_err_and(|failure| failure.is_broken);
        let overtaken = outcome.is_err().then(|| self.shared.failed(broken));
        (self.done)(&mut group.tickets, outcome.as_ref().copied());
        if let (Some(mut tickets), Err(failure)) = (overtaken, &outcome) {
            (self.done)(&mut tickets, Err(failure));
        }
        group.clear();
        self.shared.lock().writing = 0;
        !broken
    }

    fn rotate(&mut self) {
        self.finish_thread.push(self.journal.rotate(Timestamp::now(), self.finish_thread.room()));
    }

    fn close(mut self) {
        self.finish_thread.push(self.journal.take_all(Timestamp::now()));
        self.finish_thread.drain();
    }
}
