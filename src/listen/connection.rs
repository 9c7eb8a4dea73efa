//! One connection, from the accepted socket to its last byte.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::answer::Service;
use super::guard::{Guard, Place};
use super::io::Guarded;
use super::quiet::Quiet;
use super::refusal::{Refusal, Violation};
use super::sweep::{Answer, Connection, Order, Stage};
use super::{Event, RequestBody, Settings};
use crate::arrival::Socket;

/// How a client announces HTTP/2 without negotiation (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection without a byte is kept when draining begins: a request may be on its way, or already in the
/// kernel, and closing now would reset it.
const LAST_CALL: Duration = Duration::from_millis(100);

/// How long, and for how many bytes, a closed connection is still read so that the client sees the last answer instead
/// of a reset (RFC 9112 9.6).
const LINGER: (Duration, usize) = (Duration::from_secs(2), 1 << 20);

/// What a handler knows of the connection its request came by. Cheap to clone, bound to its thread.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    connection: Rc<Connection>,
    http2: bool,
    came: Option<Instant>,
}

impl ConnectionInfo {
    pub(super) fn new(connection: Rc<Connection>, http2: bool) -> Self {
        let came = connection.arrival.take();
        Self {
            connection,
            http2,
            came,
        }
    }

    /// The address the client connected to, as the listener was bound.
    pub fn listener(&self) -> SocketAddr {
        self.connection.listener
    }

    /// The client.
    pub fn peer(&self) -> SocketAddr {
        self.connection.peer
    }

    /// Whether the client speaks TLS.
    pub fn tls(&self) -> bool {
        self.connection.tls
    }

    /// Whether the client speaks HTTP/2.
    pub fn http2(&self) -> bool {
        self.http2
    }

    /// When the kernel had this request's bytes, where it is one that is timed ([`crate::arrival`]).
    pub fn came(&self) -> Option<Instant> {
        self.came
    }

    /// The answer to this request, which is about to be given, is timed, too.
    pub fn time_answer(&self) {
        if !self.http2 {
            self.connection.time_answer();
        }
    }

    /// When the first bytes of that answer were handed to the kernel. Over HTTP/2, where answers share their writes, it is
    /// not known.
    pub fn answered(&self) -> Option<Instant> {
        match self.connection.answer.get() {
            Answer::Written(at) => Some(at),
            Answer::Untimed | Answer::Awaited => None,
        }
    }

    /// Drops this as soon as that is known, or never will be.
    pub fn after_write(&self, told: Box<dyn Any>) {
        match self.connection.answer.get() {
            Answer::Awaited => drop(self.connection.after_write.replace(Some(told))),
            _ => drop(told),
        }
    }

    /// Closes the connection after the answer to this request (HTTP/1.1: `connection: close`; HTTP/2: GOAWAY, and the
    /// streams already open finish). Must be called before the handler's future is done.
    pub fn close_after_answer(&self) {
        self.connection.close.set(true);
    }
}

/// Spawns what hyper spawns, on this thread.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Serves one admitted socket to its end.
pub(super) async fn serve_socket<H, F, B>(
    stream: TcpStream,
    connection: Rc<Connection>,
    settings: Rc<Settings>,
    handler: Rc<H>,
) where
    H: Fn(Request<RequestBody>, ConnectionInfo) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = Service {
        handler,
        settings: settings.clone(),
        connection: connection.clone(),
    };
    let stream = Socket::new(stream, Rc::clone(&connection.arrival));
    let Some(tls) = &settings.tls else {
        return serve_stream(stream, service, None).await;
    };
    let handshake = connection.unless_aborted(tls.accept(stream)).await;
    match handshake {
        Some(Ok(stream)) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let known = http2.then_some(Stage::Http2);
            connection.stage.set(Stage::Sniff);
            // Boxed: a TLS stream is large, and a plaintext connection should not reserve room for one.
            Box::pin(serve_stream(stream, service, known)).await;
        }
        Some(Err(_)) | None => (settings.observe)(Event::HandshakeFailed),
    }
}

async fn serve_stream<S, H, F, B>(mut stream: S, service: Service<H>, known: Option<Stage>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Fn(Request<RequestBody>, ConnectionInfo) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connection = service.connection.clone();
    connection.time_next(&service.settings);
    let (stage, first) = match known {
        Some(stage) => (stage, Vec::new()),
        None => match connection.unless_aborted(sniff(&mut stream, &connection)).await {
            Some(Ok(Some(sniffed))) => sniffed,
            _ => return,
        },
    };
    connection.stage.set(stage);
    match stage {
        Stage::Http2 => serve_http2(Guarded::new(stream, first, None, connection), service).await,
        _ => {
            let guard = Guard::new(service.settings.head);
            serve_http1(Guarded::new(stream, first, Some(guard), connection), service).await;
        }
    }
}

/// Reads until the first bytes are, or are not, the HTTP/2 preface. `None` when the client left without a byte, or was
/// told to while it had sent none.
async fn sniff<S: AsyncRead + Unpin>(stream: &mut S, connection: &Connection) -> io::Result<Option<(Stage, Vec<u8>)>> {
    let mut first = Vec::new();
    let mut last_call = None;
    loop {
        let n = std::future::poll_fn(|cx| {
            // On the stack of one poll: in the future it would be part of every connection, idle ones too.
            let mut chunk = [0u8; 1024];
            let mut buf = ReadBuf::new(&mut chunk);
            if let Poll::Ready(read) = Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                first.extend_from_slice(buf.filled());
                return Poll::Ready(read.map(|()| buf.filled().len()));
            }
            if first.is_empty() && connection.order() == Order::Finish {
                let patience = last_call.get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_CALL)));
                return patience.as_mut().poll(cx).map(|()| Ok(0));
            }
            Poll::Pending
        })
        .await?;
        if n == 0 && first.is_empty() {
            return Ok(None);
        }
        connection.partial.set(true);
        let known = first.len().min(PREFACE.len());
        if first[..known] != PREFACE[..known] || n == 0 {
            return Ok(Some((Stage::Http1, first)));
        }
        if known == PREFACE.len() {
            return Ok(Some((Stage::Http2, first)));
        }
    }
}

async fn serve_http1<S, H, F, B>(io: Guarded<S>, service: Service<H>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Fn(Request<RequestBody>, ConnectionInfo) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (connection, settings) = (service.connection.clone(), service.settings.clone());
    let _unwritten = Unwritten(connection.clone());
    // hyper's own header timer would be reset for every request; the sweep does its work. hyper's limits are above the
    // guard's, so that it is the guard that answers.
    let mut hyper = http1::Builder::new()
        .keep_alive(true)
        .half_close(false)
        .max_buf_size((settings.head.head + 8192).max(16 * 1024))
        .serve_connection(TokioIo::new(io), service);
    let (mut finishing, mut begun, mut quiet) = (false, false, Quiet::default());
    let ended = std::future::poll_fn(|cx| {
        connection.register(cx);
        // Its first bytes were read before.
        if std::mem::replace(&mut begun, true) && connection.in_flight.get() == 0 {
            connection.time_next(&settings);
        }
        match connection.order() {
            Order::Abort => return Poll::Ready(false),
            Order::Finish => connection.close.set(true),
            Order::Serve => {}
        }
        let mut cx = Context::from_waker(quiet.waker(cx));
        if Pin::new(&mut hyper).poll(&mut cx).is_ready() {
            return Poll::Ready(true);
        }
        // hyper closes at once when it is told to finish before it saw a head; a head that is on its way is still
        // answered, so it is told only when there is none, or when a request is in flight.
        let coming = connection.partial.get() && connection.in_flight.get() == 0;
        if finishing || coming || connection.order() != Order::Finish {
            return Poll::Pending;
        }
        finishing = true;
        Pin::new(&mut hyper).graceful_shutdown();
        Pin::new(&mut hyper).poll(&mut cx).map(|_| true)
    })
    .await;
    let io = hyper.into_parts().io.into_inner();
    let (signalled, in_body) = (io.signalled(), io.in_body());
    if let Some((violation, _)) = signalled {
        (settings.observe)(Event::Refused(violation));
    }
    if !ended {
        return;
    }
    let mut stream = io.into_inner();
    match signalled {
        Some((Violation::NotHttp, _)) => linger(&mut stream, &[]).await,
        Some((violation, Place::Head)) => {
            let refusal = Refusal::Violation(violation);
            let answer = refusal.to_bytes(&(settings.render)(&refusal));
            linger(&mut stream, &answer).await;
        }
        Some((_, Place::Body)) => linger(&mut stream, &[]).await,
        None if in_body => linger(&mut stream, &[]).await,
        None => {}
    }
}

/// The end of an HTTP/1.1 connection: what waits for a write waits for nothing.
struct Unwritten(Rc<Connection>);

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.0.no_more_writes();
    }
}

async fn serve_http2<S, H, F, B>(io: Guarded<S>, service: Service<H>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Fn(Request<RequestBody>, ConnectionInfo) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (connection, settings) = (service.connection.clone(), service.settings.clone());
    let mut builder = http2::Builder::new(Local);
    // Bounds against rapid reset, error resets, header and CONTINUATION floods, and dead peers (reference: proxies 3.2).
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(256)
        .max_header_list_size(16 * 1024)
        .header_table_size(4096)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(256 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    let mut hyper = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    let (mut finishing, mut begun) = (false, false);
    std::future::poll_fn(|cx| {
        connection.register(cx);
        if std::mem::replace(&mut begun, true) {
            connection.time_next(&settings);
        }
        match connection.order() {
            Order::Abort => return Poll::Ready(()),
            Order::Finish if !finishing => {
                finishing = true;
                hyper.as_mut().graceful_shutdown();
            }
            _ => {}
        }
        hyper.as_mut().poll(cx).map(|_| ())
    })
    .await;
}

/// Writes the last bytes, closes the sending side, and reads what the client still sends for a while.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, last: &[u8]) {
    let (time, bytes) = LINGER;
    let _ = tokio::time::timeout(time, async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        // On the heap: in the future it would be part of every connection, idle ones too.
        let mut buf = vec![0u8; 4096];
        let mut left = bytes;
        while left > 0 {
            match stream.read(&mut buf).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        io::Result::Ok(())
    })
    .await;
}
