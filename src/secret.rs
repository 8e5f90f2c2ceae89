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
    /// Where it can be read again.
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
        // A pipe gives it once, and would keep the next reader waiting.
        let file = path.is_file().then(|| path.to_owned());
        Ok(Self { text: line.unwrap_or(&text).to_owned(), file })
    }

    /// The secret as its file says now, for whoever logs in anew: one that was rotated counts without a restart.
    /// While the file can't be read, is empty or has control characters, the one that was read at the start, with a
    /// warning.
    #[must_use]
    pub fn current(&self) -> Self {
        let Some(file) = self.file.as_deref() else { return self.clone() };
        let problem = match Self::read(file) {
            Ok(secret) if secret.text.is_empty() => "it is empty".to_owned(),
            Ok(secret) if secret.text.contains(char::is_control) => "it has control characters".to_owned(),
            Ok(secret) => return secret,
            Err(error) => error.to_string(),
        };
        tracing::warn!("{} can't be used: {problem}; taking the secret of the start", file.display());
        self.clone()
    }

    /// Which of two options it came from: the text's own, or that of a file which holds it.
    pub fn option(&self, text: &'static str, file: &'static str) -> &'static str {
        if self.file.is_some() { file } else { text }
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
