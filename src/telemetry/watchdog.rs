//! Whether the loops turn: each leaves a mark at every turn, and makes one at least once a second. What a
//! loop waits for does not matter, only that it goes on looking: an outage never shows here (D11).

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::counters::Moment;

/// How often a loop that has nothing to do turns.
pub const TURN_EVERY: Duration = Duration::from_secs(1);

/// A loop that has not turned for so long is stuck. Far above what a busy machine costs, and below the
/// time in which anybody would want to know.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);

/// All loops of a bridge.
#[derive(Clone, Debug, Default)]
pub struct Watchdog(Arc<Mutex<Vec<Weak<Mark>>>>);

#[derive(Debug)]
struct Mark {
    name: String,
    beat: Moment,
}

/// One loop's mark; a loop that has ended drops it.
#[derive(Debug)]
pub struct LoopMark(Arc<Mark>);

impl Watchdog {
    /// The mark of the loop `name`.
    pub fn pulse(&self, name: impl Into<String>) -> LoopMark {
        let pulse = LoopMark(Arc::new(Mark { name: name.into(), beat: Moment::default() }));
        pulse.beat();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&pulse.0));
        pulse
    }

    /// The loops that have not turned for `limit`, and for how long.
    pub fn stuck(&self, now: Instant, limit: Duration) -> Vec<(String, Duration)> {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.retain(|mark| mark.strong_count() > 0);
        let late = |mark: Arc<Mark>| {
            let silent = now.saturating_duration_since(mark.beat.get()?);
            (silent >= limit).then(|| (mark.name.clone(), silent))
        };
        marks.iter().filter_map(Weak::upgrade).filter_map(late).collect()
    }
}

impl LoopMark {
    /// The loop has turned.
    pub fn beat(&self) {
        self.0.beat.set(Some(Instant::now()));
    }

    /// What makes an idle loop turn.
    pub fn turns() -> Interval {
        let mut turns = interval(TURN_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        turns
    }

    /// Beats for `work` as long as its task is polled: for work without a loop of its own, which waits in
    /// many places, each bounded.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut turns = Self::turns();
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = turns.tick() => self.beat(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_loop_is_stuck_when_it_does_not_turn_and_forgotten_when_it_ends() {
        let pulses = Watchdog::default();
        let (one, other) = (pulses.pulse("one"), pulses.pulse("other"));
        let later = Instant::now() + STUCK_AFTER;
        one.0.beat.set(Some(later));
        let names = |now| -> Vec<_> {
            pulses.stuck(now, STUCK_AFTER).into_iter().map(|(name, _)| name).collect::<Vec<String>>()
        };
        assert_eq!(names(Instant::now()), [""; 0]);
        assert_eq!(names(later), ["other"]);
        assert_eq!(names(later + STUCK_AFTER), ["one", "other"]);
        drop(other);
        assert_eq!(names(later + STUCK_AFTER), ["one"]);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_not_being_stuck() {
        let pulses = Watchdog::default();
        let pulse = pulses.pulse("waiting");
        let mark = Arc::clone(&pulse.0);
        mark.beat.set(None);
        let waiting = tokio::spawn(pulse.during(pending::<()>()));
        tokio::time::sleep(TURN_EVERY * 3).await;
        assert!(mark.beat.get().is_some(), "it has not beaten");
        waiting.abort();
    }

    /// Work that blocks its thread is what liveness is about.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn work_that_blocks_is_stuck_until_it_goes_on() {
        let limit = Duration::from_millis(1500);
        let pulses = Watchdog::default();
        let (release, blocked) = mpsc::sync_channel::<()>(0);
        let pulse = pulses.pulse("blocked");
        let work = tokio::spawn(pulse.during(async move {
            blocked.recv().unwrap();
            pending::<()>().await;
        }));
        let until = async |stuck: bool| {
            let look = async {
                while pulses.stuck(Instant::now(), limit).is_empty() == stuck {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(STUCK_AFTER, look).await.unwrap();
        };
        until(true).await;
        release.send(()).unwrap();
        until(false).await;
        work.abort();
    }
}
