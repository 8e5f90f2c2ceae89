//! Measures the bridge from the simulator into a server on the same machine, compared with a loop that only
//! publishes.

use std::path::Path;
use std::time::Instant;

use atdata_bridge::simulator::{Generation, GeneratorConfig, Rate, Simulator, SimulatorConfig};

use kit::admin::Admin;
use kit::bench::{NAMESPACE, Route, Server, Tuning, setup};
use kit::report::backlog::{PATIENCE, stop};
use kit::report::runs::{COLUMNS, Run, median_share, row};
use kit::wait_until;

/// Prints a table. With settings in `beside` or another build, a second bridge that has them takes turns with the
/// others. Returns the median over the rounds of the bridge's speed as a share of the speed of the bare loop with the
/// same window.
pub async fn compare<D: Server>(
    destination: &mut D,
    events: u64,
    rounds: usize,
    tuning: Tuning<'_>,
    beside: &[String],
    other_build: Option<&Path>,
) -> f64 {
    let settings = [tuning.settings, beside].concat();
    let has_second = !beside.is_empty() || other_build.is_some();
    let other = has_second.then_some(Tuning { settings: &settings, other_build, ..tuning });
    // The first rounds warm up the server, and the output of the last gives the records for the bare loop.
    if let Some(other) = other {
        carry(destination, events, other).await;
    }
    carry(destination, events, tuning).await;
    let records = destination.records().await;
    let windows = D::windows(tuning.prefetch);
    let (mut bridge, mut second) = (Vec::new(), Vec::new());
    let mut bare = vec![Vec::new(); windows.len()];
    for round in 1..=rounds {
        eprintln!("{}, prefetch {}, round {round} of {rounds}", D::NAME, tuning.prefetch);
        bridge.push(carry(destination, events, tuning).await);
        if let Some(other) = other {
            second.push(carry(destination, events, other).await);
        }
        for ((window, _), runs) in windows.iter().zip(&mut bare) {
            destination.renew().await;
            let elapsed = destination.produce(&records, *window).await;
            assert_eq!(destination.count().await, events);
            runs.push(Run { elapsed, cost: None });
        }
    }
    let shares: Vec<f64> = bare.iter().map(|bare| median_share(&bridge, bare)).collect();
    println!("\n## {}: {events} events, prefetch {}\n\n{COLUMNS}", D::NAME, tuning.prefetch);
    let share_of_second = other.map(|_| median_share(&second, &bridge));
    row("simulator, bridge", events, &mut bridge);
    if let Some(share) = share_of_second {
        let build = if other_build.is_some() { "other build" } else { "bridge" };
        let with = if beside.is_empty() { String::new() } else { format!(" with {}", beside.join(" ")) };
        row(&format!("{build}{with} ({share:.2} of the first)"), events, &mut second);
    }
    for (((_, name), runs), share) in windows.iter().zip(&mut bare).zip(&shares) {
        row(&format!("{name} (the bridge reaches {share:.2})"), events, runs);
    }
    shares[0]
}

/// Measures from the first event until everything is acknowledged to the simulator. The connections already
/// exist.
pub async fn carry<D: Server>(destination: &mut D, events: u64, tuning: Tuning<'_>) -> Run {
    destination.renew().await;
    let simulator = Simulator::start(SimulatorConfig::default()).await.expect("start the simulator");
    let setup = setup(destination, &simulator.url(), tuning, Route::Direct);
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

/// Many keys, so that two events of one key are hardly ever in flight together: the NATS sink parks the
/// second.
pub fn generation(events: u64) -> Generation {
    let generator = GeneratorConfig { keys: 100_000, ..GeneratorConfig::default() };
    Generation { events: Some(events), rate: Rate::default(), generator }
}
