//! The dialects against the gateways' official machine-readable specs.
//!
//! Every request that Sentinel writes and every answer that it mints validates, over generated payments, with amounts
//! preserved for every currency. The specs are other parties' and not part of this repository: the tests read them from
//! `../shared/specs` and say `skipped` where that folder is absent. Braintree and Razorpay publish none: theirs are the
//! fields that their references name. The decline table is held against the answers that it is about, in both directions.

mod adyen;
mod amounts;
mod arbitrary;
mod braintree;
mod carried;
mod declines;
mod paypal;
mod razorpay;
mod square;
mod stripe;

use std::collections::BTreeMap;
use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};

/// The schemas of one OpenAPI file, compiled as they are asked for.
struct Spec {
    components: Value,
    compiled: BTreeMap<String, Validator>,
}

impl Spec {
    fn load(file: &str) -> Option<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/specs").join(file);
        let Ok(text) = std::fs::read_to_string(&path) else {
            eprintln!("skipped: {file} is not there");
            return None;
        };
        let mut spec: Value = serde_json::from_str(&text).expect("the spec is JSON");
        let mut components = spec["components"].take();
        nullable(&mut components);
        Some(Self {
            components,
            compiled: BTreeMap::new(),
        })
    }

    /// Panics with every violation, and the document.
    fn check(&mut self, schema: &str, document: &Value) {
        let components = &self.components;
        assert!(components["schemas"].get(schema).is_some(), "no schema {schema}");
        let validator = self.compiled.entry(schema.to_owned()).or_insert_with(|| {
            let root = json!({"$ref": format!("#/components/schemas/{schema}"), "components": components});
            jsonschema::options()
                .with_draft(jsonschema::Draft::Draft202012)
                .build(&root)
                .unwrap_or_else(|error| panic!("{schema} does not compile: {error}"))
        });
        let errors: Vec<String> = validator
            .iter_errors(document)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{schema}: {errors:#?}\n{document:#}");
    }
}

/// `nullable: true`, which OpenAPI 3.0 has and JSON Schema has not, as an alternative.
fn nullable(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(nullable),
        Value::Object(map) => {
            map.values_mut().for_each(nullable);
            if map.get("nullable") == Some(&Value::Bool(true)) {
                map.remove("nullable");
                let inner = schema.take();
                *schema = json!({"anyOf": [inner, {"type": "null"}]});
            }
        }
        _ => {}
    }
}
