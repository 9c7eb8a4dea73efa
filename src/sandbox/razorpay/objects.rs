//! Orders, payments and refunds as they are kept, and as Razorpay shows them.

use serde_json::{Map, Value, json};

use super::cards::{self, Why};
use crate::sandbox::books::{Effect, Kind};

/// An order.
pub(super) struct Order {
    pub(super) id: String,
    pub(super) value: i64,
    pub(super) currency: String,
    pub(super) receipt: Option<String>,
    pub(super) notes: Value,
    pub(super) automatic: bool,
    /// Seconds until an automatic capture is too late, and until a hold is returned.
    pub(super) captures_within: i64,
    pub(super) returns_after: i64,
    pub(super) attempts: u32,
    pub(super) paid: bool,
    pub(super) made: i64,
}

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    Authorized,
    Captured,
    /// Uncaptured, and given back.
    Returned,
    Failed(Why),
}

/// A payment.
#[derive(Clone)]
pub(super) struct Payment {
    pub(super) id: String,
    pub(super) order: String,
    pub(super) value: i64,
    pub(super) currency: String,
    pub(super) status: Status,
    pub(super) customer: Option<String>,
    pub(super) token: Option<String>,
    pub(super) last4: String,
    pub(super) email: String,
    pub(super) contact: String,
    pub(super) description: Option<String>,
    pub(super) notes: Value,
    /// What it fails with once it is decided.
    pub(super) fate: Option<Why>,
    pub(super) refunding: i64,
    pub(super) refunded: i64,
    pub(super) made: i64,
}

/// A refund.
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) payment: String,
    pub(super) value: i64,
    pub(super) currency: String,
    pub(super) receipt: Option<String>,
    pub(super) notes: Value,
    pub(super) status: &'static str,
    pub(super) key: Option<String>,
    pub(super) made: i64,
}

/// Notes as they are shown: `[]` where there are none.
pub(super) fn notes(body: &Map<String, Value>) -> Value {
    match body.get("notes") {
        Some(Value::Object(map)) if !map.is_empty() => Value::Object(map.clone()),
        _ => json!([]),
    }
}

impl Order {
    pub(super) fn shown(&self) -> Value {
        let status = match (self.paid, self.attempts) {
            (true, _) => "paid",
            (false, 0) => "created",
            _ => "attempted",
        };
        let paid = if self.paid { self.value } else { 0 };
        json!({"id": self.id, "entity": "order", "amount": self.value, "amount_paid": paid,
            "amount_due": self.value - paid, "currency": self.currency, "receipt": self.receipt, "offer_id": null,
            "status": status, "attempts": self.attempts, "notes": self.notes, "created_at": self.made})
    }
}

impl Payment {
    fn note(&self, name: &str) -> Option<String> {
        self.notes.get(name).and_then(Value::as_str).map(str::to_owned)
    }

    pub(super) fn effect(&self, kind: Kind, units: i64) -> Effect {
        Effect {
            kind,
            payment: self.id.clone(),
            id: self.id.clone(),
            units,
            exponent: cards::exponent(&self.currency).unwrap_or(2),
            currency: self.currency.clone(),
            key: None,
            reference: self.note("sentinel_payment"),
            // The merchant's order: in the notes where Sentinel wrote the request, else Razorpay's own.
            order: self.note("order").or_else(|| Some(self.order.clone())),
            instrument: self.token.clone().or_else(|| Some(format!("card {}", self.last4))),
        }
    }

    pub(super) fn shown(&self) -> Value {
        let whole = self.refunded == self.value;
        let status = match self.status {
            Status::Created => "created",
            Status::Authorized => "authorized",
            Status::Captured if whole => "refunded",
            Status::Captured => "captured",
            Status::Returned => "refunded",
            Status::Failed(_) => "failed",
        };
        let refund_status = match (self.refunded, whole) {
            (0, _) => Value::Null,
            (_, true) => "full".into(),
            _ => "partial".into(),
        };
        let captured = self.status == Status::Captured;
        let why = match self.status {
            Status::Failed(why) => Some(why),
            _ => None,
        };
        json!({
            "id": self.id, "entity": "payment", "amount": self.value, "currency": self.currency, "status": status,
            "order_id": self.order, "invoice_id": null, "international": false, "method": "card",
            "amount_refunded": self.refunded, "refund_status": refund_status, "captured": captured,
            "description": self.description, "card_id": "card_KOdY30ajbuyOYN",
            "card": {"id": "card_KOdY30ajbuyOYN", "entity": "card", "name": "", "last4": self.last4, "network": "Visa",
                "type": "debit", "issuer": "HDFC", "international": false, "emi": false, "sub_type": "consumer",
                "token_iin": null},
            "bank": null, "wallet": null, "vpa": null, "email": self.email, "contact": self.contact,
            "customer_id": self.customer, "token_id": self.token, "notes": self.notes,
            "fee": captured.then_some(24), "tax": captured.then_some(4),
            "error_code": why.map(|why| why.code), "error_description": why.map(|_| "Payment failed"),
            "error_source": why.map(|_| "issuer_bank"), "error_step": why.map(|_| "payment_authorization"),
            "error_reason": why.map(|why| why.reason),
            "acquirer_data": {"auth_code": "064381", "rrn": "215120027711"}, "created_at": self.made,
        })
    }
}

impl Refund {
    pub(super) fn shown(&self) -> Value {
        json!({"id": self.id, "entity": "refund", "amount": self.value, "currency": self.currency,
            "payment_id": self.payment, "notes": self.notes, "receipt": self.receipt, "acquirer_data": {"arn": null},
            "created_at": self.made, "batch_id": null, "status": self.status, "speed_processed": "normal",
            "speed_requested": "normal"})
    }
}
