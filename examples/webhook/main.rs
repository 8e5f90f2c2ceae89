//! A bridge with a sink of its own: `kind = "webhook"` posts events to a URL, beside all the built-in kinds.
//!
//! ```sh
//! export BRIDGE__SOURCE__PASSWORD=… BRIDGE__SINKS__WEBHOOK__TOKEN=…
//! cargo run --example webhook -- --config examples/webhook/bridge.toml check --offline
//! cargo run --example webhook -- --config examples/webhook/bridge.toml
//! ```
//!
//! A program of your own needs no more than this file, `sink.rs`, and `atdata-bridge` among its dependencies.

mod sink;

use std::process::ExitCode;

use atdata_bridge::config::SinkRegistry;
use atdata_bridge::program;

fn main() -> ExitCode {
    program::main(&SinkRegistry::built_in().with::<sink::WebhookKind>())
}
