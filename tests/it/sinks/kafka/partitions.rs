//! The partition of a key is Java's: computed by the real Java client, compared with ours.

use std::fmt::Display;
use std::io::Write;
use std::num::NonZeroU32;
use std::process::{Command, Stdio};
use std::thread;

use atdata_bridge::key::Key;

use kit::kafka;

/// One, powers of two, what people use, what divides nothing, and the most that Kafka's protocol can name.
const COUNTS: [u32; 8] = [1, 2, 7, 12, 64, 1000, 65_537, i32::MAX as u32];

#[test]
fn keys_fall_into_the_partitions_of_javas_producer() {
    if !kafka::available(concat!(module_path!(), "::keys_fall_into_the_partitions_of_javas_producer")) {
        return;
    }
    let keys = keys(20_000);
    let answers = answers(&mut java(&COUNTS), &keys);
    let lines: Vec<&str> = answers.lines().collect();
    assert_eq!(lines.len(), keys.len());
    for (key, line) in keys.iter().zip(lines) {
        let (_, partitions) = line.split_once(' ').expect("a hash and partitions");
        let ours = COUNTS.map(|count| key.partition(NonZeroU32::new(count).unwrap()).to_string());
        assert_eq!(partitions, ours.join(" "), "{key}");
    }
    // Some hashes are below zero, where others than Java differ.
    assert!(answers.lines().any(|line| line.starts_with('-')));

    let mut verb = Command::new(env!("CARGO_BIN_EXE_atdata-bridge"));
    let told = self::answers(verb.args(["partition", "--partitions", "12"]), &keys[..1000]);
    let twelfth = COUNTS.iter().position(|&count| count == 12).unwrap();
    for ((key, told), line) in keys.iter().zip(told.lines()).zip(answers.lines()) {
        let java = line.split(' ').nth(1 + twelfth).expect("a partition");
        assert_eq!(told, format!("{key}\t{java}"));
    }
}

/// The partitions among so many in which Java's own producer puts keys; blocks.
pub fn partitions_in_java(keys: &[String], count: u32) -> Vec<u32> {
    let answers = answers(&mut java(&[count]), keys);
    let partition = |line: &str| line.split(' ').nth(1)?.parse().ok();
    answers.lines().map(|line| partition(line).expect("a hash and a partition")).collect()
}

/// Java's client: prints the hash of each key, and its partition among each of the counts.
fn java(counts: &[u32]) -> Command {
    let home = kafka::directory().expect("a directory");
    let mut java = Command::new("java");
    java.arg("-cp").arg(format!("{0}/classes:{0}/lib/*", home.display())).arg("Partitions");
    java.args(counts.iter().map(u32::to_string));
    java
}

fn keys(count: usize) -> Vec<Key> {
    let mut random = fastrand::Rng::new();
    let extremes = [Key::from_hex(&[b'0'; 32]).unwrap(), Key::from_hex(&[b'f'; 32]).unwrap()];
    let others = (extremes.len()..count).map(|_| Key::digest(&random.u128(..).to_le_bytes()));
    extremes.into_iter().chain(others).collect()
}

/// What a program makes of keys, a line each, on its standard input.
fn answers(program: &mut Command, keys: &[impl Display]) -> String {
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start a program");
    let lines: String = keys.iter().map(|key| format!("{key}\n")).collect();
    let mut input = child.stdin.take().expect("standard input");
    let writer = thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("wait for a program");
    writer.join().expect("a thread").expect("write the keys");
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).expect("text")
}
