//! Canonical requests as Razorpay wants them.
//!
//! A payment is written in steps that may each be repeated: the order is looked for by its receipt, which is Sentinel's own
//! reference, opened where there is none, asked for payments it may have already, and only then charged. A capture reads the
//! payment first. What is prepared is kept under the names below.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{REFERENCE, REFUND_KEY};
use crate::config::model::Dialect;
use crate::gateway::canonical::{
    CaptureMode, EarlierAttempt, Initiator, Instrument, Operation, Pay, Refusal, Request, Target,
};
use crate::gateway::{Account, Outgoing};
use crate::money::Amount;

/// The order was looked for, and there is none.
pub(super) const ABSENT: &str = "order_absent";
/// The order's id.
pub(super) const ORDER: &str = "order_id";
/// The order has no payment yet.
pub(super) const UNPAID: &str = "order_unpaid";
/// The payment that is to be captured is authorised.
pub(super) const CAPTURABLE: &str = "capturable";

/// The longest receipt.
const RECEIPT_LEN: usize = 40;
/// A hold lasts five days at most, in minutes.
const LONGEST_HOLD: u32 = 7200;
/// A late success of a sale is captured within so many minutes, and returned after.
const SHORTEST_SALE: u32 = 12;
/// What every account takes.
const RUPEES: &str = "INR";
/// The smallest amount in rupees, in paise.
const LEAST: i64 = 100;

pub(super) fn before(request: &Request, account: &Account) -> Result<Option<Outgoing>, Refusal> {
    let prepared = |name: &str| account.prepared.contains_key(name);
    match request {
        Request::Pay(pay) => {
            let body = charge(pay, account, "order_00000000000000")?;
            match account.prepared.get(ORDER) {
                None if !prepared(ABSENT) => {
                    let query = encoded(&[("receipt", &account.reference)]);
                    get(account, format!("/v1/orders?{query}")).map(Some)
                }
                None => post(account, "/v1/orders", order(pay, account, &body)?).map(Some),
                Some(order) if !prepared(UNPAID) => {
                    get(account, format!("/v1/orders/{}/payments", segment(Some(order))?)).map(Some)
                }
                Some(_) => Ok(None),
            }
        }
        Request::Capture { target, .. } if !prepared(CAPTURABLE) => {
            whole(request)?;
            get(account, format!("/v1/payments/{}", payment(target)?)).map(Some)
        }
        _ => Ok(None),
    }
}

pub(super) fn request(request: &Request, account: &Account) -> Result<Outgoing, Refusal> {
    match request {
        Request::Capture { units: Some(_), .. } | Request::Refund { units: Some(_), .. } => {
            Err(Refusal::Amount("its currency is not known".to_owned()))
        }
        Request::Pay(pay) => {
            let order = account.prepared.get(ORDER);
            let order = order.ok_or_else(|| Refusal::Operation("a payment without an order".to_owned()))?;
            let body = charge(pay, account, order)?;
            post(account, "/v1/payments/create/recurring", body)
        }
        Request::Capture { target, .. } => {
            let amount = whole(request)?;
            let mut body = Map::new();
            body.insert("amount".to_owned(), amount.to_minor(Dialect::Razorpay)?.into());
            body.insert("currency".to_owned(), amount.currency.code().into());
            post(account, &format!("/v1/payments/{}/capture", payment(target)?), body)
        }
        Request::Void { .. } => Err(Refusal::Operation("releasing a hold".to_owned())),
        Request::Refund {
            target,
            amount,
            reference,
            ..
        } => {
            let amount = amount.or(target.amount);
            let amount =
                amount.ok_or_else(|| Refusal::Amount("what is left of the payment is not known".to_owned()))?;
            let mut body = Map::new();
            body.insert("amount".to_owned(), least(amount)?.into());
            body.insert("speed".to_owned(), "normal".into());
            if let Some(receipt) = reference.as_ref().filter(|receipt| fits(receipt)) {
                body.insert("receipt".to_owned(), receipt.clone().into());
            }
            body.insert("notes".to_owned(), json!({REFERENCE: account.reference}));
            let mut outgoing = post(account, &format!("/v1/payments/{}/refund", payment(target)?), body)?;
            let key = &account.idempotency_key;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            if !(10..=64).contains(&key.len()) || !key.bytes().all(plain) {
                return Err(Refusal::IdempotencyKey(
                    "not 10 to 64 letters, digits, `-` or `_`".to_owned(),
                ));
            }
            let key = HeaderValue::from_str(key).map_err(|_| Refusal::IdempotencyKey("not plain".to_owned()))?;
            outgoing.headers.insert(REFUND_KEY, key);
            Ok(outgoing)
        }
        Request::Retrieve { target } => get(account, format!("/v1/payments/{}", payment(target)?)),
        Request::RetrieveRefund { refund } => get(account, format!("/v1/refunds/{}", segment(Some(refund))?)),
        Request::List(_) => Err(Refusal::Operation("listing payments".to_owned())),
    }
}

/// By id; else by the order: the application's own, whose id is its reference, or Sentinel's, whose receipt is.
pub(super) fn lookup(earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
    if let Some(id) = earlier.object.as_ref().or(earlier.charge.as_ref()) {
        let id = segment(Some(id)).ok()?;
        let kind = if id.starts_with("rfnd_") { "refunds" } else { "payments" };
        return get(account, format!("/v1/{kind}/{id}")).ok();
    }
    let reference = earlier.reference.as_ref()?;
    if reference.starts_with("order_") {
        return get(
            account,
            format!("/v1/orders/{}/payments", segment(Some(reference)).ok()?),
        )
        .ok();
    }
    let query = encoded(&[("receipt", reference), ("expand[]", "payments")]);
    get(account, format!("/v1/orders?{query}")).ok()
}

/// Lists one payment: moves nothing, and needs the keys to be good.
pub(super) fn probe(account: &Account) -> Option<Outgoing> {
    get(account, "/v1/payments?count=1".to_owned()).ok()
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

fn headers(account: &Account) -> Result<HeaderMap, Refusal> {
    let credential = |name: &str| {
        let value = account.credentials.get(name);
        value.ok_or_else(|| Refusal::Account(name.to_owned()))
    };
    let pair = Zeroizing::new(format!("{}:{}", credential("key_id")?, credential("key_secret")?));
    // The scheme is compared letter by letter there.
    let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut basic = HeaderValue::from_str(&basic).map_err(|_| Refusal::Account("key_secret".to_owned()))?;
    basic.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, basic);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(headers)
}

fn post(account: &Account, path: &str, body: Map<String, Value>) -> Result<Outgoing, Refusal> {
    Ok(Outgoing::json(path, headers(account)?, &body))
}

fn get(account: &Account, target: String) -> Result<Outgoing, Refusal> {
    Ok(Outgoing::get(target, headers(account)?))
}

/// An id as a path segment: anything that is not one never reaches a path.
fn segment(id: Option<&String>) -> Result<&str, Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match id {
        Some(id) if !id.is_empty() && id.len() <= 40 && id.bytes().all(plain) => Ok(id),
        _ => Err(Refusal::Malformed("the payment has no id of Razorpay's".to_owned())),
    }
}

fn payment(target: &Target) -> Result<&str, Refusal> {
    segment(target.payment.as_ref())
}

fn fits(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= RECEIPT_LEN
}

/// The currencies that the account is declared to take.
pub(super) fn currencies(settings: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    let declared = settings.get("currencies").map_or(RUPEES, String::as_str);
    declared.split(',').filter(|code| !code.is_empty())
}

/// The amount on the wire, where it is enough for Razorpay.
pub(super) fn least(amount: Amount) -> Result<i64, Refusal> {
    let units = amount.to_minor(Dialect::Razorpay)?;
    if units == 0 || (amount.currency.code() == RUPEES && units < LEAST) {
        return Err(Refusal::Limit("less than 1.00".to_owned()));
    }
    Ok(units)
}

/// A capture takes the whole.
pub(super) fn whole(request: &Request) -> Result<Amount, Refusal> {
    let Request::Capture { target, amount, .. } = request else {
        return Err(Refusal::Operation("this call".to_owned()));
    };
    match (*amount, target.amount) {
        (Some(amount), Some(whole)) if amount != whole => {
            Err(Refusal::Operation("capturing a part of the amount".to_owned()))
        }
        (amount, whole) => amount
            .or(whole)
            .ok_or_else(|| Refusal::Amount("what is held is not known".to_owned())),
    }
}

/// The order: a late success of a hold is never captured, and of a sale within the shortest time only.
fn order(pay: &Pay, account: &Account, charge: &Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    if !fits(&account.reference) {
        return Err(Refusal::Parameter("reference".to_owned()));
    }
    let mut order = Map::new();
    for name in ["amount", "currency", "notes"] {
        if let Some(value) = charge.get(name) {
            order.insert(name.to_owned(), value.clone());
        }
    }
    order.insert("receipt".to_owned(), account.reference.clone().into());
    let capture = match pay.capture {
        CaptureMode::Automatic => json!({"capture": "automatic", "capture_options": {
            "automatic_expiry_period": SHORTEST_SALE, "manual_expiry_period": LONGEST_HOLD, "refund_speed": "normal"}}),
        CaptureMode::Manual => json!({"capture": "manual", "capture_options": {
            "manual_expiry_period": LONGEST_HOLD, "refund_speed": "normal"}}),
    };
    order.insert("payment".to_owned(), capture);
    Ok(order)
}

/// A mandate that is charged for the merchant: everything else needs the shopper at Razorpay's page.
fn charge(pay: &Pay, account: &Account, order: &str) -> Result<Map<String, Value>, Refusal> {
    if let Some(name) = pay.unportable.first() {
        return Err(Refusal::Parameter(name.clone()));
    }
    if pay.operation == Operation::Create {
        return Err(Refusal::Operation("a payment without execution".to_owned()));
    }
    if pay.three_ds.is_some() {
        return Err(Refusal::ThreeDs);
    }
    let amount = pay.amount.ok_or_else(|| Refusal::Amount("none is named".to_owned()))?;
    if !currencies(&account.settings).any(|code| code == amount.currency.code()) {
        return Err(Refusal::Currency(amount.currency.code().to_owned()));
    }
    let units = least(amount)?;
    let Some(Instrument::Token(token)) = &pay.instrument else {
        return Err(Refusal::NoPortableInstrument);
    };
    let (customer, token) = token.split_once('/').ok_or(Refusal::NoPortableInstrument)?;
    if !customer.starts_with("cust_") || !token.starts_with("token_") {
        return Err(Refusal::NoPortableInstrument);
    }
    if pay.initiator == Initiator::Customer {
        return Err(Refusal::CustomerAction);
    }
    let email = pay
        .buyer
        .email
        .as_ref()
        .filter(|email| email.contains('@') && email.len() <= 40);
    let contact = pay.buyer.phone.as_ref().filter(|phone| {
        let digits = phone.strip_prefix('+').unwrap_or(phone);
        (8..=14).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    let (Some(email), Some(contact)) = (email, contact) else {
        return Err(Refusal::Parameter(
            "the buyer's e-mail address and telephone number".to_owned(),
        ));
    };
    let mut body = Map::new();
    body.insert("email".to_owned(), email.clone().into());
    body.insert("contact".to_owned(), contact.clone().into());
    body.insert("amount".to_owned(), units.into());
    body.insert("currency".to_owned(), amount.currency.code().into());
    body.insert("order_id".to_owned(), order.into());
    body.insert("customer_id".to_owned(), customer.into());
    body.insert("token".to_owned(), token.into());
    body.insert("recurring".to_owned(), true.into());
    if let Some(description) = pay
        .description
        .as_ref()
        .filter(|text| !text.is_empty() && text.len() <= 255)
    {
        body.insert("description".to_owned(), description.clone().into());
    }
    let mut notes = Map::new();
    notes.insert(REFERENCE.to_owned(), account.reference.clone().into());
    if let Some(reference) = pay
        .reference
        .as_ref()
        .filter(|text| !text.is_empty() && text.chars().count() <= 256)
    {
        notes.insert("order".to_owned(), reference.clone().into());
    }
    body.insert("notes".to_owned(), notes.into());
    Ok(body)
}
