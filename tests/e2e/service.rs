//! Living under a service manager: what it is told, sockets that it passes, and the ways to stop.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::gateway::{Gateway, json};
use crate::support::patience::PATIENCE;
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::{Client, get, once, post};

fn config(admin: SocketAddr, listen: SocketAddr, gateway: SocketAddr, more: &str) -> String {
    format!(
        "listeners: {{ admin: '{admin}' }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{gateway}', allow_private: true }}
routes:
  - {{ name: checkout, listen: '{listen}', dialect: stripe, gateways: [stripe] }}
{more}
"
    )
}

/// Sends a request and waits until the gateway has it.
async fn in_flight(listen: SocketAddr, gateway: &Gateway) -> Client {
    let before = gateway.seen().len();
    let mut client = Client::connect(listen).await;
    client.send(post("/v1/charges", "", "amount=1")).await;
    gateway.received(before + 1).await;
    client
}

/// Waits until connections are refused: workers close their listeners a moment after they are told to.
async fn nobody_new(listen: SocketAddr) {
    let patience = Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(listen).await.is_ok() {
        assert!(Instant::now() < patience, "still accepting");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_of_readiness_reloads_and_stopping() {
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let (admin, listen) = (free_port(), free_port());
    let mut sentinel = Sentinel::start(&config(admin, listen, gateway.address, ""));

    std::fs::write(sentinel.config(), "routes: [").unwrap();
    sentinel.signal("HUP");
    let reloading = sentinel.wait_for("RELOADING=1");
    let clock = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(
        clock.is_some_and(|clock| clock.parse::<u64>().unwrap() > 0),
        "{reloading}"
    );
    // Ready again, because the old configuration still serves; and the line of status says why.
    let ready = sentinel.wait_for("READY=1");
    assert!(
        ready.contains("STATUS=Serving 1 route(s)") && ready.contains("was rejected: "),
        "{ready}"
    );
    assert_eq!(ready.lines().count(), 2, "{ready}");
    assert_eq!(once(listen, post("/v1/charges", "", "amount=1")).await.status(), 200);

    sentinel.signal("TERM");
    sentinel.wait_for("STOPPING=1");
    assert_eq!(sentinel.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_that_does_not_read_holds_nothing_up() {
    let gateway = Gateway::answering(None, |_, _| json(200, "{}")).await;
    let (admin, listen) = (free_port(), free_port());
    let dir = tempfile::tempdir().unwrap();
    let config = config(admin, listen, gateway.address, "");
    let mut sentinel = Sentinel::start_in(dir, &config, &[("WATCHDOG_USEC", "200000")]);
    // The manager's queue is full of what others told it.
    let others = std::os::unix::net::UnixDatagram::unbound().unwrap();
    others.connect(sentinel.path("notify")).unwrap();
    others.set_nonblocking(true).unwrap();
    while others.send(b"STATUS=somebody else").is_ok() {}
    for _ in 0..100 {
        let reload = "POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(once(admin, reload).await.status(), 200);
    }
    assert_eq!(once(listen, post("/v1/charges", "", "amount=1")).await.status(), 200);
    // Once it reads again, it is told what it has to know, the newest last.
    sentinel.signal("TERM");
    let ready = sentinel.wait_for("READY=1");
    assert!(ready.contains("STATUS=Serving 1 route(s)"), "{ready}");
    sentinel.wait_for("STOPPING=1");
    assert_eq!(sentinel.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_told_while_all_workers_turn_and_while_stopping() {
    let (gateway, leave) = Gateway::holding().await;
    let (admin, listen) = (free_port(), free_port());
    let more = "workers: 2";
    let dir = tempfile::tempdir().unwrap();
    let mut sentinel = Sentinel::start_in(
        dir,
        &config(admin, listen, gateway.address, more),
        &[("WATCHDOG_USEC", "400000")],
    );
    for _ in 0..3 {
        sentinel.wait_for("WATCHDOG=1");
    }
    let mut client = in_flight(listen, &gateway).await;
    sentinel.signal("TERM");
    sentinel.wait_for("STOPPING=1");
    for _ in 0..2 {
        sentinel.wait_for("WATCHDOG=1");
    }
    leave.add_permits(1);
    assert_eq!(client.answer().await.unwrap().status(), 200);
    assert_eq!(sentinel.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passed_socket_is_used_and_what_waited_in_it_is_answered() {
    let gateway = Gateway::answering(None, |_, _| json(200, r#"{"by":"gateway"}"#)).await;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = socket.local_addr().unwrap();
    // The application is faster than the sidecar: its connection waits in the kernel's queue.
    let mut early = Client::connect(listen).await;
    early.send(post("/v1/charges", "", "amount=1")).await;
    for workers in [1, 2] {
        let admin = free_port();
        let more = format!("workers: {workers}");
        let passed = socket.try_clone().unwrap();
        let mut sentinel = Sentinel::start_activated(&config(admin, listen, gateway.address, &more), passed);
        if workers == 1 {
            assert_eq!(early.answer().await.unwrap().text(), r#"{"by":"gateway"}"#);
        }
        for _ in 0..8 {
            assert_eq!(once(listen, post("/v1/charges", "", "amount=1")).await.status(), 200);
        }
        sentinel.signal("TERM");
        assert_eq!(sentinel.wait().code(), Some(0));
        // The service manager still holds the socket: nobody is refused while Sentinel restarts.
        drop(Client::connect(listen).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sigterm_it_accepts_for_the_minimum_and_finishes_what_was_begun() {
    let (gateway, leave) = Gateway::holding().await;
    let (admin, listen) = (free_port(), free_port());
    let more = "shutdown: { min: 4s, max: 60s }";
    let mut sentinel = Sentinel::start(&config(admin, listen, gateway.address, more));
    let mut first = in_flight(listen, &gateway).await;
    let told = Instant::now();
    sentinel.signal("TERM");
    sentinel.wait_for("STOPPING=1");
    // Nobody new is invited, but who comes is served: the application stops at the same time and still pays.
    assert_eq!(once(admin, get("/ready", "")).await.status(), 503);
    assert_eq!(once(admin, get("/live", "")).await.status(), 200);
    let mut second = in_flight(listen, &gateway).await;
    sentinel.wait_for("STATUS=Stopping: finishing requests in flight");
    assert!(told.elapsed() >= Duration::from_secs(4), "{:?}", told.elapsed());
    nobody_new(listen).await;
    leave.add_permits(2);
    assert_eq!(first.answer().await.unwrap().status(), 200);
    assert_eq!(second.answer().await.unwrap().status(), 200);
    assert_eq!(sentinel.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_sidecar_skips_the_minimum_because_its_application_is_gone() {
    let (gateway, leave) = Gateway::holding().await;
    let (admin, listen) = (free_port(), free_port());
    let more = "shutdown: { min: 1h, max: 2h, native_sidecar: true }";
    let mut sentinel = Sentinel::start(&config(admin, listen, gateway.address, more));
    let mut client = in_flight(listen, &gateway).await;
    sentinel.signal("TERM");
    sentinel.wait_for("STATUS=Stopping: finishing requests in flight");
    nobody_new(listen).await;
    leave.add_permits(1);
    assert_eq!(client.answer().await.unwrap().status(), 200);
    assert_eq!(sentinel.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_maximum_ends_what_never_ends_and_the_minimum_counts_into_it() {
    let (gateway, _leave) = Gateway::holding().await;
    let (admin, listen) = (free_port(), free_port());
    let more = "shutdown: { min: 500ms, max: 1s }";
    let mut sentinel = Sentinel::start(&config(admin, listen, gateway.address, more));
    let mut client = in_flight(listen, &gateway).await;
    let told = Instant::now();
    sentinel.signal("TERM");
    // A supervisor that repeats itself cuts nothing short.
    sentinel.signal("TERM");
    assert!(client.answer().await.is_none());
    assert_eq!(sentinel.wait().code(), Some(0));
    let took = told.elapsed();
    assert!(took >= Duration::from_secs(1) && took < PATIENCE, "{took:?}");
}
