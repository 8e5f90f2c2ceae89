//! Measures the time from the publication of an event until a reader of the destination has it.

use std::time::{Duration, Instant};

use kit::broker::Broker;

use super::carrier::Carrier;
use super::destination::Readable;
use super::load::{Latencies, Load};
use super::{Arguments, Spread};

struct Run {
    latencies: Latencies,
    /// The processor time of the carrier, as a share of one core in percent.
    processor: f64,
}

/// Prints a table.
pub async fn measure<D: Readable>(
    broker: &Broker,
    destination: &mut D,
    carriers: &[Carrier],
    arguments: &Arguments,
    title: &str,
) {
    println!("\n## {title}: latency in milliseconds\n");
    println!("| events/s | | p50 | p99 | p99.9 | processor, % of a core |\n|---:|---|---:|---:|---:|---:|");
    for &carrier in carriers {
        // This run warms up the servers' JIT compilers and does not count.
        run(broker, destination, carrier, 1000, "warm", arguments).await;
    }
    for &rate in &arguments.rates {
        let mut runs: Vec<Vec<Run>> = carriers.iter().map(|_| Vec::new()).collect();
        for round in 0..arguments.rounds {
            eprintln!("{title}, {rate} events/s, round {} of {}", round + 1, arguments.rounds);
            for (&carrier, runs) in carriers.iter().zip(&mut runs) {
                let name = format!("r{rate}x{round}");
                runs.push(run(broker, destination, carrier, rate, &name, arguments).await);
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

async fn run<D: Readable>(
    broker: &Broker,
    destination: &mut D,
    carrier: Carrier,
    rate: u32,
    name: &str,
    arguments: &Arguments,
) -> Run {
    destination.renew().await;
    let namespace = carrier.namespace(&format!("{}{name}", D::NAME));
    let load = Load::new(broker, &namespace, rate, Duration::from_secs(arguments.seconds)).await;
    let running = carrier.start(broker, &namespace, destination, &arguments.settings, true);
    load.wait_for_consumer(broker).await;
    let reading = destination.read(load.events).await;
    let (before, begun) = (running.processor_time(), Instant::now());
    load.publish().await;
    let latencies = reading.await.expect("read the destination");
    let (used, elapsed) = (running.processor_time().saturating_sub(before), begun.elapsed());
    running.stop().await;
    let processor = used.as_secs_f64() / elapsed.as_secs_f64() * 100.0;
    Run { latencies: Latencies::new(&latencies), processor }
}
