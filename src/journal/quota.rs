//! Limits the bytes and the age of the files in the directory, without listing it for every group. Appended
//! bytes are added to a running total. The directory is listed again only when a limit seems to be reached,
//! because finished files may have been moved away.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::error::JournalError;
use super::holdings::Holdings;
use super::settings::JournalSettings;

/// The shortest time between two listings once a limit is reached.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exceeded {
    /// The bytes that all files together would have.
    Total(u64),
    /// The oldest finished file has not been moved away for too long.
    Age,
}

/// The limits, and the last known content of the directory.
#[derive(Debug)]
pub(super) struct Quota {
    max_total: Option<u64>,
    max_age: Option<Duration>,
    known: Holdings,
    looked: Timestamp,
}

impl Quota {
    pub(super) fn new(
        max_total: Option<u64>,
        max_age: Option<Duration>,
        seen: Holdings,
        now: Timestamp,
    ) -> Self {
        Self { max_total, max_age, known: seen, looked: now }
    }

    /// Returns the limit that forbids writing `more` bytes now, if any.
    pub(super) fn exceeded(&self, more: u64, now: Timestamp) -> Option<Exceeded> {
        let total = self.known.total.saturating_add(more);
        if self.max_total.is_some_and(|limit| total > limit) {
            return Some(Exceeded::Total(total));
        }
        let age = now.duration_since(self.known.oldest?);
        let limit = SignedDuration::try_from(self.max_age?).unwrap_or(SignedDuration::MAX);
        (age > limit).then_some(Exceeded::Age)
    }

    /// Returns the same limit as an error.
    pub(super) fn check(
        &self,
        more: u64,
        now: Timestamp,
        settings: &JournalSettings,
    ) -> Result<(), JournalError> {
        let (directory, section) = (settings.directory.clone(), settings.section.clone());
        match self.exceeded(more, now) {
            None => Ok(()),
            Some(Exceeded::Total(total)) => {
                let limit = self.max_total.unwrap_or(total);
                Err(JournalError::Full { directory, total, limit, section, movable: String::new() })
            }
            Some(Exceeded::Age) => {
                Err(JournalError::Stale { directory, limit: self.max_age.unwrap_or_default(), section })
            }
        }
    }

    /// Returns whether the directory may be listed again.
    pub(super) fn may_look(&self, now: Timestamp) -> bool {
        now.duration_since(self.looked).abs() >= LOOK_AGAIN
    }

    /// Takes over the result of a new listing.
    pub(super) fn look(&mut self, seen: Holdings, now: Timestamp) {
        self.known = seen;
        self.looked = now;
    }

    /// Counts appended bytes.
    pub(super) fn add(&mut self, bytes: u64) {
        self.known.total = self.known.total.saturating_add(bytes);
    }

    /// Notes that a file was finished now.
    pub(super) fn finished(&mut self, now: Timestamp) {
        self.known.oldest.get_or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seen(total: u64, oldest: Option<Timestamp>) -> Holdings {
        Holdings { total, oldest, ..Holdings::default() }
    }

    #[test]
    fn the_total_holds_until_a_look_shows_room() {
        let mut quota = Quota::new(Some(100), None, seen(60, Some(at(0))), at(0));
        assert_eq!(quota.exceeded(40, at(1)), None);
        quota.add(40);
        assert_eq!(quota.exceeded(1, at(1)), Some(Exceeded::Total(101)));
        assert!(quota.may_look(at(1)));
        quota.look(seen(40, None), at(1));
        assert_eq!(quota.exceeded(1, at(1)), None);
        assert!(!quota.may_look(at(1)));
    }

    #[test]
    fn the_age_counts_from_the_first_file_finished() {
        let mut quota = Quota::new(None, Some(Duration::from_secs(60)), Holdings::default(), at(0));
        assert_eq!(quota.exceeded(1, at(1000)), None);
        quota.finished(at(1000));
        quota.finished(at(1050));
        assert_eq!(quota.exceeded(1, at(1060)), None);
        assert_eq!(quota.exceeded(1, at(1061)), Some(Exceeded::Age));
        quota.look(seen(0, Some(at(1050))), at(1061));
        assert_eq!(quota.exceeded(1, at(1061)), None);
    }
}
