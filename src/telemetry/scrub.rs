//! The last look at a line before it leaves the process: card numbers, keys and credentials become `[...]`.
//!
//! Types keep secrets out of logs; this is the net below them. It works on the finished line, whatever field, message
//! or foreign error text the secret came in with, so nothing can be logged around it. It prefers to mask too much.
//!
//! Masked are: any digits that hold 13 to 19 in a row that pass the Luhn check (also in groups, `4242 4242 ...`); keys
//! in the form of gateways' and Sentinel's own; credentials behind `Bearer` and `Basic`; the values of fields named
//! like secrets. Not taken for a card number are 32, 40, 64 and 128 hexadecimal digits: trace ids and hashes.

use std::borrow::Cow;

/// How lines are written; a masked JSON number must stay JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

const CARD: &[u8] = b"[card]";
const MASK: &[u8] = b"[redacted]";

/// Beginnings of secret keys; what follows is masked. Publishable keys and ids are not secrets.
const KEYS: [&[u8]; 16] = [
    b"sk_live_",
    b"sk_test_",
    b"rk_live_",
    b"rk_test_",
    b"sk_",
    b"whsec_",
    b"EAAA",
    b"EAAl",
    b"sq0csp-",
    b"sandbox-sq0csb-",
    b"access_token$",
    b"A21AA",
    b"AQE",
    b"Bearer ",
    b"bearer ",
    b"Basic ",
];

/// Fewer characters than this behind such a beginning are a word and no key.
const KEY_REST: usize = 8;

/// Names of fields whose values are secrets, in small letters.
const FIELDS: [&[u8]; 13] = [
    b"authorization",
    b"x-api-key",
    b"api_key",
    b"apikey",
    b"secret_key",
    b"client_secret",
    b"private_key",
    b"password",
    b"security_code",
    b"securitycode",
    b"cvc",
    b"cvv",
    b"cvn",
];

/// The line without secrets. Borrowed when there were none.
pub fn scrub(line: &[u8], format: Format) -> Cow<'_, [u8]> {
    let mut scrubber = Scrubber {
        line,
        out: Vec::new(),
        copied: 0,
        in_string: false,
    };
    let mut at = 0;
    while at < line.len() {
        at = scrubber.step(at, format);
    }
    if scrubber.copied == 0 && scrubber.out.is_empty() {
        return Cow::Borrowed(line);
    }
    scrubber.out.extend_from_slice(&line[scrubber.copied..]);
    Cow::Owned(scrubber.out)
}

struct Scrubber<'a> {
    line: &'a [u8],
    out: Vec<u8>,
    /// Everything before this is in `out` already.
    copied: usize,
    /// Inside a JSON string.
    in_string: bool,
}

impl Scrubber<'_> {
    fn replace(&mut self, from: usize, to: usize, with: &[u8]) {
        self.out.extend_from_slice(&self.line[self.copied..from]);
        self.out.extend_from_slice(with);
        self.copied = to;
    }

    /// Looks at what begins at `at` and says where to go on.
    fn step(&mut self, at: usize, format: Format) -> usize {
        let byte = self.line[at];
        match byte {
            // An escaped quote neither opens nor closes a string.
            b'\\' if matches!(self.line.get(at + 1), Some(b'"' | b'\\')) && format == Format::Json => return at + 2,
            b'"' => self.in_string = !self.in_string,
            _ if byte.is_ascii_alphanumeric() => {
                let begins = at == 0 || !is_word(self.line[at - 1]);
                if begins && let Some(end) = self.word(at, format) {
                    return end;
                }
                if byte.is_ascii_digit() {
                    return self.digits(at, format);
                }
            }
            _ => {}
        }
        at + 1
    }

    /// A word begins: a key, a secret field, or a hash.
    fn word(&mut self, at: usize, format: Format) -> Option<usize> {
        let rest = &self.line[at..];
        if rest[0].is_ascii_hexdigit() {
            let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric()).count();
            let token = &rest[..length];
            let is_hash = matches!(length, 32 | 40 | 64 | 128)
                && token.iter().all(u8::is_ascii_hexdigit)
                && token.iter().any(u8::is_ascii_alphabetic);
            if is_hash {
                return Some(at + length);
            }
        }
        for key in KEYS {
            if rest.starts_with(key) {
                let secret = rest[key.len()..].iter().take_while(|b| is_secret(**b)).count();
                if secret >= KEY_REST {
                    self.replace(at + key.len(), at + key.len() + secret, MASK);
                    return Some(at + key.len() + secret);
                }
            }
        }
        for field in FIELDS {
            if rest.len() > field.len()
                && rest[..field.len()].eq_ignore_ascii_case(field)
                && let Some(value) = value_behind(self.line, at + field.len(), format)
            {
                let mask: &[u8] = if value.context == Context::Bare {
                    b"\"[redacted]\""
                } else {
                    MASK
                };
                self.replace(value.from, value.to, mask);
                match value.context {
                    Context::Within => {}
                    Context::Bare => self.in_string = false,
                    // Its closing quote is still to come.
                    Context::Quoted => self.in_string = true,
                }
                return Some(value.to);
            }
        }
        None
    }

    /// Digits begin.
    fn digits(&mut self, at: usize, format: Format) -> usize {
        let line = self.line;
        let mut digits = [0u8; 64];
        let mut count = 0;
        let mut end = at;
        loop {
            let group = line[end..].iter().take_while(|b| b.is_ascii_digit()).count();
            for b in &line[end..end + group] {
                if count < digits.len() {
                    digits[count] = b - b'0';
                }
                count += 1;
            }
            end += group;
            // Groups as on a card; longer or shorter ones are dates, UUIDs, phone numbers.
            let next = line
                .get(end + 1..)
                .unwrap_or_default()
                .iter()
                .take_while(|b| b.is_ascii_digit())
                .count();
            let separated = matches!(line.get(end), Some(b' ' | b'-')) && (3..=6).contains(&group);
            if !(separated && (3..=6).contains(&next)) {
                break;
            }
            end += 1;
        }
        if !holds_card(&digits[..count.min(digits.len())]) {
            return end;
        }
        if format == Format::Text || self.in_string {
            self.replace(at, end, CARD);
            return end;
        }
        // A bare JSON number, with sign and fraction, becomes a string.
        let is_number = |b: &u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
        let from = at - line[self.copied..at].iter().rev().take_while(|b| is_number(b)).count();
        let to = end + line[end..].iter().take_while(|b| is_number(b)).count();
        self.replace(from, to, b"\"[card]\"");
        to
    }
}

const fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

const fn is_secret(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'~' | b'+' | b'/' | b'=' | b'$')
}

/// How a secret value stands in its line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    /// Inside something else: text, or a string that holds text.
    Within,
    /// A bare JSON value: a number, a word.
    Bare,
    /// In quotes of the line's own.
    Quoted,
}

struct Value {
    from: usize,
    to: usize,
    context: Context,
}

/// The value of a field whose name ends at `at`: `: v`, `=v`, `":"v"`, `":1`, `\":\"v\"`.
fn value_behind(line: &[u8], at: usize, format: Format) -> Option<Value> {
    let byte = |i: usize| line.get(i).copied().unwrap_or(0);
    let spaces = |i: usize| {
        i + line
            .get(i..)
            .unwrap_or_default()
            .iter()
            .take_while(|b| **b == b' ')
            .count()
    };
    // The name's closing quote, which may be escaped.
    let mut i = at;
    let escaped_name = byte(i) == b'\\';
    i += usize::from(escaped_name);
    let quoted_name = matches!(byte(i), b'"' | b'\'');
    i = spaces(i + usize::from(quoted_name));
    if !matches!(byte(i), b':' | b'=') {
        return None;
    }
    i = spaces(i + 1);
    let own_name = quoted_name && !escaped_name && format == Format::Json && byte(at) == b'"';
    let escaped = byte(i) == b'\\' && byte(i + 1) == b'"';
    let quote = byte(i + usize::from(escaped));
    let (from, to, context) = if escaped {
        let from = i + 2;
        (from, end_of_quoted(line, from, true, b'"'), Context::Within)
    } else if own_name && quote == b'"' {
        (i + 1, end_of_quoted(line, i + 1, false, b'"'), Context::Quoted)
    } else if own_name {
        if matches!(quote, b'{' | b'[') {
            return None;
        }
        let length = line[i..]
            .iter()
            .take_while(|b| !matches!(b, b',' | b'}' | b']'))
            .count();
        (i, i + length, Context::Bare)
    } else if format == Format::Text && matches!(quote, b'"' | b'\'') {
        (i + 1, end_of_quoted(line, i + 1, false, quote), Context::Within)
    } else if quote == b'\'' {
        // Single quotes inside a JSON string: the string's own end counts too.
        let length = line[i + 1..]
            .iter()
            .take_while(|b| !matches!(b, b'\'' | b'"' | b'\\'))
            .count();
        (i + 1, i + 1 + length, Context::Within)
    } else {
        let ends = |b: &u8| matches!(b, b'"' | b'\'' | b'\\' | b'\n' | b',' | b';' | b'}' | b'&');
        let all = line[i..].iter().take_while(|b| !ends(b)).count();
        // A scheme and its credentials are two words.
        let mut words = line[i..i + all].splitn(3, |b| *b == b' ');
        let first = words.next().unwrap_or_default();
        let scheme = first.eq_ignore_ascii_case(b"basic") || first.eq_ignore_ascii_case(b"bearer");
        let length = match words.next() {
            Some(second) if scheme => first.len() + 1 + second.len(),
            _ => first.len(),
        };
        (i, i + length, Context::Within)
    };
    (to > from).then_some(Value { from, to, context })
}

/// Where a quoted value ends: before its closing quote, or at the end of the line.
fn end_of_quoted(line: &[u8], from: usize, escaped: bool, quote: u8) -> usize {
    let mut i = from;
    while i < line.len() {
        match (line[i], line.get(i + 1)) {
            (b'\\', Some(next)) if escaped => {
                if *next == quote {
                    return i;
                }
                // A backslash of the inner text, and what it escapes there.
                let inner = *next == b'\\' && line.get(i + 2) == Some(&b'\\') && line.get(i + 3) == Some(&quote);
                i += if inner { 4 } else { 2 };
            }
            // The line's own string ended before the inner one: it was cut off.
            (b'"', _) if escaped => return i,
            (b'\\', Some(_)) => i += 2,
            (b, _) if b == quote => return i,
            _ => i += 1,
        }
    }
    line.len()
}

/// Whether 13 to 19 of these digits in a row pass the Luhn check.
fn holds_card(digits: &[u8]) -> bool {
    (0..digits.len()).any(|from| (13..=19).any(|length| digits.get(from..from + length).is_some_and(luhn)))
}

fn luhn(digits: &[u8]) -> bool {
    // A row of zeros is an empty field.
    if digits.iter().all(|d| *d == 0) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| match (i % 2, u32::from(*d) * 2) {
            (0, twice) => twice / 2,
            (_, twice) if twice > 9 => twice - 9,
            (_, twice) => twice,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(line: &str) -> String {
        String::from_utf8(scrub(line.as_bytes(), Format::Text).into_owned()).unwrap()
    }

    fn json(line: &str) -> String {
        String::from_utf8(scrub(line.as_bytes(), Format::Json).into_owned()).unwrap()
    }

    #[test]
    fn cards_are_masked_in_any_dress() {
        assert_eq!(text("card 4242424242424242."), "card [card].");
        assert_eq!(
            text("card=4242 4242 4242 4242, amex 3782-822463-10005"),
            "card=[card], amex [card]"
        );
        assert_eq!(text("pm4242424242424242x"), "pm[card]x");
        assert_eq!(json(r#"{"a":"4242-4242-4242-4242","b":1}"#), r#"{"a":"[card]","b":1}"#);
        assert_eq!(
            json(r#"{"a":4242424242424242,"b":-4242424242424242.50}"#),
            r#"{"a":"[card]","b":"[card]"}"#
        );
        assert_eq!(json(r#"{"a\"":4242424242424242}"#), r#"{"a\"":"[card]"}"#);
    }

    #[test]
    fn keys_and_credentials_are_masked() {
        assert_eq!(text("key sk_live_abcdefgh1234 used"), "key sk_live_[redacted] used");
        assert_eq!(
            text("Authorization: Basic dXNlcjpwYXNz rest"),
            "Authorization: [redacted] rest"
        );
        assert_eq!(text("sent Bearer abc.def-ghi_jkl ok"), "sent Bearer [redacted] ok");
        assert_eq!(
            json(r#"{"x-api-key":"anything at all","n":4242424242424242}"#),
            r#"{"x-api-key":"[redacted]","n":"[card]"}"#
        );
        assert_eq!(
            json(r#"{"m":"{\"cvc\":\"123\",\"x\":1}"}"#),
            r#"{"m":"{\"cvc\":\"[redacted]\",\"x\":1}"}"#
        );
        assert_eq!(
            json(r#"{"password":"a\"b","n":4242424242424242,"cvc":123,"s":"x"}"#),
            r#"{"password":"[redacted]","n":"[card]","cvc":"[redacted]","s":"x"}"#
        );
        assert_eq!(
            json(r#"{"m":"{\"password\":\"a\\\"b\",\"x\":1}"}"#),
            r#"{"m":"{\"password\":\"[redacted]\",\"x\":1}"}"#
        );
        assert_eq!(text("password=hunter2&next=1"), "password=[redacted]&next=1");
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            "2026-11-25T13:18:33.123456Z  INFO ready listeners=[127.0.0.1:8080]",
            "payment 0193569e-8a2b-7c11-9e2d-123456789012 took 1234567890 ns",
            "payment 12345678-1234-7123-8123-123456789012",
            "trace 4000056655665556aaaaaaaaaaaaaaaa hash 4242424242424242aaaaaaaaaaaaaaaa4242424242424242aaaaaaaaaaaaaaaa",
            "a desk_sketch and sk_short and pk_live_publishable",
            "the authorization failed; cvc check: no",
            "bytes=0000000000000000",
        ] {
            assert_eq!(text(line), line);
            assert!(matches!(scrub(line.as_bytes(), Format::Text), Cow::Borrowed(_)));
        }
    }

    fn pan() -> impl Strategy<Value = String> {
        ("[2-6][0-9]{11,17}", Just(())).prop_map(|(body, ())| {
            let digits: Vec<u8> = body.bytes().map(|b| b - b'0').collect();
            let check = (0..10u8).find(|c| luhn(&[digits.as_slice(), &[*c]].concat())).unwrap();
            format!("{body}{check}")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn no_card_number_survives(pan in pan(), before in "\\PC{0,20}", after in "\\PC{0,20}") {
            // A neighbour that makes it a 32-digit hash is not the subject here.
            let line = format!("{before}{pan}{after}");
            prop_assume!(!line.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| matches!(w.len(), 32 | 40 | 64 | 128)));
            prop_assert!(!text(&line).contains(&pan));
            let object = serde_json::json!({ "field": line, "n": pan.parse::<u64>().unwrap_or(0), "pan": pan }).to_string();
            let scrubbed = json(&object);
            prop_assert!(!scrubbed.contains(&pan), "{}", scrubbed);
        }

        #[test]
        fn json_stays_json(
            key in "[a-z_\"\\\\]{0,12}", value in "\\PC{0,40}", number in any::<i64>(), float in any::<f64>(), pan in pan(),
            field in prop::sample::select(FIELDS.to_vec()),
        ) {
            let field = std::str::from_utf8(field).unwrap();
            let object = serde_json::json!({
                key: value, "n": number, "f": float, "p": pan, field: value, "q": pan.parse::<u64>().unwrap_or(0), "last": pan,
            }).to_string();
            let scrubbed = json(&object);
            let parsed: Result<serde_json::Value, _> = serde_json::from_str(&scrubbed);
            prop_assert!(parsed.is_ok(), "{} became {}", object, scrubbed);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            scrub(&bytes, Format::Text);
            scrub(&bytes, Format::Json);
        }
    }
}
