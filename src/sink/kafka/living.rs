//! The threads that hold a client, of all sinks of the process: it must not end under them. What ends with it,
//! OpenSSL first of all, librdkafka's threads still use (seen: SIGSEGV in one of some thousand ends).

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Those of this process.
pub(super) static THREADS: Threads = Threads { count: Mutex::new(0), fewer: Condvar::new() };

/// So many threads.
pub(super) struct Threads {
    count: Mutex<usize>,
    fewer: Condvar,
}

/// One thread of an opening; its client is destroyed before this is dropped.
pub(super) struct Living {
    threads: &'static Threads,
    _opening: watch::Sender<()>,
}

impl Threads {
    /// A thread that is about to start; the last one of `opening` ends it.
    pub(super) fn one_more(&'static self, opening: &watch::Sender<()>) -> Living {
        *self.count() += 1;
        Living { threads: self, _opening: opening.clone() }
    }

    /// Waits until none is left, for so long at most; whether none is left.
    pub(super) fn wait_for_all(&self, limit: Duration) -> bool {
        let waited = self.fewer.wait_timeout_while(self.count(), limit, |count| *count > 0);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        *self.threads.count() -= 1;
        self.threads.fewer.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_waits_goes_on_once_the_last_is_over() {
        static THREADS: Threads = Threads { count: Mutex::new(0), fewer: Condvar::new() };
        let (opening, over) = watch::channel(());
        let (first, last) = (THREADS.one_more(&opening), THREADS.one_more(&opening));
        drop(opening);
        drop(first);
        assert!(!THREADS.wait_for_all(Duration::ZERO), "one is left");
        assert!(over.has_changed().is_ok(), "the opening goes on");
        let waiting = thread::spawn(|| THREADS.wait_for_all(Duration::MAX));
        drop(last);
        assert!(waiting.join().unwrap());
        assert!(over.has_changed().is_err(), "the opening is over");
    }
}
