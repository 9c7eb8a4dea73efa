//! Payments that are created first and confirmed later, while the gateway that would create them is away.

use serde_json::Value;

use crate::support::gateway::Gateway;
use crate::support::merchant::{ADYEN_TOKEN, Merchant, adyen_numbered};
use crate::support::sentinel::free_port;
use crate::support::wire::{Message, get, once, post};

const NEW: &str = "amount=1999&currency=eur&payment_method=pm_card_visa&metadata[order_id]=order-9";

fn parsed(answer: &Message) -> Value {
    serde_json::from_str(&answer.text()).unwrap()
}

/// A merchant whose Stripe refuses connections until its breaker is open.
async fn away(merchant: &Merchant) {
    for number in 0..3 {
        let answer = merchant.pay(&format!("before-{number}")).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
}

async fn asked(merchant: &Merchant, path: &str, key: &str, body: &str) -> Message {
    let extra = format!("Idempotency-Key: {key}\r\nSentinel-Instrument: adyen={ADYEN_TOKEN}\r\n");
    once(merchant.listen, post(path, &extra, body)).await
}

async fn create(merchant: &Merchant, key: &str) -> String {
    let made = asked(merchant, "/v1/payment_intents", key, NEW).await;
    assert_eq!(made.status(), 200, "{}", made.text());
    assert_eq!(parsed(&made)["status"], "requires_confirmation");
    parsed(&made)["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_created_while_stripe_is_away_is_confirmed_elsewhere_and_once() {
    let adyen = Gateway::answering(None, adyen_numbered).await;
    let merchant = Merchant::start(free_port(), adyen.address, "");
    away(&merchant).await;
    let id = create(&merchant, "create-1").await;
    // Creating moves nothing, and a repeat is the same intent.
    assert_eq!(create(&merchant, "create-1").await, id);
    assert_eq!(adyen.seen().len(), 3);
    let other = asked(&merchant, "/v1/payment_intents", "create-1", "amount=5&currency=eur").await;
    assert_eq!(other.status(), 400, "{}", other.text());
    let path = format!("/v1/payment_intents/{id}");
    let shown = once(merchant.listen, get(&path, "")).await;
    assert_eq!(parsed(&shown)["status"], "requires_confirmation", "{}", shown.text());
    assert_eq!(parsed(&shown)["latest_charge"], Value::Null);
    let early = asked(&merchant, &format!("{path}/capture"), "capture-1", "").await;
    assert_eq!(early.status(), 400, "{}", early.text());

    let confirm = format!("{path}/confirm");
    let paid = asked(&merchant, &confirm, "confirm-1", "off_session=true").await;
    assert_eq!(paid.status(), 200, "{}", paid.text());
    assert_eq!(
        (&parsed(&paid)["id"], &parsed(&paid)["status"]),
        (&Value::from(id.as_str()), &Value::from("succeeded"))
    );
    assert_eq!(parsed(&paid)["metadata"]["order_id"], "order-9");
    assert_eq!(paid.header("sentinel-gateway"), Some("adyen"));
    assert_eq!(paid.header("sentinel-failover"), Some("true"));
    // Under another key it is still the same intent, and another request cannot pay it a second time.
    let again = asked(&merchant, &confirm, "confirm-2", "off_session=true").await;
    assert_eq!(again.text(), paid.text());
    let changed = asked(&merchant, &confirm, "confirm-3", "payment_method=pm_card_mastercard").await;
    assert_eq!(parsed(&changed)["error"]["code"], "payment_intent_unexpected_state");
    assert_eq!(adyen.seen().len(), 4);
    let shown = once(merchant.listen, get(&path, "")).await;
    assert_eq!(parsed(&shown)["status"], "succeeded", "{}", shown.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cancelled_is_not_confirmed_and_what_was_not_outlives_a_crash() {
    let adyen = Gateway::answering(None, adyen_numbered).await;
    let stripe = free_port();
    let merchant = Merchant::start(stripe, adyen.address, "");
    away(&merchant).await;
    let (kept, dropped) = (create(&merchant, "create-1").await, create(&merchant, "create-2").await);
    let cancelled = asked(
        &merchant,
        &format!("/v1/payment_intents/{dropped}/cancel"),
        "cancel-1",
        "",
    )
    .await;
    assert_eq!(parsed(&cancelled)["status"], "canceled", "{}", cancelled.text());
    let late = asked(
        &merchant,
        &format!("/v1/payment_intents/{dropped}/confirm"),
        "confirm-1",
        "",
    )
    .await;
    assert_eq!(parsed(&late)["error"]["code"], "payment_intent_unexpected_state");
    assert_eq!(adyen.seen().len(), 3);
    let dir = merchant.sentinel.kill();
    let merchant = Merchant::start_in(dir, stripe, adyen.address, "");
    let paid = asked(
        &merchant,
        &format!("/v1/payment_intents/{kept}/confirm"),
        "confirm-2",
        "",
    )
    .await;
    assert_eq!(parsed(&paid)["status"], "succeeded", "{}", paid.text());
    assert_eq!(adyen.seen().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_that_nobody_executed_is_tried_again() {
    let adyen = free_port();
    let merchant = Merchant::start(free_port(), adyen, "");
    for number in 0..3 {
        assert_eq!(merchant.pay(&format!("before-{number}")).await.status(), 503);
    }
    let id = create(&merchant, "create-1").await;
    let confirm = format!("/v1/payment_intents/{id}/confirm");
    let nobody = asked(&merchant, &confirm, "confirm-1", "").await;
    assert_eq!(nobody.status(), 503, "{}", nobody.text());
    let again = asked(&merchant, &confirm, "confirm-1", "").await;
    assert_eq!(again.status(), 503, "{}", again.text());
    assert_eq!(again.header("sentinel-payment"), nobody.header("sentinel-payment"));
    assert_eq!(again.header("idempotent-replayed"), None);
}
