//! Reads each table of the merged layers, keeps the origin of every value, and collects the mistakes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use figment::error::{Error, Kind};
use figment::value::{Dict, Value};
use figment::{Figment, Metadata};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Effective;
use super::environment::Environment;
use super::given_options::GivenOptions;
use super::key_path::{FILE_VARIABLE, join, variable};
use super::known_options::{self, KnownOption};
use super::layers::{Layer, merged, note_origins};
use super::origins::Origins;
use super::suggest::{nearest, squeezed};
use super::value::{ConfigNode, message};
use crate::diagnostics::{Diagnostic, Diagnostics, Origin};
use crate::secret::MASK;

/// The merged layers, and what was found while reading them.
pub(super) struct ConfigReader {
    layers: Figment,
    /// What `layers` set together, without the tables that were read.
    root: Value,
    origins: BTreeMap<String, Origin>,
    file: Option<PathBuf>,
    /// Variables that look like settings of the bridge and are none.
    pub(super) strays: Vec<String>,
    /// Variables whose whole value is in quotes.
    quoted: BTreeSet<String>,
    /// Everything that is wrong, with full keys. `finish` adds where each value came from.
    pub(super) diagnostics: Diagnostics,
    effective: Vec<Effective>,
    given: GivenOptions,
}

impl ConfigReader {
    /// Merges the environment over the layers of the file at `path`.
    pub(super) fn new(file: Figment, path: Option<&Path>, environment: Environment) -> Self {
        let Environment { layers, diagnostics, strays, quoted } = environment;
        let layers = file.clone().merge(layers);
        let root = merged(&layers);
        let mut origins = BTreeMap::new();
        note_origins(&mut origins, &file, "", &merged(&file));
        note_origins(&mut origins, &layers, "", &root);
        let (file, given) = (path.map(Path::to_owned), GivenOptions::of(&root));
        Self { layers, root, origins, file, strays, quoted, diagnostics, effective: Vec::new(), given }
    }

    /// Returns what file and variables set.
    pub(super) fn given(&self) -> GivenOptions {
        self.given.clone()
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

    /// Returns the text of an option, before its table is read.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.root.find_ref(key)?.as_str()
    }

    /// Sets an option on behalf of `variable`. Call it before any table is read.
    pub(super) fn provide(&mut self, key: &str, value: &str, variable: &str) {
        let path: Vec<_> = key.split('.').collect();
        self.join(Layer::new(&path, value.into(), Metadata::named(variable.to_owned())));
    }

    /// Copies every option of the table `base` that the table `key` does not set itself.
    pub(super) fn inherit(&mut self, key: &str, base: &str) {
        let Some(below) = self.root.find_ref(base).cloned() else { return };
        let path: Vec<_> = key.split('.').collect();
        // The values keep their own origins.
        self.join(Layer::new(&path, below, Metadata::default()));
    }

    /// Adds options below all others.
    fn join(&mut self, layer: Layer) {
        self.layers = std::mem::take(&mut self.layers).join(layer);
        self.root = merged(&self.layers);
        note_origins(&mut self.origins, &self.layers, "", &self.root);
    }

    /// Removes everything that is set under `key`.
    pub(super) fn forget(&mut self, key: &str) {
        let path: Vec<_> = key.split('.').collect();
        drop(take(&mut self.root, &path));
    }

    /// Takes one text out of a table, before the table is read.
    pub(super) fn take_text(&mut self, key: &str, name: &str) -> Option<String> {
        let key = join(key, name);
        let taken = take(&mut self.root, &key.split('.').collect::<Vec<_>>())?;
        if taken.as_str().is_none() {
            self.diagnostics.refuse(key, "expected a text");
        }
        taken.into_string()
    }

    /// Reads the table `key` into its type. Reports each value that can't be used, and treats it as not set.
    pub(super) fn read<T: DeserializeOwned + Default + Serialize + JsonSchema>(&mut self, key: &str) -> T {
        let path: Vec<_> = key.split('.').collect();
        let mut table = take(&mut self.root, &path).unwrap_or_else(|| Dict::new().into());
        let raw = loop {
            match T::deserialize(ConfigNode::new(&table, &self.layers)) {
                Ok(raw) => break raw,
                Err(error) => {
                    let below: Vec<_> = error.path.iter().map(String::as_str).collect();
                    let wrong = below.iter().fold(key.to_owned(), |key, name| join(&key, name));
                    let message = self.describe(&error, key, &wrong, &known_options::of(T::json_schema));
                    self.diagnostics.refuse(wrong, message);
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

    /// Checks the table `key`, and collects what `check` finds. Returns what it returns if it finds no mistake.
    pub(super) fn accept<T>(
        &mut self,
        key: &str,
        check: impl FnOnce(&mut Diagnostics) -> Option<T>,
    ) -> Option<T> {
        let mut found = Diagnostics::default();
        let checked = check(&mut found).filter(|_| found.is_good());
        let full = |diagnostic: Diagnostic| match diagnostic.key.as_str() {
            "" => Diagnostic { key: key.to_owned(), ..diagnostic },
            name => Diagnostic { key: join(key, name), ..diagnostic },
        };
        self.diagnostics.problems.extend(found.problems.into_iter().map(full));
        self.diagnostics.warnings.extend(found.warnings.into_iter().map(full));
        checked
    }

    /// Describes a mistake in the option `wrong` of the table `table`, whose options are `known`.
    fn describe(&self, error: &Error, table: &str, wrong: &str, known: &[KnownOption]) -> String {
        let below = wrong.strip_prefix(table).unwrap_or(wrong).trim_start_matches('.');
        if let Kind::UnknownField(_, siblings) = &error.kind {
            let around = below.rsplit_once('.').map_or("", |(around, _)| around);
            if let Some(meant) = self.meant(wrong, table, around, siblings, known) {
                return format!("unknown key; {meant}");
            }
        }
        let option = known.iter().find(|option| option.key == below);
        message(&error.kind, option.and_then(|option| option.range.as_deref()))
    }

    /// Finds the key that the user probably meant with the unknown key `wrong`. The key is in the table
    /// `table`, with the options `known`, or in a table inside it, `around`, with the keys `siblings`.
    fn meant(
        &self,
        wrong: &str,
        table: &str,
        around: &str,
        siblings: &[&str],
        known: &[KnownOption],
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

    /// Refuses quotes around a value. A shell removes quotes, but programs that read a file of variables,
    /// such as `docker --env-file`, do not. Only a secret may really contain them, and gets a warning.
    fn check_quotes(&mut self, key: &str, value: &serde_json::Value) {
        let Origin::Variable(name) = self.origin(key) else { return };
        if key.contains(".properties.") || !self.quoted.contains(&name) {
            return;
        }
        const MESSAGE: &str = "is in quotes, which are part of the value: remove them";
        match value == MASK {
            true => self.diagnostics.warn(key, MESSAGE),
            false => self.diagnostics.refuse(key, MESSAGE),
        }
    }

    /// Adds a computed default to the list of all options.
    pub(super) fn set_default(&mut self, key: &str, value: &str) {
        self.effective
            .iter_mut()
            .filter(|option| option.key == key)
            .for_each(|option| option.value = value.into());
    }

    /// Returns where the value of `key` came from.
    fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Returns all options in effect and their origins, and everything that was found. A message gets the
    /// origins of all options that it names.
    pub(super) fn finish(mut self) -> (Diagnostics, Vec<Effective>, Origins) {
        let origins = Origins::new(&self.effective, &self.origins);
        let Diagnostics { problems, warnings } = std::mem::take(&mut self.diagnostics);
        let problems = first_reports(problems);
        let complete = |found: Diagnostic| {
            let message = match found.origin {
                Origin::Missing => self.how_to_set(&found.key),
                _ => found.message,
            };
            let origin = match found.origin {
                Origin::Variable(name) => Origin::Variable(name),
                _ => self.origin(&found.key),
            };
            let message = origins.annotate_about(&found.key, &message);
            Diagnostic { origin, key: found.key, message }
        };
        let problems = problems.into_iter().map(complete).collect();
        let warnings = warnings.into_iter().map(complete).collect();
        (Diagnostics { problems, warnings }, self.effective, origins)
    }

    /// Says where an option can be set that nobody set.
    fn how_to_set(&self, key: &str) -> String {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        let file = self.file.as_ref().map(|path| format!(" of {}", path.display())).unwrap_or_default();
        format!("missing: set `{name}` in [{table}]{file}, or {}", variable(key))
    }

    /// Reports an unknown key at the top of the configuration. The tables there are `sections`; `all` are the
    /// full keys of all options.
    pub(super) fn unknown(&mut self, key: &str, sections: &'static [&'static str], all: &[String]) {
        let last = |known: &str| known.rsplit('.').next().is_some_and(|last| last == key);
        let same = all.iter().find(|known| squeezed(known) == squeezed(key));
        let mut named = all.iter().filter(|known| last(known));
        // A name that exists in several tables could mean any of them.
        let only = named.next().filter(|_| named.next().is_none() && !self.is_table(key));
        let text = match (same.or(only), nearest(key, sections.iter().copied())) {
            _ if squeezed(&variable(key)) == FILE_VARIABLE => {
                format!("unknown key; the variable for the file is {FILE_VARIABLE}")
            }
            (Some(meant), _) => format!("unknown key; {}", self.did_you_mean(key, meant)),
            (None, Some(section)) => format!("unknown key; did you mean `{section}`?"),
            (None, None) => message(&Kind::UnknownField(key.to_owned(), sections), None),
        };
        self.diagnostics.refuse(key, text);
    }
}

/// Drops what only follows from an earlier mistake: a later report on the same key, on a key in a refused
/// table, or on a key that is missing because the other option for it (`urls` for `url`, `password_file` for
/// `password`) was refused.
fn first_reports(problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut first: Vec<Diagnostic> = Vec::new();
    for problem in problems {
        let follows = first.iter().filter(|known| !known.key.is_empty()).any(|known| {
            let is_within = problem.key.strip_prefix(&known.key);
            let is_instead = known.key.strip_prefix(&problem.key);
            is_within.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                || (problem.origin == Origin::Missing && matches!(is_instead, Some("s" | "_file")))
        });
        if !follows {
            first.push(problem);
        }
    }
    first
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
