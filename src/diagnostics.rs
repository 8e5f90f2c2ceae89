//! Describes what is wrong with a configuration, and collects everything that the check of a table finds,
//! not only the first mistake.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::display::{one_line, unreadable};
use crate::secret::Secret;

/// Where the value of an option came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set the option, so it has its default.
    Default,
    /// Nobody set the option, and it must be set.
    Missing,
    /// A line of the configuration file: the path as it was given, and the number of the line from 1, as in
    /// `bridge.toml:3`.
    File(String),
    /// An environment variable, by its full name.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Missing => f.write_str("missing"),
            Self::File(place) | Self::Variable(place) => f.write_str(place),
        }
    }
}

/// One mistake in the configuration, or one warning about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where the wrong value came from. The check of a table does not know that: it says `Default`, or
    /// `Missing`, and the reader of the configuration adds the rest.
    pub origin: Origin,
    /// The option, such as `source.prefetch`; relative to its table in [`Diagnostics`]; empty if the mistake
    /// is about the file as a whole.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Diagnostic {
    pub(crate) fn new(origin: Origin, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { origin, key: key.into(), message: message.into() }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match &self.origin {
            Origin::File(place) | Origin::Variable(place) => place,
            Origin::Default | Origin::Missing => "",
        };
        for place in [origin, &self.key].into_iter().filter(|place| !place.is_empty()) {
            write!(f, "{}: ", one_line(place))?;
        }
        f.write_str(&one_line(&self.message))
    }
}

/// All mistakes in a configuration, one line each. Never empty, and never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<Diagnostic>);

/// The mistakes and warnings of one check. Keys are relative to the table: `name`, `tls.ca_file`.
#[derive(Debug, Default)]
pub struct Diagnostics {
    pub(crate) problems: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Adds a mistake: the value of `key` can't be used, and `message` says what is allowed.
    pub fn refuse(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Diagnostic::new(Origin::Default, key, message));
    }

    /// Adds a mistake: `key` must be set, and `message` says to what. The code that shows the mistake says
    /// where the key can be set.
    pub fn missing(&mut self, key: impl Into<String>, message: &str) {
        self.problems.push(Diagnostic::new(Origin::Missing, key, message));
    }

    /// Adds a warning: the value is allowed, but a person should check it.
    pub fn warn(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(Diagnostic::new(Origin::Default, key, message));
    }

    /// Returns the value of a text that must be set and must not be empty; otherwise adds a mistake.
    /// `message` says what the value must be.
    pub fn required(&mut self, key: &str, value: Option<&str>, message: &str) -> Option<String> {
        match value {
            Some(text) if text.trim().is_empty() => self.refuse(key, format!("is empty: {message}")),
            Some(text) => return Some(text.to_owned()),
            None => self.missing(key, message),
        }
        None
    }

    /// Returns the value of a path that must be set and must not be empty; otherwise adds a mistake.
    pub fn required_path(&mut self, key: &str, path: Option<&Path>, message: &str) -> Option<PathBuf> {
        match path {
            Some(path) if path.as_os_str().is_empty() => self.refuse(key, format!("is empty: {message}")),
            Some(path) => return Some(path.to_owned()),
            None => self.missing(key, message),
        }
        None
    }

    /// Returns a secret that is set directly under `key`, or in the file that `<key>_file` names. `None` if
    /// neither is set, or if something is wrong. One line feed at the end of the file is ignored.
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
                    self.refuse(file_key, unreadable(path, &error));
                    return None;
                }
            },
        };
        let file = file.map(|path| format!("{} ", path.display())).unwrap_or_default();
        if let Some(flaw) = secret.flaw() {
            self.refuse(key, format!("{file}{flaw}"));
            return None;
        }
        if let Some(suspicion) = secret.suspicion() {
            self.warn(key, format!("{file}{suspicion}"));
        }
        Some(secret)
    }

    /// Adds a mistake if a file that must be readable is not.
    pub fn readable(&mut self, key: &str, file: Option<&Path>) {
        if let Some(path) = file
            && let Err(error) = std::fs::read(path)
        {
            self.refuse(key, unreadable(path, &error));
        }
    }

    /// Whether no mistake has been added so far.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// All mistakes, in the order in which they were found.
    pub fn problems(&self) -> &[Diagnostic] {
        &self.problems
    }

    /// All warnings, in the order in which they were found.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// The keys of all mistakes, in the order in which they were found.
    pub fn keys(&self) -> Vec<&str> {
        self.problems.iter().map(|problem| problem.key.as_str()).collect()
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
            let mut diagnostics = Diagnostics::default();
            let secret = diagnostics.secret("token", given, file);
            let problem = diagnostics.keys().first().map(|&key| key.to_owned());
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
