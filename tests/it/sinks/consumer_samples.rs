//! Tests that docs/consumers.md shows the programs of `examples/consumers`, and that they read the mirrored
//! events.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use atdata_bridge::key::Key;
use atdata_bridge::simulator::{Simulator, SimulatorConfig};
use tokio::task::spawn_blocking;

use kit::bridge::Setup;
use kit::events::{Events, Spread, number_in};
use kit::kafka::{self, on_kafka};
use kit::nats::{self, on_nats};
use kit::provision::provisioned;
use kit::{SOON, did_not_run};

fn in_tree(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_page_shows_the_programs_that_these_tests_run() {
    let page = in_tree("docs/consumers.md");
    for program in ["ReadKafka", "ReadJetStream"] {
        let text = in_tree(&format!("examples/consumers/{program}.java"));
        assert!(
            page.contains(&format!("```java\n{text}```\n")),
            "docs/consumers.md shows a different {program}"
        );
    }
}

const EVENTS: Events = Events { count: 50, keys: 7, spread: Spread::Even, bad_every: None };

/// Mirrors the events into `sink`, whose settings are `BRIDGE__SINKS__*` variables, and reads them with
/// `program`. Returns the printed fields by event number.
async fn mirror_and_read(
    sink: &[(&str, &str)],
    program: &str,
    arguments: &[&str],
) -> Option<BTreeMap<u64, Vec<String>>> {
    let sample = match Sample::start(program, arguments) {
        Ok(sample) => sample,
        Err(reason) => {
            did_not_run(&format!("consumer_samples::{program}"), &reason);
            return None;
        }
    };
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    simulator.declare_queue("acme", "dest1");
    EVENTS.bodies().for_each(|body| simulator.publish("acme", body));
    let setup = Setup::at(&simulator.url(), "acme", "dest1", "acme-dest1-1").set("EVENT__PARTITIONS", "3");
    let setup = sink.iter().fold(setup, |setup, (name, value)| setup.set(&format!("SINKS__{name}"), *value));
    let _bridge = setup.start();
    let lines = spawn_blocking(move || sample.lines(EVENTS.count as usize)).await.unwrap();
    Some(lines.into_iter().map(|line| (number_in(line.last().unwrap()).unwrap(), line)).collect())
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
    let kafka = kafka::shared();
    kafka.create_topic("samples", 3, &[]);
    let brokers = kafka.bootstrap();
    let sink = [("KAFKA__BROKERS", brokers.as_str()), ("KAFKA__TOPIC", "samples")];
    let Some(read) = mirror_and_read(&sink, "ReadKafka", &[&brokers, "samples"]).await else { return };
    assert_events(&read);
    for (number, fields) in read {
        let key = Key::from_hex(EVENTS.key(number).as_bytes()).unwrap();
        assert_eq!(fields[0], key.partition(NonZeroU32::new(3).unwrap()).to_string());
    }
}

async fn reads_a_stream_with_headers() {
    let nats = nats::shared();
    nats::make_stream(&nats.jetstream().await, "SAMPLES", &["samples.>"]).await;
    let url = nats.url();
    let sink =
        [("NATS__URL", url.as_str()), ("NATS__STREAM", "SAMPLES"), ("NATS__SUBJECT", "samples.{partition}")];
    if let Some(read) = mirror_and_read(&sink, "ReadJetStream", &[&url, "SAMPLES"]).await {
        assert_events(&read);
    }
}

on_kafka!(reads_a_topic_with_keys_and_headers);
on_nats!(reads_a_stream_with_headers);

/// A running sample. Dropping it kills the process, which reads for ever.
pub struct Sample {
    child: std::process::Child,
    lines: Receiver<String>,
}

impl Sample {
    /// Starts `program`, or returns the reason why it cannot run here.
    pub fn start(program: &str, arguments: &[&str]) -> Result<Self, String> {
        let home = provisioned("consumers", "samples")?;
        let mut command = Command::new("java");
        command.arg("-cp").arg(format!("{0}/classes:{0}/lib/*", home.display())).arg(program).args(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start a sample");
        let (sender, lines) = sync_channel(16);
        let output = BufReader::new(child.stdout.take().expect("standard output"));
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, lines })
    }

    /// Returns the next `count` lines, split at tabs.
    pub fn lines(&self, count: usize) -> Vec<Vec<String>> {
        let line = |_| self.lines.recv_timeout(SOON).expect("another line");
        (0..count).map(line).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        // A process that has already ended needs nothing.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
