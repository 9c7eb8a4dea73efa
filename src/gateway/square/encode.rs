//! Canonical requests as Square wants them.
//!
//! `reference_id` is Sentinel's own, so that the list of payments names exactly one; the merchant's order reference
//! stands in the note. Square refuses fields that it does not know, so that nothing is sent on the chance that it helps;
//! decoration that Square would refuse a payment for (a telephone number, an e-mail address that is none) is left out.

use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value, json};

use super::{API_VERSION, KEY_LEN, REFERENCE_LEN};
use crate::config::model::Dialect;
use crate::gateway::canonical::{
    Address, CaptureMode, EarlierAttempt, Initiator, Instrument, Operation, Pay, Refusal, Request, Target,
};
use crate::gateway::{Account, Outgoing};
use crate::money::Amount;

/// Under this name the version of the lowered payment is kept for its capture.
pub(super) const VERSION: &str = "version_token";

pub(super) fn request(request: &Request, account: &Account) -> Result<Outgoing, Refusal> {
    match request {
        Request::Capture { units: Some(_), .. } | Request::Refund { units: Some(_), .. } => {
            Err(Refusal::Amount("its currency is not known".to_owned()))
        }
        Request::Pay(pay) => post(account, "/v2/payments", self::pay(pay, account)?),
        Request::Capture { target, .. } => {
            let mut body = Map::new();
            match (lowered(request)?, account.prepared.get(VERSION)) {
                (Some(_), Some(version)) => {
                    body.insert("version_token".to_owned(), version.clone().into());
                }
                // Completing now would take the whole.
                (Some(_), None) => return Err(Refusal::Amount("the payment was not lowered to it first".to_owned())),
                (None, _) => {}
            }
            post(account, &format!("/v2/payments/{}/complete", payment(target)?), body)
        }
        Request::Void { target, .. } => post(
            account,
            &format!("/v2/payments/{}/cancel", payment(target)?),
            Map::new(),
        ),
        Request::Refund {
            target, amount, reason, ..
        } => {
            let amount = amount.or(target.amount);
            let amount =
                amount.ok_or_else(|| Refusal::Amount("what is left of the payment is not known".to_owned()))?;
            let mut body = keyed(account)?;
            body.insert("payment_id".to_owned(), payment(target)?.into());
            body.insert("amount_money".to_owned(), money(amount)?);
            if let Some(reason) = reason
                .as_deref()
                .map(|reason| cut(reason, 192))
                .filter(|cut| !cut.is_empty())
            {
                body.insert("reason".to_owned(), reason.into());
            }
            post(account, "/v2/refunds", body)
        }
        Request::Retrieve { target } => get(account, format!("/v2/payments/{}", payment(target)?)),
        Request::RetrieveRefund { refund } => get(account, format!("/v2/refunds/{}", segment(Some(refund))?)),
        Request::List(_) => Err(Refusal::Operation("listing payments".to_owned())),
    }
}

/// What a capture takes, where that is less than the whole.
fn lowered(request: &Request) -> Result<Option<Amount>, Refusal> {
    let Request::Capture { target, amount, .. } = request else {
        return Ok(None);
    };
    match (*amount, target.amount) {
        (Some(amount), Some(whole)) if amount == whole => Ok(None),
        (Some(amount), Some(whole)) if amount.currency != whole.currency || amount.units > whole.units => {
            Err(Refusal::Amount("more than is held".to_owned()))
        }
        (Some(amount), _) => Ok(Some(amount)),
        (None, _) => Ok(None),
    }
}

/// Before a capture of less: lowers the amount. It moves nothing, and the hold stays.
pub(super) fn before(request: &Request, account: &Account) -> Result<Option<Outgoing>, Refusal> {
    let Request::Capture { target, .. } = request else {
        return Ok(None);
    };
    if account.prepared.contains_key(VERSION) {
        return Ok(None);
    }
    let Some(amount) = lowered(request)? else {
        return Ok(None);
    };
    let mut body = keyed(account)?;
    body.insert("payment".to_owned(), json!({"amount_money": money(amount)?}));
    let mut outgoing = post(account, &format!("/v2/payments/{}", payment(target)?), body)?;
    outgoing.method = Method::PUT;
    Ok(Some(outgoing))
}

/// What a capture asked to be lowered to, for whoever reads the answer.
pub(super) fn wanted(request: &Request) -> Option<Amount> {
    lowered(request).ok().flatten()
}

/// Cancels by id where it is known, else by the key that the create carried: that acts on what has arrived only.
pub(super) fn fence(earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
    if earlier.automatic_capture {
        return None;
    }
    if let Some(id) = &earlier.object {
        let id = segment(Some(id)).ok()?;
        return post(account, &format!("/v2/payments/{id}/cancel"), Map::new()).ok();
    }
    let key = earlier.idempotency_key.clone()?;
    let mut body = Map::new();
    body.insert("idempotency_key".to_owned(), key.into());
    post(account, "/v2/payments/cancel", body).ok()
}

/// Reads the payment or refund by its id, or lists the payments of the time and amount of an attempt without one.
pub(super) fn lookup(earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
    if let Some(id) = earlier.object.as_ref().or(earlier.charge.as_ref()) {
        let id = segment(Some(id)).ok()?;
        let kind = if id.contains('_') { "refunds" } else { "payments" };
        return get(account, format!("/v2/{kind}/{id}")).ok();
    }
    listing(earlier, account, None)
}

/// One page of the payments of the time and amount of an attempt: the first, or the one behind a cursor. Square wants the
/// first page's question with it.
pub(super) fn listing(earlier: &EarlierAttempt, account: &Account, cursor: Option<&str>) -> Option<Outgoing> {
    earlier.reference.as_ref()?;
    let time = |at: i64| jiff::Timestamp::from_second(at).ok().map(|at| at.to_string());
    // Five minutes of clock difference before, and an hour for a request that was long on its way.
    let (from, to) = (time(earlier.sent_at - 300)?, time(earlier.sent_at + 3600)?);
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("begin_time", &from).append_pair("end_time", &to);
    query.append_pair("sort_order", "ASC").append_pair("limit", "100");
    if let Some(amount) = earlier.amount {
        query.append_pair("total", &amount.to_minor(Dialect::Square).ok()?.to_string());
        if let Ok(Some(location)) = location(account, amount) {
            query.append_pair("location_id", location);
        }
    }
    if let Some(cursor) = cursor {
        query.append_pair("cursor", cursor);
    }
    get(account, format!("/v2/payments?{}", query.finish())).ok()
}

/// Lists one payment: moves nothing, and needs no other right than payments do.
pub(super) fn probe(account: &Account) -> Option<Outgoing> {
    get(account, "/v2/payments?limit=1".to_owned()).ok()
}

fn headers(account: &Account) -> Result<HeaderMap, Refusal> {
    let token = account.credentials.get("access_token");
    let token = token.ok_or_else(|| Refusal::Account("access_token".to_owned()))?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| Refusal::Account("an access_token fit for a header".to_owned()))?;
    bearer.set_sensitive(true);
    let version = account.settings.get("api_version").map_or(API_VERSION, String::as_str);
    let version = HeaderValue::from_str(version).map_err(|_| Refusal::Account("api_version".to_owned()))?;
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, bearer);
    headers.insert("square-version", version);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(headers)
}

fn post(account: &Account, path: &str, body: Map<String, Value>) -> Result<Outgoing, Refusal> {
    Ok(Outgoing::json(path, headers(account)?, &body))
}

fn get(account: &Account, target: String) -> Result<Outgoing, Refusal> {
    Ok(Outgoing::get(target, headers(account)?))
}

/// A body that begins with its key.
fn keyed(account: &Account) -> Result<Map<String, Value>, Refusal> {
    let key = &account.idempotency_key;
    if key.is_empty() || key.len() > KEY_LEN {
        return Err(Refusal::IdempotencyKey(format!("not 1 to {KEY_LEN} bytes")));
    }
    let mut body = Map::new();
    body.insert("idempotency_key".to_owned(), key.clone().into());
    Ok(body)
}

/// An id as a path segment: anything that is not one never reaches a path.
fn segment(id: Option<&String>) -> Result<&str, Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match id {
        Some(id) if !id.is_empty() && id.len() <= 255 && id.bytes().all(plain) => Ok(id),
        _ => Err(Refusal::Malformed("the payment has no id of Square's".to_owned())),
    }
}

fn payment(target: &Target) -> Result<&str, Refusal> {
    segment(target.payment.as_ref())
}

fn money(amount: Amount) -> Result<Value, Refusal> {
    Ok(json!({"amount": amount.to_minor(Dialect::Square)?, "currency": amount.currency.code()}))
}

/// Text on one line, cut to so many bytes at most.
fn cut(text: &str, max: usize) -> String {
    let mut line = String::new();
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if line.len() + c.len_utf8() > max {
            break;
        }
        line.push(c);
    }
    line.trim().to_owned()
}

/// The location that takes the amount's currency; `Ok(None)` where one is not said, and Square's own default holds.
fn location(account: &Account, amount: Amount) -> Result<Option<&str>, Refusal> {
    let code = amount.currency.code();
    if let Some(location) = account.credentials.get(&format!("locations.{code}")) {
        return Ok(Some(location));
    }
    if account.credentials.names().any(|name| name.starts_with("locations.")) {
        return Err(Refusal::Currency(code.to_owned()));
    }
    Ok(account.credentials.get("location_id"))
}

fn pay(pay: &Pay, account: &Account) -> Result<Map<String, Value>, Refusal> {
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
    if amount.is_zero() {
        return Err(Refusal::Amount("zero".to_owned()));
    }
    if account.reference.is_empty() || account.reference.len() > REFERENCE_LEN {
        return Err(Refusal::Parameter("reference".to_owned()));
    }
    let mut body = keyed(account)?;
    source(pay, &mut body)?;
    body.insert("amount_money".to_owned(), money(amount)?);
    body.insert(
        "autocomplete".to_owned(),
        (pay.capture == CaptureMode::Automatic).into(),
    );
    if let Some(location) = location(account, amount)? {
        body.insert("location_id".to_owned(), location.into());
    }
    body.insert("reference_id".to_owned(), account.reference.clone().into());
    if pay.initiator == Initiator::Merchant {
        body.insert("customer_details".to_owned(), json!({"customer_initiated": false}));
    }
    optional(pay, &mut body);
    Ok(body)
}

fn source(pay: &Pay, body: &mut Map<String, Value>) -> Result<(), Refusal> {
    let Some(Instrument::Token(token)) = &pay.instrument else {
        return Err(Refusal::NoPortableInstrument);
    };
    let (customer, source) = match token.split_once('/') {
        Some((customer, source)) => (Some(customer), source),
        None => (pay.customer.as_deref(), token.as_str()),
    };
    let customer = customer.filter(|customer| !customer.is_empty() && customer.len() <= 191);
    match source.split_once(':') {
        Some(("ccof", id)) if !id.is_empty() && customer.is_some() => {}
        Some(("cnon", id)) if !id.is_empty() => {}
        _ => return Err(Refusal::NoPortableInstrument),
    }
    body.insert("source_id".to_owned(), source.into());
    if let Some(customer) = customer {
        body.insert("customer_id".to_owned(), customer.into());
    }
    Ok(())
}

fn optional(pay: &Pay, body: &mut Map<String, Value>) {
    let reference = pay.reference.as_deref().filter(|reference| !reference.is_empty());
    let description = pay.description.as_deref().filter(|text| !text.is_empty());
    let note = match (reference, description) {
        (Some(reference), Some(text)) => format!("order {reference}: {text}"),
        (Some(reference), None) => format!("order {reference}"),
        (None, text) => text.unwrap_or_default().to_owned(),
    };
    let mut put = |name: &str, text: String| {
        if !text.is_empty() {
            body.insert(name.to_owned(), text.into());
        }
    };
    put("note", cut(&note, 500));
    put(
        "statement_description_identifier",
        cut(pay.statement.as_deref().unwrap_or_default(), 20),
    );
    let mail = |mail: &&String| {
        let plain = mail.is_ascii() && !mail.contains(|c: char| c.is_whitespace() || c.is_control());
        let parts = mail
            .split_once('@')
            .filter(|(user, host)| !user.is_empty() && host.contains('.'));
        plain && mail.len() <= 255 && parts.is_some()
    };
    put(
        "buyer_email_address",
        pay.buyer.email.as_ref().filter(mail).cloned().unwrap_or_default(),
    );
    for (name, address) in [
        ("billing_address", &pay.buyer.billing),
        ("shipping_address", &pay.buyer.shipping),
    ] {
        if let Some(address) = address.as_ref().and_then(self::address) {
            body.insert(name.to_owned(), address);
        }
    }
}

/// An address that says at least its country, a code that Square checks.
fn address(address: &Address) -> Option<Value> {
    let country = address.country.as_deref()?;
    if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    let mut written = Map::new();
    for (name, part) in [
        ("address_line_1", &address.line1),
        ("address_line_2", &address.line2),
        ("locality", &address.city),
        ("administrative_district_level_1", &address.state),
        ("postal_code", &address.postal_code),
    ] {
        let max = if name == "postal_code" { 12 } else { 255 };
        if let Some(part) = part
            .as_deref()
            .map(|part| cut(part, max))
            .filter(|part| !part.is_empty())
        {
            written.insert(name.to_owned(), part.into());
        }
    }
    written.insert("country".to_owned(), country.to_ascii_uppercase().into());
    Some(written.into())
}
