//! What names a payment, and the keyed hash that the ledger knows it by.

use uuid::Uuid;

use super::super::core::KeyKind;
use super::Route;
use crate::gateway::canonical::Pay;
use crate::ledger::keys::{Keys, Purpose};
use crate::ledger::rows::Awaited;

/// The keyed hash of a payment that the application names by its idempotency key alone, by POST.
pub fn key_hash(keys: &Keys, route: &Route, key: &str) -> [u8; 32] {
    let source = KeySource::Application {
        method: "POST".to_owned(),
        key: key.to_owned(),
        path: None,
    };
    source.hash(keys, route, Uuid::nil(), 0)
}

/// The keyed hash of an order reference of the merchant whose books these are.
pub fn order_hash(keys: &Keys, tenant: &str, reference: &str) -> [u8; 32] {
    keys.hash(Purpose::OrderReference, &[tenant.as_bytes(), reference.as_bytes()])
}

/// What names a payment.
pub(super) enum KeySource {
    /// The application's idempotency key.
    Application {
        /// The request's method.
        method: String,
        /// The key.
        key: String,
        /// The path, where the gateway keeps keys for each kind of call apart.
        path: Option<String>,
    },
    /// The order in the request: reference, amount, currency and payer.
    Natural(Vec<String>),
    /// The gateway's own object that is paid once (Razorpay's order).
    Order(String),
    /// Nothing: a repeat is a new payment.
    None,
}

impl KeySource {
    /// The order that a request names; `None` when it names none.
    pub fn natural(pay: &Pay) -> Option<Self> {
        let reference = pay.reference.clone()?;
        let amount = pay.amount?;
        let payer = [&pay.customer, &pay.buyer.email, &pay.buyer.phone];
        let payer = payer.into_iter().flatten().next().cloned().unwrap_or_default();
        Some(Self::Natural(vec![
            reference,
            amount.units.to_string(),
            amount.currency.code().to_owned(),
            payer,
        ]))
    }

    /// Whether the same name may mean another payment after a time.
    pub fn ages(&self) -> bool {
        matches!(self, Self::Natural(_))
    }

    /// The kind of key.
    pub fn kind(&self) -> KeyKind {
        match self {
            Self::Application { .. } => KeyKind::Application,
            Self::Natural(_) | Self::Order(_) => KeyKind::Natural,
            Self::None => KeyKind::None,
        }
    }

    /// The first payment of this name, whether it is opened yet or not.
    pub fn named(&self, keys: &Keys, route: &Route) -> Awaited {
        Awaited::Key(self.hash(keys, route, Uuid::nil(), 0))
    }

    /// The keyed hash under which the ledger knows the payment. `generation` counts the payments that one order had
    /// before: declined ones, and such as are older than the route's window.
    pub fn hash(&self, keys: &Keys, route: &Route, payment: Uuid, generation: u32) -> [u8; 32] {
        let generation = generation.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![route.tenant().as_bytes(), route.name().as_bytes()];
        match self {
            Self::Application { method, key, path } => {
                parts.push(b"application");
                parts.push(method.as_bytes());
                parts.push(key.as_bytes());
                parts.push(path.as_deref().unwrap_or_default().as_bytes());
            }
            Self::Natural(order) => {
                parts.push(b"natural");
                parts.extend(order.iter().map(String::as_bytes));
                parts.push(&generation);
            }
            Self::Order(order) => {
                parts.push(b"order");
                parts.push(order.as_bytes());
                parts.push(&generation);
            }
            Self::None => {
                parts.push(b"none");
                parts.push(payment.as_bytes());
            }
        }
        keys.hash(Purpose::IdempotencyKey, &parts)
    }
}
