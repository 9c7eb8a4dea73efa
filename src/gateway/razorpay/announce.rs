//! Events in Razorpay's shape. They name no account, and there is no `order.paid`: of the order Sentinel knows nothing but
//! its id. A hold that is released has no event at Razorpay, which has no void.

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use serde_json::json;
use sha2::Sha256;

use super::render;
use crate::gateway::announcement::{Announcement, News, Written, hex};

/// Writes the event.
pub(super) fn write(told: &Announcement<'_>) -> Option<Written> {
    let view = told.view;
    let (event, refund) = match &told.news {
        News::Succeeded | News::Captured => ("payment.captured", None),
        News::Authorised => ("payment.authorized", None),
        News::Failed => ("payment.failed", None),
        News::Refunded(refund) => ("refund.processed", Some(refund)),
        News::RefundFailed(refund) => ("refund.failed", Some(refund)),
        News::Voided => return None,
    };
    let mut payload = json!({"payment": {"entity": render::payment(view)}});
    let mut contains = vec!["payment"];
    if let Some(refund) = refund {
        payload["refund"] = json!({"entity": render::refund(view, refund)});
        contains.insert(0, "refund");
    }
    let body = json!({
        "entity": "event", "event": event, "contains": contains, "payload": payload, "created_at": told.at,
    })
    .to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(told.secret?.as_bytes()).ok()?;
    mac.update(body.as_bytes());
    let signature = hex(&mac.finalize().into_bytes());
    let mut written = Written::signed("application/json", body, ("x-razorpay-signature", &signature))?;
    let id = HeaderValue::from_str(&super::id("event", &told.seed)).ok()?;
    written.headers.insert("x-razorpay-event-id", id);
    Some(written)
}
