//! A payment that fails at its first gateway is taken at the next one, and never twice.

use crate::support::gateway::{Gateway, json};
use crate::support::merchant::{
    Merchant, adyen_authorised, adyen_numbered, adyen_result, sale, stripe_decline, stripe_intent,
};
use crate::support::metrics::{sum, until};
use crate::support::sentinel::free_port;

fn parsed(body: &str) -> serde_json::Value {
    serde_json::from_str(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_gateway_answers_for_itself_and_gets_the_applications_own_bytes() {
    let stripe = Gateway::answering(None, |_, request| stripe_intent("succeeded", request)).await;
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let merchant = Merchant::start(stripe.address, adyen.address, "");
    let answer = merchant.pay("key-1").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(parsed(&answer.text())["id"], "pi_3native");
    assert_eq!(answer.header("sentinel-gateway"), Some("stripe"));
    assert_eq!(answer.header("sentinel-failover"), Some("false"));
    assert!(answer.header("sentinel-payment").is_some());
    let seen = stripe.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(String::from_utf8_lossy(&seen[0].body), sale("1999", ""));
    assert_eq!(seen[0].header("idempotency-key"), Some("key-1"));
    assert_eq!(seen[0].header("authorization"), Some("Bearer sk_test_1"));
    assert_eq!(seen[0].header("sentinel-instrument"), None);
    assert!(adyen.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_whose_gateway_refuses_connections_is_taken_at_the_next_one() {
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let merchant = Merchant::start(free_port(), adyen.address, "");
    let answer = merchant.pay("key-1").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let intent = parsed(&answer.text());
    assert_eq!(intent["object"], "payment_intent");
    assert_eq!(intent["status"], "succeeded");
    assert_eq!(intent["amount_received"], 1999);
    assert_eq!(intent["metadata"]["order_id"], "order-7");
    assert!(intent["id"].as_str().unwrap().starts_with("pi_"));
    assert_eq!(answer.header("sentinel-gateway"), Some("adyen"));
    assert_eq!(answer.header("sentinel-failover"), Some("true"));
    assert!(answer.header("sentinel-recovery-time").is_some());
    let seen = adyen.seen();
    assert_eq!(seen.len(), 1);
    let asked = parsed(&String::from_utf8_lossy(&seen[0].body));
    assert_eq!(asked["amount"]["value"], 1999);
    assert_eq!(asked["amount"]["currency"], "EUR");
    assert_eq!(asked["paymentMethod"]["storedPaymentMethodId"], "8415698462516992");
    assert_eq!(seen[0].header("x-api-key"), Some("adyen-key"));
    // Nothing of the application's own credential reaches another gateway.
    assert!(!format!("{:?}", seen[0]).contains("sk_test"));
    // Once more with the same key: the same answer, and no second payment.
    let again = merchant.pay("key-1").await;
    assert_eq!(again.status(), 200);
    assert_eq!(again.text(), answer.text());
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(adyen.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_with_another_request_is_refused_in_stripes_shape() {
    let stripe = Gateway::answering(None, |_, request| stripe_intent("succeeded", request)).await;
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let merchant = Merchant::start(stripe.address, adyen.address, "");
    let token = crate::support::merchant::ADYEN_TOKEN;
    assert_eq!(merchant.pay("key-1").await.status(), 200);
    let other = merchant.pay_with("key-1", &sale("2000", ""), token).await;
    assert_eq!(other.status(), 400);
    assert_eq!(parsed(&other.text())["error"]["type"], "idempotency_error");
    assert_eq!(other.header("stripe-should-retry"), Some("false"));
    // The order of a form's parameters is not another request.
    let reordered = "currency=eur&amount=1999&payment_method=pm_card_visa&confirm=true&metadata[order_id]=order-7";
    assert_eq!(merchant.pay_with("key-1", reordered, token).await.status(), 200);
    assert_eq!(stripe.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn twins_coalesce_into_one_attempt() {
    let (leave, left) = tokio::sync::watch::channel(false);
    let stripe = Gateway::scripted(
        None,
        std::sync::Arc::new(move |_, request, mut stream| {
            let mut left = left.clone();
            Box::pin(async move {
                use tokio::io::AsyncWriteExt;
                left.wait_for(|leave| *leave).await.ok()?;
                stream
                    .write_all(stripe_intent("succeeded", &request).as_bytes())
                    .await
                    .ok()?;
                Some(stream)
            })
        }),
    )
    .await;
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let merchant = Merchant::start(stripe.address, adyen.address, "");
    let twins = futures_util::future::join_all((0..20).map(|_| merchant.pay("key-1")));
    // The gateway answers once all of them are there.
    let together = async {
        until(merchant.admin, "all are in flight", |samples| {
            sum(samples, "sentinel_inflight") == 20.0
        })
        .await;
        leave.send_replace(true);
    };
    let (twins, ()) = tokio::join!(twins, together);
    for twin in &twins {
        assert_eq!(twin.status(), 200, "{}", twin.text());
        assert_eq!(parsed(&twin.text())["id"], "pi_3native");
    }
    assert_eq!(stripe.seen().len(), 1);
    assert!(adyen.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_portable_instrument_goes_back_untouched_and_says_so() {
    let stripe = Gateway::answering(None, |_, _| json(503, r#"{"error":{"type":"api_error"}}"#)).await;
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let merchant = Merchant::start(stripe.address, adyen.address, "");
    let answer = merchant.pay_with("key-1", &sale("1999", ""), "").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(
        answer.header("sentinel-failover"),
        Some("unavailable; reason=no_portable_instrument")
    );
    assert!(adyen.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decline_is_the_applications_answer_and_moves_nothing() {
    let stripe = Gateway::answering(None, |_, _| stripe_decline("insufficient_funds")).await;
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let merchant = Merchant::start(stripe.address, adyen.address, "");
    let answer = merchant.pay("key-1").await;
    assert_eq!(answer.status(), 402, "{}", answer.text());
    assert_eq!(parsed(&answer.text())["error"]["decline_code"], "insufficient_funds");
    assert!(adyen.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_at_the_second_gateway_is_a_decline_in_the_applications_dialect() {
    let adyen = Gateway::answering(None, |_, request| adyen_result("Refused", request)).await;
    let merchant = Merchant::start(free_port(), adyen.address, "");
    let answer = merchant.pay("key-1").await;
    assert_eq!(answer.status(), 402, "{}", answer.text());
    assert_eq!(parsed(&answer.text())["error"]["type"], "card_error");
    assert_eq!(answer.header("sentinel-gateway"), Some("adyen"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_fenced_before_anything_is_sent_elsewhere() {
    // The first gateway executes nothing and closes after the whole request; then it answers the tombstone.
    let stripe = Gateway::scripted(
        None,
        std::sync::Arc::new(|number, request, mut stream| {
            Box::pin(async move {
                use tokio::io::AsyncWriteExt;
                if number == 0 {
                    return None;
                }
                let form = String::from_utf8_lossy(&request.body).into_owned();
                assert!(form.contains("sentinel_fence"), "{form}");
                let mark = form
                    .split('&')
                    .find_map(|pair| pair.strip_prefix("metadata%5Bsentinel_fence%5D=").or_else(|| pair.strip_prefix("metadata[sentinel_fence]=")))
                    .unwrap()
                    .to_owned();
                let body = format!(
                    r#"{{"id":"pi_tomb","object":"payment_intent","amount":1999,"currency":"eur","status":"requires_payment_method","metadata":{{"sentinel_fence":"{mark}"}}}}"#
                );
                stream.write_all(json(200, &body).as_bytes()).await.ok()?;
                Some(stream)
            })
        }),
    )
    .await;
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let merchant = Merchant::start(stripe.address, adyen.address, "");
    let answer = merchant.pay("key-1").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("sentinel-gateway"), Some("adyen"));
    let seen = stripe.seen();
    assert_eq!(seen.len(), 2);
    // The tombstone claims the application's own key.
    assert_eq!(seen[1].header("idempotency-key"), Some("key-1"));
    assert_eq!(seen[1].header("authorization"), Some("Bearer sk_test_sentinel"));
    assert_eq!(adyen.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_failover_stays_inside_the_request_and_needs_proof() {
    let adyen = Gateway::answering(None, adyen_numbered).await;
    let merchant = Merchant::start(free_port(), adyen.address, "");
    let answer = merchant.pay("").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("sentinel-failover"), Some("true"));
    // A repeat is a new payment.
    assert_eq!(merchant.pay("").await.status(), 200);
    assert_eq!(adyen.seen().len(), 2);

    // Sent and lost, without a key: in doubt, and nothing is sent elsewhere.
    let silent = Gateway::scripted(None, std::sync::Arc::new(|_, _, _| Box::pin(async { None }))).await;
    let merchant = Merchant::start(silent.address, adyen.address, "");
    let answer = merchant.pay("").await;
    assert_eq!(answer.status(), 500, "{}", answer.text());
    assert_eq!(parsed(&answer.text())["error"]["code"], "sentinel_outcome_pending");
    assert!(answer.header("sentinel-outcome").unwrap().starts_with("unknown"));
    assert_eq!(adyen.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_takes_payments_elsewhere_without_asking() {
    let adyen = Gateway::answering(None, adyen_numbered).await;
    let merchant = Merchant::start(free_port(), adyen.address, "");
    for number in 0..6 {
        let answer = merchant.pay(&format!("key-{number}")).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
    let metrics = crate::support::metrics::scrape(merchant.admin).await;
    let rejected = r#"sentinel_breaker_rejected_total{gateway="stripe",route="checkout"}"#;
    assert_eq!(metrics.get(rejected), Some(&3.0), "{metrics:#?}");
    let moved = r#"sentinel_failovers_total{from="stripe",reason="not_sent",route="checkout",to="adyen"}"#;
    assert_eq!(metrics.get(moved), Some(&6.0), "{metrics:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_payment_is_replayed_after_a_crash() {
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let stripe = free_port();
    let merchant = Merchant::start(stripe, adyen.address, "");
    let first = merchant.pay("key-1").await;
    assert_eq!(first.status(), 200, "{}", first.text());
    let dir = merchant.sentinel.kill();
    let merchant = Merchant::start_in(dir, stripe, adyen.address, "");
    let again = merchant.pay("key-1").await;
    assert_eq!(again.text(), first.text());
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(adyen.seen().len(), 1);
}
