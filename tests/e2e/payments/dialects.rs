//! Every dialect as the application's, every gateway as the one that takes the payment.

use serde_json::json;

use crate::support::shop::{Setup, Shop, parsed};

/// A sale in Adyen's dialect.
fn adyen_sale(order: &str) -> serde_json::Value {
    json!({
        "amount": {"currency": "EUR", "value": 1999},
        "reference": order,
        "merchantAccount": "AcmeECOM",
        "returnUrl": "https://shop.example/",
        "shopperReference": "shopper-1",
        "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415698462516992"},
        "captureDelayHours": 0,
    })
}

/// A sale in PayPal's dialect.
fn paypal_sale(order: &str) -> String {
    json!({
        "intent": "CAPTURE",
        "purchase_units": [{
            "amount": {"currency_code": "EUR", "value": "19.99"},
            "invoice_id": order,
        }],
        "payment_source": {"card": {"vault_id": "8kk845"}},
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn adyens_application_is_served_by_each_of_the_others() {
    for (gateways, owner) in [("adyen, stripe", "stripe"), ("adyen, paypal", "paypal")] {
        let shop = Shop::with(Setup {
            adyen: gateways,
            ..Setup::default()
        })
        .await;
        let own = shop.adyen_post("/v71/payments", "key-0", &adyen_sale("order-0")).await;
        assert_eq!(own.status(), 200, "{}", own.text());
        assert_eq!(parsed(&own)["resultCode"], "Authorised");
        assert_eq!(own.header("sentinel-failover"), Some("false"));
        shop.down("adyen").await;
        let answer = shop.adyen_post("/v71/payments", "key-1", &adyen_sale("order-1")).await;
        assert_eq!(answer.status(), 200, "{owner}: {}", answer.text());
        let body = parsed(&answer);
        assert_eq!(body["resultCode"], "Authorised", "{owner}: {body}");
        assert_eq!(body["merchantReference"], "order-1");
        assert_eq!(body["amount"]["value"], 1999);
        assert_eq!(answer.header("sentinel-gateway"), Some(owner));
        let audit = shop.audit().await;
        assert!(audit.clean(), "{audit:#?}");
        let psp = body["pspReference"].as_str().unwrap();
        let refund = json!({
            "merchantAccount": "AcmeECOM",
            "amount": {"currency": "EUR", "value": 500},
            "reference": "refund-1",
        });
        let refunded = shop
            .adyen_post(&format!("/v71/payments/{psp}/refunds"), "key-2", &refund)
            .await;
        assert_eq!(refunded.status(), 201, "{owner}: {}", refunded.text());
        assert_eq!(parsed(&refunded)["status"], "received");
        let audit = shop.audit().await;
        let position = audit.positions.iter().find(|p| p.gateway == owner).unwrap();
        assert_eq!((position.captured, position.refunded), (1999, 500), "{audit:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paypals_application_is_served_by_each_of_the_others() {
    for (gateways, owner) in [("paypal, stripe", "stripe"), ("paypal, adyen", "adyen")] {
        let shop = Shop::with(Setup {
            paypal: gateways,
            ..Setup::default()
        })
        .await;
        let token = shop.paypal_token().await;
        let own = shop
            .paypal_send("POST", "/v2/checkout/orders", &token, "key-0", &paypal_sale("order-0"))
            .await;
        assert_eq!(own.status(), 201, "{}", own.text());
        assert_eq!(parsed(&own)["status"], "COMPLETED");
        assert_eq!(own.header("sentinel-failover"), Some("false"));
        shop.down("paypal").await;
        let answer = shop
            .paypal_send("POST", "/v2/checkout/orders", &token, "key-1", &paypal_sale("order-1"))
            .await;
        assert_eq!(answer.status(), 201, "{owner}: {}", answer.text());
        let body = parsed(&answer);
        assert_eq!(body["status"], "COMPLETED", "{owner}: {body}");
        let capture = &body["purchase_units"][0]["payments"]["captures"][0];
        assert_eq!(capture["status"], "COMPLETED", "{body}");
        assert_eq!(capture["amount"]["value"], "19.99");
        assert_eq!(answer.header("sentinel-gateway"), Some(owner));
        let id = capture["id"].as_str().unwrap().to_owned();
        let refund = json!({"amount": {"currency_code": "EUR", "value": "5.00"}}).to_string();
        let refunded = shop
            .paypal_send(
                "POST",
                &format!("/v2/payments/captures/{id}/refund"),
                &token,
                "key-2",
                &refund,
            )
            .await;
        assert_eq!(refunded.status(), 201, "{owner}: {}", refunded.text());
        let shown = shop
            .paypal_send(
                "GET",
                &format!("/v2/checkout/orders/{}", body["id"].as_str().unwrap()),
                &token,
                "",
                "",
            )
            .await;
        assert_eq!(shown.status(), 200, "{owner}: {}", shown.text());
        let audit = shop.audit().await;
        assert!(audit.clean(), "{audit:#?}");
        let position = audit.positions.iter().find(|p| p.gateway == owner).unwrap();
        assert_eq!((position.captured, position.refunded), (1999, 500), "{audit:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_paypal_is_down_its_application_gets_a_token_and_can_pay() {
    let shop = Shop::with(Setup {
        breaker: "consecutive: 1, open: 60s",
        ..Setup::default()
    })
    .await;
    let token = shop.paypal_token().await;
    shop.down("paypal").await;
    // The first payment opens the breaker; from then on tokens are minted.
    let first = shop
        .paypal_send("POST", "/v2/checkout/orders", &token, "key-0", &paypal_sale("order-0"))
        .await;
    assert_eq!(first.status(), 201, "{}", first.text());
    let minted = shop.paypal_token().await;
    assert!(minted.contains("A21SNT."), "{minted}");
    let answer = shop
        .paypal_send("POST", "/v2/checkout/orders", &minted, "key-1", &paypal_sale("order-1"))
        .await;
    assert_eq!(answer.status(), 201, "{}", answer.text());
    assert_eq!(answer.header("sentinel-failover"), Some("true"));
    assert!(shop.audit().await.clean());
}
