//! Braintree's notifications, signed with the account's own keys, as its SDKs verify them.
//!
//! Of a card's authorisation, capture, void or refund Braintree sends none, so that none is made up here. What it does
//! send, and what nobody else would tell, is that a refund failed later.

use http::{HeaderMap, HeaderValue, header};

use super::signature;
use super::xml::Writer;
use crate::gateway::announcement::{Announcement, News, Written};

/// Writes the notification.
pub(super) fn write(told: &Announcement<'_>) -> Option<Written> {
    let News::RefundFailed(refund) = &told.news else {
        return None;
    };
    let mut xml = Writer::declared();
    xml.node("notification", |xml| {
        xml.moment("timestamp", told.at);
        xml.text("kind", "refund_failed");
        xml.node("subject", |xml| super::render::credit(told.view, refund, xml));
    });
    let payload = signature::payload(&xml.finish());
    let keys = |name: &str| told.account.credentials.get(name);
    let signed = signature::sign(keys("public_key")?, keys("private_key")?, payload.as_bytes());
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("bt_signature", &signed)
        .append_pair("bt_payload", &payload)
        .finish();
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    Some(Written {
        headers,
        body: body.into(),
    })
}
