//! Razorpay: Orders, Payments and Refunds, API v1.
//!
//! What is peculiar here, and decides how much can be promised:
//!
//! * A payment belongs to an order, and an order is paid once: while it has an authorised payment no other can succeed. The
//!   order is what stands for a key ([`Gateway::paid_once`]): payments have none.
//! * `failed` is not the end of a payment whose reason is a timeout or a technical error: Razorpay asks the bank for days
//!   and may still authorise it. Only a reason that is a verdict is a decline; every other failed payment stays unknown.
//! * Nothing fences a payment and nothing voids one. An uncaptured authorisation is returned by Razorpay itself after the
//!   order's time. A look finds payments by the order's receipt or id: fence strength F1, no part in `gated` mode.
//! * There is no call that charges a card at once. A server can ask for a card payment only to send its shopper to a bank's
//!   page, so that as target only mandates are charged (`customer/token`, merchant-initiated), and the answer to that is an
//!   id: what became of it is asked for afterwards.
//! * Rupees are what every account takes; others want international payments, which Razorpay switches on for an account. No
//!   answer tells whether they are, so that the configuration has to.
//! * While Razorpay is down its applications could not even open the order that they mean to pay: Sentinel opens it then
//!   ([`Gateway::order`]), and other gateways take its payment.
//! * Captures take the whole. They have no key, so that the payment is read before each.
//! * Success is signed with the key secret over order and payment. An answer that is minted here is signed with the secret
//!   of the request it answers; where that is an access token instead, there is none, and such a request goes nowhere else.
//!
//! Credentials: `key_id`, `key_secret`. Settings: `capture` (`automatic` or `manual`): how the application's orders are
//! captured, which its payment requests do not say; `currencies`, with commas between them.
//!
//! Sources: Razorpay's public documentation (its Markdown export) and its SDKs; it publishes no specification.

mod announce;
mod encode;
mod observe;
mod parse;
mod render;
mod webhook;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::announcement::{Announcement, Written};
use super::canonical::{Answer, EarlierAttempt, ObjectKind, Order, Refusal, Request};
use super::credential::{basic_or_bearer, live};
use super::outcome::Observation;
use super::webhook::{WebhookError, WebhookFact, WebhookKeys};
use super::{
    Accepted, Account, Capabilities, FenceStrength, Gateway, Head, Incoming, Leg, Outgoing, OwnError, Recognised,
    Reply, Stopped,
};
use crate::config::model::{Credentials, Dialect};
use crate::money::Amount;

/// The header of a refund's key.
const REFUND_KEY: &str = "x-refund-idempotency";

/// The note that carries Sentinel's reference.
const REFERENCE: &str = "sentinel_payment";

/// Razorpay as dialect and as target.
#[derive(Clone, Copy, Debug, Default)]
pub struct Razorpay;

const CAPABILITIES: Capabilities = Capabilities {
    fence: FenceStrength::F1,
    manual_capture: true,
    partial_capture: false,
    multiple_captures: false,
    void: false,
    partial_refund: true,
    asynchronous_modifications: true,
    server_side_card: false,
    external_three_ds: false,
    network_transaction_id: false,
    // Payments have no key; refunds have one, see `repeats`.
    idempotency_hours: 0,
    idempotency_key_len: 64,
};

impl Gateway for Razorpay {
    fn dialect(&self) -> Dialect {
        Dialect::Razorpay
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn recognise(&self, method: &Method, path: &str) -> Recognised {
        parse::recognise(method, path)
    }

    fn idempotency_key(&self, head: &Head, body: &[u8]) -> Result<Option<String>, Refusal> {
        parse::key(head, body)
    }

    fn parse(
        &self,
        recognised: &Recognised,
        head: &Head,
        body: &[u8],
        settings: &BTreeMap<String, String>,
    ) -> Result<Request, Refusal> {
        parse::request(recognised, head, body, settings)
    }

    fn instruments(&self) -> &'static [Accepted] {
        &[Accepted::Mandate]
    }

    fn opens_orders(&self) -> bool {
        true
    }

    fn order(
        &self,
        head: &Head,
        body: &[u8],
        settings: &BTreeMap<String, String>,
        seed: &[u8; 16],
        now: i64,
    ) -> Result<Order, Refusal> {
        parse::opened(head, body, settings, seed, now)
    }

    fn render_order(&self, order: &Order, attempts: usize, taken: Amount) -> Reply {
        render::order(order, attempts, taken)
    }

    fn paid_once(&self, head: &Head, body: &[u8]) -> Option<String> {
        parse::order(head, body)
    }

    /// A capture is preceded by a look, and a refund has a key: Razorpay states no time for it, and a day is the least.
    fn repeats(&self, _settings: &BTreeMap<String, String>) -> u32 {
        24
    }

    fn before(&self, request: &Request, account: &Account) -> Result<Option<Outgoing>, Refusal> {
        encode::before(request, account)
    }

    fn prepared(&self, request: &Request, account: &mut Account, answer: &Incoming) -> Result<(), Stopped> {
        observe::prepared(request, account, answer)
    }

    fn encode(&self, request: &Request, account: &Account) -> Result<Outgoing, Refusal> {
        encode::request(request, account)
    }

    fn currencies(&self, _credentials: &Credentials, settings: &BTreeMap<String, String>) -> Option<Vec<String>> {
        Some(encode::currencies(settings).map(str::to_owned).collect())
    }

    fn observe(&self, leg: Leg, request: Option<&Request>, reference: Option<&str>, answer: &Incoming) -> Observation {
        observe::answer(leg, request, reference, answer)
    }

    /// Nothing ends a payment here.
    fn fence(&self, _earlier: &EarlierAttempt, _account: &Account) -> Option<Outgoing> {
        None
    }

    fn lookup(&self, earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
        encode::lookup(earlier, account)
    }

    fn probe(&self, account: &Account) -> Option<Outgoing> {
        encode::probe(account)
    }

    fn render(&self, answer: &Answer, head: &Head, _body: &[u8]) -> Reply {
        render::answer(answer, head)
    }

    fn render_error(&self, error: &OwnError, _head: &Head) -> Reply {
        render::own_error(error)
    }

    fn mint(&self, kind: ObjectKind, seed: &[u8; 16]) -> String {
        let prefix = match kind {
            // The charge is no object of its own.
            ObjectKind::Payment | ObjectKind::Charge => "pay_",
            ObjectKind::Refund => "rfnd_",
            ObjectKind::Capture => "cap_",
            ObjectKind::Instrument => "token_",
            ObjectKind::RequestId => "req_",
        };
        format!("{prefix}{}", id(prefix, seed))
    }

    fn moves_live(&self, headers: &HeaderMap) -> Option<bool> {
        live(&basic_or_bearer(headers)?, &["rzp"])
    }

    fn holds_live(&self, credentials: &Credentials) -> Option<bool> {
        live(credentials.get("key_id")?, &["rzp"])
    }

    fn announce(&self, told: &Announcement<'_>) -> Vec<Written> {
        announce::write(told).into_iter().collect()
    }

    fn webhook(
        &self,
        keys: &WebhookKeys<'_>,
        headers: &HeaderMap,
        body: &[u8],
        _now: i64,
    ) -> Result<Vec<WebhookFact>, WebhookError> {
        webhook::verify(keys, headers, body)
    }
}

/// Fourteen letters and digits: Razorpay checks its ids by pattern, and so may an application.
fn id(kind: &str, seed: &[u8]) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digest = Sha256::new().chain_update(kind).chain_update(seed).finalize();
    let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
    digest.iter().take(14).map(letter).collect()
}

/// The key secret of an application's request; `None` where it is authorised by a token.
fn secret(headers: &HeaderMap) -> Option<Zeroizing<String>> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let pair = Zeroizing::new(STANDARD.decode(value.strip_prefix("Basic ")?).ok()?);
    let (_, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    (!secret.is_empty()).then(|| Zeroizing::new(secret.to_owned()))
}

#[cfg(test)]
mod tests;
