//! Stores the ids of messages that came together in one shared buffer.

use super::session::Progress;
use crate::budget::Budget;

/// The typical size of an id, in bytes.
const USUAL: usize = 64;

/// Collects the ids of messages that are added to a [`Progress`]. [`MessageIds::finish`] then gives each
/// message its id.
#[derive(Debug)]
pub struct MessageIds {
    /// Index of the first of the messages in the progress.
    first: usize,
    ids: Vec<u8>,
    /// The offset at which each id ends.
    ends: Vec<usize>,
}

impl MessageIds {
    /// Prepares for the next messages, of which there are `most` at most.
    pub fn new(most: usize, progress: &mut Progress) -> Self {
        progress.messages.reserve(most);
        Self {
            first: progress.messages.len(),
            ids: Vec::with_capacity(most * USUAL),
            ends: Vec::with_capacity(most),
        }
    }

    /// Adds the id of the next message; `write` appends its bytes.
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.ids);
        self.ends.push(self.ids.len());
    }

    /// Gives the messages their ids, charged to `budget`.
    pub fn finish(mut self, budget: &Budget, progress: &mut Progress) {
        if self.ends.is_empty() {
            return;
        }
        // There may be far fewer ids than there was room for, and the unused room would be charged as long as
        // the messages live (I4).
        self.ids.shrink_to_fit();
        let ids = budget.freeze(self.ids);
        let mut start = 0;
        for (message, end) in progress.messages[self.first..].iter_mut().zip(self.ends) {
            message.id = ids.slice(start..end);
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::{Headers, Message};

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
        let mut progress = Progress { messages: vec![nameless()], ..Progress::default() };
        let mut ids = MessageIds::new(1000, &mut progress);
        for id in ["ID:1", "", "ID:333"] {
            ids.add(|ids| ids.extend_from_slice(id.as_bytes()));
            progress.messages.push(nameless());
        }
        ids.finish(&budget, &mut progress);
        let named: Vec<_> = progress.messages.iter().map(|message| &message.id[..]).collect();
        assert_eq!(named, [b"".as_slice(), b"ID:1", b"", b"ID:333"]);
        assert_eq!(budget.used(), "ID:1ID:333".len());
        progress.messages.clear();
        assert_eq!(budget.used(), 0);
    }
}
