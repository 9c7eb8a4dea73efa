//! What went wrong, as problem+json (RFC 9457). One closed set of codes; the documentation lists it.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

use super::Reply;
use crate::account::AccountError;
use crate::ledger::LedgerError;

/// The header by which a person finds a request in the log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("sentinel-request-id");

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The body is no JSON.
    InvalidJson,
    /// A field, parameter or value is not what it must be; `errors` names each.
    InvalidRequest,
    /// There is no token or key, or it is not valid any more.
    Unauthorized,
    /// The caller is known and may not do this.
    Forbidden,
    /// This Sentinel takes no registrations from here.
    RegistrationClosed,
    /// A browser says that another site sends this.
    OtherSite,
    /// There is no such thing.
    NotFound,
    /// The path takes other methods; `Allow` names them.
    MethodNotAllowed,
    /// The body did not come whole in time.
    BodyTimeout,
    /// It was changed at the same time; read it again and repeat.
    Conflict,
    /// The address has an account.
    AddressTaken,
    /// The body is larger than the endpoint takes.
    TooLarge,
    /// The body is of another media type than the endpoint takes.
    UnsupportedMediaType,
    /// The host name is not this listener's.
    Misdirected,
    /// Too often; `Retry-After` says when it is worth trying again.
    TooManyRequests,
    /// A defect.
    Internal,
    /// More is being asked at this moment than this machine should spend itself on; try again.
    Busy,
    /// The ledger cannot be used.
    Unavailable,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::InvalidJson,
        Self::InvalidRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::RegistrationClosed,
        Self::OtherSite,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::BodyTimeout,
        Self::Conflict,
        Self::AddressTaken,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Misdirected,
        Self::TooManyRequests,
        Self::Internal,
        Self::Busy,
        Self::Unavailable,
    ];

    /// The word in answers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::InvalidRequest => "invalid_request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::RegistrationClosed => "registration_closed",
            Self::OtherSite => "other_site",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTimeout => "body_timeout",
            Self::Conflict => "conflict",
            Self::AddressTaken => "address_taken",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Misdirected => "misdirected",
            Self::TooManyRequests => "too_many_requests",
            Self::Internal => "internal",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }

    /// The status.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidJson => StatusCode::BAD_REQUEST,
            Self::InvalidRequest => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::RegistrationClosed | Self::OtherSite => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict | Self::AddressTaken => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Busy | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// One line for a person; what it means in general.
    pub const fn title(self) -> &'static str {
        match self {
            Self::InvalidJson => "The body is no JSON",
            Self::InvalidRequest => "The request has not the documented shape",
            Self::Unauthorized => "No valid token or API key",
            Self::Forbidden => "Not allowed",
            Self::RegistrationClosed => "Registration is closed here",
            Self::OtherSite => "Sent by another site",
            Self::NotFound => "No such thing",
            Self::MethodNotAllowed => "Another method is needed",
            Self::BodyTimeout => "The body did not come in time",
            Self::Conflict => "Changed at the same time",
            Self::AddressTaken => "The address has an account",
            Self::TooLarge => "The body is too large",
            Self::UnsupportedMediaType => "Another media type is needed",
            Self::Misdirected => "Not this listener's host name",
            Self::TooManyRequests => "Too often",
            Self::Internal => "A defect",
            Self::Busy => "Busy",
            Self::Unavailable => "The ledger cannot be used",
        }
    }
}

/// What is wrong with one field or parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FieldError {
    /// Its name, as the request spells it.
    pub field: String,
    /// What it must be. Never what it was.
    pub detail: String,
}

/// A problem.
#[derive(Clone, Debug)]
pub struct Problem {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
}

/// A problem as it is written.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Problem")]
pub(super) struct Written {
    /// Where this kind of problem is explained.
    #[serde(rename = "type")]
    kind: String,
    /// What it means in general.
    title: String,
    /// The status of the answer.
    status: u16,
    /// What it means here.
    detail: String,
    /// The kind of problem, for programs.
    code: Code,
    /// By what the request is found in the log.
    request_id: String,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    errors: Vec<FieldError>,
}

impl Problem {
    /// One of a kind.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    /// A field is not what it must be.
    pub fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::fields(vec![FieldError {
            field: field.into(),
            detail: detail.into(),
        }])
    }

    /// Fields are not what they must be.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let first = errors.first().map(|error| format!("{}: {}", error.field, error.detail));
        Self {
            errors,
            ..Self::new(Code::InvalidRequest, first.unwrap_or_default())
        }
    }

    /// Of what kind it is.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// As an answer.
    pub fn reply(self, request_id: &str) -> Reply {
        let status = self.code.status();
        let written = Written {
            kind: format!("{}/docs#problem-{}", super::PREFIX, self.code.label()),
            title: self.code.title().to_owned(),
            status: status.as_u16(),
            detail: self.detail,
            code: self.code,
            request_id: request_id.to_owned(),
            errors: self.errors,
        };
        let mut reply = Response::new(Body::from(serde_json::to_vec(&written).unwrap_or_default()));
        *reply.status_mut() = status;
        let headers = reply.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"sentinel\""),
            );
        }
        let wait = self
            .retry_after
            .or((self.code == Code::Busy).then_some(Duration::from_secs(1)));
        if let Some(wait) = wait {
            // Rounded up: whoever comes exactly then must not be too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        reply
    }
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        let told = error.to_string();
        match error {
            AccountError::Invalid { field, why } => Self::field(field, why),
            AccountError::Taken => Self::new(Code::AddressTaken, told),
            AccountError::Unauthorised(_) => Self::new(Code::Unauthorized, told),
            AccountError::Forbidden(_) => Self::new(Code::Forbidden, told),
            AccountError::NotFound(_) => Self::new(Code::NotFound, told),
            AccountError::Conflict => Self::new(Code::Conflict, told),
            AccountError::TooMany { retry_in } => Self {
                retry_after: Some(retry_in),
                ..Self::new(Code::TooManyRequests, told)
            },
            AccountError::Busy => Self::new(Code::Busy, told),
            AccountError::Ledger(error) => error.into(),
            AccountError::Internal(why) => {
                tracing::error!(why, "a tenant's request failed by a defect");
                Self::new(
                    Code::Internal,
                    "this failed by a defect of Sentinel's own; the log has the details",
                )
            }
        }
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Busy => Self::new(Code::Busy, "the ledger is busy; try again"),
            error => {
                tracing::warn!(%error, "a tenant's request needs the ledger");
                Self::new(Code::Unavailable, "the ledger cannot be used at the moment")
            }
        }
    }
}

/// An id by which a person finds a request in the log.
pub fn request_id() -> String {
    let random: String = (0..20).map(|_| fastrand::alphanumeric()).collect();
    format!("req_{random}")
}
