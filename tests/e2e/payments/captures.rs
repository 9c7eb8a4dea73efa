//! One hold, taken in several parts: where the application's API and the gateway that has the hold both know that, and
//! nowhere else. The sum is never more than was held, every part has its own key and its own record.

use sentinel::sandbox::NativeError;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use serde_json::{Value, json};

use crate::support::patience::until;
use crate::support::shop::{Setup, Shop, parsed};
use crate::support::wire::Message;

const SEVERAL: &str = ", several_captures: true";

/// A shop whose own gateway of this name is down.
async fn away(setup: Setup, name: &str) -> Shop {
    let shop = Shop::with(setup).await;
    shop.down(name).await;
    shop
}

/// A hold of 19.99 of Stripe's application, at the gateway that comes next: the intent's path.
async fn held(shop: &Shop, owner: &str) -> String {
    let held = shop.hold("hold", "order-1").await;
    assert_eq!(held.header("sentinel-gateway"), Some(owner), "{}", held.text());
    format!("/v1/payment_intents/{}", parsed(&held)["id"].as_str().unwrap())
}

/// Captures a part, and keeps the rest.
async fn part(shop: &Shop, intent: &str, key: &str, amount: i64) -> Message {
    let form = format!("amount_to_capture={amount}&final_capture=false");
    shop.stripe_post(&format!("{intent}/capture"), key, &form).await
}

/// Held, captured and refunded at the owner.
async fn books(shop: &Shop, owner: &str) -> (i64, i64, i64) {
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    let position = audit.positions.iter().find(|position| position.gateway == owner);
    let position = position.expect("a position");
    assert!(audit.live("order-1").len() <= 1, "{audit:#?}");
    (position.held, position.captured, position.refunded)
}

fn told(answer: &Message) -> (Value, Value, Value) {
    let intent = parsed(answer);
    let of = |name: &str| intent[name].clone();
    (of("status"), of("amount_received"), of("amount_capturable"))
}

#[tokio::test(flavor = "multi_thread")]
async fn stripes_application_captures_a_hold_at_paypal_in_parts_and_refunds_them() {
    let shop = away(
        Setup {
            stripe: "stripe, paypal",
            ..Setup::default()
        },
        "stripe",
    )
    .await;
    let intent = held(&shop, "paypal").await;
    let first = part(&shop, &intent, "a", 500).await;
    assert_eq!(
        told(&first),
        (json!("requires_capture"), json!(500), json!(1499)),
        "{}",
        first.text()
    );
    assert_eq!(
        told(&part(&shop, &intent, "a", 500).await),
        told(&first),
        "once under one key"
    );
    let more = part(&shop, &intent, "b", 1500).await;
    assert_eq!(parsed(&more)["error"]["code"], "amount_too_large", "{}", more.text());
    assert_eq!(books(&shop, "paypal").await, (1499, 500, 0));

    // The answer to the second is lost, and so is the process: the same key finds it.
    shop.gateway("paypal").fault(Rule::once(
        Match {
            contains: Some("7.00".to_owned()),
            ..Match::default()
        },
        Fault::CutAnswer {
            byte: 0,
            cut: Cut::Rst,
            when: When::After,
        },
    ));
    let lost = part(&shop, &intent, "c", 700).await;
    assert_eq!(lost.header("sentinel-outcome"), Some("unknown"), "{}", lost.text());
    // What is in doubt counts as taken.
    let more = part(&shop, &intent, "d", 800).await;
    assert_eq!(parsed(&more)["error"]["code"], "amount_too_large", "{}", more.text());
    let shop = shop.crash();
    let second = until("the second capture", async || {
        Some(part(&shop, &intent, "c", 700).await).filter(|answer| answer.status() == 200)
    })
    .await;
    assert_eq!(
        told(&second),
        (json!("requires_capture"), json!(1200), json!(799)),
        "{}",
        second.text()
    );
    assert_eq!(books(&shop, "paypal").await, (799, 1200, 0));

    // At PayPal a refund is of one capture.
    let refund = async |key: &str, amount: i64| {
        let id = intent.rsplit('/').next().unwrap();
        let form = format!("payment_intent={id}&amount={amount}");
        shop.stripe_post("/v1/refunds", key, &form).await
    };
    let both = refund("both", 1200).await;
    assert_eq!(
        parsed(&both)["error"]["code"],
        "operation_not_supported",
        "{}",
        both.text()
    );
    for (key, amount) in [("r1", 700), ("r2", 300), ("r3", 200)] {
        let refunded = refund(key, amount).await;
        assert_eq!(parsed(&refunded)["status"], "succeeded", "{key}: {}", refunded.text());
        assert_eq!(
            parsed(&refund(key, amount).await)["id"],
            parsed(&refunded)["id"],
            "{key}"
        );
    }
    let more = refund("r4", 1).await;
    assert_eq!(parsed(&more)["error"]["code"], "amount_too_large", "{}", more.text());
    assert_eq!(books(&shop, "paypal").await, (799, 1200, 1200));

    let last = shop.stripe_post(&format!("{intent}/capture"), "last", "").await;
    assert_eq!(
        told(&last),
        (json!("succeeded"), json!(1999), json!(0)),
        "{}",
        last.text()
    );
    assert_eq!(books(&shop, "paypal").await, (0, 1999, 1200));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adyen_account_with_several_captures_takes_the_parts_of_stripes_and_of_its_own_applications() {
    let shop = away(
        Setup {
            stripe: "stripe, adyen",
            adyen_account: SEVERAL,
            ..Setup::default()
        },
        "stripe",
    )
    .await;
    shop.gateway("adyen").set("multiple_captures", "true").unwrap();
    shop.notifies("adyen");
    let intent = held(&shop, "adyen").await;
    for (key, amount, taken) in [("a", 500, 500), ("b", 700, 1200)] {
        let asked = part(&shop, &intent, key, amount).await;
        assert_eq!(asked.status(), 200, "{}", asked.text());
        until("Adyen says that it captured", async || {
            let shown = told(&shop.stripe_get(&intent).await);
            (shown == (json!("requires_capture"), json!(taken), json!(1999 - taken))).then_some(())
        })
        .await;
    }
    assert_eq!(books(&shop, "adyen").await, (799, 1200, 0));

    // Adyen's application does not say it: its account's setting does.
    let shop = away(
        Setup {
            adyen: "adyen, paypal",
            adyen_account: SEVERAL,
            ..Setup::default()
        },
        "adyen",
    )
    .await;
    let amount = |value: i64| json!({"currency": "EUR", "value": value});
    let hold = json!({"merchantAccount": "AcmeECOM", "reference": "order-1", "amount": amount(1999),
        "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415698462516992"},
        "shopperReference": "shopper-1", "shopperInteraction": "ContAuth",
        "recurringProcessingModel": "UnscheduledCardOnFile", "returnUrl": "https://shop.example",
        "additionalData": {"manualCapture": "true"}});
    let held = shop.adyen_post("/v71/payments", "hold", &hold).await;
    assert_eq!(held.header("sentinel-gateway"), Some("paypal"), "{}", held.text());
    let path = format!(
        "/v71/payments/{}/captures",
        parsed(&held)["pspReference"].as_str().unwrap()
    );
    let mut references = Vec::new();
    for (key, value) in [("a", 500), ("b", 700)] {
        let body = json!({"merchantAccount": "AcmeECOM", "amount": amount(value)});
        let captured = shop.adyen_post(&path, key, &body).await;
        assert_eq!(captured.status(), 201, "{}", captured.text());
        references.push(parsed(&captured)["pspReference"].clone());
    }
    assert_ne!(references[0], references[1], "each capture has a reference of its own");
    assert_eq!(books(&shop, "paypal").await, (799, 1200, 0));
}

/// PayPal gives tokens, and takes no orders.
fn no_orders(shop: &Shop) {
    let fault = Fault::Native {
        error: NativeError::RateLimit,
        when: When::Before,
        retry_after: None,
        stored: false,
    };
    shop.gateway("paypal")
        .fault(Rule::always(Match::path("POST", "/v2/checkout/orders"), fault));
}

/// A request of PayPal's application.
async fn paypal(shop: &Shop, method: &str, path: &str, key: &str, body: &Value) -> Message {
    let token = shop.paypal_token().await;
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    shop.paypal_send(method, path, &token, key, &body).await
}

/// A hold of PayPal's application, at the gateway that comes next: the order's id and the authorisation's path.
async fn authorised(shop: &Shop, owner: &str) -> (String, String) {
    let order = json!({"intent": "AUTHORIZE",
        "purchase_units": [{"invoice_id": "order-1", "amount": {"currency_code": "EUR", "value": "19.99"}}],
        "payment_source": {"card": {"vault_id": "8kk845"}}});
    let held = paypal(shop, "POST", "/v2/checkout/orders", "hold", &order).await;
    assert_eq!(held.header("sentinel-gateway"), Some(owner), "{}", held.text());
    let held = parsed(&held);
    let authorization = &held["purchase_units"][0]["payments"]["authorizations"][0]["id"];
    (
        held["id"].as_str().unwrap().to_owned(),
        format!("/v2/payments/authorizations/{}", authorization.as_str().unwrap()),
    )
}

fn euros(value: &str) -> Value {
    json!({"currency_code": "EUR", "value": value})
}

/// A hold of PayPal's application at Adyen, of which 5.00 and 7.00 were captured: the order's id, and the captures' paths.
async fn in_parts() -> (Shop, String, [String; 2]) {
    let shop = Shop::with(Setup {
        paypal: "paypal, adyen",
        adyen_account: SEVERAL,
        ..Setup::default()
    })
    .await;
    no_orders(&shop);
    shop.gateway("adyen").set("multiple_captures", "true").unwrap();
    shop.notifies("adyen");
    let (order, authorization) = authorised(&shop, "adyen").await;
    let mut captures = Vec::new();
    for (key, value) in [("a", "5.00"), ("b", "7.00")] {
        let body = json!({"amount": euros(value), "final_capture": false});
        let captured = paypal(&shop, "POST", &format!("{authorization}/capture"), key, &body).await;
        assert_eq!(captured.status(), 201, "{}", captured.text());
        let path = format!("/v2/payments/captures/{}", parsed(&captured)["id"].as_str().unwrap());
        let shown = becomes(&shop, &path, "COMPLETED").await;
        assert_eq!(
            (&shown["id"], &shown["amount"]),
            (&parsed(&captured)["id"], &euros(value))
        );
        assert_eq!(shown["final_capture"], false);
        captures.push(path);
    }
    (shop, order, captures.try_into().expect("two captures"))
}

/// Reads a capture until its gateway's webhook has told of this.
async fn becomes(shop: &Shop, capture: &str, status: &str) -> Value {
    until(&format!("{capture} becomes {status}"), async || {
        let shown = parsed(&paypal(shop, "GET", capture, "", &Value::Null).await);
        (shown["status"] == status).then_some(shown)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn paypals_application_finds_each_capture_by_its_own_id() {
    let (shop, order, captures) = in_parts().await;
    assert_ne!(captures[0], captures[1]);
    let shown = parsed(&paypal(&shop, "GET", &format!("/v2/checkout/orders/{order}"), "", &Value::Null).await);
    let payments = &shown["purchase_units"][0]["payments"];
    assert_eq!(
        payments["authorizations"][0]["status"], "PARTIALLY_CAPTURED",
        "{payments:#}"
    );
    assert_eq!(payments["captures"].as_array().map(Vec::len), Some(2), "{payments:#}");
    assert_eq!(books(&shop, "adyen").await, (799, 1200, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_of_one_of_paypals_captures_gives_back_of_that_one_alone() {
    let (shop, _, [five, seven]) = in_parts().await;
    let refund = async |capture: &str, key: &str, body: &Value| {
        paypal(&shop, "POST", &format!("{capture}/refund"), key, body).await
    };
    let all = json!({});
    let more = refund(&five, "more", &json!({"amount": euros("5.01")})).await;
    assert_eq!(more.status(), 422, "more than was captured by it: {}", more.text());
    assert_eq!(books(&shop, "adyen").await, (799, 1200, 0));

    let part = refund(&seven, "part", &json!({"amount": euros("2.00")})).await;
    assert_eq!(parsed(&part)["amount"], euros("2.00"), "{}", part.text());
    let up = |refund: &Message| {
        parsed(refund)["links"][1]["href"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert!(up(&part).ends_with(&seven), "{}", part.text());
    becomes(&shop, &seven, "PARTIALLY_REFUNDED").await;
    becomes(&shop, &five, "COMPLETED").await;

    // Without an amount it is what is left of this capture, not of the payment.
    let whole = refund(&five, "whole", &all).await;
    assert_eq!(parsed(&whole)["amount"], euros("5.00"), "{}", whole.text());
    assert!(up(&whole).ends_with(&five), "{}", whole.text());
    let again = refund(&five, "whole", &all).await;
    assert_eq!(parsed(&again)["id"], parsed(&whole)["id"], "once under one key");
    let twice = refund(&five, "twice", &all).await;
    assert_eq!(twice.status(), 422, "nothing is left of it: {}", twice.text());
    becomes(&shop, &five, "REFUNDED").await;
    becomes(&shop, &seven, "PARTIALLY_REFUNDED").await;
    assert_eq!(books(&shop, "adyen").await, (799, 1200, 700));

    // A crash forgets none of it.
    let shop = shop.crash();
    let refund = async |capture: &str, key: &str, body: &Value| {
        paypal(&shop, "POST", &format!("{capture}/refund"), key, body).await
    };
    let more = refund(&seven, "too much", &json!({"amount": euros("5.01")})).await;
    assert_eq!(more.status(), 422, "more than is left of it: {}", more.text());
    let rest = refund(&seven, "rest", &all).await;
    assert_eq!(parsed(&rest)["amount"], euros("5.00"), "{}", rest.text());
    becomes(&shop, &seven, "REFUNDED").await;
    assert_eq!(books(&shop, "adyen").await, (799, 1200, 1200));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_paypals_application_captured_elsewhere_is_refunded_by_the_captures_id() {
    let shop = Shop::with(Setup {
        paypal: "paypal, stripe",
        ..Setup::default()
    })
    .await;
    no_orders(&shop);
    let (_, authorization) = authorised(&shop, "stripe").await;
    let captured = paypal(
        &shop,
        "POST",
        &format!("{authorization}/capture"),
        "b",
        &json!({"amount": euros("15.00")}),
    )
    .await;
    assert_eq!(parsed(&captured)["status"], "COMPLETED", "{}", captured.text());
    let capture = format!("/v2/payments/captures/{}", parsed(&captured)["id"].as_str().unwrap());
    let shown = paypal(&shop, "GET", &capture, "", &Value::Null).await;
    assert_eq!(parsed(&shown)["amount"], euros("15.00"), "{}", shown.text());
    let refunded = paypal(
        &shop,
        "POST",
        &format!("{capture}/refund"),
        "c",
        &json!({"amount": euros("5.00")}),
    )
    .await;
    assert_eq!(parsed(&refunded)["status"], "COMPLETED", "{}", refunded.text());
    let shown = paypal(&shop, "GET", &capture, "", &Value::Null).await;
    assert_eq!(parsed(&shown)["status"], "PARTIALLY_REFUNDED", "{}", shown.text());
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    let position = audit
        .positions
        .iter()
        .find(|position| position.gateway == "stripe")
        .unwrap();
    assert_eq!((position.captured, position.refunded), (1500, 500), "{audit:#?}");
}
