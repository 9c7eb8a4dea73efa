//! HTTP/1.1 towards a gateway, driven by whoever waits for the answer.
//!
//! There is no task behind a connection and no channel to one: the request's own future writes its head and body and
//! reads the answer, so a forwarded request costs no wake-up but those of its two sockets. A request is written from one
//! buffer, head and small body in one write. The answer is read while the request is still being sent, as a gateway may
//! answer early; what is left of the request then goes on beside the answer ([`upload`]). Idle connections are looked at
//! when they are taken ([`Wire::stirred`]).
//!
//! Its readers are strict ([`head`], [`chunks`]): an answer that two of them would end in different places is refused.
//!
//! Invariants: a connection is kept only when its request was written whole, its answer was read whole, and not one byte
//! more has come; an answer that began before the commit byte of its request is never taken for one to it.

mod chunks;
mod download;
mod head;
mod upload;

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::HeaderMap;
use http::{Method, Response};

pub(super) use self::download::Rest;
pub(super) use self::head::{Framing, Head, Target};
pub(super) use self::upload::{Pump, Upload};
use super::gate::{Gate, Pass};
use super::transport::Wire;

/// The largest answer head, in bytes.
const MAX_HEAD: usize = 128 * 1024;
/// Answers before the answer (RFC 9110 15.2), at most.
const MAX_INTERIM: usize = 16;
/// What is read at once, at least and at most.
const READ: (usize, usize) = (8 * 1024, 64 * 1024);
/// What a connection that idles keeps allocated for each direction, at most.
const KEPT: usize = 16 * 1024;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The application's request body broke off, stalled, or is not as long as it says.
    #[error("the application's request body broke off or stalled")]
    Broken,
    /// The request could not be written.
    #[error("the request was not taken: {0}")]
    Write(io::Error),
    /// The answer could not be read.
    #[error("the answer broke off: {0}")]
    Read(io::Error),
    /// The connection ended.
    #[error("the gateway closed the connection before its answer was complete")]
    Ended,
    /// The answer is not HTTP, or could be read in two ways.
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
    /// A head or a trailer is larger than anybody needs.
    #[error("the answer's head is too large")]
    TooLarge,
    /// An answer began before the request's last byte was let go.
    #[error("the gateway answered before the request's last byte")]
    Early,
    /// The request's last byte will never go.
    #[error("the request was given up before its last byte")]
    Shut,
}

impl From<httparse::Error> for Fault {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooLarge,
            httparse::Error::HeaderName => Self::Malformed("a field's name"),
            httparse::Error::HeaderValue => Self::Malformed("a field's value"),
            httparse::Error::NewLine | httparse::Error::Token => Self::Malformed("a line's end"),
            httparse::Error::Status => Self::Malformed("its status"),
            httparse::Error::Version => Self::Malformed("its version"),
        }
    }
}

/// One connection's protocol.
#[derive(Debug)]
pub(super) struct Connection {
    wire: Rc<Wire>,
    /// Read, and not yet looked at.
    inbox: BytesMut,
    out: Out,
    fields: head::Fields,
    /// How much of `inbox` is known to hold no whole head.
    searched: usize,
    interim: usize,
    /// The last answer allows another request.
    keep: bool,
}

/// Bytes to be written.
#[derive(Debug, Default)]
struct Out {
    bytes: Vec<u8>,
    /// Written of them.
    at: usize,
}

impl Out {
    fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Writes everything, and sees it off. On an error nothing of what is left was taken.
    fn poll_write(&mut self, wire: &Wire, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_up_to(self.bytes.len(), wire, cx))?;
        self.bytes.clear();
        self.at = 0;
        wire.poll_flush(cx)
    }

    fn poll_write_up_to(&mut self, end: usize, wire: &Wire, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.at < end {
            match ready!(wire.poll_write(cx, &self.bytes[self.at..end]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => self.at += length,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Connection {
    pub(super) fn new(wire: Rc<Wire>) -> Self {
        Self {
            wire,
            inbox: BytesMut::new(),
            out: Out::default(),
            fields: head::Fields::default(),
            searched: 0,
            interim: 0,
            keep: true,
        }
    }

    pub(super) fn wire(&self) -> &Rc<Wire> {
        &self.wire
    }

    /// Whether nothing is left of the last exchange, and nothing else has come: only then may another begin.
    pub(super) fn is_clean(&self) -> bool {
        self.keep && self.out.is_empty() && self.inbox.is_empty() && self.wire.is_quiet()
    }

    /// Lets go of what an idle connection need not hold.
    pub(super) fn shrink(&mut self) {
        if self.out.bytes.capacity() > KEPT {
            self.out.bytes = Vec::new();
        }
        if self.inbox.capacity() > KEPT {
            self.inbox = BytesMut::new();
        }
    }

    fn begin(&mut self) {
        self.out.bytes.clear();
        self.out.at = 0;
        self.searched = 0;
        self.interim = 0;
    }

    /// Begins a request: its head stands in the buffer.
    ///
    /// # Errors
    /// When its declared length is not its own.
    pub(super) fn begin_upload(
        &mut self,
        target: &Target<'_>,
        parts: (&Method, &http::Uri, &HeaderMap),
        size: Option<u64>,
        upload: &mut Upload,
    ) -> Result<(), Fault> {
        self.begin();
        upload.begin(head::write(&mut self.out.bytes, target, parts, size)?);
        Ok(())
    }

    /// Goes on with sending a request and with reading its answer's head.
    pub(super) fn poll_exchange<B>(
        &mut self,
        method: &Method,
        body: &mut B,
        upload: &mut Upload,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Head, Fault>>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        match upload.poll(body, &self.wire, &mut self.out, cx) {
            Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        let read = ready!(self.poll_head(method, cx));
        Poll::Ready(read.map_err(|fault| upload.refused().unwrap_or(fault)))
    }

    /// Whether the last byte of a request was handed to the transport.
    pub(super) fn is_committed(&self, upload: &Upload) -> bool {
        upload.has_ended() && self.out.is_empty()
    }

    /// Reads the head of the answer.
    fn poll_head(&mut self, method: &Method, cx: &mut Context<'_>) -> Poll<Result<Head, Fault>> {
        loop {
            if self.may_hold_head() {
                match self.fields.read(&mut self.inbox, method)? {
                    head::Read::Head(head) => {
                        self.keep &= head.keep;
                        return Poll::Ready(Ok(head));
                    }
                    head::Read::Interim => {
                        self.searched = 0;
                        self.interim += 1;
                        if self.interim > MAX_INTERIM {
                            return Poll::Ready(Err(Fault::TooLarge));
                        }
                        continue;
                    }
                    head::Read::Partial => {}
                }
            }
            self.searched = self.inbox.len();
            if self.inbox.len() >= MAX_HEAD {
                return Poll::Ready(Err(Fault::TooLarge));
            }
            if ready!(self.poll_read(READ.0, cx)).map_err(Fault::Read)? == 0 {
                return Poll::Ready(Err(Fault::Ended));
            }
        }
    }

    /// Whether a head may end in what was read last: a head that comes byte by byte is not parsed as often.
    fn may_hold_head(&self) -> bool {
        let new = &self.inbox[self.searched.saturating_sub(3)..];
        !new.is_empty()
            && (self.searched == 0
                || memchr::memchr_iter(b'\n', new).any(|at| matches!(&new[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..])))
    }

    /// The answer that the head which was read last begins. Its fields are put into `headers`: any map that is not needed
    /// any more, so that its memory is used again.
    pub(super) fn answer(&self, head: Head, mut headers: HeaderMap) -> Result<Response<()>, Fault> {
        self.fields.give(&head, &mut headers)?;
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.version_mut() = head.version;
        *response.headers_mut() = headers;
        if let Some(reason) = head.reason {
            response.extensions_mut().insert(reason);
        }
        Ok(response)
    }

    /// Reads more into the inbox; zero is the end.
    fn poll_read(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.inbox.capacity() - self.inbox.len() < READ.0 / 2 {
            self.inbox.reserve(wanted.clamp(READ.0, READ.1));
        }
        self.wire.poll_read(cx, &mut self.inbox)
    }

    /// Begins a request that lies whole in the buffer, and of which the last byte waits at `gate`. The caller has put its
    /// framing into its fields.
    pub(super) fn begin_held<'a>(
        &'a mut self,
        target: &Target<'_>,
        parts: &'a http::request::Parts,
        body: &[u8],
        pieces: Pieces,
        gate: Rc<Gate>,
    ) -> Result<Held<'a>, Fault> {
        self.begin();
        let parts_of_head = (&parts.method, &parts.uri, &parts.headers);
        head::write(&mut self.out.bytes, target, parts_of_head, Some(body.len() as u64))?;
        let head = self.out.bytes.len();
        self.out.bytes.extend_from_slice(body);
        let last = self.out.bytes.len() - 1;
        // The head alone first, where more than the commit byte follows it; else half of what there is.
        let cut = match pieces {
            Pieces::One => 0,
            Pieces::Two if head < last => head,
            Pieces::Two => last / 2,
        };
        Ok(Held {
            connection: self,
            method: &parts.method,
            gate,
            cut,
            last,
            refused: None,
        })
    }
}

/// In how many pieces the bytes before the commit byte go out.
///
/// A receiver acknowledges two small segments as soon as its application has read them, but may sit on a single one for
/// 40 ms and more (delayed acknowledgement, RFC 9293 3.8.6.3). Where the release waits for the acknowledgement the bytes
/// before the last therefore go out in two pieces; with three the last would wait for its acknowledgement alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pieces {
    One,
    Two,
}

/// A payment's exchange, up to its answer's head.
///
/// A request whose last byte was never handed to the transport cannot be executed: its head is open, or its body is
/// shorter than its declared length (RFC 9112 section 8). So everything but the last byte goes out, and that byte only
/// when the gate is opened. Dropped before, it is never written.
#[derive(Debug)]
pub(super) struct Held<'a> {
    connection: &'a mut Connection,
    method: &'a Method,
    gate: Rc<Gate>,
    /// Where the first piece ends; zero where there is but one.
    cut: usize,
    /// Where the commit byte stands.
    last: usize,
    /// Why the bytes before it were not taken. The gateway may have said why, in an answer that is there to read.
    refused: Option<io::Error>,
}

impl Held<'_> {
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let connection = &mut *self.connection;
        let (out, wire) = (&mut connection.out, &connection.wire);
        if out.bytes.is_empty() {
            return wire.poll_flush(cx).map_err(Fault::Write);
        }
        if out.at <= self.last && !self.gate.is_released() {
            let before = match ready!(out.poll_write_up_to(self.cut, wire, cx)) {
                Ok(()) => ready!(out.poll_write_up_to(self.last, wire, cx)),
                Err(error) => Err(error),
            };
            let flushed = match before {
                Ok(()) => ready!(wire.poll_flush(cx)),
                Err(error) => Err(error),
            };
            if let Err(error) = flushed {
                self.refused = Some(error);
                return Poll::Pending;
            }
        }
        match self.gate.arrive(cx) {
            Pass::Held => return Poll::Pending,
            Pass::Shut => return Poll::Ready(Err(Fault::Shut)),
            Pass::Released => {}
        }
        if !connection.inbox.is_empty() {
            return Poll::Ready(Err(Fault::Early));
        }
        let committed = out.poll_write(wire, cx);
        crate::failpoint::pass("wire.committed");
        committed.map_err(Fault::Write)
    }
}

impl Future for Held<'_> {
    type Output = Result<Head, Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.refused.is_none()
            && let Poll::Ready(Err(fault)) = this.poll_write(cx)
        {
            return Poll::Ready(Err(fault));
        }
        let read = ready!(this.connection.poll_head(this.method, cx));
        Poll::Ready(read.map_err(|fault| this.refused.take().map_or(fault, Fault::Write)))
    }
}
