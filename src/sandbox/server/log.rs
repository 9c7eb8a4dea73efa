//! What a gateway received: every request, whole or not, with what became of it.
//!
//! It keeps the newest [`KEPT`]. In memory a request stands as it came, for tests that compare bytes; whatever leaves the
//! process goes through [`Received::shown`], which takes out credentials, card numbers and codes.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::wire::Link;
use crate::sandbox::fault::Fault;
use crate::telemetry::scrub::{Format, scrub};

/// Requests kept.
pub const KEPT: usize = 10_000;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It has not arrived whole, and never will.
    Partial,
    /// It is on its way, or a script holds it.
    Waiting,
    /// It was executed.
    Executed,
    /// It was answered without an execution: a replay, a key in use, a wrong credential.
    Admitted,
    /// A script answered or ended it before its execution.
    Faulted,
}

/// One request.
#[derive(Clone)]
pub struct Received {
    /// Counted from 1.
    pub seq: u64,
    /// When its head was there; Unix seconds on the sandbox's clock.
    pub at: i64,
    /// The connection it came on, counted from 1.
    pub connection: u64,
    /// Whether it came by HTTP/2.
    pub http2: bool,
    /// The method; `None` when the head never was complete.
    pub method: Option<Method>,
    /// The raw path.
    pub path: String,
    /// The raw query.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, once it is there whole.
    pub body: Option<bytes::Bytes>,
    /// Of a partial request over HTTP/1.1 or cut by a script: how many bytes of it arrived.
    pub bytes: Option<u64>,
    /// The fault that took it.
    pub fault: Option<Fault>,
    /// What became of it.
    pub fate: Fate,
    /// The status of the answer, when one was to be written. A cut answer has one too.
    pub status: Option<u16>,
}

impl Received {
    /// For other eyes: no credential, no card number, no code.
    pub fn shown(&self) -> Value {
        let headers: Map<String, Value> = self
            .headers
            .iter()
            .map(|(name, value)| {
                let secret = ["authorization", "x-api-key", "cookie", "proxy-authorization"].contains(&name.as_str());
                let value = if secret {
                    "[redacted]".to_owned()
                } else {
                    clean(&String::from_utf8_lossy(value.as_bytes()))
                };
                (name.as_str().to_owned(), Value::String(value))
            })
            .collect();
        let body = self.body.as_ref().map(|body| {
            let text = String::from_utf8_lossy(body);
            match serde_json::from_str::<Value>(&text) {
                Ok(value) => redact(value),
                Err(_) => Value::String(form(&text)),
            }
        });
        json!({
            "seq": self.seq, "at": self.at, "connection": self.connection,
            "protocol": if self.http2 { "h2" } else { "http/1.1" },
            "method": self.method.as_ref().map(Method::as_str), "path": self.path, "query": clean(&self.query),
            "headers": headers, "body": body, "bytes": self.bytes, "fault": self.fault, "fate": self.fate,
            "status": self.status,
        })
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.shown())
    }
}

fn clean(text: &str) -> String {
    String::from_utf8_lossy(&scrub(text.as_bytes(), Format::Text)).into_owned()
}

/// Names whose values are codes or credentials, whatever the gateway calls them.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['_', '-'], "");
    ["cvc", "cvv", "securitycode", "clientsecret", "password", "cryptogram"]
        .iter()
        .any(|secret| name.contains(secret))
}

fn redact(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(name, value)| {
                    let value = if is_secret(&name) {
                        json!("[redacted]")
                    } else {
                        redact(value)
                    };
                    (name, value)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(redact).collect()),
        Value::String(text) => Value::String(clean(&text)),
        other => other,
    }
}

fn form(text: &str) -> String {
    let pairs = text.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}=[redacted]"),
        _ => clean(pair),
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// The record of one gateway.
#[derive(Debug)]
pub(super) struct Log {
    entries: Mutex<VecDeque<Received>>,
    /// How many requests have begun; a test waits for it.
    count: watch::Sender<u64>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }
}

impl Log {
    /// A request's head is there. Gives back its number.
    pub(super) fn begin(&self, at: i64, link: &Link, head: &http::request::Parts) -> u64 {
        self.push(|seq| Received {
            seq,
            at,
            connection: link.number,
            http2: link.http2,
            method: Some(head.method.clone()),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers.clone(),
            body: None,
            bytes: None,
            fault: None,
            fate: Fate::Waiting,
            status: None,
        })
    }

    /// The connection ended within a head, or a script cut a request.
    pub(super) fn partial(&self, at: i64, link: &Link, bytes: u64) {
        self.push(|seq| Received {
            seq,
            at,
            connection: link.number,
            http2: link.http2,
            method: None,
            path: String::new(),
            query: String::new(),
            headers: HeaderMap::new(),
            body: None,
            bytes: Some(bytes),
            fault: None,
            fate: Fate::Partial,
            status: None,
        });
    }

    fn push(&self, make: impl FnOnce(u64) -> Received) -> u64 {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seq = 0;
        self.count.send_modify(|count| {
            *count += 1;
            seq = *count;
        });
        if entries.len() == KEPT {
            entries.pop_front();
        }
        entries.push_back(make(seq));
        seq
    }

    /// Notes something about a request, while it is kept.
    pub(super) fn note(&self, seq: u64, change: impl FnOnce(&mut Received)) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let first = entries.front().map_or(seq, |first| first.seq);
        let at = usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX);
        if let Some(entry) = entries.get_mut(at) {
            change(entry);
        }
    }

    /// Everything kept, oldest first.
    pub(super) fn all(&self) -> Vec<Received> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().cloned().collect()
    }

    /// Forgets everything; numbers go on.
    pub(super) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Follows the count of requests.
    pub(super) fn count(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_holds_no_card_code_or_credential() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "authorization",
            "Bearer sk_test_4eC39HqLyjWDarjtT1zdp7dc".parse().unwrap(),
        );
        let mut received = Received {
            seq: 1,
            at: 0,
            connection: 1,
            http2: false,
            method: Some(Method::POST),
            path: "/v1/payment_intents".to_owned(),
            query: String::new(),
            headers,
            body: Some(
                "payment_method_data[card][number]=4242424242424242&payment_method_data[card][cvc]=314&amount=5".into(),
            ),
            bytes: None,
            fault: None,
            fate: Fate::Executed,
            status: Some(200),
        };
        let shown = received.shown().to_string();
        for secret in ["4242424242424242", "314", "sk_test_4eC39"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("amount=5"), "{shown}");
        received.body = Some(r#"{"card":{"number":"4242424242424242","security_code":"314"},"amount":5}"#.into());
        let shown = format!("{received:?}");
        assert!(!shown.contains("4242424242424242") && !shown.contains("314"), "{shown}");
    }
}
