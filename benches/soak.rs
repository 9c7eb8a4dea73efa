//! Half an hour of everything at once: `cargo bench --bench soak -- --minutes 30`.
//!
//! Reads, payments, bodies of a megabyte, clients that dribble, clients that leave, heads that break the rules and HTTP/2,
//! against a gateway that stalls, resets and fails, with faults injected and a reload every two seconds. Sampled on the
//! way: resident memory, descriptors, threads, metric series. At the end every request is accounted for: what the load
//! generator counted, by what it saw, must be what the metrics say. Prints the slopes of the second half and fails on a
//! leak or on a request that is missing. `--rate N` sets requests a second (300).

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
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use process::{Samples, Sentinel, Usage, free_port};

/// What may grow in an hour without being called a leak, from the slope of the second half.
const MEMORY_KIB_AN_HOUR: f64 = 8.0 * 1024.0;
const OTHERS_AN_HOUR: f64 = 20.0;

/// What the load generator did, and what it was answered.
#[derive(Default)]
struct Counts {
    /// Requests that reached a route and got an answer's head, by class of status.
    answered: [AtomicU64; 6],
    /// Requests that were sent whole and left without waiting.
    left: AtomicU64,
    /// Heads that break the rules.
    bad: AtomicU64,
    /// Requests whose connection ended before an answer: Sentinel must not do that.
    lost: AtomicU64,
}

impl Counts {
    fn saw(&self, status: u16) {
        self.answered[usize::from(status / 100).min(5)].fetch_add(1, Ordering::Relaxed);
    }

    fn class(&self, class: usize) -> u64 {
        self.answered[class].load(Ordering::Relaxed)
    }
}

struct Sample {
    at: f64,
    usage: Usage,
    series: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let option = |name: &str, default: f64| -> f64 {
        args.iter()
            .position(|arg| arg == name)
            .map_or(default, |at| args[at + 1].parse().expect("a number"))
    };
    let length = Duration::from_secs_f64(option("--minutes", 30.0) * 60.0);
    let rate = option("--rate", 300.0);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let passed = runtime.block_on(soak(length, rate));
    runtime.shutdown_timeout(Duration::from_secs(1));
    if !passed {
        std::process::exit(1);
    }
}

/// Where everything listens.
#[derive(Clone, Copy)]
struct Places {
    admin: SocketAddr,
    shared: SocketAddr,
    listen: SocketAddr,
    gateway: SocketAddr,
}

fn config(places: Places, turn: u64) -> String {
    let Places {
        admin,
        shared,
        listen,
        gateway,
    } = places;
    // Each reload changes a limit, and every other one takes a route away or brings it back.
    let extra = match turn % 2 {
        0 => String::new(),
        _ => "  - { name: sometimes, path_prefix: /sometimes, dialect: stripe, gateways: [stripe] }\n".to_owned(),
    };
    format!(
        "listeners: {{ admin: '{admin}', shared: '{shared}' }}
admin: {{ faults: true }}
log: {{ level: error }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{gateway}', allow_private: true, pool: {{ max_age: 20s }} }}
routes:
  - name: checkout
    listen: {listen}
    dialect: stripe
    gateways: [stripe]
    hedge: {{ reads: p95 }}
    breaker: {{ consecutive: 20, open: 200ms, open_max: 1s }}
    limits: {{ in_flight: {} }}
    timeouts: {{ response_header: 2s, total: 10s }}
{extra}",
        900 + turn % 100,
    )
}

async fn soak(length: Duration, rate: f64) -> bool {
    let places = Places {
        admin: free_port(),
        shared: free_port(),
        listen: free_port(),
        gateway: gateway().await,
    };
    let listen = places.listen;
    let sentinel = Arc::new(Sentinel::start(&config(places, 0), places.admin));
    let counts = Arc::new(Counts::default());
    let started = Instant::now();
    let end = started + length;
    let disturbing = tokio::task::spawn_blocking({
        let sentinel = Arc::clone(&sentinel);
        move || disturb(&sentinel, places, end)
    });
    let sampling = tokio::task::spawn_blocking({
        let sentinel = Arc::clone(&sentinel);
        move || sample(&sentinel, started, end)
    });
    let processor = sentinel.usage().processor;
    let sent = drive(listen, &counts, rate, end).await;
    let (reloads, faults) = disturbing.await.unwrap();
    let samples = sampling.await.unwrap();
    let last = settle(&sentinel).await;
    let processor = (sentinel.usage().processor - processor) / started.elapsed().as_secs_f64();
    println!(
        "{:.1} minutes, {sent} requests ({:.0}/s), {reloads} reloads, {faults} faults set, {:.0} % of a core",
        started.elapsed().as_secs_f64() / 60.0,
        sent as f64 / started.elapsed().as_secs_f64(),
        processor * 100.0
    );
    let accounted = account(&counts, &last);
    let steady = slopes(&samples, length);
    let log = sentinel.log();
    let panicked = log.contains("panicked");
    if panicked {
        println!("FAIL: a panic in the log\n{log}");
    }
    let Ok(sentinel) = Arc::try_unwrap(sentinel) else {
        panic!("somebody still uses the process");
    };
    let stopped = sentinel.stop();
    println!("stops by itself when told to: {stopped}");
    let passed = accounted && steady && stopped && !panicked;
    println!("{}", if passed { "PASS" } else { "FAIL" });
    passed
}

/// Reloads every two seconds and sets a fault every five.
fn disturb(sentinel: &Sentinel, places: Places, end: Instant) -> (u64, u64) {
    let (mut turns, mut reloads, mut faults) = (0u64, 0, 0);
    while Instant::now() + Duration::from_secs(2) < end {
        std::thread::sleep(Duration::from_secs(1));
        turns += 1;
        if turns % 2 == 0 {
            std::fs::write(sentinel.config(), config(places, turns / 2)).unwrap();
            let answer = sentinel.ask("POST", "/reload", "");
            assert_eq!(answer.as_ref().map(|(status, _)| *status), Some(200), "{answer:?}");
            reloads += 1;
        }
        if turns % 5 == 0 {
            let effect = match turns / 5 % 5 {
                0 => r#""effect":"abort_after""#,
                1 => r#""effect":"abort_before""#,
                2 => r#""effect":"refuse""#,
                3 => r#""effect":"status","status":503"#,
                _ => r#""effect":"delay","delay":"150ms""#,
            };
            let body = format!(r#"{{"route":"checkout",{effect},"probability":"10%","expires_in":"2s"}}"#);
            let answer = sentinel.ask("POST", "/faults", &body);
            assert_eq!(answer.as_ref().map(|(status, _)| *status), Some(201), "{answer:?}");
            faults += 1;
        }
    }
    (reloads, faults)
}

fn sample(sentinel: &Sentinel, started: Instant, end: Instant) -> Vec<Sample> {
    let mut samples = Vec::new();
    while Instant::now() + Duration::from_secs(1) < end {
        std::thread::sleep(Duration::from_secs(1));
        samples.push(Sample {
            at: started.elapsed().as_secs_f64(),
            usage: sentinel.usage(),
            series: sentinel.scrape().0.len() as f64,
        });
    }
    samples
}

/// Starts requests at a fixed rate until the end, then waits for the last.
async fn drive(listen: SocketAddr, counts: &Arc<Counts>, rate: f64, end: Instant) -> u64 {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let mut sent = 0u64;
    let h2 = Http2::new(listen);
    loop {
        let due = started + Duration::from_secs_f64(sent as f64 / rate);
        if due >= end {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let counts = Arc::clone(counts);
        match fastrand::u32(..100) {
            0..40 => drop(tasks.spawn(exchange(listen, counts, get(), 0))),
            40..70 => drop(tasks.spawn(exchange(listen, counts, post(300), 0))),
            70..74 => drop(tasks.spawn(exchange(listen, counts, post(1 << 20), 0))),
            74..79 => drop(tasks.spawn(exchange(listen, counts, post(300), 30))),
            79..85 => drop(tasks.spawn(leave(listen, counts))),
            85..90 => drop(tasks.spawn(break_rules(listen, counts))),
            _ => {
                let h2 = h2.clone();
                tasks.spawn(async move { h2.exchange(&counts).await });
            }
        }
        sent += 1;
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
    sent
}

fn get() -> Vec<u8> {
    b"GET /v1/balance HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk_test_soak\r\nConnection: close\r\n\r\n".to_vec()
}

fn post(length: usize) -> Vec<u8> {
    let head = format!(
        "POST /v1/charges HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk_test_soak\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + length, b'a');
    bytes
}

/// Sends, in pieces with pauses where `dribble` says how many milliseconds, and reads the answer to its end.
async fn exchange(listen: SocketAddr, counts: Arc<Counts>, bytes: Vec<u8>, dribble: u64) {
    let Ok(mut stream) = TcpStream::connect(listen).await else {
        counts.lost.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let pieces = if dribble > 0 { 10 } else { 1 };
    for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
        // An early answer ends the sending; it is read below.
        if stream.write_all(piece).await.is_err() {
            break;
        }
        if dribble > 0 {
            tokio::time::sleep(Duration::from_millis(dribble)).await;
        }
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    match status(&answer) {
        Some(status) => counts.saw(status),
        None => drop(counts.lost.fetch_add(1, Ordering::Relaxed)),
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.get(..12)?).ok()?;
    line.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

/// A whole request, and gone: the gateway stalls on this path, so that there is no answer before.
async fn leave(listen: SocketAddr, counts: Arc<Counts>) {
    let Ok(mut stream) = TcpStream::connect(listen).await else {
        counts.lost.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let request = b"POST /v1/stall HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na=1";
    if stream.write_all(request).await.is_err() {
        counts.lost.fetch_add(1, Ordering::Relaxed);
        return;
    }
    // It leaves after a while, in which it may have been answered (an open breaker answers at once).
    let mut answer = vec![0; 1024];
    let read = tokio::time::timeout(
        Duration::from_millis(20 + fastrand::u64(..200)),
        stream.read(&mut answer),
    )
    .await;
    match read {
        Ok(Ok(length)) if length > 0 => counts.saw(status(&answer[..length]).unwrap_or(0)),
        Ok(_) => drop(counts.lost.fetch_add(1, Ordering::Relaxed)),
        Err(_) => drop(counts.left.fetch_add(1, Ordering::Relaxed)),
    }
}

/// A head that two servers could read differently, or that is no head.
async fn break_rules(listen: SocketAddr, counts: Arc<Counts>) {
    let heads: [&[u8]; 4] = [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 4\r\n\r\nabc",
    ];
    let Ok(mut stream) = TcpStream::connect(listen).await else {
        counts.lost.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let _ = stream.write_all(heads[fastrand::usize(..heads.len())]).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    match status(&answer) {
        Some(400) => drop(counts.bad.fetch_add(1, Ordering::Relaxed)),
        _ => drop(counts.lost.fetch_add(1, Ordering::Relaxed)),
    }
}

/// One kept HTTP/2 connection, made anew when it ended.
#[derive(Clone)]
struct Http2 {
    address: SocketAddr,
    sender: Arc<tokio::sync::Mutex<Option<hyper::client::conn::http2::SendRequest<Full<bytes::Bytes>>>>>,
}

impl Http2 {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            sender: Arc::default(),
        }
    }

    async fn sender(&self) -> Option<hyper::client::conn::http2::SendRequest<Full<bytes::Bytes>>> {
        let mut kept = self.sender.lock().await;
        if let Some(sender) = kept.as_ref().filter(|sender| !sender.is_closed()) {
            return Some(sender.clone());
        }
        let stream = TcpStream::connect(self.address).await.ok()?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor, io).await.ok()?;
        tokio::spawn(connection);
        *kept = Some(sender.clone());
        Some(sender)
    }

    async fn exchange(&self, counts: &Counts) {
        let request = http::Request::post("http://a/v1/charges").body(Full::new(bytes::Bytes::from_static(b"a=1")));
        let answer = match self.sender().await {
            Some(mut sender) => sender.send_request(request.unwrap()).await.ok(),
            None => None,
        };
        let Some(answer) = answer else {
            counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        counts.saw(answer.status().as_u16());
        let mut body = answer.into_body();
        while let Some(Ok(_)) = body.frame().await {}
    }
}

#[derive(Clone, Copy)]
struct TokioExecutor;

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for TokioExecutor {
    fn execute(&self, future: F) {
        drop(tokio::spawn(future));
    }
}

/// Answers after 2 to 12 ms; some late, some failed, some broken off, and `/stall` never.
async fn gateway() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn serve(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let (head, body) = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&buffer[..at]).to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
                let length: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
                if buffer.len() >= at + 4 + length {
                    break (head, at + 4 + length);
                }
            }
            match stream.read_buf(&mut buffer).await {
                Ok(read) if read > 0 => {}
                _ => return,
            }
        };
        buffer.drain(..body);
        if head.contains("/v1/stall") {
            // Until the other side gives up.
            let mut byte = [0];
            let _ = stream.read(&mut byte).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(2 + fastrand::u64(..10))).await;
        let text = match fastrand::u32(..1000) {
            0..20 => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
            }
            20..35 => "HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\n{}",
            35..45 => "HTTP/1.1 402 X\r\ncontent-length: 2\r\n\r\n{}",
            45..50 => return,
            50..55 => "HTTP/1.1 200 OK\r\ncontent-le",
            _ => "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        };
        if stream.write_all(text.as_bytes()).await.is_err() || text.ends_with("content-le") {
            return;
        }
    }
}

/// Scrapes until nothing is in flight.
async fn settle(sentinel: &Sentinel) -> Samples {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let samples = sentinel.scrape();
        if samples.sum("sentinel_inflight", &[]) == 0.0 {
            return samples;
        }
        assert!(Instant::now() < patience, "requests stay in flight");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn account(counts: &Counts, samples: &Samples) -> bool {
    let requests = |labels: &[&str]| samples.sum("sentinel_requests_total", labels) as u64;
    let by_class = |class: usize| -> u64 {
        let of = |name: &str| {
            name.split("code=\"")
                .nth(1)
                .is_some_and(|code| code.starts_with(&class.to_string()))
        };
        let mine = samples
            .0
            .iter()
            .filter(|(name, _)| name.starts_with("sentinel_requests_total{") && of(name));
        mine.map(|(_, value)| *value as u64).sum()
    };
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!("\n| requests | load generator | metrics |\n|---|---|---|");
    let mut good = true;
    let mut row = |what: &str, ours: u64, theirs: u64| {
        println!(
            "| {what} | {ours} | {theirs} |{}",
            if ours == theirs { "" } else { " MISMATCH" }
        );
        good &= ours == theirs;
    };
    for class in [2, 4, 5] {
        row(&format!("answered {class}xx"), counts.class(class), by_class(class));
    }
    row(
        "left before an answer",
        load(&counts.left),
        requests(&[r#"outcome="cancelled""#]),
    );
    row(
        "refused heads",
        load(&counts.bad),
        samples.sum("sentinel_unrouted_total", &[]) as u64,
    );
    row("lost", load(&counts.lost), 0);
    let all: u64 = (0..6).map(|class| counts.class(class)).sum::<u64>() + load(&counts.left);
    row("all on the route", all, requests(&[]));
    good
}

/// Least-squares slopes of the second half, an hour, and their verdict.
fn slopes(samples: &[Sample], length: Duration) -> bool {
    let half = &samples[samples.len() / 2..];
    type Of = fn(&Sample) -> f64;
    let kinds: [(&str, Of, f64); 4] = [
        (
            "resident memory, KiB",
            |sample| sample.usage.resident_kib,
            MEMORY_KIB_AN_HOUR,
        ),
        ("descriptors", |sample| sample.usage.descriptors, OTHERS_AN_HOUR),
        ("threads", |sample| sample.usage.threads, OTHERS_AN_HOUR),
        ("metric series", |sample| sample.series, OTHERS_AN_HOUR),
    ];
    // A slope over seconds says nothing an hour; a short run only shows the figures.
    let judged = length >= Duration::from_secs(300);
    println!(
        "\n| | at a tenth | at half | at the end | most | slope of the second half, an hour |\n|---|---|---|---|---|---|"
    );
    let mut good = true;
    for (name, of, limit) in kinds {
        let n = half.len() as f64;
        let (x, y) = (
            half.iter().map(|s| s.at).sum::<f64>() / n,
            half.iter().map(of).sum::<f64>() / n,
        );
        let over: f64 = half.iter().map(|s| (s.at - x) * (of(s) - y)).sum();
        let under: f64 = half.iter().map(|s| (s.at - x).powi(2)).sum();
        let slope = over / under * 3600.0;
        let most = samples.iter().map(of).fold(0.0, f64::max);
        let at = |share: f64| of(&samples[((samples.len() - 1) as f64 * share) as usize]);
        let leak = judged && slope > limit;
        println!(
            "| {name} | {} | {} | {} | {most} | {slope:.1}{} |",
            at(0.1),
            at(0.5),
            at(1.0),
            if leak { " LEAK" } else { "" }
        );
        good &= !leak;
    }
    good
}
