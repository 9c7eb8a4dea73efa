//! Events in Stripe's shape: the object as a GET would answer it, in an envelope, under `Stripe-Signature`.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{API_VERSION, ids, objects};
use crate::gateway::announcement::{Announcement, News, Written, hex};
use crate::gateway::canonical::RefundView;
use crate::money::MoneyError;

/// What an event shows.
enum Shown<'a> {
    Intent,
    Charge,
    Refund(&'a RefundView),
}

/// Writes the events. An object that has no exact form here makes none.
pub fn write(told: &Announcement<'_>) -> Vec<Written> {
    use Shown::{Charge, Intent, Refund};
    let charged = told.view.decline.is_some();
    let events: Vec<(&str, Shown<'_>)> = match &told.news {
        News::Succeeded => vec![("charge.succeeded", Charge), ("payment_intent.succeeded", Intent)],
        News::Authorised => vec![
            ("charge.succeeded", Charge),
            ("payment_intent.amount_capturable_updated", Intent),
        ],
        News::Failed if charged => vec![("charge.failed", Charge), ("payment_intent.payment_failed", Intent)],
        News::Failed => vec![("payment_intent.payment_failed", Intent)],
        News::Captured if told.view.kept.is_some() => vec![
            ("charge.captured", Charge),
            ("payment_intent.amount_capturable_updated", Intent),
        ],
        News::Captured => vec![("charge.captured", Charge), ("payment_intent.succeeded", Intent)],
        News::Voided => vec![("payment_intent.canceled", Intent)],
        News::Refunded(refund) => vec![("charge.refunded", Charge), ("refund.updated", Refund(refund))],
        News::RefundFailed(refund) => vec![("refund.failed", Refund(refund)), ("refund.updated", Refund(refund))],
    };
    let written = events
        .iter()
        .enumerate()
        .map(|(index, (kind, shown))| event(told, index, kind, shown));
    written.collect::<Option<_>>().unwrap_or_default()
}

fn event(told: &Announcement<'_>, index: usize, kind: &str, shown: &Shown<'_>) -> Option<Written> {
    let secret = told.secret?;
    let version = told
        .account
        .settings
        .get("api_version")
        .map_or(API_VERSION, String::as_str);
    let old = version.get(..10).is_some_and(|date| date < "2022-11-15");
    let object: Result<Value, MoneyError> = match shown {
        Shown::Intent => objects::intent(told.view, old),
        Shown::Charge => objects::charge(told.view, old),
        Shown::Refund(refund) => objects::refund(told.view, refund),
    };
    let body = json!({
        "id": ids::event(&told.seed, index),
        "object": "event",
        "api_version": version,
        "created": told.at,
        "data": { "object": object.ok()? },
        "livemode": told.view.live,
        "pending_webhooks": 1,
        "request": { "id": null, "idempotency_key": null },
        "type": kind,
    })
    .to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(format!("{}.{body}", told.now).as_bytes());
    let signature = format!("t={},v1={}", told.now, hex(&mac.finalize().into_bytes()));
    Written::signed(
        "application/json; charset=utf-8",
        body,
        ("stripe-signature", &signature),
    )
}
