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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Editors read the file in the repository: it must say what the types say.
    #[test]
    fn the_schema_in_the_repository_is_the_one_of_the_types() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/sentinel.schema.json");
        let shipped: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(
            shipped,
            published(),
            "run `cargo run -- schema > config/sentinel.schema.json`"
        );
    }

    #[test]
    fn the_shipped_configuration_fits_and_mistakes_do_not() {
        let validator = jsonschema::draft202012::new(&published()).unwrap();
        let text = include_str!("../../config/sentinel.yaml");
        let shipped: Value = serde_yaml::from_str(text).unwrap();
        let errors: Vec<String> = validator.iter_errors(&shipped).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        for (path, wrong, fits) in [
            ("/workers", json!("four"), false),
            ("/workers", json!("${WORKERS:-2}"), true),
            ("/listeners/shred", json!("x"), false),
            ("/gateways/stripe/dialect", json!("strype"), false),
            ("/gateways/stripe/protocol", json!("h2"), true),
            (
                "/gateways/stripe/credentials",
                json!({ "secret_key": { "file": "/run/x" } }),
                true,
            ),
            (
                "/gateways/stripe/credentials",
                json!({ "secret_key": { "fil": "/run/x" } }),
                false,
            ),
            (
                "/routes/0/listen",
                json!([{ "address": "127.0.0.1:1", "tls": "local_ca" }, "127.0.0.1:2"]),
                true,
            ),
            ("/routes/0/listen", json!({ "tls": "local_ca" }), false),
            ("/routes/0/failover", json!({ "mode": "off" }), true),
            ("/x-anchors", json!({ "any": 1 }), true),
        ] {
            let mut changed = shipped.clone();
            let (parent, key) = path.rsplit_once('/').unwrap();
            changed.pointer_mut(parent).unwrap()[key] = wrong;
            assert_eq!(validator.is_valid(&changed), fits, "{path}");
        }
    }
}
