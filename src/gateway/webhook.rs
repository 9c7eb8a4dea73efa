//! What a gateway's webhook proves, once its signature holds.
//!
//! A webhook is late truth: it names an attempt by the gateway's ids or by Sentinel's reference, and carries the same
//! kind of [`Observation`] that an answer does, so that the payment core needs no second way to believe. Webhooks come at
//! least once and out of order; the lattice of outcomes absorbs both.
//!
//! Verification is pure: keys, headers, body and time are arguments. It refuses everything that is not signed, and
//! compares signatures in constant time.

use super::Leg;
use super::outcome::Observation;
use crate::config::model::Credentials;

/// What a gateway's webhooks are verified with. Which of these a dialect needs stands with its implementation.
#[derive(Clone, Copy)]
pub struct WebhookKeys<'a> {
    /// The signing secret (Stripe `whsec_...`, Adyen's HMAC key in hex).
    pub secret: Option<&'a str>,
    /// The webhook's id at the gateway, where the signature covers it (PayPal).
    pub webhook_id: Option<&'a str>,
    /// The address that the gateway was told to notify, where the signature covers it (Square).
    pub notification_url: Option<&'a str>,
    /// The account's credentials, where they are what signs (Braintree).
    pub account: Option<&'a Credentials>,
    /// Whether the gateway itself said that the signature holds, after [`WebhookError::ToBeVouched`] (PayPal).
    pub vouched: bool,
}

impl std::fmt::Debug for WebhookKeys<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookKeys([REDACTED])")
    }
}

/// One fact from a verified webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookFact {
    /// The gateway's name for the event (`AUTHORISATION`, `payment_intent.succeeded`, `PAYMENT.CAPTURE.COMPLETED`).
    pub event: String,
    /// The same for every delivery of this event, and for no other event.
    pub event_id: String,
    /// Which leg of a payment it speaks of; `None` when it speaks of no attempt that Sentinel makes (disputes, payouts).
    pub leg: Option<Leg>,
    /// The reference that the request carried: Sentinel's own or the merchant's.
    pub reference: Option<String>,
    /// The idempotency key of the request that it came of, where the gateway says it.
    pub key: Option<String>,
    /// The account that it is of, by the name of the credential that holds it, where one key signs for several.
    pub account: Option<(&'static str, String)>,
    /// What it proves, with the gateway's ids.
    pub observation: Observation,
    /// When it happened at the gateway, seconds of Unix time.
    pub occurred_at: Option<i64>,
}

/// Why a webhook is not believed. The words tell the operator, never the sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// This dialect has no webhooks that Sentinel reads.
    #[error("webhooks of this gateway are not supported")]
    Unsupported,
    /// A key that is needed for verification is not configured.
    #[error("webhook key {0} is not configured")]
    Unconfigured(&'static str),
    /// The signature, or a header that belongs to it, is missing.
    #[error("webhook is not signed")]
    Unsigned,
    /// The signature is wrong.
    #[error("webhook signature does not hold")]
    Forged,
    /// The signature holds, but it is older or newer than the gateway's tolerance: a replay.
    #[error("webhook is too old")]
    Stale,
    /// The signature holds, but the body is not what the gateway documents.
    #[error("webhook is malformed: {0}")]
    Malformed(&'static str),
    /// The gateway has to be asked first whether the signature holds ([`super::Gateway::vouching`]). Nothing is believed
    /// yet.
    #[error("the gateway has to be asked about the webhook")]
    ToBeVouched,
}
