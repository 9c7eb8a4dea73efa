//! An answer's body on its way from the gateway.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::chunks::{Chunks, Step};
use super::head::Framing;
use super::{Connection, Fault, READ};

/// What is still to come of an answer's body.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) enum Rest {
    Length(u64),
    Chunked(Chunks),
    /// Up to the end of the connection.
    Close,
    Over,
}

impl Rest {
    pub(in crate::upstream) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Over,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunks::default()),
            Framing::Close => Self::Close,
        }
    }

    pub(in crate::upstream) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Length(left) => SizeHint::with_exact(*left),
            Self::Chunked(_) | Self::Close => SizeHint::default(),
            Self::Over => SizeHint::with_exact(0),
        }
    }

    /// All of it, when it has arrived.
    pub(in crate::upstream) fn take_whole(&mut self, connection: &mut Connection) -> Option<Bytes> {
        match self {
            Self::Length(left) if *left <= connection.inbox.len() as u64 => {
                let whole = connection.inbox.split_to(*left as usize).freeze();
                *self = Self::Over;
                Some(whole)
            }
            _ => None,
        }
    }

    /// The next piece; `None` when it is over.
    pub(in crate::upstream) fn poll(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, Fault>> {
        loop {
            let wanted = match self {
                Self::Over => return Poll::Ready(Ok(None)),
                Self::Length(left) => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(connection.inbox.len());
                    if take > 0 {
                        let piece = connection.inbox.split_to(take).freeze();
                        *left -= take as u64;
                        if *left == 0 {
                            *self = Self::Over;
                        }
                        return Poll::Ready(Ok(Some(Frame::data(piece))));
                    }
                    usize::try_from(*left).unwrap_or(usize::MAX)
                }
                Self::Close => {
                    if !connection.inbox.is_empty() {
                        return Poll::Ready(Ok(Some(Frame::data(connection.inbox.split().freeze()))));
                    }
                    READ.1
                }
                Self::Chunked(chunks) => match chunks.step(&mut connection.inbox)? {
                    Step::More => READ.1,
                    Step::Data(data) => return Poll::Ready(Ok(Some(Frame::data(data)))),
                    Step::End(trailer) => {
                        *self = Self::Over;
                        return Poll::Ready(Ok(trailer.map(Frame::trailers)));
                    }
                },
            };
            if ready!(connection.poll_read(wanted, cx)).map_err(Fault::Read)? == 0 {
                match self {
                    Self::Close => *self = Self::Over,
                    _ => return Poll::Ready(Err(Fault::Ended)),
                }
            }
        }
    }
}
