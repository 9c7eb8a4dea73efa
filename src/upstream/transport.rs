//! The byte counter above TLS, and the tracked request body: where evidence comes from.

use std::cell::Cell;
use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Plaintext bytes of one connection, both ways, since it was opened.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) written: Cell<u64>,
    pub(super) read: Cell<u64>,
}

/// A transport that counts.
#[derive(Debug)]
pub(super) struct Counted<S> {
    inner: S,
    counters: Rc<Counters>,
}

impl<S> Counted<S> {
    pub(super) fn new(inner: S, counters: Rc<Counters>) -> Self {
        Self { inner, counters }
    }

    fn wrote(&self, result: &Poll<std::io::Result<usize>>) {
        if let Poll::Ready(Ok(length)) = result {
            self.counters.written.set(self.counters.written.get() + *length as u64);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        let read = (buf.filled().len() - before) as u64;
        self.counters.read.set(self.counters.read.get() + read);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// How far the application's body got.
#[derive(Debug, Default)]
pub(super) struct BodyProgress {
    /// Its end was handed to hyper: the gateway may have the whole request.
    pub(super) ended: Cell<bool>,
    /// It broke off or stalled: the application's side failed, not the gateway's.
    pub(super) broken: Cell<bool>,
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

impl<B> Tracked<B> {
    /// The body, when nothing of it was taken.
    pub(super) fn into_inner(self) -> B {
        self.inner
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
                if let (Some(left), Some(data)) = (&mut this.left, frame.data_ref()) {
                    *left = left.saturating_sub(data.len() as u64);
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

/// Arms the timer when something has to be waited for, and says whether it has run out. A zero limit means none.
pub(super) fn stalled(timer: &mut Option<Pin<Box<Sleep>>>, limit: Duration, cx: &mut Context<'_>) -> bool {
    if limit.is_zero() {
        return false;
    }
    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
    timer.as_mut().poll(cx).is_ready()
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
