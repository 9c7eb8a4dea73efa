//! A gateway that falls ill for half a minute and heals, in every way that gateways do: how soon the breaker opens, what
//! gets through while it is open, how soon traffic flows again, and what retries cost.
//!
//! `cargo bench --bench resilience`; options: `--seconds N` (of illness, 30), `--rate N` (reads a second, 200),
//! `--only WORDS` (one illness). The gateway is the simulator of Stripe with its fault scripts; arrivals are counted there.
//! The program fails when a breaker does not open, lets more through than its probes, does not recover within its longest
//! open time and what an operator would notice, or when retries exceed their budget.

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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use sentinel::sandbox::server::{self, Gateway};
use sentinel::sandbox::{Kind, NativeError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use process::{Sentinel, free_port};

/// Before the illness, so that budgets and windows are as in ordinary traffic.
const HEALTHY: Duration = Duration::from_secs(3);
/// How long traffic is watched after the healing.
const AFTER: Duration = Duration::from_secs(10);
/// The route's breaker: opened by five failures in a row, or half of twenty; open 1 s at first, 5 s at most.
const ROUTE: &str = "    breaker: { open: 1s, open_max: 5s, slow_after: 300ms }
    retry: { budget: 20%, min_per_second: 10, max: 2 }
    timeouts: { response_header: 1s }
";
const PROBES: f64 = 3.0;
/// The longest open time with its jitter, a probe's own time, and a second.
const RECOVERY: Duration = Duration::from_secs(8);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let text = |name: &str| args.iter().position(|arg| arg == name).map(|at| args[at + 1].clone());
    let number = |name: &str, default: f64| text(name).map_or(default, |text| text.parse().expect("a number"));
    let ill = Duration::from_secs_f64(number("--seconds", 30.0));
    let rate = number("--rate", 200.0);
    let only = text("--only");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    println!(
        "{rate} reads a second, ill for {} s; the route:\n\n{ROUTE}",
        ill.as_secs_f64()
    );
    println!(
        "| the gateway | opens after, ms | attempts by then | refused meanwhile | let through while open / probes allowed | flows again after, ms | retries / requests | retries / budget |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut good = true;
    for (name, illness) in illnesses() {
        if only.as_ref().is_none_or(|only| name.contains(only.as_str())) {
            good &= runtime.block_on(measure(name, illness, rate, ill));
        }
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    if !good {
        println!("\nMISSED");
        std::process::exit(1);
    }
}

enum Illness {
    One(Fault),
    /// Answers cut at one byte after the other.
    EachByte,
}

fn illnesses() -> Vec<(&'static str, Illness)> {
    let native = |error, retry_after| {
        Illness::One(Fault::Native {
            error,
            when: When::Before,
            retry_after,
            stored: false,
        })
    };
    vec![
        ("refuses connections", Illness::One(Fault::Refuse { ms: None })),
        (
            "resets requests",
            Illness::One(Fault::CutRequest {
                byte: 40,
                cut: Cut::Rst,
            }),
        ),
        ("stalls", Illness::One(Fault::DelayAnswer { ms: None })),
        ("resets answers at each byte", Illness::EachByte),
        (
            "answers after 500 ms",
            Illness::One(Fault::DelayAnswer { ms: Some(500) }),
        ),
        ("answers 500", native(NativeError::Internal, None)),
        ("answers 503", native(NativeError::Unavailable, None)),
        ("answers 503, Retry-After: 3", native(NativeError::Unavailable, Some(3))),
    ]
}

/// What one request was answered, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Got {
    /// The gateway's own answer, whole.
    Gateway(u16),
    /// The breaker's refusal.
    Open,
    /// Another answer of Sentinel's own, or none.
    Failed,
}

/// One request: when it began, when it was answered, and what.
#[derive(Clone, Copy, Debug)]
struct Asked {
    from: Duration,
    at: Duration,
    got: Got,
}

#[derive(Default)]
struct Record(Mutex<Vec<Asked>>);

async fn measure(name: &str, illness: Illness, rate: f64, ill: Duration) -> bool {
    let sandbox = server::start(&[Kind::Stripe]).await.unwrap();
    let gateway = sandbox.gateway("stripe").unwrap().clone();
    let (admin, listen) = (free_port(), free_port());
    let address = gateway.address();
    let config = format!(
        "listeners: {{ admin: '{admin}' }}
log: {{ level: error }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{address}', allow_private: true }}
routes:
  - name: checkout
    listen: {listen}
    dialect: stripe
    gateways: [stripe]
{ROUTE}"
    );
    let sentinel = Arc::new(Sentinel::start(&config, admin));
    let record = Arc::new(Record::default());
    let started = Instant::now();
    let driving = tokio::spawn(drive(listen, rate, started, HEALTHY + ill + AFTER, Arc::clone(&record)));
    tokio::time::sleep_until((started + HEALTHY).into()).await;
    let healthy = scrape(&sentinel).await;
    let cutting = Arc::new(AtomicBool::new(true));
    match illness {
        Illness::One(fault) => gateway.fault(Rule::always(Match::default(), fault)),
        Illness::EachByte => drop(tokio::spawn(each_byte(gateway.clone(), Arc::clone(&cutting)))),
    }
    let fell_ill = started.elapsed();
    // Who is open is asked of the answers; what was sent by then, of the metrics at that moment.
    let opened = loop {
        let open = record
            .0
            .lock()
            .unwrap()
            .iter()
            .find(|asked| asked.got == Got::Open)
            .map(|asked| asked.at);
        if let Some(open) = open {
            break Some(open);
        }
        if started.elapsed() > HEALTHY + ill {
            break None;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let Some(opened) = opened else {
        println!("| {name} | NEVER | | | | | | |");
        return false;
    };
    let at_opening = scrape(&sentinel).await;
    tokio::time::sleep_until((started + HEALTHY + ill).into()).await;
    let at_healing = scrape(&sentinel).await;
    cutting.store(false, Ordering::SeqCst);
    gateway.clear_faults();
    let healed = started.elapsed();
    driving.await.unwrap();
    let last = scrape(&sentinel).await;

    let record = record.0.lock().unwrap().clone();
    let between = |from: Duration, to: Duration| record.iter().filter(move |asked| asked.at >= from && asked.at < to);
    let refused = between(opened, healed).filter(|asked| asked.got == Got::Open).count();
    let bad = |asked: &&Asked| !matches!(asked.got, Got::Gateway(404 | 200));
    let flows = between(healed, Duration::MAX).filter(bad).map(|asked| asked.at).max();
    let flows = flows.map_or(Duration::ZERO, |last| last - healed);
    let attempts = |samples: &process::Samples, kind: &str| {
        samples.sum("sentinel_upstream_attempts_total", &[&format!("kind=\"{kind}\"")])
    };
    let all = |samples: &process::Samples| samples.sum("sentinel_upstream_attempts_total", &[]);
    let half_open =
        |samples: &process::Samples| samples.sum("sentinel_breaker_transitions_total", &["to=\"half_open\""]);
    // Attempts are counted when they end: those that were out when it opened are counted after it.
    let out = record
        .iter()
        .filter(|asked| asked.from < opened && asked.at >= opened)
        .count() as f64;
    let through = all(&at_healing) - all(&at_opening);
    let probes = PROBES * (half_open(&at_healing) - half_open(&at_opening)) + PROBES;
    let requests = record.len() as f64;
    // An empty sum is minus zero.
    let retries = attempts(&last, "retry") + 0.0;
    let budget = 0.2 * requests + 10.0 * (last_at(&record).as_secs_f64() + 1.0);
    let held = through <= probes + out;
    let recovered = flows <= RECOVERY;
    println!(
        "| {name} | {:.0} | {:.0} | {refused} | {through:.0} / {:.0}{} | {:.0}{} | {:.1} % | {:.0} / {budget:.0}{} |",
        (opened.saturating_sub(fell_ill)).as_secs_f64() * 1e3,
        all(&at_opening) - all(&healthy),
        probes + out,
        if held { "" } else { " MISSED" },
        flows.as_secs_f64() * 1e3,
        if recovered { "" } else { " MISSED" },
        retries / requests * 100.0,
        retries,
        if retries <= budget { "" } else { " MISSED" },
    );
    held && recovered && retries <= budget
}

fn last_at(record: &[Asked]) -> Duration {
    record.iter().map(|asked| asked.at).max().unwrap_or_default()
}

async fn scrape(sentinel: &Arc<Sentinel>) -> process::Samples {
    let sentinel = Arc::clone(sentinel);
    tokio::task::spawn_blocking(move || sentinel.scrape()).await.unwrap()
}

async fn each_byte(gateway: Gateway, on: Arc<AtomicBool>) {
    for byte in (0..220).cycle() {
        if !on.load(Ordering::SeqCst) {
            return gateway.clear_faults();
        }
        if gateway.faults().len() < 64 {
            let cut = Fault::CutAnswer {
                byte,
                cut: Cut::Rst,
                when: When::Before,
            };
            gateway.fault(Rule::once(Match::default(), cut));
        } else {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Reads at a fixed rate, whatever becomes of them.
async fn drive(listen: SocketAddr, rate: f64, started: Instant, length: Duration, record: Arc<Record>) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0.. {
        let due = started + Duration::from_secs_f64(f64::from(number) / rate);
        if due >= started + length {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let record = Arc::clone(&record);
        tasks.spawn(async move {
            let from = started.elapsed();
            let got = ask(listen).await.unwrap_or(Got::Failed);
            let at = started.elapsed();
            record.0.lock().unwrap().push(Asked { from, at, got });
        });
        while tasks.try_join_next().is_some() {}
    }
    tasks.join_all().await;
}

async fn ask(listen: SocketAddr) -> Option<Got> {
    let mut stream = TcpStream::connect(listen).await.ok()?;
    let request = b"GET /v1/payment_intents/pi_none HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk_test_bench\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let text = String::from_utf8_lossy(&answer).to_lowercase();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
    if let Some(ours) = field("proxy-status: ") {
        let open = ours.contains("destination_unavailable");
        return Some(if open { Got::Open } else { Got::Failed });
    }
    let length: usize = field("content-length: ")?.parse().ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(if body.len() >= length {
        Got::Gateway(status)
    } else {
        Got::Failed
    })
}
