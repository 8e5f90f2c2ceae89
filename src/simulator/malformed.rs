//! Defines odd events that a consumer must survive: without a usable key, in unusual form, or against the
//! protocol.

use clap::ValueEnum;

use crate::source::openwire::wire::properties::{self, Value};

use super::form::{Form, push_number};

// The comments of the variants are no documentation, because clap would add that to the help of `--odd`.
/// One way to be odd. Every odd body contains `serial` and a number, so that a reader can identify it. All
/// but [`Malformation::Binary`], [`Malformation::Nul`] and [`Malformation::Map`] are text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Malformation {
    // A JSON object without `md5`.
    NoKey,
    // A text that is not JSON.
    NotJson,
    // The MD5 with `0x` before it, a form that AtData says does not work.
    Prefixed,
    // An MD5 that lacks its last digit.
    Short,
    // JSON with bytes that are not UTF-8.
    Binary,
    // The MD5 in upper case: usable.
    UpperCase,
    // JSON in several lines that end with CR LF: usable.
    Lines,
    // An emoji as old brokers write it, as two surrogates of three bytes each (CESU-8): usable.
    Cesu8,
    // A body of a million bytes: usable if the consumer accepts bodies of that size.
    Large,
    // A raw NUL, so no JSON. Over STOMP, without a content-length, the frame ends there and the rest of the
    // body is garbage. No client can consume the messages after it.
    Nul,
    // A message of name and value pairs ([`Form::Map`]), which only its producer understands.
    Map,
    // A text that its producer compressed ([`Form::Compressed`]): usable.
    Compressed,
}

impl Malformation {
    /// Returns all ways to be odd, in a fixed order.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    /// Those without a usable key that cause no other problem. They must become dead letters.
    pub const UNUSABLE: [Self; 5] = [Self::NoKey, Self::NotJson, Self::Prefixed, Self::Short, Self::Binary];

    /// Returns whether the body has a usable key.
    pub fn usable(self) -> bool {
        matches!(self, Self::UpperCase | Self::Lines | Self::Cesu8 | Self::Large | Self::Compressed)
    }

    /// Returns the message type in which it is sent.
    pub(crate) fn form(self) -> Form {
        match self {
            Self::Map => Form::Map,
            Self::Compressed => Form::Compressed,
            _ => Form::Text,
        }
    }

    /// Appends the body for the event at `serial`.
    pub(crate) fn write(self, md5: &[u8; 32], serial: u64, out: &mut Vec<u8>) {
        if self == Self::Map {
            return write_map(md5, serial, out);
        }
        let mut parts = |before: &[u8], md5: &[u8], after: &[u8]| {
            for part in [before, md5, after] {
                out.extend_from_slice(part);
            }
            push_number(serial, out);
        };
        const MD5: &[u8] = b"{\"md5_email\":\"";
        const SERIAL: &[u8] = b"\",\"serial\":";
        match self {
            Self::NoKey => parts(b"{\"type\":\"open", b"", SERIAL),
            Self::NotJson => parts(b"<event md5=\"", md5, b"\"/> serial "),
            Self::Prefixed => parts(b"{\"md5_email\":\"0x", md5, SERIAL),
            Self::Short => parts(MD5, md5.split_last().map_or(&[], |(_, rest)| rest), SERIAL),
            Self::Binary => parts(MD5, md5, b"\",\"name\":\"\xff\xfe\x80\",\"serial\":"),
            Self::UpperCase => parts(MD5, &md5.to_ascii_uppercase(), SERIAL),
            Self::Lines => parts(b"{\r\n  \"md5_email\": \"", md5, b"\",\r\n  \"serial\": "),
            Self::Cesu8 => parts(MD5, md5, b"\",\"name\":\"\xed\xa0\xbd\xed\xb8\x80\",\"serial\":"),
            Self::Large | Self::Nul | Self::Map | Self::Compressed => parts(MD5, md5, SERIAL),
        }
        match self {
            Self::NotJson => {}
            Self::Lines => out.extend_from_slice(b"\r\n}"),
            Self::Large => {
                out.extend_from_slice(b",\"padding\":\"");
                out.resize(out.len() + 1_000_000, b'x');
                out.extend_from_slice(b"\"}");
            }
            Self::Nul => out.extend_from_slice(b",\"name\":\"\0\"}"),
            _ => out.push(b'}'),
        }
    }
}

/// Appends a map in its OpenWire encoding, with the same members as the texts.
fn write_map(md5: &[u8; 32], serial: u64, out: &mut Vec<u8>) {
    let md5 = String::from_utf8_lossy(md5).into_owned();
    let entries = [("md5_email", md5), ("serial", serial.to_string())];
    let entries = entries.map(|(name, value)| (name.to_owned(), Value::Text(value)));
    out.extend_from_slice(&properties::encode(&entries));
}

#[cfg(test)]
mod tests {
    use crate::key::{Key, Keying};

    use super::*;

    /// CESU-8 is repaired before the bridge searches the key. The bridge does not search in maps.
    #[test]
    fn usable_means_that_a_key_is_found() {
        let keying = Keying::new(vec!["/md5_email".to_owned()], false);
        let key = Key::digest(b"somebody");
        let searched = |it: &Malformation| !matches!(it, Malformation::Cesu8 | Malformation::Map);
        for malformation in Malformation::all().filter(searched) {
            let mut body = Vec::new();
            malformation.write(&key.hex(), 7, &mut body);
            let found = keying.key_of(&body);
            assert_eq!(found.is_ok(), malformation.usable(), "{malformation:?}: {found:?}");
            assert!(found.is_err() || found == Ok(key), "{malformation:?}");
        }
    }

    #[test]
    fn names_do_not_change() {
        let names: Vec<_> = Malformation::all().filter_map(|it| it.to_possible_value()).collect();
        let names: Vec<_> = names.iter().map(|name| name.get_name()).collect();
        let expected =
            "no-key not-json prefixed short binary upper-case lines cesu8 large nul map compressed";
        assert_eq!(names.join(" "), expected);
    }
}
