//! Measures what the admin pages cost: processor time and memory of the bridge with none, with a status page open and
//! the metrics read each second, and with as many pages as it serves. `make bench-admin`; the document goes to standard
//! output, progress to standard error.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement fails like a test, and prints what it found"
)]

use std::time::{Duration, Instant};

use atdata_bridge::simulator::{Generation, GeneratorConfig, Rate, Simulator, SimulatorConfig};
use clap::Parser;
use kit::admin::Admin;
use kit::bridge::Setup;
use kit::{SOON, wait_until};
use tokio::task::JoinSet;
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(300);
/// More cost than this at full speed is a failure: a share of the processor time, and bytes.
const MOST_TIME: f64 = 0.01;
const MOST_MEMORY: u64 = 2_000_000;

/// Cost of the admin pages.
#[derive(Parser)]
struct Arguments {
    /// How many events are mirrored in each run.
    #[arg(long, default_value_t = 4_000_000)]
    events: u64,
    /// How many times each case runs, in turn.
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// How long the bridge is without events in each case.
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
    /// Cargo passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What asks the bridge meanwhile.
#[derive(Clone, Copy)]
enum Load {
    /// The address is off.
    Off,
    /// Nobody asks.
    None,
    /// So many open pages, and the metrics each second.
    Pages(usize),
}

const CASES: [(&str, Load); 4] = [
    ("`admin.listen` is off", Load::Off),
    ("nobody asks", Load::None),
    ("1 page, and the metrics each second", Load::Pages(1)),
    ("16 pages, and the metrics each second", Load::Pages(16)),
];

/// The cost of one run.
#[derive(Clone, Copy)]
struct Cost {
    events_per_second: f64,
    time: Duration,
    memory: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments = Arguments::parse();
    print!("{}", kit::report::heading("Status page and metrics: what they cost", "bench-admin"));
    println!("- source and sink: the simulator, files; all on the same cores");
    println!("- rounds: {}, the cases in turn; speed and memory are medians", arguments.rounds);
    let mut runs = [const { Vec::new() }; CASES.len()];
    for round in 1..=arguments.rounds {
        for (case, (name, load)) in CASES.into_iter().enumerate() {
            eprintln!("round {round} of {}: {name}", arguments.rounds);
            runs[case].push(carry(arguments.events, load).await);
        }
    }
    let is_good = report(&arguments, &runs);
    println!("\n## Without events, {} seconds\n", arguments.idle_seconds);
    println!("| | processor time, ms a second | resident memory, kB |\n|---|---:|---:|");
    for (name, load) in CASES {
        eprintln!("without events: {name}");
        let (time, memory) = idle(Duration::from_secs(arguments.idle_seconds), load).await;
        println!("| {name} | {:.1} | {} |", 1000.0 * time, memory / 1000);
    }
    assert!(is_good, "the page and the metrics cost more than they may");
}

/// Prints the table of the runs, and returns whether the cost is within its bounds. What else the machine does only
/// adds to the processor time of a run, so the least of all rounds is compared.
fn report(arguments: &Arguments, runs: &[Vec<Cost>]) -> bool {
    println!("\n## At full speed, {} events\n", arguments.events);
    println!(
        "| | events/s | processor time for each event, ns: least, most | least, as a share of that without | peak memory, kB |"
    );
    println!("|---|---:|---:|---:|---:|");
    let mut is_good = true;
    let nanos = |run: &Cost| 1e9 * run.time.as_secs_f64() / arguments.events as f64;
    let least = |case: usize| runs[case].iter().map(nanos).fold(f64::MAX, f64::min);
    let memory = |case: usize| median(runs[case].iter().map(|run| run.memory as f64));
    for (case, (name, load)) in CASES.into_iter().enumerate() {
        let most = runs[case].iter().map(nanos).fold(0.0, f64::max);
        let rate = median(runs[case].iter().map(|run| run.events_per_second));
        let share = least(case) / least(0);
        println!(
            "| {name} | {rate:.0} | {:.0}, {most:.0} | {share:.3} | {:.0} |",
            least(case),
            memory(case) / 1000.0
        );
        if matches!(load, Load::Pages(1)) {
            is_good &= share < 1.0 + MOST_TIME && memory(case) - memory(0) < MOST_MEMORY as f64;
        }
    }
    println!(
        "\nBound: with one page and the metrics each second less than {:.0} % of the processor time and {} MB of memory \
         more than without. {}",
        100.0 * MOST_TIME,
        MOST_MEMORY / 1_000_000,
        if is_good { "Kept." } else { "Not shown." }
    );
    is_good
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn setup(simulator: &Simulator, load: Load) -> Setup {
    let setup = Setup::at(&simulator.url(), "acme", "bench", "bench-1");
    if matches!(load, Load::Off) { setup.set("ADMIN__LISTEN", "off") } else { setup }
}

/// Asks until the tasks are dropped.
async fn ask(bridge: &kit::bridge::Bridge, load: Load) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let Load::Pages(pages) = load else { return tasks };
    let admin = Admin::of(bridge).await;
    for _ in 0..pages {
        let mut events = admin.events().await.expect("a stream of events");
        tasks.spawn(async move { while events.next().await.is_some() {} });
    }
    tasks.spawn(async move {
        loop {
            admin.metrics().await;
            sleep(Duration::from_secs(1)).await;
        }
    });
    tasks
}

async fn carry(events: u64, load: Load) -> Cost {
    let simulator = Simulator::start(SimulatorConfig::default()).await.expect("start the simulator");
    let bridge_setup = setup(&simulator, load);
    let mut bridge = bridge_setup.start();
    wait_until("the bridge has subscribed", SOON, || simulator.stats().total().consumers == 1).await;
    let asking = ask(&bridge, load).await;
    let begun = (Instant::now(), bridge.processor_time());
    let generation =
        Generation { events: Some(events), rate: Rate::default(), generator: GeneratorConfig::default() };
    simulator.generate("acme", generation);
    wait_until("everything is acknowledged", PATIENCE, || simulator.stats().total().acked == events).await;
    let time = bridge.processor_time().saturating_sub(begun.1);
    let events_per_second = events as f64 / begun.0.elapsed().as_secs_f64();
    let cost = Cost { events_per_second, time, memory: bridge.peak_memory() };
    drop(asking);
    bridge.terminate();
    assert!(bridge.ended(SOON).await.success(), "the bridge did not stop cleanly");
    simulator.stop().await;
    cost
}

/// Returns the processor time in each second, and the resident memory.
async fn idle(time: Duration, load: Load) -> (f64, u64) {
    let simulator = Simulator::start(SimulatorConfig::default()).await.expect("start the simulator");
    let bridge_setup = setup(&simulator, load);
    let mut bridge = bridge_setup.start();
    wait_until("the bridge has subscribed", SOON, || simulator.stats().total().consumers == 1).await;
    let asking = ask(&bridge, load).await;
    let before = bridge.processor_time();
    sleep(time).await;
    let used = bridge.processor_time().saturating_sub(before);
    let memory = bridge.memory();
    drop(asking);
    bridge.terminate();
    assert!(bridge.ended(SOON).await.success(), "the bridge did not stop cleanly");
    simulator.stop().await;
    (used.as_secs_f64() / time.as_secs_f64(), memory)
}
