//! Reading what an application sends to Stripe.
//!
//! A parameter is understood, known to be without effect elsewhere, or unportable: there is no fourth kind. Unportable
//! ones are listed by name in [`Pay::unportable`] and keep the payment at Stripe (Connect, vaulting during payment,
//! installments, multicapture, ...: gateways/stripe.md section 17).

use http::Method;
use indexmap::IndexMap;

use super::form::Form;
use crate::config::model::Dialect;
use crate::gateway::canonical::{
    Address, Buyer, CaptureMode, Card, Initiator, Instrument, ListFilter, Operation, Pay, Refusal, Request, Target,
    ThreeDs,
};
use crate::gateway::{Head, Recognised};
use crate::money::{Amount, MoneyError};

/// Headers that move a request into another account: the money is not the merchant's alone.
const ACCOUNT_HEADERS: [&str; 2] = ["stripe-account", "stripe-context"];

/// Metadata keys that applications use for their order reference, in this order.
const ORDER_KEYS: [&str; 3] = ["order_id", "order", "reference"];

/// Reads method and path.
pub fn recognise(method: &Method, path: &str) -> Recognised {
    let opaque = Recognised {
        operation: Operation::Opaque,
        object: None,
    };
    let Some(rest) = path.strip_prefix("/v1/") else {
        return opaque;
    };
    let parts: Vec<&str> = rest.split('/').collect();
    let id = |id: &str, kinds: &[&str]| {
        let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && id.len() <= 255;
        (plain && kinds.iter().any(|kind| id.starts_with(kind))).then(|| id.to_owned())
    };
    let on = |operation, object: Option<String>| match object {
        Some(object) => Recognised {
            operation,
            object: Some(object),
        },
        None => opaque.clone(),
    };
    let plain = |operation| Recognised {
        operation,
        object: None,
    };
    match (method, parts.as_slice()) {
        (&Method::POST, ["payment_intents"]) => plain(Operation::Create),
        (&Method::GET, ["payment_intents" | "charges" | "refunds"]) => plain(Operation::List),
        (&Method::GET, ["payment_intents", pi]) => on(Operation::Retrieve, id(pi, &["pi_"])),
        (&Method::POST, ["payment_intents", pi, "confirm"]) => on(Operation::Confirm, id(pi, &["pi_"])),
        (&Method::POST, ["payment_intents", pi, "capture"]) => on(Operation::Capture, id(pi, &["pi_"])),
        (&Method::POST, ["payment_intents", pi, "cancel"]) => on(Operation::Void, id(pi, &["pi_"])),
        (&Method::POST, ["charges"]) => plain(Operation::Sale),
        (&Method::GET, ["charges", ch]) => on(Operation::Retrieve, id(ch, &["ch_", "py_"])),
        (&Method::POST, ["charges", ch, "capture"]) => on(Operation::Capture, id(ch, &["ch_", "py_"])),
        (&Method::POST, ["refunds"]) => plain(Operation::Refund),
        (&Method::GET, ["refunds", re]) => on(Operation::RetrieveRefund, id(re, &["re_", "pyr_"])),
        // What only Stripe does, on what may not be Stripe's: updates, increments, reviews.
        (_, ["payment_intents", pi, ..]) => on(Operation::Opaque, id(pi, &["pi_"])),
        (_, ["charges", ch, ..]) => on(Operation::Opaque, id(ch, &["ch_", "py_"])),
        (_, ["refunds", re, ..]) => on(Operation::Opaque, id(re, &["re_", "pyr_"])),
        _ => opaque,
    }
}

/// The parameters of a request: the body of a POST, the query of everything else.
pub fn parameters(head: &Head, body: &[u8]) -> Result<Form, Refusal> {
    if head.method == Method::POST {
        let form = head.headers.get(http::header::CONTENT_TYPE).is_none_or(|value| {
            let bytes = value.as_bytes();
            let end = bytes.iter().position(|byte| *byte == b';').unwrap_or(bytes.len());
            let kind = bytes.get(..end).unwrap_or_default();
            kind.trim_ascii()
                .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
        });
        if !form && !body.is_empty() {
            return Err(Refusal::Malformed("the body is not a form".to_owned()));
        }
        if head.query.as_ref().is_some_and(|query| !query.is_empty()) {
            return Err(Refusal::Malformed("parameters in the query of a POST".to_owned()));
        }
        Form::parse(body)
    } else {
        Form::parse(head.query.as_deref().unwrap_or_default().as_bytes())
    }
}

fn money(error: MoneyError) -> Refusal {
    match error {
        MoneyError::UnknownCurrency(currency)
        | MoneyError::Unsupported(currency, _)
        | MoneyError::Contradictory(currency, _) => Refusal::Currency(currency.code().to_owned()),
        MoneyError::Malformed | MoneyError::Negative | MoneyError::NotACurrency => {
            Refusal::Malformed(error.to_string())
        }
        _ => Refusal::Amount(error.to_string()),
    }
}

/// Reads a request of a recognised operation.
pub fn parse(recognised: &Recognised, head: &Head, body: &[u8]) -> Result<Request, Refusal> {
    let mut form = parameters(head, body)?;
    form.drop_all(&[&["expand"]]);
    let charges = head.path.starts_with("/v1/charges");
    let object = recognised.object.clone();
    match recognised.operation {
        Operation::Create | Operation::Confirm | Operation::Sale => {
            let mut pay = if charges {
                charge(&mut form)?
            } else {
                intent(&mut form, object)?
            };
            pay.unportable.extend(form.leftovers());
            for header in ACCOUNT_HEADERS {
                if head.headers.contains_key(header) {
                    pay.unportable.push(header.to_owned());
                }
            }
            Ok(Request::Pay(Box::new(pay)))
        }
        Operation::Capture => {
            let name = if charges { "amount" } else { "amount_to_capture" };
            let units = units(&mut form, name)?;
            let last = form.flag(&["final_capture"])?.unwrap_or(true);
            form.drop_all(&[&["metadata"], &["receipt_email"]]);
            all_taken(form)?;
            Ok(Request::Capture {
                target: target(object),
                amount: None,
                units,
                last,
            })
        }
        Operation::Void => {
            let reason = form.text(&["cancellation_reason"]);
            all_taken(form)?;
            Ok(Request::Void {
                target: target(object),
                reason,
            })
        }
        Operation::Refund => refund(form),
        Operation::Retrieve => {
            form.drop_all(&[&["client_secret"]]);
            all_taken(form)?;
            Ok(Request::Retrieve { target: target(object) })
        }
        Operation::RetrieveRefund => {
            all_taken(form)?;
            Ok(Request::RetrieveRefund {
                refund: object.unwrap_or_default(),
            })
        }
        Operation::List => list(form, &head.path),
        _ => Err(Refusal::Operation("this call".to_owned())),
    }
}

fn all_taken(form: Form) -> Result<(), Refusal> {
    match form.leftovers().into_iter().next() {
        Some(name) => Err(Refusal::Parameter(name)),
        None => Ok(()),
    }
}

fn target(object: Option<String>) -> Target {
    let charge = object.as_ref().is_some_and(|id| !id.starts_with("pi_"));
    Target {
        payment: object.clone().filter(|_| !charge),
        charge: object.filter(|_| charge),
        ..Target::default()
    }
}

/// Bare minor units: digits only, like every amount (`1e3`, `1000.0`, ` 1000` are not amounts).
fn units(form: &mut Form, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(text) = form.take(&[name]) else {
        return Ok(None);
    };
    let plain = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    match text.parse::<i64>() {
        Ok(units) if plain && units > 0 => Ok(Some(units)),
        _ => Err(Refusal::Malformed(format!("{name} is not an amount"))),
    }
}

fn amount(form: &mut Form) -> Result<Option<Amount>, Refusal> {
    let (amount, currency) = (form.take(&["amount"]), form.take(&["currency"]));
    match (amount, currency) {
        (Some(amount), Some(currency)) => {
            let amount = Amount::parse_minor(Dialect::Stripe, &amount, &currency).map_err(money)?;
            if amount.is_zero() {
                return Err(Refusal::Malformed("an amount of nothing".to_owned()));
            }
            Ok(Some(amount))
        }
        (None, None) => Ok(None),
        _ => Err(Refusal::Malformed("amount and currency belong together".to_owned())),
    }
}

/// The merchant's order reference in the metadata.
pub fn order(metadata: &IndexMap<String, String>) -> Option<String> {
    ORDER_KEYS.iter().find_map(|key| metadata.get(*key).cloned())
}

fn intent(form: &mut Form, confirms: Option<String>) -> Result<Pay, Refusal> {
    let mut unportable = Vec::new();
    let confirm = form.flag(&["confirm"])?;
    let amount = amount(form)?;
    if confirms.is_none() && amount.is_none() {
        return Err(Refusal::Malformed("amount and currency are missing".to_owned()));
    }
    let capture = form.text(&["capture_method"]);
    let capture_said = capture.is_some();
    let capture = match capture.as_deref() {
        None | Some("automatic" | "automatic_async") => CaptureMode::Automatic,
        Some("manual") => CaptureMode::Manual,
        Some(_) => return Err(Refusal::Malformed("capture_method is unknown".to_owned())),
    };
    if confirms.is_some() && capture_said && capture == CaptureMode::Automatic {
        // It may overrule what the intent was created with, and an absent one may not.
        unportable.push("capture_method".to_owned());
    }
    let operation = match (&confirms, confirm, capture) {
        (Some(_), None, _) => Operation::Confirm,
        (Some(_), Some(_), _) => return Err(Refusal::Malformed("confirm in a confirmation".to_owned())),
        (None, Some(true), CaptureMode::Automatic) => Operation::Sale,
        (None, Some(true), CaptureMode::Manual) => Operation::Authorize,
        (None, _, _) => Operation::Create,
    };
    // The second is the first's name since 2026-09-30.
    for name in ["payment_method_types", "allowed_payment_method_types"] {
        for kind in form.list(&[name]) {
            if kind != "card" {
                unportable.push(format!("{name}[{kind}]"));
            }
        }
    }
    let mut buyer = Buyer {
        email: form.text(&["receipt_email"]),
        billing: address(form, &["payment_method_data", "billing_details"]),
        shipping: address(form, &["shipping"]),
        ..Buyer::default()
    };
    let billing = |form: &mut Form, field: &str| form.text(&["payment_method_data", "billing_details", field]);
    buyer.name = billing(form, "name").or_else(|| form.text(&["shipping", "name"]));
    buyer.phone = billing(form, "phone").or_else(|| form.text(&["shipping", "phone"]));
    if let Some(email) = billing(form, "email") {
        buyer.email.get_or_insert(email);
    }
    form.drop_all(&[&["shipping", "name"], &["shipping", "phone"]]);
    let initiator = match form.text(&["off_session"]).as_deref() {
        None | Some("false") => Initiator::Customer,
        Some(_) => Initiator::Merchant,
    };
    let instrument = intent_instrument(form)?;
    match form
        .text(&["payment_method_options", "card", "request_three_d_secure"])
        .as_deref()
    {
        None | Some("automatic") => {}
        Some(wanted) => unportable.push(format!("payment_method_options[card][request_three_d_secure]={wanted}")),
    }
    let three_ds = three_ds(form);
    let network_transaction_id = form.text(&[
        "payment_method_options",
        "card",
        "mit_exemption",
        "network_transaction_id",
    ]);
    let metadata = form.map("metadata");
    let pay = Pay {
        operation,
        confirms,
        amount,
        capture,
        instrument,
        customer: form.text(&["customer"]),
        initiator,
        reference: order(&metadata),
        description: form.text(&["description"]),
        statement: statement(form),
        metadata,
        buyer,
        return_url: form.text(&["return_url"]),
        three_ds,
        network_transaction_id,
        unportable,
    };
    form.drop_all(&[
        &["automatic_payment_methods"],
        &["confirmation_method"],
        &["use_stripe_sdk"],
        &["error_on_requires_action"],
        &["radar_options"],
        &["payment_method_data", "radar_options"],
        &["payment_method_data", "allow_redisplay"],
        &["payment_method_data", "metadata"],
    ]);
    Ok(pay)
}

fn statement(form: &mut Form) -> Option<String> {
    let suffix = form.text(&["statement_descriptor_suffix"]);
    form.text(&["statement_descriptor"]).or(suffix)
}

fn intent_instrument(form: &mut Form) -> Result<Option<Instrument>, Refusal> {
    let saved = form.text(&["payment_method"]);
    let confirmation = form.text(&["confirmation_token"]);
    let kind = form.text(&["payment_method_data", "type"]);
    let token = form.text(&["payment_method_data", "card", "token"]);
    let card = card(form, &["payment_method_data", "card"])?;
    let given = [
        saved.map(Instrument::Token),
        confirmation.map(Instrument::Bound),
        token.map(Instrument::Token),
        card.map(Instrument::Card),
    ];
    let mut given: Vec<Instrument> = given.into_iter().flatten().collect();
    if given.len() > 1 {
        return Err(Refusal::Malformed("more than one instrument".to_owned()));
    }
    let given = given.pop();
    match kind {
        Some(kind) if kind != "card" => Ok(Some(Instrument::Bound(kind))),
        _ => Ok(given),
    }
}

fn card(form: &mut Form, at: &[&str]) -> Result<Option<Card>, Refusal> {
    let mut take = |field: &str| form.take(&[at, &[field]].concat());
    let (number, month, year, cvc) = (take("number"), take("exp_month"), take("exp_year"), take("cvc"));
    let holder = take("name").map(|name| name.as_str().to_owned());
    let Some(number) = number else {
        return if month.is_some() || year.is_some() || cvc.is_some() {
            Err(Refusal::Malformed("card fields without a number".to_owned()))
        } else {
            Ok(None)
        };
    };
    let number: String = number.chars().filter(|c| *c != ' ' && *c != '-').collect();
    let two = month
        .as_ref()
        .and_then(|month| month.parse::<u8>().ok())
        .filter(|month| (1..=12).contains(month));
    let four = year
        .as_ref()
        .and_then(|year| year.parse::<u16>().ok())
        .map(|year| match year {
            0..=99 => 2000 + year,
            _ => year,
        });
    let digits = (12..=19).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    match (digits, two, four) {
        (true, Some(month), Some(year)) => Ok(Some(Card {
            number,
            expiry_month: format!("{month:02}"),
            expiry_year: format!("{year:04}"),
            cvc: cvc.map(|cvc| cvc.as_str().to_owned()),
            holder,
        })),
        _ => Err(Refusal::Malformed("the card is not complete".to_owned())),
    }
}

fn three_ds(form: &mut Form) -> Option<ThreeDs> {
    let mut take = |field: &str| form.text(&["payment_method_options", "card", "three_d_secure", field]);
    let cryptogram = take("cryptogram")?;
    Some(ThreeDs {
        version: take("version").unwrap_or_default(),
        eci: take("electronic_commerce_indicator"),
        cryptogram,
        transaction_id: take("transaction_id"),
    })
}

fn address(form: &mut Form, at: &[&str]) -> Option<Address> {
    let mut take = |field: &str| form.text(&[at, &["address", field]].concat());
    let address = Address {
        line1: take("line1"),
        line2: take("line2"),
        city: take("city"),
        state: take("state"),
        postal_code: take("postal_code"),
        country: take("country"),
    };
    (address != Address::default()).then_some(address)
}

fn charge(form: &mut Form) -> Result<Pay, Refusal> {
    let amount = amount(form)?.ok_or_else(|| Refusal::Malformed("amount and currency are missing".to_owned()))?;
    let capture = match form.flag(&["capture"])? {
        Some(false) => CaptureMode::Manual,
        _ => CaptureMode::Automatic,
    };
    let customer = form.text(&["customer"]);
    let source = form.text(&["source"]);
    form.drop_all(&[&["source", "object"]]);
    let card = card(form, &["source"])?;
    let instrument = match (source, card) {
        (Some(_), Some(_)) => return Err(Refusal::Malformed("more than one instrument".to_owned())),
        (Some(token), None) => Some(Instrument::Token(token)),
        (None, Some(card)) => Some(Instrument::Card(card)),
        // The customer's default source: the customer is the name that an instrument map can know it by.
        (None, None) => customer.clone().map(Instrument::Token),
    };
    let metadata = form.map("metadata");
    let buyer = Buyer {
        email: form.text(&["receipt_email"]),
        name: form.text(&["shipping", "name"]),
        phone: form.text(&["shipping", "phone"]),
        shipping: address(form, &["shipping"]),
        ..Buyer::default()
    };
    form.drop_all(&[&["radar_options"]]);
    Ok(Pay {
        operation: match capture {
            CaptureMode::Automatic => Operation::Sale,
            CaptureMode::Manual => Operation::Authorize,
        },
        confirms: None,
        amount: Some(amount),
        capture,
        instrument,
        customer,
        initiator: Initiator::Customer,
        reference: order(&metadata),
        description: form.text(&["description"]),
        statement: statement(form),
        metadata,
        buyer,
        return_url: None,
        three_ds: None,
        network_transaction_id: None,
        unportable: Vec::new(),
    })
}

fn refund(mut form: Form) -> Result<Request, Refusal> {
    let target = Target {
        payment: form.text(&["payment_intent"]),
        charge: form.text(&["charge"]),
        ..Target::default()
    };
    if target.payment.is_none() && target.charge.is_none() {
        return Err(Refusal::Malformed("payment_intent or charge is missing".to_owned()));
    }
    let units = units(&mut form, "amount")?;
    let metadata = form.map("metadata");
    let request = Request::Refund {
        target,
        amount: None,
        units,
        reason: form.text(&["reason"]),
        reference: metadata.get("refund_id").or_else(|| metadata.get("reference")).cloned(),
        metadata,
    };
    form.drop_all(&[&["instructions_email"]]);
    all_taken(form)?;
    Ok(request)
}

fn list(mut form: Form, path: &str) -> Result<Request, Refusal> {
    let limit = form.text(&["limit"]).map_or(Ok(10), |limit| match limit.parse() {
        Ok(limit @ 1..=100) => Ok(limit),
        _ => Err(Refusal::Malformed("limit is not 1 to 100".to_owned())),
    })?;
    let mut time = |field: &str, shift: i64| match form.text(&["created", field]) {
        None => Ok(None),
        Some(text) => match text.parse::<i64>() {
            Ok(at) => Ok(Some(at.saturating_add(shift))),
            Err(_) => Err(Refusal::Malformed("created is not a time".to_owned())),
        },
    };
    let (from, after) = (time("gte", 0)?, time("gt", 1)?);
    let (to, before) = (time("lte", 0)?, time("lt", -1)?);
    let of = form.text(&["payment_intent"]).or(form.text(&["charge"]));
    let refunds = path == "/v1/refunds";
    if refunds && of.is_none() {
        return Err(Refusal::Operation("a list of all refunds".to_owned()));
    }
    if !refunds && of.is_some() {
        return Err(Refusal::Operation("a list of charges".to_owned()));
    }
    let filter = ListFilter {
        refunds_of: of,
        limit,
        starting_after: form.text(&["starting_after"]),
        created_from: from.max(after),
        created_to: match (to, before) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        },
    };
    all_taken(form)?;
    Ok(Request::List(filter))
}
