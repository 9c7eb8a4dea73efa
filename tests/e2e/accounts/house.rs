//! A sidecar with a ledger, and a client of its tenants' interface.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::{Message, once};

/// The password of every account in these tests.
pub const PASSWORD: &str = "YourSecurePassword123!";

/// A sidecar in front of a gateway that nobody asks.
pub struct House {
    /// The process.
    pub sentinel: Sentinel,
    /// The shared listener.
    pub shared: SocketAddr,
}

impl House {
    /// Opens one, with more configuration.
    pub fn open(more: &str) -> Self {
        Self::at(free_port(), more)
    }

    /// Opens one whose shared listener is there.
    pub fn at(shared: SocketAddr, more: &str) -> Self {
        let sentinel = Sentinel::start(&format!(
            "listeners: {{ shared: '{shared}' }}
ledger: {{ sqlite: '{{dir}}/ledger.db', strict: false }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://127.0.0.1:1', allow_private: true }}
routes:
  - {{ name: stripe, path_prefix: /stripe, dialect: stripe, gateways: [stripe] }}
{more}"
        ));
        Self { sentinel, shared }
    }

    /// Asks.
    pub async fn ask(&self, method: &str, path: &str, token: &str, body: Option<&Value>) -> Message {
        ask(self.shared, method, path, token, body).await
    }

    /// Registers, and gives the answer.
    pub async fn register(&self, email: &str) -> Value {
        let body = serde_json::json!({ "email": email, "password": PASSWORD, "companyName": "Acme" });
        let answer = self.ask("POST", "/api/v1/customers/register", "", Some(&body)).await;
        assert_eq!(answer.status(), 201, "{}", answer.text());
        parsed(&answer)
    }
}

/// Asks at an address.
pub async fn ask(at: SocketAddr, method: &str, path: &str, token: &str, body: Option<&Value>) -> Message {
    let (body, kind) = match body {
        Some(body) => (body.to_string(), "Content-Type: application/json\r\n"),
        None => (String::new(), ""),
    };
    let bearer = match token {
        "" => String::new(),
        token => format!("Authorization: Bearer {token}\r\n"),
    };
    raw(at, method, path, &format!("{bearer}{kind}"), &body).await
}

/// Asks with exactly these fields.
pub async fn raw(at: SocketAddr, method: &str, path: &str, fields: &str, body: &str) -> Message {
    let length = body.len();
    let host = if fields.contains("Host:") {
        ""
    } else {
        "Host: localhost\r\n"
    };
    let bytes = format!("{method} {path} HTTP/1.1\r\n{host}{fields}Content-Length: {length}\r\n\r\n{body}");
    once(at, bytes).await
}

/// A JSON answer.
pub fn parsed(answer: &Message) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
}

/// A text field.
pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}
