//! Finds the key of an event, the MD5 of an email address, in its body, and computes the partition of the
//! key.

mod keying;
mod suggest;

use std::fmt;
use std::num::NonZeroU32;

use md5::{Digest, Md5};

pub use keying::{KeyDefect, Keying, Reading};
pub use suggest::Suggestions;

/// The MD5 in an event, as 16 bytes. It is shown as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// Computes the MD5 of `bytes` as a key.
    pub fn digest(bytes: &[u8]) -> Self {
        Self(Md5::digest(bytes).into())
    }

    /// Reads 32 hex digits of either case. Any other text gives `None`.
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

    /// Returns the key as 32 lower-case hex digits: the form that every sink uses.
    pub fn hex(&self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }

    /// Returns the partition of this key among `partitions`: `(murmur2(hex) & 0x7fffffff) mod N`, as Kafka's
    /// Java client computes it (D5).
    pub fn partition(&self, partitions: NonZeroU32) -> u32 {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The test vectors of Kafka's own `UtilsTest#testMurmur2`.
    #[test]
    fn murmur2_is_that_of_kafka() {
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }

    /// Kafka hashes the 32 characters, not the 16 bytes, and clears the sign bit instead of negating.
    #[test]
    fn the_partition_is_of_the_hex_form() {
        let key = Key::digest(b"jane@example.com");
        let twelve = NonZeroU32::new(12).unwrap();
        let hash = murmur2(key.to_string().as_bytes()).cast_signed();
        assert_eq!(i64::from(key.partition(twelve)), i64::from(hash & i32::MAX) % 12);
        assert_eq!(key.partition(NonZeroU32::MIN), 0);
    }

    #[test]
    fn only_32_hex_digits_are_a_key() {
        let key = Key::from_hex(b"9E107D9D372BB6826BD81D3542A419D6").unwrap();
        assert_eq!(key, Key::digest(b"The quick brown fox jumps over the lazy dog"));
        assert_eq!(key.to_string(), "9e107d9d372bb6826bd81d3542a419d6");
        for text in [
            "",
            "9e107d9d372bb6826bd81d3542a419d",
            "9e107d9d372bb6826bd81d3542a419d66",
            "0x9e107d9d372bb6826bd81d3542a419d6",
            "0x107d9d372bb6826bd81d3542a419d6",
            "+e107d9d372bb6826bd81d3542a419d6",
            " e107d9d372bb6826bd81d3542a419d6",
            "ge107d9d372bb6826bd81d3542a419d6",
        ] {
            assert_eq!(Key::from_hex(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn hex_is_read_back(bytes in any::<[u8; 16]>(), partitions in 1..u32::MAX) {
            let key = Key(bytes);
            prop_assert_eq!(Key::from_hex(&key.hex()), Some(key));
            prop_assert_eq!(Key::from_hex(key.to_string().to_uppercase().as_bytes()), Some(key));
            prop_assert!(key.partition(NonZeroU32::new(partitions).unwrap()) < partitions);
        }
    }
}
