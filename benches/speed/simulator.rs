//! Measures the bridge from the simulator into files, both on the same cores.

use std::path::Path;
use std::time::{Duration, Instant};

use atdata_bridge::simulator::{Generation, GeneratorConfig, Rate, Simulator, SimulatorConfig};

use kit::bridge::Setup;
use kit::report::runs::{COLUMNS, Run, row, row_of_other_build};
use kit::{SOON, wait_until};

const PATIENCE: Duration = Duration::from_secs(300);

/// Prints a table and returns the median speed in events per second.
pub async fn measure(events: u64, rounds: usize, settings: &[String], other_build: Option<&Path>) -> f64 {
    let (mut runs, mut other) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("simulator, round {round} of {rounds}");
        runs.push(carry(events, settings, None).await);
        if other_build.is_some() {
            other.push(carry(events, settings, other_build).await);
        }
    }
    println!("\n## Simulator: {events} events, generated while they are consumed\n\n{COLUMNS}");
    row_of_other_build(events, &mut other, &runs);
    row("bridge into files", events, &mut runs)
}

/// Measures from the start of the process until everything is acknowledged.
async fn carry(events: u64, settings: &[String], other_build: Option<&Path>) -> Run {
    let simulator = Simulator::start(SimulatorConfig::default()).await.expect("start the simulator");
    let generation =
        Generation { events: Some(events), rate: Rate::default(), generator: GeneratorConfig::default() };
    simulator.generate("acme", generation);
    let setup =
        Setup::at(&simulator.url(), "acme", "bench", "bench-1").set_all(settings).other_build(other_build);
    let begun = Instant::now();
    let mut bridge = setup.start();
    wait_until("everything is acknowledged", PATIENCE, || simulator.stats().total().acked == events).await;
    let run = Run::of_bridge(begun.elapsed(), &bridge);
    bridge.terminate();
    assert!(bridge.ended(SOON).await.success(), "the bridge did not stop cleanly");
    simulator.stop().await;
    run
}
