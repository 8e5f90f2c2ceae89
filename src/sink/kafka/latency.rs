//! Adapts the sink to the latency of its brokers.
//!
//! A request carries one partition. A client has at most five requests in flight to a broker (`max.in.flight`
//! of an idempotent producer), and one to a partition: librdkafka sends the next only while fewer than five
//! *records* are in flight. A window that is sent in two pieces therefore takes two round trips, for ever,
//! because the verdicts on one piece let the next one in. So where the brokers are far away records go in
//! **waves**: records that come within a tenth of the round trip are sent together, and the rest waits until
//! they have come back. And a few clients share the partitions, each with requests of its own
//! (`docs/results/sinks.md`).
//!
//! Where the brokers are near, waiting for more records only costs time: the records that come while a request
//! is out make the next one. So a record is sent at once, and one client is enough. In the same data centre it
//! also has fewer requests in flight: Kafka serves those of one connection one after the other. A partition that
//! waits for its request while more may be in flight makes librdkafka's thread spin
//! (`rd_kafka_msgq_allow_wakeup_at` in librdkafka 2.12.1). At the limit it sleeps, and the records of the other
//! partitions gather.

use std::num::NonZeroU32;
use std::time::Duration;

/// The bounds of the time for which a client collects records where the brokers are far away.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(20);

/// Brokers with this round trip are far away. They are near again below half of it.
const FAR: Duration = Duration::from_millis(20);
/// Brokers with this round trip are not in the same data centre. They are again below half of it.
const NOT_LOCAL: Duration = Duration::from_millis(2);
/// How many requests a client has in flight to one broker in the same data centre, and further away. The second
/// number is the most that keeps the order.
const FEW_REQUESTS: u32 = 3;
const ALL_REQUESTS: u32 = 5;
/// The most clients: each has a few threads and connections of its own.
const MOST_CLIENTS: u32 = 4;

/// The settings of a connection that depend on the latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LatencyTuning {
    /// How long a client collects records, if the user has not set it.
    pub(super) linger: Duration,
    /// The number of clients that share the partitions.
    pub(super) clients: u32,
    /// How many requests a client has in flight to one broker (`max.in.flight`).
    pub(super) requests: u32,
    /// Whether records go in waves.
    is_far: bool,
}

impl LatencyTuning {
    /// The settings in the same data centre, and while the round trip is not known.
    pub(super) const LOCAL: Self =
        Self { linger: Duration::ZERO, clients: 1, requests: FEW_REQUESTS, is_far: false };
    const NEAR: Self = Self { requests: ALL_REQUESTS, ..Self::LOCAL };

    /// Returns the settings after an answer that took `round_trip`, for a topic with `partitions` partitions.
    /// A small difference changes nothing, because a change requires new clients.
    pub(super) fn after(self, round_trip: Duration, partitions: NonZeroU32) -> Self {
        let is_far = round_trip >= FAR || (self.is_far && round_trip >= FAR / 2);
        if !is_far {
            let is_local = round_trip < NOT_LOCAL / 2 || (self == Self::LOCAL && round_trip < NOT_LOCAL);
            return if is_local { Self::LOCAL } else { Self::NEAR };
        }
        let linger = (round_trip / 10).clamp(SHORTEST, LONGEST);
        let differs = linger * 2 > self.linger * 3 || self.linger * 2 > linger * 3;
        Self {
            linger: if differs { linger } else { self.linger },
            clients: partitions.get().min(MOST_CLIENTS),
            requests: ALL_REQUESTS,
            is_far,
        }
    }

    /// Returns how long a wave accepts records, or `None` without waves. This is a little less than the
    /// client collects them (the user's `linger`, or else this one), so that no record is left for a second
    /// request. It has a minimum, so that a wave is never almost empty.
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
        LatencyTuning { linger: millis(linger), clients, requests: ALL_REQUESTS, is_far: true }
    }

    fn after(tuning: LatencyTuning, round_trip: u64, partitions: u32) -> LatencyTuning {
        tuning.after(millis(round_trip), NonZeroU32::new(partitions).unwrap())
    }

    #[test]
    fn it_grows_with_the_way_within_bounds() {
        let (local, near) = (LatencyTuning::LOCAL, LatencyTuning::NEAR);
        let found = [0, 1, 2, 50, 100, 150, 200, 9000].map(|way| after(local, way, 12));
        let expected = [local, local, near, far(5, 4), far(10, 4), far(15, 4), far(20, 4), far(20, 4)];
        assert_eq!(found, expected);
        assert_eq!(after(near, 100, 3), far(10, 3));
        assert_eq!([0, 1].map(|way| after(far(20, 4), way, 12)), [local, near]);
    }

    #[test]
    fn a_little_more_or_less_is_no_change() {
        assert_eq!([70, 100, 140].map(|way| after(far(10, 4), way, 12)), [far(10, 4); 3]);
        assert_eq!(after(far(5, 1), 15, 1), far(5, 1));
        assert_eq!(after(LatencyTuning::NEAR, 15, 12), LatencyTuning::NEAR);
        assert_eq!([0, 1].map(|way| after(LatencyTuning::NEAR, way, 12).requests), [3, 5]);
    }

    #[test]
    fn records_go_in_waves_where_it_is_far() {
        assert_eq!(LatencyTuning::NEAR.gathering(Some(millis(50))), None);
        assert_eq!(LatencyTuning::LOCAL.gathering(None), None);
        assert_eq!(far(10, 4).gathering(None), Some(millis(9)));
        assert_eq!(far(10, 4).gathering(Some(millis(50))), Some(millis(45)));
        assert_eq!(far(10, 4).gathering(Some(Duration::ZERO)), Some(SHORTEST * 9 / 10));
    }
}
