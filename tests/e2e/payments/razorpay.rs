//! Razorpay as the application's gateway and as the one that takes the payment: orders, signatures, and outcomes that come
//! later than their answers.

use hmac::{Hmac, KeyInit, Mac};
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::patience::until;
use crate::support::shop::{STRIPE_TOKEN, Setup, Shop, parsed};
use crate::support::wire::Message;

/// An order, as the application opens it before every payment.
fn order_body(receipt: &str, capture: &str) -> Value {
    json!({"amount": 50_000, "currency": "INR", "receipt": receipt, "payment": {"capture": capture,
        "capture_options": {"automatic_expiry_period": 12, "manual_expiry_period": 7200}}})
}

/// Opens an order for a sale.
async fn order(shop: &Shop, receipt: &str) -> String {
    opened(shop, receipt, "automatic").await
}

async fn opened(shop: &Shop, receipt: &str, capture: &str) -> String {
    let body = order_body(receipt, capture);
    let opened = shop.razorpay_send("POST", "/v1/orders", "", &body).await;
    assert_eq!(opened.status(), 200, "{}", opened.text());
    parsed(&opened)["id"].as_str().unwrap().to_owned()
}

/// Charges a mandate for an order.
async fn charge(shop: &Shop, order: &str) -> Message {
    let body = json!({"email": "a@example.com", "contact": "9000090000", "amount": 50_000, "currency": "INR",
        "order_id": order, "customer_id": "cust_1Aa00000000001", "token": "token_1Aa00000000001", "recurring": true});
    shop.razorpay_send("POST", "/v1/payments/create/recurring", "", &body)
        .await
}

async fn show(shop: &Shop, payment: &str) -> Value {
    let shown = shop
        .razorpay_send("GET", &format!("/v1/payments/{payment}"), "", &Value::Null)
        .await;
    assert_eq!(shown.status(), 200, "{}", shown.text());
    parsed(&shown)
}

/// A merchant-initiated sale or hold of 500 rupees in Stripe's dialect.
async fn stripe_mandate(shop: &Shop, key: &str, order: &str, capture: &str) -> Message {
    stripe_mandate_of(shop, key, order, capture, (50_000, "inr")).await
}

/// The same of another amount.
async fn stripe_mandate_of(
    shop: &Shop,
    key: &str,
    order: &str,
    capture: &str,
    (amount, currency): (i64, &str),
) -> Message {
    let form = format!(
        "amount={amount}&currency={currency}&confirm=true&off_session=true&capture_method={capture}&payment_method={STRIPE_TOKEN}\
         &metadata[order_id]={order}&payment_method_types[0]=card&receipt_email=a@example.com\
         &shipping[name]=A&shipping[phone]=9000090000&shipping[address][line1]=1%20Street"
    );
    shop.stripe_post("/v1/payment_intents", key, &form).await
}

/// Asks with the same key until the payment is decided.
async fn decided(shop: &Shop, key: &str, order: &str, capture: &str) -> Message {
    until("the mandate is charged or declined", async || {
        let answer = stripe_mandate(shop, key, order, capture).await;
        decision(answer)
    })
    .await
}

/// The answer, unless it says that nobody knows yet.
fn decision(answer: Message) -> Option<Message> {
    let outcome = answer.header("sentinel-outcome").unwrap_or_default();
    (!outcome.starts_with("unknown")).then_some(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn razorpays_application_is_served_by_the_others_and_told_under_its_own_signature() {
    for (gateways, owner) in [("razorpay, stripe", "stripe"), ("razorpay, adyen", "adyen")] {
        let shop = Shop::with(Setup {
            razorpay: gateways,
            ..Setup::default()
        })
        .await;
        let own = order(&shop, "r-0").await;
        let begun = charge(&shop, &own).await;
        assert_eq!(begun.status(), 200, "{}", begun.text());
        assert!(shop.audit().await.clean());
        let lost = order(&shop, "r-1").await;
        shop.down("razorpay").await;
        let answer = charge(&shop, &lost).await;
        assert_eq!(answer.status(), 200, "{owner}: {}", answer.text());
        assert_eq!(answer.header("sentinel-gateway"), Some(owner));
        let paid = parsed(&answer);
        let id = paid["razorpay_payment_id"].as_str().unwrap().to_owned();
        assert!(id.starts_with("pay_") && id.len() == 18, "{id}");
        let mut mac = Hmac::<Sha256>::new_from_slice(b"sandbox").unwrap();
        mac.update(format!("{lost}|{id}").as_bytes());
        let signed: String = mac
            .finalize()
            .into_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(paid["razorpay_signature"], signed.as_str(), "{paid}");
        // Razorpay's payments have no key: the order is paid once, whoever asks again.
        let again = charge(&shop, &lost).await;
        assert_eq!(parsed(&again)["razorpay_payment_id"], id.as_str(), "{}", again.text());
        assert_eq!(show(&shop, &id).await["status"], "captured", "{owner}");
        let path = format!("/v1/payments/{id}/refund");
        for _ in 0..2 {
            let refunded = shop
                .razorpay_send("POST", &path, "refund-key-1", &json!({"amount": 20_000}))
                .await;
            assert_eq!(refunded.status(), 200, "{owner}: {}", refunded.text());
            assert_eq!(parsed(&refunded)["entity"], "refund");
        }
        // Razorpay is back and knows nothing of it; the order stays paid, by whatever call it is asked for.
        shop.up("razorpay").await;
        let mut other = json!({"email": "a@example.com", "contact": "9000090000", "amount": 50_000, "currency": "INR",
            "order_id": lost, "customer_id": "cust_1Aa00000000001", "token": "token_1Aa00000000002", "recurring": true});
        for path in ["recurring", "json", "upi"] {
            let path = format!("/v1/payments/create/{path}");
            let refused = shop.razorpay_send("POST", &path, "", &other).await;
            assert_eq!(refused.status(), 409, "{owner} {path}: {}", refused.text());
            other["method"] = "upi".into();
        }
        assert_eq!(parsed(&charge(&shop, &lost).await)["razorpay_payment_id"], id.as_str());
        // An order whose payment is Razorpay's own is Razorpay's to judge.
        other["order_id"] = own.as_str().into();
        let judged = shop
            .razorpay_send("POST", "/v1/payments/create/recurring", "", &other)
            .await;
        assert_eq!(
            parsed(&judged)["error"]["reason"],
            "order_already_paid",
            "{}",
            judged.text()
        );
        let audit = shop.audit().await;
        assert!(audit.clean(), "{audit:#?}");
        let live = audit.live(&lost);
        assert_eq!(live.len(), 1, "{owner}: {audit:#?}");
        assert_eq!(
            (live[0].gateway.as_str(), live[0].captured, live[0].refunded),
            (owner, 50_000, 20_000)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_opened_while_razorpay_is_down_and_paid_elsewhere_also_when_it_is_back() {
    let shop = Shop::with(Setup {
        razorpay: "razorpay, stripe",
        breaker: "consecutive: 1, min_calls: 1000, open: 600s, open_max: 600s",
        ..Setup::default()
    })
    .await;
    shop.down("razorpay").await;
    shop.gateway("razorpay").refusing().await;
    // As long as the breaker is closed an order is Razorpay's to open.
    let body = order_body("r-0", "automatic");
    let refused = shop.razorpay_send("POST", "/v1/orders", "", &body).await;
    assert_eq!(refused.status(), 503, "{}", refused.text());
    let (sale, hold) = (order(&shop, "r-1").await, opened(&shop, "r-2", "manual").await);
    let mut partial = order_body("r-3", "automatic");
    partial["partial_payment"] = true.into();
    let refused = shop.razorpay_send("POST", "/v1/orders", "", &partial).await;
    assert_eq!(refused.status(), 503, "only Razorpay takes parts: {}", refused.text());
    let look = async |shop: &Shop, path: &str| {
        let shown = shop.razorpay_send("GET", path, "", &Value::Null).await;
        assert_eq!(shown.status(), 200, "{path}: {}", shown.text());
        parsed(&shown)
    };
    let shown = look(&shop, &format!("/v1/orders/{sale}")).await;
    assert_eq!(
        (&shown["status"], &shown["receipt"], &shown["attempts"]),
        (&json!("created"), &json!("r-1"), &json!(0))
    );
    let none = look(&shop, &format!("/v1/orders/{sale}/payments")).await;
    assert_eq!(none, json!({"entity": "collection", "count": 0, "items": []}));

    // The orders survive the process, and Razorpay, which is back, never hears of them.
    let shop = shop.crash();
    shop.up("razorpay").await;
    let other = json!({"email": "a@example.com", "contact": "9000090000", "amount": 40_000, "currency": "INR",
        "order_id": sale, "customer_id": "cust_1Aa00000000001", "token": "token_1Aa00000000001", "recurring": true});
    let refused = shop
        .razorpay_send("POST", "/v1/payments/create/recurring", "", &other)
        .await;
    assert_eq!(
        parsed(&refused)["error"]["reason"],
        "order_amount_mismatch",
        "{}",
        refused.text()
    );
    let upi = json!({"email": "a@example.com", "contact": "9000090000", "amount": 50_000, "currency": "INR",
        "order_id": sale, "method": "upi", "vpa": "success@razorpay"});
    let refused = shop.razorpay_send("POST", "/v1/payments/create/json", "", &upi).await;
    assert_eq!(
        parsed(&refused)["error"]["reason"],
        "parameter_not_portable",
        "{}",
        refused.text()
    );
    let paid = charge(&shop, &sale).await;
    assert_eq!(paid.status(), 200, "{}", paid.text());
    assert_eq!(paid.header("sentinel-gateway"), Some("stripe"));
    assert_eq!(paid.header("sentinel-failover"), Some("true"));
    let id = parsed(&paid)["razorpay_payment_id"].as_str().unwrap().to_owned();
    assert_eq!(parsed(&charge(&shop, &sale).await)["razorpay_payment_id"], id.as_str());
    let shown = look(&shop, &format!("/v1/orders/{sale}")).await;
    assert_eq!(
        (&shown["status"], &shown["amount_paid"], &shown["amount_due"]),
        (&json!("paid"), &json!(50_000), &json!(0))
    );
    let payments = look(&shop, &format!("/v1/orders/{sale}/payments")).await;
    assert_eq!(payments["items"][0]["id"], id.as_str(), "{payments}");

    // The order says that this one is held; what is captured of it is the whole.
    let held = parsed(&charge(&shop, &hold).await)["razorpay_payment_id"].clone();
    let path = format!("/v1/payments/{}", held.as_str().unwrap());
    assert_eq!(look(&shop, &path).await["status"], "authorized");
    let capture = |amount: i64| json!({"amount": amount, "currency": "INR"});
    let part = shop
        .razorpay_send("POST", &format!("{path}/capture"), "", &capture(20_000))
        .await;
    assert_eq!(parsed(&part)["error"]["reason"], "amount_mismatch", "{}", part.text());
    let whole = shop
        .razorpay_send("POST", &format!("{path}/capture"), "", &capture(50_000))
        .await;
    assert_eq!(parsed(&whole)["status"], "captured", "{}", whole.text());
    let requests = shop.gateway("razorpay").requests();
    assert!(
        requests
            .iter()
            .all(|request| !request.path.contains("/payments/create/")),
        "{requests:#?}"
    );
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    for order in [sale, hold] {
        let live = audit.live(&order);
        assert_eq!((live.len(), live[0].captured), (1, 50_000), "{audit:#?}");
        assert_eq!(live[0].gateway, "stripe");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mandate_takes_stripes_payment_and_is_found_out_about_afterwards() {
    let shop = Shop::with(Setup {
        stripe: "stripe, razorpay",
        ..Setup::default()
    })
    .await;
    shop.down("stripe").await;
    let answer = decided(&shop, "key-1", "order-1", "automatic").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("sentinel-gateway"), Some("razorpay"));
    assert_eq!(parsed(&answer)["status"], "succeeded");
    let id = parsed(&answer)["id"].as_str().unwrap().to_owned();
    let refunded = shop
        .stripe_post("/v1/refunds", "refund", &format!("payment_intent={id}&amount=20000"))
        .await;
    assert_eq!(refunded.status(), 200, "{}", refunded.text());
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    assert_eq!(
        (audit.positions[0].captured, audit.positions[0].refunded),
        (50_000, 20_000),
        "{audit:#?}"
    );

    // A hold: no part of it, no release, and the whole of it.
    let held = decided(&shop, "key-2", "order-2", "manual").await;
    assert_eq!(parsed(&held)["status"], "requires_capture", "{}", held.text());
    let id = parsed(&held)["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/payment_intents/{id}");
    let part = shop
        .stripe_post(&format!("{path}/capture"), "part", "amount_to_capture=20000")
        .await;
    assert_eq!(part.status(), 400, "{}", part.text());
    assert_eq!(parsed(&part)["error"]["code"], "operation_not_supported");
    let void = shop.stripe_post(&format!("{path}/cancel"), "void", "").await;
    assert_eq!(
        parsed(&void)["error"]["code"],
        "operation_not_supported",
        "{}",
        void.text()
    );
    let whole = shop.stripe_post(&format!("{path}/capture"), "whole", "").await;
    assert_eq!(parsed(&whole)["status"], "succeeded", "{}", whole.text());
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    assert_eq!(audit.live("order-2")[0].captured, 50_000, "{audit:#?}");
    let orders = shop.gateway("razorpay").requests();
    let opened = orders
        .iter()
        .filter(|request| request.method == Some(http::Method::POST) && request.path == "/v1/orders")
        .count();
    assert_eq!(opened, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_international_payments_takes_what_it_is_declared_to_take() {
    let shop = Shop::with(Setup {
        stripe: "stripe, razorpay",
        razorpay_account: ", currencies: [INR, JPY, KWD]",
        ..Setup::default()
    })
    .await;
    shop.down("stripe").await;
    shop.gateway("razorpay").set("international", "true").unwrap();
    let pay = async |order: &str, amount: (i64, &str)| {
        until(order, async || {
            decision(stripe_mandate_of(&shop, order, order, "automatic", amount).await)
        })
        .await
    };
    for (order, amount) in [
        ("rupees", (50_000, "inr")),
        ("yen", (500, "jpy")),
        ("dinars", (1230, "kwd")),
    ] {
        let answer = pay(order, amount).await;
        assert_eq!(parsed(&answer)["status"], "succeeded", "{order}: {}", answer.text());
        let audit = shop.audit().await;
        assert!(audit.clean(), "{audit:#?}");
        let live = audit.live(order);
        assert_eq!(live.len(), 1, "{audit:#?}");
        assert_eq!(
            (live[0].captured, live[0].currency.to_ascii_lowercase()),
            (amount.0, amount.1.to_owned())
        );
    }
    let euros = pay("euros", (1999, "eur")).await;
    assert_eq!(
        euros.header("sentinel-refused"),
        Some("razorpay=currency_not_supported"),
        "{}",
        euros.text()
    );
    // An account that was declared to take more than it does: refused there, and nothing moved.
    shop.gateway("razorpay").set("international", "false").unwrap();
    let yen = pay("more yen", (500, "jpy")).await;
    assert!(yen.status() >= 400, "{}", yen.text());
    let audit = shop.audit().await;
    assert!(audit.clean() && audit.live("more yen").is_empty(), "{audit:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_order_or_charge_at_razorpay_is_one_order_with_one_payment() {
    let shop = Shop::with(Setup {
        stripe: "stripe, razorpay",
        ..Setup::default()
    })
    .await;
    shop.down("stripe").await;
    let lost = |when| Fault::CutAnswer {
        byte: 0,
        cut: Cut::Rst,
        when,
    };
    for (index, (path, when)) in [
        ("/v1/orders", When::Before),
        ("/v1/orders", When::After),
        ("/v1/payments/create/recurring", When::After),
    ]
    .into_iter()
    .enumerate()
    {
        let order = format!("order-{index}");
        let razorpay = shop.gateway("razorpay");
        razorpay.fault(Rule::once(Match::path("POST", path), lost(when)));
        let first = stripe_mandate(&shop, &format!("key-{index}"), &order, "automatic").await;
        let live = shop.audit().await.live(&order).len();
        // Told of failure, nothing is there; else the same key finds out.
        if first
            .header("sentinel-outcome")
            .is_some_and(|outcome| outcome.starts_with("unknown"))
            || first.status() == 200
        {
            let answer = decided(&shop, &format!("key-{index}"), &order, "automatic").await;
            assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
            assert_eq!(shop.audit().await.live(&order).len(), 1, "{path}");
        } else {
            assert_eq!(live, 0, "{path}: {} {}", first.start, first.text());
        }
        let audit = shop.audit().await;
        assert!(audit.clean(), "{path}: {audit:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timed_out_mandate_is_never_called_failed_because_its_bank_may_still_pay() {
    let shop = Shop::with(Setup {
        stripe: "stripe, razorpay",
        ..Setup::default()
    })
    .await;
    shop.down("stripe").await;
    shop.gateway("razorpay").set("late_ms", "600").unwrap();
    let form = format!(
        "amount=50000&currency=inr&confirm=true&off_session=true&payment_method={STRIPE_TOKEN}\
         &metadata[order_id]=order-1&metadata[sentinel_razorpay]=cust_1Aa00000000001/token_TimedOut000001\
         &receipt_email=a@example.com&shipping[name]=A&shipping[phone]=9000090000&shipping[address][line1]=1"
    );
    let answer = until("the late authorisation is found", async || {
        decision(shop.stripe_post_bare("/v1/payment_intents", "key-1", &form).await)
    })
    .await;
    assert_eq!(parsed(&answer)["status"], "succeeded", "{}", answer.text());
    let audit = shop.audit().await;
    assert_eq!(audit.live("order-1").len(), 1, "{audit:#?}");
}
