//! Payments looked for in a list that has more payments than one page, because their answer was lost.

use sentinel::sandbox::NativeError;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use serde_json::json;

use crate::support::patience::until;
use crate::support::shop::{Setup, Shop, parsed};
use crate::support::wire::{Client, post};

/// More than two pages.
const MANY: usize = 250;

/// The payment whose request has this text is executed, and nobody hears of it.
fn lost(shop: &Shop, gateway: &str, path: &str, text: &str) {
    let cut = Fault::CutAnswer {
        byte: 0,
        cut: Cut::Fin,
        when: When::After,
    };
    let request = Match {
        contains: Some(text.to_owned()),
        ..Match::path("POST", path)
    };
    shop.gateway(gateway).fault(Rule::once(request, cut));
}

/// Somebody else's intents at Stripe, now. The first is for this order.
async fn intents(shop: &Shop, order: &str) {
    let mut client = Client::connect(shop.gateway("stripe").address()).await;
    for number in 0..MANY {
        let order = if number == 0 {
            order.to_owned()
        } else {
            format!("other-{number}")
        };
        let form = format!("amount=1999&currency=eur&metadata[order_id]={order}");
        let made = client.exchange(post("/v1/payment_intents", "", &form)).await;
        assert_eq!(made.status(), 200, "{}", made.text());
    }
}

/// How many further pages Stripe was asked for.
fn turned(shop: &Shop, cursor: &str) -> usize {
    let name = shop.gateway(if cursor == "cursor" { "square" } else { "stripe" });
    let requests = name.requests();
    requests
        .iter()
        .filter(|request| request.query.contains(&format!("{cursor}=")))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_found_among_more_intents_than_a_page_has_and_only_where_no_other_has_it() {
    let shop = Shop::with(Setup {
        stripe: "stripe, adyen",
        ..Setup::default()
    })
    .await;
    intents(&shop, "order-2").await;
    lost(&shop, "stripe", "/v1/payment_intents", "confirm=true");
    let answer = shop.pay("key-1", "order-1").await;
    let payment = answer.header("sentinel-payment").unwrap_or_default().to_owned();
    assert_eq!(answer.status(), 200, "{}\n{}", answer.text(), shop.timeline(&payment));
    assert_eq!(answer.header("sentinel-gateway"), Some("stripe"));
    assert_eq!(parsed(&answer)["status"], "succeeded");
    assert!(turned(&shop, "starting_after") >= 2);

    // Another try for the same order lies three pages back: which of the two is meant, nobody can tell by the list.
    lost(&shop, "stripe", "/v1/payment_intents", "confirm=true");
    let answer = shop.pay("key-2", "order-2").await;
    let payment = answer.header("sentinel-payment").unwrap_or_default().to_owned();
    let outcome = answer.header("sentinel-outcome").unwrap_or_default();
    assert!(
        outcome.starts_with("unknown"),
        "{}\n{}",
        answer.text(),
        shop.timeline(&payment)
    );
    assert!(
        shop.timeline(&payment).contains("several_found"),
        "{}",
        shop.timeline(&payment)
    );
    // The same key asks Stripe itself.
    let told = shop.pay("key-2", "order-2").await;
    assert_eq!(told.status(), 200, "{}\n{}", told.text(), shop.timeline(&payment));
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    for order in ["order-1", "order-2"] {
        let live: Vec<_> = audit.live(order).iter().map(|live| live.gateway.clone()).collect();
        assert_eq!(live, ["stripe"], "{order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sentinel_wrote_is_found_behind_more_intents_than_a_page_has() {
    let shop = Shop::with(Setup {
        adyen: "adyen, stripe",
        ..Setup::default()
    })
    .await;
    shop.down("adyen").await;
    let stripe = shop.gateway("stripe");
    lost(&shop, "stripe", "/v1/payment_intents", "confirm=true");
    let busy = Fault::Native {
        error: NativeError::Unavailable,
        when: When::Before,
        retry_after: None,
        stored: false,
    };
    stripe.fault(Rule::always(Match::path("GET", "/v1/payment_intents*"), busy));
    let body = json!({
        "merchantAccount": "AcmeECOM", "returnUrl": "https://shop.example/return", "reference": "order-1", "amount": {"currency": "EUR", "value": 1999},
        "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415698462516992"},
        "shopperReference": "shopper-1", "shopperInteraction": "ContAuth", "recurringProcessingModel": "CardOnFile",
    });
    // By the time it can be asked, it is on the third page.
    let buried = async {
        stripe.received(1).await;
        intents(&shop, "other").await;
        stripe.clear_faults();
    };
    let (answer, ()) = tokio::join!(shop.adyen_post("/v71/payments", "key-1", &body), buried);
    let payment = answer.header("sentinel-payment").unwrap_or_default().to_owned();
    until("the payment is found", async || {
        shop.timeline(&payment).contains("response_sealed").then_some(())
    })
    .await;
    assert!(turned(&shop, "starting_after") >= 2, "{}", shop.timeline(&payment));
    let told = shop.adyen_post("/v71/payments", "key-1", &body).await;
    assert_eq!(
        parsed(&told)["resultCode"],
        "Authorised",
        "{}\n{}",
        told.text(),
        shop.timeline(&payment)
    );
    assert_eq!(told.header("sentinel-gateway"), Some("stripe"));
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    assert_eq!(audit.live("order-1").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn squares_list_is_read_to_its_end() {
    let shop = Shop::with(Setup {
        square: "square, adyen",
        ..Setup::default()
    })
    .await;
    let payment = |key: &str, order: &str| {
        json!({
            "source_id": "ccof:customer-card-id-ok", "customer_id": "CUST1", "idempotency_key": key,
            "amount_money": {"amount": 1999, "currency": "EUR"}, "reference_id": order,
        })
        .to_string()
    };
    let mut client = Client::connect(shop.gateway("square").address()).await;
    for number in 0..MANY {
        let body = payment(&format!("before-{number}"), &format!("other-{number}"));
        let bytes = format!(
            "POST /v2/payments HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sandbox\r\nSquare-Version: 2025-08-20\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let made = client.exchange(bytes).await;
        assert_eq!(made.status(), 200, "{}", made.text());
    }
    lost(&shop, "square", "/v2/payments", "order-1");
    let body = serde_json::from_str(&payment("key-1", "order-1")).unwrap();
    let answer = shop.square_send("POST", "/v2/payments", &body).await;
    let payment = answer.header("sentinel-payment").unwrap_or_default().to_owned();
    until("the payment is found", async || {
        shop.timeline(&payment).contains("response_sealed").then_some(())
    })
    .await;
    assert!(turned(&shop, "cursor") >= 2, "{}", shop.timeline(&payment));
    let told = shop.square_send("POST", "/v2/payments", &body).await;
    assert_eq!(
        parsed(&told)["payment"]["status"],
        "COMPLETED",
        "{}\n{}",
        told.text(),
        shop.timeline(&payment)
    );
    assert_eq!(told.header("sentinel-gateway"), Some("square"));
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    assert_eq!(audit.live("order-1").len(), 1);
}
