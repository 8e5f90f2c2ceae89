//! Defines what the verbs have in common: the letters that they get, and what they write at the end.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::ControlFlow;

use jiff::Timestamp;

use crate::commands::Console;
use crate::dead_letter::{ReplayMark, StoredLetter};
use crate::display::one_line;
use crate::sink::StoredRecord;

/// A dead letter that the filter has let through.
pub(super) struct FoundLetter {
    pub(super) record: StoredRecord,
    pub(super) letter: StoredLetter,
}

/// What was found in the place, besides the letters that were let through.
pub(super) struct PlaceSummary {
    /// The name of the place.
    pub(super) place: String,
    /// All letters that were read.
    pub(super) letters: u64,
    /// The letters that the filter has let through.
    pub(super) matching: u64,
    /// The letters that were replayed, by the sink that they were sent to.
    pub(super) replayed: BTreeMap<String, Replays>,
}

/// Letters that were replayed into one sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replays {
    pub(super) letters: u64,
    /// When the last of them was.
    pub(super) newest: Timestamp,
}

impl PlaceSummary {
    pub(super) fn new(place: &str) -> Self {
        Self { place: place.to_owned(), letters: 0, matching: 0, replayed: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, mark: &ReplayMark) {
        let none = Replays { letters: 0, newest: mark.time };
        let replays = self.replayed.entry(mark.sink.clone()).or_insert(none);
        replays.letters += mark.message_ids.len() as u64;
        replays.newest = replays.newest.max(mark.time);
    }
}

/// What a verb makes of the letters.
pub(super) trait LetterOutput {
    /// Takes the next letter, and breaks if it wants no more.
    fn take(&mut self, letter: FoundLetter, out: &mut dyn Write) -> io::Result<ControlFlow<()>>;

    /// Writes what is left when all letters were taken.
    fn end(&mut self, found: &PlaceSummary, console: &mut Console<'_>) -> io::Result<()>;
}

/// Returns how many letters there are, and where, for people.
pub(super) fn counted(found: &PlaceSummary) -> String {
    let PlaceSummary { place, letters, matching, .. } = found;
    let place = one_line(place);
    match (*letters, *matching) {
        (0, _) => format!("no dead letters in {place}"),
        (1, 1) => format!("1 dead letter in {place}"),
        (all, matching) if all == matching => format!("{all} dead letters in {place}"),
        (all, 0) => format!("none of {all} dead letters in {place} matches"),
        (all, matching) => format!("{matching} of {all} dead letters in {place}"),
    }
}
