//! Writes events to a topic of Apache Kafka through librdkafka: idempotently, acknowledged by all in-sync
//! replicas, and never given up.
//!
//! A connection of the sink has one client, or a few where the brokers are far away (`latency.rs`). A client
//! survives an outage by itself and keeps the order, so no record is written twice. An error that the client
//! can't survive (a fatal error, a refused record) ends the connection, but only after every delivery report
//! has arrived. By then it is known which records are durable, and the worker submits the rest again in
//! order. `enable.gapless.guarantee` ensures that no record behind a failed one becomes durable before the
//! failed one is submitted again (I3).
//!
//! The sink is ready while the leaders of the topic's partitions answer (`topic_lookup.rs`,
//! `topic_monitor.rs`). If they do not answer, the sink finds the cause with a connection of its own
//! (`diagnosis.rs`). A refusal of a batch is not a refusal of each event in it (`batch_refusal.rs`).
//!
//! The brokers refuse a whole batch when it is larger than the topic allows. The next connection then makes
//! batches half as large. A record larger than a batch travels alone, so a refusal of it is about this
//! record.

mod acks;
mod batch_refusal;
mod broker_address;
mod broker_refresh;
mod check;
mod classify;
mod client;
mod client_error;
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
mod running_clients;
pub mod settings;
mod throttle;
mod topic;
mod topic_lookup;
mod topic_monitor;
mod topic_settings;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::acks::KafkaAcks;
use self::batch_refusal::BatchRefusals;
use self::client_threads::{THREADS, ThreadGroup};
use self::config::KafkaConfig;
use self::in_flight::KafkaInFlight;
use self::names::Names;
use self::producer::KafkaProducer;
use self::reconnect_state::ReconnectState;
use self::settings::KafkaSettings;
use self::topic::Topic;
use self::topic_settings::TopicSettings;
use super::factory::{BuildContext, Diagnostics, SinkDestination, SinkFactory, SinkKind};
use super::{Sink, SinkContext, SinkError, Submit, Verdicts};

/// The longest that the end of the process waits for clients: as long as a request to brokers that do not
/// answer, and as long as Kubernetes leaves after a drain.
const LONGEST_END: Duration = Duration::from_secs(5);

/// The kind of sink that a table with `kind = "kafka"` names.
pub struct KafkaKind;

impl SinkKind for KafkaKind {
    const NAME: &'static str = "kafka";

    type Config = KafkaConfig;

    fn check(
        config: KafkaConfig,
        context: &BuildContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn SinkFactory>> {
        let settings = validate::check(&config, context, diagnostics)?;
        Some(Arc::new(settings))
    }

    /// A process that ends while librdkafka's threads still run may end by a signal.
    fn wait_before_exit() {
        if !THREADS.wait_for_all(LONGEST_END) {
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

/// A sink that writes events to one topic of Kafka.
pub struct KafkaSink {
    settings: Arc<KafkaSettings>,
    context: Arc<SinkContext>,
    names: Names,
    reconnect_state: ReconnectState,
    /// The threads of the current or the last connection.
    threads: ThreadGroup,
}

impl KafkaSink {
    /// Makes the sink from checked settings; opens no connection and starts no thread.
    pub fn new(settings: KafkaSettings, context: SinkContext) -> Self {
        let reconnect_state = ReconnectState::new(settings.client.batch_bytes());
        let context = Arc::new(context);
        let names = Names::new(&context, &settings.topic, &settings.user);
        let threads = ThreadGroup::default();
        Self { settings: Arc::new(settings), context, names, reconnect_state, threads }
    }

    fn in_flight(&self) -> Arc<KafkaInFlight> {
        let linger = self.settings.client.linger();
        Arc::new(KafkaInFlight::new(
            self.reconnect_state.last_fatal_error(),
            self.reconnect_state.latency_tuning().gathering(linger),
        ))
    }

    /// Returns the settings of the topic. Asks the brokers, unless they were asked a short time ago. Keeps
    /// also the result that nobody answered, because some clusters never answer this request.
    async fn topic_settings(&self) -> TopicSettings {
        if let Some(known) = self.reconnect_state.topic_settings() {
            return known;
        }
        let settings = TopicSettings::ask(&self.settings).await;
        self.reconnect_state.learn_topic_settings(settings.clone());
        settings
    }

    /// Logs warnings about settings that should change.
    fn log_warnings(&self, topic_settings: &TopicSettings, topic: &Topic) {
        let sent = self.settings.client.record_bytes();
        let warnings = topic_settings.warnings(topic, &self.names, sent, self.context.max_body);
        for warning in self.reconnect_state.news(&warnings) {
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
        let mut in_flight = self.in_flight();
        let mut opened = self.connect(&in_flight).await?;
        if self.reconnect_state.learn_latency(
            opened.topic.round_trip,
            opened.topic.partitions,
            self.settings.client.linger(),
        ) {
            drop(opened);
            in_flight = self.in_flight();
            opened = self.connect(&in_flight).await?;
        }
        let topic = opened.topic;
        self.log_warnings(&self.topic_settings().await, &topic);
        self.reconnect_state.with_refusals(BatchRefusals::opened);
        let submit = KafkaProducer {
            running: Some(opened.running),
            in_flight: Arc::clone(&in_flight),
            context: Arc::clone(&self.context),
            names: self.names.clone(),
            partitions: topic.partitions,
            record_bytes: self.settings.client.record_bytes(),
            reconnect_state: self.reconnect_state.clone(),
            threads: self.threads.clone(),
        };
        Ok((
            Box::new(submit),
            Box::new(KafkaAcks { in_flight, reconnect_state: self.reconnect_state.clone() }),
        ))
    }

    async fn probe(&mut self) -> Result<Vec<String>, SinkError> {
        let in_flight = Arc::new(KafkaInFlight::new(None, None));
        let opened = self.connect(&in_flight).await?;
        if let Some(error) = in_flight.health_error() {
            return Err(error);
        }
        let topic_settings = self.topic_settings().await;
        let topic = opened.topic.clone();
        drop(opened);
        Ok(check::lines(&self.settings, &self.names, &topic, &topic_settings, self.context.max_body))
    }
}
