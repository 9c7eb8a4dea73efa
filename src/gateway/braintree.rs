//! Braintree: the classic gateway, as its official server SDKs speak it.
//!
//! What is peculiar here, and decides how much can be promised:
//!
//! * A request names no currency: it is its merchant account's. The credential `merchant_accounts` says which account takes
//!   which currency, the setting `currency` what the default account takes. What neither knows is refused, and what comes
//!   back in another currency is a conflict.
//! * Applications hold one-time nonces from Braintree's browser SDK, which mean nothing anywhere else. Raw cards and vault
//!   tokens with an entry in the instrument map can move.
//! * A captured payment stays voidable until the nightly settlement and cannot be refunded before it. A refund in full
//!   therefore goes out as a *reversal*, of which Braintree makes the one or the other; a part of an unsettled payment
//!   cannot be given back, and Braintree's refusal is passed on. Of an application's void of a payment that another gateway
//!   took, Sentinel makes a refund ([`Gateway::void_takes_back`](super::Gateway::void_takes_back)).
//! * At-most-once keys (`api_request_key`) are a feature that an account must be given: the setting `request_keys: true`
//!   says that it has it, and an account that has not answers so before anything is executed. Without it there are only
//!   Braintree's check for duplicates, whose rejection proves that an *earlier* charge exists, and a search by order, which
//!   lags behind and proves nothing by finding nothing (F1).
//! * With keys, a sale that cannot be executed claims the key of a lost one. Only when Braintree answers that the key
//!   belongs to a failed request is the original fenced: documents disagree on whether a refused request keeps its key, and
//!   no document is believed, only this answer.
//! * 504 comes after the processor was asked: the most dangerous answer of all, and as unknown as a cut line.
//!
//! Not here: 3-D Secure challenges (they happen in the browser), multiple partial settlements, adjusted authorisations,
//! searches, vault and client tokens. They are forwarded.
//!
//! Credentials: `merchant_id`, `public_key`, `private_key`, `merchant_accounts` by currency. In the instrument map a token
//! is a vault's payment method token.
//!
//! Sources: the official SDKs for Python, Node and Java, Braintree's documentation of transactions, idempotency, duplicate
//! checking and processor responses, and recorded answers in public fixtures.

mod announce;
mod encode;
mod observe;
mod parse;
mod render;
mod signature;
mod webhook;
mod xml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use http::{HeaderMap, Method};
use sha2::{Digest, Sha256};

use super::announcement::{Announcement, Written};
use super::canonical::{Answer, EarlierAttempt, ObjectKind, Refusal, Request};
use super::outcome::Observation;
use super::webhook::{WebhookError, WebhookFact, WebhookKeys};
use super::{
    Account, Capabilities, FenceStrength, Gateway, Head, Incoming, Leg, Outgoing, OwnError, Recognised, Reply,
};
use crate::config::model::{Credentials, Dialect};
pub(super) use parse::in_currency;

/// The version of the API, which every request must name.
const API_VERSION: &str = "6";
/// The longest key that Sentinel makes. No limit is published; a UUID's length is safe.
const KEY_LEN: usize = 36;
/// The setting that says whether the account has at-most-once keys.
const REQUEST_KEYS: &str = "request_keys";

/// Braintree as dialect and as target.
#[derive(Clone, Copy, Debug, Default)]
pub struct Braintree;

/// An account without keys.
const PLAIN: Capabilities = Capabilities {
    fence: FenceStrength::F1,
    manual_capture: true,
    partial_capture: true,
    // Only at some processors, by a call of its own.
    multiple_captures: false,
    void: true,
    // Once settled.
    partial_refund: true,
    asynchronous_modifications: false,
    server_side_card: true,
    external_three_ds: true,
    network_transaction_id: true,
    idempotency_hours: 0,
    idempotency_key_len: KEY_LEN,
};

/// An account with keys: kept for thirty days.
const KEYED: Capabilities = Capabilities {
    fence: FenceStrength::F3,
    idempotency_hours: 30 * 24,
    ..PLAIN
};

/// Whether an account has at-most-once keys.
fn keyed(settings: &BTreeMap<String, String>) -> bool {
    settings.get(REQUEST_KEYS).is_some_and(|yes| yes == "true")
}

impl Gateway for Braintree {
    fn dialect(&self) -> Dialect {
        Dialect::Braintree
    }

    fn capabilities(&self) -> &Capabilities {
        &PLAIN
    }

    fn capabilities_of(&self, settings: &BTreeMap<String, String>) -> &Capabilities {
        if keyed(settings) { &KEYED } else { &PLAIN }
    }

    fn recognise(&self, method: &Method, path: &str) -> Recognised {
        parse::recognise(method, path)
    }

    fn idempotency_key(&self, head: &Head, body: &[u8]) -> Result<Option<String>, Refusal> {
        parse::idempotency_key(head, body)
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

    fn encode(&self, request: &Request, account: &Account) -> Result<Outgoing, Refusal> {
        encode::request(request, account)
    }

    fn currencies(&self, credentials: &Credentials, settings: &BTreeMap<String, String>) -> Option<Vec<String>> {
        let named = credentials
            .names()
            .filter_map(|name| name.strip_prefix(parse::ACCOUNTS));
        let default = settings.get(parse::CURRENCY).map(String::as_str);
        let mut currencies: Vec<String> = named.chain(default).map(str::to_owned).collect();
        currencies.sort_unstable();
        currencies.dedup();
        Some(currencies)
    }

    fn observe(&self, leg: Leg, request: Option<&Request>, reference: Option<&str>, answer: &Incoming) -> Observation {
        observe::answer(leg, request, reference, answer)
    }

    fn fence(&self, earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
        encode::fence(earlier, account)
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

    fn render_error(&self, error: &OwnError, head: &Head) -> Reply {
        render::own_error(error, head)
    }

    fn mint(&self, kind: ObjectKind, seed: &[u8; 16]) -> String {
        // A transaction is payment, execution and capture in one: they have one id.
        let name = match kind {
            ObjectKind::Payment | ObjectKind::Charge | ObjectKind::Capture => "transaction",
            ObjectKind::Refund => "credit",
            ObjectKind::Instrument => "instrument",
            ObjectKind::RequestId => "request",
        };
        transaction_id(name, seed)
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

    fn challenge(&self, query: &str, credentials: &Credentials) -> Option<String> {
        webhook::challenge(query, credentials)
    }

    fn void_takes_back(&self) -> bool {
        true
    }
}

/// An id of the form of Braintree's: lower-case letters and digits.
fn transaction_id(kind: &str, seed: &[u8]) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let digest = Sha256::new().chain_update(kind).chain_update(seed).finalize();
    let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
    digest.iter().take(12).map(letter).collect()
}
