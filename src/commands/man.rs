//! Runs `man`: writes a manual page, from the definitions of the command line.

use std::io;

use clap::{Args, Command};
use clap_mangen::Man;

use super::{Console, Exit};
use crate::display::one_line;

#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// The verb whose page to write, such as `check` or `dead-letters list`; default: the page of the program
    #[arg(value_name = "VERB")]
    pub verb: Vec<String>,
}

/// Writes the page in roff to standard output, for example to read it with `man -l -`.
///
/// # Errors
/// The console can't be written.
pub fn run(args: &ManArgs, mut command: Command, console: &mut Console<'_>) -> io::Result<Exit> {
    command.build();
    let page = args.verb.iter().try_fold(&command, |command, verb| command.find_subcommand(verb)).cloned();
    match page {
        Some(page) => Man::new(page).render(console.out).map(|()| Exit::Success),
        None => {
            let verb = args.verb.join(" ");
            let verb = one_line(&verb);
            writeln!(console.err, "error: there is no verb `{verb}`: `atdata-bridge --help` lists them")?;
            Ok(Exit::Usage)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn page(verb: &[&str]) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let args = ManArgs { verb: verb.iter().map(|&verb| verb.to_owned()).collect() };
        let exit = run(&args, Cli::command(), &mut Console::new(&mut out, &mut err)).unwrap();
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn each_verb_has_a_page_and_the_first_one_names_them_all() {
        let (exit, program, err) = page(&[]);
        assert!(
            exit == Exit::Success && err.is_empty() && program.contains(".TH atdata-bridge 1"),
            "{program}"
        );
        for verb in Cli::command().get_subcommands() {
            let (name, about) = (verb.get_name(), verb.get_about().unwrap().to_string());
            let (exit, of_verb, _) = page(&[name]);
            let title = format!(".TH atdata-bridge-{name} 1");
            assert!(
                exit == Exit::Success && of_verb.contains(&title) && program.contains(&about),
                "{of_verb}"
            );
        }
    }

    #[test]
    fn an_unknown_verb_has_none() {
        let (exit, out, err) = page(&["check", "fly\u{1b}"]);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert_eq!(err, "error: there is no verb `check fly\\u{1b}`: `atdata-bridge --help` lists them\n");
    }
}
