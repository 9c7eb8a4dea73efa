//! Faults on purpose: what the application sees, what the gateway got, and that none can be forgotten.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Subject, configuration};
use crate::support::gateway::{Gateway, json as answer};
use crate::support::metrics::{matching, scrape, sum, until};
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::{Message, get, once, post};

async fn ask(admin: SocketAddr, method: &str, path: &str, body: &str) -> Message {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    once(admin, head).await
}

fn value(message: &Message) -> Value {
    serde_json::from_slice(&message.body).unwrap_or_else(|error| panic!("{error}: {message:?}"))
}

/// A sidecar whose operators may make things go wrong.
fn subject(gateway: SocketAddr, route: &str) -> Subject {
    let (admin, listen) = (free_port(), free_port());
    let config = configuration(admin, listen, gateway, route) + "\nadmin: { faults: true }\n";
    Subject {
        sentinel: Sentinel::start(&config),
        listen,
        admin,
    }
}

async fn set(admin: SocketAddr, fault: Value) -> u64 {
    let set = ask(admin, "POST", "/faults", &fault.to_string()).await;
    assert_eq!(set.status(), 201, "{set:?}");
    value(&set)["id"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_effect_looks_like_the_gateways_own_failure_and_says_truly_what_was_sent() {
    let gateway = Gateway::answering(None, |_, _| answer(200, r#"{"id":"ch_1"}"#)).await;
    let subject = subject(gateway.address, "    retry: { max: 0 }\n");
    let charge = || post("/v1/charges", "Idempotency-Key: k\r\n", "amount=1");
    let mut sent = 0;
    for (fault, status, outcome, error, arrives) in [
        (
            json!({"effect": "refuse"}),
            503,
            "not_sent",
            "connection_refused",
            false,
        ),
        (
            json!({"effect": "abort_before"}),
            503,
            "not_sent",
            "connection_terminated",
            false,
        ),
        (
            json!({"effect": "abort_after"}),
            504,
            "unknown",
            "connection_terminated",
            true,
        ),
    ] {
        let effect = fault["effect"].as_str().unwrap().to_owned();
        let mut fault = fault;
        fault["route"] = json!("checkout");
        fault["count"] = json!(1);
        set(subject.admin, fault).await;
        let got = once(subject.listen, charge()).await;
        assert_eq!(
            (got.status(), got.header("sentinel-outcome")),
            (status, Some(outcome)),
            "{effect}: {got:?}"
        );
        assert!(got.header("proxy-status").unwrap().contains(error), "{effect}: {got:?}");
        sent += usize::from(arrives);
        assert_eq!(gateway.seen().len(), sent, "{effect}");
        // Once was asked for.
        assert_eq!(once(subject.listen, charge()).await.status(), 200, "{effect}");
        sent += 1;
    }
    // A status is the gateway's answer with another number; a delay only takes time.
    set(
        subject.admin,
        json!({"route": "checkout", "effect": "status", "status": 500, "count": 1}),
    )
    .await;
    let got = once(subject.listen, charge()).await;
    assert_eq!((got.status(), got.text().as_str()), (500, r#"{"id":"ch_1"}"#));
    set(
        subject.admin,
        json!({"route": "checkout", "effect": "delay", "delay": "120ms", "probability": "100%"}),
    )
    .await;
    let began = tokio::time::Instant::now();
    assert_eq!(once(subject.listen, charge()).await.status(), 200);
    assert!(began.elapsed().as_millis() >= 120);
    assert_eq!(gateway.seen().len(), sent + 2);
    let samples = scrape(subject.admin).await;
    for effect in ["refuse", "abort_before", "abort_after", "status", "delay"] {
        let label = format!(r#"effect="{effect}""#);
        assert_eq!(
            matching(&samples, "sentinel_faults_injected_total", &[&label]),
            1.0,
            "{effect}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_read_is_asked_for_again_and_to_a_payment_is_not() {
    let gateway = Gateway::answering(None, |_, _| answer(200, "{}")).await;
    let subject = subject(gateway.address, "");
    for _ in 0..2 {
        set(
            subject.admin,
            json!({"route": "checkout", "effect": "abort_after", "count": 1}),
        )
        .await;
        assert_eq!(once(subject.listen, get("/v1/balance", "")).await.status(), 200);
    }
    assert_eq!(gateway.seen().len(), 4);
    set(
        subject.admin,
        json!({"route": "checkout", "effect": "abort_after", "count": 1}),
    )
    .await;
    assert_eq!(
        once(subject.listen, post("/v1/charges", "", "amount=1")).await.status(),
        504
    );
    assert_eq!(
        gateway.seen().len(),
        5,
        "a payment whose answer was lost is not sent again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_seen_everywhere_while_it_lasts_and_ends_by_itself() {
    let gateway = Gateway::answering(None, |_, _| answer(200, "{}")).await;
    let mut subject = subject(gateway.address, "");
    let lasting = json!({"route": "checkout", "gateway": "stripe", "effect": "refuse", "probability": "100%", "expires_in": "5s"});
    let id = set(subject.admin, lasting).await;
    let shown = value(&ask(subject.admin, "GET", "/faults", "").await);
    assert_eq!(
        (&shown[0]["id"], &shown[0]["effect"]),
        (&json!(id), &json!("refuse")),
        "{shown}"
    );
    let routes = value(&ask(subject.admin, "GET", "/routes", "").await);
    assert_eq!(routes[0]["faults"][0]["id"], json!(id), "{routes}");
    assert_eq!(sum(&scrape(subject.admin).await, "sentinel_faults_active"), 1.0);
    until(subject.admin, "the fault ends", |samples| {
        sum(samples, "sentinel_faults_active") == 0.0
    })
    .await;
    assert_eq!(once(subject.listen, post("/v1/charges", "", "a=1")).await.status(), 200);
    assert_eq!(value(&ask(subject.admin, "GET", "/faults", "").await), json!([]));

    // Taken away by number, and all at once.
    let refuse = || json!({"route": "checkout", "effect": "refuse", "count": 9, "expires_in": "1h"});
    let one = set(subject.admin, refuse()).await;
    set(subject.admin, refuse()).await;
    assert_eq!(
        ask(subject.admin, "DELETE", &format!("/faults/{one}"), "")
            .await
            .status(),
        204
    );
    assert_eq!(
        ask(subject.admin, "DELETE", &format!("/faults/{one}"), "")
            .await
            .status(),
        404
    );
    assert_eq!(ask(subject.admin, "DELETE", "/faults", "").await.status(), 204);
    assert_eq!(once(subject.listen, post("/v1/charges", "", "a=1")).await.status(), 200);

    subject.sentinel.signal("TERM");
    assert!(subject.sentinel.wait().success());
    let log = subject.sentinel.log();
    for change in ["set", "removed"] {
        assert!(log.contains(&format!("change=\"{change}\"")), "{change} in {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_off_unless_configured_and_nonsense_is_refused() {
    let gateway = Gateway::answering(None, |_, _| answer(200, "{}")).await;
    let off = Subject::start(gateway.address, "");
    let fault = r#"{"route":"checkout","effect":"refuse","count":1}"#;
    let refused = ask(off.admin, "POST", "/faults", fault).await;
    assert_eq!(refused.status(), 403, "{refused:?}");
    assert!(refused.text().contains("admin.faults"), "{refused:?}");

    let on = subject(gateway.address, "");
    for (body, wanted) in [
        (r#"{"route":"nowhere","effect":"refuse","count":1}"#, 404),
        (
            r#"{"route":"checkout","gateway":"adyen","effect":"refuse","count":1}"#,
            404,
        ),
        (r#"{"route":"checkout","effect":"refuse"}"#, 422),
        (
            r#"{"route":"checkout","effect":"refuse","count":1,"probability":"1%"}"#,
            422,
        ),
        (
            r#"{"route":"checkout","effect":"refuse","count":1,"expires_in":"2h"}"#,
            422,
        ),
        (r#"{"route":"checkout","effect":"status","status":200,"count":1}"#, 422),
        (r#"{"route":"checkout","effect":"delay","count":1}"#, 422),
        (r#"{"route":"checkout","effect":"explode","count":1}"#, 422),
        (
            r#"{"route":"checkout","effect":"refuse","count":1,"forever":true}"#,
            422,
        ),
        ("{", 400),
    ] {
        let got = ask(on.admin, "POST", "/faults", body).await;
        assert_eq!(got.status(), wanted, "{body}: {got:?}");
        assert_eq!(
            got.header("content-type"),
            Some("application/problem+json"),
            "{body}: {got:?}"
        );
    }
    assert_eq!(value(&ask(on.admin, "GET", "/faults", "").await), json!([]));
}
