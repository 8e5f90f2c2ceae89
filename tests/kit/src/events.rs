//! Events to publish, each with a number that is its identity and, among the events of one key, its place.

use std::fmt::Write;

use md5::{Digest, Md5};

/// The events `0..count`; the same every time they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    /// How many.
    pub count: u64,
    /// Over how many keys they spread.
    pub keys: u64,
    /// How they spread.
    pub spread: Spread,
    /// Every so many-th event is one that no sink can take.
    pub bad_every: Option<u64>,
}

/// How events spread over keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// In turn.
    Even,
    /// Every other event has the first key.
    Hot,
}

impl Events {
    /// So many good events over a thousand keys.
    pub fn good(count: u64) -> Self {
        Self { count, keys: 1000, spread: Spread::Even, bad_every: None }
    }

    /// The same with a bad one in every `every`.
    pub fn with_bad(mut self, every: u64) -> Self {
        self.bad_every = Some(every);
        self
    }

    /// The bodies in order.
    pub fn bodies(self) -> impl Iterator<Item = String> + Send {
        (0..self.count).map(move |number| self.body(number))
    }

    /// How many are good.
    pub fn good_count(&self) -> u64 {
        self.count - self.bad_every.map_or(0, |every| self.count / every)
    }

    /// The body of one event.
    pub fn body(&self, number: u64) -> String {
        let key = self.key(number);
        match self.defect(number) {
            None => format!(r#"{{"md5":"{key}","n":{number},"type":"open","source":"unit"}}"#),
            Some("key_missing") => format!(r#"{{"n":{number},"type":"open"}}"#),
            Some("key_not_an_md5") => format!(r#"{{"md5":"0x{key}","n":{number}}}"#),
            Some(_) => format!(r#"this is no event: "n":{number}"#),
        }
    }

    /// The key of one event: 32 lower-case hex digits.
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

    /// The reason that the dead letter of a bad event must give; `None` for a good one.
    pub fn defect(&self, number: u64) -> Option<&'static str> {
        let every = self.bad_every?;
        if number % every != every - 1 {
            return None;
        }
        let kinds = ["key_missing", "key_not_an_md5", "not_an_event"];
        Some(kinds[usize::try_from(number / every % 3).expect("less than three")])
    }
}

/// The number of the event in a text that holds its body: a line of a file, an envelope, a dead letter.
pub fn number_in(text: &str) -> Option<u64> {
    // In a dead letter the body is a JSON string: its quotes are escaped.
    let found = ["\"n\":", "\\\"n\\\":"].iter().find_map(|mark| text.split_once(mark))?.1;
    let digits = found.split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok()
}
