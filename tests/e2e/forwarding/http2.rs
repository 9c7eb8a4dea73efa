//! HTTP/2 through the whole binary: gateways that go away, and trailers.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;

use super::config;
use crate::support::frames::Peer;
use crate::support::gateway::{Gateway, Script};
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::{get, once, post};

/// A sidecar with one worker in front of a plaintext HTTP/2 gateway.
fn start(gateway: SocketAddr) -> (Sentinel, SocketAddr) {
    let listen = free_port();
    let endpoint = format!("http://{gateway}");
    let text = config(listen, &endpoint, ", protocol: h2", "");
    (Sentinel::start(&format!("{text}\nworkers: 1\n")), listen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_goes_away_costs_no_read_and_repeats_no_payment() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_sentinel, listen) = start(listener.local_addr().unwrap());
    let accept = async || {
        let (stream, _) = listener.accept().await.unwrap();
        Peer::accept(Box::new(stream)).await.unwrap()
    };
    let first = tokio::spawn(once(listen, get("/v1/first", "")));
    let mut peer = accept().await;
    let taken = peer.request().await.unwrap();
    let read = tokio::spawn(once(listen, get("/v1/read", "")));
    assert!(peer.request().await.unwrap() > taken);
    let payment = tokio::spawn(once(listen, post("/v1/charges", "Idempotency-Key: k\r\n", "amount=1")));
    assert!(peer.request().await.unwrap() > taken);
    peer.go_away(taken).await.unwrap();

    // The read goes again on a new connection; the payment does not, because nobody can know what became of it.
    let mut next = accept().await;
    let again = next.request().await.unwrap();
    next.answer(again).await.unwrap();
    assert_eq!(read.await.unwrap().status(), 200);
    let payment = payment.await.unwrap();
    assert_eq!(
        (payment.status(), payment.header("sentinel-outcome")),
        (504, Some("unknown")),
        "{payment:?}"
    );
    // What the gateway had taken it still answers.
    peer.answer(taken).await.unwrap();
    assert_eq!(first.await.unwrap().status(), 200);
    // And nothing else came: the next request on the new connection is the next that is made.
    let later = tokio::spawn(once(listen, get("/v1/later", "")));
    let stream = next.request().await.unwrap();
    assert_eq!(stream, again + 2);
    next.answer(stream).await.unwrap();
    assert_eq!(later.await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answers_trailers_pass_and_a_requests_are_refused() {
    let script: Script = Arc::new(|_, _, mut stream| {
        Box::pin(async move {
            let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n";
            stream.write_all(answer).await.ok()?;
            Some(stream)
        })
    });
    let gateway = Gateway::scripted(None, script).await;
    let listen = free_port();
    let _sentinel = Sentinel::start(&config(listen, &format!("http://{}", gateway.address), "", ""));

    // HTTP/1.1: to whoever says that it takes them (RFC 9110 6.5.1).
    for (te, trailers) in [
        ("TE: trailers\r\n", vec![("x-sum".to_owned(), "7".to_owned())]),
        ("", Vec::new()),
    ] {
        let answer = once(listen, get("/v1/x", te)).await;
        assert_eq!(
            (answer.text().as_str(), &answer.trailers),
            ("abc", &trailers),
            "{answer:?}"
        );
    }
    // HTTP/2: to everybody.
    let stream = tokio::net::TcpStream::connect(listen).await.unwrap();
    let (mut client, connection) = h2::client::Builder::new().handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://a/v1/x").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let mut text = Vec::new();
    while let Some(chunk) = body.data().await {
        text.extend(chunk.unwrap());
    }
    assert_eq!(text, b"abc");
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["x-sum"], "7");

    // A request's trailers arrive after decisions were made: no gateway's API has any.
    let seen = gateway.seen().len();
    let chunked = "POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na=1\r\n0\r\nIdempotency-Key: other\r\n\r\n";
    let answer = once(listen, chunked).await;
    assert!(matches!(answer.status(), 400 | 408), "{answer:?}");
    assert_eq!(
        (answer.header("sentinel-outcome"), answer.header("connection")),
        (Some("not_sent"), Some("close")),
        "{answer:?}"
    );
    assert_eq!(gateway.seen().len(), seen, "it never was whole there");
}
