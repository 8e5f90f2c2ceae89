//! Mirrors AtData's real-time events from an ActiveMQ broker into the streaming systems a company
//! already has, keyed by the MD5 inside each event, losing nothing.
//!
//! One **event** is one broker message; its way is
//!
//! ```text
//! source ── messages ──▶ pump (ledger) ── batches ──▶ lane per sink ──▶ sink
//!    ▲                        │   ▲                        │
//!    └── ack, settled prefix ─┘   └────────── settled ─────┘
//! ```
//!
//! Where is…?
//!
//! * [`event`] what travels: [`event::Message`], [`event::Event`], [`event::Batch`]
//! * [`key`] the MD5 out of a body, and the partition it belongs to
//! * [`source`] the contract of a source, the link that keeps a session up, STOMP and OpenWire
//! * [`sink`] the contract of a sink, and the built-in sinks
//! * [`journal`] durable line files: rotation, repair; under the file sink and the dead letters
//! * [`pump`] who owes what: ledger, lanes, dead letters
//! * [`config`] file and environment into checked settings
//! * [`program`] the life of the process, with any kinds of sinks
//! * [`cli`] the verbs and their arguments; [`commands`] one module for each verb
//! * [`bridge`] settings into a running bridge; drain and abandon
//! * [`simulator`] an embedded AtData broker for the demo, rehearsals and tests
//! * [`tls`] handshakes, and what is wrong with one that fails; [`wire_guess`] what listens at a wrong port
//! * [`telemetry`] states, counters and metrics, health over HTTP, logging
//!
//! Imports run one way: `program → cli → commands → bridge → pump, simulator → source, sink → event → key`.

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
