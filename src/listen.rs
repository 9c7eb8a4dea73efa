//! Sockets, admission, and the checks that a request passes before anybody looks at what it means.
//!
//! A worker accepts on its own sockets (SO_REUSEPORT where there are several workers), tells HTTP/1.1 from HTTP/2 by the
//! first bytes, and lets hyper speak either. Timers are installed, so that the limits on slow heads and dead peers
//! really fire; HTTP/2 flood guards are set explicitly, never left to a default (reference: RUSTSEC-2024-0003,
//! RUSTSEC-2026-0258, CVE-2023-44487).

pub mod refusal;
pub mod target;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// HTTP/2 begins with this (RFC 9113 3.4); no HTTP/1.1 request does.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The listener.
    pub listener: SocketAddr,
    /// The client.
    pub peer: SocketAddr,
}

/// Limits of a listener.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections at once, over all listeners of this worker.
    pub connections: usize,
    /// The time a client has for a request head.
    pub header_timeout: Duration,
    /// The largest request head, in bytes.
    pub head: usize,
}

/// Binds a listening socket. `shared` lets several workers bind the same address.
///
/// # Errors
/// What the system says, with the address.
pub fn bind(address: SocketAddr, shared: bool) -> std::io::Result<std::net::TcpListener> {
    let domain = if address.is_ipv4() {
        socket2::Domain::IPV4
    } else {
        socket2::Domain::IPV6
    };
    let named = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; another process listens there: stop it, or change the address",
            std::io::ErrorKind::PermissionDenied => {
                "; a port below 1024 needs CAP_NET_BIND_SERVICE or socket activation"
            }
            _ => "",
        };
        std::io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{hint}"))
    };
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).map_err(named)?;
    socket.set_reuse_address(true).map_err(named)?;
    if shared {
        socket.set_reuse_port(true).map_err(named)?;
    }
    socket.set_nonblocking(true).map_err(named)?;
    socket.bind(&address.into()).map_err(named)?;
    socket.listen(1024).map_err(named)?;
    Ok(socket.into())
}

/// Accepts and serves until `stop` says otherwise; then lets every connection finish what it has begun.
///
/// `stop` goes from `false` to `true` once. This future ends when the last connection has ended.
pub async fn serve<H, F, B>(
    listener: TcpListener,
    settings: Rc<Settings>,
    handler: Rc<H>,
    mut stop: watch::Receiver<bool>,
) where
    H: Fn(Request<Incoming>, ConnectionInfo) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: http_body::Body<Data = bytes::Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Ok(address) = listener.local_addr() else { return };
    let places = Rc::new(tokio::sync::Semaphore::new(settings.connections));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Rc::clone(&places).acquire_owned_local().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                let info = ConnectionInfo {
                    listener: address,
                    peer,
                };
                let (settings, handler, stop) = (Rc::clone(&settings), Rc::clone(&handler), stop.clone());
                connections.spawn_local(async move {
                    connection(stream, info, &settings, handler, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: waiting gives connections time to end, spinning would not.
                tracing::warn!(%error, %address, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// `Semaphore::acquire_owned` for `Rc`.
trait AcquireLocal {
    async fn acquire_owned_local(self) -> Result<Place, tokio::sync::AcquireError>;
}

struct Place(Rc<tokio::sync::Semaphore>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

impl AcquireLocal for Rc<tokio::sync::Semaphore> {
    async fn acquire_owned_local(self) -> Result<Place, tokio::sync::AcquireError> {
        self.acquire().await?.forget();
        Ok(Place(self))
    }
}

async fn connection<H, F, B>(
    stream: TcpStream,
    info: ConnectionInfo,
    settings: &Settings,
    handler: Rc<H>,
    mut stop: watch::Receiver<bool>,
) where
    H: Fn(Request<Incoming>, ConnectionInfo) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: http_body::Body<Data = bytes::Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let sniffed = tokio::select! {
        sniffed = tokio::time::timeout(settings.header_timeout, speaks_http2(&stream)) => sniffed,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let Ok(Ok(http2)) = sniffed else { return };
    let service = service_fn(move |request| {
        let answer = handler(request, info);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let io = TokioIo::new(stream);
    let result = if http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(100)
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(256)
            .max_header_list_size(64 * 1024)
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .max_send_buf_size(256 * 1024)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            result = connection.as_mut() => result,
            _ = stop.wait_for(|stop| *stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(settings.header_timeout)
            .max_buf_size(settings.head.max(8192))
            .half_close(false);
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            result = connection.as_mut() => result,
            _ = stop.wait_for(|stop| *stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, peer = %info.peer, "connection from an application ended");
    }
}

/// Looks at the first bytes without taking them.
async fn speaks_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0u8; PREFACE.len()];
    loop {
        let length = stream.peek(&mut first).await?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if first[..length] != PREFACE[..length] {
            return Ok(false);
        }
        if length == PREFACE.len() {
            return Ok(true);
        }
        // A part of the preface: more must come. `peek` would return the same bytes at once, so wait a moment.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Runs HTTP/2 streams on this worker's own thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
