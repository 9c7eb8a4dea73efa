//! PayPal's webhooks.
//!
//! The signature is RSA with SHA-256 over `transmission id|time|webhook id|crc32 of the raw body`, by a certificate that
//! PayPal serves from its own domain. The address of that certificate comes with the delivery, so it is believed only
//! when it is https at `paypal.com`, and the certificate only when its chain ends in a public root and it is issued to
//! PayPal's signing host. Deliveries are repeated for three days; older ones are replays.

use http::HeaderMap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use serde_json::{Map, Value};
use webpki::{EndEntityCert, KeyUsage};

use super::observe;
use crate::gateway::outcome::{Observation, Outcome, Rejection};
use crate::gateway::webhook::{WebhookError, WebhookFact, WebhookKeys};
use crate::gateway::{Leg, json};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// PayPal repeats a delivery for three days; a day is left for clocks and queues.
const MAX_AGE: i64 = 4 * 86_400;

/// How far ahead PayPal's clock may be.
const MAX_AHEAD: i64 = 300;

/// The names that PayPal's signing certificates are issued to, live and sandbox.
const SIGNERS: [&str; 2] = [
    "messageverificationcerts.paypal.com",
    "messageverificationcerts.sandbox.paypal.com",
];

pub(super) fn verify(
    keys: &WebhookKeys<'_>,
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<Vec<WebhookFact>, WebhookError> {
    verify_with(keys, headers, body, now, webpki_roots::TLS_SERVER_ROOTS)
}

/// As [`verify`], with the roots as an argument.
pub(super) fn verify_with(
    keys: &WebhookKeys<'_>,
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
    roots: &[TrustAnchor<'_>],
) -> Result<Vec<WebhookFact>, WebhookError> {
    let webhook_id = keys.webhook_id.ok_or(WebhookError::Unconfigured("webhook_id"))?;
    let header = |name: &str| {
        let mut values = headers.get_all(name).iter();
        match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
            (Some(value), None) => Ok(value),
            _ => Err(WebhookError::Unsigned),
        }
    };
    let (id, time) = (header("paypal-transmission-id")?, header("paypal-transmission-time")?);
    let (signature, url) = (header("paypal-transmission-sig")?, header("paypal-cert-url")?);
    if header("paypal-auth-algo")? != "SHA256withRSA" || !paypals(url) {
        return Err(WebhookError::Forged);
    }
    let Some(certificate) = keys.certificate else {
        return Err(WebhookError::CertificateWanted { url: url.to_owned() });
    };
    let signature = STANDARD.decode(signature).map_err(|_| WebhookError::Forged)?;
    let signed = format!("{id}|{time}|{webhook_id}|{}", crc32(body));
    check(certificate, signed.as_bytes(), &signature, now, roots).ok_or(WebhookError::Forged)?;
    let sent: jiff::Timestamp = time.parse().map_err(|_| WebhookError::Malformed("transmission time"))?;
    let age = now.saturating_sub(sent.as_second());
    if !(-MAX_AHEAD..=MAX_AGE).contains(&age) {
        return Err(WebhookError::Stale);
    }
    let event = json::object(body).ok_or(WebhookError::Malformed("body"))?;
    fact(&event).map(|fact| vec![fact])
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

/// The checksum of zlib and PNG, which PayPal writes in decimal.
fn crc32(bytes: &[u8]) -> u32 {
    let byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0xEDB8_8320
            } else {
                crc >> 1
            }
        })
    };
    !bytes.iter().fold(!0, byte)
}

fn check(pem: &[u8], signed: &[u8], signature: &[u8], now: i64, roots: &[TrustAnchor<'_>]) -> Option<()> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    let (leaf, intermediates) = chain.split_first()?;
    let leaf = EndEntityCert::try_from(leaf).ok()?;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(now).ok()?));
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    leaf.verify_for_usage(
        algorithms,
        roots,
        intermediates,
        time,
        KeyUsage::server_auth(),
        None,
        None,
    )
    .ok()?;
    let issued_to = |name: &&str| {
        ServerName::try_from(*name).is_ok_and(|name| leaf.verify_is_valid_for_subject_name(&name).is_ok())
    };
    SIGNERS.iter().any(issued_to).then_some(())?;
    leaf.verify_signature(webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256, signed, signature)
        .ok()
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
        observation,
        occurred_at: time.map(|time| time.as_second()),
    })
}
