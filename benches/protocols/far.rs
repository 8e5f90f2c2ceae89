//! Compares STOMP and OpenWire with a backlog into a far Kafka. Throughput depends on the messages in transit
//! from the broker.

use std::time::Duration;

use super::name_of;
use kit::bench::kafka::Topic;
use kit::bench::{DESTINATION, Destination, Route, Server};
use kit::bridge::Setup;
use kit::broker::{Broker, Protocol};
use kit::events::{Events, Spread};
use kit::proxy::{Proxy, Slow};
use kit::report::backlog::{backlog, rate};

/// The rates with one prefetch.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub stomp: f64,
    pub openwire: f64,
}

impl Rates {
    /// OpenWire's rate as a multiple of STOMP's.
    pub fn times(self) -> f64 {
        self.openwire / self.stomp
    }
}

/// Prints a table for each of the distances (delays in one direction). Returns the rates with the last
/// prefetch for each distance.
pub async fn compare(
    broker: &Broker,
    kafka: &mut Topic,
    events: u64,
    prefetches: &[u64],
    distances: &[Duration],
) -> Vec<(Duration, Rates)> {
    let (addr, target) = kafka.proxy_addresses();
    let proxy = Proxy::start_at(addr, target).await;
    let mut widest = Vec::new();
    for &delay in distances {
        proxy.slow(Slow { delay, ..Slow::default() });
        let rates = at_distance(broker, kafka, events, prefetches, delay).await;
        widest.extend(rates.last().map(|rates| (delay, *rates)));
    }
    widest
}

async fn at_distance(
    broker: &Broker,
    kafka: &mut Topic,
    events: u64,
    prefetches: &[u64],
    delay: Duration,
) -> Vec<Rates> {
    let mut all = Vec::new();
    for &prefetch in prefetches {
        let mut rates = [0.0; 2];
        for (protocol, rate) in Protocol::ALL.into_iter().zip(&mut rates) {
            eprintln!(
                "{}, {delay:?}, {protocol:?}, prefetch {prefetch}",
                kit::report::name_of(broker.version())
            );
            let namespace = protocol.named(&format!("far{}x{prefetch}", delay.as_millis()));
            *rate = carry(broker, protocol, kafka, &namespace, events, prefetch).await;
        }
        let [stomp, openwire] = rates;
        all.push(Rates { stomp, openwire });
    }
    println!(
        "\n## {}: a backlog of {events} persistent events into Kafka, delayed by {} ms in each direction\n",
        kit::report::name_of(broker.version()),
        delay.as_millis()
    );
    println!("| | prefetch | events/s | in flight | of the window |\n|---|---:|---:|---:|---:|");
    for (prefetch, rates) in prefetches.iter().zip(&all) {
        for (protocol, rate) in Protocol::ALL.into_iter().zip([rates.stomp, rates.openwire]) {
            let in_flight = rate * delay.as_secs_f64() * 2.0;
            let share = in_flight / *prefetch as f64;
            println!("| {} | {prefetch} | {rate:.0} | {in_flight:.0} | {share:.2} |", name_of(protocol));
        }
    }
    let factors: Vec<String> = all.iter().map(|rates| format!("{:.1}", rates.times())).collect();
    println!("\nOpenWire is {} times as fast as STOMP, prefetch by prefetch.", factors.join(" and "));
    all
}

/// Returns the events per second after the window is full.
async fn carry(
    broker: &Broker,
    protocol: Protocol,
    kafka: &mut Topic,
    namespace: &str,
    events: u64,
    prefetch: u64,
) -> f64 {
    // Many keys, as in `bench-sinks`.
    let many = Events { count: events, keys: 100_000, spread: Spread::Even, bad_every: None };
    let queue = backlog(broker, namespace, DESTINATION, many).await;
    kafka.renew().await;
    let setup = Setup::new(broker, protocol, namespace, DESTINATION, namespace)
        .unset("SINKS__FILE__DIRECTORY")
        .set("SOURCE__PREFETCH", prefetch.to_string());
    let setup = kafka.configure(setup, Route::Proxy);
    let rate = rate(&setup, events, || events - broker.depth(&queue)).await;
    assert_eq!(kafka.count().await, events, "events at the destination");
    rate
}
