//! Reads settings from environment variables: `BRIDGE__SOURCE__URL` is `url` in `[source]`. Values stay text:
//! `value` converts them by the type of their option.

use std::collections::BTreeSet;

use figment::{Figment, Metadata};

use super::key_path::{PREFIX, variable};
use super::layers::{Layer, merged};
use super::stray_variables;
use crate::diagnostics::{Diagnostic, Diagnostics, Origin};

/// The settings among the variables.
#[derive(Default)]
pub(super) struct Environment {
    pub(super) layers: Figment,
    /// Names that match no option, and values that can't be read.
    pub(super) diagnostics: Diagnostics,
    /// Names that look like settings of the bridge and are none.
    pub(super) strays: Vec<String>,
    /// The names of the variables whose whole value is in quotes.
    pub(super) quoted: BTreeSet<String>,
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
            if ['"', '\''].into_iter().any(|quote| is_between(text.trim(), quote)) {
                environment.quoted.insert(name.clone());
            }
            if let Err(message) = environment.add(&name, text) {
                let problem = Diagnostic::new(Origin::Variable(name), "", message);
                environment.diagnostics.problems.push(problem);
            }
        }
        environment
    }

    fn add(&mut self, name: &str, text: String) -> Result<(), String> {
        if text.contains(char::REPLACEMENT_CHARACTER) {
            return Err("the value is not UTF-8 text".to_owned());
        }
        let path = name.trim_start_matches(PREFIX).to_lowercase();
        let path: Vec<_> = path.split("__").collect();
        if path.contains(&"") {
            return Err("not the name of a setting: write BRIDGE__SECTION__KEY".to_owned());
        }
        let set = merged(&self.layers);
        let mut found = Some(&set);
        for (n, name) in path.iter().enumerate() {
            let Some(value) = found else { break };
            let Some(table) = value.as_dict() else {
                let table = variable(&path[..n].join("."));
                return Err(format!("{table} is set too, and can't be a value and a table"));
            };
            found = table.get(*name);
        }
        if found.is_some() {
            return Err(format!("{} is set twice, in other letters or as a table", path.join(".")));
        }
        let layer = Layer::new(&path, text.into(), Metadata::named(name.to_owned()));
        self.layers = std::mem::take(&mut self.layers).join(layer);
        Ok(())
    }
}

fn is_between(text: &str, quote: char) -> bool {
    text.len() > 1 && text.starts_with(quote) && text.ends_with(quote)
}
