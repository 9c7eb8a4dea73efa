//! Canonical requests as Braintree's classic gateway wants them: XML in the spelling of its Python SDK.
//!
//! The currency is the merchant account's, so that every payment names one, and a currency without one is refused.
//! Sentinel's reference stands behind the merchant's order in `order_id`, which is the only free text that can be searched:
//! custom fields exist only where the merchant declared them. It also keeps Braintree's check for duplicates from taking
//! a payment for one that Sentinel has just voided.
//!
//! A full refund is asked for as a reversal: Braintree itself then voids what is not settled yet and refunds what is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::parse::{ACCOUNTS, CURRENCY};
use super::xml::{self, Writer};
use super::{API_VERSION, KEY_LEN, keyed};
use crate::config::model::Dialect;
use crate::gateway::canonical::{
    Address, CaptureMode, EarlierAttempt, Initiator, Instrument, Operation, Pay, Refusal, Request, Target, ThreeDs,
};
use crate::gateway::{Account, Outgoing};
use crate::money::{Amount, Currency};

/// The longest order id.
const ORDER_LEN: usize = 255;
/// How long before the request was sent its transaction may have been made, by Braintree's clock.
const SKEW: i64 = 60;

pub(super) fn request(request: &Request, account: &Account) -> Result<Outgoing, Refusal> {
    match request {
        Request::Capture { units: Some(_), .. } | Request::Refund { units: Some(_), .. } => {
            Err(Refusal::Amount("its currency is not known".to_owned()))
        }
        Request::Pay(pay) => {
            let body = self::pay(pay, account)?;
            send(account, Method::POST, "transactions", Some(body))
        }
        Request::Capture { target, amount, .. } => {
            let amount = amount.or(target.amount).map(wire).transpose()?;
            let body = transaction(account, |xml| {
                if let Some(amount) = &amount {
                    xml.text("amount", amount);
                }
            })?;
            let path = format!("transactions/{}/submit_for_settlement", id(target)?);
            send(account, Method::PUT, &path, Some(body))
        }
        Request::Void { target, .. } => {
            let body = transaction(account, |_| {})?;
            send(
                account,
                Method::PUT,
                &format!("transactions/{}/void", id(target)?),
                Some(body),
            )
        }
        Request::Refund {
            target,
            amount,
            reference,
            ..
        } => {
            let whole = amount.is_none() || *amount == target.untouched;
            if whole {
                let body = transaction(account, |_| {})?;
                let path = format!("transactions/{}/reverse", id(target)?);
                return send(account, Method::POST, &path, Some(body));
            }
            let amount = amount.map(wire).transpose()?;
            let order = order(reference.as_deref(), &account.reference)?;
            let body = transaction(account, |xml| {
                if let Some(amount) = &amount {
                    xml.text("amount", amount);
                }
                xml.text("order_id", &order);
            })?;
            send(
                account,
                Method::POST,
                &format!("transactions/{}/refund", id(target)?),
                Some(body),
            )
        }
        Request::Retrieve { target } => send(account, Method::GET, &format!("transactions/{}", id(target)?), None),
        Request::RetrieveRefund { refund } => send(
            account,
            Method::GET,
            &format!("transactions/{}", segment(refund)?),
            None,
        ),
        Request::List(_) => Err(Refusal::Operation("listing payments".to_owned())),
    }
}

/// A claim of the key: a sale that cannot be executed, because it names no amount and nothing to charge. Once Braintree
/// answers that the key belongs to a failed request, the late original is refused for thirty days; where the original had
/// the key before, the claim ends nothing. Without keys, the void of a transaction whose id is known.
pub(super) fn fence(earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
    if let Some(key) = earlier.idempotency_key.as_deref().filter(|_| keyed(&account.settings)) {
        let mut xml = Writer::bare();
        xml.node("transaction", |xml| {
            xml.text("type", "sale");
            xml.text("api_request_key", key);
        });
        return send(account, Method::POST, "transactions", Some(xml.finish())).ok();
    }
    let object = segment(earlier.object.as_deref()?).ok()?;
    send(account, Method::PUT, &format!("transactions/{object}/void"), None).ok()
}

/// Reads the transaction, or searches for its id: by order, amount and time, which is as near as a search comes. What it
/// finds is read by the next look-up.
pub(super) fn lookup(earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
    if let Some(object) = &earlier.object {
        return send(
            account,
            Method::GET,
            &format!("transactions/{}", segment(object).ok()?),
            None,
        )
        .ok();
    }
    let reference = earlier.reference.as_deref().filter(|reference| searchable(reference))?;
    let amount = earlier.amount.map(wire).transpose().ok()?;
    let mut xml = Writer::bare();
    xml.node("search", |xml| {
        // Sentinel's own reference stands behind the merchant's order; the application's own is the whole of it.
        let operator = if reference == account.reference {
            "ends_with"
        } else {
            "is"
        };
        xml.node("order_id", |xml| xml.text(operator, reference));
        if let Some(amount) = &amount {
            xml.node("amount", |xml| xml.text("is", amount));
        }
        xml.node("created_at", |xml| {
            xml.moment("min", earlier.sent_at.saturating_sub(SKEW))
        });
    });
    send(
        account,
        Method::POST,
        "transactions/advanced_search_ids",
        Some(xml.finish()),
    )
    .ok()
}

/// A search that finds nothing: moves nothing, and needs the keys and the merchant id to be good.
pub(super) fn probe(account: &Account) -> Option<Outgoing> {
    let mut xml = Writer::bare();
    xml.node("search", |xml| {
        xml.node("order_id", |xml| xml.text("is", "sentinel-probe"));
    });
    send(
        account,
        Method::POST,
        "transactions/advanced_search_ids",
        Some(xml.finish()),
    )
    .ok()
}

fn searchable(reference: &str) -> bool {
    !reference.is_empty() && reference.chars().count() <= ORDER_LEN && reference.chars().all(xml::legal)
}

fn send(account: &Account, method: Method, resource: &str, body: Option<String>) -> Result<Outgoing, Refusal> {
    let credential = |name: &str| {
        let value = account.credentials.get(name);
        value.ok_or_else(|| Refusal::Account(name.to_owned()))
    };
    let keys = zeroize::Zeroizing::new(format!("{}:{}", credential("public_key")?, credential("private_key")?));
    let basic = zeroize::Zeroizing::new(format!("Basic {}", STANDARD.encode(keys.as_bytes())));
    let mut authorization = HeaderValue::from_str(&basic).map_err(|_| Refusal::Account("private_key".to_owned()))?;
    authorization.set_sensitive(true);
    let merchant = segment(credential("merchant_id")?).map_err(|_| Refusal::Account("merchant_id".to_owned()))?;
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, authorization);
    headers.insert(
        HeaderName::from_static("x-apiversion"),
        HeaderValue::from_static(API_VERSION),
    );
    headers.insert(ACCEPT, HeaderValue::from_static("application/xml"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    Ok(Outgoing {
        method,
        target: format!("/merchants/{merchant}/{resource}"),
        headers,
        body: body.map_or_else(Bytes::new, Bytes::from),
    })
}

/// A transaction with the attempt's key, where the account has keys.
fn transaction(account: &Account, inside: impl FnOnce(&mut Writer)) -> Result<String, Refusal> {
    let key = key(account)?;
    let mut xml = Writer::bare();
    xml.node("transaction", |xml| {
        inside(xml);
        if let Some(key) = key {
            xml.text("api_request_key", key);
        }
    });
    Ok(xml.finish())
}

fn key(account: &Account) -> Result<Option<&str>, Refusal> {
    if !keyed(&account.settings) {
        return Ok(None);
    }
    let key = account.idempotency_key.as_str();
    if key.is_empty() || key.len() > KEY_LEN || !key.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
        return Err(Refusal::IdempotencyKey(format!("not 1 to {KEY_LEN} bytes")));
    }
    Ok(Some(key))
}

/// An id as a path segment: anything that is not one never reaches a path.
fn segment(id: &str) -> Result<&str, Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match !id.is_empty() && id.len() <= 64 && id.bytes().all(plain) {
        true => Ok(id),
        false => Err(Refusal::Malformed("the payment has no transaction id".to_owned())),
    }
}

fn id(target: &Target) -> Result<&str, Refusal> {
    segment(target.payment.as_deref().unwrap_or_default())
}

fn wire(amount: Amount) -> Result<String, Refusal> {
    Ok(amount.to_decimal(Dialect::Braintree)?)
}

/// The merchant's order with Sentinel's reference behind it.
fn order(order: Option<&str>, reference: &str) -> Result<String, Refusal> {
    let refuse = || Refusal::Parameter("reference".to_owned());
    let written = match order.filter(|order| !order.is_empty()) {
        Some(order) => format!("{order}.{reference}"),
        None => reference.to_owned(),
    };
    match !reference.is_empty() && searchable(&written) {
        true => Ok(written),
        false => Err(refuse()),
    }
}

/// The merchant account of a currency; `None` for the default one.
fn merchant_account(currency: Currency, account: &Account) -> Result<Option<&str>, Refusal> {
    let named = account.credentials.get(&format!("{ACCOUNTS}{}", currency.code()));
    let default = account.settings.get(CURRENCY).map(String::as_str) == Some(currency.code());
    match named {
        Some(named) => Ok(Some(named)),
        None if default => Ok(None),
        None => Err(Refusal::Currency(currency.code().to_owned())),
    }
}

fn pay(pay: &Pay, account: &Account) -> Result<String, Refusal> {
    if let Some(name) = pay.unportable.first() {
        return Err(Refusal::Parameter(name.clone()));
    }
    if pay.operation == Operation::Create {
        return Err(Refusal::Operation("a payment without execution".to_owned()));
    }
    let amount = pay.amount.ok_or_else(|| Refusal::Amount("none is named".to_owned()))?;
    if amount.is_zero() {
        return Err(Refusal::Amount("zero".to_owned()));
    }
    let text = wire(amount)?;
    let merchant_account = merchant_account(amount.currency, account)?;
    let order = order(pay.reference.as_deref(), &account.reference)?;
    let source = source(pay)?;
    let statement = pay.statement.as_deref().filter(|statement| descriptor(statement));
    check_three_ds(pay.three_ds.as_ref())?;
    transaction(account, |xml| {
        xml.text("type", "sale");
        xml.text("amount", &text);
        if let Some(merchant_account) = merchant_account {
            xml.text("merchant_account_id", merchant_account);
        }
        xml.text("order_id", &order);
        instrument(pay, xml);
        if let Some(source) = source {
            xml.text("transaction_source", source);
        }
        if let Some(three_ds) = &pay.three_ds {
            pass_through(three_ds, xml);
        }
        if let Some(statement) = statement {
            xml.node("descriptor", |xml| xml.text("name", statement));
        }
        customer(pay, xml);
        if let Some(billing) = &pay.buyer.billing {
            address("billing", billing, xml);
        }
        if let Some(shipping) = &pay.buyer.shipping {
            address("shipping", shipping, xml);
        }
        xml.node("options", |xml| {
            xml.flag("submit_for_settlement", pay.capture == CaptureMode::Automatic);
        });
    })
}

/// Who started the payment; also judges the instrument, so that what is written afterwards is known to be good.
fn source(pay: &Pay) -> Result<Option<&'static str>, Refusal> {
    let merchant = pay.initiator == Initiator::Merchant;
    match pay.instrument.as_ref() {
        None | Some(Instrument::Bound(_)) => return Err(Refusal::NoPortableInstrument),
        Some(Instrument::Token(token)) if token.is_empty() || !token.chars().all(xml::legal) => {
            return Err(Refusal::NoPortableInstrument);
        }
        // A card of another gateway's file is charged without its holder only on the strength of the first payment.
        Some(Instrument::Card(_) | Instrument::NetworkToken(_)) if merchant && pay.network_transaction_id.is_none() => {
            return Err(Refusal::Parameter("network transaction id".to_owned()));
        }
        // With nothing beside it, it would be read as a card's own number.
        Some(Instrument::NetworkToken(token)) if token.cryptogram.is_none() && token.eci.is_none() => {
            return Err(Refusal::Parameter("network token cryptogram".to_owned()));
        }
        Some(_) => {}
    }
    Ok(merchant.then_some("unscheduled"))
}

fn instrument(pay: &Pay, xml: &mut Writer) {
    let merchant = pay.initiator == Initiator::Merchant;
    match pay.instrument.as_ref() {
        Some(Instrument::Token(token)) => xml.text("payment_method_token", token),
        Some(Instrument::Card(card)) => xml.node("credit_card", |xml| {
            xml.text("number", &card.number);
            xml.text("expiration_month", &card.expiry_month);
            xml.text("expiration_year", &card.expiry_year);
            if let Some(cvc) = card.cvc.as_ref().filter(|_| !merchant) {
                xml.text("cvv", cvc);
            }
            if let Some(holder) = card.holder.as_ref().or(pay.buyer.name.as_ref()) {
                xml.text("cardholder_name", &cut(holder, 175));
            }
        }),
        Some(Instrument::NetworkToken(token)) => xml.node("credit_card", |xml| {
            xml.text("number", &token.number);
            xml.text("expiration_month", &token.expiry_month);
            xml.text("expiration_year", &token.expiry_year);
            xml.node("network_tokenization_attributes", |xml| {
                if let Some(cryptogram) = &token.cryptogram {
                    xml.text("cryptogram", cryptogram);
                }
                if let Some(eci) = &token.eci {
                    xml.text("ecommerce_indicator", eci);
                }
            });
        }),
        None | Some(Instrument::Bound(_)) => {}
    }
    let plain = matches!(pay.instrument, Some(Instrument::Card(_) | Instrument::NetworkToken(_)));
    if let Some(previous) = pay.network_transaction_id.as_ref().filter(|_| merchant && plain) {
        xml.node("external_vault", |xml| {
            xml.text("status", "vaulted");
            xml.text("previous_network_transaction_id", previous);
        });
    }
}

fn check_three_ds(three_ds: Option<&ThreeDs>) -> Result<(), Refusal> {
    match three_ds {
        // Without an indicator Braintree would have to guess what the proof is worth.
        Some(three_ds) if three_ds.eci.is_none() || three_ds.version.starts_with('1') => Err(Refusal::ThreeDs),
        _ => Ok(()),
    }
}

fn pass_through(three_ds: &ThreeDs, xml: &mut Writer) {
    xml.node("three_d_secure_pass_thru", |xml| {
        if let Some(eci) = &three_ds.eci {
            xml.text("eci_flag", eci);
        }
        xml.text("cavv", &three_ds.cryptogram);
        xml.text("three_d_secure_version", &three_ds.version);
        if let Some(id) = &three_ds.transaction_id {
            xml.text("ds_transaction_id", id);
        }
    });
}

/// Braintree's rule for a descriptor's name: a company of 3, 7 or 12 characters, `*`, a product, 22 together. Any other
/// text would get the payment refused, and only decorates it.
fn descriptor(text: &str) -> bool {
    let at = text.find('*');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '*' | '.' | '+' | '-' | ' ');
    text.len() <= 22 && matches!(at, Some(3 | 7 | 12)) && text.chars().all(plain)
}

fn customer(pay: &Pay, xml: &mut Writer) {
    let buyer = &pay.buyer;
    let email = buyer
        .email
        .as_deref()
        .filter(|email| email.contains('@') && email.len() <= 255);
    let phone = buyer.phone.as_deref().filter(|phone| (1..=255).contains(&phone.len()));
    let name = buyer
        .name
        .as_deref()
        .map(|name| name.trim().rsplit_once(' ').unwrap_or((name, "")));
    if email.is_none() && phone.is_none() && name.is_none() {
        return;
    }
    xml.node("customer", |xml| {
        if let Some((first, last)) = name {
            xml.text("first_name", &cut(first, 255));
            if !last.is_empty() {
                xml.text("last_name", &cut(last, 255));
            }
        }
        if let Some(email) = email {
            xml.text("email", email);
        }
        if let Some(phone) = phone {
            xml.text("phone", phone);
        }
    });
}

fn address(name: &str, address: &Address, xml: &mut Writer) {
    let country = address
        .country
        .as_deref()
        .filter(|country| country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_alphabetic()));
    xml.node(name, |xml| {
        for (field, part, max) in [
            ("street_address", &address.line1, 255),
            ("extended_address", &address.line2, 255),
            ("locality", &address.city, 255),
            ("region", &address.state, 255),
        ] {
            if let Some(part) = part.as_ref().filter(|part| !part.is_empty()) {
                xml.text(field, &cut(part, max));
            }
        }
        // Braintree takes four to nine letters and digits.
        let postal = |code: &&String| {
            (1..=9).contains(&code.len())
                && code
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-'))
        };
        if let Some(code) = address.postal_code.as_ref().filter(postal) {
            xml.text("postal_code", code);
        }
        if let Some(country) = country {
            xml.text("country_code_alpha2", &country.to_ascii_uppercase());
        }
    });
}

/// Text on one line, cut to Braintree's limit.
fn cut(text: &str, max: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(max).collect::<String>().trim().to_owned()
}
