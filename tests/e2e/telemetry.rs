//! What an operator sees is what happened: every request counted once, no secret in a log, series die with their route.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::support::gateway::{Gateway, Script, json};
use crate::support::metrics::{settled, sum};
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::{Client, get, once, post};

fn config(admin: SocketAddr, listen: SocketAddr, gateway: SocketAddr, name: &str, log: &str) -> String {
    format!(
        "listeners: {{ admin: '{admin}' }}
log: {{ {log} }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{gateway}', allow_private: true }}
routes:
  - {{ name: {name}, listen: '{listen}', dialect: stripe, gateways: [stripe] }}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_counted_once_whatever_became_of_it() {
    let script: Script = Arc::new(|_, message, mut stream| {
        Box::pin(async move {
            use tokio::io::AsyncWriteExt as _;
            if message.start.contains("/break") {
                return None;
            }
            if message.start.contains("/stall") {
                std::future::pending::<()>().await;
            }
            let status = if message.start.contains("/declined") { 402 } else { 200 };
            stream.write_all(json(status, "{}").as_bytes()).await.ok()?;
            Some(stream)
        })
    });
    let gateway = Gateway::scripted(None, script).await;
    let (admin, listen) = (free_port(), free_port());
    let _sentinel = Sentinel::start(&config(admin, listen, gateway.address, "checkout", "level: info"));
    let mut client = Client::connect(listen).await;
    for _ in 0..7 {
        assert_eq!(client.exchange(post("/v1/charges", "", "a=1")).await.status(), 200);
    }
    assert_eq!(client.exchange(post("/v1/declined", "", "a=1")).await.status(), 402);
    assert_eq!(once(listen, post("/v1/break", "", "a=1")).await.status(), 504);
    // The application leaves before there is an answer.
    let mut leaving = Client::connect(listen).await;
    leaving.send(post("/v1/stall", "", "a=1")).await;
    while gateway.seen().iter().all(|seen| !seen.start.contains("/stall")) {
        tokio::task::yield_now().await;
    }
    drop(leaving);

    let samples = settled(admin).await;
    let requests = |code: &str, outcome: &str| {
        let name =
            format!(r#"sentinel_requests_total{{code="{code}",method="POST",outcome="{outcome}",route="checkout"}}"#);
        samples.get(&name).copied().unwrap_or_default()
    };
    assert_eq!(requests("200", "forwarded"), 7.0);
    assert_eq!(requests("402", "forwarded"), 1.0);
    assert_eq!(requests("504", "connection"), 1.0);
    assert_eq!(requests("other", "cancelled"), 1.0);
    assert_eq!(sum(&samples, "sentinel_requests_total"), 10.0);
    assert_eq!(sum(&samples, "sentinel_request_duration_seconds_count"), 10.0);
    assert_eq!(
        samples[r#"sentinel_upstream_attempts_total{gateway="stripe",kind="first",result="answered",route="checkout"}"#],
        8.0
    );
    assert_eq!(samples[r#"sentinel_overhead_seconds_count{route="checkout"}"#], 9.0);
    // Seconds, however busy the machine is: milliseconds would be hundreds of them.
    assert!(samples[r#"sentinel_overhead_seconds_sum{route="checkout"}"#] < 9.0);
    assert!(samples["process_resident_memory_bytes"] > 1e6);
    assert_eq!(
        samples[r#"sentinel_breaker_state{gateway="stripe",route="checkout"}"#],
        0.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_can_be_switched_and_shows_no_secret() {
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let (admin, listen) = (free_port(), free_port());
    let mut sentinel = Sentinel::start(&config(admin, listen, gateway.address, "checkout", "json: true"));
    let request = |path: &str| {
        post(
            path,
            "Authorization: Bearer sk_live_abcdefghijklmnop\r\nIdempotency-Key: order-77\r\n",
            "card=4242424242424242",
        )
    };
    assert_eq!(once(listen, request("/v1/first")).await.status(), 200);
    let switched = once(admin, post("/log?access=true&level=debug", "", "")).await;
    assert_eq!(switched.status(), 200, "{}", switched.text());
    assert_eq!(
        once(
            listen,
            request("/v1/4000056655665556/second?key=sk_live_abcdefghijklmnop")
        )
        .await
        .status(),
        200
    );
    assert_eq!(once(admin, post("/log?level=,,=", "", "")).await.status(), 422);
    // Stopping writes out what is still queued.
    sentinel.signal("TERM");
    assert!(sentinel.wait().success());
    let log = sentinel.log();
    assert!(log.contains("/v1/[card]/second") && !log.contains("/v1/first"), "{log}");
    for secret in [
        "4242424242424242",
        "4000056655665556",
        "abcdefghijklmnop",
        "order-77",
        "key=",
    ] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    let line = log.lines().find(|line| line.contains("/second")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (line["route"].as_str(), line["status"].as_u64()),
        (Some("checkout"), Some(200))
    );
    assert_eq!(line["trace_id"].as_str().unwrap().len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn series_of_a_route_end_with_it() {
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let (admin, listen) = (free_port(), free_port());
    let sentinel = Sentinel::start(&config(admin, listen, gateway.address, "before", "level: info"));
    assert_eq!(once(listen, get("/v1/balance", "")).await.status(), 200);
    assert!(
        settled(admin)
            .await
            .keys()
            .any(|name| name.contains(r#"route="before""#))
    );
    std::fs::write(
        sentinel.config(),
        config(admin, listen, gateway.address, "after", "level: info"),
    )
    .unwrap();
    assert_eq!(once(admin, post("/reload", "", "")).await.status(), 200);
    assert_eq!(once(listen, get("/v1/balance", "")).await.status(), 200);
    let samples = settled(admin).await;
    assert!(samples.keys().all(|name| !name.contains("before")), "{samples:?}");
    assert!(samples.keys().any(|name| name.contains(r#"route="after""#)));
    assert_eq!(
        samples
            .keys()
            .filter(|name| name.starts_with("sentinel_config_info"))
            .count(),
        1
    );
    assert_eq!(samples[r#"sentinel_config_reload_total{result="applied"}"#], 1.0);
}
