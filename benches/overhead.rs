//! What Sentinel says of its own part against what is measured outside, and the first request after it is ready.
//!
//! `cargo bench --bench overhead`; options: `--rate N` (requests a second, 500), `--seconds N` (of each measurement, 10),
//! `--starts N` (20). A POST of 300 bytes is answered with 1.5 KB over TLS by a gateway on another thread, straight and
//! through the real binary in turn, so that drift strikes both; and through a relay that only copies bytes, which is what a
//! process in between costs whatever it does. The program fails when a first request takes more than 5 ms longer than
//! those after it.
//!
//! Where the overhead is measured every message goes from one processor to the other, which it wakes, as it would between
//! machines: the application has one and Sentinel the other, the gateway that Sentinel speaks to is on the application's,
//! and the one that is asked straight on the other. Left to the scheduler the straight line may lie on one processor and
//! the line through Sentinel on two, or the other way round: the difference then is what it takes to wake a processor.

#![allow(
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    dead_code,
    reason = "a measuring program: real time, and any failure ends it"
)]

#[path = "rig/gateway.rs"]
mod gateway;
#[path = "rig/process.rs"]
mod process;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use process::{Sentinel, free_port};
use rustix::thread::CpuSet;

/// The longest that a first request may take beyond the usual.
const STALL: Duration = Duration::from_millis(5);

/// How far metric and outside may be apart.
const AGREES: f64 = 0.2;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let option = |name: &str, default: f64| -> f64 {
        args.iter()
            .position(|arg| arg == name)
            .map_or(default, |at| args[at + 1].parse().expect("a number"))
    };
    let dir = tempfile::tempdir().unwrap();
    let (address, ca) = gateway::start(dir.path(), Duration::ZERO);
    let quick = first(address, &ca, option("--starts", 20.0) as usize);
    overhead(option("--rate", 500.0), option("--seconds", 10.0));
    if !quick {
        std::process::exit(1);
    }
}

fn config(admin: SocketAddr, listen: SocketAddr, gateway: SocketAddr, ca: &Path, more: &str) -> String {
    format!(
        "listeners: {{ admin: '{admin}' }}
log: {{ level: error }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'https://localhost:{}', addresses: ['{gateway}'], allow_private: true, roots: '{}'{more} }}
routes:
  - {{ name: checkout, listen: '{listen}', dialect: stripe, gateways: [stripe], breaker: {{ consecutive: 0, min_calls: 100000 }} }}
",
        gateway.port(),
        ca.display()
    )
}

fn request() -> Vec<u8> {
    let body = "a".repeat(300);
    format!("POST /v1/charges HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk_test_bench\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 300\r\n\r\n{body}").into_bytes()
}

/// One exchange on a kept connection, in seconds.
fn exchange(stream: &mut (impl Read + Write), request: &[u8], buffer: &mut Vec<u8>) -> f64 {
    let began = Instant::now();
    stream.write_all(request).unwrap();
    buffer.clear();
    let mut chunk = [0; 4096];
    while !whole(buffer) {
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "an answer broke off");
        buffer.extend_from_slice(&chunk[..read]);
    }
    assert!(
        buffer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(buffer)
    );
    began.elapsed().as_secs_f64()
}

fn whole(answer: &[u8]) -> bool {
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
    head.is_some_and(|head| answer.len() >= head + 4 + gateway::ANSWER.len())
}

/// The first request of a process that has just said that it is ready, against the hundred after it.
fn first(gateway: SocketAddr, ca: &Path, starts: usize) -> bool {
    println!(
        "| first request after ready | median, ms | most, ms | the next ones, median, ms | most beyond them, ms |"
    );
    println!("|---|---|---|---|---|");
    let mut good = true;
    for (name, more) in [("a new connection to the gateway", ""), ("prewarm: 1", ", prewarm: 1")] {
        let (mut firsts, mut usual) = (Vec::new(), Vec::new());
        for _ in 0..starts {
            let (admin, listen) = (free_port(), free_port());
            let sentinel = Sentinel::start(&config(admin, listen, gateway, ca, more), admin);
            let (request, mut buffer) = (request(), Vec::new());
            let mut stream = TcpStream::connect(listen).unwrap();
            stream.set_nodelay(true).unwrap();
            firsts.push(exchange(&mut stream, &request, &mut buffer));
            usual.extend((0..100).map(|_| exchange(&mut stream, &request, &mut buffer)));
            assert!(sentinel.stop());
        }
        firsts.sort_by(f64::total_cmp);
        usual.sort_by(f64::total_cmp);
        let (median, most) = (firsts[starts / 2], firsts[starts - 1]);
        let usual = usual[usual.len() / 2];
        let within = most - usual <= STALL.as_secs_f64();
        good &= within;
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} | {:.2}{} |",
            median * 1e3,
            most * 1e3,
            usual * 1e3,
            (most - usual) * 1e3,
            if within { "" } else { " MISSED" }
        );
    }
    println!();
    good
}

/// The same requests straight and through Sentinel, in turn; and what Sentinel's own metric says of them. Once at a rate
/// that lets the machine fall asleep between them, once one after the other.
fn overhead(rate: f64, seconds: f64) {
    let allowed = rustix::thread::sched_getaffinity(None).expect("this thread's processors");
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    let (here, there) = (allowed[0], *allowed.last().unwrap());
    if here == there {
        println!("note: one processor only, everybody shares it");
    }
    let dir = tempfile::tempdir().unwrap();
    let gateway = |name: &str, cpu: usize| {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        run_on(cpu);
        gateway::start(&dir, Duration::ZERO)
    };
    let lines = Lines {
        straight: gateway("straight", there),
        behind: gateway("behind", here),
        here,
        there,
    };
    println!(
        "| overhead, us a request, {seconds} s | Sentinel's metric | the difference outside | metric against difference | processor time | a relay's difference | of that between its reads and writes |\n|---|---|---|---|---|---|---|"
    );
    for (load, rate) in [
        (format!("{rate}/s"), Some(rate)),
        ("one after the other".to_owned(), None),
    ] {
        let seen = compare(&lines, rate, seconds);
        let apart = (seen.said / seen.outside - 1.0) * 100.0;
        println!(
            "| {load} | {:.1} | {:.1} | {apart:+.0} %{} | {:.1} | {:.1} | {:.1} |",
            seen.said,
            seen.outside,
            if apart.abs() <= AGREES * 100.0 { "" } else { " MISSED" },
            seen.processor,
            seen.relayed,
            seen.copying
        );
    }
}

/// Who is where. Of each gateway its address, and the certificate to trust.
struct Lines {
    /// On the other processor, asked straight.
    straight: (SocketAddr, PathBuf),
    /// On the application's, asked by what stands in between.
    behind: (SocketAddr, PathBuf),
    /// The application's processor.
    here: usize,
    /// Of what stands in between.
    there: usize,
}

/// Keeps this thread on one processor, and what it starts from now on: threads and processes begin where the one that
/// starts them is.
fn run_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).expect("a processor of its own");
}

/// Means of one request, in microseconds.
struct Seen {
    said: f64,
    outside: f64,
    processor: f64,
    relayed: f64,
    /// What a relay that takes the time between its reads and its writes would call its own.
    copying: f64,
}

fn compare(lines: &Lines, rate: Option<f64>, seconds: f64) -> Seen {
    let (gateway, ca) = &lines.behind;
    let (admin, listen) = (free_port(), free_port());
    let copying = Arc::new(AtomicU64::new(0));
    run_on(lines.there);
    let sentinel = Sentinel::start(&config(admin, listen, *gateway, ca, ""), admin);
    let relay = relay(*gateway, &copying);
    run_on(lines.here);
    let mut through = TcpStream::connect(listen).unwrap();
    through.set_nodelay(true).unwrap();
    let mut straight = connected(lines.straight.0, &lines.straight.1);
    let mut relayed = connected(relay, ca);
    let (request, mut buffer) = (request(), Vec::new());
    for _ in 0..500 {
        exchange(&mut through, &request, &mut buffer);
        exchange(&mut straight, &request, &mut buffer);
        exchange(&mut relayed, &request, &mut buffer);
    }
    let before = (sentinel.scrape(), sentinel.usage().processor);
    let (mut with, mut without, mut relaying) = (Vec::new(), Vec::new(), Vec::new());
    let copied = copying.load(Ordering::Relaxed);
    let started = Instant::now();
    for number in 0.. {
        let due = match rate {
            Some(rate) => started + Duration::from_secs_f64(f64::from(number) / rate),
            None => Instant::now(),
        };
        if due >= started + Duration::from_secs_f64(seconds) {
            break;
        }
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        with.push(exchange(&mut through, &request, &mut buffer));
        without.push(exchange(&mut straight, &request, &mut buffer));
        relaying.push(exchange(&mut relayed, &request, &mut buffer));
    }
    let copied = copying.load(Ordering::Relaxed) - copied;
    let after = (sentinel.scrape(), sentinel.usage().processor);
    let more = |name: &str| after.0.sum(name, &[]) - before.0.sum(name, &[]);
    let timed = more("sentinel_overhead_seconds_count");
    let requests = more("sentinel_request_duration_seconds_count");
    assert_eq!(requests as usize, with.len(), "each request is counted once");
    assert!(timed > 0.0 && timed <= requests, "a sample of them is timed");
    // Means, because the metric's sum is one; without the slowest hundredth of the pairs, which the machine makes.
    let difference = |with: &[f64]| {
        let pairs = with.iter().zip(&without);
        let mut differences: Vec<f64> = pairs.map(|(with, without)| with - without).collect();
        differences.sort_by(f64::total_cmp);
        let kept = &differences[differences.len() / 100..differences.len() - differences.len() / 100];
        kept.iter().sum::<f64>() / kept.len() as f64 * 1e6
    };
    Seen {
        said: more("sentinel_overhead_seconds_sum") / timed * 1e6,
        outside: difference(&with),
        processor: (after.1 - before.1) / requests * 1e6,
        relayed: difference(&relaying),
        copying: copied as f64 / 1e3 / relaying.len() as f64,
    }
}

/// A relay in this process that copies the bytes of one connection, a thread for each direction, and adds up the time
/// between the end of each read and the end of its write.
fn relay(gateway: SocketAddr, copying: &Arc<AtomicU64>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let copying = Arc::clone(copying);
    std::thread::spawn(move || {
        let client = listener.accept().unwrap().0;
        let gateway = TcpStream::connect(gateway).unwrap();
        let ends = [
            (client.try_clone().unwrap(), gateway.try_clone().unwrap()),
            (gateway, client),
        ];
        for (mut from, mut to) in ends {
            let copying = Arc::clone(&copying);
            std::thread::spawn(move || {
                to.set_nodelay(true).unwrap();
                let mut buffer = [0; 16 * 1024];
                while let Ok(length @ 1..) = from.read(&mut buffer) {
                    let read = Instant::now();
                    if to.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                    copying.fetch_add(read.elapsed().as_nanos() as u64, Ordering::Relaxed);
                }
            });
        }
    });
    address
}

/// A connection to the gateway: to itself, or through the relay.
fn connected(gateway: SocketAddr, ca: &Path) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let stream = TcpStream::connect(gateway).unwrap();
    stream.set_nodelay(true).unwrap();
    rustls::StreamOwned::new(connection, stream)
}
