//! Tests that the rivals of `make bench-rivals` are correct: a kill loses nothing, and the order of each key is
//! kept.

use std::num::NonZeroU32;
use std::time::Duration;

use atdata_bridge::key::Key;
use kit::broker::{Version, shared};
use kit::events::{Events, Spread};
use kit::output::{Tally, each_line_of};
use kit::report::backlog::backlog;
use kit::rival::{Rival, RivalSink};
use kit::scenario::{PATIENCE, counts, emptied, subscribed};
use kit::{all_real, did_not_run, kafka, kafka_reader, nats};
use tokio::time::timeout;

const EVENTS: Events = Events { count: 2000, keys: 50, spread: Spread::Hot, bad_every: None };
const PREFETCH: u32 = 100;
const PARTITIONS: NonZeroU32 = NonZeroU32::new(3).unwrap();

/// Turns each `async fn name(rival: Rival)` into one test per rival, `name::go` and so on.
macro_rules! on_each_rival {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            on_rival! { go: super::$name, Go }
            on_rival! { java: super::$name, Java }
            on_rival! { python: super::$name, Python }
        }
    )+};
}

macro_rules! on_rival {
    ($test:ident: $scenario:path, $rival:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let (rival, test) = (kit::rival::Rival::$rival, concat!(module_path!(), "::", stringify!($test)));
            if super::available(rival, test) {
                $scenario(rival).await;
            }
        }
    };
}

on_each_rival!(fills_a_topic, fills_a_stream, fills_a_file);

fn available(rival: Rival, test: &str) -> bool {
    if let Err(reason) = rival.available() {
        did_not_run(test, &reason);
        return false;
    }
    all_real(Version::V6, test)
}

/// Starts the rival with a backlog, kills it on its way, and starts it again, until the queue is empty.
async fn carry(rival: Rival, namespace: &str, sink: RivalSink) {
    let broker = shared(Version::V6);
    let queue = backlog(broker, namespace, "main", EVENTS).await;
    let mut running = rival.start(broker, &queue, PREFETCH, sink.clone());
    let on_its_way = async {
        while counts(broker, &queue).messages > EVENTS.count * 9 / 10 {
            running.assert_running();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, on_its_way).await.expect("a tenth of the events are acknowledged");
    running.kill();
    subscribed(broker, &queue, 0).await;
    let left = counts(broker, &queue).messages;
    eprintln!("{rival:?} was killed with {left} events left");
    assert!(left > 0, "the kill came after the last event");
    let running = rival.start(broker, &queue, PREFETCH, sink);
    emptied(broker, &queue).await;
    running.stop().await;
}

async fn fills_a_topic(rival: Rival) {
    let (kafka, topic) = (kafka::shared(), format!("rival-topic-{rival:?}"));
    kafka.create_topic(&topic, PARTITIONS.get(), &[]);
    let bootstrap = kafka.bootstrap();
    carry(
        rival,
        &topic,
        RivalSink::Kafka { bootstrap: bootstrap.clone(), topic: topic.clone(), at_once: true },
    )
    .await;

    let mut tally = Tally::new(EVENTS);
    kafka_reader::each_record(&bootstrap, &topic, |record| {
        let (key, body) = (text(record.key), text(record.value));
        let partition = Key::from_hex(key.as_bytes()).unwrap().partition(PARTITIONS);
        assert_eq!(record.partition, partition, "the partition of {key}");
        tally.add_keyed("", &key, &body);
    });
    tally.assert_complete(PREFETCH.into());
}

/// The stream drops the events that it has already, by their message ids.
async fn fills_a_stream(rival: Rival) {
    let (nats, name) = (nats::shared(), format!("rival-stream-{rival:?}"));
    let jetstream = nats.jetstream().await;
    nats::make_stream(&jetstream, &name, &[&format!("{name}.>")]).await;
    let subject = format!("{name}.");
    carry(rival, &name, RivalSink::JetStream { url: nats.url(), subject: subject.clone() }).await;

    let mut tally = Tally::new(EVENTS);
    for message in nats::read_stream(&jetstream, &name).await {
        let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
        let key = message.subject.strip_prefix(&subject).unwrap();
        tally.add_keyed(id.unwrap().as_str(), key, &text(Some(message.payload.to_vec())));
    }
    tally.assert_complete(0);
}

async fn fills_a_file(rival: Rival) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    carry(rival, &format!("rival-file-{rival:?}"), RivalSink::File(path.clone())).await;

    let mut tally = Tally::new(EVENTS);
    each_line_of(&path, |line| tally.add(line));
    tally.assert_complete(PREFETCH.into());
}

fn text(bytes: Option<Vec<u8>>) -> String {
    String::from_utf8(bytes.unwrap()).unwrap()
}
