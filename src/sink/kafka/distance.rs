//! How the sink adapts to the way to its brokers.
//!
//! A request carries one partition, and for the sake of order at most five of a client are on their way to a
//! broker (`max.in.flight` of an idempotent producer), of one partition in truth one (ARCHITECTURE.md, "Far
//! away"). A window that goes out in pieces therefore waits for several round trips. So it is gathered for
//! about as long as it takes to arrive, and the partitions are shared among a few clients, each with requests
//! of its own (`docs/results/sinks.md`). Near by, waiting longer only costs time, and ActiveMQ waits for its
//! acknowledgement (D3); one client is enough.

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
pub(super) struct Distance {
    /// How long records are gathered, where the user does not say.
    pub(super) linger: Duration,
    /// How many clients share the partitions.
    pub(super) clients: u32,
}

impl Distance {
    /// As long as nothing is known.
    pub(super) const NEAR: Self = Self { linger: SHORTEST, clients: 1 };

    /// After an answer that took `round_trip`, for a topic with so many partitions. A little more or less than
    /// before is no reason for a change, which costs new clients.
    pub(super) fn after(self, round_trip: Duration, partitions: NonZeroU32) -> Self {
        let linger = (round_trip / 10).clamp(SHORTEST, LONGEST);
        let is_far = round_trip >= FAR || (self.clients > 1 && round_trip >= FAR / 2);
        Self {
            linger: if linger * 2 > self.linger * 3 || self.linger * 2 > linger * 3 {
                linger
            } else {
                self.linger
            },
            clients: if is_far { partitions.get().min(MOST_CLIENTS) } else { 1 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn after(distance: Distance, round_trip: u64, partitions: u32) -> (u128, u32) {
        let Distance { linger, clients } =
            distance.after(millis(round_trip), NonZeroU32::new(partitions).unwrap());
        (linger.as_millis(), clients)
    }

    #[test]
    fn it_grows_with_the_way_within_bounds() {
        let found = [0, 1, 50, 100, 150, 200, 9000].map(|way| after(Distance::NEAR, way, 12));
        assert_eq!(found, [(5, 1), (5, 1), (5, 4), (10, 4), (15, 4), (20, 4), (20, 4)]);
        assert_eq!(after(Distance::NEAR, 100, 3), (10, 3));
        assert_eq!(after(Distance { linger: millis(20), clients: 4 }, 1, 12), (5, 1));
    }

    #[test]
    fn a_little_more_or_less_is_no_change() {
        let far = Distance { linger: millis(10), clients: 4 };
        assert_eq!([70, 100, 140].map(|way| after(far, way, 12)), [(10, 4); 3]);
        assert_eq!(after(Distance { linger: SHORTEST, clients: 4 }, 15, 12), (5, 4));
        assert_eq!(after(Distance::NEAR, 15, 12), (5, 1));
    }
}
