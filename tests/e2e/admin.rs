//! The operators' interface: who may ask, who may change, and what a change does to traffic.

use std::net::SocketAddr;

use crate::support::gateway::{Gateway, json};
use crate::support::patience::PATIENCE;
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::{Message, once, post};

async fn ask(admin: SocketAddr, method: &str, path: &str, host: &str, extra: &str) -> Message {
    once(
        admin,
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{extra}Content-Length: 0\r\n\r\n"),
    )
    .await
}

fn config(admin: SocketAddr, listen: SocketAddr, gateway: SocketAddr, token: &str, more: &str) -> String {
    format!(
        "listeners: {{ admin: '{admin}' }}
admin: {{ token: '{token}' }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{gateway}', allow_private: true }}
routes:
  - name: checkout
    listen: {listen}
    dialect: stripe
    gateways: [stripe]
{more}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_need_post_our_host_our_origin_and_the_token() {
    let (admin, listen) = (free_port(), free_port());
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let _sentinel = Sentinel::start(&config(admin, listen, gateway.address, "s3cret", ""));
    let bearer = "Authorization: Bearer s3cret\r\n";
    for (method, path, host, extra, wanted) in [
        ("GET", "/ready", "localhost", "", 200),
        ("GET", "/breakers", "127.0.0.1:1", "", 200),
        ("GET", "/metrics", "rebound.example", "", 421),
        ("GET", "/reload", "localhost", bearer, 405),
        ("POST", "/reload", "localhost", "", 401),
        ("POST", "/reload", "localhost", "Authorization: Bearer s3cre\r\n", 401),
        ("POST", "/reload", "rebound.example", bearer, 421),
        (
            "POST",
            "/reload",
            "localhost",
            "Authorization: Bearer s3cret\r\nOrigin: http://evil.example\r\n",
            403,
        ),
        ("POST", "/reload", "localhost", bearer, 200),
        ("POST", "/breakers/checkout/nobody/open", "localhost", bearer, 404),
        ("GET", "/nowhere", "localhost", "", 404),
    ] {
        let answer = ask(admin, method, path, host, extra).await;
        assert_eq!(answer.status(), wanted, "{method} {path} {host} {extra}: {answer:?}");
    }
    let shown = ask(admin, "GET", "/config", "localhost", "").await.text();
    assert!(!shown.contains("s3cret") && shown.contains("[REDACTED]"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_loopback_reading_needs_the_token_too() {
    let admin = SocketAddr::from(([0, 0, 0, 0], free_port().port()));
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let _sentinel = Sentinel::start(&config(admin, free_port(), gateway.address, "s3cret", ""));
    let here = SocketAddr::from(([127, 0, 0, 1], admin.port()));
    for (path, extra, wanted) in [
        ("/live", "", 200),
        ("/ready", "", 200),
        ("/config", "", 401),
        ("/metrics", "", 401),
        ("/metrics", "Authorization: Bearer s3cret\r\n", 200),
    ] {
        assert_eq!(
            ask(here, "GET", path, "localhost", extra).await.status(),
            wanted,
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_forced_open_sends_nothing_until_it_is_reset() {
    let (admin, listen) = (free_port(), free_port());
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let _sentinel = Sentinel::start(&config(admin, listen, gateway.address, "", ""));
    assert_eq!(
        ask(admin, "POST", "/breakers/checkout/stripe/open", "localhost", "")
            .await
            .status(),
        204
    );
    let answer = once(listen, post("/v1/charges", "", "amount=1")).await;
    assert_eq!(
        (answer.status(), answer.header("sentinel-outcome")),
        (503, Some("not_sent")),
        "{answer:?}"
    );
    assert!(
        answer.header("retry-after").is_some() && answer.text().contains("circuit"),
        "{answer:?}"
    );
    assert!(gateway.seen().is_empty());
    assert_eq!(
        ask(admin, "POST", "/breakers/checkout/stripe/reset", "localhost", "")
            .await
            .status(),
        204
    );
    assert_eq!(once(listen, post("/v1/charges", "", "amount=1")).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_moves_traffic_and_a_broken_or_impossible_one_changes_nothing() {
    let (admin, listen) = (free_port(), free_port());
    let first = Gateway::answering(None, |_, _| json(200, r#"{"from":"first"}"#)).await;
    let second = Gateway::answering(None, |_, _| json(200, r#"{"from":"second"}"#)).await;
    let sentinel = Sentinel::start(&config(admin, listen, first.address, "", ""));
    let from = async || once(listen, post("/v1/charges", "", "amount=1")).await.text();
    assert!(from().await.contains("first"));

    std::fs::write(sentinel.config(), config(admin, listen, second.address, "", "")).unwrap();
    assert_eq!(ask(admin, "POST", "/reload", "localhost", "").await.status(), 200);
    assert!(from().await.contains("second"));

    std::fs::write(sentinel.config(), "routes: [").unwrap();
    assert_eq!(ask(admin, "POST", "/reload", "localhost", "").await.status(), 422);
    std::fs::write(
        sentinel.config(),
        config(admin, listen, first.address, "", "workers: 2\n"),
    )
    .unwrap();
    let refused = ask(admin, "POST", "/reload", "localhost", "").await;
    assert_eq!(refused.status(), 422);
    assert!(refused.text().contains("needs a restart"), "{refused:?}");
    assert!(from().await.contains("second"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_and_a_changed_file_reload_too() {
    let (admin, listen) = (free_port(), free_port());
    let gateways = [
        Gateway::answering(None, |_, _| json(200, "0")).await,
        Gateway::answering(None, |_, _| json(200, "1")).await,
    ];
    let sentinel = Sentinel::start(&config(admin, listen, gateways[0].address, "", ""));
    for (trigger, gateway) in [("signal", 1), ("file", 0)] {
        let next = config(admin, listen, gateways[gateway].address, "", "");
        std::fs::write(sentinel.config(), next).unwrap();
        if trigger == "signal" {
            sentinel.signal("HUP");
        }
        // Whichever of the two notices first: the answers tell when the new configuration is in force.
        let patience = tokio::time::Instant::now() + PATIENCE;
        while once(listen, post("/v1/charges", "", "amount=1")).await.text() != gateway.to_string() {
            assert!(tokio::time::Instant::now() < patience, "not reloaded by {trigger}");
        }
    }
    let history = ask(admin, "GET", "/reloads", "localhost", "").await.text();
    assert!(
        history.contains(r#""trigger":"file""#) && history.matches(r#""result":"applied""#).count() == 2,
        "{history}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_to_the_operators_interface_change_nothing() {
    let (admin, listen) = (free_port(), free_port());
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let config = config(admin, listen, gateway.address, "s3cret", "").replace("token:", "faults: true, token:");
    let _sentinel = Sentinel::start(&config);
    let bearer = "Authorization: Bearer s3cret\r\n";
    let huge = format!("Authorization: Bearer {}\r\n", "x".repeat(12 * 1024));
    let larger = format!("Authorization: Bearer {}\r\n", "x".repeat(64 * 1024));
    let form = "Authorization: Bearer s3cret\r\nContent-Type: text/plain\r\nOrigin: https://evil.example\r\n";
    for (method, path, host, extra, wanted) in [
        // Another site, as a browser tells it.
        (
            "POST",
            "/reload",
            "localhost",
            format!("{bearer}Sec-Fetch-Site: cross-site\r\n"),
            403,
        ),
        (
            "POST",
            "/reload",
            "localhost",
            format!("{bearer}Sec-Fetch-Site: same-site\r\n"),
            403,
        ),
        ("POST", "/reload", "localhost", format!("{bearer}Origin: null\r\n"), 403),
        ("POST", "/drain", "localhost", form.to_owned(), 403),
        (
            "DELETE",
            "/faults",
            "localhost",
            format!("{bearer}Origin: http://localhost.evil.example\r\n"),
            403,
        ),
        (
            "POST",
            "/reload",
            "localhost",
            format!("{bearer}Sec-Fetch-Site: same-origin\r\n"),
            200,
        ),
        // Another name for our address.
        ("GET", "/config", "evil.example", String::new(), 421),
        ("GET", "/config", "localhost.evil.example", String::new(), 421),
        ("GET", "/config", "127.0.0.1.evil.example:9901", String::new(), 421),
        ("GET", "/config", "", String::new(), 421),
        // Tokens.
        ("DELETE", "/faults", "localhost", String::new(), 401),
        (
            "POST",
            "/faults",
            "localhost",
            "Authorization: Basic czNjcmV0\r\n".to_owned(),
            401,
        ),
        (
            "POST",
            "/reload",
            "localhost",
            "Authorization: Bearer \r\n".to_owned(),
            401,
        ),
        (
            "POST",
            "/reload",
            "localhost",
            "Authorization: bearer s3cret\r\n".to_owned(),
            401,
        ),
        ("POST", "/reload", "localhost", huge, 401),
        ("POST", "/reload", "localhost", larger, 431),
        // Methods and paths.
        ("GET", "/drain", "localhost", bearer.to_owned(), 405),
        ("PUT", "/breakers", "localhost", bearer.to_owned(), 405),
        (
            "POST",
            "/breakers/checkout/stripe/explode",
            "localhost",
            bearer.to_owned(),
            400,
        ),
        ("GET", "/../config", "localhost", String::new(), 404),
        ("POST", "/log?level=%00", "localhost", bearer.to_owned(), 422),
        ("POST", "/log?loud=1", "localhost", bearer.to_owned(), 400),
        ("DELETE", "/faults/-1", "localhost", bearer.to_owned(), 400),
    ] {
        let answer = ask(admin, method, path, host, &extra).await;
        let told = extra.get(..60).unwrap_or(&extra);
        assert_eq!(answer.status(), wanted, "{method} {path} {host} {told}: {answer:?}");
        // hyper itself answers a head that is too large.
        if answer.status() >= 400 && answer.status() != 431 {
            assert_eq!(
                answer.header("content-type"),
                Some("application/problem+json"),
                "{method} {path} {told}: {answer:?}"
            );
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        }
        if answer.status() == 405 {
            assert!(answer.header("allow").is_some(), "{method} {path}: {answer:?}");
        }
    }
    // A body larger than any that is meant.
    let body = format!(r#"{{"route":"{}"}}"#, "x".repeat(64 * 1024));
    let large = format!(
        "POST /faults HTTP/1.1\r\nHost: localhost\r\n{bearer}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(once(admin, large).await.status(), 413);
    // Still at work, and still closed to nobody.
    assert_eq!(once(listen, post("/v1/charges", "", "amount=1")).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_configuration_is_rejected_quickly_and_no_secret_is_echoed() {
    let (admin, listen) = (free_port(), free_port());
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let dir = tempfile::tempdir().unwrap();
    let good = config(admin, listen, gateway.address, "${ADMIN_TOKEN}", "");
    let env = [("ADMIN_TOKEN", "s3cret"), ("LOOP", "${LOOP}${ADMIN_TOKEN}")];
    let sentinel = Sentinel::start_in(dir, &good, &env);
    sentinel.ignore_notices();
    let bearer = "Authorization: Bearer s3cret\r\n";
    let bomb = {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            let list = [before.as_str(); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        text + &good
    };
    let began = tokio::time::Instant::now();
    for (text, wanted) in [
        (good.clone() + "unknown: ${ADMIN_TOKEN}\n", "unknown"),
        (good.replace("dialect: stripe", "dialect: '${ADMIN_TOKEN}'"), ""),
        (good.replace("listen:", "listen: '${ADMIN_TOKEN}' #"), ""),
        (good.replace("dialect: stripe", "dialect: '${LOOP}'"), ""),
        (good.clone() + "deep: " + &"[".repeat(5000), ""),
        (bomb, ""),
        (String::new(), ""),
        ("\u{0}".to_owned(), ""),
    ] {
        std::fs::write(sentinel.config(), &text).unwrap();
        let answer = ask(admin, "POST", "/reload", "localhost", bearer).await;
        let start = text.get(..80).unwrap_or(&text);
        assert_eq!(answer.status(), 422, "{start}: {answer:?}");
        assert!(answer.text().contains(wanted), "{start}: {answer:?}");
        assert!(!answer.text().contains("s3cret"), "{start}: {answer:?}");
        assert_eq!(once(listen, post("/v1/charges", "", "amount=1")).await.status(), 200);
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert!(!sentinel.log().contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_many_connections_to_the_operators_interface_end() {
    let (admin, listen) = (free_port(), free_port());
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let _sentinel = Sentinel::start(&config(admin, listen, gateway.address, "", ""));
    // More than there are places, none of which ever finishes its head.
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut client = crate::support::wire::Client::connect(admin).await;
        client.send("GET /ready HTTP/1.1\r\nHost: loc").await;
        slow.push(client);
    }
    // They hold the places for the time a head may take, and no longer.
    assert_eq!(ask(admin, "GET", "/ready", "localhost", "").await.status(), 200);
    for client in &mut slow[..64] {
        let ended = client.answer().await;
        assert!(
            ended.is_none_or(|answer| answer.status() == 408),
            "a half head was answered"
        );
    }
}
