//! What the simulator remembers.

use indexmap::IndexMap;
use serde_json::Value;

use super::cards::Card;
use crate::sandbox::books::{Effect, Kind};

/// A payment intent's status, and the word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    NeedsMethod,
    NeedsConfirmation,
    NeedsAction,
    NeedsCapture,
    Succeeded,
    Canceled,
}

impl Status {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::NeedsMethod => "requires_payment_method",
            Self::NeedsConfirmation => "requires_confirmation",
            Self::NeedsAction => "requires_action",
            Self::NeedsCapture => "requires_capture",
            Self::Succeeded => "succeeded",
            Self::Canceled => "canceled",
        }
    }
}

pub(super) type Metadata = IndexMap<String, String>;

#[derive(Clone, Debug)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) status: Status,
    pub(super) capture_method: &'static str,
    pub(super) confirmation_method: &'static str,
    pub(super) created: i64,
    pub(super) customer: Option<String>,
    pub(super) description: Option<String>,
    pub(super) metadata: Metadata,
    pub(super) method: Option<String>,
    pub(super) charge: Option<String>,
    pub(super) last_error: Option<Value>,
    pub(super) canceled_at: Option<i64>,
    pub(super) cancellation_reason: Option<&'static str>,
    pub(super) received: i64,
    pub(super) receipt_email: Option<String>,
    pub(super) return_url: Option<String>,
    pub(super) setup_future_usage: Option<&'static str>,
    pub(super) shipping: Value,
    pub(super) statement: [Option<String>; 2],
    pub(super) types: Vec<String>,
    pub(super) automatic: Option<Value>,
    pub(super) off_session: bool,
    /// `base` of the request that left it waiting for the customer.
    pub(super) action_base: Option<String>,
    /// The key it was created with.
    pub(super) key: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Charge {
    pub(super) id: String,
    pub(super) intent: Option<String>,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) created: i64,
    pub(super) customer: Option<String>,
    pub(super) description: Option<String>,
    pub(super) metadata: Metadata,
    pub(super) method: String,
    pub(super) card: Card,
    pub(super) billing: Value,
    pub(super) shipping: Value,
    pub(super) receipt_email: Option<String>,
    pub(super) statement: [Option<String>; 2],
    /// Taken; zero while it is only held.
    pub(super) captured: i64,
    pub(super) is_captured: bool,
    /// Given back or released.
    pub(super) refunded: i64,
    /// The hold is over without a capture.
    pub(super) released: bool,
    /// Declined: code, decline code, whether it was blocked before the network.
    pub(super) failure: Option<(&'static str, Option<&'static str>, bool)>,
    /// The customer was authenticated.
    pub(super) authenticated: bool,
}

impl Charge {
    /// What can still be given back.
    pub(super) fn refundable(&self) -> i64 {
        self.captured - self.refunded
    }

    /// What is still held.
    pub(super) fn held(&self) -> i64 {
        if self.failure.is_some() || self.is_captured || self.released {
            0
        } else {
            self.amount
        }
    }

    /// An entry for the books.
    pub(super) fn effect(&self, kind: Kind, id: &str, units: i64, key: Option<&str>) -> Effect {
        let order = [
            "order_id",
            "order",
            "order_reference",
            "reference",
            "merchant_reference",
        ]
        .iter()
        .find_map(|name| self.metadata.get(*name));
        Effect {
            kind,
            payment: self.intent.clone().unwrap_or_else(|| self.id.clone()),
            id: id.to_owned(),
            units,
            exponent: super::currencies::exponent(&self.currency),
            currency: self.currency.to_ascii_uppercase(),
            key: key.map(str::to_owned),
            reference: self.metadata.get("sentinel_payment").cloned(),
            order: order.cloned(),
            instrument: Some(format!("{} {}", self.card.brand, self.card.last4)),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) charge: String,
    pub(super) amount: i64,
    pub(super) created: i64,
    pub(super) reason: Option<&'static str>,
    pub(super) metadata: Metadata,
    pub(super) status: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct Method {
    pub(super) id: String,
    pub(super) card: Card,
    pub(super) billing: Value,
    pub(super) created: i64,
    pub(super) customer: Option<String>,
    pub(super) metadata: Metadata,
    /// It paid without belonging to a customer, or was detached: it never pays again.
    pub(super) spent: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Customer {
    pub(super) id: String,
    pub(super) created: i64,
    pub(super) deleted: bool,
    pub(super) fields: IndexMap<&'static str, String>,
    pub(super) address: Value,
    pub(super) shipping: Value,
    pub(super) metadata: Metadata,
    /// The method that legacy charges of the customer use.
    pub(super) default: Option<String>,
}

/// A one-time token of a card.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) id: String,
    pub(super) card: Card,
    pub(super) created: i64,
    pub(super) used: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) created: i64,
    pub(super) object: Value,
    pub(super) request: String,
    pub(super) key: Option<String>,
}
