//! Kafka for tests that need no more of it than topics: a real one, or what stands in where there is none.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Once, OnceLock};
use std::thread;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::kafka::{Kafka, directory};
use super::stands_in;

/// Either kind.
pub enum AnyKafka {
    /// The real one.
    Real(Kafka),
    /// The imitation.
    Mock(Mock),
}

static SHARED: OnceLock<AnyKafka> = OnceLock::new();

/// The one that tests share, each with topics of its own; started when first asked for.
pub fn shared() -> &'static AnyKafka {
    SHARED.get_or_init(AnyKafka::start)
}

/// The same, if it was asked for.
pub fn shared_if_started() -> Option<&'static AnyKafka> {
    SHARED.get()
}

impl AnyKafka {
    /// A real server; where it can't be had, the imitation, and the run says so, once.
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

    /// As clients' `bootstrap.servers` wants it.
    pub fn bootstrap(&self) -> String {
        match self {
            Self::Real(kafka) => kafka.bootstrap(),
            Self::Mock(mock) => mock.bootstrap(),
        }
    }

    /// Makes a topic.
    pub fn create_topic(&self, topic: &str, partitions: u32) {
        match self {
            Self::Real(kafka) => kafka.create_topic(topic, partitions, &[]),
            Self::Mock(mock) => mock.create_topic(topic, partitions),
        }
    }
}

/// librdkafka's own imitation of one broker, in a thread of its own; ends when dropped.
///
/// It keeps 5 MB of each partition, and writes a batch again that a client repeats: what an outage of it
/// doubles says nothing about a real one.
pub struct Mock {
    bootstrap: String,
    topics: SyncSender<NewTopic>,
}

/// The name, the number of partitions, and where to say that it is made.
type NewTopic = (String, i32, SyncSender<()>);

impl Mock {
    /// Starts it on a free loopback port.
    pub fn start() -> Self {
        let (topics, wanted) = sync_channel::<NewTopic>(1);
        let (started, bootstrap) = sync_channel(1);
        // The cluster belongs to one thread; the tests that share it have threads of their own.
        thread::spawn(move || {
            let cluster: MockCluster<'static, DefaultProducerContext> =
                MockCluster::new(1).expect("start librdkafka's mock cluster");
            started.send(cluster.bootstrap_servers()).expect("tell where it is");
            for (topic, partitions, made) in wanted {
                cluster.create_topic(&topic, partitions, 1).expect("make a topic");
                made.send(()).expect("tell that a topic is made");
            }
        });
        Self { bootstrap: bootstrap.recv().expect("a mock cluster"), topics }
    }

    /// As clients' `bootstrap.servers` wants it.
    pub fn bootstrap(&self) -> String {
        self.bootstrap.clone()
    }

    /// Makes a topic.
    pub fn create_topic(&self, topic: &str, partitions: u32) {
        let (made, answer) = sync_channel(1);
        let partitions = i32::try_from(partitions).expect("few partitions");
        self.topics.send((topic.to_owned(), partitions, made)).expect("ask for a topic");
        answer.recv().unwrap_or_else(|_| panic!("the mock cluster made no topic {topic}"));
    }
}
