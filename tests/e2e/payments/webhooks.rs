//! Webhooks of gateways: what they resolve, and what they cannot be made to do.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sentinel::sandbox::NativeError;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use serde_json::{Value, json};

use crate::support::metrics::{matching, scrape};
use crate::support::shop::{Setup, Shop, parsed};
use crate::support::wire::{Message, once};

/// Posts a delivery to Sentinel, as a gateway would.
async fn post(shop: &Shop, gateway: &str, signature: &str, body: &str) -> Message {
    let signed = match signature {
        "" => String::new(),
        signature => format!("Stripe-Signature: {signature}\r\n"),
    };
    let bytes = format!(
        "POST /{gateway} HTTP/1.1\r\nHost: 127.0.0.1\r\n{signed}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    once(shop.webhooks, bytes).await
}

/// `Stripe-Signature`, for a time of the test's choosing.
fn signed(secret: &str, ago: i64, body: &str) -> String {
    let at = jiff::Timestamp::now().as_second() - ago;
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{at}.{body}").as_bytes());
    let hex: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("t={at},v1={hex}")
}

fn event(kind: &str, object: &Value) -> String {
    json!({"id": format!("evt_{kind}"), "object": "event", "type": kind, "created": 1, "data": {"object": object}})
        .to_string()
}

/// After the first payment request was executed and its answer lost, the gateway answers nothing any more.
fn deaf(shop: &Shop, name: &str, path: &str) {
    let gateway = shop.gateway(name);
    gateway.fault(Rule::once(
        Match::path("POST", path),
        Fault::CutAnswer {
            byte: 0,
            cut: Cut::Fin,
            when: When::After,
        },
    ));
    gateway.fault(Rule {
        times: None,
        ..Rule::once(
            Match::default(),
            Fault::Native {
                error: NativeError::Unavailable,
                when: When::Before,
                retry_after: None,
                stored: false,
            },
        )
    });
}

async fn counted(shop: &Shop, gateway: &str, result: &str) -> f64 {
    let samples = scrape(shop.admin).await;
    let labels = [format!("gateway=\"{gateway}\""), format!("result=\"{result}\"")];
    matching(
        &samples,
        "sentinel_webhooks_total",
        &[labels[0].as_str(), labels[1].as_str()],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_tells_what_the_lost_answer_did_not() {
    // Without a fence that counts nothing but the gateway's own word resolves it.
    let shop = Shop::with(Setup {
        certified: true,
        ..Setup::default()
    })
    .await;
    shop.notifies("stripe");
    deaf(&shop, "stripe", "/v1/payment_intents");
    let answer = shop.pay("key-1", "order-1").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(parsed(&answer)["status"], "succeeded");
    assert_eq!(answer.header("sentinel-gateway"), Some("stripe"));
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    assert_eq!(audit.live("order-1").len(), 1);
    assert!(counted(&shop, "stripe", "matched").await >= 1.0);
    // Once more, all of them: nothing new, and nothing is written.
    let payment = answer.header("sentinel-payment").unwrap().to_owned();
    let before = shop.timeline(&payment);
    for delivery in shop.gateway("stripe").webhooks() {
        let signature = delivery.headers["stripe-signature"].to_str().unwrap().to_owned();
        assert_eq!(post(&shop, "stripe", &signature, &delivery.body).await.status(), 200);
    }
    assert_eq!(shop.timeline(&payment), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_before_the_answer_is_the_answer() {
    let shop = Shop::open().await;
    shop.notifies("stripe");
    shop.gateway("stripe").fault(Rule::once(
        Match::path("POST", "/v1/payment_intents"),
        Fault::DelayAnswer { ms: Some(1200) },
    ));
    let answer = shop.pay("key-1", "order-1").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(parsed(&answer)["status"], "succeeded");
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    assert_eq!(audit.live("order-1").len(), 1);
    // The answer that came later says the same, and the payment stays as it is.
    let again = shop.pay("key-1", "order-1").await;
    assert_eq!(parsed(&again)["id"], parsed(&answer)["id"]);
    assert!(counted(&shop, "stripe", "matched").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_gateways_webhook_is_found_by_the_reference_that_sentinel_wrote() {
    let shop = Shop::with(Setup {
        stripe: "stripe, adyen",
        ..Setup::default()
    })
    .await;
    shop.notifies("adyen");
    shop.gateway("stripe").fault(Rule {
        times: None,
        ..Rule::once(
            Match::default(),
            Fault::Native {
                error: NativeError::RateLimit,
                when: When::Before,
                retry_after: None,
                stored: false,
            },
        )
    });
    deaf(&shop, "adyen", "/v71/payments");
    let answer = shop.pay("key-1", "order-1").await;
    assert_eq!(answer.status(), 200, "{}\n{}", answer.text(), {
        shop.timeline(answer.header("sentinel-payment").unwrap_or_default())
    });
    assert_eq!(answer.header("sentinel-gateway"), Some("adyen"));
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    assert_eq!(audit.live("order-1").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forged_stale_or_out_of_order_changes_nothing() {
    let shop = Shop::open().await;
    let answer = shop.pay("key-1", "order-1").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let payment = answer.header("sentinel-payment").unwrap().to_owned();
    let intent = parsed(&answer);
    let before = shop.timeline(&payment);
    let told = event("payment_intent.succeeded", &intent);

    for (name, signature) in [
        ("unsigned", String::new()),
        ("forged", signed("whsec_other", 0, &told)),
        (
            "of another body",
            signed("whsec_sandbox", 0, &event("payment_intent.canceled", &intent)),
        ),
        ("stale", signed("whsec_sandbox", 3600, &told)),
        ("from the future", signed("whsec_sandbox", -3600, &told)),
        ("garbage", "t=,v1=zz,,".to_owned()),
    ] {
        let refused = post(&shop, "stripe", &signature, &told).await;
        assert_eq!((refused.status(), refused.text().as_str()), (400, ""), "{name}");
    }
    assert_eq!(counted(&shop, "stripe", "forged").await, 3.0);
    assert_eq!(counted(&shop, "stripe", "stale").await, 2.0);
    let malformed = r#"{"type":"payment_intent.succeeded"}"#;
    let refused = post(&shop, "stripe", &signed("whsec_sandbox", 0, malformed), malformed).await;
    assert_eq!(refused.status(), 400);
    // Adyen signs every item by itself; one that does not hold refuses all.
    let item = json!({"eventCode": "AUTHORISATION", "success": "true", "pspReference": "A", "merchantReference": payment,
        "amount": {"value": 1999, "currency": "EUR"}, "additionalData": {"hmacSignature": "Zm9yZ2Vk"}});
    let forged = json!({"live": "false", "notificationItems": [{"NotificationRequestItem": item}]}).to_string();
    assert_eq!(post(&shop, "adyen", "", &forged).await.status(), 400);
    // No account, no such account, no key for it, no POST.
    assert_eq!(post(&shop, "", "", &told).await.status(), 404);
    assert_eq!(post(&shop, "nobody", "", &told).await.status(), 404);
    assert_eq!(post(&shop, "paypal", "", &told).await.status(), 404);
    let got = once(shop.webhooks, "GET /stripe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await;
    assert_eq!((got.status(), got.header("allow")), (405, Some("POST")));

    // True, and old: a decline and a step before the effect that is known. True, and nobody's.
    let mut declined = intent.clone();
    declined["status"] = json!("requires_payment_method");
    declined["last_payment_error"] =
        json!({"type": "card_error", "code": "card_declined", "decline_code": "generic_decline"});
    let mut acting = intent.clone();
    acting["status"] = json!("processing");
    let mut other = intent.clone();
    other["id"] = json!("pi_3nobodys");
    other["latest_charge"] = json!("ch_3nobodys");
    for old in [
        event("payment_intent.payment_failed", &declined),
        event("payment_intent.processing", &acting),
        event("payment_intent.succeeded", &other),
        event("charge.dispute.created", &json!({"id": "dp_1", "object": "dispute"})),
    ] {
        // Either secret holds while one replaces the other.
        let taken = post(&shop, "stripe", &signed("whsec_next", 0, &old), &old).await;
        assert_eq!(taken.status(), 200, "{old}");
    }
    assert_eq!(shop.timeline(&payment), before);

    // For another amount it is no success: two proofs contradict each other, and a person is called.
    let mut less = intent.clone();
    less["amount"] = json!(1);
    less["amount_received"] = json!(1);
    let less = event("payment_intent.succeeded", &less);
    let taken = post(&shop, "stripe", &signed("whsec_sandbox", 0, &less), &less).await;
    assert_eq!(taken.status(), 200);
    assert!(
        shop.timeline(&payment).contains("manual_hold"),
        "{}",
        shop.timeline(&payment)
    );
}
