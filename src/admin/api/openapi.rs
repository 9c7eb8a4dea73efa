//! The OpenAPI 3.1 document, made of the endpoints' declarations and the schemas of their types.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::endpoint::{Endpoint, Needs};
use super::problem::{self, Code};

/// Where schemas that have a name stand.
const COMPONENTS: &str = "/components/schemas";

/// The document.
pub fn document(endpoints: &[Endpoint]) -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = COMPONENTS.into();
            settings.meta_schema = None;
        })
        .into_generator();
    let problem = generator.subschema_for::<problem::Written>();
    let mut paths: Map<String, Value> = Map::new();
    let mut groups: Vec<&str> = Vec::new();
    for endpoint in endpoints {
        if !groups.contains(&endpoint.group) {
            groups.push(endpoint.group);
        }
        let operation = operation(endpoint, &mut generator, &problem);
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_ascii_lowercase()] = operation;
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "API Sentinel",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Accounts, keys and figures of a payment sidecar",
            "description": "Payments themselves are not made here: an application's gateway SDK sends them to Sentinel's \
                gateway listeners. Every problem is answered as application/problem+json (RFC 9457).",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
        },
        "servers": [{ "url": "/" }],
        "tags": groups.iter().map(|group| json!({ "name": group })).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "session": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The token that registering, logging in or refreshing answered."
                },
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A Sentinel API key, `sk_snt_live_...` or `sk_snt_test_...`."
                }
            }
        }
    })
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator, problem: &Schema) -> Value {
    let mut operation = json!({
        "operationId": endpoint.name,
        "tags": [endpoint.group],
        "summary": endpoint.summary,
    });
    if !endpoint.details.is_empty() {
        operation["description"] = endpoint.details.into();
    }
    operation["security"] = match endpoint.needs {
        Needs::Nothing => json!([]),
        Needs::Session => json!([{ "session": [] }]),
        Needs::Scope(_) => json!([{ "session": [] }, { "apiKey": [] }]),
    };
    let mut parameters = path_parameters(endpoint);
    if let Some(query) = endpoint.query {
        parameters.extend(query_parameters(&query(generator)));
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if !endpoint.takes.is_empty() {
        let mut content = Map::new();
        for takes in &endpoint.takes {
            let entry = json!({ "schema": (takes.schema)(generator), "example": takes.example });
            content.insert(takes.media_type.to_owned(), entry);
        }
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation["responses"] = responses(endpoint, generator, problem);
    operation
}

fn path_parameters(endpoint: &Endpoint) -> Vec<Value> {
    let named = |(name, what): &(&str, &str)| {
        json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": what,
            "schema": { "type": "string", "minLength": 1, "maxLength": 100, "pattern": "^[A-Za-z0-9_-]+$" }
        })
    };
    endpoint.parameters.iter().map(named).collect()
}

/// A flat struct's fields, as parameters of the query.
fn query_parameters(schema: &Schema) -> Vec<Value> {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let fields = schema.get("properties").and_then(Value::as_object);
    fields
        .into_iter()
        .flatten()
        .map(|(name, schema)| {
            let mut schema = schema.clone();
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            nonnull(&mut schema);
            json!({
                "name": name,
                "in": "query",
                "required": required.contains(&name.as_str()),
                "description": description,
                "schema": schema
            })
        })
        .collect()
}

/// A parameter that is left out is left out: there is no null in a query.
fn nonnull(schema: &mut Value) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [one] = &types[..] {
            schema["type"] = one.clone();
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type") != Some(&"null".into()));
        if let [one] = &choices[..] {
            *schema = one.clone();
        }
    }
}

fn responses(endpoint: &Endpoint, generator: &mut SchemaGenerator, problem: &Schema) -> Value {
    let mut responses: BTreeMap<String, Value> = BTreeMap::new();
    for answer in &endpoint.answers {
        let mut response = json!({ "description": answer.what });
        if !answer.content.is_empty() {
            let mut content = Map::new();
            for (media_type, schema) in &answer.content {
                content.insert((*media_type).to_owned(), json!({ "schema": schema(generator) }));
            }
            response["content"] = content.into();
        }
        responses.insert(answer.status.as_str().to_owned(), response);
    }
    for (status, codes) in by_status(&failures(endpoint)) {
        let told: Vec<String> = codes
            .iter()
            .map(|code| format!("`{}`: {}", code.label(), code.title()))
            .collect();
        let response = json!({
            "description": told.join("; "),
            "content": { "application/problem+json": { "schema": problem } }
        });
        responses.insert(status, response);
    }
    if !endpoint.parameters.is_empty() {
        // Written by the listener, before anybody knows whose the request is.
        let refused = responses.entry("400".to_owned()).or_insert_with(
            || json!({ "description": "The path holds bytes that two servers could read differently", "content": {} }),
        );
        refused["content"]["application/json"] = json!({ "schema": { "type": "object" } });
    }
    json!(responses)
}

/// The problems that an endpoint may answer with: its own, and what its declaration implies.
pub(super) fn failures(endpoint: &Endpoint) -> Vec<Code> {
    let mut codes = endpoint.fails.clone();
    let takes = !endpoint.takes.is_empty();
    if takes {
        codes.extend([
            Code::InvalidRequest,
            Code::BodyTimeout,
            Code::TooLarge,
            Code::UnsupportedMediaType,
        ]);
    }
    if endpoint
        .takes
        .iter()
        .any(|takes| takes.media_type == "application/json")
    {
        codes.push(Code::InvalidJson);
    }
    if endpoint.query.is_some() {
        codes.push(Code::InvalidRequest);
    }
    match endpoint.needs {
        Needs::Nothing => {}
        _ => codes.extend([Code::Unauthorized, Code::Forbidden]),
    }
    if endpoint.method != http::Method::GET {
        codes.push(Code::OtherSite);
    }
    codes.extend([Code::Misdirected, Code::Internal, Code::Busy, Code::Unavailable]);
    let mut unique = Vec::new();
    for code in Code::ALL {
        if codes.contains(&code) {
            unique.push(code);
        }
    }
    unique
}

fn by_status(codes: &[Code]) -> BTreeMap<String, Vec<Code>> {
    let mut statuses: BTreeMap<String, Vec<Code>> = BTreeMap::new();
    for code in codes {
        statuses
            .entry(code.status().as_str().to_owned())
            .or_default()
            .push(*code);
    }
    statuses
}

#[cfg(test)]
mod tests {
    use super::super::routes;
    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
        let document = document(&routes::endpoints());
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().expect("a reference");
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        let mut names: Vec<&str> = Vec::new();
        for endpoint in routes::endpoints() {
            assert!(!names.contains(&endpoint.name), "{}", endpoint.name);
            names.push(endpoint.name);
            assert!(
                !endpoint.summary.is_empty() && !endpoint.answers.is_empty(),
                "{endpoint:?}"
            );
            let marks = endpoint.path.matches('{').count();
            assert_eq!(marks, endpoint.parameters.len(), "{endpoint:?}");
        }
    }

    #[test]
    fn every_example_is_what_its_schema_says() {
        let document = document(&routes::endpoints());
        let mut looked_at = 0;
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let content = operation.pointer("/requestBody/content/application~1json");
                let Some(content) = content else { continue };
                let mut schema = content["schema"].clone();
                schema["components"] = document["components"].clone();
                let validator = jsonschema::draft202012::new(&schema).expect("a schema");
                assert!(validator.is_valid(&content["example"]), "{method} {path}");
                looked_at += 1;
            }
        }
        assert!(looked_at > 5);
    }
}
