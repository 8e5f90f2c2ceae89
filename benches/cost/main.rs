//! Counts what one event costs in each part of the hot path: allocations (`cargo test` compares them with the
//! recorded ones), and instructions (`make bench-cost`, with Valgrind). Counts hardly depend on the load of
//! the machine, so they show a regression that a time would hide.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a campaign fails like a test, and prints what it found"
)]

mod allocations;
mod parts;

use std::process::{Command, exit};

use kit::report::titled;

use self::allocations::allocations;
use self::parts::{PARTS, Part};

/// A part runs with this number of events and with twice as many. The difference is the cost of these events
/// alone, without start and preparation.
const EVENTS: u64 = 4096;
/// Instructions may differ from the recorded ones by this share, because compilers and processors differ.
const MARGIN: f64 = 0.1;
/// How often the allocations of a part are counted at least.
const RUNS: usize = 3;
/// How often at most.
const MOST_RUNS: usize = 9;
/// Selects the part that a process under Valgrind runs.
const RUN: &str = "--run";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [run, part, events] = &arguments[..]
        && run == RUN
    {
        let part = PARTS.iter().find(|known| known.name == part).expect("a part");
        (part.run)(events.parse().expect("a number"), 2 * EVENTS);
        return;
    }
    let counts_instructions = arguments.iter().any(|argument| argument == "--bench");
    if counts_instructions {
        print!("{}", titled("Cost of an event", "bench-cost", &[("Valgrind", version_of_valgrind())]));
        println!("\n| part | instructions per event | recorded | allocations per event | recorded |");
        println!("|---|---:|---:|---:|---:|");
    }
    let mut changed = Vec::new();
    for part in &PARTS {
        let allocations = allocated(part);
        if !part.is_as_recorded(allocations) {
            changed.push(format!(
                "{}: {allocations:.2} allocations per event, recorded are {:.2}",
                part.name, part.allocations
            ));
        }
        if !counts_instructions {
            println!("{}: {allocations:.2} allocations per event", part.name);
            continue;
        }
        let (instructions, recorded) = (instructions(part), part.instructions);
        if (instructions / recorded - 1.0).abs() > MARGIN {
            changed.push(format!(
                "{}: {instructions:.0} instructions per event, recorded are {recorded:.0}",
                part.name
            ));
        }
        println!(
            "| {} | {instructions:.0} | {recorded:.0} | {allocations:.2} | {:.2} |",
            part.name, part.allocations
        );
    }
    if !changed.is_empty() {
        eprintln!(
            "The cost of an event has changed (benches/cost/parts.rs records it):\n{}",
            changed.join("\n")
        );
        exit(1);
    }
}

/// The allocations of one event. Where batches depend on timing a count varies, so it is the median of some; of more
/// if that is not what is recorded.
fn allocated(part: &Part) -> f64 {
    let count = |events| {
        let before = allocations();
        (part.run)(events, 2 * EVENTS);
        (allocations() - before) as f64
    };
    // The first run fills what is allocated once.
    let _fills = count(EVENTS);
    let mut counts = Vec::new();
    loop {
        counts.push((count(2 * EVENTS) - count(EVENTS)) / EVENTS as f64);
        counts.sort_by(f64::total_cmp);
        let median = counts[counts.len() / 2];
        let is_enough = counts.len() >= MOST_RUNS || part.is_as_recorded(median);
        if counts.len() % 2 == 1 && counts.len() >= RUNS && is_enough {
            return median;
        }
    }
}

/// The instructions of one event, in all threads.
fn instructions(part: &Part) -> f64 {
    let count = |events: u64| {
        let output = Command::new("valgrind")
            .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
            .arg(std::env::current_exe().expect("the path of this program"))
            .args([RUN, part.name, &events.to_string()])
            .output()
            .expect("start Valgrind (Debian's package valgrind)");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        let (_, count) = text.split_once("I   refs:").expect("a count of instructions");
        let count: String = count.lines().next().unwrap_or_default().replace(',', "");
        count.trim().parse::<u64>().expect("a number")
    };
    (count(2 * EVENTS) as f64 - count(EVENTS) as f64) / EVENTS as f64
}

fn version_of_valgrind() -> String {
    let output = Command::new("valgrind").arg("--version").output();
    let output = output.expect("start Valgrind (Debian's package valgrind)");
    String::from_utf8_lossy(&output.stdout).trim().trim_start_matches("valgrind-").to_owned()
}
