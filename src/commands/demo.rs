//! Runs `demo`: the whole bridge, configured as an operator would, from an embedded broker into files.
//! Afterwards it reads the files and compares them with what was sent.

mod place;
mod progress;
mod read_back;
mod report;

use std::io;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::place::{DemoDirectory, PlaceError};
use self::progress::ProgressLine;
use self::read_back::{DemoFileError, ReadBack, StoredEvents};
use self::report::{DemoEnd, DemoReport};
use super::config::shown;
use super::signals::StopSignals;
use super::{Console, Exit, configured};
use crate::bridge::{Bridge, dead_letter_stores, sink_context};
use crate::config::{Settings, SinkRegistry};
use crate::pipeline::PipelineError;
use crate::simulator::{
    Generation, Generator, GeneratorConfig, Rate, Simulator, SimulatorConfig, SimulatorLogin, StartError,
};
use crate::sink::SinkError;
use crate::source::Disconnect;
use crate::source::config::Protocol;
use crate::telemetry::process;

#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How many events the broker sends before the demo ends
    #[arg(long, value_name = "N", default_value = "1000000")]
    pub events: NonZeroU64,
    /// How many events a second; default: as many as it takes
    #[arg(long, value_name = "R")]
    pub rate: Option<NonZeroU32>,
    /// What the bridge speaks with the broker
    #[arg(long, value_name = "NAME", default_value = "stomp")]
    pub protocol: Protocol,
    /// Where the files go; default: a directory of its own, removed at the end
    #[arg(long, value_name = "D")]
    pub directory: Option<PathBuf>,
}

/// The interval of events without a usable key, which must become dead letters.
const ODD_EVERY: u64 = 1000;

/// The demo could not be completed.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("{0}")]
    Sink(#[from] SinkError),
    #[error(transparent)]
    ReadBack(#[from] DemoFileError),
    #[error("stopped before the files were read back")]
    Unread,
    #[error("the terminal or the system failed: {0}")]
    System(#[from] io::Error),
}

/// Runs until every event is acknowledged, or until Ctrl-C, and then reports the result.
///
/// # Errors
/// Standard error can't be written, or the system refuses threads.
pub fn run(args: &DemoArgs, console: &mut Console<'_>) -> io::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shown = runtime.block_on(show(args, console));
    // A write to a dead disk may never return, so do not wait for it.
    runtime.shutdown_background();
    shown.or_else(|error| {
        writeln!(console.err, "error: {error}")?;
        Ok(Exit::Failure)
    })
}

async fn show(args: &DemoArgs, console: &mut Console<'_>) -> Result<Exit, DemoError> {
    let mut stop = StopSignals::new()?;
    let place = DemoDirectory::new(args.directory.as_deref())?;
    let simulator = Simulator::start(SimulatorConfig::default()).await?;
    let url = match args.protocol {
        Protocol::Stomp => simulator.url(),
        Protocol::OpenWire => simulator.openwire_url(),
    };
    let kinds = SinkRegistry::built_in();
    let Some(loaded) = configured(&kinds, None, environment(&url, &place).into_iter(), console)? else {
        return Ok(Exit::Usage);
    };
    probe(&loaded.settings).await?;
    console.note(&format!("broker    {url}, embedded"))?;
    let events = indicatif::HumanCount(args.events.get());
    console.note(&format!("events    {events}, into {}", place.root().display()))?;
    let generator = population();
    let pace = args.rate.map_or_else(Rate::default, Rate::PerSecond);
    let generation = Generation { events: Some(args.events.get()), rate: pace, generator: generator.clone() };
    simulator.generate(&SimulatorLogin::default().namespace, generation);

    let drain_timeout = loaded.settings.drain_timeout;
    let bridge = Bridge::new(loaded.settings);
    bridge.telemetry().configuration.set(loaded.effective.iter().map(shown).collect());
    let mut progress = ProgressLine::new(&simulator, bridge.telemetry(), args.events, console);
    let began = Instant::now();
    let ending =
        carry_events(bridge, &simulator, args.events, drain_timeout, &mut stop, &mut progress).await?;
    let (took, memory) = (began.elapsed(), process::peak_memory());
    progress.reading_back()?;
    let stats = simulator.stats();
    let (published, acked) = (stats.published, stats.total().acked);
    let read = ReadBack { generator: Generator::new(generator), published, acked };
    let found = stored_events(read, &place, &mut stop).await?;
    progress.end();
    let report = DemoReport { events: args.events.get(), published, acked, took, memory, ending, found };
    report.write(place.root(), args.directory.is_some(), console.out)?;
    Ok(if report.is_clean() { Exit::Success } else { Exit::Failure })
}

/// Reads the files back, unless a signal comes first. The reading goes on in its thread until the process ends.
async fn stored_events(
    read: ReadBack,
    place: &DemoDirectory,
    stop: &mut StopSignals,
) -> Result<StoredEvents, DemoError> {
    let (events, letters) = (place.events(), place.dead_letters());
    tokio::select! {
        found = spawn_blocking(move || read.read(&events, &letters)) => Ok(found.map_err(io::Error::other)??),
        _ = stop.asked() => Err(DemoError::Unread),
    }
}

/// The variables that an operator would set.
fn environment(url: &str, place: &DemoDirectory) -> Vec<(String, String)> {
    let login = SimulatorLogin::default();
    let path = |path: &Path| path.to_string_lossy().into_owned();
    [
        ("SOURCE__URL", url.to_owned()),
        ("SOURCE__USERNAME", login.username),
        ("SOURCE__PASSWORD", login.password.reveal().to_owned()),
        ("SOURCE__NAMESPACE", login.namespace),
        ("SOURCE__DESTINATION_ID", "demo".to_owned()),
        ("SOURCE__CONNECTION_ID", "demo".to_owned()),
        ("SINKS__FILE__DIRECTORY", path(&place.events())),
        ("DEAD_LETTERS__DIRECTORY", path(&place.dead_letters())),
        // The screen already shows everything.
        ("ADMIN__LISTEN", "off".to_owned()),
    ]
    .map(|(name, value)| (format!("{}{name}", crate::config::PREFIX), value))
    .into()
}

fn population() -> GeneratorConfig {
    GeneratorConfig { odd_every: ODD_EVERY, ..Default::default() }
}

/// Ends the demo at once if a directory can't be written: nobody wants to watch the retries.
async fn probe(settings: &Settings) -> Result<(), SinkError> {
    for subscription in &settings.subscriptions {
        for sink in &subscription.sinks {
            let context = sink_context(&sink.name, &subscription.source, settings.partitions);
            sink.factory.build(context).probe().await?;
        }
    }
    for store in dead_letter_stores(settings) {
        store.probe().await?;
    }
    Ok(())
}

/// Runs the bridge until everything is acknowledged or a signal stops it, and then until it has drained.
async fn carry_events(
    bridge: Bridge,
    simulator: &Simulator,
    events: NonZeroU64,
    drain_timeout: Duration,
    stop: &mut StopSignals,
    progress: &mut ProgressLine<'_, '_>,
) -> io::Result<DemoEnd> {
    let drain = CancellationToken::new();
    let mut running = pin!(bridge.run(drain.clone()));
    tokio::select! {
        ended = &mut running => return Ok(ending(ended)),
        _ = simulator.wait_until(|stats| stats.total().acked >= events.get()) => {}
        _ = stop.asked() => progress.stopping(),
        error = progress.follow() => return Err(error),
    }
    drain.cancel();
    tokio::select! {
        ended = &mut running => Ok(ending(ended)),
        _ = stop.asked() => Ok(DemoEnd::Abandoned),
        () = sleep(drain_timeout) => Ok(DemoEnd::Abandoned),
        error = progress.follow() => Err(error),
    }
}

fn ending(ended: Result<Disconnect, PipelineError>) -> DemoEnd {
    // Ignore how the disconnect went: the audit uses the broker's own count of acknowledgements.
    ended.map_or_else(DemoEnd::Fault, |_| DemoEnd::Drained)
}
