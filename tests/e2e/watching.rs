//! Watching a running sidecar: spans at a collector, requests as they pass, the live view.

use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

use crate::support::gateway::{Gateway, Script, json};
use crate::support::patience::PATIENCE;
use crate::support::sentinel::{Sentinel, command, free_port};
use crate::support::wire::{Message, get, once, post};

fn config(admin: SocketAddr, listen: SocketAddr, gateway: SocketAddr, more: &str) -> String {
    format!(
        "listeners: {{ admin: '{admin}' }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{gateway}', allow_private: true }}
routes:
  - {{ name: checkout, listen: '{listen}', dialect: stripe, gateways: [stripe] }}
{more}
"
    )
}

/// The spans that a collector has got, each with its attributes as plain text.
fn spans(collector: &Gateway) -> Vec<Value> {
    let mut found = Vec::new();
    for message in collector.seen() {
        assert_eq!(message.start, "POST /v1/traces HTTP/1.1");
        assert_eq!(message.header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        let resource = &body["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "shop");
        found.extend(resource["scopeSpans"][0]["spans"].as_array().unwrap().iter().cloned());
    }
    found
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let all = span["attributes"].as_array().unwrap();
    let found = all.iter().find(|one| one["key"] == key);
    found.map_or(&Value::Null, |one| {
        one["value"].as_object().unwrap().values().next().unwrap()
    })
}

async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !done().await {
        assert!(Instant::now() < patience, "{what}");
        tokio::task::yield_now().await;
    }
}

const PARENT: &str = "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";

fn traceparent(message: &Message) -> Vec<String> {
    let text = message.header("traceparent").unwrap_or_default();
    text.split('-').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_its_attempts_are_spans_under_the_applications_own() {
    // The first attempt at a read is answered 503, the second one well.
    let gateway = Gateway::answering(None, |number, _| json(if number == 0 { 503 } else { 200 }, "{}")).await;
    let collector = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let (admin, listen) = (free_port(), free_port());
    let more = format!("telemetry: {{ otlp: 'http://{}', service: shop }}", collector.address);
    let mut sentinel = Sentinel::start(&config(admin, listen, gateway.address, &more));
    let answer = once(listen, get("/v1/balance?secret=1", PARENT)).await;
    assert_eq!(answer.status(), 200);
    eventually("three spans", async || spans(&collector).len() >= 3).await;
    let found = spans(&collector);
    assert_eq!(found.len(), 3, "{found:#?}");
    let (servers, clients): (Vec<&Value>, Vec<&Value>) = found.iter().partition(|span| span["kind"] == 2);
    let server = servers[0];
    assert_eq!(server["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(server["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(server["name"], "GET checkout");
    assert_eq!(attribute(server, "http.response.status_code"), "200");
    assert_eq!(attribute(server, "sentinel.attempts"), "2");
    assert_eq!((servers.len(), clients.len()), (1, 2));
    for (client, (name, status)) in clients.iter().zip([("first stripe", "503"), ("retry stripe", "200")]) {
        assert_eq!(client["kind"], 3);
        assert_eq!(client["traceId"], server["traceId"]);
        assert_eq!(client["parentSpanId"], server["spanId"]);
        assert_eq!(client["name"], name);
        assert_eq!(attribute(client, "http.response.status_code"), status);
        let time = |span: &Value, end: &str| span[end].as_str().unwrap().parse::<u128>().unwrap();
        assert!(time(client, "startTimeUnixNano") <= time(client, "endTimeUnixNano"));
        assert!(time(server, "endTimeUnixNano") >= time(client, "endTimeUnixNano"));
    }
    // Each attempt named its own span to the gateway.
    for (seen, client) in gateway.seen().iter().zip(&clients) {
        let sent = traceparent(seen);
        assert_eq!((&*sent[1], &*sent[3]), ("4bf92f3577b34da6a3ce929d0e0e4736", "01"));
        assert_eq!(client["spanId"], *sent[2]);
    }
    assert!(!format!("{found:?}").contains("secret"), "no query in a span");

    // A trace that the application does not keep is not kept here; one without a trace is sent on without one.
    let unsampled = PARENT.replace("-01\r\n", "-00\r\n");
    assert_eq!(once(listen, get("/v1/balance", &unsampled)).await.status(), 200);
    assert_eq!(once(listen, get("/v1/balance", "")).await.status(), 200);
    // What is still queued is exported before the end.
    sentinel.signal("TERM");
    assert_eq!(sentinel.wait().code(), Some(0));
    let seen = gateway.seen();
    assert_eq!(
        traceparent(&seen[2]).join("-"),
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    );
    assert_eq!(seen[3].header("traceparent"), None);
    let found = spans(&collector);
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(found[3..].iter().all(|span| span["traceId"] == found[3]["traceId"]));
    assert!(
        found[3..].iter().any(|span| span.get("parentSpanId").is_none()),
        "it began here"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_the_trace_goes_on_as_it_came_and_a_dead_collector_costs_spans_only() {
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let (admin, listen) = (free_port(), free_port());
    let plain = Sentinel::start(&config(admin, listen, gateway.address, ""));
    assert_eq!(once(listen, post("/v1/charges", PARENT, "a=1")).await.status(), 200);
    assert_eq!(traceparent(&gateway.seen()[0])[2], "00f067aa0ba902b7");
    drop(plain);

    // Refused at once with a status that is not to be tried again.
    let collector = Gateway::answering(None, |_, _| json(400, "{}")).await;
    let (admin, listen) = (free_port(), free_port());
    let more = format!("telemetry: {{ otlp: 'http://{}' }}", collector.address);
    let _sentinel = Sentinel::start(&config(admin, listen, gateway.address, &more));
    for _ in 0..5 {
        assert_eq!(once(listen, post("/v1/charges", "", "a=1")).await.status(), 200);
    }
    eventually("lost spans are counted", async || {
        let text = once(admin, get("/metrics", "")).await.text();
        text.contains(r#"sentinel_trace_spans_total{result="failed"} 10"#)
    })
    .await;
}

/// A running `sentinel tap`, whose output is read line by line.
struct Tap {
    child: Child,
    lines: std::io::Lines<std::io::BufReader<ChildStdout>>,
}

impl Tap {
    fn start(admin: SocketAddr, args: &[&str]) -> Self {
        use std::io::BufRead as _;
        let mut child = Command::new(env!("CARGO_BIN_EXE_sentinel"))
            .args(["tap", "--admin", &admin.to_string()])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends requests until the tap shows one: when the reader has come, only it knows.
async fn shown(listen: SocketAddr, request: String, mut tap: Tap) -> (Value, Tap) {
    let reading = tokio::task::spawn_blocking(move || {
        let event = tap.json();
        (event, tap)
    });
    eventually("the tap shows something", async || {
        let _ = once(listen, &request).await;
        reading.is_finished()
    })
    .await;
    reading.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_seen_as_they_pass_without_their_secrets() {
    let script: Script = Arc::new(|_, message, mut stream| {
        Box::pin(async move {
            use tokio::io::AsyncWriteExt as _;
            if message.start.contains("/break") {
                return None;
            }
            let status = if message.start.contains("/declined") { 402 } else { 200 };
            stream.write_all(json(status, "{}").as_bytes()).await.ok()?;
            Some(stream)
        })
    });
    let gateway = Gateway::scripted(None, script).await;
    let (admin, listen) = (free_port(), free_port());
    let _sentinel = Sentinel::start(&config(admin, listen, gateway.address, ""));
    let request = |path: &str| {
        post(
            path,
            "Idempotency-Key: order-77\r\n",
            "card=4242424242424242&key=sk_live_abcdefghijklmnop",
        )
    };
    // A request that was on its way when the tap was opened has no path to show; the filter waits for a later one.
    let tap = Tap::start(admin, &["-o", "json", "--event", "request", "--path", "/v1/"]);
    let path = "/v1/4000056655665556/charges?token=sk_live_abcdefghijklmnop";
    let (event, tap) = shown(listen, request(path), tap).await;
    assert_eq!(event["path"], "/v1/[card]/charges", "{event}");
    assert_eq!(
        (&event["route"], &event["gateway"]),
        (&"checkout".into(), &"stripe".into())
    );
    assert_eq!(
        (event["status"].as_u64(), &event["outcome"]),
        (Some(200), &"forwarded".into())
    );
    assert!(
        event["took_ms"].as_f64().unwrap() >= event["overhead_ms"].as_f64().unwrap(),
        "{event}"
    );
    let line = event.to_string();
    for secret in ["4242424242424242", "4000056655665556", "sk_live", "order-77", "token"] {
        assert!(!line.contains(secret), "{line}");
    }
    drop(tap);

    // Filters are applied before anything is sent; text is for people.
    let tap = Tap::start(admin, &["--status", "4xx", "--path", "/v1/declined", "-n", "1"]);
    let reading = tokio::task::spawn_blocking(move || {
        let mut tap = tap;
        let line = tap.lines.next().unwrap().unwrap();
        (line, tap.child.wait().unwrap())
    });
    eventually("the filtered tap ends by itself", async || {
        let _ = once(listen, request("/v1/charges")).await;
        let _ = once(listen, request("/v1/declined")).await;
        reading.is_finished()
    })
    .await;
    let (line, status) = reading.await.unwrap();
    assert!(status.success());
    assert!(
        line.contains("POST    402  /v1/declined  checkout  stripe  forwarded"),
        "{line}"
    );

    // A failed attempt is an event of its own.
    let tap = Tap::start(admin, &["-o", "json", "--event", "attempt"]);
    let (event, _tap) = shown(listen, request("/v1/break"), tap).await;
    assert_eq!(event["outcome"], "connection", "{event}");
    assert!(
        event["note"].as_str().unwrap().starts_with("first attempt, unknown: "),
        "{event}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_has_to_be_let_in_and_told_the_truth() {
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let (admin, listen) = (free_port(), free_port());
    let open = SocketAddr::from(([0, 0, 0, 0], admin.port()));
    let more = "admin: { token: s3cret }";
    let _sentinel = Sentinel::start(&config(open, listen, gateway.address, more));
    let tried = |more: &[&str]| {
        let address = admin.to_string();
        let args: Vec<&str> = ["tap", "--admin", &address].iter().chain(more).copied().collect();
        command(&args, std::path::Path::new("."))
    };
    let (code, _, said) = tried(&["-n", "1"]);
    assert!(code == 1 && said.contains("401"), "{code} {said}");
    let (code, _, said) = tried(&["--token", "s3cret", "--status", "40"]);
    assert!(code == 1 && said.contains("write 402 or 5xx"), "{code} {said}");
    let nobody = free_port().to_string();
    let (code, _, said) = command(&["top", "--once", "--admin", &nobody], std::path::Path::new("."));
    assert!(code == 1 && said.contains("Is `sentinel run` running"), "{code} {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_rates_breakers_and_what_is_in_flight() {
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let (admin, listen) = (free_port(), free_port());
    let _sentinel = Sentinel::start(&config(admin, listen, gateway.address, ""));
    let address = admin.to_string();
    let looking = tokio::task::spawn_blocking(move || {
        let args = ["top", "--once", "--json", "--interval", "1", "--admin", &address];
        command(&args, std::path::Path::new("."))
    });
    while !looking.is_finished() {
        assert_eq!(once(listen, post("/v1/charges", "", "a=1")).await.status(), 200);
    }
    let (code, out, said) = looking.await.unwrap();
    assert_eq!(code, 0, "{said}");
    let view: Value = serde_json::from_str(&out).unwrap();
    let row = &view["routes"][0];
    assert_eq!((&row["route"], &row["gateway"]), (&"checkout".into(), &"stripe".into()));
    assert_eq!(
        (&row["breaker"], row["error_percent"].as_f64()),
        (&"closed".into(), Some(0.0))
    );
    assert!(
        row["rate"].as_f64().unwrap() > 1.0 && row["p99"].as_f64().unwrap() > 0.0,
        "{row}"
    );
    assert_eq!(view["version"], env!("CARGO_PKG_VERSION"));

    // Forced open, it comes into the table as such.
    let forced = once(admin, post("/breakers/checkout/stripe/open", "", "")).await;
    assert_eq!(forced.status(), 204);
    let address = admin.to_string();
    let args = ["top", "--once", "--interval", "0.1", "--admin", &address];
    let (code, out, said) = command(&args, std::path::Path::new("."));
    assert_eq!(code, 0, "{said}");
    let row: Vec<&str> = out.lines().nth(4).unwrap().split_whitespace().collect();
    assert_eq!(row[..2], ["checkout", "stripe"], "{out}");
    assert!(row[2].contains("open"), "{out}");
    assert!(!out.contains('\u{1b}'), "no terminal, no escapes");
}
