//! When settled events are acknowledged. On a backlog ActiveMQ sends a few hundred messages until the first
//! acknowledgement, and each brings in the next few hundred (D3): one for every [`STEP`] events keeps it
//! sending, fewer starve it. More cost it time: a bare consumer that acknowledges every 100 is nearly always
//! faster than one that acknowledges each read (`docs/results/bench.md`).

use std::time::Duration;

use tokio::time::Instant;

/// Events in one acknowledgement, at most, and, while more are about to settle, at least.
pub(super) const STEP: u64 = 100;
/// How long fewer may wait for more.
const WITHIN: Duration = Duration::from_millis(5);

/// Holds small acknowledgements back for a moment.
#[derive(Debug, Default)]
pub(super) struct AckRhythm {
    due: Option<Instant>,
}

impl AckRhythm {
    /// Whether `settled` of the `outstanding` events are to be acknowledged now. If not, ask again when more
    /// have settled, or at [`AckRhythm::due`].
    pub(super) fn is_time(&mut self, now: Instant, settled: u64, outstanding: u64) -> bool {
        let more_will_settle = settled < STEP && settled < outstanding;
        if more_will_settle && settled > 0 && now < *self.due.get_or_insert(now + WITHIN) {
            return false;
        }
        self.due = None;
        settled > 0
    }

    /// When what is held back goes out at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_and_a_whole_step_go_at_once() {
        let mut rhythm = AckRhythm::default();
        let now = Instant::now();
        assert!(rhythm.is_time(now, 1, 1));
        assert!(rhythm.is_time(now, STEP, 1000));
        assert!(!rhythm.is_time(now, 0, 1000));
        assert_eq!(rhythm.due(), None);
    }

    #[test]
    fn fewer_wait_for_more_but_not_for_long() {
        let mut rhythm = AckRhythm::default();
        let now = Instant::now();
        assert!(!rhythm.is_time(now, 3, 1000));
        assert!(!rhythm.is_time(now + WITHIN / 2, 7, 1000));
        assert_eq!(rhythm.due(), Some(now + WITHIN));
        assert!(rhythm.is_time(now + WITHIN, 7, 1000));
        assert_eq!(rhythm.due(), None);

        assert!(!rhythm.is_time(now, 3, 1000));
        assert!(!rhythm.is_time(now, 0, 1000), "acknowledged otherwise");
        assert_eq!(rhythm.due(), None);
    }
}
