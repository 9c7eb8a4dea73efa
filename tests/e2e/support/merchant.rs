//! A merchant's sidecar between scripted gateways, and the answers those gateways give.

use std::net::SocketAddr;

use super::gateway::json;
use super::sentinel::{Sentinel, free_port};
use super::wire::{Message, once, post};

/// A token at Adyen, as its adapter takes it.
pub const ADYEN_TOKEN: &str = "shopper-1/8415698462516992";

/// A sidecar with one Stripe route that can fail over to Adyen.
pub struct Merchant {
    /// The process.
    pub sentinel: Sentinel,
    /// Where the application sends its Stripe traffic.
    pub listen: SocketAddr,
    /// The operators' listener.
    pub admin: SocketAddr,
}

/// The configuration: `{stripe}` and `{adyen}` are addresses, `extra` goes into `failover`.
pub fn config(
    listen: SocketAddr,
    admin: SocketAddr,
    stripe: SocketAddr,
    adyen: SocketAddr,
    failover: &str,
    breaker: &str,
) -> String {
    format!(
        "listeners: {{ admin: {admin} }}
ledger: {{ sqlite: '{{dir}}/ledger.db', strict: false }}
gateways:
  stripe:
    dialect: stripe
    endpoint: 'http://{stripe}'
    allow_private: true
    credentials: {{ secret_key: sk_test_sentinel }}
  adyen:
    dialect: adyen
    endpoint: 'http://{adyen}'
    allow_private: true
    capture: automatic
    credentials: {{ api_key: adyen-key, merchant_account: AcmeECOM }}
routes:
  - name: checkout
    listen: {listen}
    dialect: stripe
    gateways: [stripe, adyen]
    failover: {{ require_certificate: false, attempt_timeout: 4s, deadline: 6s{failover} }}
    breaker: {{ consecutive: 3, open: 30s{breaker} }}
"
    )
}

impl Merchant {
    /// Starts one.
    pub fn start(stripe: SocketAddr, adyen: SocketAddr, failover: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), stripe, adyen, failover)
    }

    /// Starts one on an existing ledger.
    pub fn start_in(dir: tempfile::TempDir, stripe: SocketAddr, adyen: SocketAddr, failover: &str) -> Self {
        let (listen, admin) = (free_port(), free_port());
        let config = config(listen, admin, stripe, adyen, failover, "");
        Self {
            sentinel: Sentinel::start_in(dir, &config, &[]),
            listen,
            admin,
        }
    }

    /// Pays: one intent, created and confirmed, with a token at Adyen beside it.
    pub async fn pay(&self, key: &str) -> Message {
        self.pay_with(key, &sale("1999", ""), ADYEN_TOKEN).await
    }

    /// Pays with a body and an instrument of the caller's.
    pub async fn pay_with(&self, key: &str, body: &str, token: &str) -> Message {
        once(self.listen, request(key, body, token)).await
    }
}

/// The bytes of a payment request.
pub fn request(key: &str, body: &str, token: &str) -> String {
    let mut extra = String::new();
    if !key.is_empty() {
        extra.push_str(&format!("Idempotency-Key: {key}\r\n"));
    }
    if !token.is_empty() {
        extra.push_str(&format!("Sentinel-Instrument: adyen={token}\r\n"));
    }
    post("/v1/payment_intents", &extra, body)
}

/// The form of a sale.
pub fn sale(amount: &str, extra: &str) -> String {
    format!(
        "amount={amount}&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]=order-7&off_session=false{extra}"
    )
}

/// An intent as Stripe answers it, for the request's amount.
pub fn stripe_intent(status: &str, request: &Message) -> String {
    let form = String::from_utf8_lossy(&request.body).into_owned();
    let amount = form
        .split('&')
        .find_map(|pair| pair.strip_prefix("amount="))
        .unwrap_or("1999")
        .to_owned();
    let received = if status == "succeeded" { amount.as_str() } else { "0" };
    let capturable = if status == "requires_capture" {
        amount.as_str()
    } else {
        "0"
    };
    json(
        200,
        &format!(
            r#"{{"id":"pi_3native","object":"payment_intent","amount":{amount},"amount_received":{received},"amount_capturable":{capturable},"currency":"eur","status":"{status}","latest_charge":"ch_3native","metadata":{{"order_id":"order-7"}}}}"#
        ),
    )
}

/// A decline as Stripe answers it.
pub fn stripe_decline(code: &str) -> String {
    json(
        402,
        &format!(
            r#"{{"error":{{"type":"card_error","code":"card_declined","decline_code":"{code}","message":"Your card was declined.","payment_intent":{{"id":"pi_3native","object":"payment_intent","status":"requires_payment_method"}}}}}}"#
        ),
    )
}

/// An authorisation as Adyen answers it, for the request's amount and reference.
pub fn adyen_authorised(request: &Message) -> String {
    adyen_result("Authorised", request)
}

/// The same, with an id of its own for each of the gateway's answers.
pub fn adyen_numbered(number: usize, request: &Message) -> String {
    adyen_authorised(request).replace("QFQTPCQ8HXSKGK82", &format!("QFQTPCQ8HXSKGK{:02}", 10 + number))
}

/// Any result as Adyen answers it.
pub fn adyen_result(result: &str, request: &Message) -> String {
    let asked: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
    json(
        200,
        &serde_json::json!({
            "pspReference": "QFQTPCQ8HXSKGK82",
            "resultCode": result,
            "refusalReason": "Refused",
            "refusalReasonCode": "2",
            "amount": asked["amount"],
            "merchantReference": asked["reference"],
        })
        .to_string(),
    )
}
