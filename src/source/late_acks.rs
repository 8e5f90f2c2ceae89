//! Whether the broker still has our consumer. ActiveMQ removes one that its policy finds too slow, and over STOMP it
//! does not say so: it beats its heart, answers receipts, and takes acknowledgements that do nothing
//! (`protocols.md §1.11`). So acknowledgements that came late leave a session in doubt. A message that only a broker
//! which has processed them can have sent ends the doubt; if none comes, the session asks.

use std::time::Duration;

use tokio::time::Instant;

/// An acknowledgement is late when so long passed without one. Brokers allow some seconds at least.
const LATE: Duration = Duration::from_secs(1);

/// So long a session in doubt waits for a message before it asks. Those on the way come at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// What one session knows of its acknowledgements. Positions are those of messages in the session, from 1.
#[derive(Debug)]
pub(super) struct LateAcks {
    prefetch: u64,
    /// The last message that came.
    came: u64,
    /// The last one that was acknowledged.
    acked: u64,
    /// Up to where the broker knows, while there is a doubt of what is behind.
    known: Option<u64>,
    /// A message beyond this position ends the doubt.
    proof: u64,
    /// Since when no message is un-acked that could be acknowledged, or the last acknowledgement.
    waits_since: Instant,
    /// The last message or acknowledgement.
    stirred: Instant,
}

impl LateAcks {
    /// Of a consumer with this prefetch.
    pub(super) fn new(prefetch: u32, now: Instant) -> Self {
        Self {
            prefetch: u64::from(prefetch),
            came: 0,
            acked: 0,
            known: None,
            proof: 0,
            waits_since: now,
            stirred: now,
        }
    }

    /// So many messages have come.
    pub(super) fn came(&mut self, count: usize, now: Instant) {
        if self.came == self.acked {
            self.waits_since = now;
        }
        self.came += count as u64;
        self.stirred = now;
        if self.came > self.proof {
            self.known = None;
        }
    }

    /// So many messages are acknowledged. Returns whether that is late.
    pub(super) fn acknowledge(&mut self, count: usize, now: Instant) -> bool {
        let is_late = now >= self.waits_since + LATE;
        if is_late {
            self.known.get_or_insert(self.acked);
            // A broker that has not processed this acknowledgement can't have sent more than the prefetch allows.
            self.proof = self.acked + self.prefetch;
        }
        self.acked += count as u64;
        (self.waits_since, self.stirred) = (now, now);
        is_late
    }

    /// The broker has processed every acknowledgement while it had the consumer.
    pub(super) fn is_settled(&mut self) {
        self.known = None;
    }

    /// Whether there is a doubt.
    pub(super) fn is_open(&self) -> bool {
        self.known.is_some()
    }

    /// Up to which position the broker knows what is acknowledged, as soon as it has read what is sent.
    pub(super) fn known(&self) -> u64 {
        self.known.unwrap_or(self.acked)
    }

    /// Whether to ask now: all is acknowledged, and still no message has come.
    pub(super) fn asks(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// When to ask, if nothing comes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.is_open() && self.came == self.acked).then(|| self.stirred + PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn acknowledgements_in_time_are_beyond_doubt() {
        let mut now = Instant::now();
        let mut doubt = LateAcks::new(10, now);
        now += 100 * SECOND;
        for _ in 0..20 {
            doubt.came(5, now);
            now += SECOND / 2;
            assert!(!doubt.acknowledge(2, now));
            now += SECOND / 2;
            assert!(!doubt.acknowledge(3, now));
            now += SECOND;
        }
        assert_eq!((doubt.known(), doubt.deadline()), (100, None));
    }

    #[test]
    fn late_ones_are_unknown_until_a_message_comes_that_they_made_room_for() {
        let now = Instant::now();
        let mut doubt = LateAcks::new(10, now);
        doubt.came(2, now);
        assert!(!doubt.acknowledge(2, now));
        doubt.came(10, now);
        assert!(doubt.acknowledge(4, now + SECOND));
        assert_eq!((doubt.known(), doubt.deadline()), (2, None), "six are still un-acked");
        doubt.acknowledge(6, now + SECOND);
        assert_eq!(doubt.known(), 2);
        assert!(!doubt.asks(now + 2 * SECOND) && doubt.asks(now + 3 * SECOND));
        doubt.came(1, now + 2 * SECOND);
        assert_eq!((doubt.known(), doubt.deadline()), (12, None), "the thirteenth is beyond the prefetch");
    }

    #[test]
    fn a_second_late_one_wants_a_proof_of_its_own() {
        let now = Instant::now();
        let mut doubt = LateAcks::new(10, now);
        doubt.came(10, now);
        doubt.acknowledge(1, now + SECOND);
        doubt.acknowledge(4, now + 2 * SECOND);
        doubt.came(1, now + 2 * SECOND);
        assert_eq!(doubt.known(), 0, "only the first may have been processed");
        doubt.came(1, now + 2 * SECOND);
        assert_eq!(doubt.known(), 5);
        doubt.acknowledge(1, now + 4 * SECOND);
        doubt.is_settled();
        assert_eq!(doubt.known(), 6);
    }
}
