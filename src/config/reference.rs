//! Writes every option with its meaning and default, generated from the types: as a configuration file
//! ([`toml`]) and as a page ([`markdown`]).

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::key_path::join;
use super::sections::generator;
use super::sink_registry::SinkRegistry;
use super::variable;

/// Tells the reader how the file is generated, and how to generate it again.
const TOML_HEAD: &str = "\
# Every option of atdata-bridge with its default; what has no default is commented out.
# Each can be set by the environment variable named above it, which wins over the file.
#
# Generated: `atdata-bridge config --reference > config/reference.toml`
";

const MARKDOWN_HEAD: &str = "\
# Configuration

<!-- Generated: `atdata-bridge config --reference=markdown > docs/configuration.md` -->

Defaults are overridden by the configuration file (TOML), the file by environment variables. In a variable
a list is separated by commas. An unknown key or variable is an error. `atdata-bridge config` shows what is
in effect, and where each value came from.
";

/// One table and its options.
pub(super) struct Section {
    /// The full key of the table, such as `source.tls`.
    pub(super) key: String,
    /// What the table is for.
    pub(super) doc: String,
    pub(super) options: Vec<ReferenceEntry>,
}

/// One option of a table.
#[derive(Clone)]
pub(super) struct ReferenceEntry {
    pub(super) name: String,
    /// What the option means, as the comment on its field says.
    pub(super) doc: String,
    /// The default; `Null` if the option has none.
    pub(super) default: Value,
    /// An example for an option without a default; `Null` if it has none.
    pub(super) example: Value,
}

impl ReferenceEntry {
    pub(super) fn has_default(&self) -> bool {
        !self.default.is_null()
    }
}

/// Returns a configuration file with every option.
pub fn toml(kinds: &SinkRegistry) -> String {
    let mut text = TOML_HEAD.to_owned();
    for section in sections(kinds) {
        append_table(&mut text, &section, ReferenceEntry::has_default);
    }
    text
}

/// Appends a table with the meaning and the variable of each option. An option that `is_set` has its default, or an example
/// if it has none; every other one is commented out.
pub(super) fn append_table(text: &mut String, section: &Section, is_set: impl Fn(&ReferenceEntry) -> bool) {
    text.push_str("\n\n");
    comment(text, &section.doc);
    line(text, &format!("[{}]", section.key));
    for option in &section.options {
        text.push('\n');
        comment(text, &option.doc);
        line(text, &format!("# {}", variable(&join(&section.key, &option.name))));
        let mark = if is_set(option) { "" } else { "#" };
        let value = if option.has_default() { &option.default } else { &option.example };
        line(text, &format!("{mark}{} = {}", option.name, written(value)));
    }
}

/// Returns a page with a table of options for each section.
pub fn markdown(kinds: &SinkRegistry) -> String {
    let mut text = MARKDOWN_HEAD.to_owned();
    for section in sections(kinds) {
        line(&mut text, &format!("\n## `[{}]`\n\n{}", section.key, section.doc));
        if section.options.is_empty() {
            continue;
        }
        text.push_str("\n| key | variable | default | meaning |\n|---|---|---|---|\n");
        for option in &section.options {
            let variable = variable(&join(&section.key, &option.name));
            let default =
                if option.has_default() { format!("`{}`", written(&option.default)) } else { String::new() };
            let doc = option.doc.replace('|', "\\|");
            line(&mut text, &format!("| `{}` | `{variable}` | {default} | {doc} |", option.name));
        }
    }
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Adds a text as comment lines.
fn comment(text: &mut String, doc: &str) {
    wrap(text, "# ", doc);
}

/// Adds a text in lines of at most 100 characters, each with `prefix` before it.
pub(super) fn wrap(text: &mut String, prefix: &str, doc: &str) {
    const WIDTH: usize = 100;
    let mut width = 0;
    for word in doc.split_whitespace() {
        if width > 0 && width + word.len() < WIDTH {
            text.push(' ');
        } else {
            text.push_str(if width == 0 { "" } else { "\n" });
            text.push_str(prefix);
            width = 1;
        }
        text.push_str(word);
        width += 1 + word.len();
    }
    text.push('\n');
}

/// Writes a value as TOML.
pub(crate) fn written(value: &Value) -> String {
    match value {
        Value::String(text) => toml_edit::Value::from(text.as_str()).to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Returns every table, in the order of the reference.
pub(super) fn sections(kinds: &SinkRegistry) -> Vec<Section> {
    let mut generator = generator(SchemaSettings::default());
    let mut sections = Vec::new();
    for (key, schema) in kinds.tables() {
        section(&mut sections, &key, schema(&mut generator).as_value());
    }
    for section in &mut sections {
        if let Some(kind) = section.key.strip_prefix("sinks.").filter(|rest| !rest.contains('.')) {
            section.doc += &format!(" Under another name, `[sinks.<name>]`, it needs `kind = \"{kind}\"`.");
        }
    }
    sections
}

/// Collects the options of one table, and then those of the tables in it.
fn section(sections: &mut Vec<Section>, key: &str, schema: &Value) {
    let empty = serde_json::Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let (tables, options): (Vec<_>, Vec<_>) =
        properties.iter().partition(|(_, property)| property["properties"].is_object());
    let options = options.into_iter().map(|(name, property)| entry(name, property)).collect();
    sections.push(Section { key: key.to_owned(), doc: doc(schema), options });
    for (name, table) in tables {
        section(sections, &join(key, name), table);
    }
}

fn entry(name: &str, property: &Value) -> ReferenceEntry {
    let mut doc = doc(property);
    let choices = choices(property);
    if !choices.is_empty() {
        doc += &format!(" One of: {}.", choices.join(", "));
    }
    let example = property["examples"][0].clone();
    ReferenceEntry { name: name.to_owned(), doc, default: property["default"].clone(), example }
}

fn doc(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the values of an enumeration.
fn choices(property: &Value) -> Vec<String> {
    let plain = property["enum"].as_array().into_iter().flatten();
    let documented = property["oneOf"].as_array().into_iter().flatten().map(|choice| &choice["const"]);
    plain.chain(documented).filter_map(|choice| Some(format!("`{}`", choice.as_str()?))).collect()
}
