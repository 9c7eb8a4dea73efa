//! Refunds.

use bytes::Bytes;
use http::Response;
use serde_json::{Map, Value};

use super::Razorpay;
use super::answers::{Failure, collection, ok};
use super::objects::{Refund, Status, notes};
use crate::sandbox::books::{Effect, Kind};
use crate::sandbox::{Scheduled, Turn};

impl Razorpay {
    pub(super) fn refund(
        &mut self,
        now: i64,
        id: &str,
        body: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<Response<Bytes>, Failure> {
        let refund = self.id("rfnd_");
        let delay = self.refund_delay;
        let payment = self.payments.get_mut(id).ok_or(Failure::ID)?;
        if payment.status != Status::Captured {
            return Err(Failure::invalid(
                "The payment status should be captured for action to be taken",
            ));
        }
        let value = match body.get("amount") {
            None | Some(Value::Null) => payment.value - payment.refunding,
            Some(value) if value.is_i64() || value.is_u64() => value.as_i64().unwrap_or_default(),
            Some(_) => return Err(Failure::invalid("The amount must be an integer.")),
        };
        if payment.refunding == payment.value {
            return Err(Failure::invalid("The payment has been fully refunded already"));
        }
        if value < 100 && payment.currency == "INR" {
            return Err(Failure::because(
                "amount_less_than_minimum_amount",
                "The amount must be atleast INR 1.00",
            ));
        }
        if value <= 0 || payment.refunding + value > payment.value {
            return Err(Failure::because(
                "refund_limit_crossed",
                "The refund amount is greater than the amount captured",
            ));
        }
        payment.refunding += value;
        let kept = Refund {
            id: refund.clone(),
            payment: payment.id.clone(),
            value,
            currency: payment.currency.clone(),
            receipt: body.get("receipt").and_then(Value::as_str).map(str::to_owned),
            notes: notes(body),
            status: "pending",
            key: None,
            made: now,
        };
        let shown = kept.shown();
        turn.scheduled.push(Scheduled {
            after: delay,
            token: format!("refund:{refund}"),
        });
        self.made.push(refund.clone());
        self.refunds.insert(refund, kept);
        self.notify("refund.created", &shown, now, turn);
        Ok(ok(&shown))
    }

    /// An accepted refund is processed, or fails.
    pub(super) fn finish_refund(&mut self, now: i64, id: &str, turn: &mut Turn) {
        let Some(refund) = self.refunds.get_mut(id) else { return };
        let Some(payment) = self.payments.get_mut(&refund.payment) else {
            return;
        };
        let event = if self.refunds_fail {
            refund.status = "failed";
            payment.refunding -= refund.value;
            "refund.failed"
        } else {
            refund.status = "processed";
            payment.refunded += refund.value;
            turn.effects.push(Effect {
                id: refund.id.clone(),
                key: refund.key.clone(),
                ..payment.effect(Kind::Refund, refund.value)
            });
            "refund.processed"
        };
        let shown = refund.shown();
        self.notify(event, &shown, now, turn);
    }

    pub(super) fn show_refund(&self, id: &str) -> Result<Response<Bytes>, Failure> {
        let refund = self.refunds.get(id).ok_or(Failure::ID)?;
        Ok(ok(&refund.shown()))
    }

    pub(super) fn refunds_of(&self, id: &str) -> Result<Response<Bytes>, Failure> {
        self.payments.get(id).ok_or(Failure::ID)?;
        let refunds = self.made.iter().filter_map(|made| self.refunds.get(made));
        Ok(collection(
            refunds
                .filter(|refund| refund.payment == id)
                .map(Refund::shown)
                .collect(),
        ))
    }
}
