//! A connection's transport: the byte counter above TLS, where evidence comes from, and the gate for the commit byte.
//!
//! hyper's task reads and writes through [`Transport`]; whoever holds the connection in a pool looks through the same
//! [`Wire`]: what was counted, whether the peer has closed, whether it acknowledged everything. Both live on one thread.

use std::cell::{Cell, RefCell};
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::client::TlsStream;

use super::gate::{Gate, Pass};
use super::hold::{Hold, Pieces};

/// A connection's bytes: TLS or, where the configuration says so, plaintext.
#[derive(Debug)]
pub(super) enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

impl Stream {
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tls(stream) => stream.get_ref().0,
            Self::Plain(stream) => stream,
        }
    }
}

/// One connection, seen from outside of hyper.
#[derive(Debug)]
pub(super) struct Wire {
    stream: RefCell<Stream>,
    /// Plaintext bytes written since it was opened.
    pub(super) written: Cell<u64>,
    /// Plaintext bytes read since it was opened.
    pub(super) read: Cell<u64>,
    /// When the first bytes of the request in hand were taken, and when the first after that came.
    wrote: Cell<Option<Instant>>,
    heard: Cell<Option<Instant>>,
    addresses: Option<(SocketAddr, SocketAddr)>,
    /// Whether a commit byte is held; kept apart from `hold` because every write of every request asks.
    holding: Cell<bool>,
    hold: RefCell<Option<(Hold, Rc<Gate>)>>,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Rc<Self> {
        let tcp = stream.tcp();
        let addresses = tcp.local_addr().ok().zip(tcp.peer_addr().ok());
        Rc::new(Self {
            stream: RefCell::new(stream),
            written: Cell::new(0),
            read: Cell::new(0),
            wrote: Cell::new(None),
            heard: Cell::new(None),
            addresses,
            holding: Cell::new(false),
            hold: RefCell::default(),
        })
    }

    /// Both ends of the connection, this one first.
    pub(super) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.addresses
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        self.wrote.set(None);
        self.heard.set(None);
    }

    /// How long nobody but the gateway and the network could do anything, on a connection of one request at a time.
    pub(super) fn waited(&self) -> Option<Duration> {
        Some(self.heard.get()?.saturating_duration_since(self.wrote.get()?))
    }

    /// From now on the last byte of the next request waits at the gate.
    pub(super) fn hold(&self, body: u64, pieces: Pieces, gate: Rc<Gate>) {
        *self.hold.borrow_mut() = Some((Hold::new(body, pieces), gate));
        self.holding.set(true);
    }

    /// Whether an idle connection still lives, from the kernel's own buffer: no end of stream, no error, no alert of
    /// TLS, no answer to a request that was never made. What TLS sent for itself (session tickets) is taken in.
    pub(super) fn probe(&self) -> bool {
        let mut stream = self.stream.borrow_mut();
        let mut buffer = [0u8; 4096];
        loop {
            let length = match rustix::net::recv(stream.tcp(), &mut buffer[..], RecvFlags::DONTWAIT) {
                Err(rustix::io::Errno::AGAIN) => return true,
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

    /// What lies unread in the kernel's buffer, without touching it.
    pub(super) fn waiting(&self) -> Waiting {
        let stream = self.stream.borrow();
        match rustix::net::recv(stream.tcp(), &mut [0u8; 1][..], RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Waiting::Nothing,
            Ok((0, _)) | Err(_) => Waiting::End,
            Ok(_) => Waiting::Bytes,
        }
    }

    fn poll_write_held(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut held = self.hold.borrow_mut();
        let Some((hold, gate)) = &mut *held else {
            return self.poll_write(cx, bytes);
        };
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if !gate.is_released() {
            let allowed = hold.allowed(bytes);
            if allowed > 0 {
                let written = ready!(self.poll_write(cx, &bytes[..allowed]))?;
                hold.pass(&bytes[..written]);
                return Poll::Ready(Ok(written));
            }
            ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_flush(cx))?;
        }
        match gate.arrive(cx) {
            Pass::Held => Poll::Pending,
            Pass::Shut => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            Pass::Released => {
                *held = None;
                self.holding.set(false);
                let written = self.poll_write(cx, bytes);
                crate::failpoint::pass("wire.committed");
                written
            }
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, bytes);
        self.wrote(&result);
        result
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(length)) = result {
            self.written.set(self.written.get() + *length as u64);
            if self.wrote.get().is_none() {
                self.wrote.set(Some(Instant::now()));
            }
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

/// hyper's side of a [`Wire`].
#[derive(Debug)]
pub(super) struct Transport(pub(super) Rc<Wire>);

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut *self.0.stream.borrow_mut()).poll_read(cx, buf);
        let read = (buf.filled().len() - before) as u64;
        self.0.read.set(self.0.read.get() + read);
        if read > 0 && self.0.heard.get().is_none() {
            self.0.heard.set(Some(Instant::now()));
        }
        result
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.0.holding.get() {
            false => self.0.poll_write(cx, buf),
            true => self.0.poll_write_held(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.0.holding.get() {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
            return self.0.poll_write_held(cx, first);
        }
        let result = Pin::new(&mut *self.0.stream.borrow_mut()).poll_write_vectored(cx, bufs);
        self.0.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.0.stream.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream.borrow_mut()).poll_flush(cx)
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
