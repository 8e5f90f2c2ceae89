//! Measures what it costs at the start to ask a sink which events it holds: the time until the first event is
//! stored, and memory.

use std::time::{Duration, Instant};

use atdata_bridge::simulator::{Simulator, SimulatorConfig};

use super::far::DELAY;
use super::near::{carry, generation};
use kit::admin::Admin;
use kit::bench::{NAMESPACE, Route, Server, Tuning, setup};
use kit::bridge::Setup;
use kit::proxy::Proxy;
use kit::report::backlog::{PATIENCE, stop};
use kit::wait_until;

/// The longest that a claim may take, near and far.
pub const NEAR_LIMIT: Duration = Duration::from_millis(300);
pub const FAR_LIMIT: Duration = Duration::from_millis(1500);

/// One start.
struct Start {
    /// How long the answer took.
    claim: Duration,
    /// From the first event until it was acknowledged.
    first_event: Duration,
    /// Memory in bytes before and after, and the most in between.
    before: u64,
    after: u64,
    peak: u64,
}

/// Prints the head of the table of [`measure`].
pub fn head() {
    println!("\n## Asking a sink what it holds, at the start\n");
    println!(
        "| into | round trip | prefetch | events held | found | answer | first event acknowledged | memory before | \
         after | most |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    );
}

/// Prints two rows, near and far. Returns the limits that were missed. `partitions` is how many times the sink
/// reads the last events.
pub async fn measure<D: Server>(
    destination: &mut D,
    into: &str,
    partitions: usize,
    rounds: usize,
    tuning: Tuning<'_>,
) -> Vec<String> {
    let events = (tuning.prefetch * 4).max(4096) * partitions * 5 / 4;
    let events = u64::try_from(events).expect("a count");
    carry(destination, events, tuning).await;
    let (address, target) = destination.proxy_addresses();
    let _proxy = Proxy::delayed_at(address, target, DELAY).await;
    let mut missed = Vec::new();
    for (route, limit) in [(Route::Direct, NEAR_LIMIT), (Route::Proxy, FAR_LIMIT)] {
        let away = if route == Route::Proxy { 2 * DELAY } else { Duration::ZERO };
        let mut starts = Vec::new();
        for round in 1..=rounds {
            eprintln!(
                "{into}, {} ms, prefetch {}, round {round} of {rounds}",
                away.as_millis(),
                tuning.prefetch
            );
            starts.push(start(destination, tuning, route).await);
        }
        starts.sort_by_key(|(start, _)| start.claim);
        let (Start { claim, first_event, before, after, peak }, found) = &starts[starts.len() / 2];
        let mib = |bytes: &u64| format!("{:.1} MiB", *bytes as f64 / f64::from(1 << 20));
        println!(
            "| {into} | {} ms | {} | {events} | {found} | {} ms | {} ms | {} | {} | {} |",
            away.as_millis(),
            tuning.prefetch,
            claim.as_millis(),
            first_event.as_millis(),
            mib(before),
            mib(after),
            mib(peak)
        );
        if *claim > limit {
            missed.push(format!("{into}, {} ms away: {} ms", away.as_millis(), claim.as_millis()));
        }
    }
    missed
}

/// Starts a bridge and gives it one event. Returns also how many events the sink named.
async fn start<D: Server>(destination: &D, tuning: Tuning<'_>, route: Route) -> (Start, u64) {
    let simulator = Simulator::start(SimulatorConfig::default()).await.expect("start the simulator");
    let setup: Setup = setup(destination, &simulator.url(), tuning, route);
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    admin.ready().await;
    let before = bridge.memory();
    let began = Instant::now();
    simulator.generate(NAMESPACE, generation(1));
    wait_until("the event is acknowledged", PATIENCE, || simulator.stats().total().acked == 1).await;
    let first_event = began.elapsed();
    let metrics = admin.metrics().await;
    let claim = Duration::from_secs_f64(metrics.sum("atdata_bridge_claim_seconds_sum"));
    let found = metrics.sum("atdata_bridge_claim_events") as u64;
    let start = Start { claim, first_event, before, after: bridge.memory(), peak: bridge.peak_memory() };
    stop(bridge).await;
    simulator.stop().await;
    (start, found)
}
