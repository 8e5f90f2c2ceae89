//! Counts the threads that hold a client, of all sinks of the process. The process must not end while they
//! run: librdkafka's threads still use what ends with the process, first of all OpenSSL (seen: SIGSEGV in one
//! of some thousand ends).

use std::io;
use std::mem::take;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;

/// All such threads of this process.
pub(super) static THREADS: Threads = Threads::new();

/// A count of running threads, with their handles.
pub(super) struct Threads {
    state: Mutex<ClientThreadsState>,
    fewer: Condvar,
}

struct ClientThreadsState {
    running: usize,
    /// The handles of the running threads, and of some that have ended.
    handles: Vec<JoinHandle<()>>,
}

/// Counts one thread, or code that will start threads. Its clients must be destroyed before this is dropped.
pub(super) struct ClientThreads {
    threads: &'static Threads,
    _connection: watch::Sender<()>,
}

impl Threads {
    const fn new() -> Self {
        Self {
            state: Mutex::new(ClientThreadsState { running: 0, handles: Vec::new() }),
            fewer: Condvar::new(),
        }
    }

    /// Counts one more thread for a `connection`, which ends when its last thread ends.
    pub(super) fn one_more(&'static self, connection: &watch::Sender<()>) -> ClientThreads {
        self.state().running += 1;
        ClientThreads { threads: self, _connection: connection.clone() }
    }

    /// Waits at most `limit` until no thread runs. Returns whether all have ended and were joined.
    pub(super) fn wait_for_all(&self, limit: Duration) -> bool {
        let waited = self.fewer.wait_timeout_while(self.state(), limit, |state| state.running > 0);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return false;
        }
        let handles = take(&mut state.handles);
        drop(state);
        // These threads have nothing more to do. But the end of a thread also uses OpenSSL, so join them.
        handles.into_iter().all(|handle| handle.join().is_ok())
    }

    fn state(&self) -> MutexGuard<'_, ClientThreadsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientThreads {
    /// Moves this count into a new thread, which executes `run`.
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
        self.threads.state().running -= 1;
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
        let (connection, over) = watch::channel(());
        let (first, last) = (THREADS.one_more(&connection), THREADS.one_more(&connection));
        drop(connection);
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
