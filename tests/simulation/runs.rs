//! Starts each run in a process of its own, because a run is the same each time only in a new process.

use std::path::Path;
use std::process::{Command, Output};

use crate::schedule::Plan;

/// The seed of the run.
pub const SEED: &str = "SIMULATED_SEED";
/// The name of a regression, in the place of a seed.
pub const REGRESSION: &str = "SIMULATED_REGRESSION";
/// The faults of the plan that happen, by their places; all if it is not set.
pub const FAULTS: &str = "SIMULATED_FAULTS";
/// The file for the record of the run.
pub const TRACE: &str = "SIMULATED_TRACE";

/// The arguments of the process of a run.
const ONE_RUN: [&str; 5] = ["one_run", "--exact", "--ignored", "--nocapture", "--test-threads=1"];

/// The lines of a record that an explanation shows.
const LAST_LINES: usize = 60;

/// Runs a regression. The error says what went wrong.
pub fn regression(name: &str) -> Result<(), String> {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(ONE_RUN).env(REGRESSION, name).env("RUST_BACKTRACE", "0");
    let output = command.output().expect("start a run");
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A run that can be repeated.
#[derive(Clone, Debug)]
pub struct Run {
    seed: u64,
    /// The places of the faults that happen.
    faults: Vec<usize>,
}

impl Run {
    /// The run of a seed, with all of its faults.
    pub fn of(seed: u64) -> Self {
        Self { seed, faults: (0..Plan::of(seed).faults.len()).collect() }
    }

    fn variables(&self) -> [(&str, String); 2] {
        let faults: Vec<String> = self.faults.iter().map(usize::to_string).collect();
        [(SEED, self.seed.to_string()), (FAULTS, faults.join(","))]
    }

    fn start(&self, trace: Option<&Path>) -> Output {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(ONE_RUN).envs(self.variables()).env("RUST_BACKTRACE", "0");
        command.envs(trace.map(|file| (TRACE, file)));
        command.output().expect("start a run")
    }

    /// Whether a check fails, or the run ends in another way.
    pub fn fails(&self) -> bool {
        !self.start(None).status.success()
    }

    /// The record of the run.
    pub fn trace(&self) -> String {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a directory");
        let file = directory.path().join("trace");
        self.start(Some(&file));
        std::fs::read_to_string(file).unwrap_or_default()
    }

    /// Leaves out faults as long as it still fails.
    fn shrunk(&self) -> Self {
        let mut smallest = self.clone();
        let mut at = 0;
        while at < smallest.faults.len() {
            let mut shorter = smallest.clone();
            shorter.faults.remove(at);
            if shorter.fails() {
                smallest = shorter;
            } else {
                at += 1;
            }
        }
        smallest
    }

    /// Describes a failure, with the fewest faults that still fail.
    pub fn explain(&self) -> String {
        let smallest = self.shrunk();
        let said = smallest.start(None).stderr;
        let said = String::from_utf8_lossy(&said);
        let why = said.lines().skip_while(|line| !line.contains("panicked at")).nth(1).unwrap_or(&said);
        let trace = smallest.trace();
        let lines: Vec<&str> = trace.lines().collect();
        let (plan, happened) =
            lines.split_at(lines.iter().position(|line| *line == "}").map_or(0, |end| end + 1));
        let last = &happened[happened.len().saturating_sub(LAST_LINES)..];
        format!(
            "seed {}: {why}\nagain: {} {TRACE}=FILE {} {}\n{}\nthe last that happened:\n{}",
            self.seed,
            smallest.variables().map(|(name, value)| format!("{name}={value}")).join(" "),
            std::env::current_exe().expect("this program").display(),
            ONE_RUN.join(" "),
            plan.join("\n"),
            last.join("\n")
        )
    }
}
