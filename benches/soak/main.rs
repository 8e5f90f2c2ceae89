//! Runs the soak: with a held sink and a flapping connection, memory must not grow (I4) and no event may be
//! lost or duplicated. `make soak`; the document goes to standard output, progress to standard error.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a campaign fails like a test, and prints what it found"
)]

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use kit::bridge::{Bridge, Setup};
use kit::broker::{Broker, Options, Protocol, Version};
use kit::disk::small_disks;
use kit::events::Events;
use kit::output::Tally;
use kit::proxy::Proxy;
use kit::publisher::Publisher;
use kit::{SOON, wait_until};
use tokio::time::{MissedTickBehavior, interval};

/// From this second on, an increase in memory counts as growth.
const SETTLED_AFTER: usize = 30;
const MAX_GROWTH: u64 = 20_000_000;
const CUT_EVERY: usize = 6;
const QUEUE: &str = "soak.RTO.acme";
/// Has room for all events. A ballast file fills it, which holds the sink.
const DISK_MIB: u32 = 512;
/// The time limit for a million events after the sink is free.
const PASSAGE: Duration = Duration::from_secs(600);

/// Memory of the bridge with the sink held, events queued and the connection cut again and again.
#[derive(Parser)]
struct Arguments {
    /// How long the sink is held.
    #[arg(long, default_value_t = 600)]
    seconds: usize,
    /// How many events are queued.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Which ActiveMQ: 5 or 6.
    #[arg(long, default_value_t = 5)]
    broker: u8,
    /// Uses OpenWire instead of STOMP.
    #[arg(long)]
    openwire: bool,
    /// Cargo passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    assert!(arguments.seconds > SETTLED_AFTER, "memory growth is measured from second {SETTLED_AFTER} on");
    if let Err(reason) = small_disks() {
        panic!("the soak holds the sink with a small disk: {reason}");
    }
    let version = if arguments.broker == 6 { Version::V6 } else { Version::V5 };
    let protocol = if arguments.openwire { Protocol::OpenWire } else { Protocol::Stomp };
    print!("{}", kit::report::heading("Soak: memory while the sink is held", "soak"));
    println!("- broker: {}, over {protocol:?}", kit::report::name_of(version));
    println!("- seed: none, event n is the same in every run");

    let broker = Broker::start(version, Options { sync: false, ..Options::default() });
    let proxy = Proxy::start(broker.addr_of(protocol)).await;
    let setup = Setup::at(&protocol.url(proxy.addr()), "acme", "soak", "soak-1")
        .set("SOURCE__BACKOFF__MAX", "1s")
        .small_disk(DISK_MIB);
    let mut bridge = setup.start();
    wait_until("the bridge has subscribed", SOON, || broker.queue(QUEUE).is_some()).await;
    let files = bridge.inside(setup.files());
    fill(&files.join("ballast"));
    let events = Events::good(arguments.events);
    eprintln!("publishing {} events", events.count);
    Publisher::connect(&broker, "acme").await.publish(events.bodies()).await.expect("publish");

    let samples = hold(&bridge, &proxy, arguments.seconds).await;
    let waiting = broker.depth(QUEUE);
    let sessions = proxy.connections();
    std::fs::remove_file(files.join("ballast")).expect("free the sink");
    let begun = Instant::now();
    wait_until("everything has passed", PASSAGE, || broker.depth(QUEUE) == 0).await;
    let passage = begun.elapsed();

    let held = Held { samples, waiting, sessions };
    let growth = held.report(&arguments);
    let tally = Tally::of(events, &files);
    println!("\n## Afterwards\n");
    println!(
        "The sink freed, everything passed in {:.1} s; the audit of the files:\n",
        passage.as_secs_f64()
    );
    println!(
        "- lost {}, doubled {}, out of the order of their key {}, foreign lines {}",
        tally.lost().len(),
        tally.doubled(),
        tally.disordered().len(),
        tally.foreign().len()
    );
    println!("- peak resident memory of the whole run: {}", kb(bridge.peak_memory()));
    bridge.terminate();
    assert!(bridge.ended(SOON).await.success(), "the bridge did not stop cleanly");
    assert!(waiting == arguments.events, "the sink was not held: {waiting} events are left");
    assert!(growth < MAX_GROWTH, "memory grew by {growth} bytes");
    tally.assert_complete(0);
    println!("\nPassed.");
}

fn fill(path: &Path) {
    let mut file = File::create(path).expect("make the ballast");
    for size in [1 << 20, 1 << 12] {
        loop {
            match file.write(&vec![0; size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("write the ballast: {error}"),
            }
        }
    }
}

/// Samples the memory each second, and cuts the connection every `CUT_EVERY` seconds.
async fn hold(bridge: &Bridge, proxy: &Proxy, seconds: usize) -> Vec<u64> {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut samples = Vec::with_capacity(seconds);
    for second in 1..=seconds {
        ticks.tick().await;
        samples.push(bridge.memory());
        if second % CUT_EVERY == 0 {
            proxy.cut();
        }
        if second % 60 == 0 {
            eprintln!("{second} s: {}, {} connections", kb(bridge.memory()), proxy.connections());
        }
    }
    samples
}

struct Held {
    /// The memory in each second.
    samples: Vec<u64>,
    waiting: u64,
    sessions: u64,
}

impl Held {
    /// Prints the measurements and returns the growth in bytes.
    fn report(&self, arguments: &Arguments) -> u64 {
        let settled = self.samples[SETTLED_AFTER - 1];
        let highest = self.samples[SETTLED_AFTER..].iter().copied().max().unwrap_or(settled);
        let growth = highest.saturating_sub(settled);
        println!("\n## Held\n");
        println!(
            "{} events queued, the sink's disk full for {} s, the connection cut every {CUT_EVERY} s ({} connections in \
             all). At the end {} events were un-acknowledged at the broker.\n",
            arguments.events, arguments.seconds, self.sessions, self.waiting
        );
        println!("| resident memory | |\n|---|---:|");
        println!("| at {SETTLED_AFTER} s | {} |", kb(settled));
        println!("| highest after that | {} |", kb(highest));
        println!("| at the end | {} |", kb(self.samples.last().copied().unwrap_or_default()));
        println!("| growth (allowed: less than {}) | {} |", kb(MAX_GROWTH), kb(growth));
        println!("\nEvery second, in kB (1000 bytes); each row is ten seconds:\n\n```");
        for (row, samples) in self.samples.chunks(10).enumerate() {
            let samples: Vec<String> = samples.iter().map(|bytes| format!("{:6}", bytes / 1000)).collect();
            println!("{:4} s {}", row * 10, samples.join(" "));
        }
        println!("```");
        growth
    }
}

fn kb(bytes: u64) -> String {
    format!("{} kB", bytes / 1000)
}
