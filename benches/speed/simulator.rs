//! Measures the bridge from the simulator into files, both on the same cores.

use std::time::{Duration, Instant};

use atdata_bridge::simulator::{Generation, GeneratorConfig, Rate, Simulator, SimulatorConfig};

use kit::bridge::Setup;
use kit::report::runs::{COLUMNS, Run, row};
use kit::{SOON, wait_until};

const PATIENCE: Duration = Duration::from_secs(300);

/// Prints a table and returns the median speed in events per second.
pub async fn measure(events: u64, rounds: usize) -> f64 {
    let mut runs = Vec::new();
    for round in 1..=rounds {
        eprintln!("simulator, round {round} of {rounds}");
        runs.push(carry(events).await);
    }
    println!("\n## Simulator: {events} events, generated while they are consumed\n\n{COLUMNS}");
    row("bridge into files", events, &mut runs)
}

/// Measures from the start of the process until everything is acknowledged.
async fn carry(events: u64) -> Run {
    let simulator = Simulator::start(SimulatorConfig::default()).await.expect("start the simulator");
    let generation =
        Generation { events: Some(events), rate: Rate::default(), generator: GeneratorConfig::default() };
    simulator.generate("acme", generation);
    let setup = Setup::at(&simulator.url(), "acme", "bench", "bench-1");
    let begun = Instant::now();
    let mut bridge = setup.start();
    wait_until("everything is acknowledged", PATIENCE, || simulator.stats().total().acked == events).await;
    let run = Run::of_bridge(begun.elapsed(), &bridge);
    bridge.terminate();
    assert!(bridge.ended(SOON).await.success(), "the bridge did not stop cleanly");
    simulator.stop().await;
    run
}
