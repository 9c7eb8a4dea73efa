//! Errors in Stripe's shape.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

/// Why a request fails.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    /// Whether the endpoint had begun to execute: such a failure is kept under the idempotency key.
    pub(super) executed: bool,
    error: Map<String, Value>,
}

impl Failure {
    fn new(status: StatusCode, kind: &str, code: Option<&str>, message: &str) -> Self {
        let mut error = Map::new();
        error.insert("type".to_owned(), kind.into());
        error.insert("message".to_owned(), message.into());
        if let Some(code) = code {
            error.insert("code".to_owned(), code.into());
            let page = code.replace('_', "-");
            error.insert(
                "doc_url".to_owned(),
                format!("https://stripe.com/docs/error-codes/{page}").into(),
            );
        }
        Self {
            status,
            executed: false,
            error,
        }
    }

    /// Adds a field.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.error.insert(name.to_owned(), value.into());
        self
    }

    fn invalid_request(code: Option<&str>, message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, message)
    }

    pub(super) fn missing(param: &str) -> Self {
        Self::invalid_request(Some("parameter_missing"), &format!("Missing required param: {param}."))
            .with("param", param)
    }

    pub(super) fn unknown(param: &str) -> Self {
        Self::invalid_request(
            Some("parameter_unknown"),
            &format!("Received unknown parameter: {param}"),
        )
        .with("param", param)
    }

    pub(super) fn not_integer(param: &str, text: &str) -> Self {
        Self::invalid_request(Some("parameter_invalid_integer"), &format!("Invalid integer: {text}"))
            .with("param", param)
    }

    pub(super) fn invalid(param: &str, message: &str) -> Self {
        Self::invalid_request(None, message).with("param", param)
    }

    /// A refusal that has a code, and the parameter it is about.
    pub(super) fn coded(code: &str, param: &str, message: &str) -> Self {
        Self::invalid_request(Some(code), message).with("param", param)
    }

    /// The object is not in a state for this: found while executing.
    pub(super) fn state(code: &str, message: &str) -> Self {
        Self {
            executed: true,
            ..Self::invalid_request(Some(code), message)
        }
    }

    /// Refused while executing, without a code.
    pub(super) fn refused(message: &str) -> Self {
        Self {
            executed: true,
            ..Self::invalid_request(None, message)
        }
    }

    pub(super) fn no_such(kind: &str, id: &str) -> Self {
        let (status, name) = match kind {
            "payment_intent" => (StatusCode::NOT_FOUND, "intent"),
            "PaymentMethod" => (StatusCode::NOT_FOUND, "payment_method"),
            other => (StatusCode::NOT_FOUND, other),
        };
        Self::new(
            status,
            "invalid_request_error",
            Some("resource_missing"),
            &format!("No such {kind}: '{id}'"),
        )
        .with("param", name)
    }

    pub(super) fn no_such_url(method: &str, path: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            None,
            &format!("Unrecognized request URL ({method}: {path})."),
        )
    }

    pub(super) fn key(given: Option<&str>) -> Self {
        let message = match given {
            None => "You did not provide an API key.".to_owned(),
            Some(key) => {
                let end: String = key
                    .chars()
                    .rev()
                    .take(4)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                    .collect();
                format!("Invalid API Key provided: ****{end}")
            }
        };
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", None, &message)
    }

    pub(super) fn forbidden() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "invalid_request_error",
            None,
            "The provided key does not have the required permissions for this endpoint.",
        )
    }

    pub(super) fn mismatch() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "idempotency_error",
            None,
            "Keys for idempotent requests can only be used with the same parameters they were first used with.",
        )
    }

    pub(super) fn key_in_use() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "idempotency_error",
            Some("idempotency_key_in_use"),
            "There is currently another in-progress request using this Idempotent Key.",
        )
    }

    pub(super) fn locked() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "invalid_request_error",
            Some("lock_timeout"),
            "This object cannot be accessed right now because another API request or Stripe process is accessing it.",
        )
    }

    pub(super) fn rate_limit() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "invalid_request_error",
            Some("rate_limit"),
            "Request rate limit exceeded.",
        )
    }

    pub(super) fn api(status: StatusCode) -> Self {
        Self {
            executed: true,
            ..Self::new(
                status,
                "api_error",
                None,
                "An unknown error occurred; the outcome of this request is not known.",
            )
        }
    }

    /// A card error from its fields.
    pub(super) fn card(error: Map<String, Value>) -> Self {
        Self {
            status: StatusCode::PAYMENT_REQUIRED,
            executed: true,
            error,
        }
    }

    /// As an answer.
    pub(super) fn answer(mut self, request_id: &str) -> Response<Bytes> {
        self.error.insert(
            "request_log_url".to_owned(),
            format!("https://dashboard.stripe.com/test/logs/{request_id}").into(),
        );
        let mut answer = Response::new(json!({"error": self.error}).to_string().into());
        *answer.status_mut() = self.status;
        answer
    }
}
