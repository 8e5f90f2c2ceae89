//! An embedded AtData broker for the demo, for rehearsals and for tests of the ugly cases: a server on
//! loopback that speaks STOMP 1.2 and OpenWire and behaves like AtData's ActiveMQ.

mod audit;
mod broker;
mod connection;
mod conversation;
mod exception;
mod faults;
mod flights;
mod generator;
mod heart_beat;
mod oddity;
mod openwire;
mod pace;
mod queue;
mod server;
mod session;
mod stomp;
mod stream;

pub use audit::{Audit, Findings, Place};
pub use broker::Stats;
pub use faults::{Faults, HeartBeats};
pub use generator::{Generator, GeneratorConfig, Slot};
pub use oddity::{Oddity, UnknownOddity};
pub use pace::{Generation, Pace};
pub use queue::QueueStats;
pub use server::{Login, Simulator, SimulatorConfig, StartError};
pub use stream::Form;
