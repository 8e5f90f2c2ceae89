//! Measures the bridge from the backlog of a real broker into files, compared with a bare consumer that
//! acknowledges in the same way.

use std::path::Path;
use std::time::Instant;

use kit::bridge::Setup;
use kit::broker::{Broker, Options, Protocol, Version};
use kit::consumer::{Acks, Consumer};
use kit::events::Events;
use kit::report::backlog::{PATIENCE, backlog, stop};
use kit::report::name_of;
use kit::report::runs::{COLUMNS, Run, median_share, row, row_of_other_build};
use kit::{SOON, wait_until};

/// The bridge's default.
const PREFETCH: u32 = 1024;
const DESTINATION: &str = "bench";

/// Prints a table. Returns the median over the rounds of the bridge's speed as a share of the speed of the
/// bare consumer that acknowledges what is ready.
pub async fn compare(
    version: Version,
    events: u64,
    rounds: usize,
    settings: &[String],
    other_build: Option<&Path>,
) -> f64 {
    let broker = Broker::start(version, Options::default());
    let (mut bridge, mut other, mut ready, mut every) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        eprintln!("{}, round {} of {rounds}", name_of(version), round + 1);
        bridge.push(carry(&broker, &format!("bridge{round}"), events, settings, None).await);
        if other_build.is_some() {
            other.push(carry(&broker, &format!("other{round}"), events, settings, other_build).await);
        }
        ready.push(consume(&broker, &format!("ready{round}"), events, Acks::Ready).await);
        every.push(consume(&broker, &format!("every{round}"), events, Acks::Every(100)).await);
    }
    let share = median_share(&bridge, &ready);
    println!("\n## {}: a backlog of {events} persistent events\n\n{COLUMNS}", name_of(version));
    row_of_other_build(events, &mut other, &bridge);
    row("bridge into files", events, &mut bridge);
    row("bare consumer, acks what is ready", events, &mut ready);
    row("bare consumer, acks every 100", events, &mut every);
    println!(
        "\nThe bridge reaches {share:.2} of the bare consumer that acks what is ready (median over the rounds)."
    );
    share
}

/// Measures from the start of the process until the queue is empty.
async fn carry(
    broker: &Broker,
    namespace: &str,
    events: u64,
    settings: &[String],
    other_build: Option<&Path>,
) -> Run {
    let queue = backlog(broker, namespace, DESTINATION, Events::good(events)).await;
    let setup = Setup::new(broker, Protocol::Stomp, namespace, DESTINATION, namespace)
        .set_all(settings)
        .other_build(other_build);
    let begun = Instant::now();
    let bridge = setup.start();
    wait_until("the queue is empty", PATIENCE, || broker.depth(&queue) == 0).await;
    let run = Run::of_bridge(begun.elapsed(), &bridge);
    stop(bridge).await;
    run
}

/// Measures from login until the broker has processed the last acknowledgement.
async fn consume(broker: &Broker, namespace: &str, events: u64, acks: Acks) -> Run {
    let queue = backlog(broker, namespace, DESTINATION, Events::good(events)).await;
    let begun = Instant::now();
    let mut consumer = Consumer::subscribe(broker, &queue, PREFETCH, acks).await;
    for _ in 0..events {
        consumer.next().await;
    }
    consumer.close().await;
    let run = Run { elapsed: begun.elapsed(), cost: None };
    wait_until("the queue is empty", SOON, || broker.depth(&queue) == 0).await;
    run
}
