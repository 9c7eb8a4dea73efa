//! What the commit byte costs: payments' exchanges against plain forwarding, over TLS on loopback.
//!
//! `cargo bench --bench evidence [-- --rounds N --calls N]`. One worker's client as in the sidecar, a gateway on another
//! thread that answers at once. On a network every figure grows by its round trips, which the last column names.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

#[path = "rig/gateway.rs"]
mod gateway;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use sentinel::config::model::GatewayConfig;
use sentinel::resilience::Deadline;
use sentinel::upstream::exchange::{Connections, Limits};
use sentinel::upstream::{Client, Deadlines};
use tokio::time::Instant;

use gateway::ANSWER;

const FORM: &[u8] = &[b'a'; 300];

/// How a call is made.
#[derive(Clone, Copy)]
enum Way {
    Forward,
    Used,
    Fresh,
    Young,
}

fn main() {
    let (rounds, calls) = (option("--rounds", 5), option("--calls", 2000));
    let dir = tempfile::tempdir().unwrap();
    let (address, ca) = gateway::start(dir.path(), Duration::ZERO);
    println!("| call | p50 us | p99 us | processor us | round trips |");
    println!("|---|---|---|---|---|");
    for (protocol, ways) in [
        (
            "h1",
            &[
                ("forwarded, kept connection", Way::Forward, calls, "1"),
                (
                    "payment, used connection: waits for the acknowledgement",
                    Way::Used,
                    calls,
                    "2",
                ),
                (
                    "payment, prepared connection: waits for nothing",
                    Way::Young,
                    calls / 4,
                    "1",
                ),
                (
                    "payment, new connection, TLS session resumed",
                    Way::Fresh,
                    calls / 4,
                    "3",
                ),
            ][..],
        ),
        (
            "h2",
            &[
                ("forwarded, kept connection", Way::Forward, calls, "1"),
                (
                    "payment, used connection: waits for the acknowledgement",
                    Way::Used,
                    calls,
                    "2",
                ),
            ][..],
        ),
    ] {
        for (name, way, calls, trips) in ways {
            let config = configure(address, &ca, protocol, *way);
            let mut medians: Vec<(f64, f64, f64)> = (0..rounds).map(|_| measure(&config, *way, *calls)).collect();
            medians.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (p50, p99, cpu) = medians[medians.len() / 2];
            println!("| {protocol}, {name} | {p50:.0} | {p99:.0} | {cpu:.0} | {trips} |");
        }
    }
}

fn option(name: &str, default: usize) -> usize {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    args.nth(1).and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// p50, p99 and processor time of one call on the worker's thread, in microseconds.
fn measure(gateway: &Arc<GatewayConfig>, way: Way, calls: usize) -> (f64, f64, f64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let client = Client::<Full<Bytes>>::new();
        // The first of these opens the connection that the others use, and waits for nothing.
        for _ in 0..50 {
            if !matches!(way, Way::Young) {
                call(&client, gateway, way).await;
            }
        }
        let mut took = Vec::with_capacity(calls);
        let mut cpu = Duration::ZERO;
        for _ in 0..calls {
            if matches!(way, Way::Young) {
                prepare(&client, gateway).await;
            }
            let (began, used) = (Instant::now(), thread_time());
            let waited = call(&client, gateway, way).await;
            assert_eq!(waited, matches!(way, Way::Used), "for the acknowledgement");
            took.push(began.elapsed().as_secs_f64() * 1e6);
            cpu += thread_time() - used;
        }
        took.sort_by(f64::total_cmp);
        let cpu = cpu.as_secs_f64() * 1e6 / calls as f64;
        (took[calls / 2], took[calls * 99 / 100], cpu)
    })
}

/// Waits until an unused connection lies ready.
async fn prepare(client: &Client<Full<Bytes>>, gateway: &Arc<GatewayConfig>) {
    client.retain(|_| false);
    client.prewarm(gateway);
    while client.connections(&gateway.name).0 == 0 {
        tokio::task::yield_now().await;
    }
}

/// One call. Says whether it waited for the acknowledgement.
async fn call(client: &Client<Full<Bytes>>, gateway: &Arc<GatewayConfig>, way: Way) -> bool {
    let connections = match way {
        Way::Forward => {
            let deadlines = Deadlines {
                response_header: Duration::ZERO,
                body_idle: Duration::ZERO,
                total: Deadline::after(Instant::now(), Duration::from_secs(10)),
            };
            let request = request().map(Full::new);
            let (response, _) = client
                .forward(gateway, Box::new(request), &deadlines, Instant::now(), false)
                .await
                .unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), ANSWER);
            return false;
        }
        Way::Used | Way::Young => Connections::Any,
        Way::Fresh => Connections::Fresh,
    };
    let limits = Limits {
        total: Deadline::after(Instant::now(), Duration::from_secs(10)),
        response_header: Duration::ZERO,
        answer: 1 << 20,
        connections,
    };
    let answer = client
        .exchange(gateway, request(), &limits, async || true)
        .await
        .unwrap();
    assert_eq!(answer.body, ANSWER);
    answer.marks.acknowledged.is_some()
}

fn request() -> http::Request<Bytes> {
    http::Request::post("/v1/charges")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("idempotency-key", "k_1")
        .body(Bytes::from_static(FORM))
        .unwrap()
}

fn configure(address: SocketAddr, ca: &Path, protocol: &str, way: Way) -> Arc<GatewayConfig> {
    let warm = usize::from(matches!(way, Way::Young));
    let yaml = format!(
        "gateways:\n  stripe: {{ dialect: stripe, endpoint: 'https://localhost:{}', addresses: ['{address}'], \
         allow_private: true, roots: '{}', protocol: {protocol}, prewarm: {warm} }}\n\
         routes: [{{ name: r, listen: '127.0.0.1:9', dialect: stripe, gateways: [stripe] }}]\n",
        address.port(),
        ca.display()
    );
    let config = sentinel::config::load::parse(Path::new("bench.yaml"), &yaml).expect("a configuration");
    Arc::clone(&config.gateways["stripe"])
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
