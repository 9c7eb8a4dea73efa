//! Payments and refunds, and what is done to them.

use bytes::Bytes;
use http::Response;
use serde_json::{Map, Value, json};

use super::Square;
use super::answers::{Failure, declined, errors, ok, time, webhook};
use super::sources::{self, Verdict};
use crate::sandbox::books::{Effect, Kind};
use crate::sandbox::{Scheduled, Turn};

/// What a cursor begins with. Its form is the simulator's own affair, as Square's is its.
const CURSOR: &str = "after:";

/// The fields of a payment request; Square refuses any other.
const FIELDS: &[&str] = &[
    "accept_partial_authorization",
    "amount_money",
    "app_fee_money",
    "autocomplete",
    "billing_address",
    "buyer_email_address",
    "buyer_phone_number",
    "cash_details",
    "customer_details",
    "customer_id",
    "delay_action",
    "delay_duration",
    "external_details",
    "idempotency_key",
    "location_id",
    "note",
    "offline_payment_details",
    "order_id",
    "reference_id",
    "shipping_address",
    "source_id",
    "statement_description_identifier",
    "team_member_id",
    "tip_money",
    "verification_token",
];

const REFUND_FIELDS: &[&str] = &[
    "amount_money",
    "app_fee_money",
    "idempotency_key",
    "location_id",
    "payment_id",
    "payment_version_token",
    "reason",
    "team_member_id",
];

/// How long a hold lasts when nothing else is asked for.
const HOLD: i64 = 7 * 86_400;

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Approved,
    Completed,
    Canceled,
    Failed(&'static str),
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Approved => "APPROVED",
            Self::Completed => "COMPLETED",
            Self::Canceled => "CANCELED",
            Self::Failed(_) => "FAILED",
        }
    }
}

/// A payment.
#[derive(Clone)]
pub(super) struct Payment {
    id: String,
    key: String,
    reference: Option<String>,
    note: Option<String>,
    customer: Option<String>,
    source: String,
    value: i64,
    currency: String,
    location: String,
    status: Status,
    editable: &'static [&'static str],
    made: i64,
    updated: i64,
    version: u32,
    /// Until when it is held, and whether it is completed then.
    until: i64,
    completes: bool,
    refunding: i64,
    refunds: Vec<String>,
}

/// A refund.
pub(super) struct Refund {
    id: String,
    payment: String,
    value: i64,
    key: String,
    reason: Option<String>,
    status: &'static str,
    made: i64,
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn known(body: &Map<String, Value>, fields: &[&str]) -> Result<(), Failure> {
    match body.keys().find(|field| !fields.contains(&field.as_str())) {
        Some(field) => Err(Failure::invalid("UNKNOWN_BODY_PARAMETER", field)),
        None => Ok(()),
    }
}

fn key(body: &Map<String, Value>) -> Result<String, Failure> {
    match text(body, "idempotency_key") {
        None => Err(Failure::invalid("MISSING_REQUIRED_PARAMETER", "idempotency_key")),
        Some(key) if key.len() > 45 => Err(Failure::invalid("VALUE_TOO_LONG", "idempotency_key")),
        Some(key) => Ok(key.to_owned()),
    }
}

/// A hold's length, `PT36H`, `PT30M` or `P7D`.
fn duration(text: &str) -> Option<i64> {
    let (number, unit) = match text.strip_prefix("PT") {
        Some(time) => (time.get(..time.len().checked_sub(1)?)?, time.get(time.len() - 1..)?),
        None => (text.strip_prefix('P')?.strip_suffix('D')?, "D"),
    };
    let scale = match unit {
        "S" => 1,
        "M" => 60,
        "H" => 3600,
        "D" => 86_400,
        _ => return None,
    };
    number.parse::<i64>().ok().map(|number| number * scale)
}

impl Square {
    fn money(&self, body: &Map<String, Value>) -> Result<i64, Failure> {
        let money = body.get("amount_money").and_then(Value::as_object);
        let money = money.ok_or_else(|| Failure::invalid("MISSING_REQUIRED_PARAMETER", "amount_money"))?;
        known(money, &["amount", "currency"])?;
        let value = money.get("amount").filter(|value| value.is_i64() || value.is_u64());
        let value = value.and_then(Value::as_i64);
        let value = value.ok_or_else(|| Failure::invalid("EXPECTED_INTEGER", "amount_money.amount"))?;
        if value <= 0 {
            return Err(Failure::invalid("VALUE_TOO_LOW", "amount_money.amount"));
        }
        match money.get("currency").and_then(Value::as_str) {
            Some(currency) if currency == self.currency => Ok(value),
            Some(currency) if sources::exponent(currency).is_none() => {
                Err(Failure::invalid("INVALID_ENUM_VALUE", "amount_money.currency"))
            }
            _ => Err(Failure::invalid("CURRENCY_MISMATCH", "amount_money.currency")),
        }
    }

    pub(super) fn pay(
        &mut self,
        now: i64,
        body: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<Response<Bytes>, Failure> {
        known(body, FIELDS)?;
        let key = key(body)?;
        let source = text(body, "source_id");
        let source = source.ok_or_else(|| Failure::invalid("MISSING_REQUIRED_PARAMETER", "source_id"))?;
        let value = self.money(body)?;
        for (field, max) in [
            ("reference_id", 40),
            ("note", 500),
            ("statement_description_identifier", 20),
            ("buyer_email_address", 255),
        ] {
            if text(body, field).is_some_and(|text| text.len() > max) {
                return Err(Failure::invalid("VALUE_TOO_LONG", field));
            }
        }
        if text(body, "location_id").is_some_and(|location| location != self.location) {
            return Err(Failure::invalid("INVALID_LOCATION", "location_id"));
        }
        if source.starts_with("ccof:") && text(body, "customer_id").is_none() {
            return Err(Failure::invalid("MISSING_REQUIRED_PARAMETER", "customer_id"));
        }
        let automatic = body.get("autocomplete").and_then(Value::as_bool).unwrap_or(true);
        let hold = match text(body, "delay_duration") {
            Some(text) => duration(text).ok_or_else(|| Failure::invalid("INVALID_VALUE", "delay_duration"))?,
            None => HOLD,
        };
        let (status, editable) = match sources::verdict(source) {
            Verdict::Unknown => return Err(Failure::invalid("NOT_FOUND", "source_id")),
            Verdict::Declined(code) if sources::without_payment(code) => return Err(Failure::method(code)),
            Verdict::Declined(code) => (Status::Failed(code), &[] as &[&str]),
            Verdict::Approved(editable) => (Status::Approved, editable),
        };
        let owned = |name: &str| text(body, name).map(str::to_owned);
        let mut payment = Payment {
            id: self.id(29),
            key,
            reference: owned("reference_id"),
            note: owned("note"),
            customer: owned("customer_id"),
            source: source.to_owned(),
            value,
            currency: self.currency.clone(),
            location: self.location.clone(),
            status,
            editable,
            made: now,
            updated: now,
            version: 0,
            until: now + hold,
            completes: text(body, "delay_action") == Some("COMPLETE"),
            refunding: 0,
            refunds: Vec::new(),
        };
        if status == Status::Approved {
            turn.effects.push(payment.effect(Kind::Auth, value));
            if automatic {
                turn.effects.push(payment.effect(Kind::Capture, value));
                payment.status = Status::Completed;
            }
        }
        let shown = payment.shown();
        let answer = match status {
            Status::Failed(code) => declined(code, &shown),
            _ => ok(&json!({"payment": shown})),
        };
        self.notify("payment.created", &shown, now, turn);
        self.order.push(payment.id.clone());
        self.payments.insert(payment.id.clone(), payment);
        Ok(answer)
    }

    pub(super) fn show(&self, id: &str) -> Result<Response<Bytes>, Failure> {
        let payment = self.payments.get(id).ok_or(Failure::NOT_FOUND)?;
        Ok(ok(&json!({"payment": payment.shown()})))
    }

    pub(super) fn list(&self, now: i64, query: &str) -> Result<Response<Bytes>, Failure> {
        let mut wanted: Vec<&Payment> = self.order.iter().filter_map(|id| self.payments.get(id)).collect();
        wanted.retain(|payment| now - payment.made >= self.list_lag);
        let mut limit = 100_usize;
        let mut cursor = None;
        let at = |text: &str| text.parse::<jiff::Timestamp>().ok().map(|at| at.as_second());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let wrong = || Failure::invalid("INVALID_VALUE", &name);
            match name.as_ref() {
                "begin_time" => {
                    let from = at(&value).ok_or_else(wrong)?;
                    wanted.retain(|payment| payment.made >= from);
                }
                "end_time" => {
                    let to = at(&value).ok_or_else(wrong)?;
                    wanted.retain(|payment| payment.made < to);
                }
                "total" => {
                    let total: i64 = value.parse().map_err(|_| wrong())?;
                    wanted.retain(|payment| payment.value == total);
                }
                "location_id" => wanted.retain(|payment| payment.location == value),
                "sort_order" if value == "ASC" => {}
                "sort_order" if value == "DESC" => wanted.reverse(),
                "limit" => limit = value.parse::<usize>().map_err(|_| wrong())?.clamp(1, 100),
                // The place behind the last payment of the page before, whatever was made since.
                "cursor" => cursor = Some(value.strip_prefix(CURSOR).ok_or_else(wrong)?.to_owned()),
                _ => return Err(Failure::invalid("UNKNOWN_QUERY_PARAMETER", &name)),
            }
        }
        if let Some(last) = cursor {
            let place = wanted.iter().position(|payment| payment.id == last);
            let place = place.ok_or_else(|| Failure::invalid("INVALID_CURSOR", "cursor"))?;
            wanted.drain(..=place);
        }
        let page: Vec<Value> = wanted.iter().take(limit).map(|payment| payment.shown()).collect();
        let mut body = Map::new();
        if !page.is_empty() {
            body.insert("payments".to_owned(), page.into());
        }
        if let Some(last) = wanted.get(limit - 1).filter(|_| wanted.len() > limit) {
            body.insert("cursor".to_owned(), format!("{CURSOR}{}", last.id).into());
        }
        Ok(ok(&body.into()))
    }

    fn held(&mut self, id: &str, body: &Map<String, Value>) -> Result<&mut Payment, Failure> {
        let payment = self.payments.get_mut(id).ok_or(Failure::NOT_FOUND)?;
        if text(body, "version_token").is_some_and(|version| version != payment.version_token()) {
            return Err(Failure::invalid("BAD_REQUEST", "version_token"));
        }
        Ok(payment)
    }

    pub(super) fn edit(
        &mut self,
        now: i64,
        id: &str,
        body: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<Response<Bytes>, Failure> {
        known(body, &["idempotency_key", "payment"])?;
        key(body)?;
        let wanted = body.get("payment").and_then(Value::as_object);
        let wanted = wanted.ok_or_else(|| Failure::invalid("MISSING_REQUIRED_PARAMETER", "payment"))?;
        known(wanted, &["amount_money", "tip_money", "version_token"])?;
        let value = self.money(wanted)?;
        let payment = self.held(id, wanted)?;
        let direction = if value > payment.value {
            "EDIT_AMOUNT_UP"
        } else {
            "EDIT_AMOUNT_DOWN"
        };
        if payment.status != Status::Approved || !payment.editable.contains(&direction) {
            return Err(Failure::invalid("BAD_REQUEST", "payment.amount_money"));
        }
        let difference = payment.value - value;
        if difference > 0 {
            turn.effects.push(payment.effect(Kind::Void, difference));
        }
        if difference < 0 {
            turn.effects.push(payment.effect(Kind::Auth, -difference));
        }
        payment.value = value;
        payment.touch(now);
        let shown = payment.shown();
        self.notify("payment.updated", &shown, now, turn);
        Ok(ok(&json!({"payment": shown})))
    }

    pub(super) fn complete(
        &mut self,
        now: i64,
        id: &str,
        body: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<Response<Bytes>, Failure> {
        known(body, &["version_token"])?;
        let payment = self.held(id, body)?;
        match payment.status {
            Status::Approved => {}
            Status::Completed => return Err(Failure::invalid("DELAYED_TRANSACTION_CAPTURED", "")),
            Status::Canceled => return Err(Failure::invalid("DELAYED_TRANSACTION_CANCELED", "")),
            Status::Failed(_) => return Err(Failure::invalid("DELAYED_TRANSACTION_FAILED", "")),
        }
        let value = payment.value;
        turn.effects.push(payment.effect(Kind::Capture, value));
        payment.status = Status::Completed;
        payment.touch(now);
        let shown = payment.shown();
        self.notify("payment.updated", &shown, now, turn);
        Ok(ok(&json!({"payment": shown})))
    }

    pub(super) fn cancel(
        &mut self,
        now: i64,
        id: &str,
        body: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<Response<Bytes>, Failure> {
        known(body, &[])?;
        let payment = self.held(id, body)?;
        match payment.status {
            Status::Approved => {}
            Status::Canceled => return Err(Failure::invalid("DELAYED_TRANSACTION_CANCELED", "")),
            Status::Completed | Status::Failed(_) => return Err(Failure::invalid("BAD_REQUEST", "payment_id")),
        }
        payment.release(now, turn);
        let shown = payment.shown();
        self.notify("payment.updated", &shown, now, turn);
        Ok(ok(&json!({"payment": shown})))
    }

    /// Says 200 whatever it finds, and acts on holds only.
    pub(super) fn cancel_by_key(
        &mut self,
        now: i64,
        body: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<Response<Bytes>, Failure> {
        known(body, &["idempotency_key"])?;
        let key = key(body)?;
        let found = self.payments.values_mut();
        for payment in found.filter(|payment| payment.key == key && payment.status == Status::Approved) {
            payment.release(now, turn);
        }
        Ok(ok(&json!({})))
    }

    /// Ends holds whose time is over.
    pub(super) fn expire(&mut self, now: i64) -> Turn {
        let mut turn = Turn::default();
        let due = |payment: &&mut Payment| payment.status == Status::Approved && payment.until <= now;
        for payment in self.payments.values_mut().filter(due) {
            if payment.completes {
                turn.effects.push(payment.effect(Kind::Capture, payment.value));
                payment.status = Status::Completed;
                payment.touch(now);
            } else {
                payment.release(now, &mut turn);
            }
        }
        turn
    }

    pub(super) fn refund(
        &mut self,
        now: i64,
        body: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<Response<Bytes>, Failure> {
        known(body, REFUND_FIELDS)?;
        let key = key(body)?;
        let value = self.money(body)?;
        let payment = text(body, "payment_id");
        let payment = payment.ok_or_else(|| Failure::invalid("MISSING_REQUIRED_PARAMETER", "payment_id"))?;
        if text(body, "reason").is_some_and(|reason| reason.len() > 192) {
            return Err(Failure::invalid("VALUE_TOO_LONG", "reason"));
        }
        let id = format!("{payment}_{}", self.id(32));
        let delay = self.refund_delay;
        let payment = self.payments.get_mut(payment).ok_or(Failure::NOT_FOUND)?;
        if payment.status != Status::Completed {
            return Err(Failure::refund("REFUND_ERROR_PAYMENT_NEEDS_COMPLETION"));
        }
        if payment.refunding + value > payment.value {
            return Err(Failure::refund("REFUND_AMOUNT_INVALID"));
        }
        payment.refunding += value;
        payment.refunds.push(id.clone());
        let refund = Refund {
            id: id.clone(),
            payment: payment.id.clone(),
            value,
            key,
            reason: text(body, "reason").map(str::to_owned),
            status: "PENDING",
            made: now,
        };
        let shown = refund.shown(&payment.currency, &payment.location);
        self.notify("refund.created", &shown, now, turn);
        turn.scheduled.push(Scheduled {
            after: delay,
            token: id.clone(),
        });
        self.refunds.insert(id, refund);
        Ok(ok(&json!({"refund": shown})))
    }

    /// An accepted refund is done, or fails.
    pub(super) fn finish_refund(&mut self, now: i64, id: &str, turn: &mut Turn) {
        let Some(refund) = self.refunds.get_mut(id) else { return };
        let Some(payment) = self.payments.get_mut(&refund.payment) else {
            return;
        };
        if self.refunds_fail {
            refund.status = "REJECTED";
            payment.refunding -= refund.value;
        } else {
            refund.status = "COMPLETED";
            turn.effects.push(Effect {
                id: refund.id.clone(),
                key: Some(refund.key.clone()),
                ..payment.effect(Kind::Refund, refund.value)
            });
        }
        payment.touch(now);
        let shown = refund.shown(&payment.currency, &payment.location);
        self.notify("refund.updated", &shown, now, turn);
    }

    pub(super) fn show_refund(&self, id: &str) -> Result<Response<Bytes>, Failure> {
        let refund = self.refunds.get(id).ok_or(Failure::NOT_FOUND)?;
        Ok(ok(&json!({"refund": refund.shown(&self.currency, &self.location)})))
    }

    fn notify(&mut self, kind: &str, object: &Value, now: i64, turn: &mut Turn) {
        let id = self.id(22);
        let keys = (self.webhook_secret.as_str(), self.notification_url.as_str());
        turn.webhooks
            .extend(webhook(keys, (kind, &id), object, now, self.webhook_delay));
    }
}

impl Payment {
    fn version_token(&self) -> String {
        format!("{}v{}", self.id, self.version)
    }

    fn touch(&mut self, now: i64) {
        self.version += 1;
        self.updated = now;
    }

    fn release(&mut self, now: i64, turn: &mut Turn) {
        turn.effects.push(self.effect(Kind::Void, self.value));
        self.status = Status::Canceled;
        self.touch(now);
    }

    /// The merchant's order: in the note where Sentinel wrote the request, else the reference.
    fn order(&self) -> Option<String> {
        let noted = self.note.as_deref().and_then(|note| note.strip_prefix("order "));
        let noted = noted.map(|note| note.split(": ").next().unwrap_or(note).to_owned());
        noted.or_else(|| self.reference.clone())
    }

    fn effect(&self, kind: Kind, units: i64) -> Effect {
        Effect {
            kind,
            payment: self.id.clone(),
            id: self.id.clone(),
            units,
            exponent: sources::exponent(&self.currency).unwrap_or(2),
            currency: self.currency.clone(),
            key: Some(self.key.clone()),
            reference: self.reference.clone(),
            order: self.order(),
            instrument: Some(self.source.clone()),
        }
    }

    fn shown(&self) -> Value {
        let money = |value: i64| json!({"amount": value, "currency": self.currency});
        let failed = matches!(self.status, Status::Failed(_));
        let card_status = match self.status {
            Status::Approved => "AUTHORIZED",
            Status::Completed => "CAPTURED",
            Status::Canceled => "VOIDED",
            Status::Failed(_) => "FAILED",
        };
        let on_file = self.source.starts_with("ccof:");
        let mut timeline = json!({"authorized_at": time(self.made)});
        match self.status {
            Status::Completed => timeline["captured_at"] = time(self.updated).into(),
            Status::Canceled => timeline["voided_at"] = time(self.updated).into(),
            _ => {}
        }
        let mut payment = json!({
            "id": self.id, "created_at": time(self.made), "updated_at": time(self.updated),
            "amount_money": money(self.value), "total_money": money(self.value),
            "approved_money": money(if failed { 0 } else { self.value }),
            "status": self.status.name(), "delay_duration": format!("PT{}H", (self.until - self.made) / 3600),
            "delay_action": if self.completes { "COMPLETE" } else { "CANCEL" },
            "delayed_until": time(self.until), "source_type": "CARD",
            "card_details": {
                "status": card_status,
                "card": {"card_brand": "VISA", "last_4": "1111", "exp_month": 11, "exp_year": 2030,
                    "fingerprint": "sq-1-sandbox", "card_type": "CREDIT", "prepaid_type": "NOT_PREPAID", "bin": "411111"},
                "entry_method": if on_file { "ON_FILE" } else { "KEYED" }, "cvv_status": "CVV_ACCEPTED",
                "avs_status": "AVS_ACCEPTED", "auth_result_code": "68aLBM", "statement_description": "SQ *SANDBOX",
                "card_payment_timeline": timeline,
            },
            "location_id": self.location, "order_id": format!("o{}", self.id),
            "capabilities": self.editable,
            "application_details": {"square_product": "ECOMMERCE_API", "application_id": "sq0idp-sandbox"},
            "version_token": self.version_token(),
        });
        if let Status::Failed(code) = self.status {
            payment["card_details"]["errors"] = errors(code);
        }
        for (name, value) in [
            ("reference_id", &self.reference),
            ("note", &self.note),
            ("customer_id", &self.customer),
        ] {
            if let Some(value) = value {
                payment[name] = value.clone().into();
            }
        }
        if self.refunding > 0 {
            payment["refunded_money"] = money(self.refunding);
            payment["refund_ids"] = self.refunds.clone().into();
        }
        let risk = match self.value {
            3333 => Some("HIGH"),
            2222 => Some("MODERATE"),
            _ => None,
        };
        if let Some(risk) = risk {
            payment["risk_evaluation"] = json!({"created_at": time(self.made), "risk_level": risk});
        }
        if self.status == Status::Completed {
            payment["receipt_number"] = self.id.get(..4).into();
            payment["receipt_url"] = format!("https://squareup.com/receipt/preview/{}", self.id).into();
        }
        payment
    }
}

impl Refund {
    fn shown(&self, currency: &str, location: &str) -> Value {
        let mut refund = json!({
            "id": self.id, "status": self.status, "amount_money": {"amount": self.value, "currency": currency},
            "payment_id": self.payment, "order_id": format!("o{}", self.payment), "location_id": location,
            "destination_type": "CARD", "created_at": time(self.made), "updated_at": time(self.made),
        });
        if let Some(reason) = &self.reason {
            refund["reason"] = reason.clone().into();
        }
        refund
    }
}
