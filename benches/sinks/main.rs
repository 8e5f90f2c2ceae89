//! Measures how fast the bridge writes into Kafka and JetStream, near and far, compared with bare producers.
//! `make bench-sinks`; the document goes to standard output, progress to standard error.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a campaign fails like a test, and prints what it found"
)]

mod claims;
mod far;
mod near;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use kit::bench::jetstream::JetStream;
use kit::bench::kafka::Topic;
use kit::bench::{Server, Tuning};

/// The bridge must reach this share of a loop that does nothing but publish.
const BARE_FLOOR: f64 = 0.7;
/// The bridge must keep this share of the window in flight.
const WINDOW_FLOOR: f64 = 0.8;
/// The floors apply to windows up to four times the usual one. Wider windows are measured without a floor:
/// near, the processors are busy before the sink is; far, the source sends in waves of a tenth of the round
/// trip, and a request is limited by `batch.size` per partition.
const FLOORS_UP_TO: usize = 4096;
/// The partitions of additional far topics, which show the effect of partitions.
const OTHER_PARTITIONS: [u32; 2] = [1, 12];
/// A far run fills the window at least this many times.
const WINDOWS: usize = 20;
/// The partitions of the topic that is asked what it holds.
const CLAIM_PARTITIONS: u32 = 12;

/// The speed of the bridge into Kafka and JetStream.
#[derive(Parser)]
struct Arguments {
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Job::Near, Job::Far, Job::Claims])]
    jobs: Vec<Job>,
    /// Events in each run next to the bare loop.
    #[arg(long, default_value_t = 300_000)]
    events: u64,
    /// Runs of each kind next to the bare loop; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The bridge's prefetch, as a list. A sink leaves out values above its maximum of events in flight. The
    /// first value is used for the runs from real brokers.
    #[arg(long, value_delimiter = ',', default_values_t = [1024, 4096, 16_384])]
    prefetch: Vec<usize>,
    /// The minimum of events in each far run from the simulator.
    #[arg(long, default_value_t = 100_000)]
    far: u64,
    /// Events in each backlog at a real broker.
    #[arg(long, default_value_t = 50_000)]
    backlog: u64,
    /// Starts of each kind with a sink that is asked what it holds; the median counts.
    #[arg(long, default_value_t = 5)]
    starts: usize,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Measures only this sink: kafka or jetstream.
    #[arg(long)]
    only: Option<String>,
    /// Settings of the bridge, NAME=value, such as SINKS__KAFKA__PROPERTIES__LINGER_MS=20.
    #[arg(long)]
    set: Vec<String>,
    /// Settings, NAME=value, of a second bridge that takes turns with the first one next to the bare loop, such as
    /// SINKS__KAFKA__EXACTLY_ONCE=true.
    #[arg(long)]
    beside: Vec<String>,
    /// Lets that second bridge be another build, such as an older one.
    #[arg(long, value_parser = kit::process::other_build)]
    other_build: Option<PathBuf>,
    /// Cargo passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Job {
    Near,
    Far,
    Claims,
}

impl Arguments {
    fn does(&self, job: Job) -> bool {
        self.jobs.contains(&job)
    }

    fn prefetches<D: Server>(&self) -> impl Iterator<Item = usize> {
        self.prefetch.iter().copied().filter(|&prefetch| prefetch <= D::MAX_IN_FLIGHT)
    }

    fn usual(&self) -> usize {
        self.prefetch.first().copied().expect("a prefetch")
    }

    fn tuning(&self, prefetch: usize) -> Tuning<'_> {
        Tuning { prefetch, settings: &self.set, other_build: None }
    }

    fn wants(&self, destination: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == destination)
    }
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("start a runtime");
    print!("{}", kit::report::heading("Speed of the sinks", "bench-sinks"));
    println!("- servers: {}, {}", kit::report::kafka(), kit::report::nats());
    println!(
        "- client libraries: {} with librdkafka {}, {}",
        kit::report::crate_version("rdkafka"),
        rdkafka::util::get_rdkafka_version().1,
        kit::report::crate_version("async-nats")
    );
    println!("- seed: 1 (simulator); the events at the real brokers are the same in every run");
    let missed = runtime.block_on(measure(&arguments));
    println!("\n## Floors\n");
    println!(
        "At least {BARE_FLOOR} of the bare loop with as many in flight, {WINDOW_FLOOR} of the window in flight to a \
         server that is far away, from the simulator, and an answer within {} ms near and {} ms far, with a prefetch \
         of {FLOORS_UP_TO} or less: {}.",
        claims::NEAR_LIMIT.as_millis(),
        claims::FAR_LIMIT.as_millis(),
        if missed.is_empty() { "met".to_owned() } else { format!("**missed**: {}", missed.join("; ")) }
    );
    assert!(missed.is_empty(), "{missed:?}");
}

async fn measure(arguments: &Arguments) -> Vec<String> {
    let mut missed = Vec::new();
    let mut kafka = arguments.wants("kafka").then(|| Topic::start(arguments.partitions, &arguments.set));
    let mut jetstream = None;
    if arguments.wants("jetstream") {
        jetstream = Some(JetStream::start().await);
    }
    if arguments.does(Job::Near) {
        if let Some(kafka) = &mut kafka {
            near(kafka, arguments, &mut missed).await;
        }
        if let Some(jetstream) = &mut jetstream {
            near(jetstream, arguments, &mut missed).await;
        }
    }
    if arguments.does(Job::Far) {
        far_from_each(&mut kafka, &mut jetstream, arguments, &mut missed).await;
    }
    if arguments.does(Job::Claims) {
        claims::head();
        if let Some(kafka) = &mut kafka {
            kafka.partitions = CLAIM_PARTITIONS;
            let into = format!("Kafka, {CLAIM_PARTITIONS} partitions");
            claims(kafka, &into, CLAIM_PARTITIONS as usize, arguments, &mut missed).await;
        }
        if let Some(jetstream) = &mut jetstream {
            claims(jetstream, "JetStream", 1, arguments, &mut missed).await;
        }
    }
    missed
}

async fn far_from_each(
    kafka: &mut Option<Topic>,
    jetstream: &mut Option<JetStream>,
    arguments: &Arguments,
    missed: &mut Vec<String>,
) {
    far::head();
    if let Some(kafka) = kafka {
        let into = format!("Kafka, {} partitions", arguments.partitions);
        far(kafka, &into, arguments, missed).await;
        for partitions in OTHER_PARTITIONS {
            kafka.partitions = partitions;
            let (into, tuning) =
                (format!("Kafka, {partitions} partitions"), arguments.tuning(arguments.usual()));
            let share = far::from_simulator(kafka, &into, arguments.far, tuning).await;
            expect_window(share, &into, arguments.usual(), missed);
        }
    }
    if let Some(jetstream) = jetstream {
        far(jetstream, "JetStream", arguments, missed).await;
    }
}

fn expect_window(share: f64, into: &str, prefetch: usize, missed: &mut Vec<String>) {
    if prefetch <= FLOORS_UP_TO && share < WINDOW_FLOOR {
        missed.push(format!("far {into}, prefetch {prefetch}: {share:.2} of the window"));
    }
}

async fn near<D: Server>(destination: &mut D, arguments: &Arguments, missed: &mut Vec<String>) {
    for prefetch in arguments.prefetches::<D>() {
        let share = near::compare(
            destination,
            arguments.events,
            arguments.rounds,
            arguments.tuning(prefetch),
            &arguments.beside,
            arguments.other_build.as_deref(),
        )
        .await;
        if prefetch <= FLOORS_UP_TO && share < BARE_FLOOR {
            missed.push(format!("{}, prefetch {prefetch}: {share:.2} of the bare loop", D::NAME));
        }
    }
}

async fn far<D: Server>(destination: &mut D, into: &str, arguments: &Arguments, missed: &mut Vec<String>) {
    for prefetch in arguments.prefetches::<D>() {
        let share = far::from_simulator(
            destination,
            into,
            arguments.far.max((prefetch * WINDOWS) as u64),
            arguments.tuning(prefetch),
        )
        .await;
        expect_window(share, into, prefetch, missed);
    }
    for version in kit::report::brokers() {
        far::from_broker(destination, into, version, arguments.backlog, arguments.tuning(arguments.usual()))
            .await;
    }
}

/// Asks the sink at the start. `partitions` is how many times it reads its last events.
async fn claims<D: Server>(
    destination: &mut D,
    into: &str,
    partitions: usize,
    arguments: &Arguments,
    missed: &mut Vec<String>,
) {
    for prefetch in arguments.prefetches::<D>() {
        let tuning = arguments.tuning(prefetch);
        let late = claims::measure(destination, into, partitions, arguments.starts, tuning).await;
        if prefetch <= FLOORS_UP_TO {
            missed.extend(late);
        }
    }
}
