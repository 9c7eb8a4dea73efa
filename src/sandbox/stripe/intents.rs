//! Payment intents: create, confirm, capture, cancel, update.

use serde_json::{Value, json};

use super::cards::Verdict;
use super::errors::Failure;
use super::form::Params;
use super::objects::{self, card_error};
use super::state::{Charge, Intent, Method, Status};
use super::{Call, Outcome, Stripe, currencies};
use crate::sandbox::Turn;
use crate::sandbox::books::Kind;

const SHARED: [&str; 12] = [
    "allowed_payment_method_types",
    "amount_details",
    "capture_method",
    "excluded_payment_method_types",
    "expand",
    "hooks",
    "payment_details",
    "payment_method",
    "payment_method_data",
    "payment_method_options",
    "receipt_email",
    "setup_future_usage",
];
const CREATE: [&str; 30] = [
    "amount",
    "currency",
    "application_fee_amount",
    "automatic_payment_methods",
    "confirm",
    "confirmation_method",
    "confirmation_token",
    "customer",
    "customer_account",
    "description",
    "error_on_requires_action",
    "mandate",
    "mandate_data",
    "metadata",
    "off_session",
    "on_behalf_of",
    "payment_method_configuration",
    "payment_method_types",
    "radar_options",
    "return_url",
    "shipping",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_data",
    "transfer_group",
    "use_stripe_sdk",
    "source",
    "save_payment_method",
    "session_id",
    "level3",
];
const CONFIRM: [&str; 13] = [
    "amount_to_confirm",
    "confirmation_token",
    "error_on_requires_action",
    "mandate",
    "mandate_data",
    "off_session",
    "payment_method_types",
    "radar_options",
    "return_url",
    "shipping",
    "use_stripe_sdk",
    "source",
    "client_secret",
];
const CAPTURE: [&str; 11] = [
    "amount_details",
    "amount_to_capture",
    "application_fee_amount",
    "expand",
    "final_capture",
    "hooks",
    "metadata",
    "payment_details",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_data",
];
const METHODS: [&str; 3] = ["automatic", "automatic_async", "manual"];
/// An authorisation lives seven days.
const HOLD: i64 = 7 * 86_400;

impl Stripe {
    pub(super) fn intent(&self, id: &str) -> Result<&Intent, Failure> {
        self.intents
            .get(id)
            .ok_or_else(|| Failure::no_such("payment_intent", id))
    }

    pub(super) fn create_intent(&mut self, call: &Call<'_>, turn: &mut Turn) -> Outcome {
        let params = &call.params;
        params.only(&[&SHARED[..], &CREATE].concat())?;
        let amount = params.integer("amount")?.ok_or_else(|| Failure::missing("amount"))?;
        let currency = currencies::currency(params.required("currency")?)?;
        currencies::chargeable(amount, &currency)?;
        for gated in [
            "on_behalf_of",
            "transfer_data",
            "application_fee_amount",
            "confirmation_token",
        ] {
            if params.has(gated) {
                return Err(Failure::invalid(gated, &format!("The sandbox has no {gated}.")));
            }
        }
        let customer = params.text("customer").map(str::to_owned);
        if let Some(customer) = &customer {
            self.customer(customer)?;
        }
        let confirm = params.flag("confirm")?;
        let mut types = params.list("payment_method_types");
        types.extend(params.list("allowed_payment_method_types"));
        if let Some(other) = types.iter().find(|kind| !matches!(kind.as_str(), "card" | "link")) {
            let message = format!("The payment method type \"{other}\" is invalid.");
            return Err(Failure::invalid("payment_method_types", &message));
        }
        let automatic = params.inside("automatic_payment_methods");
        let redirects = automatic
            .as_ref()
            .and_then(|automatic| automatic.text("allow_redirects"));
        let dynamic = types.is_empty() && call.version.as_str() >= "2023-08-16";
        if confirm && dynamic && redirects != Some("never") && !params.has("return_url") {
            return Err(Failure::invalid(
                "return_url",
                "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. \
                Because some of these payment methods might redirect your customer off of your page, you must provide a `return_url`.",
            ));
        }
        let automatic = dynamic.then(|| json!({"allow_redirects": redirects.unwrap_or("always"), "enabled": true}));
        let method = self.chosen_method(call, customer.as_deref())?;
        let id = self.id("pi_3", 23);
        let intent = Intent {
            secret: format!("{id}_secret_{}", super::digits("secret", &id, 25)),
            id: id.clone(),
            amount,
            currency,
            status: if method.is_some() {
                Status::NeedsConfirmation
            } else {
                Status::NeedsMethod
            },
            capture_method: params.word("capture_method", &METHODS)?.unwrap_or(
                if call.version.as_str() >= "2024-04-10" && dynamic {
                    "automatic_async"
                } else {
                    "automatic"
                },
            ),
            confirmation_method: params
                .word("confirmation_method", &["automatic", "manual"])?
                .unwrap_or("automatic"),
            created: call.now,
            customer,
            description: params.text("description").map(str::to_owned),
            metadata: super::merged(indexmap::IndexMap::new(), params)?,
            method,
            charge: None,
            last_error: None,
            canceled_at: None,
            cancellation_reason: None,
            received: 0,
            receipt_email: params.text("receipt_email").map(str::to_owned),
            return_url: params.text("return_url").map(str::to_owned),
            setup_future_usage: params.word("setup_future_usage", &["off_session", "on_session"])?,
            shipping: objects::shipping(params.inside("shipping").as_ref()),
            statement: [
                params.text("statement_descriptor").map(str::to_owned),
                params.text("statement_descriptor_suffix").map(str::to_owned),
            ],
            types: if types.is_empty() {
                vec!["card".to_owned()]
            } else {
                types
            },
            automatic,
            off_session: false,
            action_base: None,
            key: call.key.map(str::to_owned),
        };
        self.intents.insert(id.clone(), intent);
        self.intent_event(call, "payment_intent.created", &id, turn);
        if confirm {
            return self.attempt_confirmation(call, &id, turn);
        }
        Ok(self.show_intent(self.intent(&id)?, call.old))
    }

    /// The method that a request brings: by id, by test name, or inline.
    fn chosen_method(&mut self, call: &Call<'_>, customer: Option<&str>) -> Result<Option<String>, Failure> {
        let params = &call.params;
        let id = match (
            params.inside("payment_method_data"),
            params.text("payment_method").or(params.text("source")),
        ) {
            (Some(data), _) => Some(self.inline_method(call, &data)?),
            (None, Some(given)) => Some(self.resolve_method(call, given)?),
            (None, None) => None,
        };
        if let Some(method) = id.as_ref().and_then(|id| self.methods.get(id)) {
            usable(method, customer)?;
        }
        Ok(id)
    }

    pub(super) fn update_intent(&mut self, call: &Call<'_>, id: &str) -> Outcome {
        let params = &call.params;
        params.only(&[&SHARED[..], &CREATE].concat())?;
        let intent = self.intent(id)?.clone();
        let open = matches!(
            intent.status,
            Status::NeedsMethod | Status::NeedsConfirmation | Status::NeedsAction
        );
        let money = [
            "amount",
            "currency",
            "payment_method",
            "payment_method_data",
            "customer",
        ];
        if !open && money.iter().any(|name| params.has(name)) {
            return Err(self.unexpected(call, &intent, "updated"));
        }
        let amount = params.integer("amount")?.unwrap_or(intent.amount);
        let currency = match params.text("currency") {
            Some(given) => currencies::currency(given)?,
            None => intent.currency.clone(),
        };
        currencies::chargeable(amount, &currency)?;
        let customer = match params.text("customer") {
            Some(customer) => {
                self.customer(customer)?;
                Some(customer.to_owned())
            }
            None => intent.customer.clone(),
        };
        let method = self.chosen_method(call, customer.as_deref())?;
        let metadata = super::merged(intent.metadata.clone(), params)?;
        if let Some(intent) = self.intents.get_mut(id) {
            intent.amount = amount;
            intent.currency = currency;
            intent.customer = customer;
            intent.metadata = metadata;
            if let Some(text) = params.text("description") {
                intent.description = Some(text.to_owned());
            }
            if let Some(text) = params.text("receipt_email") {
                intent.receipt_email = Some(text.to_owned());
            }
            if let Some(shipping) = params.inside("shipping") {
                intent.shipping = objects::shipping(Some(&shipping));
            }
            if method.is_some() {
                intent.method = method;
                intent.status = Status::NeedsConfirmation;
                intent.action_base = None;
            }
        }
        Ok(self.show_intent(self.intent(id)?, call.old))
    }

    pub(super) fn confirm_intent(&mut self, call: &Call<'_>, id: &str, turn: &mut Turn) -> Outcome {
        call.params.only(&[&SHARED[..], &CONFIRM].concat())?;
        let intent = self.intent(id)?.clone();
        let open = match intent.status {
            Status::NeedsMethod | Status::NeedsConfirmation | Status::NeedsAction => true,
            Status::Canceled => self.cancels_are_undone,
            _ => false,
        };
        if !open {
            return Err(self.unexpected(call, &intent, "confirmed"));
        }
        let capture = call.params.word("capture_method", &METHODS)?;
        let method = self.chosen_method(call, intent.customer.as_deref())?;
        if let Some(intent) = self.intents.get_mut(id) {
            intent.method = method.or_else(|| intent.method.take());
            intent.capture_method = capture.unwrap_or(intent.capture_method);
            if let Some(url) = call.params.text("return_url") {
                intent.return_url = Some(url.to_owned());
            }
            if let Some(shipping) = call.params.inside("shipping") {
                intent.shipping = objects::shipping(Some(&shipping));
            }
        }
        self.attempt_confirmation(call, id, turn)
    }

    fn attempt_confirmation(&mut self, call: &Call<'_>, id: &str, turn: &mut Turn) -> Outcome {
        let intent = self.intent(id)?;
        let Some(method) = intent.method.clone() else {
            let failure = Failure::state(
                "payment_intent_unexpected_state",
                "You cannot confirm this PaymentIntent because it's missing a payment method. \
                 You can either update the PaymentIntent with a payment method and then confirm it again, \
                 or confirm it again directly with a payment method or ConfirmationToken.",
            );
            return Err(failure.with("payment_intent", self.show_intent(intent, call.old)));
        };
        let off_session = matches!(call.params.text("off_session"), Some("true" | "one_off" | "recurring"));
        let forced = call
            .params
            .inside("payment_method_options")
            .and_then(|options| options.inside("card"))
            .and_then(|card| card.text("request_three_d_secure").map(str::to_owned))
            .is_some_and(|wish| wish == "challenge");
        let verdict = self
            .methods
            .get(&method)
            .map_or(Verdict::Approve, |method| method.card.verdict);
        let challenged =
            matches!(verdict, Verdict::Challenge | Verdict::ChallengeThenDecline) || (forced && !off_session);
        let refused = off_session || call.params.flag("error_on_requires_action")?;
        if let Some(intent) = self.intents.get_mut(id) {
            intent.off_session = off_session;
        }
        if challenged && refused {
            return self.decline(
                call,
                id,
                ("authentication_required", Some("authentication_required"), false),
                turn,
            );
        }
        if challenged {
            if let Some(intent) = self.intents.get_mut(id) {
                intent.status = Status::NeedsAction;
                intent.action_base = Some(call.base.to_owned());
                intent.last_error = None;
            }
            self.intent_event(call, "payment_intent.requires_action", id, turn);
            return Ok(self.show_intent(self.intent(id)?, call.old));
        }
        self.charge_intent(call, id, false, turn)
    }

    /// Asks the network: a charge, whatever becomes of it.
    pub(super) fn charge_intent(&mut self, call: &Call<'_>, id: &str, authenticated: bool, turn: &mut Turn) -> Outcome {
        let intent = self.intent(id)?.clone();
        let method = intent.method.as_ref().and_then(|method| self.methods.get(method));
        let verdict = method.map_or(Verdict::Approve, |method| method.card.verdict);
        let failure = match verdict {
            Verdict::Decline(code, decline) => Some((code, decline, false)),
            Verdict::DeclineWhenCharged => Some(("card_declined", Some("generic_decline"), false)),
            Verdict::ChallengeThenDecline => Some(("card_declined", Some("insufficient_funds"), false)),
            Verdict::Blocked => Some(("card_declined", Some("fraudulent"), true)),
            Verdict::Approve | Verdict::Challenge | Verdict::RefundFails | Verdict::RefundPends => None,
        };
        if let Some(failure) = failure {
            return self.decline(call, id, failure, turn);
        }
        let charge = self.new_charge(call, &intent, None, authenticated)?;
        let automatic = intent.capture_method != "manual";
        let key = call.key.or(intent.key.as_deref());
        turn.effects
            .push(charge.effect(Kind::Auth, &charge.id, charge.amount, key));
        if automatic {
            turn.effects
                .push(charge.effect(Kind::Capture, &charge.id, charge.amount, key));
        }
        let charge_id = charge.id.clone();
        if let Some(charge) = self.charges.get_mut(&charge_id)
            && automatic
        {
            charge.captured = charge.amount;
            charge.is_captured = true;
        }
        if let Some(intent) = self.intents.get_mut(id) {
            intent.charge = Some(charge_id.clone());
            intent.last_error = None;
            intent.action_base = None;
            intent.status = if automatic {
                Status::Succeeded
            } else {
                Status::NeedsCapture
            };
            intent.received = if automatic { intent.amount } else { 0 };
        }
        if let Some(method) = intent.method.as_ref().and_then(|method| self.methods.get_mut(method)) {
            match (&intent.customer, intent.setup_future_usage) {
                (Some(customer), Some(_)) if method.customer.is_none() => method.customer = Some(customer.clone()),
                _ => method.spent |= method.customer.is_none(),
            }
        }
        self.charge_event(call, "charge.succeeded", &charge_id, turn);
        let event = if automatic {
            "payment_intent.succeeded"
        } else {
            "payment_intent.amount_capturable_updated"
        };
        self.intent_event(call, event, id, turn);
        Ok(self.show_intent(self.intent(id)?, call.old))
    }

    fn new_charge(
        &mut self,
        call: &Call<'_>,
        intent: &Intent,
        failure: Option<(&'static str, Option<&'static str>, bool)>,
        authenticated: bool,
    ) -> Result<Charge, Failure> {
        let method = intent.method.clone().unwrap_or_default();
        let used = self
            .methods
            .get(&method)
            .ok_or_else(|| Failure::no_such("PaymentMethod", &method))?;
        let (card, billing) = (used.card.clone(), used.billing.clone());
        let charge = Charge {
            id: self.id("ch_3", 23),
            intent: Some(intent.id.clone()),
            amount: intent.amount,
            currency: intent.currency.clone(),
            created: call.now,
            customer: intent.customer.clone(),
            description: intent.description.clone(),
            metadata: intent.metadata.clone(),
            method,
            card,
            billing,
            shipping: intent.shipping.clone(),
            receipt_email: intent.receipt_email.clone(),
            statement: intent.statement.clone(),
            captured: 0,
            is_captured: false,
            refunded: 0,
            released: false,
            failure,
            authenticated,
        };
        self.charges.insert(charge.id.clone(), charge.clone());
        Ok(charge)
    }

    /// The intent goes back to where it wants another method, and the caller reads why.
    pub(super) fn decline(
        &mut self,
        call: &Call<'_>,
        id: &str,
        failure: (&'static str, Option<&'static str>, bool),
        turn: &mut Turn,
    ) -> Outcome {
        let intent = self.intent(id)?.clone();
        let charge = self.new_charge(call, &intent, Some(failure), false)?;
        let (code, decline, _) = failure;
        let mut error = card_error(code, decline, Some(&charge.id));
        if let Some(method) = self.methods.get(&charge.method) {
            error.insert("payment_method".to_owned(), objects::method(method));
        }
        if let Some(intent) = self.intents.get_mut(id) {
            intent.charge = Some(charge.id.clone());
            intent.last_error = Some(Value::Object(error.clone()));
            intent.status = Status::NeedsMethod;
            intent.method = None;
            intent.action_base = None;
        }
        self.charge_event(call, "charge.failed", &charge.id, turn);
        self.intent_event(call, "payment_intent.payment_failed", id, turn);
        let intent = self.show_intent(self.intent(id)?, call.old);
        Err(Failure::card(error).with("payment_intent", intent))
    }

    pub(super) fn capture_intent(&mut self, call: &Call<'_>, id: &str, turn: &mut Turn) -> Outcome {
        let params = &call.params;
        params.only(&CAPTURE)?;
        let intent = self.intent(id)?.clone();
        let wanted = params.integer("amount_to_capture")?;
        if params.text("final_capture") == Some("false") {
            return Err(Failure::invalid(
                "final_capture",
                "This account is not set up for multicapture.",
            ));
        }
        let charge = intent
            .charge
            .as_ref()
            .and_then(|charge| self.charges.get(charge))
            .cloned();
        let (Status::NeedsCapture, Some(charge)) = (intent.status, charge) else {
            return Err(self.unexpected(call, &intent, "captured"));
        };
        let amount = wanted.unwrap_or(charge.held());
        if amount < 1 || amount > charge.held() {
            return Err(Failure::state(
                "amount_too_large",
                &format!(
                    "The amount_to_capture ({amount}) must be between 1 and the capturable amount ({}).",
                    charge.held()
                ),
            )
            .with("param", "amount_to_capture"));
        }
        let metadata = super::merged(intent.metadata.clone(), params)?;
        turn.effects
            .push(charge.effect(Kind::Capture, &charge.id, amount, call.key));
        if amount < charge.amount {
            turn.effects
                .push(charge.effect(Kind::Void, &charge.id, charge.amount - amount, call.key));
        }
        if let Some(charge) = self.charges.get_mut(&charge.id) {
            charge.captured = amount;
            charge.is_captured = true;
        }
        if let Some(intent) = self.intents.get_mut(id) {
            intent.status = Status::Succeeded;
            intent.received = amount;
            intent.metadata = metadata;
        }
        self.charge_event(call, "charge.captured", &charge.id, turn);
        self.intent_event(call, "payment_intent.succeeded", id, turn);
        Ok(self.show_intent(self.intent(id)?, call.old))
    }

    pub(super) fn cancel_intent(&mut self, call: &Call<'_>, id: &str, turn: &mut Turn) -> Outcome {
        call.params.only(&["cancellation_reason", "expand"])?;
        let reasons = ["abandoned", "duplicate", "fraudulent", "requested_by_customer"];
        let reason = call.params.word("cancellation_reason", &reasons)?;
        let intent = self.intent(id)?.clone();
        if matches!(intent.status, Status::Succeeded | Status::Canceled) {
            return Err(self.unexpected(call, &intent, "canceled"));
        }
        self.cancel(call, id, reason, turn);
        Ok(self.show_intent(self.intent(id)?, call.old))
    }

    pub(super) fn cancel(&mut self, call: &Call<'_>, id: &str, reason: Option<&'static str>, turn: &mut Turn) {
        let charge = self.intents.get(id).and_then(|intent| intent.charge.clone());
        if let Some(charge) = charge.and_then(|charge| self.charges.get_mut(&charge)) {
            let held = charge.held();
            if held > 0 {
                turn.effects.push(charge.effect(Kind::Void, &charge.id, held, call.key));
                charge.released = true;
                charge.refunded = charge.amount;
            }
        }
        if let Some(intent) = self.intents.get_mut(id) {
            intent.status = Status::Canceled;
            intent.canceled_at = Some(call.now);
            intent.cancellation_reason = reason;
            intent.action_base = None;
        }
        self.intent_event(call, "payment_intent.canceled", id, turn);
    }

    /// Releases holds that are too old.
    pub(super) fn expire(&mut self, call: &Call<'_>, turn: &mut Turn) {
        let old: Vec<String> = self
            .intents
            .values()
            .filter(|intent| intent.status == Status::NeedsCapture)
            .filter(|intent| {
                let charge = intent.charge.as_ref().and_then(|charge| self.charges.get(charge));
                charge.is_some_and(|charge| call.now - charge.created >= HOLD)
            })
            .map(|intent| intent.id.clone())
            .collect();
        for id in old {
            self.cancel(call, &id, Some("automatic"), turn);
        }
    }

    /// The customer comes back from the bank.
    pub(super) fn authenticate(
        &mut self,
        call: &Call<'_>,
        id: &str,
        failed: bool,
        turn: &mut Turn,
    ) -> Result<Option<String>, Failure> {
        let intent = self.intent(id)?.clone();
        if intent.status == Status::NeedsAction {
            // Declined or not: the customer sees the shop's page, the shop sees the intent.
            let _ = if failed {
                self.decline(call, id, ("payment_intent_authentication_failure", None, false), turn)
            } else {
                self.charge_intent(call, id, true, turn)
            };
        }
        Ok(intent.return_url.map(|url| {
            let sign = if url.contains('?') { '&' } else { '?' };
            format!(
                "{url}{sign}payment_intent={id}&payment_intent_client_secret={}&redirect_status={}",
                intent.secret,
                if failed { "failed" } else { "succeeded" }
            )
        }))
    }

    fn unexpected(&self, call: &Call<'_>, intent: &Intent, verb: &str) -> Failure {
        Failure::state(
            "payment_intent_unexpected_state",
            &format!(
                "This PaymentIntent could not be {verb} because it has a status of {}.",
                intent.status.word()
            ),
        )
        .with("payment_intent", self.show_intent(intent, call.old))
    }
}

/// Whether a method may pay for this customer, or for none.
fn usable(method: &Method, customer: Option<&str>) -> Result<(), Failure> {
    match (&method.customer, customer) {
        (Some(owner), Some(customer)) if owner != customer => Err(Failure::invalid(
            "payment_method",
            &format!(
                "The customer does not have a payment method with the ID {}. The payment method must be attached to the customer.",
                method.id
            ),
        )),
        (Some(_), None) => Err(Failure::invalid(
            "payment_method",
            &format!(
                "The payment method supplied ({}) belongs to a Customer. Please include the Customer in the `customer` parameter on the PaymentIntent.",
                method.id
            ),
        )),
        _ if method.spent => Err(Failure::invalid(
            "payment_method",
            "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, shared with a connected \
             account without Customer attachment, or was detached from a Customer. It may not be used again.",
        )),
        _ => Ok(()),
    }
}

/// The inline card of `payment_method_data`, `card` or a token's `card`.
pub(super) fn raw_card(card: &Params, now: i64) -> Result<super::cards::Card, Failure> {
    let number = card.required("number")?;
    let month = card
        .integer("exp_month")?
        .ok_or_else(|| Failure::missing(&card.name("exp_month")))?;
    let year = card
        .integer("exp_year")?
        .ok_or_else(|| Failure::missing(&card.name("exp_year")))?;
    // Leap years aside: the year is all that matters here.
    super::cards::by_number(&card.name("number"), number, (month, year), 1970 + now / 31_556_952)
}
