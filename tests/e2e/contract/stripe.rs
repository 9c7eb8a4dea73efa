//! Stripe's API: the field tables of 2026-10-28.endive, and the OpenAPI description of 2022-04-12 for applications that
//! pin a version before `latest_charge`.

mod table;

use std::cell::RefCell;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use indexmap::IndexMap;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sentinel::config::model::Dialect;
use sentinel::gateway::canonical::*;
use sentinel::gateway::outcome::{Decline, Outcome};
use sentinel::gateway::stripe::Stripe;
use sentinel::gateway::{Account, Gateway, Head, Incoming, Leg, Outgoing, OwnError};
use sentinel::money::{Amount, Currency};
use sentinel::sandbox::{self, Simulator};
use serde_json::{Value, json};

use super::{Spec, arbitrary};
use table::{As, Table, nested};

const OLD: &str = "2022-04-12";

fn old() -> Option<Spec> {
    Spec::load("stripe-spec3-2022-04-12.trimmed.json")
}

fn account() -> Account {
    arbitrary::account(&[("secret_key", "sk_test_1")])
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    })
}

/// The table of the parameters of a request.
fn parameters(method: &Method, path: &str) -> Option<&'static str> {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method.as_str(), segments.as_slice()) {
        ("POST", ["v1", "payment_intents"]) => Some("PaymentIntentCreateParams"),
        ("POST", ["v1", "payment_intents", _, "capture"]) => Some("PaymentIntentCaptureParams"),
        ("POST", ["v1", "payment_intents", _, "cancel"]) => Some("PaymentIntentCancelParams"),
        ("POST", ["v1", "charges", _, "capture"]) => Some("ChargeCaptureParams"),
        ("POST", ["v1", "refunds"]) => Some("RefundCreateParams"),
        ("GET", ["v1", "payment_intents"]) => Some("PaymentIntentListParams"),
        ("GET", ["v1", "refunds"]) => Some("RefundListParams"),
        ("GET", ["v1", "payment_intents" | "charges" | "refunds", _] | ["v1", "balance"]) => None,
        other => panic!("{other:?}"),
    }
}

fn check_request(table: &mut Table, outgoing: &Outgoing) -> Value {
    let (path, query) = outgoing.target.split_once('?').unwrap_or((&outgoing.target, ""));
    let form = match outgoing.method {
        Method::POST => &outgoing.body[..],
        _ => query.as_bytes(),
    };
    let form = nested(form);
    match parameters(&outgoing.method, path) {
        Some(name) => table.check(name, As::Form, &form),
        None => {
            let fields = form.as_object().expect("an object");
            assert!(fields.keys().all(|field| field == "expand"), "{form:#}");
        }
    }
    form
}

fn target(amount: Amount, intent: bool) -> Target {
    Target {
        payment: intent.then(|| "pi_3SentAAAA0001".to_owned()),
        charge: Some("ch_3SentAAAA0001".to_owned()),
        amount: Some(amount),
        ..Target::default()
    }
}

/// Everything but the network token, which Stripe takes from nobody.
fn pay() -> impl Strategy<Value = Pay> {
    let token = proptest::sample::select(vec!["pm_1Sent", "tok_visa", "cus_9/pm_1Sent", "card_1Sent"]);
    (arbitrary::pay("pm_1Sent"), token, option::of("[0-9]{15}")).prop_map(|(pay, token, network)| Pay {
        instrument: match pay.instrument {
            Some(Instrument::Card(card)) => Some(Instrument::Card(card)),
            _ => Some(Instrument::Token(token.to_owned())),
        },
        network_transaction_id: network.filter(|_| pay.initiator == Initiator::Merchant),
        ..pay
    })
}

#[test]
fn every_request_that_is_written_validates_and_keeps_its_amount() {
    let Some(table) = Table::load() else { return };
    let (table, written) = (RefCell::new(table), RefCell::new(0));
    runner(256)
        .run(&(pay(), any::<bool>(), any::<bool>()), |(pay, intent, last)| {
            let amount = pay.amount.expect("an amount");
            let listed = |refunds_of: Option<&str>| {
                Request::List(ListFilter {
                    refunds_of: refunds_of.map(str::to_owned),
                    limit: 20,
                    starting_after: Some("pi_3Sent".to_owned()),
                    created_from: Some(1_795_000_000),
                    created_to: Some(1_795_000_900),
                })
            };
            let requests = [
                Request::Capture {
                    target: target(amount, intent),
                    amount: Some(amount),
                    units: None,
                    last,
                },
                Request::Void {
                    target: target(amount, intent),
                    reason: Some(if last { "duplicate" } else { "wrong size" }.to_owned()),
                },
                Request::Refund {
                    target: target(amount, intent),
                    amount: Some(amount),
                    units: None,
                    reason: pay.description.clone(),
                    reference: pay.reference.clone(),
                    metadata: pay.metadata.clone(),
                },
                Request::Retrieve {
                    target: target(amount, intent),
                },
                Request::RetrieveRefund {
                    refund: "re_3Sent".to_owned(),
                },
                listed(None),
                listed(Some("pi_3Sent")),
                listed(Some("ch_3Sent")),
                Request::Pay(Box::new(pay)),
            ];
            for request in requests {
                let Ok(outgoing) = Stripe.encode(&request, &account()) else {
                    continue;
                };
                let form = check_request(&mut table.borrow_mut(), &outgoing);
                if let Some(sent) = form.get("amount").or_else(|| form.get("amount_to_capture")) {
                    let text = sent.as_str().expect("text");
                    let read = Amount::parse_minor(Dialect::Stripe, text, amount.currency.code());
                    prop_assert_eq!(read, Ok(amount));
                    if let Some(currency) = form.get("currency") {
                        prop_assert_eq!(currency, &json!(amount.currency.lower()));
                    }
                }
                *written.borrow_mut() += 1;
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(*written.borrow() > 1_200, "{} written", written.borrow());
    let earlier = EarlierAttempt {
        idempotency_key: Some("key-1".to_owned()),
        reference: Some("snt-1".to_owned()),
        amount: Amount::from_minor(Dialect::Stripe, 1999, "EUR").ok(),
        sent_at: 1_795_000_000,
        ..EarlierAttempt::default()
    };
    let begun = EarlierAttempt {
        object: Some("pi_3Sent".to_owned()),
        ..earlier.clone()
    };
    let charged = EarlierAttempt {
        charge: Some("ch_3Sent".to_owned()),
        ..earlier.clone()
    };
    let asked = [
        Stripe.fence(&earlier, &account()),
        Stripe.fence(&begun, &account()),
        Stripe.lookup(&earlier, &account()),
        Stripe.lookup(&begun, &account()),
        Stripe.lookup(&charged, &account()),
        Stripe.probe(&account()),
    ];
    for outgoing in asked {
        check_request(&mut table.borrow_mut(), &outgoing.expect("a request"));
    }
}

#[test]
fn every_currency_is_written_as_stripe_counts_it_or_refused() {
    let (mut taken, mut refused) = (0, 0);
    for currency in Currency::all() {
        for dialect in [Dialect::Stripe, Dialect::Adyen, Dialect::Paypal, Dialect::Razorpay] {
            let Ok(amount) = Amount::from_minor(dialect, 12_300, currency.code()) else {
                continue;
            };
            let request = Request::Capture {
                target: target(amount, true),
                amount: Some(amount),
                units: None,
                last: true,
            };
            match Stripe.encode(&request, &account()) {
                Ok(outgoing) => {
                    let form = nested(&outgoing.body);
                    let sent = form["amount_to_capture"].as_str().expect("an amount");
                    assert_eq!(Amount::parse_minor(Dialect::Stripe, sent, currency.code()), Ok(amount));
                    taken += 1;
                }
                Err(Refusal::Currency(_) | Refusal::Amount(_)) => refused += 1,
                Err(other) => panic!("{currency}: {other}"),
            }
        }
    }
    assert!(taken > 300 && refused > 0, "{taken} taken, {refused} refused");
}

/// A payment as a Stripe application paid it.
fn view() -> impl Strategy<Value = View> {
    let token = option::of(proptest::sample::select(vec!["pm_1Sent", "tok_visa", "cus_9", "src_1"]));
    let words = (option::of("[a-z ]{1,30}"), option::of("[a-z]{1,9}"), any::<bool>());
    (
        arbitrary::view(Dialect::Stripe),
        option::of(arbitrary::decline()),
        arbitrary::buyer(),
        token,
        words,
    )
        .prop_map(|(view, decline, buyer, token, (description, customer, intent))| {
            let charge = Stripe.mint(ObjectKind::Charge, &[7; 16]);
            View {
                ids: ViewIds {
                    payment: match intent {
                        true => Stripe.mint(ObjectKind::Payment, &[7; 16]),
                        false => charge.clone(),
                    },
                    charge,
                    capture: None,
                    request: Stripe.mint(ObjectKind::RequestId, &[7; 16]),
                },
                decline: decline.filter(|_| view.status == Status::Declined),
                instrument: token.map(str::to_owned),
                customer: customer.map(|customer| format!("cus_{customer}")),
                description,
                buyer,
                ..view
            }
        })
}

/// A request head, of today's version or the old one, that expands what can be expanded.
fn head(method: Method, path: &str, version: Option<&'static str>, expand: &str) -> Head {
    let mut head = arbitrary::head(path, false);
    head.method = method;
    if let Some(version) = version {
        head.headers.insert("stripe-version", HeaderValue::from_static(version));
    }
    head.query = (!expand.is_empty()).then(|| expand.to_owned());
    head
}

struct Judges {
    new: RefCell<Table>,
    old: RefCell<Spec>,
}

impl Judges {
    /// The table or the schema that an object calls itself by.
    fn object(&self, old: bool, object: &Value) {
        let name = object["object"].as_str().unwrap_or_default();
        if name == "list" {
            let items = object["data"].as_array().expect("a list");
            items.iter().for_each(|item| self.object(old, item));
            assert!(
                object["has_more"].is_boolean() && object["url"].as_str().is_some_and(|url| url.starts_with("/v1/"))
            );
            return;
        }
        // The objects in it first: an alternative that is refused does not say why.
        for inner in object.as_object().expect("an object").values() {
            if inner["object"].is_string() {
                self.object(old, inner);
            }
        }
        if old {
            return self.old.borrow_mut().check(name, object);
        }
        let table = match name {
            "payment_intent" => "PaymentIntent",
            "charge" => "Charge",
            "refund" => "Refund",
            "payment_method" => "PaymentMethod",
            other => panic!("an object of kind {other}: {object:#}"),
        };
        self.new.borrow_mut().check(table, As::Json, object);
    }

    /// An error's own fields are held against the old description, which is the only one; the objects in it against the
    /// tables of their version.
    fn error(&self, old: bool, body: &Value) {
        let mut bare = body.clone();
        let fields = bare["error"].as_object_mut().expect("an error");
        for inner in ["payment_intent", "payment_method"] {
            if let Some(object) = fields.shift_remove(inner) {
                self.object(old, &object);
            }
        }
        self.old.borrow_mut().check("error", &bare);
    }

    fn answer(&self, old: bool, status: StatusCode, body: &[u8]) -> Value {
        let body: Value = serde_json::from_slice(body).expect("JSON");
        match status.is_success() {
            true => self.object(old, &body),
            false => self.error(old, &body),
        }
        body
    }
}

fn judges() -> Option<Judges> {
    Some(Judges {
        new: RefCell::new(Table::load()?),
        old: RefCell::new(old()?),
    })
}

fn answers(view: &View, decline: Decline) -> Vec<(Method, &'static str, &'static str, Answer)> {
    let refund = RefundView {
        id: Stripe.mint(ObjectKind::Refund, &[7; 16]),
        amount: view.amount,
        status: RefundStatus::Pending,
        created: view.created,
        reason: Some("requested_by_customer".to_owned()),
        reference: None,
        metadata: IndexMap::from([("refund_id".to_owned(), "R-1".to_owned())]),
    };
    let failed = RefundView {
        reason: Some("late".to_owned()),
        status: RefundStatus::Failed,
        ..refund.clone()
    };
    let boxed = || Box::new(view.clone());
    let doubt = |running| Answer::InDoubt {
        payment: "0197a3c0-6d1f-7000-8000-000000000001".to_owned(),
        running,
        view: Some(boxed()),
    };
    let (get, post) = (Method::GET, Method::POST);
    let (intents, charges, refunds) = ("/v1/payment_intents", "/v1/charges", "/v1/refunds");
    let (intent, charge) = ("/v1/payment_intents/pi_1", "/v1/charges/ch_1");
    let all = "expand[]=latest_charge.refunds&expand[]=payment_method&expand[]=latest_charge.payment_intent";
    let listed = "expand[]=data.latest_charge.refunds&expand[]=data.payment_method";
    let of_charge = "expand[]=payment_intent.payment_method&expand[]=refunds";
    let of_refund = "expand[]=payment_intent.latest_charge&expand[]=charge.refunds";
    let sale = Operation::Sale;
    vec![
        (post.clone(), intents, "", Answer::Payment(sale, boxed())),
        (
            post.clone(),
            intents,
            "",
            Answer::Payment(Operation::Authorize, boxed()),
        ),
        (post.clone(), intents, "", Answer::Declined(boxed(), decline.clone())),
        (post.clone(), intents, "", doubt(true)),
        (post.clone(), intents, "", doubt(false)),
        (post.clone(), charges, "", Answer::Payment(sale, boxed())),
        (post.clone(), charges, "", Answer::Declined(boxed(), decline)),
        (get.clone(), intent, all, Answer::Payment(Operation::Retrieve, boxed())),
        (
            get.clone(),
            charge,
            of_charge,
            Answer::Payment(Operation::Retrieve, boxed()),
        ),
        (post.clone(), intent, "", Answer::Payment(Operation::Capture, boxed())),
        (post.clone(), intent, "", Answer::Payment(Operation::Void, boxed())),
        (post, refunds, "", Answer::Refund(boxed(), refund.clone())),
        (
            get.clone(),
            "/v1/refunds/re_1",
            of_refund,
            Answer::Refund(boxed(), failed.clone()),
        ),
        (
            get.clone(),
            refunds,
            "limit=1",
            Answer::Refunds(boxed(), vec![refund, failed]),
        ),
        (get.clone(), intents, listed, Answer::List(vec![view.clone()])),
        (get, intents, "limit=1", Answer::List(vec![view.clone(), view.clone()])),
    ]
}

#[test]
fn every_answer_that_is_minted_validates() {
    let Some(judges) = judges() else { return };
    runner(256)
        .run(&(view(), arbitrary::decline()), |(view, decline)| {
            let value = view.amount.to_minor(Dialect::Stripe).expect("Stripe's own amount");
            for version in [None, Some(OLD)] {
                for (method, path, query, answer) in answers(&view, decline.clone()) {
                    let head = head(method, path, version, query);
                    let reply = Stripe.render(&answer, &head, b"");
                    let body = judges.answer(version.is_some(), reply.status(), reply.body());
                    let told = match body["object"].as_str() {
                        Some("list") => &body["data"][0],
                        Some(_) => &body,
                        None => &body["error"]["payment_intent"],
                    };
                    if let Some(amount) = told.get("amount") {
                        prop_assert_eq!(amount.as_i64(), Some(value));
                        prop_assert_eq!(&told["currency"], &json!(view.amount.currency.lower()));
                    }
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    for status in [400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 504] {
        for code in ["circuit_open", "wrong_state", "idempotency_key_reused"] {
            let error = OwnError {
                status: StatusCode::from_u16(status).expect("a status"),
                code,
                message: "The gateway is down.".to_owned(),
                retry: true,
            };
            let reply = Stripe.render_error(&error, &arbitrary::head("/v1/payment_intents", false));
            assert_eq!(reply.status(), error.status);
            judges.answer(false, reply.status(), reply.body());
        }
    }
}

/// The simulator with its books: what it is sent and what it answers is checked.
struct Bench {
    judges: Judges,
    simulator: RefCell<sandbox::stripe::Stripe>,
}

impl Bench {
    fn call(&self, outgoing: &Outgoing) -> (Incoming, sandbox::Turn) {
        check_request(&mut self.judges.new.borrow_mut(), outgoing);
        let (path, query) = outgoing.target.split_once('?').unwrap_or((&outgoing.target, ""));
        let request = sandbox::Request {
            method: outgoing.method.clone(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: outgoing.headers.clone(),
            body: outgoing.body.clone(),
            base: "http://127.0.0.1:1".to_owned(),
        };
        let now = 1_795_000_000;
        let mut simulator = self.simulator.borrow_mut();
        let (answer, turn) = match simulator.admit(now, &request) {
            Err(answer) => (*answer, sandbox::Turn::default()),
            Ok(()) => simulator.execute(now, &request),
        };
        self.judges.answer(false, answer.status(), answer.body());
        let incoming = Incoming {
            status: answer.status(),
            headers: HeaderMap::from_iter(
                answer
                    .headers()
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone())),
            ),
            body: answer.body().clone(),
        };
        (incoming, turn)
    }

    fn follow(
        &self,
        leg: Leg,
        request: &Request,
        account: &Account,
    ) -> (sentinel::gateway::outcome::Observation, usize) {
        let outgoing = Stripe.encode(request, account).expect("a follow-up");
        let (answer, turn) = self.call(&outgoing);
        let seen = Stripe.observe(leg, Some(request), Some(&account.reference), &answer);
        (seen, turn.effects.len())
    }

    /// What a look-up by reference finds, and on how many pages.
    fn found(&self, reference: &str) -> (sentinel::gateway::outcome::Observation, usize) {
        let account = Account {
            reference: reference.to_owned(),
            ..account()
        };
        let earlier = EarlierAttempt {
            reference: Some(reference.to_owned()),
            sent_at: 1_795_000_000,
            ..EarlierAttempt::default()
        };
        let mut asked = Stripe.lookup(&earlier, &account).expect("a list");
        let (mut so_far, mut pages) = (None, 0);
        loop {
            let (answer, _) = self.call(&asked);
            pages += 1;
            let (joined, next) = Stripe.page(&earlier, &account, &asked, so_far.take(), answer);
            match next {
                Some(next) => (so_far, asked) = (Some(joined), next),
                None => return (Stripe.observe(Leg::Lookup, None, Some(reference), &joined), pages),
            }
        }
    }
}

/// The simulator takes what Sentinel writes, answers as the tables say, and Sentinel reads what it did.
#[test]
fn the_simulator_answers_within_the_tables_and_is_understood() {
    let Some(judges) = judges() else { return };
    let bench = Bench {
        judges,
        simulator: RefCell::new(sandbox::stripe::Stripe::default()),
    };
    let (paid, counter, first) = (RefCell::new(0), RefCell::new(0_u32), RefCell::new(None));
    let source = proptest::sample::select(vec![
        "pm_card_visa",
        "pm_card_visa",
        "tok_mastercard",
        "pm_card_visa_chargeDeclined",
        "pm_card_visa_chargeDeclinedInsufficientFunds",
        "pm_card_authenticationRequired",
        "tok_chargeDeclined",
        "pm_no_such_method",
    ]);
    runner(1024)
        .run(&(pay(), source), |(mut pay, source)| {
            *counter.borrow_mut() += 1;
            let number = *counter.borrow();
            let named = |step: &str| Account {
                idempotency_key: format!("key-{number}{step}"),
                reference: format!("snt-{number}"),
                ..account()
            };
            pay.instrument = Some(Instrument::Token(source.to_owned()));
            pay.customer = None;
            let manual = pay.capture == CaptureMode::Manual;
            let leg = if manual { Leg::Auth } else { Leg::Charge };
            let amount = pay.amount.expect("an amount");
            let request = Request::Pay(Box::new(pay));
            let Ok(outgoing) = Stripe.encode(&request, &named("")) else {
                return Ok(());
            };
            let (answer, turn) = bench.call(&outgoing);
            let seen = Stripe.observe(leg, Some(&request), Some(&named("").reference), &answer);
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
                charge: seen.charge_id.clone(),
                amount: Some(amount),
                ..Target::default()
            };
            if manual && number.is_multiple_of(3) {
                let void = Request::Void { target, reason: None };
                let (seen, effects) = bench.follow(Leg::Void, &void, &named("-v"));
                prop_assert_eq!((seen.outcome, effects), (Outcome::Succeeded, 1));
                return Ok(());
            }
            if manual {
                let capture = Request::Capture {
                    target: target.clone(),
                    amount: Some(amount),
                    units: None,
                    last: true,
                };
                let (seen, _) = bench.follow(Leg::Capture, &capture, &named("-c"));
                prop_assert_eq!((seen.outcome, seen.amount), (Outcome::Succeeded, Some(amount)));
            }
            let read = Request::Retrieve { target: target.clone() };
            let (seen, _) = bench.follow(Leg::Lookup, &read, &named("-g"));
            prop_assert_eq!(seen.outcome, Outcome::Succeeded);
            let (seen, _) = bench.found(&named("").reference);
            prop_assert_eq!(seen.outcome, Outcome::Succeeded);
            first.borrow_mut().get_or_insert(named("").reference);
            let refund = Request::Refund {
                target,
                amount: Some(amount),
                units: None,
                reason: None,
                reference: None,
                metadata: IndexMap::new(),
            };
            let (seen, effects) = bench.follow(Leg::Refund, &refund, &named("-r"));
            prop_assert_eq!((seen.outcome, seen.amount), (Outcome::Succeeded, Some(amount)));
            prop_assert_eq!(effects, 1);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(*paid.borrow() > 30, "{} paid", paid.borrow());
    // The first one lies pages back by now.
    let (seen, pages) = bench.found(&first.borrow_mut().take().expect("a payment"));
    assert_eq!(seen.outcome, Outcome::Succeeded);
    assert!(pages > 1, "{pages} pages");
}
