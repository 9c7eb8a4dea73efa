//! Square's webhooks: base64 of HMAC-SHA256, under the subscription's signature key, over the notification address that
//! Square was told and the raw body. There is no time in the signature; a replay says again what was true, and the
//! lattice of outcomes absorbs it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use sha2::Sha256;

use super::observe;
use crate::gateway::webhook::{WebhookError, WebhookFact, WebhookKeys};
use crate::gateway::{Incoming, Leg, json};

pub(super) fn verify(
    keys: &WebhookKeys<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Vec<WebhookFact>, WebhookError> {
    let secret = keys.secret.ok_or(WebhookError::Unconfigured("secret"))?;
    let url = keys
        .notification_url
        .ok_or(WebhookError::Unconfigured("notification_url"))?;
    let mut signatures = headers.get_all("x-square-hmacsha256-signature").iter();
    let (Some(signature), None) = (signatures.next(), signatures.next()) else {
        return Err(WebhookError::Unsigned);
    };
    let signature = STANDARD.decode(signature).map_err(|_| WebhookError::Forged)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| WebhookError::Forged)?;
    mac.update(url.as_bytes());
    mac.update(body);
    mac.verify_slice(&signature).map_err(|_| WebhookError::Forged)?;
    let event = json::object(body).ok_or(WebhookError::Malformed("body"))?;
    fact(&event).map(|fact| vec![fact])
}

fn fact(event: &Map<String, Value>) -> Result<WebhookFact, WebhookError> {
    let text = |name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
    let kind = text("type").ok_or(WebhookError::Malformed("type"))?;
    let event_id = text("event_id").ok_or(WebhookError::Malformed("event_id"))?;
    let object = event.get("data").and_then(|data| data.get("object"));
    let object = object
        .and_then(Value::as_object)
        .ok_or(WebhookError::Malformed("data.object"))?;
    let leg = match kind.as_str() {
        "payment.created" | "payment.updated" if object.contains_key("payment") => Some(Leg::Charge),
        "refund.created" | "refund.updated" if object.contains_key("refund") => Some(Leg::Refund),
        _ => None,
    };
    // The object is what a GET for it would have answered, so it is read by the same rules.
    let answer = Incoming {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Value::Object(object.clone()).to_string().into(),
    };
    let asked = match leg {
        Some(Leg::Refund) => Leg::Refund,
        _ => Leg::Lookup,
    };
    let payment = object.get("payment");
    let reference = payment.and_then(|payment| payment.get("reference_id"));
    Ok(WebhookFact {
        event: kind,
        event_id,
        leg,
        reference: reference.and_then(Value::as_str).map(str::to_owned),
        key: None,
        account: None,
        observation: observe::answer(asked, None, None, &answer),
        occurred_at: text("created_at")
            .and_then(|at| at.parse::<jiff::Timestamp>().ok())
            .map(|at| at.as_second()),
    })
}
