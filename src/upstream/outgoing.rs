//! What hyper writes for us over HTTP/2: an application's body as it streams, or a payment's body, whole.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

use super::gate::{Gate, Pass};
use super::transport::stalled;

/// A request's body.
#[derive(Debug)]
pub(super) enum Outgoing<B> {
    /// The application's, as it comes.
    Streaming(Tracked<B>),
    /// A payment's. Its last byte is held here, and with it END_STREAM: the frame carries both.
    Held(Held),
}

/// A body whose last byte, or whose end where it is empty, waits at a gate.
#[derive(Debug)]
pub(super) struct Held {
    before: Bytes,
    last: Bytes,
    ended: bool,
    gate: Rc<Gate>,
}

impl<B> Outgoing<B> {
    /// A payment's body, held at this gate.
    pub(super) fn held(mut body: Bytes, gate: Rc<Gate>) -> Self {
        let last = body.split_off(body.len().saturating_sub(1));
        Self::Held(Held {
            before: body,
            last,
            ended: false,
            gate,
        })
    }

    /// The application's body, when nothing of it was taken.
    pub(super) fn into_streaming(self) -> Option<B> {
        match self {
            Self::Streaming(body) => Some(body.inner),
            Self::Held(_) => None,
        }
    }
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Outgoing<B> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Streaming(body) => Pin::new(body).poll_frame(cx),
            Self::Held(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Streaming(body) => body.is_end_stream(),
            Self::Held(body) => body.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Streaming(body) => body.size_hint(),
            Self::Held(body) => SizeHint::with_exact((body.before.len() + body.last.len()) as u64),
        }
    }
}

/// The largest piece of a held body: one DATA frame of the default size (RFC 9113 6.5.2), so that no more is given to
/// the connection than the gateway's flow control lets out soon.
const PIECE: usize = 16 * 1024;

impl Held {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if !self.before.is_empty() {
            let piece = self.before.split_to(self.before.len().min(PIECE));
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match self.gate.arrive(cx) {
            Pass::Held => Poll::Pending,
            // hyper resets the stream.
            Pass::Shut => Poll::Ready(Some(Err(Broken))),
            Pass::Released => {
                self.ended = true;
                let last = std::mem::take(&mut self.last);
                Poll::Ready(
                    Some(last)
                        .filter(|last| !last.is_empty())
                        .map(|last| Ok(Frame::data(last))),
                )
            }
        }
    }
}

/// How far the application's body got.
#[derive(Debug, Default)]
pub(super) struct BodyProgress {
    /// Its end was handed to hyper: the gateway may have the whole request.
    pub(super) ended: Cell<bool>,
    /// It broke off or stalled: the application's side failed, not the gateway's.
    pub(super) broken: Cell<bool>,
    /// Bytes handed over.
    pub(super) bytes: Cell<u64>,
}

/// The request's body, tracked, with a limit on how long the application may stall in it.
#[derive(Debug)]
pub(super) struct Tracked<B> {
    inner: B,
    /// Bytes that are still to come, where the body told its length. hyper stops asking once it has them all, whatever
    /// the body then says of its end.
    left: Option<u64>,
    progress: Rc<BodyProgress>,
    idle: Duration,
    stall: Option<Pin<Box<Sleep>>>,
}

impl<B: http_body::Body<Data = Bytes>> Tracked<B> {
    pub(super) fn new(inner: B, progress: Rc<BodyProgress>, idle: Duration) -> Self {
        let left = inner.size_hint().exact();
        progress.ended.set(inner.is_end_stream() || left == Some(0));
        Self {
            inner,
            left,
            progress,
            idle,
            stall: None,
        }
    }
}

/// The application's body broke off or stalled.
#[derive(Debug, thiserror::Error)]
#[error("the application's request body broke off or stalled")]
pub(super) struct Broken;

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Tracked<B> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.stall = None;
                if let Some(data) = frame.data_ref() {
                    let length = data.len() as u64;
                    this.progress.bytes.set(this.progress.bytes.get() + length);
                    if let Some(left) = &mut this.left {
                        *left = left.saturating_sub(length);
                    }
                }
                this.progress
                    .ended
                    .set(this.inner.is_end_stream() || this.left == Some(0));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => {
                this.progress.broken.set(true);
                Poll::Ready(Some(Err(Broken)))
            }
            Poll::Ready(None) => {
                this.progress.ended.set(true);
                Poll::Ready(None)
            }
            Poll::Pending => {
                if stalled(&mut this.stall, this.idle, cx) {
                    this.progress.broken.set(true);
                    return Poll::Ready(Some(Err(Broken)));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    /// A body that tells its length and never says that it has ended, as a third party's may.
    struct Silent(Option<Bytes>);

    impl http_body::Body for Silent {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0
                .take()
                .map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(4)
        }
    }

    #[test]
    fn a_body_handed_over_whole_has_ended_whatever_it_says_of_itself() {
        let progress = Rc::new(BodyProgress::default());
        let mut body = Tracked::new(
            Silent(Some(Bytes::from_static(b"body"))),
            Rc::clone(&progress),
            Duration::ZERO,
        );
        assert!(!progress.ended.get());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_ready());
        assert!(progress.ended.get());
    }
}
