//! What makes two requests the same: their keyed fingerprint (safety.md 2.6 and 5.1).
//!
//! It is made of the canonical request, not of its bytes, so that the order of a form's parameters and the spelling of
//! JSON do not matter. Card data enters only as a keyed hash of its own. What is left out on purpose: the credential,
//! tracing, and what only shapes the answer (`expand`, `Prefer`, `Stripe-Version`).

use std::borrow::Cow;

use crate::gateway::Head;
use crate::gateway::canonical::{Address, Instrument, Pay};
use crate::ledger::keys::{Keys, Purpose};

/// Which rule makes fingerprints. Another number means that two fingerprints cannot be compared.
pub(super) const VERSION: u32 = 1;

/// Headers that move a request into another account.
const ACCOUNT_HEADERS: [&str; 3] = ["stripe-account", "stripe-context", "paypal-auth-assertion"];

/// The fingerprint of a payment request.
pub(super) fn fingerprint(keys: &Keys, head: &Head, pay: &Pay) -> [u8; 32] {
    let units = pay.amount.map(|amount| amount.units.to_string());
    let [operation, capture, initiator] = [
        format!("{:?}", pay.operation),
        format!("{:?}", pay.capture),
        format!("{:?}", pay.initiator),
    ];
    let mut parts = Parts(Vec::with_capacity(64));
    parts.text("method", head.method.as_str());
    parts.text("path", &head.path);
    for name in ACCOUNT_HEADERS {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        parts.maybe(name, value);
    }
    parts.text("operation", &operation);
    parts.maybe("confirms", pay.confirms.as_deref());
    if let (Some(units), Some(amount)) = (&units, &pay.amount) {
        parts.text("units", units);
        parts.text("currency", amount.currency.code());
    }
    parts.text("capture", &capture);
    parts.text("initiator", &initiator);
    instrument(keys, pay.instrument.as_ref(), &mut parts);
    for (name, value) in [
        ("customer", &pay.customer),
        ("reference", &pay.reference),
        ("description", &pay.description),
        ("statement", &pay.statement),
        ("name", &pay.buyer.name),
        ("email", &pay.buyer.email),
        ("phone", &pay.buyer.phone),
        ("ip", &pay.buyer.ip),
        ("return_url", &pay.return_url),
        ("network_transaction_id", &pay.network_transaction_id),
    ] {
        parts.maybe(name, value.as_deref());
    }
    address("billing", pay.buyer.billing.as_ref(), &mut parts);
    address("shipping", pay.buyer.shipping.as_ref(), &mut parts);
    if let Some(three_ds) = &pay.three_ds {
        parts.text("three_ds", &three_ds.cryptogram);
        parts.text("three_ds_version", &three_ds.version);
        parts.maybe("three_ds_eci", three_ds.eci.as_deref());
        parts.maybe("three_ds_transaction", three_ds.transaction_id.as_deref());
    }
    let mut metadata: Vec<_> = pay.metadata.iter().collect();
    metadata.sort();
    for (key, value) in metadata {
        parts.text("metadata_key", key);
        parts.text("metadata_value", value);
    }
    // No payment in the ledger has any: a request that has is another one than theirs.
    for name in &pay.unportable {
        parts.text("unportable", name);
    }
    let parts: Vec<&[u8]> = parts.0.iter().map(|part| &**part).collect();
    keys.hash(Purpose::Fingerprint, &parts)
}

/// A list of named parts. The hash counts their borders, so that no two lists look alike.
struct Parts<'a>(Vec<Cow<'a, [u8]>>);

impl<'a> Parts<'a> {
    fn text(&mut self, name: &'a str, value: &'a str) {
        self.0.push(name.as_bytes().into());
        self.0.push(value.as_bytes().into());
    }

    fn maybe(&mut self, name: &'a str, value: Option<&'a str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }
}

fn instrument(keys: &Keys, instrument: Option<&Instrument>, parts: &mut Parts<'_>) {
    let mut secret = |kind: &'static str, fields: &[&str]| {
        let fields: Vec<&[u8]> = fields.iter().map(|field| field.as_bytes()).collect();
        parts.0.push(kind.as_bytes().into());
        parts.0.push(keys.hash(Purpose::Card, &fields).to_vec().into());
    };
    match instrument {
        None => {}
        Some(Instrument::Token(token)) => secret("token", &[token]),
        // The security code is left out: it must not be kept, not even as a hash.
        Some(Instrument::Card(card)) => secret("card", &[&card.number, &card.expiry_month, &card.expiry_year]),
        Some(Instrument::NetworkToken(token)) => {
            secret(
                "network_token",
                &[&token.number, &token.expiry_month, &token.expiry_year],
            );
        }
        Some(Instrument::Bound(kind)) => secret("bound", &[kind]),
    }
}

fn address<'a>(kind: &'a str, address: Option<&'a Address>, parts: &mut Parts<'a>) {
    let Some(address) = address else { return };
    parts.text("address", kind);
    for (name, value) in [
        ("line1", &address.line1),
        ("line2", &address.line2),
        ("city", &address.city),
        ("state", &address.state),
        ("postal_code", &address.postal_code),
        ("country", &address.country),
    ] {
        parts.maybe(name, value.as_deref());
    }
}
