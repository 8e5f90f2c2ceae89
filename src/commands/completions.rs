//! Runs `completions`: writes the completions of a shell, from the definitions of the command line.

use std::io;

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use super::{Console, Exit};

#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Writes the completions of `command` to standard output.
///
/// # Errors
/// The console can't be written.
pub fn run(args: &CompletionsArgs, mut command: Command, console: &mut Console<'_>) -> io::Result<Exit> {
    let name = command.get_name().to_owned();
    // The library panics if it can't write, so it writes into memory.
    let mut script = Vec::new();
    generate(args.shell, &mut command, name, &mut script);
    console.out.write_all(&script)?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn each_shell_gets_every_verb() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut console = Console { out: &mut out, err: &mut err };
            assert_eq!(run(&CompletionsArgs { shell }, Cli::command(), &mut console).unwrap(), Exit::Success);
            let script = String::from_utf8(out).unwrap();
            for verb in Cli::command().get_subcommands() {
                assert!(script.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
            assert!(script.contains("explain") && err.is_empty(), "{shell}");
        }
    }
}
