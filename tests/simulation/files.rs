//! Reads what the bridges of a simulation have written to files, as readers do, and as a power cut would leave it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use atdata_bridge::simulator::{Generator, StreamSlot};
use flate2::read::GzDecoder;
use memchr::{memchr, memmem, memrchr};
use serde_json::Value;

use crate::destination::number_in;
use crate::disk::SimulatedDisk;
use crate::disk::content::Content;
use crate::schedule::Setting;

/// The directory of the file sink.
pub const EVENTS: &str = "/simulated/events";
/// The directory of the dead letters.
pub const LETTERS: &str = "/simulated/letters";

/// What the disks of all machines hold.
pub struct Files<'a> {
    pub disks: &'a [SimulatedDisk],
}

/// What is in a file.
#[derive(Clone, Default)]
pub struct Found {
    events: Vec<u64>,
    letters: Vec<Letter>,
}

/// A dead letter: the number of its event, and the name of the sink that refused it; none if the event has no usable key.
pub type Letter = (u64, Option<String>);

impl Files<'_> {
    /// Which of these events have lines that a power cut would leave.
    pub fn durable_events(&self, numbers: &[u64]) -> BTreeSet<u64> {
        let mut there = BTreeSet::new();
        self.each_durable(EVENTS, |found| {
            there.extend(numbers.iter().filter(|number| found.events.contains(number)));
        });
        there
    }

    /// The dead letters that a power cut would leave.
    pub fn durable_letters(&self) -> BTreeSet<Letter> {
        let mut there = BTreeSet::new();
        self.each_durable(LETTERS, |found| there.extend(found.letters.iter().cloned()));
        there
    }

    fn each_durable(&self, directory: &str, mut show: impl FnMut(&Found)) {
        for disk in self.disks {
            disk.each_durable(Path::new(directory), |name, content| {
                // It has another name once it is complete.
                if is_hidden(name) || name.ends_with(".tmp") {
                    return;
                }
                if content.found.is_none() {
                    content.found = Some(found(directory, name, content.durable()));
                }
                content.found.iter().for_each(&mut show);
            });
        }
    }

    /// Checks the files at the end, when every process has drained.
    pub fn check(&self, setting: &Setting, generator: &Generator) -> Result<(), String> {
        let mut there = BTreeSet::new();
        for disk in self.disks {
            for directory in [EVENTS, LETTERS].map(Path::new) {
                let files = disk.files(directory);
                if let Some((name, _)) =
                    files.iter().find(|(name, _)| !is_hidden(name) && !is_published(name))
                {
                    return Err(format!("{name} is not finished"));
                }
                if files != disk.durable_files(directory) {
                    return Err(format!("the files in {} are not durable", directory.display()));
                }
            }
            let events: Vec<u64> =
                lines(disk.files(Path::new(EVENTS))).iter().map(|line| number(line)).collect();
            once(&events)?;
            if setting.replicas == 1 {
                order(&events, generator)?;
            }
            there.extend(events);
            let letters = lines(disk.files(Path::new(LETTERS)));
            once(&letters.iter().map(|line| letter(line)).collect::<Vec<_>>())?;
        }
        if setting.files.is_none() {
            return Ok(());
        }
        for number in 1..=setting.events {
            if generator.usable(number - 1) != there.contains(&number) {
                let has = there.contains(&number);
                return Err(format!("files have event {number}: {has}, and should have it: {}", !has));
            }
        }
        Ok(())
    }
}

/// No process writes an event to its files twice (I5).
fn once<T: Ord + std::fmt::Debug>(all: &[T]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match all.iter().find(|one| !seen.insert(*one)) {
        Some(twice) => Err(format!("the files of a process have {twice:?} twice")),
        None => Ok(()),
    }
}

/// The events of each key are in the order of publishing (I3).
fn order(events: &[u64], generator: &Generator) -> Result<(), String> {
    let mut last = BTreeMap::new();
    for number in events {
        let StreamSlot::Event { person, .. } = generator.slot(number - 1) else { continue };
        if let Some(before) = last.insert(person, *number)
            && before > *number
        {
            return Err(format!("the files have {number} of person {person} after {before}"));
        }
    }
    Ok(())
}

fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

/// Whether readers may take a file with this name.
pub fn is_published(name: &str) -> bool {
    !is_hidden(name) && [".jsonl", ".jsonl.zst", ".jsonl.gz"].iter().any(|ending| name.ends_with(ending))
}

/// Checks a file that gets a name. Returns whether readers may take it from now on.
pub fn check_published(name: &str, content: &Content) -> Result<bool, String> {
    if !is_published(name) {
        return Ok(false);
    }
    if content.bytes() != content.durable() {
        return Err(format!("{name} is for readers before it is durable"));
    }
    let text = plain(name, content.bytes()).map_err(|why| format!("{name} is for readers and {why}"))?;
    let is_whole = |line: &[u8]| serde_json::from_slice::<Value>(line).is_ok();
    let (last, whole) = text
        .split(|byte| *byte == b'\n')
        .collect::<Vec<_>>()
        .split_last()
        .map_or((true, true), |(last, lines)| (last.is_empty(), lines.iter().all(|line| is_whole(line))));
    match last && whole && !text.is_empty() {
        true => Ok(true),
        false => Err(format!("{name} is for readers and has a torn line")),
    }
}

/// The content of a file with this name, not compressed.
fn plain(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let read = if name.contains(".zst") {
        zstd::Decoder::new(bytes).and_then(|mut decoder| decoder.read_to_end(&mut text))
    } else if name.contains(".gz") {
        GzDecoder::new(bytes).read_to_end(&mut text)
    } else {
        text.extend_from_slice(bytes);
        Ok(text.len())
    };
    read.map_err(|error| format!("can't be read: {error}"))?;
    Ok(text)
}

/// What a file holds, as far as it is whole.
fn found(directory: &str, name: &str, bytes: &[u8]) -> Found {
    let mut found = Found::default();
    let Ok(mut text) = plain(name, bytes) else { return found };
    text.truncate(memchr(0, &text).unwrap_or(text.len()));
    text.truncate(memrchr(b'\n', &text).map_or(0, |last| last + 1));
    if directory == LETTERS {
        found.letters = text.split_inclusive(|byte| *byte == b'\n').map(letter).collect();
    } else {
        found.events = memmem::find_iter(&text, SERIAL).map(|at| number(&text[at..])).collect();
    }
    found
}

/// The whole lines in files, in the order of their names. Of a file with two names they come once.
fn lines(files: Vec<(String, Vec<u8>)>) -> Vec<Vec<u8>> {
    let base = |name: &str| name.split(".jsonl").next().unwrap_or_default().to_owned();
    let ready: BTreeSet<String> =
        files.iter().filter(|(name, _)| name.ends_with(".ready")).map(|(name, _)| base(name)).collect();
    let mut lines = Vec::new();
    for (name, bytes) in files {
        let is_double = name.ends_with(".open") && ready.contains(&base(&name));
        if is_hidden(&name) || name.ends_with(".tmp") || is_double {
            continue;
        }
        // What is not whole yet is not durable either.
        let Ok(text) = plain(&name, &bytes) else { continue };
        let mut all: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        all.pop();
        lines.extend(all.into_iter().filter(|line| !line.contains(&0)).map(<[u8]>::to_vec));
    }
    lines
}

/// What stands before the number of an event in its body.
const SERIAL: &[u8] = b"serial";

/// The number of the event in a line.
fn number(line: &[u8]) -> u64 {
    let at = memmem::find(line, SERIAL).expect("a body has a serial");
    let digits = line[at..].iter().skip_while(|byte| !byte.is_ascii_digit());
    let digits = digits.take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')) + 1
}

fn letter(line: &[u8]) -> Letter {
    let line: Value = serde_json::from_slice(line).expect("a dead letter is JSON");
    let id = line["message_id"].as_str().expect("a dead letter has an id");
    (number_in(id), line["sink"].as_str().map(str::to_owned))
}
