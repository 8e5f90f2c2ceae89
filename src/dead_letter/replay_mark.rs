//! Defines the mark that says which letters were replayed, and writes it as a line of JSON. The marks are kept
//! with the letters, so whoever reads the letters again, on whatever machine, knows them too.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::display::rfc3339;

/// The beginning of the line of every mark, and of no letter.
const BEGINNING: &[u8] = br#"{"replayed":"#;

/// Letters whose events a replay has made durable in a sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayMark {
    /// The name of the queue that the events came from.
    pub queue: String,
    /// The name of the sink.
    pub sink: String,
    /// When they were durable there.
    #[serde(serialize_with = "as_text")]
    pub time: Timestamp,
    /// The broker's message ids of the events, at least one.
    pub message_ids: Vec<String>,
}

/// The line: one JSON object with one member.
#[derive(Serialize, Deserialize)]
struct MarkLine<M> {
    replayed: M,
}

fn as_text<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*time))
}

impl ReplayMark {
    /// Returns an id that no letter has, and no other mark of this sink.
    pub(super) fn id(&self) -> Bytes {
        let first = self.message_ids.first().map_or("", String::as_str);
        format!("{first}/{}/{}/replay", self.queue, self.sink).into()
    }

    /// Appends the line, with its line feed.
    ///
    /// # Errors
    /// None in practice: writing JSON to memory fails only for maps whose keys are not strings.
    pub(super) fn append(&self, lines: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(&mut *lines, &MarkLine { replayed: self })?;
        lines.push(b'\n');
        Ok(())
    }

    /// Parses the line of a mark, without its line feed. Returns `None` if the line is something else.
    pub(super) fn parse(record: &[u8]) -> Option<Self> {
        let is_mark = record.starts_with(BEGINNING);
        let line = is_mark.then(|| serde_json::from_slice::<MarkLine<Self>>(record).ok());
        line.flatten().map(|line| line.replayed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mark = ReplayMark {
            queue: "main.RTO.acme".to_owned(),
            sink: "kafka".to_owned(),
            time: "2026-11-30T02:00:00.5Z".parse().unwrap(),
            message_ids: vec!["ID:1".to_owned(), "ID:\"2\n".to_owned()],
        };
        let mut line = Vec::new();
        mark.append(&mut line).unwrap();
        assert_eq!(line.pop(), Some(b'\n'));
        let expected = r#"{"replayed":{"queue":"main.RTO.acme","sink":"kafka","time":"2026-11-30T02:00:00.500Z","message_ids":["ID:1","ID:\"2\n"]}}"#;
        assert_eq!(String::from_utf8_lossy(&line), expected);
        assert_eq!(ReplayMark::parse(&line), Some(mark));
        assert_eq!(ReplayMark::parse(&line[1..]), None);
        assert_eq!(ReplayMark::parse(&line[..line.len() - 1]), None);
        assert_eq!(ReplayMark::parse(br#"{"replayed":true}"#), None);
    }
}
