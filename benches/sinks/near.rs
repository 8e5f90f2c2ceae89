//! From the simulator into a server on the same machine, held against a loop that only publishes.

use std::time::Instant;

use atdata_bridge::simulator::{Generation, GeneratorConfig, Rate, Simulator, SimulatorConfig};

use kit::admin::Admin;
use kit::bench::{By, Destination, NAMESPACE, Terms, setup};
use kit::report::backlog::{PATIENCE, stop};
use kit::report::runs::{COLUMNS, Run, median_share, row};
use kit::wait_until;

/// Prints a table, and returns the bridge's speed as a share of that of the bare loop with as many in flight,
/// the median over the rounds.
pub async fn compare<D: Destination>(
    destination: &mut D,
    events: u64,
    rounds: usize,
    terms: Terms<'_>,
) -> f64 {
    // The first round warms the server up, and makes the records of the bare loop: those of the bridge.
    carry(destination, events, terms).await;
    let records = destination.records().await;
    let windows = D::windows(terms.prefetch);
    let mut bridge = Vec::new();
    let mut bare = vec![Vec::new(); windows.len()];
    for round in 1..=rounds {
        eprintln!("{}, prefetch {}, round {round} of {rounds}", D::NAME, terms.prefetch);
        bridge.push(carry(destination, events, terms).await);
        for ((window, _), runs) in windows.iter().zip(&mut bare) {
            destination.renew().await;
            let elapsed = destination.produce(&records, *window).await;
            assert_eq!(destination.count().await, events);
            runs.push(Run { elapsed, cost: None });
        }
    }
    let shares: Vec<f64> = bare.iter().map(|bare| median_share(&bridge, bare)).collect();
    println!("\n## {}: {events} events, prefetch {}\n\n{COLUMNS}", D::NAME, terms.prefetch);
    row("simulator, bridge", events, &mut bridge);
    for (((_, name), runs), share) in windows.iter().zip(&mut bare).zip(&shares) {
        row(&format!("{name} (the bridge reaches {share:.2})"), events, runs);
    }
    shares[0]
}

/// From the first event until everything is acknowledged to the simulator, once all are connected.
async fn carry<D: Destination>(destination: &mut D, events: u64, terms: Terms<'_>) -> Run {
    destination.renew().await;
    let simulator = Simulator::start(SimulatorConfig::default()).await.expect("start the simulator");
    let setup = setup(destination, &simulator.url(), terms, By::Itself);
    let bridge = setup.start();
    Admin::of(&bridge).await.ready().await;
    let idle = bridge.processor_time();
    let begun = Instant::now();
    simulator.generate(NAMESPACE, generation(events));
    wait_until("everything is acknowledged", PATIENCE, || simulator.stats().total().acked == events).await;
    let mut run = Run::of_bridge(begun.elapsed(), &bridge);
    run.cost = run.cost.map(|(processor, memory)| (processor.saturating_sub(idle), memory));
    stop(bridge).await;
    simulator.stop().await;
    assert_eq!(destination.count().await, events, "events at the destination");
    run
}

/// Many people, so that hardly ever two events of one are in flight: the NATS sink parks the second.
pub fn generation(events: u64) -> Generation {
    let generator = GeneratorConfig { keys: 100_000, ..GeneratorConfig::default() };
    Generation { events: Some(events), rate: Rate::default(), generator }
}
