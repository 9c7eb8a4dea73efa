//! Square's Payments and Refunds APIs of 2025-08-20.

use std::cell::RefCell;

use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sentinel::config::model::Dialect;
use sentinel::gateway::canonical::*;
use sentinel::gateway::outcome::Outcome;
use sentinel::gateway::square::Square;
use sentinel::gateway::{Account, Gateway, Incoming, Leg, Outgoing, OwnError};
use sentinel::money::{Amount, Currency};
use sentinel::sandbox::{self, Simulator};
use serde_json::{Value, json};

use super::{Spec, arbitrary};

const TOKEN: &str = "CUST1/ccof:customer-card-id-ok";

fn spec() -> Option<Spec> {
    Spec::load("square-2025-08-20.trimmed.json")
}

fn account() -> Account {
    Account {
        reference: "0197a3c0-6d1f-7000-8000-000000000001".to_owned(),
        ..arbitrary::account(&[("access_token", "sandbox"), ("location_id", "L88917AVBK2S5")])
    }
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    })
}

/// A payment in a currency that Square takes, with a token of its vault.
fn pay() -> impl Strategy<Value = Pay> {
    (arbitrary::pay(TOKEN), arbitrary::amount(Dialect::Square)).prop_map(|(pay, amount)| Pay {
        amount: Some(amount),
        instrument: Some(Instrument::Token(TOKEN.to_owned())),
        three_ds: None,
        ..pay
    })
}

/// The schemas of a request and of its answer.
fn schemas(method: &Method, path: &str) -> (Option<&'static str>, &'static str) {
    let path = path.split('?').next().unwrap_or_default();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method.as_str(), segments.as_slice()) {
        ("POST", ["v2", "payments"]) => (Some("CreatePaymentRequest"), "CreatePaymentResponse"),
        ("POST", ["v2", "payments", "cancel"]) => (
            Some("CancelPaymentByIdempotencyKeyRequest"),
            "CancelPaymentByIdempotencyKeyResponse",
        ),
        ("POST", ["v2", "payments", _, "complete"]) => (Some("CompletePaymentRequest"), "CompletePaymentResponse"),
        ("POST", ["v2", "payments", _, "cancel"]) => (None, "CancelPaymentResponse"),
        ("PUT", ["v2", "payments", _]) => (Some("UpdatePaymentRequest"), "UpdatePaymentResponse"),
        ("GET", ["v2", "payments", _]) => (None, "GetPaymentResponse"),
        ("GET", ["v2", "payments"]) => (None, "ListPaymentsResponse"),
        ("POST", ["v2", "refunds"]) => (Some("RefundPaymentRequest"), "RefundPaymentResponse"),
        ("GET", ["v2", "refunds", _]) => (None, "GetPaymentRefundResponse"),
        other => panic!("{other:?}"),
    }
}

/// Square refuses fields that its schema does not name, which a schema without `additionalProperties` does not say.
fn check(spec: &mut Spec, schema: &str, document: &Value) {
    spec.check(schema, document);
    let known = spec.components["schemas"][schema]["properties"].clone();
    for field in document.as_object().expect("an object").keys() {
        assert!(known.get(field).is_some(), "{schema} has no {field}");
    }
}

fn check_request(spec: &mut Spec, outgoing: &Outgoing) {
    let body: Value = match outgoing.body.is_empty() {
        true => json!({}),
        false => serde_json::from_slice(&outgoing.body).expect("JSON"),
    };
    match schemas(&outgoing.method, &outgoing.target).0 {
        Some(schema) => check(spec, schema, &body),
        None => assert_eq!(body, json!({})),
    }
}

fn target(amount: Amount) -> Target {
    Target {
        payment: Some("1QjqpBVyrI9S4H9sTGDWU9JeiWdZY".to_owned()),
        amount: Some(amount),
        ..Target::default()
    }
}

#[test]
fn every_request_that_is_written_validates_and_keeps_its_amount() {
    let Some(spec) = spec() else { return };
    let (spec, written) = (RefCell::new(spec), RefCell::new(0));
    runner(256)
        .run(&pay(), |pay| {
            let amount = pay.amount.expect("an amount");
            let less = Amount {
                units: (amount.units / 2).max(1),
                ..amount
            };
            let capture = |amount| Request::Capture {
                target: target(Amount {
                    units: less.units + 1,
                    ..less
                }),
                amount,
                units: None,
                last: true,
            };
            let refund = Request::Refund {
                target: target(amount),
                amount: Some(amount),
                units: None,
                reason: pay.description.clone(),
                reference: None,
                metadata: pay.metadata.clone(),
            };
            let void = Request::Void {
                target: target(amount),
                reason: None,
            };
            let lowering = Square.before(&capture(Some(less)), &account());
            if let Ok(Some(outgoing)) = &lowering {
                check_request(&mut spec.borrow_mut(), outgoing);
            }
            for request in [Request::Pay(Box::new(pay)), capture(None), void, refund] {
                let Ok(outgoing) = Square.encode(&request, &account()) else {
                    continue;
                };
                check_request(&mut spec.borrow_mut(), &outgoing);
                let body: Value = serde_json::from_slice(&outgoing.body).expect("JSON");
                if let Some(sent) = body.get("amount_money") {
                    let code = sent["currency"].as_str().expect("a code");
                    prop_assert_eq!(Amount::json_minor(Dialect::Square, &sent["amount"], code), Ok(amount));
                }
                *written.borrow_mut() += 1;
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(*written.borrow() > 900, "{} written", written.borrow());
    let earlier = EarlierAttempt {
        idempotency_key: Some("key-1".to_owned()),
        ..EarlierAttempt::default()
    };
    let fence = Square.fence(&earlier, &account()).expect("a fence");
    check_request(&mut spec.borrow_mut(), &fence);
}

#[test]
fn every_currency_is_written_as_square_counts_it_or_refused() {
    let mut taken = Vec::new();
    for currency in Currency::all() {
        for dialect in [
            Dialect::Stripe,
            Dialect::Paypal,
            Dialect::Adyen,
            Dialect::Razorpay,
            Dialect::Square,
        ] {
            let Ok(amount) = Amount::from_minor(dialect, 12_300, currency.code()) else {
                continue;
            };
            let request = Request::Refund {
                target: target(amount),
                amount: Some(amount),
                units: None,
                reason: None,
                reference: None,
                metadata: indexmap::IndexMap::new(),
            };
            match Square.encode(&request, &account()) {
                Ok(outgoing) => {
                    let body: Value = serde_json::from_slice(&outgoing.body).expect("JSON");
                    let value = body["amount_money"]["amount"].as_i64().expect("an integer");
                    assert_eq!(Amount::from_minor(Dialect::Square, value, currency.code()), Ok(amount));
                    taken.push(currency.code().to_owned());
                }
                Err(Refusal::Currency(_) | Refusal::Amount(_)) => {}
                Err(other) => panic!("{currency}: {other}"),
            }
        }
    }
    taken.dedup();
    assert_eq!(taken, ["AUD", "CAD", "EUR", "GBP", "JPY", "USD"]);
}

#[test]
fn every_answer_that_is_minted_validates() {
    let Some(spec) = spec() else { return };
    let spec = RefCell::new(spec);
    let view = arbitrary::view(Dialect::Square);
    runner(256)
        .run(&(view, arbitrary::decline()), |(view, decline)| {
            let value = view.amount.to_minor(Dialect::Square).expect("Square's own amount");
            let refund = RefundView {
                id: Square.mint(ObjectKind::Refund, &[7; 16]),
                amount: view.amount,
                status: RefundStatus::Pending,
                created: view.created,
                reason: Some("late".to_owned()),
                reference: None,
                metadata: indexmap::IndexMap::new(),
            };
            let boxed = || Box::new(view.clone());
            let doubt = |running, view| Answer::InDoubt {
                payment: "p".to_owned(),
                running,
                view,
            };
            let answers = [
                (Method::POST, "/v2/payments", Answer::Payment(Operation::Sale, boxed())),
                (Method::POST, "/v2/payments", Answer::Declined(boxed(), decline)),
                (
                    Method::POST,
                    "/v2/payments/X/complete",
                    Answer::Payment(Operation::Capture, boxed()),
                ),
                (
                    Method::POST,
                    "/v2/payments/X/cancel",
                    Answer::Payment(Operation::Void, boxed()),
                ),
                (
                    Method::POST,
                    "/v2/payments/cancel",
                    Answer::Payment(Operation::Void, boxed()),
                ),
                (
                    Method::GET,
                    "/v2/payments/X",
                    Answer::Payment(Operation::Retrieve, boxed()),
                ),
                (Method::POST, "/v2/refunds", Answer::Refund(boxed(), refund.clone())),
                (Method::GET, "/v2/refunds/X", Answer::Refund(boxed(), refund)),
                (Method::GET, "/v2/payments", Answer::List(vec![view.clone()])),
                (Method::GET, "/v2/payments", Answer::List(Vec::new())),
                (Method::POST, "/v2/payments", doubt(true, None)),
                (Method::POST, "/v2/payments", doubt(false, None)),
                (Method::POST, "/v2/payments", doubt(false, Some(boxed()))),
            ];
            for (method, path, answer) in answers {
                let reply = Square.render(&answer, &arbitrary::head(path, false), b"");
                let body: Value = serde_json::from_slice(reply.body()).expect("JSON");
                check(&mut spec.borrow_mut(), schemas(&method, path).1, &body);
                if let Some(shown) = body.get("payment") {
                    check(&mut spec.borrow_mut(), "Payment", shown);
                    prop_assert_eq!(shown["amount_money"]["amount"].as_i64(), Some(value));
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    for status in [400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 504] {
        let error = OwnError {
            status: StatusCode::from_u16(status).expect("a status"),
            code: "circuit_open",
            message: "The gateway is down.".to_owned(),
            retry: false,
        };
        let reply = Square.render_error(&error, &arbitrary::head("/v2/payments", false));
        let body: Value = serde_json::from_slice(reply.body()).expect("JSON");
        check(&mut spec.borrow_mut(), "CreatePaymentResponse", &body);
    }
}

/// The simulator with its books: what it is sent and what it answers is checked.
struct Bench {
    spec: RefCell<Spec>,
    simulator: RefCell<sandbox::square::Square>,
}

impl Bench {
    fn call(&self, outgoing: &Outgoing) -> (Incoming, sandbox::Turn) {
        check_request(&mut self.spec.borrow_mut(), outgoing);
        let (path, query) = outgoing.target.split_once('?').unwrap_or((&outgoing.target, ""));
        let request = sandbox::Request {
            method: outgoing.method.clone(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: outgoing.headers.clone(),
            body: outgoing.body.clone(),
            base: String::new(),
        };
        let now = 1_795_000_000;
        let mut simulator = self.simulator.borrow_mut();
        let (answer, turn) = match simulator.admit(now, &request) {
            Err(answer) => (*answer, sandbox::Turn::default()),
            Ok(()) => simulator.execute(now, &request),
        };
        let body: Value = serde_json::from_slice(answer.body()).expect("JSON");
        let schema = schemas(&outgoing.method, &outgoing.target).1;
        check(&mut self.spec.borrow_mut(), schema, &body);
        let incoming = Incoming {
            status: answer.status(),
            headers: HeaderMap::new(),
            body: answer.body().clone(),
        };
        (incoming, turn)
    }
}

/// The simulator takes what Sentinel writes, answers as the spec says, and Sentinel reads what it did.
#[test]
fn the_simulator_answers_within_the_spec_and_is_understood() {
    let Some(spec) = spec() else { return };
    let bench = Bench {
        spec: RefCell::new(spec),
        simulator: RefCell::new(sandbox::square::Square::default()),
    };
    let (paid, counter) = (RefCell::new(0), RefCell::new(0_u32));
    let source = proptest::sample::select(vec![
        TOKEN,
        TOKEN,
        "cnon:card-nonce-ok",
        "cnon:card-nonce-declined",
        "cnon:card-nonce-rejected-cvv",
        "cnon:card-nonce-already-used",
        "CUST1/ccof:customer-card-id-requires-verification",
        "cnon:no-such-source",
    ]);
    runner(256)
        .run(&(pay(), source), |(mut pay, source)| {
            let currency = pay.amount.expect("an amount").currency;
            let set = bench.simulator.borrow_mut().set("currency", currency.code());
            prop_assert!(set.is_ok());
            pay.instrument = Some(Instrument::Token(source.to_owned()));
            *counter.borrow_mut() += 1;
            let number = *counter.borrow();
            let account = Account {
                idempotency_key: format!("key-{number}"),
                reference: format!("snt-{number}"),
                ..account()
            };
            let leg = match pay.capture {
                CaptureMode::Manual => Leg::Auth,
                CaptureMode::Automatic => Leg::Charge,
            };
            let amount = pay.amount.expect("an amount");
            let request = Request::Pay(Box::new(pay));
            let Ok(outgoing) = Square.encode(&request, &account) else {
                return Ok(());
            };
            let (answer, turn) = bench.call(&outgoing);
            let seen = Square.observe(leg, Some(&request), Some(&account.reference), &answer);
            let live = !turn.effects.is_empty();
            if !matches!(seen.outcome, Outcome::Succeeded | Outcome::Authorised) {
                prop_assert!(!live, "{:?} although money moved", seen);
                return Ok(());
            }
            prop_assert!(live);
            prop_assert_eq!(seen.amount, Some(amount));
            *paid.borrow_mut() += 1;
            let target = Target {
                payment: seen.payment_id.clone(),
                ..target(amount)
            };
            if leg == Leg::Auth && number.is_multiple_of(3) {
                let void = Request::Void { target, reason: None };
                let outgoing = Square.encode(&void, &account).expect("a void");
                let (answer, turn) = bench.call(&outgoing);
                let seen = Square.observe(Leg::Void, Some(&void), Some(&account.reference), &answer);
                prop_assert_eq!(seen.outcome, Outcome::Succeeded);
                prop_assert_eq!(turn.effects.len(), 1);
                return Ok(());
            }
            let mut taken = amount;
            if leg == Leg::Auth {
                if number.is_multiple_of(2) && amount.units > 1_000 {
                    taken.units = amount.units / 1_000 * 500;
                }
                let capture = Request::Capture {
                    target: target.clone(),
                    amount: Some(taken),
                    units: None,
                    last: true,
                };
                let mut account = account.clone();
                if let Ok(Some(before)) = Square.before(&capture, &account) {
                    let (answer, _) = bench.call(&before);
                    prop_assert!(Square.prepared(&capture, &mut account, &answer).is_ok());
                }
                let outgoing = match Square.encode(&capture, &account) {
                    Ok(outgoing) => outgoing,
                    // Half of it has no exact form in this currency.
                    Err(_) => return Ok(()),
                };
                let (answer, _) = bench.call(&outgoing);
                let seen = Square.observe(Leg::Capture, Some(&capture), None, &answer);
                prop_assert_eq!(seen.outcome, Outcome::Succeeded);
                prop_assert_eq!(seen.amount, Some(taken));
            }
            let refund = Request::Refund {
                target: Target {
                    amount: Some(taken),
                    ..target
                },
                amount: None,
                units: None,
                reason: None,
                reference: None,
                metadata: indexmap::IndexMap::new(),
            };
            let outgoing = Square.encode(&refund, &account).expect("a refund");
            let (answer, _) = bench.call(&outgoing);
            let seen = Square.observe(Leg::Refund, Some(&refund), None, &answer);
            prop_assert!(seen.pending);
            prop_assert_eq!(seen.amount, Some(taken));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    // Two of five are, so that fewer are once in 10^16 times.
    assert!(*paid.borrow() > 40, "{} paid", paid.borrow());
}
