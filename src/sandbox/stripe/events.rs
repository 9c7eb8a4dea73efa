//! Events, and the signed webhooks that carry them.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use sha2::Sha256;

use super::state::Event;
use super::{Call, Stripe, objects};
use crate::sandbox::{Turn, Webhook};

/// Events kept, as the API keeps thirty days of them.
const KEPT: usize = 10_000;

impl Stripe {
    pub(super) fn intent_event(&mut self, call: &Call<'_>, kind: &'static str, id: &str, turn: &mut Turn) {
        if let Some(object) = self.intents.get(id).map(|intent| self.show_intent(intent, false)) {
            self.event(call, kind, object, turn);
        }
    }

    pub(super) fn charge_event(&mut self, call: &Call<'_>, kind: &'static str, id: &str, turn: &mut Turn) {
        if let Some(object) = self.charges.get(id).map(|charge| self.show_charge(charge, false)) {
            self.event(call, kind, object, turn);
        }
    }

    pub(super) fn refund_event(&mut self, call: &Call<'_>, kind: &'static str, id: &str, turn: &mut Turn) {
        if let Some(object) = self.refunds.get(id).map(|refund| self.show_refund(refund)) {
            self.event(call, kind, object, turn);
        }
    }

    fn event(&mut self, call: &Call<'_>, kind: &'static str, object: Value, turn: &mut Turn) {
        let event = Event {
            id: self.id("evt_3", 23),
            kind,
            created: call.now,
            object,
            request: call.request_id.clone(),
            key: call.key.map(str::to_owned),
        };
        let body = objects::event(&event).to_string();
        if let Some(headers) = sign(&self.webhook_secret, call.now, body.as_bytes()) {
            turn.webhooks.push(Webhook {
                headers,
                body: body.into(),
                after: self.webhook_delay,
            });
        }
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// `Stripe-Signature` and content type. The time is the event's own; receivers allow five minutes.
fn sign(secret: &str, now: i64, body: &[u8]) -> Option<HeaderMap> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(format!("{now}.").as_bytes());
    mac.update(body);
    let hex: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut headers = HeaderMap::new();
    headers.insert("stripe-signature", format!("t={now},v1={hex}").parse().ok()?);
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    headers.insert(
        http::header::USER_AGENT,
        HeaderValue::from_static("Stripe/1.0 (+https://stripe.com/docs/webhooks)"),
    );
    Some(headers)
}

/// Between an event and its webhook, unless set otherwise.
pub(super) const DELAY: Duration = Duration::from_millis(20);
