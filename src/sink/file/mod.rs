//! JSON lines in a directory, each settled only when it is on the disk.
//!
//! Events become lines on the lane's own task (a copy each), gather while the journal's writer writes and syncs
//! the group before, and are durable as a whole group or not at all. So an event is in the files once,
//! whatever the disk does; only the end of the process between sync and acknowledgement makes doubles.

pub mod config;
mod in_flight;
mod line;

use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use self::config::{FileConfig, FileSettings, Format};
use self::in_flight::FileInFlight;
use super::factory::{BuildContext, Diagnostics, SinkDestination, SinkFactory, SinkKind};
use super::{Delivery, DeliveryId, Sink, SinkContext, SinkError, Submit, Verdict, Verdicts};
use crate::journal::name::{FileSlot, Stems};
use crate::journal::{
    self, AfterFailure, Disk, JournalSettings, JournalWriter, OsDisk, SyncedLengths, WriterEnd,
};

/// The most deliveries without a verdict; enough for one group to gather while another is synced.
const MAX_DELIVERIES: usize = 4096;
/// The most bytes of lines not yet durable.
const MAX_BYTES: usize = 4 << 20;

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
        let settings = config::check(&config, surroundings.partitions, findings)?;
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
        journal::probe(self.journal.clone()).await.map_err(|trouble| SinkError::from(&trouble))
    }
}

struct FileProducer {
    writer: Arc<JournalWriter<DeliveryId>>,
    outbox: Arc<FileInFlight>,
    stems: Stems,
    format: Format,
    partitions: Option<NonZeroU32>,
}

impl FileProducer {
    fn slot(&self, delivery: &Delivery) -> FileSlot {
        let event = &delivery.event;
        let millis = || event.message.timestamp.unwrap_or_else(|| Timestamp::now().as_millisecond());
        // Without a number of partitions no name has one: the settings were checked.
        let partition = || self.partitions.map_or(0, |partitions| event.key.partition(partitions));
        self.stems.slot(millis, partition)
    }
}

#[async_trait]
impl Submit for FileProducer {
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
        let room = MAX_DELIVERIES.saturating_sub(self.outbox.in_flight());
        let accepted = self.writer.append(|group, writing| {
            let (mut accepted, mut refused) = (0, 0);
            for delivery in deliveries.iter().take(room) {
                let bytes = writing + group.bytes();
                if bytes > 0 && bytes + delivery.event.body().len() > MAX_BYTES {
                    break;
                }
                accepted += 1;
                let write =
                    |lines: &mut Vec<u8>| line::append(lines, &delivery.event, self.format, self.partitions);
                if let Err(rejection) = group.append(self.slot(delivery), delivery.id, write) {
                    refused += 1;
                    self.outbox.refuse(delivery.id, rejection);
                }
            }
            self.outbox.accepted(accepted - refused);
            accepted
        });
        match accepted {
            Some(accepted) => Ok(accepted),
            // Paused, and the verdicts that say so are waiting to be taken; or broken.
            None => self.outbox.broken().map_or(Ok(0), Err),
        }
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        self.writer.drain();
        self.writer.ended().wait().await;
        self.outbox.broken().map_or(Ok(()), Err)
    }
}

struct FileAcks {
    writer: Arc<JournalWriter<DeliveryId>>,
    outbox: Arc<FileInFlight>,
    ended: WriterEnd,
}

#[async_trait]
impl Verdicts for FileAcks {
    async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError> {
        let over = tokio::select! {
            biased;
            () = self.outbox.wait() => false,
            () = self.ended.wait() => true,
        };
        let verdicts = self.outbox.take();
        if verdicts.is_empty() {
            let silent = || SinkError::unavailable("the thread that writes the files has ended");
            debug_assert!(over || self.outbox.broken().is_some());
            return Err(self.outbox.broken().unwrap_or_else(silent));
        }
        if verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Retry(_))) {
            // The lane knows now: what it submits from here on comes after what failed.
            self.writer.resume();
        }
        Ok(verdicts)
    }
}

#[cfg(test)]
mod tests;
