//! Reads files in another thread, because a file system may hang, and one thread moves all events.

use std::io;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How many reads there may be at once. One that hangs keeps its thread.
const MOST: usize = 8;

static PLACES: Semaphore = Semaphore::const_new(MOST);

/// Runs `read` in another thread, as soon as there are few others. Returns `None` if it does not end in the time
/// `allowed`.
pub(crate) async fn within<T: Send + 'static>(
    allowed: Duration,
    read: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    in_one_of(&PLACES, allowed, read).await
}

async fn in_one_of<T: Send + 'static>(
    places: &'static Semaphore,
    allowed: Duration,
    read: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let reading = async {
        let place = places.acquire().await.ok()?;
        let read = move || {
            let _place = place;
            read()
        };
        spawn_blocking(read).await.ok()
    };
    timeout(allowed, reading).await.ok()?
}

/// Returns the error of a read that did not end in time.
pub(crate) fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the file system does not answer")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn more_reads_than_there_is_room_for_wait_for_each_other() {
        // The other tests of this process use the places of the process.
        static PLACES: Semaphore = Semaphore::const_new(MOST);
        let count = 3 * MOST;
        let (release, released) = mpsc::sync_channel(count);
        let released = Arc::new(Mutex::new(released));
        let reads = (0..count).map(|number| {
            let released = Arc::clone(&released);
            in_one_of(&PLACES, Duration::from_secs(30), move || {
                released.lock().unwrap().recv().unwrap();
                number
            })
        });
        let release = async { (0..count).for_each(|_| release.send(()).unwrap()) };
        let (read, ()) = tokio::join!(join_all(reads), release);
        assert_eq!(read, (0..count).map(Some).collect::<Vec<_>>());
    }
}
