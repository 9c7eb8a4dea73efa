//! PayPal's webhooks.
//!
//! PayPal signs with a certificate of its own, and says itself whether a signature holds: it is asked
//! (`/v1/notifications/verify-webhook-signature`), over the account's own verified connection and with the account's own
//! token. That is the way which PayPal documents first; the other one rests on a certificate from an address that comes
//! with the delivery, and on guesses about whom it is issued to. What does not look like PayPal's is refused before anybody
//! is asked, and the event goes into the question byte by byte as it came: the signature is over its bytes.
//!
//! Deliveries are repeated for three days; older ones are replays.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};

use super::observe;
use crate::gateway::outcome::{Observation, Outcome, Rejection};
use crate::gateway::webhook::{WebhookError, WebhookFact, WebhookKeys};
use crate::gateway::{Account, Incoming, Leg, Outgoing, json};

/// Where PayPal says whether a signature holds.
pub(super) const PATH: &str = "/v1/notifications/verify-webhook-signature";

/// PayPal repeats a delivery for three days; a day is left for clocks and queues.
const MAX_AGE: i64 = 4 * 86_400;

/// How far ahead PayPal's clock may be.
const MAX_AHEAD: i64 = 300;

/// What a delivery is signed by.
struct Signed<'a> {
    id: &'a str,
    time: &'a str,
    signature: &'a str,
    certificate: &'a str,
    algorithm: &'a str,
}

impl<'a> Signed<'a> {
    fn of(headers: &'a HeaderMap) -> Result<Self, WebhookError> {
        let header = |name: &str| {
            let mut values = headers.get_all(name).iter();
            match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
                (Some(value), None) if !value.is_empty() => Ok(value),
                _ => Err(WebhookError::Unsigned),
            }
        };
        Ok(Self {
            id: header("paypal-transmission-id")?,
            time: header("paypal-transmission-time")?,
            signature: header("paypal-transmission-sig")?,
            certificate: header("paypal-cert-url")?,
            algorithm: header("paypal-auth-algo")?,
        })
    }
}

/// Reads a delivery that PayPal vouches for.
pub(super) fn verify(
    keys: &WebhookKeys<'_>,
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<Vec<WebhookFact>, WebhookError> {
    keys.webhook_id.ok_or(WebhookError::Unconfigured("webhook_id"))?;
    let signed = Signed::of(headers)?;
    if signed.algorithm != "SHA256withRSA" || !paypals(signed.certificate) {
        return Err(WebhookError::Forged);
    }
    // What goes into the question has to be one JSON object and nothing behind it.
    let event = json::object(body).ok_or(WebhookError::Unsigned)?;
    let sent: jiff::Timestamp = signed.time.parse().map_err(|_| WebhookError::Unsigned)?;
    if !timely(sent, now) {
        return Err(WebhookError::Stale);
    }
    if !keys.vouched {
        return Err(WebhookError::ToBeVouched);
    }
    fact(&event).map(|fact| vec![fact])
}

/// Whether a delivery that was sent then may still come now.
pub(super) fn timely(sent: jiff::Timestamp, now: i64) -> bool {
    (-MAX_AHEAD..=MAX_AGE).contains(&now.saturating_sub(sent.as_second()))
}

/// The question to PayPal.
pub(super) fn question(
    keys: &WebhookKeys<'_>,
    headers: &HeaderMap,
    body: &[u8],
    account: &Account,
) -> Option<Outgoing> {
    let signed = Signed::of(headers).ok()?;
    let asked = json!({
        "transmission_id": signed.id, "transmission_time": signed.time, "cert_url": signed.certificate,
        "auth_algo": signed.algorithm, "transmission_sig": signed.signature, "webhook_id": keys.webhook_id?,
    })
    .to_string();
    let mut question = asked.strip_suffix('}')?.as_bytes().to_vec();
    question.extend_from_slice(br#","webhook_event":"#);
    question.extend_from_slice(body);
    question.push(b'}');
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let token = account.token.as_ref()?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.value.as_str())).ok()?;
    bearer.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, bearer);
    Some(Outgoing {
        method: Method::POST,
        target: PATH.to_owned(),
        headers,
        body: Bytes::from(question),
    })
}

/// PayPal's answer; `None` when it is none.
pub(super) fn vouched(answer: &Incoming) -> Option<bool> {
    if answer.status != StatusCode::OK {
        return None;
    }
    match json::object(&answer.body)?.get("verification_status")?.as_str()? {
        "SUCCESS" => Some(true),
        "FAILURE" => Some(false),
        _ => None,
    }
}

/// Whether the address is https at PayPal: without user, port or anything that could make another host of it.
fn paypals(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else {
        return false;
    };
    let Some((host, _)) = rest.split_once('/') else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-';
    host.bytes().all(plain) && (host == "paypal.com" || host.ends_with(".paypal.com"))
}

fn fact(event: &Map<String, Value>) -> Result<WebhookFact, WebhookError> {
    let text = |object: &Map<String, Value>, name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let kind = text(event, "event_type").ok_or(WebhookError::Malformed("event_type"))?;
    let id = text(event, "id").ok_or(WebhookError::Malformed("id"))?;
    let empty = Map::new();
    let resource = event.get("resource").and_then(Value::as_object).unwrap_or(&empty);
    let related = resource
        .get("supplementary_data")
        .and_then(|data| data.get("related_ids"));
    let related = |name: &str| {
        related
            .and_then(|ids| ids.get(name))
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    // A capture with an authorisation behind it is a capture; one without was a sale.
    let capture = if related("authorization_id").is_some() {
        Leg::Capture
    } else {
        Leg::Charge
    };
    let (leg, outcome, rule) = match kind.as_str() {
        "PAYMENT.AUTHORIZATION.CREATED" => (Some(Leg::Auth), Outcome::Authorised, "authorization_webhook"),
        "PAYMENT.AUTHORIZATION.VOIDED" => (Some(Leg::Void), Outcome::Succeeded, "void_webhook"),
        "PAYMENT.CAPTURE.COMPLETED" => (Some(capture), Outcome::Succeeded, "capture_webhook"),
        "PAYMENT.CAPTURE.PENDING" => (Some(capture), Outcome::Unknown, "pending_webhook"),
        "PAYMENT.CAPTURE.DENIED" | "PAYMENT.CAPTURE.DECLINED" => (Some(capture), Outcome::Unknown, "declined_webhook"),
        "PAYMENT.CAPTURE.REFUNDED" | "PAYMENT.CAPTURE.REVERSED" => {
            (Some(Leg::Refund), Outcome::Succeeded, "refund_webhook")
        }
        "PAYMENT.REFUND.FAILED" => (
            Some(Leg::Refund),
            Outcome::Rejected(Rejection::Request),
            "refund_failed_webhook",
        ),
        _ => (None, Outcome::Unknown, "other_webhook"),
    };
    let own = text(resource, "id");
    let refund = leg == Some(Leg::Refund);
    let mut observation = Observation {
        payment_id: related("order_id"),
        charge_id: if refund { related("capture_id") } else { own.clone() },
        modification_id: own.filter(|_| matches!(leg, Some(Leg::Refund | Leg::Capture))),
        amount: observe::amount(resource).ok().flatten(),
        pending: kind == "PAYMENT.CAPTURE.PENDING",
        ..Observation::bare(outcome, rule)
    };
    if rule == "declined_webhook" {
        observe::declined(resource, &mut observation);
    }
    let time = text(event, "create_time").and_then(|time| time.parse::<jiff::Timestamp>().ok());
    Ok(WebhookFact {
        event: kind,
        event_id: id,
        leg,
        reference: text(resource, "custom_id"),
        key: None,
        account: None,
        observation,
        occurred_at: time.map(|time| time.as_second()),
    })
}
