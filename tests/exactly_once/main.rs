//! Runs the campaign of kills: a bridge with Kafka, JetStream and files is killed again and again under
//! load, and each sink is audited for lost, doubled and disordered events. `make exactly-once`; the document goes
//! to standard output, progress to standard error.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a campaign fails like a test, and prints what it found"
)]

mod findings;
mod round;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use fastrand::Rng;
use kit::any_kafka::AnyKafka;
use kit::nats::NatsServer;
use kit::report;
use kit::scenario::seed;

use self::findings::Finding;
use self::round::{PREFETCH, Round};

/// A bridge that is killed again and again under load: what is lost, doubled or out of order in each sink.
#[derive(Parser)]
struct Arguments {
    /// How many times the bridge is killed.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    kills: u64,
    /// How many kills come before an audit.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..))]
    round: u64,
    /// The longest time from a start to the kill, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    longest: u64,
    /// Repeats the times between the kills of an earlier run. The variable SEED has the same effect.
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let brokers = report::brokers();
    assert!(!brokers.is_empty(), "there is no broker");
    kit::kafka::directory().unwrap_or_else(|reason| panic!("a mock cluster proves nothing: {reason}"));
    let seed = arguments.seed.unwrap_or_else(seed);
    print!("{}", report::heading("Exactly once: a bridge that is killed under load", "exactly-once"));
    println!("- servers: {}, {}", report::kafka(), report::nats());
    println!("- seed: {seed}");

    let (kafka, nats) = (AnyKafka::start(), NatsServer::start(""));
    let mut random = Rng::with_seed(seed);
    let mut rounds = Vec::new();
    let (mut left, began) = (arguments.kills, Instant::now());
    for (number, version) in brokers.into_iter().cycle().enumerate() {
        if left == 0 {
            break;
        }
        let kills = arguments.round.min(left);
        left -= kills;
        let longest = Duration::from_millis(arguments.longest);
        let round = Round { number: number + 1, version, kills, longest };
        rounds.push(round.run(&kafka, &nats, &mut random).await);
    }
    print_results(&arguments, &rounds, began.elapsed())
}

fn print_results(arguments: &Arguments, rounds: &[Finding], took: Duration) -> ExitCode {
    println!(
        "\n{} times SIGKILL, between 0 and {} ms after the start, with {PREFETCH} events in flight at most; the \
         first start of a round reads over STOMP, the next one over OpenWire, and so on in turn. In {:.0} s.",
        arguments.kills,
        arguments.longest,
        took.as_secs_f64()
    );
    let total = Finding::sum(rounds);
    println!("\n## Each sink\n\n{}", total.by_sink());
    println!("## Each round\n\n{}", Finding::by_round(rounds));
    let broken = total.broken_promises();
    if broken.is_empty() {
        println!("Passed.");
        return ExitCode::SUCCESS;
    }
    println!("Failed: {}.", broken.join("; "));
    ExitCode::FAILURE
}
