//! Bounds memory (I4): counts the bytes that events keep allocated in all sessions of a subscription. Each
//! subscription has its own share, so a subscription whose sink is down takes no memory from the others.
//!
//! Events are slices of frozen read buffers. Therefore the capacity of a buffer counts as long as any slice
//! of it lives. A buffer is charged when it is frozen. It is released when its last slice is dropped,
//! wherever that happens.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

/// The budgets of all subscriptions, by queue. Each has the same share of one limit.
#[derive(Clone, Debug, Default)]
pub struct Shares(Arc<[(String, Budget)]>);

impl Shares {
    /// Divides `limit` bytes among the subscriptions to these queues.
    pub fn new(limit: usize, queues: &[String]) -> Self {
        let share = limit / queues.len().max(1);
        Self(queues.iter().map(|queue| (queue.clone(), Budget::new(share))).collect())
    }

    /// All queues, each with its own budget.
    pub fn all(&self) -> &[(String, Budget)] {
        &self.0
    }

    /// The sum of the bytes now charged to all budgets.
    pub fn used(&self) -> usize {
        self.0.iter().map(|(_, budget)| budget.used()).sum()
    }
}

/// A shared allowance of bytes. Charging never fails: a reader of a socket calls [`Budget::has_room`] first.
/// So the bound can be exceeded by one read buffer and no more.
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
    /// Updates `full_since`. It reads `used` under the lock, so two changes may arrive in any order.
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
    /// Makes a budget that allows `limit` bytes, none of them charged.
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

    /// The bytes that are charged at the moment.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Acquire)
    }

    /// The allowed number of bytes; one read buffer may exceed it.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Since when there has been no room; `None` while there is room.
    pub fn full_since(&self) -> Option<Instant> {
        *self.0.full_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room, so that more may be read.
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
