//! Faults that an operator injects strike payments too, and never become evidence: what was lost on purpose is as unknown
//! as what a network loses, and what never left may be taken elsewhere.

use serde_json::{Value, json};

use super::faults::{Then, judge};
use crate::support::metrics::{matching, settled};
use crate::support::shop::{Setup, Shop};
use crate::support::wire::once;

async fn operate(shop: &Shop, method: &str, path: &str, body: &Value) -> u16 {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    once(shop.admin, head).await.status()
}

/// Strikes the Stripe route at Stripe itself.
async fn strike(shop: &Shop, mut fault: Value) {
    fault["route"] = json!("stripe");
    fault["gateway"] = json!("stripe");
    assert_eq!(operate(shop, "POST", "/faults", &fault).await, 201, "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_injected_fault_is_no_evidence_of_what_the_gateway_did() {
    let shop = Shop::open().await;
    for (index, (fault, expected)) in [
        // The gateway acted, whatever the injected answer says; the fence finds it out.
        (json!({"effect": "abort_after", "count": 1}), Then::Own),
        (json!({"effect": "status", "status": 402, "count": 1}), Then::Own),
        (json!({"effect": "status", "status": 429, "count": 1}), Then::Own),
        (json!({"effect": "status", "status": 503, "count": 1}), Then::Own),
        (json!({"effect": "delay", "delay": "50ms", "count": 1}), Then::Own),
        // Nothing left: the next gateway may take it.
        (json!({"effect": "refuse", "probability": "100%"}), Then::Elsewhere),
        (
            json!({"effect": "abort_before", "probability": "100%"}),
            Then::Elsewhere,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (key, order, name) = (format!("key-{index}"), format!("order-{index}"), fault.to_string());
        let effect = fault["effect"].as_str().unwrap().to_owned();
        let before = settled(shop.admin).await;
        strike(&shop, fault).await;
        let answer = shop.pay(&key, &order).await;
        assert_eq!(operate(&shop, "DELETE", "/faults", &json!({})).await, 204);
        let then = judge(&shop, &name, &order, &answer).await;
        let payment = answer.header("sentinel-payment").unwrap_or_default();
        assert_eq!(then, expected, "{name}: {}\n{}", answer.text(), shop.timeline(payment));
        let after = settled(shop.admin).await;
        let label = format!(r#"effect="{effect}""#);
        let struck = |samples| matching(samples, "sentinel_faults_injected_total", &[&label]);
        assert!(struck(&after) > struck(&before), "{name} is counted");
        // The same key tells the same truth afterwards.
        let again = shop.pay(&key, &order).await;
        assert_eq!(judge(&shop, &name, &order, &again).await, then, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_every_answer_is_lost_a_payment_is_in_doubt_and_afterwards_it_is_known() {
    let shop = Shop::with(Setup {
        stripe: "stripe, adyen",
        ..Setup::default()
    })
    .await;
    strike(&shop, json!({"effect": "abort_after", "probability": "100%"})).await;
    let answer = shop.pay("key", "order").await;
    assert_eq!(
        judge(&shop, "lost", "order", &answer).await,
        Then::Doubt,
        "{}",
        answer.text()
    );
    let audit = shop.audit().await;
    let live = audit.live("order");
    assert_eq!(
        live.iter()
            .map(|position| position.gateway.as_str())
            .collect::<Vec<_>>(),
        ["stripe"],
        "the gateway acted, and no other was asked to: {audit:#?}"
    );
    assert_eq!(operate(&shop, "DELETE", "/faults", &json!({})).await, 204);
    let again = shop.pay("key", "order").await;
    assert_eq!(
        judge(&shop, "found", "order", &again).await,
        Then::Own,
        "{}",
        again.text()
    );
}
