//! Hands options to figment, each with the line or the variable that sets it. figment merges them, and keeps
//! this origin with every value.

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::key_path::join;
use crate::diagnostics::Origin;

/// One option or table, inside the tables around it.
pub(super) struct Layer {
    tables: Dict,
    metadata: Metadata,
}

impl Layer {
    /// Puts `value` under the names of `path`. For a line of a file, `metadata` has the file as its source;
    /// for a variable it has no source.
    pub(super) fn new<S: AsRef<str>>(path: &[S], value: Value, metadata: Metadata) -> Self {
        let around = |inner: Value, name: &S| Dict::from([(name.as_ref().to_owned(), inner)]).into();
        let tables = path.iter().rev().fold(value, around).into_dict().unwrap_or_default();
        Self { tables, metadata }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.tables.clone()))
    }
}

/// Returns what all layers set together.
pub(super) fn merged(layers: &Figment) -> Value {
    // Only a provider can fail here, and `Layer` does not.
    layers.find_value("").unwrap_or_else(|_| Dict::new().into())
}

/// Returns where a value of `layers` came from.
pub(super) fn origin(layers: &Figment, value: &Value) -> Option<Origin> {
    let Metadata { name, source, .. } = layers.get_metadata(value.tag())?;
    Some(match source {
        Some(_) => Origin::File(name.to_string()),
        None => Origin::Variable(name.to_string()),
    })
}

/// Adds the origins of `value` and of everything in it to `origins`. A table that has an origin keeps it: the
/// line of a table tells more than a variable that sets one of its options.
pub(super) fn note_origins(
    origins: &mut BTreeMap<String, Origin>,
    layers: &Figment,
    key: &str,
    value: &Value,
) {
    if let Some(origin) = origin(layers, value) {
        match value.as_dict() {
            Some(_) => drop(origins.entry(key.to_owned()).or_insert(origin)),
            None => drop(origins.insert(key.to_owned(), origin)),
        }
    }
    for (name, inner) in value.as_dict().into_iter().flatten() {
        note_origins(origins, layers, &join(key, name), inner);
    }
}
