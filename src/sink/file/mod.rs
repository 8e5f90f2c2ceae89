//! JSON lines in a directory, each settled only when it is on the disk.
//!
//! Events become lines on the lane's own task (a copy each), gather while the journal's writer writes and syncs
//! the group before, and are durable as a whole group or not at all. So an event is in the files once,
//! whatever the disk does; only the end of the process between sync and acknowledgement makes doubles.

mod acks;
mod check;
pub mod config;
mod in_flight;
mod line;
mod producer;
pub mod settings;
pub mod validate;

use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;

use self::acks::FileAcks;
use self::config::{FileConfig, Format};
use self::in_flight::FileInFlight;
use self::producer::FileProducer;
use self::settings::FileSettings;
use super::factory::{BuildContext, Diagnostics, SinkDestination, SinkFactory, SinkKind};
use super::{DeliveryId, Sink, SinkContext, SinkError, Submit, Verdicts};
use crate::journal::{
    self, AfterFailure, Disk, JournalSettings, JournalWriter, OsDisk, SyncedLengths, WriterEnd,
};

/// `kind = "file"`.
pub struct FileKind;

impl SinkKind for FileKind {
    const NAME: &'static str = "file";

    type Config = FileConfig;

    fn check(
        config: FileConfig,
        surroundings: &BuildContext,
        findings: &mut Diagnostics,
    ) -> Option<Arc<dyn SinkFactory>> {
        if !config.name.contains("{connection_id}") {
            findings.refuse("name", "must hold {connection_id}, so that no two processes write to one file");
        }
        let settings = validate::check(&config, surroundings.partitions, findings)?;
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

/// The file sink.
pub struct FileSink {
    name: String,
    format: Format,
    partitions: Option<NonZeroU32>,
    journal: JournalSettings,
    disk: Arc<dyn Disk>,
    memory: SyncedLengths,
    previous: Option<WriterEnd>,
}

impl FileSink {
    /// Touches nothing yet.
    pub fn new(settings: FileSettings, context: SinkContext) -> Self {
        Self::on(Arc::new(OsDisk), settings, context)
    }

    fn on(disk: Arc<dyn Disk>, settings: FileSettings, context: SinkContext) -> Self {
        // What keeps the dead letters is called so, whatever its table is.
        let section = match context.sink.as_str() {
            "dead-letters" => "dead_letters.<sink>".to_owned(),
            sink => format!("sinks.{sink}"),
        };
        Self {
            name: context.sink,
            format: settings.format,
            partitions: context.partitions,
            journal: JournalSettings {
                section,
                stems: settings.name.bind(&context.connection_id),
                directory: settings.directory,
                compression: settings.compression,
                rotation: settings.rotation,
                max_open: settings.max_open,
                max_total: settings.max_total,
                max_age: settings.max_age,
            },
            disk,
            memory: SyncedLengths::default(),
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
        let journal = journal::open(Arc::clone(&self.disk), self.journal.clone(), self.memory.clone()).await;
        let journal = journal.map_err(|trouble| SinkError::from(&trouble))?;
        let outbox = Arc::new(FileInFlight::default());
        let done = {
            let outbox = Arc::clone(&outbox);
            move |tickets: &mut Vec<DeliveryId>, outcome: Result<(), &journal::CommitError>| {
                outbox.settle(tickets, outcome);
            }
        };
        let writer = JournalWriter::start(&self.name, journal, AfterFailure::Pause, done)
            .map_err(|error| SinkError::unavailable("cannot start a thread").caused_by(error))?;
        self.previous = Some(writer.ended());
        let ended = writer.ended();
        let writer = Arc::new(writer);
        let submit = FileProducer {
            writer: Arc::clone(&writer),
            outbox: Arc::clone(&outbox),
            stems: self.journal.stems.clone(),
            format: self.format,
            partitions: self.partitions,
        };
        Ok((Box::new(submit), Box::new(FileAcks { writer, outbox, ended })))
    }

    async fn probe(&mut self) -> Result<Vec<String>, SinkError> {
        check::check(&self.journal).await
    }
}

#[cfg(test)]
mod tests;
