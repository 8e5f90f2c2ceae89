//! Makes events to publish. Each has a number, which identifies it and gives its position among the events of
//! its key.

use std::fmt::Write;

use md5::{Digest, Md5};

/// The events `0..count`; they are the same in every run.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    pub count: u64,
    /// The number of different keys.
    pub keys: u64,
    /// How the events are distributed over the keys.
    pub spread: Spread,
    /// Every event whose number is one less than a multiple of this value is bad: no sink can take it.
    pub bad_every: Option<u64>,
}

/// How events are distributed over keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// The keys take turns.
    Even,
    /// Every other event has the first key.
    Hot,
}

impl Events {
    /// `count` good events with a thousand keys.
    pub fn good(count: u64) -> Self {
        Self { count, keys: 1000, spread: Spread::Even, bad_every: None }
    }

    /// Makes one event in every `every` bad.
    pub fn with_bad(mut self, every: u64) -> Self {
        self.bad_every = Some(every);
        self
    }

    pub fn bodies(self) -> impl Iterator<Item = String> + Send {
        (0..self.count).map(move |number| self.body(number))
    }

    /// The number of good events.
    pub fn good_count(&self) -> u64 {
        self.count - self.bad_every.map_or(0, |every| self.count / every)
    }

    pub fn body(&self, number: u64) -> String {
        let key = self.key(number);
        match self.defect(number) {
            None => format!(r#"{{"md5":"{key}","n":{number},"type":"open","source":"unit"}}"#),
            Some("key_missing") => format!(r#"{{"n":{number},"type":"open"}}"#),
            Some("key_not_an_md5") => format!(r#"{{"md5":"0x{key}","n":{number}}}"#),
            Some(_) => format!(r#"this is no event: "n":{number}"#),
        }
    }

    /// The key of an event: 32 lower-case hex digits.
    pub fn key(&self, number: u64) -> String {
        let person = match self.spread {
            Spread::Even => number % self.keys,
            Spread::Hot if number.is_multiple_of(2) => 0,
            Spread::Hot => 1 + number / 2 % (self.keys - 1),
        };
        let digest = Md5::digest(format!("person{person}@example.com"));
        digest.iter().fold(String::with_capacity(32), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("write to a string");
            hex
        })
    }

    /// The reason that the dead letter of a bad event must have; `None` for a good event.
    pub fn defect(&self, number: u64) -> Option<&'static str> {
        let every = self.bad_every?;
        if number % every != every - 1 {
            return None;
        }
        let kinds = ["key_missing", "key_not_an_md5", "not_an_event"];
        Some(kinds[usize::try_from(number / every % 3).expect("less than three")])
    }
}

/// Finds the number of the event in a text that contains its body: a line of a file, an envelope or a dead
/// letter.
pub fn number_in(text: &str) -> Option<u64> {
    // In a dead letter the body is a JSON string: its quotes are escaped.
    let found = ["\"n\":", "\\\"n\\\":"].iter().find_map(|mark| text.split_once(mark))?.1;
    let digits = found.split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok()
}
