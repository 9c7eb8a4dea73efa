//! Payments: begun, decided later, captured, returned.

use bytes::Bytes;
use http::Response;
use serde_json::{Map, Value, json};

use super::answers::{Failure, collection, ok, signature, webhook};
use super::objects::{Payment, Status, notes};
use super::orders::money;
use super::{Razorpay, cards};
use crate::sandbox::books::Kind;
use crate::sandbox::{Scheduled, Turn};

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

impl Razorpay {
    /// What every payment needs: an order of its amount that is not paid, and who pays.
    fn begin(&mut self, now: i64, body: &Map<String, Value>) -> Result<Payment, Failure> {
        let (value, currency) = money(body)?;
        let order = text(body, "order_id").ok_or(Failure::because("invalid_order_id", "The order id is missing"))?;
        let (Some(email), Some(contact)) = (text(body, "email"), text(body, "contact")) else {
            return Err(Failure::invalid("The email and contact fields are required."));
        };
        let id = self.id("pay_");
        let order = self.orders.get_mut(order).ok_or(Failure::ID)?;
        if order.paid {
            return Err(Failure::because("order_already_paid", "Order already paid"));
        }
        if (order.value, &order.currency) != (value, &currency) {
            return Err(Failure::because(
                "order_amount_mismatch",
                "Payment amount is different from order amount",
            ));
        }
        order.attempts += 1;
        Ok(Payment {
            id,
            order: order.id.clone(),
            value,
            currency,
            status: Status::Created,
            customer: text(body, "customer_id").map(str::to_owned),
            token: None,
            last4: "1007".to_owned(),
            email: email.to_owned(),
            contact: contact.to_owned(),
            description: text(body, "description").map(str::to_owned),
            notes: notes(body),
            fate: None,
            refunding: 0,
            refunded: 0,
            made: now,
        })
    }

    fn keep(&mut self, payment: Payment) {
        self.made.push(payment.id.clone());
        self.payments.insert(payment.id.clone(), payment);
    }

    /// A mandate's charge: an id now, its outcome later.
    pub(super) fn recurring(
        &mut self,
        now: i64,
        body: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<Response<Bytes>, Failure> {
        let customer = text(body, "customer_id").filter(|id| id.starts_with("cust_"));
        let token = text(body, "token").filter(|id| id.starts_with("token_"));
        let (Some(_), Some(token)) = (customer, token) else {
            return Err(Failure::invalid("The customer id and token fields are required."));
        };
        let asked = body.get("recurring");
        if asked.and_then(Value::as_bool) != Some(true) && asked.and_then(Value::as_str) != Some("1") {
            return Err(Failure::invalid("The recurring field must be true."));
        }
        let mut payment = self.begin(now, body)?;
        payment.fate = cards::mandate(token);
        payment.token = Some(token.to_owned());
        turn.scheduled.push(Scheduled {
            after: self.charge_delay,
            token: format!("charge:{}", payment.id),
        });
        let answer = ok(&json!({"razorpay_payment_id": payment.id}));
        self.keep(payment);
        Ok(answer)
    }

    /// A card payment of a server's: its shopper has to confirm it.
    pub(super) fn card_payment(
        &mut self,
        now: i64,
        body: &Map<String, Value>,
        base: &str,
    ) -> Result<Response<Bytes>, Failure> {
        if !self.server_cards {
            return Err(Failure::because(
                "payment_method_not_enabled",
                "Card payments from a server are not enabled for the merchant",
            ));
        }
        let card = body.get("card").and_then(Value::as_object);
        let card = card.ok_or(Failure::invalid("The card field is required."))?;
        let number = text(card, "number").filter(|number| number.len() >= 12);
        let number = number.ok_or(Failure::because("card_number_invalid", "The card number is invalid"))?;
        let mut payment = self.begin(now, body)?;
        payment.fate = cards::card(number);
        payment.last4 = number.get(number.len() - 4..).unwrap_or_default().to_owned();
        let id = payment.id.clone();
        self.keep(payment);
        Ok(ok(&json!({"razorpay_payment_id": id, "next": [
            {"action": "redirect", "url": format!("{base}/v1/payments/{id}/authenticate")},
            {"action": "otp_generate", "url": format!("{base}/v1/payments/{id}/otp_generate")},
        ]})))
    }

    /// The shopper confirms: four to ten digits are right.
    pub(super) fn otp(
        &mut self,
        now: i64,
        id: &str,
        body: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<Response<Bytes>, Failure> {
        let payment = self.payments.get(id).ok_or(Failure::ID)?;
        if payment.status != Status::Created {
            return Err(Failure::invalid("The payment is not waiting for an OTP"));
        }
        let (order, fate) = (payment.order.clone(), payment.fate);
        let otp = text(body, "otp").unwrap_or_default();
        if !(4..=10).contains(&otp.len()) || !otp.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Failure::because("incorrect_otp", "The OTP entered is incorrect"));
        }
        self.decide(now, id, turn);
        match fate {
            Some(why) => Err(Failure::failed(why, id, &order)),
            None => {
                let signed = signature(&self.key_secret, format!("{order}|{id}").as_bytes());
                Ok(ok(
                    &json!({"razorpay_payment_id": id, "razorpay_order_id": order, "razorpay_signature": signed}),
                ))
            }
        }
    }

    /// A payment is decided.
    pub(super) fn decide(&mut self, now: i64, id: &str, turn: &mut Turn) {
        let Some(payment) = self.payments.get_mut(id) else {
            return;
        };
        let Some(why) = payment.fate else {
            return self.succeed(now, id, turn);
        };
        payment.status = Status::Failed(why);
        let shown = payment.shown();
        self.notify("payment.failed", &shown, now, turn);
        if let Some(after) = self.late.filter(|_| why.reason == "payment_timed_out") {
            turn.scheduled.push(Scheduled {
                after,
                token: format!("late:{id}"),
            });
        }
    }

    /// The bank authorises, in time or late.
    pub(super) fn succeed(&mut self, now: i64, id: &str, turn: &mut Turn) {
        let Some(mut payment) = self.payments.get(id).cloned() else {
            return;
        };
        if !matches!(payment.status, Status::Created | Status::Failed(_)) {
            return;
        }
        let other = |other: &&Payment| {
            other.order == payment.order
                && other.id != payment.id
                && matches!(other.status, Status::Authorized | Status::Captured)
        };
        let beaten = self.payments.values().any(|payment| other(&payment));
        let Some(order) = self.orders.get_mut(&payment.order) else {
            return;
        };
        turn.effects.push(payment.effect(Kind::Auth, payment.value));
        payment.status = Status::Authorized;
        let mut events = vec!["payment.authorized"];
        if beaten || order.paid {
            // The order takes one: this one is returned at once.
            turn.effects.push(payment.effect(Kind::Void, payment.value));
            payment.status = Status::Returned;
        } else if order.automatic && now - order.made <= order.captures_within {
            turn.effects.push(payment.effect(Kind::Capture, payment.value));
            payment.status = Status::Captured;
            order.paid = true;
            events.push("payment.captured");
        }
        let shown = payment.shown();
        self.payments.insert(payment.id.clone(), payment);
        for event in events {
            self.notify(event, &shown, now, turn);
        }
    }

    pub(super) fn capture(
        &mut self,
        now: i64,
        id: &str,
        body: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<Response<Bytes>, Failure> {
        let asked = money(body)?;
        let payment = self.payments.get_mut(id).ok_or(Failure::ID)?;
        match payment.status {
            Status::Authorized => {}
            Status::Captured => return Err(Failure::CAPTURED),
            _ => {
                return Err(Failure::invalid(
                    "Only payments which have been authorized can be captured",
                ));
            }
        }
        if asked != (payment.value, payment.currency.clone()) {
            return Err(Failure::invalid(
                "Capture amount must be equal to the amount authorized",
            ));
        }
        turn.effects.push(payment.effect(Kind::Capture, payment.value));
        payment.status = Status::Captured;
        let shown = payment.shown();
        if let Some(order) = self.orders.get_mut(&payment.order) {
            order.paid = true;
        }
        self.notify("payment.captured", &shown, now, turn);
        Ok(ok(&shown))
    }

    pub(super) fn show_payment(&self, id: &str) -> Result<Response<Bytes>, Failure> {
        let payment = self.payments.get(id).ok_or(Failure::ID)?;
        Ok(ok(&payment.shown()))
    }

    pub(super) fn list_payments(&self, query: &str) -> Response<Bytes> {
        let count = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "count");
        let count = count.and_then(|(_, count)| count.parse().ok()).unwrap_or(10);
        let payments = self.made.iter().rev().filter_map(|id| self.payments.get(id));
        collection(payments.take(count).map(Payment::shown).collect())
    }

    /// Returns what was not captured in its order's time.
    pub(super) fn expire(&mut self, now: i64) -> Turn {
        let mut turn = Turn::default();
        for payment in self
            .payments
            .values_mut()
            .filter(|payment| payment.status == Status::Authorized)
        {
            let order = self.orders.get(&payment.order);
            if order.is_some_and(|order| now - payment.made > order.returns_after) {
                turn.effects.push(payment.effect(Kind::Void, payment.value));
                payment.status = Status::Returned;
            }
        }
        turn
    }

    pub(super) fn notify(&mut self, event: &str, entity: &Value, now: i64, turn: &mut Turn) {
        let id = self.id("evt_");
        let event = (event, id.as_str());
        let posted = webhook(&self.webhook_secret, event, entity, now, self.webhook_delay);
        turn.webhooks.extend(posted);
    }
}
