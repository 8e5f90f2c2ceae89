//! Starts what carries events from the broker into a destination: the bridge, or a rival.

use std::time::Duration;

use kit::bench::{DESTINATION, Route};
use kit::bridge::{Bridge, Setup};
use kit::broker::{Broker, Protocol};
use kit::report::backlog;
use kit::rival::{Rival, RunningRival};

use super::destination::Readable;

/// The bridge's default, which the rivals have too.
pub const PREFETCH: u32 = 1024;

/// What carries the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Bridge(Protocol),
    Rival(Rival),
}

impl Carrier {
    /// The bridge over both protocols, and the rivals that are available. Prints the others on standard error.
    pub fn all(bridge_only: bool) -> Vec<Self> {
        let available = |rival: &Rival| match rival.available() {
            Ok(_) => true,
            Err(reason) => {
                eprintln!("{reason}");
                false
            }
        };
        let rivals = Rival::ALL.into_iter().filter(|rival| !bridge_only && available(rival));
        Protocol::ALL.into_iter().map(Self::Bridge).chain(rivals.map(Self::Rival)).collect()
    }

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge(Protocol::Stomp) => "bridge, STOMP",
            Self::Bridge(Protocol::OpenWire) => "bridge, OpenWire",
            Self::Rival(rival) => rival.name(),
        }
    }

    /// The versions of a rival's libraries.
    pub fn versions(self) -> Option<String> {
        match self {
            Self::Bridge(_) => None,
            Self::Rival(rival) => Some(rival.versions()),
        }
    }

    /// Makes a namespace that no other carrier has.
    pub fn namespace(self, run: &str) -> String {
        match self {
            Self::Bridge(protocol) => protocol.named(run),
            Self::Rival(rival) => format!("{run}{rival:?}"),
        }
    }

    /// Starts a process; see [`Bench::start`](super::Bench::start).
    pub fn start<D: Readable>(
        self,
        broker: &Broker,
        namespace: &str,
        destination: &D,
        settings: &[String],
        at_once: bool,
    ) -> Running {
        match self {
            Self::Bridge(protocol) => {
                let setup = Setup::new(broker, protocol, namespace, DESTINATION, namespace);
                let setup = setup.unset("SINKS__FILE__DIRECTORY");
                let setup = destination.configure(setup, Route::Direct).set_all(settings);
                let bridge = setup.start();
                Running::Bridge { _setup: setup, bridge: Box::new(bridge) }
            }
            Self::Rival(rival) => {
                let sink = destination.of_rival(at_once);
                Running::Rival(rival.start(broker, &queue(namespace), PREFETCH, sink))
            }
        }
    }
}

/// The queue of a run.
pub fn queue(namespace: &str) -> String {
    format!("{DESTINATION}.RTO.{namespace}")
}

/// A process that carries events; killed when dropped. A bridge needs its setup as long as it runs.
pub enum Running {
    Bridge { _setup: Setup, bridge: Box<Bridge> },
    Rival(RunningRival),
}

impl Running {
    /// The processor time used so far.
    pub fn processor_time(&self) -> Duration {
        match self {
            Self::Bridge { bridge, .. } => bridge.processor_time(),
            Self::Rival(rival) => rival.processor_time(),
        }
    }

    /// The peak memory (resident set), in bytes.
    pub fn peak_memory(&self) -> u64 {
        match self {
            Self::Bridge { bridge, .. } => bridge.peak_memory(),
            Self::Rival(rival) => rival.peak_memory(),
        }
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        match self {
            Self::Bridge { bridge, .. } => bridge.status().is_some(),
            Self::Rival(rival) => rival.has_ended(),
        }
    }

    /// Stops the process cleanly.
    pub async fn stop(self) {
        match self {
            Self::Bridge { bridge, .. } => backlog::stop(*bridge).await,
            Self::Rival(rival) => rival.stop().await,
        }
    }
}
