//! The life of the process.

use std::io;
use std::process::ExitCode;

use atdata_bridge::cli::{Cli, Verb};
use atdata_bridge::commands::{self, Console, Exit};
use atdata_bridge::config::process_environment;

fn main() -> ExitCode {
    // Not locked: the log writes to standard error too.
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(message) => {
            let exit = if message.use_stderr() { Exit::Usage } else { Exit::Success };
            return message.print().map_or(ExitCode::FAILURE, |()| exit.into());
        }
    };
    let console = &mut Console { out: &mut out, err: &mut err };
    let file = cli.config.as_deref();
    let ended = match cli.verb.unwrap_or(Verb::Run) {
        Verb::Config(args) => commands::config::run(&args, file, process_environment(), console),
        Verb::Partition(args) => commands::partition::run(&args, io::stdin().lock(), console),
        Verb::Run => commands::run::run(file, process_environment(), console),
        Verb::Check(args) => commands::check::run(&args, file, process_environment(), console),
        Verb::Demo(args) => commands::demo::run(&args, console),
        Verb::Simulate(args) => commands::simulate::run(*args, console),
    };
    // Whoever closed our output, as `head` does, wants no more of it.
    ended.map_or(ExitCode::FAILURE, ExitCode::from)
}
