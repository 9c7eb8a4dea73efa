//! What provably nobody executed is tried again when the application asks again, and nothing else is.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::support::gateway::{Gateway, json};
use crate::support::merchant::{ADYEN_TOKEN, Merchant, adyen_authorised, sale, stripe_intent};
use crate::support::sentinel::free_port;

async fn adyen_at(address: SocketAddr) -> Gateway {
    let listener = TcpListener::bind(address).await.unwrap();
    let script = |_, request, mut stream: Box<dyn crate::support::gateway::Stream>| {
        Box::pin(async move {
            stream.write_all(adyen_authorised(&request).as_bytes()).await.ok()?;
            Some(stream)
        }) as _
    };
    Gateway::on(listener, None, Arc::new(script))
}

async fn stripe_at(address: SocketAddr) -> Gateway {
    let listener = TcpListener::bind(address).await.unwrap();
    let script = |_, request, mut stream: Box<dyn crate::support::gateway::Stream>| {
        Box::pin(async move {
            let answer = stripe_intent("succeeded", &request);
            stream.write_all(answer.as_bytes()).await.ok()?;
            Some(stream)
        }) as _
    };
    Gateway::on(listener, None, Arc::new(script))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_executed_is_tried_again_under_the_same_key_and_then_stays_as_it_is() {
    let (stripe, adyen) = (free_port(), free_port());
    let merchant = Merchant::start(stripe, adyen, "");
    let nobody = merchant.pay("key-1").await;
    assert_eq!(nobody.status(), 503, "{}", nobody.text());
    assert_eq!(nobody.header("sentinel-outcome"), Some("not_executed"));
    let other = merchant.pay_with("key-1", &sale("2000", ""), ADYEN_TOKEN).await;
    assert_eq!(other.status(), 400, "{}", other.text());

    let adyen = adyen_at(adyen).await;
    let taken = merchant.pay("key-1").await;
    assert_eq!(taken.status(), 200, "{}", taken.text());
    assert_eq!(taken.header("sentinel-gateway"), Some("adyen"));
    assert_eq!(taken.header("sentinel-payment"), nobody.header("sentinel-payment"));
    assert_eq!(taken.header("idempotent-replayed"), None);

    let again = merchant.pay("key-1").await;
    assert_eq!(again.text(), taken.text());
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(adyen.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_round_begins_at_the_first_gateway_with_the_applications_own_key() {
    let (stripe, adyen) = (free_port(), free_port());
    let merchant = Merchant::start(stripe, adyen, "");
    assert_eq!(merchant.pay("key-1").await.status(), 503);
    let (stripe, adyen) = (stripe_at(stripe).await, adyen_at(adyen).await);
    let taken = merchant.pay("key-1").await;
    assert_eq!(taken.status(), 200, "{}", taken.text());
    assert_eq!(taken.header("sentinel-gateway"), Some("stripe"));
    assert_eq!(taken.header("sentinel-failover"), Some("false"));
    let seen = stripe.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("idempotency-key"), Some("key-1"));
    assert!(adyen.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_before_it_was_begun_is_tried_again_after_a_crash_too() {
    let limited = |number: usize, request: &crate::support::wire::Message| match number {
        0 => json(
            429,
            r#"{"error":{"type":"invalid_request_error","code":"rate_limit","message":"Slow down."}}"#,
        ),
        _ => stripe_intent("succeeded", request),
    };
    let (stripe, adyen) = (Gateway::answering(None, limited).await, free_port());
    let merchant = Merchant::start(stripe.address, adyen, "");
    let refused = merchant.pay("key-1").await;
    assert_eq!(refused.status(), 429, "{}", refused.text());
    let dir = merchant.sentinel.kill();
    let merchant = Merchant::start_in(dir, stripe.address, adyen, "");
    let taken = merchant.pay("key-1").await;
    assert_eq!(taken.status(), 200, "{}", taken.text());
    assert_eq!(taken.header("sentinel-gateway"), Some("stripe"));
    assert_eq!(stripe.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_key_a_fence_claimed_is_not_asked_again() {
    let fenced = |number: usize, request: Vec<u8>| match number {
        0 => None,
        _ => {
            let form = String::from_utf8_lossy(&request).into_owned();
            let mark = form.split('&').find_map(|pair| pair.split_once("sentinel_fence"));
            let mark = mark.and_then(|(_, rest)| rest.split_once('=')).unwrap().1.to_owned();
            Some(json(
                200,
                &format!(
                    r#"{{"id":"pi_tomb","object":"payment_intent","amount":1999,"currency":"eur","status":"requires_payment_method","metadata":{{"sentinel_fence":"{mark}"}}}}"#
                ),
            ))
        }
    };
    let script =
        move |number, request: crate::support::wire::Message, mut stream: Box<dyn crate::support::gateway::Stream>| {
            Box::pin(async move {
                let answer = fenced(number, request.body.to_vec())?;
                stream.write_all(answer.as_bytes()).await.ok()?;
                Some(stream)
            }) as _
        };
    let (stripe, adyen) = (Gateway::scripted(None, Arc::new(script)).await, free_port());
    let merchant = Merchant::start(stripe.address, adyen, "");
    let nobody = merchant.pay("key-1").await;
    assert_eq!(nobody.status(), 503, "{}", nobody.text());
    let adyen = adyen_at(adyen).await;
    let taken = merchant.pay("key-1").await;
    assert_eq!(taken.status(), 200, "{}", taken.text());
    assert_eq!(taken.header("sentinel-gateway"), Some("adyen"));
    assert_eq!(adyen.seen().len(), 1);
    // The request whose answer was lost, and its fence: nothing else.
    assert_eq!(stripe.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_paid_under_another_key_meanwhile_is_not_paid_again() {
    let (stripe, adyen) = (free_port(), free_port());
    let merchant = Merchant::start(stripe, adyen, ", order_guard: true");
    assert_eq!(merchant.pay("key-1").await.status(), 503);
    let adyen = adyen_at(adyen).await;
    let other = merchant.pay("key-2").await;
    assert_eq!(other.status(), 200, "{}", other.text());
    let late = merchant.pay("key-1").await;
    assert_eq!(late.status(), 409, "{}", late.text());
    assert_eq!(late.header("sentinel-outcome"), Some("not_sent"));
    assert_eq!(adyen.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_leads_to_its_payment_although_it_could_not_be_taken_elsewhere_any_more() {
    let (stripe, adyen) = (free_port(), free_port());
    let merchant = Merchant::start(stripe, adyen, "");
    let adyen = adyen_at(adyen).await;
    let taken = merchant.pay("key-1").await;
    assert_eq!(taken.status(), 200, "{}", taken.text());
    // The first gateway is back, has never seen the key, and would charge. Without an instrument the request could only be
    // forwarded.
    let stripe = stripe_at(stripe).await;
    let again = merchant.pay_with("key-1", &sale("1999", ""), "").await;
    assert_eq!(again.text(), taken.text());
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    // Another request under the key is refused, be it one that Sentinel does not understand.
    let odd = "amount=1999&currency=eur&confirm=true&payment_method=pm_card_visa&off_session=false&amount=5";
    for other in [odd, "amount=1999&currency=eur"] {
        let refused = merchant.pay_with("key-1", other, "").await;
        assert_eq!(refused.status(), 400, "{}", refused.text());
    }
    assert!(stripe.seen().is_empty());
    assert_eq!(adyen.seen().len(), 1);
}
