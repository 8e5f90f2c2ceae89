//! Tests the Helm chart: what it renders, without a cluster.
//!
//! Each file is one subject. A check is a function from the rendered objects to a list of faults. One test
//! shows that the check finds none in the chart's output, another that it finds faults that are made on
//! purpose. CONTRIBUTING.md describes how the tests are organised and run.

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
mod escape;
mod expected;
mod kubeconform;
mod monitoring;
mod names;
mod network;
mod package;
mod pod;
mod pod_security;
mod promql;
mod references;
mod releases;
mod rendering;
mod schema;
mod upgrade;
mod variables;
