//! One exchange with a gateway, as payments want it: complete answer or none, and the evidence either way.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use tokio::time::Instant;

use crate::config::model::GatewayConfig;
use crate::gateway::{Incoming, Outgoing};
use crate::resilience::Deadline;
use crate::telemetry::Metrics;
use crate::upstream::exchange::{Connections, Limits};
use crate::upstream::{Client, Evidence, Failure, Side};

/// The largest answer that is read. Payment answers have some kilobytes.
const ANSWER: usize = 4 * 1024 * 1024;

/// A worker's connections for payments.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    client: Client<Full<Bytes>>,
}

/// What an exchange left.
#[derive(Debug)]
pub(crate) struct Exchanged {
    /// What is known of the request.
    pub evidence: Evidence,
    /// The complete answer.
    pub answer: Option<Incoming>,
    /// Where it failed, when there is no complete answer.
    pub failure: Option<Failure>,
    /// Whose failure it was.
    pub side: Side,
}

impl Wire {
    /// Connections that are counted.
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            client: Client::observed(metrics),
        }
    }

    /// Closes the idle connections of gateways that are not known any more.
    pub(super) fn retain(&self, known: impl Fn(&str) -> bool) {
        self.client.retain(known);
    }

    /// Sends one request once, and reads the whole answer. `timeout` is for all of it; `gate` has the last word before
    /// the commit byte. `fresh` insists on a connection that never carried a request.
    pub(crate) async fn exchange(
        &self,
        gateway: &Arc<GatewayConfig>,
        outgoing: Outgoing,
        timeout: Duration,
        fresh: bool,
        gate: impl AsyncFnOnce() -> bool,
    ) -> Exchanged {
        let started = Instant::now();
        let mut request = http::Request::new(outgoing.body);
        *request.method_mut() = outgoing.method;
        *request.headers_mut() = outgoing.headers;
        // Compressed bytes would have to be inflated before they prove anything.
        request.headers_mut().insert(
            http::header::ACCEPT_ENCODING,
            http::HeaderValue::from_static("identity"),
        );
        match outgoing.target.parse() {
            Ok(target) => *request.uri_mut() = target,
            Err(_) => return Exchanged::never("the target is no path", started),
        }
        let limits = Limits {
            total: Deadline::after(started, timeout),
            response_header: Duration::ZERO,
            answer: ANSWER,
            connections: if fresh { Connections::Fresh } else { Connections::Any },
        };
        match self.client.exchange(gateway, request, &limits, gate).await {
            Ok(answer) => Exchanged {
                evidence: answer.evidence,
                answer: Some(Incoming {
                    status: answer.head.status,
                    headers: answer.head.headers,
                    body: answer.body,
                }),
                failure: None,
                side: Side::Upstream,
            },
            Err(failed) => Exchanged {
                evidence: failed.error.evidence,
                answer: None,
                failure: Some(failed.error.failure),
                side: failed.error.side,
            },
        }
    }
}

impl Exchanged {
    fn never(note: &str, started: Instant) -> Self {
        Self {
            evidence: Evidence {
                took: started.elapsed(),
                ..Evidence::nothing_sent(note.to_owned())
            },
            answer: None,
            failure: Some(Failure::Internal),
            side: Side::Local,
        }
    }
}
