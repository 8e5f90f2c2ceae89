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

mod acks;
mod batch_refusal;
mod broker_refresh;
mod ca_bundle;
mod check;
mod classify;
mod client;
mod client_threads;
pub mod config;
mod connection;
mod context;
mod diagnosis;
mod handshake;
mod in_flight;
mod latency;
mod names;
mod permissions;
mod producer;
mod properties;
mod reconnect_state;
pub mod settings;
mod throttle;
mod topic;
mod topic_lookup;
mod topic_monitor;
mod topic_settings;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::acks::KafkaAcks;
use self::config::KafkaConfig;
use self::connection::{ClientParts, ClientsEnded, Opened};
use self::in_flight::KafkaInFlight;
use self::names::Names;
use self::producer::KafkaProducer;
use self::reconnect_state::ReconnectState;
use self::settings::KafkaSettings;
use self::topic::Topic;
use self::topic_settings::TopicSettings;
use super::factory::{BuildContext, Diagnostics, SinkDestination, SinkFactory, SinkKind};
use super::{Sink, SinkContext, SinkError, Submit, Verdicts};

/// How long the end of the process waits for clients at most: as long as a question to brokers that do not answer,
/// and as Kubernetes leaves after a drain.
const LONGEST_END: Duration = Duration::from_secs(5);

/// `kind = "kafka"`.
pub struct KafkaKind;

impl SinkKind for KafkaKind {
    const NAME: &'static str = "kafka";

    type Config = KafkaConfig;

    fn check(
        config: KafkaConfig,
        surroundings: &BuildContext,
        findings: &mut Diagnostics,
    ) -> Option<Arc<dyn SinkFactory>> {
        let settings = validate::check(&config, surroundings, findings)?;
        Some(Arc::new(settings))
    }

    /// A process that ends while librdkafka's threads still run may end by a signal.
    fn wait_before_exit() {
        if !client_threads::THREADS.wait_for_all(LONGEST_END) {
            tracing::warn!("a client of Kafka does not end; going on without waiting for it");
        }
    }
}

impl SinkFactory for KafkaSettings {
    fn build(&self, context: SinkContext) -> Box<dyn Sink> {
        Box::new(KafkaSink::new(self.clone(), context))
    }

    fn destination(&self) -> Option<SinkDestination> {
        Some(SinkDestination { place: self.place(), option: "topic" })
    }

    fn keeps(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

/// The Kafka sink.
pub struct KafkaSink {
    settings: Arc<KafkaSettings>,
    context: Arc<SinkContext>,
    names: Names,
    memory: ReconnectState,
    previous: Option<ClientsEnded>,
}

impl KafkaSink {
    /// Touches nothing yet.
    pub fn new(settings: KafkaSettings, context: SinkContext) -> Self {
        let memory = ReconnectState::new(settings.client.batch_bytes());
        let context = Arc::new(context);
        let names = Names::new(&context, &settings.topic, &settings.user);
        Self { settings: Arc::new(settings), context, names, memory, previous: None }
    }

    fn outbox(&self) -> Arc<KafkaInFlight> {
        let linger = self.settings.client.linger();
        Arc::new(KafkaInFlight::new(
            self.memory.last_fatal_error(),
            self.memory.latency_tuning().gathering(linger),
        ))
    }

    /// New clients, once those before are gone: there are never those of two openings.
    async fn connect(&mut self, outbox: &Arc<KafkaInFlight>) -> Result<Opened, SinkError> {
        if let Some(previous) = &mut self.previous {
            previous.wait().await;
        }
        let parts = ClientParts {
            sink: &self.context.sink,
            client_id: &self.context.connection_id,
            names: &self.names,
            settings: &self.settings,
            memory: &self.memory,
            outbox,
        };
        connection::open(parts, &mut self.previous).await
    }
}

impl KafkaSink {
    /// Those of the topic, asked of the brokers unless they were asked a while ago. No answer is remembered as well:
    /// there are clusters that never answer such a thing.
    async fn topic_settings(&self) -> TopicSettings {
        if let Some(known) = self.memory.facts() {
            return known;
        }
        let settings = TopicSettings::ask(&self.settings).await;
        self.memory.learn_facts(settings.clone());
        settings
    }

    /// Warns of what is worth a change.
    fn log_findings(&self, facts: &TopicSettings, topic: &Topic) {
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
        if self.memory.learn_latency(
            opened.topic.round_trip,
            opened.topic.partitions,
            self.settings.client.linger(),
        ) {
            drop(opened);
            outbox = self.outbox();
            opened = self.connect(&outbox).await?;
        }
        let Opened { running, topic, ended } = opened;
        self.log_findings(&self.topic_settings().await, &topic);
        self.memory.opened();
        let submit = KafkaProducer {
            running: Some(running),
            outbox: Arc::clone(&outbox),
            context: Arc::clone(&self.context),
            names: self.names.clone(),
            partitions: topic.partitions,
            record_bytes: self.settings.client.record_bytes(),
            memory: self.memory.clone(),
            ended,
        };
        Ok((Box::new(submit), Box::new(KafkaAcks { outbox, memory: self.memory.clone() })))
    }

    async fn probe(&mut self) -> Result<Vec<String>, SinkError> {
        let outbox = Arc::new(KafkaInFlight::new(None, None));
        let opened = self.connect(&outbox).await?;
        if let Some(trouble) = outbox.health_error() {
            return Err(trouble);
        }
        let facts = self.topic_settings().await;
        let topic = opened.topic.clone();
        drop(opened);
        Ok(check::lines(&self.settings, &self.names, &topic, &facts, self.context.max_body))
    }
}

#[cfg(test)]
mod tests;
