//! How the sink adapts to the way to its brokers.
//!
//! A request carries one partition. Of a client at most five are on their way to a broker (`max.in.flight` of
//! an idempotent producer), and of a partition one: librdkafka sends the next only while fewer than five
//! *records* are out. A window that goes out in two pieces therefore takes two round trips, for ever, since
//! each piece is let in by the verdicts on the other. So where the brokers are far away records go in **waves**:
//! what comes within a tenth of the round trip goes out together, the rest waits until it is back. And the
//! partitions are shared among a few clients, each with requests of its own (`docs/results/sinks.md`).
//!
//! Near by, waiting longer only costs time, and ActiveMQ waits for its acknowledgement (D3); one client is enough.

use std::num::NonZeroU32;
use std::time::Duration;

/// How long records are gathered near by.
pub(super) const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(20);

/// From here on brokers are far away, and below the half of it they are near again.
const FAR: Duration = Duration::from_millis(20);
/// Each has a few threads and connections of its own.
const MOST_CLIENTS: u32 = 4;

/// What is made of the distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LatencyTuning {
    /// How long records are gathered, where the user does not say.
    pub(super) linger: Duration,
    /// How many clients share the partitions.
    pub(super) clients: u32,
    /// Whether records go in waves.
    is_far: bool,
}

impl LatencyTuning {
    /// As long as nothing is known.
    pub(super) const NEAR: Self = Self { linger: SHORTEST, clients: 1, is_far: false };

    /// After an answer that took `round_trip`, for a topic with so many partitions. A little more or less than
    /// before is no reason for a change, which costs new clients.
    pub(super) fn after(self, round_trip: Duration, partitions: NonZeroU32) -> Self {
        let linger = (round_trip / 10).clamp(SHORTEST, LONGEST);
        let is_far = round_trip >= FAR || (self.is_far && round_trip >= FAR / 2);
        Self {
            linger: if linger * 2 > self.linger * 3 || self.linger * 2 > linger * 3 {
                linger
            } else {
                self.linger
            },
            clients: if is_far { partitions.get().min(MOST_CLIENTS) } else { 1 },
            is_far,
        }
    }

    /// How long the records of a wave are taken, if they go in waves: a little less than the client gathers them,
    /// by the user's `linger` or else this one, so that none is left for a second request; but never so short that a
    /// wave holds next to nothing.
    pub(super) fn gathering(&self, linger: Option<Duration>) -> Option<Duration> {
        self.is_far.then(|| linger.unwrap_or(self.linger).max(SHORTEST) * 9 / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn far(linger: u64, clients: u32) -> LatencyTuning {
        LatencyTuning { linger: millis(linger), clients, is_far: true }
    }

    fn after(distance: LatencyTuning, round_trip: u64, partitions: u32) -> LatencyTuning {
        distance.after(millis(round_trip), NonZeroU32::new(partitions).unwrap())
    }

    #[test]
    fn it_grows_with_the_way_within_bounds() {
        let found = [0, 1, 50, 100, 150, 200, 9000].map(|way| after(LatencyTuning::NEAR, way, 12));
        let near = LatencyTuning::NEAR;
        assert_eq!(found, [near, near, far(5, 4), far(10, 4), far(15, 4), far(20, 4), far(20, 4)]);
        assert_eq!(after(near, 100, 3), far(10, 3));
        assert_eq!(after(far(20, 4), 1, 12), near);
    }

    #[test]
    fn a_little_more_or_less_is_no_change() {
        assert_eq!([70, 100, 140].map(|way| after(far(10, 4), way, 12)), [far(10, 4); 3]);
        assert_eq!(after(far(5, 1), 15, 1), far(5, 1));
        assert_eq!(after(LatencyTuning::NEAR, 15, 12), LatencyTuning::NEAR);
    }

    #[test]
    fn records_go_in_waves_where_it_is_far() {
        assert_eq!(LatencyTuning::NEAR.gathering(Some(millis(50))), None);
        assert_eq!(far(10, 4).gathering(None), Some(millis(9)));
        assert_eq!(far(10, 4).gathering(Some(millis(50))), Some(millis(45)));
        assert_eq!(far(10, 4).gathering(Some(Duration::ZERO)), Some(SHORTEST * 9 / 10));
    }
}
