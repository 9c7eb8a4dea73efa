//! The door to the payment engine: which requests go through it, and how they come back when they are none of its
//! business.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::body::{self, Account};
use super::headers;
use super::reason::Reason;
use super::runtime::RouteState;
use crate::gateway::{Head, Recognised};
use crate::listen::ConnectionInfo;
use crate::payment::engine::{self, Asked, Desk};
use crate::route::Matched;

/// Tokens of the same card or account at other gateways, by the application.
const INSTRUMENT: HeaderName = HeaderName::from_static("sentinel-instrument");

/// A request that the engine looks at.
pub struct Payment {
    desk: Rc<Desk>,
    route: Arc<engine::Route>,
    recognised: Recognised,
    alternates: Vec<HeaderValue>,
    base: String,
    limit: usize,
    idle: Duration,
}

/// What became of it.
pub enum Handled {
    /// It was answered.
    Answered(Response<Bytes>),
    /// It is forwarded, read whole; with the reason why a payment could not go elsewhere.
    Forward(Request<body::Request>, Option<engine::Unavailable>),
}

/// Whether the engine looks at a request, by the route as its tenant uses it. Called before Sentinel's own headers are taken off.
pub fn recognised(
    desk: Option<&Rc<Desk>>,
    route: &RouteState,
    payments: Option<&Arc<engine::Route>>,
    request: &Request<Incoming>,
    matched: &Matched,
    info: &ConnectionInfo,
) -> Option<Payment> {
    let (desk, payments) = (desk?, payments?);
    let recognised = payments.recognises(request.method(), request.uri().path())?;
    // What is larger than any payment is only forwarded.
    if request.body().size_hint().lower() > route.config.limits.body as u64 {
        return None;
    }
    let host = match request.version() {
        http::Version::HTTP_2 => request.uri().authority().map(|authority| authority.as_str()),
        _ => request.headers().get(header::HOST).and_then(|host| host.to_str().ok()),
    };
    let scheme = if info.tls() { "https" } else { "http" };
    let prefix = if matched.prefix_len > 0 {
        route.config.path_prefix.as_str()
    } else {
        ""
    };
    let base = match host {
        Some(host) => format!("{scheme}://{host}{prefix}"),
        None => format!("{scheme}://{}{prefix}", info.listener()),
    };
    Some(Payment {
        desk: Rc::clone(desk),
        route: Arc::clone(payments),
        recognised,
        alternates: request.headers().get_all(INSTRUMENT).iter().cloned().collect(),
        base,
        limit: route.config.limits.body,
        idle: route.config.timeouts.body_idle,
    })
}

impl Payment {
    /// Reads the request whole, and has the engine handle it.
    ///
    /// # Errors
    /// When the body broke off, stalled, or is too large.
    pub async fn handle(
        self,
        request: Request<Incoming>,
        account: &mut Account,
    ) -> Result<Handled, (Reason, &'static str)> {
        let started = Instant::now();
        let (parts, incoming) = request.into_parts();
        let reading = Limited::new(incoming, self.limit).collect();
        let body = match tokio::time::timeout(self.idle, reading).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err((Reason::BadRequest, "body_too_large")),
            Ok(Err(_)) => return Err((Reason::RequestBody, "")),
            Err(_) => return Err((Reason::RequestBody, "stalled")),
        };
        let head = Head {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            headers: parts.headers.clone(),
            base: self.base,
        };
        let asked = Asked {
            recognised: self.recognised,
            head,
            body: body.clone(),
            alternates: self.alternates,
            started,
        };
        match self.desk.handle(&self.route, asked).await {
            engine::Handled::Answered(told) => {
                account.waited(started.elapsed());
                account.answered(told.reply.status().as_u16(), told.outcome);
                Ok(Handled::Answered(told.reply))
            }
            engine::Handled::Forward {
                unavailable,
                authorization,
            } => {
                let whole = Some(body).filter(|body| !body.is_empty());
                let mut request = Request::from_parts(parts, body::Request::Whole(whole));
                if let Some(authorization) = authorization {
                    request.headers_mut().insert(header::AUTHORIZATION, authorization);
                }
                Ok(Handled::Forward(request, unavailable))
            }
        }
    }
}

/// Says why a payment could not be taken elsewhere.
pub fn say_unavailable(headers: &mut HeaderMap, unavailable: Option<&engine::Unavailable>) {
    if let Some(unavailable) = unavailable {
        let text = format!("unavailable; reason={}", unavailable.reason);
        headers.insert("sentinel-failover", headers::value(&text));
        if !unavailable.refused.is_empty() {
            headers.insert("sentinel-refused", headers::value(&unavailable.refused));
        }
    }
}
