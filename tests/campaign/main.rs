//! Runs the campaign behind `make campaign`: rounds of faults that a seed draws, on real servers, each with the audit
//! of every sink. The document goes to standard output, plans and progress to standard error.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(dead_code, reason = "without a harness, nothing here calls the unit tests; `parts.rs` runs them")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a campaign fails like a test, and prints what it found"
)]

mod audit;
mod faults;
mod load;
mod plan;
mod round;
mod tables;
mod watch;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kit::report;
use kit::scenario::seed;

use self::plan::{Plan, Wanted};
use self::round::{Outcome, UNTRUE};

/// What the document can't say by numbers.
const READING: &str = "\
- **Level**: 0, the bridge may not read the topic; 1, it reads what the topic has; 2, `exactly_once = true`.
- **Doubled**: by the table of the README, with the exceptions in docs/operating.md. *Not allowed* must be 0.
- **Out of order**: first appearances of one key's events, against the promise: in Kafka and JetStream across all \
  replicas of a strict pair, in files for each replica of one. Replicas that share the events promise no order between \
  them: what is late there is counted as *order not promised*.
- **Longest recovery**: from the end of a storm's last fault until all replicas are ready and events move.
- **Longest untrue ready**: as `tests/campaign/watch.rs` defines it.
- Faults of one storm are at work together; the next storm begins after the recovery.";

const NOT_COVERED: &str = "\
- Power cuts: SIGKILL leaves what the process gave to the system.
- Several machines: everything runs on one, with one clock, and no network between the nodes of a cluster parts them.
- Events that a sink refuses.";

/// Rounds of faults that a seed draws, on real servers: what is lost, doubled or out of order in each sink.
#[derive(Parser)]
struct Arguments {
    /// Draws everything. The variable SEED has the same effect.
    #[arg(long)]
    seed: Option<u64>,
    /// How many events are published, in all rounds together.
    #[arg(long, default_value_t = 500_000)]
    events: u64,
    /// How many faults there are, in all rounds together: twelve in a round.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    faults: u64,
    /// The longest fault, in seconds.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=90))]
    longest: u64,
    /// Another build of the bridge, to which replicas are upgraded and from which they go back.
    #[arg(long, value_parser = kit::process::other_build)]
    other_build: Option<PathBuf>,
    /// Runs only the round with this number. The other options must be those of the whole run.
    #[arg(long)]
    round: Option<u64>,
    /// Only prints the plans.
    #[arg(long)]
    plan: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(seed);
    let Arguments { events, faults, longest, .. } = arguments;
    let other_build = arguments.other_build;
    let wanted = Wanted { seed, events, faults, longest, upgrades: other_build.is_some() };
    let rounds = (1..=wanted.rounds()).filter(|number| arguments.round.is_none_or(|only| only == *number));
    let plans: Vec<Plan> = rounds.map(|number| Plan::of(&wanted, number)).collect();
    if arguments.plan {
        plans.iter().for_each(|plan| print!("{plan}"));
        return ExitCode::SUCCESS;
    }
    kit::kafka::directory().unwrap_or_else(|reason| panic!("{reason}"));
    kit::nats::directory().unwrap_or_else(|reason| panic!("{reason}"));
    kit::disk::small_disks().unwrap_or_else(|reason| panic!("{reason}"));

    let mut outcomes = Vec::new();
    for plan in plans {
        eprint!("{plan}");
        let logs = kit::process::scratch().join(format!("campaign-{seed}-{}", plan.number));
        outcomes.push(round::run(plan, other_build.as_deref(), &logs).await);
    }
    print(&outcomes, seed)
}

fn print(outcomes: &[Outcome], seed: u64) -> ExitCode {
    print!("{}", report::heading("A campaign of faults on real servers", "campaign"));
    println!("- servers: {}, {}, three of each", report::kafka(), report::nats());
    println!("- seed: {seed}");
    println!("\n## Rounds\n\n{}", tables::rounds(outcomes));
    println!("{READING}\n\n## Faults\n\n{}", tables::faults(outcomes));
    println!("## Doubles by cause\n\n{}", tables::doubles(outcomes));
    println!("## What is not covered\n\n{NOT_COVERED}\n");
    let failed = outcomes.iter().filter(|outcome| !outcome.broken.is_empty());
    let failed: Vec<_> = failed
        .map(|outcome| format!("round {}: {}", outcome.plan.number, outcome.broken.join("; ")))
        .collect();
    if failed.is_empty() {
        println!("Passed: `ready` was never untrue for more than {} s.", UNTRUE.as_secs());
        return ExitCode::SUCCESS;
    }
    println!("Failed: {}.", failed.join("; "));
    ExitCode::FAILURE
}
