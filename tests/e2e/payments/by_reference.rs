//! A payment named by the application's own order reference instead of an id: Adyen's `/cancels`.

use serde_json::{Value, json};

use crate::support::shop::{Setup, Shop, parsed};
use crate::support::wire::Message;

/// A hold in Adyen's dialect.
fn hold(order: &str) -> Value {
    json!({
        "amount": {"currency": "EUR", "value": 1999},
        "reference": order,
        "merchantAccount": "AcmeECOM",
        "returnUrl": "https://shop.example/",
        "shopperReference": "shopper-1",
        "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415698462516992"},
        "additionalData": {"manualCapture": "true"},
    })
}

async fn cancel(shop: &Shop, key: &str, order: &str) -> Message {
    let body = json!({"merchantAccount": "AcmeECOM", "paymentReference": order, "reference": "cancel-1"});
    shop.adyen_post("/v71/cancels", key, &body).await
}

async fn shop(gateways: &'static str) -> Shop {
    Shop::with(Setup {
        adyen: gateways,
        ..Setup::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_by_order_reference_reaches_whoever_holds_the_money() {
    for (gateways, owner) in [("adyen, stripe", "stripe"), ("adyen, paypal", "paypal")] {
        let shop = shop(gateways).await;
        shop.down("adyen").await;
        let held = shop.adyen_post("/v71/payments", "hold-1", &hold("order-1")).await;
        assert_eq!(parsed(&held)["resultCode"], "Authorised", "{}", held.text());
        assert_eq!(held.header("sentinel-gateway"), Some(owner));
        // Adyen is back, and would not know the reference.
        shop.up("adyen").await;
        for asked in 0..2 {
            let cancelled = cancel(&shop, "cancel", "order-1").await;
            assert_eq!(cancelled.status(), 201, "{asked}: {}", cancelled.text());
            let body = parsed(&cancelled);
            assert_eq!(body["status"], "received", "{body}");
            assert_eq!(body["paymentReference"], "order-1", "{body}");
            assert_eq!(body["reference"], "cancel-1", "{body}");
            assert!(body.get("paymentPspReference").is_none(), "{body}");
            assert_eq!(cancelled.header("sentinel-gateway"), Some(owner));
        }
        let audit = shop.audit().await;
        assert!(audit.clean() && audit.live("order-1").is_empty(), "{audit:#?}");
        let seen = shop.gateway("adyen").requests();
        assert!(seen.iter().all(|request| request.path != "/v71/cancels"), "{seen:#?}");
    }
}

/// References are not unique: the latest payment that took something is meant, as at Adyen.
#[tokio::test(flavor = "multi_thread")]
async fn of_several_payments_with_one_reference_the_latest_live_one_is_cancelled() {
    let shop = shop("adyen, stripe").await;
    shop.down("adyen").await;
    let first = shop.adyen_post("/v71/payments", "hold-1", &hold("order-1")).await;
    let second = shop.adyen_post("/v71/payments", "hold-2", &hold("order-1")).await;
    for held in [&first, &second] {
        assert_eq!(parsed(held)["resultCode"], "Authorised", "{}", held.text());
    }
    for left in [1, 0] {
        let cancelled = cancel(&shop, &format!("cancel-{left}"), "order-1").await;
        assert_eq!(cancelled.status(), 201, "{}", cancelled.text());
        let payment = if left == 1 { &second } else { &first };
        assert_eq!(
            cancelled.header("sentinel-payment"),
            payment.header("sentinel-payment"),
            "the latest one first"
        );
        let audit = shop.audit().await;
        assert_eq!(audit.live("order-1").len(), left, "{audit:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_own_gateway_has_or_nobody_knows_is_the_own_gateways_to_cancel() {
    let shop = shop("adyen, stripe").await;
    let held = shop.adyen_post("/v71/payments", "hold-1", &hold("order-1")).await;
    assert_eq!(held.header("sentinel-gateway"), Some("adyen"), "{}", held.text());
    for order in ["order-1", "somebody-elses"] {
        let cancelled = cancel(&shop, order, order).await;
        assert_eq!(cancelled.status(), 201, "{}", cancelled.text());
        assert_eq!(parsed(&cancelled)["paymentReference"], order);
        assert_eq!(cancelled.header("sentinel-payment"), None);
    }
    // A payment of Stripe's application has the same order reference, and is none of this one's business.
    let other = shop.pay("key-1", "order-2").await;
    assert_eq!(parsed(&other)["status"], "succeeded", "{}", other.text());
    let forwarded = cancel(&shop, "cancel-2", "order-2").await;
    assert_eq!(forwarded.header("sentinel-payment"), None, "{}", forwarded.text());
    let cancels = shop.gateway("adyen").requests();
    let cancels = cancels.iter().filter(|request| request.path == "/v71/cancels");
    assert_eq!(cancels.count(), 3);
}
