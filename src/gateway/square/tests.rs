//! Square requests, answers and webhooks, against the examples of its documentation.

use base64::Engine as _;
use bytes::Bytes;
use http::StatusCode;
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::*;
use crate::config::model::Credentials;
use crate::gateway::canonical::*;
use crate::gateway::outcome::{Decline, DeclineClass, Outcome, Rejection};
use crate::money::Amount;

fn account() -> Account {
    Account {
        gateway: "square".to_owned(),
        credentials: Credentials::new(BTreeMap::from([
            ("access_token".to_owned(), "hidden".to_owned()),
            ("locations.USD".to_owned(), "LUSD".to_owned()),
        ])),
        idempotency_key: "snt-key-1".to_owned(),
        reference: "0197a3c0-6d1f-7000-8000-000000000001".to_owned(),
        settings: BTreeMap::new(),
        token: None,
        prepared: BTreeMap::new(),
    }
}

fn head(method: Method, path: &str) -> Head {
    Head {
        method,
        path: path.to_owned(),
        query: None,
        headers: HeaderMap::new(),
        base: String::new(),
    }
}

fn usd(value: i64) -> Amount {
    Amount::from_minor(Dialect::Square, value, "USD").unwrap()
}

fn parsed(path: &str, body: &Value) -> Result<Request, Refusal> {
    let recognised = Square.recognise(&Method::POST, path);
    let body = body.to_string();
    Square.parse(
        &recognised,
        &head(Method::POST, path),
        body.as_bytes(),
        &BTreeMap::new(),
    )
}

fn pay(change: impl Fn(&mut Value)) -> Pay {
    let mut body = json!({
        "source_id": "ccof:customer-card-id-ok", "customer_id": "CUST1", "idempotency_key": "key-1",
        "amount_money": {"amount": 1000, "currency": "USD"}, "autocomplete": false, "location_id": "L88917AVBK2S5",
        "reference_id": "order-123", "note": "two mugs",
    });
    change(&mut body);
    match parsed("/v2/payments", &body) {
        Ok(Request::Pay(pay)) => *pay,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lowering_announces_a_capture_and_nothing_else_is_edited() {
    let path = "/v2/payments/1QjqpBVyrI9S4H9sTGDWU9JeiWdZY";
    let edit = |body: Value| {
        let recognised = Square.recognise(&Method::PUT, path);
        assert_eq!(recognised.operation, Operation::Edit);
        let body = body.to_string();
        Square.parse(&recognised, &head(Method::PUT, path), body.as_bytes(), &BTreeMap::new())
    };
    let money = json!({"amount": 800, "currency": "USD"});
    let lowered = edit(json!({"idempotency_key": "k", "payment": {"amount_money": money, "version_token": "v"}}));
    assert!(
        matches!(&lowered, Ok(Request::Capture { amount, target, .. }) if *amount == Some(usd(800)) && target.payment.is_some()),
        "{lowered:?}"
    );
    let tip = json!({"idempotency_key": "k", "payment": {"amount_money": money, "tip_money": money}});
    assert!(matches!(edit(tip), Err(Refusal::Parameter(name)) if name == "payment.tip_money"));
    assert!(edit(json!({"idempotency_key": "k", "payment": {}})).is_err());
}

/// As it is given to Square as target: with a token of its own vault.
fn target_pay() -> Pay {
    Pay {
        instrument: Some(Instrument::Token("CUST1/ccof:card-1".to_owned())),
        ..pay(|_| {})
    }
}

fn encoded(request: &Request, account: &Account) -> Value {
    serde_json::from_slice(&Square.encode(request, account).unwrap().body).unwrap()
}

fn incoming(status: u16, body: &Value) -> Incoming {
    Incoming {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::from(body.to_string()),
    }
}

fn payment(status: &str) -> Value {
    json!({"payment": {"id": "1QjqpBVyrI9S4H9sTGDWU9JeiWdZY", "status": status,
        "amount_money": {"amount": 1000, "currency": "USD"}, "reference_id": "order-123",
        "card_details": {"card": {"card_brand": "VISA", "last_4": "1111", "exp_month": 11, "exp_year": 2030}},
        "version_token": "v1"}})
}

#[test]
fn a_payment_is_read_with_what_it_is_charged_to() {
    let read = pay(|_| {});
    assert_eq!(read.operation, Operation::Authorize);
    assert_eq!(read.amount, Some(usd(1000)));
    assert_eq!(read.reference.as_deref(), Some("order-123"));
    assert!(matches!(&read.instrument, Some(Instrument::Token(token)) if token == "ccof:customer-card-id-ok"));
    assert_eq!(read.unportable, [""; 0]);
    assert_eq!(
        pay(|body| drop(body.as_object_mut().unwrap().remove("autocomplete"))).operation,
        Operation::Sale
    );
    let bound = pay(|body| body["source_id"] = "bnon:bank-nonce-ok".into());
    assert!(matches!(bound.instrument, Some(Instrument::Bound(_))));
    let merchant = pay(|body| body["customer_details"] = json!({"customer_initiated": false}));
    assert_eq!(merchant.initiator, Initiator::Merchant);
    for (field, value) in [
        ("tip_money", json!({"amount": 1, "currency": "USD"})),
        ("app_fee_money", json!({"amount": 1, "currency": "USD"})),
        ("order_id", json!("o1")),
        ("verification_token", json!("verf:1")),
        ("delay_action", json!("COMPLETE")),
        ("accept_partial_authorization", json!(true)),
        ("something_new", json!(1)),
    ] {
        assert_eq!(pay(|body| body[field] = value.clone()).unportable, [field]);
    }
    for bad in [json!(10.5), json!("1000"), json!(-1), json!(1e3), Value::Null] {
        let body =
            json!({"source_id": "cnon:x", "idempotency_key": "k", "amount_money": {"amount": bad, "currency": "USD"}});
        assert!(parsed("/v2/payments", &body).is_err(), "{body}");
    }
}

#[test]
fn keys_stand_in_the_body_and_calls_without_one_are_named_by_their_path() {
    let key = |path: &str, body: &str| Square.idempotency_key(&head(Method::POST, path), body.as_bytes());
    assert_eq!(
        key("/v2/payments", r#"{"idempotency_key":"k1"}"#),
        Ok(Some("k1".to_owned()))
    );
    assert_eq!(key("/v2/payments", "{}"), Ok(None));
    let path = "/v2/payments/P1/complete";
    assert_eq!(key(path, "{}"), Ok(Some(path.to_owned())));
    for bad in [
        format!(r#"{{"idempotency_key":"{}"}}"#, "a".repeat(46)),
        r#"{"idempotency_key":""}"#.to_owned(),
        r#"{"idempotency_key":7}"#.to_owned(),
        r#"{"idempotency_key":"a\u0000"}"#.to_owned(),
    ] {
        assert!(key("/v2/payments", &bad).is_err(), "{bad}");
    }
    // Two keys in one body are not a key: whoever reads it could take the other.
    assert_eq!(
        key("/v2/payments", r#"{"idempotency_key":"a","idempotency_key":"b"}"#),
        Ok(None)
    );
    let Ok(Request::Void { target, .. }) = parsed("/v2/payments/cancel", &json!({"idempotency_key": "k1"})) else {
        panic!("no void");
    };
    assert_eq!(target.key.as_deref(), Some("k1"));
}

#[test]
fn a_payment_is_written_for_the_location_of_its_currency_or_not_at_all() {
    let body = encoded(&Request::Pay(Box::new(target_pay())), &account());
    assert_eq!(body["source_id"], "ccof:card-1");
    assert_eq!(body["customer_id"], "CUST1");
    assert_eq!(body["amount_money"], json!({"amount": 1000, "currency": "USD"}));
    assert_eq!(body["autocomplete"], false);
    assert_eq!(body["location_id"], "LUSD");
    assert_eq!(body["reference_id"], account().reference);
    assert_eq!(body["note"], "order order-123: two mugs");
    assert_eq!(body["idempotency_key"], "snt-key-1");
    let refusal = |change: &dyn Fn(&mut Pay), account: &Account| {
        let mut pay = target_pay();
        change(&mut pay);
        Square.encode(&Request::Pay(Box::new(pay)), account).unwrap_err()
    };
    let eur = Amount::from_minor(Dialect::Square, 1000, "EUR").unwrap();
    assert_eq!(
        refusal(&|pay| pay.amount = Some(eur), &account()),
        Refusal::Currency("EUR".to_owned())
    );
    let chf = Amount::from_minor(Dialect::Stripe, 1000, "CHF").unwrap();
    let mut one = account();
    one.credentials = Credentials::new(BTreeMap::from([
        ("access_token".to_owned(), "hidden".to_owned()),
        ("location_id".to_owned(), "L1".to_owned()),
    ]));
    assert_eq!(
        refusal(&|pay| pay.amount = Some(chf), &one),
        Refusal::Currency("CHF".to_owned())
    );
    for instrument in ["ccof:card-1", "pm_card_visa", "CUST1/", "bnon:x", "wnon:x", "/ccof:x"] {
        let token = Some(Instrument::Token(instrument.to_owned()));
        let customerless = |pay: &mut Pay| {
            pay.instrument.clone_from(&token);
            pay.customer = None;
        };
        assert_eq!(
            refusal(&customerless, &account()),
            Refusal::NoPortableInstrument,
            "{instrument}"
        );
    }
    let three_ds = ThreeDs {
        version: "2.2.0".to_owned(),
        eci: None,
        cryptogram: "x".to_owned(),
        transaction_id: None,
    };
    assert_eq!(
        refusal(&|pay| pay.three_ds = Some(three_ds.clone()), &account()),
        Refusal::ThreeDs
    );
    let long = Account {
        idempotency_key: "k".repeat(46),
        ..account()
    };
    assert!(matches!(refusal(&|_| {}, &long), Refusal::IdempotencyKey(_)));
}

fn capture(amount: Option<i64>) -> Request {
    Request::Capture {
        target: Target {
            payment: Some("1QjqpBVyrI9S4H9sTGDWU9JeiWdZY".to_owned()),
            amount: Some(usd(1000)),
            ..Target::default()
        },
        amount: amount.map(usd),
        units: None,
        last: true,
    }
}

#[test]
fn less_is_captured_by_lowering_the_amount_first_and_naming_that_version() {
    for whole in [None, Some(1000)] {
        assert!(Square.before(&capture(whole), &account()).unwrap().is_none());
        assert_eq!(encoded(&capture(whole), &account()), json!({}));
    }
    let request = capture(Some(600));
    let mut account = account();
    let first = Square.before(&request, &account).unwrap().unwrap();
    assert_eq!(first.method, Method::PUT);
    assert_eq!(first.target, "/v2/payments/1QjqpBVyrI9S4H9sTGDWU9JeiWdZY");
    let body: Value = serde_json::from_slice(&first.body).unwrap();
    assert_eq!(body["payment"]["amount_money"]["amount"], 600);
    // Completing before that would take the whole.
    assert!(Square.encode(&request, &account).is_err());
    let mut lowered = payment("APPROVED");
    lowered["payment"]["amount_money"]["amount"] = 600.into();
    let mut stopped = |status, body: &Value| {
        Square
            .prepared(&request, &mut account, &incoming(status, body))
            .unwrap_err()
    };
    let rejected = |stopped: Stopped| match stopped {
        Stopped::Decided(seen) => seen.outcome == Outcome::Rejected(Rejection::Request),
        Stopped::Unsent => false,
    };
    assert!(rejected(stopped(200, &payment("APPROVED"))));
    let refused = json!({"errors": [{"category": "INVALID_REQUEST_ERROR", "code": "BAD_REQUEST"}]});
    assert!(rejected(stopped(400, &refused)));
    let failed = json!({"errors": [{"category": "API_ERROR", "code": "INTERNAL_SERVER_ERROR"}]});
    assert_eq!(stopped(500, &failed), Stopped::Unsent);
    Square
        .prepared(&request, &mut account, &incoming(200, &lowered))
        .unwrap();
    assert!(Square.before(&request, &account).unwrap().is_none());
    assert_eq!(encoded(&request, &account), json!({"version_token": "v1"}));
    assert!(
        Square
            .before(&capture(Some(1001)), &account)
            .is_ok_and(|next| next.is_none())
    );
    assert!(Square.encode(&capture(Some(1001)), &account).is_err());
}

fn seen(leg: Leg, request: Option<&Request>, reference: Option<&str>, status: u16, body: &Value) -> Observation {
    Square.observe(leg, request, reference, &incoming(status, body))
}

#[test]
fn the_status_of_the_payment_decides() {
    let hold = Request::Pay(Box::new(pay(|_| {})));
    let sale = Request::Pay(Box::new(pay(|body| body["autocomplete"] = true.into())));
    let outcome = |leg, request: &Request, status: &str| seen(leg, Some(request), None, 200, &payment(status)).outcome;
    assert_eq!(outcome(Leg::Auth, &hold, "APPROVED"), Outcome::Authorised);
    assert_eq!(outcome(Leg::Charge, &sale, "COMPLETED"), Outcome::Succeeded);
    assert_eq!(outcome(Leg::Charge, &sale, "APPROVED"), Outcome::Unknown);
    assert_eq!(outcome(Leg::Charge, &sale, "PENDING"), Outcome::Unknown);
    assert_eq!(outcome(Leg::Lookup, &hold, "CANCELED"), Outcome::Fenced);
    assert_eq!(outcome(Leg::Charge, &sale, "SOMETHING"), Outcome::Unknown);
    assert_eq!(outcome(Leg::Capture, &capture(None), "COMPLETED"), Outcome::Succeeded);
    assert_eq!(outcome(Leg::Capture, &capture(None), "APPROVED"), Outcome::Unknown);
    assert_eq!(
        outcome(Leg::Capture, &capture(Some(600)), "COMPLETED"),
        Outcome::Conflict
    );
    let void = Request::Void {
        target: Target::default(),
        reason: None,
    };
    assert_eq!(outcome(Leg::Void, &void, "CANCELED"), Outcome::Succeeded);
    assert_eq!(outcome(Leg::Void, &void, "COMPLETED"), Outcome::Unknown);
    let seen_card = seen(Leg::Auth, Some(&hold), None, 200, &payment("APPROVED"))
        .card
        .unwrap();
    assert_eq!(
        (seen_card.brand.as_deref(), seen_card.expiry_year),
        (Some("visa"), Some(2030))
    );
    // Another payment than was asked for is a conflict, whatever its status.
    for (field, value) in [
        ("amount_money", json!({"amount": 1001, "currency": "USD"})),
        ("amount_money", json!({"amount": 1000, "currency": "CAD"})),
        ("amount_money", json!({"amount": "1000", "currency": "USD"})),
        ("reference_id", json!("order-124")),
    ] {
        let mut other = payment("APPROVED");
        other["payment"][field] = value;
        assert_eq!(
            seen(Leg::Auth, Some(&hold), None, 200, &other).outcome,
            Outcome::Conflict
        );
    }
    let own = seen(Leg::Auth, Some(&hold), Some("snt-1"), 200, &payment("APPROVED"));
    assert_eq!(own.outcome, Outcome::Conflict);
    for foreign in [json!({}), json!({"message": "ok"}), json!([])] {
        assert_eq!(
            seen(Leg::Auth, Some(&hold), None, 200, &foreign).outcome,
            Outcome::Unknown
        );
    }
}

#[test]
fn refusals_prove_what_square_documents_and_no_more() {
    let hold = Request::Pay(Box::new(pay(|_| {})));
    let error = |status, category: &str, code: &str| {
        let body = json!({"errors": [{"category": category, "code": code}]});
        seen(Leg::Auth, Some(&hold), None, status, &body).outcome
    };
    let rejected = Outcome::Rejected;
    assert_eq!(
        error(429, "RATE_LIMIT_ERROR", "RATE_LIMITED"),
        rejected(Rejection::Transient)
    );
    assert_eq!(
        error(401, "AUTHENTICATION_ERROR", "UNAUTHORIZED"),
        rejected(Rejection::Account)
    );
    assert_eq!(
        error(400, "INVALID_REQUEST_ERROR", "CURRENCY_MISMATCH"),
        rejected(Rejection::Account)
    );
    assert_eq!(
        error(400, "INVALID_REQUEST_ERROR", "VALUE_TOO_LONG"),
        rejected(Rejection::Request)
    );
    assert_eq!(
        error(400, "INVALID_REQUEST_ERROR", "CODE_OF_NEXT_YEAR"),
        rejected(Rejection::Request)
    );
    assert_eq!(
        error(400, "PAYMENT_METHOD_ERROR", "CODE_OF_NEXT_YEAR"),
        Outcome::Declined(DeclineClass::Hard)
    );
    // A payment may exist already.
    assert_eq!(error(400, "PAYMENT_METHOD_ERROR", "CARD_TOKEN_USED"), Outcome::Unknown);
    for (status, code) in [
        (408, "REQUEST_TIMEOUT"),
        (409, "CONFLICT"),
        (500, "INTERNAL_SERVER_ERROR"),
        (502, "BAD_GATEWAY"),
        (503, "SERVICE_UNAVAILABLE"),
        (504, "GATEWAY_TIMEOUT"),
    ] {
        assert_eq!(error(status, "API_ERROR", code), Outcome::Unknown, "{code}");
    }
    let body = json!({"errors": [{"category": "INVALID_REQUEST_ERROR", "code": "IDEMPOTENCY_KEY_REUSED"}]});
    assert_eq!(
        seen(Leg::Auth, Some(&hold), Some("snt-1"), 400, &body).outcome,
        Outcome::Unknown
    );
    assert_eq!(
        seen(Leg::Auth, Some(&hold), None, 400, &body).outcome,
        rejected(Rejection::Request)
    );
    let captured = json!({"errors": [{"category": "INVALID_REQUEST_ERROR", "code": "DELAYED_TRANSACTION_CAPTURED"}]});
    let again = seen(Leg::Capture, Some(&capture(None)), None, 400, &captured);
    assert!(again.pending && again.payment_id.is_some(), "{again:?}");
}

#[test]
fn every_code_of_the_table_reaches_its_class_on_a_failed_payment() {
    let hold = Request::Pay(Box::new(pay(|_| {})));
    let table = include_str!("../../money/declines.csv");
    let mut rows = 0;
    for line in table.lines().filter(|line| line.starts_with("square,")) {
        let cells: Vec<&str> = line.splitn(5, ',').collect();
        let [_, code, canonical, class, _] = cells.as_slice() else {
            panic!("{line}");
        };
        let mut body = payment("FAILED");
        if *code == "risk_level:HIGH" {
            body["payment"]["risk_evaluation"] = json!({"risk_level": "HIGH"});
            body["errors"] = json!([{"category": "PAYMENT_METHOD_ERROR", "code": "GENERIC_DECLINE"}]);
        } else {
            body["errors"] = json!([{"category": "PAYMENT_METHOD_ERROR", "code": code}]);
        }
        let read = seen(Leg::Auth, Some(&hold), None, 400, &body);
        let decline = read.decline.unwrap();
        // The failed object is definite: what the code leaves open, the status of the payment closes.
        let wanted = if *class == "ambiguous" { "hard" } else { class };
        assert_eq!(decline.class.name(), wanted, "{code}");
        assert_eq!(decline.canonical, *canonical, "{code}");
        assert_eq!(read.outcome, Outcome::Declined(decline.class), "{code}");
        rows += 1;
    }
    assert!(rows > 130, "{rows}");
    // Of several errors the strictest holds.
    let mut body = payment("FAILED");
    body["errors"] = json!([
        {"category": "PAYMENT_METHOD_ERROR", "code": "GENERIC_DECLINE"},
        {"category": "PAYMENT_METHOD_ERROR", "code": "CVV_FAILURE"},
    ]);
    let decline = seen(Leg::Auth, Some(&hold), None, 402, &body).decline.unwrap();
    assert_eq!(
        (decline.class, decline.raw_code.as_str()),
        (DeclineClass::Hard, "CVV_FAILURE")
    );
}

#[test]
fn a_list_names_the_attempt_by_its_reference_and_proves_nothing_by_its_absence() {
    let hold = Request::Pay(Box::new(pay(|_| {})));
    let list = |status: &str, reference: &str| {
        let mut one = payment(status)["payment"].clone();
        one["reference_id"] = reference.into();
        json!({"payments": [{"id": "other", "status": "COMPLETED", "reference_id": "x"}, one]})
    };
    let found = |reference: &str, body: &Value| seen(Leg::Lookup, Some(&hold), Some(reference), 200, body).outcome;
    assert_eq!(found("snt-1", &list("APPROVED", "snt-1")), Outcome::Authorised);
    assert_eq!(found("snt-1", &list("CANCELED", "snt-1")), Outcome::Fenced);
    assert_eq!(found("snt-1", &json!({})), Outcome::Unknown);
    assert_eq!(found("snt-1", &list("APPROVED", "snt-2")), Outcome::Unknown);
    // The merchant's own reference may be that of an earlier try which came to nothing.
    assert_eq!(found("order-123", &list("APPROVED", "order-123")), Outcome::Authorised);
    assert_eq!(found("order-123", &list("CANCELED", "order-123")), Outcome::Unknown);
    assert_eq!(found("order-123", &list("FAILED", "order-123")), Outcome::Unknown);
    let mut twice = list("APPROVED", "order-123");
    let one = twice["payments"][1].clone();
    twice["payments"].as_array_mut().unwrap().push(one);
    assert_eq!(found("order-123", &twice), Outcome::Unknown);
    // Nothing is said of a capture or refund by a list of payments.
    assert_eq!(
        seen(Leg::Lookup, None, Some("snt-1"), 200, &list("APPROVED", "snt-1")).outcome,
        Outcome::Unknown
    );
}

#[test]
fn a_list_is_read_to_its_end_before_the_applications_reference_decides() {
    let earlier = EarlierAttempt {
        reference: Some("order-123".to_owned()),
        amount: Some(usd(1000)),
        sent_at: 1_795_000_000,
        ..EarlierAttempt::default()
    };
    let page = |reference: &str, cursor: Option<&str>| {
        let mut one = payment("APPROVED")["payment"].clone();
        one["reference_id"] = reference.into();
        let mut body = json!({ "payments": [one] });
        if let Some(cursor) = cursor {
            body["cursor"] = cursor.into();
        }
        incoming(200, &body)
    };
    let asked = Square.lookup(&earlier, &account()).unwrap();
    let turn = |so_far, answer| Square.page(&earlier, &account(), &asked, so_far, answer);
    let hold = Request::Pay(Box::new(pay(|_| {})));
    let seen = |answer: &Incoming| {
        let seen = Square.observe(Leg::Lookup, Some(&hold), Some("order-123"), answer);
        (seen.outcome, seen.rule)
    };
    let (joined, next) = turn(None, page("order-123", Some("more/of=it")));
    let next = next.unwrap().target;
    assert!(
        next.starts_with(&asked.target) && next.ends_with("&cursor=more%2Fof%3Dit"),
        "{next}"
    );
    assert_eq!(seen(&joined), (Outcome::Unknown, "list_not_whole".to_owned()));
    let (whole, next) = turn(Some(joined.clone()), page("another", None));
    assert_eq!((seen(&whole).0, next.is_some()), (Outcome::Authorised, false));
    let (twice, next) = turn(Some(joined), page("order-123", Some("more")));
    assert_eq!((seen(&twice).1.as_str(), next.is_some()), ("found_several", false));
}

#[test]
fn holds_are_cancelled_by_their_key_and_sales_are_only_looked_for() {
    let earlier = EarlierAttempt {
        idempotency_key: Some("key-1".to_owned()),
        reference: Some("snt-1".to_owned()),
        amount: Some(usd(1000)),
        sent_at: 1_795_000_000,
        ..EarlierAttempt::default()
    };
    let fence = Square.fence(&earlier, &account()).unwrap();
    assert_eq!(fence.target, "/v2/payments/cancel");
    assert_eq!(fence.body, json!({"idempotency_key": "key-1"}).to_string());
    let sale = EarlierAttempt {
        automatic_capture: true,
        ..earlier.clone()
    };
    assert!(Square.fence(&sale, &account()).is_none());
    let listed = Square.lookup(&sale, &account()).unwrap().target;
    assert!(
        listed.starts_with("/v2/payments?begin_time=") && listed.contains("total=1000"),
        "{listed}"
    );
    let by_id = |id: &str| {
        let known = EarlierAttempt {
            object: Some(id.to_owned()),
            ..earlier.clone()
        };
        Square.lookup(&known, &account()).unwrap().target
    };
    assert_eq!(by_id("P1"), "/v2/payments/P1");
    assert_eq!(by_id("P1_R1"), "/v2/refunds/P1_R1");
}

fn view(status: Status) -> View {
    View {
        ids: ViewIds {
            payment: Square.mint(ObjectKind::Payment, &[1; 16]),
            ..ViewIds::default()
        },
        status,
        amount: usd(1000),
        captured: usd(0),
        refunded: usd(0),
        taking: None,
        kept: None,
        captures: Vec::new(),
        capture: CaptureMode::Automatic,
        created: 1_795_000_000,
        voided_at: None,
        instrument: None,
        card: None,
        customer: None,
        reference: Some("order-123".to_owned()),
        description: None,
        statement: None,
        metadata: IndexMap::new(),
        buyer: Buyer::default(),
        decline: None,
        refunds: Vec::new(),
        live: false,
        redirect: None,
        network_transaction_id: None,
        approval_code: None,
    }
}

fn rendered(answer: &Answer, path: &str) -> (u16, Value) {
    let reply = Square.render(answer, &head(Method::POST, path), b"");
    (reply.status().as_u16(), serde_json::from_slice(reply.body()).unwrap())
}

#[test]
fn answers_have_squares_shape_and_doubt_is_pending() {
    let payment = |status| Answer::Payment(Operation::Sale, Box::new(view(status)));
    let (status, body) = rendered(&payment(Status::Captured), "/v2/payments");
    assert_eq!((status, &body["payment"]["status"]), (200, &json!("COMPLETED")));
    assert_eq!(
        body["payment"]["amount_money"],
        json!({"amount": 1000, "currency": "USD"})
    );
    assert_eq!(
        rendered(&payment(Status::Voided), "/v2/payments/cancel"),
        (200, json!({}))
    );
    let doubt = |running, view| Answer::InDoubt {
        payment: "p".to_owned(),
        running,
        view,
    };
    let (status, body) = rendered(&doubt(false, Some(Box::new(view(Status::Captured)))), "/v2/payments");
    assert_eq!((status, &body["payment"]["status"]), (200, &json!("PENDING")));
    assert_eq!(rendered(&doubt(true, None), "/v2/payments").0, 504);
    let decline = |canonical: &str, class| Decline {
        canonical: canonical.to_owned(),
        class,
        raw_code: "raw".to_owned(),
        message: String::new(),
        advice: None,
    };
    for (canonical, class, status, code) in [
        ("insufficient_funds", DeclineClass::Hard, 400, "INSUFFICIENT_FUNDS"),
        (
            "authentication_required",
            DeclineClass::Hard,
            402,
            "CARD_DECLINED_VERIFICATION_REQUIRED",
        ),
        (
            "lost_or_stolen",
            DeclineClass::Fraud,
            400,
            "CARDHOLDER_INSUFFICIENT_PERMISSIONS",
        ),
        ("gateway_unavailable", DeclineClass::RetryLater, 400, "GENERIC_DECLINE"),
    ] {
        let answer = Answer::Declined(Box::new(view(Status::Declined)), decline(canonical, class));
        let (told, body) = rendered(&answer, "/v2/payments");
        assert_eq!(
            (told, &body["errors"][0]["code"]),
            (status, &json!(code)),
            "{canonical}"
        );
        assert_eq!(body["payment"]["status"], "FAILED");
        assert_eq!(body["payment"]["approved_money"]["amount"], 0);
    }
}

#[test]
fn a_webhook_is_believed_when_its_address_and_body_are_signed() {
    use hmac::{Hmac, KeyInit, Mac};
    let body = json!({"merchant_id": "M", "type": "payment.updated", "event_id": "e1",
        "created_at": "2026-11-23T10:00:00Z", "data": {"type": "payment", "id": "P", "object": payment("COMPLETED")}})
    .to_string();
    let url = "https://shop.example/square";
    let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
    mac.update(url.as_bytes());
    mac.update(body.as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    let read = |secret, url, body: &str, signature: Option<&str>| {
        let mut headers = HeaderMap::new();
        if let Some(signature) = signature {
            headers.insert("x-square-hmacsha256-signature", signature.parse().unwrap());
        }
        let keys = WebhookKeys {
            secret,
            webhook_id: None,
            notification_url: url,
            account: None,
            vouched: false,
        };
        Square.webhook(&keys, &headers, body.as_bytes(), 0)
    };
    let facts = read(Some("secret"), Some(url), &body, Some(&signature)).unwrap();
    assert_eq!(facts[0].observation.outcome, Outcome::Succeeded);
    assert_eq!(facts[0].leg, Some(Leg::Charge));
    assert_eq!(facts[0].reference.as_deref(), Some("order-123"));
    let other = body.replace("1000", "1001");
    assert_eq!(
        read(Some("secret"), Some(url), &other, Some(&signature)),
        Err(WebhookError::Forged)
    );
    let moved = Some("https://other.example/");
    assert_eq!(
        read(Some("secret"), moved, &body, Some(&signature)),
        Err(WebhookError::Forged)
    );
    assert_eq!(
        read(Some("secret"), Some(url), &body, None),
        Err(WebhookError::Unsigned)
    );
    assert!(matches!(
        read(None, Some(url), &body, Some(&signature)),
        Err(WebhookError::Unconfigured(_))
    ));
}
