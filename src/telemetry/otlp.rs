//! Exports spans by OTLP/HTTP with JSON bodies (OpenTelemetry Protocol 1.x, section "OTLP/HTTP"), to a collector beside
//! Sentinel.
//!
//! Own code of a page instead of the OpenTelemetry SDK, which would bring a second HTTP client, protobuf and its own
//! threads for two kinds of span. It speaks plaintext HTTP: the collector is an agent on this machine, and it is the one
//! that holds the credentials and the TLS of whatever is behind it.
//!
//! A collector that is down, slow or refusing costs spans, which are counted, and nothing else.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use prometheus::IntCounter;
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::spans::{Message, Side, Span, Value};
use crate::config::model::Otlp;

/// Spans in one request.
const BATCH: usize = 512;

/// How long a span waits for others.
const LINGER: Duration = Duration::from_secs(1);

/// One request to the collector, connecting included.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Attempts at one batch, with pauses of one and two seconds: enough for a collector that restarts.
const ATTEMPTS: u32 = 3;

/// What became of spans.
#[derive(Clone, Debug)]
pub struct Counts {
    /// The collector has them.
    pub exported: IntCounter,
    /// The collector did not take them.
    pub failed: IntCounter,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("no answer in time")]
    Late,
    #[error("the collector answered {0}")]
    Status(http::StatusCode),
}

impl ExportError {
    /// By the protocol only these statuses may be tried again; a failed connection too.
    fn may_pass(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status.as_u16(), 429 | 502..=504),
            Self::Request(_) => false,
            Self::Io(_) | Self::Http(_) | Self::Late => true,
        }
    }
}

/// Exports until nobody records any more.
pub async fn export(to: Otlp, mut queue: mpsc::Receiver<Message>, counts: Counts) {
    let mut batch: Vec<Span> = Vec::new();
    let mut due = None;
    let mut failing = false;
    loop {
        let linger = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let mut flushed = None;
        tokio::select! {
            message = queue.recv() => match message {
                Some(Message::Span(span)) => {
                    batch.push(*span);
                    due.get_or_insert(Instant::now() + LINGER);
                    if batch.len() < BATCH {
                        continue;
                    }
                }
                Some(Message::Flush(done)) => flushed = Some(done),
                None => return,
            },
            () = linger => {}
        }
        due = None;
        if !batch.is_empty() {
            let length = batch.len() as u64;
            match send(&to, &batch).await {
                Ok(()) => {
                    counts.exported.inc_by(length);
                    failing = false;
                }
                Err(error) => {
                    counts.failed.inc_by(length);
                    if !failing {
                        tracing::warn!(%error, spans = length, "spans were not exported");
                    }
                    failing = true;
                }
            }
            batch.clear();
        }
        if let Some(flushed) = flushed {
            let _ = flushed.send(());
        }
    }
}

async fn send(to: &Otlp, batch: &[Span]) -> Result<(), ExportError> {
    let body = Bytes::from(body(to, batch).to_string());
    let mut attempt = 1;
    loop {
        let result = tokio::time::timeout(TIMEOUT, post(to, body.clone())).await;
        match result.unwrap_or(Err(ExportError::Late)) {
            Err(error) if error.may_pass() && attempt < ATTEMPTS => {
                tokio::time::sleep(Duration::from_secs(1) * attempt).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

async fn post(to: &Otlp, body: Bytes) -> Result<(), ExportError> {
    let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the sender, that is with this function.
    tokio::spawn(connection);
    let host = if to.host.contains(':') {
        format!("[{}]:{}", to.host, to.port)
    } else {
        format!("{}:{}", to.host, to.port)
    };
    let request = http::Request::post(format!("{}/v1/traces", to.path))
        .header(http::header::HOST, host)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::CONNECTION, "close")
        .body(Full::new(body))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    // Its content says nothing that changes what follows, but an unread answer would look like a reset to the collector.
    let _ = Limited::new(answer.into_body(), 64 << 10).collect().await;
    if status.is_success() {
        Ok(())
    } else {
        Err(ExportError::Status(status))
    }
}

fn body(to: &Otlp, batch: &[Span]) -> Json {
    json!({ "resourceSpans": [{
        "resource": { "attributes": [attribute("service.name", &Value::Text(to.service.clone()))] },
        "scopeSpans": [{
            "scope": { "name": "sentinel", "version": env!("CARGO_PKG_VERSION") },
            "spans": batch.iter().map(encode).collect::<Vec<_>>(),
        }],
    }]})
}

fn encode(span: &Span) -> Json {
    let ended = span.ended.duration_since(UNIX_EPOCH).unwrap_or_default();
    let began = ended.saturating_sub(span.took);
    let attributes: Vec<Json> = span
        .attributes
        .iter()
        .map(|(key, value)| attribute(key, value))
        .collect();
    let mut encoded = json!({
        // Hexadecimal, other than protobuf's JSON has it; 64-bit numbers as text.
        "traceId": span.context.id().to_string(),
        "spanId": format!("{:016x}", span.context.span),
        "flags": span.context.flags,
        "name": span.name,
        "kind": match span.side { Side::Server => 2, Side::Client => 3 },
        "startTimeUnixNano": began.as_nanos().to_string(),
        "endTimeUnixNano": ended.as_nanos().to_string(),
        "attributes": attributes,
        "status": if span.failed { json!({ "code": 2 }) } else { json!({}) },
    });
    if span.context.parent != 0 {
        encoded["parentSpanId"] = Json::String(format!("{:016x}", span.context.parent));
    }
    encoded
}

fn attribute(key: &str, value: &Value) -> Json {
    match value {
        Value::Text(text) => json!({ "key": key, "value": { "stringValue": text } }),
        Value::Number(number) => json!({ "key": key, "value": { "intValue": number.to_string() } }),
    }
}
