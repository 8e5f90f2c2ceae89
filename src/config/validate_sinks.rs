//! Checks `[sinks.<name>]`, one table for each sink, each read by the type of its kind. Also checks the table
//! of a sink for the dead letters.

use super::key_path::join;
use super::reader::ConfigReader;
use super::sink_registry::SinkRegistry;
use super::suggest::did_you_mean;
use super::{ids, variable};
use crate::sink::factory::{BuildContext, SinkSettings};

/// The table that may hold a sink for the dead letters.
const LETTERS: &str = "dead_letters";

pub(super) fn check(
    reader: &mut ConfigReader,
    kinds: &SinkRegistry,
    context: &BuildContext,
) -> Vec<SinkSettings> {
    let names = reader.names("sinks");
    if names.is_empty() {
        let variable = variable("sinks.file.directory");
        reader
            .diagnostics
            .refuse("sinks", format!("no sink: add a table such as [sinks.file], or set {variable}"));
    }
    names.into_iter().filter_map(|name| sink(reader, "sinks", name, kinds, context)).collect()
}

/// Reads and checks the table `name` in the table `parent`.
fn sink(
    reader: &mut ConfigReader,
    parent: &str,
    name: String,
    kinds: &SinkRegistry,
    context: &BuildContext,
) -> Option<SinkSettings> {
    let key = join(parent, &name);
    if let Err(message) = ids::check_sink_name(&name) {
        reader.diagnostics.refuse(&key, message);
        return None;
    }
    if reader.has(&key) && !reader.is_table(&key) && kinds.find(&name).is_none() {
        // `kind = "file"` in [sinks]: the name of the sink is missing.
        let tables = kinds.iter().map(|kind| format!("[{parent}.{}]", kind.name)).collect::<Vec<_>>();
        reader
            .diagnostics
            .refuse(&key, format!("each sink has a table of its own: write {}", tables.join(", ")));
        return None;
    }
    let given = reader.take_text(&key, "kind");
    let kind = given.as_deref().unwrap_or(&name);
    let Some(kind) = kinds.find(kind) else {
        if let Some(message) = kinds.left_out(kind) {
            reader.diagnostics.refuse(&key, message);
            return None;
        }
        let known = kinds.names();
        let meant = did_you_mean(kind, kinds.iter().map(|kind| kind.name));
        match given {
            Some(kind) => {
                let message = format!("`{kind}` is not a kind of sink: {known}{meant}");
                reader.diagnostics.refuse(join(&key, "kind"), message);
            }
            None => {
                let message = format!("`{name}` is not a kind of sink: set `kind` to one of {known}{meant}");
                reader.diagnostics.refuse(&key, message);
            }
        }
        return None;
    };
    reader.note(&join(&key, "kind"), kind.name.into());
    let factory = (kind.read)(reader, &key, context)?;
    Some(SinkSettings { name, factory })
}

/// Returns the sink for dead letters that a table in `[dead_letters]` describes. Options that this table does
/// not set come from the sink of the same name. Returns `None` if there is no such table, and `Some(None)` if
/// it has a mistake. Call it before [`check`], which takes the tables of the sinks.
pub(super) fn for_dead_letters(
    reader: &mut ConfigReader,
    kinds: &SinkRegistry,
    context: &BuildContext,
) -> Option<Option<SinkSettings>> {
    let tables = tables_for_dead_letters(reader, kinds);
    let (name, others) = tables.split_first()?;
    for other in others {
        reader
            .diagnostics
            .refuse(join(LETTERS, other), format!("{LETTERS}.{name} is set too: keep one of them"));
    }
    reader.inherit(&join(LETTERS, name), &join("sinks", name));
    // Dead letters have their own number of partitions: that of their topic.
    let context = BuildContext { partitions: None, is_for_dead_letters: true, ..*context };
    let mut found = sink(reader, LETTERS, name.clone(), kinds, &context);
    if let Some(Err(why)) = found.as_ref().map(|found| found.factory.keeps()) {
        reader
            .diagnostics
            .refuse(join(LETTERS, name), format!("{why}: name a directory, or a sink that keeps it"));
        found = None;
    }
    // Otherwise an option that was not understood would also be reported as an unknown key.
    reader.forget(&join(LETTERS, name));
    Some(found)
}

/// Returns the names of the tables in `[dead_letters]` that describe a sink.
pub(super) fn tables_for_dead_letters(reader: &ConfigReader, kinds: &SinkRegistry) -> Vec<String> {
    let sinks = reader.names("sinks");
    let is_sink = |name: &String| {
        let key = join(LETTERS, name);
        let is_kind = kinds.find(name).is_some() || kinds.left_out(name).is_some();
        reader.is_table(&key) && (is_kind || sinks.contains(name) || reader.has(&join(&key, "kind")))
    };
    reader.names(LETTERS).into_iter().filter(is_sink).collect()
}
