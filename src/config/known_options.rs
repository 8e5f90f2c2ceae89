//! Reads from the types which options exist and which numbers they accept. For messages only.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::key_path::join;
use super::sections::{TableSchema, generator};

/// An option, as the type of its table describes it.
pub(super) struct KnownOption {
    /// The key relative to the table, such as `tls.ca_file`.
    pub(super) key: String,
    /// The whole numbers that it accepts, such as `from 1 to 20000`; `None` for an option of another kind.
    pub(super) range: Option<String>,
}

/// Returns every option of a table with this schema.
pub(super) fn of(schema: TableSchema) -> Vec<KnownOption> {
    let mut all = Vec::new();
    collect(schema(&mut generator(SchemaSettings::default())).as_value(), "", &mut all);
    all
}

fn collect(table: &Value, path: &str, all: &mut Vec<KnownOption>) {
    for (name, property) in table["properties"].as_object().into_iter().flatten() {
        let key = join(path, name);
        match property["properties"].is_object() {
            true => collect(property, &key, all),
            false => all.push(KnownOption { key, range: range(property) }),
        }
    }
}

fn range(property: &Value) -> Option<String> {
    let types = &property["type"];
    if types != "integer" && !types.as_array().is_some_and(|types| types.iter().any(|name| name == "integer"))
    {
        return None;
    }
    let largest = match property["format"].as_str() {
        Some("uint8") => Some(u8::MAX.into()),
        Some("uint16") => Some(u16::MAX.into()),
        Some("uint32") => Some(u32::MAX.into()),
        _ => None,
    };
    // A size is an integer too, but its own message says what it accepts.
    let smallest = property["minimum"].as_u64()?;
    Some(match property["maximum"].as_u64().or(largest) {
        Some(largest) => format!("from {smallest} to {largest}"),
        None => format!("from {smallest}"),
    })
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;

    use super::*;
    use crate::source::config::SourceConfig;

    #[test]
    fn the_options_of_a_table_are_known_with_those_of_the_tables_in_it() {
        let known = of(SourceConfig::json_schema);
        let find = |key: &str| known.iter().find(|option| option.key == key).unwrap();
        assert_eq!(find("prefetch").range.as_deref(), Some("from 1 to 20000"));
        for other in ["url", "tls.ca_file", "max_body", "backoff.initial"] {
            assert_eq!(find(other).range, None, "{other}");
        }
    }
}
