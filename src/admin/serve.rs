//! The operators' connections, and how many of everything there may be: a scraper gone wild, a slow client or a large
//! body must not cost the sidecar its memory, and never its `/live`.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::error_handling::HandleErrorLayer;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::error::Overloaded;
use tower::{BoxError, ServiceBuilder};

use super::problem;

/// Connections: a handful of scrapers and people.
const CONNECTIONS: usize = 64;

/// Requests at work; more are turned away at once.
const IN_FLIGHT: usize = 16;

/// The whole of one request. A reload reads files and resolves nothing: seconds would already be strange.
const REQUEST: Duration = Duration::from_secs(30);

/// A head, and the wait for one on a kept connection.
const HEAD: Duration = Duration::from_secs(10);

/// The largest head: an operator's request has a token and little else.
const HEAD_BYTES: usize = 16 * 1024;

/// The largest body: a fault has a few hundred bytes.
const BODY: usize = 16 * 1024;

/// Who sends a request: an extension of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub IpAddr);

/// Serves until told to stop; requests that were begun are then finished, and idle connections closed.
pub(crate) async fn serve(listener: TcpListener, router: Router, mut stop: oneshot::Receiver<()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (closing, open) = watch::channel(());
    loop {
        let accepted = tokio::select! {
            _ = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (place, stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors: the pause lets some be given back. Anything else was one client's.
                tracing::warn!(%error, "the admin listener could not accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone().layer(Extension(from)));
        let mut open = open.clone();
        tokio::spawn(async move {
            let mut connection = pin!(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD)
                    .max_buf_size(HEAD_BYTES)
                    .serve_connection(TokioIo::new(stream), service)
            );
            let served = tokio::select! {
                served = connection.as_mut() => served,
                _ = open.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = served {
                tracing::debug!(%error, "an operator's connection ended");
            }
            drop((place, open));
        });
    }
    drop((listener, open));
    closing.send_replace(());
    // Every connection holds a receiver until it has ended.
    closing.closed().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(OwnedSemaphorePermit, TcpStream, Peer)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, from) = listener.accept().await?;
    Ok((place, stream, Peer(from.ip())))
}

/// Puts the limits around every page of a router.
pub(crate) fn limited<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    let limits = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(refused))
        .load_shed()
        .layer(GlobalConcurrencyLimitLayer::new(IN_FLIGHT))
        .timeout(REQUEST);
    router.layer(DefaultBodyLimit::max(BODY)).layer(limits)
}

async fn refused(error: BoxError) -> Response {
    let detail = if error.is::<Overloaded>() {
        "too many requests to the admin listener at once"
    } else {
        "the request took too long and was given up"
    };
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
