//! Keeps heart-beats as ActiveMQ does. One is sent if nothing else was sent since the last check. The client
//! is given up when two checks in a row find nothing. The checks allow no extra time, so a client that sends
//! exactly as often as announced is given up sooner or later.

use std::time::{Duration, Instant};

use super::faults::HeartBeats;

/// The result of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// A heart-beat must be sent now.
    pub(crate) send: bool,
    /// The client has been silent for too long.
    pub(crate) dead: bool,
}

/// A check and the time when it is due. Never due if its interval is zero.
#[derive(Debug)]
struct Check {
    every: Duration,
    due: Instant,
}

impl Check {
    fn is_due(&self, now: Instant) -> bool {
        !self.every.is_zero() && now >= self.due
    }
}

/// The heart-beats of one connection, without I/O.
#[derive(Debug)]
pub(crate) struct ServerHeartBeat {
    read: Check,
    write: Check,
    /// Bytes were received since the last read check.
    heard: bool,
    /// A whole frame was received since this flag was last cleared.
    frame: bool,
    /// Something was sent since the last write check.
    sent: bool,
}

impl ServerHeartBeat {
    /// Sets how often to check for received and for sent bytes; the first checks come after `delay`. In STOMP
    /// all three come from the client's `heart-beat:cx,cy`, with the smaller value as the delay. In OpenWire
    /// they are the agreed inactivity, a third of it, and the initial delay.
    pub(crate) fn new(read: Duration, write: Duration, delay: Duration, now: Instant) -> Self {
        let check = |every| Check { every, due: now + delay };
        let (read, write) = (check(read), check(write));
        Self { read, write, heard: true, frame: true, sent: true }
    }

    /// Switches off heart-beats in both directions.
    pub(crate) fn off(now: Instant) -> Self {
        Self::new(Duration::ZERO, Duration::ZERO, Duration::ZERO, now)
    }

    /// Notes that bytes were received, perhaps with a whole frame.
    pub(crate) fn received(&mut self, frame: bool) {
        self.heard = true;
        self.frame |= frame;
    }

    pub(crate) fn sent(&mut self) {
        self.sent = true;
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        let running = [&self.read, &self.write].into_iter().filter(|check| !check.every.is_zero());
        running.map(|check| check.due).min()
    }

    pub(crate) fn check(&mut self, now: Instant, manner: HeartBeats) -> Checked {
        let mut found = Checked::default();
        if self.read.is_due(now) {
            self.read.due = now + self.read.every;
            if !std::mem::take(&mut self.heard) {
                found.dead = !std::mem::take(&mut self.frame);
            }
        }
        if self.write.is_due(now) {
            let late = if let HeartBeats::Late(late) = manner { late } else { Duration::ZERO };
            self.write.due = now + self.write.every + late;
            found.send = !std::mem::take(&mut self.sent) && manner != HeartBeats::Never;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns the seconds of the heart-beats, and of the end, for a client that announced 3 s both ways.
    fn watch(manner: HeartBeats, frames_at: &[u32]) -> (Vec<u32>, Option<u32>) {
        watch_with(3 * SECOND, 3 * SECOND, 3 * SECOND, manner, frames_at)
    }

    fn watch_with(
        read: Duration,
        write: Duration,
        delay: Duration,
        manner: HeartBeats,
        frames_at: &[u32],
    ) -> (Vec<u32>, Option<u32>) {
        let start = Instant::now();
        let mut beat = ServerHeartBeat::new(read, write, delay, start);
        let mut sent = Vec::new();
        for second in 1..=100 {
            let found = beat.check(start + second * SECOND, manner);
            if found.send {
                sent.push(second);
            }
            if found.dead {
                return (sent, Some(second));
            }
            if frames_at.contains(&second) {
                beat.received(false);
            }
        }
        (sent, None)
    }

    #[test]
    fn a_client_silent_from_the_start_is_cut_after_three_intervals() {
        assert_eq!(watch(HeartBeats::OnTime, &[]), (vec![6, 9], Some(9)));
    }

    #[test]
    fn any_byte_keeps_a_client_alive_and_it_is_cut_when_they_end() {
        assert_eq!(watch(HeartBeats::OnTime, &[4, 7, 10]).1, Some(18));
        let always: Vec<_> = (1..=100).collect();
        assert_eq!(watch(HeartBeats::OnTime, &always).1, None);
    }

    #[test]
    fn the_broker_may_be_late_or_never() {
        let always: Vec<_> = (1..=100).collect();
        assert_eq!(watch(HeartBeats::Late(4 * SECOND), &always).0[..3], [10, 17, 24]);
        assert!(watch(HeartBeats::Never, &always).0.is_empty());
    }

    /// Measured at ActiveMQ with its defaults (`protocols.md §3.7`).
    #[test]
    fn openwires_intervals_count_from_the_initial_delay() {
        let seen = watch_with(30 * SECOND, 10 * SECOND, 10 * SECOND, HeartBeats::OnTime, &[]);
        assert_eq!(seen, (vec![20, 30, 40, 50, 60, 70], Some(70)));
    }

    #[test]
    fn zero_is_off() {
        let now = Instant::now();
        let mut beat = ServerHeartBeat::off(now);
        assert_eq!(beat.due(), None);
        assert_eq!(beat.check(now + 100 * SECOND, HeartBeats::OnTime), Checked::default());
        assert_eq!(ServerHeartBeat::new(SECOND, Duration::ZERO, Duration::ZERO, now).due(), Some(now));
    }
}
