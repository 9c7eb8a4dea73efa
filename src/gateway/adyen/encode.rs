//! Canonical requests as Adyen wants them.
//!
//! `reference` is Sentinel's own: it is unique, so that `/cancels` and webhooks name exactly one payment. The merchant's
//! order reference travels as `merchantOrderReference`. Metadata that does not fit Adyen's limits stays in the ledger,
//! from where answers are made; everything else is written or refused.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value, json};

use super::{KEY_HEADER, KEY_LEN, REFERENCE_LEN};
use crate::config::model::Dialect;
use crate::gateway::canonical::{
    Address, CaptureMode, EarlierAttempt, Initiator, Instrument, Operation, Pay, Refusal, Request, Target, ThreeDs,
};
use crate::gateway::{Account, Outgoing};
use crate::money::Amount;

/// Where a shopper without a return URL would come back to. Such a payment is sent with authentication switched off, so
/// that nobody ever does; Adyen only insists on the field (error `14_030`).
const NO_RETURN: &str = "https://return.invalid/";

pub(super) fn request(request: &Request, account: &Account) -> Result<Outgoing, Refusal> {
    match request {
        Request::Pay(pay) => post(account, "payments", self::pay(pay, account)?),
        Request::Capture { units: Some(_), .. } | Request::Refund { units: Some(_), .. } => {
            Err(Refusal::Amount("its currency is not known".to_owned()))
        }
        Request::Capture { target, amount, .. } => {
            let mut body = modification(account)?;
            body.insert("amount".to_owned(), wire(left(*amount, target)?)?);
            post(account, &format!("payments/{}/captures", psp(target)?), body)
        }
        Request::Void { target, .. } => post(
            account,
            &format!("payments/{}/cancels", psp(target)?),
            modification(account)?,
        ),
        Request::Refund {
            target, amount, reason, ..
        } => {
            let mut body = modification(account)?;
            body.insert("amount".to_owned(), wire(left(*amount, target)?)?);
            if let Some(reason) = reason.as_deref().and_then(refund_reason) {
                body.insert("merchantRefundReason".to_owned(), reason.into());
            }
            post(account, &format!("payments/{}/refunds", psp(target)?), body)
        }
        Request::Retrieve { .. } | Request::RetrieveRefund { .. } | Request::List(_) => {
            Err(Refusal::Operation("reading payments".to_owned()))
        }
    }
}

/// A cancel by reference. It releases what has arrived by now; a request that arrives later is executed all the same,
/// which is why this is F2 and never proves anything by itself. It carries no key: Adyen would answer the same one asked for
/// again with what the first came to, and what has arrived since would stay.
pub(super) fn fence(earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
    if earlier.automatic_capture {
        return None;
    }
    let mut body = modification(account).ok()?;
    body.insert("paymentReference".to_owned(), earlier.reference.clone()?.into());
    let mut outgoing = post(account, "cancels", body).ok()?;
    outgoing.headers.remove(KEY_HEADER);
    Some(outgoing)
}

/// Lists the payment methods of the merchant account: moves nothing, and needs the key and the account to be good.
pub(super) fn probe(account: &Account) -> Option<Outgoing> {
    let mut body = Map::new();
    body.insert(
        "merchantAccount".to_owned(),
        account.credentials.get("merchant_account")?.into(),
    );
    let mut outgoing = post(account, "paymentMethods", body).ok()?;
    outgoing.headers.remove(KEY_HEADER);
    Some(outgoing)
}

/// The version of Checkout that is written unless the settings name another one.
pub(super) const API_VERSION: &str = "v71";

fn post(account: &Account, resource: &str, body: Map<String, Value>) -> Result<Outgoing, Refusal> {
    let version = account.settings.get("api_version").map_or(API_VERSION, String::as_str);
    let key = account
        .credentials
        .get("api_key")
        .ok_or_else(|| Refusal::Account("api_key".to_owned()))?;
    let mut api_key = HeaderValue::from_str(key).map_err(|_| Refusal::Account("api_key".to_owned()))?;
    api_key.set_sensitive(true);
    if account.idempotency_key.is_empty() || account.idempotency_key.len() > KEY_LEN {
        return Err(Refusal::IdempotencyKey(format!("not 1 to {KEY_LEN} bytes")));
    }
    let idempotency = HeaderValue::from_str(&account.idempotency_key)
        .map_err(|_| Refusal::IdempotencyKey("not visible ASCII".to_owned()))?;
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", api_key);
    headers.insert(KEY_HEADER, idempotency);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(Outgoing {
        method: Method::POST,
        target: format!("/{version}/{resource}"),
        headers,
        body: crate::gateway::json::body(&body),
    })
}

fn modification(account: &Account) -> Result<Map<String, Value>, Refusal> {
    let mut body = Map::new();
    let merchant = account.credentials.get("merchant_account");
    let merchant = merchant.ok_or_else(|| Refusal::Account("merchant_account".to_owned()))?;
    body.insert("merchantAccount".to_owned(), merchant.into());
    if account.reference.is_empty() || account.reference.len() > REFERENCE_LEN {
        return Err(Refusal::Parameter("reference".to_owned()));
    }
    body.insert("reference".to_owned(), account.reference.clone().into());
    Ok(body)
}

/// The payment's reference, as a path segment: anything that is not one never reaches a path.
fn psp(target: &Target) -> Result<&str, Refusal> {
    let psp = target.payment.as_deref().unwrap_or_default();
    if psp.is_empty() || psp.len() > 64 || !psp.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Refusal::Malformed("the payment has no pspReference".to_owned()));
    }
    Ok(psp)
}

fn left(amount: Option<Amount>, target: &Target) -> Result<Amount, Refusal> {
    amount
        .or(target.amount)
        .ok_or_else(|| Refusal::Amount("what is left of the payment is not known".to_owned()))
}

fn wire(amount: Amount) -> Result<Value, Refusal> {
    Ok(json!({"currency": amount.currency.code(), "value": amount.to_minor(Dialect::Adyen)?}))
}

fn refund_reason(reason: &str) -> Option<&'static str> {
    match reason {
        "fraudulent" => Some("FRAUD"),
        "duplicate" => Some("DUPLICATE"),
        "requested_by_customer" => Some("CUSTOMER REQUEST"),
        _ => None,
    }
}

fn pay(pay: &Pay, account: &Account) -> Result<Map<String, Value>, Refusal> {
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
    let manual_account = account
        .settings
        .get("capture")
        .is_some_and(|capture| capture == "manual");
    if pay.capture == CaptureMode::Automatic && manual_account {
        return Err(Refusal::Operation("taking money at once".to_owned()));
    }
    let mut body = modification(account)?;
    body.insert("amount".to_owned(), wire(amount)?);
    instrument(pay, &mut body)?;
    match pay.capture {
        CaptureMode::Manual => {
            body.insert("additionalData".to_owned(), json!({"manualCapture": "true"}));
        }
        CaptureMode::Automatic => {
            body.insert("captureDelayHours".to_owned(), 0.into());
        }
    }
    let return_url = pay.return_url.as_ref().or_else(|| account.settings.get("return_url"));
    let return_url = return_url.filter(|url| url.len() <= 1024);
    body.insert(
        "returnUrl".to_owned(),
        return_url.map_or(NO_RETURN, String::as_str).into(),
    );
    body.insert("channel".to_owned(), "Web".into());
    match &pay.three_ds {
        // Its indicator and the token's would stand in the same field.
        Some(_) if matches!(pay.instrument, Some(Instrument::NetworkToken(_))) => return Err(Refusal::ThreeDs),
        Some(three_ds) => three_ds_data(three_ds, &mut body)?,
        None if return_url.is_none() || pay.initiator == Initiator::Merchant => {
            body.insert(
                "authenticationData".to_owned(),
                json!({"attemptAuthentication": "never"}),
            );
        }
        None => {}
    }
    optional(pay, &mut body);
    Ok(body)
}

fn instrument(pay: &Pay, body: &mut Map<String, Value>) -> Result<(), Refusal> {
    let mut method = Map::new();
    let mut model = None;
    match pay.instrument.as_ref() {
        None | Some(Instrument::Bound(_)) => return Err(Refusal::NoPortableInstrument),
        Some(Instrument::Token(token)) => {
            let (shopper, stored) = match token.rsplit_once('/') {
                Some((shopper, stored)) => (shopper, stored),
                None => (pay.customer.as_deref().unwrap_or_default(), token.as_str()),
            };
            if !(3..=256).contains(&shopper.len()) || stored.is_empty() || stored.len() > 64 {
                return Err(Refusal::NoPortableInstrument);
            }
            method.insert("type".to_owned(), "scheme".into());
            method.insert("storedPaymentMethodId".to_owned(), stored.into());
            body.insert("shopperReference".to_owned(), shopper.into());
            model = Some("CardOnFile");
        }
        Some(Instrument::Card(card)) => {
            method.insert("type".to_owned(), "scheme".into());
            method.insert("number".to_owned(), card.number.clone().into());
            method.insert("expiryMonth".to_owned(), card.expiry_month.clone().into());
            method.insert("expiryYear".to_owned(), card.expiry_year.clone().into());
            if let Some(cvc) = card.cvc.as_ref().filter(|_| pay.initiator == Initiator::Customer) {
                method.insert("cvc".to_owned(), cvc.clone().into());
            }
            if let Some(holder) = card.holder.as_ref().or(pay.buyer.name.as_ref()) {
                method.insert("holderName".to_owned(), holder.clone().into());
            }
        }
        Some(Instrument::NetworkToken(token)) => {
            method.insert("type".to_owned(), "networkToken".into());
            method.insert("number".to_owned(), token.number.clone().into());
            method.insert("expiryMonth".to_owned(), token.expiry_month.clone().into());
            method.insert("expiryYear".to_owned(), token.expiry_year.clone().into());
            if let Some(holder) = &pay.buyer.name {
                method.insert("holderName".to_owned(), holder.clone().into());
            }
            let mut mpi = Map::new();
            if let Some(cryptogram) = &token.cryptogram {
                mpi.insert(
                    "tokenAuthenticationVerificationValue".to_owned(),
                    cryptogram.clone().into(),
                );
            }
            if let Some(eci) = &token.eci {
                mpi.insert("eci".to_owned(), eci.clone().into());
            }
            if !mpi.is_empty() {
                body.insert("mpiData".to_owned(), mpi.into());
            }
        }
    }
    let stored = model.is_some();
    if pay.initiator == Initiator::Merchant {
        // A card of another gateway's file is charged without its holder only on the strength of the first payment.
        match &pay.network_transaction_id {
            Some(id) if !stored => {
                method.insert("networkPaymentReference".to_owned(), id.clone().into());
            }
            None if !stored => return Err(Refusal::Parameter("network transaction id".to_owned())),
            _ => {}
        }
        model = Some("UnscheduledCardOnFile");
    }
    let interaction = match pay.initiator {
        Initiator::Customer => "Ecommerce",
        Initiator::Merchant => "ContAuth",
    };
    body.insert("paymentMethod".to_owned(), method.into());
    body.insert("shopperInteraction".to_owned(), interaction.into());
    if let Some(model) = model {
        body.insert("recurringProcessingModel".to_owned(), model.into());
    }
    Ok(())
}

/// The result of an authentication done elsewhere. Adyen wants the two transaction statuses that belong to the ECI.
fn three_ds_data(three_ds: &ThreeDs, body: &mut Map<String, Value>) -> Result<(), Refusal> {
    let status = match three_ds.eci.as_deref() {
        Some("05" | "02") => "Y",
        Some("06" | "01") => "A",
        _ => return Err(Refusal::ThreeDs),
    };
    let mpi = body.entry("mpiData").or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(mpi) = mpi else {
        return Err(Refusal::ThreeDs);
    };
    mpi.insert("cavv".to_owned(), three_ds.cryptogram.clone().into());
    mpi.insert("threeDSVersion".to_owned(), three_ds.version.clone().into());
    mpi.insert("directoryResponse".to_owned(), status.into());
    mpi.insert("authenticationResponse".to_owned(), status.into());
    if let Some(eci) = &three_ds.eci {
        mpi.insert("eci".to_owned(), eci.clone().into());
    }
    if let Some(id) = &three_ds.transaction_id {
        mpi.insert("dsTransID".to_owned(), id.clone().into());
    }
    Ok(())
}

fn optional(pay: &Pay, body: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Option<&String>, max: usize| {
        if let Some(value) = value.filter(|value| !value.is_empty() && value.len() <= max) {
            body.insert(name.to_owned(), value.clone().into());
        }
    };
    put("merchantOrderReference", pay.reference.as_ref(), 1000);
    put("shopperEmail", pay.buyer.email.as_ref(), 256);
    put("telephoneNumber", pay.buyer.phone.as_ref(), 64);
    put("shopperIP", pay.buyer.ip.as_ref(), 64);
    // Adyen's own list; it refuses payments for other characters.
    let allowed = |c: &char| c.is_ascii_alphanumeric() || " .,'_-?+*/".contains(*c);
    let statement = pay
        .statement
        .as_ref()
        .map(|statement| statement.chars().filter(allowed).take(22).collect::<String>());
    put("shopperStatement", statement.as_ref(), 88);
    if let Some((first, last)) = pay.buyer.name.as_deref().and_then(|name| name.trim().rsplit_once(' ')) {
        let cut = |text: &str| text.chars().take(80).collect::<String>();
        body.insert(
            "shopperName".to_owned(),
            json!({"firstName": cut(first), "lastName": cut(last)}),
        );
    }
    for (name, address) in [
        ("billingAddress", &pay.buyer.billing),
        ("deliveryAddress", &pay.buyer.shipping),
    ] {
        if let Some(address) = address.as_ref().and_then(self::address) {
            body.insert(name.to_owned(), address);
        }
    }
    let fits =
        |(key, value): &(&String, &String)| !key.is_empty() && key.chars().count() <= 20 && value.chars().count() <= 80;
    let metadata: Map<String, Value> = pay
        .metadata
        .iter()
        .filter(fits)
        .take(20)
        .map(|(key, value)| (key.clone(), value.clone().into()))
        .collect();
    if !metadata.is_empty() {
        body.insert("metadata".to_owned(), metadata.into());
    }
}

/// An address only when it says where: Adyen wants all five parts, and its placeholders for what is not known.
fn address(address: &Address) -> Option<Value> {
    let mut street = address.line1.clone()?;
    if let Some(line2) = &address.line2 {
        street = format!("{street}, {line2}");
    }
    let text = |part: &Option<String>| part.clone().filter(|part| !part.is_empty());
    let mut written = json!({
        "street": street,
        "houseNumberOrName": "N/A",
        "city": text(&address.city)?,
        "postalCode": text(&address.postal_code)?,
        "country": text(&address.country)?.to_ascii_uppercase(),
    });
    if let Some(state) = text(&address.state) {
        written["stateOrProvince"] = state.into();
    }
    Some(written)
}
