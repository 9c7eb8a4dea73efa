//! Webhooks to applications: of payments that another gateway took, and the own gateway's, passed on.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::metrics::{matching, until};
use crate::support::receiver::{Receiver, told};
use crate::support::shop::{
    NOTIFICATION_URL, STRIPE_TOKEN, Setup, Shop, WEBHOOK_ID, parsed, stripe_form, webhook_secret,
};
use crate::support::wire::{Client, Message, once};

async fn shop(receiver: &Receiver, setup: Setup) -> Shop {
    Shop::with(Setup {
        notify: Some(receiver.url()),
        ..setup
    })
    .await
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a message is signed as the dialect's gateway signs, worked out here once more.
fn signed(dialect: &str, message: &Message) -> bool {
    let secret = webhook_secret(dialect).as_bytes();
    let header = |name: &str| message.header(name).unwrap_or_default().to_owned();
    match dialect {
        "stripe" => {
            let signature = header("stripe-signature");
            let (time, v1) = signature.split_once(",v1=").unwrap();
            let time = time.strip_prefix("t=").unwrap();
            let age = jiff::Timestamp::now().as_second() - time.parse::<i64>().unwrap();
            let text = [time.as_bytes(), b".", &message.body].concat();
            (0..300).contains(&age) && v1 == hex(&mac(secret, &text))
        }
        "adyen" => told(message)["notificationItems"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| {
                let item = &item["NotificationRequestItem"];
                let text = |name: &str| item[name].as_str().unwrap_or_default();
                let amount = &item["amount"];
                let parts = [
                    text("pspReference").to_owned(),
                    text("originalReference").to_owned(),
                    text("merchantAccountCode").to_owned(),
                    text("merchantReference").to_owned(),
                    amount["value"].to_string(),
                    amount["currency"].as_str().unwrap().to_owned(),
                    text("eventCode").to_owned(),
                    text("success").to_owned(),
                ];
                let wanted = STANDARD.encode(mac(&[0x00, 0xff], parts.join(":").as_bytes()));
                item["additionalData"]["hmacSignature"] == wanted.as_str()
            }),
        "square" => {
            let text = [NOTIFICATION_URL.as_bytes(), &message.body].concat();
            header("x-square-hmacsha256-signature") == STANDARD.encode(mac(secret, &text))
        }
        "razorpay" => header("x-razorpay-signature") == hex(&mac(secret, &message.body)),
        "paypal" => {
            use sha2::Digest as _;
            let body = hex(&Sha256::digest(&message.body));
            let (id, time) = (header("paypal-transmission-id"), header("paypal-transmission-time"));
            let text = format!("{id}|{time}|{WEBHOOK_ID}|{body}");
            header("paypal-transmission-sig") == STANDARD.encode(mac(secret, text.as_bytes()))
        }
        other => panic!("{other}"),
    }
}

fn kinds(messages: &[Message]) -> Vec<String> {
    let kind = |message: &Message| told(message)["type"].as_str().unwrap_or_default().to_owned();
    messages.iter().map(kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_comes_back_is_told_of_and_may_be_made_again() {
    let receiver = Receiver::start().await;
    let setup = Setup {
        stripe: "stripe, adyen",
        ..Setup::default()
    };
    let shop = shop(&receiver, setup).await;
    shop.notifies("adyen");
    shop.gateway("adyen").set("refunds_fail", "true").unwrap();
    shop.down("stripe").await;
    let sold = shop.pay("key-1", "order-1").await;
    let id = parsed(&sold)["id"].as_str().unwrap().to_owned();
    receiver.took(2).await;

    let form = format!("payment_intent={id}");
    let refunded = shop.stripe_post("/v1/refunds", "refund-1", &form).await;
    assert_eq!(parsed(&refunded)["status"], "pending", "{}", refunded.text());
    let heard = receiver.took(6).await;
    assert_eq!(
        kinds(&heard[2..]),
        ["charge.refunded", "refund.updated", "refund.failed", "refund.updated"]
    );
    assert_eq!(told(&heard[4])["data"]["object"]["status"], "failed");
    assert_eq!(told(&heard[4])["data"]["object"]["id"], parsed(&refunded)["id"]);
    let refund = parsed(&refunded)["id"].as_str().unwrap().to_owned();
    let shown = parsed(&shop.stripe_get(&format!("/v1/refunds/{refund}")).await);
    assert_eq!(shown["status"], "failed", "{shown}");
    let shown = parsed(
        &shop
            .stripe_get(&format!("/v1/payment_intents/{id}?expand[]=latest_charge"))
            .await,
    );
    assert_eq!(shown["latest_charge"]["amount_refunded"], 0, "{shown}");

    // Nobody has to be called: the money is with the merchant, who gives it back once more.
    shop.gateway("adyen").set("refunds_fail", "false").unwrap();
    let again = shop.stripe_post("/v1/refunds", "refund-2", &form).await;
    assert_eq!(parsed(&again)["status"], "pending", "{}", again.text());
    assert_eq!(
        kinds(&receiver.took(8).await[6..]),
        ["charge.refunded", "refund.updated"]
    );
    let audit = shop.audit().await;
    assert!(audit.clean() && audit.live("order-1").is_empty(), "{audit:#?}");
    let payment = sold.header("sentinel-payment").unwrap().to_owned();
    assert!(!shop.timeline(&payment).contains("manual_hold"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_hears_of_its_payments_elsewhere_in_order_and_only_what_is_proven() {
    let receiver = Receiver::start().await;
    let setup = Setup {
        stripe: "stripe, adyen",
        ..Setup::default()
    };
    let shop = shop(&receiver, setup).await;
    shop.notifies("adyen");
    shop.down("stripe").await;

    let sold = shop.pay("key-1", "order-1").await;
    assert_eq!(sold.header("sentinel-gateway"), Some("adyen"), "{}", sold.text());
    let id = parsed(&sold)["id"].as_str().unwrap().to_owned();
    let heard = receiver.took(2).await;
    assert_eq!(kinds(&heard), ["charge.succeeded", "payment_intent.succeeded"]);
    let (charge, intent) = (told(&heard[0]), told(&heard[1]));
    assert_eq!(intent["data"]["object"]["id"], id.as_str());
    assert_eq!(intent["data"]["object"]["amount_received"], 1999);
    assert_eq!(intent["data"]["object"]["metadata"]["order_id"], "order-1");
    assert_eq!(charge["data"]["object"]["payment_intent"], id.as_str());
    assert_eq!(
        charge["data"]["object"]["id"],
        intent["data"]["object"]["latest_charge"]
    );
    assert_eq!(heard[0].start, "POST /webhooks?from=sentinel HTTP/1.1");
    assert_eq!(heard[0].header("sentinel-payment"), sold.header("sentinel-payment"));

    // Adyen gives back later: the application is told when it is done, not when it was asked for.
    let form = format!("payment_intent={id}&amount=500");
    let refunded = shop.stripe_post("/v1/refunds", "refund-1", &form).await;
    assert_eq!(parsed(&refunded)["status"], "pending", "{}", refunded.text());
    let heard = receiver.took(4).await;
    assert_eq!(kinds(&heard[2..]), ["charge.refunded", "refund.updated"]);
    let refund = told(&heard[3])["data"]["object"].clone();
    assert_eq!(refund["id"], parsed(&refunded)["id"]);
    assert_eq!(
        (&refund["status"], &refund["amount"]),
        (&json!("succeeded"), &json!(500))
    );
    assert_eq!(told(&heard[2])["data"]["object"]["amount_refunded"], 500);

    // A hold, captured; and another one, released.
    let held = shop.hold("key-2", "order-2").await;
    let id = parsed(&held)["id"].as_str().unwrap().to_owned();
    let heard = receiver.took(6).await;
    assert_eq!(
        kinds(&heard[4..]),
        ["charge.succeeded", "payment_intent.amount_capturable_updated"]
    );
    assert_eq!(told(&heard[5])["data"]["object"]["amount_capturable"], 1999);
    let path = format!("/v1/payment_intents/{id}/capture");
    let captured = shop.stripe_post(&path, "capture", "").await;
    assert_eq!(captured.status(), 200, "{}", captured.text());
    let heard = receiver.took(8).await;
    assert_eq!(kinds(&heard[6..]), ["charge.captured", "payment_intent.succeeded"]);
    assert_eq!(told(&heard[7])["data"]["object"]["amount_received"], 1999);
    let held = shop.hold("key-3", "order-3").await;
    let id = parsed(&held)["id"].as_str().unwrap().to_owned();
    receiver.took(10).await;
    let path = format!("/v1/payment_intents/{id}/cancel");
    let voided = shop.stripe_post(&path, "void", "").await;
    assert_eq!(voided.status(), 200, "{}", voided.text());
    let heard = receiver.took(11).await;
    assert_eq!(kinds(&heard[10..]), ["payment_intent.canceled"]);

    assert!(heard.iter().all(|message| signed("stripe", message)));
    let ids: BTreeSet<String> = heard.iter().map(|message| told(message)["id"].to_string()).collect();
    assert_eq!((heard.len(), ids.len()), (11, 11), "each once, under an id of its own");
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
}

/// A sale in each dialect, taken by Stripe, with part of it given back.
async fn sale_and_refund(shop: &Shop, dialect: &str, token: &str) -> (String, Message) {
    let euros = |value: &str| json!({"currency_code": "EUR", "value": value});
    match dialect {
        "adyen" => {
            let sale = json!({"amount": {"currency": "EUR", "value": 1999}, "reference": "order-1",
                "merchantAccount": "AcmeECOM", "returnUrl": "https://shop.example/return",
                "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415698462516992"},
                "shopperReference": "shopper-1", "shopperInteraction": "ContAuth",
                "recurringProcessingModel": "CardOnFile"});
            let sold = shop.adyen_post("/v71/payments", "key-1", &sale).await;
            let id = parsed(&sold)["pspReference"].as_str().unwrap_or_default().to_owned();
            let refund = json!({"merchantAccount": "AcmeECOM", "amount": {"currency": "EUR", "value": 500}, "reference": "refund-1"});
            let path = format!("/v71/payments/{id}/refunds");
            (id, shop.adyen_post(&path, "key-2", &refund).await)
        }
        "square" => {
            let sale = json!({"source_id": "ccof:customer-card-id-ok", "customer_id": "CUST1", "idempotency_key": "key-1",
                "amount_money": {"amount": 1999, "currency": "EUR"}, "autocomplete": true, "reference_id": "order-1"});
            let sold = shop.square_send("POST", "/v2/payments", &sale).await;
            let id = parsed(&sold)["payment"]["id"].as_str().unwrap_or_default().to_owned();
            let refund = json!({"idempotency_key": "key-2", "payment_id": id, "amount_money": {"amount": 500, "currency": "EUR"}});
            (id, shop.square_send("POST", "/v2/refunds", &refund).await)
        }
        "paypal" => {
            shop.down("paypal").await;
            let sale = json!({"intent": "CAPTURE", "purchase_units": [{"amount": euros("19.99"), "invoice_id": "order-1"}],
                "payment_source": {"card": {"vault_id": "8kk845"}}});
            let sold = shop
                .paypal_send("POST", "/v2/checkout/orders", token, "key-1", &sale.to_string())
                .await;
            let capture = &parsed(&sold)["purchase_units"][0]["payments"]["captures"][0]["id"];
            let id = capture.as_str().unwrap_or_default().to_owned();
            let path = format!("/v2/payments/captures/{id}/refund");
            let refund = json!({"amount": euros("5.00")}).to_string();
            (id, shop.paypal_send("POST", &path, token, "key-2", &refund).await)
        }
        "razorpay" => {
            let order = json!({"amount": 50_000, "currency": "INR", "receipt": "r-1"});
            let opened = shop.razorpay_send("POST", "/v1/orders", "", &order).await;
            shop.down("razorpay").await;
            let sale = json!({"email": "a@example.com", "contact": "9000090000", "amount": 50_000, "currency": "INR",
                "order_id": parsed(&opened)["id"], "customer_id": "cust_1Aa00000000001",
                "token": "token_1Aa00000000001", "recurring": true});
            let sold = shop
                .razorpay_send("POST", "/v1/payments/create/recurring", "", &sale)
                .await;
            let id = parsed(&sold)["razorpay_payment_id"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let path = format!("/v1/payments/{id}/refund");
            let refund = json!({"amount": 500});
            (id, shop.razorpay_send("POST", &path, "refund-key-1", &refund).await)
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dialect_hears_in_its_own_words_under_its_own_signature() {
    for (dialect, wanted) in [
        ("adyen", vec!["AUTHORISATION", "REFUND"]),
        (
            "square",
            vec![
                "payment.created",
                "payment.updated",
                "refund.created",
                "refund.updated",
                "payment.updated",
            ],
        ),
        ("paypal", vec!["PAYMENT.CAPTURE.COMPLETED", "PAYMENT.CAPTURE.REFUNDED"]),
        ("razorpay", vec!["payment.captured", "refund.processed"]),
    ] {
        let receiver = Receiver::start().await;
        let setup = Setup {
            adyen: "adyen, stripe",
            square: "square, stripe",
            paypal: "paypal, stripe",
            razorpay: "razorpay, stripe",
            ..Setup::default()
        };
        let shop = shop(&receiver, setup).await;
        if matches!(dialect, "adyen" | "square") {
            shop.down(dialect).await;
        }
        let token = match dialect {
            "paypal" => shop.paypal_token().await,
            _ => String::new(),
        };
        let (id, refunded) = sale_and_refund(&shop, dialect, &token).await;
        assert!(
            (200..300).contains(&refunded.status()),
            "{dialect}: {}",
            refunded.text()
        );
        assert_eq!(refunded.header("sentinel-gateway"), Some("stripe"), "{dialect}");
        let heard = receiver.took(wanted.len()).await;
        let kind = |message: &Message| {
            let event = told(message);
            let item = &event["notificationItems"][0]["NotificationRequestItem"];
            let names = [
                &event["type"],
                &event["event_type"],
                &event["event"],
                &item["eventCode"],
            ];
            names
                .iter()
                .find_map(|name| name.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(heard.iter().map(kind).collect::<Vec<_>>(), wanted, "{dialect}");
        for message in &heard {
            assert!(signed(dialect, message), "{dialect}: {message:#?}");
            assert!(message.text().contains(&id), "{dialect}: {id} in {}", message.text());
        }
        if dialect == "paypal" {
            // Asked the way an application asks PayPal; PayPal itself is down.
            for (message, tampered, status) in [
                (&heard[0], false, "SUCCESS"),
                (&heard[1], false, "SUCCESS"),
                (&heard[0], true, "FAILURE"),
            ] {
                let mut event = told(message);
                if tampered {
                    event["resource"]["amount"]["value"] = json!("0.01");
                }
                let header = |name: &str| message.header(name).unwrap_or_default();
                let question = json!({"auth_algo": header("paypal-auth-algo"), "cert_url": header("paypal-cert-url"),
                    "transmission_id": header("paypal-transmission-id"), "webhook_id": WEBHOOK_ID,
                    "transmission_sig": header("paypal-transmission-sig"),
                    "transmission_time": header("paypal-transmission-time"), "webhook_event": event});
                let path = "/v1/notifications/verify-webhook-signature";
                let answer = shop.paypal_send("POST", path, &token, "", &question.to_string()).await;
                assert_eq!(parsed(&answer)["verification_status"], status, "{}", answer.text());
            }
        }
    }
}

/// Pays, and does not mind when the process ends before its answer.
async fn pay_whatever_comes(shop: &Shop) {
    let form = stripe_form("order-1", "automatic", STRIPE_TOKEN);
    let adyen = crate::support::shop::ADYEN_TOKEN;
    let mut client = Client::connect(shop.stripe).await;
    let bytes = format!(
        "POST /v1/payment_intents HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk_test_shop\r\nIdempotency-Key: key-1\r\nSentinel-Instrument: adyen={adyen}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    client.send(bytes).await;
    let _ = client.answer().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_event_and_delivery_loses_nothing_and_repeats_under_the_same_id() {
    // Written down, not yet with its cursor; about to be posted; posted, and not yet known to be; between two events.
    for (place, repeats) in [
        ("notification.noted#1", false),
        ("notification.post#1", false),
        ("notification.posted#1", true),
        ("notification.post#2", true),
    ] {
        let receiver = Receiver::start().await;
        let setup = Setup {
            stripe: "stripe, adyen",
            notify: Some(receiver.url()),
            ..Setup::default()
        };
        let mut shop = Shop::with_env(setup, &[("SENTINEL_FAILPOINT_AT", place)]).await;
        shop.down("stripe").await;
        pay_whatever_comes(&shop).await;
        shop.sentinel.until_it_ends(place).await;
        let shop = shop.crash();
        let events = if repeats { 3 } else { 2 };
        let heard = receiver.took(events).await;
        let last = kinds(&heard[events - 2..]);
        assert_eq!(last, ["charge.succeeded", "payment_intent.succeeded"], "{place}");
        let ids: BTreeSet<String> = heard.iter().map(|message| told(message)["id"].to_string()).collect();
        assert_eq!(ids.len(), 2, "{place}: {ids:?}");
        // The same event, byte by byte, whenever it is told.
        let bodies: BTreeSet<&[u8]> = heard.iter().map(|message| message.body.as_slice()).collect();
        assert_eq!(bodies.len(), 2, "{place}");
        let audit = shop.audit().await;
        assert!(audit.clean(), "{place}: {audit:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_is_told_again_and_only_its_own_payment_waits_for_it() {
    let receiver = Receiver::start().await;
    let setup = Setup {
        stripe: "stripe, adyen",
        ..Setup::default()
    };
    let shop = shop(&receiver, setup).await;
    shop.down("stripe").await;
    receiver.answers(&[500, 0, 404]);
    let first = shop.pay("key-1", "order-1").await;
    receiver.heard(1).await;
    let second = shop.pay("key-2", "order-2").await;
    let heard = receiver.took(4).await;
    let of = |payment: &Message| {
        let id = payment.header("sentinel-payment").unwrap().to_owned();
        let of = heard
            .iter()
            .filter(move |message| message.header("sentinel-payment") == Some(id.as_str()));
        of.cloned().collect::<Vec<_>>()
    };
    for payment in [&first, &second] {
        assert_eq!(kinds(&of(payment)), ["charge.succeeded", "payment_intent.succeeded"]);
    }
    assert_eq!(receiver.all().len(), 7, "three failures and four deliveries");
    let failed = |samples: &crate::support::metrics::Samples| {
        let labels = ["route=\"stripe\"", "result=\"failed\""];
        matching(samples, "sentinel_notifications_total", &labels) == 3.0
    };
    until(shop.admin, "three failures", failed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_is_shown_and_goes_out_when_an_operator_says_so() {
    let receiver = Receiver::start().await;
    receiver.always(503);
    let setup = Setup {
        stripe: "stripe, adyen",
        give_up: ", give_up: 1s",
        ..Setup::default()
    };
    let shop = shop(&receiver, setup).await;
    shop.down("stripe").await;
    let paid = shop.pay("key-1", "order-1").await;
    until(shop.admin, "one given up", |samples| {
        let labels = ["route=\"stripe\"", "state=\"dead\""];
        matching(samples, "sentinel_notifications", &labels) == 1.0
    })
    .await;
    let list = once(shop.admin, "GET /notifications HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let entry = parsed(&list)[0].clone();
    assert_eq!(
        (&entry["state"], &entry["news"]),
        (&json!("dead"), &json!("succeeded")),
        "{entry}"
    );
    assert_eq!(entry["payment"].as_str(), paid.header("sentinel-payment"));
    assert_eq!(entry["last"], "answered 503");
    receiver.recovers();
    let path = format!("/notifications/stripe/{}/retry", entry["id"].as_str().unwrap());
    let retry = once(
        shop.admin,
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"),
    )
    .await;
    assert_eq!(retry.status(), 200, "{}", retry.text());
    receiver.took(2).await;
    until(shop.admin, "none left", |samples| {
        matching(samples, "sentinel_notifications", &["route=\"stripe\""]) == 0.0
    })
    .await;
    let nothing = once(
        shop.admin,
        "POST /notifications/stripe/0/retry HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    assert_eq!(nothing.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_own_gateways_webhooks_are_passed_on_byte_by_byte_and_repeated_by_the_gateway() {
    let receiver = Receiver::start().await;
    receiver.answers(&[500]);
    let shop = shop(&receiver, Setup::default()).await;
    shop.notifies("stripe");
    let paid = shop.pay("key-1", "order-1").await;
    assert_eq!(paid.header("sentinel-gateway"), Some("stripe"), "{}", paid.text());
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    let sent = shop.gateway("stripe").webhooks();
    assert!(
        sent.len() >= 3 && sent.iter().all(|delivery| delivery.delivered),
        "{sent:#?}"
    );
    let taken = receiver.taken();
    assert_eq!(taken.len(), sent.len(), "nothing of Sentinel's own beside them");
    assert_eq!(receiver.all().len(), sent.len() + 1);
    for delivery in &sent {
        let passed = taken.iter().find(|message| message.body == delivery.body.as_bytes());
        let passed = passed.unwrap_or_else(|| panic!("not passed on: {}", delivery.body));
        for (name, value) in &delivery.headers {
            if name != http::header::HOST {
                assert_eq!(passed.header(name.as_str()), value.to_str().ok(), "{name}");
            }
        }
    }
    // A dispute is no payment's business here, and the application's all the same.
    let before = receiver.all().len();
    let dispute = json!({"id": "evt_1", "object": "event", "type": "charge.dispute.created", "created": 1,
        "data": {"object": {"id": "dp_1", "object": "dispute"}}})
    .to_string();
    let at = jiff::Timestamp::now().as_second();
    let signature = hex(&mac(b"whsec_sandbox", format!("{at}.{dispute}").as_bytes()));
    let post = |signature: String, path: &str| {
        format!(
            "POST /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nStripe-Signature: t={at},v1={signature}\r\nSentinel-Payment: forged\r\nContent-Length: {}\r\n\r\n{dispute}",
            dispute.len()
        )
    };
    assert_eq!(
        once(shop.webhooks, post(signature.clone(), "stripe")).await.status(),
        200
    );
    let heard = receiver.heard(before + 1).await;
    assert_eq!(heard[before].0.body, dispute.as_bytes());
    assert_eq!(heard[before].0.header("sentinel-payment"), None);
    // Forged, or another account's: nobody hears of it.
    assert_eq!(once(shop.webhooks, post(hex(&[0; 32]), "stripe")).await.status(), 400);
    assert_eq!(once(shop.webhooks, post(signature, "adyen")).await.status(), 400);
    assert_eq!(receiver.all().len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_hears_one_truth_of_a_payment_that_left_its_gateway() {
    let receiver = Receiver::start().await;
    let setup = Setup {
        stripe: "stripe, adyen",
        failover: "on_soft_decline: true",
        ..Setup::default()
    };
    let shop = shop(&receiver, setup).await;
    shop.notifies("stripe");
    shop.notifies("adyen");
    let form = stripe_form("order-1", "automatic", "pm_card_chargeDeclined");
    let paid = shop.stripe_post("/v1/payment_intents", "key-1", &form).await;
    assert_eq!(paid.status(), 200, "{}", paid.text());
    assert_eq!(paid.header("sentinel-gateway"), Some("adyen"));
    let id = parsed(&paid)["id"].as_str().unwrap().to_owned();
    receiver.took(2).await;
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    let declined = shop.gateway("stripe").webhooks();
    let failed = declined
        .iter()
        .find(|delivery| delivery.body.contains("payment_intent.payment_failed"));
    assert!(failed.is_some_and(|delivery| delivery.delivered), "{declined:#?}");
    until(shop.admin, "Stripe's decline held back", |samples| {
        matching(samples, "sentinel_notifications_total", &["result=\"held_back\""]) >= 1.0
    })
    .await;
    for message in receiver.taken() {
        let event = told(&message);
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        assert!(!kind.ends_with("failed"), "{kind} of a payment that was made");
        if kind == "payment_intent.succeeded" {
            assert_eq!(event["data"]["object"]["id"], id.as_str());
        }
        // Adyen's own words are for nobody who speaks Stripe.
        assert_eq!(event["notificationItems"], Value::Null);
    }
}
