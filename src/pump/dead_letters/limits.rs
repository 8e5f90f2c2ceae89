//! How many events may be dead letters before the fault must be in a setting and not in them (I6). Pure.

use std::collections::VecDeque;

/// Over how many events the share is taken.
pub const WINDOW: usize = 10_000;

/// So many events must have been seen before the share says anything.
const ENOUGH: usize = 1_000;

/// Too many dead letters.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LimitExceeded {
    /// Too many in a row.
    #[error(
        "{0} events in a row could not be delivered (dead_letters.max_run): held before emptying the queue into \
         the dead letters. Read the newest of them for the reason, mend the setting, restart"
    )]
    Run(u32),
    /// Too many of the last events.
    #[error(
        "{dead} of the last {seen} events could not be delivered (dead_letters.max_share): held before emptying \
         the queue into the dead letters. Read the newest of them for the reason, mend the setting, restart"
    )]
    Share {
        /// Dead letters among them.
        dead: usize,
        /// Events looked at.
        seen: usize,
    },
}

/// Counts every event of one lane.
#[derive(Clone, Debug)]
pub struct Limits {
    max_run: u32,
    max_share: f64,
    run: u32,
    /// Where in the stream the dead ones of the last [`WINDOW`] events stand.
    dead: VecDeque<u64>,
    seen: u64,
}

impl Limits {
    /// At most `max_run` in a row, and at most `max_share` of the last 10,000.
    pub fn new(max_run: u32, max_share: f64) -> Self {
        Self { max_run, max_share, run: 0, dead: VecDeque::new(), seen: 0 }
    }

    /// Takes note of `count` events that were delivered.
    pub fn good(&mut self, count: u64) {
        if count > 0 {
            self.run = 0;
            self.seen += count;
        }
    }

    /// Takes note of one event that can't be delivered.
    ///
    /// # Errors
    /// It is one too many, and must not be written to the dead letters.
    pub fn dead(&mut self) -> Result<(), LimitExceeded> {
        self.seen += 1;
        self.run += 1;
        self.dead.push_back(self.seen);
        while self.dead.front().is_some_and(|at| at + WINDOW as u64 <= self.seen) {
            self.dead.pop_front();
        }
        if self.run > self.max_run {
            return Err(LimitExceeded::Run(self.run));
        }
        let seen = usize::try_from(self.seen).unwrap_or(WINDOW).min(WINDOW);
        if seen >= ENOUGH && self.dead.len() as f64 > self.max_share * seen as f64 {
            return Err(LimitExceeded::Share { dead: self.dead.len(), seen });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_model_that_keeps_everything(
            runs in proptest::collection::vec((1u64..400, 0u64..8), 1..120),
            max_run in 1u32..10,
            max_share in 0.0f64..0.05,
        ) {
            let mut limits = Limits::new(max_run, max_share);
            let mut all = Vec::new();
            for (good, dead) in runs {
                limits.good(good);
                all.extend(std::iter::repeat_n(false, good as usize));
                for _ in 0..dead {
                    all.push(true);
                    let run = all.iter().rev().take_while(|dead| **dead).count();
                    let last = &all[all.len().saturating_sub(WINDOW)..];
                    let share = last.iter().filter(|dead| **dead).count() as f64 / last.len() as f64;
                    let exceeded = run > max_run as usize || (last.len() >= ENOUGH && share > max_share);
                    prop_assert_eq!(limits.dead().is_err(), exceeded);
                }
            }
        }
    }
}
