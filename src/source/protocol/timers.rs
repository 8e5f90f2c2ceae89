//! Decides what a session must do without having heard anything: give up on an answer, send a heart-beat,
//! give up on a silent broker, renew a subscription that has long been quiet.

use std::time::Duration;

use tokio::time::Instant;

use super::heart_beat::HeartBeat;
use super::session::SessionMode;
use crate::source::config::SourceSettings;
use crate::source::error::SourceError;

/// The interval between checks when there is nothing to wait for.
const FAR: Duration = Duration::from_secs(3600);

/// What a browser asks the broker for.
const WAITING: &str = "the request to browse the queue";

#[derive(Debug)]
pub struct Timers {
    /// The request that the broker has not answered, and the deadline for the answer.
    asked: Option<(&'static str, Instant)>,
    connect_timeout: Duration,
    browses: bool,
    idle_reconnect: Option<Duration>,
    /// Time of the last message, acknowledgement or answer.
    last_activity: Instant,
    last_tick: Instant,
    /// Heart-beat timers; off until both sides have agreed.
    pub heart: HeartBeat,
}

impl Timers {
    /// Starts with the wait for the answer to `what`.
    pub fn new(settings: &SourceSettings, mode: SessionMode, what: &'static str, now: Instant) -> Self {
        let mut timers = Self {
            asked: None,
            connect_timeout: settings.connect_timeout,
            browses: mode == SessionMode::Browse,
            idle_reconnect: settings.idle_reconnect.filter(|_| mode == SessionMode::Subscribe),
            last_activity: now,
            last_tick: now,
            heart: HeartBeat::off(now),
        };
        timers.ask(what, now);
        timers
    }

    /// Notes that the broker was asked `what`; it has the connect timeout to answer.
    pub fn ask(&mut self, what: &'static str, now: Instant) {
        self.asked = Some((what, now + self.connect_timeout));
    }

    /// Notes that the broker has confirmed the subscription. A browser waits for messages until the broker
    /// says that there are no more.
    pub fn subscribed(&mut self, now: Instant) {
        self.asked = None;
        self.last_activity = now;
        if self.browses {
            self.ask(WAITING, now);
        }
    }

    /// Notes that a message has come, or was acknowledged. A browser waits for the next message.
    pub fn touch(&mut self, now: Instant) {
        self.last_activity = now;
        if self.browses {
            self.ask(WAITING, now);
        }
    }

    /// When to call [`Timers::tick`] next, `other` at the latest. `quiet`: no message is unacknowledged.
    pub fn deadline(&self, quiet: bool, other: Option<Instant>) -> Instant {
        let asked = self.asked.map(|(_, ends)| ends);
        let idle = self.idle_ends(quiet).map(|(ends, _)| ends);
        let deadlines = [asked, self.heart.deadline(), idle, other];
        deadlines.into_iter().flatten().min().unwrap_or(self.last_tick + FAR)
    }

    /// Returns whether a heart-beat must be sent now.
    ///
    /// # Errors
    /// An answer is late, the broker is silent, or has been quiet for so long that the subscription may be
    /// dead.
    pub fn tick(&mut self, now: Instant, quiet: bool) -> Result<bool, SourceError> {
        self.last_tick = now;
        if let Some((what, _)) = self.asked.filter(|(_, ends)| now >= *ends) {
            return Err(SourceError::Timeout { what, seconds: self.connect_timeout.as_secs() });
        }
        if let Some(silence) = self.heart.silent_for(now) {
            return Err(SourceError::Silent(silence.as_secs()));
        }
        if let Some((_, allowed)) = self.idle_ends(quiet).filter(|(ends, _)| now >= *ends) {
            return Err(SourceError::Idle(allowed.as_secs()));
        }
        Ok(self.heart.is_due(now))
    }

    fn idle_ends(&self, quiet: bool) -> Option<(Instant, Duration)> {
        let allowed = self.idle_reconnect.filter(|_| quiet && self.asked.is_none())?;
        Some((self.last_activity + allowed, allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::settings;

    #[test]
    fn a_browser_gives_up_when_no_message_has_come_for_the_connect_timeout() {
        let start = Instant::now();
        let settings = settings();
        let mut timers = Timers::new(&settings, SessionMode::Browse, "the login", start);
        timers.subscribed(start);
        timers.touch(start + settings.connect_timeout / 2);
        assert!(!timers.tick(start + settings.connect_timeout, true).unwrap());
        let late = timers.tick(start + settings.connect_timeout * 2, true).unwrap_err();
        assert_eq!(late.to_string(), "the broker did not answer the request to browse the queue within 10 s");
    }

    #[test]
    fn with_nothing_to_wait_for_it_does_not_spin() {
        let mut now = Instant::now();
        let settings = SourceSettings { idle_reconnect: None, ..settings() };
        let mut timers = Timers::new(&settings, SessionMode::Subscribe, "the login", now);
        timers.subscribed(now);
        for _ in 0..3 {
            let deadline = timers.deadline(true, None);
            assert!(deadline > now);
            now = deadline;
            assert!(!timers.tick(now, true).unwrap());
        }
    }
}
