//! Watches a round: whether events move, what each replica says of itself, and how long that is untrue.
//!
//! A replica is **stuck** while it has events and receives, settles and acknowledges none; a replica without events
//! also while events wait at the broker and no replica acknowledges any. (That a replica acknowledges alone would not
//! do: it counts a late acknowledgement only when the broker has confirmed it, D19.) What it says is **untrue** while it is stuck, `/readyz`
//! answers 200, and a fault is at work on a part that it uses: itself, the broker, a server of a sink, a connection to
//! one of these, or its disk. The time runs from the latest of three moments: the beginning of the fault, the last
//! movement, the last answer that was not 200. A fault is at work until everything has recovered from it. While a
//! fault holds another replica alone, events may wait in that one's hands, so that a replica without events
//! is not stuck then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kit::broker::QueueCounts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::plan::Target;
use crate::world::{World, blocking};

/// The time between two questions.
const EVERY: Duration = Duration::from_millis(250);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);

pub struct Watch(Mutex<Seen>);

struct Seen {
    queue: Queue,
    replicas: Vec<Replica>,
    faults: Vec<(Target, Instant)>,
    /// The longest time that a replica was ready untruly, and which one and when.
    untrue: (Duration, String),
    began: Instant,
}

struct Queue {
    messages: u64,
    dequeued: u64,
    moved: Instant,
    asked: Option<Instant>,
}

#[derive(Clone)]
struct Replica {
    /// `None` without an answer.
    last: Option<Answer>,
    answered: Option<Instant>,
    ready_since: Option<Instant>,
    moved: Instant,
}

/// What a replica says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Answer {
    is_ready: bool,
    /// What it has received, settled and acknowledged, in one sum that grows with each.
    done: f64,
    in_flight: f64,
}

impl Watch {
    pub fn new(replicas: usize) -> Self {
        let now = Instant::now();
        let queue = Queue { messages: 0, dequeued: 0, moved: now, asked: None };
        let replica = Replica { last: None, answered: None, ready_since: None, moved: now };
        let untrue = (Duration::ZERO, String::new());
        let replicas = vec![replica; replicas];
        Self(Mutex::new(Seen { queue, replicas, faults: Vec::new(), untrue, began: now }))
    }

    /// Asks the broker and all replicas again and again, until it is dropped.
    pub async fn run(self: Arc<Self>, world: Arc<World>) {
        let ask_all = world.replicas.iter().enumerate().map(|(number, replica)| {
            let watch = Arc::clone(&self);
            async move {
                loop {
                    let answer = timeout(ANSWER, ask(replica.admin)).await.ok().flatten();
                    watch.seen().answered(number, answer, Instant::now());
                    sleep(EVERY).await;
                }
            }
        });
        let ask_broker = async {
            loop {
                let asked = Instant::now();
                let counts = blocking(&world, |world| world.counts(&world.queue())).await;
                if let Some(counts) = counts {
                    self.seen().counted(counts, asked);
                }
                sleep(EVERY).await;
            }
        };
        tokio::join!(futures_util::future::join_all(ask_all), ask_broker);
    }

    pub fn begun(&self, target: Target) {
        self.seen().faults.push((target, Instant::now()));
    }

    /// Everything has recovered from all faults.
    pub fn recovered(&self) {
        self.seen().faults.clear();
    }

    /// How many events are in the queue, as far as it is known.
    pub fn waiting(&self) -> u64 {
        self.seen().queue.messages
    }

    /// Whether a replica has said after `since` that it is ready.
    pub fn is_ready(&self, number: usize, since: Instant) -> bool {
        self.seen().replicas[number].is_ready(since)
    }

    /// Whether all replicas have said after `since` that they are ready, and events have moved or none waits.
    pub fn is_well(&self, since: Instant) -> bool {
        let seen = self.seen();
        let Queue { messages, moved, asked, .. } = seen.queue;
        let moves = asked.is_some_and(|asked| asked > since) && (messages == 0 || moved > since);
        moves && seen.replicas.iter().all(|replica| replica.is_ready(since))
    }

    /// Whether the queue was empty when it was asked after `since`.
    pub fn is_empty(&self, since: Instant) -> bool {
        let seen = self.seen();
        seen.queue.asked.is_some_and(|asked| asked > since) && seen.queue.messages == 0
    }

    /// The longest time that a replica was ready untruly, and which one and when.
    pub fn untrue(&self) -> (Duration, String) {
        self.seen().untrue.clone()
    }

    /// What is known now, for people.
    pub fn summary(&self) -> String {
        let seen = self.seen();
        let Queue { messages, dequeued, .. } = seen.queue;
        let replicas: Vec<_> = seen.replicas.iter().map(|replica| format!("{:?}", replica.last)).collect();
        format!("{messages} wait, {dequeued} acknowledged, {}", replicas.join(", "))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replica {
    fn is_ready(&self, since: Instant) -> bool {
        self.answered.is_some_and(|answered| answered > since) && self.last.is_some_and(|last| last.is_ready)
    }
}

impl Seen {
    fn counted(&mut self, counts: QueueCounts, asked: Instant) {
        // A broker that was restarted counts from 0.
        if counts.dequeued > self.queue.dequeued || counts.messages == 0 {
            self.queue.moved = asked;
        }
        self.queue.dequeued = counts.dequeued;
        self.queue.messages = counts.messages;
        self.queue.asked = Some(asked);
    }

    fn answered(&mut self, number: usize, answer: Option<Answer>, now: Instant) {
        let replica = &mut self.replicas[number];
        let has_moved = |last: Answer, new: Answer| last.done != new.done || last.in_flight == 0.0;
        if replica.last.zip(answer).is_none_or(|(last, new)| has_moved(last, new)) {
            replica.moved = now;
        }
        replica.last = answer;
        replica.answered = Some(now);
        if !answer.is_some_and(|answer| answer.is_ready) {
            replica.ready_since = None;
            return;
        }
        let ready_since = *replica.ready_since.get_or_insert(now);
        let is_mine = |target: &Target| target.replica().is_none_or(|replica| replica == number);
        let begun = self.faults.iter().filter(|(target, _)| is_mine(target)).map(|(_, begun)| *begun).min();
        let Some(begun) = begun else { return };
        let Some(stuck) = self.stuck_since(number) else { return };
        let untrue = now.saturating_duration_since(ready_since.max(begun).max(stuck));
        if untrue > self.untrue.0 {
            let at = now.duration_since(self.began).as_secs_f64();
            let of: Vec<_> = self.faults.iter().map(|(target, _)| format!("{target:?}")).collect();
            self.untrue = (untrue, format!("bridge {} at {at:.0} s, {}", number + 1, of.join(" and ")));
        }
    }

    fn stuck_since(&self, number: usize) -> Option<Instant> {
        let replica = &self.replicas[number];
        if replica.last.is_some_and(|last| last.in_flight > 0.0) {
            return Some(replica.moved);
        }
        let holds_another = |target: &Target| target.replica().is_some_and(|replica| replica != number);
        let may_wait_elsewhere = self.faults.iter().any(|(target, _)| holds_another(target));
        (self.queue.messages > 0 && !may_wait_elsewhere).then_some(self.queue.moved)
    }
}

async fn ask(admin: std::net::SocketAddr) -> Option<Answer> {
    let is_ready = get(admin, "/readyz").await?.starts_with("HTTP/1.1 200");
    let metrics = get(admin, "/metrics").await?;
    let sum = |name: &str| -> f64 {
        let samples = metrics.lines().filter(|line| line.starts_with(name));
        samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    };
    let counters = ["received", "settled", "acked"];
    Some(Answer {
        is_ready,
        done: counters.map(|counter| sum(&format!("atdata_bridge_events_{counter}_total{{"))).iter().sum(),
        in_flight: sum("atdata_bridge_in_flight_events{"),
    })
}

async fn get(admin: std::net::SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(admin).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What is seen of two replicas while a fault is at work on `target` from second 10 on. Each second,
    /// both answer as `say` says, and events move at the broker until second 10.
    fn untrue_of(target: Target, say: impl Fn(usize, u64) -> Option<Answer>) -> u64 {
        let watch = Watch::new(2);
        let mut seen = watch.seen();
        let began = seen.began;
        for second in 0..60_u32 {
            let now = began + SECOND * second;
            if second == 10 {
                seen.faults.push((target, now));
            }
            let dequeued = u64::from(second.min(10));
            let counts = QueueCounts { messages: 5, in_flight: 0, enqueued: 5, dequeued, consumers: 2 };
            seen.counted(counts, now);
            for number in 0..2 {
                seen.answered(number, say(number, u64::from(second)), now);
            }
        }
        seen.untrue.0.as_secs()
    }

    fn ready(done: u64, in_flight: u32) -> Option<Answer> {
        Some(Answer { is_ready: true, done: done as f64, in_flight: in_flight.into() })
    }

    #[test]
    fn a_replica_that_is_ready_while_nothing_moves_is_found() {
        assert_eq!(untrue_of(Target::Broker, |_, _| ready(0, 0)), 49);
        assert_eq!(untrue_of(Target::Kafka(0), |_, second| ready(second.min(10), 7)), 49);
    }

    #[test]
    fn a_replica_that_says_so_or_gets_on_is_not() {
        let says_so = |_, second: u64| {
            let answer = ready(second.min(10), 7);
            answer.map(|answer| Answer { is_ready: second < 12, ..answer })
        };
        assert_eq!(untrue_of(Target::Kafka(0), says_so), 1);
        assert_eq!(untrue_of(Target::Kafka(0), |_, second| ready(second, 7)), 0);
        assert_eq!(untrue_of(Target::Broker, |_, _| None), 0);
    }

    #[test]
    fn events_may_wait_in_the_hands_of_another_replica() {
        assert_eq!(
            untrue_of(Target::Replica(0), |number, _| if number == 0 { None } else { ready(9, 0) }),
            0
        );
        let also_stuck = |number, _| if number == 0 { None } else { ready(9, 3) };
        assert_eq!(untrue_of(Target::Replica(0), also_stuck), 0, "the fault is not its own");
        assert_eq!(untrue_of(Target::ToBroker(1), also_stuck), 49);
    }
}
