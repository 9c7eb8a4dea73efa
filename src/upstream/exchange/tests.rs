use std::cell::Cell;
use std::net::SocketAddr;

use http_body_util::Empty;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::upstream::Sent;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

fn gateway(address: SocketAddr) -> Arc<GatewayConfig> {
    let yaml = format!(
        "gateways: {{ stripe: {{ dialect: stripe, endpoint: 'http://{address}', allow_private: true }} }}\n\
         routes: [{{ name: r, listen: '127.0.0.1:9', dialect: stripe, gateways: [stripe] }}]"
    );
    let config = crate::config::load::parse(std::path::Path::new("test.yaml"), &yaml).unwrap();
    Arc::clone(&config.gateways["stripe"])
}

fn limits() -> Limits {
    Limits {
        total: Deadline::after(Instant::now(), Duration::from_secs(60)),
        response_header: Duration::ZERO,
        answer: 1024,
        connections: Connections::Any,
    }
}

fn charge() -> Request<Bytes> {
    let mut request = Request::new(Bytes::from_static(b"amount=100"));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = "/v1/charges".parse().unwrap();
    request
}

async fn listener() -> (TcpListener, Arc<GatewayConfig>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = gateway(listener.local_addr().unwrap());
    (listener, gateway)
}

/// Reads until so many bytes end with this.
async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut got = Vec::new();
    while !got.ends_with(end) {
        let mut chunk = [0; 1024];
        let length = stream.read(&mut chunk).await.unwrap();
        assert!(
            length > 0,
            "the connection ended after {:?}",
            String::from_utf8_lossy(&got)
        );
        got.extend_from_slice(&chunk[..length]);
    }
    got
}

async fn local(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn the_last_byte_goes_only_after_the_gate() {
    local(async {
        let (listener, gateway) = listener().await;
        let client = Client::<Empty<Bytes>>::new();
        let (prefix_read, told) = tokio::sync::oneshot::channel();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let prefix = read_until(&mut stream, b"amount=10").await;
            prefix_read.send(()).unwrap();
            assert_eq!(read_until(&mut stream, b"0").await, b"0");
            stream.write_all(ANSWER).await.unwrap();
            (prefix, stream)
        };
        let gate = async || {
            told.await.unwrap();
            true
        };
        let request = charge();
        let limits = limits();
        let ((prefix, _open), answer) = tokio::join!(server, client.exchange(&gateway, request, &limits, gate));
        let answer = answer.unwrap();
        assert_eq!(&answer.body[..], b"{}");
        assert_eq!(answer.evidence.progress, Progress::Committed);
        assert_eq!(answer.evidence.bytes_sent, prefix.len() as u64 + 1);
        assert!(answer.marks.held < answer.marks.released);
        assert_eq!(client.connections("stripe"), (1, 0, 1));
    })
    .await;
}

#[tokio::test]
async fn a_withdrawn_request_is_never_completed() {
    local(async {
        let (listener, gateway) = listener().await;
        let client = Client::<Empty<Bytes>>::new();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            all
        };
        let limits = limits();
        let (received, result) = tokio::join!(server, client.exchange(&gateway, charge(), &limits, async || false));
        let failed = result.unwrap_err();
        assert_eq!(failed.error.failure, Failure::Withdrawn);
        assert_eq!(failed.error.evidence.sent(), Sent::No);
        assert!(received.ends_with(b"\r\n\r\namount=10"));
    })
    .await;
}

#[tokio::test]
async fn a_request_without_a_body_holds_the_last_byte_of_its_head() {
    local(async {
        let (listener, gateway) = listener().await;
        let client = Client::<Empty<Bytes>>::new();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            all
        };
        let mut request = charge();
        *request.body_mut() = Bytes::new();
        let limits = limits();
        let (received, _) = tokio::join!(server, client.exchange(&gateway, request, &limits, async || false));
        assert!(
            received.ends_with(b"\r\ncontent-length: 0\r\n\r"),
            "{}",
            String::from_utf8_lossy(&received)
        );
    })
    .await;
}

#[tokio::test]
async fn an_answer_before_the_commit_byte_completes_nothing() {
    local(async {
        let (listener, gateway) = listener().await;
        let client = Client::<Empty<Bytes>>::new();
        let (answered, told) = tokio::sync::oneshot::channel();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_until(&mut stream, b"amount=10").await;
            stream
                .write_all(b"HTTP/1.1 408 Late\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
            answered.send(()).unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            rest
        };
        let asked = Cell::new(false);
        let limits = limits();
        let gate = async || {
            asked.set(true);
            // The answer is there; the runtime looks at its sockets once more before the gate opens.
            told.await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            true
        };
        let (rest, result) = tokio::join!(server, client.exchange(&gateway, charge(), &limits, gate));
        let failed = result.unwrap_err();
        assert_eq!(failed.error.failure, Failure::EarlyAnswer);
        assert_eq!(failed.error.evidence.status, Some(408));
        assert_eq!(failed.error.evidence.sent(), Sent::No);
        assert_eq!(rest, b"");
        assert!(asked.get());
    })
    .await;
}

#[tokio::test]
async fn a_used_connection_waits_for_the_acknowledgement() {
    local(async {
        let (listener, gateway) = listener().await;
        let client = Client::<Empty<Bytes>>::new();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..3 {
                read_until(&mut stream, b"amount=100").await;
                stream.write_all(ANSWER).await.unwrap();
            }
        };
        let application = async {
            for round in 0..3 {
                let answer = client
                    .exchange(&gateway, charge(), &limits(), async || true)
                    .await
                    .unwrap();
                assert_eq!(answer.evidence.reused, round > 0);
                assert_eq!(answer.marks.acknowledged.is_some(), round > 0);
            }
        };
        tokio::join!(server, application);
        assert_eq!(client.connections("stripe").2, 1);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_not_used() {
    local(async {
        let (listener, gateway) = listener().await;
        let client = Client::<Empty<Bytes>>::new();
        let server = async {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                read_until(&mut stream, b"amount=100").await;
                stream.write_all(ANSWER).await.unwrap();
            }
        };
        let application = async {
            for _ in 0..2 {
                let answer = client
                    .exchange(&gateway, charge(), &limits(), async || true)
                    .await
                    .unwrap();
                assert!(!answer.evidence.reused);
            }
        };
        tokio::join!(server, application);
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_not_complete() {
    local(async {
        let (listener, gateway) = listener().await;
        let client = Client::<Empty<Bytes>>::new();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_until(&mut stream, b"amount=100").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{}").await.unwrap();
        };
        let limits = limits();
        let (_, result) = tokio::join!(server, client.exchange(&gateway, charge(), &limits, async || true));
        let evidence = result.unwrap_err().error.evidence;
        assert_eq!((evidence.sent(), evidence.status), (Sent::Maybe, Some(200)));
    })
    .await;
}
