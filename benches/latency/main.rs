//! Measures the latency of an event, from its publication at a real broker until a reader of the sink has it:
//! through the bridge over both protocols, and through a bare loop of a STOMP client and the sink's client
//! library. `make bench-latency`; the document goes to standard output, progress to standard error.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a campaign fails like a test, and prints what it found"
)]

mod bare;
mod kafka;
mod load;

use std::time::Duration;

use clap::Parser;
use kit::broker::{Broker, Options, Protocol, Version};
use kit::report::{heading, kafka as kafka_version, name_of};

use self::kafka::Topic;
use self::load::{Latencies, Load};

/// The latency of events into Kafka.
#[derive(Parser)]
struct Arguments {
    /// Events a second; several values are measured one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1000, 5000])]
    rates: Vec<u32>,
    /// Seconds of each run.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Runs of each kind; the median of each figure counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
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

/// What carries the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Bridge(Protocol),
    Bare,
}

impl Carrier {
    const ALL: [Self; 3] = [Self::Bridge(Protocol::Stomp), Self::Bridge(Protocol::OpenWire), Self::Bare];

    fn name(self) -> &'static str {
        match self {
            Self::Bridge(Protocol::Stomp) => "bridge, STOMP",
            Self::Bridge(Protocol::OpenWire) => "bridge, OpenWire",
            Self::Bare => "bare loop, STOMP",
        }
    }
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("start a runtime");
    print!("{}", heading("Latency", "bench-latency"));
    println!("- server: {}", kafka_version());
    println!("- seed: none, event n is the same in every run");
    for setting in &arguments.settings {
        println!("- setting of the bridges: `{setting}`");
    }
    let versions = kit::report::brokers().into_iter().filter(|version| match arguments.broker {
        Some(5) => *version == Version::V5,
        Some(_) => *version == Version::V6,
        None => true,
    });
    for version in versions {
        runtime.block_on(measure(version, &arguments));
    }
}

async fn measure(version: Version, arguments: &Arguments) {
    let broker = Broker::start(version, Options::default());
    let mut topic = Topic::start();
    println!("\n## {} into Kafka, {} partitions\n", name_of(version), kafka::PARTITIONS);
    println!("| events/s | | p50 | p99 | p99.9 | processor |\n|---:|---|---:|---:|---:|---:|");
    // The first run warms up the servers' JIT compilers and does not count.
    run(&broker, &mut topic, Carrier::Bare, 1000, "warm", arguments).await;
    for &rate in &arguments.rates {
        let mut runs = Carrier::ALL.map(|_| Vec::new());
        for round in 0..arguments.rounds {
            eprintln!("{}, {rate} events/s, round {} of {}", name_of(version), round + 1, arguments.rounds);
            for (carrier, runs) in Carrier::ALL.into_iter().zip(&mut runs) {
                let namespace = format!("r{rate}x{round}");
                runs.push(run(&broker, &mut topic, carrier, rate, &namespace, arguments).await);
            }
        }
        for (carrier, runs) in Carrier::ALL.into_iter().zip(&runs) {
            print_row(carrier, rate, runs);
        }
    }
}

/// The latencies of one run, and the processor time of the bridge, as a share of one core. The bare loop runs
/// in this process, so its processor time is not known.
type Run = (Latencies, Option<f64>);

async fn run(
    broker: &Broker,
    topic: &mut Topic,
    carrier: Carrier,
    rate: u32,
    namespace: &str,
    arguments: &Arguments,
) -> Run {
    topic.renew();
    let namespace = match carrier {
        Carrier::Bridge(protocol) => protocol.named(namespace),
        Carrier::Bare => format!("{namespace}bare"),
    };
    let load = Load::new(broker, &namespace, rate, Duration::from_secs(arguments.seconds)).await;
    match carrier {
        Carrier::Bare => bare::run(broker, topic, load).await,
        Carrier::Bridge(protocol) => {
            let setup = topic.configure(load.setup(broker, protocol));
            let setup = arguments.settings.iter().fold(setup, |setup, setting| {
                let (name, value) = setting.split_once('=').expect("NAME=value");
                setup.set(name, value)
            });
            let bridge = setup.start();
            load.wait_for_consumer(broker).await;
            let before = bridge.processor_time();
            let (latencies, elapsed) = load.run(topic).await;
            let used = bridge.processor_time().saturating_sub(before);
            kit::report::backlog::stop(bridge).await;
            (latencies, Some(used.as_secs_f64() / elapsed.as_secs_f64()))
        }
    }
}

fn print_row(carrier: Carrier, rate: u32, runs: &[Run]) {
    let median = |figure: &dyn Fn(&Run) -> f64| {
        let mut figures: Vec<f64> = runs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let latency = |share: f64| median(&|(latencies, _)| latencies.quantile(share).as_secs_f64() * 1000.0);
    let is_measured = runs.iter().all(|(_, share)| share.is_some());
    let processor = median(&|(_, share)| share.unwrap_or_default() * 100.0);
    let processor = if is_measured { format!("{processor:.1} %") } else { String::new() };
    println!(
        "| {rate} | {} | {:.2} ms | {:.2} ms | {:.2} ms | {processor} |",
        carrier.name(),
        latency(0.5),
        latency(0.99),
        latency(0.999),
    );
}
