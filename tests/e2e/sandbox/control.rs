//! The control port.

use std::net::SocketAddr;

use sentinel::sandbox::Kind;
use sentinel::sandbox::server::{self, Gateway, Options, Sandbox, Serve};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{pay, soon};
use crate::support::gateway as receiver;
use crate::support::wire::once;

async fn controlled() -> (Sandbox, Gateway, SocketAddr) {
    let sandbox = server::serve(Options {
        gateways: vec![Serve::new(Kind::Adyen), Serve::new(Kind::Adyen).named("second")],
        control: Some("127.0.0.1:0".parse().unwrap()),
        ..Options::default()
    })
    .await
    .unwrap();
    let gateway = sandbox.gateway("adyen").unwrap().clone();
    let control = sandbox.control().unwrap();
    (sandbox, gateway, control)
}

async fn call(control: SocketAddr, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = once(control, request).await;
    (
        answer.status(),
        serde_json::from_slice(&answer.body).unwrap_or_default(),
    )
}

#[tokio::test]
async fn scripts_books_and_log_are_there_for_any_language() {
    let (_sandbox, gateway, control) = controlled().await;
    let (status, rules) = call(
        control,
        "POST",
        "/gateways/adyen/faults",
        &json!([{"fault": "native", "error": "internal", "when": "after"}, {"fault": "refuse"}]),
    )
    .await;
    assert_eq!((status, rules.as_array().unwrap().len()), (200, 2));
    soon(async {
        while TcpStream::connect(gateway.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (_, listed) = call(control, "GET", "/gateways", &Value::Null).await;
    assert_eq!((&listed[0]["name"], &listed[0]["faults"]), (&json!("adyen"), &json!(2)));
    call(control, "DELETE", "/gateways/adyen/faults", &Value::Null).await;
    call(
        control,
        "POST",
        "/gateways/adyen/faults",
        &json!({"fault": "native", "error": "internal", "when": "after"}),
    )
    .await;
    soon(async {
        while TcpStream::connect(gateway.address()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(once(gateway.address(), pay("order-1", Some("k"))).await.status(), 500);
    let (_, books) = call(control, "GET", "/books", &Value::Null).await;
    assert_eq!(
        (
            &books[0]["gateway"],
            &books[0]["kind"],
            &books[0]["order"],
            &books[0]["units"],
            &books[0]["currency"]
        ),
        (
            &json!("adyen"),
            &json!("auth"),
            &json!("order-1"),
            &json!(1000),
            &json!("EUR")
        )
    );
    // The same order at another gateway: a double charge, whatever either was told.
    let second = _sandbox.gateway("second").unwrap().address();
    assert_eq!(once(second, pay("order-1", None)).await.status(), 200);
    let (_, audit) = call(control, "GET", "/audit", &Value::Null).await;
    assert_eq!(
        (&audit["clean"], &audit["doubled"]["order-1"]),
        (&json!(false), &json!(2))
    );
    let (_, requests) = call(control, "GET", "/gateways/adyen/requests", &Value::Null).await;
    let text = requests.to_string();
    assert_eq!(
        (
            &requests[0]["fate"],
            &requests[0]["status"],
            &requests[0]["fault"]["fault"]
        ),
        (&json!("executed"), &json!(500), &json!("native"))
    );
    assert!(
        !text.contains("4111111111111111") && !text.contains("\"737\""),
        "{text}"
    );
    call(control, "DELETE", "/gateways/adyen/requests", &Value::Null).await;
    assert!(gateway.requests().is_empty());
    for (path, body, status) in [
        ("/gateways/nobody/faults", json!({"fault": "go_away"}), 404),
        ("/gateways/adyen/faults", json!({"fault": "explode"}), 400),
        ("/gateways/adyen/settings", json!({"colour": "red"}), 400),
        ("/nothing", json!({}), 404),
    ] {
        let (got, answer) = call(control, "POST", path, &body).await;
        assert_eq!(got, status, "{path}");
        assert!(answer["error"].is_string());
    }
}

#[tokio::test]
async fn a_day_passes_in_no_time() {
    let (_sandbox, gateway, control) = controlled().await;
    let first = once(gateway.address(), pay("order-1", Some("k"))).await;
    let (_, before) = call(control, "GET", "/clock", &Value::Null).await;
    let (_, after) = call(control, "POST", "/clock", &json!({"advance": 8 * 86_400})).await;
    assert!(after["now"].as_i64().unwrap() - before["now"].as_i64().unwrap() >= 8 * 86_400);
    let later = once(gateway.address(), pay("order-1", Some("k"))).await;
    assert_ne!(first.body, later.body, "the key was forgotten");
}

#[tokio::test]
async fn webhooks_are_signed_delivered_repeated_and_can_be_sent_again() {
    let (_sandbox, gateway, control) = controlled().await;
    call(
        control,
        "POST",
        "/gateways/adyen/settings",
        &json!({"webhook_secret": "00ff", "modification_ms": 1, "webhook_ms": 1}),
    )
    .await;
    // Without a URL they are kept.
    once(gateway.address(), pay("order-1", None)).await;
    soon(gateway.quiet()).await;
    let (_, kept) = call(control, "GET", "/gateways/adyen/webhooks", &Value::Null).await;
    assert_eq!(
        (kept.as_array().unwrap().len(), &kept[0]["delivered"]),
        (1, &json!(false))
    );
    // The first post fails; it is repeated.
    let receiver = receiver::Gateway::answering(None, |number, _| {
        receiver::json(if number == 0 { 503 } else { 200 }, "{}")
    })
    .await;
    let url = format!("http://{}/hooks", receiver.address);
    assert_eq!(
        call(control, "PUT", "/gateways/adyen/webhooks", &json!({"url": url}))
            .await
            .0,
        200
    );
    assert_eq!(
        call(
            control,
            "PUT",
            "/gateways/adyen/webhooks",
            &json!({"url": "https://elsewhere"})
        )
        .await
        .0,
        400
    );
    call(
        control,
        "POST",
        "/gateways/adyen/webhooks/deliver",
        &json!({"which": "missed"}),
    )
    .await;
    soon(gateway.quiet()).await;
    let (_, kept) = call(control, "GET", "/gateways/adyen/webhooks", &Value::Null).await;
    assert_eq!((&kept[0]["delivered"], &kept[0]["attempts"]), (&json!(true), &json!(2)));
    once(gateway.address(), pay("order-2", None)).await;
    soon(gateway.quiet()).await;
    call(
        control,
        "POST",
        "/gateways/adyen/webhooks/deliver",
        &json!({"which": "all"}),
    )
    .await;
    soon(gateway.quiet()).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 5, "two attempts, one, and both again");
    assert!(seen.iter().all(|post| post.start == "POST /hooks HTTP/1.1"));
}
