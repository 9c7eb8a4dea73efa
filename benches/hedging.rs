//! What hedging buys and costs: reads through the real binary to a gateway of which 3 % of the answers take twenty times
//! as long, at a fixed rate, without hedging and with it.
//!
//! `cargo bench --bench hedging`; options: `--rate N` (reads a second, 300), `--seconds N` (of measuring each, 40).
//! Latency counts from the scheduled moment (no coordinated omission). The program fails when p99 is not cut at least
//! threefold or more than 5 % of extra requests reach the gateway.

#![allow(
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    dead_code,
    reason = "a measuring program: real time, and any failure ends it"
)]

#[path = "rig/process.rs"]
mod process;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use process::{Sentinel, free_port};

/// The usual answer takes 8 to 12 ms; a slow one 200.
const USUAL: (f64, f64) = (0.008, 0.012);
const SLOW: Duration = Duration::from_millis(200);
const SLOW_SHARE: f64 = 0.03;

/// Before measuring: two refreshes of the quantile and more.
const WARM_UP: Duration = Duration::from_secs(8);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let option = |name: &str, default: f64| -> f64 {
        args.iter()
            .position(|arg| arg == name)
            .map_or(default, |at| args[at + 1].parse().expect("a number"))
    };
    let (rate, length) = (
        option("--rate", 300.0),
        Duration::from_secs_f64(option("--seconds", 40.0)),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let run = |hedge: &str| runtime.block_on(measure(hedge, rate, length));
    println!(
        "{rate} reads a second for {} s each, {} % of the answers take {} ms instead of about 10",
        length.as_secs(),
        SLOW_SHARE * 100.0,
        SLOW.as_millis()
    );
    println!("\n| | p50 ms | p99 ms | p99.9 ms | extra load | hedges won / lost / denied |\n|---|---|---|---|---|---|");
    let off = run("");
    off.print("without");
    let on = run("    hedge: { reads: p95, max_extra: 5% }\n");
    on.print("reads: p95, max_extra: 5%");
    let cut = off.quantile(0.99) / on.quantile(0.99);
    println!("\np99 cut {cut:.1}-fold with {:.1} % extra load", on.extra * 100.0);
    if cut < 3.0 || on.extra > 0.05 {
        println!("MISSED: at least threefold with at most 5 %");
        std::process::exit(1);
    }
}

struct Seen {
    latencies: Vec<f64>,
    extra: f64,
    won: f64,
    lost: f64,
    denied: f64,
}

impl Seen {
    fn quantile(&self, q: f64) -> f64 {
        self.latencies[((self.latencies.len() as f64 * q) as usize).min(self.latencies.len() - 1)]
    }

    fn print(&self, what: &str) {
        let ms = |q| self.quantile(q) * 1e3;
        println!(
            "| {what} | {:.1} | {:.1} | {:.1} | {:.1} % | {} / {} / {} |",
            ms(0.5),
            ms(0.99),
            ms(0.999),
            self.extra * 100.0,
            self.won,
            self.lost,
            self.denied
        );
    }
}

async fn measure(hedge: &str, rate: f64, length: Duration) -> Seen {
    let (gateway, arrived) = gateway().await;
    let (admin, listen) = (free_port(), free_port());
    let sentinel = Sentinel::start(
        &format!(
            "listeners: {{ admin: '{admin}' }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{gateway}', allow_private: true }}
routes:
  - name: checkout
    listen: {listen}
    dialect: stripe
    gateways: [stripe]
{hedge}"
        ),
        admin,
    );
    let pool = Arc::new(Mutex::new(Vec::new()));
    drive(listen, &pool, rate, WARM_UP).await;
    let before = (arrived.load(Ordering::SeqCst), sentinel.scrape());
    let mut latencies = drive(listen, &pool, rate, length).await;
    latencies.sort_by(f64::total_cmp);
    let after = (arrived.load(Ordering::SeqCst), sentinel.scrape());
    let hedges = |result: &str| {
        let labels = [format!("result=\"{result}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        after.1.sum("sentinel_hedges_total", &labels) - before.1.sum("sentinel_hedges_total", &labels)
    };
    Seen {
        extra: (after.0 - before.0) as f64 / latencies.len() as f64 - 1.0,
        won: hedges("won"),
        lost: hedges("lost"),
        denied: hedges("extra_load") + hedges("retry_budget") + hedges("breaker"),
        latencies,
    }
}

type Pool = Arc<Mutex<Vec<TcpStream>>>;

/// Sends at a fixed rate, whatever the answers do; gives the latencies once all are there.
async fn drive(address: SocketAddr, pool: &Pool, rate: f64, length: Duration) -> Vec<f64> {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0.. {
        let due = started + Duration::from_secs_f64(f64::from(number) / rate);
        if due >= started + length {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let pool = Arc::clone(pool);
        tasks.spawn(async move {
            let kept = pool.lock().unwrap().pop();
            let mut stream = match kept {
                Some(stream) => stream,
                None => {
                    let stream = TcpStream::connect(address).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    stream
                }
            };
            stream
                .write_all(b"GET /v1/payment_intents/pi_1 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk_test_benchmark\r\n\r\n")
                .await
                .unwrap();
            let mut answer = Vec::with_capacity(2048);
            while !answer.ends_with(b"}") {
                assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "an answer broke off");
            }
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
            pool.lock().unwrap().push(stream);
            due.elapsed().as_secs_f64()
        });
    }
    tasks.join_all().await
}

/// A gateway that counts what arrives, and answers late where the dice say so.
async fn gateway() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let arrived = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&arrived);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let arrived = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    head.clear();
                    arrived.fetch_add(1, Ordering::SeqCst);
                    let slow = fastrand::f64() < SLOW_SHARE;
                    let usual = Duration::from_secs_f64(USUAL.0 + fastrand::f64() * (USUAL.1 - USUAL.0));
                    tokio::time::sleep(if slow { SLOW } else { usual }).await;
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{\"id\":\"pi_1\"}";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, arrived)
}
