//! Finds the key in a body in one pass over the text, without building a tree.
//!
//! The pass checks that the whole body is UTF-8 and one JSON value. It checks member names, and the values on
//! the path of a pointer, completely. It checks all other values only against JSON's grammar. So it accepts
//! three things that `serde_json` would not put into a tree: nesting deeper than 128, numbers beyond an
//! `f64`, and `\ud800`-style escapes of half a character. No key comes from any of them.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Key;

/// Why a body has no usable key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The body is neither a JSON object, nor a JSON string, nor 32 hex digits.
    #[error("the body is neither a JSON object nor an MD5")]
    NotAnEvent,
    /// None of the pointers leads to a value.
    #[error("no key at {0}")]
    Missing(String),
    /// A pointer leads to a value, but that is not an MD5.
    #[error("the key is not 32 hex digits")]
    NotAnMd5,
}

impl KeyError {
    /// A short fixed word for metrics and dead letters.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotAnEvent => "not_an_event",
            Self::Missing(_) => "key_missing",
            Self::NotAnMd5 => "key_not_an_md5",
        }
    }
}

/// The result of the search for the key in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReading {
    /// The key, or why the body has none.
    pub key: Result<Key, KeyError>,
    /// True if the whole body was read as one JSON value in UTF-8. `false` proves nothing: a body that can't
    /// have a key is not read to its end.
    pub is_json: bool,
}

/// Where the key of an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPlace<'a> {
    /// The body is the key: bare hex digits or a JSON string.
    Body,
    /// The member that this JSON pointer leads to.
    Pointer(&'a str),
    /// The key is the MD5 of the body, which has no usable key in it.
    Digest,
}

/// Says where to find the key in a body.
#[derive(Clone, Debug)]
pub struct Keying {
    pointers: Vec<String>,
    way: ParseStep,
    digest_unusable: bool,
}

impl Keying {
    /// Tries the JSON pointers (RFC 6901) in order: the first that leads to a value decides. A pointer that
    /// is not empty and does not begin with `/` leads to nothing. With `digest_unusable`, a body without a
    /// usable key is keyed by its own MD5 and does not become a dead letter.
    pub fn new(pointers: Vec<String>, digest_unusable: bool) -> Self {
        let mut way = ParseStep::default();
        for (slot, pointer) in pointers.iter().enumerate() {
            way.lay(pointer, slot);
        }
        Self { pointers, way, digest_unusable }
    }

    /// Finds the key of `body`: a JSON object with one of the pointers, a JSON string, or bare 32 hex digits.
    /// If an object repeats a member, the last one counts, as in most JSON libraries.
    ///
    /// # Errors
    /// Why the body has no key. Never fails if unusable keys are replaced by the body's MD5.
    pub fn key_of(&self, body: &[u8]) -> Result<Key, KeyError> {
        self.read(body).key
    }

    /// Finds the key, and whether the search has proved that the whole body is JSON.
    pub fn read(&self, body: &[u8]) -> KeyReading {
        let mut is_json = false;
        let key = match self.find(body, &mut is_json) {
            Err(_) if self.digest_unusable => Ok(Key::digest(body)),
            found => found.map(|(key, _)| key),
        };
        KeyReading { key, is_json }
    }

    /// Returns where [`Keying::read`] finds the key of `body`; `None` if the body has no key.
    pub fn place_of(&self, body: &[u8]) -> Option<KeyPlace<'_>> {
        match self.find(body, &mut false) {
            Ok((_, place)) => Some(place),
            Err(_) => self.digest_unusable.then_some(KeyPlace::Digest),
        }
    }

    fn find(&self, body: &[u8], is_json: &mut bool) -> Result<(Key, KeyPlace<'_>), KeyError> {
        if let Some(key) = Key::from_hex(body.trim_ascii()) {
            return Ok((key, KeyPlace::Body));
        }
        let text = std::str::from_utf8(body).map_err(|_| KeyError::NotAnEvent)?;
        let start = text.trim_ascii_start().as_bytes().first();
        match start {
            Some(b'"') => {
                let mut found = [None];
                let whole = ParseStep { slot: Some(0), members: Vec::new() };
                walk(text, &whole, &mut found)?;
                *is_json = true;
                found[0].flatten().map(|key| (key, KeyPlace::Body)).ok_or(KeyError::NotAnMd5)
            }
            Some(b'{') => self.find_in_object(text, is_json),
            _ => Err(KeyError::NotAnEvent),
        }
    }

    fn find_in_object(&self, text: &str, is_json: &mut bool) -> Result<(Key, KeyPlace<'_>), KeyError> {
        let (mut few, mut many);
        let found = if self.pointers.len() <= 4 {
            few = [None; 4];
            &mut few[..]
        } else {
            many = vec![None; self.pointers.len()];
            &mut many[..]
        };
        walk(text, &self.way, found)?;
        *is_json = true;
        let mut decisive =
            self.pointers.iter().zip(found).filter_map(|(pointer, value)| Some((pointer, (*value)?)));
        match decisive.next() {
            Some((pointer, Some(key))) => Ok((key, KeyPlace::Pointer(pointer))),
            Some((_, None)) => Err(KeyError::NotAnMd5),
            None => Err(KeyError::Missing(self.pointers.join(", "))),
        }
    }
}

/// What a pointer led to: nothing (`None`), or a value that is a key or is not.
type FoundValue = Option<Option<Key>>;

fn walk(text: &str, way: &ParseStep, found: &mut [FoundValue]) -> Result<(), KeyError> {
    let mut json = serde_json::Deserializer::from_str(text);
    Walk { step: way, found }
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|_| KeyError::NotAnEvent)
}

/// All pointers as one tree. A node has the index of the pointer that ends there, and the steps on from it.
#[derive(Clone, Debug, Default)]
struct ParseStep {
    slot: Option<usize>,
    members: Vec<(String, ParseStep)>,
}

impl ParseStep {
    /// Adds a pointer. Its result goes into `slot`.
    fn lay(&mut self, pointer: &str, slot: usize) {
        let mut step = self;
        let mut tokens = pointer.split('/');
        if tokens.next() != Some("") {
            return;
        }
        for token in tokens {
            let name = token.replace("~1", "/").replace("~0", "~");
            let index = step.members.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
                step.members.push((name, Self::default()));
                step.members.len() - 1
            });
            step = &mut step.members[index].1;
        }
        step.slot.get_or_insert(slot);
    }

    fn member(&self, name: &str) -> Option<&Self> {
        self.members.iter().find(|(known, _)| known == name).map(|(_, step)| step)
    }

    /// The step to an array's element: its number without a sign or leading zeros.
    fn element(&self, index: usize) -> Option<&Self> {
        let canonical = |name: &str| name == "0" || !name.starts_with(['0', '+']);
        let names = |name: &str| canonical(name) && name.parse() == Ok(index);
        self.members.iter().find(|(name, _)| names(name)).map(|(_, step)| step)
    }

    /// Forgets the result of an earlier member of the same name, because the last one counts.
    fn forget(&self, found: &mut [FoundValue]) {
        if let Some(slot) = self.slot {
            found[slot] = None;
        }
        self.members.iter().for_each(|(_, step)| step.forget(found));
    }
}

/// Deserialises one value, and records what the pointers lead to.
struct Walk<'a> {
    step: &'a ParseStep,
    found: &'a mut [FoundValue],
}

impl Walk<'_> {
    fn note(&mut self, key: Option<Key>) {
        if let Some(slot) = self.step.slot {
            self.found[slot] = Some(key);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.note(None);
        while let Some(next) = map.next_key_seed(Name(self.step))? {
            match next {
                Some(step) => {
                    step.forget(self.found);
                    map.next_value_seed(Walk { step, found: self.found })?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        self.note(None);
        for index in 0.. {
            let more = match self.step.element(index) {
                Some(step) => seq.next_element_seed(Walk { step, found: self.found })?.is_some(),
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.note(Key::from_hex(text.as_bytes()));
        Ok(())
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.note(None);
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.visit_unit()
    }
}

/// Reads a member's name, and finds its step, if a pointer has one.
struct Name<'a>(&'a ParseStep);

impl<'de, 'a> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<&'a ParseStep>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = Option<&'a ParseStep>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.member(name))
    }
}

#[cfg(test)]
#[path = "extract_tests.rs"]
mod tests;
