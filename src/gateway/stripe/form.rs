//! Stripe's request encoding: `application/x-www-form-urlencoded` with brackets.
//!
//! Official SDKs disagree on details that mean the same: `a[0]` or `a[]`, `%5B` or `[`, `+` or `%20`, and a metadata key
//! `a[b]` goes out as `metadata[a[b]]`. All are read. What two readers could read differently is refused: the same
//! parameter twice, a broken percent escape, bytes that are not UTF-8, a name whose brackets do not close. The order of
//! the pairs is kept.
//!
//! Fields are *taken*: what is left over is what the reader did not understand, by name.

use indexmap::IndexMap;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::gateway::canonical::Refusal;

/// Pairs in one request at most (safety.md 5.4).
const MAX_PAIRS: usize = 1000;
/// Levels of brackets at most.
const MAX_DEPTH: usize = 16;

/// One pair. Values may hold a card number, so they are wiped.
struct Pair {
    path: Vec<String>,
    value: Zeroizing<String>,
}

/// A decoded form whose fields are taken one by one.
#[derive(Default)]
pub struct Form {
    pairs: Vec<Pair>,
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.pairs.iter().map(|pair| name(&pair.path)))
            .finish()
    }
}

/// A path as it is written: `a[b][c]`.
fn name(path: &[String]) -> String {
    let mut name = String::new();
    for (at, part) in path.iter().enumerate() {
        if at == 0 {
            name.push_str(part);
        } else {
            name.push('[');
            name.push_str(part);
            name.push(']');
        }
    }
    name
}

fn decode(text: &str) -> Result<String, Refusal> {
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let hex = |offset: usize| bytes.get(at + offset).is_some_and(u8::is_ascii_hexdigit);
        if *byte == b'%' && !(hex(1) && hex(2)) {
            return Err(Refusal::Malformed("a percent escape is broken".to_owned()));
        }
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Refusal::Malformed("a parameter is not UTF-8".to_owned()))
}

fn path(key: &str) -> Result<Vec<String>, Refusal> {
    let malformed = || Refusal::Malformed("the brackets of a parameter do not match".to_owned());
    let Some((top, rest)) = key.split_once('[') else {
        return if key.is_empty() || key.contains(']') {
            Err(malformed())
        } else {
            Ok(vec![key.to_owned()])
        };
    };
    let inner = rest.strip_suffix(']').ok_or_else(malformed)?;
    if top.is_empty() || top.contains(']') {
        return Err(malformed());
    }
    let mut path = vec![top.to_owned()];
    path.extend(inner.split("][").map(str::to_owned));
    if path.len() > MAX_DEPTH {
        return Err(Refusal::Malformed("parameters are nested too deep".to_owned()));
    }
    Ok(path)
}

impl Form {
    /// Reads a form body or a query.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(bytes).map_err(|_| Refusal::Malformed("the form is not ASCII".to_owned()))?;
        let mut pairs: Vec<Pair> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            if pairs.len() == MAX_PAIRS {
                return Err(Refusal::Malformed("too many parameters".to_owned()));
            }
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let path = path(&decode(key)?)?;
            // `a[]` may stand many times: it appends.
            if path.last().is_none_or(|last| !last.is_empty()) && !seen.insert(path.clone()) {
                return Err(Refusal::Malformed(format!("{} is given twice", name(&path))));
            }
            pairs.push(Pair {
                path,
                value: Zeroizing::new(decode(value)?),
            });
        }
        Ok(Self { pairs })
    }

    /// Takes a value; an empty one counts as absent, as it does for Stripe ("unset this field").
    pub fn take(&mut self, wanted: &[&str]) -> Option<Zeroizing<String>> {
        let at = self.pairs.iter().position(|pair| pair.path == wanted)?;
        Some(self.pairs.remove(at).value).filter(|value| !value.is_empty())
    }

    /// Takes a value that is no secret.
    pub fn text(&mut self, wanted: &[&str]) -> Option<String> {
        self.take(wanted).map(|value| value.as_str().to_owned())
    }

    /// Takes a boolean.
    pub fn flag(&mut self, wanted: &[&str]) -> Result<Option<bool>, Refusal> {
        match self.take(wanted).as_ref().map(|value| value.as_str()) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(Refusal::Malformed(format!("{} is not true or false", wanted.join(".")))),
        }
    }

    /// Takes an array, `a[0]=..` or `a[]=..`, in order of its indices, then of its appearance.
    pub fn list(&mut self, wanted: &[&str]) -> Vec<String> {
        let mut items = Vec::new();
        self.pairs.retain(|pair| {
            let Some((last, start)) = pair.path.split_last() else {
                return true;
            };
            let index = if last.is_empty() {
                Some(usize::MAX)
            } else {
                last.parse().ok()
            };
            match index {
                Some(index) if start == wanted => {
                    items.push((index, pair.value.as_str().to_owned()));
                    false
                }
                _ => true,
            }
        });
        items.sort_by_key(|(index, _)| *index);
        items.into_iter().map(|(_, value)| value).collect()
    }

    /// Takes a map of one level, `metadata[a]=..`. Empty values are left out.
    pub fn map(&mut self, top: &str) -> IndexMap<String, String> {
        let mut map = IndexMap::new();
        self.pairs.retain(|pair| match pair.path.as_slice() {
            [first, key] if first == top => {
                if !pair.value.is_empty() {
                    map.insert(key.clone(), pair.value.as_str().to_owned());
                }
                false
            }
            // `metadata=` unsets everything; there is nothing to unset in a new object.
            [first] if first == top && pair.value.is_empty() => false,
            _ => true,
        });
        map
    }

    /// Drops what may be lost without a word, by the start of its path.
    pub fn drop_all(&mut self, starts: &[&[&str]]) {
        self.pairs.retain(|pair| {
            !starts
                .iter()
                .any(|start| pair.path.iter().take(start.len()).eq(start.iter()))
        });
    }

    /// The names of what is left; an empty value says nothing and is left out.
    pub fn leftovers(self) -> Vec<String> {
        self.pairs
            .iter()
            .filter(|pair| !pair.value.is_empty())
            .map(|pair| name(&pair.path))
            .collect()
    }
}

/// Writes a form.
#[derive(Default)]
pub struct Writer {
    out: Zeroizing<String>,
}

impl Writer {
    /// Adds a parameter by path.
    pub fn put(&mut self, path: &[&str], value: &str) {
        if !self.out.is_empty() {
            self.out.push('&');
        }
        for (at, part) in path.iter().enumerate() {
            let escaped = form_urlencoded::byte_serialize(part.as_bytes());
            if at == 0 {
                self.out.extend(escaped);
            } else {
                self.out.push('[');
                self.out.extend(escaped);
                self.out.push(']');
            }
        }
        self.out.push('=');
        self.out.extend(form_urlencoded::byte_serialize(value.as_bytes()));
    }

    /// Adds a parameter where there is a value.
    pub fn maybe(&mut self, path: &[&str], value: Option<&str>) {
        if let Some(value) = value {
            self.put(path, value);
        }
    }

    /// The form.
    pub fn finish(self) -> Zeroizing<String> {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_sdk_notation_reads_the_same() {
        let node = "amount=2000&payment_method_types[0]=card&metadata[a[b]]=x%20y&shipping[address][line1]=z";
        let python = "amount=2000&payment_method_types%5B0%5D=card&metadata%5Ba%5Bb%5D%5D=x+y&shipping%5Baddress%5D%5Bline1%5D=z";
        let curl = "amount=2000&payment_method_types[]=card&metadata[a[b]]=x+y&shipping[address][line1]=z";
        for text in [node, python, curl] {
            let mut form = Form::parse(text.as_bytes()).unwrap();
            assert_eq!(form.text(&["amount"]).as_deref(), Some("2000"));
            assert_eq!(form.list(&["payment_method_types"]), ["card"]);
            assert_eq!(form.map("metadata").get("a[b]").map(String::as_str), Some("x y"));
            assert_eq!(form.text(&["shipping", "address", "line1"]).as_deref(), Some("z"));
            assert!(form.leftovers().is_empty());
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in [
            "amount=1&amount=2",
            "amount=1&currency=usd&a%6Dount=2",
            "confirm=true&confirm=true",
            "a[b=1",
            "a]b=1",
            "[a]=1",
            "a=%zz",
            "a=%f",
            "a=%ff",
            "=1",
        ] {
            assert!(
                matches!(Form::parse(bad.as_bytes()), Err(Refusal::Malformed(_))),
                "{bad}"
            );
        }
        let many = "a=1&".repeat(3) + &(0..1001).map(|n| format!("k{n}=1&")).collect::<String>();
        assert!(Form::parse(many.as_bytes()).is_err());
        assert!(Form::parse(format!("a{}=1", "[b]".repeat(20)).as_bytes()).is_err());
    }

    #[test]
    fn what_was_not_taken_is_named() {
        let mut form = Form::parse(b"amount=1&amount[]=2&transfer_data[destination]=acct_1&x=").unwrap();
        form.take(&["amount"]);
        assert_eq!(form.leftovers(), ["amount[]", "transfer_data[destination]"]);
    }

    #[test]
    fn array_indices_order_a_list() {
        let mut form = Form::parse(b"a[1]=y&a[0]=x&a[]=z").unwrap();
        assert_eq!(form.list(&["a"]), ["x", "y", "z"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn what_is_written_is_read_back(values in proptest::collection::vec(("[a-z_]{1,8}", ".{1,12}"), 1..12)) {
            let mut writer = Writer::default();
            let mut expected = IndexMap::new();
            for (key, value) in &values {
                if expected.insert(key.clone(), value.clone()).is_none() {
                    // Only the first of equal keys is written; the map keeps the last.
                    expected.insert(key.clone(), value.clone());
                    writer.put(&["metadata", key], value);
                } else {
                    expected.insert(key.clone(), values.iter().find(|(k, _)| k == key).unwrap().1.clone());
                }
            }
            let mut form = Form::parse(writer.finish().as_bytes()).unwrap();
            prop_assert_eq!(form.map("metadata"), expected);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Form::parse(&bytes);
        }
    }
}
