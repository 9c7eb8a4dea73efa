//! A request on its way through the handler: counted while in flight, and answered in our own words when refused.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::connection::ConnectionInfo;
use super::refusal::Refusal;
use super::sweep::{Connection, Order};
use super::target::check_request;
use super::{Event, RequestBody, Settings};

/// Counts a request as in flight until its answer is completely encoded, or given up.
#[derive(Debug)]
struct InFlight(Rc<Connection>);

impl InFlight {
    fn new(connection: &Rc<Connection>) -> Self {
        connection.started.set(connection.started.get().wrapping_add(1));
        connection.in_flight.set(connection.in_flight.get() + 1);
        Self(connection.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
        if self.0.refusal_waits.take() {
            self.0.wake();
        }
    }
}

pin_project! {
    /// The body of an answer: the handler's, or a refusal's.
    #[derive(Debug)]
    pub struct AnswerBody<B> {
        #[pin]
        inner: Option<B>,
        own: Option<Bytes>,
        in_flight: InFlight,
    }
}

impl<B: Body<Data = Bytes>> Body for AnswerBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        match this.inner.as_pin_mut() {
            Some(inner) => inner.poll_frame(cx),
            None => Poll::Ready(this.own.take().map(|own| Ok(Frame::data(own)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Some(inner) => inner.is_end_stream(),
            None => self.own.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(inner) => inner.size_hint(),
            None => SizeHint::with_exact(self.own.as_ref().map_or(0, |own| own.len() as u64)),
        }
    }
}

/// What hyper calls for each request of one connection.
pub(super) struct Service<H> {
    pub handler: Rc<H>,
    pub settings: Rc<Settings>,
    pub connection: Rc<Connection>,
}

impl<H, F, B> hyper::service::Service<Request<RequestBody>> for Service<H>
where
    H: Fn(Request<RequestBody>, ConnectionInfo) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes>,
{
    type Response = Response<AnswerBody<B>>;
    type Error = Infallible;
    type Future = Answer<F, B>;

    fn call(&self, request: Request<RequestBody>) -> Self::Future {
        let in_flight = InFlight::new(&self.connection);
        let http2 = request.version() == Version::HTTP_2;
        // HTTP/1.1 heads were checked by the guard, before hyper parsed them.
        if http2 && let Err(violation) = check_request(&request) {
            (self.settings.observe)(Event::Refused(violation));
            let refusal = Refusal::Violation(violation);
            let (content_type, body) = (self.settings.render)(&refusal);
            let mut response = Response::new(AnswerBody {
                inner: None,
                own: Some(body),
                in_flight,
            });
            *response.status_mut() = refusal.status();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, content_type);
            if let Ok(value) = HeaderValue::try_from(refusal.proxy_status()) {
                headers.insert("proxy-status", value);
            }
            return Answer {
                future: None,
                refused: Some(Box::new(response)),
                in_flight: None,
            };
        }
        let info = ConnectionInfo::new(self.connection.clone(), http2);
        Answer {
            future: Some(Box::pin((self.handler)(request, info))),
            refused: None,
            in_flight: Some(in_flight),
        }
    }
}

pin_project! {
    /// The answer to come.
    ///
    /// The handler's future is boxed for as long as it runs: hyper keeps room for this one in every connection, idle
    /// ones too, and moves it about before it first runs.
    pub(super) struct Answer<F, B> {
        future: Option<Pin<Box<F>>>,
        refused: Option<Box<Response<AnswerBody<B>>>>,
        in_flight: Option<InFlight>,
    }
}

impl<F, B> Future for Answer<F, B>
where
    F: Future<Output = Response<B>>,
{
    type Output = Result<Response<AnswerBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(refused) = this.refused.take() {
            return Poll::Ready(Ok(*refused));
        }
        let (Some(future), Some(_)) = (this.future.as_mut(), this.in_flight.as_ref()) else {
            // Polled after completion: hyper does not.
            return Poll::Pending;
        };
        let response = ready!(future.as_mut().poll(cx));
        *this.future = None;
        let Some(in_flight) = this.in_flight.take() else {
            return Poll::Pending;
        };
        let connection = in_flight.0.clone();
        let mut response = response.map(|inner| AnswerBody {
            inner: Some(inner),
            own: None,
            in_flight,
        });
        if connection.close.get() {
            if response.version() == Version::HTTP_2 || connection.stage.get() == super::sweep::Stage::Http2 {
                connection.command(Order::Finish);
            } else {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        Poll::Ready(Ok(response))
    }
}
