//! Heart-beats as ActiveMQ keeps them: sent when nothing else was since the last check, and the client is
//! given up when two checks in a row find nothing. Its checks give no grace, so a client that sends exactly
//! as often as it announced loses the race sooner or later.

use std::time::{Duration, Instant};

use super::faults::HeartBeats;

/// What a check found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// A heart-beat is to be sent.
    pub(crate) send: bool,
    /// The client has been silent for too long.
    pub(crate) dead: bool,
}

/// A check and when it is due; never if its interval is zero.
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

/// The heart-beats of one connection; without I/O.
#[derive(Debug)]
pub(crate) struct ServerHeartBeat {
    read: Check,
    write: Check,
    /// Bytes came since the last read check.
    heard: bool,
    /// A whole frame came since the flag was last cleared.
    frame: bool,
    /// Something was sent since the last write check.
    sent: bool,
}

impl ServerHeartBeat {
    /// How often to look whether anything came and whether anything was sent, first after `delay`. In STOMP
    /// these are the client's `heart-beat:cx,cy` and the smaller of the two; in OpenWire the inactivity that
    /// was agreed on, a third of it, and the initial delay.
    pub(crate) fn new(read: Duration, write: Duration, delay: Duration, now: Instant) -> Self {
        let check = |every| Check { every, due: now + delay };
        let (read, write) = (check(read), check(write));
        Self { read, write, heard: true, frame: true, sent: true }
    }

    /// No heart-beats, neither way.
    pub(crate) fn off(now: Instant) -> Self {
        Self::new(Duration::ZERO, Duration::ZERO, Duration::ZERO, now)
    }

    /// Bytes came, perhaps with a whole frame.
    pub(crate) fn received(&mut self, frame: bool) {
        self.heard = true;
        self.frame |= frame;
    }

    /// Bytes were sent.
    pub(crate) fn sent(&mut self) {
        self.sent = true;
    }

    /// When the next check is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let running = [&self.read, &self.write].into_iter().filter(|check| !check.every.is_zero());
        running.map(|check| check.due).min()
    }

    /// Runs the checks that are due.
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

    /// The seconds at which each thing happens to a client that announced 3 s both ways.
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

    /// As measured at ActiveMQ with its defaults (`protocols.md §3.7`).
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
