//! The key of an event: the MD5 of an email address, found in the body; and the partition it belongs to.

use std::fmt;

use md5::{Digest, Md5};

/// The MD5 in an event, as 16 bytes; shown as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// The MD5 of `bytes`.
    pub fn digest(bytes: &[u8]) -> Self {
        Self(Md5::digest(bytes).into())
    }

    /// Reads 32 hex digits of either case; anything else is `None`.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let mut key = [0; 16];
        if text.len() != 32 {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = (high << 4 | low) as u8;
        }
        Some(Self(key))
    }

    /// The key as 32 lower-case hex digits: the form that every sink uses.
    pub fn hex(&self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }

    /// The partition of this key among `partitions`: `(murmur2(hex) & 0x7fffffff) mod N`, as Kafka's Java
    /// client does it (D5).
    pub fn partition(&self, partitions: std::num::NonZeroU32) -> u32 {
        (murmur2(&self.hex()) & 0x7fff_ffff) % partitions
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.hex()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a body has no usable key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyDefect {
    /// The body is neither a JSON object, nor a JSON string, nor 32 hex digits.
    #[error("the body is neither a JSON object nor an MD5")]
    NotAnEvent,
    /// None of the pointers leads anywhere.
    #[error("no key at {0}")]
    Missing(String),
    /// There is something, but it is no MD5.
    #[error("the key is not 32 hex digits")]
    NotAnMd5,
}

impl KeyDefect {
    /// A short fixed word for metrics and dead letters.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotAnEvent => "not_an_event",
            Self::Missing(_) => "key_missing",
            Self::NotAnMd5 => "key_not_an_md5",
        }
    }
}

/// Where to look for the key.
#[derive(Clone, Debug)]
pub struct Keying {
    pointers: Vec<String>,
    digest_unusable: bool,
}

impl Keying {
    /// Tries the JSON pointers in order. `digest_unusable`: a body without a usable key is keyed by its
    /// own MD5 instead of ending in the dead letters.
    pub fn new(pointers: Vec<String>, digest_unusable: bool) -> Self {
        Self { pointers, digest_unusable }
    }

    /// The key of `body`: a JSON object with one of the pointers, a JSON string, or bare 32 hex digits.
    ///
    /// # Errors
    /// Why there is none; never, when unusable keys are replaced by the body's MD5.
    pub fn key_of(&self, body: &[u8]) -> Result<Key, KeyDefect> {
        match self.find(body) {
            Err(_) if self.digest_unusable => Ok(Key::digest(body)),
            found => found,
        }
    }

    fn find(&self, body: &[u8]) -> Result<Key, KeyDefect> {
        if let Some(key) = Key::from_hex(body.trim_ascii()) {
            return Ok(key);
        }
        let tree: serde_json::Value = serde_json::from_slice(body).map_err(|_| KeyDefect::NotAnEvent)?;
        if let serde_json::Value::String(text) = &tree {
            return Key::from_hex(text.as_bytes()).ok_or(KeyDefect::NotAnMd5);
        }
        let found = self.pointers.iter().find_map(|pointer| tree.pointer(pointer));
        let found = found.ok_or_else(|| KeyDefect::Missing(self.pointers.join(", ")))?;
        found.as_str().and_then(|text| Key::from_hex(text.as_bytes())).ok_or(KeyDefect::NotAnMd5)
    }
}

/// Kafka's murmur2, seed 0x9747b28c (`org.apache.kafka.common.utils.Utils#murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    for (n, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * n);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}
