//! XML as Braintree writes it: Rails' typed elements (`type="array|integer|boolean|..."`, `nil="true"`).
//!
//! Its SDKs write one document in three spellings (`payment_method_nonce`, `paymentMethodNonce`,
//! `payment-method-nonce`), so that names are brought to one, snake_case, and a document becomes the same tree that the
//! JSON of the Node SDK becomes. Nothing is guessed: an element twice, text beside elements, a number that is none are
//! refused, because two readers could read two amounts.
//!
//! Bounded, and without entities: a document type, a processing instruction and every entity but XML's own five are
//! refused, so that there is nothing to expand and nothing to fetch.

use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;
use serde_json::{Map, Value};

/// The deepest nesting that is read.
const DEPTH: usize = 32;
/// The most elements of one document. A transaction has some two hundred.
const ELEMENTS: usize = 20_000;

/// Why a document is not read. Nothing of it is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum XmlError {
    /// Not well-formed, or not UTF-8.
    #[error("not well-formed XML")]
    Malformed,
    /// A document type, processing instruction or entity.
    #[error("XML with a document type, processing instruction or entity")]
    Forbidden,
    /// Too deep or too many elements.
    #[error("XML beyond the limits")]
    TooLarge,
    /// An element twice, text beside elements, or a value that is not of its type.
    #[error("XML that can be read in two ways")]
    Ambiguous,
}

/// A document: its root's name and content, names in snake_case.
#[derive(Debug, PartialEq)]
pub(super) struct Document {
    /// The root element's name.
    pub root: String,
    /// Its content.
    pub value: Value,
}

impl Document {
    /// The content as an object; an empty root is an empty one.
    pub fn object(self) -> Option<Map<String, Value>> {
        match self.value {
            Value::Object(map) => Some(map),
            Value::Null => Some(Map::new()),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Array,
    Boolean,
    Integer,
    Nil,
}

/// An element whose end has not come yet.
struct Open {
    name: String,
    kind: Kind,
    children: Vec<(String, Value)>,
    text: String,
}

/// Reads a document.
pub(super) fn read(bytes: &[u8]) -> Result<Document, XmlError> {
    let text = std::str::from_utf8(bytes).map_err(|_| XmlError::Malformed)?;
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut done: Option<Document> = None;
    let mut elements = 0;
    let mut begun = false;
    loop {
        let event = reader.read_event().map_err(|_| XmlError::Malformed)?;
        match event {
            Event::Start(tag) => {
                elements += 1;
                if open.len() >= DEPTH || elements > ELEMENTS {
                    return Err(XmlError::TooLarge);
                }
                if done.is_some() {
                    return Err(XmlError::Malformed);
                }
                open.push(begin(&tag)?);
            }
            Event::Empty(tag) => {
                elements += 1;
                if elements > ELEMENTS {
                    return Err(XmlError::TooLarge);
                }
                end(begin(&tag)?, &mut open, &mut done)?;
            }
            Event::End(_) => {
                let element = open.pop().ok_or(XmlError::Malformed)?;
                end(element, &mut open, &mut done)?;
            }
            Event::Text(text) => put(&text.xml10_content(), &mut open)?,
            Event::CData(text) => put(&text.xml10_content(), &mut open)?,
            Event::GeneralRef(entity) => {
                let character = character(&entity)?;
                put(character.encode_utf8(&mut [0; 4]), &mut open)?;
            }
            Event::Comment(_) => {}
            Event::Decl(declaration) if !begun => {
                let encoding = declaration.encoding().transpose().map_err(|_| XmlError::Malformed)?;
                if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("utf-8")) {
                    return Err(XmlError::Malformed);
                }
            }
            Event::Decl(_) => return Err(XmlError::Malformed),
            Event::PI(_) | Event::DocType(_) => return Err(XmlError::Forbidden),
            Event::Eof => break,
        }
        begun = true;
    }
    match (open.is_empty(), done) {
        (true, Some(document)) => Ok(document),
        _ => Err(XmlError::Malformed),
    }
}

/// `camelCase`, `dash-case` and `snake_case` as snake_case. `None` for what is no name of Braintree's.
pub(super) fn snake(name: &str) -> Option<String> {
    let mut snake = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        match character {
            '-' => snake.push('_'),
            'A'..='Z' => {
                if !snake.is_empty() && !snake.ends_with('_') {
                    snake.push('_');
                }
                snake.push(character.to_ascii_lowercase());
            }
            'a'..='z' | '0'..='9' | '_' => snake.push(character),
            _ => return None,
        }
    }
    (!snake.is_empty()).then_some(snake)
}

fn begin(tag: &BytesStart<'_>) -> Result<Open, XmlError> {
    let name = snake(tag.name().as_ref()).ok_or(XmlError::Malformed)?;
    let mut kind = Kind::Plain;
    let mut nil = false;
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| XmlError::Malformed)?;
        let value = attribute.value.as_ref();
        match attribute.key.as_ref() {
            "type" => {
                kind = match value {
                    "array" | "collection" => Kind::Array,
                    "boolean" => Kind::Boolean,
                    "integer" => Kind::Integer,
                    _ => Kind::Plain,
                }
            }
            "nil" => nil = value == "true",
            _ => {}
        }
    }
    Ok(Open {
        name,
        kind: if nil { Kind::Nil } else { kind },
        children: Vec::new(),
        text: String::new(),
    })
}

fn put(text: &str, open: &mut [Open]) -> Result<(), XmlError> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim_ascii().is_empty() => {}
        None => return Err(XmlError::Malformed),
    }
    Ok(())
}

fn character(entity: &BytesRef<'_>) -> Result<char, XmlError> {
    if entity.is_char_ref() {
        let character = entity.resolve_char_ref().map_err(|_| XmlError::Malformed)?;
        return character.filter(|c| legal(*c)).ok_or(XmlError::Malformed);
    }
    match entity.xml10_content().as_ref() {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(XmlError::Forbidden),
    }
}

fn end(element: Open, open: &mut [Open], done: &mut Option<Document>) -> Result<(), XmlError> {
    let (name, value) = (element.name.clone(), value(element)?);
    match open.last_mut() {
        Some(parent) => parent.children.push((name, value)),
        None if done.is_some() => return Err(XmlError::Malformed),
        None => *done = Some(Document { root: name, value }),
    }
    Ok(())
}

fn value(element: Open) -> Result<Value, XmlError> {
    let Open {
        kind, children, text, ..
    } = element;
    let blank = text.trim_ascii().is_empty();
    if !children.is_empty() && !blank {
        return Err(XmlError::Ambiguous);
    }
    match kind {
        Kind::Nil if children.is_empty() && blank => Ok(Value::Null),
        Kind::Array if blank => Ok(Value::Array(children.into_iter().map(|(_, value)| value).collect())),
        Kind::Boolean if children.is_empty() => match text.trim_ascii() {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            "" => Ok(Value::Null),
            _ => Err(XmlError::Ambiguous),
        },
        Kind::Integer if children.is_empty() => match text.trim_ascii() {
            "" => Ok(Value::Null),
            digits => digits.parse::<i64>().map(Value::from).map_err(|_| XmlError::Ambiguous),
        },
        Kind::Plain if children.is_empty() => Ok(match text.is_empty() {
            true => Value::Null,
            false => Value::String(text),
        }),
        Kind::Plain => {
            let mut map = Map::new();
            for (name, value) in children {
                if map.insert(name, value).is_some() {
                    return Err(XmlError::Ambiguous);
                }
            }
            Ok(Value::Object(map))
        }
        _ => Err(XmlError::Ambiguous),
    }
}

/// What XML 1.0 can hold at all.
pub(super) fn legal(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r') || (character >= ' ' && !matches!(character, '\u{FFFE}' | '\u{FFFF}'))
}

/// A document that is being written. Names are the caller's own and never come from outside.
pub(super) struct Writer(String);

impl Writer {
    /// A document as Braintree's SDKs write it, without a declaration.
    pub fn bare() -> Self {
        Self(String::with_capacity(512))
    }

    /// A document as Braintree answers it.
    pub fn declared() -> Self {
        let mut writer = Self(String::with_capacity(2048));
        writer.0.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        writer
    }

    /// The document.
    pub fn finish(self) -> String {
        self.0
    }

    /// An element with elements in it.
    pub fn node(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.tag(name, "", inside);
    }

    /// An array.
    pub fn array(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.tag(name, " type=\"array\"", inside);
    }

    /// Text.
    pub fn text(&mut self, name: &str, text: &str) {
        self.tag(name, "", |writer| writer.escaped(text));
    }

    /// Text, or an element that is nil.
    pub fn maybe(&mut self, name: &str, text: Option<&str>) {
        match text {
            Some(text) => self.text(name, text),
            None => self.nil(name),
        }
    }

    /// An element that is nil.
    pub fn nil(&mut self, name: &str) {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push_str(" nil=\"true\"/>");
    }

    /// A boolean.
    pub fn flag(&mut self, name: &str, value: bool) {
        let text = if value { "true" } else { "false" };
        self.tag(name, " type=\"boolean\"", |writer| writer.0.push_str(text));
    }

    /// A moment, `2026-11-23T12:00:00Z`.
    pub fn moment(&mut self, name: &str, seconds: i64) {
        let moment = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        self.tag(name, " type=\"datetime\"", |writer| {
            writer.0.push_str(&moment.to_string());
        });
    }

    fn tag(&mut self, name: &str, attributes: &str, inside: impl FnOnce(&mut Self)) {
        for part in ["<", name, attributes, ">"] {
            self.0.push_str(part);
        }
        inside(self);
        for part in ["</", name, ">"] {
            self.0.push_str(part);
        }
    }

    fn escaped(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&apos;"),
                // A reader turns a bare one into a line feed.
                '\r' => self.0.push_str("&#13;"),
                character if legal(character) => self.0.push(character),
                _ => self.0.push(char::REPLACEMENT_CHARACTER),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> Result<Value, XmlError> {
        read(text.as_bytes()).map(|document| document.value)
    }

    #[test]
    fn three_spellings_are_one_tree() {
        let wanted = json!({"payment_method_nonce": "n", "options": {"submit_for_settlement": true}});
        for text in [
            "<transaction><payment_method_nonce>n</payment_method_nonce><options><submit_for_settlement type=\"boolean\">true</submit_for_settlement></options></transaction>",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><transaction><paymentMethodNonce>n</paymentMethodNonce><options><submitForSettlement type=\"boolean\">true</submitForSettlement></options></transaction>",
            "<transaction>\n  <payment-method-nonce>n</payment-method-nonce>\n  <options>\n <submit-for-settlement type=\"boolean\">1</submit-for-settlement></options></transaction>\n",
        ] {
            assert_eq!(parsed(text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn typed_elements_become_what_they_say() {
        let text = "<t><a nil=\"true\"/><b type=\"integer\">50</b><c type=\"array\"><item>x</item><item>y</item></c>\
                    <d></d><e>a &amp; b &#65;<![CDATA[ <c> ]]></e><f type=\"array\"/></t>";
        let wanted = json!({"a": null, "b": 50, "c": ["x", "y"], "d": null, "e": "a & b A <c> ", "f": []});
        assert_eq!(parsed(text).unwrap(), wanted);
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for text in [
            "<t><amount>1.00</amount><amount>2.00</amount></t>",
            "<t><paymentMethodToken>a</paymentMethodToken><payment-method-token>b</payment-method-token></t>",
            "<t>text<a>1</a></t>",
            "<t><a type=\"integer\">1e3</a></t>",
            "<t><a type=\"boolean\">yes</a></t>",
            "<t><a nil=\"true\">1</a></t>",
        ] {
            assert_eq!(parsed(text), Err(XmlError::Ambiguous), "{text}");
        }
    }

    #[test]
    fn nothing_is_expanded_or_fetched_and_nothing_grows_without_bound() {
        for text in [
            "<!DOCTYPE t [<!ENTITY a \"b\">]><t>&a;</t>",
            "<!DOCTYPE t SYSTEM \"file:///etc/passwd\"><t/>",
            "<t>&other;</t>",
            "<t><?php echo 1 ?></t>",
        ] {
            assert_eq!(parsed(text), Err(XmlError::Forbidden), "{text}");
        }
        let deep = format!("{}{}", "<a>".repeat(33), "</a>".repeat(33));
        assert_eq!(parsed(&deep), Err(XmlError::TooLarge));
        let wide = format!("<t type=\"array\">{}</t>", "<a/>".repeat(ELEMENTS));
        assert_eq!(parsed(&wide), Err(XmlError::TooLarge));
        for text in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "</a>",
            "<a x=1/>",
            "<a>&#0;</a>",
            "<a>&#xD800;</a>",
            "<ä/>",
            "<a/>text",
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a/>",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
        assert_eq!(read(b"<a>\xff</a>"), Err(XmlError::Malformed));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(texts in proptest::collection::vec("[^\u{0}-\u{8}\u{b}\u{c}\u{e}-\u{1f}\u{fffe}\u{ffff}]{1,40}", 1..5)) {
            let mut writer = Writer::declared();
            writer.array("t", |writer| texts.iter().for_each(|text| writer.text("item", text)));
            let read = read(writer.finish().as_bytes()).unwrap();
            prop_assert_eq!(read.value, json!(texts));
        }

        #[test]
        fn no_bytes_make_it_fall(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let text = format!("<t>{}</t>", String::from_utf8_lossy(&bytes));
            let _ = read(text.as_bytes());
        }
    }
}
