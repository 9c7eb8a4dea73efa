//! Notifications of settled transactions, signed with the account's keys. Of authorisations, captures and voids there are
//! none, as at Braintree.

use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};

use super::Braintree;
use super::body::Xml;
use crate::sandbox::{Turn, Webhook};

/// Between an event and its notification.
const DELAY: Duration = Duration::from_millis(20);

impl Braintree {
    /// The status of each transaction, where anybody wants to know what changes.
    pub(super) fn statuses(&self) -> Vec<(String, &'static str)> {
        let all = self.order.iter().filter(|_| self.notifies);
        all.filter_map(|id| Some((id.clone(), self.transactions.get(id)?.status)))
            .collect()
    }

    /// Notifies of what was settled since.
    pub(super) fn notify(&self, now: i64, before: &[(String, &'static str)], turn: &mut Turn) {
        for (id, status) in self.statuses() {
            let known = before.iter().any(|(known, was)| *known == id && *was == status);
            let kind = match status {
                _ if known => continue,
                "settled" => "transaction_settled",
                "settlement_declined" => "transaction_settlement_declined",
                _ => continue,
            };
            turn.webhooks.extend(self.notification(now, kind, &id));
        }
    }

    fn notification(&self, now: i64, kind: &str, id: &str) -> Option<Webhook> {
        let transaction = self.transactions.get(id)?;
        let mut xml = Xml::default();
        xml.node("notification", |xml| {
            xml.text("kind", kind);
            xml.time("timestamp", now);
            xml.node("subject", |xml| transaction.write(xml));
        });
        let mut payload = String::new();
        for line in STANDARD.encode(&xml.0).as_bytes().chunks(60) {
            payload.extend(line.iter().copied().map(char::from));
            payload.push('\n');
        }
        let key = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.private_key.as_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_ref());
        let tag = hmac::sign(&key, payload.as_bytes());
        let signature: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        // An account may have several keys, each of which signs.
        let pairs = format!("another_key|{}&{}|{signature}", "0".repeat(40), self.public_key);
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("bt_signature", &pairs)
            .append_pair("bt_payload", &payload)
            .finish();
        let mut headers = HeaderMap::new();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert("content-type", form);
        Some(Webhook {
            headers,
            body: body.into(),
            after: DELAY,
        })
    }
}
