//! Reads and writes commands that control consumers or report errors (`protocols.md §3.5`).

use std::fmt;

use super::ids::{ConsumerId, Destination};
use super::primitives::{FieldError, FieldReader, FieldWriter};

/// The most characters kept of an exception's class or message.
const LONGEST_SHOWN: usize = 500;

/// An exception of the other side: text for people, never a type (`protocols.md §3.9`). Class and message
/// have no control characters and at most 500 characters each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thrown {
    /// Its Java class, such as `java.lang.SecurityException`.
    pub class: String,
    pub message: String,
}

impl fmt::Display for Thrown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl Thrown {
    /// Expects no stack traces, since the offered wire format switches them off.
    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Option<Self>, FieldError> {
        if !reader.bool()? {
            return Ok(None);
        }
        Ok(Some(Self { class: shown(reader.string()?), message: shown(reader.string()?) }))
    }

    /// Returns what it says: its message, or its class if it has none.
    pub fn into_words(self) -> String {
        if self.message.is_empty() { self.class } else { self.message }
    }

    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        writer.bool(true);
        writer.string(Some(&self.class));
        writer.string(Some(&self.message));
    }
}

fn shown(text: Option<String>) -> String {
    text.unwrap_or_default().chars().filter(|c| !c.is_control()).take(LONGEST_SHOWN).collect()
}

/// A command of the broker to a consumer, or of a consumer to the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerControl {
    /// From the broker: the consumer is removed.
    pub close: bool,
    pub consumer: Option<ConsumerId>,
    /// The new prefetch window; it is always set.
    pub prefetch: i32,
}

impl ConsumerControl {
    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        Destination::read(reader)?;
        let (close, consumer, prefetch) = (reader.bool()?, ConsumerId::read(reader)?, reader.int()?);
        let _flush_start_stop = (reader.bool()?, reader.bool()?, reader.bool()?);
        Ok(Self { close, consumer, prefetch })
    }

    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        writer.null(); // destination
        writer.bool(self.close);
        ConsumerId::write(self.consumer.as_ref(), writer);
        writer.int(self.prefetch);
        writer.bool(false); // flush
        writer.bool(false); // start
        writer.bool(false); // stop
    }
}
