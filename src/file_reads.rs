//! Reads files in another thread, because a file system may hang, and one thread moves all events.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How many reads may hang at once: each keeps a thread.
const MOST_PENDING: usize = 8;

static PENDING: AtomicUsize = AtomicUsize::new(0);

/// Runs `read` in another thread. Returns `None` if it does not end in the time `allowed`, or if too many earlier ones
/// have not ended.
pub(crate) async fn within<T: Send + 'static>(
    allowed: Duration,
    read: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let pending = Pending::begin()?;
    let reading = spawn_blocking(move || {
        let _pending = pending;
        read()
    });
    timeout(allowed, reading).await.ok()?.ok()
}

/// Returns the error of a read that did not end in time.
pub(crate) fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the file system does not answer")
}

/// A read that has not ended.
struct Pending;

impl Pending {
    fn begin() -> Option<Self> {
        let one_more = |pending| (pending < MOST_PENDING).then_some(pending + 1);
        PENDING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok().then_some(Self)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        PENDING.fetch_sub(1, Ordering::Relaxed);
    }
}
