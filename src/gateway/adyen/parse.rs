//! What an application's Adyen request means.

use std::collections::BTreeMap;

use http::Method;
use indexmap::IndexMap;
use serde_json::Value;

use super::VERSIONS;
use crate::config::model::Dialect;
use crate::gateway::canonical::{
    Address, Buyer, CaptureMode, Card, Initiator, Instrument, NetworkToken, Operation, Pay, Refusal, Request, Target,
    ThreeDs,
};
use crate::gateway::json::Fields;
use crate::gateway::{Head, Recognised};
use crate::money::Amount;

/// Fields that change no effect and that the merchant does not read back: lost without a word on the way elsewhere.
const IMMATERIAL: [&str; 18] = [
    "applicationInfo",
    "browserInfo",
    "channel",
    "origin",
    "shopperLocale",
    "checkoutAttemptId",
    "conversionId",
    "shopperConversionId",
    "deviceFingerprint",
    "riskData",
    "accountInfo",
    "merchantRiskIndicator",
    "threeDS2RequestData",
    "lineItems",
    "dateOfBirth",
    "countryCode",
    "redirectFromIssuerMethod",
    "redirectToIssuerMethod",
];

/// The path behind `/checkout` and the version; `None` when it is no Checkout path of a version this module knows.
fn resource(path: &str) -> Option<&str> {
    let path = path.strip_prefix("/checkout").unwrap_or(path);
    let (version, resource) = path.strip_prefix("/v")?.split_once('/')?;
    let known = version.parse().is_ok_and(|version: u32| VERSIONS.contains(&version));
    known.then_some(resource)
}

pub(super) fn recognise(method: &Method, path: &str) -> Recognised {
    let opaque = Recognised {
        operation: Operation::Opaque,
        object: None,
    };
    let Some(resource) = resource(path).filter(|_| method == Method::POST) else {
        return opaque;
    };
    let mut segments = resource.split('/');
    let (operation, object) = match (segments.next(), segments.next(), segments.next(), segments.next()) {
        // Whether it holds or takes money stands in the body.
        (Some("payments"), None, ..) => (Operation::Sale, None),
        (Some("payments"), Some("details"), None, _) => (Operation::Confirm, None),
        (Some("payments"), Some(psp), Some("captures"), None) => (Operation::Capture, Some(psp)),
        (Some("payments"), Some(psp), Some("cancels" | "reversals"), None) => (Operation::Void, Some(psp)),
        (Some("payments"), Some(psp), Some("refunds"), None) => (Operation::Refund, Some(psp)),
        (Some("payments"), Some(psp), Some("amountUpdates"), None) => (Operation::Opaque, Some(psp)),
        (Some("cancels"), None, ..) => (Operation::Void, None),
        _ => return opaque,
    };
    Recognised {
        operation,
        object: object.map(str::to_owned),
    }
}

pub(super) fn request(
    recognised: &Recognised,
    head: &Head,
    body: &[u8],
    settings: &BTreeMap<String, String>,
) -> Result<Request, Refusal> {
    if recognised.operation == Operation::Opaque {
        return Err(Refusal::Operation("changing what is held".to_owned()));
    }
    let mut fields = Fields::parse(body)?;
    if recognised.operation == Operation::Confirm {
        return confirm(fields);
    }
    fields.required("merchantAccount")?;
    let target = |object: &Option<String>| Target {
        payment: object.clone(),
        ..Target::default()
    };
    match recognised.operation {
        Operation::Sale | Operation::Authorize => pay(fields, settings),
        Operation::Capture => {
            let amount = Some(amount(&mut fields)?);
            refuse_leftovers(fields, &["reference", "lineItems", "enhancedSchemeData"])?;
            Ok(Request::Capture {
                target: target(&recognised.object),
                amount,
                units: None,
                // No request says it: what becomes of the rest is a setting of the account.
                last: !super::several(settings),
            })
        }
        Operation::Void if head.path.ends_with("/reversals") => Err(Refusal::Operation(
            "a reversal that cancels or refunds as it finds".to_owned(),
        )),
        Operation::Void => {
            let mut target = target(&recognised.object);
            if target.payment.is_none() {
                target.reference = Some(fields.required("paymentReference")?);
            }
            refuse_leftovers(fields, &["reference", "enhancedSchemeData"])?;
            Ok(Request::Void { target, reason: None })
        }
        Operation::Refund => {
            let amount = Some(amount(&mut fields)?);
            let reason = fields.string("merchantRefundReason")?;
            let reference = fields.string("reference")?;
            refuse_leftovers(fields, &["lineItems", "enhancedSchemeData", "capturePspReference"])?;
            Ok(Request::Refund {
                target: target(&recognised.object),
                amount,
                units: None,
                reason: reason.as_deref().and_then(refund_reason).map(str::to_owned),
                reference,
                metadata: IndexMap::new(),
            })
        }
        _ => Err(Refusal::Operation("this call".to_owned())),
    }
}

fn refund_reason(reason: &str) -> Option<&'static str> {
    match reason {
        "FRAUD" => Some("fraudulent"),
        "DUPLICATE" => Some("duplicate"),
        "CUSTOMER REQUEST" | "RETURN" => Some("requested_by_customer"),
        _ => None,
    }
}

/// A modification with fields beyond the known ones (splits, sub-merchants) is nothing that another gateway can do.
fn refuse_leftovers(mut fields: Fields, known: &[&str]) -> Result<(), Refusal> {
    fields.drop_fields(known);
    fields.drop_fields(&["applicationInfo"]);
    let mut names = Vec::new();
    fields.leftovers(&mut names);
    match names.into_iter().next() {
        None => Ok(()),
        Some(name) => Err(Refusal::Parameter(name)),
    }
}

/// `/payments/details` finishes what the customer began at Adyen: it belongs to Adyen, whatever its health.
fn confirm(mut fields: Fields) -> Result<Request, Refusal> {
    if !fields.has("details") {
        return Err(Refusal::Malformed("details is missing".to_owned()));
    }
    let confirms = fields.string("paymentData")?;
    Ok(Request::Pay(Box::new(Pay {
        operation: Operation::Confirm,
        confirms,
        amount: None,
        capture: CaptureMode::Automatic,
        instrument: Some(Instrument::Bound("challenge".to_owned())),
        customer: None,
        initiator: Initiator::Customer,
        reference: None,
        description: None,
        statement: None,
        metadata: IndexMap::new(),
        buyer: Buyer::default(),
        return_url: None,
        three_ds: None,
        network_transaction_id: None,
        unportable: vec!["details".to_owned()],
    })))
}

fn amount(fields: &mut Fields) -> Result<Amount, Refusal> {
    let mut amount = fields.object("amount")?;
    let currency = amount.required("currency")?;
    let value = amount.value("value").unwrap_or(Value::Null);
    Ok(Amount::json_minor(Dialect::Adyen, &value, &currency)?)
}

fn pay(mut fields: Fields, settings: &BTreeMap<String, String>) -> Result<Request, Refusal> {
    let mut unportable = Vec::new();
    let amount = amount(&mut fields)?;
    if amount.is_zero() {
        // Verifies an account and moves nothing; no other gateway does the same by a payment of nothing.
        unportable.push("amount.value".to_owned());
    }
    if fields.flag("threeDSAuthenticationOnly")? == Some(true) {
        return Err(Refusal::Operation("an authentication without payment".to_owned()));
    }
    let mut additional = fields.object("additionalData")?;
    let capture = capture_mode(&mut fields, &mut additional, settings, &mut unportable)?;
    let mut mpi = fields.object("mpiData")?;
    let (instrument, mut network_transaction_id) = payment_method(&mut fields, &mut mpi, &mut unportable)?;
    if let Some(id) = additional.string("networkTxReference")? {
        network_transaction_id.get_or_insert(id);
    }
    additional.drop_fields(&["authorisationType", "executeThreeD", "allow3DS2"]);
    additional.leftovers(&mut unportable);
    let three_ds = three_ds(mpi, &mut unportable)?;
    authentication(&mut fields, &mut unportable)?;
    let initiator = initiator(&mut fields, &mut unportable)?;

    let buyer = Buyer {
        name: name(&mut fields)?,
        email: fields.string("shopperEmail")?,
        phone: fields.string("telephoneNumber")?,
        ip: fields.string("shopperIP")?,
        billing: address(&mut fields, "billingAddress")?,
        shipping: address(&mut fields, "deliveryAddress")?,
    };
    let pay = Pay {
        operation: match capture {
            CaptureMode::Automatic => Operation::Sale,
            CaptureMode::Manual => Operation::Authorize,
        },
        confirms: None,
        amount: Some(amount),
        capture,
        instrument: Some(instrument),
        customer: fields.string("shopperReference")?,
        initiator,
        reference: Some(fields.required("reference")?),
        description: None,
        statement: fields.string("shopperStatement")?,
        metadata: metadata(&mut fields)?,
        buyer,
        return_url: Some(fields.required("returnUrl")?),
        three_ds,
        network_transaction_id,
        unportable: Vec::new(),
    };
    for flag in [
        "storePaymentMethod",
        "enableRecurring",
        "enableOneClick",
        "enablePayOut",
    ] {
        if fields.flag(flag)? == Some(true) {
            unportable.push(flag.to_owned());
        }
    }
    fields.drop_fields(&IMMATERIAL);
    fields.leftovers(&mut unportable);
    Ok(Request::Pay(Box::new(Pay { unportable, ..pay })))
}

/// Capture by the request, else by what the configuration says of the account; unknown, it forbids the way elsewhere:
/// a hold taken for a sale gives goods away unpaid, a sale taken for a hold takes money too early.
fn capture_mode(
    fields: &mut Fields,
    additional: &mut Fields,
    settings: &BTreeMap<String, String>,
    unportable: &mut Vec<String>,
) -> Result<CaptureMode, Refusal> {
    let manual = additional.flag("manualCapture")?;
    let delay = fields.value("captureDelayHours");
    if manual == Some(true) {
        return Ok(CaptureMode::Manual);
    }
    match delay.as_ref().map(Value::as_u64) {
        Some(Some(0)) => return Ok(CaptureMode::Automatic),
        Some(_) => {
            unportable.push("captureDelayHours".to_owned());
            return Ok(CaptureMode::Automatic);
        }
        None => {}
    }
    match settings.get("capture").map(String::as_str) {
        Some("manual") => Ok(CaptureMode::Manual),
        Some("automatic") => Ok(CaptureMode::Automatic),
        _ => {
            unportable.push("capture mode of the account".to_owned());
            Ok(CaptureMode::Automatic)
        }
    }
}

fn payment_method(
    fields: &mut Fields,
    mpi: &mut Fields,
    unportable: &mut Vec<String>,
) -> Result<(Instrument, Option<String>), Refusal> {
    if !fields.has("paymentMethod") {
        return Err(Refusal::Malformed("paymentMethod is missing".to_owned()));
    }
    let mut method = fields.object("paymentMethod")?;
    let kind = method.string("type")?.unwrap_or_else(|| "scheme".to_owned());
    let network_transaction_id = method.string("networkPaymentReference")?;
    let stored = match method.string("storedPaymentMethodId")? {
        Some(id) => Some(id),
        None => method.string("recurringDetailReference")?,
    };
    method.drop_fields(&[
        "brand",
        "fundingSource",
        "checkoutAttemptId",
        "sdkData",
        "threeDS2SdkVersion",
    ]);
    if !matches!(kind.as_str(), "scheme" | "card" | "bcmc" | "networkToken") {
        return Ok((Instrument::Bound(kind), network_transaction_id));
    }
    let holder = method.string("holderName")?;
    if let Some(id) = stored {
        // The code is bound to Adyen when encrypted; a stored card is good without it everywhere.
        method.drop_fields(&["encryptedSecurityCode", "cvc"]);
        method.leftovers(unportable);
        return Ok((Instrument::Token(id), network_transaction_id));
    }
    let mut plain = |clear: &str, encrypted: &str| -> Result<Option<String>, Refusal> {
        match method.string(clear)? {
            Some(value) => Ok(Some(value)),
            None => Ok(method
                .string(encrypted)?
                .map(|value| match value.strip_prefix("test_") {
                    // Adyen's test environment takes clear text behind this prefix.
                    Some(clear) => clear.to_owned(),
                    None => "encrypted".to_owned(),
                })),
        }
    };
    let number = plain("number", "encryptedCardNumber")?;
    let month = plain("expiryMonth", "encryptedExpiryMonth")?;
    let year = plain("expiryYear", "encryptedExpiryYear")?;
    let cvc = plain("cvc", "encryptedSecurityCode")?;
    method.leftovers(unportable);
    let (Some(number), Some(month), Some(year)) = (number, month, year) else {
        return Ok((Instrument::Bound(kind), network_transaction_id));
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(&number) || !digits(&month) || !digits(&year) || !cvc.as_deref().is_none_or(digits) {
        return Ok((Instrument::Bound("encrypted card".to_owned()), network_transaction_id));
    }
    let month = format!("{month:0>2}");
    let instrument = if kind == "networkToken" {
        Instrument::NetworkToken(NetworkToken {
            number,
            expiry_month: month,
            expiry_year: year,
            cryptogram: mpi.string("tokenAuthenticationVerificationValue")?,
            eci: mpi.string("eci")?,
        })
    } else {
        Instrument::Card(Card {
            number,
            expiry_month: month,
            expiry_year: year,
            cvc,
            holder,
        })
    };
    Ok((instrument, network_transaction_id))
}

fn three_ds(mut mpi: Fields, unportable: &mut Vec<String>) -> Result<Option<ThreeDs>, Refusal> {
    let cavv = mpi.string("cavv")?;
    let Some(cryptogram) = cavv else {
        mpi.leftovers(unportable);
        return Ok(None);
    };
    let three_ds = ThreeDs {
        version: mpi.string("threeDSVersion")?.unwrap_or_else(|| "2.1.0".to_owned()),
        eci: mpi.string("eci")?,
        cryptogram,
        transaction_id: mpi.string("dsTransID")?,
    };
    mpi.drop_fields(&["directoryResponse", "authenticationResponse", "cavvAlgorithm", "xid"]);
    mpi.leftovers(unportable);
    Ok(Some(three_ds))
}

/// A challenge that the application insists on happens at Adyen or nowhere.
fn authentication(fields: &mut Fields, unportable: &mut Vec<String>) -> Result<(), Refusal> {
    let mut data = fields.object("authenticationData")?;
    if data.string("attemptAuthentication")?.as_deref() == Some("always") {
        unportable.push("authenticationData.attemptAuthentication".to_owned());
    }
    if data.flag("authenticationOnly")? == Some(true) {
        return Err(Refusal::Operation("an authentication without payment".to_owned()));
    }
    Ok(())
}

fn initiator(fields: &mut Fields, unportable: &mut Vec<String>) -> Result<Initiator, Refusal> {
    fields.drop_fields(&["recurringProcessingModel"]);
    match fields.string("shopperInteraction")?.as_deref() {
        None | Some("Ecommerce") => Ok(Initiator::Customer),
        Some("ContAuth") => Ok(Initiator::Merchant),
        Some(_) => {
            // Mail order and point of sale follow other rules at every gateway.
            unportable.push("shopperInteraction".to_owned());
            Ok(Initiator::Customer)
        }
    }
}

fn name(fields: &mut Fields) -> Result<Option<String>, Refusal> {
    let mut name = fields.object("shopperName")?;
    let parts = [name.string("firstName")?, name.string("lastName")?];
    let joined = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
    Ok(Some(joined).filter(|name| !name.is_empty()))
}

fn address(fields: &mut Fields, field: &str) -> Result<Option<Address>, Refusal> {
    if !fields.has(field) {
        return Ok(None);
    }
    let mut address = fields.object(field)?;
    let street = address.string("street")?;
    let house = address
        .string("houseNumberOrName")?
        .filter(|house| !house.is_empty() && house != "N/A");
    let line1 = match (street, house) {
        (Some(street), Some(house)) => Some(format!("{street} {house}")),
        (street, house) => street.or(house),
    };
    Ok(Some(Address {
        line1,
        line2: None,
        city: address.string("city")?,
        state: address.string("stateOrProvince")?,
        postal_code: address.string("postalCode")?,
        country: address.string("country")?.filter(|country| country != "ZZ"),
    }))
}

fn metadata(fields: &mut Fields) -> Result<IndexMap<String, String>, Refusal> {
    let mut metadata = IndexMap::new();
    match fields.value("metadata") {
        None => {}
        Some(Value::Object(map)) => {
            for (key, value) in map {
                let Value::String(value) = value else {
                    return Err(Refusal::Malformed(
                        "metadata holds something that is not a string".to_owned(),
                    ));
                };
                metadata.insert(key, value);
            }
        }
        Some(_) => return Err(Refusal::Malformed("metadata is not an object".to_owned())),
    }
    if let Some(order) = fields.string("merchantOrderReference")? {
        metadata.insert("merchantOrderReference".to_owned(), order);
    }
    Ok(metadata)
}
