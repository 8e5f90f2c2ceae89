//! Measures the time from the start of a process until it has subscribed, and from SIGTERM under load until it
//! has ended.

use std::time::{Duration, Instant};

use kit::broker::Broker;

use super::carrier::Carrier;
use super::destination::Readable;
use super::load::Load;
use super::{Arguments, Spread};

/// The load in events a second, and how long it lasts.
const RATE: u32 = 1000;
const LASTS: Duration = Duration::from_secs(3);
/// How much of the load is published before SIGTERM.
const BEFORE: Duration = Duration::from_secs(1);

/// Prints a table.
pub async fn measure<D: Readable>(
    broker: &Broker,
    destination: &mut D,
    carriers: &[Carrier],
    arguments: &Arguments,
    title: &str,
) {
    println!("\n## {title}: start and stop in milliseconds\n");
    println!("| | start to subscribed | SIGTERM to end, at {RATE} events/s |\n|---|---:|---:|");
    for &carrier in carriers {
        let mut runs = Vec::new();
        for round in 0..arguments.rounds {
            eprintln!("{title}, start, {}, round {} of {}", carrier.name(), round + 1, arguments.rounds);
            let namespace = carrier.namespace(&format!("{}s{round}", D::NAME));
            runs.push(run(broker, destination, carrier, &namespace, arguments).await);
        }
        let of = |figure: fn(&(Duration, Duration)) -> Duration| {
            Spread::of(runs.iter().map(|run| figure(run).as_secs_f64() * 1000.0)).text(0)
        };
        println!("| {} | {} | {} |", carrier.name(), of(|run| run.0), of(|run| run.1));
    }
}

/// Returns how long the start and the stop took.
async fn run<D: Readable>(
    broker: &Broker,
    destination: &mut D,
    carrier: Carrier,
    namespace: &str,
    arguments: &Arguments,
) -> (Duration, Duration) {
    destination.renew().await;
    let load = Load::new(broker, namespace, RATE, LASTS).await;
    let begun = Instant::now();
    let running = carrier.start(broker, namespace, destination, &arguments.settings, true);
    load.wait_for_consumer(broker).await;
    let start = begun.elapsed();
    let publishing = tokio::spawn(load.publish());
    tokio::time::sleep(BEFORE).await;
    let begun = Instant::now();
    running.stop().await;
    let stop = begun.elapsed();
    publishing.await.expect("publish");
    (start, stop)
}
