//! Limits the bytes and the age of the files in the directory, without listing it for every group. Appended
//! bytes are added to a running total. The directory is listed again only when a limit seems to be reached,
//! because finished files may have been moved away.

use jiff::{SignedDuration, Timestamp};

use super::disk::Disk;
use super::error::JournalError;
use super::holdings::Holdings;
use super::settings::JournalSettings;

/// The shortest time between two listings once a limit is reached.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// The last known content of the directory.
#[derive(Debug)]
pub(super) struct Quota {
    pub(super) known: Holdings,
    looked: Timestamp,
}

impl Quota {
    pub(super) fn look(
        disk: &dyn Disk,
        settings: &JournalSettings,
        now: Timestamp,
    ) -> Result<Self, JournalError> {
        let listed = Holdings::of(disk, settings);
        let known = listed.map_err(JournalError::io("list", &settings.directory))?;
        Ok(Self { known, looked: now })
    }

    /// Checks whether a limit forbids writing `more` bytes now.
    pub(super) fn check(
        &self,
        more: u64,
        now: Timestamp,
        settings: &JournalSettings,
    ) -> Result<(), JournalError> {
        let names = || (settings.directory.clone(), settings.section.clone());
        let total = self.known.total.saturating_add(more);
        if let Some(limit) = settings.max_total.filter(|limit| total > *limit) {
            let (directory, section) = names();
            return Err(JournalError::Full { directory, total, limit, section, movable: String::new() });
        }
        if let (Some(oldest), Some(limit)) = (self.known.oldest, settings.max_age)
            && now.duration_since(oldest) > SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX)
        {
            let (directory, section) = names();
            return Err(JournalError::Stale { directory, limit, section });
        }
        Ok(())
    }

    /// Returns whether the directory may be listed again.
    pub(super) fn may_look(&self, now: Timestamp) -> bool {
        now.duration_since(self.looked).abs() >= LOOK_AGAIN
    }

    pub(super) fn appended(&mut self, bytes: u64) {
        self.known.total = self.known.total.saturating_add(bytes);
    }

    /// Notes that a file was finished now.
    pub(super) fn finished(&mut self, now: Timestamp) {
        self.known.oldest.get_or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::journal::testing;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seen(total: u64, oldest: Option<Timestamp>, looked: Timestamp) -> Quota {
        Quota { known: Holdings { total, oldest, ..Holdings::default() }, looked }
    }

    #[test]
    fn the_total_holds_until_a_look_shows_room() {
        let settings = JournalSettings { max_total: Some(100), ..testing::settings() };
        let mut quota = seen(60, Some(at(0)), at(0));
        quota.check(40, at(1), &settings).unwrap();
        quota.appended(40);
        let full = quota.check(1, at(1), &settings).unwrap_err();
        assert!(matches!(full, JournalError::Full { total: 101, limit: 100, .. }), "{full}");
        assert!(quota.may_look(at(1)));
        let quota = seen(40, None, at(1));
        quota.check(1, at(1), &settings).unwrap();
        assert!(!quota.may_look(at(1)));
    }

    #[test]
    fn the_age_counts_from_the_first_file_finished() {
        let settings = JournalSettings { max_age: Some(Duration::from_secs(60)), ..testing::settings() };
        let mut quota = seen(0, None, at(0));
        quota.check(1, at(1000), &settings).unwrap();
        quota.finished(at(1000));
        quota.finished(at(1050));
        quota.check(1, at(1060), &settings).unwrap();
        let stale = quota.check(1, at(1061), &settings).unwrap_err();
        assert!(matches!(stale, JournalError::Stale { .. }), "{stale}");
        seen(0, Some(at(1050)), at(1061)).check(1, at(1061), &settings).unwrap();
    }
}
