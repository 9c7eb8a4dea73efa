//! YAML with places: a tree in which every key and value knows where it stands.
//!
//! This is the only reader of the text, so that places and values cannot disagree. It takes YAML 1.2 as people write
//! configurations: one document of mappings, lists and scalars, anchors, aliases and merge keys. It refuses what only
//! an accident or an attack needs: several documents, tags, keys that are no scalars, the same key twice, deep nesting,
//! and aliases that multiply.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as ParserSpan};

/// Nesting that no configuration needs.
const MAX_DEPTH: usize = 32;
/// Values, aliases unfolded: ten times what the largest configuration has.
const MAX_NODES: usize = 50_000;

/// A position in the text, both from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// From a place to another, which no longer belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first character.
    pub start: Place,
    /// Behind the last one.
    pub end: Place,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where.
    pub span: Span,
    /// What.
    pub kind: Kind,
}

/// A value.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Text; what it means depends on where it stands.
    Scalar {
        /// The text.
        text: String,
        /// Whether it stands without quotes.
        plain: bool,
        /// Whether it came from the environment or a file instead of this text.
        foreign: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the text.
    Mapping(Vec<Entry>),
}

/// An entry of a mapping.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug)]
pub struct Flaw {
    /// Where.
    pub span: Option<Span>,
    /// Where in the structure; empty where there is none.
    pub path: String,
    /// What.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Flaw {
    fn at(span: Span, message: impl Into<String>, hint: &str) -> Self {
        Self {
            span: Some(span),
            path: String::new(),
            message: message.into(),
            hint: hint.to_owned(),
        }
    }
}

impl Node {
    /// Whether nothing stands here: `key:` alone, `~` or `null`.
    pub fn is_nothing(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true, foreign: false } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// The entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The deepest part of a path such as `routes[1].limits.queue` that is there: its scalar, or its key.
    pub fn locate(&self, path: &str) -> Span {
        let (mut node, mut span) = (self, self.start());
        for part in path.split('.') {
            let (key, indices) = part
                .split_once('[')
                .map_or((part, None), |(key, rest)| (key, Some(rest)));
            if !key.is_empty() {
                let Some(entry) = node.entry(key) else { return span };
                (node, span) = (&entry.value, entry.key_span);
            }
            for index in indices.into_iter().flat_map(|indices| indices.split('[')) {
                let index = index.trim_end_matches(']').parse::<usize>();
                let item = match (&node.kind, index) {
                    (Kind::List(items), Ok(index)) => items.get(index),
                    // One value stands for a list of one.
                    (Kind::Scalar { .. }, Ok(0)) => Some(node),
                    _ => None,
                };
                let Some(item) = item else { return span };
                (node, span) = (item, item.start());
            }
            if let Kind::Scalar { .. } = node.kind
                && !node.is_nothing()
            {
                span = node.span;
            }
        }
        span
    }

    /// The scalar at a path, as it was typed; `None` for one that came from elsewhere.
    pub fn typed(&self, path: &str) -> Option<&str> {
        let mut node = self;
        for part in path.split('.') {
            let (key, index) = part.split_once('[').map_or((part, None), |(key, rest)| {
                (key, rest.trim_end_matches(']').parse::<usize>().ok())
            });
            node = &node.entry(key)?.value;
            if let Some(index) = index {
                node = match &node.kind {
                    Kind::List(items) => items.get(index)?,
                    _ => node,
                };
            }
        }
        match &node.kind {
            Kind::Scalar {
                text, foreign: false, ..
            } => Some(text),
            _ => None,
        }
    }

    /// Its first key, or its first character: what a message about the whole points at.
    fn start(&self) -> Span {
        match &self.kind {
            Kind::Scalar { .. } => self.span,
            Kind::Mapping(entries) => entries.first().map_or(self.span, |entry| entry.key_span),
            Kind::List(items) => items.first().map_or(self.span, Node::start),
        }
    }
}

/// Reads a text.
///
/// # Errors
/// What is wrong with it: the first thing that makes it unreadable, or every key that stands twice.
pub fn read(text: &str) -> Result<Node, Vec<Flaw>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(found) = forbidden(text) {
        return Err(vec![found]);
    }
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    // One event at a time, and nothing more once something was refused: the text may be made to be expensive, and the
    // parser's own loading recurses as deep as the text nests.
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => {
                builder
                    .flaws
                    .push(unreadable(text, place(*error.marker()), error.info()));
                break;
            }
        }
        if builder.flaws.iter().any(|flaw| flaw.message != TWICE) {
            break;
        }
    }
    if !builder.flaws.is_empty() {
        return Err(builder.flaws);
    }
    builder.root.ok_or_else(|| {
        let mut flaw = Flaw::at(
            span_of(1, 1, 1),
            "is empty",
            "a configuration needs `gateways` and `routes`",
        );
        flaw.span = None;
        vec![flaw]
    })
}

fn span_of(line: usize, column: usize, length: usize) -> Span {
    Span {
        start: Place { line, column },
        end: Place {
            line,
            column: column + length,
        },
    }
}

/// Control characters, which no editor shows and which some readers take for the end of the text.
fn forbidden(text: &str) -> Option<Flaw> {
    for (line, content) in text.split('\n').enumerate() {
        let content = content.strip_suffix('\r').unwrap_or(content);
        if let Some(column) = content.chars().position(|c| c.is_control() && c != '\t') {
            let span = span_of(line + 1, column + 1, 1);
            return Some(Flaw::at(
                span,
                "an invisible control character stands here",
                "remove it",
            ));
        }
    }
    None
}

fn unreadable(text: &str, place: Place, info: &str) -> Flaw {
    let line = text.lines().nth(place.line.saturating_sub(1)).unwrap_or("");
    let indentation = line.chars().take_while(|c| c.is_whitespace());
    let (message, hint) = if let Some(tab) = indentation.clone().position(|c| c == '\t') {
        let span = span_of(place.line, tab + 1, 1);
        return Flaw::at(span, "a tab stands in the indentation", "YAML wants spaces");
    } else if info.contains("recursion") {
        ("this is nested too deep", "")
    } else if info.contains("anchor") {
        (
            "this alias names an anchor that is not there",
            "define it before its use, as in `&name`",
        )
    } else if info.contains("flow") || info.contains("',' or") {
        ("a bracket or brace is not closed, or a comma is missing", "")
    } else if info.contains("quoted") || info.contains("quot") {
        ("a quotation mark is not closed", "")
    } else {
        ("this is not YAML", "")
    };
    let mut flaw = Flaw::at(span_of(place.line, place.column, 1), message, hint);
    if flaw.message == "this is not YAML" {
        // The parser's own words are about grammar and never quote the text.
        flaw.message = format!("this is not YAML: {info}");
    }
    flaw
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    documents: usize,
    nodes: usize,
    flaws: Vec<Flaw>,
}

/// A list or mapping that is not complete yet.
struct Open {
    anchor: usize,
    start: Place,
    items: Vec<Node>,
    mapping: Option<Half>,
}

/// A mapping's entries so far, and the key whose value comes next.
type Half = (Vec<Entry>, Option<(String, Span)>);

fn place(marker: saphyr_parser::Marker) -> Place {
    Place {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: ParserSpan) {
        let span = Span {
            start: place(span.start),
            end: place(span.end),
        };
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.flaws
                        .push(Flaw::at(span, "a second document begins here", "keep one in the file"));
                }
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                match node {
                    Some(node) => {
                        self.nodes += count(&node);
                        self.add(node, 0);
                    }
                    None => self
                        .flaws
                        .push(Flaw::at(span, "this alias stands inside its own anchor", "")),
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.no_tag(tag.is_some(), span);
                let plain = style == ScalarStyle::Plain;
                // A block scalar's span reaches over the line end behind it.
                let kind = Kind::Scalar {
                    text: text.into_owned(),
                    plain,
                    foreign: false,
                };
                self.nodes += 1;
                self.add(Node { span, kind }, anchor);
            }
            Event::SequenceStart(anchor, tag) => self.begin(anchor, tag.is_some(), span, None),
            Event::MappingStart(anchor, tag) => self.begin(anchor, tag.is_some(), span, Some((Vec::new(), None))),
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        if self.nodes > MAX_NODES {
            self.flaws.push(Flaw::at(
                span,
                format!("the file has more than {MAX_NODES} values, aliases counted as what they stand for"),
                "",
            ));
        }
    }
}

/// The one refusal after which reading goes on: every such key is told.
const TWICE: &str = "this key stands twice";

fn count(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar { .. } => 1,
        Kind::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Kind::Mapping(entries) => 1 + entries.iter().map(|entry| count(&entry.value)).sum::<usize>(),
    }
}

impl Builder {
    fn no_tag(&mut self, tagged: bool, span: Span) {
        if tagged {
            self.flaws.push(Flaw::at(
                span,
                "a tag (!) stands here",
                "nothing here needs one: remove it",
            ));
        }
    }

    fn begin(&mut self, anchor: usize, tagged: bool, span: Span, mapping: Option<Half>) {
        self.no_tag(tagged, span);
        self.nodes += 1;
        if self.open.len() == MAX_DEPTH {
            self.flaws.push(Flaw::at(span, "this is nested too deep", ""));
            return;
        }
        if let Some(Open {
            mapping: Some((_, key @ None)),
            ..
        }) = self.open.last_mut()
        {
            *key = Some((String::new(), span));
            self.flaws
                .push(Flaw::at(span, "a list or mapping stands where a key is expected", ""));
            return;
        }
        self.open.push(Open {
            anchor,
            start: span.start,
            items: Vec::new(),
            mapping,
        });
    }

    fn end(&mut self, span: Span) {
        let Some(open) = self.open.pop() else { return };
        let kind = match open.mapping {
            None => Kind::List(open.items),
            Some((entries, _)) => Kind::Mapping(self.merged(entries)),
        };
        let span = Span {
            start: open.start,
            end: span.end,
        };
        self.add(Node { span, kind }, open.anchor);
    }

    /// Merge keys (`<<: *defaults`): what the mapping has itself comes before what it takes over.
    fn merged(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let (merges, mut own): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| entry.key == "<<");
        for merge in merges {
            let sources = match merge.value.kind {
                Kind::List(items) => items,
                kind => vec![Node {
                    span: merge.value.span,
                    kind,
                }],
            };
            for source in sources {
                let Kind::Mapping(taken) = source.kind else {
                    self.flaws.push(Flaw::at(
                        merge.key_span,
                        "<< takes over a mapping, as in `<<: *name`",
                        "",
                    ));
                    continue;
                };
                for entry in taken {
                    if own.iter().all(|known| known.key != entry.key) {
                        own.push(entry);
                    }
                }
            }
        }
        own
    }

    fn add(&mut self, node: Node, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = self.root.take().or(Some(node));
            return;
        };
        let Some((entries, next)) = open.mapping.as_mut() else {
            open.items.push(node);
            return;
        };
        match (next.take(), node.kind) {
            (None, Kind::Scalar { text, .. }) => *next = Some((text, node.span)),
            (None, _) => self.flaws.push(Flaw::at(
                node.span,
                "a list or mapping stands where a key is expected",
                "",
            )),
            (Some((key, key_span)), kind) => {
                if entries.iter().any(|entry| entry.key == key) {
                    self.flaws.push(Flaw::at(key_span, TWICE, "keep one of the two"));
                    return;
                }
                let value = Node { span: node.span, kind };
                entries.push(Entry { key, key_span, value });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (String, usize, usize) {
        let flaw = read(text).unwrap_err().remove(0);
        let place = flaw.span.map_or((0, 0), |span| (span.start.line, span.start.column));
        (flaw.message, place.0, place.1)
    }

    #[test]
    fn a_path_finds_its_value_or_the_deepest_key_that_is_there() {
        let tree = read("a:\n  - b: 1\n  - b: { c: x, d: }\n").unwrap();
        let at = |path: &str| {
            let start = tree.locate(path).start;
            (start.line, start.column)
        };
        assert_eq!(at("a[1].b.c"), (3, 13));
        assert_eq!(at("a[1].b.d"), (3, 16));
        assert_eq!(at("a[1].b.absent.deeper"), (3, 5));
        assert_eq!(at("a[0]"), (2, 5));
        assert_eq!(at("a[7]"), (1, 1));
        assert_eq!(tree.typed("a[1].b.c"), Some("x"));
    }

    #[test]
    fn anchors_and_merge_keys_take_over_what_is_not_there() {
        let tree = read("x: &x { a: 1, b: 2 }\ny: { <<: *x, b: 3 }\nz: *x\n").unwrap();
        assert_eq!(tree.typed("y.a"), Some("1"));
        assert_eq!(tree.typed("y.b"), Some("3"));
        assert_eq!(tree.typed("z.b"), Some("2"));
        assert_eq!(refused("a: *absent").0, "this alias names an anchor that is not there");
    }

    #[test]
    fn aliases_that_multiply_are_refused_before_they_cost_memory() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        assert!(refused(&text).0.contains("aliases counted"), "{:?}", refused(&text));
        assert!(refused("a: &a [*a]").0.contains("alias"));
    }

    #[test]
    fn what_only_an_accident_needs_is_refused_with_its_place() {
        assert_eq!(refused("a: 1\nb: 2\na: 3\n"), (TWICE.to_owned(), 3, 1));
        assert_eq!(refused("a: 1\n---\nb: 2\n").0, "a second document begins here");
        assert_eq!(refused("a: !!str 1\n").0, "a tag (!) stands here");
        assert_eq!(
            refused("[a]: 1\n").0,
            "a list or mapping stands where a key is expected"
        );
        assert_eq!(refused("a: 1\nb: x\0y\n").1, 2);
        assert_eq!(
            refused("a:\n\tb: 1\n"),
            ("a tab stands in the indentation".to_owned(), 2, 1)
        );
        assert_eq!(refused("a: [1, 2\n").1, 2);
        assert!(
            refused("a: \"x\n").0.contains("quotation mark"),
            "{:?}",
            refused("a: \"x\n")
        );
        assert_eq!(refused("").0, "is empty");
        assert_eq!(refused("# nothing\n").0, "is empty");
        assert!(refused(&"[".repeat(100_000)).0.contains("nested too deep"));
        assert!(
            refused(&format!("{}1", "- ".repeat(1000)))
                .0
                .contains("nested too deep")
        );
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_are_no_trouble() {
        let tree = read("\u{feff}a: 1\r\nb: x\r\n").unwrap();
        assert_eq!(tree.typed("b"), Some("x"));
        assert_eq!(tree.locate("a").start, Place { line: 1, column: 4 });
    }
}
