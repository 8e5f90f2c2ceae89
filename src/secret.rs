//! A value that must never be shown.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// A secret text. `Debug`, `Display` and `Serialize` give a mask; only [`Secret::reveal`] gives the text.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String")]
pub struct Secret {
    text: String,
    /// Where it was read, if it was.
    file: Option<PathBuf>,
}

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), file: None }
    }

    /// The content of a file, without one line feed at its end.
    ///
    /// # Errors
    /// The file can't be read, or is not UTF-8.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        Ok(Self { text: line.unwrap_or(&text).to_owned(), file: Some(path.to_owned()) })
    }

    /// The secret as its file says now, for whoever logs in anew: one that was rotated counts without a restart.
    /// While the file can't be read, is empty or has control characters, the one that was read before.
    #[must_use]
    pub fn current(&self) -> Self {
        let read = self.file.as_deref().and_then(|file| Self::read(file).ok());
        let usable = |secret: &Self| !secret.text.is_empty() && !secret.text.contains(char::is_control);
        read.filter(usable).unwrap_or_else(|| self.clone())
    }

    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_it() {
        let secret = Secret::new("hush");
        let shown = format!("{secret} {secret:?} {}", serde_json::to_string(&secret).unwrap());
        assert_eq!(shown, "*** *** \"***\"");
    }

    #[test]
    fn the_current_one_is_that_of_its_file_as_long_as_there_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        fs::write(&file, "first\n").unwrap();
        let secret = Secret::read(&file).unwrap();
        let current = || secret.current().reveal().to_owned();
        assert_eq!(current(), "first");
        fs::write(&file, "second\n").unwrap();
        assert_eq!((secret.reveal(), current()), ("first", "second".to_owned()));
        for unusable in ["", "\n", "two\nlines"] {
            fs::write(&file, unusable).unwrap();
            assert_eq!(current(), "first", "{unusable:?}");
        }
        fs::remove_file(&file).unwrap();
        assert_eq!(current(), "first");
        assert_eq!(Secret::new("given").current().reveal(), "given");
    }
}
