//! Tests that docs/consumers.md shows the programs of `examples/consumers`, and that they read the mirrored
//! events: each of them once, also while the bridge is killed, and none of an aborted transaction.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use atdata_bridge::key::Key;
use atdata_bridge::simulator::{Simulator, SimulatorConfig};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::block_in_place;

use kit::bridge::{Bridge, Setup};
use kit::broker::{Broker, Protocol, Version, shared};
use kit::events::{Events, Spread, number_in};
use kit::kafka::{self, on_kafka};
use kit::kafka_reader::contents;
use kit::nats::{self, on_nats};
use kit::output::Tally;
use kit::provision::provisioned;
use kit::scenario::{counts, drain, emptied, publish_while, seeded, subscribed};
use kit::{SOON, did_not_run, on_broker, wait_until};

const EVENTS: Events = Events { count: 50, keys: 7, spread: Spread::Even, bad_every: None };
const PARTITIONS: NonZeroU32 = NonZeroU32::new(3).unwrap();

on_kafka!(
    reads_a_topic_with_keys_and_headers,
    aborted_transactions_are_not_read,
    a_stopped_reader_goes_on_where_it_was,
);
on_nats!(reads_a_stream_with_headers);

mod readers_see_each_event_once_while_the_bridge_is_killed {
    super::on_broker! { idempotent: all_real, super::idempotent, V6, Stomp }
    super::on_broker! { transactional: all_real, super::transactional, V6, OpenWire }
}

fn in_tree(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_page_shows_the_programs_that_these_tests_run() {
    let page = in_tree("docs/consumers.md");
    for program in ["ReadKafka", "ReadJetStream"] {
        let text = in_tree(&format!("examples/consumers/java/{program}.java"));
        assert!(
            page.contains(&format!("```java\n{text}```\n")),
            "docs/consumers.md shows a different {program}"
        );
    }
}

/// Mirrors the events into `sink`, whose settings are `BRIDGE__SINKS__*` variables, and returns what each sample
/// prints, by event number.
async fn mirror_and_read(sink: &[(&str, &str)], samples: &[Sample]) -> Vec<BTreeMap<u64, Vec<String>>> {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    simulator.declare_queue("acme", "dest1");
    EVENTS.bodies().for_each(|body| simulator.publish("acme", body));
    let setup = Setup::at(&simulator.url(), "acme", "dest1", "acme-dest1-1").set("EVENT__PARTITIONS", "3");
    let setup = sink.iter().fold(setup, |setup, (name, value)| setup.set(&format!("SINKS__{name}"), *value));
    let _bridge = setup.start();
    let numbered = |line: Vec<String>| (number_in(line.last().unwrap()).unwrap(), line);
    let read = |sample: &Sample| sample.lines(EVENTS.count).into_iter().map(numbered).collect();
    block_in_place(|| samples.iter().map(read).collect())
}

/// Checks the fields that every sample prints last: key, message id and body.
fn assert_events(read: &BTreeMap<u64, Vec<String>>) {
    assert_eq!(read.len() as u64, EVENTS.count);
    for (number, fields) in read {
        let [.., key, id, body] = fields.as_slice() else { panic!("{fields:?}") };
        assert_eq!((body, key), (&EVENTS.body(*number), &EVENTS.key(*number)));
        assert!(id.starts_with("ID:"), "{id}");
    }
}

async fn reads_a_topic_with_keys_and_headers() {
    let topic = "samples";
    let brokers = make_topic(topic);
    let samples = Program::readers_of(&brokers, topic);
    let sink = [("KAFKA__BROKERS", brokers.as_str()), ("KAFKA__TOPIC", topic)];
    for read in mirror_and_read(&sink, &samples).await {
        assert_events(&read);
        for (number, fields) in read {
            let key = Key::from_hex(EVENTS.key(number).as_bytes()).unwrap();
            assert_eq!(fields[0], key.partition(PARTITIONS).to_string());
        }
    }
}

async fn reads_a_stream_with_headers() {
    let nats = nats::shared();
    nats::make_stream(&nats.jetstream().await, "SAMPLES", &["samples.>"]).await;
    let url = nats.url();
    let sink =
        [("NATS__URL", url.as_str()), ("NATS__STREAM", "SAMPLES"), ("NATS__SUBJECT", "samples.{partition}")];
    let Some(sample) = Program::JetStreamInJava.start(&[&url, "SAMPLES"]) else { return };
    for read in mirror_and_read(&sink, &[sample]).await {
        assert_events(&read);
    }
}

/// The events on both sides of an aborted transaction are read, and nothing of it.
async fn aborted_transactions_are_not_read() {
    let topic = "samples-aborted";
    let brokers = make_topic(topic);
    let samples = Program::readers_of(&brokers, topic);
    block_in_place(|| {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("transactional.id", topic)
            .create()
            .unwrap();
        producer.init_transactions(SOON).unwrap();
        for (numbers, commit) in [(0..10, true), (10..20, false), (20..30, true)] {
            producer.begin_transaction().unwrap();
            for number in numbers {
                let (key, body) = (EVENTS.key(number), EVENTS.body(number));
                producer.send(BaseRecord::to(topic).partition(0).key(&key).payload(&body)).unwrap();
            }
            // Kafka has the records, also of the transaction that is aborted.
            producer.flush(SOON).unwrap();
            match commit {
                true => producer.commit_transaction(SOON).unwrap(),
                false => producer.abort_transaction(SOON).unwrap(),
            }
        }
        for sample in &samples {
            let read = sample.lines(20).into_iter().map(|line| number_in(&line[3]).unwrap());
            assert_eq!(read.collect::<Vec<_>>(), (0..10).chain(20..30).collect::<Vec<_>>(), "{sample}");
        }
    });
}

/// A reader commits what it has read. If it is asked to stop, it leaves its group: otherwise the next one would
/// have to wait for the session timeout of 45 s, which is longer than the test waits for a line.
async fn a_stopped_reader_goes_on_where_it_was() {
    let topic = "samples-stopped";
    let brokers = make_topic(topic);
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let publish = |number| {
        let (key, body) = (EVENTS.key(number), EVENTS.body(number));
        producer.send(BaseRecord::to(topic).key(&key).payload(&body)).unwrap();
        producer.flush(SOON).unwrap();
    };
    block_in_place(|| {
        let read = |sample: &Sample| number_in(&sample.lines(1)[0][3]).unwrap();
        for round in 0..2 {
            publish(round);
            for sample in Program::readers_of(&brokers, topic) {
                assert_eq!(read(&sample), round, "{sample}");
                sample.stop();
            }
        }
    });
}

/// The sink's default.
async fn idempotent(version: Version, protocol: Protocol) {
    read_while_the_bridge_is_killed(version, protocol, "samples-killed", &[]).await;
}

/// With `exactly_once`.
async fn transactional(version: Version, protocol: Protocol) {
    let settings = ["SINKS__KAFKA__EXACTLY_ONCE=true", "SOURCE__ORDERING=strict"].map(str::to_owned);
    read_while_the_bridge_is_killed(version, protocol, "samples-transactional", &settings).await;
}

async fn read_while_the_bridge_is_killed(
    version: Version,
    protocol: Protocol,
    namespace: &str,
    settings: &[String],
) {
    let broker = shared(version);
    let (queue, topic) = (format!("main.RTO.{namespace}"), namespace);
    let brokers = make_topic(topic);
    let samples = Program::readers_of(&brokers, topic);
    let setup = Setup::new(broker, protocol, namespace, "main", topic)
        .unset("SINKS__FILE__DIRECTORY")
        .set("SINKS__KAFKA__BROKERS", &brokers)
        .set("SINKS__KAFKA__TOPIC", topic)
        .set_all(settings);
    let bridge = setup.start();
    subscribed(broker, &queue, 1).await;

    let over = Cell::new(false);
    let kills = async {
        let survivor = kill_under_load(broker, &queue, &setup, bridge).await;
        over.set(true);
        survivor
    };
    let events = Events { spread: Spread::Hot, ..Events::good(u64::MAX) };
    let load = publish_while(broker, namespace, &queue, events, 4096, &over);
    let (published, bridge) = tokio::join!(load, kills);
    emptied(broker, &queue).await;
    drain(bridge).await;

    block_in_place(|| {
        for sample in &samples {
            let mut seen = Tally::new(Events { count: published, ..events });
            for line in sample.lines(published) {
                seen.add_keyed(&line[2], &line[1], &line[3]);
            }
            eprintln!("{sample} saw {published} events, {} of them doubled", seen.doubled());
            seen.assert_complete(0);
            assert_eq!(seen.repeated_ids(), 0, "{sample}");
        }
        // They have not only just begun to see more.
        assert_eq!(contents(&brokers, topic).len() as u64, published);
    });
}

/// Kills the bridge a few times, each at a random moment while it mirrors. Returns the last process.
async fn kill_under_load(broker: &Broker, queue: &str, setup: &Setup, mut bridge: Bridge) -> Bridge {
    const KILLS: u64 = 5;
    let mut random = seeded();
    for _ in 0..KILLS {
        let more = counts(broker, queue).dequeued + random.u64(1..2000);
        wait_until("more events are acknowledged", SOON, || counts(broker, queue).dequeued >= more).await;
        tokio::time::sleep(Duration::from_micros(random.u64(..3000))).await;
        bridge.kill();
        bridge = setup.start();
    }
    bridge
}

/// Makes a topic in the shared Kafka, and returns the Kafka's address.
fn make_topic(topic: &str) -> String {
    kafka::shared().create_topic(topic, PARTITIONS.get(), &[]);
    kafka::shared().bootstrap()
}

#[derive(Clone, Copy, Debug)]
enum Program {
    KafkaInJava,
    KafkaInPython,
    KafkaInGo,
    JetStreamInJava,
}

impl Program {
    /// Starts the program, or tells why it cannot run here.
    fn start(self, arguments: &[&str]) -> Option<Sample> {
        match self.command() {
            Ok(mut command) => Some(Sample::start(self, command.args(arguments))),
            Err(reason) => {
                did_not_run(&format!("sinks::consumer_samples with {self:?}"), &reason);
                None
            }
        }
    }

    /// Starts all programs that read a topic and can run here, each as a group of its own.
    fn readers_of(brokers: &str, topic: &str) -> Vec<Sample> {
        let programs = [Self::KafkaInJava, Self::KafkaInPython, Self::KafkaInGo];
        let start = |program: Self| program.start(&[brokers, topic, &format!("{topic}-{program:?}")]);
        programs.into_iter().filter_map(start).collect()
    }

    fn command(self) -> Result<Command, String> {
        let java = |class| {
            let home = provisioned("consumers", "java")?;
            let mut command = Command::new("java");
            command.args(["-Xmx128m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]);
            command.arg("-cp").arg(format!("{0}/classes:{0}/lib/*", home.display())).arg(class);
            Ok(command)
        };
        match self {
            Self::KafkaInJava => java("ReadKafka"),
            Self::JetStreamInJava => java("ReadJetStream"),
            Self::KafkaInPython => {
                let home = provisioned("consumers", "python")?;
                let mut command = Command::new(home.join("venv/bin/python"));
                command.arg(home.join("read_kafka.py"));
                Ok(command)
            }
            Self::KafkaInGo => Ok(Command::new(provisioned("consumers", "go")?.join("read-kafka"))),
        }
    }
}

/// A running sample. Dropping it kills the process, which reads for ever.
struct Sample {
    program: Program,
    child: Child,
    lines: Receiver<String>,
}

impl Sample {
    fn start(program: Program, command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start a sample");
        // Room for every event of a test: a sample does not wait for the test.
        let (sender, lines) = sync_channel(100_000);
        let output = BufReader::new(child.stdout.take().expect("standard output"));
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { program, child, lines }
    }

    /// Returns the next `count` lines, split at tabs.
    fn lines(&self, count: u64) -> Vec<Vec<String>> {
        let line = |_| self.lines.recv_timeout(SOON).unwrap_or_else(|error| panic!("{self}: {error}"));
        (0..count).map(line).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    /// Asks the process to stop (SIGTERM), and waits until it has ended. It must not have printed more.
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("signal a sample");
        self.child.wait().expect("wait for a sample");
        assert_eq!(self.lines.iter().collect::<Vec<_>>(), Vec::<String>::new(), "{self}");
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}", self.program)
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        // A process that has already ended needs nothing.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
