//! Finishes files beside the event path: compressing 128 MiB takes a second or more.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::JournalSettings;
use super::disk::Disk;
use super::finish::finish;
use super::name::Base;

/// The most files waiting; beyond that the files being written grow on instead of being finished.
const MAX_WAITING: usize = 64;
/// After a failure, such as a full disk, it is tried again so often.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// A thread that finishes files one after the other. Dropping it gives up what is not finished; the next
/// opening begins that again.
pub(crate) struct Finisher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    settings: JournalSettings,
    queue: Mutex<Queue>,
    news: Condvar,
    cancel: AtomicBool,
}

#[derive(Default)]
struct Queue {
    /// The first one is being worked on.
    waiting: VecDeque<Base>,
    /// No more will come.
    last: bool,
}

impl Finisher {
    /// Starts the thread.
    pub(crate) fn start(disk: Arc<dyn Disk>, settings: JournalSettings) -> io::Result<Self> {
        let shared = Arc::new(Shared {
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

    /// Finishes these, some time.
    pub(crate) fn push(&self, files: Vec<Base>) {
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(base) = self.next() {
            let directory = &self.settings.directory;
            let outcome =
                finish(self.disk.as_ref(), directory, &base, self.settings.compression, &self.cancel);
            let mut queue = self.lock();
            queue.waiting.pop_front();
            let Err(trouble) = outcome else { continue };
            if self.cancel.load(Ordering::Relaxed) {
                return;
            }
            tracing::warn!("{trouble}; the file stays as it is and is finished later");
            if !queue.last {
                queue.waiting.push_back(base);
                drop(self.news.wait_timeout_while(queue, TRY_AGAIN, |queue| !queue.last));
            }
        }
    }

    /// The next file; `None` at the end.
    fn next(&self) -> Option<Base> {
        let waiting = |queue: &mut Queue| queue.waiting.is_empty() && !queue.last;
        let queue = self.news.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
        let cancelled = self.cancel.load(Ordering::Relaxed);
        queue.waiting.front().filter(|_| !cancelled).cloned()
    }
}
