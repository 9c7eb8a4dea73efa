//! Late reads are asked for twice; nothing else ever is.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use super::Subject;
use crate::support::gateway::{Gateway, Script, json};
use crate::support::metrics::{matching, scrape, settled, sum, until};
use crate::support::wire::{Client, Message, get, once, post};

/// A gateway that answers at once until told to stall; then the first request to a target gets no answer until the
/// target is released, and the second gets one.
#[derive(Clone)]
struct Stalling {
    on: Arc<AtomicBool>,
    released: watch::Sender<BTreeSet<String>>,
}

impl Stalling {
    fn new() -> Self {
        Self {
            on: Arc::default(),
            released: watch::Sender::new(BTreeSet::new()),
        }
    }

    fn script(&self) -> Script {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let stalling = self.clone();
        Arc::new(move |_, message: Message, mut stream| {
            let (stalling, seen) = (stalling.clone(), Arc::clone(&seen));
            Box::pin(async move {
                let target = target(&message.start);
                let first = seen.lock().unwrap().insert(target.clone());
                if stalling.on.load(Ordering::SeqCst) && first {
                    let mut released = stalling.released.subscribe();
                    released.wait_for(|released| released.contains(&target)).await.ok()?;
                }
                let answer = match message.start.starts_with("HEAD") {
                    true => json(200, ""),
                    false => json(200, "{}"),
                };
                stream.write_all(answer.as_bytes()).await.ok()?;
                Some(stream)
            })
        })
    }

    fn release(&self, target: &str) {
        self.released.send_modify(|released| {
            released.insert(target.to_owned());
        });
    }
}

fn target(start: &str) -> String {
    start.split(' ').nth(1).unwrap().to_owned()
}

fn count(gateway: &Gateway, wanted: &str) -> usize {
    gateway
        .seen()
        .iter()
        .filter(|seen| target(&seen.start) == wanted)
        .count()
}

/// Waits until the gateway has a request to this target.
async fn arrival(gateway: &Gateway, wanted: &str) {
    for number in 1.. {
        gateway.received(number).await;
        if count(gateway, wanted) > 0 {
            return;
        }
    }
}

/// Makes the route know its gateway's latency: more than enough reads, over more than one refresh of the quantile.
async fn teach(subject: &Subject) {
    let began = tokio::time::Instant::now();
    let mut client = Client::connect(subject.listen).await;
    let mut reads = 0;
    while reads < 200 || began.elapsed() < sentinel::resilience::hedge::REFRESH {
        assert_eq!(client.exchange(get(&format!("/v1/{reads}"), "")).await.status(), 200);
        reads += 1;
    }
    // The slice turns with the first read after its end.
    assert_eq!(client.exchange(get("/v1/last", "")).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_read_is_answered_by_the_second_request_and_nothing_else_is_ever_sent_twice() {
    let stalling = Stalling::new();
    let gateway = Gateway::scripted(None, stalling.script()).await;
    // On a busy machine many a read is late by itself; what that takes must leave enough for those that are meant.
    let hedge = "    hedge: { reads: p95, max_extra: 50%, min_delay: 300ms }\n";
    let subject = Subject::start(gateway.address, hedge);
    teach(&subject).await;
    let before = settled(subject.admin).await;
    let hedges = sum(&before, "sentinel_hedges_total");
    assert!(hedges <= 0.5 * gateway.seen().len() as f64, "{hedges} while learning");

    stalling.on.store(true, Ordering::SeqCst);
    assert_eq!(once(subject.listen, get("/v1/late", "")).await.status(), 200);
    assert_eq!(count(&gateway, "/v1/late"), 2);
    let after = settled(subject.admin).await;
    let more = |family: &str, labels: &[&str]| matching(&after, family, labels) - matching(&before, family, labels);
    assert_eq!(more("sentinel_hedges_total", &[r#"result="won""#]), 1.0);
    let attempts = "sentinel_upstream_attempts_total";
    assert_eq!(more(attempts, &[r#"kind="hedge""#, r#"result="answered""#]), 1.0);
    assert_eq!(more(attempts, &[r#"kind="first""#, r#"result="cancelled""#]), 1.0);
    // It is one request, whatever it took.
    assert_eq!(more("sentinel_requests_total", &[]), 1.0);

    for request in [
        post("/v1/charges", "", "amount=1"),
        get("/v1/body", "Content-Length: 2\r\n") + "{}",
        get("/v1/gone", "").replacen("GET", "DELETE", 1),
        get("/v1/head", "").replacen("GET", "HEAD", 1),
    ] {
        let path = target(&request);
        let mut client = Client::connect(subject.listen).await;
        client.send(&request).await;
        arrival(&gateway, &path).await;
        // A read that came later is hedged before this one is answered: its delay has long passed.
        let later = once(subject.listen, get(&format!("/v1/later{path}"), "")).await;
        assert_eq!(later.status(), 200);
        stalling.release(&path);
        let answer = match request.starts_with("HEAD") {
            true => client.answer_to_head().await,
            false => client.answer().await,
        };
        assert_eq!(answer.unwrap().status(), 200, "{path}");
        assert_eq!(count(&gateway, &path), 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_is_sent_twice_while_the_breaker_is_not_closed_or_hedging_is_off() {
    for route in ["    hedge: { reads: p95, min_delay: 300ms }\n", ""] {
        let stalling = Stalling::new();
        let gateway = Gateway::scripted(None, stalling.script()).await;
        let subject = Subject::start(gateway.address, route);
        if !route.is_empty() {
            teach(&subject).await;
        }
        // Forced closed lets everything through and says that somebody does not trust the gateway.
        let forced = once(subject.admin, post("/breakers/checkout/stripe/close", "", "")).await;
        assert_eq!(forced.status(), 204);
        let before = scrape(subject.admin).await;
        stalling.on.store(true, Ordering::SeqCst);
        let mut client = Client::connect(subject.listen).await;
        client.send(get("/v1/late", "")).await;
        if route.is_empty() {
            arrival(&gateway, "/v1/late").await;
        } else {
            let denied = |samples: &_| matching(samples, "sentinel_hedges_total", &[r#"result="breaker""#]);
            until(subject.admin, "the hedge is denied", |now| {
                denied(now) > denied(&before)
            })
            .await;
        }
        stalling.release("/v1/late");
        assert_eq!(client.answer().await.unwrap().status(), 200);
        assert_eq!(count(&gateway, "/v1/late"), 1);
    }
}
