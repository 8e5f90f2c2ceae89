//! Compares STOMP and OpenWire with a backlog into nothing, or into a Kafka on the same machine. A run lasts
//! from the start of the bridge until the queue is empty.

use std::time::{Duration, Instant};

use super::name_of;
use kit::bench::kafka::Topic;
use kit::bench::{DESTINATION, Destination, Route};
use kit::bridge::Setup;
use kit::broker::{Broker, Protocol};
use kit::events::Events;
use kit::report::backlog::{PATIENCE, backlog, stop};
use kit::wait_until;

/// The sink of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// Discarded standard output, which leaves only the cost of the bridge.
    Nothing,
    Kafka,
}

impl Into {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Kafka => "Kafka",
        }
    }
}

/// The duration of one run, and the processor time of bridge and broker.
#[derive(Clone, Copy, Debug)]
struct Run {
    elapsed: Duration,
    bridge: Duration,
    broker: Duration,
    /// The bridge's peak memory, in bytes.
    memory: u64,
}

/// Prints a table of both protocols and the comparison round by round. Returns OpenWire's median rate.
pub async fn compare(broker: &Broker, kafka: &mut Topic, into: Into, events: u64, rounds: usize) -> f64 {
    let mut runs = Protocol::ALL.map(|_| Vec::new());
    // Round 0 warms up the broker's JIT compiler and does not count.
    for round in 0..=rounds {
        eprintln!(
            "{}, into {}, round {round} of {rounds}",
            kit::report::name_of(broker.version()),
            into.name()
        );
        for (protocol, runs) in Protocol::ALL.into_iter().zip(&mut runs) {
            let namespace = protocol.named(&format!("{}{round}", into.name()));
            let run = carry(broker, protocol, kafka, into, &namespace, events).await;
            if round > 0 {
                runs.push(run);
            }
        }
    }
    println!(
        "\n## {}: a backlog of {events} persistent events into {}\n",
        kit::report::name_of(broker.version()),
        into.name()
    );
    println!("| | events/s, median | all runs | bridge, per event | broker, per event | peak memory |");
    println!("|---|---:|---|---:|---:|---:|");
    let shares = [|run: &Run| run.elapsed, |run: &Run| run.bridge, |run: &Run| run.broker];
    let [elapsed, bridge, cost] = shares.map(|of| median_share(&runs, of));
    let medians = runs.each_mut().map(|runs| median(events, runs));
    for (protocol, runs) in Protocol::ALL.into_iter().zip(&runs) {
        row(name_of(protocol), events, runs);
    }
    println!(
        "\nOpenWire is {:.2} times as fast as STOMP, with {bridge:.2} of the processor time in the bridge and {cost:.2} in \
         the broker (medians over the rounds).",
        1.0 / elapsed
    );
    medians[1]
}

async fn carry(
    broker: &Broker,
    protocol: Protocol,
    kafka: &mut Topic,
    into: Into,
    namespace: &str,
    events: u64,
) -> Run {
    let queue = backlog(broker, namespace, DESTINATION, Events::good(events)).await;
    let setup =
        Setup::new(broker, protocol, namespace, DESTINATION, namespace).unset("SINKS__FILE__DIRECTORY");
    let setup = match into {
        Into::Nothing => setup.set("SINKS__NOTHING__KIND", "stdout").mute(),
        Into::Kafka => {
            kafka.renew().await;
            kafka.configure(setup, Route::Direct)
        }
    };
    let before = broker.processor_time();
    let begun = Instant::now();
    let bridge = setup.start();
    wait_until("the queue is empty", PATIENCE, || broker.depth(&queue) == 0).await;
    let run = Run {
        elapsed: begun.elapsed(),
        bridge: bridge.processor_time(),
        broker: broker.processor_time().saturating_sub(before),
        memory: bridge.peak_memory(),
    };
    stop(bridge).await;
    if into == Into::Kafka {
        assert_eq!(kafka.count().await, events, "events at the destination");
    }
    run
}

fn rate(events: u64, run: &Run) -> f64 {
    events as f64 / run.elapsed.as_secs_f64()
}

/// Sorts the runs and returns the median rate.
fn median(events: u64, runs: &mut [Run]) -> f64 {
    runs.sort_by_key(|run| run.elapsed);
    rate(events, &runs[runs.len() / 2])
}

/// Prints the row of one protocol. The runs must be sorted.
fn row(name: &str, events: u64, runs: &[Run]) {
    let median = runs[runs.len() / 2];
    let all: Vec<String> = runs.iter().map(|run| format!("{:.0}", rate(events, run))).collect();
    let each = |cost: Duration| cost.as_nanos() as f64 / 1000.0 / events as f64;
    println!(
        "| {name} | {:.0} | {} | {:.2} µs | {:.2} µs | {:.1} MB |",
        rate(events, &median),
        all.join(", "),
        each(median.bridge),
        each(median.broker),
        median.memory as f64 / 1e6
    );
}

/// The median over the rounds of OpenWire's cost as a share of STOMP's.
fn median_share([stomp, openwire]: &[Vec<Run>; 2], of: fn(&Run) -> Duration) -> f64 {
    // Compares runs that are close in time, so that other load on the machine affects both.
    let share = |(stomp, openwire)| of(openwire).as_secs_f64() / of(stomp).as_secs_f64();
    let mut shares: Vec<f64> = stomp.iter().zip(openwire).map(share).collect();
    shares.sort_by(f64::total_cmp);
    shares[shares.len() / 2]
}
