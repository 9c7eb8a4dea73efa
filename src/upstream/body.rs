//! The answer's body: streams, limits stalls, and gives the connection back when it was read to its end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::pool::Lease;
use super::quiet;
use super::transport::stalled;

/// An answer's body. Dropped before its end, it closes its connection: what was not read cannot be skipped.
#[derive(Debug)]
pub struct Body<B> {
    incoming: Incoming,
    lease: Option<Lease<B>>,
    idle: Duration,
    stall: Option<Pin<Box<Sleep>>>,
    waited: Option<Duration>,
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
    pub(super) fn new(incoming: Incoming, lease: Lease<B>, idle: Duration, waited: Option<Duration>) -> Self {
        let mut body = Self {
            incoming,
            lease: Some(lease),
            idle,
            stall: None,
            waited,
        };
        body.settle();
        body
    }

    /// How long the gateway and the network were waited for up to the answer's head: for a connection, and from the
    /// request's first bytes on the socket to the answer's. `None` where many requests share a connection.
    pub fn waited(&self) -> Option<Duration> {
        self.waited
    }

    fn settle(&mut self) {
        if http_body::Body::is_end_stream(&self.incoming)
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl<B> http_body::Body for Body<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match quiet::take(&mut this.incoming, cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.stall = None;
                this.settle();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => {
                this.lease = None;
                Poll::Ready(Some(Err(BodyError::Connection)))
            }
            Poll::Ready(None) => {
                if let Some(lease) = this.lease.take() {
                    lease.give_back();
                }
                Poll::Ready(None)
            }
            Poll::Pending if stalled(&mut this.stall, this.idle, cx) => {
                this.lease = None;
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.incoming)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.incoming)
    }
}
