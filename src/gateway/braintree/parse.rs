//! What an application's Braintree request means.
//!
//! One endpoint speaks four request dialects: XML in the three spellings of the SDKs, and JSON from the one for Node.
//! The content type says which; all become one tree. A request names no currency: it is the one of its merchant account,
//! and where the configuration does not know that one the payment never moves to another gateway.

use std::collections::BTreeMap;

use http::Method;
use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::xml;
use crate::config::model::Dialect;
use crate::gateway::canonical::{
    Address, Buyer, CaptureMode, Card, Initiator, Instrument, NetworkToken, Operation, Pay, Refusal, Request, Target,
    ThreeDs,
};
use crate::gateway::json::{self, Fields};
use crate::gateway::{Head, Recognised};
use crate::money::{Amount, Currency};

/// The prefix of settings that name the merchant account of a currency.
pub(super) const ACCOUNTS: &str = "merchant_accounts.";
/// The setting that names the currency of the default merchant account.
pub(super) const CURRENCY: &str = "currency";

/// The longest key that is taken as one. Braintree publishes no limit and judges by itself.
const KEY_LEN: usize = 255;

/// Fields that change no effect and that the merchant does not read back: lost without a word on the way elsewhere.
const IMMATERIAL: [&str; 12] = [
    "type",
    "api_request_key",
    "channel",
    "device_data",
    "device_session_id",
    "fraud_merchant_id",
    "risk_data",
    "line_items",
    "tax_amount",
    "tax_exempt",
    "purchase_order_number",
    "ships_from_postal_code",
];

/// Why bodies are not understood, for people.
const NOT_A_TRANSACTION: &str = "the body is not one transaction";

pub(super) fn recognise(method: &Method, path: &str) -> Recognised {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (get, post, put) = (method == Method::GET, method == Method::POST, method == Method::PUT);
    let (operation, object) = match segments.as_slice() {
        // Whether it holds or takes money stands in the body.
        ["merchants", _, "transactions"] if post => (Operation::Sale, None),
        [
            "merchants",
            _,
            "transactions",
            "advanced_search" | "advanced_search_ids",
        ] => (Operation::Opaque, None),
        ["merchants", _, "transactions", id] if get => (Operation::Retrieve, Some(id)),
        ["merchants", _, "transactions", id, "submit_for_settlement"] if put => (Operation::Capture, Some(id)),
        // Recognised, so that it is refused where the payment is another gateway's.
        ["merchants", _, "transactions", id, "submit_for_partial_settlement"] if post => (Operation::Capture, Some(id)),
        [
            "merchants",
            _,
            "transactions",
            id,
            "adjust_authorization" | "update_details",
        ] if put => (Operation::Capture, Some(id)),
        ["merchants", _, "transactions", id, "void"] if put => (Operation::Void, Some(id)),
        ["merchants", _, "transactions", id, "reverse"] if post => (Operation::Void, Some(id)),
        ["merchants", _, "transactions", id, "refund"] if post => (Operation::Refund, Some(id)),
        ["merchants", _, "transactions", id, ..] => (Operation::Opaque, Some(id)),
        _ => (Operation::Opaque, None),
    };
    Recognised {
        operation,
        object: object.map(|id| (*id).to_owned()).filter(|id| !id.is_empty()),
    }
}

pub(super) fn idempotency_key(head: &Head, body: &[u8]) -> Result<Option<String>, Refusal> {
    // A body that is not understood has no key either: it is forwarded as it is.
    let Ok(mut fields) = transaction(head, body) else {
        return Ok(None);
    };
    let Some(key) = fields.value("api_request_key") else {
        return Ok(None);
    };
    match key {
        Value::String(key) if key.len() > KEY_LEN => {
            Err(Refusal::IdempotencyKey(format!("longer than {KEY_LEN} bytes")))
        }
        Value::String(key) if key.bytes().all(|byte| matches!(byte, b'!'..=b'~')) => Ok(Some(key)),
        _ => Err(Refusal::IdempotencyKey("not visible ASCII".to_owned())),
    }
}

/// The transaction of a body, in whichever of the four request dialects it came.
fn transaction(head: &Head, body: &[u8]) -> Result<Fields, Refusal> {
    let malformed = || Refusal::Malformed(NOT_A_TRANSACTION.to_owned());
    if body.is_empty() {
        return Ok(Fields::default());
    }
    let mut types = head.headers.get_all(http::header::CONTENT_TYPE).iter();
    let content_type = match (types.next(), types.next()) {
        (Some(one), None) => one.to_str().map_err(|_| malformed())?.to_ascii_lowercase(),
        _ => return Err(malformed()),
    };
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    let map = match content_type {
        "application/xml" | "text/xml" => {
            let document = xml::read(body).map_err(|error| Refusal::Malformed(error.to_string()))?;
            (document.root == "transaction").then(|| document.object()).flatten()
        }
        "application/json" => match json::strict(body) {
            Some(Value::Object(mut root)) if root.len() == 1 => match root.shift_remove("transaction") {
                Some(Value::Object(map)) => names(map),
                Some(Value::Null) => Some(Map::new()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    map.map(Fields::of).ok_or_else(malformed)
}

/// JSON under the names that XML is read under. `None` where two names become one.
fn names(map: Map<String, Value>) -> Option<Map<String, Value>> {
    let mut renamed = Map::new();
    for (name, value) in map {
        if renamed.insert(xml::snake(&name)?, renamed_value(value)?).is_some() {
            return None;
        }
    }
    Some(renamed)
}

fn renamed_value(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) => names(map).map(Value::Object),
        Value::Array(items) => items
            .into_iter()
            .map(renamed_value)
            .collect::<Option<Vec<_>>>()
            .map(Value::Array),
        other => Some(other),
    }
}

pub(super) fn request(
    recognised: &Recognised,
    head: &Head,
    body: &[u8],
    settings: &BTreeMap<String, String>,
) -> Result<Request, Refusal> {
    let target = Target {
        payment: recognised.object.clone(),
        ..Target::default()
    };
    let verb = head.path.rsplit('/').next().unwrap_or_default();
    match (recognised.operation, verb) {
        (Operation::Sale | Operation::Authorize, _) => pay(transaction(head, body)?, settings),
        (Operation::Capture, "submit_for_partial_settlement") => {
            Err(Refusal::Operation("one of several captures".to_owned()))
        }
        (Operation::Capture, "adjust_authorization") => Err(Refusal::Operation("changing what is held".to_owned())),
        (Operation::Capture, "update_details") => Err(Refusal::Operation("changing a payment".to_owned())),
        (Operation::Capture, _) => {
            let mut fields = transaction(head, body)?;
            let units = hundredths(&mut fields, "amount")?;
            let mut left = Vec::new();
            fields.drop_fields(&IMMATERIAL);
            // Its words for the statement and the order, which a gateway took with the payment.
            fields.drop_fields(&["order_id", "descriptor", "discount_amount", "shipping_amount"]);
            fields.leftovers(&mut left);
            refuse(left)?;
            Ok(Request::Capture {
                target,
                amount: None,
                units,
                last: true,
            })
        }
        (Operation::Void, _) => Ok(Request::Void { target, reason: None }),
        (Operation::Refund, _) => {
            let mut fields = transaction(head, body)?;
            let units = hundredths(&mut fields, "amount")?;
            let reference = fields.string("order_id")?;
            let mut left = Vec::new();
            fields.drop_fields(&["api_request_key"]);
            fields.leftovers(&mut left);
            refuse(left)?;
            Ok(Request::Refund {
                target,
                amount: None,
                units,
                reason: None,
                reference,
                metadata: IndexMap::new(),
            })
        }
        (Operation::Retrieve, _) => Ok(Request::Retrieve { target }),
        _ => Err(Refusal::Operation("this call".to_owned())),
    }
}

/// A modification with fields beyond the known ones is nothing that another gateway can do.
fn refuse(left: Vec<String>) -> Result<(), Refusal> {
    match left.into_iter().next() {
        None => Ok(()),
        Some(name) => Err(Refusal::Parameter(name)),
    }
}

/// An amount as text; JSON's whole numbers are as good, its fractions are floats and nobody's business.
fn decimal(fields: &mut Fields, name: &str) -> Result<Option<String>, Refusal> {
    match fields.value(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) if number.is_u64() => Ok(Some(number.to_string())),
        Some(_) => Err(Refusal::Amount("not text".to_owned())),
    }
}

/// The amount of a request whose currency is the payment's own, in hundredths.
fn hundredths(fields: &mut Fields, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(text) = decimal(fields, name)? else {
        return Ok(None);
    };
    let dollars = Amount::from_decimal(Dialect::Braintree, &text, "USD")?;
    Ok(Some(dollars.to_minor(Dialect::Braintree)?))
}

/// Hundredths of a currency as an amount of it: `units` of a capture or refund, once the payment is known.
pub(in crate::gateway) fn in_currency(hundredths: i64, currency: Currency) -> Result<Amount, Refusal> {
    let (whole, part) = (hundredths / 100, hundredths % 100);
    let text = match part {
        0 => whole.to_string(),
        part => format!("{whole}.{part:02}"),
    };
    Ok(Amount::from_decimal(Dialect::Braintree, &text, currency.code())?)
}

/// The currency of a merchant account.
fn currency(account: Option<&str>, settings: &BTreeMap<String, String>) -> Result<String, Refusal> {
    let known = match account {
        Some(account) => settings
            .iter()
            .find(|(name, id)| name.starts_with(ACCOUNTS) && id.as_str() == account)
            .and_then(|(name, _)| name.strip_prefix(ACCOUNTS)),
        None => settings.get(CURRENCY).map(String::as_str),
    };
    known.map(str::to_owned).ok_or_else(|| {
        Refusal::Account(match account {
            Some(_) => "the currency of the merchant account that the request names".to_owned(),
            None => "the currency of the default merchant account".to_owned(),
        })
    })
}

fn pay(mut fields: Fields, settings: &BTreeMap<String, String>) -> Result<Request, Refusal> {
    if fields.required("type")? != "sale" {
        return Err(Refusal::Operation("giving money without a payment".to_owned()));
    }
    let mut unportable = Vec::new();
    let account = fields.string("merchant_account_id")?;
    let text = decimal(&mut fields, "amount")?
        .ok_or_else(|| Refusal::Malformed("transaction.amount is missing".to_owned()))?;
    let amount = Amount::from_decimal(Dialect::Braintree, &text, &currency(account.as_deref(), settings)?)?;
    let capture = options(&mut fields, &mut unportable)?;
    let billing = fields.object("billing")?;
    let (billing_name, billing) = address(billing)?;
    let (_, shipping) = address(fields.object("shipping")?)?;
    let mut customer = fields.object("customer")?;
    let buyer = Buyer {
        name: name(&mut customer)?.or(billing_name),
        email: customer.string("email")?,
        phone: customer.string("phone")?,
        ip: None,
        billing,
        shipping,
    };
    if customer.has("id") {
        // A customer of that id is made in Braintree's vault.
        unportable.push("customer.id".to_owned());
    }
    let vaulted = fields.string("customer_id")?;
    let instrument = instrument(&mut fields, vaulted.as_deref(), &mut unportable)?;
    let (initiator, network_transaction_id) = initiator(&mut fields, &mut unportable)?;
    let three_ds = three_ds(&mut fields, &mut unportable)?;
    let mut descriptor = fields.object("descriptor")?;
    let pay = Pay {
        operation: match capture {
            CaptureMode::Automatic => Operation::Sale,
            CaptureMode::Manual => Operation::Authorize,
        },
        confirms: None,
        amount: Some(amount),
        capture,
        instrument: Some(instrument),
        customer: vaulted,
        initiator,
        reference: fields.string("order_id")?,
        description: None,
        statement: descriptor.string("name")?,
        metadata: custom_fields(&mut fields)?,
        buyer,
        return_url: None,
        three_ds,
        network_transaction_id,
        unportable: Vec::new(),
    };
    fields.drop_fields(&IMMATERIAL);
    fields.leftovers(&mut unportable);
    Ok(Request::Pay(Box::new(Pay { unportable, ..pay })))
}

/// Options that are switched off change nothing; every other but the capture is Braintree's own.
fn options(fields: &mut Fields, unportable: &mut Vec<String>) -> Result<CaptureMode, Refusal> {
    let mut options = fields.object("options")?;
    let submit = options.flag("submit_for_settlement")?.unwrap_or(false);
    for off in ["hold_in_escrow", "store_in_vault", "store_in_vault_on_success"] {
        if options.flag(off)? == Some(true) {
            unportable.push(format!("options.{off}"));
        }
    }
    let mut three_ds = options.object("three_d_secure")?;
    // A challenge takes place in the browser, before this request, or nowhere.
    if three_ds.flag("required")? == Some(true) {
        unportable.push("options.three_d_secure.required".to_owned());
    }
    three_ds.leftovers(unportable);
    options.drop_fields(&["skip_advanced_fraud_checking"]);
    options.leftovers(unportable);
    Ok(match submit {
        true => CaptureMode::Automatic,
        false => CaptureMode::Manual,
    })
}

fn name(fields: &mut Fields) -> Result<Option<String>, Refusal> {
    let parts = [fields.string("first_name")?, fields.string("last_name")?];
    let joined = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
    Ok(Some(joined).filter(|name| !name.is_empty()))
}

fn address(mut fields: Fields) -> Result<(Option<String>, Option<Address>), Refusal> {
    if fields.is_empty() {
        return Ok((None, None));
    }
    let name = name(&mut fields)?;
    let address = Address {
        line1: fields.string("street_address")?,
        line2: fields.string("extended_address")?,
        city: fields.string("locality")?,
        state: fields.string("region")?,
        postal_code: fields.string("postal_code")?,
        country: fields.string("country_code_alpha2")?,
    };
    Ok((name, (address != Address::default()).then_some(address)))
}

fn instrument(
    fields: &mut Fields,
    customer: Option<&str>,
    unportable: &mut Vec<String>,
) -> Result<Instrument, Refusal> {
    if let Some(token) = fields.string("payment_method_token")? {
        return Ok(Instrument::Token(token));
    }
    // Good once, and only here.
    if fields.string("payment_method_nonce")?.is_some() {
        return Ok(Instrument::Bound("payment_method_nonce".to_owned()));
    }
    if fields.has("credit_card") {
        return card(fields.object("credit_card")?, unportable);
    }
    if customer.is_some() {
        return Ok(Instrument::Bound("customer's default payment method".to_owned()));
    }
    Err(Refusal::Malformed("the transaction names no payment method".to_owned()))
}

fn card(mut card: Fields, unportable: &mut Vec<String>) -> Result<Instrument, Refusal> {
    if let Some(token) = card.string("token")? {
        return Ok(Instrument::Token(token));
    }
    let number = card.required("number")?;
    let (month, year) = match card.string("expiration_date")? {
        Some(date) => match date.split_once('/') {
            Some((month, year)) => (month.to_owned(), year.to_owned()),
            None => return Err(Refusal::Malformed("expiration_date is not MM/YYYY".to_owned())),
        },
        None => (card.required("expiration_month")?, card.required("expiration_year")?),
    };
    let year = match year.len() {
        2 => format!("20{year}"),
        _ => year,
    };
    let month = format!("{month:0>2}");
    let digits = |text: &str, len: std::ops::RangeInclusive<usize>| {
        len.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(&number, 8..=19) || !digits(&month, 2..=2) || !digits(&year, 4..=4) {
        return Err(Refusal::Malformed("credit_card is not a card".to_owned()));
    }
    let holder = card.string("cardholder_name")?;
    let cvc = card.string("cvv")?;
    if card.has("network_tokenization_attributes") {
        let mut token = card.object("network_tokenization_attributes")?;
        let instrument = Instrument::NetworkToken(NetworkToken {
            number,
            expiry_month: month,
            expiry_year: year,
            cryptogram: token.string("cryptogram")?,
            eci: token.string("ecommerce_indicator")?,
        });
        card.leftovers(unportable);
        return Ok(instrument);
    }
    card.leftovers(unportable);
    Ok(Instrument::Card(Card {
        number,
        expiry_month: month,
        expiry_year: year,
        cvc,
        holder,
    }))
}

fn initiator(fields: &mut Fields, unportable: &mut Vec<String>) -> Result<(Initiator, Option<String>), Refusal> {
    let mut vault = fields.object("external_vault")?;
    let status = vault.string("status")?;
    let previous = vault.string("previous_network_transaction_id")?;
    if status.as_deref() == Some("will_vault") {
        // The merchant keeps the card itself; the next payment wants this one's network transaction id, which it gets.
        vault.drop_fields(&["status"]);
    }
    let initiator = match fields.string("transaction_source")?.as_deref() {
        None | Some("" | "recurring_first" | "installment_first") => Initiator::Customer,
        Some("recurring" | "unscheduled" | "installment" | "merchant") => Initiator::Merchant,
        Some(_) => {
            // Mail order and estimates follow other rules at every gateway.
            unportable.push("transaction_source".to_owned());
            Initiator::Customer
        }
    };
    if fields.flag("recurring")? == Some(true) {
        unportable.push("recurring".to_owned());
    }
    Ok((initiator, previous))
}

fn three_ds(fields: &mut Fields, unportable: &mut Vec<String>) -> Result<Option<ThreeDs>, Refusal> {
    if !fields.has("three_d_secure_pass_thru") {
        return Ok(None);
    }
    let mut proof = fields.object("three_d_secure_pass_thru")?;
    let (Some(cryptogram), version) = (proof.string("cavv")?, proof.string("three_d_secure_version")?) else {
        unportable.push("three_d_secure_pass_thru".to_owned());
        return Ok(None);
    };
    let proof = ThreeDs {
        version: version.unwrap_or_else(|| "1.0.2".to_owned()),
        eci: proof.string("eci_flag")?,
        cryptogram,
        transaction_id: proof.string("ds_transaction_id")?,
    };
    // The first protocol's proof hangs on an `xid`, which no other gateway here has a field for.
    if proof.version.starts_with('1') {
        unportable.push("three_d_secure_pass_thru".to_owned());
    }
    Ok(Some(proof))
}

fn custom_fields(fields: &mut Fields) -> Result<IndexMap<String, String>, Refusal> {
    let mut metadata = IndexMap::new();
    match fields.value("custom_fields") {
        None => {}
        Some(Value::Object(map)) => {
            for (name, value) in map {
                match value {
                    Value::String(text) => metadata.insert(name, text),
                    Value::Null => None,
                    Value::Bool(_) | Value::Number(_) => metadata.insert(name, value.to_string()),
                    _ => return Err(Refusal::Malformed("custom_fields holds more than text".to_owned())),
                };
            }
        }
        Some(_) => return Err(Refusal::Malformed("custom_fields is no object".to_owned())),
    }
    Ok(metadata)
}
