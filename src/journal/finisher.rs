//! Finishes files beside the event path: compressing 128 MiB takes a second or more.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::disk::Disk;
use super::error::JournalError;
use super::finish::{Unfinished, finish};
use super::name::Base;
use super::settings::JournalSettings;

/// The most files waiting; beyond that the files being written grow on instead of being finished.
const MAX_WAITING: usize = 64;
/// After a failure, such as a full disk, it is tried again so often.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// A thread that finishes files one after the other. Dropping it gives up what is not finished; the next
/// opening begins that again.
pub(crate) struct Finisher {
    shared: Arc<FinisherShared>,
    thread: Option<JoinHandle<()>>,
}

struct FinisherShared {
    disk: Arc<dyn Disk>,
    settings: JournalSettings,
    queue: Mutex<FinishQueue>,
    news: Condvar,
    cancel: AtomicBool,
}

#[derive(Default)]
struct FinishQueue {
    /// The first one is being worked on.
    waiting: VecDeque<Unfinished>,
    /// No more will come.
    last: bool,
}

impl Finisher {
    /// Starts the thread.
    pub(crate) fn start(disk: Arc<dyn Disk>, settings: JournalSettings) -> io::Result<Self> {
        let shared = Arc::new(FinisherShared {
            disk,
            settings,
            queue: Mutex::default(),
            news: Condvar::new(),
            cancel: AtomicBool::new(false),
        });
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new().name("finisher".to_owned()).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// How many more files it takes.
    pub(crate) fn room(&self) -> usize {
        MAX_WAITING.saturating_sub(self.shared.lock().waiting.len())
    }

    /// The bytes of the largest file waiting or being worked on; 0 when there is none.
    pub(crate) fn largest(&self) -> u64 {
        self.shared.lock().waiting.iter().map(|file| file.len).max().unwrap_or(0)
    }

    /// Finishes these, some time.
    pub(crate) fn push(&self, files: Vec<Unfinished>) {
        if !files.is_empty() {
            self.shared.lock().waiting.extend(files);
            self.shared.news.notify_one();
        }
    }

    /// Waits until everything is finished, or has failed once more.
    pub(crate) fn drain(mut self) {
        self.shared.lock().last = true;
        self.join();
    }

    fn join(&mut self) {
        self.shared.news.notify_one();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!(
                "the thread that finishes files panicked; they are finished after the next start"
            );
        }
    }
}

impl Drop for Finisher {
    fn drop(&mut self) {
        self.shared.cancel.store(true, Ordering::Relaxed);
        // Under the lock, so that a thread about to wait is not missed.
        self.shared.lock().last = true;
        self.join();
    }
}

impl FinisherShared {
    fn lock(&self) -> MutexGuard<'_, FinishQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut told = HashMap::new();
        while let Some(file) = self.next() {
            let outcome = self.finish(&file.base);
            let mut queue = self.lock();
            queue.waiting.pop_front();
            let Err(trouble) = outcome else {
                told.remove(&file.base);
                continue;
            };
            if self.cancel.load(Ordering::Relaxed) {
                return;
            }
            // Once for each cause: it is tried again and again.
            let text = trouble.to_string();
            if told.get(&file.base) != Some(&text) {
                tracing::warn!("{text}; the file stays as it is and is finished later");
                told.insert(file.base.clone(), text);
            }
            if !queue.last {
                queue.waiting.push_back(file);
                drop(self.news.wait_timeout_while(queue, TRY_AGAIN, |queue| !queue.last));
            }
        }
    }

    fn finish(&self, base: &Base) -> Result<(), JournalError> {
        let JournalSettings { directory, compression, .. } = &self.settings;
        let outcome = finish(self.disk.as_ref(), directory, base, *compression, &self.cancel);
        outcome.map_err(|trouble| trouble.explained(self.disk.as_ref(), &self.settings))
    }

    /// The next file; `None` at the end.
    fn next(&self) -> Option<Unfinished> {
        let waiting = |queue: &mut FinishQueue| queue.waiting.is_empty() && !queue.last;
        let queue = self.news.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
        let cancelled = self.cancel.load(Ordering::Relaxed);
        queue.waiting.front().filter(|_| !cancelled).cloned()
    }
}
