//! What an application's PayPal request means.

use http::Method;
use indexmap::IndexMap;

use super::{token, webhook};
use crate::config::model::Dialect;
use crate::gateway::canonical::{
    Address, Buyer, CaptureMode, Card, Initiator, Instrument, NetworkToken, Operation, Pay, Refusal, Request, Target,
};
use crate::gateway::json::Fields;
use crate::gateway::{Head, Recognised};
use crate::money::Amount;

/// Under these names the parts of an order that have no canonical place are kept, so that they can be shown again.
pub(super) const CUSTOM_ID: &str = "custom_id";
pub(super) const REFERENCE_ID: &str = "reference_id";

pub(super) fn recognise(method: &Method, path: &str) -> Recognised {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (get, post) = (method == Method::GET, method == Method::POST);
    let (operation, object) = match segments.as_slice() {
        _ if post && path == token::PATH => (Operation::Token, None),
        _ if post && path == webhook::PATH => (Operation::Verification, None),
        // With a source of payment it takes or holds money at once; that stands in the body.
        ["v2", "checkout", "orders"] if post => (Operation::Create, None),
        ["v2", "checkout", "orders", id] if get => (Operation::Retrieve, Some(id)),
        ["v2", "checkout", "orders", id, "capture" | "authorize"] if post => (Operation::Confirm, Some(id)),
        ["v2", "checkout", "orders", id, ..] => (Operation::Opaque, Some(id)),
        ["v2", "payments", "authorizations" | "captures", id] if get => (Operation::Retrieve, Some(id)),
        ["v2", "payments", "refunds", id] if get => (Operation::RetrieveRefund, Some(id)),
        ["v2", "payments", "authorizations", id, "capture"] if post => (Operation::Capture, Some(id)),
        ["v2", "payments", "authorizations", id, "void"] if post => (Operation::Void, Some(id)),
        ["v2", "payments", "captures", id, "refund"] if post => (Operation::Refund, Some(id)),
        ["v2", "payments", "authorizations" | "captures", id, ..] => (Operation::Opaque, Some(id)),
        _ => (Operation::Opaque, None),
    };
    let object = object.map(|id| (*id).to_owned()).filter(|id| !id.is_empty());
    Recognised { operation, object }
}

pub(super) fn request(recognised: &Recognised, head: &Head, body: &[u8]) -> Result<Request, Refusal> {
    let object = recognised.object.clone();
    let payments = head.path.starts_with("/v2/payments/");
    let capture = head.path.starts_with("/v2/payments/captures/");
    match recognised.operation {
        Operation::Create => order(Fields::parse(body)?, head),
        Operation::Confirm => confirm(Fields::parse(body)?, object, head),
        Operation::Capture => {
            let mut fields = Fields::parse(body)?;
            let amount = amount(&mut fields, "amount")?;
            // Unsaid, PayPal keeps the rest. Elsewhere it is released; whoever counts on it has to say so.
            let last = fields.flag("final_capture")?.unwrap_or(true);
            if fields.has("payment_instruction") {
                return Err(Refusal::Parameter("payment_instruction".to_owned()));
            }
            let target = Target {
                authorization: object,
                ..Target::default()
            };
            Ok(Request::Capture {
                target,
                amount,
                units: None,
                last,
            })
        }
        Operation::Void => {
            let target = Target {
                authorization: object,
                ..Target::default()
            };
            Ok(Request::Void { target, reason: None })
        }
        Operation::Refund => {
            let mut fields = Fields::parse(body)?;
            let amount = amount(&mut fields, "amount")?;
            let reason = fields.string("note_to_payer")?;
            let reference = fields.string("invoice_id")?;
            if fields.has("payment_instruction") {
                return Err(Refusal::Parameter("payment_instruction".to_owned()));
            }
            let mut metadata = IndexMap::new();
            if let Some(custom) = fields.string("custom_id")? {
                metadata.insert(CUSTOM_ID.to_owned(), custom);
            }
            let target = Target {
                charge: object,
                ..Target::default()
            };
            Ok(Request::Refund {
                target,
                amount,
                units: None,
                reason,
                reference,
                metadata,
            })
        }
        Operation::Retrieve => {
            let target = match (payments, capture) {
                (false, _) => Target {
                    payment: object,
                    ..Target::default()
                },
                (true, true) => Target {
                    charge: object,
                    ..Target::default()
                },
                (true, false) => Target {
                    authorization: object,
                    ..Target::default()
                },
            };
            Ok(Request::Retrieve { target })
        }
        Operation::RetrieveRefund => Ok(Request::RetrieveRefund {
            refund: object.unwrap_or_default(),
        }),
        _ => Err(Refusal::Operation("this call".to_owned())),
    }
}

fn amount(fields: &mut Fields, name: &str) -> Result<Option<Amount>, Refusal> {
    if !fields.has(name) {
        return Ok(None);
    }
    let mut amount = fields.object(name)?;
    let (value, currency) = (amount.required("value")?, amount.required("currency_code")?);
    Ok(Some(Amount::from_decimal(Dialect::Paypal, &value, &currency)?))
}

/// Somebody else's money, or a merchant acting for another one: only PayPal knows how to split it.
fn multi_party(head: &Head, unportable: &mut Vec<String>) {
    if head.headers.contains_key("paypal-auth-assertion") {
        unportable.push("PayPal-Auth-Assertion".to_owned());
    }
}

fn empty_pay(operation: Operation, capture: CaptureMode) -> Pay {
    Pay {
        operation,
        confirms: None,
        amount: None,
        capture,
        instrument: None,
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
        unportable: Vec::new(),
    }
}

fn order(mut fields: Fields, head: &Head) -> Result<Request, Refusal> {
    let capture = match fields.required("intent")?.as_str() {
        "CAPTURE" => CaptureMode::Automatic,
        "AUTHORIZE" => CaptureMode::Manual,
        _ => return Err(Refusal::Malformed("intent is neither CAPTURE nor AUTHORIZE".to_owned())),
    };
    let mut pay = empty_pay(Operation::Create, capture);
    multi_party(head, &mut pay.unportable);
    let mut units = fields.objects("purchase_units")?;
    if units.len() != 1 {
        if units.is_empty() {
            return Err(Refusal::Malformed("purchase_units is missing".to_owned()));
        }
        pay.unportable.push("purchase_units".to_owned());
    }
    purchase_unit(units.swap_remove(0), &mut pay)?;
    if fields.has("payment_source") {
        source(fields.object("payment_source")?, &mut pay)?;
        pay.operation = match capture {
            CaptureMode::Automatic => Operation::Sale,
            CaptureMode::Manual => Operation::Authorize,
        };
    }
    payer(fields.object("payer")?, &mut pay)?;
    let mut context = fields.object("application_context")?;
    if let Some(url) = context.string("return_url")? {
        pay.return_url.get_or_insert(url);
    }
    if fields
        .string("processing_instruction")?
        .is_some_and(|instruction| instruction != "NO_INSTRUCTION")
    {
        pay.unportable.push("processing_instruction".to_owned());
    }
    fields.leftovers(&mut pay.unportable);
    Ok(Request::Pay(Box::new(pay)))
}

fn purchase_unit(mut unit: Fields, pay: &mut Pay) -> Result<(), Refusal> {
    pay.amount = amount(&mut unit, "amount")?;
    if pay.amount.is_none() {
        return Err(Refusal::Malformed("purchase_units.amount is missing".to_owned()));
    }
    pay.reference = unit.string("invoice_id")?;
    pay.description = unit.string("description")?;
    pay.statement = unit.string("soft_descriptor")?;
    for name in [CUSTOM_ID, REFERENCE_ID] {
        if let Some(value) = unit.string(name)?.filter(|value| value != "default") {
            pay.metadata.insert(name.to_owned(), value);
        }
    }
    if unit.has("shipping") {
        let mut shipping = unit.object("shipping")?;
        if shipping.has("address") {
            pay.buyer.shipping = Some(address(shipping.object("address")?)?);
        }
    }
    unit.drop_fields(&["items", "supplementary_data"]);
    unit.leftovers(&mut pay.unportable);
    Ok(())
}

fn address(mut fields: Fields) -> Result<Address, Refusal> {
    Ok(Address {
        line1: fields.string("address_line_1")?,
        line2: fields.string("address_line_2")?,
        city: fields.string("admin_area_2")?,
        state: fields.string("admin_area_1")?,
        postal_code: fields.string("postal_code")?,
        country: fields.string("country_code")?,
    })
}

fn payer(mut fields: Fields, pay: &mut Pay) -> Result<(), Refusal> {
    let mut name = fields.object("name")?;
    let parts = [name.string("given_name")?, name.string("surname")?];
    let joined = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
    if !joined.is_empty() {
        pay.buyer.name.get_or_insert(joined);
    }
    if let Some(email) = fields.string("email_address")? {
        pay.buyer.email.get_or_insert(email);
    }
    pay.buyer.phone = fields
        .object("phone")?
        .object("phone_number")?
        .string("national_number")?;
    if fields.has("address") && pay.buyer.billing.is_none() {
        pay.buyer.billing = Some(address(fields.object("address")?)?);
    }
    Ok(())
}

fn source(mut source: Fields, pay: &mut Pay) -> Result<(), Refusal> {
    if source.has("card") {
        let card = source.object("card")?;
        self::card(card, pay)?;
        source.leftovers(&mut pay.unportable);
        return Ok(());
    }
    for wallet in ["paypal", "venmo"] {
        if source.has(wallet) {
            let mut fields = source.object(wallet)?;
            pay.instrument = Some(match fields.string("vault_id")? {
                Some(vault) => Instrument::Token(format!("{wallet}:{vault}")),
                None => Instrument::Bound(wallet.to_owned()),
            });
            if let Some(email) = fields.string("email_address")? {
                pay.buyer.email.get_or_insert(email);
            }
            return Ok(());
        }
    }
    if source.has("token") {
        let id = source.object("token")?.required("id")?;
        pay.instrument = Some(Instrument::Token(format!("token:{id}")));
        return Ok(());
    }
    let mut names = Vec::new();
    source.leftovers(&mut names);
    match names.into_iter().next() {
        Some(name) => pay.instrument = Some(Instrument::Bound(name)),
        None => return Err(Refusal::Malformed("payment_source is empty".to_owned())),
    }
    Ok(())
}

fn card(mut card: Fields, pay: &mut Pay) -> Result<(), Refusal> {
    let holder = card.string("name")?;
    if let Some(name) = &holder {
        pay.buyer.name.get_or_insert_with(|| name.clone());
    }
    if card.has("billing_address") {
        pay.buyer.billing = Some(address(card.object("billing_address")?)?);
    }
    stored_credential(card.object("stored_credential")?, pay)?;
    let mut attributes = card.object("attributes")?;
    if attributes.has("customer") {
        pay.customer = attributes.object("customer")?.string("id")?;
    }
    let method = attributes.object("verification")?.string("method")?;
    if method.is_some_and(|method| matches!(method.as_str(), "SCA_ALWAYS" | "3D_SECURE")) {
        pay.unportable
            .push("payment_source.card.attributes.verification".to_owned());
    }
    // Vaulting while paying would put the card into a vault the application does not know.
    attributes.leftovers(&mut pay.unportable);
    let mut context = card.object("experience_context")?;
    if let Some(url) = context.string("return_url")? {
        pay.return_url = Some(url);
    }
    if card.has("network_token") {
        let mut fields = card.object("network_token")?;
        let (month, year) = expiry(&fields.required("expiry")?)?;
        pay.instrument = Some(Instrument::NetworkToken(NetworkToken {
            number: fields.required("number")?,
            expiry_month: month,
            expiry_year: year,
            cryptogram: fields.string("cryptogram")?,
            eci: fields.string("eci_flag")?.as_deref().and_then(eci).map(str::to_owned),
        }));
    } else if let Some(vault) = card.string("vault_id")? {
        card.drop_fields(&["security_code", "expiry"]);
        pay.instrument = Some(Instrument::Token(vault));
    } else {
        let (month, year) = expiry(&card.required("expiry")?)?;
        let number = card.required("number")?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refusal::Malformed(
                "payment_source.card.number is not a number".to_owned(),
            ));
        }
        let cvc = card.string("security_code")?;
        pay.instrument = Some(Instrument::Card(Card {
            number,
            expiry_month: month,
            expiry_year: year,
            cvc,
            holder,
        }));
    }
    card.leftovers(&mut pay.unportable);
    Ok(())
}

fn stored_credential(mut stored: Fields, pay: &mut Pay) -> Result<(), Refusal> {
    if stored.string("payment_initiator")?.as_deref() == Some("MERCHANT") {
        pay.initiator = Initiator::Merchant;
    }
    let mut previous = stored.object("previous_network_transaction_reference")?;
    pay.network_transaction_id = previous.string("id")?;
    Ok(())
}

/// `YYYY-MM`.
fn expiry(text: &str) -> Result<(String, String), Refusal> {
    let digits = |text: &str, len: usize| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('-') {
        Some((year, month)) if digits(year, 4) && digits(month, 2) => Ok((month.to_owned(), year.to_owned())),
        _ => Err(Refusal::Malformed("expiry is not YYYY-MM".to_owned())),
    }
}

/// PayPal names the indicator; the networks number it (Mastercard's in brackets).
fn eci(flag: &str) -> Option<&'static str> {
    Some(match flag {
        "FULLY_AUTHENTICATED_TRANSACTION" => "05",
        "ATTEMPTED_AUTHENTICATION_TRANSACTION" => "06",
        "NON_3D_SECURE_TRANSACTION" => "07",
        "MASTERCARD_FULLY_AUTHENTICATED_TRANSACTION" => "02",
        "MASTERCARD_ATTEMPTED_AUTHENTICATION_TRANSACTION" => "01",
        "MASTERCARD_NON_3D_SECURE_TRANSACTION" => "00",
        _ => return None,
    })
}

/// Capture or authorisation of an order. With a card in the request it is a payment like any other; without, the buyer
/// agreed at PayPal and nobody else can take her money.
fn confirm(mut fields: Fields, order: Option<String>, head: &Head) -> Result<Request, Refusal> {
    let capture = if head.path.ends_with("/authorize") {
        CaptureMode::Manual
    } else {
        CaptureMode::Automatic
    };
    let mut pay = empty_pay(Operation::Confirm, capture);
    pay.confirms = order;
    multi_party(head, &mut pay.unportable);
    if fields.has("payment_source") {
        source(fields.object("payment_source")?, &mut pay)?;
    } else {
        pay.instrument = Some(Instrument::Bound("approved order".to_owned()));
    }
    if fields
        .string("processing_instruction")?
        .is_some_and(|instruction| instruction != "NO_INSTRUCTION")
    {
        pay.unportable.push("processing_instruction".to_owned());
    }
    fields.leftovers(&mut pay.unportable);
    Ok(Request::Pay(Box::new(pay)))
}
