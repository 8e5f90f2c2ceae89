//! Provides what the cases share: the servers, processes that are killed and started again, load, and the audit
//! of a sink.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use kit::admin::Admin;
use kit::any_kafka::AnyKafka;
use kit::bridge::{Bridge, Setup};
use kit::broker::{Broker, Version, shared};
use kit::events::Events;
use kit::kafka::Kafka;
use kit::nats::NatsServer;
use kit::output::Tally;
pub use kit::scenario::PATIENCE;
use kit::scenario::{counts, drain, publish_while};
use kit::stored::{Stored, each_in_stream, each_in_topic};
use kit::three::Sinks;
use kit::wait_until;

use crate::findings::Audit;
use crate::round::WAITING;

/// The servers that cases share. A case that stops one starts its own.
pub struct Servers {
    pub kafka: AnyKafka,
    pub nats: NatsServer,
}

impl Servers {
    pub fn start() -> Self {
        Self { kafka: AnyKafka::start(), nats: NatsServer::start("") }
    }

    pub fn real_kafka(&self) -> &Kafka {
        match &self.kafka {
            AnyKafka::Real(kafka) => kafka,
            AnyKafka::Mock(_) => panic!("a mock cluster proves nothing"),
        }
    }
}

/// Where one case runs: its servers and its names.
pub struct Stage<'a> {
    pub servers: &'a Servers,
    pub version: Version,
    /// The namespace. No other case has it.
    pub name: String,
    /// How long a process is frozen.
    pub frozen: Duration,
    pub random: Rng,
}

impl Stage<'_> {
    pub fn broker(&self) -> &'static Broker {
        shared(self.version)
    }

    pub async fn sinks(&self) -> Sinks<'_> {
        Sinks::make(self.version, &self.name, &self.servers.kafka, &self.servers.nats).await
    }
}

/// A sink of [`Sinks::setup`].
#[derive(Clone, Copy)]
pub struct Sink {
    /// The name in the document.
    pub name: &'static str,
    /// The name in the configuration.
    option: &'static str,
}

pub const KAFKA: Sink = Sink { name: "Kafka", option: "kafka" };
pub const JETSTREAM: Sink = Sink { name: "JetStream", option: "nats" };
pub const FILES: Sink = Sink { name: "files", option: "file" };

/// What the audit of one sink found, and how many doubles are expected in it.
pub struct Row {
    pub sink: &'static str,
    pub expected: RangeInclusive<u64>,
    pub events: u64,
    /// How many events came again that the sink had, as far as a process that could be asked has counted them.
    pub came_again: u64,
    pub audit: Audit,
}

impl Row {
    /// The result of these processes, which mirrored the first `events` events.
    pub fn new<'a>(
        sink: Sink,
        expected: RangeInclusive<u64>,
        events: u64,
        processes: impl IntoIterator<Item = &'a Process>,
        tally: &Tally,
    ) -> Self {
        let came_again = processes.into_iter().map(|process| process.came_again(sink)).sum();
        Self { sink: sink.name, expected, events, came_again, audit: Audit::of(tally) }
    }
}

/// One bridge that is started again and again with the same ids, with each of its settings in turn.
pub struct Process {
    setups: [Setup; 2],
    queue: String,
    starts: usize,
    bridge: Option<Bridge>,
    came_again: BTreeMap<&'static str, u64>,
}

impl Process {
    /// A bridge of this queue that does not run yet.
    pub fn new(setups: [Setup; 2], queue: &str) -> Self {
        Self { setups, queue: queue.to_owned(), starts: 0, bridge: None, came_again: BTreeMap::new() }
    }

    pub fn start(&mut self) {
        assert!(self.bridge.is_none(), "it runs");
        self.bridge = Some(self.setups[self.starts % 2].start());
        self.starts += 1;
    }

    /// The running process.
    pub fn bridge(&mut self) -> &mut Bridge {
        self.bridge.as_mut().expect("a process")
    }

    /// Kills the process (SIGKILL) at a random moment soon.
    pub async fn kill(&mut self, random: &mut Rng) {
        self.count().await;
        tokio::time::sleep(Duration::from_micros(random.u64(..3000))).await;
        self.bridge.take().expect("a process").kill();
    }

    /// Stops the process (SIGTERM), which must settle what it has taken.
    pub async fn stop(&mut self) {
        self.count().await;
        drain(self.bridge.take().expect("a process")).await;
    }

    /// Adds what the process has counted so far, which dies with it.
    async fn count(&mut self) {
        let metrics = Admin::of(self.bridge()).await.metrics().await;
        for Sink { option, .. } in [KAFKA, JETSTREAM, FILES] {
            let sample =
                format!(r#"atdata_bridge_events_suppressed_total{{queue="{}",sink="{option}"}}"#, self.queue);
            *self.came_again.entry(option).or_default() += metrics.find(&sample).unwrap_or_default() as u64;
        }
    }

    fn came_again(&self, sink: Sink) -> u64 {
        self.came_again.get(sink.option).copied().unwrap_or_default()
    }

    /// The directory of its files.
    pub fn files(&self) -> &Path {
        self.setups[0].files()
    }
}

/// Publishes events, so that some always wait in the queue, while `action` runs. Returns how many, and what the
/// action returns.
pub async fn under_load<T>(
    broker: &Broker,
    namespace: &str,
    queue: &str,
    action: impl Future<Output = T>,
) -> (u64, T) {
    let over = Cell::new(false);
    let acting = async {
        let result = action.await;
        over.set(true);
        result
    };
    tokio::join!(publish_while(broker, namespace, queue, Events::good(u64::MAX), WAITING, &over), acting)
}

/// Waits until `more` events of the queue are acknowledged.
pub async fn acknowledged(broker: &Broker, queue: &str, more: u64) {
    let enough = counts(broker, queue).dequeued + more;
    let what = format!("{more} more events of {queue} are acknowledged");
    wait_until(&what, PATIENCE, || counts(broker, queue).dequeued >= enough).await;
}

/// Removes the files from the sinks.
pub fn without_files(setup: Setup) -> Setup {
    ["DIRECTORY", "NAME", "FORMAT"]
        .into_iter()
        .fold(setup, |setup, option| setup.unset(&format!("SINKS__FILE__{option}")))
}

/// Removes all sinks but Kafka.
pub fn only_kafka(setup: Setup) -> Setup {
    ["URL", "STREAM", "SUBJECT"]
        .into_iter()
        .fold(without_files(setup), |setup, option| setup.unset(&format!("SINKS__NATS__{option}")))
}

/// Removes all sinks but the files.
pub fn only_files(setup: Setup) -> Setup {
    let sinks = ["KAFKA__BROKERS", "KAFKA__TOPIC", "NATS__URL", "NATS__STREAM", "NATS__SUBJECT"];
    sinks.into_iter().fold(setup, |setup, option| setup.unset(&format!("SINKS__{option}")))
}

/// Counts the events of the queue in the topic.
pub fn in_topic(sinks: &Sinks<'_>, queue: &str, tally: Tally) -> Tally {
    let mut tally = tally;
    tokio::task::block_in_place(|| {
        each_in_topic(&sinks.kafka.bootstrap(), &sinks.name, |stored| count(&mut tally, queue, stored));
    });
    tally
}

/// Counts the events of the queue in the stream.
pub async fn in_stream(sinks: &Sinks<'_>, queue: &str, tally: Tally) -> Tally {
    let mut tally = tally;
    each_in_stream(&sinks.jetstream, &sinks.name, |stored| count(&mut tally, queue, stored)).await;
    tally
}

fn count(tally: &mut Tally, queue: &str, stored: Stored<'_>) {
    if stored.queue == queue {
        stored.add_to(tally);
    }
}
