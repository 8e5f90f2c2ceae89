//! Holds a value that must never be shown.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::display::unreadable;
use crate::file_reads;

/// The text that is shown instead of a secret.
pub const MASK: &str = "***";

/// The largest file that can hold a secret, in bytes. A larger file is something else, or has no end.
const LARGEST: u64 = 64 << 10;

/// Why a text is probably not the intended secret, though it could be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It is in quotes. No shell reads a file of variables and removes the quotes.
    #[error("is in quotes, which are part of it: remove them")]
    Quotes,
    /// It begins or ends with blanks, or with line feeds other than one at the end.
    #[error("begins or ends with white space, which is part of it: remove that")]
    Space,
    /// It is `$(NAME)` or the like, which Kubernetes, a shell or a template should have replaced.
    #[error("is a placeholder: nobody has put the secret in its place")]
    Placeholder,
    /// It is the mask that the verb `config` shows.
    #[error("is the mask that is shown instead of a secret")]
    Mask,
}

/// A secret text. `Debug`, `Display` and `Serialize` give a mask; only [`Secret::reveal`] gives the text.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String")]
pub struct Secret {
    text: String,
    /// Where it can be read again.
    file: Option<Arc<SecretFile>>,
}

/// A file with a secret. All copies of the secret share it.
struct SecretFile {
    path: PathBuf,
    last: Mutex<LastRead>,
}

struct LastRead {
    /// What the file held when it could be used last.
    text: String,
    /// Why it can't be used now, if so.
    problem: Option<String>,
}

impl PartialEq for SecretFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for SecretFile {}

impl Secret {
    /// Makes a secret of a text that comes from no file.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), file: None }
    }

    /// Reads a secret from a file, without one line feed at the file's end.
    ///
    /// # Errors
    /// The file can't be read, is not UTF-8, or is too large for a secret.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        let read = File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
        if read as u64 > LARGEST {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "it is larger than 64 KiB: no secret is",
            ));
        }
        let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let text = line.unwrap_or(&text).to_owned();
        // A pipe gives its content once, and the next read of it would block.
        let file = path.is_file().then(|| {
            let last = Mutex::new(LastRead { text: text.clone(), problem: None });
            Arc::new(SecretFile { path: path.to_owned(), last })
        });
        Ok(Self { text, file })
    }

    /// Reads the secret from its file again, so that the next login uses a rotated secret without a restart. If that
    /// takes longer than `allowed`, or the file can't be read, is empty or has control characters, the secret that was
    /// read last stays, and a warning is logged when that begins.
    pub async fn refresh(&self, allowed: Duration) {
        let Some(file) = &self.file else { return };
        if let Some(problem) = file.read_again(allowed).await {
            tracing::warn!("{problem}; taking the secret that was read last");
        }
    }

    /// Returns the secret as it was read last, by [`refresh`](Self::refresh) or at the start.
    #[must_use]
    pub fn current(&self) -> Self {
        let text = self.file.as_ref().map_or_else(|| self.text.clone(), |file| file.last().text.clone());
        Self { text, file: self.file.clone() }
    }

    /// Returns the file that the secret is read from at each login, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref().map(|file| file.path.as_path())
    }

    /// Returns the option that the secret came from: `text` for a direct value, `file` for a file that holds
    /// it.
    pub fn option(&self, text: &'static str, file: &'static str) -> &'static str {
        if self.file.is_some() { file } else { text }
    }

    /// Returns why the text can't be a secret: it is empty, or has several lines. `None` if it can be one.
    pub fn flaw(&self) -> Option<&'static str> {
        match self.text.as_str() {
            "" => Some("is empty"),
            text if text.starts_with('\u{feff}') => {
                Some("begins with a byte order mark: save it without one")
            }
            text if text.contains(char::is_control) => {
                Some("has control characters such as line feeds: only one line feed at the end is ignored")
            }
            _ => None,
        }
    }

    /// Returns why the text is probably not the intended secret, though it could be one.
    pub fn suspicion(&self) -> Option<SecretError> {
        const PLACEHOLDERS: [(&str, &str); 4] = [("$(", ")"), ("${", "}"), ("{{", "}}"), ("<", ">")];
        let is_between = |open: &str, close: &str| {
            self.text.len() > 1 && self.text.starts_with(open) && self.text.ends_with(close)
        };
        match self.text.as_str() {
            _ if is_between("\"", "\"") || is_between("'", "'") => Some(SecretError::Quotes),
            text if text.trim() != text => Some(SecretError::Space),
            _ if PLACEHOLDERS.iter().any(|(open, close)| is_between(open, close)) => {
                Some(SecretError::Placeholder)
            }
            MASK => Some(SecretError::Mask),
            _ => None,
        }
    }

    /// Returns the text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl SecretFile {
    /// Returns why the file can't be used, unless it was returned before.
    async fn read_again(&self, allowed: Duration) -> Option<String> {
        let path = self.path.clone();
        let read = move || {
            let secret = Secret::read(&path).map_err(|error| unreadable(&path, &error))?;
            match secret.flaw() {
                Some(flaw) => Err(format!("{} {flaw}", path.display())),
                None => Ok(secret.text),
            }
        };
        let hangs = || Err(unreadable(&self.path, &file_reads::no_answer()));
        let read = file_reads::within(allowed, read).await.unwrap_or_else(hangs);
        let mut last = self.last();
        let before = last.problem.take();
        match read {
            Ok(text) => last.text = text,
            Err(problem) => last.problem = Some(problem),
        }
        last.problem.clone().filter(|problem| Some(problem) != before.as_ref())
    }

    fn last(&self) -> MutexGuard<'_, LastRead> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    #[test]
    fn nothing_shows_it() {
        let secret = Secret::new("hush");
        let shown = format!("{secret} {secret:?} {}", serde_json::to_string(&secret).unwrap());
        assert_eq!(shown, "*** *** \"***\"");
    }

    #[test]
    fn what_can_be_no_secret_is_told_from_what_is_hardly_one() {
        for (text, part) in [
            ("", "is empty"),
            ("two\nlines", "control characters"),
            ("hush\n", "control characters"),
            ("\u{feff}hush", "byte order mark"),
        ] {
            let flaw = Secret::new(text).flaw();
            assert!(flaw.is_some_and(|flaw| flaw.contains(part)), "{text:?}: {flaw:?}");
        }
        for (text, suspicion) in [
            ("hush", None),
            ("h u<s>h$", None),
            ("'", None),
            ("\"hush\"", Some(SecretError::Quotes)),
            ("'hush'", Some(SecretError::Quotes)),
            (" hush", Some(SecretError::Space)),
            ("hush\u{a0}", Some(SecretError::Space)),
            ("$(PASSWORD)", Some(SecretError::Placeholder)),
            ("${PASSWORD}", Some(SecretError::Placeholder)),
            ("{{ .Values.password }}", Some(SecretError::Placeholder)),
            ("<password>", Some(SecretError::Placeholder)),
            ("***", Some(SecretError::Mask)),
        ] {
            let secret = Secret::new(text);
            assert_eq!((secret.flaw(), secret.suspicion()), (None, suspicion), "{text:?}");
        }
    }

    #[test]
    fn what_never_ends_is_no_secret() {
        let error = Secret::read(Path::new("/dev/zero")).unwrap_err();
        assert!(error.to_string().contains("64 KiB"), "{error}");
    }

    #[tokio::test]
    async fn the_current_one_is_what_its_file_held_last() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        fs::write(&file, "first\n").unwrap();
        let secret = Secret::read(&file).unwrap();
        let current = async || {
            secret.refresh(SOON).await;
            secret.current().reveal().to_owned()
        };
        assert_eq!(current().await, "first");
        fs::write(&file, "second\n").unwrap();
        assert_eq!((secret.reveal(), current().await), ("first", "second".to_owned()));
        for unusable in ["", "\n", "two\nlines"] {
            fs::write(&file, unusable).unwrap();
            assert_eq!(current().await, "second", "{unusable:?}");
        }
        fs::remove_file(&file).unwrap();
        assert_eq!(current().await, "second");
        assert_eq!(secret.clone().current().reveal(), "second", "copies know it too");
        assert_eq!(Secret::new("given").current().reveal(), "given");
    }

    #[tokio::test]
    async fn a_file_that_can_not_be_used_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        fs::write(&file, "first").unwrap();
        let secret = Secret::read(&file).unwrap();
        let told = async || secret.file.as_ref().unwrap().read_again(SOON).await;
        assert_eq!(told().await, None);
        fs::write(&file, "").unwrap();
        assert!(told().await.is_some_and(|problem| problem.ends_with("password is empty")));
        assert_eq!(told().await, None, "it is told again");
        fs::remove_file(&file).unwrap();
        assert!(told().await.is_some_and(|problem| problem.contains("can't be read")));
        fs::write(&file, "second").unwrap();
        assert_eq!(told().await, None);
        fs::write(&file, "").unwrap();
        assert!(told().await.is_some(), "it was well in between");
    }

    /// A named pipe stands for a file system that hangs: who opens it waits for somebody that writes.
    #[tokio::test]
    async fn the_last_one_stays_while_its_file_system_hangs() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        fs::write(&file, "first").unwrap();
        let secret = Secret::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let problem = secret.file.as_ref().unwrap().read_again(Duration::from_millis(1)).await;
        let problem = problem.unwrap();
        assert!(problem.ends_with("password can't be read: the file system does not answer"), "{problem}");
        assert_eq!(secret.current().reveal(), "first");
        fs::write(&file, "second").unwrap(); // ends the thread
    }
}
