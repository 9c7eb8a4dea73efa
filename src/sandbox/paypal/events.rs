//! Webhooks, and PayPal's own word on whether one is genuine.
//!
//! PayPal signs with a certificate that no simulator has. What stands in the signature here is this simulator's alone, and
//! only it can say whether it holds: as for whoever asks PayPal.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use super::Paypal;
use super::answers::{Page, plain, time};
use crate::sandbox::books::{Effect, Kind};
use crate::sandbox::{Request, Webhook};

/// Between an event and its webhook.
const DELAY: Duration = Duration::from_millis(20);
/// What the signature is made with.
const KEY: &[u8] = b"paypal sandbox certificate";

impl Paypal {
    /// The webhook of an effect; `None` where nobody listens, and for holds that are taken at once.
    pub(super) fn webhook(&mut self, now: i64, request: &Request, effect: &Effect) -> Option<Webhook> {
        let webhook = self.webhook_id.clone()?;
        let page = Page { request, now };
        let order = self.orders.get(&effect.payment)?;
        let (kind, what, resource) = match effect.kind {
            Kind::Capture => (
                "PAYMENT.CAPTURE.COMPLETED",
                "capture",
                order.show_capture(&page, &effect.id),
            ),
            Kind::Auth if order.authorization.is_some() => (
                "PAYMENT.AUTHORIZATION.CREATED",
                "authorization",
                order.show_authorization(&page),
            ),
            Kind::Void => (
                "PAYMENT.AUTHORIZATION.VOIDED",
                "authorization",
                order.show_authorization(&page),
            ),
            Kind::Refund => (
                "PAYMENT.CAPTURE.REFUNDED",
                "refund",
                order.show_refund(&page, &effect.id),
            ),
            Kind::Auth | Kind::RefundFailed => return None,
        };
        let id = self.id();
        let body = json!({"id": format!("WH-{id}"), "event_version": "1.0", "create_time": time(now),
            "resource_type": what, "resource_version": "2.0", "event_type": kind, "summary": what, "resource": resource,
            "links": []})
        .to_string();
        let at = time(now);
        let signature = STANDARD.encode(signature(&id, &at, &webhook, &body)?.finalize().into_bytes());
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/json"),
            ("paypal-transmission-id", &id),
            ("paypal-transmission-time", &at),
            ("paypal-transmission-sig", &signature),
            (
                "paypal-cert-url",
                "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-SANDBOX",
            ),
            ("paypal-auth-algo", "SHA256withRSA"),
        ] {
            headers.insert(name, HeaderValue::from_str(value).ok()?);
        }
        Some(Webhook {
            headers,
            body: body.into(),
            after: DELAY,
        })
    }

    /// Says whether a webhook is one of its own.
    pub(super) fn vouch(&self, body: &Value) -> Response<Bytes> {
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let holds = || {
            let webhook = self.webhook_id.as_deref().filter(|id| *id == text("webhook_id"))?;
            let event = body.get("webhook_event")?.to_string();
            let given = STANDARD.decode(text("transmission_sig")).ok()?;
            let signature = signature(text("transmission_id"), text("transmission_time"), webhook, &event)?;
            signature.verify_slice(&given).ok()
        };
        let status = if holds().is_some() { "SUCCESS" } else { "FAILURE" };
        plain(StatusCode::OK, &json!({"verification_status": status}))
    }
}

fn signature(id: &str, at: &str, webhook: &str, body: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).ok()?;
    mac.update(format!("{id}|{at}|{webhook}|{body}").as_bytes());
    Some(mac)
}
