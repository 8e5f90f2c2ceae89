//! Mirrors AtData's real-time events from an ActiveMQ broker into Kafka, NATS JetStream and files. The key of
//! each event is the MD5 inside it, and no event is lost.
//!
//! One **event** is one broker message. It takes this path:
//!
//! ```text
//! source ── messages ──▶ dispatcher (ack tracker) ── batches ──▶ one worker per sink ──▶ sink
//!    ▲                        │   ▲                                       │
//!    └── ack, settled prefix ─┘   └─────────────── settled ───────────────┘
//! ```
//!
//! The modules:
//!
//! * [`program`]: runs the process, with any kinds of sinks
//! * [`cli`]: parses the verbs and their arguments; [`commands`]: one module for each verb
//! * [`config`]: reads the file and the environment into checked settings
//! * [`bridge`]: turns settings into a running bridge, which drains or abandons
//! * [`simulator`]: an embedded AtData broker for the demo, rehearsals and tests
//! * [`pipeline`]: the dispatcher, the ack tracker and the sink workers
//! * [`dead_letter`]: keeps events that can never be delivered, with the reason; limits their number
//! * [`source`]: the contract of a source, the supervisor that reconnects a session, STOMP and OpenWire
//! * [`sink`]: the contract of a sink, and the built-in sinks
//! * `http_get`: gets one page over HTTP
//! * [`journal`]: durable line files with rotation and repair, for the file sink and the dead letters
//! * [`telemetry`]: the status of each part, counters and metrics, health over HTTP, the log
//! * [`event`]: [`event::Message`], [`event::Event`] and [`event::Batch`], which pass through the bridge
//! * [`key`]: finds the MD5 in a body, and computes its partition
//! * [`tls`]: TLS handshakes, and the explanation of a failed one; [`protocol_guess`]: recognises which
//!   protocol a server talks at a wrong port
//! * [`backoff`]: waits between retries; [`budget`]: bounds memory; [`units`]: durations and sizes
//! * [`recent_ids`]: remembers the ids of the newest events
//! * [`secret`]: values that are never shown; [`display`]: makes foreign text safe to show
//! * [`template`]: parses and fills in templates with placeholders, for names of files and subjects
//! * [`diagnostics`]: collects the mistakes and warnings of a configuration table; [`finding`]: what `check` finds
//!
//! The layers of the modules, and which module may import which, are in `ARCHITECTURE.md`, section "Imports".
//!
//! The API of this library is what a program with a sink of its own needs: [`program`], [`sink`], [`event`],
//! [`key`], [`diagnostics`], [`finding`], [`secret`] and [`units`]. The other modules are public for the tests and the
//! benchmarks only. They are hidden in this documentation and can change in any version.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "some code serves only the Kafka sink"))]

#[doc(hidden)]
pub mod backoff;
#[doc(hidden)]
pub mod bridge;
#[doc(hidden)]
pub mod budget;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod commands;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod dead_letter;
#[warn(missing_docs)]
pub mod diagnostics;
#[doc(hidden)]
pub mod display;
#[warn(missing_docs)]
pub mod event;
mod file_reads;
#[warn(missing_docs)]
pub mod finding;
mod http_get;
#[doc(hidden)]
pub mod journal;
#[warn(missing_docs)]
pub mod key;
#[doc(hidden)]
pub mod pipeline;
#[warn(missing_docs)]
pub mod program;
#[doc(hidden)]
pub mod protocol_guess;
#[doc(hidden)]
pub mod recent_ids;
#[warn(missing_docs)]
pub mod secret;
#[doc(hidden)]
pub mod simulator;
#[warn(missing_docs)]
pub mod sink;
#[doc(hidden)]
pub mod source;
#[doc(hidden)]
pub mod telemetry;
#[doc(hidden)]
pub mod template;
#[doc(hidden)]
pub mod tls;
#[warn(missing_docs)]
pub mod units;
