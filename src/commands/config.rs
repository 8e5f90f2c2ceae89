//! Runs `config`: shows which values are in effect, and where each came from; explains an option; writes a file to begin
//! with.

use std::error::Error;
use std::io;
use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::{Console, Exit, configured};
use crate::config::explain::explain;
use crate::config::starter::starter;
use crate::config::{Effective, Loaded, SinkRegistry, load, reference, schema};
use crate::display::one_line;
use crate::telemetry::configuration::ShownOption;
use crate::telemetry::metrics;

#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// Print every option with its meaning and default instead
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "toml")]
    pub reference: Option<ReferenceFormat>,
    /// Explain one option or table, by its key or its variable
    #[arg(long, value_name = "KEY", conflicts_with = "reference")]
    pub explain: Option<String>,
    /// What to do instead of printing the configuration in effect
    #[command(subcommand)]
    pub verb: Option<ConfigVerb>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ConfigVerb {
    /// Write a commented configuration file to begin with, to standard output
    Init {
        /// The kinds of the sinks: kafka, nats, file, stdout
        #[arg(value_name = "SINK", required = true)]
        sinks: Vec<String>,
    },
}

/// How `config --reference` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReferenceFormat {
    /// As a configuration file with every option, in TOML
    Toml,
    /// As a page with a table for each part, in Markdown
    Markdown,
    /// As a JSON schema of the file, for editors
    Schema,
    /// The metrics instead of the options, as a page
    Metrics,
}

/// Writes the options in effect, or the reference, to standard output.
///
/// # Errors
/// The console can't be written.
pub fn run(
    kinds: &SinkRegistry,
    args: &ConfigArgs,
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    console: &mut Console<'_>,
) -> io::Result<Exit> {
    if let Some(ConfigVerb::Init { sinks }) = &args.verb {
        return written(starter(kinds, sinks), console);
    }
    if let Some(asked) = &args.explain {
        let loaded = load(kinds, file, env);
        return written(explain(kinds, asked, loaded.as_ref()), console);
    }
    let page = match args.reference {
        Some(ReferenceFormat::Toml) => reference::toml(kinds),
        Some(ReferenceFormat::Markdown) => reference::markdown(kinds),
        Some(ReferenceFormat::Schema) => schema::json(kinds),
        Some(ReferenceFormat::Metrics) => metrics::markdown(),
        None => match configured(kinds, file, env, console)? {
            Some(loaded) => in_effect(&loaded),
            None => return Ok(Exit::Usage),
        },
    };
    console.out.write_all(page.as_bytes())?;
    Ok(Exit::Success)
}

/// Writes a page, or why there is none.
fn written(page: Result<String, impl Error>, console: &mut Console<'_>) -> io::Result<Exit> {
    match page {
        Ok(page) => console.out.write_all(page.as_bytes()).map(|()| Exit::Success),
        Err(error) => writeln!(console.err, "error: {}", one_line(&error.to_string())).map(|()| Exit::Usage),
    }
}

/// Returns one option a line, followed by its origin.
fn in_effect(loaded: &Loaded) -> String {
    let lines = loaded.effective.iter().map(shown).map(|option| match option.value {
        None => (format!("# {} is not set", option.key), option.origin),
        Some(value) => (format!("{} = {value}", option.key), option.origin),
    });
    let lines: Vec<_> = lines.collect();
    let widths = lines.iter().map(|(line, _)| line.chars().count());
    let width = widths.filter(|&width| width <= 60).max().unwrap_or(0);
    let written = lines.iter().map(|(line, origin)| match line.starts_with('#') {
        true => format!("{line}\n"),
        false => format!("{line:width$}  # {origin}\n"),
    });
    written.collect()
}

/// Returns an option as people may see it.
pub(super) fn shown(option: &Effective) -> ShownOption {
    let value = match &option.value {
        Value::Null => None,
        value => Some(reference::written(value)),
    };
    ShownOption { key: option.key.clone(), value, origin: option.origin.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 7] = [
        ("BRIDGE__SOURCE__URL", "stomp://broker:61613"),
        ("BRIDGE__SOURCE__USERNAME", "jane"),
        ("BRIDGE__SOURCE__PASSWORD", "0123456789abcdef0123456789abcdef"),
        ("BRIDGE__SOURCE__NAMESPACE", "acme"),
        ("BRIDGE__SOURCE__DESTINATION_ID", "main"),
        ("BRIDGE__SINKS__FILE__DIRECTORY", "/events"),
        ("BRIDGE__DEAD_LETTERS__DIRECTORY", "/letters"),
    ];

    fn run_with(reference: Option<ReferenceFormat>, env: &[(&str, &str)]) -> (Exit, String, String) {
        run_args(&ConfigArgs { reference, explain: None, verb: None }, env)
    }

    fn run_args(args: &ConfigArgs, env: &[(&str, &str)]) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let mut console = Console::new(&mut out, &mut err);
        let exit = run(&SinkRegistry::built_in(), args, None, env, &mut console).unwrap();
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn what_is_in_effect_is_shown_with_its_origin_and_without_secrets() {
        let (exit, out, err) = run_with(None, &GOOD);
        assert_eq!(exit, Exit::Success);
        assert!(err.starts_with("warning: BRIDGE__SOURCE__USERNAME: ") && err.lines().count() == 1, "{err}");
        for (option, origin) in [
            ("source.url = \"stomp://broker:61613\" ", "# BRIDGE__SOURCE__URL"),
            ("source.password = \"***\" ", "# BRIDGE__SOURCE__PASSWORD"),
            ("source.prefetch = 1024 ", "# default"),
            ("# source.tls.ca_file is not set", ""),
            ("sinks.file.kind = \"file\" ", "# default"),
            ("event.keys = [\"/md5_email\", \"/md5\", \"/email_md5\"] ", "# default"),
        ] {
            assert!(
                out.lines().any(|line| line.starts_with(option) && line.ends_with(origin)),
                "{option}: {out}"
            );
        }
        assert!(!out.contains("0123456789"));
    }

    #[test]
    fn mistakes_are_told_one_a_line() {
        let (exit, out, err) = run_with(None, &GOOD[1..]);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert_eq!(err, "error: source.url: missing: set `url` in [source], or BRIDGE__SOURCE__URL\n");
    }

    #[test]
    fn an_option_is_explained_whether_the_configuration_is_right_or_not() {
        let args = |key: &str| ConfigArgs { reference: None, explain: Some(key.to_owned()), verb: None };
        let (exit, out, err) = run_args(&args("source.namespace"), &GOOD);
        assert_eq!((exit, err.as_str()), (Exit::Success, ""));
        assert!(out.contains("in effect  \"acme\" (BRIDGE__SOURCE__NAMESPACE)"), "{out}");
        let (exit, out, _) = run_args(&args("source.namespace"), &GOOD[1..]);
        assert!(exit == Exit::Success && out.contains("the configuration has mistakes"), "{out}");
        let (exit, out, err) = run_args(&args("source.namespaces"), &GOOD);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert!(err.contains("did you mean `source.namespace`?"), "{err}");
    }

    #[test]
    fn a_file_to_begin_with_is_written_for_known_kinds() {
        let init = |sink: &str| ConfigVerb::Init { sinks: vec![sink.to_owned()] };
        let args = |sink| ConfigArgs { reference: None, explain: None, verb: Some(init(sink)) };
        let (exit, out, _) = run_args(&args("kafka"), &[]);
        assert!(
            exit == Exit::Success && out.contains("\n[sinks.kafka]\n") && !out.contains("[sinks.file]"),
            "{out}"
        );
        let (exit, out, err) = run_args(&args("kafak"), &[]);
        assert!(exit == Exit::Usage && out.is_empty() && err.contains("did you mean `kafka`?"), "{err}");
    }

    #[test]
    fn the_reference_needs_no_configuration() {
        let kinds = SinkRegistry::built_in();
        for (format, expected) in [
            (ReferenceFormat::Toml, reference::toml(&kinds)),
            (ReferenceFormat::Markdown, reference::markdown(&kinds)),
            (ReferenceFormat::Schema, schema::json(&kinds)),
            (ReferenceFormat::Metrics, metrics::markdown()),
        ] {
            let (exit, out, _) = run_with(Some(format), &[]);
            assert!(exit == Exit::Success && out == expected, "{format:?}");
        }
    }
}
