//! Reads settings from environment variables: `BRIDGE__SOURCE__URL` is `url` in `[source]`. Values stay text
//! (see `value`).

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use super::key_path::{PREFIX, join, variable};
use super::stray_variables;
use super::value::ENVIRONMENT;
use crate::diagnostics::{Diagnostic, Origin};

/// The settings among the variables.
#[derive(Default)]
pub(super) struct Environment {
    tables: Dict,
    /// The origin of every option that is set, and of the tables around it.
    pub(super) origins: BTreeMap<String, Origin>,
    /// Names that match no option, and values that can't be read.
    pub(super) problems: Vec<Diagnostic>,
    /// Names that look like settings of the bridge and are none.
    pub(super) strays: Vec<String>,
    /// The values as they were given, by the name of the variable.
    pub(super) given: BTreeMap<String, String>,
}

impl Environment {
    /// Finds the settings among all variables.
    pub(super) fn new(variables: impl Iterator<Item = (String, String)>) -> Self {
        let mut all: Vec<_> = variables.collect();
        all.sort();
        let mut environment = Self::default();
        for (name, text) in all {
            if !name.starts_with(PREFIX) {
                environment.strays.extend(stray_variables::is_candidate(&name).then_some(name));
                continue;
            }
            environment.given.insert(name.clone(), text.clone());
            if let Err(message) = environment.place(&name, text) {
                let origin = Origin::Variable(name);
                environment.problems.push(Diagnostic { origin, key: String::new(), message });
            }
        }
        environment
    }

    /// Returns whether `key` is a table because an option in it is set.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.origins
            .range(format!("{key}.")..)
            .next()
            .is_some_and(|(next, _)| next.starts_with(&format!("{key}.")))
    }

    fn place(&mut self, name: &str, text: String) -> Result<(), String> {
        if text.contains(char::REPLACEMENT_CHARACTER) {
            return Err("the value is not UTF-8 text".to_owned());
        }
        let path = name.trim_start_matches(PREFIX).to_lowercase();
        let path: Vec<_> = path.split("__").collect();
        if path.contains(&"") {
            return Err("not the name of a setting: write BRIDGE__SECTION__KEY".to_owned());
        }
        let (leaf, parents) = path.split_last().ok_or("not the name of a setting")?;
        let mut table = &mut self.tables;
        let mut key = String::new();
        for parent in parents {
            key = join(&key, parent);
            self.origins.entry(key.clone()).or_insert_with(|| Origin::Variable(name.to_owned()));
            let inner = table.entry((*parent).to_owned()).or_insert_with(|| Dict::new().into());
            table = match inner {
                Value::Dict(_, inner) => inner,
                _ => return Err(format!("{} is set too, and can't be a value and a table", variable(&key))),
            };
        }
        key = join(&key, leaf);
        if table.insert((*leaf).to_owned(), text.into()).is_some() {
            return Err(format!("{key} is set twice, in other letters or as a table"));
        }
        self.origins.insert(key, Origin::Variable(name.to_owned()));
        Ok(())
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named(ENVIRONMENT)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.tables.clone()))
    }
}
