//! What comes after a payment that was taken elsewhere: capture, void, refund, look, list; all reach the owner.

use sentinel::sandbox::NativeError;
use sentinel::sandbox::fault::{Fault, Match, Rule, When};

use crate::support::shop::{Setup, Shop, parsed};

/// Stripe is down; whoever comes next takes everything.
async fn shop(next: &'static str) -> Shop {
    let shop = Shop::with(Setup {
        stripe: next,
        ..Setup::default()
    })
    .await;
    shop.down("stripe").await;
    shop
}

async fn hold_capture_refund(next: &'static str, owner: &str, asynchronous: bool) {
    let shop = shop(next).await;
    let held = shop.hold("hold", "order-1").await;
    assert_eq!(held.status(), 200, "{}", held.text());
    let intent = parsed(&held);
    assert_eq!(intent["status"], "requires_capture");
    assert_eq!(intent["amount_capturable"], 1999);
    let id = intent["id"].as_str().unwrap().to_owned();
    assert_eq!(held.header("sentinel-gateway"), Some(owner));

    let captured = shop
        .stripe_post(
            &format!("/v1/payment_intents/{id}/capture"),
            "capture",
            "amount_to_capture=1500",
        )
        .await;
    assert_eq!(captured.status(), 200, "{}", captured.text());
    let expected = if asynchronous { "processing" } else { "succeeded" };
    assert_eq!(parsed(&captured)["status"], expected, "{}", captured.text());
    // The same key once more: no second capture.
    let again = shop
        .stripe_post(
            &format!("/v1/payment_intents/{id}/capture"),
            "capture",
            "amount_to_capture=1500",
        )
        .await;
    assert_eq!(again.status(), 200, "{}", again.text());
    let audit = shop.audit().await;
    let position = audit.positions.iter().find(|p| p.gateway == owner).unwrap();
    assert_eq!((position.captured, position.refunded), (1500, 0), "{audit:#?}");
    if asynchronous {
        return;
    }
    let refunded = shop
        .stripe_post(
            "/v1/refunds",
            "refund",
            &format!("payment_intent={id}&amount=500&reason=requested_by_customer&metadata[why]=late"),
        )
        .await;
    assert_eq!(refunded.status(), 200, "{}", refunded.text());
    let refund = parsed(&refunded);
    assert_eq!(refund["amount"], 500);
    assert_eq!(refund["status"], "succeeded", "{}", refunded.text());
    assert_eq!(refund["metadata"]["why"], "late");
    let refund_id = refund["id"].as_str().unwrap().to_owned();
    assert!(refund_id.starts_with("re_"));
    let shown = shop.stripe_get(&format!("/v1/refunds/{refund_id}")).await;
    assert_eq!(shown.status(), 200, "{}", shown.text());
    assert_eq!(parsed(&shown)["id"], refund_id.as_str());
    let rest = shop
        .stripe_post("/v1/refunds", "rest", &format!("payment_intent={id}"))
        .await;
    assert_eq!(parsed(&rest)["amount"], 1000, "{}", rest.text());
    let more = shop
        .stripe_post("/v1/refunds", "more", &format!("payment_intent={id}"))
        .await;
    assert_eq!(more.status(), 400, "{}", more.text());
    let listed = parsed(&shop.stripe_get(&format!("/v1/refunds?payment_intent={id}")).await);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(2), "{listed}");
    let shown = parsed(
        &shop
            .stripe_get(&format!("/v1/payment_intents/{id}?expand[]=latest_charge"))
            .await,
    );
    assert_eq!(shown["id"], id.as_str());
    assert_eq!(shown["amount_received"], 1500, "{shown}");
    assert_eq!(shown["latest_charge"]["amount_refunded"], 1500, "{shown}");
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    let position = audit.positions.iter().find(|p| p.gateway == owner).unwrap();
    assert_eq!((position.captured, position.refunded), (1500, 1500), "{audit:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_taken_at_paypal_is_captured_and_refunded_there() {
    hold_capture_refund("stripe, paypal", "paypal", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_taken_at_adyen_is_captured_there_and_said_to_be_under_way() {
    hold_capture_refund("stripe, adyen", "adyen", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_taken_elsewhere_is_voided_there() {
    for (next, owner) in [("stripe, paypal", "paypal"), ("stripe, adyen", "adyen")] {
        let shop = shop(next).await;
        let held = parsed(&shop.hold("hold", "order-1").await);
        let id = held["id"].as_str().unwrap().to_owned();
        let voided = shop
            .stripe_post(&format!("/v1/payment_intents/{id}/cancel"), "void", "")
            .await;
        assert_eq!(voided.status(), 200, "{}", voided.text());
        assert_eq!(parsed(&voided)["status"], "canceled", "{}", voided.text());
        let audit = shop.audit().await;
        let position = audit.positions.iter().find(|p| p.gateway == owner).unwrap();
        assert!(!position.live(), "{audit:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_own_gateway_has_is_forwarded_untouched() {
    let shop = Shop::open().await;
    let held = parsed(&shop.hold("hold", "order-1").await);
    let id = held["id"].as_str().unwrap().to_owned();
    let captured = shop
        .stripe_post(&format!("/v1/payment_intents/{id}/capture"), "capture", "")
        .await;
    assert_eq!(parsed(&captured)["status"], "succeeded", "{}", captured.text());
    let refunded = shop
        .stripe_post("/v1/refunds", "refund", &format!("payment_intent={id}&amount=500"))
        .await;
    assert_eq!(parsed(&refunded)["status"], "succeeded", "{}", refunded.text());
    // An id that nobody here knows is the gateway's to judge.
    let unknown = shop.stripe_get("/v1/payment_intents/pi_unknown").await;
    assert_eq!(unknown.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_has_no_time_now_has_not_refused() {
    let shop = shop("stripe, adyen").await;
    let held = shop.hold("hold", "order-1").await;
    let id = parsed(&held)["id"].as_str().unwrap().to_owned();
    shop.gateway("adyen").fault(Rule::once(
        Match::default(),
        Fault::Native {
            error: NativeError::Unavailable,
            when: When::Before,
            retry_after: None,
            stored: false,
        },
    ));
    let capture = || async {
        let path = format!("/v1/payment_intents/{id}/capture");
        shop.stripe_post(&path, "capture", "amount_to_capture=1500").await
    };
    let busy = capture().await;
    assert_eq!(busy.status(), 503, "{}", busy.text());
    assert_eq!(busy.header("sentinel-outcome"), Some("not_sent"));
    let done = capture().await;
    assert_eq!(done.status(), 200, "{}", done.text());
    let audit = shop.audit().await;
    let position = audit.positions.iter().find(|p| p.gateway == "adyen").unwrap();
    assert_eq!(position.captured, 1500, "{audit:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_ups_reach_the_owner_after_a_crash() {
    let shop = shop("stripe, paypal").await;
    let held = parsed(&shop.hold("hold", "order-1").await);
    let id = held["id"].as_str().unwrap().to_owned();
    let shop = shop.crash();
    let captured = shop
        .stripe_post(&format!("/v1/payment_intents/{id}/capture"), "capture", "")
        .await;
    assert_eq!(parsed(&captured)["status"], "succeeded", "{}", captured.text());
    let audit = shop.audit().await;
    assert_eq!(audit.positions[0].captured, 1999, "{audit:#?}");
}
