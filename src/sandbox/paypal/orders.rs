//! Orders: creation, the buyer's agreement, capture and authorisation.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::answers::{Failure, Page, plain, time};
use super::payments::{Authorization, Capture, Refund};
use super::{Made, Paypal, cards};
use crate::sandbox::books::{Effect, Kind};
use crate::sandbox::{Request, Turn};

/// A buyer has six hours to agree, and the merchant six more to capture.
const ORDER_LIFE: i64 = 6 * 3600;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    PayerActionRequired,
    Approved,
    Completed,
}

/// An amount as PayPal writes it, checked.
#[derive(Clone, Debug)]
pub(super) struct Money {
    pub(super) units: i64,
    pub(super) currency: String,
    pub(super) exponent: u8,
}

impl Money {
    pub(super) fn read(value: Option<&Value>) -> Result<Self, Failure> {
        let value = value.ok_or_else(|| Failure::invalid("MISSING_REQUIRED_PARAMETER"))?;
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let (Some(number), Some(currency)) = (text("value"), text("currency_code")) else {
            return Err(Failure::invalid("MISSING_REQUIRED_PARAMETER"));
        };
        let exponent = cards::exponent(currency).ok_or_else(|| Failure::unprocessable("CURRENCY_NOT_SUPPORTED"))?;
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) || number.len() > 32 || number.ends_with('.') {
            return Err(Failure::invalid("INVALID_PARAMETER_VALUE"));
        }
        if exponent == 0 && decimals.bytes().any(|byte| byte != b'0') {
            return Err(Failure::unprocessable("DECIMALS_NOT_SUPPORTED"));
        }
        if decimals.len() > 2 {
            return Err(Failure::unprocessable("DECIMAL_PRECISION"));
        }
        let fraction = if exponent == 0 {
            String::new()
        } else {
            format!("{decimals:0<2}")
        };
        let units: i64 = format!("{whole}{fraction}")
            .parse()
            .map_err(|_| Failure::unprocessable("MAX_VALUE_EXCEEDED"))?;
        if units <= 0 {
            return Err(Failure::unprocessable("CANNOT_BE_ZERO_OR_NEGATIVE"));
        }
        Ok(Self {
            units,
            currency: currency.to_owned(),
            exponent,
        })
    }

    pub(super) fn of(&self, units: i64) -> Value {
        let value = match self.exponent {
            0 => units.to_string(),
            _ => format!("{}.{:02}", units / 100, units % 100),
        };
        json!({"currency_code": self.currency, "value": value})
    }
}

/// An order and all that came of it.
pub(super) struct Order {
    pub(super) id: String,
    pub(super) authorize: bool,
    pub(super) status: Status,
    pub(super) money: Money,
    pub(super) created: i64,
    unit: Map<String, Value>,
    source: Option<Value>,
    pub(super) authorization: Option<Authorization>,
    pub(super) captures: Vec<Capture>,
    pub(super) refunds: Vec<Refund>,
}

impl Order {
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.unit.get(name).and_then(Value::as_str).map(str::to_owned)
    }

    pub(super) fn effect(&self, kind: Kind, id: &str, units: i64, request: &Request) -> Effect {
        let custom = self.text("custom_id");
        Effect {
            kind,
            payment: self.id.clone(),
            id: id.to_owned(),
            units,
            exponent: self.money.exponent,
            currency: self.money.currency.clone(),
            key: request.header("paypal-request-id").map(str::to_owned),
            order: self.text("invoice_id").or_else(|| custom.clone()),
            reference: custom,
            instrument: Some(self.instrument()),
        }
    }

    fn instrument(&self) -> String {
        let card = self.source.as_ref().and_then(|source| source.get("card"));
        let text = |name: &str| card.and_then(|card| card.get(name)).and_then(Value::as_str);
        match (text("vault_id"), text("number")) {
            (Some(vault), _) => vault.to_owned(),
            (None, Some(number)) => {
                let last = number.get(number.len().saturating_sub(4)..).unwrap_or_default();
                format!("{} {last}", cards::brand(number))
            }
            _ => "wallet".to_owned(),
        }
    }

    pub(super) fn references(&self, object: &mut Value) {
        for name in ["invoice_id", "custom_id"] {
            if let Some(value) = self.text(name) {
                object[name] = value.into();
            }
        }
    }

    pub(super) fn show(&self, page: &Page<'_>) -> Value {
        let path = format!("/v2/checkout/orders/{}", self.id);
        let status = match self.status {
            Status::Created => "CREATED",
            Status::PayerActionRequired => "PAYER_ACTION_REQUIRED",
            Status::Approved => "APPROVED",
            Status::Completed => "COMPLETED",
        };
        let mut links = vec![page.link(&path, "self", "GET")];
        let buyer = format!("https://www.sandbox.paypal.com/checkoutnow?token={}", self.id);
        let verb = if self.authorize { "authorize" } else { "capture" };
        match self.status {
            Status::Created => {
                links.push(json!({"href": buyer, "rel": "approve", "method": "GET"}));
                links.push(page.link(&path, "update", "PATCH"));
                links.push(page.link(&format!("{path}/{verb}"), verb, "POST"));
            }
            Status::PayerActionRequired => links.push(json!({"href": buyer, "rel": "payer-action", "method": "GET"})),
            Status::Approved => links.push(page.link(&format!("{path}/{verb}"), verb, "POST")),
            Status::Completed => {}
        }
        let mut unit = json!({"reference_id": self.text("reference_id").unwrap_or_else(|| "default".to_owned()),
            "amount": self.money.of(self.money.units),
            "payee": {"email_address": "merchant@example.com", "merchant_id": "C7CYMKZDG8D6E"}});
        self.references(&mut unit);
        let mut payments = json!({});
        if let Some(authorization) = &self.authorization {
            payments["authorizations"] = json!([authorization.show(self, page)]);
        }
        if !self.captures.is_empty() {
            payments["captures"] = self.captures.iter().map(|capture| capture.show(self, page)).collect();
        }
        if !self.refunds.is_empty() {
            payments["refunds"] = self.refunds.iter().map(|refund| refund.show(self, page)).collect();
        }
        if payments.as_object().is_some_and(|payments| !payments.is_empty()) {
            unit["payments"] = payments;
        }
        let mut object = json!({"id": self.id, "intent": if self.authorize { "AUTHORIZE" } else { "CAPTURE" },
            "status": status});
        if let Some(card) = self.source.as_ref().and_then(|source| source.get("card")) {
            let number = card.get("number").and_then(Value::as_str).unwrap_or("4012888888881881");
            let last = number.get(number.len().saturating_sub(4)..).unwrap_or_default();
            object["payment_source"] =
                json!({"card": {"last_digits": last, "brand": cards::brand(number), "type": "CREDIT"}});
            if let Some(expiry) = card.get("expiry") {
                object["payment_source"]["card"]["expiry"] = expiry.clone();
            }
        }
        object["purchase_units"] = json!([unit]);
        object["create_time"] = time(self.created).into();
        object["update_time"] = time(page.now).into();
        object["links"] = links.into();
        object
    }
}

/// What the order's source must be, whatever a processor would say.
fn check_card(now: i64, source: &Value) -> Result<(), Failure> {
    let Some(card) = source.get("card") else { return Ok(()) };
    let text = |name: &str| card.get(name).and_then(Value::as_str);
    if text("vault_id").is_some() || card.get("network_token").is_some() {
        return Ok(());
    }
    let number = text("number").ok_or_else(|| Failure::unprocessable("CARD_NUMBER_REQUIRED"))?;
    let expiry = text("expiry").ok_or_else(|| Failure::unprocessable("CARD_EXPIRY_REQUIRED"))?;
    if !(13..=19).contains(&number.len()) || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Failure::invalid("INVALID_PARAMETER_VALUE"));
    }
    if expiry < time(now).get(..7).unwrap_or_default() {
        return Err(Failure::unprocessable("CARD_EXPIRED"));
    }
    let length = if cards::brand(number) == "AMEX" { 4 } else { 3 };
    if text("security_code").is_some_and(|code| code.len() != length) {
        return Err(Failure::unprocessable("INVALID_SECURITY_CODE_LENGTH"));
    }
    Ok(())
}

impl Paypal {
    pub(super) fn create(
        &mut self,
        now: i64,
        request: &Request,
        body: &Value,
        turn: &mut Turn,
    ) -> Result<(Response<Bytes>, Option<Made>), Failure> {
        let authorize = match body.get("intent").and_then(Value::as_str) {
            Some("CAPTURE") => false,
            Some("AUTHORIZE") => true,
            Some(_) => return Err(Failure::invalid("INVALID_PARAMETER_VALUE")),
            None => return Err(Failure::invalid("MISSING_REQUIRED_PARAMETER")),
        };
        let units = body.get("purchase_units").and_then(Value::as_array);
        let unit = units.and_then(|units| units.first()).and_then(Value::as_object);
        let unit = unit
            .ok_or_else(|| Failure::invalid("MISSING_REQUIRED_PARAMETER"))?
            .clone();
        let money = Money::read(unit.get("amount"))?;
        let source = body.get("payment_source").filter(|source| !source.is_null()).cloned();
        let paying = source.as_ref().is_some_and(|source| {
            source.get("card").is_some()
                || source.get("token").is_some()
                || source
                    .get("paypal")
                    .is_some_and(|wallet| wallet.get("vault_id").is_some())
        });
        if paying && request.header("paypal-request-id").is_none() {
            return Err(Failure::invalid("PAYPAL_REQUEST_ID_REQUIRED"));
        }
        if let Some(source) = &source {
            check_card(now, source)?;
        }
        let challenge = source
            .as_ref()
            .and_then(|source| source.pointer("/card/attributes/verification/method"));
        let challenged = challenge
            .and_then(Value::as_str)
            .is_some_and(|method| matches!(method, "SCA_ALWAYS" | "3D_SECURE"));
        let mut order = Order {
            id: self.id(),
            authorize,
            status: match (&source, paying && !challenged) {
                (_, true) => Status::Approved,
                (Some(_), false) => Status::PayerActionRequired,
                (None, _) => Status::Created,
            },
            money,
            created: now,
            unit,
            source,
            authorization: None,
            captures: Vec::new(),
            refunds: Vec::new(),
        };
        if paying && !challenged {
            self.execute_order(now, request, &mut order, turn)?;
        }
        let page = Page { request, now };
        let (id, answer) = (order.id.clone(), page.posted(StatusCode::CREATED, order.show(&page)));
        self.orders.insert(id.clone(), order);
        Ok((answer, Some(Made::Order(id))))
    }

    /// Holds or takes the order's money, or tells why not.
    fn execute_order(
        &mut self,
        now: i64,
        request: &Request,
        order: &mut Order,
        turn: &mut Turn,
    ) -> Result<(), Failure> {
        if let Some(invoice) = order.text("invoice_id").filter(|_| self.unique_invoices) {
            let paid = |other: &Order| {
                other.status == Status::Completed && other.text("invoice_id").as_ref() == Some(&invoice)
            };
            if self.orders.values().any(|other| other.id != order.id && paid(other)) {
                return Err(Failure::unprocessable("DUPLICATE_INVOICE_ID"));
            }
        }
        let card = order.source.as_ref().and_then(|source| source.get("card"));
        let declined = card.and_then(cards::decline);
        if declined.is_some() && !self.declines_inside {
            return Err(Failure::unprocessable("INSTRUMENT_DECLINED"));
        }
        let id = self.id();
        let units = order.money.units;
        order.status = Status::Completed;
        let lives = declined.is_none();
        if order.authorize {
            order.authorization = Some(Authorization::new(&id, now, units, declined));
            if lives {
                turn.effects.push(order.effect(Kind::Auth, &id, units, request));
            }
        } else {
            order.captures.push(Capture::new(&id, now, units, declined));
            if lives {
                turn.effects.push(order.effect(Kind::Auth, &id, units, request));
                turn.effects.push(order.effect(Kind::Capture, &id, units, request));
            }
        }
        Ok(())
    }

    pub(super) fn complete(
        &mut self,
        now: i64,
        request: &Request,
        id: &str,
        verb: &str,
        body: &Value,
        turn: &mut Turn,
    ) -> Result<(Response<Bytes>, Option<Made>), Failure> {
        let mut order = self.orders.remove(id).ok_or(Failure::NOT_FOUND)?;
        let result = self.complete_order(now, request, &mut order, verb, body, turn);
        let page = Page { request, now };
        let answer = result.map(|()| page.posted(StatusCode::CREATED, order.show(&page)));
        self.orders.insert(id.to_owned(), order);
        Ok((answer?, Some(Made::Order(id.to_owned()))))
    }

    fn complete_order(
        &mut self,
        now: i64,
        request: &Request,
        order: &mut Order,
        verb: &str,
        body: &Value,
        turn: &mut Turn,
    ) -> Result<(), Failure> {
        if order.authorize != (verb == "authorize") {
            return Err(Failure::unprocessable("ACTION_DOES_NOT_MATCH_INTENT"));
        }
        if order.status == Status::Completed {
            let issue = if order.authorize {
                "ORDER_ALREADY_AUTHORIZED"
            } else {
                "ORDER_ALREADY_CAPTURED"
            };
            return Err(Failure::unprocessable(issue));
        }
        if now - order.created >= ORDER_LIFE {
            return Err(Failure::unprocessable("ORDER_EXPIRED"));
        }
        if let Some(source) = body.get("payment_source").filter(|source| !source.is_null()) {
            check_card(now, source)?;
            order.source = Some(source.clone());
        } else if order.status != Status::Approved && !self.auto_approve {
            return Err(Failure::unprocessable("ORDER_NOT_APPROVED"));
        }
        self.execute_order(now, request, order, turn)
    }

    pub(super) fn show_order(
        &self,
        now: i64,
        request: &Request,
        id: &str,
    ) -> Result<(Response<Bytes>, Option<Made>), Failure> {
        let order = self.orders.get(id).ok_or(Failure::NOT_FOUND)?;
        if order.status != Status::Completed && now - order.created >= ORDER_LIFE {
            return Err(Failure::NOT_FOUND);
        }
        Ok((plain(StatusCode::OK, &order.show(&Page { request, now })), None))
    }
}
