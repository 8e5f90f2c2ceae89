//! Writes events to a topic of Apache Kafka through librdkafka: idempotently, acknowledged by all in-sync
//! replicas, and never given up.
//!
//! A connection of the sink has one client, or a few where the brokers are far away (`latency.rs`). A client
//! survives an outage by itself and keeps the order, so no record is written twice. An error that the client
//! can't survive (a fatal error, a refused record) ends the connection, but only after every delivery report
//! has arrived. By then it is known which records are durable, and the worker submits the rest again in
//! order. `enable.gapless.guarantee` and `first_records.rs` ensure that no record behind a failed one becomes
//! durable before the failed one is submitted again (I3).
//!
//! The sink is ready while the leaders of the topic's partitions answer (`topic_lookup.rs`,
//! `topic_monitor.rs`). If they do not answer, the sink finds the cause with a connection of its own
//! (`diagnosis.rs`). A refusal of a batch is not a refusal of each event in it (`batch_refusal.rs`).
//!
//! The brokers refuse a whole batch when it is larger than the topic allows. The next connection then makes
//! batches half as large. A record larger than a batch travels alone, so a refusal of it is about this
//! record.

mod acks;
mod address_check;
mod batch_refusal;
mod broker_address;
mod broker_health;
mod broker_refresh;
mod check;
mod claim;
mod classify;
mod client;
mod client_error;
mod client_threads;
mod commit_gate;
pub mod config;
mod connection;
mod credential_files;
mod delivery_reports;
mod diagnosis;
#[cfg(test)]
mod diagnosis_tests;
mod first_records;
mod handshake;
mod in_flight;
mod latency;
mod low_water;
mod low_water_commits;
mod low_water_marks;
mod names;
mod permissions;
mod producer;
mod properties;
mod read_back;
mod reconnect_state;
mod records;
mod running_clients;
pub mod settings;
mod tail;
mod tail_end;
mod throttle;
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod timed_waits;
mod topic;
mod topic_lookup;
mod topic_monitor;
mod topic_settings;
mod transaction_errors;
mod transactions;
pub mod validate;
mod visibility;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use self::acks::KafkaAcks;
use self::batch_refusal::BatchRefusals;
use self::client_threads::{THREADS, ThreadGroup};
use self::commit_gate::CommitGate;
use self::config::KafkaConfig;
use self::credential_files::CredentialFiles;
use self::diagnosis::Diagnosis;
use self::in_flight::KafkaInFlight;
use self::latency::LatencyTuning;
use self::low_water_commits::LowWaterCommits;
use self::names::Names;
use self::producer::KafkaProducer;
use self::reconnect_state::ReconnectState;
use self::settings::KafkaSettings;
use self::topic::Topic;
use self::topic_monitor::Access;
use self::topic_settings::TopicSettings;
use super::claim_failures::ClaimFailures;
use super::factory::{BuildContext, Diagnostics, SinkDestination, SinkFactory, SinkKind};
use super::{Held, Position, RecordSender, Sink, SinkContext, SinkError, Submit, Verdicts};
use crate::finding::Finding;

/// The longest that the end of the process waits for clients: as long as a request to brokers that do not
/// answer, and as long as Kubernetes leaves after a drain.
const LONGEST_END: Duration = Duration::from_secs(5);

/// After this time the same warnings are logged again, and the settings of the topic are read again.
const AGAIN: Duration = Duration::from_secs(600);

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
    /// The settings for the latency of the brokers, as far as it is known.
    tuning: LatencyTuning,
    /// The topic's settings, and when they were read.
    topic_settings: Option<(TopicSettings, Instant)>,
    /// The last warnings about the topic's settings, and when they were logged.
    warned: Option<(Vec<Finding>, Instant)>,
    /// The threads of the current or the last connection.
    threads: ThreadGroup,
    /// The number of partitions of the open topic.
    partitions: Option<NonZeroU32>,
    claim_failures: ClaimFailures,
    /// Runs from the first claim until the sink is dropped.
    low_water_commits: Option<LowWaterCommits>,
    /// The gate of the current or the last connection; `None` without transactions.
    gate: Option<Arc<CommitGate>>,
}

impl KafkaSink {
    /// Makes the sink from checked settings; opens no connection and starts no thread.
    pub fn new(settings: KafkaSettings, context: SinkContext) -> Self {
        let reconnect_state = ReconnectState::new(settings.client.batch_bytes());
        let context = Arc::new(context);
        let names = Names::new(&context, &settings.topic, &settings.user);
        Self {
            settings: Arc::new(settings),
            context,
            names,
            reconnect_state,
            tuning: LatencyTuning::LOCAL,
            topic_settings: None,
            warned: None,
            threads: ThreadGroup::default(),
            partitions: None,
            claim_failures: ClaimFailures::default(),
            low_water_commits: None,
            gate: None,
        }
    }

    fn in_flight(&self) -> Arc<KafkaInFlight> {
        // Transactions are waves of their own.
        let is_in_waves = !self.settings.exactly_once;
        let gathering = self.tuning.gathering(self.settings.client.linger()).filter(|_| is_in_waves);
        Arc::new(KafkaInFlight::new(self.reconnect_state.last_fatal_error(), gathering))
    }

    /// How many clients share the partitions. Two with the same transactional id would end each other.
    fn clients(&self) -> u32 {
        if self.settings.exactly_once { 1 } else { self.tuning.clients }
    }

    /// Adapts to the round trip to the brokers. Returns whether the connection must be replaced by one with
    /// other settings. If the user has set `linger.ms`, the sink does not choose how long records are collected.
    fn learn_latency(&mut self, topic: &Topic) -> bool {
        let linger = self.settings.client.linger();
        let mut tuning = self.tuning.after(topic.round_trip, topic.partitions);
        if linger.is_some() {
            tuning.linger = self.tuning.linger;
        }
        let changes = tuning != self.tuning;
        if changes {
            self.tuning = tuning;
            let (away, clients, requests) = (topic.round_trip.as_millis(), self.clients(), tuning.requests);
            let gathered = linger.unwrap_or(tuning.linger).as_millis();
            tracing::info!(
                "Kafka is {away} ms away and back: clients={clients}, requests in flight={requests}, gathering for \
                 {gathered} ms"
            );
        }
        changes
    }

    /// Returns the settings of the topic. Asks the brokers, unless they were asked a short time ago. Keeps
    /// also the result that nobody answered, because some clusters never answer this request.
    async fn topic_settings(&mut self) -> TopicSettings {
        if let Some((known, at)) = &self.topic_settings
            && at.elapsed() < AGAIN
        {
            return known.clone();
        }
        let settings = TopicSettings::ask(&self.settings).await;
        self.topic_settings = Some((settings.clone(), Instant::now()));
        settings
    }

    async fn is_group_refused(&self) -> bool {
        let KafkaSettings { client, optional_answer_within, .. } = &*self.settings;
        let config = client.config(&self.context.connection_id, client.batch_bytes(), Duration::ZERO);
        let thread = THREADS.one_more(&self.threads);
        check::is_group_refused(thread, config, &self.names, *optional_answer_within).await
    }

    /// Tries whether the brokers allow transactions. Without `exactly_once` it asks nothing.
    async fn try_transactions(&self) -> Result<(), SinkError> {
        if !self.settings.exactly_once {
            return Ok(());
        }
        let client = &self.settings.client;
        let config = client.config(&self.context.connection_id, client.batch_bytes(), Duration::ZERO);
        check::try_transactions(THREADS.one_more(&self.threads), config, &self.names).await
    }

    /// Logs warnings about settings that should change, unless the same ones were logged a short time ago.
    fn log_warnings(&mut self, topic_settings: &TopicSettings, topic: &Topic) {
        let sent = self.settings.client.record_bytes();
        let warnings = topic_settings.warnings(topic, &self.names, sent, self.context.max_body);
        if self.warned.as_ref().is_some_and(|(known, at)| *known == warnings && at.elapsed() < AGAIN) {
            return;
        }
        for warning in &warnings {
            tracing::warn!(sink = self.context.sink, "{}", warning.message);
        }
        self.warned = Some((warnings, Instant::now()));
    }
}

#[async_trait]
impl Sink for KafkaSink {
    fn keeps_order(&self) -> bool {
        true
    }

    fn takes_over(&self) -> bool {
        self.settings.exactly_once
    }

    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        let credentials = CredentialFiles::read(&self.settings).await?;
        let mut in_flight = self.in_flight();
        let mut opened = self.connect(&in_flight, Access::Write).await?;
        if self.learn_latency(&opened.topic) {
            drop(opened);
            in_flight = self.in_flight();
            opened = self.connect(&in_flight, Access::Write).await?;
        }
        let topic = opened.topic;
        self.partitions = Some(topic.partitions);
        self.gate.clone_from(&opened.running.gate);
        let topic_settings = self.topic_settings().await;
        self.log_warnings(&topic_settings, &topic);
        self.reconnect_state.with_refusals(BatchRefusals::opened);
        let diagnosis = Diagnosis::new(Arc::clone(&self.settings), self.names.clone());
        tokio::spawn(async move { diagnosis.see_certificates().await });
        tokio::spawn(credentials.watch(Arc::downgrade(&in_flight)));
        let submit = KafkaProducer {
            running: Some(opened.running),
            in_flight: Arc::clone(&in_flight),
            records: self.records(&in_flight),
            partitions: topic.partitions,
            reconnect_state: self.reconnect_state.clone(),
            threads: self.threads.clone(),
        };
        Ok((
            Box::new(submit),
            Box::new(KafkaAcks { in_flight, reconnect_state: self.reconnect_state.clone() }),
        ))
    }

    async fn claim(&mut self, at_least: usize) -> Result<Option<Held>, SinkError> {
        self.fence().await?;
        match self.partitions {
            Some(partitions) => self.held(partitions, at_least).await,
            None => Ok(None),
        }
    }

    async fn probe(&mut self) -> Result<Vec<Finding>, SinkError> {
        let in_flight = Arc::new(KafkaInFlight::new(None, None));
        let diagnosis = Diagnosis::new(Arc::clone(&self.settings), self.names.clone());
        // A certificate that expires soon is also told where something else is wrong.
        let (opened, ()) =
            tokio::join!(self.connect(&in_flight, Access::Write), diagnosis.see_certificates());
        let opened = opened?;
        if let Some(error) = in_flight.health_error() {
            return Err(error);
        }
        let topic_settings = self.topic_settings().await;
        let topic = opened.topic.clone();
        drop(opened);
        let (settings, names, max_body) = (&self.settings, &self.names, self.context.max_body);
        if let Some(error) = check::refusal(settings, names, &topic, &topic_settings) {
            return Err(error);
        }
        self.try_transactions().await?;
        let is_group_refused = self.is_group_refused().await;
        let of_addresses = address_check::findings(settings, names, &topic, &diagnosis).await;
        let mut found = check::findings(settings, names, &topic, &topic_settings, max_body, is_group_refused);
        found.extend(of_addresses);
        Ok(found)
    }

    async fn read_back(&mut self, from: Option<Position>, records: RecordSender) -> Result<(), SinkError> {
        self.read_topic(from, records).await
    }
}
