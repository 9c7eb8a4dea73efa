//! Bodies: what the SDKs send, in all four request dialects, and the XML that Braintree answers.
//!
//! It is a reader and a writer of the simulator's own, so that a mistake of Sentinel's codec meets somebody else's.

use http::StatusCode;
use http::header::CONTENT_TYPE;
use quick_xml::events::Event;
use serde_json::{Map, Value};

use crate::sandbox::Request;

/// One element.
#[derive(Default)]
struct Element {
    name: String,
    kind: String,
    nil: bool,
    text: String,
    inner: Vec<Element>,
}

/// A request's root name and content under snake_case names; `None` for what Braintree does not take. An empty body is an
/// empty object without a name.
pub(super) fn read(request: &Request) -> Option<(String, Value)> {
    if request.body.is_empty() {
        return Some((String::new(), Value::Object(Map::new())));
    }
    let content_type = request.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    if content_type.starts_with("application/json") {
        let Value::Object(root) = serde_json::from_slice(&request.body).ok()? else {
            return None;
        };
        let (name, value) = root.into_iter().next()?;
        return Some((underscored(&name), renamed(value)));
    }
    if !content_type.starts_with("application/xml") && !content_type.starts_with("text/xml") {
        return None;
    }
    let element = document(std::str::from_utf8(&request.body).ok()?)?;
    Some((element.name.clone(), element.value()))
}

fn underscored(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(if letter == '-' {
            '_'
        } else {
            letter.to_ascii_lowercase()
        });
    }
    out
}

fn renamed(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(name, value)| (underscored(&name), renamed(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(renamed).collect(),
        other => other,
    }
}

fn document(text: &str) -> Option<Element> {
    let mut reader = quick_xml::Reader::from_str(text);
    let mut stack = vec![Element::default()];
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => stack.push(opened(&tag)),
            Event::Empty(tag) => {
                let element = opened(&tag);
                stack.last_mut()?.inner.push(element);
            }
            Event::End(_) => {
                let element = stack.pop()?;
                stack.last_mut()?.inner.push(element);
            }
            Event::Text(text) => stack.last_mut()?.text.push_str(&text.xml10_content()),
            Event::CData(text) => stack.last_mut()?.text.push_str(&text.xml10_content()),
            Event::GeneralRef(entity) => {
                let letter = match (entity.resolve_char_ref().ok()?, entity.xml10_content().as_ref()) {
                    (Some(letter), _) => letter,
                    (None, "amp") => '&',
                    (None, "lt") => '<',
                    (None, "gt") => '>',
                    (None, "quot") => '"',
                    (None, "apos") => '\'',
                    _ => return None,
                };
                stack.last_mut()?.text.push(letter);
            }
            Event::DocType(_) => return None,
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    match (stack.pop(), stack.is_empty()) {
        (Some(mut root), true) if root.inner.len() == 1 => root.inner.pop(),
        _ => None,
    }
}

fn opened(tag: &quick_xml::events::BytesStart<'_>) -> Element {
    let mut element = Element {
        name: underscored(tag.name().as_ref()),
        ..Element::default()
    };
    for attribute in tag.attributes().flatten() {
        match attribute.key.as_ref() {
            "type" => element.kind = attribute.value.to_string(),
            "nil" => element.nil = attribute.value.as_ref() == "true",
            _ => {}
        }
    }
    element
}

impl Element {
    fn value(self) -> Value {
        match self.kind.as_str() {
            _ if self.nil => Value::Null,
            "array" => self.inner.into_iter().map(Element::value).collect(),
            "boolean" => Value::Bool(matches!(self.text.trim(), "true" | "1")),
            "integer" => self.text.trim().parse::<i64>().map_or(Value::Null, Value::from),
            _ if self.inner.is_empty() => Value::String(self.text),
            _ => self
                .inner
                .into_iter()
                .map(|element| (element.name.clone(), element.value()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }
}

/// XML that is being written.
#[derive(Default)]
pub(super) struct Xml(pub String);

impl Xml {
    pub fn text(&mut self, name: &str, text: &str) {
        let escaped = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;");
        self.0.push_str(&format!("<{name}>{escaped}</{name}>"));
    }

    pub fn maybe(&mut self, name: &str, text: Option<&str>) {
        match text {
            Some(text) => self.text(name, text),
            None => self.0.push_str(&format!("<{name} nil=\"true\"/>")),
        }
    }

    pub fn time(&mut self, name: &str, at: i64) {
        let time = jiff::Timestamp::from_second(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        self.0.push_str(&format!("<{name} type=\"datetime\">{time}</{name}>"));
    }

    pub fn typed(&mut self, name: &str, kind: &str, inside: impl FnOnce(&mut Self)) {
        self.0.push_str(&format!("<{name} type=\"{kind}\">"));
        inside(self);
        self.0.push_str(&format!("</{name}>"));
    }

    pub fn node(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.0.push_str(&format!("<{name}>"));
        inside(self);
        self.0.push_str(&format!("</{name}>"));
    }
}

/// An answer with a document.
pub(super) fn answer(status: StatusCode, xml: &Xml) -> http::Response<bytes::Bytes> {
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", xml.0);
    let mut answer = http::Response::new(text.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        CONTENT_TYPE,
        http::HeaderValue::from_static("application/xml; charset=utf-8"),
    );
    answer
}
