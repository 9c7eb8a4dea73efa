//! HTTP/2 connections that fall silent, and connections that take their leave with requests on them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use sentinel::config::model::GatewayConfig;
use sentinel::resilience::Deadline;
use sentinel::upstream::{Deadlines, Evidence, Failure, Sent};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Worker, configure, local};
use crate::support::frames::{ACK, PING, Peer};
use crate::support::tls::Authority;

/// Accepts one connection after the other, TLS and preface done.
async fn peers(tls: Arc<rustls::ServerConfig>) -> (std::net::SocketAddr, mpsc::Receiver<Peer>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, accepted) = mpsc::channel(8);
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(tls);
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.unwrap();
            let peer = Peer::accept(Box::new(stream)).await.unwrap();
            if sender.send(peer).await.is_err() {
                return;
            }
        }
    });
    (address, accepted)
}

/// A POST that waits for its answer as long as it takes.
async fn post(client: &Worker, gateway: &Arc<GatewayConfig>) -> Result<u16, (Failure, Evidence)> {
    let deadlines = Deadlines {
        response_header: Duration::ZERO,
        body_idle: Duration::ZERO,
        total: Deadline::NEVER,
    };
    let request = http::Request::post("/v1/charges").body(Full::new(Bytes::from_static(b"amount=1")));
    match client
        .forward(gateway, Box::new(request.unwrap()), &deadlines, Instant::now(), false)
        .await
    {
        Ok((response, _)) => Ok(response.status().as_u16()),
        Err(failed) => Err((failed.error.failure, failed.error.evidence)),
    }
}

#[tokio::test]
async fn a_silent_connection_with_a_request_on_it_is_asked_whether_it_lives() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let (address, mut accepted) = peers(authority.server(&[b"h2"])).await;
        let gateway = configure(address, &authority, "protocol: h2");
        let call = tokio::task::spawn_local(async move { post(&Worker::new(), &gateway).await });
        let mut peer = accepted.recv().await.unwrap();
        let stream = peer.request().await.unwrap();
        // From here on the clock runs as fast as nothing happens.
        tokio::time::pause();
        let began = Instant::now();
        let mut pings = 0;
        while pings < 3 {
            let frame = peer.frame().await.unwrap();
            if frame.kind == PING && frame.flags & ACK == 0 {
                peer.write(PING, ACK, 0, &frame.payload).await.unwrap();
                pings += 1;
            }
        }
        let silent = began.elapsed();
        assert!(silent >= Duration::from_secs(40), "three pings within {silent:?}");
        // It lives, so its answer is waited for, however long it takes.
        peer.answer(stream).await.unwrap();
        assert_eq!(call.await.unwrap().map_err(|(failure, _)| failure), Ok(200));
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_does_not_say_that_it_lives_is_given_up() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let (address, mut accepted) = peers(authority.server(&[b"h2"])).await;
        let gateway = configure(address, &authority, "protocol: h2");
        let call = tokio::task::spawn_local(async move { post(&Worker::new(), &gateway).await });
        let mut peer = accepted.recv().await.unwrap();
        peer.request().await.unwrap();
        tokio::time::pause();
        let began = Instant::now();
        let (failure, evidence) = call.await.unwrap().unwrap_err();
        assert_eq!((failure, evidence.sent()), (Failure::Connection, Sent::Maybe));
        let silent = began.elapsed();
        let fits = Duration::from_secs(20)..Duration::from_secs(120);
        assert!(fits.contains(&silent), "given up after {silent:?}");
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_goes_away_finishes_what_it_took_and_says_what_it_did_not() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let (address, mut accepted) = peers(authority.server(&[b"h2"])).await;
        let gateway = configure(address, &authority, "protocol: h2");
        let client = Rc::new(Worker::new());
        let call = || {
            let (client, gateway) = (Rc::clone(&client), Arc::clone(&gateway));
            tokio::task::spawn_local(async move { post(&client, &gateway).await })
        };
        let first = call();
        let mut peer = accepted.recv().await.unwrap();
        let taken = peer.request().await.unwrap();
        let second = call();
        let refused = peer.request().await.unwrap();
        assert!(refused > taken, "on the same connection");
        peer.go_away(taken).await.unwrap();
        let (failure, evidence) = second.await.unwrap().unwrap_err();
        assert_eq!(failure, Failure::Connection);
        assert!(evidence.refused_by_peer, "{evidence:?}");
        // It was whole when it left: what a proxy in between did with it nobody here knows.
        assert_eq!(evidence.sent(), Sent::Maybe);
        // Nobody new gets on the connection, and who was on it arrives.
        let third = call();
        let mut next = accepted.recv().await.unwrap();
        let stream = next.request().await.unwrap();
        next.answer(stream).await.unwrap();
        assert_eq!(third.await.unwrap().map_err(|(failure, _)| failure), Ok(200));
        peer.answer(taken).await.unwrap();
        assert_eq!(first.await.unwrap().map_err(|(failure, _)| failure), Ok(200));
    })
    .await;
}
