//! Every kind of fault, seen from the client's side of a socket.

use std::io::ErrorKind;
use std::time::Duration;

use sentinel::sandbox::NativeError;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use sentinel::sandbox::server::Fate;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{adyen, executed, pay, soon};
use crate::support::wire::{Client, once};

fn next(fault: Fault) -> Rule {
    Rule::once(Match::default(), fault)
}

/// Sends bytes and reads to the end: what came, and how it ended.
async fn to_the_end(address: std::net::SocketAddr, bytes: &[u8]) -> (Vec<u8>, Result<(), ErrorKind>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    // A gateway that closes early may make the end of the write fail.
    let _ = stream.write_all(bytes).await;
    let mut got = Vec::new();
    let mut buffer = [0u8; 1024];
    loop {
        match soon(stream.read(&mut buffer)).await {
            Ok(0) => return (got, Ok(())),
            Ok(read) => got.extend_from_slice(&buffer[..read]),
            Err(error) => return (got, Err(error.kind())),
        }
    }
}

#[tokio::test]
async fn a_payment_without_faults_is_executed_answered_and_in_the_books() {
    let (sandbox, gateway) = adyen().await;
    let answer = once(gateway.address(), pay("order-1", Some("k"))).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.text().contains("Authorised"), "{}", answer.text());
    let audit = sandbox.books().audit();
    assert_eq!(audit.live("order-1").len(), 1);
    assert_eq!(
        (audit.positions[0].held, audit.positions[0].currency.as_str()),
        (1000, "EUR")
    );
    let seen = gateway.requests();
    assert_eq!(
        (seen.len(), seen[0].fate, seen[0].status),
        (1, Fate::Executed, Some(200))
    );
    let again = once(gateway.address(), pay("order-1", Some("k"))).await;
    assert_eq!(again.body, answer.body, "the key's answer is replayed");
    assert_eq!(gateway.requests()[1].fate, Fate::Admitted);
    assert_eq!(executed(&sandbox), 1);
}

#[tokio::test]
async fn refused_connections_are_refused_by_the_system_until_the_rule_goes() {
    let (sandbox, gateway) = adyen().await;
    let mut idle = Client::connect(gateway.address()).await;
    idle.exchange(pay("order-1", None)).await;
    gateway.fault(next(Fault::Refuse { ms: None }));
    let mut byte = [0u8; 1];
    assert_eq!(
        soon(idle.stream.read(&mut byte)).await.unwrap(),
        0,
        "idle connections end"
    );
    soon(gateway.refusing()).await;
    let refused = TcpStream::connect(gateway.address()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    gateway.clear_faults();
    soon(async {
        while TcpStream::connect(gateway.address()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(once(gateway.address(), pay("order-2", None)).await.status(), 200);
    assert_eq!(executed(&sandbox), 2);
    gateway.fault(next(Fault::Refuse { ms: Some(30) }));
    soon(async {
        while TcpStream::connect(gateway.address()).await.is_err() || !gateway.faults().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_can_end_before_a_byte_is_read() {
    let (sandbox, gateway) = adyen().await;
    for (cut, end) in [(Cut::Fin, Ok(())), (Cut::Rst, Err(ErrorKind::ConnectionReset))] {
        gateway.fault(next(Fault::CutConnection { cut }));
        let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
        let got = soon(stream.read(&mut [0u8; 8])).await;
        assert_eq!(got.map(|read| assert_eq!(read, 0)).map_err(|error| error.kind()), end);
    }
    assert_eq!(executed(&sandbox), 0);
    assert!(gateway.requests().is_empty());
}

#[tokio::test]
async fn a_request_cut_at_any_byte_is_never_executed() {
    let (sandbox, gateway) = adyen().await;
    let request = pay("order-1", None);
    for cut in [Cut::Fin, Cut::Rst] {
        for byte in (0..=request.len() as u64).step_by(29).chain([request.len() as u64]) {
            gateway.forget_requests();
            gateway.fault(next(Fault::CutRequest { byte, cut }));
            let (got, end) = to_the_end(gateway.address(), request.as_bytes()).await;
            assert!(got.is_empty(), "no answer to a request cut at {byte}");
            match cut {
                Cut::Rst => assert!(matches!(end, Err(ErrorKind::ConnectionReset)), "{byte}: {end:?}"),
                _ => assert_eq!(end, Ok(()), "{byte}"),
            }
            soon(async {
                while byte > 0 && gateway.requests().is_empty() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            if byte > 0 {
                let seen = &gateway.requests()[0];
                assert_eq!((seen.fate, seen.bytes), (Fate::Partial, Some(byte)));
            }
        }
    }
    assert_eq!(executed(&sandbox), 0);
    gateway.fault(next(Fault::CutRequest {
        byte: request.len() as u64 + 1,
        cut: Cut::Rst,
    }));
    assert_eq!(
        once(gateway.address(), &request).await.status(),
        200,
        "a shorter request passes"
    );
}

#[tokio::test]
async fn a_cut_waits_for_its_path_and_hits_the_second_request_of_a_connection() {
    let (sandbox, gateway) = adyen().await;
    gateway.fault(Rule::once(
        Match::path("POST", "/v71/cancels"),
        Fault::CutRequest { byte: 5, cut: Cut::Fin },
    ));
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(client.exchange(pay("order-1", None)).await.status(), 200);
    client
        .send("POST /v71/cancels HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        .await;
    assert_eq!(soon(client.answer()).await, None);
    assert!(gateway.faults().is_empty());
    assert_eq!(executed(&sandbox), 1);
}

#[tokio::test]
async fn an_answer_cut_at_any_byte_was_executed_and_shows_exactly_that_many() {
    let (sandbox, gateway) = adyen().await;
    let (whole, _) = to_the_end(
        gateway.address(),
        pay("order-0", None)
            .replace("Host", "Connection: close\r\nHost")
            .as_bytes(),
    )
    .await;
    let mut payments = 1;
    for cut in [Cut::Fin, Cut::Rst] {
        for byte in (0..whole.len() as u64).step_by(41) {
            gateway.fault(next(Fault::CutAnswer {
                byte,
                cut,
                when: When::After,
            }));
            let (got, end) = to_the_end(gateway.address(), pay(&format!("order-{payments}"), None).as_bytes()).await;
            assert_eq!(got.len() as u64, byte);
            assert_eq!(end.is_err(), cut == Cut::Rst, "{byte}");
            payments += 1;
            assert_eq!(executed(&sandbox), payments);
        }
    }
    gateway.fault(next(Fault::CutAnswer {
        byte: 20,
        cut: Cut::Rst,
        when: When::Before,
    }));
    let (got, _) = to_the_end(gateway.address(), pay("order-x", None).as_bytes()).await;
    assert_eq!(got.len(), 20);
    assert_eq!(executed(&sandbox), payments, "before: not executed");
}

#[tokio::test]
async fn a_stalled_answer_stops_at_its_byte_and_the_connection_stays() {
    let (sandbox, gateway) = adyen().await;
    gateway.fault(next(Fault::CutAnswer {
        byte: 12,
        cut: Cut::Stall,
        when: When::After,
    }));
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(pay("order-1", None).as_bytes()).await.unwrap();
    let mut got = [0u8; 12];
    soon(stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"HTTP/1.1 200");
    let more = tokio::time::timeout(Duration::from_millis(150), stream.read(&mut got)).await;
    assert!(more.is_err(), "neither bytes nor an end");
    assert_eq!(executed(&sandbox), 1);
}

#[tokio::test]
async fn what_arrives_late_is_executed_although_nobody_waits() {
    let (sandbox, gateway) = adyen().await;
    gateway.fault(next(Fault::DelayArrival { ms: Some(2000) }));
    let mut client = Client::connect(gateway.address()).await;
    client.send(pay("order-1", Some("k1"))).await;
    gateway.received(1).await;
    drop(client);
    assert_eq!(executed(&sandbox), 0, "not yet");
    soon(gateway.quiet()).await;
    assert_eq!(executed(&sandbox), 1, "late, but executed");
}

#[tokio::test]
async fn a_held_request_keeps_its_key_in_use() {
    let (sandbox, gateway) = adyen().await;
    gateway.fault(next(Fault::DelayExecution { ms: Some(2000) }));
    let mut first = Client::connect(gateway.address()).await;
    first.send(pay("order-1", Some("k1"))).await;
    gateway.received(1).await;
    let twin = once(gateway.address(), pay("order-1", Some("k1"))).await;
    assert_eq!(twin.status(), 422, "the key is in use");
    assert_eq!(soon(first.answer()).await.unwrap().status(), 200);
    assert_eq!(executed(&sandbox), 1);
}

#[tokio::test]
async fn a_late_answer_belongs_to_an_execution_that_is_over() {
    let (sandbox, gateway) = adyen().await;
    gateway.fault(next(Fault::DelayAnswer { ms: Some(2000) }));
    let mut client = Client::connect(gateway.address()).await;
    client.send(pay("order-1", None)).await;
    soon(async {
        while executed(&sandbox) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let early = tokio::time::timeout(Duration::from_millis(20), client.answer()).await;
    assert!(early.is_err(), "executed, and not answered yet");
    // The reader keeps what it has; the answer is whole afterwards.
    assert_eq!(soon(client.answer()).await.unwrap().status(), 200);
    gateway.fault(next(Fault::DelayArrival { ms: None }));
    client.send(pay("order-2", None)).await;
    let never = tokio::time::timeout(Duration::from_millis(100), client.answer()).await;
    assert!(never.is_err(), "read, and never answered");
    assert_eq!(executed(&sandbox), 1);
}

#[tokio::test]
async fn the_gateways_own_errors_come_before_or_after_execution() {
    let (sandbox, gateway) = adyen().await;
    let native = |error, when| Fault::Native {
        error,
        when,
        retry_after: Some(3),
        stored: false,
    };
    gateway.fault(next(native(NativeError::Internal, When::Before)));
    let answer = once(gateway.address(), pay("order-1", None)).await;
    assert_eq!((answer.status(), executed(&sandbox)), (500, 0));
    assert_eq!(answer.header("retry-after"), Some("3"));
    assert_eq!(gateway.requests()[0].fate, Fate::Faulted);
    gateway.fault(next(native(NativeError::Internal, When::After)));
    assert_eq!(once(gateway.address(), pay("order-2", None)).await.status(), 500);
    assert_eq!(executed(&sandbox), 1);
    gateway.fault(next(native(NativeError::RateLimit, When::Before)));
    assert_eq!(once(gateway.address(), pay("order-3", None)).await.status(), 429);
    assert_eq!(executed(&sandbox), 1);
}

#[tokio::test]
async fn foreign_truncated_and_wrong_answers() {
    let (sandbox, gateway) = adyen().await;
    let foreign = |when| Fault::Foreign {
        status: 502,
        when,
        body: None,
        content_type: None,
        location: None,
    };
    gateway.fault(next(foreign(When::Before)));
    let page = once(gateway.address(), pay("order-1", None)).await;
    assert_eq!((page.status(), page.header("content-type")), (502, Some("text/html")));
    assert!(page.text().starts_with("<!DOCTYPE html>"));
    assert_eq!(executed(&sandbox), 0);
    gateway.fault(next(foreign(When::After)));
    assert_eq!(once(gateway.address(), pay("order-1", None)).await.status(), 502);
    assert_eq!(executed(&sandbox), 1);

    gateway.fault(next(Fault::TruncateBody { bytes: 30 }));
    let short = once(gateway.address(), pay("order-2", None)).await;
    assert_eq!(
        (short.status(), short.body.len(), short.header("content-length")),
        (200, 30, Some("30"))
    );

    gateway.fault(next(Fault::Patch {
        pointer: "/amount/value".to_owned(),
        value: json!(1),
    }));
    gateway.fault(next(Fault::Replace {
        from: "order-4".to_owned(),
        to: "order-9".to_owned(),
    }));
    gateway.fault(next(Fault::Header {
        name: "content-type".to_owned(),
        value: None,
    }));
    let wrong = once(gateway.address(), pay("order-3", None)).await;
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&wrong.body).unwrap()["amount"]["value"],
        1
    );
    assert!(
        once(gateway.address(), pay("order-4", None))
            .await
            .text()
            .contains("order-9")
    );
    assert_eq!(
        once(gateway.address(), pay("order-5", None))
            .await
            .header("content-type"),
        None
    );
    let audit = sandbox.books().audit();
    assert!(
        audit.clean() && audit.positions.iter().all(|position| position.held == 1000),
        "the books know better"
    );
}

#[tokio::test]
async fn a_dripping_body_comes_whole_and_a_goodbye_ends_the_connection() {
    let (sandbox, gateway) = adyen().await;
    gateway.fault(next(Fault::Drip { bytes: 50, every_ms: 2 }));
    let mut client = Client::connect(gateway.address()).await;
    let dripped = soon(client.exchange(pay("order-1", None))).await;
    assert_eq!(dripped.status(), 200);
    assert!(dripped.text().ends_with('}'));
    gateway.fault(next(Fault::GoAway));
    let last = client.exchange(pay("order-2", None)).await;
    assert_eq!((last.status(), last.header("connection")), (200, Some("close")));
    assert_eq!(soon(client.stream.read(&mut [0u8; 1])).await.unwrap(), 0);
    assert_eq!(executed(&sandbox), 2);
}

#[tokio::test]
async fn added_latency_and_chance_are_applied_to_every_request() {
    let (sandbox, gateway) = adyen().await;
    gateway.set("latency_ms", "60").unwrap();
    let started = tokio::time::Instant::now();
    once(gateway.address(), pay("order-0", None)).await;
    assert!(started.elapsed() >= Duration::from_millis(60));
    gateway.set_latency(Duration::ZERO);
    gateway.fault("500,percent=50,times=all".parse().unwrap());
    // Of 400 half of them, give or take seven standard deviations: outside once in 10^11 times.
    let mut failed = 0;
    for number in 1..=400 {
        failed += usize::from(
            once(gateway.address(), pay(&format!("order-{number}"), None))
                .await
                .status()
                == 500,
        );
    }
    assert!((130..=270).contains(&failed), "{failed} of 400");
    assert_eq!(executed(&sandbox), 401 - failed);
}
