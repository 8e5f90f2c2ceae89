//! How long librdkafka gathers records for a batch, where the user does not say.
//!
//! A request carries one partition, and for the sake of order at most five are on their way to a broker
//! (`max.in.flight` of an idempotent producer). Far away, a window that goes out in many small pieces therefore
//! waits for several round trips; gathered for about as long as the window takes to arrive, it goes out at
//! once (`docs/results/sinks.md`). Near by, waiting longer only costs time, and ActiveMQ waits for its
//! acknowledgement (D3).

use std::time::Duration;

/// Near by.
pub(super) const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(20);

/// For brokers that answer after `round_trip`.
pub(super) fn for_round_trip(round_trip: Duration) -> Duration {
    (round_trip / 10).clamp(SHORTEST, LONGEST)
}

/// Whether `wanted` differs from `present` by so much that a new client is worth it.
pub(super) fn is_worth_a_change(present: Duration, wanted: Duration) -> bool {
    wanted * 2 > present * 3 || present * 2 > wanted * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_the_distance_within_bounds() {
        let linger = |round_trip| for_round_trip(Duration::from_millis(round_trip)).as_millis();
        assert_eq!([0, 1, 50, 100, 150, 200, 9000].map(linger), [5, 5, 5, 10, 15, 20, 20]);
    }

    #[test]
    fn a_little_more_or_less_is_no_change() {
        let changes = |present, wanted| {
            is_worth_a_change(Duration::from_millis(present), Duration::from_millis(wanted))
        };
        assert!(changes(5, 10) && changes(20, 10) && changes(10, 20));
        assert!(!changes(5, 5) && !changes(10, 12) && !changes(12, 10) && !changes(10, 7));
    }
}
