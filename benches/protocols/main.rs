//! Compares STOMP and OpenWire, in turn on the same broker: how fast a backlog is emptied, and the processor
//! time per event of bridge and broker. The backlog goes into nothing, a near Kafka and a far Kafka.
//! `make bench-protocols`; the document goes to standard output, progress to standard error.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a campaign fails like a test, and prints what it found"
)]

mod far;
mod near;

use std::time::Duration;

use clap::Parser;
use kit::bench::kafka::Topic;
use kit::broker::{Broker, Options, Protocol, Version};
use near::Into;

/// The delay in one direction of the far Kafka for [`FAR_FLOOR`].
const FAR: Duration = Duration::from_millis(100);
/// With the widest window, OpenWire must be this many times as fast as STOMP into the far Kafka. A narrow
/// window is full with fewer events.
const FAR_FLOOR: f64 = 3.0;
/// The delay as in `bench-sinks`, for [`NEAR_SHARE`].
const HALF_AS_FAR: Duration = Duration::from_millis(50);
/// With this delay, OpenWire must keep this share of its speed into a near Kafka. STOMP does not, and a floor
/// of three times STOMP's speed would be close to the maximum speed of the broker.
const NEAR_SHARE: f64 = 0.8;

/// STOMP against OpenWire.
#[derive(Parser)]
struct Arguments {
    /// Events in each backlog that goes into nothing or a near Kafka.
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Runs of each kind with these; the median counts. 0 runs none.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Events in each backlog into the far Kafka. 0 runs none.
    #[arg(long, default_value_t = 120_000)]
    far: u64,
    /// The bridge's prefetch for the far Kafka, as a list.
    #[arg(long, value_delimiter = ',', default_values_t = [1024, 4096, 16_384])]
    prefetch: Vec<u64>,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Only this ActiveMQ: 5 or 6.
    #[arg(long)]
    broker: Option<u8>,
    /// Cargo passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn brokers(&self) -> impl Iterator<Item = Version> {
        let number = |version: &Version| if *version == Version::V5 { 5 } else { 6 };
        kit::report::brokers()
            .into_iter()
            .filter(move |version| self.broker.is_none_or(|only| only == number(version)))
    }
}

/// The name in tables.
fn name_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Stomp => "STOMP",
        Protocol::OpenWire => "OpenWire",
    }
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("start a runtime");
    print!("{}", kit::report::heading("STOMP and OpenWire", "bench-protocols"));
    println!("- server: {}", kit::report::kafka());
    println!("- seed: none, event n is the same in every run");
    let missed = runtime.block_on(measure(&arguments));
    println!("\n## Floors\n");
    println!(
        "With the widest window OpenWire is at least {FAR_FLOOR} times as fast as STOMP into a Kafka that is {} ms away in \
         each direction, and keeps at least {NEAR_SHARE} of its speed near by into one that is {} ms away: {}.",
        FAR.as_millis(),
        HALF_AS_FAR.as_millis(),
        if missed.is_empty() { "met".to_owned() } else { format!("**missed**: {}", missed.join("; ")) }
    );
    assert!(missed.is_empty(), "{missed:?}");
}

async fn measure(arguments: &Arguments) -> Vec<String> {
    let mut missed = Vec::new();
    let mut kafka = Topic::start(arguments.partitions, &[]);
    for version in arguments.brokers() {
        let broker = Broker::start(version, Options::default());
        let name = kit::report::name_of(version);
        let mut near = None;
        if arguments.rounds > 0 {
            for into in [Into::Nothing, Into::Kafka] {
                let (events, rounds) = (arguments.events, arguments.rounds);
                near = Some(near::compare(&broker, &mut kafka, into, events, rounds).await);
            }
        }
        if arguments.far > 0 {
            let (events, prefetches) = (arguments.far, &arguments.prefetch);
            let distances = [HALF_AS_FAR, FAR];
            for (distance, rates) in far::compare(&broker, &mut kafka, events, prefetches, &distances).await {
                let times = rates.times();
                if distance == FAR && times < FAR_FLOOR {
                    missed.push(format!("{name}: {times:.2} times as fast"));
                }
                let share = near.map(|near| rates.openwire / near);
                if let Some(share) = share.filter(|share| distance == HALF_AS_FAR && *share < NEAR_SHARE) {
                    missed.push(format!("{name}: {share:.2} of its speed near by"));
                }
            }
        }
    }
    missed
}
