//! Into a server that is 50 ms away in each direction: what is in flight decides.

use std::time::{Duration, Instant};

use atdata_bridge::simulator::{Simulator, SimulatorConfig};

use super::destination::{By, DESTINATION, Destination, NAMESPACE, Terms, setup};
use super::near::{PATIENCE, generation};
use super::support::SOON;
use super::support::bridge::{Bridge, Setup};
use super::support::broker::{Broker, Options, Version};
use super::support::consumer::{Acks, Consumer};
use super::support::events::{Events, Spread};
use super::support::proxy::Proxy;
use super::support::publisher::Publisher;
use crate::common::name_of;

/// In each direction.
pub const DELAY: Duration = Duration::from_millis(50);
/// Measured from here on: what comes before is the way to a full window.
const WARM: u64 = 5;
const LOOK: Duration = Duration::from_millis(5);

/// Prints the head of the table of [`from_simulator`] and [`from_broker`].
pub fn head() {
    println!("\n## Delayed by {} ms in each direction\n", DELAY.as_millis());
    println!(
        "| from | into | prefetch | events | events/s | in flight | of the window |\n|---|---|---:|---:|---:|---:|---:|"
    );
}

/// Prints a row and returns how many were in flight as a share of the window.
pub async fn from_simulator<D: Destination>(
    destination: &mut D,
    into: &str,
    events: u64,
    terms: Terms<'_>,
) -> f64 {
    eprintln!("simulator, far {into}, prefetch {}", terms.prefetch);
    destination.renew().await;
    let _proxy = delayed(destination).await;
    let simulator = Simulator::start(SimulatorConfig::default()).await.expect("start the simulator");
    simulator.generate(NAMESPACE, generation(events));
    let setup = setup(destination, &simulator.url(), terms, By::Proxy);
    let rate = rate(&setup, events, || simulator.stats().total().acked).await;
    simulator.stop().await;
    assert_eq!(destination.count().await, events, "events at the destination");
    row("simulator", into, events, terms.prefetch, rate)
}

/// Prints a row.
pub async fn from_broker<D: Destination>(
    destination: &mut D,
    into: &str,
    version: Version,
    events: u64,
    terms: Terms<'_>,
) {
    eprintln!("{}, far {into}, prefetch {}", name_of(version), terms.prefetch);
    destination.renew().await;
    let _proxy = delayed(destination).await;
    let broker = Broker::start(version, Options::default());
    let queue = format!("{DESTINATION}.RTO.{NAMESPACE}");
    // It exists from its first SUBSCRIBE on.
    Consumer::subscribe(&broker, &queue, 1, Acks::Never).await.close().await;
    let backlog = Events { count: events, keys: 100_000, spread: Spread::Even, bad_every: None };
    Publisher::connect(&broker, NAMESPACE).await.publish(backlog.bodies()).await.expect("publish");
    let setup = setup(destination, &broker.url(), terms, By::Proxy);
    let rate = rate(&setup, events, || events - broker.depth(&queue)).await;
    assert_eq!(destination.count().await, events, "events at the destination");
    row(&name_of(version), into, events, terms.prefetch, rate);
}

async fn delayed<D: Destination>(destination: &D) -> Proxy {
    let (addr, target) = destination.ways();
    Proxy::delayed_at(addr, target, DELAY).await
}

/// Events a second, once the window is full.
async fn rate(setup: &Setup, events: u64, acked: impl Fn() -> u64) -> f64 {
    let mut bridge = setup.start();
    let (first, begun) = reached(events / WARM, &acked, &mut bridge).await;
    let (last, ended) = reached(events, &acked, &mut bridge).await;
    bridge.terminate();
    assert!(bridge.ended(SOON).await.success(), "the bridge did not stop cleanly");
    (last - first) as f64 / (ended - begun).as_secs_f64()
}

/// When so many were acknowledged, and how many it were then.
async fn reached(events: u64, acked: &impl Fn() -> u64, bridge: &mut Bridge) -> (u64, Instant) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (now, count) = (Instant::now(), acked());
        if count >= events {
            return (count, now);
        }
        assert!(bridge.status().is_none(), "the bridge has ended\n{}", bridge.log());
        assert!(now < deadline, "{count} of {events} events after {PATIENCE:?}");
        tokio::time::sleep(LOOK).await;
    }
}

fn row(from: &str, into: &str, events: u64, prefetch: usize, rate: f64) -> f64 {
    let in_flight = rate * DELAY.as_secs_f64() * 2.0;
    let share = in_flight / prefetch as f64;
    println!("| {from} | {into} | {prefetch} | {events} | {rate:.0} | {in_flight:.0} | {share:.2} |");
    share
}
