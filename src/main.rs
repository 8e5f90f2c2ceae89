//! Runs the program with the built-in sinks.

use std::process::ExitCode;

use atdata_bridge::config::SinkRegistry;
use atdata_bridge::program;

fn main() -> ExitCode {
    program::main(&SinkRegistry::built_in())
}
