//! Counts the threads that hold a client, of all sinks of the process. The process must not end while they
//! run: librdkafka's threads still use what ends with the process, first of all OpenSSL (seen: SIGSEGV in one
//! of some thousand ends).

use std::io;
use std::mem::take;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::runtime;
use tokio::sync::watch;
use tokio::time::timeout;

/// All such threads of this process.
pub(super) static THREADS: LazyLock<Threads> = LazyLock::new(Threads::default);

/// Counts the threads of one connection or one request: each holds a receiver of this channel. Clones are the
/// same group.
#[derive(Clone, Default)]
pub(super) struct ThreadGroup(watch::Sender<()>);

impl ThreadGroup {
    /// Waits until all its threads have ended and their clients are destroyed. Cancel-safe.
    pub(super) async fn ended(&self) {
        self.0.closed().await;
    }
}

/// The running threads of all groups, and the handles to join them.
#[derive(Default)]
pub(super) struct Threads {
    all: ThreadGroup,
    /// The handles of the running threads, and of some that have ended.
    handles: Mutex<Vec<JoinHandle<()>>>,
}

/// Counts one thread, or code that will start threads. Its clients must be destroyed before this is dropped.
pub(super) struct ClientThread {
    threads: &'static Threads,
    _counted: [watch::Receiver<()>; 2],
}

impl Threads {
    /// Counts one more thread, in `group` too.
    pub(super) fn one_more(&'static self, group: &ThreadGroup) -> ClientThread {
        ClientThread { threads: self, _counted: [&self.all, group].map(|group| group.0.subscribe()) }
    }

    /// Blocks until no thread runs, at most for `limit`. Returns whether all have ended and were joined. Call
    /// it outside a runtime.
    pub(super) fn wait_for_all(&self, limit: Duration) -> bool {
        let Ok(runtime) = runtime::Builder::new_current_thread().enable_time().build() else { return false };
        if runtime.block_on(async { timeout(limit, self.all.ended()).await }).is_err() {
            return false;
        }
        let handles = take(&mut *self.handles.lock().unwrap_or_else(PoisonError::into_inner));
        // These threads have nothing more to do. But the end of a thread also uses OpenSSL, so join them.
        handles.into_iter().all(|handle| handle.join().is_ok())
    }
}

impl ClientThread {
    /// Moves this count into a new thread, which executes `run`.
    pub(super) fn start(self, name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let threads = self.threads;
        let handle = Builder::new().name(name).spawn(move || {
            run();
            drop(self);
        })?;
        let mut handles = threads.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|handle| !handle.is_finished());
        handles.push(handle);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn who_waits_goes_on_once_the_last_is_over() {
        static THREADS: LazyLock<Threads> = LazyLock::new(Threads::default);
        let group = ThreadGroup::default();
        assert!(group.ended().now_or_never().is_some(), "nothing has begun");
        let (first, last) = (THREADS.one_more(&group), THREADS.one_more(&group));
        drop(first);
        let (end, ended) = sync_channel::<()>(0);
        last.start("last".to_owned(), move || assert!(ended.recv().is_err())).unwrap();
        assert!(!THREADS.wait_for_all(Duration::from_millis(1)), "one is left");
        assert!(group.ended().now_or_never().is_none(), "the group goes on");
        drop(end);
        assert!(THREADS.wait_for_all(Duration::from_secs(30)));
        assert!(group.ended().now_or_never().is_some(), "the group is over");
        assert!(THREADS.handles.lock().unwrap().is_empty(), "joined");
    }
}
