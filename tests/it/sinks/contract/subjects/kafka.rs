//! Topics of Kafka as destinations.

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use atdata_bridge::diagnostics::Diagnostics;
use atdata_bridge::sink::Sink;
use atdata_bridge::sink::factory::BuildContext;
use atdata_bridge::sink::kafka::KafkaSink;
use atdata_bridge::sink::kafka::config::KafkaConfig;
use atdata_bridge::sink::kafka::settings::KafkaSettings;
use atdata_bridge::sink::kafka::validate::check;
use tokio::sync::Mutex as AsyncMutex;

use super::{Subject, context};
use kit::any_kafka::Mock;
use kit::kafka::Kafka;
use kit::kafka_reader::contents;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outage {
    /// SIGKILL, then a new process on the same store.
    Kill,
    /// SIGSTOP: connections stay open.
    Freeze,
}

/// A topic of a real Kafka. All topics share two servers. On each of them they take turns, because each one
/// makes its server unavailable.
pub struct Topic {
    kafka: &'static Kafka,
    _turn: tokio::sync::MutexGuard<'static, ()>,
    topic: String,
    outage: Outage,
    exactly_once: bool,
    away: Mutex<bool>,
}

static KAFKA: [OnceLock<Kafka>; 2] = [OnceLock::new(), OnceLock::new()];
static TURN: [AsyncMutex<()>; 2] = [AsyncMutex::const_new(()), AsyncMutex::const_new(())];

impl Topic {
    /// Makes a topic whose server is killed.
    pub async fn killed() -> Self {
        Self::new(Outage::Kill, false).await
    }

    /// Makes a topic whose server is frozen.
    pub async fn frozen() -> Self {
        Self::new(Outage::Freeze, false).await
    }

    /// Makes a topic whose server is killed, for a sink that writes in transactions.
    pub async fn killed_exactly_once() -> Self {
        Self::new(Outage::Kill, true).await
    }

    /// Makes a topic whose server is frozen, for a sink that writes in transactions.
    pub async fn frozen_exactly_once() -> Self {
        Self::new(Outage::Freeze, true).await
    }

    async fn new(outage: Outage, exactly_once: bool) -> Self {
        let (server, turn) = tokio::select! {
            biased;
            turn = TURN[0].lock() => (&KAFKA[0], turn),
            turn = TURN[1].lock() => (&KAFKA[1], turn),
        };
        let kafka = tokio::task::block_in_place(|| server.get_or_init(Kafka::start));
        let topic = (0..).map(|n| format!("contract-{n}")).find(|topic| kafka.partitions(topic).is_none());
        let topic = topic.expect("a name that is free");
        kafka.create_topic(&topic, 6, &[]);
        Self { kafka, _turn: turn, topic, outage, exactly_once, away: Mutex::new(false) }
    }

    fn set_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
        tokio::task::block_in_place(|| match (self.outage, away) {
            (Outage::Kill, true) => self.kafka.kill(),
            (Outage::Kill, false) => self.kafka.restart(),
            (Outage::Freeze, true) => self.kafka.freeze(),
            (Outage::Freeze, false) => self.kafka.thaw(),
        });
    }
}

impl Drop for Topic {
    /// Brings the server back for the next topic, even if the test failed.
    fn drop(&mut self) {
        if *self.away.lock().unwrap() {
            self.set_away(false);
        }
    }
}

fn settings(bootstrap: String, topic: &str, exactly_once: bool) -> KafkaSettings {
    let (brokers, topic) = (Some(vec![bootstrap]), Some(topic.to_owned()));
    let config = KafkaConfig { brokers, topic, exactly_once, ..KafkaConfig::default() };
    let build_context = BuildContext {
        partitions: context().partitions,
        prefetch: 4096,
        is_strict: true,
        is_for_dead_letters: false,
    };
    let mut diagnostics = Diagnostics::default();
    let settings = check(&config, &build_context, &mut diagnostics);
    settings.unwrap_or_else(|| panic!("{:?}", diagnostics.problems()))
}

fn numbers(bootstrap: &str, topic: &str) -> Vec<u64> {
    let records = tokio::task::block_in_place(|| contents(bootstrap, topic));
    let number = |value: Option<Vec<u8>>| {
        let body: serde_json::Value = serde_json::from_slice(&value.expect("a value")).expect("JSON");
        body["n"].as_u64().expect("a number")
    };
    records.into_iter().map(|record| number(record.value)).collect()
}

#[async_trait]
impl Subject for Topic {
    fn sink(&self) -> Box<dyn Sink> {
        let settings = settings(self.kafka.bootstrap(), &self.topic, self.exactly_once);
        Box::new(KafkaSink::new(settings, context()))
    }

    fn is_exactly_once(&self) -> bool {
        self.exactly_once
    }

    async fn fail(&self) {
        self.set_away(true);
    }

    async fn heal(&self) {
        self.set_away(false);
    }

    async fn contents(&self) -> Vec<u64> {
        numbers(&self.kafka.bootstrap(), &self.topic)
    }
}

/// A topic of the mock cluster, for machines without Kafka.
pub struct MockTopic(Mock);

impl MockTopic {
    const NAME: &str = "contract";

    pub fn new() -> Self {
        let mock = Mock::start();
        mock.create_topic(Self::NAME, 6);
        Self(mock)
    }
}

#[async_trait]
impl Subject for MockTopic {
    fn sink(&self) -> Box<dyn Sink> {
        let mut settings = settings(self.0.bootstrap(), Self::NAME, false);
        // The mock cluster does not answer these requests.
        settings.optional_answer_within = Duration::from_millis(50);
        Box::new(KafkaSink::new(settings, context()))
    }

    async fn fail(&self) {
        unreachable!("no promise that needs an outage is tested here");
    }

    async fn heal(&self) {
        unreachable!("no promise that needs an outage is tested here");
    }

    async fn contents(&self) -> Vec<u64> {
        numbers(&self.0.bootstrap(), Self::NAME)
    }
}
