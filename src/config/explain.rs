//! Explains one option or table: its meaning, its variable, its default, and the value in effect.

use std::fmt::Write;

use super::key_path::{PREFIX, SECTIONS, join, variable};
use super::reference::{ReferenceEntry, Section, sections, wrap, written};
use super::sink_registry::SinkRegistry;
use super::suggest::did_you_mean;
use super::{ConfigError, Effective, Loaded};

/// No option and no table has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no option `{asked}`{hint}")]
pub struct UnknownOptionError {
    asked: String,
    hint: String,
}

/// Explains the option or table `asked`: a key such as `source.url` or its variable. `loaded` is the configuration in
/// effect, or why there is none.
///
/// # Errors
/// There is no such option; the error names a similar one.
pub fn explain(
    kinds: &SinkRegistry,
    asked: &str,
    loaded: Result<&Loaded, &ConfigError>,
) -> Result<String, UnknownOptionError> {
    let asked = asked.trim();
    let key = match asked.strip_prefix(PREFIX) {
        Some(rest) => rest.to_lowercase().replace("__", "."),
        None => asked.to_owned(),
    };
    let effective: &[Effective] = loaded.map_or(&[], |loaded| &loaded.effective);
    let described = described(kinds, &key, effective);
    let sections = sections(kinds);
    if let Some(table) = sections.iter().find(|section| section.key == described) {
        return Ok(of_table(&key, table));
    }
    let find = |section: &Section| {
        let name = described.strip_prefix(&section.key)?.strip_prefix('.')?;
        section.options.iter().find(|option| option.name == name).cloned()
    };
    match sections.iter().find_map(find) {
        Some(option) => Ok(of_option(&key, &option, effective, loaded.is_ok())),
        None => {
            let tables = sections.into_iter().map(|section| section.key);
            let known: Vec<_> = kinds.all_options().into_iter().chain(tables).collect();
            let hint = did_you_mean(&key, known.iter().map(String::as_str));
            let kind = "; the kind of this sink is not known while the configuration has mistakes";
            let is_of_sink = ["sinks.", "dead_letters."].iter().any(|table| key.starts_with(table));
            let hint = if loaded.is_err() && is_of_sink { kind.to_owned() } else { hint };
            let hint =
                if hint.is_empty() { format!("; the tables are {}", SECTIONS.join(", ")) } else { hint };
            Err(UnknownOptionError { asked: asked.to_owned(), hint })
        }
    }
}

/// Returns the key under which the reference describes `key`: the table of a sink is described by its kind.
fn described(kinds: &SinkRegistry, key: &str, effective: &[Effective]) -> String {
    let mut parts = key.splitn(3, '.');
    let (Some(table @ ("sinks" | "dead_letters")), Some(name)) = (parts.next(), parts.next()) else {
        return key.to_owned();
    };
    let kind_key = join(&join(table, name), "kind");
    let kind =
        effective.iter().find(|option| option.key == kind_key).and_then(|option| option.value.as_str());
    match kinds.find(kind.unwrap_or(name)) {
        Some(kind) => parts
            .next()
            .map_or_else(|| join("sinks", kind.name), |rest| join(&join("sinks", kind.name), rest)),
        None => key.to_owned(),
    }
}

fn of_option(key: &str, option: &ReferenceEntry, effective: &[Effective], is_loaded: bool) -> String {
    let mut text = format!("{key}\n");
    wrap(&mut text, "  ", &option.doc);
    text.push('\n');
    let mut row = |name: &str, value: &str| {
        // Writing to a string can't fail.
        let _always = writeln!(text, "  {name:<10} {value}");
    };
    row("variable", &variable(key));
    match (option.has_default(), option.example.is_null()) {
        (true, _) => row("default", &written(&option.default)),
        (false, false) => row("example", &written(&option.example)),
        (false, true) => {}
    }
    match effective.iter().find(|effective| effective.key == key) {
        Some(effective) if effective.value.is_null() => row("in effect", "not set"),
        Some(effective) => row("in effect", &format!("{} ({})", written(&effective.value), effective.origin)),
        None if is_loaded => row("in effect", "nothing: this table is not used"),
        None => row("in effect", "unknown: the configuration has mistakes, which `check --offline` lists"),
    }
    text
}

fn of_table(key: &str, table: &Section) -> String {
    let mut text = format!("[{key}]\n");
    wrap(&mut text, "  ", &table.doc);
    text.push('\n');
    for option in &table.options {
        let default = if option.has_default() { written(&option.default) } else { String::new() };
        let _always = writeln!(text, "  {:<24} {default}", option.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::load_text;
    use super::*;

    const SECRET: &str = "fedcba9876543210fedcba9876543210";

    const FILE: &str = "[source]\nurl = \"stomp://b:1\"\nusername = \"12345\"\nnamespace = \"acme\"\n\
                        destination_id = \"main\"\nprefetch = 7\n[sinks.copy]\nkind = \"file\"\ndirectory = \"/a\"\n\
                        [dead_letters]\ndirectory = \"/b\"\n";

    fn said(asked: &str) -> Result<String, String> {
        let loaded = load_text(FILE, &[("BRIDGE__SOURCE__PASSWORD", SECRET)]).unwrap();
        explain(&SinkRegistry::built_in(), asked, Ok(&loaded)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_option_is_explained_by_its_key_and_by_its_variable() {
        let by_key = said("source.prefetch").unwrap();
        for part in ["How many events", "BRIDGE__SOURCE__PREFETCH", "default    1024", "in effect  7 ("] {
            assert!(by_key.contains(part), "{by_key}");
        }
        assert_eq!(said(" BRIDGE__SOURCE__PREFETCH").unwrap(), by_key);
        let secret = said("source.password").unwrap();
        assert!(secret.contains("in effect  \"***\"") && !secret.contains(SECRET), "{secret}");
        assert!(said("sinks.kafka.topic").unwrap().contains("nothing: this table is not used"));
        assert!(said("event.partitions").unwrap().contains("in effect  not set"));
    }

    #[test]
    fn a_sink_of_any_name_is_explained_by_its_kind() {
        let copy = said("sinks.copy.directory").unwrap();
        assert!(
            copy.contains("BRIDGE__SINKS__COPY__DIRECTORY") && copy.contains("in effect  \"/a\""),
            "{copy}"
        );
        assert!(said("dead_letters.kafka.topic").unwrap().contains("BRIDGE__DEAD_LETTERS__KAFKA__TOPIC"));
        assert!(said("sinks.kafka.sasl").unwrap().contains("mechanism"));
    }

    #[test]
    fn an_unknown_name_is_told_with_what_was_probably_meant() {
        assert_eq!(
            said("source.prefetsh").unwrap_err(),
            "there is no option `source.prefetsh`; did you mean `source.prefetch`?"
        );
        assert!(said("x").unwrap_err().contains("the tables are source, event"));
    }

    /// Every key of the reference has an explanation, also without a configuration.
    #[test]
    fn every_option_has_an_explanation() {
        let (kinds, none) = (SinkRegistry::built_in(), ConfigError(Vec::new()));
        for key in kinds.all_options() {
            let text = explain(&kinds, &key, Err(&none)).unwrap_or_else(|error| panic!("{error}"));
            assert!(text.contains(&variable(&key)) && text.contains("unknown: the configuration"), "{text}");
        }
    }
}
