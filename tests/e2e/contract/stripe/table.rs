//! The field tables of Stripe's newest API, as JSON schemas.
//!
//! A table says of every field its type in TypeScript's words, whether it may be absent and whether it may be null. What
//! the tables leave out (wallets, bank debits, objects that no answer here contains) counts as any object. Fields that a
//! table does not name are refused: neither does Sentinel send what Stripe does not know, nor does it invent answers.

use std::collections::BTreeMap;
use std::path::Path;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// Whether values stand as JSON, or as text in a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum As {
    Json,
    Form,
}

pub struct Table {
    types: Map<String, Value>,
    compiled: BTreeMap<(String, As), Validator>,
}

impl Table {
    pub fn load() -> Option<Self> {
        let file = "stripe-objects-2026-10-28.endive.json";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/specs").join(file);
        let Ok(text) = std::fs::read_to_string(path) else {
            eprintln!("skipped: {file} is not there");
            return None;
        };
        let mut whole: Value = serde_json::from_str(&text).expect("JSON");
        let Value::Object(mut types) = whole["types"].take() else {
            panic!("no types in {file}");
        };
        // Cards inside of an intent are not in the public types: accounts are enabled for them one by one.
        let (data, field) = (
            "PaymentIntentCreateParams.PaymentMethodData",
            |kind: &str| json!({"t": kind, "opt": true}),
        );
        types[data]["card"] = field("PaymentMethodData.Card");
        types[data]["type"] = json!({"t": "PaymentMethodData.Type | 'card'"});
        let card = json!({"number": field("string"), "exp_month": field("number"), "exp_year": field("number"),
            "cvc": field("string"), "token": field("string")});
        types.insert(format!("{data}.Card"), card);
        Some(Self {
            types,
            compiled: BTreeMap::new(),
        })
    }

    /// Panics with every violation, and the document.
    pub fn check(&mut self, name: &str, written: As, document: &Value) {
        let types = &self.types;
        let validator = self.compiled.entry((name.to_owned(), written)).or_insert_with(|| {
            let definitions: Map<String, Value> = types
                .keys()
                .map(|name| (name.clone(), schema(types, name, written)))
                .collect();
            assert!(definitions.contains_key(name), "no table {name}");
            let root = json!({"$ref": format!("#/$defs/{name}"), "$defs": definitions});
            jsonschema::options()
                .with_draft(jsonschema::Draft::Draft202012)
                .build(&root)
                .unwrap_or_else(|error| panic!("{name} does not compile: {error}"))
        });
        let errors: Vec<String> = validator
            .iter_errors(document)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}\n{document:#}");
    }
}

fn schema(types: &Map<String, Value>, name: &str, written: As) -> Value {
    let table = &types[name];
    if let Some(alias) = table["alias"].as_str() {
        return union(types, name, alias, written);
    }
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (field, about) in table.as_object().expect("fields") {
        if field == "__extends" {
            for (field, kind) in [
                ("limit", "number"),
                ("starting_after", "string"),
                ("ending_before", "string"),
            ] {
                properties.insert(field.to_owned(), union(types, name, kind, written));
            }
            continue;
        }
        let mut kind = union(types, name, about["t"].as_str().expect("a type"), written);
        if about["nullable"] == true {
            kind = json!({"anyOf": [kind, {"type": "null"}]});
        }
        properties.insert(field.clone(), kind);
        if about["opt"] != true {
            required.push(field.clone());
        }
    }
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// A type: alternatives, of which lists may contain others.
fn union(types: &Map<String, Value>, scope: &str, text: &str, written: As) -> Value {
    let mut depth = 0;
    let alternatives = text.split(|c| {
        match c {
            '<' | '{' => depth += 1,
            '>' | '}' => depth -= 1,
            _ => {}
        }
        c == '|' && depth == 0
    });
    let all: Vec<Value> = alternatives
        .map(|one| single(types, scope, one.trim(), written))
        .collect();
    json!({ "anyOf": all })
}

fn single(types: &Map<String, Value>, scope: &str, text: &str, written: As) -> Value {
    let inside = |prefix: &str| text.strip_prefix(prefix)?.strip_suffix('>');
    if let Some(literal) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return json!({ "const": literal });
    }
    if let Some(inner) = inside("Array<") {
        return json!({"type": "array", "items": union(types, scope, inner, written)});
    }
    if let Some(inner) = inside("ApiList<") {
        return list(union(types, scope, inner, written));
    }
    if let Some(inner) = inside("Emptyable<") {
        return json!({"anyOf": [union(types, scope, inner, written), {"const": ""}]});
    }
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let address = ["city", "country", "line1", "line2", "postal_code", "state"];
    match (text, written) {
        ("string", _) => json!({"type": "string"}),
        ("number", As::Json) => json!({"type": "integer"}),
        ("number", As::Form) => json!({"type": "string", "pattern": "^(0|-?[1-9][0-9]*)$"}),
        ("boolean", As::Json) => json!({"type": "boolean"}),
        ("boolean", As::Form) => json!({"enum": ["true", "false"]}),
        ("Metadata" | "MetadataParam", _) => texts,
        ("RangeQueryParam", _) => {
            let fields: Map<String, Value> = ["gt", "gte", "lt", "lte"]
                .iter()
                .map(|field| ((*field).to_owned(), single(types, scope, "number", written)))
                .collect();
            json!({"type": "object", "properties": fields, "additionalProperties": false})
        }
        ("Address" | "AddressParam", _) => {
            let kind = match written {
                As::Json => json!({"type": ["string", "null"]}),
                As::Form => json!({"type": "string"}),
            };
            let fields: Map<String, Value> = address
                .iter()
                .map(|field| ((*field).to_owned(), kind.clone()))
                .collect();
            let required = if written == As::Json { &address[..] } else { &[] };
            json!({"type": "object", "properties": fields, "required": required, "additionalProperties": false})
        }
        (name, _) => match resolve(types, scope, name) {
            Some(full) => json!({"$ref": format!("#/$defs/{full}")}),
            None => json!({"type": "object"}),
        },
    }
}

pub fn list(items: Value) -> Value {
    json!({
        "type": "object",
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": items},
            "has_more": {"type": "boolean"}, "url": {"type": "string", "pattern": "^/v1/"}},
        "required": ["object", "data", "has_more", "url"],
        "additionalProperties": false,
    })
}

/// A name in the namespaces around the table that mentions it, the nearest first.
fn resolve(types: &Map<String, Value>, scope: &str, name: &str) -> Option<String> {
    let mut around = Some(scope);
    while let Some(space) = around {
        let full = format!("{space}.{name}");
        if types.contains_key(&full) {
            return Some(full);
        }
        around = space.rsplit_once('.').map(|(outer, _)| outer);
    }
    types.contains_key(name).then(|| name.to_owned())
}

/// A form as the object it means: `a[b]=c` and `a[0]=c`, with text for every value.
pub fn nested(form: &[u8]) -> Value {
    let mut root = Value::Object(Map::new());
    for (name, text) in form_urlencoded::parse(form) {
        let parts: Vec<&str> = name.split('[').map(|part| part.trim_end_matches(']')).collect();
        let mut at = &mut root;
        for part in &parts {
            let Value::Object(map) = at else {
                panic!("{name} is a text and an object");
            };
            at = map
                .entry((*part).to_owned())
                .or_insert_with(|| Value::Object(Map::new()));
        }
        assert_eq!(*at, Value::Object(Map::new()), "{name} is there twice");
        *at = Value::String(text.into_owned());
    }
    if let Value::Object(fields) = &mut root {
        for (_, value) in fields.iter_mut().filter(|(name, _)| *name != "metadata") {
            indexed(value);
        }
    }
    root
}

/// Objects with the keys 0, 1, 2 are arrays.
fn indexed(value: &mut Value) {
    let Value::Object(map) = value else { return };
    map.values_mut().for_each(indexed);
    let counted = !map.is_empty() && (0..map.len()).all(|index| map.contains_key(&index.to_string()));
    if counted {
        let items: Vec<Value> = (0..map.len())
            .filter_map(|index| map.remove(&index.to_string()))
            .collect();
        *value = Value::Array(items);
    }
}
