//! Runs a bridge with a custom sink: `kind = "webhook"` posts events to a URL. All built-in kinds are
//! available too.
//!
//! ```sh
//! export BRIDGE__SOURCE__PASSWORD=… BRIDGE__SINKS__WEBHOOK__TOKEN=…
//! cargo run --example webhook -- --config examples/webhook/bridge.toml check --offline
//! cargo run --example webhook -- --config examples/webhook/bridge.toml
//! ```
//!
//! Your own program needs only this file, `sink.rs`, and the dependency `atdata-bridge`.

mod sink;

use std::process::ExitCode;

use atdata_bridge::program::{self, SinkRegistry};

fn main() -> ExitCode {
    program::main(&SinkRegistry::built_in().with::<sink::WebhookKind>())
}
