//! Very many requests with one key, all of them waiting at once, over three listeners of which each is served by three
//! workers: one effect, and all are told the same.
//!
//! The embedded ledger belongs to one process, so what meets here is that process's workers, each with its own sockets and
//! connections to gateways. Processes beside each other on one ledger are refused at their start, which is tried here, too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use sentinel::sandbox::server::{self, Sandbox};
use sentinel::sandbox::{Kind, books::Audit};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use super::audit::{AtOnce, most_at_once};
use crate::support::gateway::{Gateway, Script};
use crate::support::merchant::{ADYEN_TOKEN, request, sale};
use crate::support::metrics::{scrape, sum};
use crate::support::patience::within;
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::{Message, attempt, once};

/// How the own gateway does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stripe {
    Well,
    Down,
    LosesItsAnswer,
}

const LISTENERS: usize = 3;
/// What a listener lets one connection ask for at once.
const STREAMS: usize = 100;
const ORDER: &str = "order-7";

/// A shop whose gateways answer nobody until it is let go.
struct Ward {
    sandbox: Sandbox,
    sentinel: Sentinel,
    config: String,
    listeners: Vec<SocketAddr>,
    admin: SocketAddr,
    go: watch::Sender<bool>,
    /// Between the process and each gateway.
    stripe: Gateway,
    adyen: Gateway,
}

/// Passes requests on to a simulator, and its answers back once they may go; the first one is lost where it is to be.
fn relay(to: SocketAddr, loses: bool, go: &watch::Sender<bool>) -> Script {
    let (go, lost) = (go.subscribe(), Arc::new(AtomicBool::new(!loses)));
    Arc::new(move |_, message: Message, mut stream| {
        let (mut go, lost) = (go.clone(), Arc::clone(&lost));
        Box::pin(async move {
            let answer = attempt(to, written(&message)).await?;
            go.wait_for(|go| *go).await.ok()?;
            if !lost.swap(true, Ordering::SeqCst) {
                return None;
            }
            stream.write_all(&written(&answer)).await.ok()?;
            Some(stream)
        })
    })
}

/// A message's bytes, its body under a length of its own.
fn written(message: &Message) -> Vec<u8> {
    let mut head = format!("{}\r\n", message.start);
    for (name, value) in &message.headers {
        if !["content-length", "transfer-encoding"].contains(&name.to_lowercase().as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", message.body.len()));
    [head.as_bytes(), &message.body].concat()
}

impl Ward {
    async fn open(how: Stripe) -> Self {
        let sandbox = server::start(&[Kind::Stripe, Kind::Adyen]).await.expect("a sandbox");
        let at = |name: &str| sandbox.gateway(name).expect("a simulator").address();
        let go = watch::Sender::new(false);
        let stripe = Gateway::scripted(None, relay(at("stripe"), how == Stripe::LosesItsAnswer, &go)).await;
        let adyen = Gateway::scripted(None, relay(at("adyen"), false, &go)).await;
        let nobody = free_port();
        let own = if how == Stripe::Down { nobody } else { stripe.address };
        let listeners: Vec<SocketAddr> = (0..LISTENERS).map(|_| free_port()).collect();
        let listen: Vec<String> = listeners.iter().map(|address| format!("'{address}'")).collect();
        let (admin, listen) = (free_port(), listen.join(", "));
        let config = format!(
            "workers: 3
listeners: {{ admin: {admin} }}
ledger: {{ sqlite: '{{dir}}/ledger.db', strict: false }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{own}', allow_private: true, credentials: {{ secret_key: sk_test_sandbox }} }}
  adyen: {{ dialect: adyen, endpoint: 'http://{}', allow_private: true, capture: automatic, credentials: {{ api_key: sandbox, merchant_account: AcmeECOM }} }}
routes:
  - name: checkout
    listen: [{listen}]
    dialect: stripe
    gateways: [stripe, adyen]
    failover: {{ require_certificate: false, attempt_timeout: 600s, deadline: 1200s }}
    limits: {{ in_flight: 20000 }}
",
            adyen.address,
        );
        Self {
            sentinel: Sentinel::start(&config),
            sandbox,
            config,
            listeners,
            admin,
            go,
            stripe,
            adyen,
        }
    }

    async fn audit(&self) -> Audit {
        for gateway in self.sandbox.gateways() {
            gateway.quiet().await;
        }
        self.sandbox.books().audit()
    }

    /// Another process on the same ledger, which ends at once and says why.
    async fn has_the_ledger_for_itself(&self) {
        let mut config = self
            .config
            .replace("{dir}", &self.sentinel.dir.path().display().to_string());
        for address in self.listeners.iter().chain([&self.admin]) {
            config = config.replace(&address.to_string(), &free_port().to_string());
        }
        let dir = tempfile::tempdir().expect("a directory");
        let mut other = Sentinel::start_unready(dir, &config, &[]);
        other.until_it_ends("a second process on one ledger").await;
        assert!(other.log().contains("in use"), "{}", other.log());
    }
}

fn form() -> String {
    sale("1999", "&payment_method_types[0]=card")
}

/// What one of them was told: the status, and the payment's id.
type Told = (u16, String);

fn told(status: u16, body: &[u8]) -> Told {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    (status, body["id"].as_str().unwrap_or_default().to_owned())
}

/// Asks so often at once, over one connection.
async fn ask(listener: SocketAddr, times: usize) -> Vec<Told> {
    let stream = tokio::net::TcpStream::connect(listener).await.expect("a connection");
    let shaken = h2::client::Builder::new().handshake::<_, Bytes>(stream).await;
    let (mut client, connection) = shaken.expect("HTTP/2");
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..times {
        client = client.ready().await.expect("a stream");
        let request = http::Request::post("http://127.0.0.1/v1/payment_intents")
            .header("authorization", "Bearer sk_test_sandbox")
            .header("idempotency-key", "twins")
            .header("sentinel-instrument", format!("adyen={ADYEN_TOKEN}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(())
            .expect("a request");
        let (answer, mut body) = client.send_request(request, false).expect("is sent");
        body.send_data(form().into(), true).expect("is sent");
        answers.push(async move {
            let answer = answer.await.expect("an answer");
            let (status, mut rest) = (answer.status().as_u16(), answer.into_body());
            let mut body = Vec::new();
            while let Some(piece) = rest.data().await {
                let piece = piece.expect("the answer's body");
                let _ = rest.flow_control().release_capacity(piece.len());
                body.extend_from_slice(&piece);
            }
            told(status, &body)
        });
    }
    join_all(answers).await
}

/// All that is to be seen of so many twins.
async fn one_effect(how: Stripe, many: usize) {
    let ward = Ward::open(how).await;
    let mut asking = Vec::new();
    for (index, first) in (0..many).step_by(STREAMS).enumerate() {
        let listener = ward.listeners[index % LISTENERS];
        asking.push(tokio::spawn(ask(listener, STREAMS.min(many - first))));
    }
    let all = within(Duration::from_secs(600), async || {
        let waiting = sum(&scrape(ward.admin).await, "sentinel_inflight");
        (waiting == many as f64).then_some(())
    });
    assert!(all.await.is_some(), "{how:?}: not all of them wait");
    ward.go.send_replace(true);
    let mut answers = Vec::new();
    for some in asking {
        answers.extend(some.await.expect("they are told"));
    }
    assert_eq!(answers.len(), many);
    let (status, id) = answers[0].clone();
    assert_eq!(status, 200, "{how:?}: {id}\n{}", ward.sentinel.log());
    assert!(id.starts_with("pi_"), "{how:?}: {id}");
    let others: Vec<&Told> = answers.iter().filter(|other| **other != answers[0]).collect();
    assert!(
        others.is_empty(),
        "{how:?}: {} were told otherwise: {:?}",
        others.len(),
        &others[..others.len().min(3)]
    );
    // And so is whoever comes late, on any of the listeners.
    for listener in &ward.listeners {
        let late = once(*listener, request("twins", &form(), ADYEN_TOKEN)).await;
        assert_eq!(told(late.status(), &late.body), answers[0], "{how:?}");
    }
    let audit = ward.audit().await;
    assert!(audit.clean(), "{how:?}: {audit:#?}");
    let owner = if how == Stripe::Down { "adyen" } else { "stripe" };
    let live: Vec<(&str, i64)> = audit
        .live(ORDER)
        .iter()
        .map(|one| (one.gateway.as_str(), one.captured))
        .collect();
    assert_eq!(live, [(owner, 1999)], "{how:?}: {audit:#?}");
    assert_eq!(most_at_once(&ward.sandbox.books().entries(), ORDER, AtOnce::One), 1);
    // One request for a payment left, whatever was asked about it afterwards.
    let pays = |message: &Message| match message.start.split(' ').nth(1) {
        Some("/v1/payment_intents") => message.text().contains(ORDER),
        Some(path) => path.ends_with("/payments"),
        None => false,
    };
    let seen = [ward.stripe.seen(), ward.adyen.seen()].concat();
    assert_eq!(
        seen.iter().filter(|message| pays(message)).count(),
        1,
        "{how:?}: {seen:#?}"
    );
    println!("{how:?}: {many} twins over {LISTENERS} listeners of 3 workers, one effect at {owner}, all told {id}");
    ward.has_the_ledger_for_itself().await;
}

/// A slice.
#[tokio::test(flavor = "multi_thread")]
async fn of_very_many_twins_over_three_listeners_one_has_an_effect_and_all_are_told_of_it() {
    for how in [Stripe::Well, Stripe::Down, Stripe::LosesItsAnswer] {
        one_effect(how, 600).await;
    }
}

/// All of them; `tests/double-charge/run` runs it, too.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "30,000 requests that wait: tests/double-charge/run"]
async fn ten_thousand() {
    for how in [Stripe::Well, Stripe::Down, Stripe::LosesItsAnswer] {
        one_effect(how, 10_000).await;
    }
}
