//! HTTP/2 requests that HTTP/1.1 would be refused for, and the protocol told from the first bytes on one port.

use bytes::Bytes;
use http::{Request, StatusCode};

use super::Subject;
use super::subject::Recorder;

/// Sends one request by HTTP/2 with prior knowledge. `None` when the stream was reset.
fn send(recorder: &Recorder, request: Request<()>) -> Option<(StatusCode, String)> {
    let address = recorder.address();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut client, connection) = h2::client::Builder::new().handshake::<_, Bytes>(stream).await.unwrap();
        tokio::spawn(connection);
        let (response, _) = client.send_request(request, true).ok()?;
        let response = response.await.ok()?;
        let status = response
            .headers()
            .get("proxy-status")
            .map_or("", |value| value.to_str().unwrap())
            .to_owned();
        Some((response.status(), status))
    })
}

fn get(uri: &str) -> http::request::Builder {
    Request::get(uri).version(http::Version::HTTP_2)
}

#[test]
fn prior_knowledge_and_http1_share_a_port() {
    let recorder = Recorder::start(|_| {});
    let (status, _) = send(&recorder, get("http://a:80/v1/x?expand[0]=y").body(()).unwrap()).unwrap();
    assert_eq!(status, 200);
    let (_, answer) = super::talk(recorder.address(), super::END, super::Split::Bytes);
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    assert_eq!(recorder.count(), 2);
}

#[test]
fn the_rules_hold_for_http2_too() {
    let recorder = Recorder::start(|_| {});
    for (code, request) in [
        ("path", get("http://a/x/../y")),
        ("path", get("http://a/%2e%2e/")),
        ("path", get("http://a/a%2fb")),
        ("path", get("http://a/a%00")),
        ("host", get("http://a/").header("host", "b")),
        (
            "host_repeated",
            get("http://a/").header("host", "a").header("host", "a"),
        ),
        ("header_alias", get("http://a/").header("content_length", "5")),
        ("expectation", get("http://a/").header("expect", "x")),
    ] {
        let (status, text) = send(&recorder, request.body(()).unwrap()).unwrap();
        assert_eq!(status, 400 + 17 * u16::from(code == "expectation"), "{code}");
        assert!(text.ends_with(&format!("details=\"{code}\"")), "{code}: {text}");
    }
    let trace = Request::builder()
        .method("TRACE")
        .uri("http://a/")
        .version(http::Version::HTTP_2)
        .body(())
        .unwrap();
    assert_eq!(send(&recorder, trace).unwrap().0, 501);
    assert_eq!(recorder.count(), 0);
}
