//! Razorpay requests, answers and webhooks, against the examples of its documentation.

use bytes::Bytes;
use http::StatusCode;
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::*;
use crate::config::model::Credentials;
use crate::gateway::canonical::*;
use crate::gateway::outcome::{Decline, DeclineClass, Outcome, Rejection};
use crate::money::Amount;

/// What is different in a request, its head, or the settings it is read by.
type Change<'a> = &'a dyn Fn(&mut Value, &mut Head, &mut BTreeMap<String, String>);

const TOKEN: &str = "cust_1Aa00000000001/token_1Aa00000000001";
const REFERENCE_ID: &str = "0197a3c0-6d1f-7000-8000-000000000001";

fn account() -> Account {
    Account {
        gateway: "razorpay".to_owned(),
        credentials: Credentials::new(BTreeMap::from([
            ("key_id".to_owned(), "rzp_test_1".to_owned()),
            ("key_secret".to_owned(), "hidden".to_owned()),
        ])),
        idempotency_key: "snt-key-0001".to_owned(),
        reference: REFERENCE_ID.to_owned(),
        settings: BTreeMap::new(),
        token: None,
        prepared: BTreeMap::new(),
    }
}

fn head(method: Method, path: &str) -> Head {
    let mut headers = HeaderMap::new();
    headers.insert(
        "authorization",
        format!("Basic {}", STANDARD.encode("rzp_test_1:shared"))
            .parse()
            .unwrap(),
    );
    Head {
        method,
        path: path.to_owned(),
        query: None,
        headers,
        base: String::new(),
    }
}

fn inr(value: i64) -> Amount {
    Amount::from_minor(Dialect::Razorpay, value, "INR").unwrap()
}

fn settings() -> BTreeMap<String, String> {
    BTreeMap::from([("capture".to_owned(), "automatic".to_owned())])
}

fn read(head: &Head, body: &Value) -> Result<Request, Refusal> {
    let recognised = Razorpay.recognise(&head.method, &head.path);
    Razorpay.parse(&recognised, head, body.to_string().as_bytes(), &settings())
}

fn card_body() -> Value {
    json!({"amount": 50_000, "currency": "INR", "order_id": "order_IluGWxBm9U8zJ8", "email": "a@example.com",
        "contact": "9000090000", "method": "card", "ip": "203.0.113.7", "callback_url": "https://shop.example/cb",
        "card": {"number": "4100280000001007", "name": "Test", "expiry_month": "12", "expiry_year": "30", "cvv": "123"},
        "authentication": {"authentication_channel": "browser"}, "notes": []})
}

fn pay(path: &str, body: &Value) -> Pay {
    match read(&head(Method::POST, path), body) {
        Ok(Request::Pay(pay)) => *pay,
        other => panic!("{other:?}"),
    }
}

fn mandate() -> Pay {
    let body = json!({"email": "a@example.com", "contact": "9000090000", "amount": 1000, "currency": "INR",
        "order_id": "order_1Aa00000000002", "customer_id": "cust_1Aa00000000001", "token": "token_1Aa00000000001",
        "recurring": true, "description": "two mugs", "notes": {"a": "b"}});
    pay("/v1/payments/create/recurring", &body)
}

/// As it is given to Razorpay as target: with a token of its own vault.
fn target_pay() -> Pay {
    Pay {
        instrument: Some(Instrument::Token(TOKEN.to_owned())),
        reference: Some("order-7".to_owned()),
        ..mandate()
    }
}

fn incoming(status: u16, body: &Value) -> Incoming {
    Incoming {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::from(body.to_string()),
    }
}

fn collection(items: &[Value]) -> Value {
    json!({"entity": "collection", "count": items.len(), "items": items})
}

fn payment(status: &str) -> Value {
    json!({"id": "pay_G3P9vcIhRs3NV4", "entity": "payment", "amount": 1000, "currency": "INR", "status": status,
        "order_id": "order_1Aa00000000002", "captured": status == "captured", "notes": []})
}

fn failed(reason: &str) -> Value {
    let mut payment = payment("failed");
    payment["error_reason"] = reason.into();
    payment
}

#[test]
fn an_order_is_opened_with_what_its_payment_wants_to_know_or_not_at_all() {
    let head = head(Method::POST, "/v1/orders");
    let open = |change: &dyn Fn(&mut Value), settings: &BTreeMap<String, String>| {
        let mut body = json!({"amount": 50_000, "currency": "INR", "receipt": "order-7", "notes": {"a": "b"},
            "partial_payment": false, "payment": {"capture": "manual", "capture_options": {"manual_expiry_period": 7200}}});
        change(&mut body);
        Razorpay.order(&head, body.to_string().as_bytes(), settings, &[7; 16], 1_642_662_092)
    };
    let order = open(&|_| {}, &settings()).unwrap();
    assert_eq!((order.amount, order.capture), (inr(50_000), CaptureMode::Manual));
    assert_eq!(order.id.len(), "order_IluGWxBm9U8zJ8".len());
    let shown: Value = serde_json::from_slice(Razorpay.render_order(&order, 2, inr(0)).body()).unwrap();
    assert_eq!(
        (
            &shown["status"],
            &shown["attempts"],
            &shown["amount_due"],
            &shown["notes"]
        ),
        (&json!("attempted"), &json!(2), &json!(50_000), &json!({"a": "b"}))
    );
    let legacy = |body: &mut Value| {
        body.as_object_mut().unwrap().remove("payment");
        body["payment_capture"] = 0.into();
    };
    assert_eq!(open(&legacy, &BTreeMap::new()).unwrap().capture, CaptureMode::Manual);
    let unsaid = |body: &mut Value| drop(body.as_object_mut().unwrap().remove("payment"));
    assert_eq!(open(&unsaid, &settings()).unwrap().capture, CaptureMode::Automatic);
    assert!(
        open(&unsaid, &BTreeMap::new()).is_err(),
        "nobody knows when it is captured"
    );
    let refused: [&dyn Fn(&mut Value); 6] = [
        &|body| body["partial_payment"] = true.into(),
        &|body| body["transfers"] = json!([{"account": "acc_1", "amount": 1}]),
        &|body| body["token"] = json!({"max_amount": 1}),
        &|body| body["amount"] = 99.into(),
        &|body| body["receipt"] = "r".repeat(41).into(),
        &|body| body["payment"]["capture"] = "later".into(),
    ];
    for (index, change) in refused.into_iter().enumerate() {
        assert!(open(change, &settings()).is_err(), "{index}");
    }
}

#[test]
fn requests_are_read_with_their_order_for_a_name() {
    let card = pay("/v1/payments/create/json", &card_body());
    assert_eq!(card.amount, Some(inr(50_000)));
    assert_eq!(card.reference.as_deref(), Some("order_IluGWxBm9U8zJ8"));
    assert_eq!((card.initiator, card.unportable.len()), (Initiator::Customer, 0));
    assert!(matches!(&card.instrument, Some(Instrument::Card(card)) if card.expiry_year == "2030"));
    let mandate = mandate();
    assert_eq!((mandate.initiator, mandate.unportable.len()), (Initiator::Merchant, 0));
    assert_eq!(mandate.metadata["a"], "b");
    let unportable = |change: Change<'_>| {
        let (mut body, mut head, mut settings) =
            (card_body(), head(Method::POST, "/v1/payments/create/json"), settings());
        change(&mut body, &mut head, &mut settings);
        let recognised = Razorpay.recognise(&head.method, &head.path);
        match Razorpay.parse(&recognised, &head, body.to_string().as_bytes(), &settings) {
            Ok(Request::Pay(pay)) => pay.unportable,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(unportable(&|body, _, _| body["save"] = 1.into()), ["save"]);
    assert_eq!(
        unportable(&|_, _, settings| settings.clear()),
        ["capture mode of the order"]
    );
    let bearer = |_: &mut Value, head: &mut Head, _: &mut BTreeMap<String, String>| {
        head.headers.insert("authorization", "Bearer x".parse().unwrap());
    };
    assert_eq!(unportable(&bearer), ["Authorization"]);
    let partner = |_: &mut Value, head: &mut Head, _: &mut BTreeMap<String, String>| {
        head.headers.insert("x-razorpay-account", "acc_1".parse().unwrap());
    };
    assert_eq!(unportable(&partner), ["X-Razorpay-Account"]);
    for bad in [json!(10.5), json!("1000"), json!(-1), Value::Null] {
        let mut body = card_body();
        body["amount"] = bad;
        assert!(
            read(&head(Method::POST, "/v1/payments/create/json"), &body).is_err(),
            "{body}"
        );
    }
}

#[test]
fn only_refunds_have_a_key_and_equal_ones_need_a_receipt_to_be_one() {
    let key = |path: &str, header: Option<&str>, body: &Value| {
        let mut head = head(Method::POST, path);
        if let Some(header) = header {
            head.headers.insert(REFUND_KEY, header.parse().unwrap());
        }
        Razorpay.idempotency_key(&head, body.to_string().as_bytes())
    };
    let path = "/v1/payments/pay_1/refund";
    assert_eq!(
        key(path, Some("refund-key-1"), &json!({})),
        Ok(Some("refund-key-1".to_owned()))
    );
    assert!(key(path, Some("short"), &json!({})).is_err());
    assert_eq!(key(path, None, &json!({"amount": 100})), Ok(None));
    let named = key(path, None, &json!({"amount": 100, "receipt": "r1"})).unwrap();
    assert!(named.is_some());
    assert_ne!(
        key(path, None, &json!({"amount": 100, "receipt": "r2"})).unwrap(),
        named
    );
    assert_eq!(key("/v1/payments/create/json", None, &card_body()), Ok(None));
    assert!(key("/v1/payments/pay_1/capture", None, &json!({})).unwrap().is_some());
}

#[test]
fn a_charge_is_preceded_by_its_order_which_is_looked_for_before_it_is_opened() {
    let request = Request::Pay(Box::new(target_pay()));
    let mut account = account();
    assert!(Razorpay.encode(&request, &account).is_err());
    let look = Razorpay.before(&request, &account).unwrap().unwrap();
    assert_eq!(look.target, format!("/v1/orders?receipt={REFERENCE_ID}"));
    Razorpay
        .prepared(&request, &mut account, &incoming(200, &collection(&[])))
        .unwrap();
    let open = Razorpay.before(&request, &account).unwrap().unwrap();
    assert_eq!((open.method.as_str(), open.target.as_str()), ("POST", "/v1/orders"));
    let body: Value = serde_json::from_slice(&open.body).unwrap();
    assert_eq!(
        (&body["receipt"], &body["amount"]),
        (&json!(REFERENCE_ID), &json!(1000))
    );
    assert_eq!(body["payment"]["capture"], "automatic");
    assert_eq!(body["payment"]["capture_options"]["automatic_expiry_period"], 12);
    let order = json!({"id": "order_9A33XWu170gUtm", "entity": "order", "amount": 1000, "currency": "INR",
        "receipt": REFERENCE_ID, "status": "created"});
    let mut resumed = account.clone();
    // One that the look finds is asked for payments first.
    resumed.prepared.clear();
    Razorpay
        .prepared(
            &request,
            &mut resumed,
            &incoming(200, &collection(std::slice::from_ref(&order))),
        )
        .unwrap();
    let ask = Razorpay.before(&request, &resumed).unwrap().unwrap();
    assert_eq!(ask.target, "/v1/orders/order_9A33XWu170gUtm/payments");
    let stopped = Razorpay.prepared(
        &request,
        &mut resumed,
        &incoming(200, &collection(&[payment("captured")])),
    );
    let Err(Stopped::Decided(seen)) = stopped else {
        panic!("{stopped:?}");
    };
    assert_eq!(seen.outcome, Outcome::Succeeded);
    Razorpay
        .prepared(&request, &mut resumed, &incoming(200, &collection(&[])))
        .unwrap();
    assert!(Razorpay.before(&request, &resumed).unwrap().is_none());
    // A fresh one has none.
    Razorpay
        .prepared(&request, &mut account, &incoming(200, &order))
        .unwrap();
    assert!(Razorpay.before(&request, &account).unwrap().is_none());
    let charge = Razorpay.encode(&request, &account).unwrap();
    assert_eq!(charge.target, "/v1/payments/create/recurring");
    let body: Value = serde_json::from_slice(&charge.body).unwrap();
    assert_eq!(body["order_id"], "order_9A33XWu170gUtm");
    assert_eq!(
        (&body["token"], &body["recurring"]),
        (&json!("token_1Aa00000000001"), &json!(true))
    );
    assert_eq!(body["notes"]["order"], "order-7");
    // A refused receipt names the order that has it.
    let mut taken = Account {
        prepared: BTreeMap::new(),
        ..account
    };
    let refusal = json!({"error": {"code": "BAD_REQUEST_ERROR", "description": "unique", "reason": "input_validation_failed",
        "metadata": {"order_id": "order_9A33XWu170gUtm"}}});
    Razorpay
        .prepared(&request, &mut taken, &incoming(400, &refusal))
        .unwrap();
    assert_eq!(
        Razorpay.before(&request, &taken).unwrap().unwrap().target,
        "/v1/orders/order_9A33XWu170gUtm/payments"
    );
    let down = json!({"error": {"code": "SERVER_ERROR", "description": "trouble"}});
    let stopped = Razorpay.prepared(&request, &mut taken, &incoming(500, &down));
    assert!(matches!(stopped, Err(Stopped::Unsent)), "{stopped:?}");
}

#[test]
fn an_account_takes_the_currencies_that_it_is_declared_to_take_with_their_decimals() {
    let declared = Account {
        settings: BTreeMap::from([("currencies".to_owned(), "USD,JPY,KWD".to_owned())]),
        ..account()
    };
    let opened = |units: i64, code: &str| {
        let amount = Some(Amount::from_decimal(Dialect::Custom, &format!("{units}"), code).unwrap());
        let request = Request::Pay(Box::new(Pay { amount, ..target_pay() }));
        let prepared = BTreeMap::from([(encode::ABSENT.to_owned(), String::new())]);
        let account = Account {
            prepared,
            ..declared.clone()
        };
        let order = Razorpay.before(&request, &account)?.expect("an order is opened");
        let order: Value = serde_json::from_slice(&order.body).unwrap();
        let prepared = BTreeMap::from([(encode::ORDER.to_owned(), "order_1Aa00000000002".to_owned())]);
        let charge = Razorpay.encode(&request, &Account { prepared, ..account })?;
        let charge: Value = serde_json::from_slice(&charge.body).unwrap();
        assert_eq!(
            (&order["amount"], &order["currency"]),
            (&charge["amount"], &charge["currency"])
        );
        Ok((order["amount"].clone(), order["currency"].clone()))
    };
    for (code, wire) in [("USD", 700), ("JPY", 7), ("KWD", 7000)] {
        assert_eq!(opened(7, code), Ok((wire.into(), code.into())));
    }
    // What is not declared is refused, rupees too.
    for code in ["INR", "EUR", "BHD"] {
        assert_eq!(opened(7, code), Err(Refusal::Currency(code.to_owned())));
    }
    let thousandth = Amount::from_decimal(Dialect::Custom, "7.001", "KWD").unwrap();
    let request = Request::Pay(Box::new(Pay {
        amount: Some(thousandth),
        ..target_pay()
    }));
    let refused = Razorpay.before(&request, &declared).unwrap_err();
    assert!(matches!(refused, Refusal::Amount(_)), "{refused:?}");
    let credentials = &declared.credentials;
    let all = |settings| Razorpay.currencies(credentials, settings).unwrap();
    assert_eq!(all(&declared.settings), ["USD", "JPY", "KWD"]);
    assert_eq!(all(&BTreeMap::new()), ["INR"]);
}

#[test]
fn what_razorpay_cannot_do_at_once_is_refused_with_its_reason() {
    let refusal = |change: &dyn Fn(&mut Pay)| {
        let mut pay = target_pay();
        change(&mut pay);
        Razorpay.before(&Request::Pay(Box::new(pay)), &account()).unwrap_err()
    };
    assert_eq!(
        refusal(&|pay| pay.initiator = Initiator::Customer),
        Refusal::CustomerAction
    );
    let card = pay("/v1/payments/create/json", &card_body()).instrument;
    assert_eq!(
        refusal(&|pay| pay.instrument.clone_from(&card)),
        Refusal::NoPortableInstrument
    );
    let eur = Amount::from_minor(Dialect::Razorpay, 1000, "EUR").unwrap();
    assert_eq!(
        refusal(&|pay| pay.amount = Some(eur)),
        Refusal::Currency("EUR".to_owned())
    );
    assert!(matches!(refusal(&|pay| pay.amount = Some(inr(99))), Refusal::Limit(_)));
    assert!(matches!(refusal(&|pay| pay.buyer.phone = None), Refusal::Parameter(_)));
    for token in ["token_1", "cust_1/pm_1", "pm_card_visa"] {
        let token = Some(Instrument::Token(token.to_owned()));
        assert_eq!(
            refusal(&|pay| pay.instrument.clone_from(&token)),
            Refusal::NoPortableInstrument
        );
    }
    let target = || Target {
        payment: Some("pay_G3P9vcIhRs3NV4".to_owned()),
        amount: Some(inr(1000)),
        ..Target::default()
    };
    let void = Request::Void {
        target: target(),
        reason: None,
    };
    assert!(matches!(Razorpay.encode(&void, &account()), Err(Refusal::Operation(_))));
    let part = Request::Capture {
        target: target(),
        amount: Some(inr(600)),
        units: None,
        last: true,
    };
    assert!(matches!(Razorpay.before(&part, &account()), Err(Refusal::Operation(_))));
    assert!(Razorpay.fence(&EarlierAttempt::default(), &account()).is_none());
}

#[test]
fn a_capture_reads_the_payment_first_and_a_refund_has_its_own_key() {
    let request = Request::Capture {
        target: Target {
            payment: Some("pay_G3P9vcIhRs3NV4".to_owned()),
            amount: Some(inr(1000)),
            ..Target::default()
        },
        amount: None,
        units: None,
        last: true,
    };
    let look = Razorpay.before(&request, &account()).unwrap().unwrap();
    assert_eq!(look.target, "/v1/payments/pay_G3P9vcIhRs3NV4");
    let mut fresh = account();
    Razorpay
        .prepared(&request, &mut fresh, &incoming(200, &payment("authorized")))
        .unwrap();
    assert!(Razorpay.before(&request, &fresh).unwrap().is_none());
    let capture = Razorpay.encode(&request, &fresh).unwrap();
    assert_eq!(capture.body, json!({"amount": 1000, "currency": "INR"}).to_string());
    let decided = |status: &str| match Razorpay.prepared(&request, &mut account(), &incoming(200, &payment(status))) {
        Err(Stopped::Decided(seen)) => Some(seen.outcome),
        _ => None,
    };
    assert_eq!(decided("captured"), Some(Outcome::Succeeded));
    assert_eq!(decided("refunded"), Some(Outcome::Rejected(Rejection::Request)));
    assert_eq!(decided("created"), None);
    let refund = Request::Refund {
        target: Target {
            payment: Some("pay_G3P9vcIhRs3NV4".to_owned()),
            ..Target::default()
        },
        amount: Some(inr(400)),
        units: None,
        reason: None,
        reference: Some("refund-77".to_owned()),
        metadata: IndexMap::new(),
    };
    let outgoing = Razorpay.encode(&refund, &account()).unwrap();
    assert_eq!(outgoing.headers[REFUND_KEY], "snt-key-0001");
    let body: Value = serde_json::from_slice(&outgoing.body).unwrap();
    assert_eq!((&body["amount"], &body["receipt"]), (&json!(400), &json!("refund-77")));
}

fn seen(leg: Leg, request: &Request, reference: Option<&str>, status: u16, body: &Value) -> Observation {
    Razorpay.observe(leg, Some(request), reference, &incoming(status, body))
}

#[test]
fn the_answer_of_a_charge_is_the_calls_and_not_the_payments() {
    let own = Request::Pay(Box::new(mandate()));
    let begun = seen(Leg::Charge, &own, None, 200, &json!({"razorpay_payment_id": "pay_1"}));
    assert_eq!((begun.outcome, begun.pending), (Outcome::Unknown, true));
    let next = json!({"razorpay_payment_id": "pay_1", "next": [{"action": "redirect", "url": "https://bank.example"}]});
    let next = seen(Leg::Charge, &own, None, 200, &next);
    assert_eq!(
        (next.outcome, next.redirect.as_deref()),
        (Outcome::ActionRequired, Some("https://bank.example"))
    );
    let looked = |body: &Value| seen(Leg::Lookup, &own, Some("order_1Aa00000000002"), 200, body);
    assert_eq!(looked(&payment("captured")).outcome, Outcome::Succeeded);
    assert_eq!(looked(&payment("authorized")).outcome, Outcome::Unknown);
    assert_eq!(looked(&payment("created")).outcome, Outcome::Unknown);
    assert_eq!(looked(&payment("refunded")).outcome, Outcome::Fenced);
    let mut other = payment("captured");
    other["amount"] = 1001.into();
    assert_eq!(looked(&other).outcome, Outcome::Conflict);
    // On the application's own order a failed payment may be an earlier try; money on it is the order's.
    assert_eq!(
        looked(&collection(&[failed("card_declined")])).outcome,
        Outcome::Unknown
    );
    assert_eq!(
        looked(&collection(&[failed("card_declined"), payment("captured")])).outcome,
        Outcome::Succeeded
    );
    assert_eq!(looked(&collection(&[])).outcome, Outcome::Unknown);
    let target = Request::Pay(Box::new(target_pay()));
    let order = |payments: &[Value]| {
        collection(
            &[json!({"id": "order_9A33XWu170gUtm", "entity": "order", "amount": 1000,
        "currency": "INR", "receipt": REFERENCE_ID, "payments": collection(payments)})],
        )
    };
    let found = |body: &Value| seen(Leg::Lookup, &target, Some(REFERENCE_ID), 200, body).outcome;
    assert_eq!(
        found(&order(&[failed("card_declined")])),
        Outcome::Declined(DeclineClass::Soft)
    );
    assert_eq!(found(&order(&[failed("payment_timed_out")])), Outcome::Unknown);
    assert_eq!(found(&order(&[])), Outcome::Unknown);
}

#[test]
fn every_reason_of_the_table_reaches_its_class_and_technical_failures_stay_open() {
    let own = Request::Pay(Box::new(mandate()));
    let table = include_str!("../../money/declines.csv");
    let mut rows = 0;
    for line in table.lines().filter(|line| line.starts_with("razorpay,")) {
        let cells: Vec<&str> = line.splitn(5, ',').collect();
        let [_, reason, canonical, class, _] = cells.as_slice() else {
            panic!("{line}");
        };
        rows += 1;
        if let Some(status) = reason.strip_prefix("http:") {
            let body = json!({"error": {"code": "BAD_REQUEST_ERROR", "description": "x"}});
            let outcome = seen(Leg::Charge, &own, None, status.parse().unwrap(), &body).outcome;
            let wanted = match *class {
                "retry_later" => Outcome::Rejected(Rejection::Transient),
                "config" => Outcome::Rejected(Rejection::Account),
                _ => Outcome::Unknown,
            };
            assert_eq!(outcome, wanted, "{reason}");
            continue;
        }
        let told = seen(Leg::Lookup, &own, None, 200, &failed(reason));
        if *class == "ambiguous" {
            assert_eq!((told.outcome, told.pending), (Outcome::Unknown, true), "{reason}");
            continue;
        }
        let decline = told.decline.unwrap();
        assert_eq!(
            (decline.class.name(), decline.canonical.as_str()),
            (*class, *canonical),
            "{reason}"
        );
        assert_eq!(told.outcome, Outcome::Declined(decline.class), "{reason}");
    }
    assert!(rows > 120, "{rows}");
    let fresh = seen(Leg::Lookup, &own, None, 200, &failed("reason_of_next_year"));
    assert_eq!(fresh.outcome, Outcome::Unknown);
    let error = |status, reason: &str, payment: Option<&str>| {
        let body = json!({"error": {"code": "BAD_REQUEST_ERROR", "description": "x", "reason": reason,
            "metadata": payment.map_or(json!([]), |id| json!({"payment_id": id}))}});
        seen(Leg::Charge, &own, None, status, &body).outcome
    };
    assert_eq!(
        error(400, "insufficient_funds", Some("pay_1")),
        Outcome::Declined(DeclineClass::Hard)
    );
    assert_eq!(error(400, "order_already_paid", None), Outcome::Unknown);
    assert_eq!(error(400, "NA", None), Outcome::Rejected(Rejection::Request));
    assert_eq!(error(400, "NA", Some("pay_1")), Outcome::Unknown);
    assert_eq!(error(409, "NA", None), Outcome::Unknown);
}

fn view(status: Status) -> View {
    View {
        ids: ViewIds {
            payment: Razorpay.mint(ObjectKind::Payment, &[1; 16]),
            ..ViewIds::default()
        },
        status,
        amount: inr(1000),
        captured: inr(0),
        refunded: inr(0),
        taking: None,
        kept: None,
        captures: Vec::new(),
        capture: CaptureMode::Automatic,
        created: 1_795_000_000,
        voided_at: None,
        instrument: None,
        card: None,
        customer: None,
        reference: Some("order_1Aa00000000002".to_owned()),
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
    let reply = Razorpay.render(answer, &head(Method::POST, path), b"");
    (reply.status().as_u16(), serde_json::from_slice(reply.body()).unwrap())
}

#[test]
fn a_minted_answer_is_signed_with_the_secret_of_the_request_it_answers() {
    let path = "/v1/payments/create/recurring";
    let (status, body) = rendered(
        &Answer::Payment(Operation::Sale, Box::new(view(Status::Captured))),
        path,
    );
    assert_eq!(status, 200);
    let id = body["razorpay_payment_id"].as_str().unwrap();
    assert_eq!((id.len(), id.starts_with("pay_")), (18, true));
    let signed = render::signature("shared", "order_1Aa00000000002", id);
    assert_eq!(body["razorpay_signature"], signed.as_str());
    assert_eq!(body["razorpay_order_id"], "order_1Aa00000000002");
    let doubt = Answer::InDoubt {
        payment: "p".to_owned(),
        running: false,
        view: Some(Box::new(view(Status::Captured))),
    };
    assert_eq!(rendered(&doubt, path), (200, json!({"razorpay_payment_id": id})));
    let (_, shown) = rendered(
        &Answer::Payment(Operation::Retrieve, Box::new(view(Status::Captured))),
        "/v1/payments/x",
    );
    assert_eq!(
        (&shown["entity"], &shown["status"], &shown["notes"]),
        (&json!("payment"), &json!("captured"), &json!([]))
    );
    for (canonical, class, reason) in [
        ("insufficient_funds", DeclineClass::Hard, "insufficient_funds"),
        ("lost_or_stolen", DeclineClass::Fraud, "debit_instrument_blocked"),
        ("gateway_unavailable", DeclineClass::RetryLater, "card_declined"),
    ] {
        let decline = Decline {
            canonical: canonical.to_owned(),
            class,
            raw_code: "raw".to_owned(),
            message: String::new(),
            advice: None,
        };
        let (status, body) = rendered(&Answer::Declined(Box::new(view(Status::Declined)), decline), path);
        assert_eq!((status, &body["error"]["reason"]), (400, &json!(reason)));
        assert!(body["error"].get("internal_error_code").is_none());
    }
}

#[test]
fn a_webhook_is_believed_when_its_body_is_signed() {
    use hmac::{Hmac, KeyInit, Mac};
    let body = json!({"entity": "event", "event": "payment.captured", "contains": ["payment"],
        "payload": {"payment": {"entity": payment("captured")}}, "created_at": 1_795_000_000})
    .to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
    mac.update(body.as_bytes());
    let signature: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let read = |secret: &str, body: &str, signature: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-razorpay-signature", signature.parse().unwrap());
        headers.insert("x-razorpay-event-id", "evt_1".parse().unwrap());
        let keys = WebhookKeys {
            secret: Some(secret),
            webhook_id: None,
            notification_url: None,
            account: None,
            vouched: false,
        };
        Razorpay.webhook(&keys, &headers, body.as_bytes(), 0)
    };
    let facts = read("secret", &body, &signature).unwrap();
    assert_eq!(
        (facts[0].leg, facts[0].observation.outcome),
        (Some(Leg::Charge), Outcome::Succeeded)
    );
    assert_eq!(
        (facts[0].event_id.as_str(), facts[0].reference.as_deref()),
        ("evt_1", Some("order_1Aa00000000002"))
    );
    assert_eq!(read("other", &body, &signature), Err(WebhookError::Forged));
    assert_eq!(
        read("secret", &body.replace("1000", "1001"), &signature),
        Err(WebhookError::Forged)
    );
    assert_eq!(read("secret", &body, "xyz"), Err(WebhookError::Forged));
}
