//! Reads and writes maps of typed values: the properties of messages and of a wire format
//! (`protocols.md §3.2`).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::primitives::{FieldError, FieldReader, FieldWriter};
use crate::source::protocol::java_text::{java_bytes, java_text};

/// The most values in one map, nested ones included.
const MOST_VALUES: usize = 10_000;

/// The most levels of maps and lists within each other.
const DEEPEST: usize = 16;

/// From this many characters on, Java writes a text with a longer length.
const BIG_TEXT: usize = 8191;

/// Names and values in the order of the wire.
pub type PropertyList = Vec<(String, Value)>;

/// A typed value of a property.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Byte(i8),
    /// One UTF-16 code unit, which may be half a character.
    Char(u16),
    Short(i16),
    Int(i32),
    Long(i64),
    Double(f64),
    Float(f32),
    Text(String),
    Bytes(Bytes),
    Map(PropertyList),
    List(Vec<Self>),
}

/// Shows numbers and texts as they are, bytes as base64, maps and lists as Java shows them.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Byte(value) => value.fmt(f),
            Self::Char(unit) => String::from_utf16_lossy(&[*unit]).fmt(f),
            Self::Short(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Long(value) => value.fmt(f),
            Self::Double(value) => fmt::Debug::fmt(value, f),
            Self::Float(value) => fmt::Debug::fmt(value, f),
            Self::Text(text) => text.fmt(f),
            Self::Bytes(bytes) => STANDARD.encode(bytes).fmt(f),
            Self::Map(entries) => {
                let shown: Vec<_> = entries.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "{{{}}}", shown.join(", "))
            }
            Self::List(values) => {
                let shown: Vec<_> = values.iter().map(Self::to_string).collect();
                write!(f, "[{}]", shown.join(", "))
            }
        }
    }
}

/// Reads a map that fills `raw` from its first byte to its last.
///
/// # Errors
/// The bytes are no such map, or it has more than 10,000 values or 16 levels.
pub fn decode(raw: &Bytes) -> Result<PropertyList, FieldError> {
    let mut reader = FieldReader::new(raw);
    let mut decoder = PropertiesDecoder { values: 0 };
    let properties = decoder.map(&mut reader, DEEPEST)?;
    reader.end().map(|()| properties)
}

/// Encodes a map in the order given.
pub fn encode(properties: &[(String, Value)]) -> Bytes {
    let mut raw = Vec::new();
    write_map(properties, &mut FieldWriter(&mut raw));
    raw.into()
}

struct PropertiesDecoder {
    values: usize,
}

impl PropertiesDecoder {
    /// Reserves no memory for an announced count, so no count needs to be trusted.
    fn map(&mut self, reader: &mut FieldReader<'_>, depth: usize) -> Result<PropertyList, FieldError> {
        let mut properties = Vec::new();
        let count = reader.int()?;
        if count < -1 {
            return Err("a count is negative");
        }
        for _ in 0..count {
            let name = reader.plain_text()?;
            let value = self.value(reader, depth)?;
            properties.push((java_text(&name).into_owned(), value));
        }
        Ok(properties)
    }

    fn list(&mut self, reader: &mut FieldReader<'_>, depth: usize) -> Result<Vec<Value>, FieldError> {
        let mut values = Vec::new();
        for _ in 0..reader.length()? {
            values.push(self.value(reader, depth)?);
        }
        Ok(values)
    }

    fn value(&mut self, reader: &mut FieldReader<'_>, depth: usize) -> Result<Value, FieldError> {
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err("it has too many properties");
        }
        let below = || depth.checked_sub(1).ok_or("its properties are nested too deep");
        Ok(match reader.byte()? {
            0 => Value::Null,
            1 => Value::Bool(reader.bool()?),
            2 => Value::Byte(i8::from_be_bytes([reader.byte()?])),
            3 => Value::Char(reader.char()?),
            4 => Value::Short(reader.short()?),
            5 => Value::Int(reader.int()?),
            6 => Value::Long(reader.long()?),
            7 => Value::Double(f64::from_bits(reader.long()?.cast_unsigned())),
            8 => Value::Float(f32::from_bits(reader.int()?.cast_unsigned())),
            9 => Value::Text(java_text(&reader.plain_text()?).into_owned()),
            10 => Value::Bytes(Bytes::copy_from_slice(reader.sized()?)),
            11 => Value::Map(self.map(reader, below()?)?),
            12 => Value::List(self.list(reader, below()?)?),
            13 => Value::Text(java_text(reader.sized()?).into_owned()),
            _ => return Err("a property is of an unknown type"),
        })
    }
}

fn write_map(properties: &[(String, Value)], writer: &mut FieldWriter<'_>) {
    writer.length(properties.len());
    for (name, value) in properties {
        writer.plain_text(&java_bytes(name));
        write_value(value, writer);
    }
}

fn write_value(value: &Value, writer: &mut FieldWriter<'_>) {
    match value {
        Value::Null => writer.byte(0),
        Value::Bool(value) => writer.tagged(1).bool(*value),
        Value::Byte(value) => writer.tagged(2).byte(value.cast_unsigned()),
        Value::Char(unit) => writer.tagged(3).char(*unit),
        Value::Short(value) => writer.tagged(4).short(*value),
        Value::Int(value) => writer.tagged(5).int(*value),
        Value::Long(value) => writer.tagged(6).long(*value),
        Value::Double(value) => writer.tagged(7).long(value.to_bits().cast_signed()),
        Value::Float(value) => writer.tagged(8).int(value.to_bits().cast_signed()),
        Value::Text(text) if text.encode_utf16().count() < BIG_TEXT => {
            writer.tagged(9).plain_text(&java_bytes(text));
        }
        Value::Bytes(bytes) => writer.tagged(10).sized(bytes),
        Value::Map(properties) => write_map(properties, writer.tagged(11)),
        Value::List(values) => {
            writer.tagged(12).length(values.len());
            values.iter().for_each(|value| write_value(value, writer));
        }
        Value::Text(text) => writer.tagged(13).sized(&java_bytes(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker has written these bytes (`protocols.md §3.10`).
    #[test]
    fn properties_as_activemq_writes_them() {
        let raw = Bytes::from_static(b"\0\0\0\x01\0\x05label\x09\0\x0atext-ascii");
        let properties = vec![("label".to_owned(), Value::Text("text-ascii".to_owned()))];
        assert_eq!(decode(&raw), Ok(properties.clone()));
        assert_eq!(encode(&properties), raw);
        assert_eq!(decode(&Bytes::from_static(b"\xff\xff\xff\xff")), Ok(vec![]));
    }

    #[test]
    fn a_text_of_8191_characters_has_a_long_length() {
        for (length, tag, head) in [(8190, 9, 2), (8191, 13, 4)] {
            let text = "x".repeat(length);
            let raw = encode(&[(String::new(), Value::Text(text.clone()))]);
            assert_eq!((raw[6], raw.len()), (tag, 7 + head + length));
            assert_eq!(decode(&raw).unwrap()[0].1, Value::Text(text));
        }
    }

    #[test]
    fn each_type_is_shown_to_people() {
        let shown = |value: Value| value.to_string();
        let map = vec![("a".to_owned(), Value::Int(1)), ("b".to_owned(), Value::Null)];
        assert_eq!(shown(Value::List(vec![Value::Map(map), Value::Bool(true)])), "[{a=1, b=null}, true]");
        assert_eq!(shown(Value::Byte(-1)), "-1");
        assert_eq!(shown(Value::Char(0x41)), "A");
        assert_eq!(shown(Value::Char(0xD83D)), "\u{FFFD}");
        assert_eq!(shown(Value::Short(-300)), "-300");
        assert_eq!(shown(Value::Long(i64::MIN)), "-9223372036854775808");
        assert_eq!(
            (shown(Value::Double(1.0)), shown(Value::Float(0.1))),
            ("1.0".to_owned(), "0.1".to_owned())
        );
        assert_eq!(shown(Value::Bytes(Bytes::from_static(b"\xff\0"))), "/wA=");
        assert_eq!(shown(Value::Text("\u{1F600}".to_owned())), "\u{1F600}");
    }

    #[test]
    fn what_no_producer_means_is_refused() {
        let refused = |raw: Vec<u8>| decode(&raw.into()).unwrap_err();
        assert_eq!(refused(b"\xff\xff\xff\xfe".to_vec()), "a count is negative");
        assert_eq!(refused(b"\x7f\xff\xff\xff".to_vec()), "it ends too early");
        assert_eq!(refused(b"\0\0\0\0\0".to_vec()), "it is longer than its fields");
        assert_eq!(refused(b"\0\0\0\x01\0\0\x0e".to_vec()), "a property is of an unknown type");
        assert_eq!(refused(b"\0\0\0\x01\0\0\x0a\x7f\xff\xff\xff".to_vec()), "it ends too early");
        assert_eq!(refused(b"\0\0\0\x01\0\0\x0c\xff\xff\xff\xff".to_vec()), "a length is negative");
        let many = Value::List(vec![Value::Null; MOST_VALUES]);
        assert_eq!(refused(encode(&[(String::new(), many)]).into()), "it has too many properties");
        let nested = |depth| (0..depth).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        assert_eq!(
            refused(encode(&[(String::new(), nested(17))]).into()),
            "its properties are nested too deep"
        );
        assert!(decode(&encode(&[(String::new(), nested(16))])).is_ok());
    }
}
