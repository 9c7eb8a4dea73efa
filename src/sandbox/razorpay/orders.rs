//! Orders.

use bytes::Bytes;
use http::Response;
use serde_json::{Map, Value, json};

use super::answers::{Failure, collection, ok};
use super::objects::{Order, notes};
use super::{Razorpay, Receipts, cards};

/// Amount and currency of a request.
pub(super) fn money(body: &Map<String, Value>) -> Result<(i64, String), Failure> {
    let value = body.get("amount").filter(|value| value.is_i64() || value.is_u64());
    let value = value.and_then(Value::as_i64);
    let value = value.ok_or(Failure::invalid("The amount must be an integer."))?;
    let currency = body.get("currency").and_then(Value::as_str).unwrap_or_default();
    let exponent = cards::exponent(currency);
    let exponent = exponent.ok_or(Failure::because("invalid_currency", "Currency is not supported"))?;
    if value < if currency == "INR" { 100 } else { 1 } {
        return Err(Failure::because(
            "amount_less_than_minimum_amount",
            "Order amount less than minimum amount allowed",
        ));
    }
    if exponent == 3 && value % 10 != 0 {
        return Err(Failure::because(
            "invalid_amount",
            "The last digit of the amount must be 0",
        ));
    }
    Ok((value, currency.to_owned()))
}

impl Razorpay {
    pub(super) fn open(&mut self, now: i64, body: &Map<String, Value>) -> Result<Response<Bytes>, Failure> {
        let (value, currency) = money(body)?;
        // A payment is in its order's currency.
        if currency != "INR" && !self.international {
            return Err(Failure::because(
                "international_transaction_not_allowed",
                "International payments are not enabled for the merchant",
            ));
        }
        let receipt = body.get("receipt").and_then(Value::as_str).map(str::to_owned);
        if receipt.as_ref().is_some_and(|receipt| receipt.chars().count() > 40) {
            return Err(Failure::invalid("The receipt may not be greater than 40 characters."));
        }
        let same = |order: &&Order| receipt.is_some() && order.receipt == receipt;
        if self.receipts == Receipts::Unique
            && let Some(first) = self.orders.values().find(same)
        {
            return Err(Failure::taken(&first.id));
        }
        let capture = body.get("payment");
        let option = |name: &str| {
            let options = capture.and_then(|capture| capture.get("capture_options"));
            options.and_then(|options| options.get(name)).and_then(Value::as_i64)
        };
        let asked = capture
            .and_then(|capture| capture.get("capture"))
            .and_then(Value::as_str);
        let legacy = body.get("payment_capture");
        let automatic = match asked {
            Some(asked) => asked == "automatic",
            None => legacy.is_none_or(|flag| flag.as_bool().unwrap_or(false) || flag.as_i64() == Some(1)),
        };
        if option("automatic_expiry_period").is_some_and(|minutes| minutes < 12) {
            return Err(Failure::invalid("automatic_expiry_period must be at least 12."));
        }
        if option("manual_expiry_period").is_some_and(|minutes| minutes > 7200) {
            return Err(Failure::invalid("manual_expiry_period may not be greater than 7200."));
        }
        let order = Order {
            id: self.id("order_"),
            value,
            currency,
            receipt,
            notes: notes(body),
            automatic,
            captures_within: option("automatic_expiry_period").unwrap_or(7200) * 60,
            returns_after: option("manual_expiry_period").unwrap_or(7200) * 60,
            attempts: 0,
            paid: false,
            made: now,
        };
        let answer = ok(&order.shown());
        self.made.push(order.id.clone());
        self.orders.insert(order.id.clone(), order);
        Ok(answer)
    }

    pub(super) fn show_order(&self, id: &str) -> Result<Response<Bytes>, Failure> {
        let order = self.orders.get(id).ok_or(Failure::ID)?;
        Ok(ok(&order.shown()))
    }

    /// By receipt, newest first, with their payments where that is asked for.
    pub(super) fn find_orders(&self, query: &str) -> Response<Bytes> {
        let mut receipt = None;
        let mut expand = false;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "receipt" => receipt = Some(value.into_owned()),
                "expand[]" => expand |= value == "payments",
                _ => {}
            }
        }
        let wanted = |order: &&Order| receipt.is_none() || order.receipt == receipt;
        let orders = self
            .made
            .iter()
            .rev()
            .filter_map(|id| self.orders.get(id))
            .filter(wanted);
        let shown = orders.take(100).map(|order| {
            let mut shown = order.shown();
            if expand {
                let items = self.on(&order.id);
                shown["payments"] = json!({"entity": "collection", "count": items.len(), "items": items});
            }
            shown
        });
        collection(shown.collect())
    }

    fn on(&self, order: &str) -> Vec<Value> {
        let payments = self.made.iter().filter_map(|id| self.payments.get(id));
        payments
            .filter(|payment| payment.order == order)
            .map(super::objects::Payment::shown)
            .collect()
    }

    pub(super) fn payments_of(&self, id: &str) -> Result<Response<Bytes>, Failure> {
        self.orders.get(id).ok_or(Failure::ID)?;
        Ok(collection(self.on(id)))
    }
}
