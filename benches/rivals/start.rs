//! Measures the time from the start of a process until it has subscribed, and from SIGTERM under load until it
//! has ended.

use std::time::{Duration, Instant};

use kit::{SOON, wait_until};

use super::carrier::{Carrier, queue};
use super::destination::Readable;
use super::load::Load;
use super::{Bench, Spread};

/// The load in events a second, and how long it lasts.
const RATE: u32 = 1000;
const LASTS: Duration = Duration::from_secs(3);

/// Prints a table.
pub async fn measure<D: Readable>(bench: &mut Bench<'_, D>) {
    println!("\n## {}: start and stop in milliseconds\n", bench.title);
    println!("| | start to subscribed | SIGTERM to end, at {RATE} events/s |\n|---|---:|---:|");
    for &carrier in bench.carriers {
        let runs = bench.rounds("start", carrier, run).await;
        let of = |figure: fn(&(Duration, Duration)) -> Duration| {
            Spread::of(runs.iter().map(|run| figure(run).as_secs_f64() * 1000.0)).text(0)
        };
        println!("| {} | {} | {} |", carrier.name(), of(|run| run.0), of(|run| run.1));
    }
}

/// Returns how long the start and the stop took.
async fn run<D: Readable>(
    bench: &mut Bench<'_, D>,
    carrier: Carrier,
    namespace: &str,
) -> (Duration, Duration) {
    bench.destination.renew().await;
    let load = Load::new(bench.broker, namespace, RATE, LASTS).await;
    let begun = Instant::now();
    let running = bench.start(carrier, namespace, true);
    load.wait_for_consumer(bench.broker).await;
    let start = begun.elapsed();
    let publishing = tokio::spawn(load.publish());
    let queue = queue(namespace);
    let settled = || bench.broker.queue(&queue).is_some_and(|counts| counts.dequeued >= u64::from(RATE));
    wait_until("a part of the load is acknowledged", SOON, settled).await;
    let begun = Instant::now();
    running.stop().await;
    let stop = begun.elapsed();
    publishing.await.expect("publish");
    (start, stop)
}
