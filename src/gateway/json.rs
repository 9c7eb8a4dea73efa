//! Reading JSON from applications and gateways without guessing.
//!
//! `serde_json` keeps the last of two equal keys; a gateway may keep the first. An amount that two readers read
//! differently is how a translated payment goes wrong, so an object with a key twice is refused, as is nesting deeper
//! than 64. Fields are *taken* out of the object: what is left over is what the reader did not understand, by name, and
//! card numbers move into zeroizing buffers instead of being copied.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::canonical::Refusal;

/// The deepest nesting that is read.
const MAX_DEPTH: usize = 64;

/// An object whose fields are taken one by one.
#[derive(Default)]
pub struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// Reads a body that must be one JSON object. An empty body reads as an empty object: official SDKs send one for
    /// operations without parameters.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        match strict(body) {
            Some(Value::Object(map)) => Ok(Self {
                path: String::new(),
                map,
            }),
            _ => Err(Refusal::Malformed("the body is not one JSON object".to_owned())),
        }
    }

    /// The fields of an object that was read from another notation.
    pub fn of(map: Map<String, Value>) -> Self {
        Self {
            path: String::new(),
            map,
        }
    }

    /// The name of a field with the path to it, for refusals.
    pub fn name(&self, field: &str) -> String {
        if self.path.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.path)
        }
    }

    fn malformed(&self, field: &str, wanted: &str) -> Refusal {
        Refusal::Malformed(format!("{} is not {wanted}", self.name(field)))
    }

    /// Takes any value. `null` counts as absent.
    pub fn value(&mut self, field: &str) -> Option<Value> {
        self.map.shift_remove(field).filter(|value| !value.is_null())
    }

    /// Takes a string.
    pub fn string(&mut self, field: &str) -> Result<Option<String>, Refusal> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.malformed(field, "a string")),
        }
    }

    /// Takes a string that must be there and not be empty.
    pub fn required(&mut self, field: &str) -> Result<String, Refusal> {
        match self.string(field)? {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(Refusal::Malformed(format!("{} is missing", self.name(field)))),
        }
    }

    /// Takes a boolean; some gateways write it as a string.
    pub fn flag(&mut self, field: &str) -> Result<Option<bool>, Refusal> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(_) => Err(self.malformed(field, "a boolean")),
        }
    }

    /// Takes an object; an absent one is empty.
    pub fn object(&mut self, field: &str) -> Result<Self, Refusal> {
        let path = self.name(field);
        match self.value(field) {
            None => Ok(Self { path, map: Map::new() }),
            Some(Value::Object(map)) => Ok(Self { path, map }),
            Some(_) => Err(self.malformed(field, "an object")),
        }
    }

    /// Takes an array of objects; an absent one is empty.
    pub fn objects(&mut self, field: &str) -> Result<Vec<Self>, Refusal> {
        let path = self.name(field);
        let items = match self.value(field) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(self.malformed(field, "an array")),
        };
        let item = |item| match item {
            Value::Object(map) => Ok(Self {
                path: path.clone(),
                map,
            }),
            _ => Err(Refusal::Malformed(format!(
                "{path} holds something that is not an object"
            ))),
        };
        items.into_iter().map(item).collect()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Whether the field is there.
    pub fn has(&self, field: &str) -> bool {
        self.map.get(field).is_some_and(|value| !value.is_null())
    }

    /// Drops fields that may be lost without a word: they change no effect and nothing that the merchant reads back.
    pub fn drop_fields(&mut self, fields: &[&str]) {
        for field in fields {
            self.map.shift_remove(*field);
        }
    }

    /// Moves the names of what is left into `names`: what was not understood.
    pub fn leftovers(self, names: &mut Vec<String>) {
        for (field, value) in &self.map {
            if !value.is_null() {
                names.push(self.name(field));
            }
        }
    }
}

/// Reads a gateway's answer: one JSON object, or nothing.
pub fn object(body: &[u8]) -> Option<Map<String, Value>> {
    match strict(body) {
        Some(Value::Object(map)) => Some(map),
        _ => None,
    }
}

/// Reads one JSON value in which no object has a key twice.
pub fn strict(body: &[u8]) -> Option<Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Strict(MAX_DEPTH).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(value)
}

/// An object as a request's body.
pub fn body(object: &Map<String, Value>) -> Bytes {
    // Keys are strings and numbers finite: nothing of it can fail to be written.
    serde_json::to_vec(object).unwrap_or_default().into()
}

#[derive(Clone, Copy)]
struct Strict(usize);

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.0 {
            0 => Err(E::custom("nested too deep")),
            depth => Ok(Self(depth - 1)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated keys")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(inner)?;
            if map.insert(key, value).is_some() {
                return Err(A::Error::custom("a key twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

/// A text of an object; an empty one says nothing.
pub fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The same, to be kept.
pub fn owned(object: &Map<String, Value>, name: &str) -> Option<String> {
    text(object, name).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_twice_or_deep_nesting_is_refused() {
        assert!(strict(br#"{"a":1,"b":{"a":2}}"#).is_some());
        assert_eq!(strict(br#"{"a":1,"a":2}"#), None);
        assert_eq!(strict(br#"{"a":{"b":1,"b":1}}"#), None);
        assert_eq!(strict(br#"{"a":1} x"#), None);
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(strict(deep(64).as_bytes()).is_some());
        assert_eq!(strict(deep(65).as_bytes()), None);
    }

    #[test]
    fn what_was_not_taken_is_named_with_its_path() {
        let mut fields = Fields::parse(br#"{"a":"x","b":{"c":1,"d":null},"e":true}"#).unwrap();
        assert_eq!(fields.required("a").unwrap(), "x");
        let inner = fields.object("b").unwrap();
        let mut names = Vec::new();
        inner.leftovers(&mut names);
        fields.leftovers(&mut names);
        assert_eq!(names, ["b.c", "e"]);
        assert!(Fields::parse(b"[]").is_err());
        assert!(Fields::parse(b"").unwrap().is_empty());
    }
}
