//! A backlog into a Kafka that is 50 ms away in each direction: what the broker has on the way decides.

use std::time::Duration;

use super::destination::{By, DESTINATION, Destination};
use super::kafka::Topic;
use super::name_of;
use super::support::bridge::Setup;
use super::support::broker::{Broker, Protocol};
use super::support::events::{Events, Spread};
use super::support::proxy::Proxy;
use crate::common;
use crate::common::backlog::{backlog, rate};

/// In each direction.
const DELAY: Duration = Duration::from_millis(50);

/// Prints a table, and returns how many times as fast as STOMP OpenWire is, for each prefetch.
pub async fn compare(broker: &Broker, kafka: &mut Topic, events: u64, prefetches: &[u64]) -> Vec<f64> {
    let (addr, target) = kafka.ways();
    let _proxy = Proxy::delayed_at(addr, target, DELAY).await;
    let mut rows = Vec::new();
    for &prefetch in prefetches {
        let mut rates = Vec::new();
        for protocol in Protocol::ALL {
            eprintln!("{}, far, {protocol:?}, prefetch {prefetch}", common::name_of(broker.version()));
            rates.push(carry(broker, protocol, kafka, events, prefetch).await);
        }
        rows.push((prefetch, rates));
    }
    println!(
        "\n## {}: a backlog of {events} persistent events into Kafka, delayed by {} ms in each direction\n",
        common::name_of(broker.version()),
        DELAY.as_millis()
    );
    println!("| | prefetch | events/s | in flight | of the window |\n|---|---:|---:|---:|---:|");
    for (prefetch, rates) in &rows {
        for (protocol, rate) in Protocol::ALL.into_iter().zip(rates) {
            let in_flight = rate * DELAY.as_secs_f64() * 2.0;
            let share = in_flight / *prefetch as f64;
            println!("| {} | {prefetch} | {rate:.0} | {in_flight:.0} | {share:.2} |", name_of(protocol));
        }
    }
    let times: Vec<f64> = rows.iter().map(|(_, rates)| rates[1] / rates[0]).collect();
    let said: Vec<String> = times.iter().map(|times| format!("{times:.1}")).collect();
    println!("\nOpenWire is {} times as fast as STOMP, prefetch by prefetch.", said.join(" and "));
    times
}

/// Events a second, once the window is full.
async fn carry(broker: &Broker, protocol: Protocol, kafka: &mut Topic, events: u64, prefetch: u64) -> f64 {
    let namespace = protocol.named(&format!("far{prefetch}"));
    // Many people, as in the rows of `bench-sinks`.
    let many = Events { count: events, keys: 100_000, spread: Spread::Even, bad_every: None };
    let queue = backlog(broker, &namespace, DESTINATION, many).await;
    kafka.renew().await;
    let setup = Setup::new(broker, protocol, &namespace, DESTINATION, &namespace)
        .unset("SINKS__FILE__DIRECTORY")
        .set("SOURCE__PREFETCH", prefetch.to_string());
    let setup = kafka.configure(setup, By::Proxy);
    let rate = rate(&setup, events, || events - broker.depth(&queue)).await;
    assert_eq!(kafka.count().await, events, "events at the destination");
    rate
}
