//! Runs `completions`: writes the completions of a shell, from the definitions of the command line.

use std::io;

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use super::{Console, Exit};

#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that reads the completions
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
    if args.shell == Shell::Bash {
        // With a hyphen in the name, clap_complete 4.6.12 writes labels that don't match.
        let plain = name.replace('-', "_");
        generate(args.shell, &mut command, plain.as_str(), &mut script);
        let registered = |line: &str| match line.trim_start().starts_with("complete ") {
            true => line.replace(&format!(" {plain}"), &format!(" {name}")),
            false => line.to_owned(),
        };
        let lines: Vec<_> = String::from_utf8_lossy(&script).lines().map(registered).collect();
        script = (lines.join("\n") + "\n").into_bytes();
    } else {
        generate(args.shell, &mut command, name, &mut script);
    }
    console.out.write_all(&script)?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    /// Asks a real bash, which reads the script and completes each line.
    #[test]
    fn bash_completes_what_stands_behind_each_verb() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console::new(&mut out, &mut err);
        run(&CompletionsArgs { shell: Shell::Bash }, Cli::command(), &mut console).unwrap();
        let script = String::from_utf8(out).unwrap();
        assert!(script.contains(" atdata-bridge\n"), "it is not registered for the program");
        for (words, expected) in [
            (&["atdata-bridge", "pe"][..], "peek"),
            (&["atdata-bridge", "peek", "--format", ""], "json"),
            (&["atdata-bridge", "dead-letters", "l"], "list"),
            (&["atdata-bridge", "dead-letters", "show", "--re"], "--reason"),
        ] {
            let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
            let (last, before) = (quoted.len() - 1, quoted.len() - 2);
            let ask = format!(
                "{script}\nCOMP_WORDS=({}); COMP_CWORD={last}; _atdata_bridge atdata-bridge {} {}; echo \"${{COMPREPLY[@]}}\"",
                quoted.join(" "),
                quoted[last],
                quoted[before]
            );
            let answer = std::process::Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
            let answer = String::from_utf8(answer.stdout).unwrap();
            assert!(answer.split_whitespace().any(|word| word == expected), "{words:?}: {answer}");
        }
    }

    #[test]
    fn each_shell_gets_every_verb() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut console = Console::new(&mut out, &mut err);
            assert_eq!(run(&CompletionsArgs { shell }, Cli::command(), &mut console).unwrap(), Exit::Success);
            let script = String::from_utf8(out).unwrap();
            for verb in Cli::command().get_subcommands() {
                assert!(script.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
            assert!(script.contains("explain") && err.is_empty(), "{shell}");
        }
    }
}
