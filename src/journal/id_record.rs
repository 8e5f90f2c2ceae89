//! Encodes and decodes the lines of the id log ([`super::id_log`]): a checksum of eight hex digits, a space,
//! and a [`Record`] as JSON.

use std::io::Write;

use bytes::Bytes;
use flate2::Crc;
use serde::{Deserialize, Serialize};

use super::name::Base;

/// Hex digits of a checksum.
const DIGITS: usize = 8;

/// What one group wrote: lines in some files, and the ids of their events.
#[derive(Debug, Deserialize)]
pub(super) struct Record {
    pub(super) files: Vec<Extent>,
    pub(super) ids: Vec<Id>,
}

/// Where the lines of a group are in one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extent {
    pub(super) file: Base,
    /// The length of the file before the group, in bytes.
    pub(super) start: u64,
    /// The length of the file after the group, in bytes.
    pub(super) end: u64,
    /// The CRC-32 of the bytes from `start` to `end`.
    pub(super) crc: u32,
}

impl Extent {
    /// Returns an extent without any line: the file has `len` bytes.
    pub(super) fn empty(file: Base, len: u64) -> Self {
        Self { file, start: len, end: len, crc: 0 }
    }
}

/// A message id. Brokers send text, but nothing forces them to.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Id {
    Text(String),
    Raw(Vec<u8>),
}

impl From<Id> for Bytes {
    fn from(id: Id) -> Self {
        match id {
            Id::Text(text) => text.into(),
            Id::Raw(raw) => raw.into(),
        }
    }
}

/// Message ids as the elements of a JSON array. They are encoded when they are added, so that a record needs no
/// copies of them.
#[derive(Debug, Default)]
pub(super) struct IdList {
    json: Vec<u8>,
    len: usize,
}

impl IdList {
    pub(super) fn add(&mut self, id: &[u8]) {
        if self.len > 0 {
            self.json.push(b',');
        }
        self.len += 1;
        if is_plain(id) {
            self.json.push(b'"');
            self.json.extend_from_slice(id);
            self.json.push(b'"');
            return;
        }
        match std::str::from_utf8(id) {
            Ok(text) => append_json(&mut self.json, text),
            Err(_) => append_json(&mut self.json, id),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn clear(&mut self) {
        self.json.clear();
        self.len = 0;
    }
}

/// Whether JSON has these bytes as they are between quotes, as it has nearly every id. Without an early end the
/// compiler looks at many bytes at once. Serde would need a few hundred instructions for each event.
fn is_plain(id: &[u8]) -> bool {
    id.iter()
        .fold(true, |plain, byte| plain & (b' '..=b'~').contains(byte) & (*byte != b'"') & (*byte != b'\\'))
}

/// Appends the line of a record.
pub(super) fn append_line(lines: &mut Vec<u8>, files: &[Extent], ids: &IdList) {
    let start = lines.len();
    lines.extend_from_slice(&[b' '; DIGITS + 1]);
    lines.extend_from_slice(b"{\"files\":");
    append_json(lines, files);
    lines.extend_from_slice(b",\"ids\":[");
    lines.extend_from_slice(&ids.json);
    lines.extend_from_slice(b"]}");
    let (digits, json) = lines[start..].split_at_mut(DIGITS);
    let written = write!(&mut digits[..], "{:08x}", checksum(&json[1..]));
    // Eight digits always fit.
    debug_assert!(written.is_ok());
    lines.push(b'\n');
}

/// Decodes a line. Returns `None` if it is not complete or not the line that was written.
pub(super) fn parse_line(line: &[u8]) -> Option<Record> {
    let line = line.strip_suffix(b"\n")?;
    let (digits, json) = line.split_at_checked(DIGITS)?;
    let json = json.strip_prefix(b" ")?;
    let expected = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (checksum(json) == expected).then(|| serde_json::from_slice(json).ok()).flatten()
}

/// Returns the CRC-32 of the bytes.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn append_json(target: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let written = serde_json::to_writer(target, value);
    // Writing text and numbers into a `Vec` can't fail.
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::super::name::FileNumber;
    use super::*;

    fn base(counter: u32) -> Base {
        Base::new("b1", FileNumber { at: Timestamp::UNIX_EPOCH, counter })
    }

    fn line(files: &[Extent], ids: &[Vec<u8>]) -> Vec<u8> {
        let mut list = IdList::default();
        ids.iter().for_each(|id| list.add(id));
        assert_eq!(list.len(), ids.len());
        let mut line = Vec::new();
        append_line(&mut line, files, &list);
        line
    }

    #[test]
    fn a_line_is_a_checksum_and_json() {
        let line = line(
            &[Extent { start: 3, end: 20, crc: 7, ..Extent::empty(base(1), 0) }],
            &[b"ID:a-1".to_vec(), b"\xff\0".to_vec(), b"a\"\\\n".to_vec()],
        );
        let text = String::from_utf8(line).unwrap();
        let json = r#"{"files":[{"file":"b1-19700101T000000000Z-000001","start":3,"end":20,"crc":7}],"ids":["ID:a-1",[255,0],"a\"\\\n"]}"#;
        assert_eq!(text.split_once(' ').unwrap().1, format!("{json}\n"));
        let torn = [text.trim_end(), text.trim_start_matches(char::is_alphanumeric), "", "\n", "00000000 \n"];
        for torn in torn.map(str::to_owned).into_iter().chain([text.replace("20", "21")]) {
            assert!(parse_line(torn.as_bytes()).is_none(), "{torn}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again_and_no_damage_is(
            ids in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..5),
            extents in prop::collection::vec((0u32..100, any::<u64>(), any::<u64>(), any::<u32>()), 0..4),
            at: prop::sample::Index, damage in 1u8..,
        ) {
            let files: Vec<_> = extents
                .into_iter()
                .map(|(n, start, end, crc)| Extent { file: base(n), start, end, crc })
                .collect();
            let mut line = line(&files, &ids);
            prop_assert_eq!(memchr::memchr_iter(b'\n', &line).count(), 1);
            let record = parse_line(&line).unwrap();
            prop_assert_eq!(record.files, files);
            let read: Vec<_> = record.ids.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(read, ids);
            let at = at.index(line.len());
            line[at] ^= damage;
            let digit_of_other_case = at < DIGITS && line[at].is_ascii_hexdigit();
            prop_assert!(parse_line(&line).is_none() || digit_of_other_case);
        }
    }
}
