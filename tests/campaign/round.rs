//! Runs one round: its faults under load, the recovery from them, and the audit.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
use kit::stored::{Stored, each_in_files, each_in_stream, each_in_topic};
use tokio::time::sleep;

use crate::audit::{Causes, Finding, Order, Sheet, Sink};
use crate::faults::carry_out;
use crate::load::{Confirmed, publish};
use crate::plan::{Level, Plan, Storm};
use crate::watch::Watch;
use crate::world::{NAME, World, blocking};

/// How long a recovery may take.
const RECOVERY: Duration = Duration::from_secs(180);
/// How long the queue may take to be empty at the end.
const EMPTY: Duration = Duration::from_secs(300);
/// How long a replica may say that it is ready while it is not.
pub const UNTRUE: Duration = Duration::from_secs(30);

/// The result of a round.
pub struct Outcome {
    pub plan: Plan,
    pub took: Duration,
    /// Those that the broker has confirmed.
    pub events: u64,
    pub findings: BTreeMap<Sink, Finding>,
    pub letters: u64,
    pub recovery: Duration,
    pub untrue: Duration,
    /// What must not be, in words.
    pub broken: Vec<String>,
}

/// Runs a round. The logs of a failed one are kept in `logs`. One that a panic ends has failed, too.
pub async fn run(plan: Plan, other_build: Option<&Path>, logs: &Path) -> Outcome {
    let began = Instant::now();
    match AssertUnwindSafe(try_run(plan.clone(), other_build, logs)).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            let broken = vec![format!("it did not end: {}", text.lines().next().unwrap_or_default())];
            let (findings, zero) = (BTreeMap::new(), Duration::ZERO);
            let took = began.elapsed();
            Outcome { plan, took, events: 0, findings, letters: 0, recovery: zero, untrue: zero, broken }
        }
    }
}

async fn try_run(plan: Plan, other_build: Option<&Path>, logs: &Path) -> Outcome {
    let began = Instant::now();
    let world = Arc::new(World::start(plan.clone(), other_build).await);
    let watch = Arc::new(Watch::new(world.replicas.len()));
    let watching = tokio::spawn(Arc::clone(&watch).run(Arc::clone(&world)));
    let mut broken = Vec::new();
    let mut recovery = Duration::ZERO;
    if !all_well(&watch, began).await {
        broken.push(format!("it did not begin: {}", watch.summary()));
    }
    let load = tokio::spawn(publish(Arc::clone(&world), Arc::clone(&watch)));
    for (number, storm) in (1..).zip(&plan.storms) {
        if !broken.is_empty() {
            break;
        }
        match weather(&world, &watch, storm).await {
            Ok(took) => {
                let at = began.elapsed().as_secs_f64();
                eprintln!(
                    "  {at:5.0} s: storm {number}, recovered in {:.1} s; {}",
                    took.as_secs_f64(),
                    watch.summary()
                );
                recovery = recovery.max(took);
            }
            Err(why) => broken.push(format!("storm {number}: {why}")),
        }
    }
    world.over.store(true, Ordering::Relaxed);
    let confirmed = load.await.expect("events that are published");
    let asked = Instant::now();
    while !watch.is_empty(asked) && asked.elapsed() < EMPTY {
        sleep(Duration::from_millis(100)).await;
    }
    if !watch.is_empty(asked) {
        broken.push(format!("the queue did not become empty: {}", watch.summary()));
    }
    watching.abort();
    let has_unclean_stop = world.replicas.iter().any(|replica| replica.exits().keys().any(|code| *code != 0));
    broken.extend(stop_all(&world).await);
    broken.extend(blocking(&world, refused).await);
    let (untrue, when) = watch.untrue();
    if untrue > UNTRUE {
        broken.push(format!("ready was untrue for {:.1} s: {when}", untrue.as_secs_f64()));
    }
    let causes = Causes::of_plan(&plan, has_unclean_stop);
    let (findings, audited) = audit(&world, &causes, &confirmed).await;
    broken.extend(audited);
    let letters = letters(&world);
    if letters > 0 {
        broken.push(format!("{letters} dead letters"));
    }
    if !broken.is_empty() {
        world.keep_logs(logs);
        eprintln!("  FAILED, the logs are in {}: {}", logs.display(), broken.join("; "));
    }
    let events = confirmed.iter().filter(|confirmed| **confirmed).count() as u64;
    Outcome { plan, took: began.elapsed(), events, findings, letters, recovery, untrue, broken }
}

/// Carries out a storm, and returns how long the recovery from it took.
async fn weather(world: &Arc<World>, watch: &Arc<Watch>, storm: &Storm) -> Result<Duration, String> {
    sleep(Duration::from_millis(storm.pause)).await;
    let faults = storm.faults.iter().map(|fault| carry_out(Arc::clone(world), Arc::clone(watch), *fault));
    join_all(faults).await.into_iter().collect::<Result<(), String>>()?;
    let ended = Instant::now();
    if !all_well(watch, ended).await {
        return Err(format!("no recovery in {RECOVERY:?}: {}", watch.summary()));
    }
    watch.recovered();
    Ok(ended.elapsed())
}

async fn all_well(watch: &Watch, since: Instant) -> bool {
    while !watch.is_well(since) {
        if since.elapsed() > RECOVERY {
            return false;
        }
        sleep(Duration::from_millis(50)).await;
    }
    true
}

/// Stops all bridges, of which nothing is wrong any more.
async fn stop_all(world: &World) -> Vec<String> {
    let stops = join_all(world.replicas.iter().map(crate::world::Replica::stop)).await;
    let wrong = stops.into_iter().map(|stop| match stop {
        Ok(0) => None,
        Ok(code) => Some(format!("a bridge has ended with {code} at the end")),
        Err(why) => Some(why),
    });
    wrong.flatten().collect()
}

/// What the broker has put aside, which must be nothing. Blocks.
fn refused(world: &World) -> Option<String> {
    let aside = world.counts(&format!("DLQ.{}", world.queue()))?;
    (aside.messages > 0).then(|| format!("{} events in the broker's own dead letters", aside.messages))
}

fn letters(world: &World) -> u64 {
    let mut letters = 0;
    for replica in &world.replicas {
        if replica.setup.dead_letters().exists() {
            kit::output::each_line(replica.setup.dead_letters(), |_| letters += 1);
        }
    }
    letters
}

/// Reads every sink. Returns what is wrong with each, and that in words.
async fn audit(
    world: &Arc<World>,
    causes: &Causes,
    confirmed: &Confirmed,
) -> (BTreeMap<Sink, Finding>, Vec<String>) {
    let plan = &world.plan;
    let sheet = |order| Sheet::new(world.events(), confirmed.len(), order, plan.strict);
    let mut sheets = Vec::new();
    if let Some(level) = plan.kafka {
        let mut topic = sheet(Order::OfAll);
        tokio::task::block_in_place(|| {
            if level == Level::Zero {
                world.kafka[0].forget_rules(NAME);
            }
            each_in_topic(&world.bootstrap(), NAME, |stored| topic.add(writer(&stored), stored));
        });
        sheets.push((Sink::Kafka, topic));
    }
    if plan.jetstream {
        let mut stream = sheet(Order::OfAll);
        each_in_stream(&world.jetstream().await, NAME, |stored| stream.add(writer(&stored), stored)).await;
        sheets.push((Sink::JetStream, stream));
    }
    if plan.files {
        let mut files = sheet(Order::OfEachWriter);
        for (number, replica) in world.replicas.iter().enumerate() {
            let disk = replica.setup.disk().expect("a disk").path();
            each_in_files(&disk, |stored| files.add(number, stored));
        }
        sheets.push((Sink::Files, files));
    }
    let (mut findings, mut broken) = (BTreeMap::new(), Vec::new());
    for (sink, sheet) in sheets {
        let finding = sheet.close(sink, causes, confirmed);
        let wrong = finding.broken();
        if !wrong.is_empty() {
            eprintln!("  {}: {}", sink.name(), sheet.examples(confirmed));
            broken.push(format!("{}: {}", sink.name(), wrong.join(", ")));
        }
        findings.insert(sink, finding);
    }
    (findings, broken)
}

/// The number of the replica that wrote an event.
fn writer(stored: &Stored<'_>) -> usize {
    let (_, number) = stored.writer.rsplit_once('-').expect("a number of a replica");
    number.parse().expect("a number of a replica")
}
