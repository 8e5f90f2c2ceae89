//! Prints tables of runs.

use std::time::Duration;

use crate::bridge::Bridge;

#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub elapsed: Duration,
    /// The bridge's processor time, and its peak memory in bytes.
    pub cost: Option<(Duration, u64)>,
}

impl Run {
    /// A run with the cost of the whole process.
    pub fn of_bridge(elapsed: Duration, bridge: &Bridge) -> Self {
        Self { elapsed, cost: Some((bridge.processor_time(), bridge.peak_memory())) }
    }

    /// Events per second.
    pub fn rate(&self, events: u64) -> f64 {
        events as f64 / self.elapsed.as_secs_f64()
    }
}

/// Prints the table row of one kind of run, and returns the median rate.
pub fn row(name: &str, events: u64, runs: &mut [Run]) -> f64 {
    runs.sort_by_key(|run| run.elapsed);
    let median = runs[runs.len() / 2];
    let all: Vec<String> = runs.iter().map(|run| format!("{:.0}", run.rate(events))).collect();
    let cost = median.cost.map_or(" | ".to_owned(), |(processor, memory)| {
        let each = processor.as_nanos() as f64 / 1000.0 / events as f64;
        format!("{each:.2} µs | {:.1} MB", memory as f64 / 1e6)
    });
    println!("| {name} | {:.0} | {} | {cost} |", median.rate(events), all.join(", "));
    median.rate(events)
}

/// Prints the row of another build of the bridge, unless it has no runs. Its runs are in the order of this build's.
pub fn row_of_other_build(events: u64, others: &mut [Run], these: &[Run]) {
    if !others.is_empty() {
        let share = median_share(others, these);
        row(&format!("other build ({share:.2} of this one)"), events, others);
    }
}

/// The head of a table of [`row`]s.
pub const COLUMNS: &str =
    "| | events/s, median | all runs | processor time per event | peak memory |\n|---|---:|---|---:|---:|";

/// The median over the rounds of the bridge's speed relative to the bare client's.
pub fn median_share(bridge: &[Run], bare: &[Run]) -> f64 {
    // Compares runs that are close in time, so that other load on the machine affects both.
    let share = |(bridge, bare): (&Run, &Run)| bare.elapsed.as_secs_f64() / bridge.elapsed.as_secs_f64();
    let mut shares: Vec<f64> = bridge.iter().zip(bare).map(share).collect();
    shares.sort_by(f64::total_cmp);
    shares[shares.len() / 2]
}
