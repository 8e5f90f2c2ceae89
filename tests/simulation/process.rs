//! Runs one bridge process in a simulation.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use atdata_bridge::backoff::BackoffConfig;
use atdata_bridge::bridge::sink_context;
use atdata_bridge::budget::Budget;
use atdata_bridge::dead_letter::config::FilesSettings;
use atdata_bridge::dead_letter::file_store::FileDeadLetters;
use atdata_bridge::dead_letter::{DeadLetterLimits, DeadLetterStore};
use atdata_bridge::journal::config::RotateConfig;
use atdata_bridge::journal::disk::Disk;
use atdata_bridge::journal::name_template::NameTemplate;
use atdata_bridge::key::Keying;
use atdata_bridge::pipeline::{self, PipelineError, PipelineParts};
use atdata_bridge::secret::Secret;
use atdata_bridge::sink::Sink;
use atdata_bridge::sink::file::FileSink;
use atdata_bridge::sink::file::config::Format;
use atdata_bridge::sink::file::settings::FileSettings;
use atdata_bridge::source::Disconnect;
use atdata_bridge::source::config::{Endpoint, Ordering, SourceSettings, SourceTlsConfig};
use atdata_bridge::source::protocol::session::SessionMode;
use atdata_bridge::source::session_factory::new_session;
use atdata_bridge::source::supervisor::Supervisor;
use atdata_bridge::telemetry::counters::SubscriptionCounters;
use atdata_bridge::telemetry::status::{Status, StatusRegistry};
use atdata_bridge::telemetry::watchdog::Watchdog;
use atdata_bridge::units::{Period, Size};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::destination::Destination;
use crate::disk::SimulatedDisk;
use crate::files::{EVENTS, LETTERS};
use crate::letters::Letters;
use crate::network::SimulatedNetwork;
use crate::schedule::{FileSetting, Setting};

/// The queue of all processes.
pub const QUEUE: &str = "main.RTO.acme";

/// What all processes of a simulation share.
pub struct Surroundings {
    pub setting: Setting,
    pub network: SimulatedNetwork,
    pub destinations: Vec<Destination>,
    pub letters: Letters,
    /// The disk of each replica's machine.
    pub disks: Vec<SimulatedDisk>,
}

impl Surroundings {
    /// Notes the end of a process, which ran as this replica.
    pub fn process_ended(&self, replica: usize, number: u64) {
        self.destinations.iter().for_each(|destination| destination.process_ended(number));
        self.disks[replica].process_ended(number);
    }
}

/// One process of the bridge.
pub struct Process {
    pub number: u64,
    pub counters: Arc<SubscriptionCounters>,
    pub statuses: StatusRegistry,
    pub budget: Budget,
    watchdog: Watchdog,
    is_frozen: Cell<bool>,
    drain: CancellationToken,
    running: JoinHandle<Result<Disconnect, PipelineError>>,
}

impl Process {
    /// Starts process `number` as the replica `replica`.
    pub fn start(surroundings: &Surroundings, replica: usize, number: u64) -> Self {
        let Surroundings { setting, network, destinations, letters, disks } = surroundings;
        let disk = &disks[replica];
        let source = Arc::new(source(setting, replica));
        let (counters, statuses) = (Arc::<SubscriptionCounters>::default(), StatusRegistry::default());
        let (watchdog, budget) = (Watchdog::default(), Budget::new(setting.max_in_flight));
        let supervisor = Supervisor::start(
            Arc::clone(&source),
            Arc::new(network.clone()),
            new_session(SessionMode::Subscribe),
            budget.clone(),
            Arc::clone(&counters),
            statuses.reporter("source"),
            watchdog.loop_mark("source"),
        );
        let sink = |destination: &Destination| (destination.name().to_owned(), destination.sink(number));
        let mut sinks: Vec<_> = destinations.iter().map(sink).collect();
        sinks.extend(setting.files.map(|files| file_sink(files, &source, disk.of_process(number))));
        let dead_letters: Arc<dyn DeadLetterStore> = match setting.has_letter_files {
            true => Arc::new(letter_files(&source, disk.of_process(number))),
            false => Arc::new(letters.clone()),
        };
        let parts = PipelineParts {
            name: None,
            queue: sink_context("", &source, None).queue,
            source: Box::new(supervisor),
            sinks,
            keying: Keying::new(vec!["/md5_email".to_owned()], false),
            prefetch: setting.prefetch as usize,
            dead_letters: Arc::clone(&dead_letters),
            limits: DeadLetterLimits::new(100, 1.0),
            backoff: backoff(),
            counters: Arc::clone(&counters),
            statuses: statuses.clone(),
            watchdog: watchdog.clone(),
        };
        let drain = CancellationToken::new();
        let pipeline = pipeline::run(parts, drain.clone());
        let running = tokio::spawn(watchdog.task(async move {
            let disconnect = pipeline.await?;
            dead_letters.close().await;
            Ok(disconnect)
        }));
        let is_frozen = Cell::new(false);
        Self { number, counters, statuses, budget, watchdog, is_frozen, drain, running }
    }

    /// Begins to drain, as after SIGTERM.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Stops its tasks, or lets them go on.
    pub fn freeze(&self, is_frozen: bool) {
        self.is_frozen.set(is_frozen);
        self.watchdog.freeze(is_frozen);
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        self.is_frozen.get()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.running.is_finished()
    }

    /// Waits until it has ended.
    pub async fn ended(self) -> Result<Disconnect, PipelineError> {
        self.running.await.expect("no panic")
    }

    /// Ends it at once, as SIGKILL does.
    pub async fn kill(self) {
        self.running.abort();
        // Only that it has ended matters.
        drop(self.running.await);
    }

    /// The parts that are not ready, with their states.
    pub fn unready(&self) -> Vec<(String, Status)> {
        let parts = self.statuses.all().into_iter();
        parts.filter(|(_, status, _)| !status.is_ready()).map(|(part, status, _)| (part, status)).collect()
    }
}

fn file_sink(setting: FileSetting, source: &SourceSettings, disk: Arc<dyn Disk>) -> (String, Box<dyn Sink>) {
    let name = if setting.is_partitioned { "{connection_id}-{partition}" } else { "{connection_id}" };
    let settings = FileSettings {
        directory: EVENTS.into(),
        name: NameTemplate::parse(name).expect("a name"),
        format: if setting.is_envelope { Format::Envelope } else { Format::Body },
        compression: setting.compression,
        rotation: RotateConfig { size: Size(setting.rotate_size), age: Period(setting.rotate_age) },
        prefetch: source.prefetch as usize,
        max_open: 2,
        max_total: None,
        max_age: None,
    };
    let context = sink_context("files", source, NonZeroU32::new(3));
    ("files".to_owned(), Box::new(FileSink::on(disk, settings, context)))
}

fn letter_files(source: &SourceSettings, disk: Arc<dyn Disk>) -> FileDeadLetters {
    let rotation = RotateConfig { size: Size(2000), age: Period::secs(5) };
    let settings = FilesSettings { directory: LETTERS.into(), max_total: None, rotation };
    FileDeadLetters::on(disk, settings, &source.connection_id, 10_000)
}

fn backoff() -> BackoffConfig {
    BackoffConfig { initial: Period::millis(100), max: Period::secs(5) }
}

fn source(setting: &Setting, replica: usize) -> SourceSettings {
    SourceSettings {
        endpoints: vec![Endpoint {
            host: "broker".to_owned(),
            port: 61_616,
            protocol: setting.protocol,
            tls: false,
        }],
        username: "12345".to_owned(),
        password: Secret::new("0123456789abcdef0123456789abcdef"),
        namespace: "acme".to_owned(),
        destination_id: "main".to_owned(),
        connection_id: format!("acme-main-{replica}"),
        prefetch: setting.prefetch,
        heart_beat: Some(setting.heart_beat),
        ordering: if setting.is_strict { Ordering::Strict } else { Ordering::Shared },
        virtual_host: None,
        max_body: 4096,
        max_headers: 1000,
        max_header_size: 64 << 10,
        connect_timeout: Duration::from_secs(5),
        idle_reconnect: Some(Duration::from_secs(30)),
        backoff: backoff(),
        tls: SourceTlsConfig::default(),
    }
}
