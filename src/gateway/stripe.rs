//! Stripe, as dialect and as target.
//!
//! What Sentinel speaks: payment intents (create, confirm, capture, cancel, retrieve, list), legacy charges (create,
//! capture, retrieve) and refunds (create, retrieve, list of one payment). Everything else of the API is opaque: updates,
//! searches, incremental authorisations, customers, subscriptions, `/v2`.
//!
//! A `POST /v1/payment_intents` is recognised as [`Operation::Create`](super::canonical::Operation::Create); whether it takes money (`confirm=true`) stands in
//! the body, and so in [`Pay::operation`](super::canonical::Pay::operation) after parsing.
//!
//! Fence strength is F3: a key tombstone for creations, a cancel for confirmations ([`encode::fence`]).

mod amounts;
mod announce;
mod encode;
mod form;
mod ids;
mod objects;
mod observe;
mod pages;
mod parse;
mod render;
mod webhook;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use http::{HeaderMap, Method};

use super::announcement::{Announcement, Written};
use super::canonical::{Answer, EarlierAttempt, ObjectKind, Refusal, Request};
use super::credential::{basic_or_bearer, live};
use super::idempotency::header_key;
use super::outcome::Observation;
use super::webhook::{WebhookError, WebhookFact, WebhookKeys};
use super::{
    Account, Capabilities, FenceStrength, Gateway, Head, Incoming, Leg, Outgoing, OwnError, Recognised, Reply,
};
use crate::config::model::{Credentials, Dialect};

/// The API version that Sentinel speaks on its own behalf, and the one it answers in when the application names none:
/// the one that the newest official SDKs pin.
const API_VERSION: &str = "2026-10-28.endive";
/// The metadata key of Sentinel's reference.
const REFERENCE_KEY: &str = "sentinel_payment";
/// The metadata key that marks a key tombstone.
const FENCE_KEY: &str = "sentinel_fence";
/// The longest idempotency key that Stripe takes.
const KEY_LEN: usize = 255;

static CAPABILITIES: Capabilities = Capabilities {
    fence: FenceStrength::F3,
    manual_capture: true,
    partial_capture: true,
    // A feature that an account must be given; never promised.
    multiple_captures: false,
    void: true,
    partial_refund: true,
    asynchronous_modifications: false,
    server_side_card: true,
    external_three_ds: true,
    network_transaction_id: false,
    idempotency_hours: 24,
    idempotency_key_len: KEY_LEN,
};

/// The Stripe dialect.
#[derive(Clone, Copy, Debug)]
pub struct Stripe;

impl Gateway for Stripe {
    fn dialect(&self) -> Dialect {
        Dialect::Stripe
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn recognise(&self, method: &Method, path: &str) -> Recognised {
        parse::recognise(method, path)
    }

    fn idempotency_key(&self, head: &Head, _body: &[u8]) -> Result<Option<String>, Refusal> {
        // Stripe ignores keys on everything but POST.
        if head.method == Method::POST {
            header_key(&head.headers, "idempotency-key", KEY_LEN)
        } else {
            Ok(None)
        }
    }

    fn creates_first(&self) -> bool {
        true
    }

    fn api_version(&self) -> &'static str {
        API_VERSION
    }

    fn idempotency_header(&self) -> Option<&'static str> {
        Some("idempotency-key")
    }

    fn parse(
        &self,
        recognised: &Recognised,
        head: &Head,
        body: &[u8],
        _settings: &BTreeMap<String, String>,
    ) -> Result<Request, Refusal> {
        parse::parse(recognised, head, body)
    }

    fn encode(&self, request: &Request, account: &Account) -> Result<Outgoing, Refusal> {
        encode::encode(request, account)
    }

    fn observe(&self, leg: Leg, request: Option<&Request>, reference: Option<&str>, answer: &Incoming) -> Observation {
        observe::observe(leg, request, reference, answer)
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
        asked: &Outgoing,
        so_far: Option<Incoming>,
        answer: Incoming,
    ) -> (Incoming, Option<Outgoing>) {
        pages::joined(earlier, account, asked, so_far, answer)
    }

    fn probe(&self, account: &Account) -> Option<Outgoing> {
        encode::probe(account)
    }

    fn render(&self, answer: &Answer, head: &Head, body: &[u8]) -> Reply {
        render::render(answer, head, body)
    }

    fn render_error(&self, error: &OwnError, head: &Head) -> Reply {
        render::render_error(error, head)
    }

    fn mint(&self, kind: ObjectKind, seed: &[u8; 16]) -> String {
        ids::mint(kind, seed)
    }

    fn moves_live(&self, headers: &HeaderMap) -> Option<bool> {
        live(&basic_or_bearer(headers)?, &["sk", "rk"])
    }

    fn holds_live(&self, credentials: &Credentials) -> Option<bool> {
        live(credentials.get("secret_key")?, &["sk", "rk"])
    }

    fn announce(&self, told: &Announcement<'_>) -> Vec<Written> {
        announce::write(told)
    }

    fn webhook(
        &self,
        keys: &WebhookKeys<'_>,
        headers: &HeaderMap,
        body: &[u8],
        now: i64,
    ) -> Result<Vec<WebhookFact>, WebhookError> {
        webhook::read(keys, headers, body, now)
    }
}
