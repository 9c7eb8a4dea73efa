//! What an application hears by webhook, in its own dialect, of a payment that another gateway took.
//!
//! The application's own gateway knows nothing of that payment and never will: without this, whoever ships on a webhook
//! waits for ever. A dialect writes what its gateway would have sent, and signs it as that gateway signs, with a secret
//! that only Sentinel and the application share, so that the official SDK verifies it as it verifies the gateway's. What
//! its gateway has no event for, it does not write.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};

use super::canonical::{RefundView, View};
use super::{Account, Head};
use crate::config::model::Webhook;
use crate::money::Amount;

/// What happened. Only what is proven becomes news.
#[derive(Clone, Debug)]
pub enum News {
    /// Money was taken.
    Succeeded,
    /// Money is held.
    Authorised,
    /// The payment failed: declined, or not executed anywhere.
    Failed,
    /// A hold was captured.
    Captured,
    /// A hold was released.
    Voided,
    /// Money was given back.
    Refunded(RefundView),
    /// A refund that the gateway had accepted was not made.
    RefundFailed(RefundView),
}

/// News of one payment, to be written in a dialect.
#[derive(Clone, Debug)]
pub struct Announcement<'a> {
    /// What happened.
    pub news: News,
    /// The payment as it was then, under the ids that the application knows.
    pub view: &'a View,
    /// How much was held, taken or given back by it.
    pub amount: Amount,
    /// 16 bytes that only these news have: every delivery of them carries the same event ids.
    pub seed: [u8; 16],
    /// The application's own account.
    pub account: &'a Account,
    /// What that account's own webhooks are signed with and over.
    pub webhook: &'a Webhook,
    /// What it is signed with; `None` where the account's own keys do that (Braintree).
    pub secret: Option<&'a str>,
    /// Where it is posted.
    pub url: &'a str,
    /// The route's base URL as the application sees it, for links.
    pub base: &'a str,
    /// When it happened, seconds of Unix time.
    pub at: i64,
    /// Now, seconds of Unix time: what signatures with a time in them say.
    pub now: i64,
}

impl Announcement<'_> {
    /// The head of a look at an object, for dialects whose answers are shaped by what they answer.
    pub(super) fn look(&self, path: &str) -> Head {
        Head {
            method: Method::GET,
            path: path.to_owned(),
            query: None,
            headers: HeaderMap::new(),
            base: self.base.to_owned(),
        }
    }
}

/// One event as it is posted.
#[derive(Clone, Debug)]
pub struct Written {
    /// Signature and content type.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Written {
    /// A body with its type and one signature. `None` where the signature is no header value, which none is.
    pub(super) fn signed(kind: &'static str, body: String, (name, signature): (&'static str, &str)) -> Option<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(name, HeaderValue::from_str(signature).ok()?);
        Some(Self {
            headers,
            body: Bytes::from(body),
        })
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
