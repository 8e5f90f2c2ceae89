//! Decides when a file is finished.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::config::RotateConfig;

impl RotateConfig {
    /// Returns whether a file of `len` bytes, opened at `opened`, must be finished. A file from the future
    /// must (the clock was set back), because its age means nothing.
    pub(crate) fn is_due(&self, len: u64, opened: Timestamp, now: Timestamp) -> bool {
        let age = now.duration_since(opened);
        len >= self.size.0 || age < SignedDuration::from_mins(-1) || age >= signed(self.age.0)
    }

    /// How long a file opened at `opened` has until it reaches the maximum age.
    pub(crate) fn remaining(&self, opened: Timestamp, now: Timestamp) -> Duration {
        let left = signed(self.age.0).saturating_sub(now.duration_since(opened));
        Duration::try_from(left).unwrap_or(Duration::ZERO)
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Period, Size};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_file_is_due_by_size_by_age_and_when_it_comes_from_the_future() {
        let rotation = RotateConfig { size: Size(100), age: Period::secs(60) };
        assert!(!rotation.is_due(99, at(1000), at(1059)));
        assert!(rotation.is_due(100, at(1000), at(1000)));
        assert!(rotation.is_due(0, at(1000), at(1060)));
        assert!(!rotation.is_due(0, at(1000), at(990)));
        assert!(rotation.is_due(0, at(1000), at(900)));
        assert_eq!(rotation.remaining(at(1000), at(1059)), Duration::from_secs(1));
        assert_eq!(rotation.remaining(at(1000), at(2000)), Duration::ZERO);
    }

    #[test]
    fn the_longest_age_is_never_reached() {
        let rotation = RotateConfig { size: Size(100), age: Period(Duration::MAX) };
        assert!(!rotation.is_due(0, at(0), at(1_000_000_000)));
    }
}
