//! Payments and what is done to them.

use bytes::Bytes;
use http::Response;
use serde_json::{Map, Value, json};

use super::answers::{Event, Failure, ok, received, webhook};
use super::cards::{self, Verdict};
use super::{AUTHORISATION_LIFE, Adyen, later};
use crate::sandbox::Turn;
use crate::sandbox::books::{Effect, Kind};

/// The fields of a payment request; Adyen refuses any other.
const FIELDS: &[&str] = &[
    "accountInfo",
    "additionalAmount",
    "additionalData",
    "amount",
    "applicationInfo",
    "authenticationData",
    "bankAccount",
    "billingAddress",
    "browserInfo",
    "captureDelayHours",
    "channel",
    "checkoutAttemptId",
    "company",
    "conversionId",
    "countryCode",
    "dateOfBirth",
    "dccQuote",
    "deliverAt",
    "deliveryAddress",
    "deliveryDate",
    "deviceFingerprint",
    "enableOneClick",
    "enablePayOut",
    "enableRecurring",
    "enhancedSchemeData",
    "entityType",
    "fraudOffset",
    "fundOrigin",
    "fundRecipient",
    "industryUsage",
    "installments",
    "lineItems",
    "localizedShopperStatement",
    "mandate",
    "mcc",
    "merchantAccount",
    "merchantOrderReference",
    "merchantRiskIndicator",
    "metadata",
    "mpiData",
    "order",
    "orderReference",
    "origin",
    "paymentMethod",
    "paymentValidations",
    "platformChargebackLogic",
    "recurringExpiry",
    "recurringFrequency",
    "recurringProcessingModel",
    "redirectFromIssuerMethod",
    "redirectToIssuerMethod",
    "reference",
    "returnUrl",
    "riskData",
    "sessionValidity",
    "shopperConversionId",
    "shopperEmail",
    "shopperIP",
    "shopperInteraction",
    "shopperLocale",
    "shopperName",
    "shopperReference",
    "shopperStatement",
    "shopperTaxInfo",
    "socialSecurityNumber",
    "splits",
    "store",
    "storePaymentMethod",
    "subMerchants",
    "surcharge",
    "telephoneNumber",
    "threeDS2RequestData",
    "threeDSAuthenticationOnly",
    "trustedShopper",
];

/// A payment that holds or held money, or waits for its shopper.
pub(super) struct Payment {
    psp: String,
    reference: String,
    order: String,
    value: i64,
    currency: String,
    instrument: String,
    key: Option<String>,
    made: i64,
    /// The shopper has not come back yet.
    challenged: bool,
    automatic: bool,
    held: i64,
    captured: i64,
    refunded: i64,
    answer: Value,
}

/// Something accepted and not yet done.
pub(super) struct Modification {
    psp: String,
    what: What,
    value: i64,
    reference: String,
    key: Option<String>,
}

enum What {
    Capture(String),
    Cancel(String),
    Refund(String),
    Reverse(String),
    /// By reference, whatever payment has it when the time comes.
    CancelReference,
    /// An accepted refund fails.
    FailRefund(String),
    /// Adyen does not adjust what was not authorised for it.
    Adjust(String),
}

struct Amount {
    value: i64,
    currency: String,
}

fn amount(body: &Map<String, Value>) -> Result<Amount, Failure> {
    let amount = body
        .get("amount")
        .ok_or(Failure::validation("100", "No amount specified"))?;
    let value = amount.get("value").and_then(Value::as_i64).filter(|value| *value >= 0);
    let value = value.ok_or(Failure::validation("137", "Invalid amount specified"))?;
    let currency = amount.get("currency").and_then(Value::as_str).unwrap_or_default();
    cards::exponent(currency).ok_or(Failure::validation("138", "Unsupported currency specified"))?;
    Ok(Amount {
        value,
        currency: currency.to_owned(),
    })
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// What a card must be, whatever the acquirer would say.
fn check_card(now: i64, method: &Map<String, Value>) -> Result<(), Failure> {
    let number = cards::card_field(method, "number", "encryptedCardNumber");
    let number = number.ok_or(Failure::validation("174", "Unable to decrypt data"))?;
    if !cards::luhn(&number) {
        return Err(Failure::validation("101", "Invalid card number"));
    }
    let month =
        cards::card_field(method, "expiryMonth", "encryptedExpiryMonth").and_then(|month| month.parse::<i16>().ok());
    let year = cards::card_field(method, "expiryYear", "encryptedExpiryYear").and_then(|year| year.parse::<i16>().ok());
    let (Some(month @ 1..=12), Some(year)) = (month, year) else {
        return Err(Failure::validation("129", "Expiry Date Invalid"));
    };
    let today = jiff::Timestamp::from_second(now)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string();
    if format!("{year:04}-{month:02}").as_str() < today.get(..7).unwrap_or_default() {
        return Err(Failure::validation("129", "Expiry Date Invalid"));
    }
    let cvc = cards::card_field(method, "cvc", "encryptedSecurityCode");
    let length = if cards::brand(&number) == "amex" { 4 } else { 3 };
    if cvc.is_some_and(|cvc| cvc.len() != length || !cvc.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(Failure::validation("103", "CVC is not the right length"));
    }
    Ok(())
}

impl Adyen {
    pub(super) fn pay(
        &mut self,
        now: i64,
        body: &Map<String, Value>,
        key: Option<String>,
        turn: &mut Turn,
    ) -> Result<Response<Bytes>, Failure> {
        if body.keys().any(|field| !FIELDS.contains(&field.as_str())) {
            return Err(Failure::validation(
                "702",
                "Structure of PaymentRequest contains unknown fields",
            ));
        }
        let Amount { value, currency } = amount(body)?;
        let reference = text(body, "reference").ok_or(Failure::validation("130", "Reference Missing"))?;
        text(body, "returnUrl").ok_or(Failure::validation("14_030", "Return URL is missing."))?;
        let method = body.get("paymentMethod").and_then(Value::as_object);
        let method = method.ok_or(Failure::validation("14_004", "Missing payment method details"))?;
        if reference.chars().count() > 80 {
            return Err(Failure::validation("130", "Reference too long"));
        }
        let (instrument, brand) = match text(method, "storedPaymentMethodId") {
            Some(id) => {
                text(body, "shopperReference").ok_or(Failure::validation("180", "Invalid shopperReference"))?;
                if id.len() != 16 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    return Err(Failure::validation("803", "PaymentDetail not found"));
                }
                (id.to_owned(), "visa")
            }
            None => {
                check_card(now, method)?;
                let number = cards::card_field(method, "number", "encryptedCardNumber").unwrap_or_default();
                let last = number
                    .get(number.len().saturating_sub(4)..)
                    .unwrap_or_default()
                    .to_owned();
                let brand = cards::brand(&number);
                (format!("{brand} {last}"), brand)
            }
        };
        let additional = |name: &str| {
            body.get("additionalData")
                .and_then(|data| data.get(name))
                .and_then(Value::as_str)
        };
        let automatic = match (
            additional("manualCapture"),
            body.get("captureDelayHours").and_then(Value::as_i64),
        ) {
            (Some("true"), _) => false,
            (_, Some(0)) => true,
            (_, Some(_)) => false,
            (_, None) => self.automatic,
        };
        let verdict = cards::verdict(body, method);
        match verdict {
            Verdict::Transient => return Err(Failure::OUTAGE),
            Verdict::Broken => return Err(Failure::INTERNAL),
            _ => {}
        }
        let psp = self.psp();
        let last4 = instrument.split(' ').nth(1).unwrap_or("1111").to_owned();
        let mut answer = json!({
            "additionalData": {"cardSummary": last4, "paymentMethod": brand, "expiryDate": "3/2030"},
            "pspReference": psp, "resultCode": "Authorised",
            "amount": {"currency": currency, "value": value}, "merchantReference": reference,
            "paymentMethod": {"type": "scheme", "brand": brand},
        });
        let mut payment = Payment {
            psp: psp.clone(),
            reference: reference.to_owned(),
            order: text(body, "merchantOrderReference").unwrap_or(reference).to_owned(),
            value,
            currency,
            instrument,
            key,
            made: now,
            challenged: false,
            automatic,
            held: 0,
            captured: 0,
            refunded: 0,
            answer: Value::Null,
        };
        match verdict {
            Verdict::Refused(code) => {
                answer["resultCode"] = cards::result(code).into();
                answer["refusalReason"] = cards::reason(code).into();
                answer["refusalReasonCode"] = code.into();
                self.notify_payment(now, &payment, false, cards::reason(code), turn);
                return Ok(ok(&answer));
            }
            Verdict::Received => {
                answer["resultCode"] = "Received".into();
                let object = answer.as_object_mut();
                object.and_then(|object| object.shift_remove("additionalData"));
                return Ok(ok(&answer));
            }
            Verdict::Challenge => {
                payment.challenged = true;
                payment.answer = answer;
                let action = json!({"type": "redirect", "method": "GET", "paymentMethodType": "scheme",
                    "url": format!("https://checkoutshopper-test.adyen.com/checkoutshopper/threeDS/{psp}")});
                let challenge = json!({"resultCode": "RedirectShopper", "pspReference": psp, "action": action});
                self.payments.insert(psp.clone(), payment);
                self.order.push(psp);
                return Ok(ok(&challenge));
            }
            _ => {}
        }
        Ok(self.authorise(now, payment, answer, turn))
    }

    fn authorise(&mut self, now: i64, mut payment: Payment, mut answer: Value, turn: &mut Turn) -> Response<Bytes> {
        answer["additionalData"]["authCode"] = "044925".into();
        answer["additionalData"]["refusalReasonRaw"] = "AUTHORISED".into();
        answer["additionalData"]["networkTxReference"] = format!("{:015}", self.counter % 1_000_000_000_000_000).into();
        // Nothing moves for a verification of an account.
        if payment.value > 0 {
            payment.held = payment.value;
            turn.effects
                .push(payment.effect(Kind::Auth, &payment.psp, payment.value, payment.key.clone()));
            if payment.automatic {
                payment.held = 0;
                payment.captured = payment.value;
                turn.effects
                    .push(payment.effect(Kind::Capture, &payment.psp, payment.value, payment.key.clone()));
            }
        }
        payment.challenged = false;
        self.notify_payment(now, &payment, true, "044925:1111:03/2030", turn);
        if !self.order.contains(&payment.psp) {
            self.order.push(payment.psp.clone());
        }
        self.payments.insert(payment.psp.clone(), payment);
        ok(&answer)
    }

    /// The shopper is back.
    pub(super) fn details(
        &mut self,
        now: i64,
        body: &Map<String, Value>,
        key: Option<String>,
        turn: &mut Turn,
    ) -> Result<Response<Bytes>, Failure> {
        let details = body.get("details").and_then(Value::as_object);
        let details = details.ok_or(Failure::validation(
            "14_006",
            "Required object 'details' is not provided.",
        ))?;
        let result = text(details, "redirectResult").or_else(|| text(details, "threeDSResult"));
        let result = result.ok_or(Failure::validation(
            "14_006",
            "Required object 'details' is not provided.",
        ))?;
        // The sandbox's redirect result is the payment's reference, with `:failed` behind it when the shopper failed.
        let (psp, failed) = match result.strip_suffix(":failed") {
            Some(psp) => (psp, true),
            None => (result, false),
        };
        let waiting = self.payments.get(psp).is_some_and(|payment| payment.challenged);
        if !waiting {
            return Err(Failure::DUPLICATE);
        }
        let Some(mut payment) = self.payments.remove(psp) else {
            return Err(Failure::ORIGINAL);
        };
        payment.key = key.or(payment.key);
        let mut answer = payment.answer.clone();
        if failed {
            answer["resultCode"] = "Refused".into();
            answer["refusalReason"] = cards::reason("11").into();
            answer["refusalReasonCode"] = "11".into();
            self.order.retain(|known| *known != payment.psp);
            self.notify_payment(now, &payment, false, cards::reason("11"), turn);
            return Ok(ok(&answer));
        }
        Ok(self.authorise(now, payment, answer, turn))
    }

    pub(super) fn modify(
        &mut self,
        psp: &str,
        verb: &str,
        body: &Map<String, Value>,
        key: Option<String>,
        turn: &mut Turn,
    ) -> Result<Response<Bytes>, Failure> {
        let target = psp.to_owned();
        let (what, priced) = match verb {
            "captures" => (What::Capture(target), true),
            "refunds" => (What::Refund(target), true),
            "cancels" => (What::Cancel(target), false),
            "reversals" => (What::Reverse(target), false),
            "amountUpdates" => (What::Adjust(target), true),
            _ => return Err(Failure::NOT_FOUND),
        };
        let payment = self
            .payments
            .get(psp)
            .filter(|payment| !payment.challenged)
            .ok_or(Failure::ORIGINAL)?;
        let amount = if priced { Some(amount(body)?) } else { None };
        if amount
            .as_ref()
            .is_some_and(|amount| amount.currency != payment.currency)
        {
            return Err(Failure::validation("137", "Invalid amount specified"));
        }
        let own = text(body, "reference").unwrap_or_default().to_owned();
        let value = amount.as_ref().map_or(payment.value, |amount| amount.value);
        let modification = self.psp();
        let mut answer = json!({"merchantAccount": self.merchant_account, "paymentPspReference": psp,
            "pspReference": modification, "status": "received"});
        if !own.is_empty() {
            answer["reference"] = own.clone().into();
        }
        if let Some(amount) = amount {
            answer["amount"] = json!({"currency": amount.currency, "value": amount.value});
        }
        turn.scheduled.push(later(self.modification_delay, &modification));
        let queued = Modification {
            psp: modification.clone(),
            what,
            value,
            reference: own,
            key,
        };
        self.modifications.insert(modification, queued);
        Ok(received(&answer))
    }

    pub(super) fn cancel_by_reference(
        &mut self,
        body: &Map<String, Value>,
        key: Option<String>,
        turn: &mut Turn,
    ) -> Result<Response<Bytes>, Failure> {
        let reference = text(body, "paymentReference")
            .ok_or(Failure::validation("130", "Reference Missing"))?
            .to_owned();
        let psp = self.psp();
        let mut answer = json!({"merchantAccount": self.merchant_account, "paymentReference": reference,
            "pspReference": psp, "status": "received"});
        if let Some(own) = text(body, "reference") {
            answer["reference"] = own.into();
        }
        turn.scheduled.push(later(self.modification_delay, &psp));
        let queued = Modification {
            psp: psp.clone(),
            what: What::CancelReference,
            value: 0,
            reference,
            key,
        };
        self.modifications.insert(psp, queued);
        Ok(received(&answer))
    }

    /// Does what was accepted, or tells why not.
    pub(super) fn perform(&mut self, now: i64, modification: Modification, turn: &mut Turn) {
        let Modification {
            psp: id,
            what,
            value,
            reference,
            key,
        } = modification;
        if matches!(what, What::CancelReference) {
            let latest = self.order.iter().rev().find(|psp| {
                self.payments
                    .get(*psp)
                    .is_some_and(|payment| payment.reference == reference)
            });
            let target = latest.cloned();
            let done = target.as_ref().and_then(|target| self.release(target, &id, key, turn));
            let outcome = Outcome {
                code: "TECHNICAL_CANCEL",
                success: done.is_some(),
                reason: "Transaction not found",
            };
            return self.notify(
                now,
                &id,
                target.as_deref(),
                &reference,
                done.unwrap_or(0),
                &outcome,
                turn,
            );
        }
        let (target, code) = match &what {
            What::Capture(target) => (target.clone(), "CAPTURE"),
            What::Cancel(target) => (target.clone(), "CANCELLATION"),
            What::Refund(target) => (target.clone(), "REFUND"),
            What::FailRefund(target) => (target.clone(), "REFUND_FAILED"),
            What::Adjust(target) => (target.clone(), "AUTHORISATION_ADJUSTMENT"),
            What::Reverse(target) => (target.clone(), "CANCEL_OR_REFUND"),
            What::CancelReference => return,
        };
        let (success, reason) = match what {
            What::Capture(_) => (
                self.capture(&target, &id, value, key, turn),
                "Insufficient balance on payment",
            ),
            What::Cancel(_) => (
                self.release(&target, &id, key, turn).is_some(),
                "Transaction hasn't been authorised or is already captured",
            ),
            What::Reverse(_) => {
                let left = self
                    .payments
                    .get(&target)
                    .map_or(0, |payment| payment.captured - payment.refunded);
                let done = if left > 0 {
                    self.refund(&target, &id, left, key, turn)
                } else {
                    self.release(&target, &id, key, turn).is_some()
                };
                (done, "Nothing to reverse")
            }
            What::Refund(_) => {
                let done = self.refund(&target, &id, value, key.clone(), turn);
                if done && self.refunds_fail {
                    turn.scheduled.push(later(self.modification_delay, &id));
                    let what = What::FailRefund(target.clone());
                    let failing = Modification {
                        psp: id.clone(),
                        what,
                        value,
                        reference: reference.clone(),
                        key,
                    };
                    self.modifications.insert(id.clone(), failing);
                }
                (done, "Insufficient balance on payment")
            }
            What::FailRefund(_) => {
                if let Some(payment) = self.payments.get_mut(&target) {
                    payment.refunded -= value;
                    turn.effects.push(payment.effect(Kind::RefundFailed, &id, value, key));
                }
                (true, "Account closed")
            }
            What::Adjust(_) | What::CancelReference => (false, "Authorisation adjustment is not enabled"),
        };
        let outcome = Outcome { code, success, reason };
        self.notify(now, &id, Some(&target), &reference, value, &outcome, turn);
    }

    fn capture(&mut self, psp: &str, id: &str, value: i64, key: Option<String>, turn: &mut Turn) -> bool {
        let multiple = self.multiple_captures;
        let Some(payment) = self.payments.get_mut(psp) else {
            return false;
        };
        if payment.automatic && value <= payment.captured {
            // Captured already: Adyen accepts it and moves nothing.
            return true;
        }
        if value <= 0 || value > payment.held {
            return false;
        }
        payment.held -= value;
        payment.captured += value;
        turn.effects.push(payment.effect(Kind::Capture, id, value, key.clone()));
        if !multiple && payment.held > 0 {
            let rest = std::mem::take(&mut payment.held);
            turn.effects.push(payment.effect(Kind::Void, id, rest, key));
        }
        true
    }

    /// Releases what is held, when nothing was captured. `None` when there is nothing to release.
    fn release(&mut self, psp: &str, id: &str, key: Option<String>, turn: &mut Turn) -> Option<i64> {
        let payment = self
            .payments
            .get_mut(psp)
            .filter(|payment| payment.held > 0 && payment.captured == 0)?;
        let held = std::mem::take(&mut payment.held);
        turn.effects.push(payment.effect(Kind::Void, id, held, key));
        Some(held)
    }

    fn refund(&mut self, psp: &str, id: &str, value: i64, key: Option<String>, turn: &mut Turn) -> bool {
        let left = |payment: &&mut Payment| value > 0 && value <= payment.captured - payment.refunded;
        let Some(payment) = self.payments.get_mut(psp).filter(left) else {
            return false;
        };
        payment.refunded += value;
        turn.effects.push(payment.effect(Kind::Refund, id, value, key));
        true
    }

    /// Lets authorisations lapse that nobody captured.
    pub(super) fn expire(&mut self, now: i64) -> Turn {
        let mut turn = Turn::default();
        let lapsed = |payment: &&Payment| payment.held > 0 && now - payment.made >= AUTHORISATION_LIFE;
        let lapsed: Vec<String> = self
            .payments
            .values()
            .filter(lapsed)
            .map(|payment| payment.psp.clone())
            .collect();
        for psp in lapsed {
            let Some(payment) = self.payments.get_mut(&psp) else {
                continue;
            };
            let held = std::mem::take(&mut payment.held);
            turn.effects.push(payment.effect(Kind::Void, &psp, held, None));
            let outcome = Outcome {
                code: "EXPIRE",
                success: true,
                reason: "",
            };
            self.notify(now, &psp, None, "", held, &outcome, &mut turn);
        }
        turn
    }

    fn notify_payment(&self, now: i64, payment: &Payment, success: bool, reason: &str, turn: &mut Turn) {
        let event = Event {
            code: "AUTHORISATION",
            psp: &payment.psp,
            original: None,
            account: &self.merchant_account,
            reference: &payment.reference,
            value: payment.value,
            currency: &payment.currency,
            success,
            reason,
            at: now,
        };
        turn.webhooks
            .extend(webhook(&event, &self.hmac_key, self.webhook_delay));
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one event")]
    fn notify(
        &self,
        now: i64,
        psp: &str,
        original: Option<&str>,
        reference: &str,
        value: i64,
        outcome: &Outcome<'_>,
        turn: &mut Turn,
    ) {
        let payment = self.payments.get(original.unwrap_or(psp));
        let event = Event {
            code: outcome.code,
            psp,
            original,
            account: &self.merchant_account,
            reference: payment
                .filter(|_| reference.is_empty())
                .map_or(reference, |payment| &payment.reference),
            value,
            currency: payment.map_or("EUR", |payment| &payment.currency),
            success: outcome.success,
            reason: if outcome.success && outcome.code != "REFUND_FAILED" {
                ""
            } else {
                outcome.reason
            },
            at: now,
        };
        turn.webhooks
            .extend(webhook(&event, &self.hmac_key, self.webhook_delay));
    }
}

struct Outcome<'a> {
    code: &'a str,
    success: bool,
    reason: &'a str,
}

impl Payment {
    fn effect(&self, kind: Kind, id: &str, units: i64, key: Option<String>) -> Effect {
        Effect {
            kind,
            payment: self.psp.clone(),
            id: id.to_owned(),
            units,
            exponent: cards::exponent(&self.currency).unwrap_or(2),
            currency: self.currency.clone(),
            key,
            reference: Some(self.reference.clone()),
            order: Some(self.order.clone()),
            instrument: Some(self.instrument.clone()),
        }
    }
}
