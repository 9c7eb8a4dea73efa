//! Stripe's webhooks: `Stripe-Signature: t=<unix>,v1=<hex>`, HMAC-SHA256 over `t.body` with the endpoint's secret.

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;
use sha2::Sha256;

use super::parse::order;
use super::{FENCE_KEY, REFERENCE_KEY, observe};
use crate::gateway::webhook::{WebhookError, WebhookFact, WebhookKeys};
use crate::gateway::{Incoming, Leg, json};

/// How far a signature's time may be off, in seconds: the tolerance of Stripe's own libraries.
const TOLERANCE: i64 = 300;

/// Verifies and reads a webhook.
pub fn read(
    keys: &WebhookKeys<'_>,
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<Vec<WebhookFact>, WebhookError> {
    let secret = keys.secret.ok_or(WebhookError::Unconfigured("webhook_secret"))?;
    let signature = headers.get("stripe-signature").and_then(|value| value.to_str().ok());
    let signature = signature.ok_or(WebhookError::Unsigned)?;
    let fields = || signature.split(',').filter_map(|field| field.trim().split_once('='));
    let time = fields().find(|(name, _)| *name == "t").map(|(_, time)| time);
    let time = time.ok_or(WebhookError::Unsigned)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| WebhookError::Forged)?;
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    let holds = fields()
        .filter(|(name, _)| *name == "v1")
        .filter_map(|(_, hex)| unhex(hex))
        .any(|given| mac.clone().verify_slice(&given).is_ok());
    if !holds {
        return Err(WebhookError::Forged);
    }
    let signed: i64 = time.parse().map_err(|_| WebhookError::Malformed("t"))?;
    if (now - signed).abs() > TOLERANCE {
        return Err(WebhookError::Stale);
    }
    let event = json::object(body).ok_or(WebhookError::Malformed("the body is not one JSON object"))?;
    let text = |field: &str| event.get(field).and_then(Value::as_str).map(str::to_owned);
    let kind = text("type").ok_or(WebhookError::Malformed("type"))?;
    let event_id = text("id").ok_or(WebhookError::Malformed("id"))?;
    let object = event.get("data").and_then(|data| data.get("object"));
    let object = object.ok_or(WebhookError::Malformed("data.object"))?;
    let leg = match kind.as_str() {
        "payment_intent.succeeded"
        | "payment_intent.amount_capturable_updated"
        | "payment_intent.payment_failed"
        | "payment_intent.canceled"
        | "payment_intent.processing"
        | "payment_intent.requires_action"
        | "charge.succeeded"
        | "charge.captured"
        | "charge.failed" => Some(Leg::Lookup),
        "refund.created" | "refund.updated" | "refund.failed" | "charge.refund.updated" => Some(Leg::Refund),
        _ => None,
    };
    let mut native = HeaderMap::new();
    native.insert("request-id", HeaderValue::from_static("req_webhook"));
    // The object is what a GET for it would have answered, so it is read by the same rules.
    let answer = Incoming {
        status: StatusCode::OK,
        headers: native,
        body: object.to_string().into(),
    };
    let metadata = object.get("metadata").and_then(Value::as_object);
    let metadata = metadata
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect::<indexmap::IndexMap<_, _>>();
    // What a fence left behind is no payment of anybody's.
    let leg = leg.filter(|_| !metadata.contains_key(FENCE_KEY));
    let key = event
        .get("request")
        .and_then(|request| request.get("idempotency_key")?.as_str().map(str::to_owned));
    Ok(vec![WebhookFact {
        event: kind,
        event_id,
        leg: leg.map(|leg| match leg {
            Leg::Lookup => Leg::Charge,
            leg => leg,
        }),
        key,
        account: None,
        reference: metadata.get(REFERENCE_KEY).cloned().or_else(|| order(&metadata)),
        observation: observe::observe(leg.unwrap_or(Leg::Lookup), None, None, &answer),
        occurred_at: event.get("created").and_then(Value::as_i64),
    }])
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    bytes
        .chunks(2)
        .map(|pair| Some(digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?))
        .collect()
}
