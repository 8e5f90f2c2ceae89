//! What a kind of sink is to the configuration: the type of its table, the check of it, and what is built
//! from it. The built-in kinds and those of other crates are made alike; `examples/http_sink.rs` shows one.

use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Sink, SinkContext};
use crate::secret::Secret;

/// A kind of sink, such as `file`.
pub trait SinkKind {
    /// The value of `kind`; a table of that name, `[sinks.<NAME>]`, needs none.
    const NAME: &'static str;

    /// The table as written. Its documentation, defaults and examples become the reference of options; use
    /// `#[serde(deny_unknown_fields, default)]`, so that an unknown key is an error. `kind` is not in it.
    type Config: DeserializeOwned + Serialize + Default + JsonSchema;

    /// Checks the table: everything that is wrong goes into `findings`, not only the first mistake. Opens no
    /// connection and writes nothing. `None` once something is wrong.
    fn check(
        config: Self::Config,
        surroundings: &Surroundings,
        findings: &mut Findings,
    ) -> Option<Arc<dyn SinkFactory>>;
}

/// A checked table.
pub trait SinkFactory: fmt::Debug + Send + Sync {
    /// The sink that the table describes; touches nothing yet.
    fn build(&self, context: SinkContext) -> Box<dyn Sink>;

    /// Where it writes, for people, such as `the directory /data`. No two sinks may write to the same place,
    /// and neither may the dead letters: equal texts are refused. `None`: sharing does no harm.
    fn destination(&self) -> Option<String>;
}

/// What the rest of the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// `event.partitions`.
    pub partitions: Option<NonZeroU32>,
    /// `source.prefetch`: no more events than these are ever in flight.
    pub prefetch: usize,
}

/// What a check found. Keys are seen from the table: `name`, `tls.ca_file`.
#[derive(Debug, Default)]
pub struct Findings {
    problems: Vec<(String, String)>,
    warnings: Vec<(String, String)>,
}

impl Findings {
    /// The value of `key` can't be used; `message` says what is allowed.
    pub fn refuse(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.problems.push((key.into(), message.into()));
    }

    /// `key` must be set, and `message` says to what.
    pub fn missing(&mut self, key: impl Into<String>, message: &str) {
        self.refuse(key, format!("is missing: {message}"));
    }

    /// Something that is allowed but worth a look.
    pub fn warn(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.warnings.push((key.into(), message.into()));
    }

    /// The value of a text that must be set and must not be empty; `message` says what belongs there.
    pub fn required(&mut self, key: &str, value: Option<&str>, message: &str) -> Option<String> {
        match value {
            Some(text) if text.trim().is_empty() => self.refuse(key, format!("is empty: {message}")),
            Some(text) => return Some(text.to_owned()),
            None => self.missing(key, message),
        }
        None
    }

    /// A secret that is given itself, under `key`, or by a file that holds it, under `<key>_file`; `None` if
    /// neither is set, or something is wrong. One line feed at the end of the file is ignored.
    pub fn secret(&mut self, key: &str, given: Option<&Secret>, file: Option<&Path>) -> Option<Secret> {
        let file_key = format!("{key}_file");
        let (key, secret) = match (given, file) {
            (Some(_), Some(_)) => {
                self.refuse(file_key, format!("{key} is set too: keep one of them"));
                return None;
            }
            (None, None) => return None,
            (Some(given), None) => (key, given.clone()),
            (None, Some(path)) => match Secret::read(path) {
                Ok(secret) => (file_key.as_str(), secret),
                Err(error) => {
                    self.refuse(file_key, format!("{} can't be read: {error}", path.display()));
                    return None;
                }
            },
        };
        if secret.reveal().is_empty() {
            self.refuse(key, "is empty");
            return None;
        }
        Some(secret)
    }

    /// Reports it where a file that must be readable is not.
    pub fn readable(&mut self, key: &str, file: Option<&Path>) {
        if let Some(path) = file
            && let Err(error) = std::fs::read(path)
        {
            self.refuse(key, format!("{} can't be read: {error}", path.display()));
        }
    }

    /// Whether nothing is wrong so far.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// What is wrong: keys and messages, in the order of finding.
    pub fn problems(&self) -> &[(String, String)] {
        &self.problems
    }

    /// What is worth a look: keys and messages.
    pub fn warnings(&self) -> &[(String, String)] {
        &self.warnings
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_secret_stands_in_the_table_or_in_a_file_and_never_in_both() {
        let directory = tempfile::tempdir().unwrap();
        let (good, empty) = (directory.path().join("good"), directory.path().join("empty"));
        fs::write(&good, "hush\r\n").unwrap();
        fs::write(&empty, "\n").unwrap();
        let given = Secret::new("hush");
        let ask = |given: Option<&Secret>, file: Option<&Path>| {
            let mut findings = Findings::default();
            let secret = findings.secret("token", given, file);
            let problem = findings.problems().first().map(|(key, _)| key.clone());
            (secret.map(|secret| secret.reveal().to_owned()), problem)
        };
        let hush = Some("hush".to_owned());
        assert_eq!(ask(Some(&given), None), (hush.clone(), None));
        assert_eq!(ask(None, Some(&good)), (hush, None));
        assert_eq!(ask(None, None), (None, None));
        let in_file = Some("token_file".to_owned());
        assert_eq!(ask(Some(&given), Some(&good)), (None, in_file.clone()));
        assert_eq!(ask(None, Some(&empty)), (None, in_file.clone()));
        assert_eq!(ask(None, Some(&directory.path().join("none"))), (None, in_file));
        assert_eq!(ask(Some(&Secret::new("")), None), (None, Some("token".to_owned())));
    }
}
