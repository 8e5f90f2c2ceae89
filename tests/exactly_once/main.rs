//! Runs the campaign behind `make exactly-once`. A bridge with Kafka, JetStream and files is killed again and
//! again under load; then come the special cases. Each sink is audited for lost, doubled and disordered events.
//! The document goes to standard output, progress to standard error.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a campaign fails like a test, and prints what it found"
)]

mod cases;
mod findings;
mod kills;
mod round;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use kit::report;
use kit::scenario::seed;

use self::cases::Servers;
use self::kills::Kills;

/// What the document can't say by numbers.
const NOT_COVERED: &str = "\
- Power cuts: SIGKILL leaves what the process gave to the system. The tests of the journal lose unsynced pages, on a \
  simulated disk.
- Several machines: everything runs on one, with one clock. A partition of Kafka has one replica and JetStream one \
  server, so no other node is elected, no replica is behind, and no network between nodes parts them.
- Kafka and NATS are down only in the cases `sink-down` and `kafka-outages`, a network is bad only in `late-bytes`.
- Destinations that delete what they hold: compacted topics, short retention, streams of the kinds `workqueue` and \
  `interest`, and topics or streams that are made anew.
- Files of two replicas: each has its own, and neither knows what the other one's hold.
- AtData publishing an event again: it then has another message id.";

/// A bridge that is killed again and again under load, and special cases: what is lost, doubled or out of order
/// in each sink.
#[derive(Parser)]
struct Arguments {
    /// How many times the bridge is killed before the special cases.
    #[arg(long, default_value_t = 500, conflicts_with = "case")]
    kills: u64,
    /// How many kills come before an audit.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..))]
    round: u64,
    /// The longest time from a start to the kill, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    longest: u64,
    /// Runs only this special case, without the kills before. Can be repeated.
    #[arg(long, value_parser = PossibleValuesParser::new(cases::names()))]
    case: Vec<String>,
    /// Leaves the special cases out.
    #[arg(long, conflicts_with = "case")]
    no_cases: bool,
    /// How long a process is frozen in the special cases, in seconds.
    #[arg(long, default_value_t = 90)]
    frozen: u64,
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

    let servers = Servers::start();
    let mut failed = Vec::new();
    if arguments.case.is_empty() && arguments.kills > 0 {
        let longest = Duration::from_millis(arguments.longest);
        let kills = Kills { kills: arguments.kills, round: arguments.round, longest };
        failed.extend(kills.run(&brokers, (&servers.kafka, &servers.nats), seed).await);
    }
    if !arguments.no_cases {
        let frozen = Duration::from_secs(arguments.frozen);
        let finished = cases::run(&arguments.case, &servers, &brokers, frozen, seed).await;
        println!("\n## Special cases\n\n{}", cases::table(&finished));
        failed.extend(finished.iter().filter(|case| !case.passed()).map(|case| case.name().to_owned()));
    }
    println!("## What is not covered\n\n{NOT_COVERED}\n");
    if failed.is_empty() {
        println!("Passed.");
        return ExitCode::SUCCESS;
    }
    println!("Failed: {}.", failed.join("; "));
    ExitCode::FAILURE
}
