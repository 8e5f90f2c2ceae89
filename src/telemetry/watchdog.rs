//! Detects loops that do not turn. Each loop leaves a mark at every turn, at least once a second. It does not
//! matter what a loop waits for, only that it keeps checking, so an outage never shows here (D11). A simulation can stop
//! all tasks of a bridge, as a process that is frozen does (D55).

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::counters::Moment;
use super::freezer::Freezer;

/// How often an idle loop turns.
pub const TURN_EVERY: Duration = Duration::from_secs(1);

/// The time without a turn after which a loop is stuck. It is far above the delays of a busy machine, and
/// below the time in which operators want to know.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);

/// The marks of all loops of a bridge.
#[derive(Clone, Debug, Default)]
pub struct Watchdog {
    marks: Arc<Mutex<Vec<Weak<Mark>>>>,
    freezer: Arc<Freezer>,
}

#[derive(Debug)]
struct Mark {
    name: String,
    beat: Moment,
}

/// The mark of one loop. Dropping it ends the watch on that loop.
#[derive(Debug)]
pub struct LoopMark {
    mark: Arc<Mark>,
    freezer: Arc<Freezer>,
}

impl Watchdog {
    /// Creates the mark of the loop `name`.
    pub fn loop_mark(&self, name: impl Into<String>) -> LoopMark {
        let mark = Arc::new(Mark { name: name.into(), beat: Moment::default() });
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&mark));
        let mark = LoopMark { mark, freezer: Arc::clone(&self.freezer) };
        mark.beat();
        mark
    }

    /// Runs a task of the bridge, except while it is frozen.
    pub fn task<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        Arc::clone(&self.freezer).task(work)
    }

    /// Stops all tasks, or lets them go on.
    pub fn freeze(&self, is_frozen: bool) {
        self.freezer.freeze(is_frozen);
    }

    /// Returns the loops that have not turned for `limit`, and for how long.
    pub fn stuck(&self, now: Instant, limit: Duration) -> Vec<(String, Duration)> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.retain(|mark| mark.strong_count() > 0);
        let late = |mark: Arc<Mark>| {
            let silent = now.saturating_duration_since(mark.beat.get()?);
            (silent >= limit).then(|| (mark.name.clone(), silent))
        };
        marks.iter().filter_map(Weak::upgrade).filter_map(late).collect()
    }
}

impl LoopMark {
    /// Notes that the loop has turned.
    pub fn beat(&self) {
        self.mark.beat.set(Some(Instant::now()));
    }

    /// Returns the timer that makes an idle loop turn.
    pub fn turns() -> Interval {
        let mut turns = interval(TURN_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        turns
    }

    /// Marks turns for `work` as long as its task is polled. This is for work without a loop of its own that
    /// waits in many places, each for a bounded time.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> T {
        let freezer = Arc::clone(&self.freezer);
        let turning = async move {
            let mut work = pin!(work);
            let mut turns = Self::turns();
            loop {
                tokio::select! {
                    biased;
                    done = &mut work => return done,
                    _ = turns.tick() => self.beat(),
                }
            }
        };
        freezer.task(turning).await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_loop_is_stuck_when_it_does_not_turn_and_forgotten_when_it_ends() {
        let watchdog = Watchdog::default();
        let (one, other) = (watchdog.loop_mark("one"), watchdog.loop_mark("other"));
        let later = Instant::now() + STUCK_AFTER;
        one.mark.beat.set(Some(later));
        let names = |now| -> Vec<_> {
            watchdog.stuck(now, STUCK_AFTER).into_iter().map(|(name, _)| name).collect::<Vec<String>>()
        };
        assert_eq!(names(Instant::now()), [""; 0]);
        assert_eq!(names(later), ["other"]);
        assert_eq!(names(later + STUCK_AFTER), ["one", "other"]);
        drop(other);
        assert_eq!(names(later + STUCK_AFTER), ["one"]);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_not_being_stuck() {
        let watchdog = Watchdog::default();
        let mark = watchdog.loop_mark("waiting");
        let inner = Arc::clone(&mark.mark);
        inner.beat.set(None);
        let waiting = tokio::spawn(mark.during(pending::<()>()));
        tokio::time::sleep(TURN_EVERY * 3).await;
        assert!(inner.beat.get().is_some(), "it has not turned");
        waiting.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_task_goes_on_with_all_that_has_happened_meanwhile() {
        let watchdog = Watchdog::default();
        let began = tokio::time::Instant::now();
        let waits = async move {
            tokio::time::sleep(TURN_EVERY).await;
            began.elapsed()
        };
        let task = tokio::spawn(watchdog.task(waits));
        tokio::task::yield_now().await;
        watchdog.freeze(true);
        tokio::time::sleep(TURN_EVERY * 5).await;
        assert!(!task.is_finished());
        watchdog.freeze(false);
        assert_eq!(task.await.unwrap().as_secs(), 5);
    }

    /// Liveness must detect work that blocks its thread.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn work_that_blocks_is_stuck_until_it_goes_on() {
        let limit = Duration::from_millis(1500);
        let watchdog = Watchdog::default();
        let (release, blocked) = mpsc::sync_channel::<()>(0);
        let mark = watchdog.loop_mark("blocked");
        let work = tokio::spawn(mark.during(async move {
            blocked.recv().unwrap();
            pending::<()>().await;
        }));
        let until = async |stuck: bool| {
            let look = async {
                while watchdog.stuck(Instant::now(), limit).is_empty() == stuck {
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
