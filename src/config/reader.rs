//! Reads each table of the merged layers, keeps the origin of every value, and collects the mistakes.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Value};
use figment::{Figment, Profile, Provider};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::{DeserializeOwned, Error};

use super::effective::Effective;
use super::environment::Environment;
use super::file::File;
use super::key_path::{FILE_VARIABLE, join, variable};
use super::known_options::{self, KnownOptions};
use super::origins::Origins;
use super::suggest::{nearest, squeezed};
use super::value::{About, ConfigNode, ValueError};
use crate::diagnostics::{Diagnostic, Diagnostics, Origin};
use crate::secret::MASK;

/// The merged layers, and what was found while reading them.
pub(super) struct ConfigReader {
    layers: Figment,
    root: Value,
    origins: BTreeMap<String, Origin>,
    file: Option<PathBuf>,
    /// Variables that look like settings of the bridge and are none.
    pub(super) strays: Vec<String>,
    /// The texts of variables, by their names.
    given: BTreeMap<String, String>,
    pub(super) problems: Vec<Diagnostic>,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) effective: Vec<Effective>,
}

impl ConfigReader {
    /// Merges the environment over the file. Fails only on a mistake about the file as a whole.
    pub(super) fn new(
        file: Option<File>,
        path: Option<&Path>,
        mut environment: Environment,
    ) -> Result<Self, Diagnostic> {
        let mut layers = Figment::new();
        let mut origins = BTreeMap::new();
        if let Some(file) = file {
            origins.clone_from(&file.origins);
            layers = layers.merge(file);
        }
        for (key, origin) in &environment.origins {
            if !environment.is_table(key) || !origins.contains_key(key) {
                origins.insert(key.clone(), origin.clone());
            }
        }
        let problems = std::mem::take(&mut environment.problems);
        let (strays, given) =
            (std::mem::take(&mut environment.strays), std::mem::take(&mut environment.given));
        let layers = layers.merge(environment);
        let mut profiles = layers.data().map_err(|error| Diagnostic {
            origin: Origin::Default,
            key: String::new(),
            message: error.to_string(),
        })?;
        let root = profiles.remove(&Profile::Default).unwrap_or_default().into();
        let file = path.map(Path::to_owned);
        let (warnings, effective) = (Vec::new(), Vec::new());
        Ok(Self { layers, root, origins, file, strays, given, problems, warnings, effective })
    }

    /// Returns the names in a table, in order; none if there is no such table.
    pub(super) fn names(&self, key: &str) -> Vec<String> {
        let table = if key.is_empty() { Some(&self.root) } else { self.root.find_ref(key) };
        table.and_then(Value::as_dict).map(|table| table.keys().cloned().collect()).unwrap_or_default()
    }

    /// Returns whether anything is set under `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.root.find_ref(key).is_some()
    }

    /// Returns whether `key` is a table.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.root.find_ref(key).and_then(Value::as_dict).is_some()
    }

    /// Copies every option of the table `base` that the table `key` does not set itself.
    pub(super) fn inherit(&mut self, key: &str, base: &str) {
        let path: Vec<_> = key.split('.').collect();
        let Some(below) = self.root.find_ref(base).cloned() else { return };
        let Some(mut table) = take(&mut self.root, &path) else { return };
        fill(&mut table, &below);
        put(&mut self.root, &path, table);
        let prefix = format!("{base}.");
        let inherited: Vec<_> = self
            .origins
            .range(prefix.clone()..)
            .map_while(|(name, origin)| Some((name.strip_prefix(&prefix)?.to_owned(), origin.clone())))
            .collect();
        for (name, origin) in inherited {
            self.origins.entry(join(key, &name)).or_insert(origin);
        }
    }

    /// Removes everything that is set under `key`.
    pub(super) fn forget(&mut self, key: &str) {
        let path: Vec<_> = key.split('.').collect();
        drop(take(&mut self.root, &path));
    }

    /// Takes one text out of a table, before the table is read.
    pub(super) fn take_text(&mut self, key: &str, name: &str) -> Option<String> {
        let taken = take(&mut self.root, &[key, name].join(".").split('.').collect::<Vec<_>>())?;
        match taken.as_str() {
            Some(text) => Some(text.to_owned()),
            None => {
                self.refuse(&join(key, name), "expected a text");
                None
            }
        }
    }

    /// Reads the table `key` into its type. Reports each value that can't be used, and treats it as not set.
    pub(super) fn read<T: DeserializeOwned + Default + Serialize + JsonSchema>(&mut self, key: &str) -> T {
        let path: Vec<_> = key.split('.').collect();
        let mut table = take(&mut self.root, &path).unwrap_or_else(|| Dict::new().into());
        let raw = loop {
            match T::deserialize(ConfigNode::new(&table, &self.layers)) {
                Ok(raw) => break raw,
                Err(mistake) => {
                    let below = mistake.path();
                    let wrong = below.iter().fold(key.to_owned(), |key, name| join(&key, name));
                    let message = self.describe(&mistake, key, &wrong, &known_options::of::<T>());
                    self.refuse(&wrong, message);
                    if take(&mut table, &below).is_none() {
                        break T::default();
                    }
                }
            }
        };
        let value = serde_json::to_value(&raw).unwrap_or_default();
        self.note(key, value);
        raw
    }

    /// Describes a mistake in the option `wrong` of the table `table`, whose options are `known`.
    fn describe(&self, mistake: &ValueError, table: &str, wrong: &str, known: &[KnownOptions]) -> String {
        let below = wrong.strip_prefix(table).unwrap_or(wrong).trim_start_matches('.');
        match mistake.about {
            About::Key(siblings) => {
                let around = below.rsplit_once('.').map_or("", |(around, _)| around);
                let meant = self.meant(wrong, table, around, siblings, known);
                meant.map_or_else(|| mistake.to_string(), |meant| format!("unknown key; {meant}"))
            }
            _ => {
                let option = known.iter().find(|option| option.key == below);
                mistake.message(option.and_then(|option| option.range.as_deref()))
            }
        }
    }

    /// Finds the key that the user probably meant with the unknown key `wrong`. The key is in the table
    /// `table`, with the options `known`, or in a table inside it, `around`, with the keys `siblings`.
    fn meant(
        &self,
        wrong: &str,
        table: &str,
        around: &str,
        siblings: &[&str],
        known: &[KnownOptions],
    ) -> Option<String> {
        let name = wrong.rsplit('.').next().unwrap_or(wrong);
        let last = |key: &str| key.rsplit('.').next().is_some_and(|last| last == name);
        // It may belong to another table of the same section, or repeat the name of the table before it.
        let elsewhere = known.iter().map(|option| option.key.as_str());
        let elsewhere = elsewhere.filter(|key| last(key) || squeezed(key) == squeezed(&join(around, name)));
        if let Some(key) = elsewhere.min_by_key(|key| key.len()) {
            return Some(self.did_you_mean(wrong, &join(table, key)));
        }
        let near = nearest(name, siblings.iter().copied())?;
        Some(self.did_you_mean(wrong, &join(table, &join(around, near))))
    }

    /// Asks "did you mean" in the form of the place of `wrong`: a variable, or a line in a table.
    fn did_you_mean(&self, wrong: &str, meant: &str) -> String {
        let table = |key: &str| key.rsplit_once('.').map_or(String::new(), |(table, _)| table.to_owned());
        let name = meant.rsplit('.').next().unwrap_or(meant);
        match self.origin(wrong) {
            Origin::Variable(_) => format!("did you mean {}?", variable(meant)),
            _ if table(wrong) == table(meant) => format!("did you mean `{name}`?"),
            _ => format!("did you mean `{name}` in [{}]?", table(meant)),
        }
    }

    /// Adds a value that is in effect to the list of all options.
    pub(super) fn note(&mut self, key: &str, value: serde_json::Value) {
        match value {
            serde_json::Value::Object(members) => {
                members.into_iter().for_each(|(name, value)| self.note(&join(key, &name), value));
            }
            value => {
                let origin = self.origin(key);
                self.check_quotes(key, &value);
                self.effective.push(Effective { key: key.to_owned(), value, origin });
            }
        }
    }

    /// Warns of quotes around a value. A shell removes quotes, but programs that read a file of variables,
    /// such as `docker --env-file`, do not. Only a secret may really contain them.
    fn check_quotes(&mut self, key: &str, value: &serde_json::Value) {
        let Origin::Variable(name) = self.origin(key) else { return };
        let in_quotes = |text: &String| ['"', '\''].iter().any(|&quote| is_between(text.trim(), quote));
        if key.contains(".properties.") || !self.given.get(&name).is_some_and(in_quotes) {
            return;
        }
        const MESSAGE: &str = "is in quotes, which are part of the value: remove them";
        if value == MASK { self.warn(key, MESSAGE) } else { self.refuse(key, MESSAGE) }
    }

    /// Adds a computed default to the list of all options.
    pub(super) fn set_default(&mut self, key: &str, value: &str) {
        self.effective
            .iter_mut()
            .filter(|option| option.key == key)
            .for_each(|option| option.value = value.into());
    }

    /// Returns the origins of everything that was read so far.
    pub(super) fn all_origins(&self) -> Origins {
        Origins::new(&self.effective, &self.origins)
    }

    /// Returns whether somebody set `key`.
    fn is_set(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    /// Returns where the value of `key` came from.
    fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Reports that the value of `key` can't be used. Only the first report on a key, or on a table around
    /// it, counts, because later ones only follow from it.
    pub(super) fn refuse(&mut self, key: &str, message: impl Into<String>) {
        let around = |known: &str| {
            key.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if !self.problems.iter().any(|problem| !problem.key.is_empty() && around(&problem.key)) {
            let origin = self.origin(key);
            self.problems.push(Diagnostic { origin, key: key.to_owned(), message: message.into() });
        }
    }

    /// Reports if `small` is greater than `large`, on the option of the two that somebody set.
    pub(super) fn in_order<T: PartialOrd + Display>(&mut self, small: (&str, T), large: (&str, T)) {
        if small.1 <= large.1 {
            return;
        }
        if self.is_set(large.0) {
            self.refuse(large.0, format!("{} is less than {}, {}", large.1, small.0, small.1));
        } else {
            self.refuse(small.0, format!("{} is more than {}, {}", small.1, large.0, large.1));
        }
    }

    /// Reports that `key` is needed and not set.
    pub(super) fn missing(&mut self, key: &str) {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        let file = match &self.file {
            Some(path) => format!(" of {}", path.display()),
            None => String::new(),
        };
        self.refuse(key, format!("missing: set `{name}` in [{table}]{file}, or {}", variable(key)));
    }

    /// Reports that `key` or `instead` is needed. Reports nothing if `instead` is set to an unusable value.
    pub(super) fn missing_either(&mut self, key: &str, instead: &str) {
        if !self.is_set(instead) {
            self.missing(key);
        }
    }

    /// Returns the value of a key that must be set and must not be empty.
    pub(super) fn required(&mut self, key: &str, value: Option<String>) -> Option<String> {
        match value {
            Some(text) if text.trim().is_empty() => self.refuse(key, "is empty"),
            Some(text) => return Some(text),
            None => self.missing(key),
        }
        None
    }

    /// Reports what the check of the table `key` found. Returns `checked` only if nothing is wrong.
    pub(super) fn accepted<T>(
        &mut self,
        key: &str,
        diagnostics: &Diagnostics,
        checked: Option<T>,
    ) -> Option<T> {
        for problem in diagnostics.problems() {
            let key = if problem.key.is_empty() { key.to_owned() } else { join(key, &problem.key) };
            match problem.origin {
                Origin::Missing => self.missing(&key),
                _ => self.refuse(&key, problem.message.as_str()),
            }
        }
        for warning in diagnostics.warnings() {
            self.warn(&join(key, &warning.key), &warning.message);
        }
        checked.filter(|_| diagnostics.is_good())
    }

    /// Adds a warning about a value that is allowed but probably not intended.
    pub(super) fn warn(&mut self, key: &str, message: &str) {
        let origin = self.origin(key);
        self.warnings.push(Diagnostic { origin, key: key.to_owned(), message: message.to_owned() });
    }

    /// Reports an unknown key at the top of the configuration. The tables there are `sections`; `all` are the
    /// full keys of all options.
    pub(super) fn unknown(&mut self, key: &str, sections: &'static [&'static str], all: &[String]) {
        let last = |known: &str| known.rsplit('.').next().is_some_and(|last| last == key);
        let same = all.iter().find(|known| squeezed(known) == squeezed(key));
        let mut named = all.iter().filter(|known| last(known));
        // A name that exists in several tables could mean any of them.
        let only = named.next().filter(|_| named.next().is_none() && !self.is_table(key));
        let mistake = ValueError::unknown_field(key, sections);
        let message = match (same.or(only), nearest(key, sections.iter().copied())) {
            _ if squeezed(&variable(key)) == FILE_VARIABLE => {
                format!("unknown key; the variable for the file is {FILE_VARIABLE}")
            }
            (Some(meant), _) => format!("unknown key; {}", self.did_you_mean(key, meant)),
            (None, Some(section)) => format!("unknown key; did you mean `{section}`?"),
            (None, None) => mistake.to_string(),
        };
        self.refuse(key, message);
    }
}

fn is_between(text: &str, quote: char) -> bool {
    text.len() > 1 && text.starts_with(quote) && text.ends_with(quote)
}

/// Copies into a table the entries that only `below` has.
fn fill(table: &mut Value, below: &Value) {
    let (Value::Dict(_, table), Value::Dict(_, below)) = (table, below) else { return };
    for (name, value) in below {
        match table.get_mut(name) {
            Some(inner) => fill(inner, value),
            None => drop(table.insert(name.clone(), value.clone())),
        }
    }
}

/// Puts a value into nested tables that exist.
fn put(tables: &mut Value, path: &[&str], value: Value) {
    let Value::Dict(_, table) = tables else { return };
    match path {
        [] => {}
        [name] => drop(table.insert((*name).to_owned(), value)),
        [name, rest @ ..] => {
            if let Some(inner) = table.get_mut(*name) {
                put(inner, rest, value);
            }
        }
    }
}

/// Takes the value at `path` out of nested tables.
fn take(value: &mut Value, path: &[&str]) -> Option<Value> {
    let Value::Dict(_, table) = value else { return None };
    match path {
        [] => None,
        [name] => table.remove(*name),
        [name, rest @ ..] => take(table.get_mut(*name)?, rest),
    }
}
