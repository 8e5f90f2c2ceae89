//! The threads that hold a client, of all sinks of the process: it must not end under them. What ends with it,
//! OpenSSL first of all, librdkafka's threads still use (seen: SIGSEGV in one of some thousand ends).

use std::io;
use std::mem::take;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;

/// Those of this process.
pub(super) static THREADS: Threads = Threads::new();

/// So many threads.
pub(super) struct Threads {
    state: Mutex<ClientThreadsState>,
    fewer: Condvar,
}

struct ClientThreadsState {
    living: usize,
    /// Of those that live, and of some that do no longer.
    handles: Vec<JoinHandle<()>>,
}

/// A thread, or what is about to start some; its clients are destroyed before this is dropped.
pub(super) struct ClientThreads {
    threads: &'static Threads,
    _opening: watch::Sender<()>,
}

impl Threads {
    const fn new() -> Self {
        Self {
            state: Mutex::new(ClientThreadsState { living: 0, handles: Vec::new() }),
            fewer: Condvar::new(),
        }
    }

    /// One more for `opening`, which ends with the last one of it.
    pub(super) fn one_more(&'static self, opening: &watch::Sender<()>) -> ClientThreads {
        self.state().living += 1;
        ClientThreads { threads: self, _opening: opening.clone() }
    }

    /// Waits until none is left, for so long at most; whether none is left.
    pub(super) fn wait_for_all(&self, limit: Duration) -> bool {
        let waited = self.fewer.wait_timeout_while(self.state(), limit, |state| state.living > 0);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return false;
        }
        let handles = take(&mut state.handles);
        drop(state);
        // They have nothing more to do; what is left of a thread uses OpenSSL, too.
        handles.into_iter().all(|handle| handle.join().is_ok())
    }

    fn state(&self) -> MutexGuard<'_, ClientThreadsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientThreads {
    /// Lives on in a thread, for as long as `run` takes.
    pub(super) fn start(self, name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let threads = self.threads;
        let handle = Builder::new().name(name).spawn(move || {
            run();
            drop(self);
        })?;
        let mut state = threads.state();
        state.handles.retain(|handle| !handle.is_finished());
        state.handles.push(handle);
        Ok(())
    }
}

impl Drop for ClientThreads {
    fn drop(&mut self) {
        self.threads.state().living -= 1;
        self.threads.fewer.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn who_waits_goes_on_once_the_last_is_over() {
        static THREADS: Threads = Threads::new();
        let (opening, over) = watch::channel(());
        let (first, last) = (THREADS.one_more(&opening), THREADS.one_more(&opening));
        drop(opening);
        drop(first);
        let (end, ended) = sync_channel::<()>(0);
        last.start("last".to_owned(), move || assert!(ended.recv().is_err())).unwrap();
        assert!(!THREADS.wait_for_all(Duration::from_millis(1)), "one is left");
        assert!(over.has_changed().is_ok(), "the opening goes on");
        drop(end);
        assert!(THREADS.wait_for_all(Duration::from_secs(30)));
        assert!(over.has_changed().is_err(), "the opening is over");
        assert!(THREADS.state().handles.is_empty(), "joined");
    }
}
