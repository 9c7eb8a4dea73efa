//! Connections to gateways, and what they prove about a request that failed.
//!
//! Every worker has a [`Client`] with pools of its own: nothing here crosses threads. HTTP/1.1 is spoken by [`h1`],
//! HTTP/2 by hyper. The transport counts the plaintext bytes handed to it, and whoever writes a request's last byte (over
//! HTTP/2: whoever hands over its body's end) says so; from these two, never from an error's name, comes the answer to
//! "may the gateway have the whole request?" ([`Evidence::sent`]). Nothing is ever sent again in here: whoever calls
//! decides, on the evidence. Redirects are not followed, proxy variables of the environment are not read.

mod acknowledged;
mod alarm;
mod body;
mod client;
mod connect;
pub mod exchange;
mod forward;
mod gate;
mod h1;
mod names;
mod nap;
mod outgoing;
mod pool;
mod tls;
mod transport;

pub use body::{Body, BodyError};
pub use client::Client;
pub use forward::{Deadlines, Failed};
pub use names::{Resolve, System};
pub use tls::warm_up;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How far a request got, from the bytes of plaintext handed to its transport (safety.md 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// C0: not one byte.
    Nothing,
    /// CP: some bytes, but never the last one.
    Partial,
    /// CF: the commit byte was released.
    Committed,
}

/// Whether a request may have reached the gateway whole. This is the retry law.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// Provably not.
    No,
    /// It may have.
    Maybe,
}

/// Whose failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The application's.
    Downstream,
    /// The gateway's or the network's on the way to it.
    Upstream,
    /// Sentinel's own.
    Local,
}

/// Facts about one exchange with a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// How far the request got.
    pub progress: Progress,
    /// Plaintext bytes of this request handed to the transport (HTTP/1.1: counted; HTTP/2: body bytes).
    pub bytes_sent: u64,
    /// Plaintext bytes received after the request began.
    pub bytes_received: u64,
    /// Whether the connection had carried a request before.
    pub reused: bool,
    /// `true` for HTTP/2.
    pub http2: bool,
    /// The peer reset the stream with REFUSED_STREAM, or sent GOAWAY with a smaller last stream id (RFC 9113 8.7).
    pub refused_by_peer: bool,
    /// The status of the answer's head, when one arrived whole.
    pub status: Option<u16>,
    /// What failed, for people; decisions never read it.
    pub note: String,
    /// How long it took.
    pub took: Duration,
}

impl Evidence {
    /// Of a request that never got as far as a connection.
    pub fn nothing_sent(note: String) -> Self {
        Self {
            progress: Progress::Nothing,
            bytes_sent: 0,
            bytes_received: 0,
            reused: false,
            http2: false,
            refused_by_peer: false,
            status: None,
            note,
            took: Duration::ZERO,
        }
    }

    /// The retry law: what the evidence says about arrival.
    pub fn sent(&self) -> Sent {
        match self.progress {
            Progress::Nothing | Progress::Partial => Sent::No,
            Progress::Committed => Sent::Maybe,
        }
    }
}

/// The phases in which an exchange can fail: a closed set, the same in metrics, logs and `Proxy-Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// No address for the host.
    Dns,
    /// No TCP connection.
    Connect,
    /// No TLS session, or a certificate that does not verify.
    Tls,
    /// No free connection within the limits.
    Pool,
    /// The connection broke, or the answer was not HTTP.
    Connection,
    /// The answer's head did not come in time.
    HeaderTimeout,
    /// A body stalled.
    BodyTimeout,
    /// The whole request took too long.
    Deadline,
    /// The application's request body broke off.
    RequestBody,
    /// The answer was larger than allowed.
    TooLarge,
    /// The gateway answered before it could have the whole request, which was then not completed.
    EarlyAnswer,
    /// The gateway did not acknowledge the request's first bytes in time, and never got the last one.
    Unacknowledged,
    /// The caller withdrew the request before its last byte was sent.
    Withdrawn,
    /// Sentinel is stopping, or a task died.
    Internal,
}

impl Failure {
    /// The word in metrics, logs and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Pool => "pool",
            Self::Connection => "connection",
            Self::HeaderTimeout => "header_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::Deadline => "deadline",
            Self::RequestBody => "request_body",
            Self::TooLarge => "too_large",
            Self::EarlyAnswer => "early_answer",
            Self::Unacknowledged => "unacknowledged",
            Self::Withdrawn => "withdrawn",
            Self::Internal => "internal",
        }
    }
}

/// A failed exchange.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{failure:?} ({side:?}): {}", evidence.note)]
pub struct Error {
    /// Where it failed.
    pub failure: Failure,
    /// Whose failure it was.
    pub side: Side,
    /// What is known.
    pub evidence: Evidence,
}
