//! Defines how a destination is read back: its records, each with its position.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::error::SinkError;

/// The place of a record in its destination. The text names it in one word: `events-b1.jsonl:17`, `3:17` or
/// `17`; it parses back into the same position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// In files: the name of the file as it is without compression, and the number of the line, from 1.
    Line {
        /// The file's name, such as `events-b1.jsonl`.
        file: Arc<str>,
        /// The number of the line, from 1.
        line: u64,
    },
    /// In a topic: the partition, and the offset in it.
    Offset {
        /// The number of the partition, from 0.
        partition: i32,
        /// The offset in the partition, from 0.
        offset: i64,
    },
    /// In a stream: the sequence number, from 1.
    Sequence(u64),
}

impl Position {
    /// Returns what the text of the position consists of, for people.
    pub fn form(&self) -> &'static str {
        match self {
            Self::Line { .. } => "file:line",
            Self::Offset { .. } => "partition:offset",
            Self::Sequence(_) => "sequence",
        }
    }

    /// Makes the error for a position that a destination can't have. `expected` is the form of its own ones.
    pub fn wrong_form(&self, expected: &str) -> SinkError {
        SinkError::misconfigured(format!(
            "the position {self} is of the form {}, and positions here are of the form {expected}",
            self.form()
        ))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{file}:{line}"),
            Self::Offset { partition, offset } => write!(f, "{partition}:{offset}"),
            Self::Sequence(sequence) => sequence.fmt(f),
        }
    }
}

/// Why a text is not a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a position: copy one that `show` prints, of the form file:line, partition:offset or sequence"
)]
pub struct PositionError(String);

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let parsed = match text.rsplit_once(':') {
            None => text.parse().ok().map(Self::Sequence),
            Some((place, number)) => match place.parse() {
                Ok(partition) => number.parse().ok().map(|offset| Self::Offset { partition, offset }),
                Err(_) if place.is_empty() => None,
                Err(_) => number.parse().ok().map(|line| Self::Line { file: place.into(), line }),
            },
        };
        parsed.ok_or_else(|| PositionError(text.to_owned()))
    }
}

/// A record as the destination has stored it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// The place of the record.
    pub position: Position,
    /// The record, byte for byte; of a line without its line feed. Empty if the destination stores a record
    /// without a value.
    pub content: Bytes,
}

/// Where a reader sends the records. Bounded, so a slow receiver slows the reader down. The reader ends when
/// the receiver is dropped.
pub type RecordSender = mpsc::Sender<StoredRecord>;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_of_a_position_parses_back() {
        for (position, text) in [
            (Position::Line { file: "b1-x.jsonl".into(), line: 17 }, "b1-x.jsonl:17"),
            (Position::Line { file: "a:b.jsonl".into(), line: 1 }, "a:b.jsonl:1"),
            (Position::Offset { partition: 3, offset: 0 }, "3:0"),
            (Position::Sequence(u64::MAX), "18446744073709551615"),
        ] {
            assert_eq!((position.to_string().as_str(), text.parse()), (text, Ok(position)));
        }
    }

    proptest! {
        #[test]
        fn any_other_text_is_refused_with_advice(text in "(:?[a-z]{0,3}|[0-9]{1,3}:-?[a-z]|[0-9]{30})") {
            let error = text.parse::<Position>().unwrap_err().to_string();
            prop_assert!(error.starts_with(&format!("`{text}`")) && error.contains("`show` prints"), "{error}");
        }
    }
}
