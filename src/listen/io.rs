//! The byte stream between a socket and hyper, with the guard in its read path.
//!
//! A read goes straight into hyper's buffer, and in the usual case (whole heads, body bytes) stays there: nothing is
//! copied. Only what the guard holds back, an incomplete head, is moved out and put in front of the next read.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guard::{Guard, Place};
use super::refusal::Violation;
use super::sweep::Connection;

/// The size of a read while a head is held back.
const HELD_READ: usize = 4096;

/// A stream with a guard, or without one for HTTP/2.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    io: S,
    guard: Option<Guard>,
    /// Bytes read and not handed on; from `at`, the first `ready` of them may go.
    held: Vec<u8>,
    at: usize,
    ready: usize,
    /// A refusal was shown to hyper as the end of the stream, or as an error in a body.
    signalled: Option<(Violation, Place)>,
    connection: Rc<Connection>,
}

impl<S> Guarded<S> {
    /// A stream of which `first` was already read.
    pub fn new(io: S, first: Vec<u8>, mut guard: Option<Guard>, connection: Rc<Connection>) -> Self {
        let ready = guard.as_mut().map_or(first.len(), |guard| guard.feed(&first));
        connection.partial.set(ready < first.len());
        Self {
            io,
            guard,
            held: first,
            at: 0,
            ready,
            signalled: None,
            connection,
        }
    }

    /// What was refused in a way that hyper has seen.
    pub fn signalled(&self) -> Option<(Violation, Place)> {
        self.signalled
    }

    /// Whether the client may still be sending a body that nobody reads.
    pub fn in_body(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::in_body)
    }

    /// The stream beneath.
    pub fn into_inner(self) -> S {
        self.io
    }

    /// Gives out held bytes that are ready.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.ready.min(buf.remaining());
        buf.put_slice(&self.held[self.at..self.at + n]);
        self.at += n;
        self.ready -= n;
        if self.at == self.held.len() {
            self.at = 0;
            // Not kept: an idle connection would carry it, and heads come in pieces rarely.
            self.held = Vec::new();
        }
    }
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    /// Reads behind an incomplete head that is held back. `false` at the end of the stream.
    fn poll_read_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let len = self.held.len();
        self.held.resize(len + HELD_READ, 0);
        let mut buf = ReadBuf::new(&mut self.held[len..]);
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut buf);
        let n = buf.filled().len();
        self.held.truncate(len + n);
        ready!(polled)?;
        Poll::Ready(Ok(n > 0))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.ready > 0 {
                this.hand_on(buf);
                return Poll::Ready(Ok(()));
            }
            let Some(guard) = &mut this.guard else {
                return Pin::new(&mut this.io).poll_read(cx, buf);
            };
            if this.connection.head_late.get() && this.connection.partial.get() {
                guard.refuse(Violation::HeadTimeout);
            }
            match guard.refused() {
                Some((violation, Place::Body)) => {
                    this.signalled = Some((violation, Place::Body));
                    // Whatever the handler answers to the broken body, the answer says that the connection ends.
                    this.connection.close.set(true);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation.message())));
                }
                Some(refused) => {
                    let answered =
                        this.connection.in_flight.get() == 0 && this.connection.started.get() == guard.heads();
                    if !answered {
                        // hyper may be looking whether the client is still there: an end would cancel the request in
                        // flight. The end of its answer wakes this connection.
                        this.connection.refusal_waits.set(true);
                        return Poll::Pending;
                    }
                    this.signalled = Some(refused);
                    return Poll::Ready(Ok(()));
                }
                None => {}
            }
            if this.at < this.held.len() {
                if this.at > 0 {
                    this.held.drain(..this.at);
                    this.at = 0;
                }
                if !ready!(this.poll_read_held(cx))? {
                    // The client went away inside a head.
                    return Poll::Ready(Ok(()));
                }
                if let Some(guard) = &mut this.guard {
                    this.ready = guard.feed(&this.held);
                    this.connection.partial.set(this.ready < this.held.len());
                }
                continue;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            let read = &buf.filled()[before..];
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let pass = guard.feed(read);
            if pass == read.len() {
                return Poll::Ready(Ok(()));
            }
            this.held.extend_from_slice(&read[pass..]);
            this.connection.partial.set(true);
            buf.set_filled(before + pass);
            if pass > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    /// Lets the sweep see whether writing goes on, and whoever waits for it that it began.
    fn note(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.connection.write_blocked.set(polled.is_pending());
        self.connection.wrote();
        if polled.is_ready() {
            self.connection.writes.set(self.connection.writes.get().wrapping_add(1));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task closes: after the refusal, or lingering while the client still sends.
        if self.guard.is_some() && (self.signalled.is_some() || self.in_body()) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
