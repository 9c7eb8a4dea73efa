//! What an application's Square request means.

use http::Method;
use indexmap::IndexMap;
use serde_json::Value;

use super::KEY_LEN;
use crate::config::model::Dialect;
use crate::gateway::canonical::{
    Address, Buyer, CaptureMode, Initiator, Instrument, Operation, Pay, Refusal, Request, Target,
};
use crate::gateway::json::{self, Fields};
use crate::gateway::{Head, Recognised};
use crate::money::Amount;

/// Under this name the seller's location is kept, so that answers can show it.
pub(super) const LOCATION: &str = "location_id";

pub(super) fn recognise(method: &Method, path: &str) -> Recognised {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (get, post, put) = (method == Method::GET, method == Method::POST, method == Method::PUT);
    let (operation, object) = match segments.as_slice() {
        // Whether it holds or takes money stands in the body.
        ["v2", "payments"] if post => (Operation::Sale, None),
        ["v2", "payments", "cancel"] if post => (Operation::Void, None),
        ["v2", "payments", id] if get => (Operation::Retrieve, Some(id)),
        ["v2", "payments", id] if put => (Operation::Edit, Some(id)),
        ["v2", "payments", id, "complete"] if post => (Operation::Capture, Some(id)),
        ["v2", "payments", id, "cancel"] if post => (Operation::Void, Some(id)),
        // The payment's id stands in the body.
        ["v2", "refunds"] if post => (Operation::Refund, None),
        ["v2", "refunds", id] if get => (Operation::RetrieveRefund, Some(id)),
        ["v2", "payments" | "refunds", id, ..] => (Operation::Opaque, Some(id)),
        _ => (Operation::Opaque, None),
    };
    let object = object.map(|id| (*id).to_owned()).filter(|id| !id.is_empty());
    Recognised { operation, object }
}

/// The key in the body. A request that has no place for one is named by its path: it does the same however often it comes.
pub(super) fn key(head: &Head, body: &[u8]) -> Result<Option<String>, Refusal> {
    if head.method != Method::POST {
        return Ok(None);
    }
    let by_id = head.path.ends_with("/complete") || head.path.ends_with("/cancel");
    if by_id && head.path != "/v2/payments/cancel" {
        return Ok(Some(head.path.clone()));
    }
    let Some(fields) = json::object(body) else {
        return Ok(None);
    };
    match fields.get("idempotency_key") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(key)) if key.is_empty() => Err(Refusal::IdempotencyKey("empty".to_owned())),
        Some(Value::String(key)) if key.len() > KEY_LEN => {
            Err(Refusal::IdempotencyKey(format!("longer than {KEY_LEN} bytes")))
        }
        Some(Value::String(key)) if key.chars().any(char::is_control) => {
            Err(Refusal::IdempotencyKey("holds control characters".to_owned()))
        }
        // Cancelling by key names another request's key, and has none itself.
        Some(Value::String(key)) if head.path == "/v2/payments/cancel" => Ok(Some(format!("cancel {key}"))),
        Some(Value::String(key)) => Ok(Some(key.clone())),
        Some(_) => Err(Refusal::IdempotencyKey("not a string".to_owned())),
    }
}

pub(super) fn request(recognised: &Recognised, body: &[u8]) -> Result<Request, Refusal> {
    let target = Target {
        payment: recognised.object.clone(),
        ..Target::default()
    };
    let mut fields = Fields::parse(body)?;
    match recognised.operation {
        Operation::Sale | Operation::Authorize => pay(fields),
        Operation::Edit => {
            fields.drop_fields(&["idempotency_key"]);
            let mut payment = fields.object("payment")?;
            let amount = money(&mut payment, "amount_money")?;
            let amount = amount.ok_or_else(|| Refusal::Malformed("payment.amount_money is missing".to_owned()))?;
            payment.drop_fields(&["version_token"]);
            nothing_left(payment)?;
            nothing_left(fields)?;
            Ok(Request::Capture {
                target,
                amount: Some(amount),
                units: None,
                last: true,
            })
        }
        Operation::Capture => {
            fields.drop_fields(&["version_token"]);
            nothing_left(fields)?;
            Ok(Request::Capture {
                target,
                amount: None,
                units: None,
                last: true,
            })
        }
        Operation::Void => {
            let mut target = target;
            if target.payment.is_none() {
                target.key = Some(fields.required("idempotency_key")?);
            }
            fields.drop_fields(&["version_token"]);
            nothing_left(fields)?;
            Ok(Request::Void { target, reason: None })
        }
        Operation::Refund => {
            let payment = fields.required("payment_id")?;
            let amount = money(&mut fields, "amount_money")?;
            if amount.is_none() {
                return Err(Refusal::Malformed("amount_money is missing".to_owned()));
            }
            let reason = fields.string("reason")?;
            fields.drop_fields(&[
                "idempotency_key",
                "team_member_id",
                "payment_version_token",
                "location_id",
            ]);
            nothing_left(fields)?;
            Ok(Request::Refund {
                target: Target {
                    payment: Some(payment),
                    ..Target::default()
                },
                amount,
                units: None,
                reason,
                reference: None,
                metadata: IndexMap::new(),
            })
        }
        Operation::Retrieve => Ok(Request::Retrieve { target }),
        Operation::RetrieveRefund => Ok(Request::RetrieveRefund {
            refund: recognised.object.clone().unwrap_or_default(),
        }),
        _ => Err(Refusal::Operation("this call".to_owned())),
    }
}

/// What is asked for beyond the known (an application's fee, an unlinked refund) is nothing that another gateway can do.
fn nothing_left(fields: Fields) -> Result<(), Refusal> {
    let mut names = Vec::new();
    fields.leftovers(&mut names);
    match names.into_iter().next() {
        None => Ok(()),
        Some(name) => Err(Refusal::Parameter(name)),
    }
}

fn money(fields: &mut Fields, name: &str) -> Result<Option<Amount>, Refusal> {
    if !fields.has(name) {
        return Ok(None);
    }
    let mut money = fields.object(name)?;
    let currency = money.required("currency")?;
    let value = money.value("amount").unwrap_or(Value::Null);
    Ok(Some(Amount::json_minor(Dialect::Square, &value, &currency)?))
}

fn pay(mut fields: Fields) -> Result<Request, Refusal> {
    let mut unportable = Vec::new();
    let amount = money(&mut fields, "amount_money")?;
    let amount = amount.ok_or_else(|| Refusal::Malformed("amount_money is missing".to_owned()))?;
    if amount.is_zero() {
        unportable.push("amount_money".to_owned());
    }
    for part in ["tip_money", "app_fee_money"] {
        if money(&mut fields, part)?.is_some_and(|money| !money.is_zero()) {
            unportable.push(part.to_owned());
        }
    }
    let capture = match fields.flag("autocomplete")? {
        Some(false) => CaptureMode::Manual,
        _ => CaptureMode::Automatic,
    };
    // A hold that ends or is taken by itself after a time of the application's choosing does so at Square alone.
    for delay in ["delay_duration", "delay_action"] {
        if fields.string(delay)?.is_some() && capture == CaptureMode::Manual {
            unportable.push(delay.to_owned());
        }
    }
    if fields.flag("accept_partial_authorization")? == Some(true) {
        unportable.push("accept_partial_authorization".to_owned());
    }
    let source = fields.required("source_id")?;
    let mut metadata = IndexMap::new();
    if let Some(location) = fields.string(LOCATION)? {
        metadata.insert(LOCATION.to_owned(), location);
    }
    let initiator = initiator(&mut fields, &mut unportable)?;
    let billing = address(&mut fields, "billing_address")?;
    let shipping = address(&mut fields, "shipping_address")?;
    let named = billing.as_ref().or(shipping.as_ref());
    let name = named.and_then(|(_, name)| name.clone());
    let pay = Pay {
        operation: match capture {
            CaptureMode::Automatic => Operation::Sale,
            CaptureMode::Manual => Operation::Authorize,
        },
        confirms: None,
        amount: Some(amount),
        capture,
        instrument: Some(instrument(source)),
        customer: fields.string("customer_id")?,
        initiator,
        reference: fields.string("reference_id")?,
        description: fields.string("note")?,
        statement: fields.string("statement_description_identifier")?,
        metadata,
        buyer: Buyer {
            name,
            email: fields.string("buyer_email_address")?,
            phone: fields.string("buyer_phone_number")?,
            ip: None,
            billing: billing.map(|(address, _)| address),
            shipping: shipping.map(|(address, _)| address),
        },
        return_url: None,
        three_ds: None,
        network_transaction_id: None,
        unportable: Vec::new(),
    };
    fields.drop_fields(&["idempotency_key", "team_member_id"]);
    // What is left is Square's alone: `order_id`, `verification_token` (an authentication made for Square), cash.
    fields.leftovers(&mut unportable);
    Ok(Request::Pay(Box::new(Pay { unportable, ..pay })))
}

/// Cards of Square's vault and of its forms are tokens; everything else is bound to Square.
fn instrument(source: String) -> Instrument {
    match source.split_once(':').map(|(kind, _)| kind) {
        Some("ccof" | "cnon") => Instrument::Token(source),
        Some("bnon") => Instrument::Bound("bank account".to_owned()),
        Some("wnon") => Instrument::Bound("wallet".to_owned()),
        _ => Instrument::Bound(source.to_ascii_lowercase()),
    }
}

fn initiator(fields: &mut Fields, unportable: &mut Vec<String>) -> Result<Initiator, Refusal> {
    let mut details = fields.object("customer_details")?;
    let initiated = details.flag("customer_initiated")?;
    if details.flag("seller_keyed_in")? == Some(true) {
        // Mail and telephone orders follow other rules at every gateway.
        unportable.push("customer_details.seller_keyed_in".to_owned());
    }
    details.leftovers(unportable);
    Ok(match initiated {
        Some(false) => Initiator::Merchant,
        _ => Initiator::Customer,
    })
}

fn address(fields: &mut Fields, field: &str) -> Result<Option<(Address, Option<String>)>, Refusal> {
    if !fields.has(field) {
        return Ok(None);
    }
    let mut address = fields.object(field)?;
    let parts = [address.string("first_name")?, address.string("last_name")?];
    let name = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let lines = [address.string("address_line_2")?, address.string("address_line_3")?];
    let line2 = lines.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let written = Address {
        line1: address.string("address_line_1")?,
        line2: Some(line2).filter(|line| !line.is_empty()),
        city: address.string("locality")?,
        state: address.string("administrative_district_level_1")?,
        postal_code: address.string("postal_code")?,
        country: address.string("country")?.filter(|country| country != "ZZ"),
    };
    Ok(Some((written, Some(name).filter(|name| !name.is_empty()))))
}
