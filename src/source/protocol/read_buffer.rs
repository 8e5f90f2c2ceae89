//! Holds the bytes read from a connection, and turns them into slices without a copy (I4).

use std::ops::Deref;

use bytes::Bytes;

use crate::budget::Budget;

/// Size of a read buffer while no larger frame is on the way, in bytes.
pub(in crate::source) const CHUNK: usize = 64 << 10;

/// The bytes that were read and not yet taken.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    budget: Budget,
}

impl ReadBuffer {
    /// Charges the bytes that are taken to `budget`.
    pub(super) fn new(budget: Budget) -> Self {
        Self { bytes: Vec::with_capacity(CHUNK), budget }
    }

    /// Returns the buffer to which the next bytes are appended; it always has room for some.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        if self.bytes.len() == self.bytes.capacity() {
            self.bytes.reserve(CHUNK);
        }
        &mut self.bytes
    }

    /// Takes the first `end` bytes. If they fill half of the buffer or more, it takes the whole buffer.
    /// Otherwise it makes a copy of the size they need, so that a slow flow of events keeps no large buffers
    /// alive.
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
