//! Reads and writes commands that control connections and consumers, and those that report errors
//! (`protocols.md §3.5`).

use std::fmt;

use super::ids::{ConsumerId, Destination};
use super::primitives::{FieldError, FieldReader, FieldWriter};

/// The most characters kept of an exception's class or message.
const LONGEST_SHOWN: usize = 500;

/// An exception of the other side: text for people, never a type (`protocols.md §3.9`). Class and message
/// have no control characters and at most 500 characters each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thrown {
    /// Its class, such as `java.lang.SecurityException`.
    pub class: String,
    /// Its message, at most 500 characters.
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
    /// The queue or topic that it consumes.
    pub destination: Option<Destination>,
    /// From the broker: the consumer is removed.
    pub close: bool,
    /// The id of the consumer it controls.
    pub consumer: Option<ConsumerId>,
    /// The new prefetch window; it is always set.
    pub prefetch: i32,
    /// Has no effect in this codec.
    pub flush: bool,
    /// Has no effect in this codec.
    pub start: bool,
    /// Has no effect in this codec.
    pub stop: bool,
}

impl ConsumerControl {
    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            destination: Destination::read(reader)?,
            close: reader.bool()?,
            consumer: ConsumerId::read(reader)?,
            prefetch: reader.int()?,
            flush: reader.bool()?,
            start: reader.bool()?,
            stop: reader.bool()?,
        })
    }

    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        Destination::write(self.destination.as_ref(), writer);
        writer.bool(self.close);
        ConsumerId::write(self.consumer.as_ref(), writer);
        writer.int(self.prefetch);
        writer.bool(self.flush);
        writer.bool(self.start);
        writer.bool(self.stop);
    }
}

/// A command of the broker to a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionControl {
    pub close: bool,
    pub exit: bool,
    pub fault_tolerant: bool,
    pub resume: bool,
    pub suspend: bool,
    pub connected_brokers: Option<String>,
    pub reconnect_to: Option<String>,
    pub rebalance: bool,
}

impl ConnectionControl {
    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        let control = Self {
            close: reader.bool()?,
            exit: reader.bool()?,
            fault_tolerant: reader.bool()?,
            resume: reader.bool()?,
            suspend: reader.bool()?,
            connected_brokers: reader.string()?,
            reconnect_to: reader.string()?,
            rebalance: reader.bool()?,
        };
        let _token = reader.bytes()?;
        Ok(control)
    }

    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        for flag in [self.close, self.exit, self.fault_tolerant, self.resume, self.suspend] {
            writer.bool(flag);
        }
        writer.string(self.connected_brokers.as_deref());
        writer.string(self.reconnect_to.as_deref());
        writer.bool(self.rebalance);
        writer.null(); // token
    }
}
