//! Sentinel's side of a case: the library's own client, as a worker uses it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use sentinel::config::model::GatewayConfig;
use sentinel::resilience::Deadline;
use sentinel::upstream::exchange::{Answer, Connections, Failed, Limits};

/// A worker's client.
pub type Client = sentinel::upstream::Client<Empty<Bytes>>;

/// The configuration of one gateway, by the file that a user would write. `more` stands inside the gateway's entry.
pub fn gateway(address: SocketAddr, ca: &Path, more: &str) -> Arc<GatewayConfig> {
    let yaml = format!(
        "gateways:\n  stripe: {{ dialect: stripe, endpoint: 'https://localhost:{}', addresses: ['{address}'], \
         allow_private: true, roots: '{}', {more} }}\n\
         routes: [{{ name: r, listen: '127.0.0.1:9', dialect: stripe, gateways: [stripe] }}]\n",
        address.port(),
        ca.display()
    );
    let config = sentinel::config::load::parse(Path::new("test.yaml"), &yaml);
    Arc::clone(
        &config
            .unwrap_or_else(|problems| panic!("{problems:?}\n{yaml}"))
            .gateways["stripe"],
    )
}

/// A charge as the Stripe SDKs write it.
pub fn charge(body: &'static str) -> http::Request<Bytes> {
    http::Request::post("/v1/charges")
        .header("idempotency-key", "k_1")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Bytes::from_static(body.as_bytes()))
        .expect("a request")
}

/// Limits of one exchange.
pub fn limits(total: Duration) -> Limits {
    Limits {
        total: Deadline::after(tokio::time::Instant::now(), total),
        response_header: Duration::ZERO,
        answer: 64 * 1024,
        connections: Connections::Any,
    }
}

/// As long as a ledger's commit takes, and some.
pub const COMMIT: Duration = Duration::from_millis(1);

/// One exchange, with a gate that takes so long.
pub async fn exchange(
    client: &Client,
    gateway: &Arc<GatewayConfig>,
    body: &'static str,
    total: Duration,
    gate: Duration,
) -> Result<Answer, Box<Failed>> {
    let opens = async || {
        if !gate.is_zero() {
            tokio::time::sleep(gate).await;
        }
        true
    };
    client.exchange(gateway, charge(body), &limits(total), opens).await
}

/// Runs on a worker of its own.
pub fn worker<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test)
}
