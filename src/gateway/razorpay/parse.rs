//! What an application's Razorpay request means.

use std::collections::BTreeMap;

use http::Method;
use indexmap::IndexMap;
use serde_json::Value;

use super::{REFUND_KEY, secret};
use crate::config::model::Dialect;
use crate::gateway::canonical::{
    Buyer, CaptureMode, Card, Initiator, Instrument, ListFilter, Operation, Order, Pay, Refusal, Request, Target,
};
use crate::gateway::idempotency::header_key;
use crate::gateway::json::{self, Fields};
use crate::gateway::{Head, Recognised};
use crate::money::Amount;

/// Fields that change no effect and that the merchant does not read back: lost without a word on the way elsewhere.
const IMMATERIAL: [&str; 7] = ["authentication", "browser", "ip", "referer", "user_agent", "fee", "tax"];

pub(super) fn recognise(method: &Method, path: &str) -> Recognised {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (get, post) = (method == Method::GET, method == Method::POST);
    let (operation, object) = match segments.as_slice() {
        // Whether it holds or takes money stands in the order.
        ["v1", "payments", "create", _] if post => (Operation::Sale, None),
        ["v1", "orders"] if post => (Operation::Create, None),
        ["v1", "orders", id] if get && id.starts_with("order_") => (Operation::Retrieve, Some(id)),
        ["v1", "orders", id, "payments"] if get => (Operation::List, Some(id)),
        ["v1", "payments", id, "capture"] if post => (Operation::Capture, Some(id)),
        ["v1", "payments", id, "refund"] if post => (Operation::Refund, Some(id)),
        ["v1", "payments", id, "refunds"] if get => (Operation::List, Some(id)),
        ["v1", "payments", _, "refunds", id] | ["v1", "refunds", id] if get => (Operation::RetrieveRefund, Some(id)),
        ["v1", "payments", id] if get && id.starts_with("pay_") => (Operation::Retrieve, Some(id)),
        ["v1", "payments", id, ..] if id.starts_with("pay_") => (Operation::Opaque, Some(id)),
        ["v1", "refunds", id, ..] if id.starts_with("rfnd_") => (Operation::Opaque, Some(id)),
        _ => (Operation::Opaque, None),
    };
    let object = object.map(|id| (*id).to_owned()).filter(|id| !id.is_empty());
    Recognised { operation, object }
}

/// Only refunds have a key; the SDK for Node cannot send it, so that a refund with a receipt is named by that. A capture
/// does the same however often it comes, and is named by its path.
pub(super) fn key(head: &Head, body: &[u8]) -> Result<Option<String>, Refusal> {
    if head.path.ends_with("/capture") {
        return Ok(Some(head.path.clone()));
    }
    if !head.path.ends_with("/refund") {
        return Ok(None);
    }
    if let Some(key) = header_key(&head.headers, REFUND_KEY, 255)? {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if key.len() < 10 || !key.bytes().all(plain) {
            return Err(Refusal::IdempotencyKey(
                "not 10 letters, digits, `-` or `_` at least".to_owned(),
            ));
        }
        return Ok(Some(key));
    }
    let fields = json::object(body).unwrap_or_default();
    let receipt = fields
        .get("receipt")
        .and_then(Value::as_str)
        .filter(|receipt| !receipt.is_empty());
    let amount = fields.get("amount").map_or_else(String::new, Value::to_string);
    Ok(receipt.map(|receipt| format!("{} {amount} {receipt}", head.path)))
}

/// The order that a request pays, by whatever call.
pub(super) fn order(head: &Head, body: &[u8]) -> Option<String> {
    let pays = head.method == Method::POST && head.path.starts_with("/v1/payments/create/");
    let order = json::object(body)
        .filter(|_| pays)?
        .get("order_id")?
        .as_str()?
        .to_owned();
    (!order.is_empty()).then_some(order)
}

/// An order as it is opened here. What only Razorpay could do with its payment (parts of it, transfers, a mandate's first
/// payment, an offer) it alone can promise.
pub(super) fn opened(
    head: &Head,
    body: &[u8],
    settings: &BTreeMap<String, String>,
    seed: &[u8; 16],
    now: i64,
) -> Result<Order, Refusal> {
    if head.headers.contains_key("x-razorpay-account") {
        return Err(Refusal::Parameter("X-Razorpay-Account".to_owned()));
    }
    let mut fields = Fields::parse(body)?;
    let amount = amount(&mut fields)?;
    super::encode::least(amount)?;
    let receipt = fields.string("receipt")?;
    if receipt.as_ref().is_some_and(|receipt| receipt.chars().count() > 40) {
        return Err(Refusal::Malformed("receipt is longer than 40 characters".to_owned()));
    }
    let metadata = notes(&mut fields)?;
    let mut payment = fields.object("payment")?;
    let capture = match payment.string("capture")?.as_deref() {
        Some("automatic") => Some(CaptureMode::Automatic),
        Some("manual") => Some(CaptureMode::Manual),
        Some(_) => {
            return Err(Refusal::Malformed(
                "payment.capture is neither automatic nor manual".to_owned(),
            ));
        }
        None => None,
    };
    // How long Razorpay waits for a late success is over before the order is opened here.
    payment.drop_fields(&["capture_options"]);
    let mut left = Vec::new();
    payment.leftovers(&mut left);
    let legacy = match fields.value("payment_capture") {
        None => None,
        Some(Value::Bool(true)) => Some(CaptureMode::Automatic),
        Some(Value::Bool(false)) => Some(CaptureMode::Manual),
        Some(Value::Number(number)) if number.as_u64() == Some(1) => Some(CaptureMode::Automatic),
        Some(Value::Number(number)) if number.as_u64() == Some(0) => Some(CaptureMode::Manual),
        Some(_) => return Err(Refusal::Malformed("payment_capture is neither 0 nor 1".to_owned())),
    };
    let configured = match settings.get("capture").map(String::as_str) {
        Some("automatic") => Some(CaptureMode::Automatic),
        Some("manual") => Some(CaptureMode::Manual),
        _ => None,
    };
    let capture = capture.or(legacy).or(configured);
    let capture = capture.ok_or_else(|| Refusal::Account("the capture mode of its orders".to_owned()))?;
    if fields.flag("partial_payment")? == Some(true) {
        left.push("partial_payment".to_owned());
    }
    fields.leftovers(&mut left);
    match left.into_iter().next() {
        Some(name) => Err(Refusal::Parameter(name)),
        None => Ok(Order {
            id: format!("order_{}", super::id("order_", seed)),
            amount,
            capture,
            receipt,
            metadata,
            created: now,
        }),
    }
}

pub(super) fn request(
    recognised: &Recognised,
    head: &Head,
    body: &[u8],
    settings: &BTreeMap<String, String>,
) -> Result<Request, Refusal> {
    let target = || Target {
        payment: recognised.object.clone(),
        ..Target::default()
    };
    match recognised.operation {
        Operation::Sale if head.path.ends_with("/json") || head.path.ends_with("/recurring") => {
            pay(head, Fields::parse(body)?, settings)
        }
        Operation::Capture => {
            let mut fields = Fields::parse(body)?;
            let amount = amount(&mut fields)?;
            nothing_left(fields)?;
            Ok(Request::Capture {
                target: target(),
                amount: Some(amount),
                units: None,
                last: true,
            })
        }
        Operation::Refund => refund(Fields::parse(body)?, target()),
        Operation::Retrieve => Ok(Request::Retrieve { target: target() }),
        Operation::RetrieveRefund => Ok(Request::RetrieveRefund {
            refund: recognised.object.clone().unwrap_or_default(),
        }),
        Operation::List => Ok(Request::List(ListFilter {
            refunds_of: recognised.object.clone(),
            limit: 100,
            ..ListFilter::default()
        })),
        _ => Err(Refusal::Operation("this call".to_owned())),
    }
}

fn nothing_left(fields: Fields) -> Result<(), Refusal> {
    let mut names = Vec::new();
    fields.leftovers(&mut names);
    match names.into_iter().next() {
        None => Ok(()),
        Some(name) => Err(Refusal::Parameter(name)),
    }
}

fn amount(fields: &mut Fields) -> Result<Amount, Refusal> {
    let currency = fields.required("currency")?;
    let value = fields.value("amount").unwrap_or(Value::Null);
    Ok(Amount::json_minor(Dialect::Razorpay, &value, &currency)?)
}

/// A refund names no currency: the payment's is meant.
fn refund(mut fields: Fields, target: Target) -> Result<Request, Refusal> {
    let units = match fields.value("amount") {
        None => None,
        Some(Value::Number(number)) => match number.as_i64() {
            Some(units) if units > 0 => Some(units),
            _ => return Err(Refusal::Malformed("amount is not a positive integer".to_owned())),
        },
        Some(_) => return Err(Refusal::Malformed("amount is not an integer".to_owned())),
    };
    // How fast the money travels is Razorpay's matter; elsewhere it goes as it goes.
    fields.drop_fields(&["speed"]);
    let reference = fields.string("receipt")?;
    let metadata = notes(&mut fields)?;
    nothing_left(fields)?;
    Ok(Request::Refund {
        target,
        amount: None,
        units,
        reason: None,
        reference,
        metadata,
    })
}

/// `[]` where there are none, as PHP writes an empty object.
fn notes(fields: &mut Fields) -> Result<IndexMap<String, String>, Refusal> {
    let mut notes = IndexMap::new();
    match fields.value("notes") {
        None => {}
        Some(Value::Array(list)) if list.is_empty() => {}
        Some(Value::Object(map)) => {
            for (key, value) in map {
                let text = match value {
                    Value::String(text) => text,
                    Value::Number(number) => number.to_string(),
                    Value::Bool(flag) => flag.to_string(),
                    Value::Null => continue,
                    _ => return Err(Refusal::Malformed("notes hold something that is no text".to_owned())),
                };
                notes.insert(key, text);
            }
        }
        Some(_) => return Err(Refusal::Malformed("notes are not an object".to_owned())),
    }
    Ok(notes)
}

fn pay(head: &Head, mut fields: Fields, settings: &BTreeMap<String, String>) -> Result<Request, Refusal> {
    let mut unportable = Vec::new();
    let recurring = head.path.ends_with("/recurring");
    // Without the secret no answer of Sentinel's could be signed as the application's SDK checks it.
    if secret(&head.headers).is_none() {
        unportable.push("Authorization".to_owned());
    }
    if head.headers.contains_key("x-razorpay-account") {
        unportable.push("X-Razorpay-Account".to_owned());
    }
    let amount = amount(&mut fields)?;
    if amount.is_zero() {
        unportable.push("amount".to_owned());
    }
    let capture = match settings.get("capture").map(String::as_str) {
        Some("automatic") => CaptureMode::Automatic,
        Some("manual") => CaptureMode::Manual,
        _ => {
            unportable.push("capture mode of the order".to_owned());
            CaptureMode::Automatic
        }
    };
    let order = fields.string("order_id")?;
    if order.is_none() {
        // Such a payment cannot be captured and is returned to the shopper.
        unportable.push("order_id".to_owned());
    }
    let (instrument, holder) = instrument(&mut fields, &mut unportable)?;
    if recurring {
        fields.drop_fields(&["recurring"]);
    }
    let pay = Pay {
        operation: match capture {
            CaptureMode::Automatic => Operation::Sale,
            CaptureMode::Manual => Operation::Authorize,
        },
        confirms: None,
        amount: Some(amount),
        capture,
        instrument: Some(instrument),
        customer: fields.string("customer_id")?,
        initiator: if recurring {
            Initiator::Merchant
        } else {
            Initiator::Customer
        },
        // An order is paid once: it is what names the payment.
        reference: order,
        description: fields.string("description")?,
        statement: None,
        metadata: notes(&mut fields)?,
        buyer: Buyer {
            name: holder,
            email: fields.string("email")?,
            phone: fields.string("contact")?,
            ip: fields.string("ip")?,
            billing: None,
            shipping: None,
        },
        return_url: fields.string("callback_url")?,
        three_ds: None,
        network_transaction_id: None,
        unportable: Vec::new(),
    };
    fields.drop_fields(&IMMATERIAL);
    fields.leftovers(&mut unportable);
    Ok(Request::Pay(Box::new(Pay { unportable, ..pay })))
}

fn instrument(fields: &mut Fields, unportable: &mut Vec<String>) -> Result<(Instrument, Option<String>), Refusal> {
    let method = fields.string("method")?;
    if let Some(token) = fields.string("token")? {
        // The code is for Razorpay's own vault; a stored card is good without it everywhere.
        let mut card = fields.object("card")?;
        card.drop_fields(&["cvv"]);
        card.leftovers(unportable);
        return Ok((Instrument::Token(token), None));
    }
    match method.as_deref() {
        None | Some("card") => {}
        Some(other) => return Ok((Instrument::Bound(other.to_owned()), None)),
    }
    let mut card = fields.object("card")?;
    let (number, month, year) = (
        card.string("number")?,
        card.string("expiry_month")?,
        card.string("expiry_year")?,
    );
    let (cvc, holder) = (card.string("cvv")?, card.string("name")?);
    card.leftovers(unportable);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (Some(number), Some(month), Some(year)) = (number, month, year) else {
        return Ok((Instrument::Bound("card".to_owned()), holder));
    };
    let plain = digits(&number) && digits(&month) && digits(&year) && cvc.as_deref().is_none_or(digits);
    if !plain || month.len() > 2 || !matches!(year.len(), 2 | 4) {
        return Ok((Instrument::Bound("card".to_owned()), holder));
    }
    let year = if year.len() == 2 { format!("20{year}") } else { year };
    let card = Card {
        number,
        expiry_month: format!("{month:0>2}"),
        expiry_year: year,
        cvc,
        holder: holder.clone(),
    };
    Ok((Instrument::Card(card), holder))
}
