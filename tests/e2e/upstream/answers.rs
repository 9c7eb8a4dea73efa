//! Answers over HTTP/1.1 as a gateway may write them: torn, early, ambiguous, too many.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use sentinel::config::model::GatewayConfig;
use sentinel::resilience::Deadline;
use sentinel::upstream::{Deadlines, Failure, Sent};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Worker, local};
use crate::support::patience::PATIENCE;
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::{Client, post};

fn plaintext(address: SocketAddr) -> Arc<GatewayConfig> {
    let yaml = format!(
        "gateways: {{ stripe: {{ dialect: stripe, endpoint: 'http://{address}', allow_private: true }} }}\n\
         routes: [{{ name: r, listen: '127.0.0.1:9', dialect: stripe, gateways: [stripe] }}]"
    );
    let config = sentinel::config::load::parse(Path::new("test.yaml"), &yaml).unwrap();
    Arc::clone(&config.gateways["stripe"])
}

/// What came of a POST: status and body, or the failure and what is said of arrival.
async fn call(client: &Worker, gateway: &Arc<GatewayConfig>) -> Result<(u16, Option<String>), (Failure, Sent)> {
    let deadlines = Deadlines {
        response_header: PATIENCE,
        body_idle: PATIENCE,
        total: Deadline::NEVER,
    };
    let request = http::Request::post("/v1/charges").body(Full::new(Bytes::from_static(b"amount=1")));
    match client
        .forward(
            gateway,
            Box::new(request.unwrap()),
            &deadlines,
            tokio::time::Instant::now(),
            false,
        )
        .await
    {
        Ok((response, evidence)) => {
            assert_eq!(evidence.sent(), Sent::Maybe);
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.ok();
            Ok((
                status,
                body.map(|body| String::from_utf8(body.to_bytes().to_vec()).unwrap()),
            ))
        }
        Err(failed) => Err((failed.error.failure, failed.error.evidence.sent())),
    }
}

/// Reads one request: a head, and a body of `amount=1`.
async fn request(stream: &mut TcpStream) -> bool {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\namount=1") {
        match stream.read_u8().await {
            Ok(byte) => got.push(byte),
            Err(_) => return false,
        }
    }
    true
}

/// A gateway that writes these bytes to each request, in pieces, and then goes on, or closes.
async fn gateway(pieces: Vec<Vec<u8>>, closes: bool) -> (Arc<GatewayConfig>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let pieces = pieces.clone();
            tokio::spawn(async move {
                while request(&mut stream).await {
                    for piece in &pieces {
                        if stream.write_all(piece).await.is_err() {
                            return;
                        }
                        tokio::task::yield_now().await;
                    }
                    if closes {
                        return;
                    }
                }
            });
        }
    });
    (plaintext(address), task)
}

#[tokio::test]
async fn an_answer_that_could_be_read_in_two_ways_is_refused_and_may_have_been_an_answer() {
    local(async {
        let many = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(20);
        let large = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(200 * 1024));
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!",
            "HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nok!",
            "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, identity\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n",
            "HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "220 mail.example ESMTP\r\n",
            "HTTP/1.1 200 OK\r\ncontent-",
            "",
            &many,
            &large,
        ] {
            let (gateway, task) = gateway(vec![answer.as_bytes().to_vec()], true).await;
            let told = call(&Worker::new(), &gateway).await;
            let shown = answer.get(..200).unwrap_or(answer);
            assert_eq!(told, Err((Failure::Connection, Sent::Maybe)), "{shown}");
            task.abort();
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_cut_or_malformed_is_never_taken_for_whole() {
    local(async {
        for body in [
            "content-length: 3\r\n\r\nok",
            "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
            "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
            "transfer-encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
            "transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nok",
        ] {
            let answer = format!("HTTP/1.1 200 OK\r\n{body}").into_bytes();
            let (gateway, task) = gateway(vec![answer], true).await;
            assert_eq!(call(&Worker::new(), &gateway).await, Ok((200, None)), "{body:?}");
            task.abort();
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_the_same_wherever_its_bytes_are_torn() {
    local(async {
        for answer in [
            &b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok"[..],
            b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nx: y\r\n\r\n",
        ] {
            let client = Worker::new();
            for cut in 1..answer.len() {
                let pieces = vec![answer[..cut].to_vec(), answer[cut..].to_vec()];
                let (gateway, task) = gateway(pieces, false).await;
                for _ in 0..2 {
                    let told = call(&client, &gateway).await;
                    assert_eq!(told, Ok((201, Some("ok".to_owned()))), "torn at {cut}");
                }
                assert_eq!(client.connections("stripe").2, 1, "one connection for both");
                task.abort();
            }
            let (gateway, task) = gateway(answer.iter().map(|byte| vec![*byte]).collect(), false).await;
            let told = call(&client, &gateway).await;
            assert_eq!(told, Ok((201, Some("ok".to_owned()))), "byte by byte");
            task.abort();
        }
    })
    .await;
}

#[tokio::test]
async fn what_follows_an_answer_is_never_the_answer_to_another_request() {
    local(async {
        // Beside the answer, or on the idle connection afterwards.
        for late in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let gateway = plaintext(listener.local_addr().unwrap());
            let (wrote, written) = tokio::sync::oneshot::channel();
            let server = tokio::spawn(async move {
                let (mut first, _) = listener.accept().await.unwrap();
                assert!(request(&mut first).await);
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
                let more = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
                if late {
                    first.write_all(format!("{answer}ok").as_bytes()).await.unwrap();
                    first.write_all(more.as_bytes()).await.unwrap();
                } else {
                    first.write_all(format!("{answer}ok{more}").as_bytes()).await.unwrap();
                }
                wrote.send(()).unwrap();
                let (mut second, _) = listener.accept().await.unwrap();
                assert!(request(&mut second).await);
                second.write_all(format!("{answer}ok").as_bytes()).await.unwrap();
                second
            });
            let client = Worker::new();
            let good = Ok((200, Some("ok".to_owned())));
            assert_eq!(call(&client, &gateway).await, good);
            written.await.unwrap();
            // The runtime looks at its sockets once more.
            tokio::task::yield_now().await;
            assert_eq!(call(&client, &gateway).await, good);
            drop(server.await.unwrap());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_the_application_and_the_rest_of_its_request_the_gateway() {
    const SIZE: usize = 4 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno";
        stream.write_all(answer).await.unwrap();
        let mut body = vec![0; SIZE];
        stream.read_exact(&mut body).await.unwrap();
        // The next one may come by the same connection, or by another if that one was not back yet.
        let mut next = tokio::select! {
            true = request(&mut stream) => stream,
            Ok((mut other, _)) = listener.accept() => {
                assert!(request(&mut other).await);
                other
            }
        };
        next.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes")
            .await
            .unwrap();
        body.iter().all(|byte| *byte == b'x')
    });
    let (listen, admin) = (free_port(), free_port());
    let _sentinel = Sentinel::start(&format!(
        "listeners: {{ admin: {admin} }}\n\
         gateways: {{ stripe: {{ dialect: stripe, endpoint: 'http://{address}', allow_private: true }} }}\n\
         routes: [{{ name: checkout, listen: '{listen}', dialect: stripe, gateways: [stripe] }}]\n"
    ));
    let mut client = Client::connect(listen).await;
    client
        .send(format!(
            "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\nx"
        ))
        .await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (413, "no"));
    client.send(vec![b'x'; SIZE - 1]).await;
    let answer = client.exchange(post("/v1/charges", "", "amount=1")).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "yes"));
    assert!(gateway.await.unwrap(), "the body arrived as it was");
}
