//! Converts a merged value to the type of its option. Text from the environment is converted here, by the
//! type of the option and not earlier: `01234` stays a text if the option is a text.
//!
//! Errors are figment's. [`message`] describes them in words that users know. For a value of the wrong type it
//! gives only the type, because the value may be a secret.

use figment::Figment;
use figment::error::{Actual, Error, Kind};
use figment::value::{Dict, Value};
use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::layers::origin;
use super::suggest::did_you_mean;
use crate::diagnostics::Origin;

/// One value that is being converted to its type.
#[derive(Clone, Copy)]
pub(super) enum ConfigNode<'a> {
    /// From the file, typed by TOML.
    Written(&'a Value, &'a Figment),
    /// The text of an environment variable, not typed.
    Variable(&'a str),
}

impl<'a> ConfigNode<'a> {
    /// Creates a node. `layers` knows which values came from the environment.
    pub(super) fn new(value: &'a Value, layers: &'a Figment) -> Self {
        match (value, origin(layers, value)) {
            (Value::String(_, text), Some(Origin::Variable(_))) => Self::Variable(text),
            _ => Self::Written(value, layers),
        }
    }
}

/// Returns what is wrong and what is allowed. `range` is the range of the option if it is a whole number.
pub(super) fn message(kind: &Kind, range: Option<&str>) -> String {
    match kind {
        // Only `from_text` reports this type: the text of a variable.
        Kind::InvalidType(Actual::Other(text), expected) => {
            let in_quotes = text.trim().starts_with(['"', '\'']);
            let hint = if in_quotes { "; remove the quotes, which are part of the value" } else { "" };
            format!("`{text}` is not {}{hint}", in_words(expected, range))
        }
        Kind::InvalidType(found, expected) => {
            let found = type_in_words(found);
            let words = in_words(expected, range);
            let hint = match (found, words.as_str()) {
                ("a number", "a text") => "; write it in quotes",
                ("a text", "a number" | "true or false") => "; write it without quotes",
                ("a text", _) if is_whole(expected) => "; write it without quotes",
                _ => "",
            };
            format!("found {found}, expected {words}{hint}")
        }
        Kind::InvalidValue(found, expected) => {
            let found = match found {
                Actual::Str(text) => format!("`{text}`"),
                Actual::Signed(number) => number.to_string(),
                Actual::Unsigned(number) => number.to_string(),
                other => other.to_string(),
            };
            format!("{found} is not allowed, expected {}", in_words(expected, range))
        }
        Kind::UnknownVariant(found, known) => {
            let meant = did_you_mean(found, known.iter().copied());
            format!("`{found}` is not allowed, expected one of: {}{meant}", known.join(", "))
        }
        Kind::UnknownField(_, known) => format!("unknown key; known here: {}", known.join(", ")),
        other => other.to_string(),
    }
}

fn type_in_words(found: &Actual) -> &'static str {
    match found {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number",
        Actual::Char(_) | Actual::Str(_) => "a text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}

/// Describes the type that serde expects in words that users know.
fn in_words(expected: &str, range: Option<&str>) -> String {
    let words = match expected {
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text",
        "a sequence" => "a list",
        table if table.starts_with("struct ") => "a table",
        number if is_whole(number) => {
            return range.map_or("a whole number".to_owned(), |range| format!("a whole number {range}"));
        }
        other => other,
    };
    words.to_owned()
}

/// Returns whether serde uses this name for a type of whole numbers.
fn is_whole(name: &str) -> bool {
    let name = name.strip_prefix("a nonzero ").unwrap_or(name);
    matches!(name, "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize")
}

/// Parses the text of a variable as the wanted type. A value of the file has its type already.
macro_rules! from_text {
    ($($method:ident $visit:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self {
                Self::Variable(text) => match text.trim().parse() {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => Err(Error::invalid_type(Unexpected::Other(text), &visitor)),
                },
                Self::Written(..) => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for ConfigNode<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Variable(text) => visitor.visit_borrowed_str(text),
            Self::Written(value, layers) => match value {
                Value::String(_, text) => visitor.visit_borrowed_str(text),
                Value::Char(_, letter) => visitor.visit_char(*letter),
                Value::Bool(_, value) => visitor.visit_bool(*value),
                Value::Num(_, number) => match number.to_i128() {
                    Some(whole) => visitor.visit_i64(i64::try_from(whole).unwrap_or(i64::MAX)),
                    None => visitor.visit_f64(number.to_f64().unwrap_or(f64::NAN)),
                },
                Value::Empty(..) => visitor.visit_unit(),
                Value::Dict(_, table) => visitor.visit_map(Table::new(table, layers)),
                Value::Array(_, items) => {
                    visitor.visit_seq(SeqDeserializer::new(items.iter().map(|item| Self::new(item, layers))))
                }
            },
        }
    }

    from_text! {
        deserialize_bool visit_bool;
        deserialize_i8 visit_i64;
        deserialize_i16 visit_i64;
        deserialize_i32 visit_i64;
        deserialize_i64 visit_i64;
        deserialize_u8 visit_u64;
        deserialize_u16 visit_u64;
        deserialize_u32 visit_u64;
        deserialize_u64 visit_u64;
        deserialize_f32 visit_f64;
        deserialize_f64 visit_f64;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    /// In a variable, commas separate the elements of a list.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Variable(text) => {
                let items = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty());
                visitor.visit_seq(SeqDeserializer::new(items.map(Self::Variable)))
            }
            Self::Written(..) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Self::Variable(text) => visitor.visit_enum(text.trim().into_deserializer()),
            Self::Written(Value::String(_, text), _) => visitor.visit_enum(text.as_str().into_deserializer()),
            Self::Written(..) => Err(Error::custom(format_args!("expected one of: {}", variants.join(", ")))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier
    }
}

impl<'de> IntoDeserializer<'de, Error> for ConfigNode<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The entries of a table. Each error below gets the key of its entry.
struct Table<'a> {
    members: std::collections::btree_map::Iter<'a, String, Value>,
    current: Option<(&'a str, ConfigNode<'a>)>,
    layers: &'a Figment,
}

impl<'a> Table<'a> {
    fn new(table: &'a Dict, layers: &'a Figment) -> Self {
        Self { members: table.iter(), current: None, layers }
    }
}

impl<'de> MapAccess<'de> for Table<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.members.next() else { return Ok(None) };
        self.current = Some((key, ConfigNode::new(value, self.layers)));
        seed.deserialize(StrDeserializer::new(key)).map(Some).map_err(under(key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (key, value) = self.current.take().ok_or_else(|| Error::custom("a value without a key"))?;
        seed.deserialize(value).map_err(under(key))
    }
}

/// Adds `key` to the path of an error in its value.
fn under(key: &str) -> impl FnOnce(Error) -> Error {
    move |mut error| {
        error.path.insert(0, key.to_owned());
        error
    }
}
