//! Reads the configuration file: TOML, with the line of every key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};
use toml_edit::{Document, Item, TableLike};

use crate::diagnostics::{Diagnostic, Origin};
use crate::display::why_unreadable;

/// A configuration file that was read.
pub(super) struct File {
    path: PathBuf,
    tables: Dict,
    /// Every key of the file, with its line.
    pub(super) origins: BTreeMap<String, Origin>,
}

impl File {
    /// Reads the file. The error is about the file as a whole.
    pub(super) fn read(path: &Path) -> Result<Self, Diagnostic> {
        let text = std::fs::read_to_string(path).map_err(|error| Diagnostic {
            origin: Origin::Default,
            key: String::new(),
            message: format!(
                "{}: the configuration file can't be read: {}",
                path.display(),
                why_unreadable(&error)
            ),
        })?;
        Self::parse(path, &text)
    }

    /// Parses `text` as the content of `path`.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Diagnostic> {
        let place = |offset: usize| Origin::File { path: path.to_owned(), line: line(text, offset) };
        let document = Document::parse(text).map_err(|error| Diagnostic {
            origin: place(error.span().map_or(0, |span| span.start)),
            key: String::new(),
            // Only the message: the whole error quotes the line, which may hold a secret.
            message: format!("not TOML: {}{}", error.message().replace('\n', ", "), other_format(text)),
        })?;
        let mut origins = BTreeMap::new();
        let mut note = |key: &str, offset: usize| {
            origins.insert(key.to_owned(), place(offset));
        };
        let tables = table(document.as_table(), "", &mut note);
        Ok(Self { path: path.to_owned(), tables, origins })
    }
}

impl Provider for File {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.path.display().to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.tables.clone()))
    }
}

/// Returns a hint if the text seems to have another format.
fn other_format(text: &str) -> &'static str {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    match first {
        Some(line) if line.starts_with('{') => "; this looks like JSON: write TOML",
        Some(line) if line.contains('=') => "",
        Some(line) if line.ends_with(':') || line.starts_with("---") || line.contains(": ") => {
            "; this looks like YAML: write TOML"
        }
        _ => "",
    }
}

fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

fn table(table: &dyn TableLike, path: &str, note: &mut dyn FnMut(&str, usize)) -> Dict {
    let mut dict = Dict::new();
    for (name, item) in table.iter() {
        let key = super::key_path::join(path, name);
        let span = table.get_key_value(name).and_then(|(key, _)| key.span()).or_else(|| item.span());
        note(&key, span.map_or(0, |span| span.start));
        dict.insert(name.to_owned(), value(item, &key, note));
    }
    dict
}

fn value(item: &Item, key: &str, note: &mut dyn FnMut(&str, usize)) -> Value {
    if let Some(inner) = item.as_table_like() {
        return Value::from(table(inner, key, note));
    }
    if let Some(tables) = item.as_array_of_tables() {
        return tables.iter().map(|inner| Value::from(table(inner, key, note))).collect::<Vec<_>>().into();
    }
    item.as_value().map_or_else(|| Value::from(""), scalar)
}

fn scalar(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => text.value().as_str().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        toml_edit::Value::Float(number) => (*number.value()).into(),
        toml_edit::Value::Boolean(value) => (*value.value()).into(),
        toml_edit::Value::Datetime(time) => time.value().to_string().into(),
        toml_edit::Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().into(),
        toml_edit::Value::InlineTable(inner) => table(inner, "", &mut |_, _| ()).into(),
    }
}
