//! Razorpay's webhooks: lower-case hexadecimal HMAC-SHA256 of the raw body under the webhook's own secret, which is not the
//! key secret. Deliveries come at least once and in any order; there is no time in the signature, and the lattice of
//! outcomes absorbs both.

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use sha2::Sha256;

use super::{REFERENCE, observe};
use crate::gateway::webhook::{WebhookError, WebhookFact, WebhookKeys};
use crate::gateway::{Incoming, Leg, json};

pub(super) fn verify(
    keys: &WebhookKeys<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Vec<WebhookFact>, WebhookError> {
    let secret = keys.secret.ok_or(WebhookError::Unconfigured("secret"))?;
    let mut signatures = headers.get_all("x-razorpay-signature").iter();
    let (Some(signature), None) = (signatures.next(), signatures.next()) else {
        return Err(WebhookError::Unsigned);
    };
    let signature = unhex(signature.as_bytes()).ok_or(WebhookError::Forged)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| WebhookError::Forged)?;
    mac.update(body);
    mac.verify_slice(&signature).map_err(|_| WebhookError::Forged)?;
    let event = json::object(body).ok_or(WebhookError::Malformed("body"))?;
    fact(headers, &event).map(|fact| vec![fact])
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.chunks(2).map(pair).collect()
}

fn fact(headers: &HeaderMap, event: &Map<String, Value>) -> Result<WebhookFact, WebhookError> {
    let name = event
        .get("event")
        .and_then(Value::as_str)
        .ok_or(WebhookError::Malformed("event"))?;
    let entity = |kind: &str| {
        let payload = event.get("payload")?.get(kind)?;
        payload.get("entity")?.as_object()
    };
    let (leg, object) = match name {
        "payment.authorized" | "payment.captured" | "payment.failed" | "order.paid" => {
            (Some(Leg::Charge), entity("payment"))
        }
        "refund.created" | "refund.processed" | "refund.failed" | "refund.speed_changed" => {
            (Some(Leg::Refund), entity("refund"))
        }
        _ => (None, None),
    };
    let object = match (leg, object) {
        (Some(_), None) => return Err(WebhookError::Malformed("payload")),
        (_, object) => object.cloned().unwrap_or_default(),
    };
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let id = headers.get("x-razorpay-event-id").and_then(|id| id.to_str().ok());
    let event_id = match id {
        Some(id) => id.to_owned(),
        None => format!("{name}:{}", text("id").unwrap_or_default()),
    };
    let own = object.get("notes").and_then(|notes| notes.get(REFERENCE));
    let reference = own
        .and_then(Value::as_str)
        .map(str::to_owned)
        .or_else(|| text("order_id"));
    // The entity is what a GET for it would have answered, so it is read by the same rules.
    let answer = Incoming {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Value::Object(object).to_string().into(),
    };
    let asked = match leg {
        Some(Leg::Refund) => Leg::Refund,
        _ => Leg::Lookup,
    };
    Ok(WebhookFact {
        event: name.to_owned(),
        event_id,
        leg,
        reference,
        key: None,
        account: None,
        observation: observe::answer(asked, None, None, &answer),
        occurred_at: event.get("created_at").and_then(Value::as_i64),
    })
}
