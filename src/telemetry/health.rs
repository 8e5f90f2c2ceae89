//! Readiness and liveness, from progress and not from sockets (D11).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Telemetry;
use super::pulse::STUCK_AFTER;

/// Looks at a bridge.
#[derive(Clone, Debug)]
pub struct Health {
    telemetry: Arc<Telemetry>,
    max_age: Option<Duration>,
}

impl Health {
    /// Not ready, too, while an event is un-acked that is older than `max_age`.
    pub fn new(telemetry: Arc<Telemetry>, max_age: Option<Duration>) -> Self {
        Self { telemetry, max_age }
    }

    /// Why the bridge is not ready, one reason a line: part, state, reason. Empty when it is.
    pub fn not_ready(&self) -> Vec<String> {
        let states = &self.telemetry.states;
        let starting = (!states.are_complete()).then(|| "bridge: starting".to_owned());
        let parts = states.all().into_iter().filter(|(_, state, _)| !state.is_ready());
        let parts = parts.map(|(part, state, _)| format!("{part}: {}: {}", state.word(), state.reason()));
        let lines = starting.into_iter().chain(parts).chain(self.old_events());
        lines.map(|line| line.replace(['\r', '\n'], " ")).collect()
    }

    /// Which loops do not turn, and for how long, one a line. Empty while the bridge lives.
    pub fn stuck(&self) -> Vec<String> {
        let stuck = self.telemetry.pulses.stuck(Instant::now(), STUCK_AFTER);
        stuck
            .into_iter()
            .map(|(name, silent)| format!("{name}: no turn for {} s", silent.as_secs()))
            .collect()
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
        self.telemetry.counters.subscriptions().into_iter().filter_map(old).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::states::State;
    use super::*;

    #[test]
    fn ready_is_said_once_every_part_is_there_and_ready() {
        let telemetry = Arc::new(Telemetry::default());
        let health = Health::new(Arc::clone(&telemetry), None);
        assert_eq!(health.not_ready(), ["bridge: starting"]);
        let sink = telemetry.states.reporter("sink file");
        telemetry.states.complete();
        assert_eq!(health.not_ready(), ["sink file: starting: not started"]);
        sink.report(State::Held("no space:\nmake room".to_owned()));
        assert_eq!(health.not_ready(), ["sink file: held: no space: make room"]);
        sink.report(State::Ready);
        assert!(health.not_ready().is_empty());
    }

    #[test]
    fn an_old_event_makes_a_bridge_unready_and_never_dead() {
        let telemetry = Arc::new(Telemetry::default());
        telemetry.states.complete();
        let health = Health::new(Arc::clone(&telemetry), Some(Duration::ZERO));
        let subscription = telemetry.counters.subscription("main.RTO.acme");
        assert!(health.not_ready().is_empty());
        subscription.oldest.set(Some(Instant::now()));
        let expected = "events of main.RTO.acme: the oldest has not been acknowledged for 0 s";
        assert_eq!(health.not_ready(), [expected]);
        assert!(Health::new(Arc::clone(&telemetry), None).not_ready().is_empty());
        assert!(health.stuck().is_empty());
        subscription.oldest.set(None);
        assert!(health.not_ready().is_empty());
    }
}
