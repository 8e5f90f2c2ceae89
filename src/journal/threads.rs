//! Starts the threads that wait for a disk, and lets them wait for each other. A simulation runs them one at a time, in
//! simulated time.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What a thread does from its start to its end.
pub type ThreadWork = Box<dyn FnOnce() + Send>;

/// Where the threads of a journal run. As it stands, threads of the operating system.
pub trait DiskThreads: Send + Sync {
    /// Starts a thread.
    ///
    /// # Errors
    /// The system has no more threads.
    fn start(&self, name: &str, work: ThreadWork) -> io::Result<Box<dyn Thread>> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Box::new(thread))
    }

    /// Makes the calling thread, which was started here, wait until it is woken, or for this long. May return earlier.
    fn park(&self, longest: Duration) {
        thread::park_timeout(longest);
    }
}

/// A thread that was started. It goes on if this value is dropped.
pub trait Thread: Send + Sync {
    /// Wakes it from [`DiskThreads::park`], or makes its next call return at once.
    fn unpark(&self);

    /// Waits for its end.
    ///
    /// # Errors
    /// It has panicked.
    fn join(self: Box<Self>) -> thread::Result<()>;
}

impl Thread for JoinHandle<()> {
    fn unpark(&self) {
        self.thread().unpark();
    }

    fn join(self: Box<Self>) -> thread::Result<()> {
        (*self).join()
    }
}
