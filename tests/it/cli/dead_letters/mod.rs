//! Tests the verbs `dead-letters list`, `show` and `export` over places that a running bridge has filled.

mod replay;
mod unreadable;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use flate2::write::GzEncoder;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use kit::bridge::Setup;
use kit::broker::{Broker, Protocol, Version, shared};
use kit::events::Events;
use kit::kafka_reader::contents;
use kit::kafka_writer::write_records;
use kit::nats::{self, on_nats, read_stream};
use kit::output::{each_line, files};
use kit::publisher::Publisher;
use kit::scenario::{drain, emptied, place, publish, subscribed};
use kit::three::Sinks;
use kit::{any_kafka, kafka, on_each_broker};

on_each_broker!(files_are_read_while_they_are_written_and_compressed);
on_each_broker!(over each protocol, with a real kafka: a_topic_is_read_partition_by_partition);
on_each_broker!(over each protocol, with every sink: of_a_stream_the_subjects_of_the_letters_are_read);
on_nats!(a_work_queue_is_read_and_keeps_its_messages);

const EVENTS: u64 = 40;
const BINARY: &[u8] = b"\xff\x00no text";
const KEY: &str = "0123456789abcdef0123456789abcdef";
const LINE: &str = concat!(
    r#"{"reason":"too_large","detail":"d","sink":"kafka","attempts":1,"first_time":"2026-11-30T01:00:00.000Z","#,
    r#""last_time":"2026-11-30T01:00:00.000Z","message_id":"ID:1","key":null,"timestamp":null,"#,
    r#""redelivered":false,"headers":[],"body":"b"}"#,
);
/// More than the topic takes in these tests.
const LARGE: usize = 2000;

/// Publishes events of which four are bad, and one more that is no text.
async fn publish_some(broker: &Broker, namespace: &str) {
    publish(broker, namespace, Events::good(EVENTS).with_bad(10)).await;
    let publisher = Publisher::connect(broker, namespace).await;
    // With its length it is a message of bytes for the broker.
    let mut publisher = publisher.with_header("content-length", &BINARY.len().to_string());
    publisher.publish([BINARY]).await.expect("publish");
}

/// Runs `dead-letters` with these arguments.
fn run(setup: &Setup, arguments: &str) -> (Option<i32>, String, String) {
    let arguments: Vec<&str> = ["dead-letters"].into_iter().chain(arguments.split_whitespace()).collect();
    setup.run(&arguments)
}

/// Runs `dead-letters`, which must succeed; returns standard output and standard error.
fn said(setup: &Setup, arguments: &str) -> (String, String) {
    let (code, out, err) = run(setup, arguments);
    assert_eq!(code, Some(0), "{arguments}: {err}");
    (out, err)
}

fn exported(setup: &Setup, filter: &str) -> Vec<String> {
    said(setup, &format!("export {filter}")).0.lines().map(str::to_owned).collect()
}

fn shown_positions(out: &str) -> Vec<&str> {
    let fields = out.lines().filter_map(|line| line.strip_prefix("position     "));
    fields.map(|field| field.split_whitespace().next().unwrap()).collect()
}

/// Compares what each verb says with the stored records, which are in the order of their positions.
fn assert_read(setup: &Setup, stored: &[String], positions: &[String]) {
    assert_eq!(exported(setup, ""), stored);
    let letters: Vec<Value> = stored.iter().map(|line| serde_json::from_str(line).unwrap()).collect();

    let list: Value = serde_json::from_str(&said(setup, "list --json").0).unwrap();
    let mut expected: BTreeMap<(String, String), u64> = BTreeMap::new();
    for letter in &letters {
        *expected.entry((letter["reason"].to_string(), letter["sink"].to_string())).or_default() += 1;
    }
    assert_eq!(expected[&("\"key_missing\"".to_owned(), "null".to_owned())], 2);
    let mut counted: BTreeMap<(String, String), u64> = BTreeMap::new();
    for group in list["groups"].as_array().unwrap() {
        let name = (group["reason"].to_string(), group["sink"].to_string());
        *counted.entry(name).or_default() += group["letters"].as_u64().unwrap();
    }
    assert_eq!((&list["letters"], counted), (&Value::from(letters.len()), expected));
    let oldest = letters.iter().map(|letter| letter["last_time"].as_str().unwrap()).min();
    assert_eq!(list["oldest"].as_str(), oldest);
    let (table, next) = said(setup, "list");
    assert!(table.contains("DAY (UTC)") && table.contains("key_missing"), "{table}");
    assert!(next.contains("next: atdata-bridge dead-letters show --newest --reason "), "{next}");

    let (out, _) = said(setup, "show --limit 100");
    assert_eq!(shown_positions(&out), positions);
    assert!(out.contains("bytes, not text\n  00000000  ff 00 6e 6f 20 74 65 78 74 "), "{out}");
    let (out, err) = said(setup, "show --limit 2");
    assert_eq!(shown_positions(&out), positions[..2]);
    assert_eq!(err, format!("\nmore letters follow: add --from {}\n", positions[2]));
    let (out, _) = said(setup, &format!("show --from {}", positions[2]));
    assert_eq!(shown_positions(&out), positions[2..]);
    let newest = letters.iter().map(|letter| letter["last_time"].as_str().unwrap()).max().unwrap();
    let (out, _) = said(setup, "show --newest --limit 1");
    assert!(out.contains(&format!("refused      {newest}\n")) && shown_positions(&out).len() == 1, "{out}");

    let of = |letter: &Value, name: &str| letter[name].as_str().unwrap_or("-").to_owned();
    let with = |name: &str, value: &str| -> Vec<String> {
        let matching = stored.iter().zip(&letters).filter(|(_, letter)| of(letter, name) == value);
        matching.map(|(line, _)| line.clone()).collect()
    };
    let id = of(&letters[1], "message_id");
    for (filter, expected) in [
        ("--reason key_missing".to_owned(), with("reason", "key_missing")),
        ("--sink -".to_owned(), with("sink", "-")),
        ("--sink nobody".to_owned(), Vec::new()),
        (format!("--key {}", KEY.to_uppercase()), with("key", KEY)),
        (format!("--message-id {id}"), with("message_id", &id)),
        ("--since 1h".to_owned(), stored.to_vec()),
        ("--until 1h".to_owned(), Vec::new()),
        ("--since 2020-01-01 --until 2020-01-02T00:00:00Z".to_owned(), Vec::new()),
        (format!("--from {} --reason key_missing", positions[0]), with("reason", "key_missing")),
    ] {
        assert_eq!(exported(setup, &filter), expected, "{filter}");
    }
}

/// The lines of the dead letters and their positions.
fn lines(directory: &Path) -> (Vec<String>, Vec<String>) {
    let (mut found, mut positions) = (Vec::new(), Vec::new());
    for path in files(directory) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let name = name.split(".jsonl").next().unwrap();
        let mut number = 0;
        kit::output::each_line_of(&path, |line| {
            number += 1;
            found.push(line.to_owned());
            positions.push(format!("{name}.jsonl:{number}"));
        });
    }
    (found, positions)
}

/// The names and the content of all files.
fn snapshot(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

async fn files_are_read_while_they_are_written_and_compressed(version: Version) {
    let broker = shared(version);
    let (namespace, queue) = place(Protocol::Stomp, "readfiles");
    let setup = Setup::new(broker, Protocol::Stomp, &namespace, "main", "readfiles");
    let directory = setup.dead_letters();
    let bridge = setup.start();
    subscribed(broker, &queue, 1).await;
    publish_some(broker, &namespace).await;
    emptied(broker, &queue).await;
    let before = snapshot(directory);
    assert!(before.keys().any(|name| name.ends_with(".jsonl.open")), "{:?}", before.keys());
    let (stored, positions) = lines(directory);
    assert_eq!(stored.len(), 5);
    assert_read(&setup, &stored, &positions);
    assert_eq!(snapshot(directory), before, "reading changes nothing");
    drain(bridge).await;

    let (_, finished) = lines(directory);
    assert_eq!(finished, positions, "a position stays the same when the file is finished");
    let path = files(directory).remove(0);
    let content = fs::read(&path).unwrap();
    fs::write(path.with_extension("jsonl.zst"), zstd::encode_all(&content[..], 1).unwrap()).unwrap();
    fs::remove_file(&path).unwrap();
    assert_read(&setup, &stored, &positions);

    // The letters of another bridge, and what a crash can leave behind.
    let other = directory.join("dead-letters-other-20991231T235959999Z-000000.jsonl");
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&content).unwrap();
    fs::write(other.with_extension("jsonl.gz"), gzip.finish().unwrap()).unwrap();
    let torn = directory.join("dead-letters-torn-20991231T235959999Z-000001.jsonl.open");
    let zeros = "\0".repeat(4096);
    fs::write(&torn, format!("{}\n{zeros}\n{{\"reason\":\"key", stored[0])).unwrap();
    let all = [&stored[..], &stored[..], &stored[..1]].concat();
    let (out, err) = said(&setup, "export");
    assert_eq!(out.lines().collect::<Vec<_>>(), all);
    assert!(
        err.contains("warning: 1 record in ") && err.contains("torn-20991231T235959999Z-000001.jsonl:2: "),
        "{err}"
    );

    fs::write(path.with_extension("jsonl.zst"), "damaged").unwrap();
    let (code, out, err) = run(&setup, "export");
    assert_eq!((code, out.lines().count()), (Some(1), 6), "{err}");
    assert!(err.lines().last().unwrap().starts_with("error: dead letters: cannot read "), "{err}");
    fs::remove_dir_all(directory).unwrap();
    let (code, out, err) = run(&setup, "list");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.contains("there is no directory ") && err.contains("BRIDGE__DEAD_LETTERS__DIRECTORY"),
        "{err}"
    );
}

/// Writes a record in a transaction and gives it up. Only its end marker is left for readers.
fn give_up_a_transaction(bootstrap: &str, topic: &str, partition: i32) {
    let patience = Duration::from_secs(60);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", topic)
        .create()
        .expect("make a producer");
    producer.init_transactions(patience).expect("log in");
    producer.begin_transaction().expect("begin");
    let record = BaseRecord::<(), _>::to(topic).partition(partition).payload("given up");
    producer.send(record).map_err(|(error, _)| error).expect("send");
    producer.flush(patience).expect("write the record");
    producer.abort_transaction(patience).expect("abort");
}

async fn a_topic_is_read_partition_by_partition(version: Version, protocol: Protocol) {
    let (broker, kafka) = (shared(version), kafka::shared());
    let (namespace, queue) = place(protocol, "readtopic");
    let topic = format!("{namespace}-{version:?}");
    let letters = format!("{topic}-letters");
    kafka.create_topic(&topic, 2, &[]);
    kafka.create_topic(&letters, 3, &[]);
    let setup = Setup::new(broker, protocol, &namespace, "main", &topic)
        .set("SINKS__KAFKA__BROKERS", kafka.bootstrap())
        .set("SINKS__KAFKA__TOPIC", &topic)
        .set("SINKS__KAFKA__PROPERTIES__MESSAGE_MAX_BYTES", "1000")
        .unset("DEAD_LETTERS__DIRECTORY")
        .set("DEAD_LETTERS__KAFKA__TOPIC", &letters)
        .set("DEAD_LETTERS__KAFKA__PROPERTIES__MESSAGE_MAX_BYTES", "1000000");
    let (out, err) = said(&setup, "list");
    assert_eq!((out.starts_with("no dead letters in the Kafka topic "), err.as_str()), (true, ""), "{out}");
    let bridge = setup.start();
    subscribed(broker, &queue, 1).await;
    publish_some(broker, &namespace).await;
    let large = format!(r#"{{"md5":"{KEY}","pad":"{}"}}"#, "x".repeat(LARGE));
    Publisher::connect(broker, &namespace).await.publish([large]).await.expect("publish");
    emptied(broker, &queue).await;

    let (mut stored, mut positions) = (Vec::new(), Vec::new());
    let mut records = contents(&kafka.bootstrap(), &letters);
    records.sort_by_key(|record| (record.partition, record.offset));
    for record in records {
        stored.push(String::from_utf8(record.value.expect("a value")).expect("text"));
        positions.push(format!("{}:{}", record.partition, record.offset));
    }
    assert_eq!(stored.len(), 6);
    // A topic that nobody may write to any more can still be read.
    kafka.make_read_only(&letters);
    assert_read(&setup, &stored, &positions);
    assert_eq!(
        exported(&setup, "--sink kafka --reason too_large"),
        exported(&setup, &format!("--key {KEY}"))
    );
    assert_eq!(exported(&setup, "--sink kafka").len(), 1);
    kafka.forget_rules(&letters);
    drain(bridge).await;

    give_up_a_transaction(&kafka.bootstrap(), &letters, 2);
    write_records(&kafka.bootstrap(), &letters, 0, ["foreign".to_owned()].into_iter());
    let (out, err) = said(&setup, "export");
    assert_eq!(out.lines().collect::<Vec<_>>(), stored);
    let foreign = positions.iter().filter(|position| position.starts_with("0:")).count();
    assert!(
        err.contains("1 record in the Kafka topic ") && err.contains(&format!("\n  0:{foreign}: ")),
        "{err}"
    );
}

async fn of_a_stream_the_subjects_of_the_letters_are_read(version: Version, protocol: Protocol) {
    let broker = shared(version);
    let namespace = protocol.named("readstream");
    let sinks = Sinks::make(version, &namespace, any_kafka::shared(), nats::shared()).await;
    let subject = format!("{}.dead.letters", sinks.name);
    let setup = sinks
        .setup(broker, protocol)
        .unset("DEAD_LETTERS__DIRECTORY")
        .set("DEAD_LETTERS__NATS__SUBJECT", &subject);
    let bridge = setup.start();
    subscribed(broker, &sinks.queue(), 1).await;
    publish_some(broker, &namespace).await;
    emptied(broker, &sinks.queue()).await;

    let (mut stored, mut positions) = (Vec::new(), Vec::new());
    for message in read_stream(&sinks.jetstream, &sinks.name).await {
        if *message.subject == *subject {
            stored.push(String::from_utf8(message.payload.to_vec()).expect("text"));
            positions.push(message.info().expect("its place").stream_sequence.to_string());
        }
    }
    assert_eq!(stored.len(), 5);
    assert_read(&setup, &stored, &positions);
    let (_, err) = said(&setup, "export");
    assert!(!err.contains("warning: "), "the events of the stream are not read: {err}");
    drain(bridge).await;

    let published = sinks.jetstream.publish(subject, "foreign".into()).await.expect("publish");
    let sequence = published.await.expect("an answer").sequence;
    let (out, err) = said(&setup, "export");
    assert_eq!(out.lines().collect::<Vec<_>>(), stored);
    assert!(err.contains("1 record in the subject ") && err.contains(&format!("\n  {sequence}: ")), "{err}");
}

/// A consumer would take the messages out of such a stream.
async fn a_work_queue_is_read_and_keeps_its_messages() {
    let nats = nats::shared();
    let jetstream = nats.jetstream().await;
    let (name, subjects) = ("READWORK".to_owned(), vec!["readwork.>".to_owned()]);
    let retention = RetentionPolicy::WorkQueue;
    let config = Config { name, subjects, retention, ..Config::default() };
    let mut stream = jetstream.create_stream(config).await.expect("make a stream");
    for (subject, text) in [("readwork.events", "an event"), ("readwork.dead", LINE), ("readwork.dead", LINE)]
    {
        jetstream.publish(subject, text.into()).await.expect("publish").await.expect("an answer");
    }
    let setup = Setup::at("stomp://127.0.0.1:1", "readwork", "main", "readwork")
        .unset("DEAD_LETTERS__DIRECTORY")
        .set("DEAD_LETTERS__NATS__URL", nats.url())
        .set("DEAD_LETTERS__NATS__STREAM", "READWORK")
        .set("DEAD_LETTERS__NATS__SUBJECT", "readwork.dead");
    for _ in 0..2 {
        assert_eq!(said(&setup, "export").0, format!("{LINE}\n{LINE}\n"));
    }
    assert_eq!(shown_positions(&said(&setup, "show --from 3").0), ["3"]);
    let state = &stream.info().await.expect("the state of the stream").state;
    assert_eq!((state.messages, state.consumer_count), (3, 0));
}

/// A directory of dead letters without a bridge.
fn crafted() -> Setup {
    let setup = Setup::at("stomp://127.0.0.1:1", "crafted", "main", "crafted");
    fs::create_dir_all(setup.dead_letters()).unwrap();
    let file = setup.dead_letters().join("dead-letters-x-20261130T010000000Z-000000.jsonl");
    fs::write(file, format!("{LINE}\n").repeat(5000)).unwrap();
    let mut count = 0;
    each_line(setup.dead_letters(), |_| count += 1);
    assert_eq!(count, 5000);
    setup
}

#[test]
fn wrong_filters_end_with_64() {
    let setup = crafted();
    for (arguments, words) in [
        ("list --since yesterday", "such as 2h"),
        ("show --until 5", "such as 2h"),
        ("export --key 0x17", "32 hex digits"),
        ("export --from a:b", "is not a position"),
        ("show --limit 0", "0"),
        ("show --newest --limit 1001", "at most 1000"),
        ("list --since 1h --until 2h", "no letter can match"),
        ("", "Usage"),
    ] {
        let (code, out, err) = run(&setup, arguments);
        assert_eq!((code, out.as_str()), (Some(64), ""), "{arguments}: {err}");
        assert!(err.contains(words), "{arguments}: {err}");
    }
}

#[test]
fn a_reader_that_has_enough_is_not_an_error() {
    let setup = crafted();
    let mut child = Command::new(env!("CARGO_BIN_EXE_atdata-bridge"))
        .args(["dead-letters", "export"])
        .env_clear()
        .env("BRIDGE__SOURCE__URL", "stomp://127.0.0.1:1")
        .env("BRIDGE__SOURCE__USERNAME", "12345")
        .env("BRIDGE__SOURCE__PASSWORD", KEY)
        .env("BRIDGE__SOURCE__NAMESPACE", "crafted")
        .env("BRIDGE__SOURCE__DESTINATION_ID", "main")
        .env("BRIDGE__SINKS__FILE__DIRECTORY", setup.files())
        .env("BRIDGE__DEAD_LETTERS__DIRECTORY", setup.dead_letters())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with(r#"{"reason":"too_large""#), "{line}");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
