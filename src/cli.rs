//! Parses the command line: the verb and its arguments. The module of each verb defines its arguments.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::check::CheckArgs;
use crate::commands::completions::CompletionsArgs;
use crate::commands::config::ConfigArgs;
use crate::commands::dead_letters::DeadLettersArgs;
use crate::commands::demo::DemoArgs;
use crate::commands::man::ManArgs;
use crate::commands::partition::PartitionArgs;
use crate::commands::peek::PeekArgs;
use crate::commands::simulate::SimulateArgs;
use crate::commands::status::StatusArgs;

const AFTER_HELP: &str = "\
Configuration:
  Defaults, under the file (TOML), under the environment. The file is named by
  --config or BRIDGE_CONFIG. Every option has a variable: `url` in [source] is
  BRIDGE__SOURCE__URL. These are needed, in one place or the other:

    BRIDGE__SOURCE__URL             stomp:// or stomp+tls://host:port, for OpenWire
                                    tcp:// or ssl://host:port
    BRIDGE__SOURCE__USERNAME        from AtData
    BRIDGE__SOURCE__PASSWORD        from AtData, or ..._PASSWORD_FILE
    BRIDGE__SOURCE__NAMESPACE       from AtData
    BRIDGE__SOURCE__DESTINATION_ID  yours, never to be changed
    BRIDGE__DEAD_LETTERS__DIRECTORY
    BRIDGE__SINKS__FILE__DIRECTORY  or another sink

Examples:
  atdata-bridge demo                                see it work, without a broker
  atdata-bridge config --reference > bridge.toml    every option and its meaning
  atdata-bridge -c bridge.toml check --offline      is the file right?
  atdata-bridge -c bridge.toml check                do broker and sinks answer?
  atdata-bridge -c bridge.toml peek --create-queue  what waits in the queue?
  atdata-bridge -c bridge.toml                      mirror events until stopped
  atdata-bridge -c bridge.toml dead-letters list    what could not be delivered?

Stopping:
  At SIGTERM or Ctrl-C, events on the way are settled and acknowledged first, for
  `drain_timeout` in [shutdown] at most. A second one stops at once; what was not
  acknowledged comes again.

Exit codes:
  0   done
  1   failed; the cause is on standard error
  64  the configuration or the command line is wrong; nothing was opened
  70  a fault of the bridge itself; what was not acknowledged comes again
  75  stopped before everything was settled; what was not acknowledged comes again
  76  drained, but the broker did not confirm it; the last events may come again";

/// Mirrors AtData's real-time events from ActiveMQ into files and streams, losing nothing.
#[derive(Debug, Parser)]
#[command(name = "atdata-bridge", version, about, after_help = AFTER_HELP)]
pub struct Cli {
    /// The configuration file; default: the one that BRIDGE_CONFIG names, if any
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write no notes and no progress; warnings and errors stay. For `run`, `log.filter` decides
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to do; default: run
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Mirror events until told to stop (the default)
    Run,
    /// Run the whole bridge against an embedded broker, into files, and count what came out
    Demo(DemoArgs),
    /// Serve an AtData broker on this machine, to rehearse against
    Simulate(Box<SimulateArgs>),
    /// Check the configuration, log in to the broker, and reach every sink
    Check(CheckArgs),
    /// Show the next events of the queue without consuming them
    Peek(PeekArgs),
    /// Ask a running bridge for its state; exit code 1 if it is not ready
    Status(StatusArgs),
    /// Show the configuration in effect, secrets masked, and where each value came from
    Config(ConfigArgs),
    /// List, show, export or replay the dead letters
    DeadLetters(DeadLettersArgs),
    /// Tell the keys and partitions of MD5s or addresses
    Partition(PartitionArgs),
    /// Write the completions of a shell to standard output
    Completions(CompletionsArgs),
    /// Write a manual page to standard output
    Man(ManArgs),
}

impl Verb {
    /// Whether the verb does nothing but write. Then a reader that closes the output, as `head` does, has what it wants. The
    /// exit code of every other verb says more.
    pub fn only_writes(&self) -> bool {
        match self {
            Self::DeadLetters(args) => args.only_writes(),
            Self::Config(_) | Self::Peek(_) | Self::Partition(_) | Self::Completions(_) | Self::Man(_) => {
                true
            }
            Self::Run | Self::Check(_) | Self::Status(_) | Self::Demo(_) | Self::Simulate(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::commands::config::ReferenceFormat;
    use crate::commands::peek::PeekFormat;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_verbs_and_their_defaults() {
        assert!(read("atdata-bridge").unwrap().verb.is_none());
        let cli = read("atdata-bridge config --reference -c x.toml").unwrap();
        assert_eq!(cli.config, Some(PathBuf::from("x.toml")));
        assert!(matches!(
            cli.verb,
            Some(Verb::Config(ConfigArgs {
                reference: Some(ReferenceFormat::Toml),
                explain: None,
                verb: None
            }))
        ));
        let cli = read("atdata-bridge config --reference=markdown").unwrap();
        assert!(
            matches!(cli.verb, Some(Verb::Config(args)) if args.reference == Some(ReferenceFormat::Markdown))
        );
        let cli = read("atdata-bridge demo").unwrap();
        assert!(
            matches!(cli.verb, Some(Verb::Demo(args)) if args.events.get() == 1_000_000 && args.rate.is_none())
        );
        let cli = read("atdata-bridge partition --partitions 12 a b").unwrap();
        assert!(matches!(cli.verb, Some(Verb::Partition(args)) if args.inputs == ["a", "b"]));
        let cli = read("atdata-bridge peek").unwrap();
        assert!(
            matches!(cli.verb, Some(Verb::Peek(args)) if args.count == 10 && args.format == PeekFormat::Text && !args.create_queue)
        );
    }

    #[test]
    fn mistakes_are_refused() {
        for line in [
            "partition",
            "partition --partitions 0",
            "demo --rate 0",
            "check --offline --subscribe",
            "config x",
            "config init",
            "config --reference --explain source.url",
            "completions tcsh",
            "peek 0",
            "peek 20001",
            "peek --format xml",
            "fly",
        ] {
            assert!(read(&format!("atdata-bridge {line}")).unwrap_err().use_stderr(), "{line}");
        }
        assert!(!read("atdata-bridge --help").unwrap_err().use_stderr());
    }
}
