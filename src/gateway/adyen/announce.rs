//! Adyen's standard webhooks, written: one item, signed by itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use sha2::Sha256;

use super::render::{decline_code, modification_id};
use super::webhook::{signed_text, unhex};
use crate::config::model::Dialect;
use crate::gateway::announcement::{Announcement, News, Written};

/// Writes the notification: every modification under the reference that its answer had.
pub(super) fn write(told: &Announcement<'_>) -> Option<Written> {
    let view = told.view;
    let (event, success, own) = match &told.news {
        News::Succeeded | News::Authorised => ("AUTHORISATION", "true", None),
        News::Failed => ("AUTHORISATION", "false", None),
        News::Captured => {
            let own = view.ids.capture.clone();
            (
                "CAPTURE",
                "true",
                Some(own.unwrap_or_else(|| modification_id(view, "capture"))),
            )
        }
        News::Voided => ("CANCELLATION", "true", Some(modification_id(view, "void"))),
        News::Refunded(refund) => ("REFUND", "true", Some(refund.id.clone())),
        News::RefundFailed(refund) => ("REFUND_FAILED", "true", Some(refund.id.clone())),
    };
    let reference = match &told.news {
        News::Refunded(refund) | News::RefundFailed(refund) => refund.reference.as_ref().or(view.reference.as_ref()),
        _ => view.reference.as_ref(),
    };
    let reason = match (&told.news, &view.decline) {
        (News::Failed, Some(decline)) => super::refusal_reason(decline_code(decline)),
        (News::Failed, None) => "Refused",
        _ => "",
    };
    let at = jiff::Timestamp::from_second(told.at).ok()?;
    let mut item = json!({
        "additionalData": {},
        "amount": { "currency": told.amount.currency.code(), "value": told.amount.to_minor(Dialect::Adyen).ok()? },
        "eventCode": event,
        "eventDate": at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string(),
        "merchantAccountCode": told.account.credentials.get("merchant_account").unwrap_or_default(),
        "merchantReference": reference.cloned().unwrap_or_default(),
        "paymentMethod": view.card.as_ref().and_then(|card| card.brand.as_deref()).and_then(super::render::brand),
        "pspReference": own.clone().unwrap_or_else(|| view.ids.payment.clone()),
        "reason": reason,
        "success": success,
    });
    if own.is_some() {
        item["originalReference"] = json!(view.ids.payment);
    } else if success == "true" {
        item["operations"] = json!(["CANCEL", "CAPTURE", "REFUND"]);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(&unhex(told.secret?)?).ok()?;
    mac.update(signed_text(item.as_object()?).as_bytes());
    item["additionalData"]["hmacSignature"] = Value::String(STANDARD.encode(mac.finalize().into_bytes()));
    let live = if view.live { "true" } else { "false" };
    let body = json!({ "live": live, "notificationItems": [{ "NotificationRequestItem": item }] });
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    Some(Written {
        headers,
        body: Bytes::from(body.to_string()),
    })
}
