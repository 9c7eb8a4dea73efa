//! Stripe as dialect and as target, without a network.

use http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::model::Credentials;
use crate::gateway::canonical::*;
use crate::gateway::outcome::{Outcome, Rejection};
use crate::money::{Amount, Currency, DeclineClass};

fn account() -> Account {
    Account {
        gateway: "stripe".to_owned(),
        credentials: Credentials::new(BTreeMap::from([("secret_key".to_owned(), "sk_test_secret".to_owned())])),
        idempotency_key: "snt-key-1".to_owned(),
        reference: "snt-0001".to_owned(),
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
        base: "http://127.0.0.1:8081".to_owned(),
    }
}

fn parse(path: &str, body: &str) -> Result<Request, Refusal> {
    let recognised = Stripe.recognise(&Method::POST, path);
    Stripe.parse(
        &recognised,
        &head(Method::POST, path),
        body.as_bytes(),
        &BTreeMap::new(),
    )
}

fn pay(body: &str) -> Pay {
    match parse("/v1/payment_intents", body).unwrap() {
        Request::Pay(pay) => *pay,
        other => panic!("{other:?}"),
    }
}

fn incoming(status: u16, body: &Value) -> Incoming {
    let mut headers = HeaderMap::new();
    headers.insert("request-id", "req_1".parse().unwrap());
    Incoming {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        body: body.to_string().into(),
    }
}

fn observe(leg: Leg, request: Option<&Request>, status: u16, body: &Value) -> Observation {
    Stripe.observe(leg, request, None, &incoming(status, body))
}

const SALE: &str = "amount=2000&currency=usd&payment_method=pm_card_visa&confirm=true&payment_method_types[0]=card&metadata[order_id]=6735";

fn intent(status: &str, amount: i64) -> Value {
    json!({"id": "pi_1", "object": "payment_intent", "amount": amount, "currency": "usd", "status": status,
        "amount_received": if status == "succeeded" { amount } else { 0 },
        "amount_capturable": if status == "requires_capture" { amount } else { 0 },
        "metadata": {"order_id": "6735"}, "latest_charge": "ch_1", "last_payment_error": null})
}

#[test]
fn a_sale_is_understood_and_written_again_with_the_same_money() {
    let sale = pay(SALE);
    assert_eq!(
        (sale.operation, sale.capture),
        (Operation::Sale, CaptureMode::Automatic)
    );
    assert_eq!(
        sale.amount,
        Some(Amount::from_minor(Dialect::Stripe, 2000, "usd").unwrap())
    );
    assert_eq!(sale.reference.as_deref(), Some("6735"));
    assert!(matches!(&sale.instrument, Some(Instrument::Token(token)) if token == "pm_card_visa"));
    assert!(sale.unportable.is_empty(), "{:?}", sale.unportable);
    let outgoing = Stripe.encode(&Request::Pay(Box::new(sale)), &account()).unwrap();
    let body = String::from_utf8(outgoing.body.to_vec()).unwrap();
    assert_eq!(outgoing.target, "/v1/payment_intents");
    assert!(
        body.contains("amount=2000") && body.contains("currency=usd") && body.contains("confirm=true"),
        "{body}"
    );
    assert_eq!(outgoing.headers["idempotency-key"], "snt-key-1");
    assert_eq!(outgoing.headers["authorization"], "Bearer sk_test_secret");
}

#[test]
fn what_only_stripe_understands_keeps_the_payment_there_by_name() {
    for (more, name) in [
        ("transfer_data[destination]=acct_1", "transfer_data"),
        ("application_fee_amount=100", "application_fee_amount"),
        ("on_behalf_of=acct_1", "on_behalf_of"),
        ("allowed_payment_method_types[0]=klarna", "allowed_payment_method_types"),
        ("setup_future_usage=off_session", "setup_future_usage"),
        ("something_new=1", "something_new"),
    ] {
        let found = pay(&format!("{SALE}&{more}")).unportable;
        assert!(found.iter().any(|field| field.starts_with(name)), "{more}: {found:?}");
    }
}

#[test]
fn an_amount_that_can_be_read_in_two_ways_is_refused() {
    for body in [
        "amount=2000&amount=1&currency=usd",
        "amount=2e3&currency=usd",
        "amount=-1&currency=usd",
        "amount=+2000&currency=usd",
        "amount=20.00&currency=usd",
        "amount=%D9%A1&currency=usd",
        "amount=9223372036854775808&currency=usd",
        "amount[]=2000&currency=usd",
        "amount=2000&currency=usd&currency=jpy",
    ] {
        assert!(parse("/v1/payment_intents", body).is_err(), "{body}");
    }
}

#[test]
fn only_a_native_answer_for_this_payment_is_a_success() {
    let sale = Request::Pay(Box::new(pay(SALE)));
    let charge = |status: u16, body: &Value| observe(Leg::Charge, Some(&sale), status, body).outcome;
    assert_eq!(charge(200, &intent("succeeded", 2000)), Outcome::Succeeded);
    assert_eq!(charge(200, &intent("requires_capture", 2000)), Outcome::Authorised);
    assert_eq!(charge(200, &intent("succeeded", 200)), Outcome::Conflict);
    assert_eq!(charge(200, &intent("processing", 2000)), Outcome::Unknown);
    assert_eq!(charge(200, &intent("requires_action", 2000)), Outcome::ActionRequired);
    let mut other = intent("succeeded", 2000);
    other["metadata"]["order_id"] = "9".into();
    assert_eq!(charge(200, &other), Outcome::Conflict);
    other = intent("succeeded", 2000);
    other["currency"] = "eur".into();
    assert_eq!(charge(200, &other), Outcome::Conflict);
    // A page of somebody in between proves nothing, whatever its status.
    for status in [200, 402, 403, 404, 429, 502] {
        let page = Incoming {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: intent("succeeded", 2000).to_string().into(),
        };
        assert_eq!(
            Stripe.observe(Leg::Charge, Some(&sale), None, &page).outcome,
            Outcome::Unknown,
            "{status}"
        );
    }
}

#[test]
fn refusals_are_read_by_the_decision_table() {
    let error = |kind: &str, code: &str| json!({"error": {"type": kind, "code": code, "message": "m"}});
    let charge = |status: u16, body: &Value| observe(Leg::Charge, None, status, body).outcome;
    assert_eq!(
        charge(429, &error("invalid_request_error", "rate_limit")),
        Outcome::Rejected(Rejection::Transient)
    );
    assert_eq!(
        charge(401, &error("invalid_request_error", "")),
        Outcome::Rejected(Rejection::Account)
    );
    assert_eq!(
        charge(400, &error("invalid_request_error", "parameter_missing")),
        Outcome::Rejected(Rejection::Request)
    );
    assert_eq!(
        charge(409, &error("invalid_request_error", "idempotency_key_in_use")),
        Outcome::Unknown
    );
    for status in [500, 502, 503, 504, 408, 425] {
        assert_eq!(charge(status, &error("api_error", "")), Outcome::Unknown, "{status}");
    }
    let declined = |code: &str, advice: Value| {
        let body = json!({"error": {"type": "card_error", "code": "card_declined", "decline_code": code,
            "network_advice_code": advice, "message": "no"}});
        charge(402, &body)
    };
    assert_eq!(
        declined("insufficient_funds", Value::Null),
        Outcome::Declined(DeclineClass::Hard)
    );
    assert_eq!(
        declined("do_not_honor", Value::Null),
        Outcome::Declined(DeclineClass::Soft)
    );
    assert_eq!(
        declined("stolen_card", Value::Null),
        Outcome::Declined(DeclineClass::Fraud)
    );
    assert_eq!(
        declined("do_not_honor", "03".into()),
        Outcome::Declined(DeclineClass::Hard)
    );
    assert_eq!(declined("duplicate_transaction", Value::Null), Outcome::Unknown);
}

#[test]
fn a_charge_without_an_intent_is_ended_as_a_charge() {
    let charge = json!({"id": "ch_1", "object": "charge", "amount": 2000, "amount_captured": 2000, "currency": "usd",
        "status": "succeeded", "captured": true, "payment_intent": null, "metadata": {"order_id": "6735"}});
    let seen = observe(Leg::Charge, None, 200, &charge);
    assert_eq!(seen.outcome, Outcome::Succeeded);
    let target = Target {
        payment: seen.payment_id,
        charge: seen.charge_id,
        ..Target::default()
    };
    let written = |request: &Request| {
        let outgoing = Stripe.encode(request, &account()).unwrap();
        let body = String::from_utf8(outgoing.body.to_vec()).unwrap();
        (outgoing.target, body)
    };
    let (path, body) = written(&Request::Refund {
        target: target.clone(),
        amount: None,
        units: None,
        reason: None,
        reference: None,
        metadata: indexmap::IndexMap::new(),
    });
    assert!(
        path == "/v1/refunds" && body.contains("charge=ch_1") && !body.contains("payment_intent"),
        "{body}"
    );
    let (path, body) = written(&Request::Void {
        target: target.clone(),
        reason: None,
    });
    assert!(path == "/v1/refunds" && body.contains("charge=ch_1"), "{path} {body}");
    let (path, _) = written(&Request::Capture {
        target,
        amount: None,
        units: None,
        last: true,
    });
    assert_eq!(path, "/v1/charges/ch_1/capture");
}

#[test]
fn a_fence_proves_absence_only_by_our_own_tombstone_or_a_cancel() {
    let account = account();
    let earlier = EarlierAttempt {
        idempotency_key: Some("app-key".to_owned()),
        amount: Some(Amount::from_minor(Dialect::Stripe, 2000, "usd").unwrap()),
        ..EarlierAttempt::default()
    };
    let tombstone = Stripe.fence(&earlier, &account).unwrap();
    assert_eq!(
        tombstone.headers["idempotency-key"], "app-key",
        "the original's own key is what is taken"
    );
    let body = String::from_utf8(tombstone.body.to_vec()).unwrap();
    assert!(
        !body.contains("confirm=") && body.contains("sentinel_fence"),
        "it moves no money: {body}"
    );

    let mut ours = intent("requires_payment_method", 2000);
    ours["metadata"] = json!({"sentinel_fence": "snt-0001"});
    let fence = |status: u16, body: &Value| observe(Leg::Fence, None, status, body);
    assert_eq!(fence(200, &ours).outcome, Outcome::Fenced);
    let mismatch = json!({"error": {"type": "idempotency_error", "message": "other parameters"}});
    let arrived = fence(400, &mismatch);
    assert_eq!(
        (arrived.outcome, arrived.rule.as_str()),
        (Outcome::Unknown, "original_arrived")
    );
    assert_eq!(
        fence(409, &json!({"error": {"type": "invalid_request_error"}})).outcome,
        Outcome::Unknown
    );
    assert_eq!(fence(500, &ours).outcome, Outcome::Unknown);
    // What is replayed instead of our tombstone is the original's own answer.
    assert_eq!(fence(200, &intent("succeeded", 2000)).outcome, Outcome::Succeeded);
    assert_eq!(fence(200, &intent("canceled", 2000)).outcome, Outcome::Fenced);
    ours["status"] = "succeeded".into();
    assert_eq!(fence(200, &ours).outcome, Outcome::Conflict);
}

#[test]
fn a_look_up_that_finds_nothing_proves_nothing() {
    let list = json!({"object": "list", "has_more": false, "data": []});
    assert_eq!(observe(Leg::Lookup, None, 200, &list).outcome, Outcome::Unknown);
    let gone = json!({"error": {"type": "invalid_request_error", "code": "resource_missing"}});
    assert_eq!(observe(Leg::Lookup, None, 404, &gone).outcome, Outcome::Unknown);
}

#[test]
fn the_merchants_order_decides_only_when_the_whole_hour_was_read() {
    let earlier = EarlierAttempt {
        reference: Some("order-1".to_owned()),
        sent_at: 1_795_000_000,
        ..EarlierAttempt::default()
    };
    let page = |orders: &[&str], more: Option<bool>| {
        let one = |order: &&str| {
            let mut one = intent("succeeded", 2000);
            one["id"] = format!("pi_{order}").into();
            one["metadata"] = json!({ "order_id": order });
            one
        };
        let data: Vec<Value> = orders.iter().map(one).collect();
        incoming(200, &json!({"object": "list", "has_more": more, "data": data}))
    };
    let seen = |joined: &Incoming| Stripe.observe(Leg::Lookup, None, Some("order-1"), joined).rule;
    let first = Stripe.lookup(&earlier, &account()).unwrap();
    // It is on the first page, and the rest is not known.
    let (joined, next) = Stripe.page(&earlier, &account(), &first, None, page(&["order-1", "a"], Some(true)));
    assert_eq!(seen(&joined), "list_not_whole");
    let next = next.unwrap();
    assert!(next.target.contains("starting_after=pi_a"), "{}", next.target);
    let turn = |answer| {
        let (joined, further) = Stripe.page(&earlier, &account(), &next, Some(joined.clone()), answer);
        (seen(&joined), further.is_some())
    };
    let said = |rule: &str, further| (rule.to_owned(), further);
    // Nor is it while a page does not say that it is the last.
    assert_eq!(turn(page(&["b"], None)), said("list_not_whole", true));
    assert_eq!(turn(page(&["b"], Some(false))), said("native_success", false));
    assert_eq!(turn(page(&["order-1"], Some(true))), said("several_found", false));
    // What came to nothing for the order may be another try for it.
    for status in ["canceled", "requires_payment_method", "processing"] {
        let mut only = page(&["order-1"], Some(false));
        only.body = String::from_utf8_lossy(&only.body)
            .replace("\"succeeded\"", &format!("\"{status}\""))
            .into();
        let (only, _) = Stripe.page(&earlier, &account(), &first, None, only);
        assert_eq!(seen(&only), "found_another", "{status}");
    }
    // What is no page is no word of the payment.
    let busy = json!({"error": {"type": "invalid_request_error", "code": "rate_limit"}});
    assert_eq!(turn(incoming(429, &busy)), said("question_refused", false));
    let mut foreign = page(&["b"], Some(false));
    foreign.headers.clear();
    assert_eq!(turn(foreign), said("foreign_answer", false));
}

#[test]
fn sentinels_own_reference_is_looked_for_where_it_must_be_and_then_where_it_may_be() {
    let account = account();
    let earlier = EarlierAttempt {
        reference: Some(account.reference.clone()),
        sent_at: 1_795_000_000,
        ..EarlierAttempt::default()
    };
    let none = |more: bool| {
        let mut other = intent("succeeded", 2000);
        other["id"] = "pi_other".into();
        incoming(200, &json!({"object": "list", "has_more": more, "data": [other]}))
    };
    let (near, far) = (("1794999940", "1795000060"), ("1795000061", "1795003600"));
    let mut asked = Stripe.lookup(&earlier, &account).unwrap();
    let mut so_far = None;
    for (window, turned, more) in [
        (near, false, true),
        (near, true, false),
        (far, false, true),
        (far, true, false),
    ] {
        let (target, (from, to)) = (asked.target.clone(), window);
        assert!(target.contains(from) && target.contains(to), "{target}");
        assert_eq!(target.contains("starting_after=pi_other"), turned, "{target}");
        let (joined, next) = Stripe.page(&earlier, &account, &asked, so_far.take(), none(more));
        so_far = Some(joined);
        match next {
            Some(next) => asked = next,
            None => assert_eq!((window, more), (far, false)),
        }
    }
    let seen = Stripe.observe(Leg::Lookup, None, Some(&account.reference), &so_far.unwrap());
    assert_eq!((seen.outcome, seen.rule.as_str()), (Outcome::Unknown, "not_found"));
}

fn view(amount: Amount) -> View {
    View {
        ids: ViewIds {
            payment: Stripe.mint(ObjectKind::Payment, &[7; 16]),
            charge: Stripe.mint(ObjectKind::Charge, &[7; 16]),
            capture: None,
            request: Stripe.mint(ObjectKind::RequestId, &[7; 16]),
        },
        status: Status::Captured,
        amount,
        captured: amount,
        refunded: Amount { units: 0, ..amount },
        taking: None,
        kept: None,
        captures: Vec::new(),
        capture: CaptureMode::Automatic,
        created: 1_763_900_000,
        voided_at: None,
        instrument: Some("pm_card_visa".to_owned()),
        card: None,
        customer: None,
        reference: Some("6735".to_owned()),
        description: None,
        statement: None,
        metadata: [("order_id".to_owned(), "6735".to_owned())].into_iter().collect(),
        buyer: Buyer::default(),
        decline: None,
        refunds: Vec::new(),
        live: false,
        redirect: None,
        network_transaction_id: None,
        approval_code: None,
    }
}

/// Every key that the newest official SDKs know and that is not optional must be there: stripe-python raises on an absent
/// one.
#[test]
fn minted_objects_have_every_key_of_the_official_field_tables() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/specs/stripe-objects-2026-10-28.endive.json"
    );
    let Ok(text) = std::fs::read_to_string(file) else {
        println!("skipped: the official field tables are not beside this checkout");
        return;
    };
    let tables: Value = serde_json::from_str(&text).unwrap();
    let view = view(Amount::from_minor(Dialect::Stripe, 2000, "usd").unwrap());
    for (kind, object) in [
        ("PaymentIntent", objects::intent(&view, false).unwrap()),
        ("Charge", objects::charge(&view, false).unwrap()),
    ] {
        for (field, rule) in tables["types"][kind].as_object().unwrap() {
            let found = object.get(field);
            if rule["opt"] != true {
                let found = found.unwrap_or_else(|| panic!("{kind}.{field} is absent"));
                assert!(!found.is_null() || rule["nullable"] == true, "{kind}.{field} is null");
            }
        }
    }
}

/// A field that the pinned version does not know is a refusal, and a failover or a fence that fails.
#[test]
fn requests_hold_only_fields_of_the_official_tables() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/specs/stripe-objects-2026-10-28.endive.json"
    );
    let Ok(text) = std::fs::read_to_string(file) else {
        println!("skipped: the official field tables are not beside this checkout");
        return;
    };
    let tables: Value = serde_json::from_str(&text).unwrap();
    let known = tables["types"]["PaymentIntentCreateParams"].as_object().unwrap();
    let earlier = EarlierAttempt {
        idempotency_key: Some("k".to_owned()),
        reference: None,
        object: None,
        charge: None,
        amount: Some(Amount::from_minor(Dialect::Stripe, 2000, "usd").unwrap()),
        sent_at: 0,
        automatic_capture: true,
    };
    let encoded = |body: &str| Stripe.encode(&Request::Pay(Box::new(pay(body))), &account()).unwrap();
    for outgoing in [
        encoded(SALE),
        encoded(&format!("{SALE}&return_url=https%3A%2F%2Fshop.example%2Fback")),
        encoded(&format!("{SALE}&capture_method=manual&off_session=true")),
        Stripe.fence(&earlier, &account()).unwrap(),
    ] {
        for (name, _) in form_urlencoded::parse(&outgoing.body) {
            let top = name.split('[').next().unwrap_or_default();
            assert!(
                known.contains_key(top),
                "{top} is no field of PaymentIntentCreateParams"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The amount an application reads is the amount of the payment, for every currency that Stripe takes.
    #[test]
    fn amounts_survive_from_request_to_answer(index in 0usize..200, value in 1i64..99_999_999) {
        let currencies: Vec<Currency> = Currency::all().collect();
        let code = currencies[index % currencies.len()].lower();
        let Ok(amount) = Amount::from_minor(Dialect::Stripe, value, &code) else { return Ok(()) };
        let sale = pay(&format!("amount={value}&currency={code}&payment_method=pm_card_visa&confirm=true"));
        prop_assert_eq!(sale.amount, Some(amount));
        let reply = Stripe.render(&Answer::Payment(Operation::Sale, Box::new(view(amount))), &head(Method::POST, "/v1/payment_intents"), b"");
        let body: Value = serde_json::from_slice(reply.body()).unwrap();
        if amount.to_minor(Dialect::Stripe).is_err() {
            // No amount of Stripe's own (its last digits must be zero): an error, never a neighbour.
            prop_assert!(reply.status().is_server_error() && body["amount"].is_null());
            return Ok(());
        }
        prop_assert_eq!(body["amount"].as_i64(), Some(value));
        prop_assert_eq!(body["amount_received"].as_i64(), Some(value));
        prop_assert_eq!(body["currency"].as_str(), Some(code.as_str()));
    }

    /// No bytes make the parser panic, and none make a success of an answer.
    #[test]
    fn random_bytes_are_refused_or_understood(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let recognised = Stripe.recognise(&Method::POST, "/v1/payment_intents");
        let _ = Stripe.parse(&recognised, &head(Method::POST, "/v1/payment_intents"), &body, &BTreeMap::new());
        let mut headers = HeaderMap::new();
        headers.insert("request-id", "req_1".parse().unwrap());
        let answer = Incoming { status: StatusCode::OK, headers, body: body.into() };
        prop_assert_eq!(Stripe.observe(Leg::Charge, None, None, &answer).outcome, Outcome::Unknown);
    }
}
