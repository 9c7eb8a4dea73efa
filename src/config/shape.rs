//! Whether a tree has the shape of a configuration: every error at once, each with its place.
//!
//! The shape is read off the JSON Schema, which is made from the types in [`super::raw`]: what an editor completes, what
//! is checked here, and what is deserialised cannot disagree. What is wrong is left out, so that the meaning of the rest
//! can be checked in the same run.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value as Json;
use serde_yaml::Value;

use super::problem::Shown;
use super::yaml::{Entry, Flaw, Kind, Node, Span};
use super::{nearest, schema};

/// What may stand in a place.
#[derive(Debug)]
enum Shape {
    Text,
    Secret,
    Boolean,
    Integer { min: u64, max: u64 },
    Number,
    Choice(Vec<String>),
    List(Box<Self>),
    Map(Box<Self>),
    Object(Vec<Field>),
    Either(Vec<Self>),
}

#[derive(Debug)]
struct Field {
    name: String,
    required: bool,
    shape: Shape,
}

static FILE: LazyLock<Result<Shape, String>> = LazyLock::new(|| {
    let schema = schema::of_types();
    Shape::of(&schema, &schema)
});

/// A checked tree.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// What of it has the right shape.
    pub(super) value: Value,
    /// What has not.
    pub(super) flaws: Vec<Flaw>,
    /// The indices in the text of the routes that are left.
    pub(super) routes: Vec<usize>,
    /// What may be shown.
    pub(super) shown: Shown,
}

/// Checks a whole file.
pub(super) fn check(root: &Node) -> Checked {
    let mut checked = Checked::default();
    match &*FILE {
        Ok(shape) => checked.value = checked.node(root, shape, "").unwrap_or_default(),
        Err(defect) => checked.flaw(
            root.span,
            "",
            format!("the schema has a shape that is not known: {defect}"),
            "",
        ),
    }
    checked
}

/// The words that every configuration has: names of fields and of choices.
pub(super) fn words() -> Vec<String> {
    fn collect(shape: &Shape, into: &mut BTreeSet<String>) {
        match shape {
            Shape::Choice(names) => into.extend(names.iter().cloned()),
            Shape::List(of) | Shape::Map(of) => collect(of, into),
            Shape::Either(shapes) => shapes.iter().for_each(|shape| collect(shape, into)),
            Shape::Object(fields) => {
                for field in fields {
                    into.insert(field.name.clone());
                    collect(&field.shape, into);
                }
            }
            _ => {}
        }
    }
    let mut words = BTreeSet::new();
    if let Ok(shape) = &*FILE {
        collect(shape, &mut words);
    }
    words.into_iter().collect()
}

impl Shape {
    /// Reads a schema. Nothing is null here: a field without a value is a field that is not there.
    fn of(schema: &Json, root: &Json) -> Result<Self, String> {
        if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
            let found = root.pointer(reference.trim_start_matches('#'));
            return Self::of(found.ok_or_else(|| reference.to_owned())?, root);
        }
        if schema.get("writeOnly") == Some(&Json::Bool(true)) {
            return Ok(Self::Secret);
        }
        if let Some(choices) = schema.get("enum").and_then(Json::as_array) {
            let names = choices.iter().filter_map(Json::as_str).map(str::to_owned);
            return Ok(Self::Choice(names.collect()));
        }
        if let Some(name) = schema.get("const").and_then(Json::as_str) {
            return Ok(Self::Choice(vec![name.to_owned()]));
        }
        let several = schema
            .get("anyOf")
            .or_else(|| schema.get("oneOf"))
            .and_then(Json::as_array);
        if let Some(several) = several {
            let not_null = several
                .iter()
                .filter(|one| one.get("type") != Some(&Json::from("null")));
            let mut shapes = Vec::new();
            for shape in not_null.map(|one| Self::of(one, root)) {
                match (shape?, shapes.last_mut()) {
                    (Self::Choice(more), Some(Self::Choice(names))) => names.extend(more),
                    (Self::Either(more), _) => shapes.extend(more),
                    (shape, _) => shapes.push(shape),
                }
            }
            return match shapes.len() {
                1 => shapes.pop().ok_or_else(String::new),
                _ => Ok(Self::Either(shapes)),
            };
        }
        let kind = match schema.get("type") {
            Some(Json::String(kind)) => kind.as_str(),
            Some(Json::Array(kinds)) => kinds
                .iter()
                .filter_map(Json::as_str)
                .find(|kind| *kind != "null")
                .unwrap_or(""),
            _ => "",
        };
        match kind {
            "string" => Ok(Self::Text),
            "boolean" => Ok(Self::Boolean),
            "number" => Ok(Self::Number),
            "integer" => Ok(Self::Integer {
                min: schema.get("minimum").and_then(Json::as_u64).unwrap_or(0),
                max: schema
                    .get("maximum")
                    .and_then(Json::as_u64)
                    .unwrap_or(u64::from(u32::MAX)),
            }),
            "array" => {
                let items = schema.get("items").ok_or("a list of nothing")?;
                Ok(Self::List(Box::new(Self::of(items, root)?)))
            }
            "object" => match (schema.get("properties"), schema.get("additionalProperties")) {
                (Some(Json::Object(properties)), _) => {
                    let required = schema.get("required").and_then(Json::as_array);
                    let is_required = |name: &String| required.is_some_and(|names| names.iter().any(|one| one == name));
                    let field = |(name, schema): (&String, &Json)| {
                        Ok(Field {
                            name: name.clone(),
                            required: is_required(name),
                            shape: Self::of(schema, root)?,
                        })
                    };
                    let fields: Result<Vec<Field>, String> = properties.iter().map(field).collect();
                    Ok(Self::Object(fields?))
                }
                (None, Some(of @ Json::Object(_))) => Ok(Self::Map(Box::new(Self::of(of, root)?))),
                _ => Err(schema.to_string()),
            },
            _ => Err(schema.to_string()),
        }
    }

    /// What it is, in a sentence that says what was expected.
    fn name(&self) -> String {
        match self {
            Self::Text | Self::Secret => "text".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Integer { .. } => "a whole number".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Choice(names) => match names.split_last() {
                Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                _ => names.concat(),
            },
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) | Self::Object(_) => "a mapping".to_owned(),
            Self::Either(shapes) => {
                let names: BTreeSet<String> = shapes.iter().map(Self::name).collect();
                names.into_iter().collect::<Vec<_>>().join(", or ")
            }
        }
    }

    fn takes(&self, kind: &Kind) -> bool {
        match (self, kind) {
            (Self::List(_), Kind::List(_)) | (Self::Map(_) | Self::Object(_), Kind::Mapping(_)) => true,
            (Self::List(_) | Self::Map(_) | Self::Object(_), _) => false,
            (Self::Either(shapes), kind) => shapes.iter().any(|shape| shape.takes(kind)),
            (_, kind) => matches!(kind, Kind::Scalar { .. }),
        }
    }
}

fn found(kind: &Kind) -> &'static str {
    match kind {
        Kind::Scalar { .. } => "a single value",
        Kind::List(_) => "a list",
        Kind::Mapping(_) => "a mapping",
    }
}

fn child(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// A key that is certainly no secret: it looks like the name of a field.
fn is_word(key: &str) -> bool {
    key.len() <= 32
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-'))
}

/// A name that can stand in a path, a metric label and an address.
fn is_name(key: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !key.is_empty() && key.len() <= 64 && key.bytes().all(fine)
}

impl Checked {
    fn flaw(&mut self, span: Span, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.flaws.push(Flaw {
            span: Some(span),
            path: path.to_owned(),
            message: message.into(),
            hint: hint.into(),
        });
    }

    /// What of a node has the shape; `None` when it, or something it cannot do without, has not.
    fn node(&mut self, node: &Node, shape: &Shape, path: &str) -> Option<Value> {
        if let Shape::Either(shapes) = shape {
            let mut fitting = shapes.iter().filter(|shape| shape.takes(&node.kind));
            return match (fitting.next(), fitting.next()) {
                (Some(only), None) => self.node(node, only, path),
                (Some(first), Some(_)) => self.node(node, first, path),
                (None, _) => self.misfit(node, shape, path),
            };
        }
        match (shape, &node.kind) {
            (Shape::Object(fields), Kind::Mapping(entries)) => self.object(node, fields, entries, path),
            (Shape::Map(of), Kind::Mapping(entries)) => {
                let mut values = serde_yaml::Mapping::new();
                for entry in entries {
                    if !is_name(&entry.key) {
                        let hint = "write 1 to 64 letters, digits, - or _";
                        self.flaw(entry.key_span, path, "this name cannot be used", hint);
                        continue;
                    }
                    self.shown.spans.push(entry.key_span);
                    if let Some(value) = self.node(&entry.value, of, &child(path, &entry.key)) {
                        values.insert(Value::String(entry.key.clone()), value);
                    }
                }
                Some(Value::Mapping(values))
            }
            (Shape::List(of), Kind::List(items)) => {
                let mut values = Vec::new();
                let mut kept = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    if let Some(value) = self.node(item, of, &format!("{path}[{index}]")) {
                        values.push(value);
                        kept.push(index);
                    }
                }
                if path == "routes" {
                    self.routes = kept;
                }
                Some(Value::Sequence(values))
            }
            (Shape::List(_) | Shape::Map(_) | Shape::Object(_), Kind::Scalar { .. }) => self.misfit(node, shape, path),
            (_, Kind::Scalar { text, plain, foreign }) => {
                // Before an @ stands what somebody logs in with.
                if !*foreign && !matches!(shape, Shape::Secret) && !text.contains('@') {
                    self.shown.spans.push(node.span);
                }
                self.scalar(node, shape, path, text, *plain || *foreign)
            }
            _ => self.misfit(node, shape, path),
        }
    }

    fn misfit(&mut self, node: &Node, shape: &Shape, path: &str) -> Option<Value> {
        let message = format!("expected {}, found {}", shape.name(), found(&node.kind));
        self.flaw(node.span, path, message, "");
        None
    }

    fn object(&mut self, node: &Node, fields: &[Field], entries: &[Entry], path: &str) -> Option<Value> {
        let mut values = serde_yaml::Mapping::new();
        let mut whole = true;
        for entry in entries {
            // The place for anchors of one's own, as in docker compose files.
            if path.is_empty() && entry.key.starts_with("x-") {
                continue;
            }
            let Some(field) = fields.iter().find(|field| field.name == entry.key) else {
                self.unknown(entry, fields, path);
                continue;
            };
            self.shown.spans.push(entry.key_span);
            let path = child(path, &field.name);
            if entry.value.is_nothing() {
                if field.required {
                    let message = format!("has no value; expected {}", field.shape.name());
                    self.flaw(entry.key_span, &path, message, "");
                    whole = false;
                }
                continue;
            }
            match self.node(&entry.value, &field.shape, &path) {
                Some(value) => {
                    values.insert(Value::String(field.name.clone()), value);
                }
                None => whole &= !field.required,
            }
        }
        let missing = fields
            .iter()
            .filter(|field| field.required && entries.iter().all(|entry| entry.key != field.name));
        for field in missing {
            let typo = entries.iter().any(|entry| {
                fields.iter().all(|known| known.name != entry.key)
                    && nearest(&entry.key, [field.name.as_str()]).is_some()
            });
            // A misspelt field was told already, with this one as what was meant.
            if !typo {
                let span = entries.first().map_or(node.span, |entry| entry.key_span);
                let hint = format!("add `{}`: {}", field.name, field.shape.name());
                self.flaw(span, path, format!("`{}` is missing", field.name), hint);
            }
            whole = false;
        }
        // The top level goes on without what is missing, so that the rest is checked too.
        (whole || path.is_empty()).then_some(Value::Mapping(values))
    }

    fn unknown(&mut self, entry: &Entry, fields: &[Field], path: &str) {
        let known = fields.iter().map(|field| field.name.as_str());
        let meant = nearest(&entry.key, known.clone());
        let hint = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => {
                let known: Vec<&str> = known.collect();
                format!("known here: {}", known.join(", "))
            }
        };
        if meant.is_some() || is_word(&entry.key) {
            self.shown.spans.push(entry.key_span);
            self.flaw(entry.key_span, path, format!("unknown field `{}`", entry.key), hint);
        } else {
            self.flaw(entry.key_span, path, "unknown field", hint);
        }
    }

    fn scalar(&mut self, node: &Node, shape: &Shape, path: &str, text: &str, bare: bool) -> Option<Value> {
        let value = match shape {
            Shape::Text | Shape::Secret => Some(Value::String(text.to_owned())),
            Shape::Boolean => match text {
                "true" if bare => Some(Value::Bool(true)),
                "false" if bare => Some(Value::Bool(false)),
                _ => None,
            },
            Shape::Integer { min, max } => {
                let number = text.parse::<u64>().ok().filter(|_| bare);
                if let Some(number) = number
                    && !(*min..=*max).contains(&number)
                {
                    self.flaw(node.span, path, format!("must be {min} to {max}"), "");
                    return None;
                }
                number.map(|number| Value::Number(number.into()))
            }
            Shape::Number => text
                .parse::<f64>()
                .ok()
                .filter(|number| bare && number.is_finite() && *number >= 0.0)
                .map(|number| Value::Number(number.into())),
            Shape::Choice(names) => {
                if !names.iter().any(|name| name == text) {
                    let hint = match nearest(text, names.iter().map(String::as_str)) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => String::new(),
                    };
                    self.flaw(node.span, path, format!("expected {}", shape.name()), hint);
                    return None;
                }
                Some(Value::String(text.to_owned()))
            }
            Shape::List(_) | Shape::Map(_) | Shape::Object(_) | Shape::Either(_) => {
                return self.misfit(node, shape, path);
            }
        };
        if value.is_none() {
            let hint = if bare { "" } else { "without quotation marks" };
            self.flaw(node.span, path, format!("expected {}", shape.name()), hint);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_the_file_has_a_shape() {
        let shape = FILE.as_ref().unwrap();
        let Shape::Object(fields) = shape else {
            panic!("{shape:?}")
        };
        let required: Vec<&str> = fields
            .iter()
            .filter(|field| field.required)
            .map(|field| field.name.as_str())
            .collect();
        assert_eq!(required, ["gateways", "routes"]);
        assert!(
            words().iter().any(|word| word == "local_ca"),
            "a choice inside a choice"
        );
    }
}
