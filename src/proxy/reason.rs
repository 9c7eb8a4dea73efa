//! Why an answer is Sentinel's own and not the gateway's: one closed set for statuses, metrics, logs, `Proxy-Status`
//! (RFC 9209) and the message in the dialect's error.
//!
//! The status tells the one thing that matters for money: **503 means the request provably did not reach the gateway,
//! 504 means that it may have.**

use http::StatusCode;

use crate::upstream::{Failure, Sent};

/// Why Sentinel answered by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No route owns the request.
    NoRoute,
    /// The head cannot be forwarded.
    BadRequest,
    /// The application's body broke off or stalled.
    RequestBody,
    /// The route's or the process's places are taken.
    Overloaded,
    /// The breaker is open.
    CircuitOpen,
    /// The exchange with the gateway failed.
    Upstream(Failure, Sent),
    /// It came in the name of a tenant, and was turned away.
    Tenant(Turned),
    /// A defect of Sentinel's own.
    Internal,
}

/// Why a request that carries a Sentinel API key was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turned {
    /// There is no such key, or it was revoked or has expired.
    KeyInvalid,
    /// The key is not for payments, or the route belongs to another tenant.
    KeyForbidden,
    /// The key stands where it would reach the gateway.
    KeyMisplaced,
    /// The tenant has stored no credentials for the gateway.
    NoCredentials,
    /// The gateway gave no access token for the tenant's credentials.
    NoToken,
    /// The ledger could not be read.
    Unavailable,
}

impl Turned {
    const fn label(self) -> &'static str {
        match self {
            Self::KeyInvalid => "invalid_api_key",
            Self::KeyForbidden => "api_key_not_allowed",
            Self::KeyMisplaced => "api_key_misplaced",
            Self::NoCredentials => "no_gateway_credentials",
            Self::NoToken => "no_access_token",
            Self::Unavailable => "ledger_unavailable",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::KeyInvalid => StatusCode::UNAUTHORIZED,
            Self::KeyForbidden | Self::NoCredentials => StatusCode::FORBIDDEN,
            Self::KeyMisplaced => StatusCode::BAD_REQUEST,
            Self::NoToken | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn message(self, gateway: &str) -> String {
        match self {
            Self::KeyInvalid => "The Sentinel API key is not valid, or no longer.".to_owned(),
            Self::KeyForbidden => {
                "This Sentinel API key may not send payments here: it lacks the scope, or the route is another tenant's."
                    .to_owned()
            }
            Self::KeyMisplaced => {
                "The Sentinel API key stands where it would reach the gateway: send it as the SDK sends its key, and \
                 nowhere else."
                    .to_owned()
            }
            Self::NoCredentials => format!(
                "No credentials for {gateway} are stored for this Sentinel API key: PUT /api/v1/credentials/{gateway}."
            ),
            Self::NoToken => format!("{gateway} gave no access token for the stored credentials. Nothing was sent."),
            Self::Unavailable => "Sentinel's ledger cannot be read now. Nothing was sent: send it again.".to_owned(),
        }
    }
}

impl Reason {
    /// The word in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::BadRequest => "bad_request",
            Self::RequestBody => "request_body",
            Self::Overloaded => "overloaded",
            Self::CircuitOpen => "circuit_open",
            Self::Tenant(turned) => turned.label(),
            Self::Upstream(failure, _) => failure.name(),
            Self::Internal => "internal",
        }
    }

    /// The status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::RequestBody | Self::Upstream(Failure::RequestBody, _) => StatusCode::REQUEST_TIMEOUT,
            Self::Overloaded | Self::CircuitOpen => StatusCode::SERVICE_UNAVAILABLE,
            Self::Tenant(turned) => turned.status(),
            Self::Upstream(_, Sent::No) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upstream(_, Sent::Maybe) => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether the gateway may have got the request: the `Sentinel-Outcome` header.
    pub fn sent(self) -> Sent {
        match self {
            Self::Upstream(_, sent) => sent,
            Self::Internal => Sent::Maybe,
            _ => Sent::No,
        }
    }

    /// The error type of RFC 9209 section 2.3.
    pub fn proxy_status(self) -> &'static str {
        match self {
            Self::NoRoute => "destination_not_found",
            Self::BadRequest | Self::RequestBody => "http_request_error",
            Self::Tenant(Turned::NoToken) => "destination_unavailable",
            Self::Tenant(Turned::Unavailable) => "proxy_internal_error",
            Self::Tenant(_) => "http_request_denied",
            Self::Overloaded => "connection_limit_reached",
            Self::CircuitOpen => "destination_unavailable",
            Self::Internal => "proxy_internal_error",
            Self::Upstream(failure, _) => match failure {
                Failure::Dns => "dns_error",
                Failure::Connect => "connection_refused",
                Failure::Tls => "tls_protocol_error",
                Failure::Pool => "connection_limit_reached",
                Failure::Connection | Failure::EarlyAnswer => "connection_terminated",
                Failure::Unacknowledged => "connection_timeout",
                Failure::Withdrawn => "proxy_internal_response",
                Failure::HeaderTimeout | Failure::Deadline => "http_response_timeout",
                Failure::BodyTimeout => "connection_read_timeout",
                Failure::RequestBody => "http_request_error",
                Failure::TooLarge => "http_response_body_size",
                Failure::Internal => "proxy_internal_error",
            },
        }
    }

    /// Whether the application's SDK does well to send the same request again by itself. After Sentinel has used its
    /// own attempts, a repeat within a second only adds load; a full queue is worth one.
    pub fn retry(self) -> bool {
        matches!(self, Self::Overloaded)
    }

    /// One sentence for a person: what happened, whose fault it was, what to do.
    pub fn message(self, gateway: &str) -> String {
        let sent = match self.sent() {
            Sent::No => "The request did not reach the gateway: it can be sent again.",
            Sent::Maybe => {
                "It may have been executed: find out before sending it again, or repeat it with the same idempotency key."
            }
        };
        match self {
            Self::NoRoute => {
                "No route of Sentinel's configuration owns this listener, host and path. See `sentinel check`."
                    .to_owned()
            }
            Self::BadRequest => {
                "The request head breaks HTTP's framing rules or Sentinel's limits and was not forwarded.".to_owned()
            }
            Self::RequestBody => {
                "The request body broke off or stalled before it was complete; nothing was executed.".to_owned()
            }
            Self::Overloaded => {
                format!("Sentinel has no free place for this route (limits.in_flight and limits.queue). {sent}")
            }
            Self::Tenant(turned) => turned.message(gateway),
            Self::CircuitOpen => {
                format!("Sentinel's circuit breaker for {gateway} is open because the gateway kept failing. {sent}")
            }
            Self::Upstream(failure, _) => {
                let what = match failure {
                    Failure::Dns => "its name could not be resolved",
                    Failure::Connect => "no connection could be made",
                    Failure::Tls => "no trusted TLS session could be made",
                    Failure::Pool => "no connection was free in time",
                    Failure::Connection => "the connection broke before a complete answer",
                    Failure::HeaderTimeout => "it did not begin to answer in time",
                    Failure::BodyTimeout => "its answer stalled",
                    Failure::Deadline => "it did not answer within the route's deadline",
                    Failure::RequestBody => "the application's request body broke off",
                    Failure::TooLarge => "its answer was larger than allowed",
                    Failure::EarlyAnswer => "it answered before it had the whole request",
                    Failure::Unacknowledged => "it did not take the request in time",
                    Failure::Withdrawn => "Sentinel withdrew the request",
                    Failure::Internal => "Sentinel was interrupted",
                };
                format!("The gateway {gateway} could not be used: {what}. {sent}")
            }
            Self::Internal => format!("Sentinel failed by a defect of its own; the log has the details. {sent}"),
        }
    }
}
