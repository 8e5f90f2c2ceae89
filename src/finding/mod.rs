//! Describes what the verb `check` finds, each kind of finding with a stable code for programs.

pub(crate) mod clock;
pub(crate) mod codes;

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

/// A stable name of a kind of finding, in kebab-case. `docs/check.md` documents each; the code of a
/// warning that has a row in `docs/troubleshooting.md` is the id of this row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Code(Cow<'static, str>);

impl Code {
    /// Creates a code, for the findings of a sink of another crate. Begin it with the name of the kind.
    pub const fn new(code: &'static str) -> Self {
        Self(Cow::Borrowed(code))
    }

    /// Creates the code of an error from the fixed word that its metric has: `wrong_port` of `source` gives
    /// `source-wrong-port`.
    pub(crate) fn of_label(part: &str, label: &str) -> Self {
        Self(Cow::Owned(format!("{part}-{}", label.replace('_', "-"))))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that `check` found in a part that works: a fact, or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of finding it is.
    pub code: Code,
    /// Whether a person should change something.
    pub is_warning: bool,
    /// One line for people. A warning says what to do.
    pub message: String,
}

impl Finding {
    /// Creates a finding that asks for no change.
    pub fn detail(code: Code, message: impl Into<String>) -> Self {
        Self { code, is_warning: false, message: message.into() }
    }

    /// Creates a finding that asks for a change.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self { is_warning: true, ..Self::detail(code, message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_warning { "warning: " } else { "" })?;
        f.write_str(&self.message)
    }
}
