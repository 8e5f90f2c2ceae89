//! Tests that our partitions of keys are the ones that the real Java client computes.

use std::fmt::Display;
use std::io::Write;
use std::num::NonZeroU32;
use std::process::{Command, Stdio};
use std::thread;

use atdata_bridge::key::Key;

use kit::kafka;

/// One, powers of two, common counts, a prime, and the largest count that Kafka's protocol allows.
const COUNTS: [u32; 8] = [1, 2, 7, 12, 64, 1000, 65_537, i32::MAX as u32];

#[test]
fn keys_have_the_partitions_of_javas_producer() {
    if !kafka::available(concat!(module_path!(), "::keys_have_the_partitions_of_javas_producer")) {
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
    // Some hashes are negative, where other implementations differ from Java's.
    assert!(answers.lines().any(|line| line.starts_with('-')));

    let mut verb = Command::new(env!("CARGO_BIN_EXE_atdata-bridge"));
    let printed = self::answers(verb.args(["partition", "--partitions", "12"]), &keys[..1000]);
    let twelfth = COUNTS.iter().position(|&count| count == 12).unwrap();
    for ((key, printed), line) in keys.iter().zip(printed.lines()).zip(answers.lines()) {
        let java = line.split(' ').nth(1 + twelfth).expect("a partition");
        assert_eq!(printed, format!("{key}\t{java}"));
    }
}

/// Returns the partitions, of `count`, into which Java's own producer puts the keys. Blocks.
pub fn partitions_in_java(keys: &[String], count: u32) -> Vec<u32> {
    let answers = answers(&mut java(&[count]), keys);
    let partition = |line: &str| line.split(' ').nth(1)?.parse().ok();
    answers.lines().map(|line| partition(line).expect("a hash and a partition")).collect()
}

/// Builds the command of Java's client, which prints the hash of each key and its partition for each count.
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

/// Writes the keys to the program's standard input, one a line, and returns its output.
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
