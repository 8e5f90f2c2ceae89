//! Decides when a sink goes on although it could not read what it holds, and warns that events can come twice.

/// After so many failures in a row, and as long as they go on, the sink goes on without the answer: a
/// destination that can be written but not read must not stop the events.
const FAILURES: u32 = 3;

/// The failed claims of one sink.
#[derive(Debug, Default)]
pub(super) struct ClaimFailures {
    in_a_row: u32,
    /// The last warning.
    warned: Option<String>,
}

impl ClaimFailures {
    /// Notes that the sink has read what it holds.
    pub(super) fn ended(&mut self) {
        self.in_a_row = 0;
    }

    /// Notes a failure. Returns whether the sink goes on without the answer.
    pub(super) fn are_too_many(&mut self) -> bool {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.in_a_row >= FAILURES
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
    fn a_sink_goes_on_after_three_failures_in_a_row_until_one_claim_succeeds() {
        let mut failures = ClaimFailures::default();
        let three = |failures: &mut ClaimFailures| [(); 3].map(|()| failures.are_too_many());
        assert_eq!(three(&mut failures), [false, false, true]);
        assert!(failures.are_too_many());
        failures.ended();
        assert_eq!(three(&mut failures), [false, false, true]);
    }
}
