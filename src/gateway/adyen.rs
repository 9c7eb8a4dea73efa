//! Adyen: Checkout API v68 to v72, the `/payments` flow.
//!
//! What is peculiar here, and decides how much can be promised:
//!
//! * Refusals come with HTTP 200; the truth is in `resultCode`. `Error` may hide an executed authorisation.
//! * There is no call that reads a payment. The outcome of a lost request is known only from a webhook, or from the same
//!   request sent again under its key. That replay needs the whole body (card data included), which is never kept, so
//!   [`Gateway::lookup`](super::Gateway::lookup) has nothing to offer.
//! * Captures, cancels and refunds are queued: `201 received` is not *done*. They are observed as pending.
//! * A payment that is not captured by itself can be cancelled by its reference (`POST /cancels`), which acts on what has
//!   arrived only: fence strength F2.
//! * Whether a payment without `manualCapture` or `captureDelayHours` is captured at once is set up in the account. The
//!   setting `capture: automatic|manual` says so; without it such a payment never moves to another gateway.
//!
//! Credentials: `api_key`, `merchant_account`. Settings: `api_version` (default `v71`), `capture`, `return_url`.
//! A stored payment method is named `shopperReference/storedPaymentMethodId` in the instrument map, because the one means
//! nothing without the other.
//!
//! Sources: Adyen's OpenAPI file for Checkout v71 and its public documentation of result codes, error codes, idempotency
//! and webhooks.

mod announce;
mod encode;
mod observe;
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
    Account, Capabilities, FenceStrength, Gateway, Head, Incoming, Leg, Outgoing, OwnError, Recognised, Reply,
};
use crate::config::model::Dialect;

/// The header of the idempotency key.
const KEY_HEADER: &str = "idempotency-key";

/// The longest key that Adyen takes.
const KEY_LEN: usize = 64;

/// The longest `reference` of a payment or modification.
const REFERENCE_LEN: usize = 80;

/// The versions whose requests and answers this module knows.
const VERSIONS: std::ops::RangeInclusive<u32> = 68..=72;

/// Adyen as dialect and as target.
#[derive(Clone, Copy, Debug, Default)]
pub struct Adyen;

const CAPABILITIES: Capabilities = Capabilities {
    fence: FenceStrength::F2,
    manual_capture: true,
    partial_capture: true,
    // By default a partial capture releases the rest.
    multiple_captures: false,
    void: true,
    partial_refund: true,
    asynchronous_modifications: true,
    server_side_card: true,
    external_three_ds: true,
    network_transaction_id: true,
    // The shorter of the two figures in Adyen's documents: seven days.
    idempotency_hours: 7 * 24,
    idempotency_key_len: KEY_LEN,
};

/// Of an account with multiple partial captures.
const SEVERAL: Capabilities = Capabilities {
    multiple_captures: true,
    ..CAPABILITIES
};

/// Whether the account is set up for multiple partial captures.
fn several(settings: &BTreeMap<String, String>) -> bool {
    settings
        .get("several_captures")
        .is_some_and(|several| several == "true")
}

impl Gateway for Adyen {
    fn dialect(&self) -> Dialect {
        Dialect::Adyen
    }

    fn capabilities_of(&self, settings: &BTreeMap<String, String>) -> &Capabilities {
        if several(settings) { &SEVERAL } else { &CAPABILITIES }
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn recognise(&self, method: &Method, path: &str) -> Recognised {
        parse::recognise(method, path)
    }

    fn idempotency_key(&self, head: &Head, _body: &[u8]) -> Result<Option<String>, Refusal> {
        super::idempotency::header_key(&head.headers, KEY_HEADER, KEY_LEN)
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

    fn observe(&self, leg: Leg, request: Option<&Request>, reference: Option<&str>, answer: &Incoming) -> Observation {
        observe::answer(leg, request, reference, answer)
    }

    fn fence(&self, earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
        encode::fence(earlier, account)
    }

    /// Nothing: Adyen has no call that reads a payment.
    fn lookup(&self, _earlier: &EarlierAttempt, _account: &Account) -> Option<Outgoing> {
        None
    }

    fn probe(&self, account: &Account) -> Option<Outgoing> {
        encode::probe(account)
    }

    fn render(&self, answer: &Answer, head: &Head, body: &[u8]) -> Reply {
        render::answer(answer, head, body)
    }

    fn render_error(&self, error: &OwnError, _head: &Head) -> Reply {
        render::own_error(error)
    }

    fn mint(&self, kind: ObjectKind, seed: &[u8; 16]) -> String {
        psp_reference(&format!("{kind:?}"), seed)
    }

    fn api_version(&self) -> &'static str {
        encode::API_VERSION
    }

    fn idempotency_header(&self) -> Option<&'static str> {
        Some(KEY_HEADER)
    }

    fn tells_holds(&self) -> bool {
        false
    }

    /// Of several payments with one reference `/cancels` means the latest.
    fn fences_by_reference(&self) -> bool {
        true
    }

    fn announce(&self, told: &Announcement<'_>) -> Vec<Written> {
        announce::write(told).into_iter().collect()
    }

    fn webhook(
        &self,
        keys: &WebhookKeys<'_>,
        _headers: &HeaderMap,
        body: &[u8],
        _now: i64,
    ) -> Result<Vec<WebhookFact>, WebhookError> {
        webhook::verify(keys, body)
    }
}

/// A reference of Adyen's form: 16 upper-case letters and digits.
fn psp_reference(kind: &str, seed: &[u8]) -> String {
    const ALPHABET: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let digest = Sha256::new().chain_update(kind).chain_update(seed).finalize();
    let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
    digest.iter().take(16).map(letter).collect()
}

/// What Adyen writes in `refusalReason` for a `refusalReasonCode`; `Refused` for one that is not documented.
fn refusal_reason(code: &str) -> &'static str {
    REFUSALS
        .iter()
        .find(|(known, _)| *known == code)
        .map_or("Refused", |(_, reason)| reason)
}

/// The code of a `refusalReason`, as webhooks carry it without its code.
fn refusal_code(reason: &str) -> Option<&'static str> {
    REFUSALS
        .iter()
        .find(|(_, known)| known.eq_ignore_ascii_case(reason))
        .map(|(code, _)| *code)
}

/// What stands for the code of a refusal that says neither a code nor a reason that is known: no code of Adyen's, so that
/// it is a plain *stop*.
const UNKNOWN_REFUSAL: &str = "unknown";

/// Adyen's page "Refusal reasons".
const REFUSALS: [(&str, &str); 47] = [
    ("2", "Refused"),
    ("3", "Referral"),
    ("4", "Acquirer Error"),
    ("5", "Blocked Card"),
    ("6", "Expired Card"),
    ("7", "Invalid Amount"),
    ("8", "Invalid Card Number"),
    ("9", "Issuer Unavailable"),
    ("10", "Not supported"),
    ("11", "3D Not Authenticated"),
    ("12", "Not enough balance"),
    ("13", "Pending"),
    ("14", "Acquirer Fraud"),
    ("15", "Cancelled"),
    ("16", "Shopper Cancelled"),
    ("17", "Invalid Pin"),
    ("18", "Pin tries exceeded"),
    ("19", "Pin validation not possible"),
    ("20", "FRAUD"),
    ("21", "Not Submitted"),
    ("22", "FRAUD-CANCELLED"),
    ("23", "Transaction Not Permitted"),
    ("24", "CVC Declined"),
    ("25", "Restricted Card"),
    ("26", "Revocation Of Auth"),
    ("27", "Declined Non Generic"),
    ("28", "Withdrawal amount exceeded"),
    ("29", "Withdrawal count exceeded"),
    ("30", "Partially Approved"),
    ("31", "Issuer Suspected Fraud"),
    ("32", "AVS Declined"),
    ("33", "Card requires online pin"),
    ("34", "No checking account available on Card"),
    ("35", "No savings account available on Card"),
    ("36", "Mobile pin required"),
    ("37", "Contactless fallback"),
    ("38", "Authentication required"),
    ("39", "RReq not received from DS"),
    ("40", "Current AID is in Penalty Box"),
    ("41", "CVM Required Restart Payment"),
    ("42", "3DS Authentication Error"),
    ("43", "Online PIN required"),
    ("44", "Try another interface"),
    ("45", "Chip downgrade mode"),
    ("46", "Transaction blocked by Adyen to prevent excessive retry fees"),
    ("50", "Token Revoked"),
    ("0", "Unknown"),
];

#[cfg(test)]
mod tests;
