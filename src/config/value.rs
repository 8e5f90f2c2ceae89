//! Converts a merged value to the type of its option. Text from the environment is converted here, by the
//! type of the option and not earlier: `01234` stays a text if the option is a text.

use std::fmt;

use figment::Figment;
use figment::value::{Dict, Value};
use serde::de::{
    DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::suggest::nearest;

/// The name of the environment among figment's sources.
pub(super) const ENVIRONMENT: &str = "environment";

/// One value that is being converted to its type.
#[derive(Clone, Copy)]
pub(super) enum ConfigNode<'a> {
    /// From the file, typed by TOML.
    Written(&'a Value, &'a Figment),
    /// From an environment variable.
    Variable(&'a str),
}

impl<'a> ConfigNode<'a> {
    /// Creates a node. `layers` knows which values came from the environment.
    pub(super) fn new(value: &'a Value, layers: &'a Figment) -> Self {
        match value {
            Value::String(tag, text)
                if layers.get_metadata(*tag).is_some_and(|layer| layer.name == ENVIRONMENT) =>
            {
                Self::Variable(text)
            }
            other => Self::Written(other, layers),
        }
    }
}

/// Why a value can't be used, and its position below the table that was read. For a value of the wrong type
/// it gives only the type, because the value may be a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ValueError {
    /// The keys from the table to the value, innermost first.
    reversed: Vec<String>,
    /// What is wrong and what is allowed. If whole numbers are allowed, their range follows.
    message: String,
    /// The last part of the message.
    hint: &'static str,
    pub(super) about: About,
}

/// What the caller, which knows the option, can describe better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// A whole number is expected. The type has a range, and the option may have a narrower one.
    WholeNumber,
    /// The key does not exist; holds the keys that do.
    Key(&'static [&'static str]),
    /// The message is complete.
    Other,
}

impl ValueError {
    fn new(message: String) -> Self {
        Self { reversed: Vec::new(), message, hint: "", about: About::Other }
    }

    /// `message` ends before the description of the expected value.
    fn expecting(message: &str, expected: &dyn Expected) -> Self {
        match in_words(expected) {
            Some(words) => Self::new(format!("{message}{words}")),
            None => Self { about: About::WholeNumber, ..Self::new(message.to_owned()) },
        }
    }

    /// Returns what is wrong and what is allowed. `range` is the range of the option if it is a whole number.
    pub(super) fn message(&self, range: Option<&str>) -> String {
        let Self { message, hint, .. } = self;
        match (self.about, range) {
            (About::WholeNumber, Some(range)) => format!("{message}{WHOLE_NUMBER} {range}{hint}"),
            (About::WholeNumber, None) => format!("{message}{WHOLE_NUMBER}{hint}"),
            _ => format!("{message}{hint}"),
        }
    }

    fn under(mut self, key: &str) -> Self {
        self.reversed.push(key.to_owned());
        self
    }

    /// The keys from the table to the value, outermost first.
    pub(super) fn path(&self) -> Vec<&str> {
        self.reversed.iter().rev().map(String::as_str).collect()
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message(None))
    }
}

impl std::error::Error for ValueError {}

impl Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "true or false",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
            Unexpected::Char(_) | Unexpected::Str(_) => "a text",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a table",
            _ => "something else",
        };
        let hint = match (found, in_words(expected).as_deref()) {
            ("a number", Some("a text")) => "; write it in quotes",
            ("a text", None | Some("a number" | "true or false")) => "; write it without quotes",
            _ => "",
        };
        Self { hint, ..Self::expecting(&format!("found {found}, expected "), expected) }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Str(text) => format!("`{text}`"),
            Unexpected::Signed(number) => number.to_string(),
            Unexpected::Unsigned(number) => number.to_string(),
            other => other.to_string(),
        };
        Self::expecting(&format!("{found} is not allowed, expected "), expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let meant = nearest(variant, expected.iter().copied());
        let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        Self::new(format!("`{variant}` is not allowed, expected one of: {}{meant}", expected.join(", ")))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        let message = format!("unknown key; known here: {}", expected.join(", "));
        Self { about: About::Key(expected), ..Self::new(message) }
    }
}

const WHOLE_NUMBER: &str = "a whole number";

/// Describes the type that serde expects in words that users know. Returns `None` for whole numbers, whose
/// range the option gives.
fn in_words(expected: &dyn Expected) -> Option<String> {
    let name = expected.to_string();
    let words = match name.as_str() {
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text",
        "a sequence" => "a list",
        table if table.starts_with("struct ") => "a table",
        number if is_whole(number) => return None,
        other => other,
    };
    Some(words.to_owned())
}

/// Returns whether serde uses this name for a type of whole numbers.
fn is_whole(name: &str) -> bool {
    let name = name.strip_prefix("a nonzero ").unwrap_or(name);
    matches!(name, "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize")
}

macro_rules! from_text {
    ($($method:ident $visit:ident $kind:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            match self {
                Self::Variable(text) => match text.trim().parse() {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => Err(unreadable(text, $kind)),
                },
                Self::Written(..) => self.deserialize_any(visitor),
            }
        }
    )*};
}

/// Reports that the text of a variable is no number, or neither true nor false.
fn unreadable(text: &str, kind: &str) -> ValueError {
    let in_quotes = text.trim().starts_with(['"', '\'']);
    let hint = if in_quotes { "; remove the quotes, which are part of the value" } else { "" };
    match kind == WHOLE_NUMBER {
        true => {
            ValueError { hint, about: About::WholeNumber, ..ValueError::new(format!("`{text}` is not ")) }
        }
        false => ValueError { hint, ..ValueError::new(format!("`{text}` is not {kind}")) },
    }
}

impl<'de> Deserializer<'de> for ConfigNode<'de> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
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
                    visitor.visit_seq(List(items.iter().map(|item| ConfigNode::new(item, layers))))
                }
            },
        }
    }

    from_text! {
        deserialize_bool visit_bool "true or false";
        deserialize_i8 visit_i64 WHOLE_NUMBER;
        deserialize_i16 visit_i64 WHOLE_NUMBER;
        deserialize_i32 visit_i64 WHOLE_NUMBER;
        deserialize_i64 visit_i64 WHOLE_NUMBER;
        deserialize_u8 visit_u64 WHOLE_NUMBER;
        deserialize_u16 visit_u64 WHOLE_NUMBER;
        deserialize_u32 visit_u64 WHOLE_NUMBER;
        deserialize_u64 visit_u64 WHOLE_NUMBER;
        deserialize_f32 visit_f64 "a number";
        deserialize_f64 visit_f64 "a number";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    /// In a variable, commas separate the elements of a list.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Self::Variable(text) => {
                let items = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty());
                visitor.visit_seq(List(items.map(ConfigNode::Variable)))
            }
            Self::Written(..) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self {
            Self::Variable(text) => visitor.visit_enum(text.trim().into_deserializer()),
            Self::Written(Value::String(_, text), _) => visitor.visit_enum(text.as_str().into_deserializer()),
            Self::Written(..) => Err(ValueError::new(format!("expected one of: {}", variants.join(", ")))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier
    }
}

struct List<I>(I);

impl<'de, I: Iterator<Item = ConfigNode<'de>>> SeqAccess<'de> for List<I> {
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        self.0.next().map(|item| seed.deserialize(item)).transpose()
    }
}

/// The entries of a table. Each mistake below gets the key of its entry.
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
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ValueError> {
        let Some((key, value)) = self.members.next() else { return Ok(None) };
        self.current = Some((key, ConfigNode::new(value, self.layers)));
        let name = serde::de::value::StrDeserializer::<ValueError>::new(key);
        seed.deserialize(name).map(Some).map_err(|mistake| mistake.under(key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, ValueError> {
        let (key, value) =
            self.current.take().ok_or_else(|| ValueError::new("a value without a key".to_owned()))?;
        seed.deserialize(value).map_err(|mistake| mistake.under(key))
    }
}
