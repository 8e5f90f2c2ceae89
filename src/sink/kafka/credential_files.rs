//! Notices that a file with a secret or a certificate has changed, and ends the connection. A client of librdkafka keeps
//! what it was made with, so only a new client uses the new content.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use tokio::time::sleep;

use super::in_flight::KafkaInFlight;
use super::settings::KafkaSettings;
use crate::file_reads;
use crate::secret::Secret;
use crate::sink::SinkError;

/// The time between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a file system may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A hash of the content of each file; `None` for a file that can't be read or is empty.
type Contents = BTreeMap<PathBuf, Option<u64>>;

/// The files of one connection, with their content before the connection was made.
pub(super) struct CredentialFiles(Contents);

impl CredentialFiles {
    /// Reads the files that the settings name, and the secrets in them for the next client.
    ///
    /// # Errors
    /// A file system does not answer.
    pub(super) async fn read(settings: &KafkaSettings) -> Result<Self, SinkError> {
        for secret in settings.client.secrets() {
            secret.refresh(ANSWER).await;
        }
        let tls = [&settings.tls.ca_file, &settings.tls.certificate_file, &settings.tls.key_file];
        let secrets = settings.client.secrets().filter_map(Secret::file);
        let files = secrets.chain(tls.into_iter().flatten().map(PathBuf::as_path)).map(Path::to_owned);
        let hangs = || {
            let what = "can't read the files of its login and of TLS";
            SinkError::unavailable(format!("{what}: {}", file_reads::no_answer()))
        };
        contents(files.collect()).await.map(Self).ok_or_else(hangs)
    }

    /// Looks at the files until the connection ends. Ends the connection once it has seen the same new content twice, as
    /// several files may be replaced one after the other. A file that can't be read is not new: it may come back.
    pub(super) async fn watch(self, in_flight: Weak<KafkaInFlight>) {
        if self.0.is_empty() {
            return;
        }
        let mut before = self.0.clone();
        loop {
            sleep(LOOK_EVERY).await;
            let now = contents(self.0.keys().cloned().collect()).await.unwrap_or_else(|| before.clone());
            let Some(in_flight) = in_flight.upgrade() else { return };
            if now == before
                && let Some(changed) = self.changed(&now)
            {
                in_flight.end(SinkError::unavailable(format!(
                    "{changed} has changed: connecting again with its new content"
                )));
                return;
            }
            before = now;
        }
    }

    /// Returns the first file that has another content, if all can be read.
    fn changed(&self, now: &Contents) -> Option<String> {
        let is_readable = now.values().all(Option::is_some);
        let mut changed = now.iter().filter(|(file, content)| self.0.get(*file) != Some(content));
        changed.next().filter(|_| is_readable).map(|(file, _)| file.display().to_string())
    }
}

/// Reads files; `None` if their file system does not answer.
async fn contents(files: Vec<PathBuf>) -> Option<Contents> {
    let content = |file: &PathBuf| {
        let bytes = std::fs::read(file).ok().filter(|bytes| !bytes.trim_ascii().is_empty())?;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Some(hasher.finish())
    };
    let read = move || files.into_iter().map(|file| (file.clone(), content(&file))).collect();
    file_reads::within(ANSWER, read).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Writes files and returns their paths.
    fn write(directory: &tempfile::TempDir, contents: &[(&str, &str)]) -> Vec<PathBuf> {
        let write = |(name, content): &(&str, &str)| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        contents.iter().map(write).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_that_lasts_ends_the_connection_and_nothing_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let files = write(&directory, &[("password", "old"), ("ca.pem", "ca")]);
        let read = CredentialFiles(contents(files.clone()).await.unwrap());
        let in_flight = Arc::new(KafkaInFlight::new(None, None));
        let watch = tokio::spawn(read.watch(Arc::downgrade(&in_flight)));
        let looks = async |count: u32| sleep(count * LOOK_EVERY + LOOK_EVERY / 2).await;
        looks(3).await;
        assert!(in_flight.ending().is_none(), "nothing has changed");
        for missing in ["", " \n"] {
            write(&directory, &[("password", missing)]);
            looks(3).await;
            assert!(in_flight.ending().is_none(), "the file is empty");
        }
        std::fs::remove_file(&files[0]).unwrap();
        looks(3).await;
        assert!(in_flight.ending().is_none(), "the file is missing");
        write(&directory, &[("password", "new")]);
        in_flight.wait().await;
        let ending = in_flight.ending().unwrap().to_string();
        assert!(ending.contains("password has changed: connecting again"), "{ending}");
        watch.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_watch_ends_with_its_connection() {
        let directory = tempfile::tempdir().unwrap();
        let read = CredentialFiles(contents(write(&directory, &[("password", "old")])).await.unwrap());
        let in_flight = Arc::new(KafkaInFlight::new(None, None));
        let watch = tokio::spawn(read.watch(Arc::downgrade(&in_flight)));
        drop(in_flight);
        watch.await.unwrap();
        CredentialFiles(Contents::new()).watch(Weak::new()).await;
    }
}
