//! Whether a JSON body has the documented fields, before it is read into its type: so that a refusal can name the field
//! without repeating what stands in it, and nothing of it is copied.

use std::fmt;

use axum::http::{HeaderMap, header};
use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::problem::{Code, FieldError, Problem};

/// The fields of a body, by the schema of its type.
#[derive(Debug)]
pub(super) struct Shape {
    schema: Value,
}

impl Shape {
    pub fn of<T: schemars::JsonSchema>() -> Self {
        Self {
            schema: schemars::SchemaGenerator::default()
                .into_root_schema_for::<T>()
                .to_value(),
        }
    }

    /// # Errors
    /// Everything that is missing, unknown or of another kind.
    pub fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
        if !is_json(headers) {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "send the body as Content-Type: application/json",
            ));
        }
        let kind = serde_json::from_slice::<Kind>(body).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            Problem::new(Code::InvalidJson, format!("the body is no JSON, at {place}"))
        })?;
        if kind != Kind::Of("object") {
            return Err(Problem::field("body", "must be a JSON object"));
        }
        let fields: IndexMap<String, Kind> =
            serde_json::from_slice(body).map_err(|_| Problem::new(Code::InvalidJson, "the body is no JSON object"))?;
        let properties = self.schema.get("properties").and_then(Value::as_object);
        let mut errors = Vec::new();
        for required in self
            .schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if let Some(name) = required.as_str().filter(|name| !fields.contains_key(*name)) {
                errors.push(error(name, "is missing"));
            }
        }
        for (name, kind) in &fields {
            let Some(schema) = properties.and_then(|properties| properties.get(name)) else {
                // A name is told back only as far as it can be one.
                let shown: String = name.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
                errors.push(error(&shown, "is not a field of this request"));
                continue;
            };
            if let Some(wanted) = wanted(schema)
                && !wanted.iter().any(|wanted| kind.is(wanted))
            {
                errors.push(error(name, format!("must be of type {}", wanted.join(" or "))));
            }
        }
        match errors.is_empty() {
            true => Ok(()),
            false => Err(Problem::fields(errors)),
        }
    }
}

fn error(field: &str, detail: impl Into<String>) -> FieldError {
    FieldError {
        field: field.to_owned(),
        detail: detail.into(),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.map(|value| value.split(';').next().unwrap_or_default().trim());
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
}

/// The JSON types that a property's schema names; `None` where it names none by itself.
fn wanted(schema: &Value) -> Option<Vec<&str>> {
    match schema.get("type")? {
        Value::String(one) => Some(vec![one]),
        Value::Array(several) => Some(several.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

/// Of what kind a value is; the value itself is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Of(&'static str),
}

impl Kind {
    fn is(self, wanted: &str) -> bool {
        let Self::Of(kind) = self;
        kind == wanted || (wanted == "number" && kind == "integer")
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Kind, E> {
        Ok(Kind::Of("boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Kind, E> {
        Ok(Kind::Of("integer"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Kind, E> {
        Ok(Kind::Of("integer"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Kind, E> {
        Ok(Kind::Of("number"))
    }

    fn visit_str<E>(self, _: &str) -> Result<Kind, E> {
        Ok(Kind::Of("string"))
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Of("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Kind::Of("array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Kind::Of("object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Sample {
        email: String,
        company_name: Option<String>,
        hours: u32,
    }

    fn check(body: &str) -> Result<(), (Code, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            "application/json; charset=utf-8".parse().expect("a value"),
        );
        Shape::of::<Sample>()
            .check(&headers, body.as_bytes())
            .map_err(|problem| (problem.code(), format!("{problem:?}")))
    }

    #[test]
    fn a_refusal_names_every_field_and_repeats_no_value() {
        assert!(check(r#"{"email":"a","hours":1}"#).is_ok());
        assert!(check(r#"{"email":"a","companyName":null,"hours":1}"#).is_ok());
        let (code, told) = check(r#"{"email":["hunter2"],"pass":"hunter2"}"#).expect_err("refused");
        assert_eq!(code, Code::InvalidRequest);
        for part in ["email", "must be of type string", "pass", "hours", "is missing"] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("hunter2"));
        for broken in ["", "{", "{\"a\":1,}", "nul", "{\"email\":\"\u{1}\"}"] {
            assert_eq!(check(broken).expect_err("refused").0, Code::InvalidJson, "{broken:?}");
        }
        for other in ["[]", "1", "\"x\"", "null"] {
            assert_eq!(check(other).expect_err("refused").0, Code::InvalidRequest, "{other}");
        }
        assert_eq!(
            Shape::of::<Sample>()
                .check(&HeaderMap::new(), b"{}")
                .expect_err("refused")
                .code(),
            Code::UnsupportedMediaType
        );
    }
}
