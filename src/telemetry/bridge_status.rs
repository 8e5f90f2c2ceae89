//! Collects the state of a whole bridge into one document, for `/status` and the verb `status`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Telemetry;
use super::counters::{SubscriptionCounters, WorkerCounters};
use super::health::Health;
use super::status::PartStatus;
use crate::budget::Shares;

/// The state of a bridge at one moment. It holds names and numbers, but nothing of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BridgeStatus {
    /// The version of the program.
    pub version: String,
    /// When the process started.
    pub started: Timestamp,
    /// Whether `/readyz` says ready.
    pub ready: bool,
    /// Why not, one reason each.
    pub not_ready: Vec<String>,
    /// Memory that events on the way take, in bytes.
    pub in_flight_bytes: u64,
    /// Each part: the source, the sinks, the dead letters, and others.
    pub parts: Vec<PartLine>,
    /// Each queue that is consumed.
    pub queues: Vec<QueueLine>,
}

/// The state of one part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartLine {
    /// Its name, such as `sink kafka`.
    pub part: String,
    /// `ready`, `starting`, `retrying` or `held`.
    pub state: String,
    /// Why it is in this state; empty if it is ready.
    pub reason: String,
    /// For how many seconds it has been in this state, or in trouble.
    pub since_seconds: u64,
    /// In how many seconds it tries again, if that is known.
    pub next_try_seconds: Option<u64>,
}

/// The counts of one queue, in events since the process started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueLine {
    /// The name of the queue.
    pub queue: String,
    /// How far behind the bridge is, as `atdata_bridge_behind_seconds`; `null` if that is unknown.
    pub behind_seconds: Option<f64>,
    /// When the last event was received.
    pub last_received: Option<Timestamp>,
    /// Events received, redelivered ones included.
    pub received: u64,
    /// Events acknowledged.
    pub acknowledged: u64,
    /// Events taken and not acknowledged.
    pub in_flight: u64,
    /// Each sink of this queue; `-` stands for events without a usable key.
    pub sinks: Vec<SinkLine>,
}

/// The counts of one sink, in events since the process started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkLine {
    /// The name of the sink.
    pub sink: String,
    /// Events that the sink is done with.
    pub settled: u64,
    /// Of these, events that it held already.
    pub suppressed: u64,
    /// Events that were handed over once more.
    pub retried: u64,
    /// Of the settled, dead letters by reason.
    pub dead_letters: BTreeMap<String, u64>,
}

/// The parts of a bridge that know its state.
#[derive(Debug)]
pub struct StatusSources {
    telemetry: Arc<Telemetry>,
    health: Health,
    budgets: Shares,
    started: Timestamp,
}

impl StatusSources {
    /// Begins with the present moment as the start of the process.
    pub fn new(telemetry: Arc<Telemetry>, health: Health, budgets: Shares) -> Self {
        let started = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH);
        Self { telemetry, health, budgets, started }
    }

    /// Returns the present state.
    pub fn now(&self) -> BridgeStatus {
        let (now, not_ready) = (Instant::now(), self.health.not_ready());
        let parts = self.telemetry.statuses.shown().into_iter().map(|part| PartLine::of(part, now));
        let queues = self.telemetry.counters.all();
        BridgeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            ready: not_ready.is_empty(),
            not_ready,
            in_flight_bytes: self.budgets.used() as u64,
            parts: parts.collect(),
            queues: queues.iter().map(|(queue, counters)| QueueLine::of(queue, counters)).collect(),
        }
    }
}

impl PartLine {
    fn of(shown: PartStatus, now: Instant) -> Self {
        let since = shown.error_since.unwrap_or(shown.since);
        let next_try = shown.next_try.map(|at| at.saturating_duration_since(now).as_secs());
        Self {
            part: shown.part,
            state: shown.state.word().to_owned(),
            reason: shown.state.reason().to_owned(),
            since_seconds: now.saturating_duration_since(since).as_secs(),
            next_try_seconds: next_try,
        }
    }
}

impl QueueLine {
    fn of(queue: &str, counters: &SubscriptionCounters) -> Self {
        let last = i64::try_from(counters.last_received.get()).ok().filter(|millis| *millis > 0);
        Self {
            queue: queue.to_owned(),
            behind_seconds: counters.behind(),
            last_received: last.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
            received: counters.received.get(),
            acknowledged: counters.acked.get(),
            in_flight: counters.in_flight.get(),
            sinks: counters.workers.all().iter().map(|(sink, worker)| SinkLine::of(sink, worker)).collect(),
        }
    }
}

impl SinkLine {
    fn of(sink: &str, worker: &WorkerCounters) -> Self {
        let dead_letters = worker.dead_lettered.all().into_iter();
        Self {
            sink: sink.to_owned(),
            settled: worker.settled(),
            suppressed: worker.suppressed.get(),
            retried: worker.retried.get(),
            dead_letters: dead_letters.map(|(reason, count)| (reason.to_owned(), count)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::status::Status;
    use super::*;

    #[test]
    fn the_document_says_what_health_and_counters_say() {
        let telemetry = Arc::new(Telemetry::default());
        let sink = telemetry.statuses.reporter("sink file");
        telemetry.statuses.complete();
        let health = Health::new(Arc::clone(&telemetry), None, Shares::default());
        let sources = StatusSources::new(Arc::clone(&telemetry), health.clone(), Shares::default());
        sink.report(Status::Held("no space".to_owned()));
        sink.next_try(Instant::now() + Duration::from_millis(7900));
        let queue = telemetry.counters.get("main.RTO.acme");
        queue.received.add(5);
        queue.workers.get("file").durable.add(3);
        queue.workers.get("file").dead_lettered.add("too_large", 2);
        let status = sources.now();
        assert_eq!((status.ready, &status.not_ready), (false, &health.not_ready()));
        let part = PartLine {
            part: "sink file".to_owned(),
            state: "held".to_owned(),
            reason: "no space".to_owned(),
            since_seconds: 0,
            next_try_seconds: Some(7),
        };
        assert_eq!(status.parts, [part]);
        let [queue] = &status.queues[..] else { panic!("{status:?}") };
        assert_eq!((queue.received, queue.behind_seconds, queue.last_received), (5, None, None));
        assert_eq!((queue.sinks[0].settled, queue.sinks[0].dead_letters["too_large"]), (5, 2));
        sink.report(Status::Ready);
        assert!(sources.now().ready);
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<BridgeStatus>(&json).unwrap(), status);
    }
}
