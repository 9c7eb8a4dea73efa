//! Braintree's notifications: a form of `bt_signature` and `bt_payload`, verified with the account's own keys. The payload
//! is XML about a transaction, which is read as an answer would be. There is no time in the signature; a replay says again
//! what was true, and the lattice of outcomes absorbs it.
//!
//! Of authorisations there are none: what is in doubt is resolved by them only once it is settled.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{observe, signature, xml};
use crate::config::model::Credentials;
use crate::gateway::Leg;
use crate::gateway::outcome::{Observation, Outcome, Rejection};
use crate::gateway::webhook::{WebhookError, WebhookFact, WebhookKeys};

/// The parameter of the question by which Braintree makes sure of an address before it notifies it.
const CHALLENGE: &str = "bt_challenge";

fn keys(account: Option<&Credentials>) -> Result<(&str, &str), WebhookError> {
    let key = |name| {
        let found = account.and_then(|account| account.get(name));
        found.ok_or(WebhookError::Unconfigured(name))
    };
    Ok((key("public_key")?, key("private_key")?))
}

/// The answer to Braintree's question about an address: its own challenge, signed. Nothing else is ever signed.
pub(super) fn challenge(query: &str, account: &Credentials) -> Option<String> {
    let (_, challenge) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == CHALLENGE)?;
    let plain = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let theirs = (20..=32).contains(&challenge.len()) && challenge.bytes().all(plain);
    let (public, private) = keys(Some(account)).ok()?;
    theirs.then(|| signature::sign(public, private, challenge.as_bytes()))
}

pub(super) fn verify(
    keys: &WebhookKeys<'_>,
    _headers: &HeaderMap,
    body: &[u8],
) -> Result<Vec<WebhookFact>, WebhookError> {
    let (public, private) = self::keys(keys.account)?;
    let field = |wanted: &str| {
        let mut found = form_urlencoded::parse(body).filter(|(name, _)| name == wanted);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(value.into_owned()),
            _ => Err(WebhookError::Unsigned),
        }
    };
    let (pairs, payload) = (field("bt_signature")?, field("bt_payload")?);
    // Frameworks take the last line's end off; it was signed with it.
    let whole = format!("{payload}\n");
    let holds = [payload.as_bytes(), whole.as_bytes()]
        .iter()
        .any(|payload| signature::holds(&pairs, public, private, payload));
    if !holds {
        return Err(WebhookError::Forged);
    }
    let text: Vec<u8> = payload.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let written = STANDARD
        .decode(text)
        .map_err(|_| WebhookError::Malformed("bt_payload"))?;
    let document = xml::read(&written).map_err(|_| WebhookError::Malformed("bt_payload"))?;
    let notification = match document.root.as_str() {
        "notification" => document.object(),
        _ => None,
    };
    let notification = notification.ok_or(WebhookError::Malformed("notification"))?;
    fact(&notification).map(|fact| vec![fact])
}

fn fact(notification: &Map<String, Value>) -> Result<WebhookFact, WebhookError> {
    let text = |object: &Map<String, Value>, name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let kind = text(notification, "kind").ok_or(WebhookError::Malformed("kind"))?;
    let at = text(notification, "timestamp").unwrap_or_default();
    let transaction = notification
        .get("subject")
        .and_then(|subject| subject.get("transaction"))
        .and_then(Value::as_object);
    let Some(transaction) = transaction else {
        return Ok(WebhookFact {
            event_id: format!("{kind}:{at}"),
            event: kind,
            leg: None,
            reference: None,
            key: None,
            account: None,
            observation: Observation::bare(Outcome::Unknown, "other_webhook"),
            occurred_at: moment(&at),
        });
    };
    let id = text(transaction, "id").ok_or(WebhookError::Malformed("transaction.id"))?;
    let leg = match text(transaction, "type").as_deref() {
        Some("credit") => Leg::Refund,
        _ => Leg::Charge,
    };
    let mut observation = observe::transaction(leg, transaction);
    if kind == "refund_failed" && leg == Leg::Refund {
        observation.outcome = Outcome::Rejected(Rejection::Request);
        observation.pending = false;
        "refund_failed_webhook".clone_into(&mut observation.rule);
    }
    Ok(WebhookFact {
        event_id: format!("{kind}:{id}:{at}"),
        event: kind,
        leg: Some(leg),
        reference: text(transaction, "order_id").map(reference),
        key: None,
        account: None,
        observation,
        occurred_at: moment(&at),
    })
}

/// Sentinel's own reference, where it stands behind the merchant's order; the order where it does not.
fn reference(order: String) -> String {
    let own = order.rsplit('.').next().filter(|last| last.parse::<Uuid>().is_ok());
    own.map(str::to_owned).unwrap_or(order)
}

fn moment(at: &str) -> Option<i64> {
    at.parse::<jiff::Timestamp>().ok().map(|at| at.as_second())
}
