//! Simulates whole bridges with a broker, a network and destinations, in simulated time. One seed decides
//! everything: the setting, the load, the faults, and each delay. A seed that fails is printed with the shortest
//! list of faults that still fails, and gives the same run each time.
//!
//! `make simulate` runs more seeds: `SEEDS=100000`, from `SEED=1` on.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a simulation fails like a test")]

mod audit;
mod clock;
mod destination;
mod disk;
mod files;
mod letters;
mod network;
mod process;
mod randomness;
mod regressions;
mod runs;
mod schedule;
mod threads;
mod trace;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use runs::Run;
use schedule::Plan;

/// How many seeds `make test` runs.
const SEEDS: u64 = 1000;

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().expect("a number"))
}

/// The seeds that fail, in their order.
fn failing(first: u64, count: u64) -> Vec<u64> {
    let next = AtomicU64::new(first);
    let search = || {
        let mut failed = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return failed;
            }
            if Run::of(seed).fails() {
                failed.push(seed);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut failed: Vec<u64> = thread::scope(|scope| {
        let searches: Vec<_> = (0..threads).map(|_| scope.spawn(search)).collect();
        searches.into_iter().flat_map(|search| search.join().expect("no panic")).collect()
    });
    failed.sort_unstable();
    failed
}

#[test]
fn no_seed_loses_doubles_disorders_or_stalls() {
    let (first, count) = (number_of("SEED").unwrap_or(1), number_of("SEEDS").unwrap_or(SEEDS));
    let failed = failing(first, count);
    let explained: Vec<String> = failed.iter().take(3).map(|seed| Run::of(*seed).explain()).collect();
    assert!(
        failed.is_empty(),
        "{} of {count} seeds fail: {failed:?}\n\n{}",
        failed.len(),
        explained.join("\n\n")
    );
}

#[test]
fn no_fault_that_was_found_comes_back() {
    for name in regressions::ALL {
        if let Err(why) = runs::regression(name) {
            panic!("{name}: {why}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    for seed in 1..=20 {
        let run = Run::of(seed);
        let (once, again) = (run.trace(), run.trace());
        let differs = once.lines().zip(again.lines()).find(|(once, again)| once != again);
        assert!(once == again && !once.is_empty(), "seed {seed} differs: {differs:?}");
    }
}

/// One run, which the other tests start in a process of its own.
#[test]
#[ignore = "the other tests start it"]
fn one_run() {
    let plan = match std::env::var(runs::REGRESSION) {
        Ok(name) => regressions::plan(&name),
        Err(_) => Plan::of(number_of(runs::SEED).expect("the seed")),
    };
    let plan = match std::env::var(runs::FAULTS) {
        Ok(faults) => plan.with(faults.split_terminator(',').map(|fault| fault.parse().expect("a number"))),
        Err(_) => plan,
    };
    let (trace, failure) = world::run(&plan);
    if let Some(file) = std::env::var_os(runs::TRACE) {
        std::fs::write(file, format!("{plan:#?}\n{trace}")).expect("write the trace");
    }
    if let Some(why) = failure {
        panic!("{why}");
    }
}
