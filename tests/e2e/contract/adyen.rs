//! Adyen's Checkout v71.

use std::cell::RefCell;

use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sentinel::config::model::Dialect;
use sentinel::gateway::adyen::Adyen;
use sentinel::gateway::canonical::*;
use sentinel::gateway::{Account, Gateway, OwnError, Reply};
use sentinel::money::{Amount, Currency};
use sentinel::sandbox::{self, Simulator};
use serde_json::{Value, json};

use super::{Spec, arbitrary};

fn spec() -> Option<Spec> {
    Spec::load("adyen-CheckoutService-v71.json")
}

fn account() -> Account {
    arbitrary::account(&[("api_key", "key"), ("merchant_account", "AcmeECOM")])
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    })
}

/// The schema of a request to, and of an answer from, a path.
fn schemas(path: &str) -> (&'static str, &'static str) {
    match path.rsplit('/').next() {
        Some("payments") => ("PaymentRequest", "PaymentResponse"),
        Some("captures") => ("PaymentCaptureRequest", "PaymentCaptureResponse"),
        Some("refunds") => ("PaymentRefundRequest", "PaymentRefundResponse"),
        Some("cancels") if path.contains("/payments/") => ("PaymentCancelRequest", "PaymentCancelResponse"),
        Some("cancels") => ("StandalonePaymentCancelRequest", "StandalonePaymentCancelResponse"),
        Some("details") => ("PaymentDetailsRequest", "PaymentDetailsResponse"),
        Some("paymentMethods") => ("PaymentMethodsRequest", "PaymentMethodsResponse"),
        other => panic!("{other:?}"),
    }
}

fn check_answer(spec: &mut Spec, path: &str, status: StatusCode, body: &[u8]) {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let schema = if status.is_success() {
        schemas(path).1
    } else {
        "ServiceError"
    };
    spec.check(schema, &body);
}

fn check_reply(spec: &mut Spec, path: &str, reply: &Reply) {
    check_answer(spec, path, reply.status(), reply.body());
}

fn target(amount: Amount) -> Target {
    Target {
        payment: Some("993617894903480A".to_owned()),
        amount: Some(amount),
        ..Target::default()
    }
}

#[test]
fn every_request_that_is_written_validates_and_keeps_its_amount() {
    let Some(spec) = spec() else { return };
    let (spec, written) = (RefCell::new(spec), RefCell::new(0));
    let strategy = arbitrary::pay("shopper-9/M5N7TQ4TG5PFWR50");
    runner(256)
        .run(&strategy, |pay| {
            let amount = pay.amount.expect("an amount");
            let requests = [
                Request::Capture {
                    target: target(amount),
                    amount: None,
                    units: None,
                    last: true,
                },
                Request::Void {
                    target: target(amount),
                    reason: None,
                },
                Request::Refund {
                    target: target(amount),
                    amount: Some(amount),
                    units: None,
                    reason: Some("duplicate".to_owned()),
                    reference: None,
                    metadata: pay.metadata.clone(),
                },
                Request::Pay(Box::new(pay)),
            ];
            for request in requests {
                let Ok(outgoing) = Adyen.encode(&request, &account()) else {
                    continue;
                };
                let body: Value = serde_json::from_slice(&outgoing.body).expect("JSON");
                spec.borrow_mut().check(schemas(&outgoing.target).0, &body);
                if let Some(sent) = body.get("amount") {
                    let read =
                        Amount::json_minor(Dialect::Adyen, &sent["value"], sent["currency"].as_str().expect("code"));
                    prop_assert_eq!(read, Ok(amount));
                }
                *written.borrow_mut() += 1;
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(
        *written.borrow() > 500,
        "refusals are the exception: {} written",
        written.borrow()
    );
    let earlier = EarlierAttempt {
        reference: Some("snt-1".to_owned()),
        ..EarlierAttempt::default()
    };
    for outgoing in [Adyen.fence(&earlier, &account()), Adyen.probe(&account())]
        .into_iter()
        .flatten()
    {
        let body: Value = serde_json::from_slice(&outgoing.body).expect("JSON");
        spec.borrow_mut().check(schemas(&outgoing.target).0, &body);
    }
}

#[test]
fn every_currency_is_written_as_adyen_counts_it_or_refused() {
    let mut refused = Vec::new();
    for currency in Currency::all() {
        for dialect in [Dialect::Stripe, Dialect::Paypal, Dialect::Adyen] {
            let Ok(amount) = Amount::from_minor(dialect, 12_300, currency.code()) else {
                continue;
            };
            let request = Request::Capture {
                target: target(amount),
                amount: Some(amount),
                units: None,
                last: true,
            };
            match Adyen.encode(&request, &account()) {
                Ok(outgoing) => {
                    let body: Value = serde_json::from_slice(&outgoing.body).expect("JSON");
                    let value = body["amount"]["value"].as_i64().expect("an integer");
                    assert_eq!(Amount::from_minor(Dialect::Adyen, value, currency.code()), Ok(amount));
                }
                Err(Refusal::Currency(_) | Refusal::Amount(_)) => refused.push(currency.code().to_owned()),
                Err(other) => panic!("{currency}: {other}"),
            }
        }
    }
    assert!(refused.contains(&"MGA".to_owned()) && !refused.contains(&"EUR".to_owned()));
}

#[test]
fn every_answer_that_is_minted_validates() {
    let Some(spec) = spec() else { return };
    let spec = RefCell::new(spec);
    runner(256)
        .run(
            &(arbitrary::view(Dialect::Adyen), arbitrary::decline()),
            |(view, decline)| {
                let value = view.amount.to_minor(Dialect::Adyen).expect("Adyen's own amount");
                let asked = json!({"merchantAccount": "AcmeECOM", "reference": "r-1", "paymentMethod": {},
                "amount": {"currency": view.amount.currency.code(), "value": value}});
                let refund = RefundView {
                    id: "REFUND0000000001".to_owned(),
                    amount: view.amount,
                    status: RefundStatus::Pending,
                    created: 0,
                    reason: None,
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
                    ("/v71/payments", Answer::Payment(Operation::Sale, boxed())),
                    ("/v71/payments", Answer::Payment(Operation::Authorize, boxed())),
                    ("/v71/payments/details", Answer::Payment(Operation::Confirm, boxed())),
                    ("/v71/payments", Answer::Declined(boxed(), decline)),
                    ("/v71/payments/X/captures", Answer::Payment(Operation::Capture, boxed())),
                    ("/v71/payments/X/cancels", Answer::Payment(Operation::Void, boxed())),
                    ("/v71/payments/X/refunds", Answer::Refund(boxed(), refund)),
                    ("/v71/payments", doubt(true, None)),
                    ("/v71/payments", doubt(false, None)),
                    ("/v71/payments", doubt(false, Some(boxed()))),
                    ("/v71/payments", Answer::List(Vec::new())),
                ];
                for (path, answer) in answers {
                    let reply = Adyen.render(&answer, &arbitrary::head(path, false), asked.to_string().as_bytes());
                    check_reply(&mut spec.borrow_mut(), path, &reply);
                    let body: Value = serde_json::from_slice(reply.body()).expect("JSON");
                    if let Some(told) = body.get("amount") {
                        prop_assert_eq!(told["value"].as_i64(), Some(value));
                    }
                }
                let cancel = json!({"merchantAccount": "AcmeECOM", "paymentReference": "order-1"}).to_string();
                let answer = Answer::Payment(Operation::Void, boxed());
                let reply = Adyen.render(&answer, &arbitrary::head("/v71/cancels", false), cancel.as_bytes());
                check_reply(&mut spec.borrow_mut(), "/v71/cancels", &reply);
                Ok(())
            },
        )
        .unwrap_or_else(|error| panic!("{error}"));
    for status in [400, 401, 403, 404, 409, 422, 429, 500, 503] {
        let error = OwnError {
            status: StatusCode::from_u16(status).expect("a status"),
            code: "circuit_open",
            message: "The gateway is down.".to_owned(),
            retry: true,
        };
        let reply = Adyen.render_error(&error, &arbitrary::head("/v71/payments", false));
        check_reply(&mut spec.borrow_mut(), "/v71/payments", &reply);
    }
}

/// The simulator takes what Sentinel writes, answers as the spec says, and Sentinel reads what it did.
#[test]
fn the_simulator_answers_within_the_spec_and_is_understood() {
    let Some(spec) = spec() else { return };
    let spec = RefCell::new(spec);
    let simulator = RefCell::new(sandbox::adyen::Adyen::default());
    simulator.borrow_mut().set("api_key", "key").expect("a setting");
    let call = |path: &str, headers: &HeaderMap, body: &[u8]| {
        let request = sandbox::Request {
            method: Method::POST,
            path: path.to_owned(),
            query: String::new(),
            headers: headers.clone(),
            body: bytes::Bytes::copy_from_slice(body),
            base: "http://127.0.0.1:1".to_owned(),
        };
        let mut simulator = simulator.borrow_mut();
        let (answer, turn) = match simulator.admit(1_795_000_000, &request) {
            Err(answer) => (*answer, sandbox::Turn::default()),
            Ok(()) => simulator.execute(1_795_000_000, &request),
        };
        check_answer(&mut spec.borrow_mut(), path, answer.status(), answer.body());
        (answer, turn)
    };
    let paid = RefCell::new(0);
    let counter = RefCell::new(0_u32);
    let holder = proptest::sample::select(vec!["J. Smith", "DECLINED", "ERROR", "PENDING", "FRAUD", "CANCELLED"]);
    runner(256)
        .run(
            &(arbitrary::pay("shopper-9/M5N7TQ4TG5PFWR50"), holder),
            |(mut pay, holder)| {
                if let Some(Instrument::Card(card)) = &mut pay.instrument {
                    card.holder = Some(holder.to_owned());
                }
                *counter.borrow_mut() += 1;
                let number = *counter.borrow();
                let account = Account {
                    idempotency_key: format!("key-{number}"),
                    reference: format!("snt-{number}"),
                    ..account()
                };
                let leg = match pay.capture {
                    CaptureMode::Manual => sentinel::gateway::Leg::Auth,
                    CaptureMode::Automatic => sentinel::gateway::Leg::Charge,
                };
                let amount = pay.amount.expect("an amount");
                let request = Request::Pay(Box::new(pay));
                let Ok(outgoing) = Adyen.encode(&request, &account) else {
                    return Ok(());
                };
                let (answer, turn) = call(&outgoing.target, &outgoing.headers, &outgoing.body);
                let incoming = sentinel::gateway::Incoming {
                    status: answer.status(),
                    headers: answer.headers().clone(),
                    body: answer.body().clone(),
                };
                let seen = Adyen.observe(leg, Some(&request), Some(&account.reference), &incoming);
                use sentinel::gateway::outcome::Outcome;
                let live = !turn.effects.is_empty();
                match seen.outcome {
                    Outcome::Succeeded | Outcome::Authorised => {
                        prop_assert!(live);
                        prop_assert_eq!(seen.amount, Some(amount));
                        *paid.borrow_mut() += 1;
                        let target = Target {
                            payment: seen.payment_id.clone(),
                            ..target(amount)
                        };
                        for (step, request) in [
                            Request::Capture {
                                target: target.clone(),
                                amount: Some(amount),
                                units: None,
                                last: true,
                            },
                            Request::Void {
                                target: target.clone(),
                                reason: None,
                            },
                            Request::Refund {
                                target: target.clone(),
                                amount: Some(amount),
                                units: None,
                                reason: None,
                                reference: None,
                                metadata: indexmap::IndexMap::new(),
                            },
                        ]
                        .iter()
                        .enumerate()
                        {
                            let account = Account {
                                idempotency_key: format!("key-{number}-{step}"),
                                ..account.clone()
                            };
                            let outgoing = Adyen.encode(request, &account).expect("a follow-up");
                            let (answer, _) = call(&outgoing.target, &outgoing.headers, &outgoing.body);
                            prop_assert_eq!(answer.status(), StatusCode::CREATED);
                        }
                    }
                    Outcome::Unknown => {}
                    other => prop_assert!(!live, "{:?} although money moved", other),
                }
                Ok(())
            },
        )
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(*paid.borrow() > 40, "{} paid", paid.borrow());
}
