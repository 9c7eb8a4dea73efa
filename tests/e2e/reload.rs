//! Reload on the real binary: how a change is noticed, what it does to traffic, and what it leaves alone.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::gateway::{Gateway, json};
use crate::support::patience::PATIENCE;
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::{Client, Message, attempt, get, once, post};

async fn ask(admin: SocketAddr, method: &str, path: &str) -> Message {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    once(admin, request).await
}

async fn reload(admin: SocketAddr) -> serde_json::Value {
    let answer = ask(admin, "POST", "/reload").await;
    serde_json::from_str(&answer.text()).unwrap()
}

/// Reloads what was changed. The watcher may have been first; then it is its reload that counts.
async fn applied(admin: SocketAddr) -> serde_json::Value {
    let mut told = reload(admin).await;
    if told["result"] == "unchanged" {
        let all = ask(admin, "GET", "/reloads").await;
        let all: Vec<serde_json::Value> = serde_json::from_str(&all.text()).unwrap();
        let before = all.into_iter().rev().find(|one| one["result"] != "unchanged");
        told = before.expect("a reload that did something");
    }
    assert_eq!(told["result"], "applied", "{told}");
    told
}

/// Writes a file beside it and puts it in its place: nobody sees half of it.
fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, file).unwrap();
}

/// A configuration whose route answers by the given gateway.
fn config(admin: SocketAddr, listen: &str, gateway: SocketAddr, more: &str) -> String {
    format!(
        "listeners: {{ admin: '{admin}' }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{gateway}', allow_private: true }}
routes:
  - name: checkout
    listen: {listen}
    dialect: stripe
    gateways: [stripe]
{more}"
    )
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < patience, "{what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_noticed_however_it_is_written() {
    let (admin, listen) = (free_port(), free_port());
    let gateways = [
        Gateway::answering(None, |_, _| json(200, "0")).await,
        Gateway::answering(None, |_, _| json(200, "1")).await,
    ];
    let text = |number: usize| config(admin, &listen.to_string(), gateways[number].address, "");
    // As Kubernetes mounts a ConfigMap: the file is a link into a folder that is itself swapped as a link.
    let dir = tempfile::tempdir().unwrap();
    let version = |name: &str, content: &str| {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("sentinel.yaml"), content).unwrap();
    };
    version("..v1", "");
    version("..v2", &text(1));
    symlink("..v1", dir.path().join("..data")).unwrap();
    symlink("..data/sentinel.yaml", dir.path().join("sentinel.yaml")).unwrap();
    let sentinel = Sentinel::start_in(dir, &text(0), &[]);
    sentinel.ignore_notices();
    let is = async |number: usize| once(listen, get("/v1/charges", "")).await.text() == number.to_string();
    assert!(is(0).await);

    symlink("..v2", sentinel.path("..new")).unwrap();
    std::fs::rename(sentinel.path("..new"), sentinel.path("..data")).unwrap();
    until("a ConfigMap", async || is(1).await).await;

    std::fs::write(sentinel.path("editor"), text(0)).unwrap();
    std::fs::rename(sentinel.path("editor"), sentinel.config()).unwrap();
    until("an editor's rename", async || is(0).await).await;

    std::fs::write(sentinel.config(), text(1)).unwrap();
    until("writing in place", async || is(1).await).await;

    std::fs::write(sentinel.config(), text(0)).unwrap();
    sentinel.signal("HUP");
    until("a signal", async || is(0).await).await;

    std::fs::write(sentinel.config(), text(1)).unwrap();
    let told = applied(admin).await;
    let change = told["changes"][0].as_str().unwrap();
    assert!(change.starts_with("gateways.stripe.endpoint.port: "), "{told}");
    assert!(is(1).await);
    assert_eq!(reload(admin).await["result"], "unchanged");
    assert!(
        sentinel.log().contains("gateways.stripe.endpoint.port"),
        "{}",
        sentinel.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_through_its_file_and_a_broken_file_is_told_once() {
    let (admin, listen) = (free_port(), free_port());
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let more = format!("admin: {{ token: {{ file: '{}' }} }}\n", token.display());
    let text = config(admin, &listen.to_string(), gateway.address, &more);
    let sentinel = Sentinel::start_in(dir, &text, &[]);
    sentinel.ignore_notices();
    let bears = async |token: &str| {
        let request = format!(
            "POST /log?level=info HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
        );
        once(admin, request).await.status() == 200
    };
    assert!(bears("first").await && !bears("second").await);
    replace(&token, "second\n");
    until("a rotated secret", async || bears("second").await).await;
    assert!(!bears("first").await);

    std::fs::remove_file(&token).unwrap();
    replace(&sentinel.config(), &text.replace("checkout", "renamed"));
    let rejected = || sentinel.log().matches("was rejected").count();
    assert!(bears("second").await, "a missing secret changes nothing");
    sentinel.signal("HUP");
    until("the rejection", async || rejected() == 1).await;
    // The secret comes back: nobody has to ask again.
    replace(&token, "third\n");
    until("the secret's return", async || bears("third").await).await;
    assert_eq!(rejected(), 1, "{}", sentinel.log());
    for secret in ["first", "second", "third"] {
        assert!(!sentinel.log().contains(secret));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_come_and_go_and_the_operators_move_without_a_restart() {
    let (admin, moved, first, second) = (free_port(), free_port(), free_port(), free_port());
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let sentinel = Sentinel::start(&config(admin, &first.to_string(), gateway.address, ""));
    sentinel.ignore_notices();
    let answers = async |at: SocketAddr| {
        let answer = attempt(at, get("/v1/charges", "")).await;
        answer.is_some_and(|answer| answer.status() == 200)
    };
    // A connection that is idle while its listener stays.
    let mut kept = Client::connect(first).await;
    assert_eq!(kept.exchange(get("/v1/charges", "")).await.status(), 200);

    let both = config(admin, &format!("['{first}', '{second}']"), gateway.address, "");
    std::fs::write(sentinel.config(), &both).unwrap();
    applied(admin).await;
    assert!(answers(first).await && answers(second).await);
    assert_eq!(kept.exchange(get("/v1/charges", "")).await.status(), 200);

    // Limits of a listener change under it; whoever connects is answered before and after.
    let limited = format!("{both}admission: {{ head: 8KiB, connections: 100 }}\n");
    std::fs::write(sentinel.config(), &limited).unwrap();
    applied(admin).await;
    assert!(answers(first).await && answers(second).await);
    let large = format!("X-Large: {}\r\n", "x".repeat(9 << 10));
    assert_eq!(once(first, get("/v1/charges", &large)).await.status(), 431);

    let only = config(moved, &second.to_string(), gateway.address, "");
    std::fs::write(sentinel.config(), &only).unwrap();
    applied(admin).await;
    assert!(answers(second).await);
    until("the closed listener", async || !answers(first).await).await;
    until("the operators' old address", async || {
        tokio::net::TcpStream::connect(admin).await.is_err()
    })
    .await;
    assert_eq!(ask(moved, "GET", "/ready").await.status(), 200);

    // An address that somebody else has: nothing changes.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("['{second}', '{}']", taken.local_addr().unwrap());
    std::fs::write(sentinel.config(), config(moved, &listen, gateway.address, "")).unwrap();
    let told = reload(moved).await;
    assert_eq!(told["result"], "rejected", "{told}");
    assert!(
        told["problems"][0].as_str().unwrap().contains("already in use"),
        "{told}"
    );
    assert!(answers(second).await);
}

fn certify(dir: &Path) -> String {
    let (code, _, trouble) = crate::support::sentinel::command(&["ca", "--dir", "tls"], dir);
    assert_eq!(code, 0, "{trouble}");
    dir.join("tls").display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_turns_to_tls_and_back_on_the_same_address() {
    let (admin, listen) = (free_port(), free_port());
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let dir = tempfile::tempdir().unwrap();
    let local_ca = format!("local_ca: '{}'\n", certify(dir.path()));
    let plain = config(admin, &listen.to_string(), gateway.address, &local_ca);
    let tls = config(
        admin,
        &format!("{{ address: '{listen}', tls: local_ca }}"),
        gateway.address,
        &local_ca,
    );
    let sentinel = Sentinel::start_in(dir, &plain, &[]);
    sentinel.ignore_notices();
    let speaks_plain = async || {
        let answer = attempt(listen, get("/v1/charges", "")).await;
        answer.is_some_and(|answer| answer.status() == 200)
    };
    assert!(speaks_plain().await);
    std::fs::write(sentinel.config(), &tls).unwrap();
    applied(admin).await;
    until("TLS", async || !speaks_plain().await).await;
    std::fs::write(sentinel.config(), &plain).unwrap();
    applied(admin).await;
    until("plain HTTP", async || speaks_plain().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_one_request_is_lost_while_reloading_every_ten_milliseconds() {
    const CLIENTS: u64 = 8;
    let (admin, listen, other) = (free_port(), free_port(), free_port());
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let second = format!(
        "  - {{ name: second, listen: '{other}', dialect: stripe, gateways: [stripe] }}
"
    );
    let text = |number: usize| {
        let queue = 100 + number;
        config(
            admin,
            &listen.to_string(),
            gateway.address,
            &format!("    limits: {{ queue: {queue} }}\n{second}"),
        )
    };
    let sentinel = Sentinel::start(&text(0));
    sentinel.ignore_notices();
    // What did not change keeps its state: a breaker that was forced open stays open.
    assert_eq!(ask(admin, "POST", "/breakers/second/stripe/open").await.status(), 204);

    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut client = Client::connect(listen).await;
                while !over.load(Ordering::Relaxed) {
                    let answer = client.exchange(post("/v1/charges", "", "amount=1")).await;
                    assert_eq!(answer.status(), 200, "{answer:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut pause = tokio::time::interval(Duration::from_millis(10));
    let (until, mut reloads) = (Instant::now() + Duration::from_secs(4), 0);
    // A busy machine takes longer over as many.
    while Instant::now() < until || reloads <= 50 || answered.load(Ordering::Relaxed) <= 500 {
        assert!(Instant::now() < until + PATIENCE, "{reloads} reloads only");
        pause.tick().await;
        reloads += 1;
        std::fs::write(sentinel.path("new"), text(reloads)).unwrap();
        std::fs::rename(sentinel.path("new"), sentinel.config()).unwrap();
        let told = reload(admin).await;
        // The watcher may have been first.
        assert_ne!(told["result"], "rejected", "{told}");
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let answered = answered.load(Ordering::Relaxed);
    println!("{answered} requests during {reloads} reloads");
    assert_eq!(
        gateway.seen().len() as u64,
        answered,
        "nothing was lost and nothing was sent twice"
    );
    assert!(
        gateway.connections() as u64 <= CLIENTS,
        "connections outlive reloads: {}",
        gateway.connections()
    );
    assert_eq!(once(other, get("/v1/charges", "")).await.status(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_come_and_go_with_their_gateways() {
    use tokio::io::AsyncReadExt as _;
    let (admin, listen) = (free_port(), free_port());
    let gateways = [
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
    ];
    let text = |number: usize| {
        format!(
            "listeners: {{ admin: '{admin}' }}
gateways:
  number-{number}: {{ dialect: stripe, endpoint: 'http://{}', allow_private: true, prewarm: 1 }}
routes: [{{ name: checkout, listen: '{listen}', dialect: stripe, gateways: [number-{number}] }}]
",
            gateways[number].local_addr().unwrap()
        )
    };
    let sentinel = Sentinel::start(&text(0));
    let (mut old, _) = gateways[0].accept().await.unwrap();
    std::fs::write(sentinel.config(), text(1)).unwrap();
    applied(admin).await;
    // What is new is warm before anybody asks, and what is gone keeps nothing.
    let (_new, _) = gateways[1].accept().await.unwrap();
    assert_eq!(old.read(&mut [0]).await.unwrap(), 0);
}
