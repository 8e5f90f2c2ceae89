//! Counts the events that are lost, doubled or out of order after a process is killed in the middle of a
//! backlog and started again.

use kit::bench::DESTINATION;
use kit::events::Events;
use kit::output::Tally;
use kit::report::backlog::{PATIENCE, backlog};
use kit::wait_until;

use super::carrier::Carrier;
use super::destination::Readable;
use super::{Bench, Spread};

/// Prints a table.
pub async fn measure<D: Readable>(bench: &mut Bench<'_, D>) {
    println!("\n## {}: killed once in {} events, and started again\n", bench.title, bench.arguments.events);
    println!("| | lost | doubled | out of order |\n|---|---:|---:|---:|");
    for &carrier in bench.carriers {
        let tallies = bench.rounds("kill", carrier, run).await;
        let of =
            |figure: fn(&Tally) -> u64| Spread::of(tallies.iter().map(|tally| figure(tally) as f64)).text(0);
        let lost = of(|tally| tally.lost().len() as u64);
        let disordered = of(|tally| tally.disordered().len() as u64);
        println!("| {} | {lost} | {} | {disordered} |", carrier.name(), of(Tally::doubled));
    }
}

async fn run<D: Readable>(bench: &mut Bench<'_, D>, carrier: Carrier, namespace: &str) -> Tally {
    bench.destination.renew().await;
    let events = Events::good(bench.arguments.events);
    let queue = backlog(bench.broker, namespace, DESTINATION, events).await;
    let running = bench.start(carrier, namespace, false);
    bench.left(&queue, events.count / 2).await;
    drop(running);
    let mut running = bench.start(carrier, namespace, false);
    // A rival ends when the broker still has its killed connection. Whoever runs it would start it again.
    wait_until(&format!("{queue} is empty"), PATIENCE, || {
        if running.has_ended() {
            running = bench.start(carrier, namespace, false);
        }
        bench.broker.depth(&queue) == 0
    })
    .await;
    running.stop().await;
    let tally = bench.destination.tally(events).await;
    assert!(tally.foreign().is_empty(), "{:?}", tally.foreign());
    tally
}
