//! Counts the events that are lost, doubled or out of order after a process is killed in the middle of a
//! backlog and started again.

use std::collections::HashMap;

use kit::bench::DESTINATION;
use kit::broker::Broker;
use kit::events::Events;
use kit::report::backlog::{PATIENCE, backlog};
use kit::wait_until;

use super::carrier::Carrier;
use super::destination::Readable;
use super::{Arguments, Spread};

struct Run {
    lost: u64,
    doubled: u64,
    /// Events whose first copy came after a later event of the same key.
    disordered: u64,
}

/// Prints a table.
pub async fn measure<D: Readable>(
    broker: &Broker,
    destination: &mut D,
    carriers: &[Carrier],
    arguments: &Arguments,
    title: &str,
) {
    println!("\n## {title}: killed (SIGKILL) once in {} events, and started again\n", arguments.events);
    println!("| | lost | doubled | out of order |\n|---|---:|---:|---:|");
    for &carrier in carriers {
        let mut runs = Vec::new();
        for round in 0..arguments.rounds {
            eprintln!("{title}, kill, {}, round {} of {}", carrier.name(), round + 1, arguments.rounds);
            let namespace = carrier.namespace(&format!("{}k{round}", D::NAME));
            runs.push(run(broker, destination, carrier, &namespace, arguments).await);
        }
        let of = |figure: fn(&Run) -> u64| Spread::of(runs.iter().map(|run| figure(run) as f64)).text(0);
        let (lost, doubled, disordered) =
            (of(|run| run.lost), of(|run| run.doubled), of(|run| run.disordered));
        println!("| {} | {lost} | {doubled} | {disordered} |", carrier.name());
    }
}

async fn run<D: Readable>(
    broker: &Broker,
    destination: &mut D,
    carrier: Carrier,
    namespace: &str,
    arguments: &Arguments,
) -> Run {
    destination.renew().await;
    let events = Events::good(arguments.events);
    let queue = backlog(broker, namespace, DESTINATION, events).await;
    let running = carrier.start(broker, namespace, destination, &arguments.settings, false);
    let is_half = || broker.depth(&queue) <= events.count / 2;
    wait_until("half of the queue is empty", PATIENCE, is_half).await;
    drop(running);
    let running = carrier.start(broker, namespace, destination, &arguments.settings, false);
    wait_until("the queue is empty", PATIENCE, || broker.depth(&queue) == 0).await;
    running.stop().await;
    account(events, &destination.bodies().await)
}

fn account(events: Events, bodies: &[Vec<u8>]) -> Run {
    let mut copies: HashMap<u64, u64> = HashMap::new();
    let mut last: HashMap<String, u64> = HashMap::new();
    let mut disordered = 0;
    for body in bodies {
        let number = number(body);
        let count = copies.entry(number).or_default();
        *count += 1;
        if *count == 1 {
            let last = last.entry(events.key(number)).or_default();
            disordered += u64::from(number < *last);
            *last = number.max(*last);
        }
    }
    let stored = copies.len() as u64;
    Run { lost: events.count - stored, doubled: bodies.len() as u64 - stored, disordered }
}

/// The number of an event whose body is in `stored`.
fn number(stored: &[u8]) -> u64 {
    let stored = std::str::from_utf8(stored).expect("text");
    let (_, number) = stored.split_once("\"n\":").expect("a number");
    let digits = number.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).expect("a number")
}
