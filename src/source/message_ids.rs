//! The ids of messages that came together share one buffer.

use super::session::Progress;
use crate::budget::Budget;

/// The bytes of an id, about.
const USUAL: usize = 64;

/// The ids of the messages that are added to a [`Progress`], until [`MessageIds::finish`] gives them to these.
#[derive(Debug)]
pub struct MessageIds {
    /// Where the first of the messages is in the progress.
    first: usize,
    ids: Vec<u8>,
    /// Where each id ends.
    ends: Vec<usize>,
}

impl MessageIds {
    /// Of the messages that come next, of which there are `most` at most.
    pub fn new(most: usize, progress: &mut Progress) -> Self {
        progress.messages.reserve(most);
        Self {
            first: progress.messages.len(),
            ids: Vec::with_capacity(most * USUAL),
            ends: Vec::with_capacity(most),
        }
    }

    /// The next message's, which `write` appends.
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.ids);
        self.ends.push(self.ids.len());
    }

    /// Gives the messages their ids, charged to `budget`.
    pub fn finish(self, budget: &Budget, progress: &mut Progress) {
        if self.ends.is_empty() {
            return;
        }
        let ids = budget.freeze(self.ids);
        let mut start = 0;
        for (message, end) in progress.messages[self.first..].iter_mut().zip(self.ends) {
            message.id = ids.slice(start..end);
            start = end;
        }
    }
}
