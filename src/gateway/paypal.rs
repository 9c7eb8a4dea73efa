//! PayPal: Orders v2 and Payments v2.
//!
//! What is peculiar here, and decides how much can be promised:
//!
//! * An order that is `COMPLETED` is not paid: a declined capture can sit inside it, under HTTP 201. Only the status of
//!   the capture or authorisation counts. A minimal answer does not show it and proves nothing.
//! * The same `PayPal-Request-Id` answers with the *latest state* of what it made, not with the first answer, and does
//!   not compare bodies. What comes back is therefore compared with what was asked, amount and reference.
//! * An order cannot be cancelled. An order whose capture was lost stays capturable for hours, so nothing here fences a
//!   sale; [`Gateway::lookup`](super::Gateway::lookup) reads the order by its id (F1). A card sale made in one request
//!   has no id before its answer: when that answer is lost, only its webhook or the same request again tells.
//! * An authorisation whose id is known can be voided for good.
//! * Every call wants an access token. Applications fetch theirs through Sentinel; while PayPal is down they get one of
//!   Sentinel's own ([`token`]), which never reaches PayPal.
//!
//! Credentials: `client_id`, `client_secret`. Settings: `domestic_currency` (the one of BRL, CNY, INR, MYR that the
//! account takes, which PayPal allows in-country only). In the instrument map a token is a card's vault id, or
//! `paypal:<vault id>` for a wallet.
//!
//! Sources: PayPal's OpenAPI files for Orders v2 and Payments v2, its documentation of idempotency, order statuses and
//! webhooks.

mod announce;
mod encode;
mod issues;
mod observe;
mod parse;
mod render;
pub mod token;
mod webhook;

use std::collections::BTreeMap;

use http::{HeaderMap, Method};
use sha2::{Digest, Sha256};

use super::announcement::{Announcement, Written};
use super::canonical::{Answer, EarlierAttempt, ObjectKind, Refusal, Request};
use super::outcome::Observation;
use super::webhook::{WebhookError, WebhookFact, WebhookKeys};
use super::{
    AccessToken, Account, Auth, Capabilities, Credential, FenceStrength, Gateway, Head, Incoming, Leg, Outgoing,
    OwnError, Recognised, Reply,
};
use crate::config::model::Dialect;

/// The header of the idempotency key.
const KEY_HEADER: &str = "paypal-request-id";

/// The longest key that Orders v2 takes.
const KEY_LEN: usize = 108;

/// PayPal as dialect and as target.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paypal;

const CAPABILITIES: Capabilities = Capabilities {
    fence: FenceStrength::F1,
    manual_capture: true,
    partial_capture: true,
    multiple_captures: true,
    void: true,
    partial_refund: true,
    asynchronous_modifications: false,
    server_side_card: true,
    // There is no public field for a cryptogram beside a plain card number.
    external_three_ds: false,
    network_transaction_id: true,
    // Orders; captures and refunds are kept for 45 days.
    idempotency_hours: 6,
    idempotency_key_len: KEY_LEN,
};

impl Gateway for Paypal {
    fn dialect(&self) -> Dialect {
        Dialect::Paypal
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn captures_by_id(&self) -> bool {
        true
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
        _settings: &BTreeMap<String, String>,
    ) -> Result<Request, Refusal> {
        parse::request(recognised, head, body)
    }

    fn encode(&self, request: &Request, account: &Account) -> Result<Outgoing, Refusal> {
        encode::request(request, account)
    }

    fn observe(&self, leg: Leg, request: Option<&Request>, reference: Option<&str>, answer: &Incoming) -> Observation {
        observe::answer(leg, request, reference, answer)
    }

    /// The void of an authorisation whose id is known. Nothing else here is final.
    fn fence(&self, earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
        encode::fence(earlier, account)
    }

    fn lookup(&self, earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
        encode::lookup(earlier, account)
    }

    /// Fetches a token: moves nothing, and needs the account to be good.
    fn probe(&self, account: &Account) -> Option<Outgoing> {
        token::request(account).ok()
    }

    fn render(&self, answer: &Answer, head: &Head, body: &[u8]) -> Reply {
        render::answer(answer, head, body)
    }

    fn render_error(&self, error: &OwnError, head: &Head) -> Reply {
        render::own_error(error, head)
    }

    fn mint(&self, kind: ObjectKind, seed: &[u8; 16]) -> String {
        match kind {
            ObjectKind::RequestId => debug_id(seed),
            kind => object_id(&format!("{kind:?}"), seed),
        }
    }

    fn api_version(&self) -> &'static str {
        "v2"
    }

    fn idempotency_header(&self) -> Option<&'static str> {
        Some(KEY_HEADER)
    }

    fn authentication(&self, account: &Account) -> Result<Auth, Refusal> {
        token::request(account).map(|request| Auth::Token { request })
    }

    fn read_token(&self, answer: &Incoming) -> Option<AccessToken> {
        token::read(answer)
    }

    fn mint_token(&self, head: &Head, body: &[u8], account: &Account, seed: &[u8; 16], now: i64) -> Option<Reply> {
        Some(token::mint(head, body, account, seed, now))
    }

    fn credential(&self, headers: &HeaderMap, account: &Account, now: i64) -> Credential {
        token::credential(headers, account, now)
    }

    fn announce(&self, told: &Announcement<'_>) -> Vec<Written> {
        announce::write(told).into_iter().collect()
    }

    fn verification(&self, body: &[u8], keys: &WebhookKeys<'_>, now: i64) -> Option<Reply> {
        announce::verification(body, keys, now)
    }

    fn webhook(
        &self,
        keys: &WebhookKeys<'_>,
        headers: &HeaderMap,
        body: &[u8],
        now: i64,
    ) -> Result<Vec<WebhookFact>, WebhookError> {
        webhook::verify(keys, headers, body, now)
    }

    fn vouching(
        &self,
        keys: &WebhookKeys<'_>,
        headers: &HeaderMap,
        body: &[u8],
        account: &Account,
    ) -> Option<Outgoing> {
        webhook::question(keys, headers, body, account)
    }

    fn vouched(&self, answer: &Incoming) -> Option<bool> {
        webhook::vouched(answer)
    }
}

/// An id of PayPal's form: 17 upper-case letters and digits.
fn object_id(kind: &str, seed: &[u8]) -> String {
    const ALPHABET: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let digest = Sha256::new().chain_update(kind).chain_update(seed).finalize();
    let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
    digest.iter().take(17).map(letter).collect()
}

/// A debug id of PayPal's form: 13 hexadecimal digits.
fn debug_id(seed: &[u8]) -> String {
    let digest = Sha256::new().chain_update("debug").chain_update(seed).finalize();
    let hex: String = digest.iter().take(7).map(|byte| format!("{byte:02x}")).collect();
    hex.chars().take(13).collect()
}

#[cfg(test)]
mod tests;
