//! The requests, byte for byte as an application of each dialect sends them.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Over, Own, Paid, Step};
use crate::support::shop::{BRAINTREE_TOKEN, INSTRUMENTS, PAYPAL_TOKEN, STRIPE_TOKEN, Shop};
use crate::support::wire::{Message, attempt, once};

const RAZORPAY: &str = "Authorization: Basic cnpwX3Rlc3Rfc2FuZGJveDpzYW5kYm94";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// A request, and where it goes.
pub struct Ask {
    to: SocketAddr,
    bytes: String,
}

impl Ask {
    /// Reads a payment at Razorpay.
    pub fn show(shop: &Shop, id: &str) -> Self {
        let head = format!("GET /v1/payments/{id}");
        written(shop.razorpay, &head, RAZORPAY, ("", ""), JSON, "")
    }

    /// Sends it to a process that is there.
    pub async fn send(&self) -> Message {
        once(self.to, &self.bytes).await
    }

    /// Sends it to a process that may die meanwhile.
    pub async fn attempt(&self) -> Option<Message> {
        attempt(self.to, &self.bytes).await
    }
}

impl Own {
    /// The request of a step. Without a key where the key is empty.
    pub fn ask(self, shop: &Shop, step: Step, key: &str, paid: &Paid<'_>) -> Ask {
        match self {
            Self::Stripe => stripe(shop, step, key, paid),
            Self::Adyen => adyen(shop, step, key, paid),
            Self::Paypal => paypal(shop, step, key, paid),
            Self::Braintree => braintree(shop, step, key, paid),
            Self::Square => square(shop, step, key, paid),
            Self::Razorpay => razorpay(shop, step, key, paid),
        }
    }
}

/// `head` is method and path, `fields` are header lines.
fn written(to: SocketAddr, head: &str, fields: &str, key: (&str, &str), kind: &str, body: &str) -> Ask {
    let (name, key) = key;
    let key = if key.is_empty() {
        String::new()
    } else {
        format!("{name}: {key}\r\n")
    };
    Ask {
        to,
        bytes: format!(
            "{head} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n{key}Sentinel-Instrument: {INSTRUMENTS}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    }
}

/// As an application that sends no body sends JSON.
fn json_text(body: &Value) -> String {
    match body {
        Value::Null => String::new(),
        body => body.to_string(),
    }
}

fn stripe(shop: &Shop, step: Step, key: &str, paid: &Paid<'_>) -> Ask {
    let (order, id) = (paid.order, paid.id);
    let pay = |capture: &str| {
        let merchant = match paid.over {
            Over::Euros => "",
            Over::Rupees => {
                "&off_session=true&receipt_email=a@example.com&shipping[name]=A&shipping[phone]=9000090000&shipping[address][line1]=1"
            }
        };
        let form = format!(
            "amount=1999&currency={}&confirm=true&capture_method={capture}&payment_method={STRIPE_TOKEN}&metadata[order_id]={order}&payment_method_types[0]=card{merchant}",
            paid.over.currency().to_ascii_lowercase()
        );
        ("/v1/payment_intents".to_owned(), form)
    };
    let (path, form) = match step {
        Step::Sale => pay("automatic"),
        Step::Hold => pay("manual"),
        Step::Capture => (format!("/v1/payment_intents/{id}/capture"), String::new()),
        Step::Void => (format!("/v1/payment_intents/{id}/cancel"), String::new()),
        Step::Refund => ("/v1/refunds".to_owned(), format!("payment_intent={id}")),
    };
    written(
        shop.stripe,
        &format!("POST {path}"),
        "Authorization: Bearer sk_test_shop",
        ("Idempotency-Key", key),
        FORM,
        &form,
    )
}

fn adyen(shop: &Shop, step: Step, key: &str, paid: &Paid<'_>) -> Ask {
    let amount = json!({"currency": paid.over.currency(), "value": 1999});
    let of = |kind: &str| format!("/v71/payments/{}/{kind}", paid.id);
    let (path, mut body) = match step {
        Step::Sale | Step::Hold => (
            "/v71/payments".to_owned(),
            json!({
                "amount": amount,
                "reference": paid.order,
                "returnUrl": "https://shop.example/",
                "shopperReference": "shopper-1",
                "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415698462516992"},
            }),
        ),
        Step::Capture => (of("captures"), json!({"amount": amount})),
        Step::Void => (of("cancels"), json!({})),
        Step::Refund => (of("refunds"), json!({"amount": amount})),
    };
    body["merchantAccount"] = "AcmeECOM".into();
    match step {
        Step::Sale => body["captureDelayHours"] = 0.into(),
        Step::Hold => body["additionalData"] = json!({"manualCapture": "true"}),
        _ => {}
    }
    if paid.over == Over::Rupees && matches!(step, Step::Sale | Step::Hold) {
        body["shopperInteraction"] = "ContAuth".into();
        body["recurringProcessingModel"] = "UnscheduledCardOnFile".into();
        body["shopperEmail"] = "a@example.com".into();
        body["telephoneNumber"] = "9000090000".into();
    }
    written(
        shop.adyen,
        &format!("POST {path}"),
        "X-API-Key: sandbox",
        ("Idempotency-Key", key),
        JSON,
        &body.to_string(),
    )
}

fn paypal(shop: &Shop, step: Step, key: &str, paid: &Paid<'_>) -> Ask {
    let order = |intent: &str| {
        let mut card = json!({"vault_id": PAYPAL_TOKEN});
        if paid.over == Over::Rupees {
            card["stored_credential"] =
                json!({"payment_initiator": "MERCHANT", "payment_type": "UNSCHEDULED", "usage": "SUBSEQUENT"});
        }
        let unit = json!({
            "amount": {"currency_code": paid.over.currency(), "value": "19.99"},
            "invoice_id": paid.order,
        });
        let body = json!({"intent": intent, "purchase_units": [unit], "payment_source": {"card": card}});
        ("/v2/checkout/orders".to_owned(), body)
    };
    let authorization = |call: &str| format!("/v2/payments/authorizations/{}/{call}", paid.id);
    let (path, body) = match step {
        Step::Sale => order("CAPTURE"),
        Step::Hold => order("AUTHORIZE"),
        Step::Capture => (authorization("capture"), json!({"final_capture": true})),
        Step::Void => (authorization("void"), Value::Null),
        Step::Refund => (format!("/v2/payments/captures/{}/refund", paid.id), json!({})),
    };
    written(
        shop.paypal,
        &format!("POST {path}"),
        &format!("Authorization: {}\r\nPrefer: return=representation", paid.token),
        ("PayPal-Request-Id", key),
        JSON,
        &json_text(&body),
    )
}

fn braintree(shop: &Shop, step: Step, key: &str, paid: &Paid<'_>) -> Ask {
    let key = match key {
        "" => String::new(),
        key => format!("<api_request_key>{key}</api_request_key>"),
    };
    let account = paid.over.currency().to_ascii_lowercase();
    let source = match paid.over {
        Over::Euros => "",
        Over::Rupees => "<transaction_source>unscheduled</transaction_source>",
    };
    let pay = |submit: bool| {
        let order = paid.order;
        let body = format!(
            "<amount>19.99</amount><payment_method_token>{BRAINTREE_TOKEN}</payment_method_token><merchant_account_id>sandbox_{account}</merchant_account_id><order_id>{order}</order_id>{source}{key}<options><submit_for_settlement type=\"boolean\">{submit}</submit_for_settlement></options><type>sale</type>"
        );
        ("POST", "transactions".to_owned(), body)
    };
    let of = |call: &str| format!("transactions/{}/{call}", paid.id);
    let (method, path, inside) = match step {
        Step::Sale => pay(true),
        Step::Hold => pay(false),
        Step::Capture => ("PUT", of("submit_for_settlement"), key.clone()),
        Step::Void => ("PUT", of("void"), key.clone()),
        Step::Refund => ("POST", of("refund"), key.clone()),
    };
    let body = format!("<transaction>{inside}</transaction>");
    written(
        shop.braintree,
        &format!("{method} /merchants/sandbox/{path}"),
        "Authorization: Basic c2FuZGJveDpzYW5kYm94\r\nX-ApiVersion: 6\r\nAccept: application/xml",
        ("", ""),
        "application/xml",
        &body,
    )
}

fn square(shop: &Shop, step: Step, key: &str, paid: &Paid<'_>) -> Ask {
    let amount = json!({"amount": 1999, "currency": paid.over.currency()});
    let of = |call: &str| format!("/v2/payments/{}/{call}", paid.id);
    let (path, body) = match step {
        Step::Sale | Step::Hold => {
            let mut body = json!({
                "source_id": "ccof:customer-card-id-ok", "customer_id": "CUST1", "idempotency_key": key,
                "amount_money": amount, "autocomplete": step == Step::Sale, "reference_id": paid.order,
            });
            if paid.over == Over::Rupees {
                body["customer_details"] = json!({"customer_initiated": false});
                body["buyer_email_address"] = "a@example.com".into();
                body["buyer_phone_number"] = "9000090000".into();
            }
            ("/v2/payments".to_owned(), body)
        }
        Step::Capture => (of("complete"), json!({})),
        Step::Void => (of("cancel"), Value::Null),
        Step::Refund => (
            "/v2/refunds".to_owned(),
            json!({"idempotency_key": key, "payment_id": paid.id, "amount_money": amount}),
        ),
    };
    written(
        shop.square,
        &format!("POST {path}"),
        "Authorization: Bearer sandbox",
        ("", ""),
        JSON,
        &json_text(&body),
    )
}

fn razorpay(shop: &Shop, step: Step, key: &str, paid: &Paid<'_>) -> Ask {
    let of = |call: &str| format!("/v1/payments/{}/{call}", paid.id);
    // Only refunds have a key.
    let mut refund_key = "";
    let (path, body) = match step {
        Step::Sale | Step::Hold => (
            "/v1/payments/create/recurring".to_owned(),
            json!({
                "email": "a@example.com", "contact": "9000090000", "amount": 1999, "currency": paid.over.currency(),
                "order_id": paid.order, "customer_id": "cust_1Aa00000000001", "token": "token_1Aa00000000001",
                "recurring": true,
            }),
        ),
        Step::Capture => (of("capture"), json!({"amount": 1999, "currency": paid.over.currency()})),
        Step::Void => panic!("Razorpay releases no holds"),
        Step::Refund => {
            refund_key = key;
            (of("refund"), json!({"amount": 1999}))
        }
    };
    written(
        shop.razorpay,
        &format!("POST {path}"),
        RAZORPAY,
        ("X-Refund-Idempotency", refund_key),
        JSON,
        &body.to_string(),
    )
}
