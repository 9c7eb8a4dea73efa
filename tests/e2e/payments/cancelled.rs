//! What gateways tell of as cancelled: a hold that somebody ended by hand is over, and money that was taken and is told of
//! as cancelled is for a person, whichever is told first.

use http::Method;
use sentinel::sandbox::NativeError;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use serde_json::{Value, json};

use super::webhooks::{event, signed};
use crate::support::patience::until;
use crate::support::receiver::{Receiver, told};
use crate::support::shop::{Setup, Shop, parsed, webhook_secret};
use crate::support::wire::once;

/// Something that is done at a gateway by hand, past Sentinel.
async fn by_hand(shop: &Shop, gateway: &str, method: Method, path: &str, authorization: &str, body: &str) -> Value {
    let kind = if body.starts_with('{') {
        "application/json"
    } else {
        "application/x-www-form-urlencoded"
    };
    let bytes = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let done = once(shop.gateway(gateway).address(), bytes).await;
    assert!(
        (200..300).contains(&done.status()),
        "{path}: {} {}",
        done.start,
        done.text()
    );
    serde_json::from_slice(&done.body).unwrap_or_default()
}

/// Cancels the one hold that a gateway has.
async fn cancels(shop: &Shop, gateway: &str) {
    let audit = shop.audit().await;
    let held = audit
        .positions
        .iter()
        .find(|position| position.gateway == gateway && position.held > 0);
    let id = &held.expect("a hold").payment;
    match gateway {
        "adyen" => {
            let body = json!({"merchantAccount": "AcmeECOM"}).to_string();
            let path = format!("/v71/payments/{id}/cancels");
            by_hand(shop, gateway, Method::POST, &path, "X-API-Key: sandbox", &body).await;
        }
        "square" => {
            let path = format!("/v2/payments/{id}/cancel");
            by_hand(
                shop,
                gateway,
                Method::POST,
                &path,
                "Authorization: Bearer sandbox",
                "{}",
            )
            .await;
        }
        "paypal" => {
            let basic = "Authorization: Basic c2FuZGJveDpzYW5kYm94";
            let grant = "grant_type=client_credentials";
            let token = by_hand(shop, gateway, Method::POST, "/v1/oauth2/token", basic, grant).await;
            let bearer = format!(
                "Authorization: Bearer {}",
                token["access_token"].as_str().expect("a token")
            );
            let path = format!("/v2/checkout/orders/{id}");
            let order = by_hand(shop, gateway, Method::GET, &path, &bearer, "").await;
            let hold = &order["purchase_units"][0]["payments"]["authorizations"][0]["id"];
            let path = format!("/v2/payments/authorizations/{}/void", hold.as_str().expect("a hold"));
            by_hand(shop, gateway, Method::POST, &path, &bearer, "{}").await;
        }
        "stripe" => {
            let path = format!("/v1/payment_intents/{id}/cancel");
            let key = "Authorization: Bearer sk_test_hand";
            by_hand(shop, gateway, Method::POST, &path, key, "").await;
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_somebody_cancels_at_its_gateway_is_over_and_the_application_hears_of_it() {
    for (gateways, owner) in [
        ("stripe, adyen", "adyen"),
        ("stripe, square", "square"),
        ("stripe, paypal", "paypal"),
    ] {
        let receiver = Receiver::start().await;
        let shop = Shop::with(Setup {
            stripe: gateways,
            notify: Some(receiver.url()),
            ..Setup::default()
        })
        .await;
        shop.notifies(owner);
        shop.down("stripe").await;
        let held = shop.hold("key-1", "order-1").await;
        assert_eq!(held.header("sentinel-gateway"), Some(owner), "{}", held.text());
        let id = parsed(&held)["id"].as_str().unwrap().to_owned();
        receiver.took(2).await;
        cancels(&shop, owner).await;
        let heard = receiver.took(3).await;
        let last = told(&heard[2]);
        assert_eq!(last["type"], "payment_intent.canceled", "{owner}: {last}");
        assert_eq!(last["data"]["object"]["id"], id.as_str());
        let shown = parsed(&shop.stripe_get(&format!("/v1/payment_intents/{id}")).await);
        assert_eq!(shown["status"], "canceled", "{owner}: {shown}");
        let path = format!("/v1/payment_intents/{id}/capture");
        let refused = shop.stripe_post(&path, "capture", "").await;
        assert_eq!(refused.status(), 400, "{owner}: {}", refused.text());
        let payment = held.header("sentinel-payment").unwrap();
        assert!(!shop.timeline(payment).contains("manual_hold"), "{owner}");
        let audit = shop.audit().await;
        assert!(audit.clean() && audit.live("order-1").is_empty(), "{owner}: {audit:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_at_stripe_that_somebody_cancels_there_is_shown_as_cancelled() {
    let shop = Shop::with(Setup {
        square: "square, stripe",
        ..Setup::default()
    })
    .await;
    shop.notifies("stripe");
    shop.down("square").await;
    let hold = json!({
        "source_id": "ccof:customer-card-id-ok", "customer_id": "CUST1", "idempotency_key": "key-1",
        "amount_money": {"amount": 1999, "currency": "EUR"}, "autocomplete": false, "reference_id": "order-1",
    });
    let held = shop.square_send("POST", "/v2/payments", &hold).await;
    assert_eq!(held.header("sentinel-gateway"), Some("stripe"), "{}", held.text());
    let path = format!("/v2/payments/{}", parsed(&held)["payment"]["id"].as_str().unwrap());
    cancels(&shop, "stripe").await;
    until("it is shown as cancelled", async || {
        let shown = parsed(&shop.square_send("GET", &path, &Value::Null).await);
        (shown["payment"]["status"] == "CANCELED").then_some(())
    })
    .await;
    let payment = held.header("sentinel-payment").unwrap();
    assert!(!shop.timeline(payment).contains("manual_hold"));
}

/// Posts one of Stripe's events about an intent of 19.99 EUR.
async fn tells(shop: &Shop, status: &str, id: &str, metadata: &Value) {
    let received = if status == "succeeded" { 1999 } else { 0 };
    let body = event(
        &format!("payment_intent.{status}"),
        &json!({"id": id, "object": "payment_intent", "amount": 1999, "amount_received": received, "currency": "eur",
            "status": status, "capture_method": "automatic", "livemode": false, "created": 1_795_000_000,
            "metadata": metadata}),
    );
    let signature = signed(webhook_secret("stripe"), 0, &body);
    let bytes = format!(
        "POST /stripe HTTP/1.1\r\nHost: 127.0.0.1\r\nStripe-Signature: {signature}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let told = once(shop.webhooks, bytes).await;
    assert_eq!(told.status(), 200, "{body}");
}

/// The payment is executed at Stripe; nobody hears of it, and nothing is answered there any more.
fn deaf(shop: &Shop) {
    let (byte, cut, when) = (0, Cut::Fin, When::After);
    let first = Match::path("POST", "/v1/payment_intents");
    let stripe = shop.gateway("stripe");
    stripe.fault(Rule::once(first, Fault::CutAnswer { byte, cut, when }));
    let busy = Fault::Native {
        error: NativeError::Unavailable,
        when: When::Before,
        retry_after: None,
        stored: false,
    };
    stripe.fault(Rule::always(Match::default(), busy));
}

const TAKEN: &str = "succeeded";
const CANCELLED: &str = "canceled";

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_told_of_as_taken_and_as_cancelled_is_for_a_person_whichever_is_told_first() {
    for (failover, heard, order) in [
        ("order_guard: true", true, &[TAKEN, CANCELLED][..]),
        ("order_guard: true", false, &[TAKEN, CANCELLED]),
        // Nothing but the order names it at first: what came to nothing for an order may have been an earlier try.
        ("order_guard: true", false, &[CANCELLED, TAKEN, CANCELLED]),
        ("mode: gated, order_guard: true", true, &[TAKEN, CANCELLED]),
        ("mode: gated, order_guard: true", true, &[CANCELLED, TAKEN]),
    ] {
        let shop = Shop::with(Setup {
            stripe: "stripe, adyen",
            certified: true,
            failover,
            ..Setup::default()
        })
        .await;
        if !heard {
            deaf(&shop);
        }
        let answer = shop.pay("key-1", "order-1").await;
        let payment = answer.header("sentinel-payment").unwrap_or_default().to_owned();
        let story = || format!("{failover} {heard} {order:?}\n{}", shop.timeline(&payment));
        assert_eq!(answer.status() == 200, heard, "{}\n{}", answer.text(), story());
        let live: Vec<_> = shop.audit().await.live("order-1").into_iter().cloned().collect();
        assert_eq!(live.len(), 1, "{}", story());
        for (index, status) in order.iter().enumerate() {
            tells(&shop, status, &live[0].payment, &json!({"order_id": "order-1"})).await;
            let last = index + 1 == order.len();
            assert!(last || !story().contains(r#""outcome":"fenced""#), "{}", story());
        }
        assert!(story().contains("manual_hold"), "{}", story());
        assert_eq!(shop.audit().await.live("order-1").len(), 1, "{}", story());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_is_one_that_only_sentinels_own_reference_names() {
    for order in [[TAKEN, CANCELLED], [CANCELLED, TAKEN]] {
        let shop = Shop::with(Setup {
            square: "square, stripe",
            certified: true,
            ..Setup::default()
        })
        .await;
        shop.down("square").await;
        deaf(&shop);
        let sale = json!({
            "source_id": "ccof:customer-card-id-ok", "customer_id": "CUST1", "idempotency_key": "key-1",
            "amount_money": {"amount": 1999, "currency": "EUR"}, "reference_id": "order-1",
        });
        let answer = shop.square_send("POST", "/v2/payments", &sale).await;
        let payment = answer.header("sentinel-payment").unwrap_or_default().to_owned();
        let story = || format!("{order:?}\n{}", shop.timeline(&payment));
        let live: Vec<_> = shop.audit().await.live("order-1").into_iter().cloned().collect();
        assert_eq!(live.len(), 1, "{}\n{}", answer.text(), story());
        for status in order {
            tells(&shop, status, &live[0].payment, &json!({"sentinel_payment": payment})).await;
        }
        assert!(story().contains("manual_hold"), "{}", story());
        assert_eq!(shop.audit().await.live("order-1").len(), 1, "{}", story());
    }
}
