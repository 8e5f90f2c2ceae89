//! Runs the threads of the simulated processes one at a time, in simulated time. While one runs, neither another one nor
//! a task of Tokio does. They get their turns once no task can go on, before the clock moves. So a run is the same each
//! time.

use std::any::Any;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, Thread};
use std::time::Duration;

use atdata_bridge::journal::threads::{self as journal, ThreadWork};
use fastrand::Rng;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

thread_local! {
    /// The number of the simulated thread that this is.
    static CURRENT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// All threads of a simulation. Cheap to clone.
#[derive(Clone)]
pub struct Threads(Arc<Mutex<State>>);

struct State {
    random: Rng,
    threads: BTreeMap<u64, Simulated>,
    last: u64,
    /// Those that can go on.
    ready: Vec<u64>,
    running: Option<u64>,
    /// The thread of Tokio.
    tokio: Thread,
    frozen: BTreeSet<u64>,
    panicked: bool,
}

struct Simulated {
    process: u64,
    thread: Option<Thread>,
    /// It has been woken, and has not waited since.
    is_woken: bool,
    waits: Option<Wait>,
    /// Those that wait for its end.
    joining: Vec<u64>,
    end: Option<thread::Result<()>>,
}

struct Wait {
    /// What else than the time ends it.
    until: Until,
    alarm: Option<AbortHandle>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Woken,
    Ended,
    Later,
}

impl Threads {
    /// Call it on the thread of Tokio.
    pub fn new(random: Rng) -> Self {
        Self(Arc::new(Mutex::new(State {
            random,
            threads: BTreeMap::new(),
            last: 0,
            ready: Vec::new(),
            running: None,
            tokio: thread::current(),
            frozen: BTreeSet::new(),
            panicked: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Whether any thread has panicked.
    pub fn have_panicked(&self) -> bool {
        self.state().panicked
    }

    /// Gives the threads of a process no more turns, or gives them again.
    pub fn freeze(&self, process: u64, is_frozen: bool) {
        let mut state = self.state();
        match is_frozen {
            true => state.frozen.insert(process),
            false => state.frozen.remove(&process),
        };
    }

    /// Gives all threads that can go on their turns, until all wait. Tokio calls it when no task can go on.
    pub fn run(&self) {
        loop {
            let Some(thread) = self.state().next() else { return };
            thread.unpark();
            while self.state().running.is_some() {
                thread::park();
            }
        }
    }

    /// Starts a thread of a process.
    pub fn start(&self, process: u64, name: &str, work: ThreadWork) -> io::Result<Box<dyn journal::Thread>> {
        let number = {
            let mut state = self.state();
            state.last += 1;
            let number = state.last;
            let (waits, joining, end) = (None, Vec::new(), None);
            state
                .threads
                .insert(number, Simulated { process, thread: None, is_woken: false, waits, joining, end });
            number
        };
        let (threads, tokio) = (self.clone(), Handle::current());
        let body = move || {
            CURRENT.set(Some(number));
            let _entered = tokio.enter();
            threads.wait_for_turn(number);
            let end = catch_unwind(AssertUnwindSafe(work));
            threads.ended(number, end);
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body)?.thread().clone();
        let mut state = self.state();
        state.threads.get_mut(&number).expect("it was inserted").thread = Some(thread);
        state.ready.push(number);
        Ok(Box::new(Started { threads: self.clone(), number }))
    }

    /// Makes the thread that calls it wait until it is woken, or for this long.
    pub fn park(&self, longest: Duration) {
        let number = current();
        let is_woken = std::mem::take(&mut self.state().simulated(number).is_woken);
        if !is_woken {
            self.wait(number, Until::Woken, Some(longest));
            self.state().simulated(number).is_woken = false;
        }
    }

    /// Makes the thread that calls it wait for this long.
    pub fn pause(&self, time: Duration) {
        self.wait(current(), Until::Later, Some(time));
    }

    fn wait(&self, number: u64, until: Until, longest: Option<Duration>) {
        let alarm = longest.map(|time| {
            let threads = self.clone();
            let alarm = async move {
                tokio::time::sleep(time).await;
                threads.state().go_on(number);
            };
            tokio::spawn(alarm).abort_handle()
        });
        let mut state = self.state();
        state.simulated(number).waits = Some(Wait { until, alarm });
        state.yield_turn();
        drop(state);
        self.wait_for_turn(number);
    }

    fn wait_for_turn(&self, number: u64) {
        while self.state().running != Some(number) {
            thread::park();
        }
    }

    fn ended(&self, number: u64, end: thread::Result<()>) {
        let mut state = self.state();
        state.panicked |= end.is_err();
        let ended = state.simulated(number);
        ended.end = Some(end);
        let joining = std::mem::take(&mut ended.joining);
        joining.into_iter().for_each(|thread| state.go_on(thread));
        state.yield_turn();
    }
}

/// The number of the thread that calls it.
fn current() -> u64 {
    CURRENT.get().expect("the tasks of a process must not wait for its disk")
}

impl State {
    fn simulated(&mut self, number: u64) -> &mut Simulated {
        self.threads.get_mut(&number).expect("a thread of the simulation")
    }

    /// Chooses who runs next.
    fn next(&mut self) -> Option<Thread> {
        let Self { threads, frozen, ready, random, .. } = self;
        let may_run = |place: &usize| !frozen.contains(&threads[&ready[*place]].process);
        let places: Vec<usize> = (0..ready.len()).filter(may_run).collect();
        let place = *random.choice(&places)?;
        let number = ready.remove(place);
        self.running = Some(number);
        self.simulated(number).thread.clone()
    }

    /// The thread that runs does no longer.
    fn yield_turn(&mut self) {
        self.running = None;
        self.tokio.unpark();
    }

    /// Ends the wait of a thread.
    fn go_on(&mut self, number: u64) {
        if let Some(wait) = self.simulated(number).waits.take() {
            wait.alarm.inspect(AbortHandle::abort);
            self.ready.push(number);
        }
    }
}

struct Started {
    threads: Threads,
    number: u64,
}

impl journal::Thread for Started {
    fn unpark(&self) {
        let mut state = self.threads.state();
        let thread = state.simulated(self.number);
        thread.is_woken = true;
        if thread.waits.as_ref().is_some_and(|wait| wait.until == Until::Woken) {
            state.go_on(self.number);
        }
    }

    fn join(self: Box<Self>) -> Result<(), Box<dyn Any + Send>> {
        loop {
            let mut state = self.threads.state();
            let thread = state.simulated(self.number);
            if let Some(end) = thread.end.take() {
                return end;
            }
            let number = current();
            thread.joining.push(number);
            drop(state);
            self.threads.wait(number, Until::Ended, None);
        }
    }
}
