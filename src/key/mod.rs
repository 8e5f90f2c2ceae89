//! Represents the key of an event: the MD5 of an email address.

mod extract;
mod partition;
mod suggest;

use std::fmt;

use md5::{Digest, Md5};

pub use extract::{KeyError, KeyPlace, KeyReading, Keying};
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        fn hex_is_read_back(bytes in any::<[u8; 16]>()) {
            let key = Key(bytes);
            prop_assert_eq!(Key::from_hex(&key.hex()), Some(key));
            prop_assert_eq!(Key::from_hex(key.to_string().to_uppercase().as_bytes()), Some(key));
        }
    }
}
