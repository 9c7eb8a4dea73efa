//! Square: Payments API v2 and Refunds API v2.
//!
//! What is peculiar here, and decides how much can be promised:
//!
//! * The idempotency key stands in the body, 45 bytes at most. Completing and cancelling have none: the payment's state
//!   makes them repeatable, so that here the path names such a request.
//! * A payment whose answer was lost can be cancelled by its key (`POST /v2/payments/cancel`). That acts on what has
//!   arrived, says 200 also when it found nothing, and does not keep the key from a create that arrives later: fence
//!   strength F2. What it does to a completed sale is not documented, so that only holds are fenced so.
//! * The key is not shown in any answer. A payment without a known id is found in the list of its time by amount and
//!   `reference_id`, seconds after it was made; not finding it proves nothing.
//! * A capture takes the whole approved amount. Less is taken by lowering the amount first ([`Gateway::before`]), which
//!   Square allows where the payment has the capability `EDIT_AMOUNT_DOWN`; the capture then names the version that it
//!   lowered.
//! * What its applications do so with a payment that another gateway has is kept here ([`Gateway::edits_amounts`]): the
//!   capture then asks the owner for as much.
//! * There is no field for a card number: only tokens of Square's own vault are charged. Nothing redirects; a payment
//!   that wants authentication is declined.
//! * Only the currency of the seller's location is taken.
//!
//! Credentials: `access_token`, and `locations.<currency>` or one `location_id`, whose currency only Square knows (it
//! refuses another one before anything is charged). Settings: `api_version`. In the instrument map a token is
//! `customer/ccof:...`, because a saved card means nothing without its customer.
//!
//! Sources: Square's OpenAPI file (2025-08-20), its pages on idempotency and sandbox values, its SDKs.

mod announce;
mod encode;
mod observe;
mod pages;
mod parse;
mod render;
mod webhook;

use std::collections::BTreeMap;

use http::{HeaderMap, Method};
use sha2::{Digest, Sha256};

use super::announcement::{Announcement, Written};
use super::canonical::{Answer, EarlierAttempt, ObjectKind, Refusal, Request};
use super::outcome::Observation;
use super::webhook::{WebhookError, WebhookFact, WebhookKeys};
use super::{
    Account, Capabilities, FenceStrength, Gateway, Head, Incoming, Leg, Outgoing, OwnError, Recognised, Reply, Stopped,
};
use crate::config::model::{Credentials, Dialect};

/// The API version that requests are written for: the newest whose specification is public.
const API_VERSION: &str = "2025-08-20";

/// The longest key that Square takes, in bytes.
const KEY_LEN: usize = 45;

/// The longest `reference_id`.
const REFERENCE_LEN: usize = 40;

/// Square as dialect and as target.
#[derive(Clone, Copy, Debug, Default)]
pub struct Square;

const CAPABILITIES: Capabilities = Capabilities {
    fence: FenceStrength::F2,
    manual_capture: true,
    // By lowering the amount before the capture.
    partial_capture: true,
    multiple_captures: false,
    void: true,
    partial_refund: true,
    // A card refund is accepted first and done later; captures and voids are done at once.
    asynchronous_modifications: true,
    server_side_card: false,
    external_three_ds: false,
    network_transaction_id: false,
    // Square publishes no figure; a day is what every source agrees on at least.
    idempotency_hours: 24,
    idempotency_key_len: KEY_LEN,
};

impl Gateway for Square {
    fn dialect(&self) -> Dialect {
        Dialect::Square
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
        _head: &Head,
        body: &[u8],
        _settings: &BTreeMap<String, String>,
    ) -> Result<Request, Refusal> {
        parse::request(recognised, body)
    }

    fn edits_amounts(&self) -> bool {
        true
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

    fn currencies(&self, credentials: &Credentials, _settings: &BTreeMap<String, String>) -> Option<Vec<String>> {
        let named = credentials.names().filter_map(|name| name.strip_prefix("locations."));
        let currencies: Vec<String> = named.map(str::to_owned).collect();
        // A single location has one currency, which only Square knows.
        (!currencies.is_empty()).then_some(currencies)
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

    fn page(
        &self,
        earlier: &EarlierAttempt,
        account: &Account,
        _asked: &Outgoing,
        so_far: Option<Incoming>,
        answer: Incoming,
    ) -> (Incoming, Option<Outgoing>) {
        pages::joined(earlier, account, so_far, answer)
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
        match kind {
            // The charge is no object of its own.
            ObjectKind::Payment | ObjectKind::Charge => id("payment", seed, 29),
            ObjectKind::Refund => format!("{}_{}", id("refunded", seed, 29), id("refund", seed, 43)),
            ObjectKind::Capture => id("capture", seed, 29),
            ObjectKind::Instrument => format!("ccof:{}", id("instrument", seed, 20)),
            ObjectKind::RequestId => id("request", seed, 22),
        }
    }

    fn announce(&self, told: &Announcement<'_>) -> Vec<Written> {
        announce::write(told)
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

/// An id of Square's form: letters of both cases and digits.
fn id(kind: &str, seed: &[u8], len: usize) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digest = |half: &str| {
        Sha256::new()
            .chain_update(half)
            .chain_update(kind)
            .chain_update(seed)
            .finalize()
    };
    let letter = |byte: u8| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]);
    let bytes = digest("first").into_iter().chain(digest("second"));
    bytes.take(len).map(letter).collect()
}

#[cfg(test)]
mod tests;
