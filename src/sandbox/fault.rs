//! Fault scripts: what goes wrong with which request, and at which moment.
//!
//! A script is a list of rules. Every request takes the first rule that matches it and is not used up. The same JSON is
//! taken from files, from the control port and from tests. Chance (`percent`) comes from a seeded generator, so that a
//! run can be repeated.

pub mod shorthand;

use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};

use super::NativeError;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// An orderly close.
    Fin,
    /// A reset.
    Rst,
    /// Nothing more comes, and the connection stays open.
    Stall,
}

/// Whether the request was executed before the fault hit it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Not executed, and never will be.
    Before,
    /// Executed first.
    #[default]
    After,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The port refuses new connections, and open ones end once they have answered: the gateway is down. In force from the
    /// moment the rule is there; matches nothing, is never used up.
    Refuse {
        /// Milliseconds; `null` until the rule is taken away.
        #[serde(default)]
        ms: Option<u64>,
    },
    /// A new connection is accepted and ends like this before a byte of it is read, TLS handshake included. Matches by
    /// order only.
    CutConnection {
        /// How it ends.
        cut: Cut,
    },
    /// The connection breaks after `byte` bytes of the request were read (counted from its first byte; with HTTP/2, from
    /// the first byte of its head's frame, other frames of the connection included). Matches by order, and over HTTP/1.1 by
    /// method and path too, because nothing else of the request is known yet. Nothing is executed; a request shorter than
    /// `byte` passes unharmed.
    CutRequest {
        /// How many bytes are read.
        byte: u64,
        /// How it ends.
        cut: Cut,
    },
    /// After `byte` bytes of the request were read, an answer with this status is written, as by a proxy that has waited
    /// for the request too long, and the connection ends. Matches as `cut_request` does, and nothing is executed, either.
    AnswerEarly {
        /// How many bytes are read.
        byte: u64,
        /// The status, e.g. 408.
        status: u16,
    },
    /// Executed and answered whole; then the connection ends like this. HTTP/1.1 only.
    EndConnection {
        /// How it ends.
        cut: Cut,
    },
    /// Executed and answered; then, unasked, an answer with this status is written, as by a proxy that ends an idle
    /// connection, and the connection ends. HTTP/1.1 only.
    AnswerIdle {
        /// The status, e.g. 408.
        status: u16,
    },
    /// Executed; before the answer come provisional ones (103). HTTP/1.1 only.
    Provisional {
        /// How many; `null` without end, so that the answer never comes.
        #[serde(default)]
        count: Option<u64>,
    },
    /// The gateway reads another request than was sent: a text in its body is replaced wherever it stands, before anything
    /// else (another card, another amount). What comes of that is the gateway's own.
    Misread {
        /// What is replaced.
        from: String,
        /// By what.
        to: String,
    },
    /// The request takes this long before it has any effect, even on its idempotency key; then it goes on as usual,
    /// whether or not anybody still waits. `null` for ever.
    DelayArrival {
        /// Milliseconds.
        ms: Option<u64>,
    },
    /// The request holds its idempotency key this long before it is executed, whether or not anybody still waits.
    /// `null` for ever.
    DelayExecution {
        /// Milliseconds.
        ms: Option<u64>,
    },
    /// Executed at once, answered this late. `null` for ever.
    DelayAnswer {
        /// Milliseconds.
        ms: Option<u64>,
    },
    /// The connection breaks after `byte` bytes of the answer (0: before any).
    CutAnswer {
        /// How many bytes are written.
        byte: u64,
        /// How it ends.
        cut: Cut,
        /// Whether the request is executed. Where not, a native 500 is what is cut.
        #[serde(default)]
        when: When,
    },
    /// The gateway's own error instead of its answer.
    Native {
        /// Which.
        error: NativeError,
        /// Whether the request is executed first.
        #[serde(default)]
        when: When,
        /// `Retry-After`, seconds.
        #[serde(default)]
        retry_after: Option<u64>,
        /// Whether the gateway remembers the error as its answer to the idempotency key, where it stores errors.
        #[serde(default)]
        stored: bool,
    },
    /// An answer that is not the gateway's: what a CDN or proxy in front of it writes.
    Foreign {
        /// The status.
        status: u16,
        /// Whether the request is executed first.
        #[serde(default)]
        when: When,
        /// The body. Default: an HTML page.
        #[serde(default)]
        body: Option<String>,
        /// The content type. Default `text/html`.
        #[serde(default)]
        content_type: Option<String>,
        /// `Location`, for redirects.
        #[serde(default)]
        location: Option<String>,
    },
    /// Executed; the body of the answer ends after `bytes` bytes, with a length that fits: truncated, but well framed.
    TruncateBody {
        /// How many bytes are left.
        bytes: usize,
    },
    /// Executed; a value in the JSON answer is replaced (a wrong amount, another reference).
    Patch {
        /// JSON pointer, e.g. `/amount`.
        pointer: String,
        /// The new value.
        value: serde_json::Value,
    },
    /// Executed; a text in the answer is replaced wherever it stands (for answers that are not JSON).
    Replace {
        /// What is replaced.
        from: String,
        /// By what.
        to: String,
    },
    /// Executed; a header of the answer is dropped or replaced.
    Header {
        /// Its name.
        name: String,
        /// Its new value; `null` drops it.
        value: Option<String>,
    },
    /// Executed; the answer is compressed (gzip) and unpacks to so many megabytes, whatever was asked for.
    Bomb {
        /// Megabytes.
        megabytes: u32,
    },
    /// Executed; the body drips.
    Drip {
        /// Bytes at a time.
        bytes: usize,
        /// Milliseconds in between.
        every_ms: u64,
    },
    /// HTTP/2: the stream is reset with this error code (7 is REFUSED_STREAM).
    ResetStream {
        /// RFC 9113 section 7.
        code: u32,
        /// Whether the request is executed first.
        #[serde(default)]
        when: When,
    },
    /// The connection is told to end (HTTP/2 GOAWAY, HTTP/1.1 `Connection: close`); this request is still answered.
    GoAway,
}

impl Fault {
    /// Whether it hits before anything but the request's first bytes is known.
    pub fn early(&self) -> bool {
        matches!(
            self,
            Self::Refuse { .. } | Self::CutConnection { .. } | Self::CutRequest { .. } | Self::AnswerEarly { .. }
        )
    }
}

/// Which requests a rule takes. What is not named matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// The method, upper case.
    pub method: Option<String>,
    /// The path; a trailing `*` matches any rest.
    pub path: Option<String>,
    /// A text that stands in the path, query or body.
    pub contains: Option<String>,
    /// The idempotency key, whichever header carries it.
    pub key: Option<String>,
    /// A header by name and value.
    pub header: Option<(String, String)>,
}

/// One rule of a script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Which requests.
    #[serde(default, rename = "match")]
    pub matcher: Match,
    /// How many matching requests pass unharmed first. Default 0.
    #[serde(default)]
    pub skip: u64,
    /// How many are hit; `null` for all. Default 1.
    #[serde(default = "once")]
    pub times: Option<u64>,
    /// The chance, in percent, that a request which is due is hit. Default 100.
    #[serde(default = "certain")]
    pub percent: u8,
    /// What goes wrong.
    #[serde(flatten)]
    pub fault: Fault,
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the field's type")]
fn once() -> Option<u64> {
    Some(1)
}

const fn certain() -> u8 {
    100
}

impl Rule {
    /// A rule that hits the next request that matches.
    pub fn once(matcher: Match, fault: Fault) -> Self {
        Self {
            matcher,
            skip: 0,
            times: Some(1),
            percent: 100,
            fault,
        }
    }

    /// A rule that hits every request that matches.
    pub fn always(matcher: Match, fault: Fault) -> Self {
        Self {
            matcher,
            skip: 0,
            times: None,
            percent: 100,
            fault,
        }
    }
}

/// What a rule may look at.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path.
    pub path: &'a str,
    /// The query.
    pub query: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
}

/// The headers that carry an idempotency key at any gateway.
const KEY_HEADERS: [&str; 2] = ["idempotency-key", "paypal-request-id"];

impl Match {
    /// Every request with this method and path.
    pub fn path(method: &str, path: &str) -> Self {
        Self {
            method: Some(method.to_owned()),
            path: Some(path.to_owned()),
            ..Self::default()
        }
    }

    fn takes_line(&self, method: &str, path: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => path == pattern,
        };
        self.method.as_ref().is_none_or(|wanted| wanted == method) && self.path.as_ref().is_none_or(fits)
    }

    fn matches(&self, seen: &Seen<'_>) -> bool {
        let header = |name: &str, value: &str| {
            seen.headers
                .get_all(name)
                .iter()
                .any(|found| found.as_bytes() == value.as_bytes())
        };
        let contains = |text: &String| {
            seen.path.contains(text.as_str())
                || seen.query.contains(text.as_str())
                || String::from_utf8_lossy(seen.body).contains(text.as_str())
        };
        self.takes_line(seen.method.as_str(), seen.path)
            && self.contains.as_ref().is_none_or(contains)
            && self
                .key
                .as_ref()
                .is_none_or(|key| KEY_HEADERS.iter().any(|name| header(name, key)))
            && self.header.as_ref().is_none_or(|(name, value)| header(name, value))
    }
}

/// A request line of which only the beginning may have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Not whole yet.
    Partial,
    /// Not to be had (HTTP/2 compresses it).
    Hidden,
    /// Method and path.
    Whole(&'a str, &'a str),
}

/// What is known about a cut of the request that has begun to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutRequest {
    /// None.
    None,
    /// It depends on the request line.
    Later,
    /// After so many bytes, like this.
    After(u64, Stop),
}

/// How a request that is arriving is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The connection ends.
    Cut(Cut),
    /// An answer with this status first.
    Answer(u16),
}

/// The rules in force.
#[derive(Clone, Debug)]
pub struct Script {
    rules: Vec<Rule>,
    chance: fastrand::Rng,
}

impl Default for Script {
    fn default() -> Self {
        Self::seeded(0)
    }
}

impl Script {
    /// An empty script whose chances come from this seed.
    pub fn seeded(seed: u64) -> Self {
        Self {
            rules: Vec::new(),
            chance: fastrand::Rng::with_seed(seed),
        }
    }

    /// Adds a rule behind those there are.
    pub fn push(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    /// Drops all rules.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// The rules not used up.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Drops a rule that is equal to this one.
    pub fn remove(&mut self, rule: &Rule) {
        if let Some(at) = self.rules.iter().position(|there| there == rule) {
            self.rules.remove(at);
        }
    }

    /// Whether connections are refused.
    pub fn refuses(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.fault, Fault::Refuse { .. }))
    }

    /// Takes the fault for a request that has arrived whole, and counts it.
    pub fn take(&mut self, seen: &Seen<'_>) -> Option<Fault> {
        self.first(|rule| !rule.fault.early() && rule.matcher.matches(seen))
    }

    /// Takes the fault for a connection that was accepted.
    pub fn take_cut_connection(&mut self) -> Option<Cut> {
        match self.first(|rule| matches!(rule.fault, Fault::CutConnection { .. }))? {
            Fault::CutConnection { cut } => Some(cut),
            _ => None,
        }
    }

    /// Takes the fault for a request of which the first byte has arrived.
    pub fn take_cut_request(&mut self, line: Line<'_>) -> CutRequest {
        let asks = |rule: &Rule| rule.matcher.method.is_some() || rule.matcher.path.is_some();
        let is_cut = |rule: &Rule| matches!(rule.fault, Fault::CutRequest { .. } | Fault::AnswerEarly { .. });
        if line == Line::Partial
            && let Some(first) = self.rules.iter().find(|rule| is_cut(rule))
            && asks(first)
        {
            return CutRequest::Later;
        }
        let taken = self.first(|rule| {
            is_cut(rule)
                && match line {
                    Line::Whole(method, path) => rule.matcher.takes_line(method, path),
                    Line::Partial | Line::Hidden => !asks(rule),
                }
        });
        match taken {
            Some(Fault::CutRequest { byte, cut }) => CutRequest::After(byte, Stop::Cut(cut)),
            Some(Fault::AnswerEarly { byte, status }) => CutRequest::After(byte, Stop::Answer(status)),
            _ => CutRequest::None,
        }
    }

    fn first(&mut self, matches: impl Fn(&Rule) -> bool) -> Option<Fault> {
        for at in 0..self.rules.len() {
            let rule = self.rules.get_mut(at)?;
            if !matches(rule) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if rule.percent < 100 && self.chance.u8(0..100) >= rule.percent {
                continue;
            }
            let fault = rule.fault.clone();
            if let Some(times) = &mut rule.times {
                *times = times.saturating_sub(1);
                if *times == 0 {
                    self.rules.remove(at);
                }
            }
            return Some(fault);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_from_json_and_used_up_in_order() {
        let rules: Vec<Rule> = serde_json::from_str(
            r#"[{"match":{"method":"POST","path":"/v1/payment_intents*"},"skip":1,"fault":"native","error":"rate_limit"},
                {"fault":"cut_answer","byte":10,"cut":"rst","times":null},
                {"fault":"cut_request","byte":3,"cut":"fin"}]"#,
        )
        .unwrap();
        let mut script = Script::default();
        rules.into_iter().for_each(|rule| script.push(rule));
        let headers = HeaderMap::new();
        let seen = |method| Seen {
            method,
            path: "/v1/payment_intents/pi_1",
            query: "",
            headers: &headers,
            body: b"",
        };
        let rst = Some(Fault::CutAnswer {
            byte: 10,
            cut: Cut::Rst,
            when: When::After,
        });
        assert_eq!(script.take(&seen(&Method::POST)), rst, "the first match is skipped");
        assert!(matches!(script.take(&seen(&Method::POST)), Some(Fault::Native { .. })));
        assert_eq!(script.take(&seen(&Method::POST)), rst);
        assert_eq!(script.take(&seen(&Method::GET)), rst);
        assert_eq!(
            script.take_cut_request(Line::Partial),
            CutRequest::After(3, Stop::Cut(Cut::Fin))
        );
        assert_eq!(script.take_cut_request(Line::Partial), CutRequest::None);
    }

    #[test]
    fn a_cut_for_one_path_waits_for_the_request_line() {
        let cut = Fault::CutRequest { byte: 9, cut: Cut::Rst };
        let mut script = Script::default();
        script.push(Rule::once(Match::path("POST", "/v1/refunds"), cut));
        assert_eq!(script.take_cut_request(Line::Partial), CutRequest::Later);
        assert_eq!(
            script.take_cut_request(Line::Whole("GET", "/v1/refunds")),
            CutRequest::None
        );
        assert_eq!(script.take_cut_request(Line::Hidden), CutRequest::None);
        assert_eq!(
            script.take_cut_request(Line::Whole("POST", "/v1/refunds")),
            CutRequest::After(9, Stop::Cut(Cut::Rst))
        );
    }

    #[test]
    fn chance_is_repeatable_by_its_seed() {
        let hits = |seed| {
            let mut script = Script::seeded(seed);
            script.push(Rule {
                percent: 30,
                ..Rule::always(Match::default(), Fault::GoAway)
            });
            let headers = HeaderMap::new();
            let seen = Seen {
                method: &Method::GET,
                path: "/",
                query: "",
                headers: &headers,
                body: b"",
            };
            (0..1000).map(|_| script.take(&seen).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(hits(7), hits(7));
        assert_ne!(hits(7), hits(8));
        let share = hits(7).into_iter().filter(|hit| *hit).count();
        assert!((240..360).contains(&share), "{share}");
    }

    #[test]
    fn an_unknown_field_in_a_matcher_is_refused() {
        assert!(serde_json::from_str::<Rule>(r#"{"match":{"pth":"/x"},"fault":"go_away"}"#).is_err());
    }
}
