//! Kafka, JetStream and files at once: what a bridge is told of them, and what each of them holds then.

use std::collections::HashMap;
use std::path::Path;

use async_nats::jetstream::{self, stream};

use super::any_kafka::AnyKafka;
use super::bridge::Setup;
use super::broker::{Broker, Protocol, Version};
use super::events::{Events, number_in};
use super::kafka_reader::{Record, each_record};
use super::nats::{NatsServer, read_stream};
use super::output::{Tally, each_line_of, files, open_envelope};

/// As many in the topic, the subjects and the file names, if not said otherwise.
pub const PARTITIONS: u32 = 6;

/// Where the events of one test go: a topic and a stream of its own, on servers that it may share.
pub struct Sinks<'a> {
    pub kafka: &'a AnyKafka,
    pub nats: &'a NatsServer,
    pub jetstream: jetstream::Context,
    /// The namespace at the broker.
    pub namespace: &'a str,
    /// The topic, the stream, the beginning of the subjects, and the connection id: a broker's version is in
    /// it, since both versions' tests share the other servers.
    pub name: String,
}

impl<'a> Sinks<'a> {
    /// Makes the topic and the stream.
    pub async fn make(
        version: Version,
        namespace: &'a str,
        kafka: &'a AnyKafka,
        nats: &'a NatsServer,
    ) -> Sinks<'a> {
        let name = format!("{namespace}-{version:?}");
        kafka.create_topic(&name, PARTITIONS);
        let sinks = Self { kafka, nats, jetstream: nats.jetstream().await, namespace, name };
        sinks.make_stream(|_| {}).await;
        sinks
    }

    /// Makes the stream, `different` from the usual.
    pub async fn make_stream(&self, different: impl FnOnce(&mut stream::Config)) {
        let mut config = self.stream_config();
        different(&mut config);
        self.jetstream.create_stream(config).await.expect("make a stream");
    }

    /// Changes the stream into one that is `different` from the usual.
    pub async fn change_stream(&self, different: impl FnOnce(&mut stream::Config)) {
        let mut config = self.stream_config();
        different(&mut config);
        self.jetstream.update_stream(config).await.expect("change a stream");
    }

    fn stream_config(&self) -> stream::Config {
        stream::Config {
            name: self.name.clone(),
            subjects: vec![format!("{}.>", self.name)],
            discard: stream::DiscardPolicy::New,
            ..stream::Config::default()
        }
    }

    /// How many messages the stream holds.
    pub async fn stream_len(&self) -> u64 {
        let mut stream = self.jetstream.get_stream(&self.name).await.expect("find a stream");
        stream.info().await.expect("look at a stream").state.messages
    }

    /// The queue at the broker.
    pub fn queue(&self) -> String {
        format!("main.RTO.{}", self.namespace)
    }

    /// A bridge from the queue into all three, with the partition wherever it can be.
    pub fn setup(&self, broker: &Broker, protocol: Protocol) -> Setup {
        Setup::new(broker, protocol, self.namespace, "main", &self.name)
            .set("EVENT__PARTITIONS", PARTITIONS.to_string())
            .set("SINKS__KAFKA__BROKERS", self.kafka.bootstrap())
            .set("SINKS__KAFKA__TOPIC", &self.name)
            .set("SINKS__NATS__URL", self.nats.url())
            .set("SINKS__NATS__STREAM", &self.name)
            .set("SINKS__NATS__SUBJECT", format!("{}.{{partition}}.{{key}}", self.name))
            .set("SINKS__FILE__NAME", "{connection_id}-{partition}")
            .set("SINKS__FILE__FORMAT", "envelope")
    }

    /// What the topic holds now; blocks.
    pub fn topic(&self, events: Events) -> Held {
        let mut held = Held::new(events);
        each_record(&self.kafka.bootstrap(), &self.name, |record| {
            self.check_headers(|name| record.header(name).map(str::to_owned));
            let Record { key, value, partition, .. } = &record;
            let (key, body) = (text(key.as_deref()), text(value.as_deref()));
            held.add(record.header(MESSAGE_ID).expect("a message id"), key, *partition, body);
        });
        held
    }

    /// What the stream holds now.
    pub async fn stream(&self, events: Events) -> Held {
        let mut held = Held::new(events);
        for message in read_stream(&self.jetstream, &self.name).await {
            let headers = message.headers.as_ref().expect("headers");
            let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
            self.check_headers(header);
            let subject = message.subject.strip_prefix(&format!("{}.", self.name)).expect("our subject");
            let (partition, key) = subject.split_once('.').expect("a partition and a key");
            let id = header(MESSAGE_ID).expect("a message id");
            assert_eq!(header("Nats-Msg-Id").as_deref(), Some(id.as_str()));
            held.add(&id, key, partition.parse().expect("a partition"), text(Some(&message.payload)));
        }
        held
    }

    /// What the files hold now.
    pub fn files(&self, events: Events, directory: &Path) -> Held {
        let mut held = Held::new(events);
        for path in files(directory) {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            each_line_of(&path, |line| {
                let Some((id, key, partition, body)) = open_envelope(line) else { panic!("{line}") };
                assert!(name.starts_with(&format!("{}-{partition}-", self.name)), "{name} has {line}");
                held.add(id, key, partition.parse().expect("a partition"), body);
            });
        }
        held
    }

    /// Every good event is in each of the three, unchanged, under its key, in the same partition, in the
    /// order of its key, and at most `doubles` are twice in Kafka, in the stream, in the files. Returns what
    /// is in Kafka.
    pub async fn assert_complete(&self, events: Events, setup: &Setup, doubles: [u64; 3]) -> Held {
        let kafka = tokio::task::block_in_place(|| self.topic(events));
        let (stream, files) = (self.stream(events).await, self.files(events, setup.files()));
        let doubled = [&kafka, &stream, &files].map(|held| held.tally.doubled());
        eprintln!("{}: doubled {doubled:?} in Kafka, the stream, the files", self.name);
        for (held, doubles) in [&kafka, &stream, &files].into_iter().zip(doubles) {
            held.tally.assert_complete(doubles);
        }
        kafka.assert_same_places(&stream);
        kafka.assert_same_places(&files);
        kafka
    }

    fn check_headers(&self, header: impl Fn(&str) -> Option<String>) {
        assert_eq!(header("atdata-destination"), Some(self.queue()));
        assert_eq!(header("atdata-connection-id").as_ref(), Some(&self.name));
        let number = |text: String| text.parse::<u64>().is_ok();
        assert!(header("atdata-timestamp").is_some_and(number), "when it was published");
        let redelivered = header("atdata-redelivered");
        assert!(
            ["true", "false"].map(|word| Some(word.to_owned())).contains(&redelivered),
            "{redelivered:?}"
        );
    }
}

const MESSAGE_ID: &str = "atdata-message-id";

fn text(bytes: Option<&[u8]>) -> &str {
    std::str::from_utf8(bytes.expect("bytes")).expect("text")
}

/// What one sink holds.
pub struct Held {
    /// Bodies and keys, held against what was published.
    pub tally: Tally,
    /// The message id and the partition of each event by its number.
    places: HashMap<u64, (String, u32)>,
}

impl Held {
    fn new(events: Events) -> Self {
        Self { tally: Tally::new(events), places: HashMap::new() }
    }

    fn add(&mut self, id: &str, key: &str, partition: u32, body: &str) {
        self.tally.add_keyed(id, key, body);
        let Some(number) = number_in(body) else { return };
        let place = (id.to_owned(), partition);
        let first = self.places.entry(number).or_insert_with(|| place.clone());
        assert_eq!(*first, place, "event {number} came again as another one, or elsewhere");
    }

    /// The partitions in which each key is found.
    pub fn partitions(&self, events: Events) -> HashMap<String, u32> {
        let mut partitions = HashMap::new();
        for (&number, &(_, partition)) in &self.places {
            let known = *partitions.entry(events.key(number)).or_insert(partition);
            assert_eq!(known, partition, "one key in two partitions");
        }
        partitions
    }

    /// Both hold the same events with the same message ids in the same partitions.
    pub fn assert_same_places(&self, other: &Self) {
        let differs = |(number, place): &(&u64, &(String, u32))| other.places.get(*number) != Some(*place);
        let first = self.places.iter().find(differs);
        assert!(first.is_none(), "{first:?} is elsewhere in the other sink, or not at all");
        assert_eq!(self.places.len(), other.places.len());
    }
}
