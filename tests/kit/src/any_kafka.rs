//! Provides Kafka for tests that only need topics: a real server, or librdkafka's mock cluster if none is
//! available.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Once, OnceLock};
use std::thread;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::kafka::{Kafka, directory};
use super::stands_in;

/// A real Kafka or a mock cluster.
pub enum AnyKafka {
    Real(Kafka),
    Mock(Mock),
}

static SHARED: OnceLock<AnyKafka> = OnceLock::new();

/// The Kafka that tests share. Each test uses its own topics. The first call starts it.
pub fn shared() -> &'static AnyKafka {
    SHARED.get_or_init(AnyKafka::start)
}

/// The shared Kafka, if a test has started it.
pub fn shared_if_started() -> Option<&'static AnyKafka> {
    SHARED.get()
}

impl AnyKafka {
    /// Starts a real server, or the mock cluster if there is none; that is printed once per run.
    pub fn start() -> Self {
        static SAID: Once = Once::new();
        match directory() {
            Ok(_) => Self::Real(Kafka::start()),
            Err(reason) => {
                SAID.call_once_force(|_| stands_in("librdkafka's mock cluster", &reason));
                Self::Mock(Mock::start())
            }
        }
    }

    /// The value of `bootstrap.servers` for clients.
    pub fn bootstrap(&self) -> String {
        match self {
            Self::Real(kafka) => kafka.bootstrap(),
            Self::Mock(mock) => mock.bootstrap(),
        }
    }

    pub fn create_topic(&self, topic: &str, partitions: u32) {
        match self {
            Self::Real(kafka) => kafka.create_topic(topic, partitions, &[]),
            Self::Mock(mock) => mock.create_topic(topic, partitions),
        }
    }
}

/// librdkafka's mock cluster with one broker, in its own thread; ends when dropped.
///
/// It keeps only 5 MB per partition, and it stores a batch again if a client repeats it. The number of
/// duplicates after an outage therefore says nothing about a real Kafka.
pub struct Mock {
    bootstrap: String,
    topics: SyncSender<NewTopic>,
}

/// The name, the number of partitions, and the channel to confirm that the topic exists.
type NewTopic = (String, i32, SyncSender<()>);

impl Mock {
    /// Starts the mock cluster on a free loopback port.
    pub fn start() -> Self {
        let (topics, wanted) = sync_channel::<NewTopic>(1);
        let (started, bootstrap) = sync_channel(1);
        // The cluster can be used from one thread only, but each test has its own thread.
        thread::spawn(move || {
            let cluster: MockCluster<'static, DefaultProducerContext> =
                MockCluster::new(1).expect("start librdkafka's mock cluster");
            started.send(cluster.bootstrap_servers()).expect("send the address");
            for (topic, partitions, made) in wanted {
                cluster.create_topic(&topic, partitions, 1).expect("make a topic");
                made.send(()).expect("confirm a topic");
            }
        });
        Self { bootstrap: bootstrap.recv().expect("a mock cluster"), topics }
    }

    /// The value of `bootstrap.servers` for clients.
    pub fn bootstrap(&self) -> String {
        self.bootstrap.clone()
    }

    pub fn create_topic(&self, topic: &str, partitions: u32) {
        let (made, answer) = sync_channel(1);
        let partitions = i32::try_from(partitions).expect("few partitions");
        self.topics.send((topic.to_owned(), partitions, made)).expect("ask for a topic");
        answer.recv().unwrap_or_else(|_| panic!("the mock cluster made no topic {topic}"));
    }
}
