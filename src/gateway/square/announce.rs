//! Events in Square's shape, signed over the address that the application believes to be notified at: the account's
//! `notification_url`, or where there is none, the very address that they are posted to. They name no merchant: Sentinel
//! knows none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::render;
use crate::gateway::announcement::{Announcement, News, Written};

/// Writes the events. A payment or refund is created and then changes, and applications listen to either.
pub(super) fn write(told: &Announcement<'_>) -> Vec<Written> {
    let view = told.view;
    let payment = || ("payment", view.ids.payment.clone(), render::payment(view, None));
    let events = match &told.news {
        News::Succeeded | News::Authorised => vec![("payment.created", payment()), ("payment.updated", payment())],
        News::Failed | News::Captured | News::Voided => vec![("payment.updated", payment())],
        News::Refunded(refund) => {
            let shown = || ("refund", refund.id.clone(), render::refund(view, refund));
            vec![
                ("refund.created", shown()),
                ("refund.updated", shown()),
                ("payment.updated", payment()),
            ]
        }
        News::RefundFailed(refund) => {
            vec![(
                "refund.updated",
                ("refund", refund.id.clone(), render::refund(view, refund)),
            )]
        }
    };
    let written = events
        .into_iter()
        .enumerate()
        .map(|(index, (kind, object))| event(told, index, kind, object));
    written.collect::<Option<_>>().unwrap_or_default()
}

fn event(
    told: &Announcement<'_>,
    index: usize,
    kind: &str,
    (name, id, object): (&str, String, Value),
) -> Option<Written> {
    let body = json!({
        "type": kind,
        "event_id": uuid(&told.seed, index),
        "created_at": render::time(told.at),
        "data": {"type": name, "id": id, "object": {name: object}},
    })
    .to_string();
    let url = told.webhook.notification_url.as_deref().unwrap_or(told.url);
    let mut mac = Hmac::<Sha256>::new_from_slice(told.secret?.as_bytes()).ok()?;
    mac.update(url.as_bytes());
    mac.update(body.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let name = "x-square-hmacsha256-signature";
    Written::signed("application/json", body, (name, &signature))
}

/// Square's event ids are UUIDs.
fn uuid(seed: &[u8; 16], index: usize) -> String {
    use sha2::Digest as _;
    let digest = Sha256::new()
        .chain_update(seed)
        .chain_update(index.to_be_bytes())
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}
