//! What a connection's bytes are read into, and how they become slices without being copied (I4).

use std::ops::Deref;

use bytes::Bytes;

use crate::budget::Budget;

/// How large a read buffer is when no larger frame is on the way.
pub(in crate::source) const CHUNK: usize = 64 << 10;

/// The bytes read and not yet taken.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    budget: Budget,
}

impl ReadBuffer {
    /// Charges what is taken to `budget`.
    pub(super) fn new(budget: Budget) -> Self {
        Self { bytes: Vec::with_capacity(CHUNK), budget }
    }

    /// Where the next bytes are to be appended; always has room for some.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        if self.bytes.len() == self.bytes.capacity() {
            self.bytes.reserve(CHUNK);
        }
        &mut self.bytes
    }

    /// Takes the first `end` bytes: of a buffer that is well filled the whole buffer, else a copy of the size
    /// they need, so that a slow trickle of events pins no large buffers.
    pub(super) fn take_front(&mut self, end: usize) -> Bytes {
        if end < self.bytes.capacity() / 2 {
            let front = self.bytes[..end].to_vec();
            self.bytes.drain(..end);
            self.bytes.shrink_to(CHUNK);
            return self.budget.freeze(front);
        }
        let mut fresh = Vec::with_capacity(CHUNK.max(self.bytes.len() - end));
        fresh.extend_from_slice(&self.bytes[end..]);
        let mut front = std::mem::replace(&mut self.bytes, fresh);
        front.truncate(end);
        self.budget.freeze(front)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }
}

impl Deref for ReadBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}
