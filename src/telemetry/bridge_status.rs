//! Collects the state of a whole bridge into one document, for `/status` and the verb `status`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Telemetry;
use super::counters::{SubscriptionCounters, WorkerCounters};
use super::health::Health;
use super::history::{Measure, SeriesName};
use super::status::PartStatus;
use crate::budget::Shares;

/// The state of a bridge at one moment. It holds names and numbers, but nothing of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BridgeStatus {
    /// The version of the program.
    pub version: String,
    /// When the process started, by the clock of its machine.
    pub started: Timestamp,
    /// Whether `/readyz` answers that the bridge is ready.
    pub ready: bool,
    /// Why not, one reason each.
    pub not_ready: Vec<String>,
    /// Memory that events on the way take, in bytes.
    pub in_flight_bytes: u64,
    /// The most that they may take: `source.max_in_flight`.
    pub in_flight_bytes_limit: u64,
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
    /// The connection id with which the bridge subscribes, which tells replicas apart.
    pub connection_id: String,
    /// Whether it is subscribed now.
    pub subscribed: bool,
    /// With `ordering = "strict"`, while it is subscribed: `active`, or `standby` as long as it has received nothing
    /// in this session. The broker does not tell which one it is.
    pub replica: Option<String>,
    /// Sessions that were begun, the first one included.
    pub sessions: u64,
    /// Sessions that ended or could not begin, by cause.
    pub reconnects: BTreeMap<String, u64>,
    /// How far behind the bridge is, as `atdata_bridge_behind_seconds`; `null` if that is unknown.
    pub behind_seconds: Option<f64>,
    /// When the last event was received.
    pub last_received: Option<Timestamp>,
    /// Events received, redelivered ones included.
    pub received: u64,
    /// Events received per second, in the last five seconds; `null` in the first ones.
    pub received_per_second: Option<f64>,
    /// Events acknowledged to the broker.
    pub acknowledged: u64,
    /// Events taken and not acknowledged.
    pub in_flight: u64,
    /// The most of them: `source.prefetch`.
    pub in_flight_limit: u64,
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
    /// Of these per second, in the last five seconds; `null` in the first ones.
    pub settled_per_second: Option<f64>,
    /// Of these, events that it held already.
    pub suppressed: u64,
    /// Events that were handed over once more.
    pub retried: u64,
    /// Of the settled, dead letters by reason.
    pub dead_letters: BTreeMap<String, DeadLetterCount>,
}

/// The dead letters of one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterCount {
    /// How many there are since the process started.
    pub count: u64,
    /// The message id of the newest one.
    pub newest: String,
}

/// A subscription, as far as its settings say how its counts are to be read.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionInfo {
    /// The id of the connection to the broker.
    pub connection_id: String,
    /// The most events that may be in flight.
    pub prefetch: u32,
    /// Whether of several replicas only one gets events.
    pub is_strict: bool,
}

/// The parts of a bridge that know its state.
#[derive(Debug)]
pub struct StatusSources {
    telemetry: Arc<Telemetry>,
    health: Health,
    budgets: Shares,
    /// The settings of each subscription, by the name of its queue.
    subscriptions: BTreeMap<String, SubscriptionInfo>,
    started: Timestamp,
}

impl StatusSources {
    /// Begins with the present moment as the start of the process. The subscriptions are named by their queues.
    pub fn new(
        telemetry: Arc<Telemetry>,
        health: Health,
        budgets: Shares,
        subscriptions: BTreeMap<String, SubscriptionInfo>,
    ) -> Self {
        let started = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH);
        Self { telemetry, health, budgets, subscriptions, started }
    }

    /// The bridge that they belong to.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Returns the state at this moment.
    pub fn now(&self) -> BridgeStatus {
        let (now, not_ready) = (Instant::now(), self.health.not_ready());
        let parts = self.telemetry.statuses.shown().into_iter().map(|part| PartLine::of(part, now));
        let queues = self.telemetry.counters.all();
        let limits = self.budgets.all().iter().map(|(_, budget)| budget.limit() as u64);
        BridgeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            ready: not_ready.is_empty(),
            not_ready,
            in_flight_bytes: self.budgets.used() as u64,
            in_flight_bytes_limit: limits.sum(),
            parts: parts.collect(),
            queues: queues.iter().map(|(queue, counters)| self.queue(queue, counters)).collect(),
        }
    }

    fn queue(&self, queue: &str, counters: &SubscriptionCounters) -> QueueLine {
        let last = i64::try_from(counters.last_received.get()).ok().filter(|millis| *millis > 0);
        let SubscriptionInfo { connection_id, prefetch, is_strict } =
            self.subscriptions.get(queue).cloned().unwrap_or_default();
        let subscribed = counters.is_subscribed.get() > 0;
        let replica = if counters.taken.get() > 0 { "active" } else { "standby" };
        let reconnects = counters.reconnects.all().into_iter();
        let sinks = counters.workers.all();
        QueueLine {
            queue: queue.to_owned(),
            connection_id,
            subscribed,
            replica: (is_strict && subscribed).then(|| replica.to_owned()),
            sessions: counters.sessions.get(),
            reconnects: reconnects.map(|(cause, count)| (cause.to_owned(), count)).collect(),
            behind_seconds: counters.behind(),
            last_received: last.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
            received: counters.received.get(),
            received_per_second: self.last(queue, None, Measure::Received),
            acknowledged: counters.acked.get(),
            in_flight: counters.in_flight.get(),
            in_flight_limit: prefetch.into(),
            sinks: sinks.iter().map(|(sink, worker)| self.sink(queue, sink, worker)).collect(),
        }
    }

    fn sink(&self, queue: &str, sink: &str, worker: &WorkerCounters) -> SinkLine {
        let dead_letters = worker.dead_lettered.all().into_iter().map(|(reason, count)| {
            let newest = worker.newest_dead_letters.get(reason).unwrap_or_default();
            (reason.to_owned(), DeadLetterCount { count, newest })
        });
        SinkLine {
            sink: sink.to_owned(),
            settled: worker.settled(),
            settled_per_second: self.last(queue, Some(sink), Measure::Settled),
            suppressed: worker.suppressed.get(),
            retried: worker.retried.get(),
            dead_letters: dead_letters.collect(),
        }
    }

    fn last(&self, queue: &str, sink: Option<&str>, measure: Measure) -> Option<f64> {
        let name = SeriesName { queue: queue.to_owned(), sink: sink.map(str::to_owned), measure };
        self.telemetry.history.last(&name)
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
        let budgets = Shares::new(1000, &["main.RTO.acme".to_owned()]);
        let subscription =
            SubscriptionInfo { connection_id: "acme-main-1".to_owned(), prefetch: 50, is_strict: true };
        let subscriptions = BTreeMap::from([("main.RTO.acme".to_owned(), subscription)]);
        let sources = StatusSources::new(Arc::clone(&telemetry), health.clone(), budgets, subscriptions);
        sink.report(Status::Held("no space".to_owned()));
        sink.next_try(Instant::now() + Duration::from_millis(7900));
        let queue = telemetry.counters.get("main.RTO.acme");
        queue.received.add(5);
        queue.workers.get("file").durable.add(3);
        queue.workers.get("file").dead_lettered.add("too_large", 2);
        queue.workers.get("file").newest_dead_letters.set("too_large", "ID:1".to_owned());
        queue.reconnects.add("closed", 2);
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
        assert_eq!(
            (queue.received_per_second, queue.in_flight_limit, queue.reconnects["closed"]),
            (None, 50, 2)
        );
        assert_eq!((&*queue.connection_id, queue.subscribed, &queue.replica), ("acme-main-1", false, &None));
        let letters = DeadLetterCount { count: 2, newest: "ID:1".to_owned() };
        assert_eq!((queue.sinks[0].settled, &queue.sinks[0].dead_letters["too_large"]), (5, &letters));
        assert_eq!((status.in_flight_bytes, status.in_flight_bytes_limit), (0, 1000));
        sink.report(Status::Ready);
        assert!(sources.now().ready);
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<BridgeStatus>(&json).unwrap(), status);
    }

    #[test]
    fn of_strict_replicas_the_one_that_gets_events_is_active() {
        let telemetry = Arc::new(Telemetry::default());
        let health = Health::new(Arc::clone(&telemetry), None, Shares::default());
        let replica = |is_strict| {
            let subscription = SubscriptionInfo { is_strict, ..SubscriptionInfo::default() };
            let subscriptions = BTreeMap::from([("q".to_owned(), subscription)]);
            let (telemetry, health) = (Arc::clone(&telemetry), health.clone());
            let status = StatusSources::new(telemetry, health, Shares::default(), subscriptions).now();
            status.queues[0].replica.clone()
        };
        let counters = telemetry.counters.get("q");
        assert_eq!(replica(true), None, "not subscribed");
        counters.is_subscribed.set(1);
        assert_eq!(replica(true).as_deref(), Some("standby"));
        counters.taken.set(1);
        assert_eq!((replica(true).as_deref(), replica(false)), (Some("active"), None));
    }
}
