//! Writes events as JSON lines to files in a directory, and settles each only when it is on the disk.
//!
//! The worker's task makes a line of each event, which is one copy. Lines collect in a group while the
//! journal's writer writes and syncs the group before. A group becomes durable as a whole or not at all. So
//! an event is in the files only once, whatever the disk does. The journal records the ids of the events beside
//! the files, so a process that was killed between sync and acknowledgement does not write them again.

mod acks;
mod check;
pub mod config;
mod in_flight;
mod line;
mod producer;
mod read_back;
pub mod settings;
pub mod validate;

use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;

use self::acks::FileAcks;
use self::config::{FileConfig, Format};
use self::in_flight::FileInFlight;
use self::producer::FileProducer;
pub(crate) use self::read_back::read_lines;
use self::settings::FileSettings;
use super::factory::{BuildContext, Diagnostics, SinkDestination, SinkFactory, SinkKind};
use super::{DeliveryId, Held, Position, RecordSender, Sink, SinkContext, SinkError, Submit, Verdicts};
use crate::finding::Finding;
use crate::journal::{
    self, AfterFailure, CommitError, Disk, FEWEST_IDS, JournalSettings, JournalWriter, OsDisk, SyncedLengths,
    WriterEnd,
};

/// How many message ids it records for each event that the broker can send again, the same as the sink worker.
const IDS_PER_EVENT: usize = 4;

/// The kind of sink with `kind = "file"`.
pub struct FileKind;

impl SinkKind for FileKind {
    const NAME: &'static str = "file";

    type Config = FileConfig;

    fn check(
        config: FileConfig,
        context: &BuildContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn SinkFactory>> {
        if !config.name.contains("{connection_id}") {
            diagnostics
                .refuse("name", "must hold {connection_id}, so that no two processes write to one file");
        }
        let settings = validate::check(&config, context, diagnostics)?;
        Some(Arc::new(settings))
    }
}

impl SinkFactory for FileSettings {
    fn build(&self, context: SinkContext) -> Box<dyn Sink> {
        Box::new(FileSink::new(self.clone(), context))
    }

    fn destination(&self) -> Option<SinkDestination> {
        Some(SinkDestination::directory(&self.directory))
    }

    fn keeps(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

/// A sink that writes events as JSON lines to files.
pub struct FileSink {
    name: String,
    format: Format,
    partitions: Option<NonZeroU32>,
    journal: JournalSettings,
    disk: Arc<dyn Disk>,
    synced_lengths: SyncedLengths,
    previous: Option<WriterEnd>,
}

impl FileSink {
    /// Creates the sink from checked settings, without any access to the disk.
    pub fn new(settings: FileSettings, context: SinkContext) -> Self {
        Self::on(Arc::new(OsDisk), settings, context)
    }

    /// Creates the sink on another disk.
    #[doc(hidden)]
    pub fn on(disk: Arc<dyn Disk>, settings: FileSettings, context: SinkContext) -> Self {
        Self {
            name: context.sink,
            format: settings.format,
            partitions: context.partitions,
            journal: JournalSettings {
                section: context.table,
                stems: settings.name.bind(&context.connection_id),
                directory: settings.directory,
                compression: settings.compression,
                rotation: settings.rotation,
                ids: FEWEST_IDS.max(settings.prefetch.saturating_mul(IDS_PER_EVENT)),
                max_open: settings.max_open,
                max_total: settings.max_total,
                max_age: settings.max_age,
                is_replay: context.is_replay,
            },
            disk,
            synced_lengths: SyncedLengths::default(),
            previous: None,
        }
    }
}

#[async_trait]
impl Sink for FileSink {
    fn keeps_order(&self) -> bool {
        true
    }

    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        if let Some(previous) = &mut self.previous {
            previous.wait().await;
        }
        let journal =
            journal::open(Arc::clone(&self.disk), self.journal.clone(), self.synced_lengths.clone()).await;
        let journal = journal.map_err(|error| SinkError::from(&error))?;
        let in_flight = Arc::new(FileInFlight::default());
        let settling = Arc::clone(&in_flight);
        let done = move |tickets: &mut Vec<DeliveryId>, outcome: Result<(), &CommitError>| {
            settling.settle(tickets, outcome);
        };
        let writer = JournalWriter::start(&self.name, journal, AfterFailure::Pause, done)
            .map_err(|error| SinkError::unavailable("cannot start a thread").caused_by(error))?;
        self.previous = Some(writer.ended());
        let ended = writer.ended();
        let writer = Arc::new(writer);
        let producer = FileProducer {
            writer: Arc::clone(&writer),
            in_flight: Arc::clone(&in_flight),
            stems: self.journal.stems.clone(),
            format: self.format,
            partitions: self.partitions,
        };
        Ok((Box::new(producer), Box::new(FileAcks { writer, in_flight, ended })))
    }

    async fn claim(&mut self, at_least: usize) -> Result<Option<Held>, SinkError> {
        // All that are recorded: an event that another replica had in the meantime may be older than the last ones.
        let most = at_least.max(self.journal.ids);
        let ids = journal::recorded_ids(Arc::clone(&self.disk), self.journal.clone(), most).await;
        Ok(Some(Held { ids: ids.map_err(|error| SinkError::from(&error))? }))
    }

    async fn probe(&mut self) -> Result<Vec<Finding>, SinkError> {
        check::check(&self.journal).await
    }

    async fn read_back(&mut self, from: Option<Position>, records: RecordSender) -> Result<(), SinkError> {
        match self.format {
            Format::Body => read_lines(self.journal.clone(), from, records).await,
            Format::Envelope => Err(SinkError::misconfigured(format!(
                "files of envelopes can't be read back: set {}.format to \"body\"",
                self.journal.section
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
