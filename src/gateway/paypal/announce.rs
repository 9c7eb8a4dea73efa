//! Events in PayPal's shape, under a signature of Sentinel's own.
//!
//! PayPal signs with the key of a certificate, which nobody else has: what Sentinel writes can never pass for PayPal's, and
//! does not try to. It comes with the same five headers; `PayPal-Auth-Algo` says [`ALGORITHM`], and the signature is the
//! base64 of HMAC-SHA256, under the route's `notify.secret`, over
//! `transmission id|transmission time|webhook id|SHA-256 of the body in hexadecimal`. An application verifies it by itself,
//! or as it verifies PayPal's: it asks `/v1/notifications/verify-webhook-signature` on its route, where Sentinel answers
//! for what it wrote, and forwards everything else to PayPal.
//!
//! The body is written with its keys in order and no space between, so that an application that has parsed it still asks
//! about the same bytes.
//!
//! A declined authorisation has no event at PayPal, and none here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::render::{Page, timestamp};
use super::webhook;
use crate::gateway::announcement::{Announcement, News, Written, hex};
use crate::gateway::canonical::{CaptureMode, View};
use crate::gateway::webhook::WebhookKeys;
use crate::gateway::{Reply, json};

/// What stands where PayPal names its own algorithm.
pub(super) const ALGORITHM: &str = "SENTINEL-HMAC-SHA256";
/// There is no certificate, and this is no address that one could be fetched from.
const CERTIFICATE: &str = "urn:sentinel:no-certificate";

/// Writes the event.
pub(super) fn write(told: &Announcement<'_>) -> Option<Written> {
    let view = told.view;
    let head = told.look("");
    let asked = Map::new();
    let page = Page {
        head: &head,
        asked: &asked,
    };
    let held = view.capture == CaptureMode::Manual;
    let (kind, what, mut resource) = match &told.news {
        News::Succeeded | News::Captured => ("PAYMENT.CAPTURE.COMPLETED", "capture", page.capture(view)),
        News::Authorised => (
            "PAYMENT.AUTHORIZATION.CREATED",
            "authorization",
            page.authorization(view),
        ),
        News::Voided => (
            "PAYMENT.AUTHORIZATION.VOIDED",
            "authorization",
            page.authorization(view),
        ),
        News::Failed if held => return None,
        News::Failed => ("PAYMENT.CAPTURE.DENIED", "capture", page.capture(view)),
        News::Refunded(refund) => ("PAYMENT.CAPTURE.REFUNDED", "refund", page.refund(view, refund)),
        News::RefundFailed(refund) => ("PAYMENT.REFUND.FAILED", "refund", page.refund(view, refund)),
    };
    resource["supplementary_data"] = json!({"related_ids": related(view, what)});
    let id = super::object_id("event", &told.seed);
    let event = json!({
        "id": format!("WH-{id}"), "event_version": "1.0", "create_time": timestamp(told.at), "resource_type": what,
        "resource_version": "2.0", "event_type": kind, "summary": format!("{what} of {}", view.ids.payment),
        "resource": resource, "links": [],
    });
    let body = canonical(&event);
    let time = timestamp(told.now);
    let signature = sign(told.secret?, &id, &time, told.webhook.webhook_id.as_deref()?, &body)?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [
        ("paypal-transmission-id", id.as_str()),
        ("paypal-transmission-time", &time),
        (
            "paypal-transmission-sig",
            &STANDARD.encode(signature.finalize().into_bytes()),
        ),
        ("paypal-cert-url", CERTIFICATE),
        ("paypal-auth-algo", ALGORITHM),
        ("paypal-auth-version", "v2"),
    ] {
        headers.insert(name, HeaderValue::from_str(value).ok()?);
    }
    Some(Written {
        headers,
        body: Bytes::from(body),
    })
}

fn related(view: &View, what: &str) -> Value {
    let mut ids = json!({"order_id": view.ids.payment});
    if view.capture == CaptureMode::Manual && what != "authorization" {
        ids["authorization_id"] = view.ids.charge.clone().into();
    }
    if what == "refund" {
        ids["capture_id"] = view
            .ids
            .capture
            .clone()
            .unwrap_or_else(|| view.ids.charge.clone())
            .into();
    }
    ids
}

fn sign(secret: &str, id: &str, time: &str, webhook: &str, body: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(format!("{id}|{time}|{webhook}|{}", hex(&Sha256::digest(body))).as_bytes());
    Some(mac)
}

/// Keys in order, and no space: whoever parses and writes it again comes back to this.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let members: Vec<String> = keys
                .into_iter()
                .map(|key| format!("{}:{}", Value::from(key.as_str()), canonical(&map[key])))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        plain => plain.to_string(),
    }
}

/// Answers an application that asks PayPal whether an event is genuine, where it is not PayPal's but Sentinel's; `None`
/// for all others, which PayPal is asked about.
pub(super) fn verification(body: &[u8], keys: &WebhookKeys<'_>, now: i64) -> Option<Reply> {
    let asked = json::object(body)?;
    let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("auth_algo") != ALGORITHM {
        return None;
    }
    let genuine = || {
        let time: jiff::Timestamp = text("transmission_time").parse().ok()?;
        let given = STANDARD.decode(text("transmission_sig")).ok()?;
        let event = canonical(asked.get("webhook_event")?);
        let webhook = keys.webhook_id.filter(|id| *id == text("webhook_id"))?;
        let mac = sign(
            keys.secret?,
            text("transmission_id"),
            text("transmission_time"),
            webhook,
            &event,
        )?;
        mac.verify_slice(&given).ok()?;
        webhook::timely(time, now).then_some(())
    };
    let status = if genuine().is_some() { "SUCCESS" } else { "FAILURE" };
    let mut reply = Reply::new(Bytes::from(json!({"verification_status": status}).to_string()));
    let json = HeaderValue::from_static("application/json;charset=UTF-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, json);
    Some(reply)
}
