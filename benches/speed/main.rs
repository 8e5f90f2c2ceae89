//! Measures the speed of the bridge: compared with a bare consumer, with the simulator as the source, and
//! part by part. `make bench`; the document goes to standard output, progress to standard error.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a campaign fails like a test, and prints what it found"
)]

mod brokers;
mod parts;
mod simulator;

use std::path::PathBuf;

use clap::Parser;

/// With a real broker, the bridge must reach this share of the bare consumer's speed.
const BROKER_FLOOR: f64 = 0.8;
/// With the simulator, the bridge must reach this many events per second.
const SIMULATOR_FLOOR: f64 = 200_000.0;

/// The speed of the bridge.
#[derive(Parser)]
struct Arguments {
    /// Events in each backlog at a real broker.
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Events in each run from the simulator.
    #[arg(long, default_value_t = 2_000_000)]
    simulated: u64,
    /// Runs of each kind; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Settings of all bridges, NAME=value, such as EVENT__KEYS=/md5_email.
    #[arg(long)]
    set: Vec<String>,
    /// Another build of the bridge, such as an older one, that takes turns with this one.
    #[arg(long, value_parser = kit::process::other_build)]
    other_build: Option<PathBuf>,
    /// Cargo passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("start a runtime");
    print!("{}", kit::report::heading("Speed", "bench"));
    println!("- seed: 1 (simulator); the events at the real brokers are the same in every run");
    let Arguments { events, simulated, rounds, set, other_build, .. } = arguments;
    let other_build = other_build.as_deref();
    let mut missed = Vec::new();
    for version in kit::report::brokers() {
        let ratio = runtime.block_on(brokers::compare(version, events, rounds, &set, other_build));
        if ratio < BROKER_FLOOR {
            missed.push(format!("{}: {ratio:.2} of the bare consumer", kit::report::name_of(version)));
        }
    }
    let speed = runtime.block_on(simulator::measure(simulated, rounds, &set, other_build));
    if speed < SIMULATOR_FLOOR {
        missed.push(format!("simulator: {speed:.0} events/s"));
    }
    parts::measure();
    println!("\n## Floors\n");
    println!(
        "At least {BROKER_FLOOR} of the bare consumer's speed, and {SIMULATOR_FLOOR} events/s from the simulator: {}.",
        if missed.is_empty() { "met".to_owned() } else { format!("**missed**: {}", missed.join("; ")) }
    );
    assert!(missed.is_empty(), "{missed:?}");
}
