//! Why a request is refused before a handler sees it, and the bytes of the answer.
//!
//! One closed enum: the same words in the answer's body, in `Proxy-Status` (RFC 9209), in metrics and in logs. The text of
//! a refusal never repeats bytes of the request, so nothing a client sends can be reflected or logged through it.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, StatusCode};

/// What was wrong. Source: RFC 9112 and the request-smuggling literature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A TLS handshake on a plaintext port.
    TlsOnPlainPort,
    /// The first line names another protocol than HTTP. The connection is closed without an answer: an HTTP answer would
    /// be noise to whatever speaks there (RFC 9113 3.4 asks the same for a wrong HTTP/2 preface).
    NotHttp,
    /// The request line is not `method SP target SP version`.
    RequestLine,
    /// The method is not an upper-case token.
    Method,
    /// The method is one that a gateway's API never has (CONNECT, TRACE).
    MethodUnsupported,
    /// The version is not HTTP/1.0 or HTTP/1.1.
    Version,
    /// The target is neither a path nor an absolute URL that agrees with `Host`.
    Target,
    /// The path has dot segments, an encoded slash or control byte, or a broken percent-encoding.
    Path,
    /// The target is too long.
    TargetTooLong,
    /// A line ends in LF without CR.
    BareLineFeed,
    /// More than one empty line before the request line.
    EmptyLine,
    /// A header line begins with a space (RFC 9112 5.2).
    FoldedLine,
    /// A header line has no colon, or its name is not a token.
    HeaderName,
    /// A header value holds a control byte.
    HeaderValue,
    /// A header name that some servers read as a framing header (`Content_Length`).
    HeaderAlias,
    /// `Connection` names a header that must reach the gateway.
    ConnectionOption,
    /// No `Host`.
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// `Host` is not `host[:port]`, or contradicts the target.
    Host,
    /// `Content-Length` is not one plain decimal number.
    ContentLength,
    /// More than one `Content-Length`.
    ContentLengthRepeated,
    /// `Content-Length` together with `Transfer-Encoding`.
    LengthAndEncoding,
    /// `Transfer-Encoding` is not exactly `chunked`, or is repeated.
    TransferEncoding,
    /// A transfer coding that is not supported (RFC 9112 6.1: 501).
    TransferCoding,
    /// `Transfer-Encoding` in HTTP/1.0.
    EncodingInOldVersion,
    /// `Upgrade` or `HTTP2-Settings`.
    Upgrade,
    /// An expectation other than `100-continue`.
    Expectation,
    /// The head is too large.
    HeadTooLarge,
    /// Too many headers.
    TooManyHeaders,
    /// The head did not arrive in time.
    HeadTimeout,
    /// A chunk's size, extension or line end is malformed.
    Chunk,
    /// The body has trailers.
    Trailers,
}

impl Violation {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::MethodUnsupported | Self::TransferCoding | Self::Upgrade => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge | Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The word for metrics, logs and answers.
    pub fn code(self) -> &'static str {
        match self {
            Self::TlsOnPlainPort => "tls_on_plain_port",
            Self::NotHttp => "not_http",
            Self::RequestLine => "request_line",
            Self::Method => "method",
            Self::MethodUnsupported => "method_unsupported",
            Self::Version => "version",
            Self::Target => "target",
            Self::Path => "path",
            Self::TargetTooLong => "target_too_long",
            Self::BareLineFeed => "bare_line_feed",
            Self::EmptyLine => "empty_line",
            Self::FoldedLine => "folded_line",
            Self::HeaderName => "header_name",
            Self::HeaderValue => "header_value",
            Self::HeaderAlias => "header_alias",
            Self::ConnectionOption => "connection_option",
            Self::HostMissing => "host_missing",
            Self::HostRepeated => "host_repeated",
            Self::Host => "host",
            Self::ContentLength => "content_length",
            Self::ContentLengthRepeated => "content_length_repeated",
            Self::LengthAndEncoding => "length_and_encoding",
            Self::TransferEncoding => "transfer_encoding",
            Self::TransferCoding => "transfer_coding",
            Self::EncodingInOldVersion => "encoding_in_old_version",
            Self::Upgrade => "upgrade",
            Self::Expectation => "expectation",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyHeaders => "too_many_headers",
            Self::HeadTimeout => "head_timeout",
            Self::Chunk => "chunk",
            Self::Trailers => "trailers",
        }
    }

    /// One sentence for a person.
    pub fn message(self) -> &'static str {
        match self {
            Self::TlsOnPlainPort => "This port speaks plain HTTP; use http:// here, or the TLS listener.",
            Self::NotHttp => "The connection does not speak HTTP.",
            Self::RequestLine => "The request line is not a method, a target and a version separated by single spaces.",
            Self::Method => "The method is not an upper-case token.",
            Self::MethodUnsupported => "The method is not supported here.",
            Self::Version => "The HTTP version is not supported; use HTTP/1.1 or HTTP/2.",
            Self::Target => "The request target must be a path, or an absolute URL whose host equals the Host header.",
            Self::Path => "The path has a dot segment, an encoded slash or control byte, or a broken percent-encoding.",
            Self::TargetTooLong => "The request target is too long.",
            Self::BareLineFeed => "A line of the head ends in LF without CR.",
            Self::EmptyLine => "There is more than one empty line before the request line.",
            Self::FoldedLine => "A header line is folded (obs-fold).",
            Self::HeaderName => "A header line has no colon, or its name is not a token.",
            Self::HeaderValue => "A header value holds a control byte.",
            Self::HeaderAlias => "A header name with an underscore imitates a framing header.",
            Self::ConnectionOption => "The Connection header names a header that must not be removed.",
            Self::HostMissing => "The Host header is missing.",
            Self::HostRepeated => "The Host header is repeated.",
            Self::Host => "The Host header is malformed or contradicts the request target.",
            Self::ContentLength => "Content-Length is not one plain decimal number.",
            Self::ContentLengthRepeated => "Content-Length is repeated.",
            Self::LengthAndEncoding => "Content-Length and Transfer-Encoding are both present.",
            Self::TransferEncoding => "Transfer-Encoding must be exactly 'chunked'.",
            Self::TransferCoding => "The transfer coding is not supported.",
            Self::EncodingInOldVersion => "Transfer-Encoding is not allowed in HTTP/1.0.",
            Self::Upgrade => "Upgrading the protocol is not supported.",
            Self::Expectation => "Only the expectation 100-continue is supported.",
            Self::HeadTooLarge => "The request head is too large.",
            Self::TooManyHeaders => "The request has too many headers.",
            Self::HeadTimeout => "The request head did not arrive in time.",
            Self::Chunk => "The chunked body is malformed.",
            Self::Trailers => "Trailers are not supported.",
        }
    }
}

/// An answer that the listener gives itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request violates the rules.
    Violation(Violation),
    /// Too many connections are open.
    Full,
}

impl Refusal {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Violation(violation) => violation.status(),
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The word for metrics, logs and answers.
    pub fn code(self) -> &'static str {
        match self {
            Self::Violation(violation) => violation.code(),
            Self::Full => "connection_limit",
        }
    }

    /// One sentence for a person.
    pub fn message(self) -> &'static str {
        match self {
            Self::Violation(violation) => violation.message(),
            Self::Full => "Too many connections are open; nothing was sent to a gateway. Try again.",
        }
    }

    /// The value of `Proxy-Status` (RFC 9209 2.3).
    pub fn proxy_status(self) -> String {
        let error = match self {
            Self::Violation(_) => "http_request_error",
            Self::Full => "connection_limit_reached",
        };
        format!("sentinel; error={error}; details=\"{}\"", self.code())
    }

    /// The whole HTTP/1.1 answer. It always closes the connection: after a head that could be read in two ways, nothing
    /// that follows on it can be trusted.
    pub(super) fn to_bytes(self, rendered: &(HeaderValue, Bytes)) -> Bytes {
        let (content_type, body) = rendered;
        let content_type = content_type.to_str().unwrap_or("application/json");
        let status = self.status();
        let retry = if self == Self::Full { "retry-after: 1\r\n" } else { "" };
        let mut out = BytesMut::with_capacity(320 + body.len());
        out.put_slice(
            format!(
                "HTTP/1.1 {} {}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nproxy-status: {}\r\n{retry}connection: close\r\n\r\n",
                status.as_str(),
                status.canonical_reason().unwrap_or(""),
                body.len(),
                self.proxy_status(),
            )
            .as_bytes(),
        );
        out.put_slice(body);
        out.freeze()
    }
}

/// The body of a refusal where no route's dialect is known.
pub fn plain_json(refusal: &Refusal) -> (HeaderValue, Bytes) {
    let body = serde_json::json!({ "error": { "code": refusal.code(), "message": refusal.message() } });
    (
        HeaderValue::from_static("application/json"),
        Bytes::from(body.to_string()),
    )
}
