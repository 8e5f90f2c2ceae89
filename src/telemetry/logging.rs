//! The log: one line per thing that happened, on standard error, for people or machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// What the sinks say in their own words, and better: the client of NATS would name subjects, which may hold
/// a key (D14). A filter that names it wins.
const QUIET: &str = "async_nats=off";

/// Starts logging, once per process; a second call changes nothing. `filter` as
/// `tracing_subscriber::EnvFilter` reads it; `json`: one object a line.
pub fn start(filter: &str, json: bool) {
    let filter = EnvFilter::new(format!("{QUIET},{filter}"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // Fails only where a logger is installed already, such as a test's.
    let _already_started =
        if json { lines.json().flatten_event(true).finish().try_init() } else { lines.finish().try_init() };
}
