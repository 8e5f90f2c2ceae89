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
//! * [`journal`]: durable line files with rotation and repair, for the file sink and the dead letters
//! * [`telemetry`]: the status of each part, counters and metrics, health over HTTP, the log
//! * [`event`]: [`event::Message`], [`event::Event`] and [`event::Batch`], which pass through the bridge
//! * [`key`]: finds the MD5 in a body, and computes its partition
//! * [`tls`]: TLS handshakes, and the explanation of a failed one; [`protocol_guess`]: recognises which
//!   protocol a server talks at a wrong port
//! * [`backoff`]: waits between retries; [`budget`]: bounds memory; [`units`]: durations and sizes
//! * [`secret`]: values that are never shown; [`display`]: makes foreign text safe to show
//! * [`diagnostics`]: collects the mistakes and warnings of a configuration table
//!
//! The layers of the modules, and which module may import which, are in `ARCHITECTURE.md`, section "Imports".

pub mod backoff;
pub mod bridge;
pub mod budget;
pub mod cli;
pub mod commands;
pub mod config;
pub mod dead_letter;
pub mod diagnostics;
pub mod display;
pub mod event;
pub mod journal;
pub mod key;
pub mod pipeline;
pub mod program;
pub mod protocol_guess;
pub mod secret;
pub mod simulator;
pub mod sink;
pub mod source;
pub mod telemetry;
pub mod tls;
pub mod units;
