//! Measures the bridge into a server that is 50 ms away in each direction. Throughput depends on the events
//! in flight.

use std::time::Duration;

use atdata_bridge::simulator::{Simulator, SimulatorConfig};

use super::near::generation;
use kit::bench::{DESTINATION, NAMESPACE, Route, Server, Tuning, setup};
use kit::broker::{Broker, Options, Protocol, Version};
use kit::events::{Events, Spread};
use kit::proxy::Proxy;
use kit::report::backlog::{backlog, rate};
use kit::report::name_of;

/// The delay in each direction.
pub const DELAY: Duration = Duration::from_millis(50);

/// Prints the head of the table of [`from_simulator`] and [`from_broker`].
pub fn head() {
    println!("\n## Delayed by {} ms in each direction\n", DELAY.as_millis());
    println!(
        "| from | into | prefetch | events | events/s | in flight | of the window |\n|---|---|---:|---:|---:|---:|---:|"
    );
}

/// Prints a row and returns the events in flight as a share of the window.
pub async fn from_simulator<D: Server>(
    destination: &mut D,
    into: &str,
    events: u64,
    tuning: Tuning<'_>,
) -> f64 {
    eprintln!("simulator, far {into}, prefetch {}", tuning.prefetch);
    destination.renew().await;
    let _proxy = delayed(destination).await;
    let simulator = Simulator::start(SimulatorConfig::default()).await.expect("start the simulator");
    simulator.generate(NAMESPACE, generation(events));
    let setup = setup(destination, &simulator.url(), tuning, Route::Proxy);
    let rate = rate(&setup, events, || simulator.stats().total().acked).await;
    simulator.stop().await;
    assert_eq!(destination.count().await, events, "events at the destination");
    row("simulator", into, events, tuning.prefetch, rate)
}

pub async fn from_broker<D: Server>(
    destination: &mut D,
    into: &str,
    version: Version,
    events: u64,
    tuning: Tuning<'_>,
) {
    eprintln!("{}, far {into}, prefetch {}", name_of(version), tuning.prefetch);
    destination.renew().await;
    let _proxy = delayed(destination).await;
    let broker = Broker::start(version, Options::default());
    let many = Events { count: events, keys: 100_000, spread: Spread::Even, bad_every: None };
    let queue = backlog(&broker, NAMESPACE, DESTINATION, many).await;
    let setup = setup(destination, &broker.url_of(Protocol::Stomp), tuning, Route::Proxy);
    let rate = rate(&setup, events, || events - broker.depth(&queue)).await;
    assert_eq!(destination.count().await, events, "events at the destination");
    row(&name_of(version), into, events, tuning.prefetch, rate);
}

async fn delayed<D: Server>(destination: &D) -> Proxy {
    let (addr, target) = destination.proxy_addresses();
    Proxy::delayed_at(addr, target, DELAY).await
}

fn row(from: &str, into: &str, events: u64, prefetch: usize, rate: f64) -> f64 {
    let in_flight = rate * DELAY.as_secs_f64() * 2.0;
    let share = in_flight / prefetch as f64;
    println!("| {from} | {into} | {prefetch} | {events} | {rate:.0} | {in_flight:.0} | {share:.2} |");
    share
}
