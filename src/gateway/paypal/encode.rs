//! Canonical requests as PayPal wants them.
//!
//! A payment is one order with its source of payment, which PayPal executes at once. Sentinel's reference travels as
//! `custom_id`, the merchant's order reference as `invoice_id`, which an account may hold to be unique: its refusal of a
//! duplicate protects the buyer and is read as ambiguous. Text that only decorates is cut to PayPal's limits; metadata
//! stays in the ledger. Every request asks for the full representation, because a minimal one does not tell the outcome.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value, json};

use super::{KEY_HEADER, KEY_LEN};
use crate::config::model::Dialect;
use crate::gateway::canonical::{
    Address, CaptureMode, EarlierAttempt, Initiator, Instrument, Operation, Pay, Refusal, Request, Target,
};
use crate::gateway::{Account, Outgoing};
use crate::money::Amount;

pub(super) fn request(request: &Request, account: &Account) -> Result<Outgoing, Refusal> {
    match request {
        Request::Capture { units: Some(_), .. } | Request::Refund { units: Some(_), .. } => {
            Err(Refusal::Amount("its currency is not known".to_owned()))
        }
        Request::Pay(pay) => post(account, "/v2/checkout/orders", Some(order(pay, account)?)),
        Request::Capture {
            target, amount, last, ..
        } => {
            let mut body = Map::new();
            if let Some(amount) = amount.or(target.amount) {
                body.insert("amount".to_owned(), money(amount)?);
            }
            body.insert("final_capture".to_owned(), (*last).into());
            post(
                account,
                &format!("/v2/payments/authorizations/{}/capture", authorization(target)?),
                Some(body),
            )
        }
        Request::Void { target, .. } => post(
            account,
            &format!("/v2/payments/authorizations/{}/void", authorization(target)?),
            None,
        ),
        Request::Refund {
            target,
            amount,
            reason,
            reference,
            ..
        } => {
            let mut body = Map::new();
            if let Some(amount) = amount.or(target.amount) {
                body.insert("amount".to_owned(), money(amount)?);
            }
            let texts = [
                ("custom_id", Some(&account.reference), 127),
                ("invoice_id", reference.as_ref(), 127),
                ("note_to_payer", reason.as_ref(), 255),
            ];
            for (name, text, max) in texts {
                if let Some(text) = text.and_then(|text| cut(text, max)) {
                    body.insert(name.to_owned(), text.into());
                }
            }
            let capture = id(target.charge.as_deref(), "the payment has no capture to refund")?;
            post(account, &format!("/v2/payments/captures/{capture}/refund"), Some(body))
        }
        Request::Retrieve { target } => match (&target.charge, &target.authorization, &target.payment) {
            (_, _, Some(order)) => get(account, &format!("/v2/checkout/orders/{}", id(Some(order), "")?)),
            (Some(capture), ..) => get(account, &format!("/v2/payments/captures/{}", id(Some(capture), "")?)),
            (_, Some(auth), _) => get(account, &format!("/v2/payments/authorizations/{}", id(Some(auth), "")?)),
            _ => Err(Refusal::Malformed("the payment has no id".to_owned())),
        },
        Request::RetrieveRefund { refund } => get(
            account,
            &format!("/v2/payments/refunds/{}", id(Some(refund), "the refund has no id")?),
        ),
        Request::List(_) => Err(Refusal::Operation("listing payments".to_owned())),
    }
}

/// Voids the authorisation: it is final for that id, whenever it was made.
pub(super) fn fence(earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
    if earlier.automatic_capture {
        return None;
    }
    let authorization = id(earlier.charge.as_deref(), "").ok()?;
    post(
        account,
        &format!("/v2/payments/authorizations/{authorization}/void"),
        None,
    )
    .ok()
}

/// Reads the order, or the execution when only its id is known.
pub(super) fn lookup(earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
    let kind = if earlier.automatic_capture {
        "captures"
    } else {
        "authorizations"
    };
    match (&earlier.object, &earlier.charge) {
        (Some(order), _) => get(account, &format!("/v2/checkout/orders/{}", id(Some(order), "").ok()?)).ok(),
        (None, Some(charge)) => get(account, &format!("/v2/payments/{kind}/{}", id(Some(charge), "").ok()?)).ok(),
        _ => None,
    }
}

fn headers(account: &Account) -> Result<HeaderMap, Refusal> {
    let token = account
        .token
        .as_ref()
        .ok_or_else(|| Refusal::Account("access token".to_owned()))?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.value.as_str()))
        .map_err(|_| Refusal::Account("access token".to_owned()))?;
    bearer.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, bearer);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(headers)
}

fn post(account: &Account, path: &str, body: Option<Map<String, Value>>) -> Result<Outgoing, Refusal> {
    let mut headers = headers(account)?;
    if account.idempotency_key.is_empty() || account.idempotency_key.len() > KEY_LEN {
        return Err(Refusal::IdempotencyKey(format!("not 1 to {KEY_LEN} bytes")));
    }
    let key = HeaderValue::from_str(&account.idempotency_key)
        .map_err(|_| Refusal::IdempotencyKey("not visible ASCII".to_owned()))?;
    headers.insert(KEY_HEADER, key);
    headers.insert("prefer", HeaderValue::from_static("return=representation"));
    Ok(Outgoing {
        method: Method::POST,
        target: path.to_owned(),
        headers,
        body: body.as_ref().map_or_else(Bytes::new, crate::gateway::json::body),
    })
}

fn get(account: &Account, path: &str) -> Result<Outgoing, Refusal> {
    Ok(Outgoing {
        method: Method::GET,
        target: path.to_owned(),
        headers: headers(account)?,
        body: Bytes::new(),
    })
}

/// An id as a path segment: anything that is not one never reaches a path.
fn id<'a>(id: Option<&'a str>, missing: &str) -> Result<&'a str, Refusal> {
    let id = id.unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if id.is_empty() || id.len() > 64 || !id.bytes().all(plain) {
        return Err(Refusal::Malformed(missing.to_owned()));
    }
    Ok(id)
}

fn authorization(target: &Target) -> Result<&str, Refusal> {
    id(target.authorization.as_deref(), "the payment has no authorisation")
}

fn money(amount: Amount) -> Result<Value, Refusal> {
    let value = amount.to_decimal(Dialect::Paypal)?;
    if value.len() > 32 {
        return Err(Refusal::Amount("too large".to_owned()));
    }
    Ok(json!({"currency_code": amount.currency.code(), "value": value}))
}

/// Text on one line, cut to PayPal's limit; `None` where nothing is left that could be shown.
fn cut(text: &str, max: usize) -> Option<String> {
    let plain = |c: char| {
        let breaks = c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        if breaks { ' ' } else { c }
    };
    let line = text.chars().map(plain).take(max).collect::<String>();
    Some(line.trim().to_owned()).filter(|line| !line.is_empty())
}

fn order(pay: &Pay, account: &Account) -> Result<Map<String, Value>, Refusal> {
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
    let domestic = account.settings.get("domestic_currency").map(String::as_str);
    if amount.currency.in_country_only(Dialect::Paypal) && domestic != Some(amount.currency.code()) {
        return Err(Refusal::Currency(amount.currency.code().to_owned()));
    }
    if account.reference.is_empty() || account.reference.len() > 127 {
        return Err(Refusal::Parameter("reference".to_owned()));
    }
    let mut unit = Map::new();
    unit.insert("reference_id".to_owned(), "default".into());
    unit.insert("custom_id".to_owned(), account.reference.clone().into());
    unit.insert("amount".to_owned(), money(amount)?);
    if let Some(reference) = pay.reference.as_ref().filter(|reference| !reference.is_empty()) {
        if reference.chars().count() > 127 {
            return Err(Refusal::Parameter("reference".to_owned()));
        }
        unit.insert("invoice_id".to_owned(), reference.clone().into());
    }
    if let Some(description) = pay.description.as_ref().and_then(|description| cut(description, 127)) {
        unit.insert("description".to_owned(), description.into());
    }
    if let Some(statement) = pay
        .statement
        .as_deref()
        .map(descriptor)
        .filter(|statement| !statement.is_empty())
    {
        unit.insert("soft_descriptor".to_owned(), statement.into());
    }
    if let Some(shipping) = pay.buyer.shipping.as_ref().and_then(address) {
        let mut detail = json!({"type": "SHIPPING", "address": shipping});
        if let Some(name) = pay.buyer.name.as_ref().and_then(|name| cut(name, 300)) {
            detail["name"] = json!({"full_name": name});
        }
        unit.insert("shipping".to_owned(), detail);
    }
    let intent = match pay.capture {
        CaptureMode::Automatic => "CAPTURE",
        CaptureMode::Manual => "AUTHORIZE",
    };
    let mut body = Map::new();
    body.insert("intent".to_owned(), intent.into());
    body.insert("purchase_units".to_owned(), Value::Array(vec![unit.into()]));
    body.insert("payment_source".to_owned(), source(pay)?);
    Ok(body)
}

/// PayPal takes letters, digits and `.`, `-`, `*` and spaces, 22 of them.
fn descriptor(text: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '*' | ' ');
    text.chars()
        .filter(allowed)
        .take(22)
        .collect::<String>()
        .trim()
        .to_owned()
}

fn source(pay: &Pay) -> Result<Value, Refusal> {
    let merchant = pay.initiator == Initiator::Merchant;
    let mut card = Map::new();
    let mut stored = false;
    match pay.instrument.as_ref() {
        None | Some(Instrument::Bound(_)) => return Err(Refusal::NoPortableInstrument),
        Some(Instrument::Token(token)) => match token.split_once(':') {
            Some((kind @ ("paypal" | "venmo"), vault)) if !vault.is_empty() => {
                return Ok(json!({kind: {"vault_id": vault}}));
            }
            Some(("token", id)) if !id.is_empty() => {
                return Ok(json!({"token": {"id": id, "type": "BILLING_AGREEMENT"}}));
            }
            None if !token.is_empty() => {
                stored = true;
                card.insert("vault_id".to_owned(), token.clone().into());
            }
            _ => return Err(Refusal::NoPortableInstrument),
        },
        Some(Instrument::Card(plain)) => {
            card.insert("number".to_owned(), plain.number.clone().into());
            card.insert(
                "expiry".to_owned(),
                format!("{}-{}", plain.expiry_year, plain.expiry_month).into(),
            );
            if let Some(cvc) = plain.cvc.as_ref().filter(|_| !merchant) {
                card.insert("security_code".to_owned(), cvc.clone().into());
            }
            let holder = plain
                .holder
                .as_ref()
                .or(pay.buyer.name.as_ref())
                .and_then(|name| cut(name, 300));
            if let Some(holder) = holder {
                card.insert("name".to_owned(), holder.into());
            }
        }
        Some(Instrument::NetworkToken(token)) => {
            let mut fields = Map::new();
            fields.insert("number".to_owned(), token.number.clone().into());
            fields.insert(
                "expiry".to_owned(),
                format!("{}-{}", token.expiry_year, token.expiry_month).into(),
            );
            if let Some(cryptogram) = &token.cryptogram {
                // 20 bytes in base64 with their padding, or the longer form some networks use.
                if !(28..=32).contains(&cryptogram.len()) {
                    return Err(Refusal::Parameter("network token cryptogram".to_owned()));
                }
                fields.insert("cryptogram".to_owned(), cryptogram.clone().into());
            }
            if let Some(flag) = token.eci.as_deref().map(eci_flag) {
                fields.insert("eci_flag".to_owned(), flag.ok_or(Refusal::ThreeDs)?.into());
            }
            card.insert("network_token".to_owned(), fields.into());
        }
    }
    if let Some(billing) = pay.buyer.billing.as_ref().filter(|_| !stored).and_then(address) {
        card.insert("billing_address".to_owned(), billing);
    }
    if merchant {
        let mut credential = Map::new();
        credential.insert("payment_initiator".to_owned(), "MERCHANT".into());
        credential.insert("payment_type".to_owned(), "UNSCHEDULED".into());
        credential.insert("usage".to_owned(), "SUBSEQUENT".into());
        match &pay.network_transaction_id {
            Some(id) => {
                credential.insert("previous_network_transaction_reference".to_owned(), json!({"id": id}));
            }
            // A card of another gateway's file is charged without its holder only on the strength of the first payment.
            None if !stored => return Err(Refusal::Parameter("network transaction id".to_owned())),
            None => {}
        }
        card.insert("stored_credential".to_owned(), credential.into());
    }
    Ok(json!({"card": card}))
}

fn eci_flag(eci: &str) -> Option<&'static str> {
    Some(match eci {
        "05" => "FULLY_AUTHENTICATED_TRANSACTION",
        "06" => "ATTEMPTED_AUTHENTICATION_TRANSACTION",
        "07" => "NON_3D_SECURE_TRANSACTION",
        "02" => "MASTERCARD_FULLY_AUTHENTICATED_TRANSACTION",
        "01" => "MASTERCARD_ATTEMPTED_AUTHENTICATION_TRANSACTION",
        "00" => "MASTERCARD_NON_3D_SECURE_TRANSACTION",
        _ => return None,
    })
}

/// An address only when it names a country, which PayPal insists on.
fn address(address: &Address) -> Option<Value> {
    let country = address.country.as_deref().filter(|country| country.len() == 2)?;
    let mut written = Map::new();
    let parts = [
        ("address_line_1", &address.line1, 300),
        ("address_line_2", &address.line2, 300),
        ("admin_area_2", &address.city, 120),
        ("admin_area_1", &address.state, 300),
        ("postal_code", &address.postal_code, 60),
    ];
    for (name, value, max) in parts {
        if let Some(value) = value.as_deref().and_then(|value| cut(value, max)) {
            written.insert(name.to_owned(), value.into());
        }
    }
    written.insert("country_code".to_owned(), country.to_ascii_uppercase().into());
    Some(written.into())
}
