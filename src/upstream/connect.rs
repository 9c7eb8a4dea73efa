//! From a configured endpoint to an open, verified connection. The client of a request has no say in any of it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::HandshakeKind;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::Failure;
use super::names::Names;
use super::tls::Trust;
use super::transport::Stream;
use crate::arrival::Socket;
use crate::config::model::{GatewayConfig, Protocol};
use crate::telemetry::UpstreamMetrics;

/// What an address gets at least before the next one is tried, where a name has several (RFC 8305 section 5: 250 ms
/// between attempts).
const TURN: Duration = Duration::from_millis(250);

/// A failed connection: nothing of any request was sent.
#[derive(Debug)]
pub(super) struct ConnectError {
    pub(super) failure: Failure,
    pub(super) note: String,
}

impl ConnectError {
    pub(super) fn new(failure: Failure, note: impl std::fmt::Display) -> Self {
        Self {
            failure,
            note: note.to_string(),
        }
    }
}

/// An open connection, and what was agreed on it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) http2: bool,
}

/// Opens a connection to a gateway within `limit`, at the first of its addresses that answers.
pub(super) async fn connect(
    names: &Rc<Names>,
    gateway: &GatewayConfig,
    trust: Option<&Trust>,
    metrics: Option<&Arc<UpstreamMetrics>>,
    limit: Duration,
) -> Result<Opened, ConnectError> {
    let began = Instant::now();
    let result = match tokio::time::timeout(limit, attempts(names, gateway, trust, metrics, began + limit)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::new(
            Failure::Connect,
            format!("no connection within {limit:?}"),
        )),
    };
    if let Some(metrics) = metrics {
        match &result {
            Ok(opened) => {
                metrics.connected("ok", began.elapsed());
                if let Stream::Tls(stream) = &opened.stream {
                    let session = stream.get_ref().1;
                    let version = match session.protocol_version() {
                        Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
                        _ => "1.2",
                    };
                    metrics.handshake(version, session.handshake_kind() == Some(HandshakeKind::Resumed));
                }
            }
            Err(error) => metrics.connected(
                match error.failure {
                    Failure::Dns => "dns",
                    Failure::Tls => "tls",
                    _ => "connect",
                },
                began.elapsed(),
            ),
        }
    }
    result
}

async fn attempts(
    names: &Rc<Names>,
    gateway: &GatewayConfig,
    trust: Option<&Trust>,
    metrics: Option<&Arc<UpstreamMetrics>>,
    end: Instant,
) -> Result<Opened, ConnectError> {
    let endpoint = &gateway.endpoint;
    let addresses = names.addresses(endpoint, metrics).await?;
    let mut last = None;
    for (index, address) in addresses.iter().enumerate() {
        // The last one has all the time that is left; the others leave some.
        let left = end.saturating_duration_since(Instant::now());
        let turn = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let attempt = open(endpoint.protocol, trust, *address);
        let error = match tokio::time::timeout(turn.max(TURN), attempt).await {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(error)) => error,
            Err(_) => ConnectError::new(Failure::Connect, format!("{address}: no answer")),
        };
        names.shun(endpoint, *address);
        last = Some(error);
    }
    Err(last.unwrap_or_else(|| ConnectError::new(Failure::Dns, format!("{} has no address", endpoint.host))))
}

async fn open(protocol: Protocol, trust: Option<&Trust>, address: SocketAddr) -> Result<Opened, ConnectError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| ConnectError::new(Failure::Connect, format!("{address}: {error}")))?;
    stream
        .set_nodelay(true)
        .map_err(|error| ConnectError::new(Failure::Connect, error))?;
    let stream = Socket::new(stream, Rc::default());
    let Some(trust) = trust else {
        return Ok(Opened {
            stream: Stream::Plain(stream),
            // In plaintext there is nothing to agree by: HTTP/2 only where it is known beforehand.
            http2: protocol == Protocol::H2,
        });
    };
    let tls = TlsConnector::from(Arc::clone(&trust.config))
        .connect(trust.name.clone(), stream)
        .await
        .map_err(|error| ConnectError::new(Failure::Tls, format!("{address}: {error}")))?;
    let session = tls.get_ref().1;
    if !trust.accepts(session) {
        return Err(ConnectError::new(
            Failure::Tls,
            format!("{address}: no pinned key in the verified chain"),
        ));
    }
    let http2 = match (session.alpn_protocol(), protocol) {
        (Some(b"h2"), _) => true,
        // Without an answer the server does not know ALPN, and speaks HTTP/1.1 (RFC 7301 section 3.1).
        (_, Protocol::H2) => {
            return Err(ConnectError::new(
                Failure::Tls,
                format!("{address}: the server does not offer HTTP/2"),
            ));
        }
        _ => false,
    };
    Ok(Opened {
        stream: Stream::Tls(Box::new(tls)),
        http2,
    })
}
