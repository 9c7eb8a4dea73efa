//! Adyen's standard webhooks.
//!
//! Every item is signed by itself: base64 of HMAC-SHA256, under the hex-decoded key, over
//! `pspReference:originalReference:merchantAccountCode:merchantReference:value:currency:eventCode:success`, absent parts
//! empty. One item that does not hold refuses the whole delivery. There is no time in the signature; a replay says again
//! what was true, and the lattice of outcomes absorbs it.
//!
//! `AUTHORISATION` does not say whether money is held or taken: it is observed as held, and the attempt knows the rest.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value};
use sha2::Sha256;

use super::observe;
use crate::config::model::Dialect;
use crate::gateway::outcome::{Decline, DeclineClass, Observation, Outcome, Rejection};
use crate::gateway::webhook::{WebhookError, WebhookFact, WebhookKeys};
use crate::gateway::{Leg, json};
use crate::money::Amount;

pub(super) fn verify(keys: &WebhookKeys<'_>, body: &[u8]) -> Result<Vec<WebhookFact>, WebhookError> {
    let key = keys
        .secret
        .and_then(unhex)
        .ok_or(WebhookError::Unconfigured("secret"))?;
    let delivery = json::object(body).ok_or(WebhookError::Unsigned)?;
    let items = delivery
        .get("notificationItems")
        .and_then(Value::as_array)
        .ok_or(WebhookError::Unsigned)?;
    let items: Vec<&Map<String, Value>> = items
        .iter()
        .map(|item| {
            item.get("NotificationRequestItem")
                .and_then(Value::as_object)
                .ok_or(WebhookError::Unsigned)
        })
        .collect::<Result<_, _>>()?;
    for item in &items {
        check(&key, item)?;
    }
    items.into_iter().map(fact).collect()
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let pairs = text.as_bytes().chunks(2);
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// The text under the signature.
pub(super) fn signed_text(item: &Map<String, Value>) -> String {
    let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let amount = item.get("amount");
    let value = amount.and_then(|amount| amount.get("value")).map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let currency = amount.and_then(|amount| amount.get("currency")).and_then(Value::as_str);
    [
        text("pspReference"),
        text("originalReference"),
        text("merchantAccountCode"),
        text("merchantReference"),
        value.unwrap_or_default(),
        currency.unwrap_or_default().to_owned(),
        text("eventCode"),
        text("success"),
    ]
    .join(":")
}

fn check(key: &[u8], item: &Map<String, Value>) -> Result<(), WebhookError> {
    let signature = item
        .get("additionalData")
        .and_then(|data| data.get("hmacSignature"))
        .and_then(Value::as_str);
    let signature = signature.ok_or(WebhookError::Unsigned)?;
    let signature = STANDARD.decode(signature).map_err(|_| WebhookError::Forged)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| WebhookError::Unconfigured("secret"))?;
    mac.update(signed_text(item).as_bytes());
    mac.verify_slice(&signature).map_err(|_| WebhookError::Forged)
}

fn fact(item: &Map<String, Value>) -> Result<WebhookFact, WebhookError> {
    let text = |name: &str| item.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let event = text("eventCode").ok_or(WebhookError::Malformed("eventCode"))?;
    let psp = text("pspReference").ok_or(WebhookError::Malformed("pspReference"))?;
    let success = match item.get("success") {
        Some(Value::String(text)) if text == "true" => true,
        Some(Value::String(text)) if text == "false" => false,
        Some(Value::Bool(success)) => *success,
        _ => return Err(WebhookError::Malformed("success")),
    };
    let rejected = Outcome::Rejected(Rejection::Request);
    let refund_or_cancel = item
        .get("additionalData")
        .and_then(|data| data.get("modification.action"));
    let (leg, outcome, rule) = match (event, success) {
        ("AUTHORISATION", true) => (Some(Leg::Auth), Outcome::Authorised, "authorisation_webhook"),
        ("AUTHORISATION", false) => (Some(Leg::Auth), Outcome::Unknown, "refusal_webhook"),
        ("CAPTURE", true) => (Some(Leg::Capture), Outcome::Succeeded, "capture_webhook"),
        ("CAPTURE" | "CAPTURE_FAILED", _) => (Some(Leg::Capture), rejected, "capture_failed_webhook"),
        ("CANCELLATION", true) => (Some(Leg::Void), Outcome::Succeeded, "cancellation_webhook"),
        ("CANCELLATION", false) => (Some(Leg::Void), rejected, "cancellation_failed_webhook"),
        // It had arrived and was cancelled; its key answers a late twin with the stored answer.
        ("TECHNICAL_CANCEL", true) => (Some(Leg::Fence), Outcome::Fenced, "technical_cancel_webhook"),
        // Nothing to cancel *yet*.
        ("TECHNICAL_CANCEL", false) => (Some(Leg::Fence), Outcome::Unknown, "technical_cancel_found_nothing"),
        ("CANCEL_OR_REFUND", true) => {
            let refund = refund_or_cancel.and_then(Value::as_str) == Some("refund");
            (
                Some(if refund { Leg::Refund } else { Leg::Void }),
                Outcome::Succeeded,
                "reversal_webhook",
            )
        }
        ("REFUND", true) => (Some(Leg::Refund), Outcome::Succeeded, "refund_webhook"),
        ("REFUND" | "REFUND_FAILED" | "REFUNDED_REVERSED", _) => (Some(Leg::Refund), rejected, "refund_failed_webhook"),
        _ => (None, Outcome::Unknown, "other_webhook"),
    };
    let original = text("originalReference");
    // A cancellation by reference is no payment, whatever it found.
    let modifies = original.is_some() || event == "TECHNICAL_CANCEL";
    let mut observation = Observation {
        payment_id: original.or(Some(psp).filter(|_| !modifies)).map(str::to_owned),
        modification_id: modifies.then(|| psp.to_owned()),
        amount: amount(item),
        ..Observation::bare(outcome, rule)
    };
    if (event, success) == ("AUTHORISATION", false) {
        refusal(item, text("reason"), &mut observation);
    }
    Ok(WebhookFact {
        event: event.to_owned(),
        event_id: format!("{event}:{psp}:{success}"),
        leg,
        reference: text("merchantReference").map(str::to_owned),
        key: None,
        // A webhook of the company's tells of all its merchant accounts under one key.
        account: text("merchantAccountCode").map(|account| ("merchant_account", account.to_owned())),
        observation,
        occurred_at: text("eventDate")
            .and_then(|date| date.parse::<jiff::Timestamp>().ok())
            .map(|at| at.as_second()),
    })
}

fn amount(item: &Map<String, Value>) -> Option<Amount> {
    let amount = item.get("amount")?;
    let currency = amount.get("currency")?.as_str()?;
    Amount::json_minor(Dialect::Adyen, amount.get("value")?, currency).ok()
}

fn refusal(item: &Map<String, Value>, reason: Option<&str>, observation: &mut Observation) {
    let code = reason.and_then(super::refusal_code).unwrap_or(super::UNKNOWN_REFUSAL);
    let reason = reason.unwrap_or("Refused");
    let (verdict, advice) = observe::verdict(code, item.get("additionalData"));
    if verdict.class != DeclineClass::Ambiguous {
        observation.outcome = Outcome::Declined(verdict.class);
    }
    observation.decline = Some(Decline {
        canonical: verdict.canonical.to_owned(),
        class: verdict.class,
        raw_code: code.to_owned(),
        message: reason.chars().take(200).collect(),
        advice,
    });
}
