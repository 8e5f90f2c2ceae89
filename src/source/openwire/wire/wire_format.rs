//! Reads and writes the wire format that both sides offer first (`protocols.md §3.6`).

use std::time::Duration;

use super::primitives::{FieldError, FieldReader, FieldWriter};
use super::properties::{self, PropertyList, Value};

const MAGIC: &[u8; 8] = b"ActiveMQ";

/// The version whose fields this codec knows; 10 and 11 have the same.
pub const VERSION: i32 = 12;

/// One side's offer. Both sides then use what both have: the AND of flags, the smaller of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct WireFormatInfo {
    /// The newest version that this side supports.
    pub version: i32,
    /// Flags and numbers by name; a missing number counts as 0.
    pub properties: PropertyList,
}

impl WireFormatInfo {
    /// Makes the offer of this codec: version 12, loose, without cache or stack traces, with size prefix.
    /// After the silence `inactivity` either side treats the other as dead. Neither side checks during
    /// `initial_delay`.
    pub fn offer(inactivity: Duration, initial_delay: Duration, max_frame_size: i64) -> Self {
        let flag = |name: &str, value| (name.to_owned(), Value::Bool(value));
        let long = |name: &str, value| (name.to_owned(), Value::Long(value));
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let properties = vec![
            flag("CacheEnabled", false),
            flag("TightEncodingEnabled", false),
            flag("SizePrefixDisabled", false),
            flag("StackTraceEnabled", false),
            flag("TcpNoDelayEnabled", true),
            long("MaxInactivityDuration", millis(inactivity)),
            // The specification's own spelling.
            long("MaxInactivityDurationInitalDelay", millis(initial_delay)),
            long("MaxFrameSize", max_frame_size),
        ];
        Self { version: VERSION, properties }
    }

    /// Returns the first property of this name.
    pub fn property(&self, name: &str) -> Option<&Value> {
        self.properties.iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// Returns a number of milliseconds; 0 if it is missing or negative.
    fn millis(&self, name: &str) -> Duration {
        let number = match self.property(name) {
            Some(Value::Long(number)) => *number,
            Some(Value::Int(number)) => i64::from(*number),
            _ => 0,
        };
        Duration::from_millis(u64::try_from(number).unwrap_or(0))
    }

    /// Returns `MaxInactivityDuration`: the silence after which this side treats the other as dead; 0 for
    /// never.
    pub fn inactivity(&self) -> Duration {
        self.millis("MaxInactivityDuration")
    }

    /// Returns how long after the beginning this side does not check `inactivity` yet.
    pub fn initial_delay(&self) -> Duration {
        self.millis("MaxInactivityDurationInitalDelay")
    }

    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        if reader.take(MAGIC.len())? != MAGIC {
            return Err("it does not begin with \"ActiveMQ\"");
        }
        let version = reader.int()?;
        let properties = reader.bytes()?.map(|raw| properties::decode(&raw)).transpose()?;
        Ok(Self { version, properties: properties.unwrap_or_default() })
    }

    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        writer.raw(MAGIC);
        writer.int(self.version);
        writer.bytes(Some(&properties::encode(&self.properties)));
    }
}
