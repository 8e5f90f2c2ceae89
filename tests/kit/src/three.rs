//! Configures a bridge with Kafka, JetStream and files at once, and reads what each of them then contains.

use std::collections::HashMap;
use std::path::Path;

use async_nats::jetstream::{self, stream};

use super::any_kafka::AnyKafka;
use super::bridge::Setup;
use super::broker::{Broker, Protocol, Version};
use super::events::{Events, number_in};
use super::kafka_reader::{Record, each_record, record_count};
use super::nats::{NatsServer, read_stream};
use super::output::{Tally, each_line_of, files, open_envelope};

/// The usual number of partitions in the topic, the subjects and the file names.
pub const PARTITIONS: u32 = 6;

/// The sinks of one test: its own topic and stream, on servers that tests may share.
pub struct Sinks<'a> {
    pub kafka: &'a AnyKafka,
    pub nats: &'a NatsServer,
    pub jetstream: jetstream::Context,
    pub namespace: &'a str,
    /// The topic, the stream, and the beginning of the subjects. It contains the broker's version, because the
    /// tests of both versions share the other servers.
    pub name: String,
    /// The connection id of the bridge, which its sinks show: the name, unless a test sets another one.
    pub connection: String,
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
        let (jetstream, connection) = (nats.jetstream().await, name.clone());
        let sinks = Self { kafka, nats, jetstream, namespace, name, connection };
        sinks.make_stream(|_| {}).await;
        sinks
    }

    /// Makes the stream, with the changes that `different` makes to the usual configuration.
    pub async fn make_stream(&self, different: impl FnOnce(&mut stream::Config)) {
        let mut config = self.stream_config();
        different(&mut config);
        self.jetstream.create_stream(config).await.expect("make a stream");
    }

    /// Updates the stream to the usual configuration with the changes that `different` makes.
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

    /// The number of messages in the stream.
    pub async fn stream_len(&self) -> u64 {
        let mut stream = self.jetstream.get_stream(&self.name).await.expect("find a stream");
        stream.info().await.expect("read the state of a stream").state.messages
    }

    /// The number of records in the topic.
    pub fn topic_len(&self) -> u64 {
        tokio::task::block_in_place(|| record_count(&self.kafka.bootstrap(), &self.name))
    }

    pub fn queue(&self) -> String {
        format!("main.RTO.{}", self.namespace)
    }

    /// A bridge from the queue into all three sinks, with the partition in the subjects, the file names and
    /// the topic.
    pub fn setup(&self, broker: &Broker, protocol: Protocol) -> Setup {
        Setup::new(broker, protocol, self.namespace, "main", &self.connection)
            .set("EVENT__PARTITIONS", PARTITIONS.to_string())
            .set("SINKS__KAFKA__BROKERS", self.kafka.bootstrap())
            .set("SINKS__KAFKA__TOPIC", &self.name)
            .set("SINKS__NATS__URL", self.nats.url())
            .set("SINKS__NATS__STREAM", &self.name)
            .set("SINKS__NATS__SUBJECT", format!("{}.{{partition}}.{{key}}", self.name))
            .set("SINKS__FILE__NAME", "{connection_id}-{partition}")
            .set("SINKS__FILE__FORMAT", "envelope")
    }

    /// Reads the topic; blocks.
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

    pub fn files(&self, events: Events, directory: &Path) -> Held {
        let mut held = Held::new(events);
        for path in files(directory) {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            each_line_of(&path, |line| {
                let Some((id, key, partition, body)) = open_envelope(line) else { panic!("{line}") };
                assert!(name.starts_with(&format!("{}-{partition}-", self.connection)), "{name} has {line}");
                held.add(id, key, partition.parse().expect("a partition"), body);
            });
        }
        held
    }

    /// What Kafka, the stream and the files contain, in this order.
    pub async fn contents(&self, events: Events, setup: &Setup) -> [Held; 3] {
        let topic = tokio::task::block_in_place(|| self.topic(events));
        [topic, self.stream(events).await, self.files(events, setup.files())]
    }

    /// Asserts that every good event is in each of the three sinks, unchanged, under its key, in the same
    /// partition, in the order of its key, and that at most `doubles` events are duplicates in Kafka, the
    /// stream and the files. Returns the content of the topic.
    pub async fn assert_complete(&self, events: Events, setup: &Setup, doubles: [u64; 3]) -> Held {
        let contents = self.contents(events, setup).await;
        let doubled = contents.each_ref().map(|held| held.tally.doubled());
        eprintln!("{}: {doubled:?} duplicates in Kafka, the stream, the files", self.name);
        for (held, doubles) in contents.iter().zip(doubles) {
            held.tally.assert_complete(doubles);
        }
        let [kafka, stream, files] = contents;
        kafka.assert_same_places(&stream);
        kafka.assert_same_places(&files);
        kafka
    }

    fn check_headers(&self, header: impl Fn(&str) -> Option<String>) {
        assert_eq!(header("atdata-destination"), Some(self.queue()));
        assert_eq!(header("atdata-connection-id").as_ref(), Some(&self.connection));
        let number = |text: String| text.parse::<u64>().is_ok();
        assert!(header("atdata-timestamp").is_some_and(number), "the time of publication");
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

/// The content of one sink.
pub struct Held {
    /// Compares bodies and keys with the published events.
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
        assert_eq!(*first, place, "event {number} is there again with another id or partition");
    }

    /// The partition of each key.
    pub fn partitions(&self, events: Events) -> HashMap<String, u32> {
        let mut partitions = HashMap::new();
        for (&number, &(_, partition)) in &self.places {
            let known = *partitions.entry(events.key(number)).or_insert(partition);
            assert_eq!(known, partition, "one key in two partitions");
        }
        partitions
    }

    /// Asserts that both have the same events with the same message ids in the same partitions.
    pub fn assert_same_places(&self, other: &Self) {
        let differs = |(number, place): &(&u64, &(String, u32))| other.places.get(*number) != Some(*place);
        let first = self.places.iter().find(differs);
        assert!(first.is_none(), "{first:?} is in another partition of the other sink, or missing");
        assert_eq!(self.places.len(), other.places.len());
    }
}
