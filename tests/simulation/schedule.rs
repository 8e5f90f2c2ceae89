//! Draws the setting and the faults of a simulation from its seed.

use std::fmt;
use std::time::Duration;

use atdata_bridge::journal::config::FileCompression;
use atdata_bridge::source::config::Protocol;
use fastrand::Rng;

use crate::destination::Kind;
use crate::disk::{OPERATIONS, Operation};
use crate::network::Way;

/// How the bridges and their sinks are set up.
#[derive(Clone, Debug)]
pub struct Setting {
    pub protocol: Protocol,
    pub is_strict: bool,
    pub replicas: usize,
    pub prefetch: u32,
    pub heart_beat: Duration,
    pub max_in_flight: usize,
    /// Each sink, and how long a delivery to it takes at most.
    pub sinks: Vec<(Kind, Duration)>,
    /// The file sink, if there is one.
    pub files: Option<FileSetting>,
    /// Dead letters are kept in files.
    pub has_letter_files: bool,
    /// How long a write or a sync of a disk takes at most.
    pub disk_delay: Duration,
    pub events: u64,
    pub rate: u32,
    pub keys: u32,
    /// Every so many events one has no usable key; 0 for none.
    pub odd_every: u64,
    /// How long the broker holds the connection id of a dead session.
    pub hold: Duration,
}

/// How the file sink is set up.
#[derive(Clone, Copy, Debug)]
pub struct FileSetting {
    pub compression: FileCompression,
    pub rotate_size: u64,
    pub rotate_age: Duration,
    /// Each partition has files of its own.
    pub is_partitioned: bool,
    pub is_envelope: bool,
}

/// Something that goes wrong. Places that there may be fewer of are counted modulo their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and a new process after this time.
    Kill(usize, Duration),
    /// SIGTERM, and a new process after the old one has ended and this time.
    Stop(usize, Duration),
    /// A process is stopped, as by SIGSTOP, and goes on after this time.
    Freeze(usize, Duration),
    /// Every connection to the broker is reset.
    Reset,
    /// The connections that there are go dead without a sign.
    Forget,
    Block(Way, Duration),
    Refuse(Duration),
    Slow(Duration, Duration),
    /// The broker ends every connection and accepts none for this time.
    Restart(Duration),
    /// The broker sends each connection an error after so many events.
    BrokerError(u64, Duration),
    /// The broker closes the consumers of each connection after so many events.
    CloseConsumers(u64, Duration),
    /// The broker says nothing more on a connection after so many events.
    Silence(u64, Duration),
    /// The broker writes a few bytes at a time.
    Dribble(usize, Duration),
    SinkAway(usize, Duration),
    SinkStalls(usize, Duration),
    SinkBreaks(usize),
    /// A sink asks to repeat so many of a hundred deliveries.
    SinkRepeats(usize, u8, Duration),
    SinkSlow(usize, Duration, Duration),
    LettersAway(Duration),
    /// The machine loses power. A new process starts after this time.
    PowerCut(usize, Duration),
    /// A disk has room for so many bytes only.
    DiskFull(usize, u64, Duration),
    /// Of a hundred operations of a disk so many fail; all kinds, or one.
    DiskFails(usize, u8, Option<Operation>, Duration),
    DiskSlow(usize, Duration, Duration),
    /// A disk does not answer for this time.
    DiskHangs(usize, Duration),
}

impl Fault {
    /// A session can end by this fault without a sign that its process sees: STOMP does not tell that a consumer was
    /// closed, and a frozen process sees nothing.
    pub fn ends_sessions_unnoticed(&self, protocol: Protocol) -> bool {
        matches!(self, Self::Freeze(..))
            || (matches!(self, Self::CloseConsumers(..)) && protocol == Protocol::Stomp)
    }
}

/// A fault and when it begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    pub at: Duration,
    pub fault: Fault,
}

impl fmt::Debug for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:?}: {:?}", self.at, self.fault)
    }
}

/// All that a simulation needs besides the seed of its random numbers.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub setting: Setting,
    pub faults: Vec<Planned>,
}

impl Plan {
    /// Draws a plan; the same seed gives the same.
    pub fn of(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let setting = Setting::drawn(&mut random);
        let lasts = u64::from(setting.events as u32 * 1000 / setting.rate) + 2000;
        let count = random.usize(0..12);
        let mut faults: Vec<Planned> = (0..count)
            .map(|_| Planned { at: ms(random.u64(0..lasts)), fault: Fault::drawn(&mut random) })
            .collect();
        faults.sort_by_key(|planned| planned.at);
        Self { seed, setting, faults }
    }

    /// The same plan with only the faults at these places.
    pub fn with(self, places: impl Iterator<Item = usize>) -> Self {
        let faults = places.filter_map(|place| self.faults.get(place).copied()).collect();
        Self { faults, ..self }
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Setting {
    fn drawn(random: &mut Rng) -> Self {
        let is_strict = random.bool();
        let kinds = match is_strict {
            true => &[Kind::Unreadable, Kind::Readable, Kind::DropsDuplicates, Kind::TakesOver][..],
            // Whoever takes over ends every other writer, which replicas that share the events are.
            false => &[Kind::Unreadable, Kind::Readable, Kind::DropsDuplicates],
        };
        let delays = [2, 5, 50, 500];
        let sinks = (0..random.usize(1..=3))
            .map(|_| (kinds[random.usize(..kinds.len())], ms(delays[random.usize(..delays.len())])))
            .collect();
        let (files, has_letter_files) = (FileSetting::drawn(random), random.u8(0..4) == 0);
        Self {
            protocol: if random.bool() { Protocol::Stomp } else { Protocol::OpenWire },
            is_strict,
            replicas: [1, 1, 2, 3][random.usize(..4)],
            prefetch: [1, 2, 10, 50, 200][random.usize(..5)],
            heart_beat: ms([1000, 2000, 5000][random.usize(..3)]),
            max_in_flight: [16 << 10, 64 << 10, 1 << 20][random.usize(..3)],
            sinks,
            files,
            has_letter_files,
            disk_delay: ms([2, 2, 20, 300][random.usize(..4)]),
            events: random.u64(20..600),
            rate: [20, 50, 200, 1000][random.usize(..4)],
            keys: [1, 3, 20, 1000][random.usize(..4)],
            odd_every: [0, 0, 7, 50][random.usize(..4)],
            hold: ms([0, 0, 1000, 5000][random.usize(..4)]),
        }
    }
}

impl FileSetting {
    fn drawn(random: &mut Rng) -> Option<Self> {
        let compressions = [FileCompression::None, FileCompression::Zstd, FileCompression::Gzip];
        let drawn = Self {
            compression: compressions[random.usize(..3)],
            rotate_size: [1000, 10_000, 100_000][random.usize(..3)],
            rotate_age: ms([1000, 5000, 3_600_000][random.usize(..3)]),
            is_partitioned: random.u8(0..4) == 0,
            is_envelope: random.bool(),
        };
        random.bool().then_some(drawn)
    }
}

impl Fault {
    fn drawn(random: &mut Rng) -> Self {
        let lasting =
            ms([random.u64(10..200), random.u64(200..3000), random.u64(3000..30_000)][random.usize(..3)]);
        let (which, events) = (random.usize(..8), random.u64(0..60));
        match random.u8(0..24) {
            0 => Self::Kill(which, lasting),
            1 => Self::Stop(which, lasting),
            2 => Self::Reset,
            3 => Self::Forget,
            4 => Self::Block(if random.bool() { Way::ToBroker } else { Way::ToBridge }, lasting),
            5 => Self::Refuse(lasting),
            6 => Self::Slow(ms(random.u64(10..1000)), lasting),
            7 => Self::Restart(lasting),
            8 => Self::BrokerError(events, lasting),
            9 => Self::CloseConsumers(events, lasting),
            10 => Self::Silence(events, lasting),
            11 => Self::Dribble(random.usize(1..50), lasting),
            12 => Self::SinkAway(which, lasting),
            13 => Self::SinkStalls(which, lasting),
            14 => Self::SinkBreaks(which),
            15 => Self::SinkRepeats(which, random.u8(1..90), lasting),
            16 => Self::SinkSlow(which, ms(random.u64(10..2000)), lasting),
            17 => Self::LettersAway(lasting),
            18 => Self::PowerCut(which, lasting),
            19 => Self::DiskFull(which, random.u64(0..5000), lasting),
            20 => {
                let operation = random.bool().then(|| OPERATIONS[random.usize(..OPERATIONS.len())]);
                Self::DiskFails(which, random.u8(1..=100), operation, lasting)
            }
            21 => Self::DiskSlow(which, ms(random.u64(10..1000)), lasting),
            22 => Self::DiskHangs(which, lasting),
            _ => Self::Freeze(which, ms(random.u64(100..90_000))),
        }
    }

    /// How long it lasts, for faults that end by themselves.
    pub fn lasts(&self) -> Option<Duration> {
        match *self {
            Self::Kill(..)
            | Self::Stop(..)
            | Self::Reset
            | Self::Forget
            | Self::SinkBreaks(_)
            | Self::PowerCut(..) => None,
            Self::Freeze(_, lasts)
            | Self::Block(_, lasts)
            | Self::Refuse(lasts)
            | Self::Slow(_, lasts)
            | Self::Restart(lasts)
            | Self::BrokerError(_, lasts)
            | Self::CloseConsumers(_, lasts)
            | Self::Silence(_, lasts)
            | Self::Dribble(_, lasts)
            | Self::SinkAway(_, lasts)
            | Self::SinkStalls(_, lasts)
            | Self::SinkRepeats(_, _, lasts)
            | Self::SinkSlow(_, _, lasts)
            | Self::LettersAway(lasts)
            | Self::DiskFull(_, _, lasts)
            | Self::DiskFails(_, _, _, lasts)
            | Self::DiskSlow(_, _, lasts)
            | Self::DiskHangs(_, lasts) => Some(lasts),
        }
    }
}
