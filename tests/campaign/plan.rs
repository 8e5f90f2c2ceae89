//! Draws what happens in a round from the seed: servers, replicas, and the faults with their times.

use std::fmt;

use fastrand::Rng;
use kit::broker::{Protocol, Version};

/// The servers of a cluster, of Kafka or of NATS.
pub const NODES: usize = 3;
/// The longest faults of most kinds, in milliseconds. Some are longer: see [`hold`].
const USUAL: u64 = 5000;

/// What `make campaign` was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub seed: u64,
    /// In all rounds together.
    pub events: u64,
    /// In all rounds together.
    pub faults: u64,
    /// The longest fault, in seconds.
    pub longest: u64,
    /// Whether there is another build of the bridge, to which replicas are upgraded and from which they go back.
    pub upgrades: bool,
}

/// The faults of a round, at most.
const FAULTS_OF_A_ROUND: u64 = 12;

impl Wanted {
    /// The number of rounds.
    pub fn rounds(&self) -> u64 {
        self.faults.div_ceil(FAULTS_OF_A_ROUND).max(1)
    }
}

/// How the Kafka sink avoids doubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It may not read the topic.
    Zero,
    /// It reads the end of the topic.
    One,
    /// `exactly_once = true`.
    Two,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", *self as u8)
    }
}

/// One round.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// From 1.
    pub number: u64,
    pub version: Version,
    pub protocol: Protocol,
    /// Whether the bridges connect to the broker over TLS.
    pub tls: bool,
    /// `None` without the Kafka sink.
    pub kafka: Option<Level>,
    pub jetstream: bool,
    pub files: bool,
    pub replicas: usize,
    /// `ordering = "strict"`; else the replicas share the events.
    pub strict: bool,
    pub prefetch: u64,
    /// Whether the broker's store is so small that it is nearly full all the time, and sometimes full.
    pub small_store: bool,
    /// In seconds.
    pub heart_beat: u64,
    /// Different keys of the events.
    pub keys: u64,
    /// Events published per second, unless too many wait.
    pub rate: u64,
    /// Events published at least.
    pub events: u64,
    pub storms: Vec<Storm>,
}

/// Faults of which some are at work at once. The next storm begins when everything has recovered from this one.
#[derive(Clone, Debug, PartialEq)]
pub struct Storm {
    /// The time before it, in milliseconds.
    pub pause: u64,
    pub faults: Vec<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    pub target: Target,
    /// When it begins after the begin of the storm, in milliseconds.
    pub after: u64,
    /// How long it lasts, in milliseconds. A process that is killed or stopped is away for so long.
    pub hold: u64,
}

/// What a fault happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The process of a replica.
    Replica(usize),
    Broker,
    Kafka(usize),
    Nats(usize),
    /// The connections of a replica to the broker.
    ToBroker(usize),
    /// The connections of all replicas to a node of Kafka.
    ToKafka(usize),
    /// The connections of a replica to all servers of NATS.
    ToNats(usize),
    /// The disk with the files of a replica.
    Disk(usize),
    /// The clock that the process of a replica sees.
    Clock(usize),
    Topic,
    Stream,
    AllReplicas,
    AllKafka,
    AllNats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL.
    Kill,
    /// SIGTERM, or what stops a server cleanly.
    Stop,
    /// SIGSTOP and SIGCONT.
    Pause,
    Cut,
    /// The server sees the end of the connections, the bridge does not.
    HalfOpen,
    /// No byte passes, in either direction.
    Silence,
    /// No byte of the bridge arrives at the server.
    OneWayOut,
    /// No byte of the server arrives at the bridge.
    OneWayIn,
    /// Every byte is late.
    Delay,
    /// The bandwidth is small.
    Narrow,
    /// One after the other is stopped cleanly and started again.
    Roll,
    /// Like `Roll`, with another build of the bridge.
    Upgrade,
    /// The stream gets another leader.
    Leader,
    Full,
    ReadOnly,
    /// Every sync takes long.
    SlowSync,
    /// Two hours ahead.
    Ahead,
    /// Two hours back.
    Back,
    /// The broker gets a new certificate of a new authority, and is started again.
    Certificates,
    /// Nobody may write to the topic.
    Rights,
    /// The topic takes small batches only.
    Limit,
    /// The topic refuses records of events that have waited.
    Timestamps,
    /// The stream takes another subject.
    Uncovered,
}

/// What can happen, with its weight.
type Kinds = &'static [(Kind, u32)];

const PROCESS: [(Kind, u32); 3] = [(Kind::Kill, 4), (Kind::Stop, 2), (Kind::Pause, 3)];
const LINK: [(Kind, u32); 7] = [
    (Kind::Cut, 4),
    (Kind::HalfOpen, 2),
    (Kind::Silence, 2),
    (Kind::OneWayOut, 1),
    (Kind::OneWayIn, 1),
    (Kind::Delay, 2),
    (Kind::Narrow, 1),
];
const ROLL: [(Kind, u32); 1] = [(Kind::Roll, 1)];
const LEADER: [(Kind, u32); 1] = [(Kind::Leader, 1)];
const UPGRADE: [(Kind, u32); 1] = [(Kind::Upgrade, 1)];
const DISK: [(Kind, u32); 3] = [(Kind::Full, 2), (Kind::ReadOnly, 1), (Kind::SlowSync, 1)];
const CLOCK: [(Kind, u32); 2] = [(Kind::Ahead, 1), (Kind::Back, 1)];
const CERTIFICATES: [(Kind, u32); 1] = [(Kind::Certificates, 1)];
const TOPIC: [(Kind, u32); 3] = [(Kind::Rights, 1), (Kind::Limit, 1), (Kind::Timestamps, 1)];
const STREAM: [(Kind, u32); 1] = [(Kind::Uncovered, 1)];

impl Plan {
    /// The round with this number, from 1. It depends on nothing else, so that it can be run alone.
    pub fn of(wanted: &Wanted, number: u64) -> Self {
        let mut random = Rng::with_seed(wanted.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
        let rounds = wanted.rounds();
        let share = |all: u64| all / rounds + u64::from(number <= all % rounds);
        let strict = random.bool();
        let [jetstream, files] = [(); 2].map(|()| random.u8(..5) < 3);
        let kafka = random.u8(..5) < 4 || !(jetstream || files);
        let level = match (strict, random.u8(..4)) {
            (true, 1..) => Level::Two,
            (false, 0) => Level::Zero,
            _ => Level::One,
        };
        let mut plan = Self {
            number,
            version: if random.bool() { Version::V5 } else { Version::V6 },
            protocol: if random.bool() { Protocol::Stomp } else { Protocol::OpenWire },
            tls: random.u8(..3) == 0,
            kafka: kafka.then_some(level),
            jetstream,
            files,
            replicas: if strict { 2 } else { random.usize(2..=4) },
            strict,
            prefetch: [64, 256, 1024, 4096][random.usize(..4)],
            small_store: random.u8(..4) == 0,
            // With the default, or more often. With a longer one `ready` may be untrue for longer than is allowed.
            heart_beat: [5, 10, 10][random.usize(..3)],
            keys: [100, 1000, 5000][random.usize(..3)],
            rate: [1000, 2000, 4000][random.usize(..3)],
            events: share(wanted.events),
            storms: Vec::new(),
        };
        if plan.small_store {
            plan.rate = plan.rate.min(1000);
        }
        let mut left = share(wanted.faults);
        while left > 0 {
            let size = [1, 1, 1, 2, 2, 3][random.usize(..6)].min(left);
            left -= size;
            plan.storms.push(plan.storm(&mut random, size, wanted));
        }
        plan
    }

    fn storm(&self, random: &mut Rng, size: u64, wanted: &Wanted) -> Storm {
        let longest = wanted.longest * 1000;
        let mut faults: Vec<Fault> = Vec::new();
        while (faults.len() as u64) < size {
            let (target, kind) = self.drawn(random, wanted.upgrades);
            let fault = Fault {
                kind,
                target,
                after: random.u64(..3000.min(longest)),
                hold: hold(random, kind, longest),
            };
            if faults.iter().all(|other| !other.target.touches(target)) {
                faults.push(fault);
            }
        }
        // The first one begins at once.
        if let Some(first) = faults.first_mut() {
            first.after = 0;
        }
        Storm { pause: random.u64(200..4000.min(longest).max(201)), faults }
    }

    /// A target that the round has, and a kind that can happen to it.
    fn drawn(&self, random: &mut Rng, upgrades: bool) -> (Target, Kind) {
        let (replica, node) = (random.usize(..self.replicas), random.usize(..NODES));
        let mut targets: Vec<(Target, Kinds, u32)> = vec![
            (Target::Replica(replica), &PROCESS, 8),
            (Target::Broker, &PROCESS, 3),
            (Target::ToBroker(replica), &LINK, 4),
            (Target::AllReplicas, &ROLL, 1),
            (Target::Clock(replica), &CLOCK, 2),
        ];
        if upgrades {
            targets.push((Target::AllReplicas, &UPGRADE, 1));
        }
        if self.kafka.is_some() {
            targets.extend([
                (Target::Kafka(node), &PROCESS[..], 4),
                (Target::ToKafka(node), &LINK, 3),
                (Target::AllKafka, &ROLL, 1),
                (Target::Topic, &TOPIC, 2),
            ]);
        }
        if self.jetstream {
            targets.extend([
                (Target::Nats(node), &PROCESS[..], 4),
                (Target::ToNats(replica), &LINK, 3),
                (Target::AllNats, &ROLL, 1),
                (Target::AllNats, &LEADER, 1),
                (Target::Stream, &STREAM, 1),
            ]);
        }
        if self.tls {
            targets.push((Target::Broker, &CERTIFICATES, 1));
        }
        if self.files {
            targets.push((Target::Disk(replica), &DISK, 4));
        }
        let (target, kinds, _) = *weighed(random, &targets, |(_, _, weight)| *weight);
        let (kind, _) = *weighed(random, kinds, |(_, weight)| *weight);
        (target, kind)
    }

    /// The protocol in words.
    pub fn protocol(&self) -> String {
        let name = match self.protocol {
            Protocol::Stomp => "STOMP",
            Protocol::OpenWire => "OpenWire",
        };
        if self.tls { format!("{name} with TLS") } else { name.to_owned() }
    }

    /// The sinks in words.
    pub fn sinks(&self) -> String {
        let names = [(self.kafka.is_some(), "Kafka"), (self.jetstream, "JetStream"), (self.files, "files")];
        let names: Vec<_> = names.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
        names.join(", ")
    }

    /// How many replicas there are, and how they work together.
    pub fn together(&self) -> String {
        if self.strict { "strict pair".to_owned() } else { format!("{} share", self.replicas) }
    }

    /// `exactly_once`, in one word.
    pub fn level(&self) -> String {
        self.kafka.map_or_else(|| "-".to_owned(), |level| level.to_string())
    }
}

/// Mostly short, sometimes longer, rarely the longest.
fn hold(random: &mut Rng, kind: Kind, longest: u64) -> u64 {
    if matches!(kind, Kind::Cut | Kind::Roll | Kind::Upgrade | Kind::Leader) {
        return 0;
    }
    let most = match random.u8(..20) {
        0 => longest,
        1..=4 => 4 * USUAL,
        _ => USUAL,
    };
    random.u64(100..=most.min(longest).max(100))
}

fn weighed<'a, T>(random: &mut Rng, from: &'a [T], weight: impl Fn(&T) -> u32) -> &'a T {
    let mut left = random.u32(..from.iter().map(&weight).sum::<u32>());
    from.iter()
        .find(|one| {
            let is_it = left < weight(one);
            left = left.saturating_sub(weight(one));
            is_it
        })
        .expect("a weight below the sum")
}

impl Target {
    /// Whether two faults at once would be in each other's way.
    fn touches(self, other: Self) -> bool {
        // Two nodes of a cluster may be away at once. What asks the cluster for something may not meet that.
        let asks = |one, other| {
            matches!(
                (one, other),
                (Self::AllReplicas, Self::Replica(_))
                    | (Self::AllKafka | Self::Topic, Self::Kafka(_) | Self::AllKafka | Self::Topic)
                    | (Self::AllNats | Self::Stream, Self::Nats(_) | Self::AllNats | Self::Stream)
            )
        };
        self == other || asks(self, other) || asks(other, self)
    }

    /// The only replica that it concerns; `None` means all.
    pub fn replica(self) -> Option<usize> {
        match self {
            Self::Replica(replica)
            | Self::ToBroker(replica)
            | Self::ToNats(replica)
            | Self::Disk(replica)
            | Self::Clock(replica) => Some(replica),
            _ => None,
        }
    }

    /// What it is, without its number.
    pub fn class(self) -> &'static str {
        match self {
            Self::Replica(_) => "bridge",
            Self::Broker => "ActiveMQ",
            Self::Kafka(_) => "node of Kafka",
            Self::Nats(_) => "server of NATS",
            Self::ToBroker(_) => "connection to ActiveMQ",
            Self::ToKafka(_) => "connections to a node of Kafka",
            Self::ToNats(_) => "connection to NATS",
            Self::Disk(_) => "disk of the files",
            Self::Clock(_) => "clock of a bridge",
            Self::Topic => "topic",
            Self::Stream => "stream",
            Self::AllReplicas => "all bridges in turn",
            Self::AllKafka => "all nodes of Kafka in turn",
            Self::AllNats => "all servers of NATS in turn",
        }
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed (SIGKILL)",
            Self::Stop => "stopped (SIGTERM)",
            Self::Pause => "paused (SIGSTOP)",
            Self::Cut => "cut",
            Self::HalfOpen => "half-open",
            Self::Silence => "silent",
            Self::OneWayOut => "silent to the server",
            Self::OneWayIn => "silent to the bridge",
            Self::Delay => "delayed",
            Self::Narrow => "slow",
            Self::Roll => "restarted",
            Self::Leader => "leader steps down",
            Self::Upgrade => "replaced by another build",
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::SlowSync => "slow to sync",
            Self::Ahead => "two hours ahead",
            Self::Back => "two hours back",
            Self::Certificates => "new certificate and authority",
            Self::Rights => "writing forbidden",
            Self::Limit => "small `max.message.bytes`",
            Self::Timestamps => "refuses old timestamps",
            Self::Uncovered => "takes another subject",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = match self.target {
            Target::Replica(number)
            | Target::Kafka(number)
            | Target::Nats(number)
            | Target::ToBroker(number)
            | Target::ToKafka(number)
            | Target::ToNats(number)
            | Target::Disk(number)
            | Target::Clock(number) => format!(" {}", number + 1),
            _ => String::new(),
        };
        let (class, kind) = (self.target.class(), self.kind.name());
        write!(f, "after {} ms: {class}{number} {kind} for {} ms", self.after, self.hold)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "round {}: {:?} over {} into {}; {}, exactly-once level {}, prefetch {}, heart-beat {} s, {} keys, \
             {} events at {} a second{}",
            self.number,
            self.version,
            self.protocol(),
            self.sinks(),
            self.together(),
            self.level(),
            self.prefetch,
            self.heart_beat,
            self.keys,
            self.events,
            self.rate,
            if self.small_store { ", small store" } else { "" }
        )?;
        for (number, Storm { pause, faults }) in (1..).zip(&self.storms) {
            writeln!(f, "  storm {number}, {pause} ms later")?;
            for fault in faults {
                writeln!(f, "    {fault}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted { seed: 7, events: 1000, faults: 100, longest: 90, upgrades: true };

    fn all(seed: u64) -> Vec<Plan> {
        let wanted = Wanted { seed, ..WANTED };
        (1..=wanted.rounds()).map(|number| Plan::of(&wanted, number)).collect()
    }

    #[test]
    fn a_seed_draws_the_same_plan_again_and_another_seed_another_one() {
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
    }

    #[test]
    fn the_rounds_have_all_faults_and_events_together() {
        let faults: usize = all(7).iter().flat_map(|plan| &plan.storms).map(|storm| storm.faults.len()).sum();
        assert_eq!(faults, 100);
        assert_eq!(all(7).iter().map(|plan| plan.events).sum::<u64>(), 1000);
    }

    #[test]
    fn every_plan_can_be_carried_out() {
        for plan in (0..300).flat_map(all) {
            assert!(plan.kafka.is_some() || plan.jetstream || plan.files, "no sink: {plan}");
            assert!(plan.kafka != Some(Level::Two) || plan.strict, "{plan}");
            assert!((2..=4).contains(&plan.replicas) && (!plan.strict || plan.replicas == 2), "{plan}");
            for storm in &plan.storms {
                for (place, fault) in storm.faults.iter().enumerate() {
                    let others = &storm.faults[place + 1..];
                    assert!(others.iter().all(|other| !other.target.touches(fault.target)), "{plan}");
                    assert!(
                        fault.hold <= 90_000 && fault.target.replica().is_none_or(|one| one < plan.replicas)
                    );
                }
            }
        }
    }

    #[test]
    fn everything_is_drawn_at_some_time() {
        let plans: Vec<Plan> = (0..300).flat_map(all).collect();
        let faults = plans.iter().flat_map(|plan| &plan.storms).flat_map(|storm| &storm.faults);
        let mut drawn: Vec<_> = faults.map(|fault| (fault.target.class(), fault.kind)).collect();
        drawn.sort_unstable();
        drawn.dedup();
        // Three kinds for each process, seven for each connection, a roll of three; an upgrade, a leader, certificates;
        // three kinds of a disk, two of a clock, three of the topic, one of the stream.
        assert_eq!(drawn.len(), 4 * 3 + 3 * 7 + 3 + 3 + 3 + 2 + 3 + 1, "{drawn:?}");
    }
}
