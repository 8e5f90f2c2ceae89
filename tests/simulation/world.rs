//! Runs one simulation: broker, network, bridges and destinations in simulated time, with the faults of a plan.
//! Checks during the run what must always hold, and in the end that everything has arrived.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use atdata_bridge::simulator::{Generation, Generator, GeneratorConfig, Rate, Simulator, SimulatorConfig};
use atdata_bridge::source::Disconnect;
use fastrand::Rng;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::audit::{self, Settled};
use crate::clock;
use crate::destination::{Destination, Tells};
use crate::disk::SimulatedDisk;
use crate::files::Files;
use crate::letters::Letters;
use crate::network::SimulatedNetwork;
use crate::process::{Process, QUEUE, Surroundings};
use crate::schedule::{Fault, Plan, Planned};
use crate::threads::Threads;
use crate::trace::Trace;

/// How often the checks run, in simulated time.
const LOOK: Duration = Duration::from_millis(100);
/// Everything must have arrived this long after the last fault.
const RECOVERY: Duration = Duration::from_secs(300);
/// The longest time in which nothing moves although all parts are ready and events wait.
const LONGEST_UNTRUE_READY: Duration = Duration::from_secs(60);
/// How long a process may drain.
const DRAIN: Duration = Duration::from_secs(20);
/// What the last read buffer may take above the budget.
const READ_BUFFER: usize = 256 << 10;

/// Runs the plan. Returns the record of the run, and what went wrong.
pub fn run(plan: &Plan) -> (String, Option<String>) {
    fastrand::seed(plan.seed);
    let threads = Threads::new(Rng::with_seed(plan.seed ^ 1));
    let (running, began) = (threads.clone(), Arc::new(OnceLock::<Instant>::new()));
    let beginning = Arc::clone(&began);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_park(move || running.run())
        .on_thread_unpark(move || clock::set(began.get().map(Instant::elapsed).unwrap_or_default()))
        .build();
    runtime.expect("make a runtime").block_on(async {
        beginning.set(Instant::now()).expect("it begins once");
        let trace = Trace::new();
        let ran = World::new(plan, threads, trace.clone()).run(&plan.faults).await;
        (trace.text(), ran.err())
    })
}

struct World {
    surroundings: Surroundings,
    broker: Arc<Simulator>,
    threads: Threads,
    generator: Generator,
    processes: Vec<Option<Process>>,
    last_process: u64,
    /// When a replica without a process gets a new one.
    restarts: Vec<Option<Instant>>,
    /// When the current fault of a kind ends.
    ends: Vec<(Instant, Fault)>,
    trace: Trace,
    /// The events that were published and are not known to be settled.
    unsettled: BTreeSet<u64>,
    /// How many events were published at the last check.
    published: u64,
    acknowledged: u64,
    moved: Instant,
    /// A process may hold events of a session that has ended without a sign, and another process has them too.
    ends_unnoticed: bool,
}

impl World {
    fn new(plan: &Plan, threads: Threads, trace: Trace) -> Self {
        let setting = plan.setting.clone();
        trace.note(|| format!("{setting:?}"));
        let random = |what: u64| Rng::with_seed(plan.seed.wrapping_mul(31).wrapping_add(what));
        let config = SimulatorConfig { hold: setting.hold, ..SimulatorConfig::default() };
        let broker = Arc::new(Simulator::without_listener(config));
        broker.declare_queue("acme", "main");
        let generator = GeneratorConfig {
            seed: plan.seed,
            keys: setting.keys,
            odd_every: setting.odd_every,
            ..GeneratorConfig::default()
        };
        let is_shared = setting.replicas > 1 && !setting.is_strict;
        let tells = if is_shared { Tells::All } else { Tells::Newest };
        let kinds = setting.sinks.iter().enumerate();
        let destinations = kinds.map(|(number, kind)| {
            let name = format!("sink{number}");
            Destination::new(&name, *kind, tells, random(10 + number as u64), trace.clone())
        });
        let replicas = setting.replicas;
        let is_unnoticed = |planned: &Planned| planned.fault.ends_sessions_unnoticed(setting.protocol);
        let ends_unnoticed = replicas > 1 && plan.faults.iter().any(is_unnoticed);
        let disks = (0..replicas).map(|number| {
            let random = random(20 + number as u64);
            SimulatedDisk::new(
                format!("disk{number}"),
                setting.disk_delay,
                random,
                threads.clone(),
                trace.clone(),
            )
        });
        Self {
            surroundings: Surroundings {
                destinations: destinations.collect(),
                network: SimulatedNetwork::new(Arc::clone(&broker), random(1)),
                letters: Letters::new(random(2)),
                disks: disks.collect(),
                setting,
            },
            broker,
            threads,
            generator: Generator::new(generator),
            processes: (0..replicas).map(|_| None).collect(),
            last_process: 0,
            restarts: vec![Some(Instant::now()); replicas],
            ends: Vec::new(),
            trace,
            unsettled: BTreeSet::new(),
            published: 0,
            acknowledged: 0,
            moved: Instant::now(),
            ends_unnoticed,
        }
    }

    async fn run(mut self, faults: &[Planned]) -> Result<(), String> {
        let began = Instant::now();
        let rate = NonZeroU32::new(self.surroundings.setting.rate).expect("a rate");
        let generator = self.generator.config().clone();
        let events = Some(self.surroundings.setting.events);
        self.broker.generate("acme", Generation { events, rate: Rate::PerSecond(rate), generator });
        for planned in faults {
            let due = began + planned.at;
            while Instant::now() < due {
                self.go_on((Instant::now() + LOOK).min(due)).await?;
            }
            self.begin(planned.fault).await?;
        }
        // The faults that last end by themselves.
        while !self.ends.is_empty() || self.restarts.iter().any(Option::is_some) {
            self.go_on(Instant::now() + LOOK).await?;
        }
        self.trace.note(|| "no more faults".to_owned());
        let deadline = Instant::now() + RECOVERY;
        while !self.has_arrived() {
            if Instant::now() > deadline {
                return Err(format!("after {RECOVERY:?} without faults {}", self.what_waits()));
            }
            self.go_on(Instant::now() + LOOK).await?;
        }
        self.stop_all().await?;
        self.check_end()
    }

    /// Goes on until then, and looks whether all is well.
    async fn go_on(&mut self, until: Instant) -> Result<(), String> {
        let now = Instant::now();
        for replica in 0..self.restarts.len() {
            if self.restarts[replica].take_if(|due| *due <= now).is_some() {
                self.last_process += 1;
                let number = self.last_process;
                self.trace.note(|| format!("process {number} starts as replica {replica}"));
                self.processes[replica] = Some(Process::start(&self.surroundings, replica, number));
            }
        }
        let (over, lasting): (Vec<_>, Vec<_>) = self.ends.drain(..).partition(|(end, _)| *end <= now);
        self.ends = lasting;
        for (_, fault) in over {
            self.end(fault);
        }
        sleep_until(until).await;
        self.check()
    }

    async fn begin(&mut self, fault: Fault) -> Result<(), String> {
        self.trace.note(|| format!("{fault:?}"));
        let Surroundings { network, destinations, letters, disks, .. } = &self.surroundings;
        let sink = |which: usize| &destinations[which % destinations.len()];
        let disk = |which: usize| &disks[which % disks.len()];
        match fault {
            Fault::Kill(which, pause) => self.kill(which, pause).await,
            Fault::Stop(which, pause) => self.stop(which, pause).await?,
            Fault::Freeze(which, _) => self.freeze(which, true),
            Fault::Reset => network.reset(),
            Fault::Forget => network.forget_connections(),
            Fault::Block(way, _) => network.block(way, true),
            Fault::Refuse(_) => network.refuse(true),
            Fault::Slow(longest, _) => network.delay(longest),
            Fault::Restart(_) => {
                network.refuse(true);
                self.broker.cut();
            }
            Fault::BrokerError(after, _) => {
                self.broker.change_faults(|faults| faults.error_after = Some(after))
            }
            Fault::CloseConsumers(after, _) => {
                self.broker.change_faults(|faults| faults.close_consumers_after = Some(after));
            }
            Fault::Silence(after, _) => self.broker.change_faults(|faults| faults.silent_after = Some(after)),
            Fault::Dribble(bytes, _) => self.broker.change_faults(|faults| faults.dribble = Some(bytes)),
            Fault::SinkAway(which, _) => sink(which).trouble(|trouble| trouble.is_away = true),
            Fault::SinkStalls(which, _) => sink(which).trouble(|trouble| trouble.is_stalled = true),
            Fault::SinkBreaks(which) => sink(which).break_connections(),
            Fault::SinkRepeats(which, percent, _) => sink(which).trouble(|trouble| trouble.repeats = percent),
            Fault::SinkSlow(which, longest, _) => {
                sink(which).trouble(|trouble| trouble.longest_delay = longest)
            }
            Fault::LettersAway(_) => letters.away(true),
            Fault::PowerCut(which, pause) => {
                self.kill(which, pause).await;
                self.surroundings.disks[which % self.processes.len()].power_cut();
            }
            Fault::DiskFull(which, room, _) => disk(which).leave_room(room),
            Fault::DiskFails(which, percent, operation, _) => {
                disk(which).trouble(|trouble| trouble.fails = (percent, operation));
            }
            Fault::DiskSlow(which, longest, _) => {
                disk(which).trouble(|trouble| trouble.longest_delay = longest);
            }
            Fault::DiskHangs(which, lasts) => {
                disk(which).trouble(|trouble| trouble.hangs_until = Some(Instant::now() + lasts));
            }
        }
        if let Some(lasts) = fault.lasts() {
            self.ends.push((Instant::now() + lasts, fault));
        }
        Ok(())
    }

    fn end(&self, fault: Fault) {
        self.trace.note(|| format!("the end of {fault:?}"));
        let Surroundings { network, destinations, letters, disks, .. } = &self.surroundings;
        let sink = |which: usize| &destinations[which % destinations.len()];
        match fault {
            Fault::Freeze(which, _) => self.freeze(which, false),
            Fault::Block(way, _) => network.block(way, false),
            Fault::Refuse(_) | Fault::Restart(_) => network.refuse(false),
            Fault::Slow(..) => network.delay(Duration::from_millis(2)),
            Fault::BrokerError(..) => self.broker.change_faults(|faults| faults.error_after = None),
            Fault::CloseConsumers(..) => {
                self.broker.change_faults(|faults| faults.close_consumers_after = None);
            }
            Fault::Silence(..) => self.broker.change_faults(|faults| faults.silent_after = None),
            Fault::Dribble(..) => self.broker.change_faults(|faults| faults.dribble = None),
            Fault::SinkAway(which, _) => sink(which).trouble(|trouble| trouble.is_away = false),
            Fault::SinkStalls(which, _) => sink(which).trouble(|trouble| trouble.is_stalled = false),
            Fault::SinkRepeats(which, ..) => sink(which).trouble(|trouble| trouble.repeats = 0),
            Fault::SinkSlow(which, ..) => {
                let sink = sink(which);
                sink.trouble(|trouble| trouble.longest_delay = sink.delay());
            }
            Fault::LettersAway(_) => letters.away(false),
            Fault::DiskFull(which, ..)
            | Fault::DiskFails(which, ..)
            | Fault::DiskSlow(which, ..)
            | Fault::DiskHangs(which, _) => disks[which % disks.len()].heal(),
            Fault::Kill(..)
            | Fault::Stop(..)
            | Fault::PowerCut(..)
            | Fault::Reset
            | Fault::Forget
            | Fault::SinkBreaks(_) => {}
        }
    }

    fn freeze(&self, which: usize, is_frozen: bool) {
        let Some(process) = &self.processes[which % self.processes.len()] else { return };
        process.freeze(is_frozen);
        self.threads.freeze(process.number, is_frozen);
    }

    async fn kill(&mut self, which: usize, pause: Duration) {
        let replica = which % self.processes.len();
        let Some(process) = self.processes[replica].take() else { return };
        let number = process.number;
        process.kill().await;
        self.surroundings.process_ended(replica, number);
        self.restarts[replica] = Some(Instant::now() + pause);
    }

    /// SIGTERM: the process drains, and is given up after a while.
    async fn stop(&mut self, which: usize, pause: Duration) -> Result<(), String> {
        let replica = which % self.processes.len();
        let Some(process) = self.processes[replica].take() else { return Ok(()) };
        let number = process.number;
        process.drain();
        let deadline = Instant::now() + DRAIN;
        while !process.has_ended() && Instant::now() < deadline {
            self.go_on((Instant::now() + LOOK).min(deadline)).await?;
        }
        if process.has_ended() {
            let ended = process.ended().await.map_err(|error| format!("process {number}: {error}"))?;
            self.trace.note(|| format!("process {number} has drained: {ended:?}"));
        } else {
            process.kill().await;
            self.trace.note(|| format!("process {number} did not drain in time"));
        }
        self.surroundings.process_ended(replica, number);
        self.restarts[replica] = Some(Instant::now() + pause);
        Ok(())
    }

    /// Checks what must always hold.
    fn check(&mut self) -> Result<(), String> {
        let acknowledged = self.broker.stats().total().acked;
        if acknowledged > self.acknowledged {
            self.check_acknowledged()?;
        }
        if acknowledged > self.acknowledged || self.broker.unacknowledged(QUEUE).is_empty() {
            self.acknowledged = acknowledged;
            self.moved = Instant::now();
        }
        self.check_machines()?;
        let mut all_ready = true;
        for process in self.processes.iter().flatten() {
            if process.has_ended() {
                return Err(format!("process {} has ended by itself", process.number));
            }
            let (used, limit) = (process.budget.used(), process.budget.limit());
            if used > limit + READ_BUFFER {
                return Err(format!("process {} holds {used} bytes, allowed are {limit}", process.number));
            }
            let in_flight = process.counters.in_flight.get();
            if in_flight > u64::from(self.surroundings.setting.prefetch) {
                return Err(format!("process {} has {in_flight} events in flight", process.number));
            }
            all_ready &= process.unready().is_empty();
        }
        let works = |process: &Option<Process>| process.as_ref().is_some_and(|process| !process.is_frozen());
        if !all_ready || !self.processes.iter().all(works) {
            self.moved = Instant::now();
        }
        if self.moved.elapsed() > LONGEST_UNTRUE_READY {
            return Err(format!("all parts are ready, and nothing moves: {}", self.what_waits()));
        }
        Ok(())
    }

    /// Checks what the journals have done.
    fn check_machines(&self) -> Result<(), String> {
        if self.threads.have_panicked() {
            return Err("a thread has panicked".to_owned());
        }
        self.surroundings.disks.iter().find_map(SimulatedDisk::violation).map_or(Ok(()), Err)
    }

    /// An event that is acknowledged is settled in each sink (I1, I2).
    fn check_acknowledged(&mut self) -> Result<(), String> {
        let published = self.broker.stats().published;
        self.unsettled.extend(self.published + 1..=published);
        self.published = published;
        let waiting = self.broker.unacknowledged(QUEUE);
        let is_acknowledged = |number: &u64| !waiting.iter().any(|run| run.contains(number));
        let new: Vec<u64> = self.unsettled.iter().copied().filter(is_acknowledged).collect();
        if new.is_empty() {
            return Ok(());
        }
        if let Some(number) = self.settled_events().missing(&new) {
            return Err(format!("event {number} is acknowledged and not settled"));
        }
        self.unsettled.retain(|number| new.binary_search(number).is_err());
        self.trace.note(|| format!("{} events are acknowledged", published - self.unsettled.len() as u64));
        Ok(())
    }

    fn has_arrived(&self) -> bool {
        let all = self.broker.stats().published == self.surroundings.setting.events;
        all && self.broker.unacknowledged(QUEUE).is_empty()
            && self.processes.iter().flatten().all(|process| process.unready().is_empty())
    }

    fn what_waits(&self) -> String {
        let unready: Vec<_> = self
            .processes
            .iter()
            .flatten()
            .map(|process| format!("process {}: {:?}", process.number, process.unready()))
            .collect();
        let waiting: usize = self.broker.unacknowledged(QUEUE).into_iter().map(Iterator::count).sum();
        format!("{waiting} events wait at the broker; {}", unready.join("; "))
    }

    async fn stop_all(&mut self) -> Result<(), String> {
        for process in self.processes.iter_mut().filter_map(Option::take) {
            let number = process.number;
            process.drain();
            let ended = timeout(DRAIN, process.ended()).await;
            let ended = ended.map_err(|_| format!("process {number} does not drain"))?;
            match ended.map_err(|error| format!("process {number}: {error}"))? {
                // Unconfirmed: its last session with messages was lost, and nothing came since.
                Disconnect::Confirmed | Disconnect::Unconfirmed => {}
                other @ Disconnect::Unsettled => {
                    return Err(format!("process {number} has drained without faults: {other:?}"));
                }
            }
        }
        // What a lost connection has sent may still arrive.
        sleep(Duration::from_secs(10)).await;
        Ok(())
    }

    fn check_end(&self) -> Result<(), String> {
        self.check_machines()?;
        audit::at_the_end(&self.settled_events(), &self.surroundings.setting)
    }

    /// Where events end.
    fn settled_events(&self) -> Settled<'_> {
        let Surroundings { destinations, letters, disks, setting, .. } = &self.surroundings;
        let (files, has_files) = (Files { disks }, setting.files.is_some());
        let (ends_unnoticed, generator) = (self.ends_unnoticed, &self.generator);
        Settled { destinations, letters, files, has_files, ends_unnoticed, generator }
    }
}
