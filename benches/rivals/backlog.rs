//! Measures how fast a backlog reaches the destination, from the start of the process until the queue is
//! empty, compared with a consumer that stores nothing.

use std::time::Instant;

use kit::bench::DESTINATION;
use kit::consumer::{Acks, Consumer};
use kit::events::Events;
use kit::report::backlog::backlog;

use super::carrier::{Carrier, PREFETCH};
use super::destination::Readable;
use super::{Bench, Spread};

struct Run {
    /// Events per second of the whole run, and of its second half, in which nothing starts.
    rate: f64,
    second_half: f64,
    /// Seconds of processor time per million events, and the peak memory in megabytes.
    cost: Option<(f64, f64)>,
}

/// Prints a table.
pub async fn measure<D: Readable>(bench: &mut Bench<'_, D>) {
    let (carriers, rounds) = (bench.carriers, bench.arguments.rounds);
    let mut runs: Vec<Vec<Run>> = carriers.iter().map(|_| Vec::new()).collect();
    let mut bare = Vec::new();
    // Round 0 warms up the servers' JIT compilers and does not count.
    for round in 0..=rounds {
        eprintln!("{}, backlog, round {round} of {rounds}", bench.title);
        for (&carrier, runs) in carriers.iter().zip(&mut runs) {
            let namespace = bench.namespace(carrier, &format!("b{round}"));
            let run = run(bench, carrier, &namespace).await;
            runs.extend((round > 0).then_some(run));
        }
        let run = consume(bench, &format!("{}bare{round}", D::NAME)).await;
        bare.extend((round > 0).then_some(run));
    }
    println!("\n## {}: a backlog of {} events\n", bench.title, bench.arguments.events);
    println!(
        "| | events/s | second half | processor, s per million | peak memory, MB | of the bare consumer |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    for (carrier, runs) in carriers.iter().zip(&runs) {
        row(carrier.name(), runs, &bare);
    }
    row("bare consumer, STOMP, no sink", &bare, &bare);
}

fn row(name: &str, runs: &[Run], bare: &[Run]) {
    let rate = Spread::of(runs.iter().map(|run| run.rate)).text(0);
    let second_half = Spread::of(runs.iter().map(|run| run.second_half)).text(0);
    // Compares the second halves, in which nothing starts, of runs that are close in time.
    let share = Spread::of(runs.iter().zip(bare).map(|(run, bare)| run.second_half / bare.second_half));
    let costs: Option<Vec<_>> = runs.iter().map(|run| run.cost).collect();
    let (processor, memory) = costs.map_or_else(Default::default, |costs| {
        let of = |figure: fn(&(f64, f64)) -> f64| Spread::of(costs.iter().map(figure)).text(1);
        (of(|cost| cost.0), of(|cost| cost.1))
    });
    println!("| {name} | {rate} | {second_half} | {processor} | {memory} | {} |", share.text(2));
}

async fn run<D: Readable>(bench: &mut Bench<'_, D>, carrier: Carrier, namespace: &str) -> Run {
    let events = bench.arguments.events;
    bench.destination.renew().await;
    let queue = backlog(bench.broker, namespace, DESTINATION, Events::good(events)).await;
    let begun = Instant::now();
    let running = bench.start(carrier, namespace, false);
    bench.left(&queue, events / 2).await;
    let (half, left) = (Instant::now(), bench.broker.depth(&queue));
    bench.left(&queue, 0).await;
    let run = Run {
        rate: events as f64 / begun.elapsed().as_secs_f64(),
        second_half: left as f64 / half.elapsed().as_secs_f64(),
        cost: Some((
            running.processor_time().as_secs_f64() / events as f64 * 1e6,
            running.peak_memory() as f64 / 1e6,
        )),
    };
    running.stop().await;
    assert_eq!(bench.destination.count().await, events, "events at the destination");
    run
}

/// Reads and acknowledges a backlog, and stores nothing.
async fn consume<D: Readable>(bench: &Bench<'_, D>, namespace: &str) -> Run {
    let events = bench.arguments.events;
    let queue = backlog(bench.broker, namespace, DESTINATION, Events::good(events)).await;
    let begun = Instant::now();
    let mut consumer = Consumer::subscribe(bench.broker, &queue, PREFETCH, Acks::Ready).await;
    for _ in 0..events / 2 {
        consumer.next().await;
    }
    let half = Instant::now();
    for _ in events / 2..events {
        consumer.next().await;
    }
    consumer.close().await;
    let run = Run {
        rate: events as f64 / begun.elapsed().as_secs_f64(),
        second_half: (events - events / 2) as f64 / half.elapsed().as_secs_f64(),
        cost: None,
    };
    bench.left(&queue, 0).await;
    run
}
