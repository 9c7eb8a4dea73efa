//! What is not concluded from what a gateway says: money that is held is not taken, a cancellation by an order's name is
//! not one of this payment, and a test key is not a live one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sentinel::sandbox::NativeError;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use serde_json::{Value, json};

use crate::support::patience::until;
use crate::support::receiver::Receiver;
use crate::support::shop::{STRIPE_TOKEN, Setup, Shop, parsed, stripe_form, webhook_secret};
use crate::support::wire::{Message, once};

fn down(shop: &Shop, name: &str) {
    shop.gateway(name)
        .fault(Rule::always(Match::default(), Fault::Refuse { ms: None }));
}

/// The connection breaks once the request was read whole.
fn lost(when: When) -> Fault {
    Fault::CutAnswer {
        byte: 0,
        cut: Cut::Rst,
        when,
    }
}

/// Takes nothing any more, and says so.
fn deaf(shop: &Shop, name: &str) {
    shop.gateway(name).fault(Rule::always(
        Match::default(),
        Fault::Native {
            error: NativeError::Unavailable,
            when: When::Before,
            retry_after: None,
            stored: false,
        },
    ));
}

/// A sale over a mandate, in Stripe's dialect.
async fn mandate(shop: &Shop, key: &str) -> Message {
    let form = format!(
        "amount=50000&currency=inr&confirm=true&off_session=true&payment_method={STRIPE_TOKEN}&metadata[order_id]=order-1\
         &payment_method_types[0]=card&receipt_email=a@example.com&shipping[name]=A&shipping[phone]=9000090000\
         &shipping[address][line1]=1%20Street"
    );
    shop.stripe_post("/v1/payment_intents", key, &form).await
}

/// One of Razorpay's events, as it posts them.
async fn razorpay_tells(shop: &Shop, event: &str, payment: &Value) -> Message {
    let body = json!({"entity": "event", "account_id": "acc_1", "event": event, "contains": ["payment"],
        "payload": {"payment": {"entity": payment}}, "created_at": 1_795_000_000})
    .to_string();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(webhook_secret("razorpay").as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let signed: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let bytes = format!(
        "POST /razorpay HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Razorpay-Signature: {signed}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    once(shop.webhooks, bytes).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_that_is_authorised_and_may_yet_be_returned_is_not_told_as_paid() {
    let receiver = Receiver::start().await;
    let shop = Shop::with(Setup {
        stripe: "stripe, razorpay",
        notify: Some(receiver.url()),
        ..Setup::default()
    })
    .await;
    down(&shop, "stripe");
    let charge = Match::path("POST", "/v1/payments/create/recurring");
    shop.gateway("razorpay").fault(Rule::once(charge, lost(When::Before)));
    let unknown = mandate(&shop, "key-1").await;
    let payment = unknown.header("sentinel-payment").unwrap().to_owned();
    assert!(
        unknown
            .header("sentinel-outcome")
            .unwrap_or_default()
            .starts_with("unknown"),
        "{}",
        unknown.text()
    );
    let mut entity = json!({"id": "pay_G3P9vcIhRs3NV4", "entity": "payment", "amount": 50_000, "currency": "INR",
        "status": "authorized", "captured": false, "order_id": "order_GjCr5oKh4AVC51", "amount_refunded": 0,
        "refund_status": null, "notes": {"sentinel_payment": payment}});
    let told = razorpay_tells(&shop, "payment.authorized", &entity).await;
    assert_eq!(told.status(), 200, "{}", told.text());
    deaf(&shop, "razorpay");
    let asked = mandate(&shop, "key-1").await;
    assert!(
        asked
            .header("sentinel-outcome")
            .unwrap_or_default()
            .starts_with("unknown"),
        "held, and not taken: {}\n{}",
        asked.text(),
        shop.timeline(&payment)
    );
    // The bank's word came late: Razorpay captured nothing and gave the hold back.
    entity["status"] = "refunded".into();
    let told = razorpay_tells(&shop, "payment.captured", &entity).await;
    assert_eq!(told.status(), 200, "{}", told.text());
    until("it is told that nothing was taken", async || {
        let asked = mandate(&shop, "key-1").await;
        (asked.header("sentinel-outcome") == Some("not_executed")).then_some(())
    })
    .await;
}

/// A hold in Adyen's dialect.
async fn hold(shop: &Shop, key: &str) -> Message {
    let body = json!({"amount": {"currency": "EUR", "value": 1999}, "reference": "order-1",
        "merchantAccount": "AcmeECOM", "returnUrl": "https://shop.example/", "shopperReference": "shopper-1",
        "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415698462516992"},
        "additionalData": {"manualCapture": "true"}});
    shop.adyen_post("/v71/payments", key, &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_was_told_is_not_cancelled_for_another_of_the_same_order() {
    let shop = Shop::with(Setup {
        adyen: "adyen, stripe",
        failover: "mode: gated, hedge_after: 200ms",
        ..Setup::default()
    })
    .await;
    let first = hold(&shop, "key-1").await;
    assert_eq!(parsed(&first)["resultCode"], "Authorised", "{}", first.text());
    assert_eq!(first.header("sentinel-gateway"), Some("adyen"));
    // The second of the order never arrives at Adyen, which nobody can know, and is held by another gateway.
    shop.gateway("adyen")
        .fault(Rule::once(Match::path("POST", "/v71/payments"), lost(When::Before)));
    let second = hold(&shop, "key-2").await;
    assert_eq!(parsed(&second)["resultCode"], "Authorised", "{}", second.text());
    assert_eq!(second.header("sentinel-gateway"), Some("stripe"));
    let payment = second.header("sentinel-payment").unwrap().to_owned();
    // A cancellation by the order's name would have ended the first.
    let timeline = shop.timeline(&payment);
    assert!(timeline.contains(r#"{"name":"adyen","fence":"F1""#), "{timeline}");
    let audit = shop.audit().await;
    let held = |name: &str| audit.live("order-1").iter().filter(|one| one.gateway == name).count();
    assert_eq!((held("adyen"), held("stripe")), (1, 1), "{audit:#?}");
    let requests = shop.gateway("adyen").requests();
    assert!(
        requests.iter().all(|request| !request.path.ends_with("/cancels")),
        "{requests:#?}"
    );

    // Where an order has one payment at a time, its name means that one.
    let shop = Shop::with(Setup {
        adyen: "adyen, stripe",
        failover: "mode: gated, hedge_after: 200ms, order_guard: true",
        ..Setup::default()
    })
    .await;
    shop.gateway("adyen")
        .fault(Rule::once(Match::path("POST", "/v71/payments"), lost(When::After)));
    let taken = hold(&shop, "key-1").await;
    assert_eq!(taken.header("sentinel-gateway"), Some("stripe"), "{}", taken.text());
    until("what Adyen holds is released", async || {
        let audit = shop.audit().await;
        let live = audit.live("order-1");
        (live.len() == 1 && live[0].gateway == "stripe").then_some(())
    })
    .await;
}

/// An item of Adyen's about a payment, signed with the company's key.
async fn adyen_tells(shop: &Shop, account: &str, payment: &str) -> Message {
    let psp = "993617895204576J";
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&[0, 255]).unwrap();
    mac.update(format!("{psp}::{account}:{payment}:1999:EUR:AUTHORISATION:true").as_bytes());
    let item = json!({"eventCode": "AUTHORISATION", "success": "true", "pspReference": psp,
        "merchantAccountCode": account, "merchantReference": payment, "amount": {"value": 1999, "currency": "EUR"},
        "additionalData": {"hmacSignature": STANDARD.encode(mac.finalize().into_bytes())}});
    let body = json!({"live": "false", "notificationItems": [{"NotificationRequestItem": item}]}).to_string();
    let bytes = format!(
        "POST /adyen HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    once(shop.webhooks, bytes).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_another_account_under_the_same_key_is_about_another_payment() {
    let shop = Shop::with(Setup {
        stripe: "stripe, adyen",
        ..Setup::default()
    })
    .await;
    down(&shop, "stripe");
    shop.gateway("adyen")
        .fault(Rule::once(Match::path("POST", "/v71/payments"), lost(When::Before)));
    let unknown = shop.pay("key-1", "order-1").await;
    let payment = unknown.header("sentinel-payment").unwrap().to_owned();
    let outcome = unknown.header("sentinel-outcome").unwrap_or_default();
    assert!(outcome.starts_with("unknown"), "{}", unknown.text());
    deaf(&shop, "adyen");
    for (account, decided) in [("AcmePOS", false), ("AcmeECOM", true)] {
        let told = adyen_tells(&shop, account, &payment).await;
        assert_eq!(told.status(), 200, "{account}: {}", told.text());
        let asked = shop.pay("key-1", "order-1").await;
        assert_eq!(asked.status() == 200, decided, "{account}: {}", asked.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_test_key_pays_is_not_taken_with_live_credentials_nor_the_other_way_round() {
    let shop = Shop::open().await;
    down(&shop, "stripe");
    for key in ["sk_live_shop", "rk_live_shop"] {
        let form = stripe_form("order-1", "automatic", STRIPE_TOKEN);
        let bytes = format!(
            "POST /v1/payment_intents HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nIdempotency-Key: {key}\r\nSentinel-Instrument: adyen=shopper-1/8415698462516992\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        let answer = once(shop.stripe, bytes).await;
        assert_ne!(answer.status(), 200, "{}", answer.text());
    }
    assert!(shop.audit().await.positions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_customer_completes_after_a_decline_calls_nobody() {
    let shop = Shop::open().await;
    shop.notifies("stripe");
    let form = stripe_form("order-1", "automatic", "pm_card_visa_chargeDeclinedInsufficientFunds");
    let declined = shop.stripe_post("/v1/payment_intents", "key-1", &form).await;
    assert_eq!(declined.status(), 402, "{}", declined.text());
    let payment = declined.header("sentinel-payment").unwrap().to_owned();
    let intent = parsed(&declined)["error"]["payment_intent"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let before = shop.timeline(&payment);
    // From the browser, with another card: a request that never comes by here.
    let form = format!("payment_method={STRIPE_TOKEN}");
    let bytes = format!(
        "POST /v1/payment_intents/{intent}/confirm HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk_test_shop\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let paid = once(shop.gateway("stripe").address(), bytes).await;
    assert_eq!(parsed(&paid)["status"], "succeeded", "{}", paid.text());
    until("Stripe has told of it", async || {
        let told = shop.gateway("stripe").webhooks();
        let taken = told
            .iter()
            .any(|told| told.delivered && told.body.contains("payment_intent.succeeded"));
        taken.then_some(())
    })
    .await;
    assert_eq!(shop.timeline(&payment), before);
    // Its key still says what became of the request.
    let again = shop
        .stripe_post(
            "/v1/payment_intents",
            "key-1",
            &stripe_form("order-1", "automatic", "pm_card_visa_chargeDeclinedInsufficientFunds"),
        )
        .await;
    assert_eq!(again.status(), 402, "{}", again.text());
}
