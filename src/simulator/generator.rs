//! Generates open and pixel events of a fixed population on demand. The n-th event depends only on the seed
//! and n, so no event needs to be stored.

use clap::Args;

use crate::key::Key;

use super::form::{Form, push_number};
use super::malformed::Malformation;

/// The timestamp in the first event, in milliseconds since 1970. Each event is 1 ms later.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// The settings of the generated events, which are also arguments of `simulate`.
#[derive(Args, Clone, Debug)]
pub struct GeneratorConfig {
    /// The same seed gives the same events.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How many different MD5s there are, 10 million at most.
    #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub keys: u32,
    /// Every N-th event belongs to one MD5 more, a hot key.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub hot_every: u64,
    /// Every N-th event is an odd one; which ones, says --odd.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub odd_every: u64,
    /// The odd events, in turn; without it those that belong into the dead letters.
    #[arg(long = "odd", value_name = "NAME", value_delimiter = ',', requires = "odd_every")]
    #[arg(value_enum, default_values_t = Malformation::UNUSABLE, hide_default_value = true)]
    pub malformations: Vec<Malformation>,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        let malformations = Malformation::UNUSABLE.to_vec();
        Self { seed: 1, keys: 10_000, hot_every: 0, odd_every: 0, malformations }
    }
}

/// The event at one position of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamSlot {
    /// The regular event `nth` (from 0) of person `person`.
    Event {
        /// The person, from 0; the hot key is the one after the population.
        person: u32,
        /// The number of the event for this person, from 0, without a gap.
        nth: u64,
    },
    /// An odd event of the list in the configuration.
    Odd {
        /// In which way the event is odd.
        malformation: Malformation,
        /// The number of the odd event, from 0.
        nth: u64,
    },
}

/// Writes the events of a [`GeneratorConfig`] by their serial number, from 0.
///
/// A regular body is a JSON object with `md5_email` and `label`, as AtData calls them, `type` (`open` or
/// `pixel`), `timestamp`, `serial` (its position in the stream) and `nth` (how many earlier events the same
/// MD5 had). Every third body also has `ip` and `userAgent`.
#[derive(Clone, Debug)]
pub struct Generator {
    config: GeneratorConfig,
    /// MD5s in hex; the last one is the hot key.
    people: Vec<[u8; 32]>,
    /// Has no common factor with the population, so that each round visits every person once.
    stride: u64,
}

impl Generator {
    /// Creates the population for this configuration.
    pub fn new(config: GeneratorConfig) -> Self {
        let keys = u64::from(config.keys.max(1));
        let person = |n| Key::digest(format!("person-{n}.{}@example.com", config.seed).as_bytes()).hex();
        let people = (0..=keys).map(person).collect();
        let start = mix(config.seed) % keys;
        let stride = (start..).find(|n| *n > 0 && coprime(*n, keys)).unwrap_or(1);
        Self { config, people, stride }
    }

    /// Returns the configuration of this generator.
    pub fn config(&self) -> &GeneratorConfig {
        &self.config
    }

    /// Returns which event is at `serial`.
    pub fn slot(&self, serial: u64) -> StreamSlot {
        let (odd, regular) = take_every(serial, self.config.odd_every);
        if odd && let Some(malformation) = self.malformation(regular) {
            return StreamSlot::Odd { malformation, nth: regular };
        }
        let regular = if self.config.malformations.is_empty() { serial } else { regular };
        let (hot, cold) = take_every(regular, self.config.hot_every);
        let keys = self.people.len() as u64 - 1;
        if hot {
            return StreamSlot::Event { person: keys as u32, nth: cold };
        }
        let (round, place) = (cold / keys, cold % keys);
        let person = (place * self.stride + mix(self.config.seed ^ round)) % keys;
        StreamSlot::Event { person: person as u32, nth: round }
    }

    /// Returns the MD5 of a person, 32 lower-case hex digits.
    pub fn md5(&self, person: u32) -> &[u8; 32] {
        let last = self.people.len() - 1;
        &self.people[last.min(person as usize)]
    }

    /// Returns whether the event at `serial` has a usable key. The others must become dead letters.
    pub fn usable(&self, serial: u64) -> bool {
        !matches!(self.slot(serial), StreamSlot::Odd { malformation, .. } if !malformation.usable())
    }

    /// Returns the message type in which the event at `serial` is sent.
    pub(crate) fn form(&self, serial: u64) -> Form {
        match self.config.odd_every {
            0 => Form::Text,
            _ => match self.slot(serial) {
                StreamSlot::Odd { malformation, .. } => malformation.form(),
                StreamSlot::Event { .. } => Form::Text,
            },
        }
    }

    /// Appends the body of the event at `serial`.
    pub fn write(&self, serial: u64, out: &mut Vec<u8>) {
        match self.slot(serial) {
            StreamSlot::Event { person, nth } => self.write_event(serial, person, nth, out),
            StreamSlot::Odd { malformation, nth } => {
                let person = (mix(nth) % (self.people.len() as u64)) as u32;
                malformation.write(self.md5(person), serial, out);
            }
        }
    }

    fn write_event(&self, serial: u64, person: u32, nth: u64, out: &mut Vec<u8>) {
        let dice = mix(self.config.seed.rotate_left(32) ^ serial);
        out.extend_from_slice(b"{\"md5_email\":\"");
        out.extend_from_slice(self.md5(person));
        out.extend_from_slice(b"\",\"label\":\"rehearsal\",\"type\":\"");
        out.extend_from_slice(if dice & 1 == 0 { b"open".as_slice() } else { b"pixel" });
        out.extend_from_slice(b"\",\"timestamp\":");
        push_number(EPOCH_MS + serial, out);
        out.extend_from_slice(b",\"serial\":");
        push_number(serial, out);
        out.extend_from_slice(b",\"nth\":");
        push_number(nth, out);
        if dice.is_multiple_of(3) {
            out.extend_from_slice(b",\"ip\":\"203.0.113.");
            push_number(dice >> 8 & 255, out);
            out.extend_from_slice(
                b"\",\"userAgent\":\"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X)\"",
            );
        }
        out.push(b'}');
    }

    fn malformation(&self, nth: u64) -> Option<Malformation> {
        let count = self.config.malformations.len() as u64;
        self.config.malformations.get(nth.checked_rem(count)? as usize).copied()
    }
}

/// Splits a sequence in which the last of every `n` elements is special. Returns whether `index` is special,
/// and its index among the special elements or among the others.
fn take_every(index: u64, n: u64) -> (bool, u64) {
    match (index + 1).checked_div(n) {
        None => (false, index),
        Some(taken) if (index + 1).is_multiple_of(n) => (true, taken - 1),
        Some(taken) => (false, index - taken),
    }
}

/// Mixes the bits of a number (the finaliser of SplitMix64). Returns 32 bits, so that sums can't overflow.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 32
}

fn coprime(a: u64, b: u64) -> bool {
    if b == 0 { a == 1 } else { coprime(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn body(generator: &Generator, serial: u64) -> serde_json::Value {
        let mut out = Vec::new();
        generator.write(serial, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    proptest! {
        #[test]
        fn every_key_counts_without_a_gap(seed: u64, keys in 1u32..50, hot in 0u64..5, odd in 0u64..7) {
            let config = GeneratorConfig { seed, keys, hot_every: hot, odd_every: odd, ..Default::default() };
            let generator = Generator::new(config);
            let mut next = HashMap::new();
            let mut odd_ones = 0;
            for serial in 0..300 {
                match generator.slot(serial) {
                    StreamSlot::Event { person, nth } => {
                        let expected = next.entry(person).or_insert(0);
                        prop_assert_eq!(nth, *expected);
                        *expected += 1;
                    }
                    StreamSlot::Odd { nth, .. } => {
                        prop_assert_eq!(nth, odd_ones);
                        odd_ones += 1;
                    }
                }
            }
            prop_assert_eq!(odd_ones, 300u64.checked_div(odd).unwrap_or(0));
        }
    }

    #[test]
    fn a_body_says_what_its_slot_says() {
        let generator = Generator::new(GeneratorConfig { keys: 7, hot_every: 5, ..Default::default() });
        for serial in 0..200 {
            let StreamSlot::Event { person, nth } = generator.slot(serial) else { panic!("none is odd") };
            let body = body(&generator, serial);
            assert_eq!(body["md5_email"].as_str().unwrap().as_bytes(), generator.md5(person));
            assert_eq!(body["nth"], nth);
            assert_eq!(body["serial"], serial);
            assert_eq!(body["timestamp"], EPOCH_MS + serial);
            assert_eq!(body["label"], "rehearsal");
            assert!(["open", "pixel"].contains(&body["type"].as_str().unwrap()));
        }
    }

    #[test]
    fn the_seed_decides() {
        let write = |seed| {
            let generator = Generator::new(GeneratorConfig { seed, ..Default::default() });
            let mut out = Vec::new();
            (0..50).for_each(|serial| generator.write(serial, &mut out));
            out
        };
        assert_eq!(write(7), write(7));
        assert_ne!(write(7), write(8));
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 7, 10, 255, u64::MAX] {
            let mut out = Vec::new();
            push_number(number, &mut out);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
