//! Compares the bridge with what a user could write or run instead: latency, speed from a backlog, what a kill
//! costs, and how long start and stop take. `make bench-rivals`; the document goes to standard output, progress
//! to standard error.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a campaign fails like a test, and prints what it found"
)]

mod backlog;
mod carrier;
mod destination;
mod kill;
mod latency;
mod load;
mod start;

use clap::{Parser, ValueEnum};
use kit::bench::files::Files;
use kit::bench::jetstream::JetStream;
use kit::bench::kafka::Topic;
use kit::broker::{Broker, Options, Version};
use kit::report::backlog::PATIENCE;
use kit::report::{brokers, heading, kafka, name_of, nats};
use kit::wait_until;

use self::carrier::{Carrier, Running};
use self::destination::Readable;

/// The partitions of the topic.
const PARTITIONS: u32 = 12;

/// The bridge and its rivals.
#[derive(Parser)]
struct Arguments {
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Job::Latency, Job::Backlog, Job::Kill, Job::Start])]
    jobs: Vec<Job>,
    /// The sinks.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Sink::Kafka, Sink::Jetstream, Sink::Files])]
    sinks: Vec<Sink>,
    /// Latency: events a second; several values are measured one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1000, 5000])]
    rates: Vec<u32>,
    /// Latency: seconds of each run.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Backlog and kill: events of each run.
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Runs of each kind; the median of each figure counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only the bridge, without its rivals.
    #[arg(long)]
    bridge_only: bool,
    /// `NAME=value`: a setting of all bridges, as a variable without `BRIDGE__`.
    #[arg(long = "set")]
    settings: Vec<String>,
    /// Only this major version of ActiveMQ.
    #[arg(long)]
    broker: Option<u32>,
    /// Cargo passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Job {
    Latency,
    Backlog,
    Kill,
    Start,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sink {
    Kafka,
    Jetstream,
    Files,
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("start a runtime");
    print!("{}", heading("Rivals", "bench-rivals"));
    println!("- servers: {}, {}", kafka(), nats());
    println!("- seed: none, event n is the same in every run");
    let carriers = Carrier::all(arguments.bridge_only);
    for carrier in &carriers {
        if let Some(versions) = carrier.versions() {
            println!("- {}: {versions}", carrier.name());
        }
    }
    let versions = brokers().into_iter().filter(|version| match arguments.broker {
        Some(5) => *version == Version::V5,
        Some(_) => *version == Version::V6,
        None => true,
    });
    for version in versions {
        runtime.block_on(measure(version, &carriers, &arguments));
    }
}

async fn measure(version: Version, carriers: &[Carrier], arguments: &Arguments) {
    let broker = Broker::start(version, Options::default());
    for sink in &arguments.sinks {
        match sink {
            Sink::Kafka => into(&broker, Topic::start(PARTITIONS, &[]), carriers, arguments).await,
            Sink::Jetstream => into(&broker, JetStream::start().await, carriers, arguments).await,
            Sink::Files => into(&broker, Files::start(), carriers, arguments).await,
        }
    }
}

async fn into<D: Readable>(broker: &Broker, destination: D, carriers: &[Carrier], arguments: &Arguments) {
    let title = format!("{} into {}", name_of(broker.version()), D::NAME);
    let mut bench = Bench { broker, destination, carriers, arguments, title };
    for job in &arguments.jobs {
        match job {
            Job::Latency => latency::measure(&mut bench).await,
            Job::Backlog => backlog::measure(&mut bench).await,
            Job::Kill => kill::measure(&mut bench).await,
            Job::Start => start::measure(&mut bench).await,
        }
    }
}

/// A broker, a destination, and what carries events from the one to the other.
struct Bench<'a, D> {
    broker: &'a Broker,
    destination: D,
    carriers: &'a [Carrier],
    arguments: &'a Arguments,
    title: String,
}

impl<D: Readable> Bench<'_, D> {
    /// Makes the namespace of a run, which is different for each run.
    fn namespace(&self, carrier: Carrier, run: &str) -> String {
        carrier.namespace(&format!("{}{run}", D::NAME))
    }

    /// Starts a process that carries the queue of `namespace` into the destination. With `at_once` a rival waits
    /// for no second event, as the bridge does by default.
    fn start(&self, carrier: Carrier, namespace: &str, at_once: bool) -> Running {
        carrier.start(self.broker, namespace, &self.destination, &self.arguments.settings, at_once)
    }

    /// Waits until at most `events` of `queue` are not acknowledged.
    async fn left(&self, queue: &str, events: u64) {
        let what = format!("{queue} has at most {events} events");
        wait_until(&what, PATIENCE, || self.broker.depth(queue) <= events).await;
    }

    /// Runs a job in all rounds with one carrier. `run` gets the namespace.
    async fn rounds<T>(
        &mut self,
        job: &str,
        carrier: Carrier,
        run: impl AsyncFn(&mut Self, Carrier, &str) -> T,
    ) -> Vec<T> {
        let mut runs = Vec::new();
        for round in 0..self.arguments.rounds {
            eprintln!("{}, {job}, {}, round {round}", self.title, carrier.name());
            let namespace = self.namespace(carrier, &format!("{job}{round}"));
            runs.push(run(self, carrier, &namespace).await);
        }
        runs
    }
}

/// The median, the lowest and the highest of some figures.
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let last = figures.len() - 1;
        // Of an even number of figures, the mean of the two in the middle.
        let median = f64::midpoint(figures[last / 2], figures[last.div_ceil(2)]);
        Self { median, lowest: figures[0], highest: figures[last] }
    }

    /// For tables: the median, and the others in brackets.
    fn text(&self, digits: usize) -> String {
        let Self { median, lowest, highest } = self;
        format!("{median:.digits$} ({lowest:.digits$}–{highest:.digits$})")
    }
}
