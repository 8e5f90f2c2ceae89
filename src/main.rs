//! The program with the built-in sinks.

use std::process::ExitCode;

use atdata_bridge::config::SinkKinds;
use atdata_bridge::program;

fn main() -> ExitCode {
    program::main(&SinkKinds::built_in())
}
