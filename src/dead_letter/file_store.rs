//! Keeps dead letters in files, as JSON lines in a directory. What the files hold already, by the ids that the
//! journal records, is not written again.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Mutex, oneshot};

use super::config::FilesSettings;
use super::contract::{DeadLetterStore, ReplayMarks};
use super::record::DeadLetter;
use super::replay_mark::ReplayMark;
use crate::finding::Finding;
use crate::journal::config::FileCompression;
use crate::journal::name_template::{FileSlot, Stems};
use crate::journal::{
    self, AfterFailure, CommitError, Disk, FEWEST_IDS, JournalSettings, JournalWriter, OsDisk, SyncedLengths,
};
use crate::recent_ids::RecentIds;
use crate::sink::file::read_lines;
use crate::sink::{Position, RecordSender, SinkError};

type Ticket = oneshot::Sender<Result<(), SinkError>>;

/// A store that keeps dead letters as JSON lines in a directory. The file names begin with
/// `dead-letters-<connection id>`.
pub struct FileDeadLetters {
    place: String,
    disk: Arc<dyn Disk>,
    journal: JournalSettings,
    synced_lengths: SyncedLengths,
    writer: Mutex<Option<OpenWriter>>,
}

struct OpenWriter {
    thread: JournalWriter<Ticket>,
    /// The letters that the files had when they were opened. Nobody else writes to them.
    held: RecentIds,
}

impl OpenWriter {
    /// Appends lines to the next group. The result comes through the receiver.
    fn append(
        &self,
        ids: impl Iterator<Item = Bytes>,
        add: impl FnOnce(&mut Vec<u8>) -> Result<(), serde_json::Error>,
    ) -> Result<oneshot::Receiver<Result<(), SinkError>>, SinkError> {
        let (ticket, outcome) = oneshot::channel();
        let appended = self.thread.append(|group, _| group.append(FileSlot::default(), ticket, ids, add));
        match appended {
            Some(Err(error)) => {
                Err(SinkError::misconfigured("cannot write a dead letter as JSON").caused_by(error))
            }
            Some(Ok(_)) | None => Ok(outcome),
        }
    }
}

async fn outcome_of(outcome: oneshot::Receiver<Result<(), SinkError>>) -> Result<(), SinkError> {
    let ended = |_| Err(SinkError::unavailable("the thread that writes dead letters has ended"));
    outcome.await.unwrap_or_else(ended)
}

impl FileDeadLetters {
    /// Creates the store; no file is opened or created before [`DeadLetterStore::open`]. `capacity` is how many
    /// letters at most can come again.
    pub fn new(settings: FilesSettings, connection_id: &str, capacity: usize) -> Self {
        Self::on(Arc::new(OsDisk), settings, connection_id, capacity)
    }

    /// Creates the store of the marks of a replay. Marks are small, and must be written even if the letters have
    /// reached their largest total size.
    pub fn of_marks(settings: FilesSettings, connection_id: &str) -> Self {
        let mut store = Self::new(FilesSettings { max_total: None, ..settings }, connection_id, 0);
        store.journal.is_replay = true;
        store
    }

    /// Creates the store on another disk.
    pub fn on(disk: Arc<dyn Disk>, settings: FilesSettings, connection_id: &str, capacity: usize) -> Self {
        let journal = JournalSettings {
            section: "dead_letters".to_owned(),
            directory: settings.directory,
            stems: Stems::dead_letters(connection_id),
            compression: FileCompression::None,
            rotation: settings.rotation,
            ids: FEWEST_IDS.max(capacity),
            max_open: 1,
            max_total: settings.max_total,
            max_age: None,
            is_replay: false,
        };
        let place = format!("the directory {}", journal.directory.display());
        let synced_lengths = SyncedLengths::default();
        Self { place, disk, journal, synced_lengths, writer: Mutex::new(None) }
    }

    /// Returns the writer; opens it first if it is missing or broken.
    async fn opened<'a>(&self, writer: &'a mut Option<OpenWriter>) -> Result<&'a OpenWriter, SinkError> {
        if let Some(broken) = writer.take_if(|writer| writer.thread.is_over()) {
            let mut ended = broken.thread.ended();
            drop(broken);
            ended.wait().await;
        }
        match writer {
            Some(writer) => Ok(writer),
            none => Ok(none.insert(self.start().await?)),
        }
    }

    async fn start(&self) -> Result<OpenWriter, SinkError> {
        let opened =
            journal::open(Arc::clone(&self.disk), self.journal.clone(), self.synced_lengths.clone()).await;
        let journal = opened.map_err(|error| SinkError::from(&error))?;
        let ids = journal::recorded_ids(Arc::clone(&self.disk), self.journal.clone(), self.journal.ids).await;
        let mut held = RecentIds::new(self.journal.ids);
        held.claim(ids.map_err(|error| SinkError::from(&error))?);
        let thread = JournalWriter::start("dead letters", journal, AfterFailure::GoOn, answer)
            .map_err(|error| SinkError::unavailable("cannot start a thread").caused_by(error))?;
        Ok(OpenWriter { thread, held })
    }
}

#[async_trait]
impl DeadLetterStore for FileDeadLetters {
    fn place(&self) -> &str {
        &self.place
    }

    async fn write(&self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        let outcome = {
            let mut writer = self.writer.lock().await;
            let writer = self.opened(&mut writer).await?;
            let missing: Vec<_> = letters.iter().filter(|letter| !writer.held.holds(&letter.id())).collect();
            if missing.is_empty() {
                return Ok(());
            }
            let ids = missing.iter().map(|letter| letter.id());
            writer.append(ids, |lines| missing.iter().try_for_each(|letter| letter.append(lines)))?
        };
        outcome_of(outcome).await
    }

    async fn open(&self) -> Result<(), SinkError> {
        self.opened(&mut *self.writer.lock().await).await.map(drop)
    }

    async fn probe(&self) -> Result<Vec<Finding>, SinkError> {
        journal::probe(self.journal.clone()).await.map_err(|error| SinkError::from(&error))
    }

    async fn read_back(&self, from: Option<Position>, records: RecordSender) -> Result<(), SinkError> {
        read_lines(self.journal.clone(), from, records).await
    }

    async fn close(&self) {
        if let Some(OpenWriter { thread, .. }) = self.writer.lock().await.take() {
            thread.drain();
            thread.ended().wait().await;
        }
    }
}

#[async_trait]
impl ReplayMarks for FileDeadLetters {
    async fn add(&self, marks: &[ReplayMark]) -> Result<(), SinkError> {
        let outcome = {
            let mut writer = self.writer.lock().await;
            let ids = marks.iter().map(ReplayMark::id);
            let add = |lines: &mut Vec<u8>| marks.iter().try_for_each(|mark| mark.append(lines));
            self.opened(&mut writer).await?.append(ids, add)?
        };
        outcome_of(outcome).await
    }
}

fn answer(tickets: &mut Vec<Ticket>, outcome: Result<(), &CommitError>) {
    for ticket in tickets.drain(..) {
        let answer = outcome.map_err(|failure| SinkError::from(&failure.error));
        // Sending fails only if the caller was dropped. It has settled nothing, so the answer is not needed.
        drop(ticket.send(answer));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;
    use crate::dead_letter::config::{DeadLetterPlace, DeadLettersConfig, check};
    use crate::diagnostics::Diagnostics;
    use crate::event::{Event, EventRef, Headers};
    use crate::journal::config::RotateConfig;
    use crate::journal::testing::{MemoryDisk, Op};
    use crate::key::Keying;
    use crate::sink::{Rejection, testing};
    use crate::units::Size;

    pub(in crate::dead_letter) fn event(n: u64, body: &[u8]) -> EventRef {
        let decode = |raw: &[u8]| {
            let id = String::from_utf8(raw.to_vec()).unwrap();
            let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            vec![pair("message-id", &id), pair("a", "1"), pair("a", "2")]
        };
        let mut message = testing::message(n, Bytes::copy_from_slice(body));
        message.headers = Headers::new(message.id.clone(), decode);
        message.timestamp = Some(1_700_000_000_000);
        message.redelivered = true;
        let event = Event::new(message, &Keying::new(vec!["/md5".to_owned()], false));
        testing::deliveries([event]).remove(0).event
    }

    pub(in crate::dead_letter) fn letter(n: u64) -> DeadLetter {
        let (first, last) = (SystemTime::UNIX_EPOCH, SystemTime::now());
        let rejection = Rejection { reason: "too_large", detail: "too large".to_owned() };
        let worker = "event".into();
        let queue = "main.RTO.acme".into();
        DeadLetter { event: event(n, b"{}"), queue, worker, sink: None, rejection, attempts: 1, first, last }
    }

    fn checked(config: &DeadLettersConfig) -> FilesSettings {
        match check(config, None, &mut Diagnostics::default()).unwrap().place {
            DeadLetterPlace::Files(files) => files,
            DeadLetterPlace::Sink(_) => panic!("a directory is set"),
        }
    }

    fn store(directory: &Path, disk: Arc<dyn Disk>) -> FileDeadLetters {
        let config =
            DeadLettersConfig { directory: Some(directory.to_owned()), ..DeadLettersConfig::default() };
        FileDeadLetters::on(disk, checked(&config), "acme-b1", 100)
    }

    fn ids(content: &[u8]) -> Vec<String> {
        let id = |line: &[u8]| {
            let line: serde_json::Value = serde_json::from_slice(line).unwrap();
            line["message_id"].as_str().unwrap().to_owned()
        };
        content.split_inclusive(|byte| *byte == b'\n').map(id).collect()
    }

    #[tokio::test]
    async fn letters_are_in_a_file_of_this_connection_once_written() {
        let directory = tempfile::tempdir().unwrap();
        let letters = store(directory.path(), Arc::new(OsDisk));
        letters.write(&[letter(1), letter(2)]).await.unwrap();
        letters.write(&[letter(3)]).await.unwrap();
        letters.close().await;
        let files: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().path()).collect();
        let [file] = files.iter().filter(|file| file.extension().unwrap() == "jsonl").collect::<Vec<_>>()[..]
        else {
            panic!("{files:?}")
        };
        assert!(file.file_name().unwrap().to_str().unwrap().starts_with("dead-letters-acme-b1-"));
        assert_eq!(ids(&std::fs::read(file).unwrap()), ["ID:1", "ID:2", "ID:3"]);
    }

    #[tokio::test]
    async fn a_write_that_fails_says_so_keeps_nothing_and_can_be_repeated() {
        let disk = MemoryDisk::default();
        let letters = store(Path::new("/dead"), Arc::new(disk.clone()));
        letters.write(&[letter(1)]).await.unwrap();
        for ops in [&[Op::Append] as &[Op], &[Op::Sync], &[Op::Sync, Op::Truncate]] {
            disk.fail_all(ops);
            let error = letters.write(&[letter(2)]).await.unwrap_err().to_string();
            assert!(error.contains("/dead/dead-letters-acme-b1-"), "{error}");
            disk.heal();
        }
        letters.write(&[letter(2)]).await.unwrap();
        letters.close().await;
        let files = disk.files();
        let (name, content) = files.iter().next().unwrap();
        assert!(name.ends_with(".jsonl") && files.len() == 1, "{files:?}");
        assert_eq!(ids(content), ["ID:1", "ID:2"]);
    }

    /// The process dies with letters that are durable and not acknowledged; the broker delivers them again.
    #[tokio::test]
    async fn a_letter_that_the_files_hold_is_not_written_again() {
        let disk = MemoryDisk::default();
        for (died, again) in [(vec![1, 2], vec![1, 2]), (vec![3], vec![1, 2, 3, 4])] {
            let letters = store(Path::new("/dead"), Arc::new(disk.clone()));
            letters.write(&died.into_iter().map(letter).collect::<Vec<_>>()).await.unwrap();
            drop(letters);
            let letters = store(Path::new("/dead"), Arc::new(disk.clone()));
            letters.write(&again.into_iter().map(letter).collect::<Vec<_>>()).await.unwrap();
            letters.close().await;
        }
        let other = DeadLetter { worker: "kafka".into(), ..letter(4) };
        let letters = store(Path::new("/dead"), Arc::new(disk.clone()));
        letters.write(&[other]).await.unwrap();
        letters.close().await;
        let written: Vec<_> = disk.files().values().flat_map(|content| ids(content)).collect();
        assert_eq!(written, ["ID:1", "ID:2", "ID:3", "ID:4", "ID:4"]);
    }

    #[tokio::test]
    async fn a_store_that_is_full_holds() {
        let disk = MemoryDisk::default();
        let config = DeadLettersConfig {
            directory: Some("/dead".into()),
            max_total: Some(Size(1000)),
            rotate: RotateConfig { size: Size(1000), ..RotateConfig::default() },
            ..DeadLettersConfig::default()
        };
        let letters = FileDeadLetters::on(Arc::new(disk.clone()), checked(&config), "b1", 100);
        letters.write(&[letter(1)]).await.unwrap();
        let error = letters.write(&(2..10).map(letter).collect::<Vec<_>>()).await.unwrap_err();
        assert!(error.to_string().contains("max_total"), "{error}");
        letters.write(&[letter(2)]).await.unwrap();
    }
}
