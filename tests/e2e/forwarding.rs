//! Transparency: what the application sends is what the gateway gets, and the other way round.

mod http2;

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::gateway::{Gateway, Script, json};
use crate::support::patience::PATIENCE;
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::tls::Authority;
use crate::support::wire::{Client, get, once, post};

/// One Stripe route on a listener of its own, without failover, to the given endpoint.
fn config(listen: std::net::SocketAddr, endpoint: &str, extra_gateway: &str, extra_route: &str) -> String {
    format!(
        "listeners: {{ admin: {admin} }}
gateways:
  stripe: {{ dialect: stripe, endpoint: '{endpoint}', allow_private: true{extra_gateway} }}
routes:
  - name: checkout
    listen: {listen}
    dialect: stripe
    gateways: [stripe]
{extra_route}",
        admin = free_port(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn path_query_headers_and_body_reach_the_gateway_unchanged_over_verified_tls() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let gateway = Gateway::answering(Some(authority.server(&[b"http/1.1"])), |_, _| {
        json(200, r#"{"id":"pi_1"}"#)
    })
    .await;
    let listen = free_port();
    let endpoint = format!("https://localhost:{}", gateway.address.port());
    let _sentinel = Sentinel::start(&config(
        listen,
        &endpoint,
        &format!(", roots: '{}'", authority.ca.display()),
        "",
    ));

    let body = "amount=2000&currency=usd&metadata[order%20id]=67+35";
    let request = format!(
        "POST /v1/payment_intents/pi_%41?expand[0]=a&x=%5B1%5D&=&&y HTTP/1.1\r\nHost: 127.0.0.1:1\r\nAuthorization: Bearer sk_test_1\r\nIdempotency-Key: key-1\r\nX-Many: 1\r\nX-Many: 2\r\nX-Odd:  a  b \r\nConnection: keep-alive, x-hop\r\nX-Hop: gone\r\nX-Forwarded-For: 6.6.6.6\r\nSentinel-Payment: forged\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = once(listen, request).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.text(), r#"{"id":"pi_1"}"#);
    assert_eq!(answer.header("request-id"), Some("req_test"));

    let seen = gateway.seen().remove(0);
    assert_eq!(
        seen.start,
        "POST /v1/payment_intents/pi_%41?expand[0]=a&x=%5B1%5D&=&&y HTTP/1.1"
    );
    assert_eq!(seen.text(), body);
    assert_eq!(
        seen.header("host"),
        Some(format!("localhost:{}", gateway.address.port()).as_str())
    );
    let fields: Vec<String> = seen
        .headers
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("host"))
        .map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase()))
        .collect();
    assert_eq!(
        fields,
        [
            "authorization: Bearer sk_test_1",
            "idempotency-key: key-1",
            "x-many: 1",
            "x-many: 2",
            "x-odd: a  b",
            &format!("content-length: {}", body.len())
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_certificate_is_refused_before_a_byte_of_the_request() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let gateway = Gateway::answering(Some(authority.server(&[])), |_, _| json(200, "{}")).await;
    let listen = free_port();
    let _sentinel = Sentinel::start(&config(
        listen,
        &format!("https://localhost:{}", gateway.address.port()),
        "",
        "",
    ));
    let answer = once(listen, post("/v1/charges", "", "amount=1")).await;
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert_eq!(answer.header("sentinel-outcome"), Some("not_sent"));
    assert!(
        answer.header("proxy-status").unwrap().contains("error=tls"),
        "{answer:?}"
    );
    // In Stripe's own error shape, or its SDKs crash.
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("did not reach the gateway"),
        "{body}"
    );
    assert!(gateway.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_not_sent_and_a_broken_answer_may_have_been() {
    let gone = free_port();
    let listen = free_port();
    let _sentinel = Sentinel::start(&config(listen, &format!("http://{gone}"), "", ""));
    let answer = once(listen, post("/v1/charges", "", "amount=1")).await;
    assert_eq!(
        (answer.status(), answer.header("sentinel-outcome")),
        (503, Some("not_sent")),
        "{answer:?}"
    );

    // The gateway reads everything and closes: it may have charged.
    let closing: Script = Arc::new(|_, _, _| Box::pin(async { None }));
    let gateway = Gateway::scripted(None, closing).await;
    let listen = free_port();
    let _sentinel = Sentinel::start(&config(listen, &format!("http://{}", gateway.address), "", ""));
    let answer = once(listen, post("/v1/charges", "Idempotency-Key: k\r\n", "amount=1")).await;
    assert_eq!(
        (answer.status(), answer.header("sentinel-outcome")),
        (504, Some("unknown")),
        "{answer:?}"
    );
    assert_eq!(
        gateway.seen().len(),
        1,
        "a POST that may have arrived is never sent again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn framing_of_every_kind_passes() {
    let script: Script = Arc::new(|_, message, mut stream| {
        Box::pin(async move {
            let answer: &[u8] = match message.start.split(' ').nth(1).unwrap() {
                "/204" => b"HTTP/1.1 204 No Content\r\nrequest-id: a\r\n\r\n",
                "/304" => b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
                "/head" => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nrequest-id: h\r\n\r\n",
                "/chunked" => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 7\r\n\r\n",
                "/close" => b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end",
                "/100" => b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                "/echo" => {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", message.body.len(), message.text());
                    stream.write_all(answer.as_bytes()).await.ok()?;
                    return Some(stream);
                }
                _ => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            };
            stream.write_all(answer).await.ok()?;
            stream.flush().await.ok()?;
            (!answer.windows(5).any(|window| window == b"close")).then_some(stream)
        })
    });
    let gateway = Gateway::scripted(None, script).await;
    let listen = free_port();
    let _sentinel = Sentinel::start(&config(listen, &format!("http://{}", gateway.address), "", ""));
    let mut client = Client::connect(listen).await;

    let answer = client.exchange(get("/204", "")).await;
    assert_eq!((answer.status(), answer.header("request-id")), (204, Some("a")));
    assert_eq!(client.exchange(get("/304", "")).await.status(), 304);
    client.send(get("/head", "").replacen("GET", "HEAD", 1)).await;
    let answer = client.answer_to_head().await.unwrap();
    assert_eq!((answer.status(), answer.header("content-length")), (200, Some("5")));
    assert_eq!(client.exchange(get("/chunked", "")).await.text(), "abcde");
    assert_eq!(client.exchange(get("/close", "")).await.text(), "until the end");
    assert_eq!(client.exchange(get("/100", "")).await.text(), "ok");
    let chunked =
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n3;ext=1\r\nefg\r\n0\r\n\r\n";
    assert_eq!(client.exchange(chunked).await.text(), "abcdefg");

    // A GET with a body of unknown length keeps it.
    assert_eq!(
        client.exchange(chunked.replacen("POST", "GET", 1)).await.text(),
        "abcdefg"
    );

    // The application waits for 100 before it sends its body.
    client
        .send("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .await;
    assert_eq!(client.head().await.unwrap().status(), 100);
    assert_eq!(client.exchange("body").await.text(), "body");
    assert!(
        gateway.seen().iter().all(|seen| seen.header("expect").is_none()),
        "Expect ends here"
    );

    // Large heads pass.
    let large = format!("X-Large: {}\r\n", "v".repeat(30 * 1024));
    assert_eq!(client.exchange(get("/large", &large)).await.status(), 200);
    assert_eq!(
        gateway.seen().last().unwrap().header("x-large").unwrap().len(),
        30 * 1024
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_alive_on_both_sides() {
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let listen = free_port();
    let _sentinel = Sentinel::start(&config(listen, &format!("http://{}", gateway.address), "", ""));
    let mut client = Client::connect(listen).await;
    for _ in 0..20 {
        assert_eq!(client.exchange(post("/v1/charges", "", "amount=1")).await.status(), 200);
    }
    assert_eq!((gateway.seen().len(), gateway.connections()), (20, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_streams_both_ways_in_constant_memory() {
    const SIZE: usize = 1 << 30;
    const LOOK: usize = 1 << 20;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Reads the request's head, then sends its body back as it comes.
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let (mut read, mut write) = stream.split();
        let mut limited = (&mut read).take(SIZE as u64);
        tokio::io::copy(&mut limited, &mut write).await.unwrap()
    });
    let listen = free_port();
    let endless = "    timeouts: { total: 0s }\n";
    let sentinel = Sentinel::start(&config(listen, &format!("http://{address}"), "", endless));
    let client = tokio::net::TcpStream::connect(listen).await.unwrap();
    let (mut read, mut write) = client.into_split();
    let sender = tokio::spawn(async move {
        write
            .write_all(format!("POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..SIZE >> 20 {
            write.write_all(&chunk).await.unwrap();
        }
        write
    });
    let mut got = 0usize;
    let (mut most, mut looked) = (0usize, 0);
    let mut chunk = vec![0u8; 1 << 20];
    while got < SIZE {
        let length = read.read(&mut chunk).await.unwrap();
        assert!(length > 0, "the answer broke off after {got} bytes");
        got += length;
        // The memory is looked at some thousand times on the way, not at each piece.
        if got / LOOK == looked {
            continue;
        }
        looked = got / LOOK;
        let status = std::fs::read_to_string(format!("/proc/{}/status", sentinel.pid())).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        most = most.max(resident.trim().trim_end_matches(" kB").parse().unwrap());
    }
    assert_eq!(echo.await.unwrap(), SIZE as u64);
    drop(sender.await.unwrap());
    assert!(most < 100 * 1024, "resident memory rose to {most} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_chosen_by_listener_prefix_and_host_and_never_by_the_target() {
    let stripe = Gateway::answering(None, |_, _| json(200, r#"{"from":"stripe"}"#)).await;
    let adyen = Gateway::answering(None, |_, _| json(200, r#"{"from":"adyen"}"#)).await;
    let (shared, own) = (free_port(), free_port());
    let _sentinel = Sentinel::start(&format!(
        "listeners: {{ shared: {shared}, admin: {} }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{}', allow_private: true }}
  adyen: {{ dialect: adyen, endpoint: 'http://{}/base', allow_private: true }}
routes:
  - {{ name: stripe, path_prefix: /stripe, dialect: stripe, gateways: [stripe] }}
  - {{ name: adyen, path_prefix: /adyen, listen: '{own}', dialect: adyen, gateways: [adyen] }}
",
        free_port(),
        stripe.address,
        adyen.address
    ));
    assert!(
        once(shared, get("/stripe/v1/balance", ""))
            .await
            .text()
            .contains("stripe")
    );
    assert!(
        once(shared, get("/adyen/v71/x?y=/stripe", ""))
            .await
            .text()
            .contains("adyen")
    );
    assert!(once(own, get("/v71/paymentMethods", "")).await.text().contains("adyen"));
    assert_eq!(stripe.seen()[0].start, "GET /v1/balance HTTP/1.1");
    assert_eq!(adyen.seen()[0].start, "GET /base/v71/x?y=/stripe HTTP/1.1");
    assert_eq!(adyen.seen()[1].start, "GET /base/v71/paymentMethods HTTP/1.1");

    let answer = once(shared, get("/elsewhere", "")).await;
    assert_eq!(answer.status(), 404);
    assert!(
        answer
            .header("proxy-status")
            .unwrap()
            .starts_with("sentinel; error=destination_not_found"),
        "{answer:?}"
    );
    // An absolute target does not choose the destination.
    let answer = once(
        shared,
        "GET http://169.254.169.254/latest HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
    )
    .await;
    assert!(matches!(answer.status(), 400 | 404), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_gateway_ends_at_the_routes_deadline_and_says_that_it_may_have_acted() {
    let stalling: Script = Arc::new(|_, _, stream| {
        Box::pin(async move {
            std::future::pending::<()>().await;
            Some(stream)
        })
    });
    let gateway = Gateway::scripted(None, stalling).await;
    let listen = free_port();
    let _sentinel = Sentinel::start(&config(
        listen,
        &format!("http://{}", gateway.address),
        "",
        "    timeouts: { response_header: 300ms }\n",
    ));
    let started = tokio::time::Instant::now();
    let answer = once(listen, post("/v1/charges", "", "amount=1")).await;
    assert_eq!(
        (answer.status(), answer.header("sentinel-outcome")),
        (504, Some("unknown")),
        "{answer:?}"
    );
    assert!(
        answer.header("proxy-status").unwrap().contains("http_response_timeout"),
        "{answer:?}"
    );
    assert!(started.elapsed() < PATIENCE);
}
