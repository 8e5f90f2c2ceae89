//! The bound on memory (I4): the bytes that events on the way pin, all sessions of a subscription together. Each
//! subscription has a share of its own, so that one whose sink is down takes no memory from the others.
//!
//! Events are slices of frozen read buffers, so what counts is the capacity of each buffer for as long as
//! any slice of it lives. A buffer is charged when it is frozen and released when its last slice is
//! dropped, wherever that happens.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

/// The budgets of all subscriptions, by queue: each has the same share of one limit.
#[derive(Clone, Debug, Default)]
pub struct Shares(Arc<[(String, Budget)]>);

impl Shares {
    /// Divides `limit` bytes among the subscriptions to these queues.
    pub fn new(limit: usize, queues: &[String]) -> Self {
        let share = limit / queues.len().max(1);
        Self(queues.iter().map(|queue| (queue.clone(), Budget::new(share))).collect())
    }

    /// Every queue and its budget.
    pub fn all(&self) -> &[(String, Budget)] {
        &self.0
    }

    /// The bytes charged now, to all of them together.
    pub fn used(&self) -> usize {
        self.0.iter().map(|(_, budget)| budget.used()).sum()
    }
}

/// A shared allowance of bytes. Charging never fails: whoever reads from a socket asks [`Budget::has_room`]
/// first, so the bound can be passed by one read buffer, no more.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
    freed: Notify,
    /// Since when there has been no room. Locked only when that changes.
    full_since: Mutex<Option<Instant>>,
}

impl Inner {
    /// Takes note of whether there is room, whatever order two changes come in.
    fn note(&self) {
        let mut full_since = self.full_since.lock().unwrap_or_else(PoisonError::into_inner);
        if self.used.load(Ordering::Acquire) < self.limit {
            *full_since = None;
        } else {
            full_since.get_or_insert_with(Instant::now);
        }
    }
}

impl Budget {
    /// Allows `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let full_since = Mutex::default();
        Self(Arc::new(Inner { limit, used: AtomicUsize::new(0), freed: Notify::new(), full_since }))
    }

    /// Freezes a buffer and charges its capacity until the last slice of it is gone.
    pub fn freeze(&self, buffer: Vec<u8>) -> Bytes {
        let size = buffer.capacity();
        let before = self.0.used.fetch_add(size, Ordering::AcqRel);
        if before < self.0.limit && before + size >= self.0.limit {
            self.0.note();
        }
        Bytes::from_owner(Charged { buffer, size, budget: Arc::clone(&self.0) })
    }

    /// The bytes charged now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Acquire)
    }

    /// How many bytes it allows; one read buffer may pass it.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Since when there has been no room, if there is none.
    pub fn full_since(&self) -> Option<Instant> {
        *self.0.full_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether more may be read.
    pub fn has_room(&self) -> bool {
        self.used() < self.0.limit
    }

    /// Waits until there is room. Cancel-safe.
    pub async fn room(&self) {
        loop {
            let freed = self.0.freed.notified();
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }
}

struct Charged {
    buffer: Vec<u8>,
    size: usize,
    budget: Arc<Inner>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        let before = self.budget.used.fetch_sub(self.size, Ordering::AcqRel);
        let limit = self.budget.limit;
        if before >= limit && before - self.size < limit {
            self.budget.note();
            self.budget.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slice_pins_its_whole_buffer_until_it_is_dropped() {
        let budget = Budget::new(100);
        let mut buffer = Vec::with_capacity(200);
        buffer.extend_from_slice(b"some bytes");
        let whole = budget.freeze(buffer);
        let slice = whole.slice(5..6);
        drop(whole);
        assert_eq!(budget.used(), 200);
        assert!(!budget.has_room() && budget.full_since().is_some());
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(slice);
        waiting.await.unwrap();
        assert_eq!((budget.used(), budget.full_since()), (0, None));
    }

    #[test]
    fn a_full_share_takes_nothing_from_the_others() {
        let shares = Shares::new(200, &["a".to_owned(), "b".to_owned()]);
        let [(_, a), (_, b)] = shares.all() else { panic!("two shares") };
        let _pinned = a.freeze(Vec::with_capacity(150));
        assert_eq!((a.has_room(), b.has_room(), b.limit()), (false, true, 100));
        assert_eq!(shares.used(), 150);
    }
}
