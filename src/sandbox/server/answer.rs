//! Answers as they are written: how a fault changes them, and bodies that drip.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::bomb;
use crate::sandbox::fault::Fault;

/// What a proxy or CDN in front of a gateway shows when the gateway does not answer.
const FOREIGN_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\
    <body><center><h1>502 Bad Gateway</h1></center><hr><center>cdn</center></body></html>\n";

/// The answer to give instead of the gateway's, for faults that need none of its own.
pub(super) fn foreign(fault: &Fault) -> Option<Response<Bytes>> {
    let Fault::Foreign {
        status,
        body,
        content_type,
        location,
        ..
    } = fault
    else {
        return None;
    };
    let mut answer = Response::new(Bytes::from(body.clone().unwrap_or_else(|| FOREIGN_PAGE.to_owned())));
    *answer.status_mut() = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
    put(
        &mut answer,
        "content-type",
        Some(content_type.as_deref().unwrap_or("text/html")),
    );
    if let Some(location) = location {
        put(&mut answer, "location", Some(location));
    }
    Some(answer)
}

/// Changes an answer in place, for faults that do.
pub(super) fn change(fault: &Fault, answer: &mut Response<Bytes>) {
    match fault {
        Fault::TruncateBody { bytes } => answer.body_mut().truncate(*bytes),
        Fault::Patch { pointer, value } => {
            if let Ok(mut document) = serde_json::from_slice::<serde_json::Value>(answer.body())
                && let Some(place) = document.pointer_mut(pointer)
            {
                *place = value.clone();
                *answer.body_mut() = document.to_string().into();
            }
        }
        Fault::Replace { from, to } => {
            let text = String::from_utf8_lossy(answer.body()).replace(from.as_str(), to);
            *answer.body_mut() = text.into();
        }
        Fault::Header { name, value } => put(answer, name, value.as_deref()),
        Fault::Bomb { megabytes } => {
            *answer.body_mut() = bomb::zeros(u64::from(*megabytes) << 20).into();
            put(answer, "content-encoding", Some("gzip"));
        }
        _ => {}
    }
}

fn put(answer: &mut Response<Bytes>, name: &str, value: Option<&str>) {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        return;
    };
    match value.map(HeaderValue::from_str) {
        Some(Ok(value)) => {
            answer.headers_mut().insert(name, value);
        }
        Some(Err(_)) => {}
        None => {
            answer.headers_mut().remove(name);
        }
    }
}

/// Sets the seconds after which the client may come back.
pub(super) fn retry_after(answer: &mut Response<Bytes>, seconds: Option<u64>) {
    if let Some(seconds) = seconds {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
}

/// A body that is there whole, written at once or drop by drop.
pub(super) struct AnswerBody {
    left: Bytes,
    drip: Option<(usize, Duration)>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    pub(super) fn new(bytes: Bytes, drip: Option<(usize, Duration)>) -> Self {
        Self {
            left: bytes,
            drip,
            wait: None,
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let Some((size, every)) = self.drip else {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.left)))));
        };
        let wait = self.wait.get_or_insert_with(|| Box::pin(tokio::time::sleep(every)));
        std::task::ready!(wait.as_mut().poll(cx));
        self.wait = None;
        let size = size.clamp(1, self.left.len());
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(size)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
