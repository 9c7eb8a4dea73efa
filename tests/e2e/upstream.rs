//! Connections to gateways: what is agreed, who is trusted, how many there are, and when they go.
//!
//! Most tests drive the library's own client as a worker does, where they need to see its connections; the protocol is
//! also seen through the whole binary.

mod answers;
mod silence;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sentinel::config::model::GatewayConfig;
use sentinel::resilience::Deadline;
use sentinel::telemetry::Metrics;
use sentinel::upstream::{Client, Deadlines, Failure, Resolve};
use tokio::sync::Semaphore;

use crate::support::patience::PATIENCE;
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::tls::Authority;
use crate::support::wire::{once, post};

/// A gateway that speaks what its TLS agrees on, says so in its answer, and holds answers back when asked to.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// One permit lets one answer go, where the gateway holds them.
    leave: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(tls: Arc<rustls::ServerConfig>, holds: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, waiting) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let leave = Arc::new(Semaphore::new(0));
        let acceptor = tokio_rustls::TlsAcceptor::from(tls);
        let shared = (Arc::clone(&connections), Arc::clone(&waiting), Arc::clone(&leave));
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                let (connections, waiting, leave) = shared.clone();
                serving.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    connections.fetch_add(1, Ordering::SeqCst);
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let (waiting, leave) = (Arc::clone(&waiting), Arc::clone(&leave));
                        async move {
                            let (version, target) = (request.version(), request.uri().clone());
                            let host = request.headers().get("host").cloned();
                            let body = request.into_body().collect().await?.to_bytes();
                            waiting.fetch_add(1, Ordering::SeqCst);
                            if holds {
                                leave.acquire().await.expect("open").forget();
                            }
                            waiting.fetch_sub(1, Ordering::SeqCst);
                            let told = format!("{version:?} {target} {host:?} {}", body.len());
                            Ok::<_, hyper::Error>(http::Response::new(Full::new(Bytes::from(told))))
                        }
                    });
                    let io = TokioIo::new(stream);
                    let _ = match http2 {
                        true => {
                            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                            builder.serve_connection(io, service).await
                        }
                        false => {
                            hyper::server::conn::http1::Builder::new()
                                .serve_connection(io, service)
                                .await
                        }
                    };
                });
            }
        });
        Self {
            address,
            connections,
            leave,
            waiting,
            task,
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

type Worker = Client<Full<Bytes>>;

fn configure(address: SocketAddr, authority: &Authority, more: &str) -> Arc<GatewayConfig> {
    crate::evidence::client::gateway(address, &authority.ca, more)
}

async fn call(client: &Worker, gateway: &Arc<GatewayConfig>) -> Result<String, Failure> {
    let deadlines = Deadlines {
        response_header: PATIENCE,
        body_idle: PATIENCE,
        total: Deadline::NEVER,
    };
    let request = http::Request::post("/v1/charges?a=%41")
        .body(Full::new(Bytes::from_static(b"amount=1")))
        .unwrap();
    match client
        .forward(
            gateway,
            Box::new(request),
            &deadlines,
            tokio::time::Instant::now(),
            false,
        )
        .await
    {
        Ok((response, _)) => {
            let body = response.into_body().collect().await.unwrap().to_bytes();
            Ok(String::from_utf8(body.to_vec()).unwrap())
        }
        Err(failed) => {
            let nothing_sent = failed.error.failure != Failure::Connection;
            assert_eq!(failed.request.is_some(), nothing_sent, "what never left comes back");
            Err(failed.error.failure)
        }
    }
}

async fn local(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

/// Waits for a condition that others bring about.
async fn until(mut condition: impl FnMut() -> bool) {
    let limit = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < limit, "it never came");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn alpn_decides_under_auto_and_one_connection_carries_many_streams() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let server = Server::start(authority.server(&[b"h2", b"http/1.1"]), true).await;
        let port = server.address.port();
        let client = Rc::new(Worker::new());
        let gateway = configure(server.address, &authority, "protocol: auto");
        // The first request learns what is spoken; those that come at once then share its connection.
        server.leave.add_permits(1);
        let first = call(&client, &gateway).await.unwrap();
        assert_eq!(
            first,
            format!("HTTP/2.0 https://localhost:{port}/v1/charges?a=%41 None 8")
        );
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (client, gateway) = (Rc::clone(&client), Arc::clone(&gateway));
            calls.spawn_local(async move { call(&client, &gateway).await });
        }
        until(|| server.waiting.load(Ordering::SeqCst) == 20).await;
        assert_eq!(client.connections("stripe").1, 20);
        server.leave.add_permits(20);
        while let Some(answer) = calls.join_next().await {
            assert!(answer.unwrap().is_ok());
        }
        assert_eq!(server.connections(), 1);
        assert_eq!(client.connections("stripe"), (1, 0, 1));
    })
    .await;
}

#[tokio::test]
async fn one_connection_is_opened_for_all_who_come_at_once() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let server = Server::start(authority.server(&[b"h2"]), false).await;
        let client = Worker::new();
        let gateway = configure(server.address, &authority, "protocol: h2");
        let calls = (0..10).map(|_| call(&client, &gateway));
        for answer in futures_util::future::join_all(calls).await {
            assert!(answer.unwrap().starts_with("HTTP/2.0"));
        }
        assert_eq!(server.connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn auto_speaks_http1_where_the_gateway_knows_nothing_else_and_h2_does_not() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        for alpn in [&[&b"http/1.1"[..]][..], &[]] {
            let server = Server::start(authority.server(alpn), false).await;
            let auto = configure(server.address, &authority, "protocol: auto");
            let told = call(&Worker::new(), &auto).await.unwrap();
            assert!(told.starts_with("HTTP/1.1 /v1/charges?a=%41 Some("), "{told}");
            let only = configure(server.address, &authority, "protocol: h2");
            assert_eq!(call(&Worker::new(), &only).await, Err(Failure::Tls));
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_certificate_opens_a_gateway_that_demands_one() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let server = Server::start(authority.demanding(), false).await;
        let without = configure(server.address, &authority, "protocol: h1");
        // TLS 1.3 tells a client that its certificate is missing after the handshake: before or with the first request.
        let refused = call(&Worker::new(), &without).await;
        assert!(
            matches!(refused, Err(Failure::Tls | Failure::Connection)),
            "{refused:?}"
        );
        let (cert, key) = authority.identity("sentinel");
        let shows = format!(
            "client_certificate: {{ cert: '{}', key: '{}' }}",
            cert.display(),
            key.display()
        );
        let with = configure(server.address, &authority, &shows);
        assert!(call(&Worker::new(), &with).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_chain_without_a_pinned_key_is_refused_or_reported() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let server = Server::start(authority.server(&[b"http/1.1"]), false).await;
        let wrong = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let other = "sha256/BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";
        let answers = |more: String| {
            let gateway = configure(server.address, &authority, &more);
            async move { call(&Worker::new(), &gateway).await.map(|_| ()) }
        };
        let refused = answers(format!("pins: ['{wrong}', '{other}']")).await;
        assert_eq!(refused, Err(Failure::Tls));
        for right in [&authority.leaf_pin, &authority.root_pin] {
            assert_eq!(
                answers(format!("pins: ['{wrong}', '{right}']")).await,
                Ok(()),
                "{right}"
            );
        }
        let reported = answers(format!("pins: ['{wrong}', '{other}'], pin_mode: report")).await;
        assert_eq!(reported, Ok(()));
        let over = answers(format!("pins: ['{wrong}', '{other}'], pins_until: '2020-01-01'")).await;
        assert_eq!(over, Ok(()));
        let binding = answers(format!("pins: ['{wrong}', '{other}'], pins_until: '2999-12-31'")).await;
        assert_eq!(binding, Err(Failure::Tls));
    })
    .await;
}

#[tokio::test]
async fn a_second_connection_resumes_the_first_ones_session_and_all_of_it_is_counted() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let server = Server::start(authority.server(&[b"http/1.1"]), true).await;
        let metrics = Arc::new(Metrics::new().unwrap());
        let client = Rc::new(Worker::observed(&metrics));
        let gateway = configure(server.address, &authority, "protocol: h1");
        server.leave.add_permits(1);
        call(&client, &gateway).await.unwrap();
        // Two at once need a second connection.
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let (client, gateway) = (Rc::clone(&client), Arc::clone(&gateway));
            calls.spawn_local(async move { call(&client, &gateway).await });
        }
        until(|| server.waiting.load(Ordering::SeqCst) == 2).await;
        let busy = r#"sentinel_pool_connections{gateway="stripe",state="busy"} 2"#;
        assert!(metrics.text().contains(busy), "{}", metrics.text());
        server.leave.add_permits(2);
        while let Some(answer) = calls.join_next().await {
            answer.unwrap().unwrap();
        }
        let text = metrics.text();
        for line in [
            r#"sentinel_tls_handshakes_total{gateway="stripe",resumed="false",version="1.3"} 1"#,
            r#"sentinel_tls_handshakes_total{gateway="stripe",resumed="true",version="1.3"} 1"#,
            r#"sentinel_upstream_connects_total{gateway="stripe",result="ok"} 2"#,
            r#"sentinel_upstream_connect_duration_seconds_count{gateway="stripe"} 2"#,
            r#"sentinel_pool_connections{gateway="stripe",state="idle"} 2"#,
            r#"sentinel_pool_connections{gateway="stripe",state="busy"} 0"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    })
    .await;
}

#[tokio::test]
async fn no_more_connections_are_opened_than_allowed() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let server = Server::start(authority.server(&[b"http/1.1"]), true).await;
        let client = Rc::new(Worker::new());
        let limits = "pool: { max_connections: 2, connect_timeout: 3s }";
        let gateway = configure(server.address, &authority, limits);
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let (client, gateway) = (Rc::clone(&client), Arc::clone(&gateway));
            calls.spawn_local(async move { call(&client, &gateway).await });
        }
        // The third finds no place in time.
        assert_eq!(calls.join_next().await.unwrap().unwrap(), Err(Failure::Pool));
        // A fourth waits for one that comes back.
        let fourth = {
            let (client, gateway) = (Rc::clone(&client), Arc::clone(&gateway));
            tokio::task::spawn_local(async move { call(&client, &gateway).await })
        };
        tokio::task::yield_now().await;
        server.leave.add_permits(3);
        assert!(fourth.await.unwrap().is_ok());
        while let Some(answer) = calls.join_next().await {
            assert!(answer.unwrap().is_ok());
        }
        assert_eq!(server.connections(), 2);
    })
    .await;
}

#[tokio::test]
async fn the_reaper_closes_what_idles_and_keeps_warm_what_is_to_be_warm() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let server = Server::start(authority.server(&[b"http/1.1"]), false).await;
        let client = Worker::new();
        let idles = configure(server.address, &authority, "pool: { idle: 300ms }");
        call(&client, &idles).await.unwrap();
        assert_eq!(client.connections("stripe").0, 1);
        until(|| client.connections("stripe").0 == 0).await;

        let warm = configure(server.address, &authority, "prewarm: 3");
        client.prewarm(&warm);
        // The gateway may learn of a finished handshake later than the client.
        until(|| client.connections("stripe").0 == 3 && server.connections() == 4).await;
        // A request takes one of them instead of making its own.
        let before = server.connections();
        call(&client, &warm).await.unwrap();
        assert_eq!(server.connections(), before);
    })
    .await;
}

#[tokio::test]
async fn a_connection_is_retired_at_its_age() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let server = Server::start(authority.server(&[b"http/1.1"]), false).await;
        let client = Worker::new();
        let gateway = configure(server.address, &authority, "pool: { max_age: 50ms }");
        call(&client, &gateway).await.unwrap();
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(80)).await;
        tokio::time::resume();
        call(&client, &gateway).await.unwrap();
        assert_eq!(server.connections(), 2);
    })
    .await;
}

/// A resolver that can go away.
struct Scripted(Rc<std::cell::Cell<bool>>, SocketAddr);

impl Resolve for Scripted {
    fn resolve<'a>(
        &'a self,
        _: &'a str,
        _: u16,
    ) -> Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + 'a>> {
        let answer = match self.0.get() {
            true => Ok(vec![self.1]),
            false => Err(std::io::ErrorKind::TimedOut.into()),
        };
        Box::pin(async move { answer })
    }
}

#[tokio::test]
async fn a_known_gateway_is_reached_while_its_name_cannot_be_resolved() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let server = Server::start(authority.server(&[b"http/1.1"]), false).await;
        let metrics = Arc::new(Metrics::new().unwrap());
        let answers = Rc::new(std::cell::Cell::new(true));
        let resolver = Scripted(Rc::clone(&answers), server.address);
        let client = Worker::build(Some(Arc::clone(&metrics)), Box::new(resolver));
        let mut gateway = (*configure(server.address, &authority, "pool: { max_age: 1ms }")).clone();
        gateway.endpoint.addresses.clear();
        let gateway = Arc::new(gateway);
        call(&client, &gateway).await.unwrap();
        answers.set(false);
        // The clock is the worker's own: an hour passes for the name, and the connection is long retired.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(3600)).await;
        tokio::time::resume();
        call(&client, &gateway).await.unwrap();
        assert_eq!(server.connections(), 2);
        let stale = r#"sentinel_dns_lookups_total{gateway="stripe",result="stale"} 1"#;
        until(|| metrics.text().contains(stale)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_speaks_http1_and_its_gateway_http2() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let server = Server::start(authority.server(&[b"h2"]), false).await;
    let (listen, admin) = (free_port(), free_port());
    let _sentinel = Sentinel::start(&format!(
        "listeners: {{ admin: {admin} }}\n\
         gateways:\n  stripe: {{ dialect: stripe, endpoint: 'https://localhost:{port}', addresses: ['{address}'], \
         allow_private: true, roots: '{ca}', protocol: h2, prewarm: 1 }}\n\
         routes: [{{ name: checkout, listen: '{listen}', dialect: stripe, gateways: [stripe] }}]\n",
        port = server.address.port(),
        address = server.address,
        ca = authority.ca.display(),
    ));
    for _ in 0..3 {
        let answer = once(listen, post("/v1/charges?a=%41", "", "amount=1")).await;
        assert_eq!(answer.status(), 200);
        let told = answer.text();
        assert!(
            told.starts_with("HTTP/2.0 https://localhost:") && told.ends_with("/v1/charges?a=%41 None 8"),
            "{told}"
        );
    }
    assert_eq!(server.connections(), 1);
}
