//! Answers and errors in PayPal's shape.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::sandbox::Request;

/// An error as PayPal writes it.
pub(super) struct Failure {
    status: StatusCode,
    name: &'static str,
    message: &'static str,
    issue: String,
}

impl Failure {
    const fn new(status: StatusCode, name: &'static str, message: &'static str) -> Self {
        Self {
            status,
            name,
            message,
            issue: String::new(),
        }
    }

    pub(super) const RATE_LIMIT: Self = Self::new(
        StatusCode::TOO_MANY_REQUESTS,
        "RATE_LIMIT_REACHED",
        "Too many requests. Blocked due to rate limiting.",
    );
    pub(super) const AUTHENTICATION: Self = Self::new(
        StatusCode::UNAUTHORIZED,
        "AUTHENTICATION_FAILURE",
        "Authentication failed due to missing authorization header, or invalid authentication credentials.",
    );
    pub(super) const INTERNAL: Self = Self::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "INTERNAL_SERVER_ERROR",
        "An internal server error occurred.",
    );
    pub(super) const UNAVAILABLE: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "SERVICE_UNAVAILABLE",
        "Service Unavailable.",
    );
    pub(super) const NOT_FOUND: Self = Self::new(
        StatusCode::NOT_FOUND,
        "RESOURCE_NOT_FOUND",
        "The specified resource does not exist.",
    );

    pub(super) fn invalid(issue: &str) -> Self {
        let message = "Request is not well-formed, syntactically incorrect, or violates schema.";
        Self {
            issue: issue.to_owned(),
            ..Self::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", message)
        }
    }

    pub(super) fn forbidden(issue: &str) -> Self {
        let message = "Authorization failed due to insufficient permissions.";
        Self {
            issue: issue.to_owned(),
            ..Self::new(StatusCode::FORBIDDEN, "NOT_AUTHORIZED", message)
        }
    }

    pub(super) fn unprocessable(issue: &str) -> Self {
        let message =
            "The requested action could not be performed, semantically incorrect, or failed business validation.";
        Self {
            issue: issue.to_owned(),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "UNPROCESSABLE_ENTITY", message)
        }
    }

    /// A twin of the request is running.
    pub(super) fn running(path: &str) -> Self {
        if super::order_of(path).is_some() {
            return Self::unprocessable("ORDER_COMPLETION_IN_PROGRESS");
        }
        let message = "The server has detected a conflict while processing this request.";
        let conflict = Self::new(StatusCode::CONFLICT, "RESOURCE_CONFLICT", message);
        Self {
            issue: "PREVIOUS_REQUEST_IN_PROGRESS".to_owned(),
            ..conflict
        }
    }

    /// What `PayPal-Mock-Response` asks for.
    pub(super) fn mocked(code: &str) -> Self {
        match code {
            "INTERNAL_SERVER_ERROR" => Self::INTERNAL,
            "SERVICE_UNAVAILABLE" => Self::UNAVAILABLE,
            "RATE_LIMIT_REACHED" => Self::RATE_LIMIT,
            "PERMISSION_DENIED" | "NOT_ENABLED_FOR_CARD_PROCESSING" => Self::forbidden(code),
            "MISSING_REQUIRED_PARAMETER" | "INVALID_PARAMETER_VALUE" => Self::invalid(code),
            code => Self::unprocessable(code),
        }
    }
}

fn debug_id(body: &str) -> String {
    let digest = Sha256::digest(body);
    let hex: String = digest.iter().take(7).map(|byte| format!("{byte:02x}")).collect();
    hex.chars().take(13).collect()
}

pub(super) fn plain(status: StatusCode, body: &Value) -> Response<Bytes> {
    let text = body.to_string();
    let debug = debug_id(&text);
    let mut answer = Response::new(Bytes::from(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    if let Ok(debug) = HeaderValue::from_str(&debug) {
        headers.insert("paypal-debug-id", debug);
    }
    answer
}

pub(super) fn failure(failure: &Failure) -> Response<Bytes> {
    let seed = format!("{} {}", failure.name, failure.issue);
    let mut body = json!({"name": failure.name, "message": failure.message, "debug_id": debug_id(&seed)});
    if !failure.issue.is_empty() {
        body["details"] = json!([{"issue": failure.issue, "description": failure.message}]);
    }
    body["links"] = json!([]);
    plain(failure.status, &body)
}

/// The identity service's shape of errors.
pub(super) fn identity_failure(status: StatusCode, error: &str, description: &str) -> Response<Bytes> {
    plain(status, &json!({"error": error, "error_description": description}))
}

pub(super) fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}

/// What an answer depends on beside the object it shows.
pub(super) struct Page<'a> {
    pub(super) request: &'a Request,
    pub(super) now: i64,
}

impl Page<'_> {
    fn full(&self) -> bool {
        self.request
            .header("prefer")
            .is_some_and(|prefer| prefer.contains("return=representation"))
    }

    /// The answer to a POST: whole, or id, status and links.
    pub(super) fn posted(&self, status: StatusCode, object: Value) -> Response<Bytes> {
        if self.full() {
            return plain(status, &object);
        }
        let keep = |name: &str| (name.to_owned(), object.get(name).cloned().unwrap_or_default());
        plain(
            status,
            &Value::Object(["id", "status", "links"].into_iter().map(keep).collect()),
        )
    }

    pub(super) fn voided(&self, object: Value) -> Response<Bytes> {
        if self.full() {
            return plain(StatusCode::OK, &object);
        }
        let mut answer = plain(StatusCode::NO_CONTENT, &object);
        *answer.body_mut() = Bytes::new();
        answer.headers_mut().remove("content-type");
        answer
    }

    pub(super) fn link(&self, path: &str, rel: &str, method: &str) -> Value {
        json!({"href": format!("{}{path}", self.request.base), "rel": rel, "method": method})
    }
}
