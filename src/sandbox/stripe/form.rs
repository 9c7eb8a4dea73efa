//! Stripe's request encoding, as Stripe takes it: brackets, both array styles, the last of two equal names wins.
//!
//! Parameters become a tree of JSON objects with text at the leaves; an array is an object whose names are numbers, in
//! order.

use indexmap::IndexMap;

use super::errors::Failure;

/// A parameter: text, or more parameters by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Text(String),
    Map(IndexMap<String, Node>),
}

/// The parameters of one request or of one nested parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Params {
    map: IndexMap<String, Node>,
    /// Where these stand, for `param` in errors: empty or `card[` without its end.
    at: String,
}

/// Nesting that Stripe's own SDKs never reach.
const MAX_DEPTH: usize = 12;

impl Params {
    /// Decodes a body or a query.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Failure> {
        let mut map = IndexMap::new();
        for (name, value) in form_urlencoded::parse(text) {
            if name.is_empty() {
                continue;
            }
            let path = path(&name).ok_or_else(|| Failure::unknown(&name))?;
            put(&mut map, &path, &value);
        }
        Ok(Self { map, at: String::new() })
    }

    /// Everything in one order, to compare two requests by.
    pub(super) fn fingerprint(&self) -> String {
        fn write(at: &str, map: &IndexMap<String, Node>, lines: &mut Vec<String>) {
            for (name, node) in map {
                let at = format!("{at}/{}{name}", name.len());
                match node {
                    Node::Text(text) => lines.push(format!("{at}={text}")),
                    Node::Map(map) => write(&at, map, lines),
                }
            }
        }
        let mut lines = Vec::new();
        write("", &self.map, &mut lines);
        lines.sort();
        lines.join("\n")
    }

    /// Refuses a name that is not in the list.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Failure> {
        match self.map.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Failure::unknown(&self.name(name))),
            None => Ok(()),
        }
    }

    /// The full name of a parameter.
    pub(super) fn name(&self, name: &str) -> String {
        if self.at.is_empty() {
            name.to_owned()
        } else {
            format!("{}[{name}]", self.at)
        }
    }

    /// Whether the parameter is there, even empty.
    pub(super) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// A text; empty is absent.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.map.get(name)? {
            Node::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// A text that must be there.
    pub(super) fn required(&self, name: &str) -> Result<&str, Failure> {
        self.text(name).ok_or_else(|| Failure::missing(&self.name(name)))
    }

    /// An integer.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        self.text(name)
            .map(|text| text.parse().map_err(|_| Failure::not_integer(&self.name(name), text)))
            .transpose()
    }

    /// A boolean.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Failure::invalid(&self.name(name), &format!("Invalid boolean: {other}"))),
        }
    }

    /// One of several words.
    pub(super) fn word(&self, name: &str, words: &[&'static str]) -> Result<Option<&'static str>, Failure> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match words.iter().find(|word| **word == text) {
            Some(word) => Ok(Some(word)),
            None => Err(Failure::invalid(
                &self.name(name),
                &format!("Invalid {}: must be one of {}", self.name(name), words.join(", ")),
            )),
        }
    }

    /// Nested parameters.
    pub(super) fn inside(&self, name: &str) -> Option<Self> {
        match self.map.get(name)? {
            Node::Map(map) => Some(Self {
                map: map.clone(),
                at: self.name(name),
            }),
            Node::Text(_) => None,
        }
    }

    /// A list of texts, in whatever style.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        match self.map.get(name) {
            Some(Node::Map(map)) => map
                .values()
                .filter_map(|node| match node {
                    Node::Text(text) => Some(text.clone()),
                    Node::Map(_) => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Names and texts; an empty text means: take this name away.
    pub(super) fn pairs(&self, name: &str) -> Vec<(String, String)> {
        match self.map.get(name) {
            Some(Node::Map(map)) => map
                .iter()
                .filter_map(|(name, node)| match node {
                    Node::Text(text) => Some((name.clone(), text.clone())),
                    Node::Map(_) => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// `a[b][]` as `a`, `b`, and nothing. A metadata key may hold brackets itself when SDKs wrote it so.
fn path(name: &str) -> Option<Vec<&str>> {
    let Some(start) = name.find('[') else {
        return Some(vec![name]);
    };
    let (first, mut rest) = name.split_at(start);
    let mut path = vec![first];
    while !rest.is_empty() {
        let inner = rest.strip_prefix('[')?;
        let end = inner.find(']')?;
        let (part, after) = inner.split_at(end);
        path.push(part);
        rest = after.strip_prefix(']')?;
    }
    (path.len() <= MAX_DEPTH && !first.is_empty()).then_some(path)
}

fn put(map: &mut IndexMap<String, Node>, path: &[&str], value: &str) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let name = if first.is_empty() {
        // `a[]`: behind what there is.
        map.len().to_string()
    } else {
        (*first).to_owned()
    };
    if rest.is_empty() {
        map.insert(name, Node::Text(value.to_owned()));
        return;
    }
    let node = map.entry(name).or_insert_with(|| Node::Map(IndexMap::new()));
    if let Node::Text(_) = node {
        *node = Node::Map(IndexMap::new());
    }
    if let Node::Map(inner) = node {
        put(inner, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Params {
        Params::parse(text.as_bytes()).ok().unwrap()
    }

    #[test]
    fn every_sdks_way_of_writing_means_the_same() {
        let indexed = parse("payment_method_types[0]=card&metadata[order_id]=67+35&shipping[address][line1]=x%20y");
        let plain =
            parse("payment_method_types%5B%5D=card&metadata%5Border_id%5D=67%2035&shipping[address][line1]=x+y");
        assert_eq!(indexed.fingerprint(), plain.fingerprint());
        assert_eq!(indexed.list("payment_method_types"), ["card"]);
        assert_eq!(indexed.pairs("metadata"), [("order_id".to_owned(), "67 35".to_owned())]);
        let line = indexed.inside("shipping").unwrap().inside("address").unwrap();
        assert_eq!(
            (line.text("line1"), line.name("line1").as_str()),
            (Some("x y"), "shipping[address][line1]")
        );
    }

    #[test]
    fn the_last_of_two_wins_and_order_does_not_matter() {
        assert_eq!(parse("a=1&b=2&a=3").text("a"), Some("3"));
        assert_eq!(parse("b=2&a=3").fingerprint(), parse("a=3&b=2").fingerprint());
        assert_ne!(parse("a=12").fingerprint(), parse("a=1&b=2").fingerprint());
        assert!(Params::parse(b"a[b=1").is_err());
    }
}
