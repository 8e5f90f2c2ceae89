//! The one bound on memory (I4): the bytes that events on the way pin, all sessions together.
//!
//! Events are slices of frozen read buffers, so what counts is the capacity of each buffer for as long as
//! any slice of it lives. A buffer is charged when it is frozen and released when its last slice is
//! dropped, wherever that happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;

/// A shared allowance of bytes. Charging never fails: whoever reads from a socket asks [`Budget::has_room`]
/// first, so the bound can be passed by one read buffer, no more.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
    freed: Notify,
}

impl Budget {
    /// Allows `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicUsize::new(0), freed: Notify::new() }))
    }

    /// Freezes a buffer and charges its capacity until the last slice of it is gone.
    pub fn freeze(&self, buffer: Vec<u8>) -> Bytes {
        let size = buffer.capacity();
        self.0.used.fetch_add(size, Ordering::AcqRel);
        Bytes::from_owner(Charged { buffer, size, budget: Arc::clone(&self.0) })
    }

    /// The bytes charged now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Acquire)
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
        assert!(!budget.has_room());
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(slice);
        waiting.await.unwrap();
        assert_eq!(budget.used(), 0);
    }
}
