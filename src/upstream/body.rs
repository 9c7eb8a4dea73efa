//! The answer's body: streams, limits stalls, and gives the connection back when it was read to its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::h1::{Pump, Rest};
use super::pool::Lease;
use super::transport::stalled;

/// An answer's body. Dropped before its end, it closes its connection: what was not read cannot be skipped.
#[derive(Debug)]
pub struct Body<B> {
    source: Source<B>,
    idle: Duration,
    stall: Option<Pin<Box<Sleep>>>,
    waited: Option<Duration>,
}

#[derive(Debug)]
enum Source<B> {
    /// It had arrived with the head, and the connection is back already.
    Whole(Option<Bytes>),
    /// Over HTTP/1.1. Boxed: most answers come whole, and a body is moved about.
    Own(Box<Own<B>>),
    /// Over HTTP/2.
    Stream(Incoming, Option<Lease<B>>),
}

#[derive(Debug)]
struct Own<B> {
    lease: Option<Lease<B>>,
    rest: Rest,
    /// The request, where it is still being sent.
    pump: Option<Pump<B>>,
}

/// Why an answer broke off after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The connection broke.
    #[error("the gateway's answer broke off")]
    Connection,
    /// Nothing came for too long.
    #[error("the gateway's answer stalled")]
    Stalled,
}

impl<B> Body<B> {
    fn new(source: Source<B>, idle: Duration, waited: Option<Duration>) -> Self {
        Self {
            source,
            idle,
            stall: None,
            waited,
        }
    }

    /// Of an answer over HTTP/1.1.
    pub(super) fn own(
        mut lease: Lease<B>,
        mut rest: Rest,
        pump: Option<Pump<B>>,
        idle: Duration,
        waited: Option<Duration>,
    ) -> Self {
        let whole = match lease.http1() {
            Some(connection) => rest.take_whole(connection),
            None => None,
        };
        let heard = lease.wire().and_then(|wire| wire.heard());
        let source = match (rest.is_over(), pump, heard) {
            // It came at once with its head: the connection has idled since then, at most.
            (true, None, Some(heard)) => {
                lease.give_back_at(heard);
                Source::Whole(whole)
            }
            (true, pump, _) => {
                finish(lease, pump);
                Source::Whole(whole)
            }
            (false, pump, _) => Source::Own(Box::new(Own {
                lease: Some(lease),
                rest,
                pump,
            })),
        };
        Self::new(source, idle, waited)
    }

    /// Of an answer over HTTP/2.
    pub(super) fn stream(incoming: Incoming, lease: Lease<B>, idle: Duration) -> Self {
        let lease = match incoming.is_end_stream() {
            true => {
                lease.give_back();
                None
            }
            false => Some(lease),
        };
        Self::new(Source::Stream(incoming, lease), idle, None)
    }

    /// How long the gateway and the network were waited for up to the answer's head: for a connection, and from the
    /// request's first bytes on the socket to the answer's. `None` where it was not timed, or where many requests share a connection.
    pub fn waited(&self) -> Option<Duration> {
        self.waited
    }

    /// Lets go of the connection: what comes on it is not read any more.
    fn give_up(&mut self) {
        match &mut self.source {
            Source::Whole(_) => {}
            Source::Own(own) => (own.lease, own.pump) = (None, None),
            Source::Stream(_, lease) => *lease = None,
        }
    }
}

/// The answer is over; the connection goes back when its request is, too.
fn finish<B>(lease: Lease<B>, pump: Option<Pump<B>>) {
    match pump {
        None => lease.give_back(),
        Some(pump) => pump.finish(lease),
    }
}

impl<B> Own<B> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(connection) = self.lease.as_mut().and_then(Lease::http1) else {
            return Poll::Ready(None);
        };
        let polled = ready!(self.rest.poll(connection, cx));
        if self.rest.is_over()
            && let Some(lease) = self.lease.take()
        {
            finish(lease, self.pump.take());
        }
        Poll::Ready(polled.map_err(|_| BodyError::Connection).transpose())
    }
}

impl<B> http_body::Body for Body<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = match &mut this.source {
            Source::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Own(own) => own.poll_frame(cx),
            Source::Stream(incoming, lease) => {
                let polled = Pin::new(&mut *incoming).poll_frame(cx);
                let over = match &polled {
                    Poll::Ready(Some(Ok(_))) => incoming.is_end_stream(),
                    Poll::Ready(None) => true,
                    Poll::Ready(Some(Err(_))) | Poll::Pending => false,
                };
                if over && let Some(lease) = lease.take() {
                    lease.give_back();
                }
                polled.map_err(|_| BodyError::Connection)
            }
        };
        match polled {
            Poll::Pending if stalled(&mut this.stall, this.idle, cx) => {
                this.give_up();
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Err(error))) => {
                this.give_up();
                Poll::Ready(Some(Err(error)))
            }
            ready => {
                this.stall = None;
                ready
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(bytes) => bytes.is_none(),
            Source::Own(own) => own.lease.is_none(),
            Source::Stream(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Own(own) => own.rest.size_hint(),
            Source::Stream(incoming, _) => incoming.size_hint(),
        }
    }
}
