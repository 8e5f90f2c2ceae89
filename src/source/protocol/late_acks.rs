//! Detects acknowledgements that may have had no effect because the broker had already removed our consumer.
//!
//! ActiveMQ removes a consumer that its policy finds too slow. Over STOMP it does not say so: it still sends
//! heart-beats, answers receipts, and takes acknowledgements that do nothing (`protocols.md §1.11`). So after
//! late acknowledgements it is uncertain whether the broker processed them. A message that the broker could
//! send only after it had processed them is the proof. If no such message comes, the session asks the broker.

use std::time::Duration;

use tokio::time::Instant;

/// An acknowledgement is late when this much time passed without one. Brokers allow some seconds at least.
const LATE: Duration = Duration::from_secs(1);

/// A session with unproven acknowledgements waits this long for a message before it asks. Messages already on
/// the way arrive at once.
const PROOF_TIMEOUT: Duration = Duration::from_secs(2);

/// The acknowledgement state of one session. Positions are those of messages in the session, from 1.
#[derive(Debug)]
pub struct LateAcks {
    prefetch: u64,
    /// Position of the last message received.
    came: u64,
    /// Position of the last message acknowledged.
    acked: u64,
    /// The last position that the broker certainly knows as acknowledged; `None` while nothing is uncertain.
    known: Option<u64>,
    /// A message beyond this position proves that the acknowledgements were processed.
    proof: u64,
    /// The later of two times: when a message first could be acknowledged, and the last acknowledgement.
    waits_since: Instant,
    /// Time of the last message or acknowledgement.
    last_activity: Instant,
}

impl LateAcks {
    pub fn new(prefetch: u32, now: Instant) -> Self {
        Self {
            prefetch: u64::from(prefetch),
            came: 0,
            acked: 0,
            known: None,
            proof: 0,
            waits_since: now,
            last_activity: now,
        }
    }

    /// Notes that `count` messages were received.
    pub fn came(&mut self, count: usize, now: Instant) {
        if self.came == self.acked {
            self.waits_since = now;
        }
        self.came += count as u64;
        self.last_activity = now;
        if self.came > self.proof {
            self.known = None;
        }
    }

    /// Notes that `count` messages are acknowledged. Returns whether that is late.
    pub fn acknowledge(&mut self, count: usize, now: Instant) -> bool {
        let is_late = now >= self.waits_since + LATE;
        if is_late {
            self.known.get_or_insert(self.acked);
            // A broker that has not processed this acknowledgement can't have sent more than the prefetch
            // allows.
            self.proof = self.acked + self.prefetch;
        }
        self.acked += count as u64;
        (self.waits_since, self.last_activity) = (now, now);
        is_late
    }

    /// Notes that the broker processed every acknowledgement while it still had the consumer.
    pub fn is_settled(&mut self) {
        self.known = None;
    }

    /// Whether some acknowledgements are unproven.
    pub fn is_open(&self) -> bool {
        self.known.is_some()
    }

    /// The last position that the broker knows as acknowledged, as soon as it has read what is sent.
    pub fn known(&self) -> u64 {
        self.known.unwrap_or(self.acked)
    }

    /// Whether to ask the broker now: all is acknowledged, and still no message has come.
    pub fn asks(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// When to ask the broker, if no message comes before.
    pub fn deadline(&self) -> Option<Instant> {
        (self.is_open() && self.came == self.acked).then(|| self.last_activity + PROOF_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn acknowledgements_in_time_are_beyond_doubt() {
        let mut now = Instant::now();
        let mut late_acks = LateAcks::new(10, now);
        now += 100 * SECOND;
        for _ in 0..20 {
            late_acks.came(5, now);
            now += SECOND / 2;
            assert!(!late_acks.acknowledge(2, now));
            now += SECOND / 2;
            assert!(!late_acks.acknowledge(3, now));
            now += SECOND;
        }
        assert_eq!((late_acks.known(), late_acks.deadline()), (100, None));
    }

    #[test]
    fn late_ones_are_unknown_until_a_message_comes_that_they_made_room_for() {
        let now = Instant::now();
        let mut late_acks = LateAcks::new(10, now);
        late_acks.came(2, now);
        assert!(!late_acks.acknowledge(2, now));
        late_acks.came(10, now);
        assert!(late_acks.acknowledge(4, now + SECOND));
        assert_eq!((late_acks.known(), late_acks.deadline()), (2, None), "six are still un-acked");
        late_acks.acknowledge(6, now + SECOND);
        assert_eq!(late_acks.known(), 2);
        assert!(!late_acks.asks(now + 2 * SECOND) && late_acks.asks(now + 3 * SECOND));
        late_acks.came(1, now + 2 * SECOND);
        assert_eq!(
            (late_acks.known(), late_acks.deadline()),
            (12, None),
            "the thirteenth is beyond the prefetch"
        );
    }

    #[test]
    fn a_second_late_one_wants_a_proof_of_its_own() {
        let now = Instant::now();
        let mut late_acks = LateAcks::new(10, now);
        late_acks.came(10, now);
        late_acks.acknowledge(1, now + SECOND);
        late_acks.acknowledge(4, now + 2 * SECOND);
        late_acks.came(1, now + 2 * SECOND);
        assert_eq!(late_acks.known(), 0, "only the first may have been processed");
        late_acks.came(1, now + 2 * SECOND);
        assert_eq!(late_acks.known(), 5);
        late_acks.acknowledge(1, now + 4 * SECOND);
        late_acks.is_settled();
        assert_eq!(late_acks.known(), 6);
    }
}
