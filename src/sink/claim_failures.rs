//! Decides when a sink goes on although it could not read what it holds, and warns that events can come twice.

use std::time::{Duration, Instant};

/// After so many failures in a row, and as long as they go on, the sink goes on without the answer: a
/// destination that can be written but not read must not stop the events.
const FAILURES: u32 = 3;
/// The failures last so long at least. Many a cause fails at once and passes in a moment.
const LONG: Duration = Duration::from_secs(30);

/// The failed claims of one sink.
#[derive(Debug, Default)]
pub(super) struct ClaimFailures {
    /// How many there were in a row, and when the first one was.
    in_a_row: Option<(u32, Instant)>,
    /// The warning that was logged last; it is not repeated.
    warned: Option<String>,
}

impl ClaimFailures {
    /// Ends the failures in a row: the sink has read what it holds, or it can't write now either.
    pub(super) fn end(&mut self) {
        self.in_a_row = None;
    }

    /// Notes a failure at `now`. Returns whether the sink goes on without the answer. A failure that also keeps the
    /// sink from writing does not count: it must end first.
    pub(super) fn are_too_many(&mut self, now: Instant) -> bool {
        let (count, first) = self.in_a_row.unwrap_or((0, now));
        let count = count.saturating_add(1);
        self.in_a_row = Some((count, first));
        count >= FAILURES && now.duration_since(first) >= LONG
    }

    /// Logs the warning, once for each cause.
    pub(super) fn warn(&mut self, sink: &str, warning: String) {
        if self.warned.as_ref() != Some(&warning) {
            tracing::warn!(sink, "{warning}");
            self.warned = Some(warning);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_goes_on_after_failures_that_are_many_and_last_long() {
        let (mut failures, start) = (ClaimFailures::default(), Instant::now());
        let fail = |failures: &mut ClaimFailures, seconds| {
            failures.are_too_many(start + Duration::from_secs(seconds))
        };
        assert_eq!([0, 1, 2, 29].map(|at| fail(&mut failures, at)), [false; 4], "they are quick");
        assert_eq!([30, 31].map(|at| fail(&mut failures, at)), [true; 2]);
        failures.end();
        assert_eq!([40, 90].map(|at| fail(&mut failures, at)), [false; 2], "they are few");
        assert!(fail(&mut failures, 91));
    }
}
