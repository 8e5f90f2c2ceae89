//! Counts the letters that are refused again. They are in their place already, so nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::dead_letter::{DeadLetter, DeadLetterStore};
use crate::event::EventError;
use crate::finding::Finding;
use crate::sink::{Position, RecordSender, SinkError};

/// The store of dead letters of a replay.
#[derive(Debug)]
pub(super) struct Refusals {
    place: String,
    found: Mutex<RefusalCounts>,
}

#[derive(Debug, Default)]
struct RefusalCounts {
    /// How many letters in a row the sink has refused.
    run: u64,
    /// The ids of letters that are refused and not yet settled.
    unsettled: BTreeSet<Bytes>,
    reasons: BTreeMap<&'static str, Refused>,
    /// The last letter that the sink has refused.
    last: String,
}

impl RefusalCounts {
    fn add(&mut self, reason: &'static str, last: String) {
        let refused = self.reasons.entry(reason).or_default();
        refused.letters += 1;
        refused.last = last;
    }
}

/// The letters that were refused for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) letters: u64,
    /// The message id of the last one, and the reason in words.
    pub(super) last: String,
}

impl Refusals {
    pub(super) fn new(place: &str) -> Self {
        Self { place: place.to_owned(), found: Mutex::default() }
    }

    fn found(&self) -> MutexGuard<'_, RefusalCounts> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a settled letter, and returns whether it was refused.
    pub(super) fn settle(&self, id: &Bytes) -> bool {
        let mut found = self.found();
        let is_refused = found.unsettled.remove(id);
        if !is_refused {
            found.run = 0;
        }
        is_refused
    }

    /// Counts a letter that is not sent, because its event has no usable key.
    pub(super) fn add_keyless(&self, message_id: &str, defect: &EventError) {
        self.found().add(defect.reason(), format!("{message_id}: {defect}"));
    }

    /// Returns the last letter that the sink has refused, with the reason, if it has refused more than `most` in a row.
    pub(super) fn more_in_a_row_than(&self, most: u32) -> Option<String> {
        let found = self.found();
        (found.run > u64::from(most)).then(|| found.last.clone())
    }

    /// Returns the letters by reason.
    pub(super) fn by_reason(&self) -> BTreeMap<&'static str, Refused> {
        self.found().reasons.clone()
    }
}

#[async_trait]
impl DeadLetterStore for Refusals {
    fn place(&self) -> &str {
        &self.place
    }

    async fn write(&self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        let mut found = self.found();
        for letter in letters {
            // After a lost session the same letter is refused once more.
            if found.unsettled.insert(letter.event.message.id.clone()) {
                let last = format!("{}: {}", letter.event.message_id(), letter.rejection.detail);
                found.run += 1;
                found.last.clone_from(&last);
                found.add(letter.rejection.reason, last);
            }
        }
        Ok(())
    }

    async fn open(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn probe(&self) -> Result<Vec<Finding>, SinkError> {
        Ok(Vec::new())
    }

    async fn read_back(&self, _: Option<Position>, _: RecordSender) -> Result<(), SinkError> {
        Ok(())
    }

    async fn close(&self) {}
}
