//! Square as the application's gateway and as the one that takes the payment: every way there and back, with faults.

use sentinel::sandbox::NativeError;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use serde_json::{Value, json};

use crate::support::metrics::scrape;
use crate::support::patience::until;
use crate::support::shop::{Setup, Shop, parsed};
use crate::support::wire::Message;

/// A payment in Square's dialect.
fn payment(key: &str, order: &str, autocomplete: bool) -> Value {
    json!({
        "source_id": "ccof:customer-card-id-ok", "customer_id": "CUST1", "idempotency_key": key,
        "amount_money": {"amount": 1999, "currency": "EUR"}, "autocomplete": autocomplete, "reference_id": order,
    })
}

async fn pay(shop: &Shop, key: &str, order: &str, autocomplete: bool) -> Message {
    shop.square_send("POST", "/v2/payments", &payment(key, order, autocomplete))
        .await
}

/// What one gateway has of the payments of an order: captured, refunded, held.
async fn books(shop: &Shop, gateway: &str, order: &str) -> (i64, i64, i64) {
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    let of = |p: &&sentinel::sandbox::books::Position| p.gateway == gateway && p.order.as_deref() == Some(order);
    let found = audit.positions.iter().find(of);
    found.map_or((0, 0, 0), |p| (p.captured, p.refunded, p.held))
}

#[tokio::test(flavor = "multi_thread")]
async fn squares_application_is_served_by_each_of_the_others() {
    for (gateways, owner) in [
        ("square, stripe", "stripe"),
        ("square, adyen", "adyen"),
        ("square, paypal", "paypal"),
    ] {
        let shop = Shop::with(Setup {
            square: gateways,
            ..Setup::default()
        })
        .await;
        let own = pay(&shop, "key-0", "order-0", true).await;
        assert_eq!(own.status(), 200, "{}", own.text());
        assert_eq!(own.header("sentinel-failover"), Some("false"));
        assert_eq!(books(&shop, "square", "order-0").await, (1999, 0, 0));
        shop.down("square").await;
        let answer = pay(&shop, "key-1", "order-1", true).await;
        assert_eq!(answer.status(), 200, "{owner}: {}", answer.text());
        assert_eq!(answer.header("sentinel-gateway"), Some(owner));
        let paid = parsed(&answer)["payment"].clone();
        assert_eq!(paid["status"], "COMPLETED", "{owner}: {paid}");
        assert_eq!(paid["amount_money"], json!({"amount": 1999, "currency": "EUR"}));
        assert_eq!(paid["reference_id"], "order-1");
        let again = pay(&shop, "key-1", "order-1", true).await;
        assert_eq!(parsed(&again)["payment"]["id"], paid["id"]);
        let refund = json!({"idempotency_key": "refund-1", "payment_id": paid["id"], "reason": "late",
            "amount_money": {"amount": 500, "currency": "EUR"}});
        let refunded = shop.square_send("POST", "/v2/refunds", &refund).await;
        assert_eq!(refunded.status(), 200, "{owner}: {}", refunded.text());
        let id = parsed(&refunded)["refund"]["id"].as_str().unwrap().to_owned();
        let repeated = shop.square_send("POST", "/v2/refunds", &refund).await;
        assert_eq!(parsed(&repeated)["refund"]["id"], id.as_str(), "{owner}");
        assert_eq!(books(&shop, owner, "order-1").await, (1999, 500, 0), "{owner}");
        let path = format!("/v2/payments/{}", paid["id"].as_str().unwrap());
        let shown = shop.square_send("GET", &path, &Value::Null).await;
        assert_eq!(shown.status(), 200, "{owner}: {}", shown.text());
        let shown_refund = shop
            .square_send("GET", &format!("/v2/refunds/{id}"), &Value::Null)
            .await;
        assert_eq!(shown_refund.status(), 200, "{owner}: {}", shown_refund.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_taken_elsewhere_is_captured_once_and_another_is_cancelled_by_its_key() {
    let shop = Shop::with(Setup {
        square: "square, stripe",
        ..Setup::default()
    })
    .await;
    shop.down("square").await;
    let held = pay(&shop, "hold-1", "order-1", false).await;
    let payment = parsed(&held)["payment"].clone();
    assert_eq!(payment["status"], "APPROVED", "{}", held.text());
    let path = format!("/v2/payments/{}/complete", payment["id"].as_str().unwrap());
    for _ in 0..2 {
        let done = shop.square_send("POST", &path, &json!({})).await;
        assert_eq!(parsed(&done)["payment"]["status"], "COMPLETED", "{}", done.text());
    }
    assert_eq!(books(&shop, "stripe", "order-1").await, (1999, 0, 0));

    // Square would say 200 to this, and the hold at Stripe would stay.
    let held = pay(&shop, "hold-2", "order-2", false).await;
    assert_eq!(parsed(&held)["payment"]["status"], "APPROVED");
    assert_eq!(books(&shop, "stripe", "order-2").await, (0, 0, 1999));
    let cancel = json!({"idempotency_key": "hold-2"});
    for _ in 0..2 {
        let cancelled = shop.square_send("POST", "/v2/payments/cancel", &cancel).await;
        assert_eq!((cancelled.status(), cancelled.text().as_str()), (200, "{}"));
        assert_eq!(cancelled.header("sentinel-gateway"), Some("stripe"));
    }
    assert_eq!(books(&shop, "stripe", "order-2").await, (0, 0, 0));
    // A key that nobody paid under goes to Square, which is down.
    let unknown = json!({"idempotency_key": "hold-3"});
    let forwarded = shop.square_send("POST", "/v2/payments/cancel", &unknown).await;
    assert_eq!(forwarded.status(), 503, "{}", forwarded.text());
    assert_eq!(parsed(&forwarded)["errors"][0]["code"], "SERVICE_UNAVAILABLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_taken_elsewhere_is_lowered_first_and_then_captured_for_as_much() {
    let shop = Shop::with(Setup {
        square: "square, stripe",
        ..Setup::default()
    })
    .await;
    shop.down("square").await;
    let edit = |amount: i64| {
        json!({"idempotency_key": format!("lower-{amount}"),
            "payment": {"amount_money": {"amount": amount, "currency": "EUR"}}})
    };
    let mut paths = Vec::new();
    for (order, capabilities) in [
        ("order-1", json!(["EDIT_AMOUNT_DOWN"])),
        ("order-2", json!(["EDIT_AMOUNT_DOWN"])),
    ] {
        let held = parsed(&pay(&shop, order, order, false).await)["payment"].clone();
        assert_eq!(held["capabilities"], capabilities, "{held}");
        let path = format!("/v2/payments/{}", held["id"].as_str().unwrap());
        let lowered = shop.square_send("PUT", &path, &edit(1500)).await;
        assert_eq!(lowered.status(), 200, "{}", lowered.text());
        let payment = parsed(&lowered)["payment"].clone();
        assert_eq!(
            (&payment["status"], &payment["amount_money"]["amount"]),
            (&json!("APPROVED"), &json!(1500))
        );
        assert_ne!(payment["version_token"], held["version_token"]);
        for other in [1600, 0] {
            let refused = shop.square_send("PUT", &path, &edit(other)).await;
            assert_eq!(refused.status(), 400, "{other}: {}", refused.text());
        }
        assert_eq!(books(&shop, "stripe", order).await, (0, 0, 1999));
        paths.push(path);
    }
    // What it was lowered to is not forgotten with the process.
    let shop = shop.crash();
    let shown = shop.square_send("GET", &paths[0], &Value::Null).await;
    assert_eq!(
        parsed(&shown)["payment"]["amount_money"]["amount"],
        1500,
        "{}",
        shown.text()
    );
    for _ in 0..2 {
        let done = shop
            .square_send("POST", &format!("{}/complete", paths[0]), &json!({}))
            .await;
        let payment = parsed(&done)["payment"].clone();
        assert_eq!(
            (&payment["status"], &payment["amount_money"]["amount"]),
            (&json!("COMPLETED"), &json!(1500))
        );
    }
    assert_eq!(books(&shop, "stripe", "order-1").await, (1500, 0, 0));
    let late = shop.square_send("PUT", &paths[0], &edit(1000)).await;
    assert_eq!(late.status(), 400, "{}", late.text());
    let cancelled = shop
        .square_send("POST", &format!("{}/cancel", paths[1]), &Value::Null)
        .await;
    assert_eq!(
        parsed(&cancelled)["payment"]["status"],
        "CANCELED",
        "{}",
        cancelled.text()
    );
    assert_eq!(books(&shop, "stripe", "order-2").await, (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn square_takes_stripes_payments_and_captures_less_by_lowering_them() {
    let shop = Shop::with(Setup {
        stripe: "stripe, square",
        ..Setup::default()
    })
    .await;
    shop.down("stripe").await;
    let sold = shop.pay("sale", "order-1").await;
    assert_eq!(sold.status(), 200, "{}", sold.text());
    assert_eq!(sold.header("sentinel-gateway"), Some("square"));
    assert_eq!(parsed(&sold)["status"], "succeeded");
    let id = parsed(&sold)["id"].as_str().unwrap().to_owned();
    let form = format!("payment_intent={id}&amount=500");
    let refunded = shop.stripe_post("/v1/refunds", "refund", &form).await;
    // Square does a refund later.
    assert_eq!(parsed(&refunded)["status"], "pending", "{}", refunded.text());
    assert_eq!(books(&shop, "square", "order-1").await, (1999, 500, 0));

    let held = shop.hold("hold", "order-2").await;
    let id = parsed(&held)["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/payment_intents/{id}/capture");
    for _ in 0..2 {
        let captured = shop.stripe_post(&path, "capture", "amount_to_capture=1500").await;
        assert_eq!(parsed(&captured)["status"], "succeeded", "{}", captured.text());
    }
    assert_eq!(books(&shop, "square", "order-2").await, (1500, 0, 0));
    let lowered = shop.gateway("square").requests();
    let lowered = lowered
        .iter()
        .filter(|request| request.method == Some(http::Method::PUT))
        .count();
    assert_eq!(lowered, 1);

    let held = shop.hold("hold-3", "order-3").await;
    let id = parsed(&held)["id"].as_str().unwrap().to_owned();
    let voided = shop
        .stripe_post(&format!("/v1/payment_intents/{id}/cancel"), "void", "")
        .await;
    assert_eq!(parsed(&voided)["status"], "canceled", "{}", voided.text());
    assert_eq!(books(&shop, "square", "order-3").await, (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_capture_of_less_is_repeated_and_never_takes_the_whole() {
    let shop = Shop::with(Setup {
        stripe: "stripe, square",
        ..Setup::default()
    })
    .await;
    shop.down("stripe").await;
    for (index, (path, when)) in [
        ("PUT", When::Before),
        ("PUT", When::After),
        ("POST", When::Before),
        ("POST", When::After),
    ]
    .into_iter()
    .enumerate()
    {
        let order = format!("order-{index}");
        let held = shop.hold(&format!("hold-{index}"), &order).await;
        let id = parsed(&held)["id"].as_str().unwrap().to_owned();
        let at = Match {
            method: Some(path.to_owned()),
            ..Match::default()
        };
        let cut = Fault::CutAnswer {
            byte: 0,
            cut: Cut::Rst,
            when,
        };
        shop.gateway("square").fault(Rule::once(at, cut));
        let path = format!("/v1/payment_intents/{id}/capture");
        let key = format!("capture-{index}");
        for _ in 0..3 {
            let captured = shop.stripe_post(&path, &key, "amount_to_capture=1500").await;
            if captured.status() == 200 {
                break;
            }
        }
        assert_eq!(books(&shop, "square", &order).await, (1500, 0, 0), "{path} {when:?}");
    }
}

/// The faults of one request at Square as the first gateway in `fence` mode, and whether the payment leaves it (`None`: that
/// depends on the connection it went by): a fence that acts on what has arrived only is not believed.
fn faults() -> Vec<(&'static str, Fault, Option<bool>)> {
    let native = |error, when| Fault::Native {
        error,
        when,
        retry_after: None,
        stored: false,
    };
    let cut = |byte, when| Fault::CutAnswer {
        byte,
        cut: Cut::Rst,
        when,
    };
    let foreign = |status, when| Fault::Foreign {
        status,
        when,
        body: None,
        content_type: None,
        location: None,
    };
    vec![
        (
            "request cut",
            Fault::CutRequest {
                byte: 120,
                cut: Cut::Rst,
            },
            None,
        ),
        ("rate limit", native(NativeError::RateLimit, When::Before), Some(true)),
        ("executed, answer lost", cut(0, When::After), Some(false)),
        ("executed, answer cut", cut(90, When::After), Some(false)),
        ("not executed, answer lost", cut(0, When::Before), Some(false)),
        ("500 after", native(NativeError::Internal, When::After), Some(false)),
        (
            "503 before",
            native(NativeError::Unavailable, When::Before),
            Some(false),
        ),
        (
            "conflict after",
            native(NativeError::Conflict, When::After),
            Some(false),
        ),
        ("edge 502 before", foreign(502, When::Before), Some(false)),
        ("edge 200 after", foreign(200, When::After), Some(false)),
        ("answers late", Fault::DelayAnswer { ms: Some(2500) }, Some(false)),
        ("truncated body", Fault::TruncateBody { bytes: 60 }, Some(false)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_at_square_there_is_one_effect_and_the_truth_is_told() {
    let shop = Shop::open().await;
    for (index, (name, fault, leaves)) in faults().into_iter().enumerate() {
        let (key, order) = (format!("key-{index}"), format!("order-{index}"));
        let square = shop.gateway("square");
        square.fault(Rule::once(Match::path("POST", "/v2/payments"), fault));
        let answer = pay(&shop, &key, &order, true).await;
        square.clear_faults();
        let audit = shop.audit().await;
        assert!(audit.clean(), "{name}: {audit:#?}");
        let live = audit.live(&order).len();
        let payment = parsed(&answer)["payment"].clone();
        match (answer.status(), payment["status"].as_str()) {
            (200, Some("COMPLETED")) => assert_eq!(live, 1, "{name}: told of success: {audit:#?}"),
            (200, Some("PENDING")) | (504, _) => {
                assert!(
                    answer
                        .header("sentinel-outcome")
                        .unwrap_or_default()
                        .starts_with("unknown"),
                    "{name}"
                );
                assert!(live <= 1, "{name}: {audit:#?}");
            }
            (status, _) => panic!("{name}: {status} {}", answer.text()),
        }
        let elsewhere = answer
            .header("sentinel-gateway")
            .is_some_and(|gateway| gateway != "square");
        assert!(
            leaves.is_none_or(|leaves| leaves == elsewhere),
            "{name}: {}",
            answer.text()
        );
        // The same key asks Square for what it has stored, or completes what never arrived.
        let again = pay(&shop, &key, &order, true).await;
        assert_eq!(
            parsed(&again)["payment"]["status"],
            "COMPLETED",
            "{name}: {}",
            again.text()
        );
        let audit = shop.audit().await;
        assert!(audit.clean(), "{name}: {audit:#?}");
        assert_eq!(audit.live(&order).len(), 1, "{name}: {audit:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gated_the_second_authorisation_wins_and_squares_is_released_when_it_is_found() {
    let shop = Shop::with(Setup {
        stripe: "stripe, square",
        square: "square, adyen",
        failover: "mode: gated",
        ..Setup::default()
    })
    .await;
    let lost = |when| Fault::CutAnswer {
        byte: 0,
        cut: Cut::Rst,
        when,
    };
    // Square first: its hold exists, and nobody knows its id.
    shop.gateway("square")
        .fault(Rule::once(Match::path("POST", "/v2/payments"), lost(When::After)));
    let answer = pay(&shop, "key-1", "order-1", true).await;
    assert_eq!(parsed(&answer)["payment"]["status"], "COMPLETED", "{}", answer.text());
    let owner = answer.header("sentinel-gateway").unwrap().to_owned();
    // Square second: it takes what Stripe may have held.
    shop.gateway("stripe").fault(Rule::once(
        Match::path("POST", "/v1/payment_intents"),
        lost(When::After),
    ));
    let second = shop.pay("key-2", "order-2").await;
    assert_eq!(second.status(), 200, "{}", second.text());
    for (order, owner) in [
        ("order-1", owner),
        ("order-2", second.header("sentinel-gateway").unwrap().to_owned()),
    ] {
        until(
            &format!("what {owner} does not have of {order} is released"),
            async || {
                scrape(shop.admin).await;
                let audit = shop.audit().await;
                let live = audit.live(order);
                (live.len() == 1 && live[0].gateway == owner && live[0].captured == 1999).then_some(())
            },
        )
        .await;
    }
}
