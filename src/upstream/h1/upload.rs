//! A request's body on its way to the gateway.
//!
//! A piece of the application's body is asked for only when what came before it was written: whoever reads slowly is read
//! slowly from. A gateway may answer before it has the whole request (413, or an echo that streams both ways): the body
//! then goes on in a task of its own ([`Pump`]), and the connection is given back when both are over.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::task::AbortHandle;
use tokio::time::Sleep;

use super::head::Coding;
use super::{Connection, Fault, Out};
use crate::upstream::pool::Lease;
use crate::upstream::transport::{Wire, stalled};

/// So much is gathered before it is written.
const FULL: usize = 16 * 1024;

/// One request's body.
#[derive(Debug)]
pub(in crate::upstream) struct Upload {
    coding: Coding,
    /// How long the application may stall in it.
    idle: Duration,
    stall: Option<Pin<Box<Sleep>>>,
    /// A piece of the body was taken from the application.
    touched: bool,
    /// Its last byte stands in the buffer or was written.
    ended: bool,
    /// Nothing is left to do.
    over: bool,
    /// Why the gateway did not take it. It may have said why, in an answer that is there to read.
    refused: Option<io::Error>,
}

impl Upload {
    pub(in crate::upstream) fn new(idle: Duration) -> Self {
        Self {
            coding: Coding::Length(0),
            idle,
            stall: None,
            touched: false,
            ended: false,
            over: false,
            refused: None,
        }
    }

    pub(super) fn begin(&mut self, coding: Coding) {
        self.coding = coding;
        self.ended = coding == Coding::Length(0);
    }

    /// Whether the application's body is still as it was.
    pub(in crate::upstream) fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// Whether the whole request was written.
    pub(in crate::upstream) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Why the request could not be written, if it could not.
    pub(super) fn refused(&mut self) -> Option<Fault> {
        self.refused.take().map(Fault::Write)
    }

    /// Goes on. Ready when everything was written, or when the gateway takes no more.
    pub(super) fn poll<B>(
        &mut self,
        body: &mut B,
        wire: &Wire,
        out: &mut Out,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        while !self.over {
            let filled = self.fill(body, out, cx);
            if let Poll::Ready(Err(fault)) = filled {
                return Poll::Ready(Err(fault));
            }
            match ready!(out.poll_write(wire, cx)) {
                Ok(()) if self.ended => self.over = true,
                Ok(()) if filled.is_pending() => return Poll::Pending,
                Ok(()) => {}
                Err(error) => {
                    self.refused = Some(error);
                    self.over = true;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gathers what the application has. Pending when it has no more for now.
    fn fill<B>(&mut self, body: &mut B, out: &mut Out, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        while !self.ended && out.bytes.len() - out.at < FULL {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    (self.stall, self.touched) = (None, true);
                    // A trailer ends here: its fields are named in no head that we send (RFC 9110 6.6.2).
                    if let Ok(data) = frame.into_data() {
                        self.push(&data, out)?;
                    }
                    if !self.ended && body.is_end_stream() {
                        self.end(out)?;
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Fault::Broken)),
                Poll::Ready(None) => self.end(out)?,
                Poll::Pending if stalled(&mut self.stall, self.idle, cx) => {
                    return Poll::Ready(Err(Fault::Broken));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn push(&mut self, data: &[u8], out: &mut Out) -> Result<(), Fault> {
        match &mut self.coding {
            Coding::Length(left) => {
                // More than was declared would be read as another request.
                *left = left.checked_sub(data.len() as u64).ok_or(Fault::Broken)?;
                out.bytes.extend_from_slice(data);
                self.ended = *left == 0;
            }
            Coding::Chunked if data.is_empty() => {}
            Coding::Chunked => {
                out.bytes.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                out.bytes.extend_from_slice(data);
                out.bytes.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Out) -> Result<(), Fault> {
        match self.coding {
            Coding::Length(_) => return Err(Fault::Broken),
            Coding::Chunked => out.bytes.extend_from_slice(b"0\r\n\r\n"),
        }
        self.ended = true;
        Ok(())
    }
}

/// A body that is still being sent while its answer is read. Dropped, it stops.
#[derive(Debug)]
pub(in crate::upstream) struct Pump<B> {
    state: Rc<State<B>>,
    task: Option<AbortHandle>,
}

#[derive(Debug)]
struct State<B> {
    /// Whether the request was written whole, once it is known.
    whole: Cell<Option<bool>>,
    /// The connection, when the answer was over first.
    lease: RefCell<Option<Lease<B>>>,
}

impl<B> Pump<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    /// Goes on with a request on this connection.
    pub(in crate::upstream) fn start(
        mut request: Box<Request<B>>,
        mut upload: Upload,
        connection: &mut Connection,
    ) -> Self {
        let state = Rc::new(State {
            whole: Cell::new(None),
            lease: RefCell::new(None),
        });
        let (ours, wire, mut out) = (
            Rc::clone(&state),
            Rc::clone(&connection.wire),
            std::mem::take(&mut connection.out),
        );
        let task = tokio::task::spawn_local(async move {
            let sent = std::future::poll_fn(|cx| upload.poll(request.body_mut(), &wire, &mut out, cx)).await;
            let whole = sent.is_ok() && upload.refused.is_none();
            ours.whole.set(Some(whole));
            let lease = ours.lease.take();
            if let (Some(lease), true) = (lease, whole) {
                lease.give_back();
            }
        });
        Self {
            state,
            task: Some(task.abort_handle()),
        }
    }
}

impl<B> Pump<B> {
    /// The answer is over: the connection goes back as soon as the request is.
    pub(in crate::upstream) fn finish(mut self, lease: Lease<B>) {
        match self.state.whole.get() {
            Some(true) => lease.give_back(),
            Some(false) => drop(lease),
            None => {
                self.task = None;
                *self.state.lease.borrow_mut() = Some(lease);
            }
        }
    }
}

impl<B> Drop for Pump<B> {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
