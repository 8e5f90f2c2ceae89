//! Runs the process: reads the command line and executes its verb. A program with sinks of its own calls
//! [`main`] with more kinds.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Verb};
use crate::commands::{self, Console, Exit};
pub use crate::config::SinkRegistry;
use crate::config::process_environment;

/// Executes the command line, and returns the exit code of the process. `kinds` are the kinds of sinks that a
/// configuration may name: [`SinkRegistry::built_in`], and those of the program itself.
pub fn main(kinds: &SinkRegistry) -> ExitCode {
    // Not locked, because the log writes to standard error too.
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            let exit = if message.use_stderr() { Exit::Usage } else { Exit::Success };
            return ended(message.print().map(|()| exit), true, &mut err);
        }
    };
    let console = &mut Console { quiet: cli.quiet, ..Console::new(&mut out, &mut err) };
    let file = cli.config.as_deref();
    let verb = cli.verb.unwrap_or(Verb::Run);
    let only_writes = verb.only_writes();
    let run = match verb {
        Verb::Config(args) => commands::config::run(kinds, &args, file, process_environment(), console),
        Verb::Partition(args) => commands::partition::run(&args, io::stdin().lock(), console),
        Verb::Run => commands::run::run(kinds, file, process_environment(), console),
        Verb::Check(args) => commands::check::run(kinds, &args, file, process_environment(), console),
        Verb::Status(args) => commands::status::run(kinds, &args, file, process_environment(), console),
        Verb::Peek(args) => commands::peek::run(kinds, &args, file, process_environment(), console),
        Verb::DeadLetters(args) => {
            commands::dead_letters::run(kinds, &args, file, process_environment(), console)
        }
        Verb::Demo(args) => commands::demo::run(&args, console),
        Verb::Simulate(args) => commands::simulate::run(&args, console),
        Verb::Completions(args) => commands::completions::run(&args, Cli::command(), console),
        Verb::Man(args) => commands::man::run(&args, Cli::command(), console),
    };
    kinds.wait_before_exit();
    ended(run.and_then(|exit| out.flush().map(|()| exit)), only_writes, &mut err)
}

/// Returns the exit code of the process. Tells why a verb has failed, unless it `only_writes` and the reader wants no
/// more.
fn ended(run: io::Result<Exit>, only_writes: bool, err: &mut impl Write) -> ExitCode {
    match run {
        Ok(exit) => exit.into(),
        Err(error) if only_writes && error.kind() == io::ErrorKind::BrokenPipe => Exit::Success.into(),
        Err(error) => {
            // There is no other place to tell it.
            let _written = writeln!(err, "error: {error}");
            Exit::Failure.into()
        }
    }
}
