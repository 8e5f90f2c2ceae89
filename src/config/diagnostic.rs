//! Reports what is wrong with a configuration: one line for each mistake, all at once.

use std::fmt;
use std::path::PathBuf;

use crate::display::one_line;

/// Where the value of an option came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set the option, so it has its default.
    Default,
    /// A line of the configuration file.
    File {
        /// The path of the file, as it was given.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
    },
    /// An environment variable, by its full name.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where the wrong value came from; `Default` if it is missing.
    pub origin: Origin,
    /// The option, such as `source.prefetch`; empty if the mistake is about the file as a whole.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.origin.to_string();
        let places = [(self.origin != Origin::Default).then_some(origin.as_str()), Some(self.key.as_str())];
        for place in places.into_iter().flatten().filter(|place| !place.is_empty()) {
            write!(f, "{}: ", one_line(place))?;
        }
        f.write_str(&one_line(&self.message))
    }
}

/// All mistakes in a configuration, one line each. Never empty, and never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors(pub Vec<Diagnostic>);
