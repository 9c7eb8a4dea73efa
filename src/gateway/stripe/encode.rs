//! Writing requests to Stripe: payments as target, follow-ups as owner, fences and look-ups.
//!
//! A payment taken here is always one call: an intent, created and confirmed. Its metadata carries Sentinel's reference
//! beside everything the merchant sent.

use http::{HeaderMap, HeaderValue, Method};
use indexmap::IndexMap;

use super::amounts::{chargeable, minor};
use super::form::Writer;
use super::parse::order;
use super::{API_VERSION, FENCE_KEY, REFERENCE_KEY};
use crate::gateway::canonical::{
    Address, CaptureMode, EarlierAttempt, Initiator, Instrument, ListFilter, Operation, Pay, Refusal, Request, Target,
};
use crate::gateway::{Account, Outgoing};
use crate::money::Amount;

/// Stripe's limits on metadata.
const MAX_METADATA: (usize, usize, usize) = (50, 40, 500);

fn value(text: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(text).map_err(|_| Refusal::Account("a credential fit for a header".to_owned()))
}

fn outgoing(method: Method, target: String, form: Writer, account: &Account) -> Result<Outgoing, Refusal> {
    let secret = account
        .credentials
        .get("secret_key")
        .ok_or_else(|| Refusal::Account("secret_key".to_owned()))?;
    let mut authorization = value(&format!("Bearer {secret}"))?;
    authorization.set_sensitive(true);
    let version = account.settings.get("api_version").map_or(API_VERSION, String::as_str);
    let mut headers = HeaderMap::new();
    headers.insert(http::header::AUTHORIZATION, authorization);
    headers.insert("stripe-version", value(version)?);
    headers.insert(http::header::ACCEPT, HeaderValue::from_static("application/json"));
    let form = form.finish();
    if method == Method::POST {
        headers.insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert("idempotency-key", value(&account.idempotency_key)?);
        return Ok(Outgoing {
            method,
            target,
            headers,
            body: bytes::Bytes::copy_from_slice(form.as_bytes()),
        });
    }
    let target = match form.is_empty() {
        true => target,
        false => format!("{target}?{}", form.as_str()),
    };
    Ok(Outgoing {
        method,
        target,
        headers,
        body: bytes::Bytes::new(),
    })
}

/// A path segment; ids from the ledger are plain, and what is not plain is no id of Stripe's.
fn segment<'a>(id: Option<&'a String>, what: &str) -> Result<&'a str, Refusal> {
    let plain = |id: &&String| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    id.filter(plain)
        .map(String::as_str)
        .ok_or_else(|| Refusal::Operation(format!("{what} without Stripe's id")))
}

/// A charge that was made without an intent has no other name: it stands for the payment, and is acted on as a charge.
fn intent(target: &Target) -> Option<&String> {
    target.payment.as_ref().filter(|id| !charge(id))
}

fn charged(target: &Target) -> Option<&String> {
    let alone = target.payment.as_ref().filter(|id| charge(id));
    alone.or(target.charge.as_ref())
}

fn charge(id: &str) -> bool {
    id.starts_with("ch_") || id.starts_with("py_")
}

/// Writes a canonical request.
pub fn encode(request: &Request, account: &Account) -> Result<Outgoing, Refusal> {
    let post = |target: String, form| outgoing(Method::POST, target, form, account);
    let get = |target: String, form| outgoing(Method::GET, target, form, account);
    match request {
        Request::Pay(pay) => post("/v1/payment_intents".to_owned(), payment(pay, account)?),
        Request::Capture {
            target,
            amount,
            units,
            last,
        } => {
            let amount = exact(*amount, *units)?.map(|units| units.to_string());
            let mut form = Writer::default();
            if let Some(intent) = intent(target) {
                form.maybe(&["amount_to_capture"], amount.as_deref());
                if !*last {
                    form.put(&["final_capture"], "false");
                }
                let id = segment(Some(intent), "capture")?;
                return post(format!("/v1/payment_intents/{id}/capture"), form);
            }
            form.maybe(&["amount"], amount.as_deref());
            let id = segment(charged(target), "capture")?;
            post(format!("/v1/charges/{id}/capture"), form)
        }
        Request::Void { target, reason } => {
            let mut form = Writer::default();
            if let Some(intent) = intent(target) {
                let known = ["abandoned", "duplicate", "fraudulent", "requested_by_customer"];
                let reason = reason.as_deref().filter(|reason| known.contains(reason));
                form.maybe(&["cancellation_reason"], reason);
                let id = segment(Some(intent), "void")?;
                return post(format!("/v1/payment_intents/{id}/cancel"), form);
            }
            form.put(&["charge"], segment(charged(target), "void")?);
            post("/v1/refunds".to_owned(), form)
        }
        Request::Refund {
            target,
            amount,
            units,
            reason,
            reference,
            metadata: own,
        } => {
            let mut form = Writer::default();
            match intent(target) {
                Some(intent) => form.put(&["payment_intent"], segment(Some(intent), "refund")?),
                None => form.put(&["charge"], segment(charged(target), "refund")?),
            }
            let amount = exact(*amount, *units)?.map(|units| units.to_string());
            form.maybe(&["amount"], amount.as_deref());
            let mut all = own.clone();
            match reason.as_deref() {
                Some(reason @ ("duplicate" | "fraudulent" | "requested_by_customer")) => form.put(&["reason"], reason),
                Some(reason) => {
                    all.entry("reason".to_owned()).or_insert_with(|| reason.to_owned());
                }
                None => {}
            }
            if let Some(reference) = reference {
                all.entry("reference".to_owned()).or_insert_with(|| reference.clone());
            }
            metadata(&mut form, &all, &account.reference)?;
            post("/v1/refunds".to_owned(), form)
        }
        Request::Retrieve { target } => get(retrieve(target)?, expanding("latest_charge", target)),
        Request::RetrieveRefund { refund } => {
            let id = segment(Some(refund), "look-up")?;
            get(format!("/v1/refunds/{id}"), Writer::default())
        }
        Request::List(filter) => list(filter).and_then(|(target, form)| get(target, form)),
    }
}

fn exact(amount: Option<Amount>, bare: Option<i64>) -> Result<Option<i64>, Refusal> {
    match (amount, bare) {
        (Some(amount), None) => minor(amount).map(Some),
        (None, None) => Ok(None),
        _ => Err(Refusal::Amount("the payment's currency is not known".to_owned())),
    }
}

fn expanding(field: &str, target: &Target) -> Writer {
    let mut form = Writer::default();
    if target.payment.is_some() {
        form.put(&["expand", "0"], field);
    }
    form
}

fn retrieve(target: &Target) -> Result<String, Refusal> {
    if target.payment.is_some() {
        let id = segment(target.payment.as_ref(), "look-up")?;
        Ok(format!("/v1/payment_intents/{id}"))
    } else {
        let id = segment(target.charge.as_ref(), "look-up")?;
        Ok(format!("/v1/charges/{id}"))
    }
}

fn list(filter: &ListFilter) -> Result<(String, Writer), Refusal> {
    let mut form = Writer::default();
    let target = match &filter.refunds_of {
        Some(of) => {
            let field = if of.starts_with("pi_") {
                "payment_intent"
            } else {
                "charge"
            };
            form.put(&[field], segment(Some(of), "list")?);
            "/v1/refunds"
        }
        None => "/v1/payment_intents",
    };
    form.put(&["limit"], &filter.limit.clamp(1, 100).to_string());
    form.maybe(&["starting_after"], filter.starting_after.as_deref());
    if filter.refunds_of.is_none() {
        form.maybe(
            &["created", "gte"],
            filter.created_from.map(|at| at.to_string()).as_deref(),
        );
        form.maybe(
            &["created", "lte"],
            filter.created_to.map(|at| at.to_string()).as_deref(),
        );
    }
    Ok((target.to_owned(), form))
}

fn metadata(form: &mut Writer, own: &IndexMap<String, String>, reference: &str) -> Result<(), Refusal> {
    let (count, key_len, value_len) = MAX_METADATA;
    let fits = own.len() < count
        && own.iter().all(|(key, value)| {
            key.chars().count() <= key_len && value.chars().count() <= value_len && !key.contains(['[', ']'])
        });
    if !fits {
        return Err(Refusal::Parameter("metadata".to_owned()));
    }
    for (key, value) in own.iter().filter(|(key, _)| *key != REFERENCE_KEY) {
        form.put(&["metadata", key], value);
    }
    form.put(&["metadata", REFERENCE_KEY], reference);
    Ok(())
}

fn payment(pay: &Pay, account: &Account) -> Result<Writer, Refusal> {
    if let Some(name) = pay.unportable.first() {
        return Err(Refusal::Parameter(name.clone()));
    }
    let amount = pay
        .amount
        .ok_or_else(|| Refusal::Malformed("the amount of the confirmed payment is not known".to_owned()))?;
    let mut form = Writer::default();
    form.put(&["amount"], &chargeable(amount)?.to_string());
    form.put(&["currency"], &amount.currency.lower());
    // The list of types has another name in the newest versions; this switch has one name in all of them.
    form.put(&["automatic_payment_methods", "enabled"], "true");
    if pay.return_url.is_none() {
        form.put(&["automatic_payment_methods", "allow_redirects"], "never");
    }
    let capture = match pay.capture {
        CaptureMode::Automatic => "automatic",
        CaptureMode::Manual => "manual",
    };
    form.put(&["capture_method"], capture);
    let confirm = pay.operation != Operation::Create;
    if confirm {
        form.put(&["confirm"], "true");
        if pay.initiator == Initiator::Merchant {
            form.put(&["off_session"], "true");
        }
        match &pay.return_url {
            Some(url) => form.put(&["return_url"], url),
            // Nowhere to send the customer to: a challenge is then a decline, not a half-open payment.
            None => form.put(&["error_on_requires_action"], "true"),
        }
    }
    instrument(&mut form, pay, confirm)?;
    if let Some(three_ds) = &pay.three_ds {
        let known = ["1.0.2", "2.1.0", "2.2.0", "2.3.0", "2.3.1"].contains(&three_ds.version.as_str());
        let (true, Some(transaction)) = (known && confirm, &three_ds.transaction_id) else {
            return Err(Refusal::ThreeDs);
        };
        let at = |field| ["payment_method_options", "card", "three_d_secure", field];
        form.put(&at("version"), &three_ds.version);
        form.put(&at("cryptogram"), &three_ds.cryptogram);
        form.put(&at("transaction_id"), transaction);
        form.maybe(&at("electronic_commerce_indicator"), three_ds.eci.as_deref());
    }
    if let Some(id) = &pay.network_transaction_id
        && !matches!(pay.instrument, Some(Instrument::Token(_)))
    {
        // A gated feature of Stripe's; a saved instrument brings Stripe's own id.
        if account.settings.get("mit_exemption").map(String::as_str) != Some("true") {
            return Err(Refusal::Parameter("network_transaction_id".to_owned()));
        }
        let at = [
            "payment_method_options",
            "card",
            "mit_exemption",
            "network_transaction_id",
        ];
        form.put(&at, id);
    }
    form.maybe(&["description"], pay.description.as_deref());
    form.maybe(
        &["statement_descriptor_suffix"],
        pay.statement.as_deref().and_then(suffix).as_deref(),
    );
    if let (Some(name), Some(address)) = (&pay.buyer.name, &pay.buyer.shipping)
        && address.line1.is_some()
    {
        form.put(&["shipping", "name"], name);
        put_address(&mut form, &["shipping"], address);
    }
    let mut own = pay.metadata.clone();
    if let Some(reference) = &pay.reference
        && order(&own).is_none()
    {
        own.insert("order_id".to_owned(), reference.clone());
    }
    metadata(&mut form, &own, &account.reference)?;
    Ok(form)
}

/// Text for the statement as Stripe takes it for cards: 22 characters, none of `<>\'"*`, with a letter in it.
fn suffix(text: &str) -> Option<String> {
    let allowed = |c: &char| (' '..='~').contains(c) && !['<', '>', '\\', '\'', '"', '*'].contains(c);
    let text: String = text.chars().filter(allowed).take(22).collect();
    text.chars().any(|c| c.is_ascii_alphabetic()).then_some(text)
}

fn instrument(form: &mut Writer, pay: &Pay, confirm: bool) -> Result<(), Refusal> {
    let data = |field| ["payment_method_data", "card", field];
    let mut customer = pay.customer.as_deref().filter(|customer| customer.starts_with("cus_"));
    match &pay.instrument {
        Some(Instrument::Token(token)) => {
            // An instrument map writes a payment method that is attached to a customer as `cus_.../pm_...`.
            let token = match token.split_once('/') {
                Some((of, token)) => {
                    customer = Some(of);
                    token
                }
                None => token,
            };
            if token.starts_with("tok_") {
                form.put(&["payment_method_data", "type"], "card");
                form.put(&data("token"), token);
                billing(form, pay);
            } else if ["pm_", "card_", "src_"].iter().any(|kind| token.starts_with(kind)) {
                form.put(&["payment_method"], token);
            } else {
                return Err(Refusal::NoPortableInstrument);
            }
        }
        Some(Instrument::Card(card)) => {
            form.put(&["payment_method_data", "type"], "card");
            form.put(&data("number"), &card.number);
            form.put(&data("exp_month"), card.expiry_month.trim_start_matches('0'));
            form.put(&data("exp_year"), &card.expiry_year);
            form.maybe(&data("cvc"), card.cvc.as_deref());
            billing(form, pay);
        }
        // Network tokens are a gated feature without a public form; what is bound to another gateway stays there.
        Some(Instrument::NetworkToken(_) | Instrument::Bound(_)) => return Err(Refusal::NoPortableInstrument),
        None if confirm => return Err(Refusal::NoPortableInstrument),
        None => {}
    }
    form.maybe(&["customer"], customer);
    Ok(())
}

fn billing(form: &mut Writer, pay: &Pay) {
    let at = |field| ["payment_method_data", "billing_details", field];
    form.maybe(&at("name"), pay.buyer.name.as_deref());
    form.maybe(&at("email"), pay.buyer.email.as_deref());
    form.maybe(&at("phone"), pay.buyer.phone.as_deref());
    if let Some(address) = &pay.buyer.billing {
        put_address(form, &["payment_method_data", "billing_details"], address);
    }
}

fn put_address(form: &mut Writer, at: &[&str], address: &Address) {
    let mut put = |field: &str, value: &Option<String>| {
        form.maybe(&[at, &["address", field]].concat(), value.as_deref());
    };
    put("line1", &address.line1);
    put("line2", &address.line2);
    put("city", &address.city);
    put("state", &address.state);
    put("postal_code", &address.postal_code);
    put("country", &address.country);
}

/// Writes the fence of an earlier attempt.
///
/// *An intent that exists* (a confirmation): cancel it. Stripe refuses every operation on a cancelled intent for ever,
/// and cancelling one that was authorised in the meantime releases the hold: both leave no effect.
///
/// *A creation*: claim its idempotency key with a harmless request, an unconfirmed intent that nobody has the secret of.
/// Stripe compares parameters under one key: taken by the tombstone, the key answers a late original with 400 and never
/// executes it; taken by the original, it answers the tombstone with 400, which proves that the original arrived. This
/// holds while Stripe keeps the key, at least 24 hours, and needs the key that the original carried: without one there
/// is no fence. `sentinel certify` checks it against a live account.
///
/// Captures, voids and refunds need no fence: they are repeated under their own key at the one gateway that can do them.
pub fn fence(earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
    if let Some(intent) = earlier.object.as_ref().filter(|id| id.starts_with("pi_")) {
        let id = segment(Some(intent), "fence").ok()?;
        return outgoing(
            Method::POST,
            format!("/v1/payment_intents/{id}/cancel"),
            Writer::default(),
            account,
        )
        .ok();
    }
    let key = earlier.idempotency_key.clone()?;
    let amount = earlier.amount?;
    let mut form = Writer::default();
    form.put(&["amount"], &minor(amount).ok()?.to_string());
    form.put(&["currency"], &amount.currency.lower());
    form.put(
        &["description"],
        "Sentinel: holds the place of a payment that must not happen here any more",
    );
    form.put(&["metadata", FENCE_KEY], &account.reference);
    let account = Account {
        idempotency_key: key,
        ..account.clone()
    };
    outgoing(Method::POST, "/v1/payment_intents".to_owned(), form, &account).ok()
}

/// Writes the question what became of an earlier attempt: by id where there is one, else in the list of the time it was
/// sent in, by reference ([`super::pages`]).
pub fn lookup(earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
    let get = |target: String, form| outgoing(Method::GET, target, form, account).ok();
    let ids = [earlier.object.as_ref(), earlier.charge.as_ref()];
    for id in ids.into_iter().flatten() {
        let target = Target {
            payment: id.starts_with("pi_").then(|| id.clone()),
            charge: (id.starts_with("ch_") || id.starts_with("py_")).then(|| id.clone()),
            ..Target::default()
        };
        if id.starts_with("re_") {
            return get(
                format!("/v1/refunds/{}", segment(Some(id), "look-up").ok()?),
                Writer::default(),
            );
        }
        if target != Target::default() {
            return get(retrieve(&target).ok()?, expanding("latest_charge", &target));
        }
    }
    super::pages::first(earlier, account)
}

/// Writes the question for one page of a list.
pub(super) fn listing(filter: &ListFilter, account: &Account) -> Option<Outgoing> {
    let (target, form) = list(filter).ok()?;
    outgoing(Method::GET, target, form, account).ok()
}

/// A read that needs nothing but a working gateway and key.
pub fn probe(account: &Account) -> Option<Outgoing> {
    outgoing(Method::GET, "/v1/balance".to_owned(), Writer::default(), account).ok()
}
