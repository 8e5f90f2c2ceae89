//! The integration tests: one binary, against real brokers and the real program.
//!
//! Each file is one subject. What they share stands in [`support`]; how they are organised and run is
//! told in CONTRIBUTING.md.

#![allow(missing_docs, unreachable_pub, reason = "nobody but this binary sees it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "clippy.toml's leave for tests does not reach the functions that tests share"
)]

mod admin;
mod command_line;
mod consumer_samples;
mod dead_letters;
mod demo;
mod drain;
mod example_sink;
mod faults;
mod holds;
mod hundred_thousand;
mod jetstream_faults;
mod kafka;
mod kafka_faults;
mod kafka_server;
mod kills;
mod link;
mod mistakes;
mod nats;
mod openwire;
mod outages;
mod partitions;
mod protocols;
mod refusals;
mod restarts;
mod sharing;
mod simulator;
mod sink_contract;
mod slow_consumers;
mod smoke;
mod stdout;
mod three_sinks;
mod tls;
