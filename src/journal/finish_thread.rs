//! Finishes files on a separate thread, because compressing 128 MiB takes a second or more.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::disk::Disk;
use super::error::JournalError;
use super::finish::{Finishing, Unfinished};
use super::name::Base;
use super::settings::JournalSettings;
use super::threads::Thread;

/// The most files that may wait. Beyond that, open files keep growing instead of being finished.
const MAX_WAITING: usize = 64;
/// How long to wait before the next try after a failure, such as a full disk.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// How long to wait at once if there is no file.
const IDLE: Duration = Duration::from_secs(3600);

/// A thread that finishes one file after the other. Dropping it stops the work on unfinished files; the next
/// open of the journal starts that work again.
pub(crate) struct FinishThread {
    shared: Arc<FinishThreadShared>,
    thread: Option<Box<dyn Thread>>,
}

struct FinishThreadShared {
    disk: Arc<dyn Disk>,
    settings: JournalSettings,
    queue: Mutex<FinishQueue>,
    cancel: AtomicBool,
}

#[derive(Default)]
struct FinishQueue {
    /// The first file is the one being finished.
    waiting: VecDeque<Unfinished>,
    /// No more files will be pushed.
    last: bool,
}

impl FinishThread {
    pub(crate) fn start(disk: Arc<dyn Disk>, settings: JournalSettings) -> io::Result<Self> {
        let shared = Arc::new(FinishThreadShared {
            disk,
            settings,
            queue: Mutex::default(),
            cancel: AtomicBool::new(false),
        });
        let worker = Arc::clone(&shared);
        let thread = shared.disk.start("finisher", Box::new(move || worker.run()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(crate) fn room(&self) -> usize {
        MAX_WAITING.saturating_sub(self.shared.lock().waiting.len())
    }

    /// Bytes of the largest file that waits or is being finished; 0 if there is none.
    pub(crate) fn largest(&self) -> u64 {
        self.shared.lock().waiting.iter().map(|file| file.len).max().unwrap_or(0)
    }

    pub(crate) fn push(&self, files: Vec<Unfinished>) {
        let mut queue = self.shared.lock();
        // The thread waits for files only if there is none; otherwise it may wait to try one again.
        let is_news = queue.waiting.is_empty() && !files.is_empty();
        queue.waiting.extend(files);
        drop(queue);
        if let Some(thread) = self.thread.as_ref().filter(|_| is_news) {
            thread.unpark();
        }
    }

    /// Waits until every file is finished or has failed once more.
    pub(crate) fn drain(mut self) {
        self.shared.lock().last = true;
        self.join();
    }

    fn join(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        thread.unpark();
        if thread.join().is_err() {
            tracing::error!(
                "the thread that finishes files panicked; they are finished after the next start"
            );
        }
    }
}

impl Drop for FinishThread {
    fn drop(&mut self) {
        self.shared.cancel.store(true, Ordering::Relaxed);
        self.shared.lock().last = true;
        self.join();
    }
}

impl FinishThreadShared {
    fn lock(&self) -> MutexGuard<'_, FinishQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut told = HashMap::new();
        while let Some(file) = self.next() {
            let outcome = self.finish(&file.base);
            let mut queue = self.lock();
            queue.waiting.pop_front();
            let Err(error) = outcome else {
                told.remove(&file.base);
                continue;
            };
            if self.cancel.load(Ordering::Relaxed) {
                return;
            }
            // Log each cause once, because the work is tried again and again.
            let text = error.to_string();
            if told.get(&file.base) != Some(&text) {
                tracing::warn!("{text}; the file stays as it is and is finished later");
                told.insert(file.base.clone(), text);
            }
            if !queue.last {
                queue.waiting.push_back(file);
                drop(queue);
                self.disk.park(TRY_AGAIN);
            }
        }
    }

    fn finish(&self, base: &Base) -> Result<(), JournalError> {
        let (disk, settings) = (self.disk.as_ref(), &self.settings);
        let (directory, compression) = (settings.directory.as_path(), settings.compression);
        let finishing = Finishing { disk, directory, base, compression };
        finishing.finish(&self.cancel).map_err(|error| error.explained(disk, settings))
    }

    /// Waits for the next file. Returns `None` at the end.
    fn next(&self) -> Option<Unfinished> {
        loop {
            let queue = self.lock();
            if self.cancel.load(Ordering::Relaxed) {
                return None;
            }
            let next = queue.waiting.front().cloned();
            if next.is_some() || queue.last {
                return next;
            }
            drop(queue);
            self.disk.park(IDLE);
        }
    }
}
