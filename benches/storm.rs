//! Payments in bad weather, and an audit: `cargo bench --bench storm -- --minutes 10`.
//!
//! Customers pay in Stripe's dialect through the real binary, in every mode of failover, at simulators of Stripe and Adyen
//! whose weather changes every other second: lost answers, errors before and after executing, resets, foreign pages, late
//! execution, refused connections, at both at once now and then. The process is killed with SIGKILL every so many seconds
//! and started again on its ledger, and its configuration is reloaded. A customer's application does what an official SDK does: one key for each
//! step, and the same key again until the answer is definite; some payments are captured, released or given back
//! afterwards. At the end the books of both gateways, which no fault touches, are held against what each application was
//! told last. Prints what was done and told, and the memory of the last process; fails on a double charge, on an answer
//! that the books contradict, or on a payment that nobody can account for.
//!
//! `--rate N` orders a second (20), `--kill N` seconds between two kills (20, 0 for never), `--seed N` repeats the weather.

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

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use sentinel::sandbox::Kind;
use sentinel::sandbox::books::{Audit, Position};
use sentinel::sandbox::fault::Rule;
use sentinel::sandbox::server::{self, Redeliver, Sandbox};
use serde_json::Value;
use tokio::net::TcpStream;

use process::{Sentinel, free_port};

const MODES: [&str; 3] = ["fence", "gated", "compensate"];
const CENTS: i64 = 1999;
const PART: i64 = 700;
/// The card at Stripe, and the same card in Adyen's vault.
const CARD: (&str, &str) = ("pm_card_visa", "shopper-1/8415698462516992");
/// One that has no money behind it, at either.
const EMPTY_CARD: (&str, &str) = ("pm_card_chargeDeclinedInsufficientFunds", "shopper-2/DECLINED00000012");
/// How long an application asks again before it gives up; bad weather ends long before.
const PATIENCE: Duration = Duration::from_secs(30);

/// What can happen to a gateway's requests, each with the highest share of them in percent.
const WEATHER: [(&str, u32); 13] = [
    ("lost", 30),
    ("cut:40", 15),
    ("500", 30),
    ("500-after", 15),
    ("503", 30),
    ("503-after", 15),
    ("html", 15),
    ("html-after", 15),
    ("drop", 30),
    ("unread:60", 20),
    ("late:900", 15),
    ("held:900", 15),
    ("truncated:20", 15),
];

/// What a customer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Sale,
    SaleDeclined,
    SaleRefunded,
    SalePartlyRefunded,
    HoldCaptured,
    HoldPartlyCaptured,
    HoldReleased,
}

impl Wish {
    fn any(chance: &mut fastrand::Rng) -> Self {
        match chance.u32(..100) {
            0..50 => Self::Sale,
            50..58 => Self::SaleDeclined,
            58..68 => Self::SaleRefunded,
            68..76 => Self::SalePartlyRefunded,
            76..86 => Self::HoldCaptured,
            86..92 => Self::HoldPartlyCaptured,
            _ => Self::HoldReleased,
        }
    }

    /// Path and form of the step after the payment.
    fn then(self, id: &str) -> Option<(String, String)> {
        let intent = |verb: &str, form: String| Some((format!("/v1/payment_intents/{id}/{verb}"), form));
        let refund = |more: String| Some(("/v1/refunds".to_owned(), format!("payment_intent={id}{more}")));
        match self {
            Self::Sale | Self::SaleDeclined => None,
            Self::SaleRefunded => refund(String::new()),
            Self::SalePartlyRefunded => refund(format!("&amount={PART}")),
            Self::HoldCaptured => intent("capture", String::new()),
            Self::HoldPartlyCaptured => intent("capture", format!("amount_to_capture={PART}")),
            Self::HoldReleased => intent("cancel", String::new()),
        }
    }

    /// What was held, taken and given back, when only the payment (`false`) or everything (`true`) was done.
    fn books(self, whole: bool) -> (i64, i64, i64) {
        match (self, whole) {
            (Self::SaleDeclined, _) => (0, 0, 0),
            (Self::Sale, _) | (Self::SaleRefunded | Self::SalePartlyRefunded, false) => (0, CENTS, 0),
            (Self::SaleRefunded, true) => (0, CENTS, CENTS),
            (Self::SalePartlyRefunded, true) => (0, CENTS, PART),
            (Self::HoldCaptured, true) => (0, CENTS, 0),
            (Self::HoldPartlyCaptured, true) => (0, PART, 0),
            (Self::HoldReleased, true) => (0, 0, 0),
            (Self::HoldCaptured | Self::HoldPartlyCaptured | Self::HoldReleased, false) => (CENTS, 0, 0),
        }
    }
}

/// What an application was told of a step, last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Done {
        id: String,
        gateway: String,
    },
    Declined,
    /// Nobody did it, and nobody will unless asked again.
    NotTaken,
    InDoubt,
    Refused(String),
}

#[derive(Clone, Debug)]
struct Order {
    name: String,
    mode: &'static str,
    wish: Wish,
    paid: Told,
    then: Option<Told>,
    asked: u64,
    waited: Duration,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let option = |name: &str, default: f64| -> f64 {
        let at = args.iter().position(|arg| arg == name);
        at.map_or(default, |at| args[at + 1].parse().expect("a number"))
    };
    let length = Duration::from_secs_f64(option("--minutes", 10.0) * 60.0);
    let seed = option("--seed", fastrand::u32(..) as f64) as u64;
    println!("seed {seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let passed = runtime.block_on(storm(length, option("--rate", 20.0), option("--kill", 20.0), seed));
    runtime.shutdown_timeout(Duration::from_secs(1));
    if !passed {
        std::process::exit(1);
    }
}

#[derive(Clone, Copy)]
struct Places {
    admin: SocketAddr,
    webhooks: SocketAddr,
    modes: [SocketAddr; 3],
}

impl Places {
    fn find() -> Self {
        let [admin, webhooks, fence, gated, compensate] = std::array::from_fn(|_| free_port());
        Self {
            admin,
            webhooks,
            modes: [fence, gated, compensate],
        }
    }

    fn config(&self, sandbox: &Sandbox, dir: &Path, turn: u64) -> String {
        let url = |name: &str| sandbox.gateway(name).unwrap().url().to_owned();
        let route = |(mode, listen): (&str, SocketAddr)| {
            format!(
                "  - name: {mode}
    listen: '{listen}'
    dialect: stripe
    gateways: [stripe, adyen]
    failover: {{ mode: {mode}, require_certificate: false, attempt_timeout: 700ms, deadline: 3s }}
    breaker: {{ consecutive: 5, open: 300ms, open_max: 1s }}
    limits: {{ in_flight: {} }}\n",
                900 + turn % 100
            )
        };
        let routes: String = MODES.into_iter().zip(self.modes).map(route).collect();
        format!(
            "listeners: {{ admin: '{}', webhooks: '{}' }}
ledger: {{ sqlite: '{}/ledger.db', strict: false }}
log: {{ level: error }}
gateways:
  stripe: {{ dialect: stripe, endpoint: '{}', allow_private: true, credentials: {{ secret_key: sk_test_sandbox }}, webhook: {{ secret: whsec_sandbox }} }}
  adyen: {{ dialect: adyen, endpoint: '{}', allow_private: true, capture: automatic, credentials: {{ api_key: sandbox, merchant_account: AcmeECOM }}, webhook: {{ secret: 00ff }} }}
routes:
{routes}",
            self.admin,
            self.webhooks,
            dir.display(),
            url("stripe"),
            url("adyen")
        )
    }
}

async fn storm(length: Duration, rate: f64, kill: f64, seed: u64) -> bool {
    let sandbox = server::serve(server::Options {
        gateways: vec![server::Serve::new(Kind::Stripe), server::Serve::new(Kind::Adyen)],
        seed,
        ..server::Options::default()
    })
    .await
    .unwrap();
    let sandbox = Arc::new(sandbox);
    let places = Places::find();
    sandbox.gateway("adyen").unwrap().set("webhook_secret", "00ff").unwrap();
    for gateway in sandbox.gateways() {
        let url = format!("http://{}/{}", places.webhooks, gateway.name());
        gateway.webhooks_to(Some(&url)).unwrap();
        gateway.set_latency(Duration::from_millis(10));
    }
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let process = Arc::new(Mutex::new(Some(Sentinel::start(
        &places.config(&sandbox, dir.path(), 0),
        places.admin,
    ))));
    let weather = tokio::spawn(weather(Arc::clone(&sandbox), begun + length, seed));
    let disturbing = tokio::task::spawn_blocking({
        let (sandbox, process, dir) = (Arc::clone(&sandbox), Arc::clone(&process), dir.path().to_owned());
        move || disturb(&sandbox, &process, places, &dir, begun + length, kill)
    });
    let orders = sell(places, begun + length, rate, seed).await;
    let rules = weather.await.unwrap();
    let (kills, reloads, log) = disturbing.await.unwrap();
    let mut faults = 0;
    for gateway in sandbox.gateways() {
        faults += hits(gateway);
    }
    let owed = settle(&sandbox, &process).await;
    println!("voids and refunds that only a gateway or a person can prove: {owed}");
    let asked: u64 = orders.iter().map(|order| order.asked).sum();
    println!(
        "{:.1} minutes, {} orders, {asked} requests of applications, {rules} changes of weather, {faults} requests at the gateways, {kills} SIGKILLs, {reloads} reloads",
        begun.elapsed().as_secs_f64() / 60.0,
        orders.len(),
    );
    let problems = audit(&orders, &sandbox.books().audit());
    for problem in problems.iter().take(40) {
        println!("WRONG: {problem}");
    }
    let sentinel = process.lock().unwrap().take().unwrap();
    let usage = sentinel.usage();
    println!(
        "the last process: {:.1} MB resident, {} descriptors, {} threads",
        usage.resident_kib / 1024.0,
        usage.descriptors,
        usage.threads
    );
    let log = log + &sentinel.log();
    let panicked = log.contains("panicked");
    if panicked {
        println!("WRONG: a panic in the log\n{log}");
    }
    let stopped = sentinel.stop();
    println!("stops by itself when told to: {stopped}");
    let passed = problems.is_empty() && !panicked && stopped;
    println!("{}", if passed { "PASS" } else { "FAIL" });
    passed
}

/// The requests that a simulator received since they were forgotten.
fn hits(gateway: &server::Gateway) -> u64 {
    gateway.requests().len() as u64
}

/// Changes the weather at both gateways until the end, and leaves it fine.
async fn weather(sandbox: Arc<Sandbox>, end: Instant, seed: u64) -> u64 {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut changes = 0;
    while Instant::now() < end {
        for (gateway, bad) in sandbox.gateways().iter().zip([70, 30]) {
            gateway.clear_faults();
            // A gateway posts again what could not be delivered.
            gateway.deliver_webhooks(Redeliver::Missed);
            if chance.u32(..100) >= bad {
                continue;
            }
            changes += 1;
            if chance.u32(..5) == 0 {
                gateway.fault("refuse".parse().unwrap());
                continue;
            }
            for _ in 0..=chance.u32(..3) {
                let (fault, most) = WEATHER[chance.usize(..WEATHER.len())];
                let rule = format!("{fault},method=POST,times=all,percent={}", 1 + chance.u32(..most));
                gateway.fault(rule.parse::<Rule>().unwrap());
            }
        }
        tokio::time::sleep(Duration::from_millis(500 + chance.u64(..2500))).await;
    }
    sandbox.gateways().iter().for_each(server::Gateway::clear_faults);
    changes
}

/// Kills and reloads until the end: how many of each, and the logs of the killed.
fn disturb(
    sandbox: &Sandbox,
    process: &Mutex<Option<Sentinel>>,
    places: Places,
    dir: &Path,
    end: Instant,
    kill: f64,
) -> (u64, u64, String) {
    let (mut kills, mut reloads, mut log) = (0, 0, String::new());
    let every = Duration::from_secs_f64(if kill > 0.0 { kill } else { 1e6 });
    let mut due = Instant::now() + every;
    while Instant::now() + Duration::from_secs(3) < end {
        std::thread::sleep(Duration::from_millis(1000 + fastrand::u64(..1000)));
        let mut process = process.lock().unwrap();
        let config = places.config(sandbox, dir, reloads + 1);
        if Instant::now() >= due {
            let killed = process.take().unwrap();
            log += &killed.log();
            drop(killed);
            *process = Some(Sentinel::start(&config, places.admin));
            kills += 1;
            due = Instant::now() + every;
            continue;
        }
        let running = process.as_ref().unwrap();
        std::fs::write(running.config(), &config).unwrap();
        if running
            .ask("POST", "/reload", "")
            .is_some_and(|(status, _)| status == 200)
        {
            reloads += 1;
        }
    }
    (kills, reloads, log)
}

/// Lets customers come at a fixed rate, and waits until each has her last answer.
async fn sell(places: Places, end: Instant, rate: f64, seed: u64) -> Vec<Order> {
    let started = Instant::now();
    let mut chance = fastrand::Rng::with_seed(seed ^ 1);
    let mut customers = tokio::task::JoinSet::new();
    let mut number = 0u32;
    loop {
        let due = started + Duration::from_secs_f64(f64::from(number) / rate);
        if due >= end {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        number += 1;
        let mode = chance.usize(..MODES.len());
        let order = Order {
            name: format!("order-{number:06}"),
            mode: MODES[mode],
            wish: Wish::any(&mut chance),
            paid: Told::InDoubt,
            then: None,
            asked: 0,
            waited: Duration::ZERO,
        };
        customers.spawn(customer(places.modes[mode], order));
    }
    customers.join_all().await
}

async fn customer(listen: SocketAddr, mut order: Order) -> Order {
    let (stripe, adyen) = if order.wish == Wish::SaleDeclined {
        EMPTY_CARD
    } else {
        CARD
    };
    let capture = match order.wish {
        Wish::HoldCaptured | Wish::HoldPartlyCaptured | Wish::HoldReleased => "manual",
        _ => "automatic",
    };
    let form = format!(
        "amount={CENTS}&currency=eur&confirm=true&capture_method={capture}&payment_method={stripe}&payment_method_types[0]=card&metadata[order_id]={}",
        order.name
    );
    let begun = Instant::now();
    order.paid = ask(
        listen,
        "/v1/payment_intents",
        &order.name,
        adyen,
        &form,
        &mut order.asked,
    )
    .await;
    order.waited = begun.elapsed();
    if let Told::Done { id, .. } = &order.paid
        && let Some((path, form)) = order.wish.then(id)
    {
        let key = format!("{}-then", order.name);
        order.then = Some(ask(listen, &path, &key, adyen, &form, &mut order.asked).await);
    }
    order
}

/// Asks with one key until the answer is definite or patience ends.
async fn ask(listen: SocketAddr, path: &str, key: &str, adyen: &str, form: &str, asked: &mut u64) -> Told {
    let begun = Instant::now();
    let mut told = Told::NotTaken;
    while begun.elapsed() < PATIENCE {
        *asked += 1;
        let answer = tokio::time::timeout(Duration::from_secs(10), post(listen, path, key, adyen, form)).await;
        match answer {
            // Whether a connection that broke had a request on it is not for an application to say.
            Err(_) | Ok(None) => told = Told::InDoubt,
            Ok(Some((answered, definite))) => {
                told = answered;
                if definite {
                    return told;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    told
}

async fn post(listen: SocketAddr, path: &str, key: &str, adyen: &str, form: &str) -> Option<(Told, bool)> {
    let stream = TcpStream::connect(listen).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = Request::post(path)
        .header(header::HOST, listen.to_string())
        .header(header::AUTHORIZATION, "Bearer sk_test_sandbox")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("idempotency-key", key)
        .header("sentinel-instrument", format!("adyen={adyen}"))
        .body(Full::<Bytes>::from(form.to_owned()))
        .ok()?;
    let answer = sender.send_request(request).await.ok()?;
    let text = |name: &str| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let gateway = text("sentinel-gateway").to_owned();
    let not_sent = text("sentinel-outcome") == "not_sent";
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    Some(match status {
        // Not an end: a refund of it would be refused.
        200 if body["status"] == "processing" => (Told::InDoubt, false),
        200 => {
            let id = body["id"].as_str().unwrap_or_default().to_owned();
            (Told::Done { id, gateway }, true)
        }
        402 if body["error"]["type"] == "card_error" => (Told::Declined, true),
        409 | 429 | 500..=599 if not_sent => (Told::NotTaken, false),
        409 | 429 | 500..=599 => (Told::InDoubt, false),
        _ => (
            Told::Refused(format!("{status} {body}").chars().take(300).collect()),
            true,
        ),
    })
}

/// Waits until nothing is under way or owed, or half a minute is over: how much is owed still. A request that Adyen never
/// got leaves nothing to ask for and no webhook; what is live in the end is for the books to say.
async fn settle(sandbox: &Sandbox, process: &Mutex<Option<Sentinel>>) -> f64 {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        for gateway in sandbox.gateways() {
            gateway.deliver_webhooks(Redeliver::Missed);
            let _ = tokio::time::timeout(Duration::from_secs(20), gateway.quiet()).await;
        }
        let owed = {
            let process = process.lock().unwrap();
            process.as_ref().unwrap().scrape().sum("sentinel_obligations_open", &[])
        };
        if owed == 0.0 || Instant::now() > patience {
            return owed;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Holds the books against what was told, prints both, and returns what does not fit.
fn audit(orders: &[Order], books: &Audit) -> Vec<String> {
    let mut problems: Vec<String> = books.violations.clone();
    let mut by_order: BTreeMap<&str, Vec<&Position>> = BTreeMap::new();
    for position in &books.positions {
        if position.live() || position.captured > 0 {
            match &position.order {
                Some(order) => by_order.entry(order).or_default().push(position),
                None => problems.push(format!("{} has {} for no order", position.gateway, position.payment)),
            }
        }
    }
    let mut rows: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for order in orders {
        // A loser that was compensated in full is no charge any more.
        let found: Vec<&Position> = by_order
            .remove(order.name.as_str())
            .unwrap_or_default()
            .into_iter()
            .filter(|position| {
                position.live() || order.mode != "compensate" || told_at(order) == Some(&position.gateway)
            })
            .collect();
        let (column, problem) = judge(order, &found);
        *rows.entry(order.mode).or_default().entry(column).or_default() += 1;
        if let Some(problem) = problem {
            let at: Vec<String> = found
                .iter()
                .map(|position| {
                    format!(
                        "{} {} held, {} taken, {} given back",
                        position.gateway, position.held, position.captured, position.refunded
                    )
                })
                .collect();
            problems.push(format!("{order:?}: {problem}; the books: {at:?}"));
        }
    }
    problems.extend(by_order.keys().map(|order| format!("nobody ordered {order}")));
    println!(
        "\n| mode | paid at Stripe | paid at Adyen | declined | not taken | in doubt | refused |\n|---|---|---|---|---|---|---|"
    );
    for (mode, row) in &rows {
        let column = |name: &str| row.get(name).copied().unwrap_or(0);
        println!(
            "| {mode} | {} | {} | {} | {} | {} | {} |",
            column("stripe"),
            column("adyen"),
            column("declined"),
            column("not taken"),
            column("in doubt"),
            column("refused")
        );
    }
    println!("{} orders with more than one live charge", books.doubled.len());
    let refused = |order: &&Order| matches!(order.then, Some(Told::Refused(_)));
    println!(
        "{} captures, releases or refunds refused by the gateway and not done",
        orders.iter().filter(refused).count()
    );
    for order in orders.iter().filter(refused).take(5) {
        println!("  {order:?}");
    }
    let mut waited: Vec<Duration> = orders.iter().map(|order| order.waited).collect();
    waited.sort_unstable();
    let at = |share: f64| waited[((waited.len() - 1) as f64 * share) as usize].as_secs_f64();
    println!(
        "a definite answer after: p50 {:.3} s, p99 {:.3} s, most {:.3} s",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    problems
}

fn told_at(order: &Order) -> Option<&String> {
    match &order.paid {
        Told::Done { gateway, .. } => Some(gateway),
        _ => None,
    }
}

/// The column of an order, and what is wrong with it.
fn judge<'a>(order: &'a Order, found: &[&Position]) -> (&'a str, Option<&'static str>) {
    let nothing = |column, why| (column, (!found.is_empty()).then_some(why));
    match &order.paid {
        Told::Declined => nothing("declined", "told declined"),
        Told::NotTaken => nothing("not taken", "told that nobody has it"),
        Told::Refused(_) => ("refused", Some("a refusal that no application deserves")),
        Told::InDoubt => ("in doubt", (found.len() > 1).then_some("charged twice")),
        Told::Done { gateway, .. } => {
            let is = |whole: bool| {
                let (held, taken, back) = order.wish.books(whole);
                match found {
                    [] => (held, taken) == (0, 0),
                    [one] => one.gateway == *gateway && (one.held, one.captured, one.refunded) == (held, taken, back),
                    _ => false,
                }
            };
            let fits = match &order.then {
                None | Some(Told::Done { .. }) => is(true),
                // A refusal that is true contradicts no books; how many there were is printed.
                Some(Told::NotTaken | Told::Declined | Told::Refused(_)) => is(false),
                Some(Told::InDoubt) => is(false) || is(true),
            };
            let column = if gateway == "stripe" { "stripe" } else { "adyen" };
            (column, (!fits).then_some("the books differ from what was told"))
        }
    }
}
