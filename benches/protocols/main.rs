//! STOMP against OpenWire, in turn on the same broker: how fast a backlog is emptied, and what each event costs
//! bridge and broker; into nothing, into Kafka, and into Kafka far away. `make bench-protocols`; the document goes
//! to standard output, progress to standard error.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    unused_macros,
    reason = "nobody but this binary sees it, and it takes a part of what others have"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a campaign fails like a test, and prints what it found"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../sinks/destination.rs"]
mod destination;
mod far;
#[path = "../sinks/kafka.rs"]
mod kafka;
mod near;
#[path = "../../tests/it/support/mod.rs"]
mod support;

use clap::Parser;
use kafka::Topic;
use near::Into;
use support::broker::{Broker, Options, Protocol, Version};

/// Far away OpenWire must be so many times as fast as STOMP, with the widest window: with a narrow one there is
/// not that much to win.
const FAR_FLOOR: f64 = 3.0;

/// STOMP against OpenWire.
#[derive(Parser)]
struct Arguments {
    /// Events in each backlog that goes into nothing or a near Kafka.
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Runs of each kind with these; the median counts. 0: none.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Events in each backlog that goes far. 0: none.
    #[arg(long, default_value_t = 120_000)]
    far: u64,
    /// The bridge's prefetch where it goes far, several times.
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
        common::brokers()
            .into_iter()
            .filter(move |version| self.broker.is_none_or(|only| only == number(version)))
    }
}

/// For tables.
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
    print!("{}", common::heading("STOMP and OpenWire", "bench-protocols"));
    println!("- server: {}", common::kafka());
    println!("- seed: none, event n is the same in every run");
    let missed = runtime.block_on(measure(&arguments));
    println!("\n## Floors\n");
    println!(
        "Into a Kafka that is far away OpenWire is at least {FAR_FLOOR} times as fast as STOMP with the widest window: {}.",
        if missed.is_empty() { "met".to_owned() } else { format!("**missed**: {}", missed.join("; ")) }
    );
    assert!(missed.is_empty(), "{missed:?}");
}

async fn measure(arguments: &Arguments) -> Vec<String> {
    let mut missed = Vec::new();
    let mut kafka = Topic::start(arguments.partitions, &[]);
    for version in arguments.brokers() {
        let broker = Broker::start(version, Options::default());
        let name = common::name_of(version);
        if arguments.rounds > 0 {
            for into in [Into::Nothing, Into::Kafka] {
                near::compare(&broker, &mut kafka, into, arguments.events, arguments.rounds).await;
            }
        }
        if arguments.far > 0 {
            let times = far::compare(&broker, &mut kafka, arguments.far, &arguments.prefetch).await;
            if let Some(times) = times.last().filter(|times| **times < FAR_FLOOR) {
                missed.push(format!("{name}: {times:.2} times as fast"));
            }
        }
    }
    missed
}
