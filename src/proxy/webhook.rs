//! The door for gateways' webhooks: reads one whole and answers it as gateways want to be answered.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::body::Body;
use crate::config::model::{Dialect, GatewayConfig};
use crate::gateway;
use crate::gateway::webhook::WebhookError;
use crate::payment::engine::Desk;
use crate::payment::webhooks::{self, Receipt};

/// The largest delivery: Stripe's events, the largest there are, hold one object each.
const BODY: usize = 1 << 20;
/// Gateways write what they have; whoever takes longer is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes a delivery for a gateway; `None` where the path names none.
pub async fn receive(
    desk: &Rc<Desk>,
    config: Option<Arc<GatewayConfig>>,
    request: Request<Incoming>,
) -> Response<Body> {
    let Some(config) = config else {
        return answer(StatusCode::NOT_FOUND, "");
    };
    if request.method() == Method::GET
        && let Some(api) = gateway::for_dialect(config.dialect)
        && let Some(answered) = api.challenge(request.uri().query().unwrap_or_default(), &config.credentials)
    {
        return text(StatusCode::OK, Bytes::from(answered));
    }
    if request.method() != Method::POST {
        let mut refused = answer(StatusCode::METHOD_NOT_ALLOWED, "");
        refused
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("POST"));
        return refused;
    }
    let (parts, incoming) = request.into_parts();
    let body = match tokio::time::timeout(PATIENCE, Limited::new(incoming, BODY).collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(_)) => return closing(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => return closing(StatusCode::REQUEST_TIMEOUT),
    };
    let now = jiff::Timestamp::now().as_second();
    match webhooks::receive(desk, &config, &parts.headers, &body, now).await {
        // The word by which Adyen's older accounts know that it was taken; others read the status.
        Receipt::Taken if config.dialect == Dialect::Adyen => answer(StatusCode::OK, "[accepted]"),
        Receipt::Taken => answer(StatusCode::OK, ""),
        Receipt::Refused(WebhookError::Unsupported | WebhookError::Unconfigured(_)) => {
            answer(StatusCode::NOT_FOUND, "")
        }
        Receipt::Later => answer(StatusCode::SERVICE_UNAVAILABLE, ""),
        // Whoever forges learns nothing from the answer.
        Receipt::Refused(_) => answer(StatusCode::BAD_REQUEST, ""),
    }
}

fn answer(status: StatusCode, words: &'static str) -> Response<Body> {
    text(status, Bytes::from_static(words.as_bytes()))
}

fn text(status: StatusCode, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::own(bytes, None));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// What was not read whole ends its connection.
fn closing(status: StatusCode) -> Response<Body> {
    let mut response = answer(status, "");
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
