//! Webhooks of gateways: what they resolve, and what they cannot be made to do.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sentinel::sandbox::NativeError;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use serde_json::{Value, json};

use crate::support::metrics::{matching, scrape, until};
use crate::support::receiver::Receiver;
use crate::support::shop::{BRAINTREE_TOKEN, Setup, Shop, parsed};
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
pub(super) fn signed(secret: &str, ago: i64, body: &str) -> String {
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

/// One of Stripe's events.
pub(super) fn event(kind: &str, object: &Value) -> String {
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

/// A shop whose every account verifies its webhooks.
async fn verifying(receiver: &Receiver, setup: Setup) -> Shop {
    Shop::with(Setup {
        notify: Some(receiver.url()),
        ..setup
    })
    .await
}

/// What a simulator sent, once more, with a change.
async fn again(shop: &Shop, gateway: &str, change: impl Fn(&str, &str) -> String, body: &str) -> Message {
    let sent = shop.gateway(gateway).webhooks();
    let delivery = sent.last().expect("a webhook");
    let body = if body.is_empty() { delivery.body.as_str() } else { body };
    let mut bytes = format!(
        "POST /{gateway} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in &delivery.headers {
        bytes.push_str(&format!(
            "{name}: {}\r\n",
            change(name.as_str(), value.to_str().unwrap())
        ));
    }
    once(shop.webhooks, format!("{bytes}\r\n{body}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn squares_and_paypals_webhooks_tell_what_their_lost_answers_did_not() {
    for (gateway, gateways, path) in [
        ("square", "stripe, square", "/v2/payments"),
        ("paypal", "stripe, paypal", "/v2/checkout/orders"),
    ] {
        let receiver = Receiver::start().await;
        let setup = Setup {
            stripe: gateways,
            ..Setup::default()
        };
        let shop = verifying(&receiver, setup).await;
        shop.notifies(gateway);
        shop.down("stripe").await;
        let lost = Fault::CutAnswer {
            byte: 0,
            cut: Cut::Fin,
            when: When::After,
        };
        match gateway {
            // Nothing else tells: Square can be asked, and is deaf.
            "square" => deaf(&shop, gateway, path),
            // PayPal is asked whether the webhook is its own; of an order whose id was lost it cannot be asked.
            _ => shop.gateway(gateway).fault(Rule::once(Match::path("POST", path), lost)),
        }
        let answer = shop.pay("key-1", "order-1").await;
        assert_eq!(answer.status(), 200, "{gateway}: {}\n{}", answer.text(), {
            shop.timeline(answer.header("sentinel-payment").unwrap_or_default())
        });
        assert_eq!(answer.header("sentinel-gateway"), Some(gateway));
        let audit = shop.audit().await;
        assert!(audit.clean(), "{gateway}: {audit:#?}");
        assert_eq!(audit.live("order-1").len(), 1);
        assert!(counted(&shop, gateway, "matched").await >= 1.0);
        // What it proved is told on, in the application's own words.
        assert_eq!(receiver.took(2).await.len(), 2);

        let payment = answer.header("sentinel-payment").unwrap().to_owned();
        let before = shop.timeline(&payment);
        let as_it_was = |_: &str, value: &str| value.to_owned();
        assert_eq!(again(&shop, gateway, as_it_was, "").await.status(), 200, "{gateway}");
        let forged = |name: &str, value: &str| match name {
            "x-square-hmacsha256-signature" | "paypal-transmission-sig" => "Zm9yZ2Vk".to_owned(),
            _ => value.to_owned(),
        };
        assert_eq!(again(&shop, gateway, forged, "").await.status(), 400, "{gateway}");
        let sent = shop.gateway(gateway).webhooks();
        let other = sent.last().unwrap().body.replace("1999", "1").replace("19.99", "0.01");
        assert_eq!(
            again(&shop, gateway, as_it_was, &other).await.status(),
            400,
            "{gateway}"
        );
        assert!(counted(&shop, gateway, "forged").await >= 2.0, "{gateway}");
        if gateway == "paypal" {
            let old = |name: &str, value: &str| match name {
                "paypal-transmission-time" => "2020-01-01T00:00:00Z".to_owned(),
                _ => value.to_owned(),
            };
            assert_eq!(again(&shop, gateway, old, "").await.status(), 400);
            assert_eq!(counted(&shop, gateway, "stale").await, 1.0);
            // While PayPal cannot be asked, nothing is believed and nothing is refused for good.
            shop.down("paypal").await;
            assert_eq!(again(&shop, gateway, as_it_was, "").await.status(), 503);
        }
        assert_eq!(shop.timeline(&payment), before, "{gateway}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn razorpays_webhook_tells_of_the_order_whose_payment_is_in_doubt() {
    let receiver = Receiver::start().await;
    let setup = Setup {
        failover: "order_guard: true",
        ..Setup::default()
    };
    let shop = verifying(&receiver, setup).await;
    shop.notifies("razorpay");
    shop.gateway("razorpay").set("webhook_ms", "800").unwrap();
    let order = json!({"amount": 50_000, "currency": "INR", "receipt": "r-1"});
    let opened = shop.razorpay_send("POST", "/v1/orders", "", &order).await;
    let order = parsed(&opened)["id"].as_str().unwrap().to_owned();
    let path = "/v1/payments/create/recurring";
    deaf(&shop, "razorpay", path);
    let sale = json!({"email": "a@example.com", "contact": "9000090000", "amount": 50_000, "currency": "INR",
        "order_id": order, "customer_id": "cust_1Aa00000000001", "token": "token_1Aa00000000001", "recurring": true});
    let answer = shop.razorpay_send("POST", path, "", &sale).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let payment = answer.header("sentinel-payment").unwrap().to_owned();
    until(shop.admin, "Razorpay's webhook", |samples| {
        let labels = ["gateway=\"razorpay\"", "result=\"matched\""];
        matching(samples, "sentinel_webhooks_total", &labels) >= 1.0
    })
    .await;
    let told = shop.razorpay_send("POST", path, "", &sale).await;
    assert_eq!(
        parsed(&told)["razorpay_order_id"],
        order.as_str(),
        "{}\n{}",
        told.text(),
        shop.timeline(&payment)
    );
    assert_eq!(told.header("sentinel-gateway"), Some("razorpay"));
    // It is Razorpay's own, and so is the webhook that the application gets of it.
    let heard = receiver.took(1).await;
    let sent = shop.gateway("razorpay").webhooks();
    for message in &heard {
        assert!(sent.iter().any(|delivery| delivery.body.as_bytes() == message.body));
    }
    let before = shop.timeline(&payment);
    let forged = |name: &str, value: &str| match name {
        "x-razorpay-signature" => "00".repeat(32),
        _ => value.to_owned(),
    };
    assert_eq!(again(&shop, "razorpay", forged, "").await.status(), 400);
    assert_eq!(shop.timeline(&payment), before);
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn braintrees_notification_of_the_settlement_ends_a_doubt() {
    let receiver = Receiver::start().await;
    let setup = Setup {
        braintree_account: "",
        failover: "order_guard: true",
        ..Setup::default()
    };
    let shop = verifying(&receiver, setup).await;
    shop.notifies("braintree");
    let braintree = shop.gateway("braintree");
    // A search finds nothing for as long as this test lasts.
    braintree.set("search_lag", "600000").unwrap();
    braintree.fault(Rule::once(
        Match::path("POST", "/merchants/sandbox/transactions"),
        Fault::CutAnswer {
            byte: 0,
            cut: Cut::Fin,
            when: When::After,
        },
    ));
    let sale = format!(
        "<transaction><amount>19.99</amount><payment_method_token>{BRAINTREE_TOKEN}</payment_method_token>\
         <merchant_account_id>sandbox_eur</merchant_account_id><order_id>order-1</order_id>\
         <api_request_key>key-1</api_request_key>\
         <options><submit_for_settlement type=\"boolean\">true</submit_for_settlement></options><type>sale</type></transaction>"
    );
    let answer = shop.braintree_send("POST", "transactions", &sale).await;
    assert_eq!(answer.status(), 504, "{}", answer.text());
    let payment = answer.header("sentinel-payment").unwrap().to_owned();
    // The nightly batch, which runs with the next request.
    braintree.set("settle", "true").unwrap();
    let _ = shop.braintree_send("GET", "transactions/nothing", "").await;
    until(shop.admin, "Braintree's notification", |samples| {
        let labels = ["gateway=\"braintree\"", "result=\"matched\""];
        matching(samples, "sentinel_webhooks_total", &labels) >= 1.0
    })
    .await;
    let told = shop.braintree_send("POST", "transactions", &sale).await;
    assert_eq!(told.status(), 201, "{}\n{}", told.text(), shop.timeline(&payment));
    assert_eq!(receiver.took(1).await[0].body, braintree.webhooks()[0].body.as_bytes());
    let before = shop.timeline(&payment);
    let as_it_was = |_: &str, value: &str| value.to_owned();
    let forged = braintree.webhooks()[0].body.replace("sandbox%7C", "sandbox%7C00");
    assert_eq!(again(&shop, "braintree", as_it_was, &forged).await.status(), 400);
    assert_eq!(again(&shop, "braintree", as_it_was, "").await.status(), 200);
    assert_eq!(shop.timeline(&payment), before);
    // Braintree asks whether it may notify an address.
    let get = |query: &str| format!("GET /braintree?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let asked = once(shop.webhooks, get("bt_challenge=20f9f8ed05f77439fe955c977e4c8a53")).await;
    assert_eq!(asked.status(), 200);
    assert!(
        asked.text().starts_with("sandbox|") && asked.text().len() == 48,
        "{}",
        asked.text()
    );
    assert_eq!(once(shop.webhooks, get("other=1")).await.status(), 405);
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
}
