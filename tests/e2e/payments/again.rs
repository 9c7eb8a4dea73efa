//! A follow-up that is asked for again means what it meant at first, whatever happened in between.

use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};

use crate::support::shop::{Setup, Shop, parsed};
use crate::support::wire::Message;

/// A hold of Stripe's application at PayPal, which has an object for every capture: the intent's id.
async fn at_paypal() -> (Shop, String) {
    let shop = Shop::with(Setup {
        stripe: "stripe, paypal",
        ..Setup::default()
    })
    .await;
    let stripe = shop.gateway("stripe");
    stripe.fault(Rule::always(Match::default(), Fault::Refuse { ms: None }));
    stripe.refusing().await;
    let held = shop.hold("hold", "order-1").await;
    assert_eq!(held.header("sentinel-gateway"), Some("paypal"), "{}", held.text());
    let intent = parsed(&held)["id"].as_str().unwrap().to_owned();
    (shop, intent)
}

async fn capture(shop: &Shop, intent: &str, key: &str, amount: i64) {
    let form = format!("amount_to_capture={amount}&final_capture=false");
    let captured = shop
        .stripe_post(&format!("/v1/payment_intents/{intent}/capture"), key, &form)
        .await;
    assert_eq!(captured.status(), 200, "{}", captured.text());
}

async fn refund(shop: &Shop, intent: &str, key: &str, amount: i64) -> Message {
    let form = format!("payment_intent={intent}&amount={amount}");
    shop.stripe_post("/v1/refunds", key, &form).await
}

/// The captures that PayPal was asked to refund, and its captures, in their order.
fn refunded(shop: &Shop) -> Vec<String> {
    let requests = shop.gateway("paypal").requests();
    let of = |path: &str| {
        Some(
            path.strip_prefix("/v2/payments/captures/")?
                .strip_suffix("/refund")?
                .to_owned(),
        )
    };
    requests.iter().filter_map(|request| of(&request.path)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_whose_answer_was_lost_is_asked_for_again_of_the_same_capture() {
    let (shop, intent) = at_paypal().await;
    capture(&shop, &intent, "a", 500).await;
    shop.gateway("paypal").fault(Rule::once(
        Match {
            contains: Some("3.00".to_owned()),
            ..Match::default()
        },
        Fault::CutAnswer {
            byte: 0,
            cut: Cut::Rst,
            when: When::After,
        },
    ));
    let lost = refund(&shop, &intent, "r", 300).await;
    assert_eq!(lost.header("sentinel-outcome"), Some("unknown"), "{}", lost.text());
    capture(&shop, &intent, "b", 700).await;
    let again = refund(&shop, &intent, "r", 300).await;
    assert_eq!(parsed(&again)["status"], "succeeded", "{}", again.text());
    let asked = refunded(&shop);
    assert!(
        asked.len() >= 2 && asked.iter().all(|capture| *capture == asked[0]),
        "{asked:?}"
    );
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    assert_eq!(audit.live("order-1")[0].refunded, 300, "{audit:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_was_not_sent_is_made_of_the_capture_that_was_chosen_for_it() {
    let (shop, intent) = at_paypal().await;
    capture(&shop, &intent, "a", 500).await;
    capture(&shop, &intent, "b", 700).await;
    // Of the first capture, whose rest is enough.
    let first = refund(&shop, &intent, "first", 200).await;
    assert_eq!(parsed(&first)["status"], "succeeded", "{}", first.text());
    shop.gateway("paypal")
        .fault(Rule::always(Match::default(), Fault::Refuse { ms: None }));
    shop.gateway("paypal").refusing().await;
    let unsent = refund(&shop, &intent, "second", 300).await;
    assert_eq!(unsent.header("sentinel-outcome"), Some("not_sent"), "{}", unsent.text());
    shop.gateway("paypal").clear_faults();
    let again = refund(&shop, &intent, "second", 300).await;
    assert_eq!(parsed(&again)["status"], "succeeded", "{}", again.text());
    let asked = refunded(&shop);
    assert!(asked.len() == 2 && asked[0] == asked[1], "{asked:?}");
    // What is left of the other can still be had back whole.
    let other = refund(&shop, &intent, "other", 700).await;
    assert_eq!(parsed(&other)["status"], "succeeded", "{}", other.text());
}
