//! Authorisations, captures and refunds.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answers::{Failure, Page, plain, time};
use super::orders::{Money, Order};
use super::{Made, Paypal};
use crate::sandbox::books::Kind;
use crate::sandbox::{Request, Turn};

/// An authorisation lives 29 days.
const AUTHORIZATION_LIFE: i64 = 29 * 86_400;

/// A capture can be refunded for 180 days.
const REFUND_LIFE: i64 = 180 * 86_400;

/// Held money.
pub(super) struct Authorization {
    id: String,
    created: i64,
    amount: i64,
    held: i64,
    voided: bool,
    declined: Option<String>,
}

/// Taken money.
pub(super) struct Capture {
    id: String,
    created: i64,
    amount: i64,
    refunded: i64,
    last: bool,
    declined: Option<String>,
}

/// Money given back.
pub(super) struct Refund {
    id: String,
    capture: String,
    created: i64,
    amount: i64,
    texts: Value,
}

impl Authorization {
    pub(super) fn new(id: &str, created: i64, amount: i64, declined: Option<String>) -> Self {
        let held = if declined.is_some() { 0 } else { amount };
        Self {
            id: id.to_owned(),
            created,
            amount,
            held,
            voided: false,
            declined,
        }
    }

    pub(super) fn show(&self, order: &Order, page: &Page<'_>) -> Value {
        let captured = !order.captures.is_empty();
        let status = match (self.declined.is_some(), self.voided, captured, self.held > 0) {
            (true, ..) => "DENIED",
            (_, true, false, _) => "VOIDED",
            (_, _, true, true) => "PARTIALLY_CAPTURED",
            (_, _, true, false) => "CAPTURED",
            (_, _, false, _) => "CREATED",
        };
        let path = format!("/v2/payments/authorizations/{}", self.id);
        let mut links = vec![page.link(&path, "self", "GET")];
        if self.held > 0 {
            for verb in ["capture", "void", "reauthorize"] {
                links.push(page.link(&format!("{path}/{verb}"), verb, "POST"));
            }
        }
        links.push(page.link(&format!("/v2/checkout/orders/{}", order.id), "up", "GET"));
        let mut object = json!({"id": self.id, "status": status, "amount": order.money.of(self.amount),
            "seller_protection": {"status": "NOT_ELIGIBLE"},
            "expiration_time": time(self.created + AUTHORIZATION_LIFE),
            "create_time": time(self.created), "update_time": time(page.now), "links": links});
        if status == "DENIED" {
            object["processor_response"] = json!({"response_code": self.declined});
        }
        order.references(&mut object);
        object
    }
}

impl Capture {
    pub(super) fn new(id: &str, created: i64, amount: i64, declined: Option<String>) -> Self {
        Self {
            id: id.to_owned(),
            created,
            amount,
            refunded: 0,
            last: true,
            declined,
        }
    }

    pub(super) fn show(&self, order: &Order, page: &Page<'_>) -> Value {
        let status = match (self.declined.is_some(), self.refunded) {
            (true, _) => "DECLINED",
            (_, 0) => "COMPLETED",
            (_, refunded) if refunded < self.amount => "PARTIALLY_REFUNDED",
            _ => "REFUNDED",
        };
        let path = format!("/v2/payments/captures/{}", self.id);
        let amount = order.money.of(self.amount);
        let mut related = json!({"order_id": order.id});
        if let Some(authorization) = &order.authorization {
            related["authorization_id"] = authorization.id.clone().into();
        }
        let code = self.declined.clone().unwrap_or_else(|| "0000".to_owned());
        let mut object = json!({"id": self.id, "status": status, "amount": amount, "final_capture": self.last,
            "seller_protection": {"status": "NOT_ELIGIBLE"},
            "seller_receivable_breakdown": {"gross_amount": amount, "net_amount": amount},
            "supplementary_data": {"related_ids": related},
            "network_transaction_reference": {"id": format!("{:015}", self.created), "network": "VISA"},
            "processor_response": {"avs_code": "Y", "cvv_code": "M", "response_code": code},
            "create_time": time(self.created), "update_time": time(page.now),
            "links": [page.link(&path, "self", "GET"), page.link(&format!("{path}/refund"), "refund", "POST"),
                page.link(&format!("/v2/checkout/orders/{}", order.id), "up", "GET")]});
        order.references(&mut object);
        object
    }
}

impl Refund {
    pub(super) fn show(&self, order: &Order, page: &Page<'_>) -> Value {
        let path = format!("/v2/payments/refunds/{}", self.id);
        let capture = order.captures.iter().find(|capture| capture.id == self.capture);
        let amount = order.money.of(self.amount);
        let mut object = json!({"id": self.id, "status": "COMPLETED", "amount": amount,
            "seller_payable_breakdown": {"gross_amount": amount,
                "total_refunded_amount": order.money.of(capture.map_or(0, |capture| capture.refunded))},
            "create_time": time(self.created), "update_time": time(self.created),
            "links": [page.link(&path, "self", "GET"),
                page.link(&format!("/v2/payments/captures/{}", self.capture), "up", "GET")]});
        for name in ["invoice_id", "custom_id", "note_to_payer"] {
            if let Some(text) = self.texts.get(name).filter(|text| text.is_string()) {
                object[name] = text.clone();
            }
        }
        object
    }
}

impl Order {
    pub(super) fn show_capture(&self, page: &Page<'_>, id: &str) -> Value {
        let capture = self.captures.iter().find(|capture| capture.id == id);
        capture.map_or(Value::Null, |capture| capture.show(self, page))
    }

    pub(super) fn show_refund(&self, page: &Page<'_>, id: &str) -> Value {
        let refund = self.refunds.iter().find(|refund| refund.id == id);
        refund.map_or(Value::Null, |refund| refund.show(self, page))
    }

    pub(super) fn show_authorization(&self, page: &Page<'_>) -> Value {
        self.authorization
            .as_ref()
            .map_or(Value::Null, |authorization| authorization.show(self, page))
    }

    fn has(&self, kind: &str, id: &str) -> bool {
        match kind {
            "authorizations" => self
                .authorization
                .as_ref()
                .is_some_and(|authorization| authorization.id == id),
            "captures" => self.captures.iter().any(|capture| capture.id == id),
            _ => self.refunds.iter().any(|refund| refund.id == id),
        }
    }
}

type Answered = Result<(Response<Bytes>, Option<Made>), Failure>;

impl Paypal {
    fn holder(&mut self, kind: &str, id: &str) -> Result<&mut Order, Failure> {
        self.orders
            .values_mut()
            .find(|order| order.has(kind, id))
            .ok_or(Failure::NOT_FOUND)
    }

    pub(super) fn show_payment(&mut self, now: i64, request: &Request, kind: &str, id: &str) -> Answered {
        let page = Page { request, now };
        let order = self.holder(kind, id)?;
        let object = match kind {
            "authorizations" => order.show_authorization(&page),
            "captures" => order.show_capture(&page, id),
            _ => order.show_refund(&page, id),
        };
        Ok((plain(StatusCode::OK, &object), None))
    }

    pub(super) fn capture(&mut self, now: i64, request: &Request, id: &str, body: &Value, turn: &mut Turn) -> Answered {
        let new = self.id();
        let order = self.holder("authorizations", id)?;
        let left = usable(order, now, "AUTHORIZATION_ALREADY_CAPTURED")?;
        let units = match body.get("amount") {
            None => left,
            amount => {
                let money = Money::read(amount)?;
                if money.currency != order.money.currency {
                    return Err(Failure::unprocessable("AUTH_CAPTURE_CURRENCY_MISMATCH"));
                }
                money.units
            }
        };
        if units > left {
            return Err(Failure::unprocessable("MAX_CAPTURE_AMOUNT_EXCEEDED"));
        }
        let last = body.get("final_capture").and_then(Value::as_bool).unwrap_or(false);
        let mut capture = Capture::new(&new, now, units, None);
        capture.last = last;
        order.captures.push(capture);
        turn.effects.push(order.effect(Kind::Capture, &new, units, request));
        let rest = order.authorization.as_mut().map_or(0, |authorization| {
            authorization.held -= units;
            if last {
                std::mem::take(&mut authorization.held)
            } else {
                0
            }
        });
        if rest > 0 {
            turn.effects.push(order.effect(Kind::Void, id, rest, request));
        }
        let page = Page { request, now };
        let answer = page.posted(StatusCode::CREATED, order.show_capture(&page, &new));
        Ok((answer, Some(Made::Capture(order.id.clone(), new))))
    }

    pub(super) fn void(&mut self, now: i64, request: &Request, id: &str, turn: &mut Turn) -> Answered {
        let order = self.holder("authorizations", id)?;
        if order
            .authorization
            .as_ref()
            .is_some_and(|authorization| authorization.voided)
        {
            return Err(Failure::unprocessable("PREVIOUSLY_VOIDED"));
        }
        usable(order, now, "PREVIOUSLY_CAPTURED")?;
        if !order.captures.is_empty() {
            return Err(Failure::unprocessable("PREVIOUSLY_CAPTURED"));
        }
        let held = order.authorization.as_mut().map_or(0, |authorization| {
            authorization.voided = true;
            std::mem::take(&mut authorization.held)
        });
        turn.effects.push(order.effect(Kind::Void, id, held, request));
        let page = Page { request, now };
        Ok((
            page.voided(order.show_authorization(&page)),
            Some(Made::Void(order.id.clone())),
        ))
    }

    pub(super) fn refund(&mut self, now: i64, request: &Request, id: &str, body: &Value, turn: &mut Turn) -> Answered {
        let new = self.id();
        let order = self.holder("captures", id)?;
        let currency = order.money.currency.clone();
        let capture = order
            .captures
            .iter_mut()
            .find(|capture| capture.id == id)
            .ok_or(Failure::NOT_FOUND)?;
        if capture.declined.is_some() {
            return Err(Failure::unprocessable("CAPTURE_STATUS_NOT_VALID"));
        }
        let left = capture.amount - capture.refunded;
        if left == 0 {
            return Err(Failure::unprocessable("CAPTURE_FULLY_REFUNDED"));
        }
        if now - capture.created >= REFUND_LIFE {
            return Err(Failure::unprocessable("REFUND_TIME_LIMIT_EXCEEDED"));
        }
        let units = match body.get("amount") {
            None => left,
            amount => {
                let money = Money::read(amount)?;
                if money.currency != currency {
                    return Err(Failure::unprocessable("REFUND_CAPTURE_CURRENCY_MISMATCH"));
                }
                money.units
            }
        };
        if units > left {
            return Err(Failure::unprocessable("REFUND_AMOUNT_EXCEEDED"));
        }
        capture.refunded += units;
        let refund = Refund {
            id: new.clone(),
            capture: id.to_owned(),
            created: now,
            amount: units,
            texts: body.clone(),
        };
        order.refunds.push(refund);
        turn.effects.push(order.effect(Kind::Refund, &new, units, request));
        let page = Page { request, now };
        let answer = page.posted(StatusCode::CREATED, order.show_refund(&page, &new));
        Ok((answer, Some(Made::Refund(order.id.clone(), new))))
    }

    /// Lets authorisations lapse that nobody captured.
    pub(super) fn expire(&mut self, now: i64) -> Turn {
        let mut turn = Turn::default();
        let nobody = Request {
            method: http::Method::POST,
            path: String::new(),
            query: String::new(),
            headers: http::HeaderMap::new(),
            body: Bytes::new(),
            base: String::new(),
        };
        for order in self.orders.values_mut() {
            let lapsed = order
                .authorization
                .as_mut()
                .filter(|authorization| authorization.held > 0 && now - authorization.created >= AUTHORIZATION_LIFE);
            let Some((id, held)) = lapsed.map(|lapsed| (lapsed.id.clone(), std::mem::take(&mut lapsed.held))) else {
                continue;
            };
            turn.effects.push(order.effect(Kind::Void, &id, held, &nobody));
        }
        turn
    }
}

/// What is left of the order's authorisation, or why nothing can be done with it.
fn usable(order: &Order, now: i64, spent: &str) -> Result<i64, Failure> {
    let authorization = order.authorization.as_ref().ok_or(Failure::NOT_FOUND)?;
    let issue = if authorization.declined.is_some() {
        "AUTHORIZATION_DENIED"
    } else if authorization.voided {
        "AUTHORIZATION_VOIDED"
    } else if now - authorization.created >= AUTHORIZATION_LIFE {
        "AUTHORIZATION_EXPIRED"
    } else if authorization.held == 0 {
        spent
    } else {
        return Ok(authorization.held);
    };
    Err(Failure::unprocessable(issue))
}
