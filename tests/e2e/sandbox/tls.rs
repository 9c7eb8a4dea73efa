//! TLS under the sandbox's own authority, HTTP/2, and the faults there.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use sentinel::sandbox::Kind;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use sentinel::sandbox::server::{self, Gateway, Options, Sandbox, Serve, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{executed, pay, soon};

async fn secure() -> (Sandbox, Gateway) {
    let sandbox = server::serve(Options {
        gateways: vec![Serve::new(Kind::Adyen)],
        tls: Some(Tls::generate().unwrap()),
        ..Options::default()
    })
    .await
    .unwrap();
    let gateway = sandbox.gateway("adyen").unwrap().clone();
    assert!(gateway.url().starts_with("https://127.0.0.1:"));
    (sandbox, gateway)
}

async fn connect(sandbox: &Sandbox, gateway: &Gateway, alpn: &str) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(sandbox.authority().unwrap().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn h2(sandbox: &Sandbox, gateway: &Gateway) -> Sender {
    let stream = connect(sandbox, gateway, "h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

async fn send(sender: &mut Sender, reference: &str) -> Result<(u16, Bytes), hyper::Error> {
    let text = pay(reference, None);
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let request = Request::post("https://localhost/v71/payments")
        .header("x-api-key", "sandbox")
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    let answer = soon(sender.send_request(request)).await?;
    let status = answer.status().as_u16();
    Ok((status, soon(answer.into_body().collect()).await?.to_bytes()))
}

#[tokio::test]
async fn verified_tls_carries_both_protocols() {
    let (sandbox, gateway) = secure().await;
    let mut stream = connect(&sandbox, &gateway, "http/1.1").await;
    stream.write_all(pay("order-1", None).as_bytes()).await.unwrap();
    let mut got = [0u8; 15];
    soon(stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"HTTP/1.1 200 OK");
    let mut sender = h2(&sandbox, &gateway).await;
    assert_eq!(send(&mut sender, "order-2").await.unwrap().0, 200);
    assert_eq!(executed(&sandbox), 2);
    let seen = gateway.requests();
    assert_eq!((seen[0].http2, seen[1].http2), (false, true));
}

#[tokio::test]
async fn cuts_count_plaintext_inside_tls() {
    let (sandbox, gateway) = secure().await;
    let request = pay("order-1", None);
    for (number, cut) in [Cut::Fin, Cut::Rst].into_iter().enumerate() {
        gateway.fault(Rule::once(
            Match::default(),
            Fault::CutAnswer {
                byte: 33,
                cut,
                when: When::After,
            },
        ));
        let mut stream = connect(&sandbox, &gateway, "http/1.1").await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        let end = soon(stream.read_to_end(&mut got)).await;
        assert_eq!((got.len(), end.is_ok()), (33, cut == Cut::Fin), "{cut:?}: {end:?}");
        assert_eq!(executed(&sandbox), number + 1);
        gateway.fault(Rule::once(Match::default(), Fault::CutRequest { byte: 33, cut }));
        let mut stream = connect(&sandbox, &gateway, "http/1.1").await;
        let _ = stream.write_all(request.as_bytes()).await;
        assert!(!matches!(soon(stream.read(&mut [0u8; 9])).await, Ok(read) if read > 0));
        assert_eq!(executed(&sandbox), number + 1);
    }
    gateway.fault(Rule::once(Match::default(), Fault::CutConnection { cut: Cut::Stall }));
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let mut byte = [0u8; 1];
    let silent = tokio::time::timeout(std::time::Duration::from_millis(100), stream.peek(&mut byte)).await;
    assert!(silent.is_err(), "the handshake never begins");
}

#[tokio::test]
async fn http2_streams_are_reset_cut_and_told_to_go() {
    let (sandbox, gateway) = secure().await;
    let mut sender = h2(&sandbox, &gateway).await;
    for (when, expected) in [(When::Before, 0), (When::After, 1)] {
        gateway.fault(Rule::once(Match::default(), Fault::ResetStream { code: 7, when }));
        let error = send(&mut sender, "order-1").await.unwrap_err();
        let reason = std::error::Error::source(&error)
            .and_then(|source| source.downcast_ref::<h2::Error>())
            .and_then(h2::Error::reason);
        assert_eq!(reason, Some(h2::Reason::REFUSED_STREAM), "{error:?}");
        assert_eq!(executed(&sandbox), expected);
    }
    assert_eq!(
        send(&mut sender, "order-2").await.unwrap().0,
        200,
        "the connection lives on"
    );
    gateway.fault(Rule::once(Match::default(), Fault::GoAway));
    assert_eq!(send(&mut sender, "order-3").await.unwrap().0, 200);
    soon(async {
        while !sender.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for byte in [0, 5, 40] {
        let mut sender = h2(&sandbox, &gateway).await;
        gateway.fault(Rule::once(
            Match::default(),
            Fault::CutAnswer {
                byte,
                cut: Cut::Rst,
                when: When::After,
            },
        ));
        let before = executed(&sandbox);
        assert!(send(&mut sender, &format!("order-4-{byte}")).await.is_err());
        assert_eq!(executed(&sandbox), before + 1);
        let mut sender = h2(&sandbox, &gateway).await;
        gateway.fault(Rule::once(Match::default(), Fault::CutRequest { byte, cut: Cut::Fin }));
        assert!(send(&mut sender, &format!("order-5-{byte}")).await.is_err());
        assert_eq!(executed(&sandbox), before + 1);
    }
    let mut sender = h2(&sandbox, &gateway).await;
    gateway.fault(Rule::once(
        Match::default(),
        Fault::CutRequest {
            byte: 100_000,
            cut: Cut::Rst,
        },
    ));
    assert_eq!(
        send(&mut sender, "order-6").await.unwrap().0,
        200,
        "a shorter request passes"
    );
}
