//! The tests of the Helm chart: what it renders, without a cluster.
//!
//! Each file is one subject. A check is a function from what was rendered to a list of faults, so that each is
//! shown to find nothing in what the chart renders, and to find what is broken on purpose. How they are organised
//! and run is told in CONTRIBUTING.md.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy.toml's leave for tests does not reach the functions that tests share"
)]

mod complaints;
mod configuration;
mod credentials;
mod kubeconform;
mod monitoring;
mod names;
mod package;
mod pod;
mod pod_security;
mod promql;
mod references;
mod rendering;
mod schema;
mod upgrade;
