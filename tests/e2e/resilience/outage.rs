//! A gateway that falls ill and heals: the breaker opens by its rule and closes again, nothing is sent more often than
//! its budget allows, and an application that comes too fast learns it at once. What was let through is counted at the
//! gateway.

use std::collections::BTreeMap;

use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use sentinel::sandbox::server::{self, Fate, Gateway, Sandbox};
use sentinel::sandbox::{Kind, NativeError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::Subject;
use crate::support::gateway;
use crate::support::metrics::{Samples, matching, scrape, settled, sum, until};
use crate::support::patience::PATIENCE;
use crate::support::wire::{Client, Message, get, once, post};

/// A simulator of Stripe, and a sidecar in front of it.
async fn start(route: &str) -> (Sandbox, Gateway, Subject) {
    let sandbox = server::start(&[Kind::Stripe]).await.expect("a sandbox");
    let gateway = sandbox.gateway("stripe").expect("a simulator").clone();
    let subject = Subject::start(gateway.address(), route);
    (sandbox, gateway, subject)
}

fn all(fault: Fault) -> Rule {
    Rule::always(Match::default(), fault)
}

/// What one may suffer from. Each is a failure of the whole gateway, not of a request.
fn illnesses() -> Vec<(&'static str, Fault)> {
    let native = |error| Fault::Native {
        error,
        when: When::Before,
        retry_after: None,
        stored: false,
    };
    vec![
        ("refuses connections", Fault::Refuse { ms: None }),
        ("resets connections", Fault::CutConnection { cut: Cut::Rst }),
        (
            "resets requests",
            Fault::CutRequest {
                byte: 40,
                cut: Cut::Rst,
            },
        ),
        ("stalls", Fault::DelayAnswer { ms: None }),
        (
            "resets answers",
            Fault::CutAnswer {
                byte: 0,
                cut: Cut::Rst,
                when: When::After,
            },
        ),
        ("answers 500", native(NativeError::Internal)),
        ("answers 503", native(NativeError::Unavailable)),
    ]
}

/// Puts a fault in force.
async fn fall_ill(gateway: &Gateway, fault: Fault) {
    let refuses = matches!(fault, Fault::Refuse { .. });
    gateway.fault(all(fault));
    // A port is closed a moment after it is told to.
    while refuses && tokio::net::TcpStream::connect(gateway.address()).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

fn circuit_open(answer: &Message) -> bool {
    answer
        .header("proxy-status")
        .is_some_and(|status| status.starts_with("sentinel; error=destination_unavailable"))
}

fn read() -> String {
    get("/v1/payment_intents/pi_none", "")
}

fn attempts(samples: &Samples) -> f64 {
    sum(samples, "sentinel_upstream_attempts_total")
}

/// The attempts that a breaker may have let through: those of its rule, and its probes.
fn allowed(samples: &Samples, rule: f64, probes: f64) -> f64 {
    let half_open = matching(samples, "sentinel_breaker_transitions_total", &[r#"to="half_open""#]);
    rule + probes * half_open
}

/// Asks until the breaker is closed: its probes are the application's own requests.
async fn recovered(subject: &Subject) {
    let patience = Instant::now() + PATIENCE;
    loop {
        once(subject.listen, read()).await;
        if sum(&scrape(subject.admin).await, "sentinel_breaker_state") == 0.0 {
            return;
        }
        assert!(Instant::now() < patience, "it never recovers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn however_a_gateway_fails_the_breaker_opens_by_its_rule_and_closes_when_it_heals() {
    let mut tasks = tokio::task::JoinSet::new();
    for (name, fault) in illnesses() {
        tasks.spawn(async move {
            // Only where nothing is answered is an answer waited for in vain.
            let waits = if matches!(fault, Fault::DelayAnswer { .. }) { "3s" } else { "30s" };
            let route = format!(
                "    retry: {{ max: 0 }}\n    timeouts: {{ response_header: {waits}, total: 60s }}\n    breaker: {{ consecutive: 5, open: 10s, open_max: 20s, half_open_calls: 2 }}\n"
            );
            let (_sandbox, gateway, subject) = start(&route).await;
            fall_ill(&gateway, fault.clone()).await;
            let mut through = 0.0;
            let refused = loop {
                let answer = once(subject.listen, read()).await;
                if circuit_open(&answer) {
                    break answer;
                }
                assert!(answer.status() >= 500, "{name}: {answer:?}");
                through += 1.0;
                assert!(through <= 5.0, "{name}: it stays closed");
            };
            assert_eq!(through, 5.0, "{name}: opened by its rule");
            assert_eq!(
                (refused.status(), refused.header("sentinel-outcome")),
                (503, Some("not_sent")),
                "{name}"
            );
            let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
            assert!(wait >= 1, "{name}");
            // While it is open nothing but probes gets through, however often the application asks.
            for _ in 0..30 {
                once(subject.listen, read()).await;
            }
            let samples = settled(subject.admin).await;
            let most = allowed(&samples, 5.0, 2.0);
            assert!(attempts(&samples) <= most, "{name}: {} > {most}", attempts(&samples));
            // What the gateway has seen is what the metrics say was sent.
            let arrived = match fault {
                Fault::Refuse { .. } => 0.0,
                Fault::CutConnection { .. } => gateway.connections() as f64,
                _ => gateway.requests().len() as f64,
            };
            let expected = if matches!(fault, Fault::Refuse { .. }) { 0.0 } else { attempts(&samples) };
            assert_eq!(arrived, expected, "{name}: counted at the gateway");

            gateway.clear_faults();
            recovered(&subject).await;
            for _ in 0..10 {
                let answer = once(subject.listen, read()).await;
                assert_eq!((answer.status(), answer.header("proxy-status")), (404, None), "{name}: {answer:?}");
            }
            let samples = scrape(subject.admin).await;
            let closed = matching(&samples, "sentinel_breaker_transitions_total", &[r#"to="closed""#]);
            assert_eq!(closed, 1.0, "{name}");
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_only_answers_late_is_given_a_rest_by_the_slow_rule() {
    let route = "    breaker: { consecutive: 0, slow_rate: 50%, slow_after: 100ms, min_calls: 4, open: 10s, half_open_calls: 1 }\n";
    let (_sandbox, gateway, subject) = start(route).await;
    gateway.fault(all(Fault::DelayAnswer { ms: Some(120) }));
    for number in 0..4 {
        let answer = once(subject.listen, read()).await;
        assert_eq!(answer.status(), 404, "{number}: late is not wrong: {answer:?}");
    }
    assert!(circuit_open(&once(subject.listen, read()).await));
    let samples = scrape(subject.admin).await;
    let slow = [r#"to="open""#, r#"reason="slow_rate""#];
    assert_eq!(matching(&samples, "sentinel_breaker_transitions_total", &slow), 1.0);
    gateway.clear_faults();
    recovered(&subject).await;
}

/// A breaker that never opens, so that every request meets the fault itself.
const PATIENT: &str = "    breaker: { consecutive: 0, min_calls: 100000 }\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_reset_at_any_byte_is_never_whole_and_its_payment_never_sent_again() {
    let (sandbox, gateway, subject) = start(PATIENT).await;
    let charge = |number: usize| {
        let form = format!(
            "amount=1999&currency=eur&confirm=true&payment_method=pm_card_visa&metadata[order_id]=o{number}&payment_method_types[0]=card"
        );
        post("/v1/payment_intents", "Connection: close\r\n", &form)
    };
    // How long an answer is, from the gateway itself.
    let mut raw = Vec::new();
    let mut stream = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(charge(0).as_bytes()).await.unwrap();
    stream.read_to_end(&mut raw).await.unwrap();
    let head = raw.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    // Bodies of one length, whatever their ids are; a few bytes at the end are left out, as dates and ids vary.
    let bytes: Vec<usize> = (0..head).chain((head..raw.len() - 40).step_by(29)).collect();
    let before = gateway.requests().len();
    let mut outcomes = BTreeMap::new();
    for (number, byte) in bytes.iter().enumerate() {
        let cut = if byte % 2 == 0 { Cut::Rst } else { Cut::Fin };
        gateway.fault(Rule::once(
            Match::path("POST", "/v1/payment_intents"),
            Fault::CutAnswer {
                byte: *byte as u64,
                cut,
                when: When::After,
            },
        ));
        let mut client = Client::connect(subject.listen).await;
        client.send(charge(number + 1)).await;
        let mut got = Vec::new();
        let ended = client.stream.read_to_end(&mut got).await;
        let text = String::from_utf8_lossy(&got);
        if text.is_empty() {
            // It broke off before the head had left.
            *outcomes.entry("broken off").or_insert(0) += 1;
        } else if text.starts_with("HTTP/1.1 504 ") {
            assert!(
                text.to_lowercase().contains("sentinel-outcome: unknown"),
                "{byte}: {text}"
            );
            *outcomes.entry("unknown").or_insert(0) += 1;
        } else {
            // The head had passed before the gateway broke off: so must the answer to the application.
            assert!(text.starts_with("HTTP/1.1 200 "), "{byte}: {text}");
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let length = head.to_lowercase();
            let length = length
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned));
            let whole = match length {
                Some(length) => body.len() >= length.parse().unwrap(),
                None => body.ends_with("0\r\n\r\n"),
            };
            assert!(!whole, "{byte}: a broken answer was made whole ({ended:?}): {text}");
            *outcomes.entry("broken off").or_insert(0) += 1;
        }
    }
    assert!(
        outcomes["unknown"] >= 100 && outcomes["broken off"] >= 10,
        "{outcomes:?}"
    );
    let requests = gateway.requests();
    assert_eq!(requests.len() - before, bytes.len(), "each was sent once");
    assert_eq!(
        sandbox.books().audit().positions.len(),
        bytes.len() + 1,
        "and executed once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reset_at_any_byte_is_not_executed_and_a_payment_not_sent_again() {
    let (sandbox, gateway, subject) = start(PATIENT).await;
    let charge = post("/v1/payment_intents", "", "amount=1999&currency=eur");
    // The gateway reads the request until there, then resets.
    for byte in 1..charge.len() as u64 {
        gateway.fault(Rule::once(Match::default(), Fault::CutRequest { byte, cut: Cut::Rst }));
        let answer = once(subject.listen, &charge).await;
        assert!(
            matches!(
                (answer.status(), answer.header("sentinel-outcome")),
                (503, Some("not_sent")) | (504, Some("unknown"))
            ),
            "{byte}: {answer:?}"
        );
        assert!(gateway.faults().is_empty(), "{byte}: it was cut");
    }
    let requests = gateway.requests();
    assert_eq!(requests.len(), charge.len() - 1, "each was sent once");
    assert!(requests.iter().all(|request| request.fate == Fate::Partial));
    assert!(sandbox.books().audit().positions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_stay_within_their_budget_as_counted_at_the_gateway() {
    let route = format!("    retry: {{ budget: 20%, min_per_second: 1, max: 3 }}\n{PATIENT}");
    let (_sandbox, gateway, subject) = start(&route).await;
    gateway.fault(all(Fault::Native {
        error: NativeError::Unavailable,
        when: When::Before,
        retry_after: None,
        stored: false,
    }));
    let began = Instant::now();
    let mut client = Client::connect(subject.listen).await;
    for _ in 0..100 {
        assert_eq!(client.exchange(read()).await.status(), 503);
    }
    // A share of what was completed, and a floor for each second that began.
    let budget = 20.0 + began.elapsed().as_secs_f64() + 1.0;
    let retries = gateway.requests().len() as f64 - 100.0;
    assert!(
        retries >= 10.0 && retries <= budget,
        "{retries} retries, {budget} allowed"
    );
    // Of a payment that was answered 503 none at all is made.
    let before = gateway.requests().len();
    for _ in 0..20 {
        assert_eq!(client.exchange(post("/v1/charges", "", "amount=1")).await.status(), 503);
    }
    assert_eq!(gateway.requests().len() - before, 20);
    // What never arrived may be sent again whatever it is, under the same budget.
    gateway.clear_faults();
    fall_ill(&gateway, Fault::Refuse { ms: None }).await;
    let retried = |samples: &Samples| matching(samples, "sentinel_upstream_attempts_total", &[r#"kind="retry""#]);
    let before = retried(&scrape(subject.admin).await);
    let began = Instant::now();
    for _ in 0..50 {
        let answer = client.exchange(post("/v1/charges", "", "amount=1")).await;
        assert_eq!(
            (answer.status(), answer.header("sentinel-outcome")),
            (503, Some("not_sent"))
        );
    }
    // What 120 earlier requests had earned in the window may still be there.
    let budget = 0.2 * (120.0 + 50.0) + began.elapsed().as_secs_f64() + 1.0;
    let retries = retried(&scrape(subject.admin).await) - before;
    assert!(retries <= budget, "{retries} retries, {budget} allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_names_a_time_is_left_alone_until_then() {
    let route = "    breaker: { consecutive: 1, open: 50ms, open_max: 100ms }\n";
    let (_sandbox, gateway, subject) = start(route).await;
    gateway.fault(all(Fault::Native {
        error: NativeError::Unavailable,
        when: When::Before,
        retry_after: Some(7),
        stored: false,
    }));
    // A read would be asked again at once; the gateway's word goes back to the application instead.
    let answer = once(subject.listen, read()).await;
    assert_eq!(
        (answer.status(), answer.header("retry-after")),
        (503, Some("7")),
        "{answer:?}"
    );
    let samples = settled(subject.admin).await;
    let skipped = matching(&samples, "sentinel_retries_skipped_total", &[r#"reason="retry_after""#]);
    assert_eq!((gateway.requests().len(), skipped), (1, 1.0));
    // And the breaker stays open so long, not as long as its own rule says.
    let began = Instant::now();
    let answer = once(subject.listen, read()).await;
    assert!(circuit_open(&answer), "{answer:?}");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    let passed = began.elapsed().as_secs() + 1;
    assert!(wait <= 7 && wait + passed >= 5, "{wait} s, {passed} s after the answer");
    assert_eq!(gateway.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_is_told_at_once_and_nobody_overtakes() {
    let (gateway, leave) = gateway::Gateway::holding().await;
    let limits = "    limits: { in_flight: 2, queue: 2, queue_timeout: 20s }\n";
    let subject = Subject::start(gateway.address, limits);
    let ask = |path: &'static str| tokio::spawn(once(subject.listen, get(path, "")));
    let mut waiting = vec![ask("/1"), ask("/2")];
    gateway.received(2).await;
    for (path, queued) in [("/3", 1.0), ("/4", 2.0)] {
        waiting.push(ask(path));
        until(subject.admin, "it waits", |samples| {
            sum(samples, "sentinel_waiting") == queued
        })
        .await;
    }
    // The fifth is one too many.
    let answer = once(subject.listen, get("/5", "")).await;
    assert_eq!(
        (answer.status(), answer.header("sentinel-outcome")),
        (503, Some("not_sent")),
        "{answer:?}"
    );
    assert!(
        answer.header("proxy-status").unwrap().contains("queue_full"),
        "{answer:?}"
    );
    // In the dialect's own word: worth another try.
    assert_eq!(answer.header("stripe-should-retry"), Some("true"), "{answer:?}");
    assert_eq!(gateway.seen().len(), 2, "never more than two at once");
    leave.add_permits(1);
    gateway.received(3).await;
    leave.add_permits(3);
    for task in waiting {
        assert_eq!(task.await.unwrap().status(), 200);
    }
    let order: Vec<String> = gateway.seen().into_iter().map(|seen| seen.start).collect();
    assert_eq!(order.len(), 4);
    assert!(
        order[2].starts_with("GET /3 ") && order[3].starts_with("GET /4 "),
        "{order:?}"
    );
    let samples = settled(subject.admin).await;
    assert_eq!(
        matching(&samples, "sentinel_shed_total", &[r#"reason="queue_full""#]),
        1.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waited_as_long_as_allowed_is_told_so() {
    let (gateway, leave) = gateway::Gateway::holding().await;
    let limits = "    limits: { in_flight: 1, queue: 1, queue_timeout: 30ms }\n";
    let subject = Subject::start(gateway.address, limits);
    let first = tokio::spawn(once(subject.listen, get("/1", "")));
    gateway.received(1).await;
    let answer = once(subject.listen, get("/2", "")).await;
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert!(
        answer.header("proxy-status").unwrap().contains("queue_timeout"),
        "{answer:?}"
    );
    leave.add_permits(1);
    assert_eq!(first.await.unwrap().status(), 200);
    assert_eq!(gateway.seen().len(), 1);
}
