//! Provides an embedded AtData broker for the demo, for rehearsals and for tests of failures. It is a server
//! on loopback that talks STOMP 1.0 to 1.2 and OpenWire and behaves like AtData's ActiveMQ.

mod audit;
mod broker;
mod config;
mod connection;
mod exception;
mod faults;
mod form;
mod generator;
mod heart_beat;
mod in_flight;
mod malformed;
mod openwire;
mod protocol;
mod queue;
mod rate;
mod server;
mod session;
mod state;
mod stomp;
mod stream;

pub use audit::{Audit, AuditResult, AuditedPlace};
pub use broker::Stats;
pub use config::{SimulatorConfig, SimulatorLogin};
pub use faults::{Faults, HeartBeats};
pub use form::Form;
pub use generator::{Generator, GeneratorConfig, StreamSlot};
pub use malformed::Malformation;
pub use queue::QueueStats;
pub use rate::{Generation, Rate};
pub use server::{Simulator, StartError};
