//! What makes two requests the same: their keyed fingerprint (safety.md 2.6 and 5.1).
//!
//! It is made of the canonical request, not of its bytes, so that the order of a form's parameters and the spelling of
//! JSON do not matter. Card data enters only as a keyed hash of its own. What is left out on purpose: the credential,
//! tracing, and what only shapes the answer (`expand`, `Prefer`, `Stripe-Version`).

use crate::gateway::Head;
use crate::gateway::canonical::{Address, Instrument, Pay};
use crate::ledger::keys::{Keys, Purpose};

/// Which rule makes fingerprints. Another number means that two fingerprints cannot be compared.
pub(super) const VERSION: u32 = 1;

/// Headers that move a request into another account.
const ACCOUNT_HEADERS: [&str; 3] = ["stripe-account", "stripe-context", "paypal-auth-assertion"];

/// The fingerprint of a payment request.
pub(super) fn fingerprint(keys: &Keys, head: &Head, pay: &Pay) -> [u8; 32] {
    let mut parts = Parts(Vec::with_capacity(64));
    parts.text("method", head.method.as_str());
    parts.text("path", &head.path);
    for name in ACCOUNT_HEADERS {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        parts.maybe(name, value);
    }
    parts.text("operation", &format!("{:?}", pay.operation));
    parts.maybe("confirms", pay.confirms.as_deref());
    if let Some(amount) = pay.amount {
        parts.text("units", &amount.units.to_string());
        parts.text("currency", amount.currency.code());
    }
    parts.text("capture", &format!("{:?}", pay.capture));
    parts.text("initiator", &format!("{:?}", pay.initiator));
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
    let parts: Vec<&[u8]> = parts.0.iter().map(Vec::as_slice).collect();
    keys.hash(Purpose::Fingerprint, &parts)
}

/// A list of named parts. The hash counts their borders, so that no two lists look alike.
struct Parts(Vec<Vec<u8>>);

impl Parts {
    fn text(&mut self, name: &str, value: &str) {
        self.0.push(name.as_bytes().to_vec());
        self.0.push(value.as_bytes().to_vec());
    }

    fn maybe(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }
}

fn instrument(keys: &Keys, instrument: Option<&Instrument>, parts: &mut Parts) {
    let mut secret = |kind: &str, fields: &[&str]| {
        let fields: Vec<&[u8]> = fields.iter().map(|field| field.as_bytes()).collect();
        parts.0.push(kind.as_bytes().to_vec());
        parts.0.push(keys.hash(Purpose::Card, &fields).to_vec());
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

fn address(kind: &str, address: Option<&Address>, parts: &mut Parts) {
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
