//! Stops all tasks of a bridge and lets them go on, as the system does with a process that is frozen. Only the
//! simulation asks for it (D55): its bridges share one runtime, so the tasks of one can be told apart only here.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Shared by all tasks of a bridge.
#[derive(Debug, Default)]
pub(super) struct Freezer {
    is_frozen: AtomicBool,
    /// The tasks that were woken while they were frozen.
    woken: Mutex<Vec<Waker>>,
}

impl Freezer {
    /// Stops all tasks, or lets them go on.
    pub(super) fn freeze(&self, is_frozen: bool) {
        self.is_frozen.store(is_frozen, Ordering::Relaxed);
        if !is_frozen {
            self.woken().drain(..).for_each(Waker::wake);
        }
    }

    /// Runs a task, except while the bridge is frozen.
    pub(super) async fn task<F: Future>(self: Arc<Self>, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|context| {
            if self.is_frozen.load(Ordering::Relaxed) {
                self.woken().push(context.waker().clone());
                return Poll::Pending;
            }
            work.as_mut().poll(context)
        })
        .await
    }

    fn woken(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
