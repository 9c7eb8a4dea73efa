//! What was opened here for a second step that never came: forgotten when its time is over, and never a payment's own.

use serde_json::{Value, json};

use crate::support::metrics::{sum, until};
use crate::support::shop::{STRIPE_TOKEN, Setup, Shop, parsed};
use crate::support::wire::Message;

/// Longer than anything that waits is kept by its payment alone before it is looked at again.
const WHILE: i64 = 2;

/// A shop whose gateway of this name is down, and known to be.
async fn away(setup: Setup, name: &str) -> Shop {
    let shop = Shop::with(Setup {
        breaker: "consecutive: 1, min_calls: 1000, open: 600s, open_max: 600s",
        ..setup
    })
    .await;
    shop.down(name).await;
    shop
}

/// Half a year but a day, and the rest: of two that were opened the one that was not paid is gone.
async fn half_a_year(shop: Shop, name: &str) -> Shop {
    let shop = shop.later(179).later(WHILE);
    until(shop.admin, "the abandoned one is removed", |samples| {
        sum(samples, "sentinel_ledger_swept_total") == 1.0
    })
    .await;
    let shop = shop.later(WHILE).later(WHILE);
    shop.up(name).await;
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_nobody_paid_is_forgotten_after_half_a_year_and_a_paid_one_is_not() {
    let shop = away(
        Setup {
            razorpay: "razorpay, stripe",
            ..Setup::default()
        },
        "razorpay",
    )
    .await;
    let send = async |shop: &Shop, method: &str, path: &str, body: &Value| -> Message {
        shop.razorpay_send(method, path, "", body).await
    };
    let body = |receipt: &str| json!({"amount": 50_000, "currency": "INR", "receipt": receipt});
    // The breaker's first sight of it.
    assert_eq!(send(&shop, "POST", "/v1/orders", &body("r-0")).await.status(), 503);
    let mut orders = Vec::new();
    for receipt in ["r-1", "r-2"] {
        let opened = send(&shop, "POST", "/v1/orders", &body(receipt)).await;
        assert_eq!(opened.status(), 200, "{}", opened.text());
        orders.push(parsed(&opened)["id"].as_str().unwrap().to_owned());
    }
    let charge = json!({"email": "a@example.com", "contact": "9000090000", "amount": 50_000, "currency": "INR",
        "order_id": orders[0], "customer_id": "cust_1Aa00000000001", "token": "token_1Aa00000000001", "recurring": true});
    let paid = send(&shop, "POST", "/v1/payments/create/recurring", &charge).await;
    assert_eq!(paid.status(), 200, "{}", paid.text());

    let shop = half_a_year(shop, "razorpay").await;
    let shown = send(&shop, "GET", &format!("/v1/orders/{}", orders[0]), &Value::Null).await;
    assert_eq!(parsed(&shown)["status"], "paid", "{}", shown.text());
    let gone = send(&shop, "GET", &format!("/v1/orders/{}", orders[1]), &Value::Null).await;
    assert_eq!(gone.status(), 400, "Razorpay knows no such order: {}", gone.text());
    let again = send(&shop, "POST", "/v1/payments/create/recurring", &charge).await;
    assert_eq!(
        parsed(&again)["razorpay_payment_id"],
        parsed(&paid)["razorpay_payment_id"]
    );
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    assert_eq!(audit.positions.len(), 1, "{audit:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_nobody_confirmed_is_forgotten_after_half_a_year_and_a_confirmed_one_is_not() {
    let shop = away(
        Setup {
            stripe: "stripe, adyen",
            ..Setup::default()
        },
        "stripe",
    )
    .await;
    let form = format!("amount=1999&currency=eur&payment_method={STRIPE_TOKEN}&metadata[order_id]=order-1");
    let create = async |shop: &Shop, key: &str| shop.stripe_post("/v1/payment_intents", key, &form).await;
    assert_eq!(create(&shop, "key-0").await.status(), 503);
    let mut intents = Vec::new();
    for key in ["key-1", "key-2"] {
        let made = create(&shop, key).await;
        assert_eq!(made.status(), 200, "{}", made.text());
        intents.push(format!("/v1/payment_intents/{}", parsed(&made)["id"].as_str().unwrap()));
    }
    let confirm = format!("{}/confirm", intents[0]);
    let paid = shop.stripe_post(&confirm, "confirm-1", "off_session=true").await;
    assert_eq!(parsed(&paid)["status"], "succeeded", "{}", paid.text());

    let shop = half_a_year(shop, "stripe").await;
    let shown = shop.stripe_get(&intents[0]).await;
    assert_eq!(parsed(&shown)["status"], "succeeded", "{}", shown.text());
    let gone = shop.stripe_get(&intents[1]).await;
    assert_eq!(gone.status(), 404, "Stripe knows no such intent: {}", gone.text());
    let again = shop.stripe_post(&confirm, "confirm-2", "off_session=true").await;
    assert_eq!(again.text(), paid.text());
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    assert_eq!(audit.live("order-1").len(), 1, "{audit:#?}");
}
