//! Topics of Kafka as destinations.

use std::sync::{Mutex, OnceLock};

use async_trait::async_trait;
use atdata_bridge::diagnostics::Diagnostics;
use atdata_bridge::sink::Sink;
use atdata_bridge::sink::factory::{BuildContext, SinkKind};
use atdata_bridge::sink::kafka::KafkaKind;
use atdata_bridge::sink::kafka::config::KafkaConfig;
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

/// A topic of a real Kafka. All topics share one server and take turns, because each one makes it
/// unavailable.
pub struct Topic {
    kafka: &'static Kafka,
    _turn: tokio::sync::MutexGuard<'static, ()>,
    topic: String,
    outage: Outage,
    away: Mutex<bool>,
}

static KAFKA: OnceLock<Kafka> = OnceLock::new();
static TURN: AsyncMutex<()> = AsyncMutex::const_new(());

impl Topic {
    /// Makes a topic whose server is killed.
    pub async fn killed() -> Self {
        Self::new(Outage::Kill).await
    }

    /// Makes a topic whose server is frozen.
    pub async fn frozen() -> Self {
        Self::new(Outage::Freeze).await
    }

    async fn new(outage: Outage) -> Self {
        let turn = TURN.lock().await;
        let kafka = tokio::task::block_in_place(|| KAFKA.get_or_init(Kafka::start));
        let topic = (0..).map(|n| format!("contract-{n}")).find(|topic| kafka.partitions(topic).is_none());
        let topic = topic.expect("a name that is free");
        kafka.create_topic(&topic, 6, &[]);
        Self { kafka, _turn: turn, topic, outage, away: Mutex::new(false) }
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

fn sink(bootstrap: String, topic: &str) -> Box<dyn Sink> {
    let (brokers, topic) = (Some(vec![bootstrap]), Some(topic.to_owned()));
    let config = KafkaConfig { brokers, topic, ..KafkaConfig::default() };
    let context = context();
    let build_context = BuildContext { partitions: context.partitions, prefetch: 4096 };
    let mut diagnostics = Diagnostics::default();
    let factory = KafkaKind::check(config, &build_context, &mut diagnostics);
    factory.unwrap_or_else(|| panic!("{:?}", diagnostics.problems())).build(context)
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
        sink(self.kafka.bootstrap(), &self.topic)
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
        sink(self.0.bootstrap(), Self::NAME)
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
