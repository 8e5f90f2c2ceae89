//! Decides when to send a heart-beat, and when the broker has been silent for too long.

use std::time::Duration;

use tokio::time::Instant;

/// The heart-beat timers of one connection.
#[derive(Debug)]
pub struct HeartBeat {
    send_every: Option<Duration>,
    silence: Option<Duration>,
    sent: Instant,
    heard: Instant,
    reading: bool,
}

impl HeartBeat {
    /// Switches heart-beats off in both directions.
    pub fn off(now: Instant) -> Self {
        Self { send_every: None, silence: None, sent: now, heard: now, reading: true }
    }

    /// Uses STOMP's rules: we promised a byte every `ours`, the broker promised one every `theirs`; `None` is
    /// no promise. We send at half the interval, since ActiveMQ gives no grace by default. We give up after
    /// twice the interval, since the gap between the broker's bytes can reach twice the interval
    /// (`protocols.md §1.8`).
    pub fn with_intervals(now: Instant, ours: Option<Duration>, theirs: Option<Duration>) -> Self {
        let send_every = ours.map(|every| every / 2);
        Self { send_every, silence: theirs.map(twice), ..Self::off(now) }
    }

    /// Uses OpenWire's rules: both sides have agreed to treat the other as dead after `inactivity`. We send
    /// at a third of it, as the broker does. We give up after twice the time: the broker does not give up
    /// earlier either. But we wait at least until its first beat is due, a third after the agreed `delay`
    /// (`protocols.md §3.7`).
    pub fn with_inactivity(now: Instant, inactivity: Duration, delay: Duration) -> Self {
        let silence = twice(inactivity).max(delay + inactivity);
        Self { send_every: Some(inactivity / 3), silence: Some(silence), ..Self::off(now) }
    }

    /// Returns how long the broker may be silent; `None` if it has not promised to send anything.
    pub fn silence(&self) -> Option<Duration> {
        self.silence
    }

    /// Notes that bytes were sent.
    pub fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// Notes that bytes were received.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Notes that reading has stopped or started again. Silence while not reading does not count against the
    /// broker.
    pub fn reading(&mut self, now: Instant, reading: bool) {
        if reading && !self.reading {
            self.heard = now;
        }
        self.reading = reading;
    }

    /// Whether a heart-beat must be sent now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.send_every.is_some_and(|every| now >= self.sent + every)
    }

    /// Returns how long the broker has been silent, if that is too long.
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        let allowed = self.silence.filter(|_| self.reading)?;
        let silent = now.saturating_duration_since(self.heard);
        (silent >= allowed).then_some(silent)
    }

    /// When to check again, if anything is due.
    pub fn deadline(&self) -> Option<Instant> {
        let send = self.send_every.map(|every| self.sent + every);
        let judge = self.silence.filter(|_| self.reading).map(|allowed| self.heard + allowed);
        send.into_iter().chain(judge).min()
    }
}

/// Twice the interval, plus a margin for the network.
fn twice(interval: Duration) -> Duration {
    interval * 2 + (interval / 4).min(Duration::from_secs(5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::config::SourceConfig;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn beats_at_half_and_judges_beyond_twice() {
        let start = Instant::now();
        let mut heart = HeartBeat::with_intervals(start, Some(SECOND * 20), Some(SECOND * 10));
        assert_eq!(heart.deadline(), Some(start + SECOND * 10));
        assert!(!heart.is_due(start + SECOND * 9));
        assert!(heart.is_due(start + SECOND * 10));
        heart.sent(start + SECOND * 15);
        assert_eq!(heart.silent_for(start + SECOND * 20), None);
        assert_eq!(heart.silent_for(start + SECOND * 23), Some(SECOND * 23));
        heart.heard(start + SECOND * 23);
        assert_eq!(heart.silent_for(start + SECOND * 40), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_inactivity_is_filled_in_thirds_and_judged_beyond_twice() {
        let start = Instant::now();
        let mut heart = HeartBeat::with_inactivity(start, SECOND * 30, SECOND * 10);
        assert_eq!(heart.deadline(), Some(start + SECOND * 10));
        heart.sent(start + SECOND * 60);
        assert_eq!(heart.silent_for(start + SECOND * 64), None);
        assert_eq!(heart.silent_for(start + SECOND * 65), Some(SECOND * 65));

        // With these settings the broker's first beat comes after eleven seconds.
        let heart = HeartBeat::with_inactivity(start, SECOND * 3, SECOND * 10);
        assert_eq!(heart.silent_for(start + SECOND * 12), None);
        assert_eq!(heart.silent_for(start + SECOND * 13), Some(SECOND * 13));
    }

    /// Until then the bridge says that it is ready.
    #[tokio::test(start_paused = true)]
    async fn by_default_a_silent_broker_is_found_within_half_a_minute() {
        let (start, every) = (Instant::now(), SourceConfig::default().heart_beat.0);
        let stomp = HeartBeat::with_intervals(start, Some(every), Some(every));
        let openwire = HeartBeat::with_inactivity(start, every, every);
        for heart in [stomp, openwire] {
            assert!(heart.silence() <= Some(SECOND * 30), "{:?}", heart.silence());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_while_not_reading_proves_nothing() {
        let start = Instant::now();
        let mut heart = HeartBeat::with_intervals(start, None, Some(SECOND));
        heart.reading(start, false);
        assert_eq!(heart.silent_for(start + SECOND * 100), None);
        assert_eq!(heart.deadline(), None);
        heart.reading(start + SECOND * 100, true);
        assert_eq!(heart.silent_for(start + SECOND * 101), None);
        assert!(heart.silent_for(start + SECOND * 103).is_some());
    }
}
