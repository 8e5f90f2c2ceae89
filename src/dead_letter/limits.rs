//! Limits how many events may become dead letters, so that a wrong setting stops the bridge instead of
//! emptying the queue (I6).

use std::collections::VecDeque;

/// The number of events over which the share is calculated.
const WINDOW: usize = 10_000;

/// The limits, and the count of good and dead events. Each worker that counts has its own.
#[derive(Clone, Debug)]
pub struct DeadLetterLimits {
    max_run: u32,
    /// The most dead letters among the last 10,000 events.
    max_dead: usize,
    run: u32,
    /// How many events were counted.
    seen: u64,
    /// For each dead event in the window: the value of `seen` when it was counted.
    dead: VecDeque<u64>,
}

/// The limit that one more dead letter would exceed. The bridge then holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceededError {
    /// Too many dead letters in a row; holds `max_run`.
    #[error("more than {0} events in a row")]
    Run(u32),
    /// Too many among the last 10,000 events; holds the allowed number.
    #[error("more than {0} of the last 10000 events")]
    Share(usize),
}

impl LimitExceededError {
    /// Returns the full key of the option that sets this limit.
    pub fn option(self) -> &'static str {
        match self {
            Self::Run(_) => "dead_letters.max_run",
            Self::Share(_) => "dead_letters.max_share",
        }
    }
}

impl DeadLetterLimits {
    /// Allows at most `max_run` dead letters in a row, and at most the share `max_share` (0 to 1) of the last
    /// 10,000 events. Events that are still missing in this window count as good.
    pub fn new(max_run: u32, max_share: f64) -> Self {
        // The share is checked to be between 0 and 1; `as` saturates for any other value.
        let max_dead = (max_share * WINDOW as f64).floor() as usize;
        Self { max_run, max_dead, run: 0, seen: 0, dead: VecDeque::new() }
    }

    /// Counts `count` events that were delivered; this ends a run.
    pub fn good(&mut self, count: u64) {
        if count > 0 {
            self.run = 0;
            self.seen += count;
        }
    }

    /// Counts one event that can't be delivered.
    ///
    /// # Errors
    /// The event must not become a dead letter, because that would exceed a limit. It is not counted, so a
    /// second call gives the same result.
    pub fn dead(&mut self) -> Result<(), LimitExceededError> {
        let oldest = (self.seen + 1).saturating_sub(WINDOW as u64);
        while self.dead.front().is_some_and(|at| *at < oldest) {
            self.dead.pop_front();
        }
        if self.run >= self.max_run {
            return Err(LimitExceededError::Run(self.max_run));
        }
        if self.dead.len() >= self.max_dead && self.max_dead < WINDOW {
            return Err(LimitExceededError::Share(self.max_dead));
        }
        self.dead.push_back(self.seen);
        self.run += 1;
        self.seen += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn observe(limits: &mut DeadLetterLimits, dead: bool) -> Result<(), LimitExceededError> {
        if dead {
            return limits.dead();
        }
        limits.good(1);
        Ok(())
    }

    #[test]
    fn a_run_is_ended_by_a_good_event() {
        let mut limits = DeadLetterLimits::new(2, 1.0);
        for (dead, expected) in [
            (true, Ok(())),
            (true, Ok(())),
            (true, Err(LimitExceededError::Run(2))),
            (true, Err(LimitExceededError::Run(2))),
            (false, Ok(())),
            (true, Ok(())),
        ] {
            assert_eq!(observe(&mut limits, dead), expected);
        }
    }

    #[test]
    fn a_share_of_nothing_lets_no_dead_letter_through_and_a_share_of_all_lets_every_one() {
        assert_eq!(DeadLetterLimits::new(100, 0.0).dead(), Err(LimitExceededError::Share(0)));
        let mut limits = DeadLetterLimits::new(u32::MAX, 1.0);
        assert!((0..2 * WINDOW).all(|_| limits.dead().is_ok()));
    }

    /// A model that keeps every event, dead or good.
    struct History {
        /// How many of the first n events are dead, for each n.
        dead_before: Vec<usize>,
        /// How many events there were up to the last good one.
        last_good: usize,
    }

    impl History {
        fn push(&mut self, dead: bool) {
            self.dead_before.push(self.dead_before[self.len()] + usize::from(dead));
            if !dead {
                self.last_good = self.len();
            }
        }

        fn len(&self) -> usize {
            self.dead_before.len() - 1
        }

        /// The definition of the limits, for one more dead event.
        fn one_more(&self, max_run: u32, share: f64) -> Result<(), LimitExceededError> {
            let run = self.len() - self.last_good;
            let start = self.len().saturating_sub(WINDOW - 1);
            let dead = self.dead_before[self.len()] - self.dead_before[start];
            let max_dead = (share * WINDOW as f64).floor() as usize;
            if run + 1 > max_run as usize {
                return Err(LimitExceededError::Run(max_run));
            }
            if dead + 1 > max_dead {
                return Err(LimitExceededError::Share(max_dead));
            }
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn limits_do_what_the_definition_says(
            max_run in 1u32..20, share in prop::sample::select(vec![0.0, 0.0005, 0.001, 0.01, 0.3, 1.0]),
            // Runs of good and dead events, together longer than the window.
            runs in prop::collection::vec((any::<bool>(), 1usize..4000), 1..12),
        ) {
            let mut limits = DeadLetterLimits::new(max_run, share);
            let mut history = History { dead_before: vec![0], last_good: 0 };
            for (mostly_dead, length) in runs {
                for n in 0..length {
                    let dead = mostly_dead && n % 25 < 20;
                    let outcome = observe(&mut limits, dead);
                    let expected = if dead { history.one_more(max_run, share) } else { Ok(()) };
                    prop_assert_eq!(outcome, expected);
                    if outcome.is_ok() {
                        history.push(dead);
                    }
                }
            }
        }
    }
}
