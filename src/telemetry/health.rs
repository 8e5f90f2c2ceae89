//! Computes readiness and liveness from progress, not from open sockets (D11).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Telemetry;
use super::status::{Lasting, PartStatus};
use super::watchdog::STUCK_AFTER;
use crate::budget::{Budget, Shares};
use crate::units::Size;

/// Reports the readiness and liveness of a bridge.
#[derive(Clone, Debug)]
pub struct Health {
    telemetry: Arc<Telemetry>,
    max_age: Option<Duration>,
    budgets: Shares,
}

/// A budget that has been full for so long blocks its subscription: no event that it read became durable
/// meanwhile.
const FULL_AFTER: Duration = Duration::from_secs(5);

impl Health {
    /// Creates the check. The bridge is also not ready while an un-acked event is older than `max_age`, or
    /// while a budget has no memory left.
    pub fn new(telemetry: Arc<Telemetry>, max_age: Option<Duration>, budgets: Shares) -> Self {
        Self { telemetry, max_age, budgets }
    }

    /// Returns why the bridge is not ready, one reason a line: part, state, reason. Empty if it is ready.
    pub fn not_ready(&self) -> Vec<String> {
        let states = &self.telemetry.statuses;
        let starting = (!states.are_complete()).then(|| "bridge: starting".to_owned());
        let now = Instant::now();
        let parts = states.shown().into_iter().filter(|shown| !shown.state.is_ready());
        starting
            .into_iter()
            .chain(parts.map(|shown| line(&shown, now)))
            .chain(self.old_events())
            .chain(self.full_budgets(now, FULL_AFTER))
            .collect()
    }

    /// Returns the loops that do not turn, and for how long, one a line. Empty if all loops turn.
    pub fn stuck(&self) -> Vec<String> {
        let stuck = self.telemetry.watchdog.stuck(Instant::now(), STUCK_AFTER);
        stuck
            .into_iter()
            .map(|(name, silent)| format!("{name}: no turn for {} s", silent.as_secs()))
            .collect()
    }

    fn full_budgets(&self, now: Instant, after: Duration) -> Vec<String> {
        let full = |(queue, budget): &(String, Budget)| {
            let lasts = now.saturating_duration_since(budget.full_since()?);
            (lasts >= after).then(|| {
                format!(
                    "events of {queue}: those on the way take all of their share of source.max_in_flight, \
                     {}: nothing more is read until a sink settles some (for {})",
                    Size(budget.limit() as u64),
                    Lasting(lasts)
                )
            })
        };
        self.budgets.all().iter().filter_map(full).collect()
    }

    fn old_events(&self) -> Vec<String> {
        let Some(max_age) = self.max_age else {
            return Vec::new();
        };
        let now = Instant::now();
        let old = |(queue, counters): (String, Arc<super::counters::SubscriptionCounters>)| {
            let age = now.saturating_duration_since(counters.oldest.get()?);
            (age > max_age).then(|| {
                format!("events of {queue}: the oldest has not been acknowledged for {} s", age.as_secs())
            })
        };
        self.telemetry.counters.all().into_iter().filter_map(old).collect()
    }
}

/// Formats one part, such as `sink kafka: held: there is no topic x (for 4m12s, next try in 7s)`.
fn line(shown: &PartStatus, now: Instant) -> String {
    let since = shown.error_since.unwrap_or(shown.since);
    let lasts = Lasting(now.saturating_duration_since(since));
    let next = shown.next_try.map(|at| at.saturating_duration_since(now)).filter(|wait| !wait.is_zero());
    // Show a wait of less than a second as "1s", not as "0s".
    let next = next.map(|wait| format!(", next try in {}", Lasting(wait.max(Duration::from_secs(1)))));
    let (part, word, reason) = (&shown.part, shown.state.word(), shown.state.reason());
    format!("{part}: {word}: {reason} (for {lasts}{})", next.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::status::Status;
    use super::*;

    #[test]
    fn ready_is_said_once_every_part_is_there_and_ready() {
        let telemetry = Arc::new(Telemetry::default());
        let health = Health::new(Arc::clone(&telemetry), None, Shares::default());
        assert_eq!(health.not_ready(), ["bridge: starting"]);
        let sink = telemetry.statuses.reporter("sink file");
        telemetry.statuses.complete();
        assert_eq!(health.not_ready(), ["sink file: starting: not started (for 0s)"]);
        sink.report(Status::Held("no space:\nmake room".to_owned()));
        assert_eq!(health.not_ready(), ["sink file: held: no space:\\nmake room (for 0s)"]);
        sink.next_try(Instant::now() + Duration::from_millis(7900));
        let expected = "sink file: held: no space:\\nmake room (for 0s, next try in 7s)";
        assert_eq!(health.not_ready(), [expected]);
        sink.report(Status::Ready);
        assert!(health.not_ready().is_empty());
    }

    #[test]
    fn a_budget_without_room_is_told_by_its_queue() {
        let budgets = Shares::new(2 << 20, &["main.RTO.acme".to_owned(), "other".to_owned()]);
        let health = Health::new(Arc::default(), None, budgets.clone());
        let _pinned = budgets.all()[0].1.freeze(Vec::with_capacity(1 << 20));
        assert_eq!(health.full_budgets(Instant::now(), Duration::from_secs(60)), [""; 0]);
        let told = health.full_budgets(Instant::now(), Duration::ZERO);
        let expected = "events of main.RTO.acme: those on the way take all of their share of source.max_in_flight, 1MiB:";
        assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?}");
    }

    #[test]
    fn an_old_event_makes_a_bridge_unready_and_never_dead() {
        let telemetry = Arc::new(Telemetry::default());
        telemetry.statuses.complete();
        let health = Health::new(Arc::clone(&telemetry), Some(Duration::ZERO), Shares::default());
        let subscription = telemetry.counters.get("main.RTO.acme");
        assert!(health.not_ready().is_empty());
        subscription.oldest.set(Some(Instant::now()));
        let expected = "events of main.RTO.acme: the oldest has not been acknowledged for 0 s";
        assert_eq!(health.not_ready(), [expected]);
        assert!(Health::new(Arc::clone(&telemetry), None, Shares::default()).not_ready().is_empty());
        assert!(health.stuck().is_empty());
        subscription.oldest.set(None);
        assert!(health.not_ready().is_empty());
    }
}
