//! What a durable payment costs, and what a failover adds.
//!
//! `cargo bench --bench payments [-- --seconds N] [-- --dir DIR] [-- --only failover]`
//!
//! Everything goes through the real binary, with a ledger on the disk that `--dir` names, between gateways that answer at
//! once (or after 50 ms). Four tables, of which `--only` (`failover`, `throughput`, `rate` or `syncs`) chooses one:
//!
//! 1. **Failover.** One payment at a time, whose first gateway refuses connections, with the breaker closed and open. What
//!    is added is over the second gateway's own time, measured on the same kind of connection without Sentinel.
//! 2. **Throughput.** Payments with keys through a healthy first gateway against plain forwarding of the same bytes, at 1,
//!    16, 64 and 256 in flight.
//! 3. **Fixed rate.** 1,000 payments a second to a gateway that takes 50 ms, against plain forwarding: processor time and
//!    latency, counted from the scheduled moment.
//!
//! 4. **Syncs.** What one payment has written and synced, alone and among 64: durable writes by Sentinel's own metric, and
//!    fsync(2) and fdatasync(2) by strace(1), which slows everything down and is therefore a run of its own.
//!
//! Beside them stands the disk's own append + fdatasync, measured between the rounds.

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
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use process::{Sentinel, free_port};

const IN_FLIGHT: [usize; 4] = [1, 16, 64, 256];
const ROUNDS: usize = 3;
const RECORD: usize = 700;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let option = |name: &str| args.iter().position(|arg| arg == name).map(|at| args[at + 1].clone());
    let seconds: f64 = option("--seconds").map_or(2.0, |seconds| seconds.parse().expect("a number"));
    let dir = option("--dir").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").to_owned());
    let dir = tempfile::tempdir_in(dir).expect("a directory to write in");
    let length = Duration::from_secs_f64(seconds);
    let only = option("--only");
    let wanted = |table: &str| only.as_deref().is_none_or(|only| only == table);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut disk = Disk::default();
    disk.measure(dir.path());
    runtime.block_on(async {
        if wanted("failover") {
            failover(dir.path(), length).await;
            disk.measure(dir.path());
        }
        if wanted("throughput") {
            throughput(dir.path(), length).await;
            disk.measure(dir.path());
        }
        if wanted("rate") {
            fixed_rate(dir.path(), length, &disk).await;
        }
        if wanted("syncs") {
            syncs(dir.path(), length).await;
        }
    });
    disk.measure(dir.path());
    println!(
        "\nThe disk's append + fdatasync of {RECORD} bytes, in the same run: p50 {:.3} ms, p99 {:.3} ms",
        disk.quantile(0.5),
        disk.quantile(0.99)
    );
}

/// The disk alone.
#[derive(Default)]
struct Disk(Vec<f64>);

impl Disk {
    fn measure(&mut self, dir: &Path) {
        let path = dir.join("append");
        let file = std::fs::File::create(&path).unwrap();
        let size = 8 << 20;
        file.write_all_at(&vec![0; size], 0).unwrap();
        file.sync_all().unwrap();
        for n in 0..1500 {
            let begun = Instant::now();
            file.write_all_at(&[b'r'; RECORD], (n * RECORD) as u64).unwrap();
            file.sync_data().unwrap();
            self.0.push(ms(begun.elapsed()));
        }
        self.0.sort_by(f64::total_cmp);
    }

    fn quantile(&self, q: f64) -> f64 {
        quantile(&self.0, q)
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q) as usize]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn verdict(value: f64, bar: f64) -> &'static str {
    if value <= bar { "met" } else { "MISSED" }
}

/// A sidecar with two routes to one Stripe: one that only forwards, and one that can fail over to Adyen.
struct Rig {
    sentinel: Sentinel,
    plain: SocketAddr,
    durable: SocketAddr,
}

impl Rig {
    fn start(dir: &Path, name: &str, stripe: SocketAddr, adyen: SocketAddr, breaker: &str) -> Self {
        let (admin, plain, durable) = (free_port(), free_port(), free_port());
        let ledger = dir.join(format!("{name}.db"));
        let sentinel = Sentinel::start(
            &format!(
                "listeners: {{ admin: '{admin}' }}
log: {{ level: error }}
ledger: {{ sqlite: '{}', strict: false }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{stripe}', allow_private: true, credentials: {{ secret_key: sk_test_bench }} }}
  adyen: {{ dialect: adyen, endpoint: 'http://{adyen}', allow_private: true, capture: automatic, credentials: {{ api_key: bench, merchant_account: AcmeECOM }} }}
routes:
  - {{ name: plain, listen: '{plain}', dialect: stripe, gateways: [stripe] }}
  - name: durable
    listen: '{durable}'
    dialect: stripe
    gateways: [stripe, adyen]
    failover: {{ require_certificate: false }}
    breaker: {{ {breaker} }}
",
                ledger.display()
            ),
            admin,
        );
        Self {
            sentinel,
            plain,
            durable,
        }
    }
}

const CLOSED: &str = "consecutive: 1000000, min_calls: 1000000";
const OPEN: &str = "consecutive: 1, open: 1h, open_max: 1h";

/// A fresh payment's bytes.
fn payment() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let form = format!(
        "amount=1999&currency=eur&confirm=true&payment_method=pm_card_visa&payment_method_types[0]=card&metadata[order_id]=order-{n}"
    );
    format!(
        "POST /v1/payment_intents HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk_test_bench\r\nIdempotency-Key: bench-{n}\r\nSentinel-Instrument: adyen=shopper-1/8415698462516992\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )
}

/// A connection that is kept, with what came early.
struct Connection {
    stream: TcpStream,
    early: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            early: Vec::new(),
        }
    }

    /// Reads one message; `None` at the end.
    async fn read(&mut self) -> Option<(String, Vec<u8>)> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(end) = self.early.windows(4).position(|at| at == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.early[..end]).to_ascii_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length:"))
                    .and_then(|length| length.trim().parse::<usize>().ok())
                    .unwrap_or(0);
                if self.early.len() >= end + 4 + length {
                    let body = self.early[end + 4..end + 4 + length].to_vec();
                    self.early.drain(..end + 4 + length);
                    return Some((head, body));
                }
            }
            match self.stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.early.extend_from_slice(&chunk[..read]),
            }
        }
    }

    async fn exchange(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
        let (head, body) = self.read().await.expect("an answer");
        assert!(
            head.starts_with("http/1.1 200"),
            "{head}\n{}",
            String::from_utf8_lossy(&body)
        );
    }
}

/// A gateway that answers every payment, after a while.
async fn gateway(answer: fn(u64, &[u8]) -> String, takes: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let next = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let next = Arc::clone(&next);
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let mut connection = Connection {
                    stream,
                    early: Vec::new(),
                };
                while let Some((_, body)) = connection.read().await {
                    if !takes.is_zero() {
                        tokio::time::sleep(takes).await;
                    }
                    let json = answer(next.fetch_add(1, Ordering::Relaxed), &body);
                    let bytes = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nRequest-Id: req_bench\r\nContent-Length: {}\r\n\r\n{json}",
                        json.len()
                    );
                    if connection.stream.write_all(bytes.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// An intent, as large as Stripe's.
fn stripe(n: u64, request: &[u8]) -> String {
    let form = String::from_utf8_lossy(request);
    let order = form.rsplit("metadata[order_id]=").next().unwrap_or_default();
    let padding = "x".repeat(900);
    format!(
        r#"{{"id":"pi_bench{n}","object":"payment_intent","amount":1999,"amount_received":1999,"amount_capturable":0,"currency":"eur","status":"succeeded","latest_charge":"ch_bench{n}","metadata":{{"order_id":"{order}"}},"description":"{padding}"}}"#
    )
}

fn adyen(n: u64, request: &[u8]) -> String {
    let asked: serde_json::Value = serde_json::from_slice(request).unwrap_or_default();
    let reference = asked["reference"].as_str().unwrap_or_default();
    format!(
        r#"{{"pspReference":"BENCH{n:011}","resultCode":"Authorised","amount":{{"currency":"EUR","value":1999}},"merchantReference":"{reference}"}}"#
    )
}

/// One payment after the other: latencies in milliseconds, sorted.
async fn sequence(address: SocketAddr, length: Duration, request: impl Fn() -> String) -> Vec<f64> {
    let mut connection = Connection::open(address).await;
    for _ in 0..50 {
        connection.exchange(&request()).await;
    }
    let (begun, mut took) = (Instant::now(), Vec::new());
    while begun.elapsed() < length {
        let request = request();
        let started = Instant::now();
        connection.exchange(&request).await;
        took.push(ms(started.elapsed()));
    }
    took.sort_by(f64::total_cmp);
    took
}

async fn failover(dir: &Path, length: Duration) {
    let second = gateway(adyen, Duration::ZERO).await;
    let body = r#"{"amount":{"currency":"EUR","value":1999},"reference":"0193a3c5-0000-7000-8000-000000000000","merchantAccount":"AcmeECOM","paymentMethod":{"type":"scheme","storedPaymentMethodId":"8415698462516992"}}"#;
    let direct = format!(
        "POST /v71/payments HTTP/1.1\r\nHost: adyen\r\nX-API-Key: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    println!("| failover | second gateway's own p50 ms | through Sentinel p50 | p99 | added p50 | added p99 | bar | |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, breaker, bar) in [("refused connections", CLOSED, 5.0), ("open breaker", OPEN, 1.0)] {
        let mut rows: Vec<[f64; 4]> = Vec::new();
        for round in 0..ROUNDS {
            let own = sequence(second, length / 2, || direct.clone()).await;
            let rig = Rig::start(dir, &format!("failover-{bar}-{round}"), free_port(), second, breaker);
            let through = sequence(rig.durable, length, payment).await;
            rows.push([
                quantile(&own, 0.5),
                quantile(&own, 0.99),
                quantile(&through, 0.5),
                quantile(&through, 0.99),
            ]);
        }
        let of = |at: usize| median(rows.iter().map(|row| row[at]).collect());
        let added = of(2) - of(0);
        println!(
            "| {name} | {:.3} | {:.3} | {:.3} | {added:.3} | {:.3} | < {bar} | {} |",
            of(0),
            of(2),
            of(3),
            of(3) - of(1),
            verdict(added, bar)
        );
    }
}

/// So many payments in flight for some time: a second, and latencies in milliseconds, sorted.
async fn closed_loop(address: SocketAddr, in_flight: usize, length: Duration) -> (f64, Vec<f64>) {
    let begun = Instant::now();
    let warm = length / 4;
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                let mut took = Vec::new();
                while begun.elapsed() < warm + length {
                    let request = payment();
                    let started = Instant::now();
                    connection.exchange(&request).await;
                    if begun.elapsed() > warm {
                        took.push(ms(started.elapsed()));
                    }
                }
                took
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all.sort_by(f64::total_cmp);
    (all.len() as f64 / length.as_secs_f64(), all)
}

async fn throughput(dir: &Path, length: Duration) {
    let first = gateway(stripe, Duration::ZERO).await;
    let second = gateway(adyen, Duration::ZERO).await;
    println!(
        "\n| in flight | forwarded a second | durable a second | forwarded p50 / p99 ms | durable p50 / p99 | added p50 | added p99 |"
    );
    println!("|---|---|---|---|---|---|---|");
    for in_flight in IN_FLIGHT {
        let mut rows: Vec<[f64; 6]> = Vec::new();
        for round in 0..ROUNDS {
            let rig = Rig::start(dir, &format!("throughput-{in_flight}-{round}"), first, second, CLOSED);
            let (plain, forwarded) = closed_loop(rig.plain, in_flight, length).await;
            let (durable, paid) = closed_loop(rig.durable, in_flight, length).await;
            rows.push([
                plain,
                durable,
                quantile(&forwarded, 0.5),
                quantile(&forwarded, 0.99),
                quantile(&paid, 0.5),
                quantile(&paid, 0.99),
            ]);
        }
        let of = |at: usize| median(rows.iter().map(|row| row[at]).collect());
        println!(
            "| {in_flight} | {:.0} | {:.0} | {:.3} / {:.3} | {:.3} / {:.3} | {:.3} | {:.3} |",
            of(0),
            of(1),
            of(2),
            of(3),
            of(4),
            of(5),
            of(4) - of(2),
            of(5) - of(3)
        );
    }
}

/// Payments at fixed moments: processor microseconds each, and latencies in milliseconds from the scheduled moment, sorted.
async fn open_loop(rig: &Rig, address: SocketAddr, rate: f64, length: Duration) -> (f64, Vec<f64>) {
    let connections = 128;
    let mut free = Vec::new();
    for _ in 0..connections {
        free.push(Connection::open(address).await);
    }
    let free = Arc::new(tokio::sync::Mutex::new(free));
    let run = async |length: Duration| {
        let total = (length.as_secs_f64() * rate) as u32;
        let begun = Instant::now();
        let mut tasks = Vec::new();
        for n in 0..total {
            let due = begun + Duration::from_secs_f64(f64::from(n) / rate);
            tokio::time::sleep_until(due.into()).await;
            let free = Arc::clone(&free);
            tasks.push(tokio::spawn(async move {
                let kept = free.lock().await.pop();
                let mut connection = match kept {
                    Some(connection) => connection,
                    None => Connection::open(address).await,
                };
                connection.exchange(&payment()).await;
                let took = ms(due.elapsed());
                free.lock().await.push(connection);
                took
            }));
        }
        let mut all = Vec::new();
        for task in tasks {
            all.push(task.await.unwrap());
        }
        all
    };
    run(Duration::from_secs(1)).await;
    let before = rig.sentinel.usage().processor;
    let mut all = run(length).await;
    let processor = rig.sentinel.usage().processor - before;
    all.sort_by(f64::total_cmp);
    (processor * 1e6 / all.len() as f64, all)
}

async fn fixed_rate(dir: &Path, length: Duration, disk: &Disk) {
    let first = gateway(stripe, Duration::from_millis(50)).await;
    let second = gateway(adyen, Duration::ZERO).await;
    let length = length * 2;
    let mut rows: Vec<[f64; 6]> = Vec::new();
    for round in 0..ROUNDS {
        let rig = Rig::start(dir, &format!("rate-{round}"), first, second, CLOSED);
        let (plain, forwarded) = open_loop(&rig, rig.plain, 1000.0, length).await;
        let (durable, paid) = open_loop(&rig, rig.durable, 1000.0, length).await;
        rows.push([
            plain,
            durable,
            quantile(&forwarded, 0.5),
            quantile(&forwarded, 0.99),
            quantile(&paid, 0.5),
            quantile(&paid, 0.99),
        ]);
    }
    let of = |at: usize| median(rows.iter().map(|row| row[at]).collect());
    let (processor, p50) = (of(1) - of(0), of(4) - of(2));
    let bar = 3.0 * disk.quantile(0.5);
    println!("\n| 1,000/s, 50 ms gateway | processor us a payment | p50 ms | p99 ms |");
    println!("|---|---|---|---|");
    println!("| forwarded | {:.0} | {:.3} | {:.3} |", of(0), of(2), of(3));
    println!("| durable | {:.0} | {:.3} | {:.3} |", of(1), of(4), of(5));
    println!("| added | {processor:.0} | {p50:.3} | {:.3} |", of(5) - of(3));
    println!(
        "| bar | 100: {} | 3 x fdatasync, {bar:.3}: {} | |",
        verdict(processor, 100.0),
        verdict(p50, bar)
    );
}

/// What a payment has written and synced.
async fn syncs(dir: &Path, length: Duration) {
    let first = gateway(stripe, Duration::ZERO).await;
    let second = gateway(adyen, Duration::ZERO).await;
    println!("\n| in flight | durable writes a payment | fsync and fdatasync a payment |");
    println!("|---|---|---|");
    for in_flight in [1, 64] {
        let rig = Rig::start(dir, &format!("syncs-{in_flight}"), first, second, CLOSED);
        let writes = || rig.sentinel.scrape().sum("sentinel_ledger_commit_seconds_count", &[]);
        let answered = || rig.sentinel.scrape().sum("sentinel_payments_total", &[]);
        let before = (writes(), answered());
        closed_loop(rig.durable, in_flight, length).await;
        let written = (writes() - before.0) / (answered() - before.1);
        let before = answered();
        let load = async { drop(closed_loop(rig.durable, in_flight, length).await) };
        let synced = rig.sentinel.system_calls("fsync,fdatasync", load).await;
        let payments = answered() - before;
        let synced = synced.map_or_else(
            || "no strace here".to_owned(),
            |calls| format!("{:.2}", calls / payments),
        );
        println!("| {in_flight} | {written:.2} | {synced} |");
    }
}
