//! Reads the configuration file: TOML, with the line of every key.

use std::path::Path;

use figment::value::{Dict, Value};
use figment::{Figment, Metadata};
use toml_edit::{Document, Item, TableLike};

use super::layers::Layer;
use crate::diagnostics::{Diagnostic, Origin};
use crate::display::why_unreadable;

/// Reads the file. The error is about the file as a whole.
pub(super) fn read(path: &Path) -> Result<Figment, Diagnostic> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let (path, why) = (path.display(), why_unreadable(&error));
        Diagnostic::new(Origin::Default, "", format!("{path}: the configuration file can't be read: {why}"))
    })?;
    parse(path, &text)
}

/// Parses `text` as the content of `path`.
pub(super) fn parse(path: &Path, text: &str) -> Result<Figment, Diagnostic> {
    let place = |offset: usize| format!("{}:{}", path.display(), line(text, offset));
    let document = Document::parse(text).map_err(|error| {
        let origin = Origin::File(place(error.span().map_or(0, |span| span.start)));
        // Only the message: the whole error quotes the line, which may hold a secret.
        let (message, hint) = (error.message().replace('\n', ", "), other_format(text));
        Diagnostic::new(origin, "", format!("not TOML: {message}{hint}"))
    })?;
    let mut layers = Figment::new();
    read_table(document.as_table(), &mut Vec::new(), &mut |keys, value, offset| {
        let layer = Layer::new(keys, value, Metadata::from(place(offset), path));
        layers = std::mem::take(&mut layers).join(layer);
    });
    Ok(layers)
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

/// Calls `add` with the names, the value and the offset of each table and each option in `table`. A table
/// comes before its options, and without them.
fn read_table<'t>(
    table: &'t dyn TableLike,
    path: &mut Vec<&'t str>,
    add: &mut dyn FnMut(&[&str], Value, usize),
) {
    for (name, item) in table.iter() {
        let span = table.get_key_value(name).and_then(|(key, _)| key.span()).or_else(|| item.span());
        let offset = span.map_or(0, |span| span.start);
        path.push(name);
        match item.as_table_like() {
            Some(inner) => {
                add(path, Dict::new().into(), offset);
                read_table(inner, path, add);
            }
            None => add(path, value(item), offset),
        }
        path.pop();
    }
}

/// Converts a value that is not a table. No option is a list of tables, so the content of tables in a list
/// does not matter.
fn value(item: &Item) -> Value {
    match (item.as_value(), item.as_array_of_tables()) {
        (Some(value), _) => scalar(value),
        (None, Some(tables)) => vec![Value::from(Dict::new()); tables.len()].into(),
        (None, None) => "".into(),
    }
}

fn scalar(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => text.value().as_str().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        toml_edit::Value::Float(number) => (*number.value()).into(),
        toml_edit::Value::Boolean(value) => (*value.value()).into(),
        toml_edit::Value::Datetime(time) => time.value().to_string().into(),
        toml_edit::Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().into(),
        toml_edit::Value::InlineTable(_) => Dict::new().into(),
    }
}
