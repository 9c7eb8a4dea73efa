//! The application's own dialect, as far as these tests need it: a sale, and what its answer says.

use sentinel::sandbox::fault::{Fault, Match, Rule};
use serde_json::json;

use crate::support::shop::{Shop, parsed};
use crate::support::wire::Message;

/// Whose application it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    Stripe,
    Adyen,
    Paypal,
}

/// What an application was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Money was taken.
    Taken,
    /// Nothing was taken and nothing will be.
    Nothing,
    /// Nobody knows yet.
    Doubt,
}

impl Own {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::Adyen => "adyen",
            Self::Paypal => "paypal",
        }
    }

    /// The request that takes a payment.
    pub fn first(self) -> Match {
        match self {
            Self::Stripe => Match::path("POST", "/v1/payment_intents"),
            Self::Adyen => Match::path("POST", "/v71/payments"),
            Self::Paypal => Match::path("POST", "/v2/checkout/orders"),
        }
    }

    /// A rule that hits nothing but this order's request, as far as anything is known of what it hits.
    pub fn only(self, rule: &Rule, order: &str) -> Rule {
        let mut rule = rule.clone();
        let early = matches!(
            rule.fault,
            Fault::CutConnection { .. } | Fault::CutRequest { .. } | Fault::Refuse { .. }
        );
        if !early && rule.matcher == self.first() {
            rule.matcher.contains = Some(order.to_owned());
        }
        rule
    }

    /// Where its answer tells amount, currency, reference and id of a sale.
    pub fn pointers(self) -> [(&'static str, &'static str, serde_json::Value); 4] {
        match self {
            Self::Stripe => [
                ("another amount", "/amount", 1.into()),
                ("another currency", "/currency", "usd".into()),
                ("another reference", "/metadata/order_id", "somebody-else".into()),
                ("the id of another payment", "/id", "pi_reused".into()),
            ],
            Self::Adyen => [
                ("another amount", "/amount/value", 1.into()),
                ("another currency", "/amount/currency", "USD".into()),
                ("another reference", "/merchantReference", "somebody-else".into()),
                ("the id of another payment", "/pspReference", "REUSED0000000001".into()),
            ],
            Self::Paypal => [
                (
                    "another amount",
                    "/purchase_units/0/payments/captures/0/amount/value",
                    "0.01".into(),
                ),
                (
                    "another currency",
                    "/purchase_units/0/payments/captures/0/amount/currency_code",
                    "USD".into(),
                ),
                (
                    "another reference",
                    "/purchase_units/0/invoice_id",
                    "somebody-else".into(),
                ),
                ("the id of another payment", "/id", "REUSED000000000A1".into()),
            ],
        }
    }

    /// The credential that its application fetches first, where it fetches one.
    pub async fn token(self, shop: &Shop) -> String {
        match self {
            Self::Stripe | Self::Adyen => String::new(),
            Self::Paypal => shop.paypal_token().await,
        }
    }

    /// Pays 19.99 EUR once.
    pub async fn pay(self, shop: &Shop, token: &str, key: &str, order: &str) -> Message {
        match self {
            Self::Stripe => shop.pay(key, order).await,
            Self::Adyen => {
                let body = json!({
                    "amount": {"currency": "EUR", "value": 1999},
                    "reference": order,
                    "merchantAccount": "AcmeECOM",
                    "returnUrl": "https://shop.example/",
                    "shopperReference": "shopper-1",
                    "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415698462516992"},
                    "captureDelayHours": 0,
                });
                shop.adyen_post("/v71/payments", key, &body).await
            }
            Self::Paypal => {
                let body = json!({
                    "intent": "CAPTURE",
                    "purchase_units": [{
                        "amount": {"currency_code": "EUR", "value": "19.99"},
                        "invoice_id": order,
                    }],
                    "payment_source": {"card": {"vault_id": "8kk845"}},
                });
                shop.paypal_send("POST", "/v2/checkout/orders", token, key, &body.to_string())
                    .await
            }
        }
    }

    /// What an answer says. One that says nothing clear is a failure of the test.
    pub fn says(self, answer: &Message) -> Result<Says, String> {
        let outcome = answer.header("sentinel-outcome").unwrap_or_default();
        if outcome.starts_with("unknown") {
            return Ok(Says::Doubt);
        }
        if !matches!(answer.status(), 200 | 201) {
            return match answer.status() {
                400..=499 | 502 | 503 => Ok(Says::Nothing),
                _ => Err(format!(
                    "neither definite nor in doubt: {} {}",
                    answer.start,
                    answer.text()
                )),
            };
        }
        let body = parsed(answer);
        let field = match self {
            Self::Stripe | Self::Paypal => "status",
            Self::Adyen => "resultCode",
        };
        match body[field].as_str().unwrap_or_default() {
            "succeeded" | "COMPLETED" | "Authorised" => Ok(Says::Taken),
            "Refused" | "Error" | "Cancelled" | "VOIDED" => Ok(Says::Nothing),
            "Received" | "Pending" => Ok(Says::Doubt),
            _ => Err(format!("an answer of no known kind: {body}")),
        }
    }
}
