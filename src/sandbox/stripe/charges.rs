//! Charges without an intent, and refunds of both.

use super::cards::Verdict;
use super::errors::Failure;
use super::objects::{self, card_error};
use super::state::{Charge, Refund, Status};
use super::{Call, Outcome, Stripe, currencies};
use crate::sandbox::books::Kind;
use crate::sandbox::{Scheduled, Turn};

const CREATE: [&str; 20] = [
    "amount",
    "application_fee",
    "application_fee_amount",
    "capture",
    "currency",
    "customer",
    "description",
    "destination",
    "expand",
    "metadata",
    "on_behalf_of",
    "radar_options",
    "receipt_email",
    "shipping",
    "source",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_data",
    "transfer_group",
    "card",
];

impl Stripe {
    pub(super) fn charge(&self, id: &str) -> Result<&Charge, Failure> {
        self.charges.get(id).ok_or_else(|| Failure::no_such("charge", id))
    }

    pub(super) fn create_charge(&mut self, call: &Call<'_>, turn: &mut Turn) -> Outcome {
        let params = &call.params;
        params.only(&CREATE)?;
        let amount = params.integer("amount")?.ok_or_else(|| Failure::missing("amount"))?;
        let currency = currencies::currency(params.required("currency")?)?;
        currencies::chargeable(amount, &currency)?;
        let capture = params.text("capture") != Some("false");
        let customer = params.text("customer").map(str::to_owned);
        let source = match (params.text("source"), &customer) {
            (Some(source), _) => self.resolve_method(call, source)?,
            (None, Some(customer)) => {
                let default = self.customer(customer)?.default.clone();
                default.ok_or_else(|| {
                    Failure::coded("missing", "card", "Cannot charge a customer that has no active card")
                })?
            }
            (None, None) => {
                return Err(Failure::coded(
                    "parameter_missing",
                    "source",
                    "Must provide source or customer.",
                ));
            }
        };
        let used = self
            .methods
            .get(&source)
            .ok_or_else(|| Failure::no_such("source", &source))?;
        let (card, billing) = (used.card.clone(), used.billing.clone());
        let failure = match card.verdict {
            Verdict::Decline(code, decline) => Some((code, decline, false)),
            Verdict::DeclineWhenCharged | Verdict::ChallengeThenDecline => {
                Some(("card_declined", Some("generic_decline"), false))
            }
            // Charges know no challenge: the bank refuses without one.
            Verdict::Challenge => Some(("authentication_required", Some("authentication_required"), false)),
            Verdict::Blocked => Some(("card_declined", Some("fraudulent"), true)),
            Verdict::Approve | Verdict::RefundFails | Verdict::RefundPends => None,
        };
        let charge = Charge {
            id: self.id("ch_3", 23),
            intent: None,
            amount,
            currency,
            created: call.now,
            customer,
            description: params.text("description").map(str::to_owned),
            metadata: super::merged(indexmap::IndexMap::new(), params)?,
            method: source.replacen("pm_", "card_", 1),
            card,
            billing,
            shipping: objects::shipping(params.inside("shipping").as_ref()),
            receipt_email: params.text("receipt_email").map(str::to_owned),
            statement: [
                params.text("statement_descriptor").map(str::to_owned),
                params.text("statement_descriptor_suffix").map(str::to_owned),
            ],
            captured: if capture && failure.is_none() { amount } else { 0 },
            is_captured: capture && failure.is_none(),
            refunded: 0,
            released: false,
            failure,
            authenticated: false,
        };
        let id = charge.id.clone();
        if failure.is_none() {
            turn.effects.push(charge.effect(Kind::Auth, &id, amount, call.key));
            if capture {
                turn.effects.push(charge.effect(Kind::Capture, &id, amount, call.key));
            }
        }
        self.charges.insert(id.clone(), charge);
        if let Some((code, decline, _)) = failure {
            self.charge_event(call, "charge.failed", &id, turn);
            return Err(Failure::card(card_error(code, decline, Some(&id))));
        }
        self.charge_event(call, "charge.succeeded", &id, turn);
        Ok(self.show_charge(self.charge(&id)?, call.old))
    }

    pub(super) fn update_charge(&mut self, call: &Call<'_>, id: &str) -> Outcome {
        let params = &call.params;
        params.only(&[
            "customer",
            "description",
            "expand",
            "fraud_details",
            "metadata",
            "receipt_email",
            "shipping",
            "transfer_group",
        ])?;
        let metadata = super::merged(self.charge(id)?.metadata.clone(), params)?;
        if let Some(charge) = self.charges.get_mut(id) {
            charge.metadata = metadata;
            if let Some(text) = params.text("description") {
                charge.description = Some(text.to_owned());
            }
        }
        Ok(self.show_charge(self.charge(id)?, call.old))
    }

    pub(super) fn capture_charge(&mut self, call: &Call<'_>, id: &str, turn: &mut Turn) -> Outcome {
        let params = &call.params;
        params.only(&[
            "amount",
            "application_fee",
            "application_fee_amount",
            "expand",
            "receipt_email",
            "statement_descriptor",
            "statement_descriptor_suffix",
            "transfer_data",
            "transfer_group",
        ])?;
        let charge = self.charge(id)?.clone();
        if charge.intent.is_some() {
            return Err(Failure::refused(
                "This charge belongs to a PaymentIntent; capture the PaymentIntent instead.",
            ));
        }
        if charge.is_captured {
            return Err(Failure::state(
                "charge_already_captured",
                &format!("Charge {id} has already been captured."),
            ));
        }
        if charge.released {
            return Err(Failure::state(
                "charge_expired_for_capture",
                "Charge expired or was released and cannot be captured.",
            ));
        }
        let amount = params.integer("amount")?.unwrap_or(charge.amount);
        if amount < 1 || amount > charge.held() {
            return Err(
                Failure::state("amount_too_large", "You cannot capture more than what was held.")
                    .with("param", "amount"),
            );
        }
        turn.effects.push(charge.effect(Kind::Capture, id, amount, call.key));
        if amount < charge.amount {
            turn.effects
                .push(charge.effect(Kind::Void, id, charge.amount - amount, call.key));
        }
        if let Some(charge) = self.charges.get_mut(id) {
            charge.captured = amount;
            charge.is_captured = true;
        }
        self.charge_event(call, "charge.captured", id, turn);
        Ok(self.show_charge(self.charge(id)?, call.old))
    }

    pub(super) fn refund(&self, id: &str) -> Result<&Refund, Failure> {
        self.refunds.get(id).ok_or_else(|| Failure::no_such("refund", id))
    }

    /// `of` is the charge that the path names, where it does.
    pub(super) fn create_refund(&mut self, call: &Call<'_>, of: Option<&str>, turn: &mut Turn) -> Outcome {
        let params = &call.params;
        params.only(&[
            "amount",
            "charge",
            "currency",
            "customer",
            "expand",
            "instructions_email",
            "metadata",
            "origin",
            "payment_intent",
            "reason",
            "refund_application_fee",
            "reverse_transfer",
        ])?;
        let charge = match (of.or(params.text("charge")), params.text("payment_intent")) {
            (Some(charge), _) => self.charge(charge)?.clone(),
            (None, Some(intent)) => {
                let intent = self.intent(intent)?;
                let charge = intent.charge.as_ref().and_then(|charge| self.charges.get(charge));
                charge
                    .filter(|charge| charge.failure.is_none())
                    .cloned()
                    .ok_or_else(|| {
                        Failure::refused(&format!(
                            "This PaymentIntent ({}) does not have a successful charge to refund.",
                            intent.id
                        ))
                    })?
            }
            (None, None) => return Err(Failure::missing("payment_intent")),
        };
        let reason = params.word("reason", &["duplicate", "fraudulent", "requested_by_customer"])?;
        let metadata = super::merged(indexmap::IndexMap::new(), params)?;
        let given = params.integer("amount")?;
        if charge.failure.is_some() {
            return Err(Failure::refused(&format!(
                "Charge {} failed and cannot be refunded.",
                charge.id
            )));
        }
        let left = if charge.is_captured {
            charge.refundable()
        } else {
            charge.held()
        };
        if left <= 0 {
            return Err(Failure::state(
                "charge_already_refunded",
                &format!("Charge {} has already been refunded.", charge.id),
            ));
        }
        let amount = given.unwrap_or(left);
        if amount < 1 {
            return Err(Failure::coded(
                "parameter_invalid_integer",
                "amount",
                "Invalid positive integer",
            ));
        }
        if amount > left {
            return Err(Failure::refused(&format!(
                "Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
            ))
            .with("param", "amount"));
        }
        if !charge.is_captured {
            if amount < left {
                return Err(Failure::refused(
                    "You cannot partially refund an uncaptured charge. Instead, capture the charge for an amount less than the original amount",
                ));
            }
            turn.effects
                .push(charge.effect(Kind::Void, &charge.id, amount, call.key));
        }
        let id = self.id("re_3", 23);
        let status = match charge.card.verdict {
            Verdict::RefundPends if charge.is_captured => "pending",
            _ => "succeeded",
        };
        if charge.is_captured && status == "succeeded" {
            turn.effects.push(charge.effect(Kind::Refund, &id, amount, call.key));
        }
        self.refunds.insert(
            id.clone(),
            Refund {
                id: id.clone(),
                charge: charge.id.clone(),
                amount,
                created: call.now,
                reason,
                metadata,
                status,
            },
        );
        let released = !charge.is_captured;
        if let Some(charge) = self.charges.get_mut(&charge.id) {
            charge.refunded += amount;
            charge.released |= released;
        }
        if let Some(intent) = charge.intent.as_ref().and_then(|intent| self.intents.get_mut(intent))
            && released
        {
            intent.status = Status::Canceled;
            intent.canceled_at = Some(call.now);
        }
        if matches!(charge.card.verdict, Verdict::RefundFails | Verdict::RefundPends) && charge.is_captured {
            turn.scheduled.push(Scheduled {
                after: self.refund_delay,
                token: id.clone(),
            });
        }
        self.refund_event(call, "refund.created", &id, turn);
        self.charge_event(call, "charge.refunded", &charge.id, turn);
        Ok(self.show_refund(self.refund(&id)?))
    }

    pub(super) fn update_refund(&mut self, call: &Call<'_>, id: &str) -> Outcome {
        call.params.only(&["expand", "metadata"])?;
        let metadata = super::merged(self.refund(id)?.metadata.clone(), &call.params)?;
        if let Some(refund) = self.refunds.get_mut(id) {
            refund.metadata = metadata;
        }
        Ok(self.show_refund(self.refund(id)?))
    }

    /// A refund that was accepted comes to its end: what was pending succeeds, what had succeeded fails.
    pub(super) fn settle_refund(&mut self, call: &Call<'_>, id: &str, turn: &mut Turn) {
        let Some(refund) = self.refunds.get_mut(id) else { return };
        let (status, kind, event) = match refund.status {
            "pending" => ("succeeded", Kind::Refund, "refund.updated"),
            _ => ("failed", Kind::RefundFailed, "refund.failed"),
        };
        refund.status = status;
        let (charge, amount) = (refund.charge.clone(), refund.amount);
        if let Some(charge) = self.charges.get_mut(&charge) {
            turn.effects.push(charge.effect(kind, id, amount, None));
            if kind == Kind::RefundFailed {
                charge.refunded -= amount;
            }
        }
        self.refund_event(call, event, id, turn);
    }
}
