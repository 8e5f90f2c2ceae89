//! Computes how long to wait before the next try: exponential, with full jitter, bounded.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Period;

/// How retries are spaced. Each wait is drawn between half of and the whole of a step that doubles from
/// `initial` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackoffConfig {
    /// The wait after the first failed try.
    pub initial: Period,
    /// The longest wait between two tries.
    pub max: Period,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { initial: Period::millis(250), max: Period::secs(30) }
    }
}

/// The state of one series of retries: how many tries have failed since the last success.
#[derive(Clone, Debug)]
pub struct Backoff {
    config: BackoffConfig,
    failures: u32,
}

impl Backoff {
    /// Starts a series of retries in which no try has failed yet.
    pub fn new(config: BackoffConfig) -> Self {
        Self { config, failures: 0 }
    }

    /// Returns the wait before the next try, and counts one more failure.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.config.initial.0.saturating_mul(1 << self.failures.min(20)).min(self.config.max.0);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Forgets all failures, because the last try succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_grow_and_stay_within_bounds(initial in 1u64..5_000, factor in 1u64..10_000, tries in 1usize..100) {
            let config = BackoffConfig { initial: Period::millis(initial), max: Period::millis(initial * factor) };
            let mut backoff = Backoff::new(config);
            for n in 0..tries {
                let wait = backoff.next_wait();
                let step = Duration::from_millis(initial).saturating_mul(1 << n.min(20)).min(config.max.0);
                prop_assert!(wait >= step / 2 && wait <= step, "{wait:?} at try {n}");
            }
            backoff.reset();
            prop_assert!(backoff.next_wait() <= config.initial.0);
        }
    }
}
