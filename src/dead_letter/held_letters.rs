//! Decides which letters a store writes, and when it must ask its place what it holds already. Does no I/O.
//!
//! Letters from before a crash come again, and letters that another bridge of the queue wrote before it died.
//! So a store asks before its first letter of each connection and of each session, and before a letter whose
//! event the broker has delivered to somebody since. The sink workers remember the letters that they have
//! settled, so a store remembers only those of a write that failed in part.

use std::time::Instant;

use bytes::Bytes;

use super::record::DeadLetter;
use crate::event::SessionId;
use crate::recent_ids::RecentIds;

/// Knows the ids of letters that a store holds; see the module documentation.
#[derive(Debug)]
pub(super) struct HeldLetters {
    ids: RecentIds,
    /// The newest session that the last answer covers.
    session: Option<SessionId>,
    /// When the place was asked last. `None` if it can't tell what it holds.
    asked: Option<Instant>,
    is_claim_due: bool,
}

impl HeldLetters {
    /// Creates the state; it remembers `capacity` letters of its own, and several times as many of the place.
    pub(super) fn new(capacity: usize) -> Self {
        Self { ids: RecentIds::new(capacity), session: None, asked: None, is_claim_due: true }
    }

    /// Notes a new connection: what was in flight on the last one may have become durable.
    pub(super) fn connected(&mut self) {
        self.is_claim_due = true;
    }

    /// Returns whether the place must say what it holds before these letters are written.
    pub(super) fn owes_claim(&self, letters: &[DeadLetter]) -> bool {
        self.is_claim_due
            || newest_session(letters) > self.session
            || letters.iter().any(|letter| self.may_be_written_by_another(letter))
    }

    /// Whether the broker has delivered the event to somebody since the place was asked.
    fn may_be_written_by_another(&self, letter: &DeadLetter) -> bool {
        let event = &letter.event;
        event.message.redelivered
            && self.asked.is_some_and(|asked| event.received() > asked)
            && !self.ids.holds(&letter.id())
    }

    /// Notes which letters the place held at the moment `asked` or later, or that it can't tell. It was asked
    /// because of `letters`.
    pub(super) fn claimed(&mut self, asked: Instant, letters: &[DeadLetter], ids: Option<Vec<Bytes>>) {
        self.is_claim_due = false;
        self.session = newest_session(letters).max(self.session);
        self.asked = ids.is_some().then_some(asked);
        self.ids.claim(ids.unwrap_or_default());
    }

    /// Remembers letters that are durable although their write has failed.
    pub(super) fn remember<'a>(&mut self, ids: impl Iterator<Item = &'a Bytes>) {
        ids.for_each(|id| self.ids.record(id));
        self.ids.refresh();
    }

    /// Returns the letters that the place does not hold, as far as is known.
    pub(super) fn missing<'a>(&self, letters: &'a [DeadLetter]) -> Vec<&'a DeadLetter> {
        letters.iter().filter(|letter| !self.ids.holds(&letter.id())).collect()
    }
}

fn newest_session(letters: &[DeadLetter]) -> Option<SessionId> {
    letters.iter().map(|letter| letter.event.session()).max()
}
