//! A topic of Apache Kafka, by librdkafka: idempotent, all in-sync replicas, nothing ever given up.
//!
//! One client per opening, and a few where the brokers are far away (`distance.rs`). A client rides out an
//! outage by itself and in order, so that no record is written twice; what it can't ride out (a fatal error,
//! a record that is refused) ends the opening, but only after every report is in: what is durable is known by
//! then, and the rest comes back in order. `gapless` sees to it that nothing behind a record that failed
//! becomes durable before it is submitted again (I3).
//!
//! It is ready while the leaders of the topic's partitions answer (`look.rs`, `watch.rs`); why they do not is found
//! out with a connection of the sink's own (`diagnosis.rs`). A refusal of a batch is none of each event (`doubt.rs`).
//!
//! The brokers refuse a batch as a whole when it is larger than the topic allows. The next opening then
//! makes batches half as large; a record larger than a batch travels alone, so a refusal names it.

mod check;
mod client;
pub mod config;
mod context;
mod diagnosis;
mod distance;
mod doubt;
mod facts;
mod greeting;
mod halves;
mod judge;
mod living;
mod look;
mod memory;
mod names;
mod opening;
mod outbox;
mod probe;
mod properties;
mod reminder;
mod rights;
mod roots;
mod throttle;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::config::{KafkaConfig, KafkaSettings};
use self::facts::Facts;
use self::halves::{KafkaSubmit, KafkaVerdicts};
use self::look::Topic;
use self::memory::Memory;
use self::names::Names;
use self::opening::{Ended, Opened, Parts};
use self::outbox::Outbox;
use super::kind::{Destination, Findings, SinkFactory, SinkKind, Surroundings};
use super::{Sink, SinkContext, SinkError, Submit, Verdicts};

/// `kind = "kafka"`.
pub struct KafkaKind;

impl SinkKind for KafkaKind {
    const NAME: &'static str = "kafka";

    type Config = KafkaConfig;

    fn check(
        config: KafkaConfig,
        surroundings: &Surroundings,
        findings: &mut Findings,
    ) -> Option<Arc<dyn SinkFactory>> {
        let settings = config::check(&config, surroundings, findings)?;
        Some(Arc::new(settings))
    }
}

impl SinkFactory for KafkaSettings {
    fn build(&self, context: SinkContext) -> Box<dyn Sink> {
        Box::new(KafkaSink::new(self.clone(), context))
    }

    fn destination(&self) -> Option<Destination> {
        Some(Destination { place: self.place(), option: "topic" })
    }

    fn keeps(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

/// How long [`wait_for_clients`] waits at most: as long as a question to brokers that do not answer, and as
/// Kubernetes leaves after a drain.
const ENDING: Duration = Duration::from_secs(5);

/// Waits until the clients of all sinks that were dropped are gone, for five seconds at most: a process that ends
/// while librdkafka's threads still run may end by a signal. Blocks.
pub fn wait_for_clients() {
    if !living::THREADS.wait_for_all(ENDING) {
        tracing::warn!("a client of Kafka does not end; going on without waiting for it");
    }
}

/// The Kafka sink.
pub struct KafkaSink {
    settings: Arc<KafkaSettings>,
    context: Arc<SinkContext>,
    names: Names,
    memory: Memory,
    previous: Option<Ended>,
}

impl KafkaSink {
    /// Touches nothing yet.
    pub fn new(settings: KafkaSettings, context: SinkContext) -> Self {
        let memory = Memory::new(settings.client.batch_bytes());
        let context = Arc::new(context);
        let names = Names::new(&context, &settings.topic, &settings.user);
        Self { settings: Arc::new(settings), context, names, memory, previous: None }
    }

    fn outbox(&self) -> Arc<Outbox> {
        let linger = self.settings.client.linger();
        Arc::new(Outbox::new(self.memory.carried(), self.memory.distance().gathering(linger)))
    }

    /// New clients, once those before are gone: there are never those of two openings.
    async fn connect(&mut self, outbox: &Arc<Outbox>) -> Result<Opened, SinkError> {
        if let Some(previous) = &mut self.previous {
            previous.wait().await;
        }
        let parts = Parts {
            sink: &self.context.sink,
            client_id: &self.context.connection_id,
            names: &self.names,
            settings: &self.settings,
            memory: &self.memory,
            outbox,
        };
        opening::open(parts, &mut self.previous).await
    }
}

impl KafkaSink {
    /// Warns of what is worth a change.
    fn tell(&self, facts: &Facts, topic: &Topic) {
        let sent = self.settings.client.record_bytes();
        let warnings = facts.warnings(topic, &self.names, sent, self.context.max_body);
        for warning in self.memory.news(&warnings) {
            tracing::warn!(sink = self.context.sink, "{warning}");
        }
    }
}

#[async_trait]
impl Sink for KafkaSink {
    fn keeps_order(&self) -> bool {
        true
    }

    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        let mut outbox = self.outbox();
        let mut opened = self.connect(&outbox).await?;
        if self.memory.learn_distance(&opened.topic, self.settings.client.linger()) {
            drop(opened);
            outbox = self.outbox();
            opened = self.connect(&outbox).await?;
        }
        let Opened { running, topic, ended } = opened;
        self.tell(&Facts::of(&self.settings, &self.memory).await, &topic);
        self.memory.opened();
        let submit = KafkaSubmit {
            running: Some(running),
            outbox: Arc::clone(&outbox),
            context: Arc::clone(&self.context),
            names: self.names.clone(),
            partitions: topic.partitions,
            record_bytes: self.settings.client.record_bytes(),
            memory: self.memory.clone(),
            ended,
        };
        Ok((Box::new(submit), Box::new(KafkaVerdicts { outbox, memory: self.memory.clone() })))
    }

    async fn probe(&mut self) -> Result<Vec<String>, SinkError> {
        let outbox = Arc::new(Outbox::new(None, None));
        let opened = self.connect(&outbox).await?;
        if let Some(trouble) = outbox.trouble() {
            return Err(trouble);
        }
        let facts = Facts::of(&self.settings, &self.memory).await;
        let topic = opened.topic.clone();
        drop(opened);
        Ok(probe::lines(&self.settings, &self.names, &topic, &facts, self.context.max_body))
    }
}

#[cfg(test)]
mod tests;
