//! What a route may do with a payment when its first gateway fails. The meaning of each mode, and what it promises:
//! `payment` and its core; the default of each setting: [`crate::config::defaults`].

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How failover is made safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No failover.
    Off,
    /// Fence the first gateway, then fail over.
    Fence,
    /// Authorise only, one durable winner, capture only the winner.
    Gated,
    /// Fail over, and void or refund the loser later.
    Compensate,
}

impl Mode {
    /// The name in configuration, labels and ledger.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Fence => "fence",
            Self::Gated => "gated",
            Self::Compensate => "compensate",
        }
    }
}

/// What names a payment whose request carries no idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyPolicy {
    /// Nothing: a repeat is a new payment, as it would be at the gateway, and failover stays inside this one request, on
    /// proof that nothing was done.
    Transparent,
    /// The order reference, amount, currency and payer in the request.
    Natural,
    /// Such a request is answered 400.
    Required,
}

impl KeyPolicy {
    /// The name in configuration and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transparent => "transparent",
            Self::Natural => "natural",
            Self::Required => "required",
        }
    }
}

/// What becomes of a payment without a key whose answer could not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Undelivered {
    /// It stays.
    Keep,
    /// It is voided or refunded.
    Void,
}

/// A route's failover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// How it is made safe; [`Mode::Off`] where the route has one gateway.
    pub mode: Mode,
    /// Whether a decline that another acquirer may decide otherwise is tried at the next gateway.
    pub on_soft_decline: bool,
    /// Whether a decline that was the gateway's own trouble, not the issuer's, is tried at the next gateway.
    pub on_gateway_decline: bool,
    /// Whether a fault of the merchant's account at a gateway counts as that gateway's outage.
    pub on_account_fault: bool,
    /// How many declines of one payment may lead to another gateway.
    pub max_declines: u8,
    /// How often a request that provably did not leave on a reused connection goes to the same gateway again.
    pub same_gateway_retries: u8,
    /// When the application is answered at the latest; what is not known then is in doubt.
    pub deadline: Duration,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// `gated`: how long the first authorisation may take before the second begins.
    pub hedge_after: Duration,
    /// What names a payment without a key.
    pub key: KeyPolicy,
    /// `natural`: how long the same reference means the same payment.
    pub natural_window: Duration,
    /// Whether one order reference may have one payment only that did not fail: catches applications that retry with a
    /// new key.
    pub order_guard: bool,
    /// Whether a card number in the request may be sent to another gateway; in memory only.
    pub raw_cards: bool,
    /// Whether a fence counts only with a fresh certificate, from a run against the gateway itself.
    pub require_certificate: bool,
    /// Whether the first gateway is fenced before any use of the next one, even when nothing was sent to it.
    pub fence_before_secondary: bool,
    /// The age at which "nothing found" by a weak fence is believed: an assumption about the gateway's queues, never
    /// made unless it is set.
    pub assume_quiescent_after: Option<Duration>,
    /// What becomes of a payment without a key whose answer could not be delivered.
    pub undelivered: Undelivered,
    /// The age at which a payment in doubt is given to a person; `None` for a day, or two hours before its gateway forgets
    /// its key.
    pub manual_after: Option<Duration>,
}
