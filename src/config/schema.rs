//! Generates a JSON schema (draft-07) of the configuration file from the types. Editors use it, and the Helm
//! chart, whose value `config` is this tree.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::sections::{TABLES, generator};
use super::sink_registry::SinkRegistry;

/// The definition for a sink of any kind. It describes only what all known kinds have in common.
const ANY_SINK: &str = "#/definitions/sink";

/// Returns the schema of a whole configuration file.
pub fn json(kinds: &SinkRegistry) -> String {
    let mut generator = generator(SchemaSettings::draft07());
    let mut definitions = Map::new();
    let mut by_name = Map::new();
    let mut by_kind = Vec::new();
    for kind in kinds.iter() {
        let mut schema = (kind.schema)(&mut generator).to_value();
        schema["properties"]["kind"] = json!({"const": kind.name});
        definitions.insert(kind.name.to_owned(), schema);
        let this = json!({"$ref": format!("#/definitions/{}", kind.name)});
        by_name.insert(
            kind.name.to_owned(),
            json!({"if": {"required": ["kind"]}, "then": {"$ref": ANY_SINK}, "else": this}),
        );
        by_kind.push(json!({
            "if": {"required": ["kind"], "properties": {"kind": {"const": kind.name}}},
            "then": this,
        }));
    }
    definitions.insert(
        "sink".to_owned(),
        json!({"type": "object", "properties": {"kind": {"type": "string"}}, "allOf": by_kind}),
    );
    let mut properties = Map::new();
    for (name, schema) in TABLES {
        let table = match schema {
            Some(schema) => schema(&mut generator).to_value(),
            None => json!({"type": "object", "description": "Where events go, by name."}),
        };
        let has_sinks = matches!(name, "sinks" | "dead_letters");
        properties.insert(name.to_owned(), if has_sinks { with_sinks(table, &by_name) } else { table });
    }
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "The configuration of atdata-bridge",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "definitions": definitions,
    });
    format!("{schema:#}\n")
}

/// Allows tables of sinks in a table: under the name of a kind, or under any other name.
fn with_sinks(mut table: Value, by_name: &Map<String, Value>) -> Value {
    for (name, sink) in by_name {
        table["properties"][name] = sink.clone();
    }
    table["additionalProperties"] = json!({"$ref": ANY_SINK});
    table["propertyNames"] = json!({"pattern": super::ids::SINK_NAME_PATTERN});
    table
}

#[cfg(test)]
mod tests {
    use super::super::key_path::SECTIONS;
    use super::*;

    fn schema() -> Value {
        serde_json::from_str(&json(&SinkRegistry::built_in())).unwrap()
    }

    fn names(table: &Value) -> Vec<&str> {
        table["properties"].as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn every_section_and_every_kind_of_sink_is_in_it() {
        let schema = schema();
        assert_eq!(names(&schema), SECTIONS);
        let kinds: Vec<_> = SinkRegistry::built_in().iter().map(|kind| kind.name).collect();
        assert_eq!(names(&schema["properties"]["sinks"]), kinds);
        for kind in kinds {
            assert!(names(&schema["properties"]["dead_letters"]).contains(&kind), "{kind}");
            assert_eq!(schema["definitions"][kind]["additionalProperties"], json!(false), "{kind}");
        }
    }

    #[test]
    fn it_is_closed_where_an_unknown_key_is_an_error_and_open_to_sinks_of_any_name() {
        let schema = schema();
        for section in SECTIONS {
            let additional = &schema["properties"][section]["additionalProperties"];
            let expected = if ["sinks", "dead_letters"].contains(section) {
                json!({"$ref": ANY_SINK})
            } else {
                json!(false)
            };
            assert_eq!(*additional, expected, "{section}");
        }
    }
}
