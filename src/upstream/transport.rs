//! A connection's transport: the byte counter above TLS, where evidence comes from.
//!
//! A request over HTTP/1.1 reads and writes through a [`Wire`] itself, hyper's task over HTTP/2 through [`Transport`];
//! whoever holds the connection in a pool looks through the same wire: what was counted, whether the peer has closed,
//! whether it acknowledged everything. All live on one thread.

use std::cell::{Cell, RefCell};
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::client::TlsStream;

use crate::arrival::{Arrival, Socket};

/// A connection's bytes: TLS or, where the configuration says so, plaintext.
#[derive(Debug)]
pub(super) enum Stream {
    Tls(Box<TlsStream<Socket>>),
    Plain(Socket),
}

impl Stream {
    fn socket(&self) -> &Socket {
        match self {
            Self::Tls(stream) => stream.get_ref().0,
            Self::Plain(stream) => stream,
        }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        self.socket().tcp()
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: RefCell<Stream>,
    /// Plaintext bytes written since it was opened.
    pub(super) written: Cell<u64>,
    /// Plaintext bytes read since it was opened.
    pub(super) read: Cell<u64>,
    /// Whether the request in hand is timed.
    timed: Cell<bool>,
    arrival: Rc<Arrival>,
    /// When the first of its answer came; where the request is not timed, when they were read.
    heard: Cell<Option<Instant>>,
    /// There was nothing to read when somebody last looked.
    waits: Cell<bool>,
    addresses: Option<(SocketAddr, SocketAddr)>,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Rc<Self> {
        let tcp = stream.tcp();
        let addresses = tcp.local_addr().ok().zip(tcp.peer_addr().ok());
        let arrival = Rc::clone(stream.socket().arrival());
        Rc::new(Self {
            stream: RefCell::new(stream),
            written: Cell::new(0),
            read: Cell::new(0),
            timed: Cell::new(false),
            arrival,
            heard: Cell::new(None),
            waits: Cell::new(false),
            addresses,
        })
    }

    /// Both ends of the connection, this one first.
    pub(super) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.addresses
    }

    /// A request begins, which is timed or not.
    pub(super) fn begin(&self, timed: bool) {
        self.timed.set(timed);
        self.arrival.forget();
        if timed {
            self.arrival.watch();
        }
        self.heard.set(None);
        self.waits.set(false);
    }

    /// When the first bytes of the answer came.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.heard.get()
    }

    /// How long nobody but the gateway and the network could do anything, on a connection of one request at a time, where
    /// it is timed.
    pub(super) fn waited(&self) -> Option<Duration> {
        let went = self.arrival.went().filter(|_| self.timed.get())?;
        Some(self.heard.get()?.saturating_duration_since(went))
    }

    /// Whether an idle connection still lives, from the kernel's own buffer: no end of stream, no error, no alert of
    /// TLS, no answer to a request that was never made. What TLS sent for itself (session tickets) is taken in.
    pub(super) fn probe(&self) -> bool {
        let mut stream = self.stream.borrow_mut();
        let mut buffer = [0u8; 4096];
        loop {
            let length = match rustix::net::recv(stream.tcp(), &mut buffer[..], RecvFlags::DONTWAIT) {
                Err(rustix::io::Errno::AGAIN) => {
                    // What the runtime was told is dealt with: it is not to be looked at again.
                    let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                    let _ = stream.tcp().try_io(Interest::READABLE, nothing);
                    return true;
                }
                Err(rustix::io::Errno::INTR) => continue,
                Ok((0, _)) | Err(_) => return false,
                Ok((length, _)) => length,
            };
            let Stream::Tls(tls) = &mut *stream else { return false };
            let session = tls.get_mut().1;
            let mut bytes = &buffer[..length];
            while !bytes.is_empty() {
                match session.read_tls(&mut bytes) {
                    Ok(0) | Err(_) => return false,
                    Ok(_) => {}
                }
                match session.process_new_packets() {
                    Ok(state) if !state.peer_has_closed() && state.plaintext_bytes_to_read() == 0 => {}
                    _ => return false,
                }
            }
        }
    }

    /// Whether the runtime was told of anything on an idle connection that nobody has read yet. Costs no system call, and
    /// tells only what had come when the worker last looked.
    pub(super) fn stirred(&self) -> bool {
        let stream = self.stream.borrow();
        stream.tcp().try_io(Interest::READABLE, || Ok(())).is_ok()
    }

    /// Whether TLS has nothing left to give or to send, and the peer has not said goodbye.
    pub(super) fn is_quiet(&self) -> bool {
        match &*self.stream.borrow() {
            Stream::Tls(stream) => {
                let session = stream.get_ref().1;
                session.wants_read() && !session.wants_write()
            }
            Stream::Plain(_) => true,
        }
    }

    /// What lies unread in the kernel's buffer, without touching it.
    pub(super) fn waiting(&self) -> Waiting {
        let stream = self.stream.borrow();
        match rustix::net::recv(stream.tcp(), &mut [0u8; 1][..], RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Waiting::Nothing,
            Ok((0, _)) | Err(_) => Waiting::End,
            Ok(_) => Waiting::Bytes,
        }
    }

    /// Writes some of these bytes. On an error none of them was taken whole.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, bytes);
        self.wrote(&result);
        result
    }

    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_flush(cx)
    }

    /// Reads what there is behind what the buffer holds, into the room it has; zero is the end.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        // What is done with bytes that have come is our own time, their decryption, too: where they were waited for and the
        // kernel is not asked when they came, the clock is read before them.
        let first = self.heard.get().is_none();
        let waited = self.waits.take() && first;
        let woken = match self.timed.get() {
            true if first => {
                self.arrival.ask();
                None
            }
            _ => waited.then(Instant::now),
        };
        let mut stream = self.stream.borrow_mut();
        let result = std::pin::pin!(stream.read_buf(buffer)).poll(cx);
        match result {
            Poll::Ready(Ok(length)) => self.took(length, woken),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.waits.set(true),
        }
        result
    }

    /// Says goodbye, as far as that can be done at once.
    pub(super) fn close(&self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _ = Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(&mut cx);
    }

    fn took(&self, length: usize, at: Option<Instant>) {
        self.read.set(self.read.get() + length as u64);
        if length > 0 && self.heard.get().is_none() {
            let came = self.arrival.take().or(at);
            self.heard.set(Some(came.unwrap_or_else(Instant::now)));
        }
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(length)) = result {
            self.written.set(self.written.get() + *length as u64);
        }
    }
}

/// What lies unread in the kernel's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    Nothing,
    Bytes,
    /// The end of the stream, or an error.
    End,
}

/// hyper's side of a [`Wire`], over HTTP/2.
#[derive(Debug)]
pub(super) struct Transport(pub(super) Rc<Wire>);

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut *self.0.stream.borrow_mut()).poll_read(cx, buf);
        self.0.took(buf.filled().len() - before, None);
        result
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut *self.0.stream.borrow_mut()).poll_write_vectored(cx, bufs);
        self.0.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.0.stream.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream.borrow_mut()).poll_shutdown(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Plain(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Arms the timer when something has to be waited for, and says whether it has run out. A zero limit means none.
pub(super) fn stalled(timer: &mut Option<Pin<Box<Sleep>>>, limit: Duration, cx: &mut Context<'_>) -> bool {
    if limit.is_zero() {
        return false;
    }
    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
    timer.as_mut().poll(cx).is_ready()
}
