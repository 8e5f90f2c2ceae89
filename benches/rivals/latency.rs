//! Measures the time from the publication of an event until a reader of the destination has it.

use std::time::{Duration, Instant};

use super::carrier::Carrier;
use super::destination::Readable;
use super::load::{Latencies, Load};
use super::{Bench, Spread};

struct Run {
    latencies: Latencies,
    /// The processor time of the carrier, as a share of one core in percent.
    processor: f64,
}

/// Prints a table.
pub async fn measure<D: Readable>(bench: &mut Bench<'_, D>) {
    println!("\n## {}: latency in milliseconds\n", bench.title);
    println!("| events/s | | p50 | p99 | p99.9 | processor, % of a core |\n|---:|---|---:|---:|---:|---:|");
    let carriers = bench.carriers;
    for &carrier in carriers {
        // This run warms up the servers' JIT compilers and does not count.
        run(bench, carrier, 1000, "warm").await;
    }
    for &rate in &bench.arguments.rates {
        let mut runs: Vec<Vec<Run>> = carriers.iter().map(|_| Vec::new()).collect();
        for round in 0..bench.arguments.rounds {
            eprintln!("{}, {rate} events/s, round {round}", bench.title);
            for (&carrier, runs) in carriers.iter().zip(&mut runs) {
                runs.push(run(bench, carrier, rate, &format!("r{rate}x{round}")).await);
            }
        }
        for (carrier, runs) in carriers.iter().zip(&runs) {
            let latency = |share| Spread::of(runs.iter().map(|run| run.latencies.quantile(share))).text(2);
            let (median, p99, p999) = (latency(0.5), latency(0.99), latency(0.999));
            let processor = Spread::of(runs.iter().map(|run| run.processor)).text(1);
            println!("| {rate} | {} | {median} | {p99} | {p999} | {processor} |", carrier.name());
        }
    }
}

async fn run<D: Readable>(bench: &mut Bench<'_, D>, carrier: Carrier, rate: u32, name: &str) -> Run {
    bench.destination.renew().await;
    let namespace = bench.namespace(carrier, name);
    let load = Load::new(bench.broker, &namespace, rate, Duration::from_secs(bench.arguments.seconds)).await;
    let running = bench.start(carrier, &namespace, true);
    load.wait_for_consumer(bench.broker).await;
    let reading = bench.destination.read(load.events).await;
    let (before, begun) = (running.processor_time(), Instant::now());
    load.publish().await;
    let latencies = reading.await.expect("read the destination");
    let (used, elapsed) = (running.processor_time().saturating_sub(before), begun.elapsed());
    running.stop().await;
    let processor = used.as_secs_f64() / elapsed.as_secs_f64() * 100.0;
    Run { latencies: Latencies::new(&latencies), processor }
}
