//! Runs the rehearsal: the chart's pods run as processes against real servers, and are rolled, scaled and
//! replaced under load as in a cluster. `make rehearsal`; the document goes to standard output, progress to
//! standard error.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a campaign fails like a test, and prints what it found"
)]

mod audit;
mod chart;
mod load;
mod node;
mod pod;
mod servers;
mod set;
mod steps;

use std::process::Command;

use clap::Parser;
use kit::broker::{Protocol, Version};
use servers::Servers;

/// Pods of the chart under load, rolled, scaled and replaced.
#[derive(Parser)]
struct Arguments {
    /// Events a second.
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Which ActiveMQ: 5 or 6.
    #[arg(long, default_value_t = 5)]
    broker: u8,
    /// Uses OpenWire instead of STOMP.
    #[arg(long)]
    openwire: bool,
    /// Cargo passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the pods promise. The pods of each mode have their own queue, topic and stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Shared,
    Strict,
    /// Strict ordering with transactions into Kafka.
    ExactlyOnce,
}

impl Mode {
    /// The name of the queue's namespace, the topic and the stream.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Strict => "strict",
            Self::ExactlyOnce => "exactly-once",
        }
    }

    /// `source.ordering`.
    pub fn ordering(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Strict | Self::ExactlyOnce => "strict",
        }
    }

    /// `sinks.kafka.exactly_once`.
    pub fn exactly_once(self) -> bool {
        self == Self::ExactlyOnce
    }
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let version = if arguments.broker == 6 { Version::V6 } else { Version::V5 };
    let protocol = if arguments.openwire { Protocol::OpenWire } else { Protocol::Stomp };
    print!("{}", kit::report::heading("Rehearsal: the chart's pods under load", "rehearsal"));
    println!("- broker: {}, over {protocol:?} and TLS", kit::report::name_of(version));
    println!(
        "- sinks: {} over TLS, with a login; {}, with a login; files",
        kit::report::kafka(),
        kit::report::nats()
    );
    println!("- chart: rendered by Helm {}", helm_version());
    println!("- load: {} events a second throughout", arguments.rate);
    println!("- seed: none, event n is the same in every run");

    let servers = Servers::start(version, protocol).await;
    for mode in [Mode::Shared, Mode::Strict, Mode::ExactlyOnce] {
        steps::rehearse(&servers, mode, arguments.rate).await;
    }
    println!("\nPassed.");
}

fn helm_version() -> String {
    let answer = Command::new(chart::helm()).args(["version", "--template", "{{.Version}}"]).output();
    let answer = answer.expect("run helm").stdout;
    String::from_utf8_lossy(&answer).trim_start_matches('v').to_owned()
}
