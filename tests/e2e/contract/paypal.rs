//! PayPal's Orders v2 and Payments v2.

use std::cell::RefCell;

use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sentinel::config::model::Dialect;
use sentinel::gateway::canonical::*;
use sentinel::gateway::outcome::Outcome;
use sentinel::gateway::paypal::Paypal;
use sentinel::gateway::{AccessToken, Account, Auth, Gateway, Incoming, Leg, OwnError};
use sentinel::money::{Amount, Currency};
use sentinel::sandbox::{self, Simulator};
use serde_json::Value;

use super::{Spec, arbitrary};

struct Specs {
    orders: Spec,
    payments: Spec,
}

fn specs() -> Option<Specs> {
    Some(Specs {
        orders: Spec::load("paypal-checkout_orders_v2.json")?,
        payments: Spec::load("paypal-payments_payment_v2.json")?,
    })
}

impl Specs {
    fn request(&mut self, path: &str, body: &Value) {
        match path.rsplit('/').next() {
            Some("orders") => self.orders.check("order_request", body),
            Some("capture") if path.contains("/authorizations/") => self.payments.check("capture_request", body),
            Some("refund") => self.payments.check("refund_request", body),
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, path: &str, status: StatusCode, body: &[u8]) {
        if status == StatusCode::NO_CONTENT {
            assert!(body.is_empty());
            return;
        }
        let body: Value = serde_json::from_slice(body).expect("JSON");
        let payments = path.starts_with("/v2/payments/");
        let spec = if payments { &mut self.payments } else { &mut self.orders };
        if !status.is_success() {
            let schema = format!("error_{}", status.as_u16());
            if spec.components["schemas"].get(&schema).is_some() {
                spec.check(&schema, &body);
            } else {
                // The files know no 429; its details have the shape of every error's.
                for detail in body["details"].as_array().expect("details") {
                    spec.check("error_details", detail);
                }
            }
            return;
        }
        let schema = match path.split('/').nth(3) {
            Some("authorizations") if path.ends_with("/capture") => "capture-2",
            Some("authorizations") => "authorization-2",
            Some("captures") if path.ends_with("/refund") => "refund",
            Some("captures") => "capture-2",
            Some("refunds") => "refund",
            _ => "order",
        };
        spec.check(schema, &body);
    }
}

fn account() -> Account {
    arbitrary::account(&[("client_id", "client"), ("client_secret", "secret")])
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    })
}

fn target(amount: Amount) -> Target {
    Target {
        payment: Some("5O190127TN364715T".to_owned()),
        charge: Some("3C679366HH908993F".to_owned()),
        authorization: Some("0VF52814937998046".to_owned()),
        amount: Some(amount),
        ..Target::default()
    }
}

fn sent_amount(body: &Value) -> Option<Amount> {
    let sent = body
        .get("amount")
        .or_else(|| body.pointer("/purchase_units/0/amount"))?;
    let (value, code) = (sent["value"].as_str()?, sent["currency_code"].as_str()?);
    Amount::from_decimal(Dialect::Paypal, value, code).ok()
}

#[test]
fn every_request_that_is_written_validates_and_keeps_its_amount() {
    let Some(specs) = specs() else { return };
    let (specs, written) = (RefCell::new(specs), RefCell::new(0));
    runner(256)
        .run(&arbitrary::pay("7mw83610fy178514u"), |mut pay| {
            let amount = pay.amount.expect("an amount");
            // PayPal takes no such result at all; refusing it is tested elsewhere.
            pay.three_ds = None;
            let requests = [
                Request::Capture {
                    target: target(amount),
                    amount: Some(amount),
                    units: None,
                    last: true,
                },
                Request::Refund {
                    target: target(amount),
                    amount: None,
                    units: None,
                    reason: Some("returned".to_owned()),
                    reference: Some("R-1".to_owned()),
                    metadata: pay.metadata.clone(),
                },
                Request::Pay(Box::new(pay)),
            ];
            for request in requests {
                let Ok(outgoing) = Paypal.encode(&request, &account()) else {
                    continue;
                };
                let body: Value = serde_json::from_slice(&outgoing.body).expect("JSON");
                specs.borrow_mut().request(&outgoing.target, &body);
                prop_assert_eq!(sent_amount(&body), Some(amount));
                *written.borrow_mut() += 1;
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(*written.borrow() > 100, "{} written", written.borrow());
}

#[test]
fn every_currency_is_written_as_paypal_counts_it_or_refused() {
    let mut written = Vec::new();
    for currency in Currency::all() {
        for dialect in [Dialect::Stripe, Dialect::Adyen, Dialect::Paypal] {
            let Ok(amount) = Amount::from_minor(dialect, 12_300, currency.code()) else {
                continue;
            };
            let request = Request::Capture {
                target: target(amount),
                amount: Some(amount),
                units: None,
                last: true,
            };
            match Paypal.encode(&request, &account()) {
                Ok(outgoing) => {
                    let body: Value = serde_json::from_slice(&outgoing.body).expect("JSON");
                    assert_eq!(sent_amount(&body), Some(amount));
                    written.push(currency.code().to_owned());
                }
                Err(Refusal::Currency(_) | Refusal::Amount(_)) => {}
                Err(other) => panic!("{currency}: {other}"),
            }
        }
    }
    written.dedup();
    assert_eq!(written.len(), 25, "PayPal's list has 25 currencies: {written:?}");
}

#[test]
fn every_answer_that_is_minted_validates() {
    let Some(specs) = specs() else { return };
    let specs = RefCell::new(specs);
    runner(256)
        .run(
            &(arbitrary::view(Dialect::Paypal), arbitrary::decline(), any::<bool>()),
            |(view, decline, full)| {
                let refund = RefundView {
                    id: "1JU08902781691411".to_owned(),
                    amount: view.amount,
                    status: RefundStatus::Succeeded,
                    created: view.created,
                    reason: Some("returned".to_owned()),
                    reference: Some("R-1".to_owned()),
                    metadata: indexmap::IndexMap::new(),
                };
                let boxed = || Box::new(view.clone());
                let doubt = |running, view| Answer::InDoubt {
                    payment: "p".to_owned(),
                    running,
                    view,
                };
                let orders = "/v2/checkout/orders";
                let answers = [
                    (orders, Answer::Payment(Operation::Sale, boxed())),
                    (orders, Answer::Payment(Operation::Create, boxed())),
                    (
                        "/v2/checkout/orders/X/capture",
                        Answer::Payment(Operation::Confirm, boxed()),
                    ),
                    (
                        "/v2/checkout/orders/X/authorize",
                        Answer::Payment(Operation::Confirm, boxed()),
                    ),
                    ("/v2/checkout/orders/X", Answer::Payment(Operation::Retrieve, boxed())),
                    (
                        "/v2/payments/authorizations/X",
                        Answer::Payment(Operation::Retrieve, boxed()),
                    ),
                    ("/v2/payments/captures/X", Answer::Payment(Operation::Retrieve, boxed())),
                    (
                        "/v2/payments/authorizations/X/capture",
                        Answer::Payment(Operation::Capture, boxed()),
                    ),
                    (
                        "/v2/payments/authorizations/X/void",
                        Answer::Payment(Operation::Void, boxed()),
                    ),
                    (
                        "/v2/payments/captures/X/refund",
                        Answer::Refund(boxed(), refund.clone()),
                    ),
                    ("/v2/payments/refunds/X", Answer::Refund(boxed(), refund)),
                    (orders, Answer::Declined(boxed(), decline)),
                    (orders, doubt(true, None)),
                    ("/v2/payments/captures/X/refund", doubt(true, None)),
                    (orders, doubt(false, None)),
                    (orders, doubt(false, Some(boxed()))),
                ];
                for (path, answer) in answers {
                    let reply = Paypal.render(&answer, &arbitrary::head(path, full), b"");
                    prop_assert!(reply.headers().contains_key("paypal-debug-id"));
                    specs.borrow_mut().answer(path, reply.status(), reply.body());
                }
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
        let path = "/v2/payments/captures/X/refund";
        let reply = Paypal.render_error(&error, &arbitrary::head(path, false));
        specs.borrow_mut().answer(path, reply.status(), reply.body());
    }
}

/// The simulator takes what Sentinel writes, answers as the spec says, and Sentinel reads what it did.
#[test]
fn the_simulator_answers_within_the_spec_and_is_understood() {
    let Some(specs) = specs() else { return };
    let specs = RefCell::new(specs);
    let simulator = RefCell::new(sandbox::paypal::Paypal::default());
    for (name, value) in [("client_id", "client"), ("client_secret", "secret")] {
        simulator.borrow_mut().set(name, value).expect("a setting");
    }
    let now = 1_795_000_000;
    let call = |method: &Method, path: &str, headers: &HeaderMap, body: &[u8]| {
        let request = sandbox::Request {
            method: method.clone(),
            path: path.to_owned(),
            query: String::new(),
            headers: headers.clone(),
            body: bytes::Bytes::copy_from_slice(body),
            base: "http://127.0.0.1:1".to_owned(),
        };
        let mut simulator = simulator.borrow_mut();
        let (answer, turn) = match simulator.admit(now, &request) {
            Err(answer) => (*answer, sandbox::Turn::default()),
            Ok(()) => simulator.execute(now, &request),
        };
        if !path.starts_with("/v1/") {
            specs.borrow_mut().answer(path, answer.status(), answer.body());
        }
        let incoming = Incoming {
            status: answer.status(),
            headers: answer.headers().clone(),
            body: answer.body().clone(),
        };
        (incoming, turn)
    };
    let Ok(Auth::Token { request }) = Paypal.authentication(&account()) else {
        panic!("a token is wanted")
    };
    let (answer, _) = call(&request.method, &request.target, &request.headers, &request.body);
    let token: AccessToken = Paypal.read_token(&answer).expect("a token");
    let account = Account {
        token: Some(token),
        ..account()
    };

    let (paid, counter) = (RefCell::new(0), RefCell::new(0_u32));
    let holder = proptest::sample::select(vec!["Jane", "CCREJECT-IF", "CCREJECT-SF", "CCREJECT-EC"]);
    runner(256)
        .run(
            &(arbitrary::pay("7mw83610fy178514u"), holder, any::<bool>()),
            |(mut pay, holder, inside)| {
                simulator
                    .borrow_mut()
                    .set("declines_inside", if inside { "true" } else { "false" })
                    .expect("a setting");
                pay.three_ds = None;
                if let Some(Instrument::Card(card)) = &mut pay.instrument {
                    card.holder = Some(holder.to_owned());
                }
                *counter.borrow_mut() += 1;
                let number = *counter.borrow();
                let named = |step: &str| Account {
                    idempotency_key: format!("key-{number}{step}"),
                    reference: format!("snt-{number}"),
                    ..account.clone()
                };
                let manual = pay.capture == CaptureMode::Manual;
                let amount = pay.amount.expect("an amount");
                let request = Request::Pay(Box::new(pay));
                let own = named("");
                let Ok(outgoing) = Paypal.encode(&request, &own) else {
                    return Ok(());
                };
                let (answer, turn) = call(&outgoing.method, &outgoing.target, &outgoing.headers, &outgoing.body);
                let leg = if manual { Leg::Auth } else { Leg::Charge };
                let seen = Paypal.observe(leg, Some(&request), Some(&own.reference), &answer);
                let live = !turn.effects.is_empty();
                match seen.outcome {
                    Outcome::Succeeded | Outcome::Authorised => {
                        prop_assert!(live);
                        prop_assert_eq!(seen.amount, Some(amount));
                        *paid.borrow_mut() += 1;
                    }
                    other => {
                        prop_assert!(!live, "{:?} although money moved", other);
                        prop_assert!(other != Outcome::Unknown, "{} {:?}", seen.rule, answer);
                        return Ok(());
                    }
                }
                let mut target = Target {
                    payment: seen.payment_id,
                    amount: Some(amount),
                    ..Target::default()
                };
                let mut charge = seen.charge_id;
                let follow = |leg: Leg, request: &Request, step: &str| {
                    let outgoing = Paypal.encode(request, &named(step)).expect("a follow-up");
                    let (answer, _) = call(&outgoing.method, &outgoing.target, &outgoing.headers, &outgoing.body);
                    Paypal.observe(leg, Some(request), Some(&named(step).reference), &answer)
                };
                if manual {
                    target.authorization = charge;
                    if number % 2 == 0 {
                        let void = Request::Void { target, reason: None };
                        prop_assert_eq!(follow(Leg::Void, &void, "-v").outcome, Outcome::Succeeded);
                        prop_assert_eq!(
                            follow(Leg::Void, &void, "-w").outcome,
                            Outcome::Succeeded,
                            "voided before"
                        );
                        return Ok(());
                    }
                    let capture = Request::Capture {
                        target: target.clone(),
                        amount: Some(amount),
                        units: None,
                        last: true,
                    };
                    let seen = follow(Leg::Capture, &capture, "-c");
                    prop_assert_eq!(seen.outcome, Outcome::Succeeded);
                    charge = seen.charge_id;
                }
                let read = follow(Leg::Lookup, &Request::Retrieve { target: target.clone() }, "-g");
                prop_assert_eq!(read.outcome, Outcome::Succeeded);
                target.charge = charge;
                let metadata = indexmap::IndexMap::new();
                let refund = Request::Refund {
                    target,
                    amount: Some(amount),
                    units: None,
                    reason: None,
                    reference: None,
                    metadata,
                };
                prop_assert_eq!(follow(Leg::Refund, &refund, "-r").outcome, Outcome::Succeeded);
                Ok(())
            },
        )
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(*paid.borrow() > 10, "{} paid", paid.borrow());
}
