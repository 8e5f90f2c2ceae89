//! Tests the real program and the library against real brokers and servers. One binary.
//!
//! The folders are named for the subjects. The test harness is the crate `tests/kit`. CONTRIBUTING.md
//! explains how to run these tests and how to add one.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "clippy.toml allows them in tests, but not in the functions that tests share"
)]

mod check;
mod cli;
mod faults;
mod mistakes;
mod servers;
mod simulator;
mod sinks;
mod source;
