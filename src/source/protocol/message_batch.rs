//! Collects the messages that come together. Their ids share one buffer.

use super::session::SessionProgress;
use crate::budget::Budget;
use crate::event::Message;

/// The typical size of an id, in bytes.
const USUAL: usize = 64;

/// The messages that are added to a [`SessionProgress`]. They get their ids from [`MessageBatch::finish`].
#[derive(Debug)]
pub struct MessageBatch<'a> {
    pub progress: &'a mut SessionProgress,
    /// Index of the first of the messages in the progress.
    first: usize,
    ids: Vec<u8>,
    /// The offset at which each id ends.
    ends: Vec<usize>,
}

impl<'a> MessageBatch<'a> {
    /// Prepares for the next messages, of which there are `most` at most.
    pub fn new(most: usize, progress: &'a mut SessionProgress) -> Self {
        progress.messages.reserve(most);
        Self {
            first: progress.messages.len(),
            progress,
            ids: Vec::with_capacity(most * USUAL),
            ends: Vec::with_capacity(most),
        }
    }

    /// Adds a message, still without its id; `write_id` appends the bytes of that.
    pub fn push(&mut self, message: Message, write_id: impl FnOnce(&mut Vec<u8>)) {
        write_id(&mut self.ids);
        self.ends.push(self.ids.len());
        self.progress.messages.push(message);
    }

    /// Gives the messages their ids, charged to `budget`.
    pub fn finish(mut self, budget: &Budget) {
        if self.ends.is_empty() {
            return;
        }
        // There may be far fewer ids than there was room for, and the unused room would be charged as long as
        // the messages live (I4).
        self.ids.shrink_to_fit();
        let ids = budget.freeze(self.ids);
        let mut start = 0;
        for (message, end) in self.progress.messages[self.first..].iter_mut().zip(self.ends) {
            message.id = ids.slice(start..end);
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::Headers;

    fn nameless() -> Message {
        Message {
            id: Bytes::new(),
            body: Bytes::new(),
            timestamp: None,
            redelivered: false,
            headers: Headers::empty(),
            unreadable: None,
        }
    }

    #[test]
    fn each_message_gets_its_own_and_they_cost_no_more_than_their_bytes() {
        let budget = Budget::new(1 << 20);
        let mut progress = SessionProgress { messages: vec![nameless()], ..SessionProgress::default() };
        let mut batch = MessageBatch::new(1000, &mut progress);
        for id in ["ID:1", "", "ID:333"] {
            batch.push(nameless(), |ids| ids.extend_from_slice(id.as_bytes()));
        }
        batch.finish(&budget);
        let named: Vec<_> = progress.messages.iter().map(|message| &message.id[..]).collect();
        assert_eq!(named, [b"".as_slice(), b"ID:1", b"", b"ID:333"]);
        assert_eq!(budget.used(), "ID:1ID:333".len());
        progress.messages.clear();
        assert_eq!(budget.used(), 0);
    }
}
