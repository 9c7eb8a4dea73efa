//! The JSON Schema of a configuration file, for editors: completion, descriptions, and mistakes underlined while typing.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::raw;

/// What the types say.
pub(super) fn of_types() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    generator.into_root_schema_for::<raw::File>().to_value()
}

/// The schema as editors get it: every value may also come from the environment, every text from a file.
pub fn published() -> Value {
    let mut schema = of_types();
    references(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), "API Sentinel".into());
        root.insert("description".into(), "The configuration of `sentinel run`.".into());
        if let Some(definitions) = root.get_mut("$defs").and_then(Value::as_object_mut) {
            definitions.insert(
                "Variable".into(),
                json!({
                    "description": "From the environment: `${NAME}` or `${NAME:-default}`.",
                    "type": "string",
                    "pattern": r"^.*\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}.*$",
                }),
            );
            definitions.insert(
                "FromFile".into(),
                json!({
                    "description": "The content of a file, without the line end behind it.",
                    "type": "object",
                    "properties": { "file": { "type": "string" } },
                    "required": ["file"],
                    "additionalProperties": false,
                }),
            );
        }
        // Where anchors and merge keys of one's own may live.
        root.insert("patternProperties".into(), json!({ "^x-": {} }));
    }
    schema
}

fn references(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(references),
        Value::Object(fields) => {
            let kinds: Vec<&str> = match fields.get("type") {
                Some(Value::String(kind)) => vec![kind],
                Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            };
            let from_file = kinds.contains(&"string") && !fields.contains_key("enum") && !fields.contains_key("const");
            let from_variable = ["integer", "number", "boolean"].iter().any(|kind| kinds.contains(kind));
            if !from_file && !from_variable {
                fields.values_mut().for_each(references);
                return;
            }
            let mut typed = std::mem::take(fields);
            for kept in ["description", "default", "writeOnly"] {
                if let Some(value) = typed.shift_remove(kept) {
                    fields.insert(kept.to_owned(), value);
                }
            }
            let other = if from_file { "FromFile" } else { "Variable" };
            fields.insert("anyOf".into(), json!([typed, { "$ref": format!("#/$defs/{other}") }]));
        }
        _ => {}
    }
}
