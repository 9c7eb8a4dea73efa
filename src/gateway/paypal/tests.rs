//! PayPal requests, answers, tokens and webhooks, against the examples of its documentation.

mod tokens;
mod webhooks;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use indexmap::IndexMap;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;
use crate::config::model::Credentials;
use crate::gateway::canonical::*;
use crate::gateway::outcome::{Decline, DeclineClass, Outcome, Rejection};
use crate::money::Amount;

fn account() -> Account {
    Account {
        gateway: "paypal".to_owned(),
        credentials: Credentials::new(BTreeMap::from([
            ("client_id".to_owned(), "client".to_owned()),
            ("client_secret".to_owned(), "hidden".to_owned()),
        ])),
        idempotency_key: "snt-key-1".to_owned(),
        reference: "snt-0001".to_owned(),
        settings: BTreeMap::new(),
        prepared: BTreeMap::new(),
        token: Some(AccessToken {
            value: Zeroizing::new("A21AAtoken".to_owned()),
            expires_in: 32_400,
        }),
    }
}

fn head(method: Method, path: &str) -> Head {
    Head {
        method,
        path: path.to_owned(),
        query: None,
        headers: HeaderMap::new(),
        base: "http://127.0.0.1:8082".to_owned(),
    }
}

fn parse(path: &str, body: &str) -> Result<Request, Refusal> {
    let recognised = Paypal.recognise(&Method::POST, path);
    Paypal.parse(
        &recognised,
        &head(Method::POST, path),
        body.as_bytes(),
        &BTreeMap::new(),
    )
}

fn sale() -> Value {
    json!({"intent": "CAPTURE", "purchase_units": [{"reference_id": "default", "custom_id": "op-1", "invoice_id": "6735",
        "amount": {"currency_code": "USD", "value": "20.00"}, "soft_descriptor": "ACME"}],
        "payment_source": {"card": {"number": "4012888888881881", "expiry": "2030-02", "security_code": "123",
            "name": "Jane Doe", "billing_address": {"address_line_1": "1 Main", "admin_area_2": "San Jose",
            "admin_area_1": "CA", "postal_code": "95131", "country_code": "US"}}}})
}

fn pay(request: Request) -> Pay {
    match request {
        Request::Pay(pay) => *pay,
        other => panic!("{other:?}"),
    }
}

fn incoming(status: u16, body: &Value) -> Incoming {
    let mut headers = HeaderMap::new();
    headers.insert("paypal-debug-id", HeaderValue::from_static("90957fca61718"));
    Incoming {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        body: body.to_string().into(),
    }
}

#[test]
fn every_call_that_moves_money_is_recognised() {
    let post = |path: &str| Paypal.recognise(&Method::POST, path).operation;
    let get = |path: &str| Paypal.recognise(&Method::GET, path).operation;
    assert_eq!(post("/v1/oauth2/token"), Operation::Token);
    assert_eq!(post("/v2/checkout/orders"), Operation::Create);
    assert_eq!(post("/v2/checkout/orders/5O1/capture"), Operation::Confirm);
    assert_eq!(post("/v2/checkout/orders/5O1/authorize"), Operation::Confirm);
    assert_eq!(post("/v2/payments/authorizations/5O1/capture"), Operation::Capture);
    assert_eq!(post("/v2/payments/authorizations/5O1/void"), Operation::Void);
    assert_eq!(post("/v2/payments/captures/5O1/refund"), Operation::Refund);
    assert_eq!(get("/v2/checkout/orders/5O1"), Operation::Retrieve);
    assert_eq!(get("/v2/payments/refunds/5O1"), Operation::RetrieveRefund);
    let confirm = Paypal.recognise(&Method::POST, "/v2/checkout/orders/5O1/confirm-payment-source");
    assert_eq!(
        (confirm.operation, confirm.object.as_deref()),
        (Operation::Opaque, Some("5O1"))
    );
    assert_eq!(post("/v1/reporting/transactions"), Operation::Opaque);
}

#[test]
fn an_order_with_a_card_is_a_sale_and_without_one_a_creation() {
    let sale = pay(parse("/v2/checkout/orders", &sale().to_string()).unwrap());
    assert_eq!(sale.operation, Operation::Sale);
    assert_eq!(sale.reference.as_deref(), Some("6735"));
    assert_eq!(sale.metadata["custom_id"], "op-1");
    assert!(
        matches!(&sale.instrument, Some(Instrument::Card(card)) if card.expiry_month == "02" && card.expiry_year == "2030")
    );
    assert!(sale.unportable.is_empty(), "{:?}", sale.unportable);
    let mut named = self::sale();
    named["payer"] = json!({"email_address": "a@example.com",
        "phone": {"phone_type": "MOBILE", "phone_number": {"national_number": "9000090000"}}});
    let named = pay(parse("/v2/checkout/orders", &named.to_string()).unwrap());
    assert_eq!(named.buyer.email.as_deref(), Some("a@example.com"));
    assert_eq!(named.buyer.phone.as_deref(), Some("9000090000"));
    let mut wallet = self::sale();
    wallet.as_object_mut().unwrap().remove("payment_source");
    assert_eq!(
        pay(parse("/v2/checkout/orders", &wallet.to_string()).unwrap()).operation,
        Operation::Create
    );
    let approved = pay(parse("/v2/checkout/orders/5O1/capture", "").unwrap());
    assert!(
        matches!(approved.instrument, Some(Instrument::Bound(_))),
        "the buyer's agreement cannot move"
    );
    assert_eq!(approved.confirms.as_deref(), Some("5O1"));
}

#[test]
fn what_only_paypal_understands_is_named() {
    let mut body = sale();
    body["purchase_units"][0]["payment_instruction"] = json!({"platform_fees": []});
    body["purchase_units"][0]["payee"] = json!({"merchant_id": "X"});
    body["payment_source"]["card"]["attributes"] = json!({"vault": {"store_in_vault": "ON_SUCCESS"}});
    body["processing_instruction"] = "ORDER_SAVED_EXPLICITLY".into();
    let unit = body["purchase_units"][0].clone();
    body["purchase_units"].as_array_mut().unwrap().push(unit);
    let mut names = pay(parse("/v2/checkout/orders", &body.to_string()).unwrap()).unportable;
    names.sort();
    assert_eq!(
        names,
        [
            "payment_source.card.attributes.vault",
            "processing_instruction",
            "purchase_units",
            "purchase_units.payee",
            "purchase_units.payment_instruction",
        ]
    );
    for source in [
        json!({"apple_pay": {"id": "x"}}),
        json!({"paypal": {}}),
        json!({"google_pay": {}}),
    ] {
        let mut body = sale();
        body["payment_source"] = source;
        let pay = pay(parse("/v2/checkout/orders", &body.to_string()).unwrap());
        assert!(matches!(pay.instrument, Some(Instrument::Bound(_))));
    }
}

#[test]
fn bad_amounts_are_refused() {
    for value in ["20.001", "1e3", "-1.00", "", "20,00", "٢٠"] {
        let mut body = sale();
        body["purchase_units"][0]["amount"]["value"] = value.into();
        assert!(parse("/v2/checkout/orders", &body.to_string()).is_err(), "{value}");
    }
    let mut body = sale();
    body["purchase_units"][0]["amount"] = json!({"currency_code": "JPY", "value": "500.50"});
    assert!(parse("/v2/checkout/orders", &body.to_string()).is_err());
}

#[test]
fn a_card_sale_survives_parse_and_encode() {
    let request = parse("/v2/checkout/orders", &sale().to_string()).unwrap();
    let outgoing = Paypal.encode(&request, &account()).unwrap();
    assert_eq!(outgoing.target, "/v2/checkout/orders");
    assert_eq!(outgoing.headers["paypal-request-id"], "snt-key-1");
    assert_eq!(outgoing.headers["prefer"], "return=representation");
    assert!(outgoing.headers["authorization"].is_sensitive());
    let sent: Value = serde_json::from_slice(&outgoing.body).unwrap();
    let mut wanted = sale();
    wanted["purchase_units"][0]["custom_id"] = "snt-0001".into();
    assert_eq!(sent, wanted);
}

#[test]
fn what_paypal_cannot_carry_honestly_is_refused() {
    let base = pay(parse("/v2/checkout/orders", &sale().to_string()).unwrap());
    let refusal = |change: &dyn Fn(&mut Pay)| {
        let mut pay = base.clone();
        change(&mut pay);
        Paypal.encode(&Request::Pay(Box::new(pay)), &account()).unwrap_err()
    };
    let amount = |value: i64, code: &str| Some(Amount::from_minor(Dialect::Adyen, value, code).unwrap());
    assert!(matches!(
        refusal(&|pay| pay.amount = amount(100_050, "HUF")),
        Refusal::Amount(_)
    ));
    assert!(matches!(
        refusal(&|pay| pay.amount = amount(1000, "KWD")),
        Refusal::Currency(_)
    ));
    assert!(matches!(
        refusal(&|pay| pay.amount = amount(1000, "INR")),
        Refusal::Currency(_)
    ));
    assert!(matches!(
        refusal(&|pay| pay.initiator = Initiator::Merchant),
        Refusal::Parameter(_)
    ));
    let three_ds = ThreeDs {
        version: "2.2.0".to_owned(),
        eci: None,
        cryptogram: "x".to_owned(),
        transaction_id: None,
    };
    assert_eq!(refusal(&|pay| pay.three_ds = Some(three_ds.clone())), Refusal::ThreeDs);
    assert_eq!(refusal(&|pay| pay.instrument = None), Refusal::NoPortableInstrument);
    let without = Account {
        token: None,
        ..account()
    };
    assert!(matches!(
        Paypal.encode(&Request::Pay(Box::new(base.clone())), &without),
        Err(Refusal::Account(_))
    ));
    let nowhere = Target {
        charge: Some("../x".to_owned()),
        ..Target::default()
    };
    let refund = Request::Refund {
        target: nowhere,
        amount: None,
        units: None,
        reason: None,
        reference: None,
        metadata: IndexMap::new(),
    };
    assert!(Paypal.encode(&refund, &account()).is_err());
}

fn paid() -> Value {
    json!({"id": "5O190127TN364715T", "intent": "CAPTURE", "status": "COMPLETED",
        "payment_source": {"card": {"last_digits": "1881", "brand": "VISA", "expiry": "2030-02"}},
        "purchase_units": [{"reference_id": "default", "custom_id": "op-1", "invoice_id": "6735",
            "amount": {"currency_code": "USD", "value": "20.00"}, "payments": {"captures": [{"id": "3C679366HH908993F",
            "status": "COMPLETED", "amount": {"currency_code": "USD", "value": "20.00"}, "final_capture": true,
            "network_transaction_reference": {"id": "486364739485743", "network": "VISA"},
            "processor_response": {"response_code": "0000"}}]}}], "links": []})
}

#[test]
fn the_capture_decides_and_not_the_order() {
    let request = parse("/v2/checkout/orders", &sale().to_string()).unwrap();
    let read = |body: &Value| Paypal.observe(Leg::Charge, Some(&request), None, &incoming(201, body));
    let observation = read(&paid());
    assert_eq!(observation.outcome, Outcome::Succeeded);
    assert_eq!(observation.payment_id.as_deref(), Some("5O190127TN364715T"));
    assert_eq!(observation.charge_id.as_deref(), Some("3C679366HH908993F"));
    assert_eq!(observation.card.unwrap().last4.as_deref(), Some("1881"));
    let capture = |change: &dyn Fn(&mut Value)| {
        let mut body = paid();
        change(&mut body["purchase_units"][0]["payments"]["captures"][0]);
        read(&body)
    };
    let declined = capture(&|capture| {
        capture["status"] = "DECLINED".into();
        capture["processor_response"]["response_code"] = "5120".into();
    });
    assert_eq!(declined.outcome, Outcome::Declined(DeclineClass::Hard));
    assert_eq!(declined.decline.unwrap().canonical, "insufficient_funds");
    let pending = capture(&|capture| capture["status"] = "PENDING".into());
    assert_eq!((pending.outcome, pending.pending), (Outcome::Unknown, true));
    assert_eq!(
        capture(&|capture| capture["amount"]["value"] = "2.00".into()).outcome,
        Outcome::Conflict
    );
    assert_eq!(
        capture(&|capture| capture["amount"]["currency_code"] = "EUR".into()).outcome,
        Outcome::Conflict
    );
    assert_eq!(
        capture(&|capture| capture["status"] = "REFUNDED".into()).outcome,
        Outcome::Succeeded
    );
    let mut other = paid();
    other["purchase_units"][0]["invoice_id"] = "6736".into();
    assert_eq!(read(&other).outcome, Outcome::Conflict);
    let own = Paypal.observe(Leg::Charge, Some(&request), Some("op-2"), &incoming(201, &paid()));
    assert_eq!(
        own.outcome,
        Outcome::Conflict,
        "an old key answered with another payment"
    );
    let minimal = json!({"id": "5O1", "status": "COMPLETED", "links": []});
    assert_eq!(read(&minimal).outcome, Outcome::Unknown, "minimal hides a decline");
    let unpaid = json!({"id": "5O1", "status": "APPROVED", "intent": "CAPTURE", "purchase_units": [{}]});
    let lookup = Paypal.observe(Leg::Lookup, Some(&request), None, &incoming(200, &unpaid));
    assert_eq!(lookup.outcome, Outcome::Unknown, "the lost capture may still arrive");
}

#[test]
fn of_a_declined_captures_code_and_reason_the_stricter_holds() {
    let request = parse("/v2/checkout/orders", &sale().to_string()).unwrap();
    let read = |status: &str, code: Option<&str>, reason: Option<&str>| {
        let mut body = paid();
        let capture = &mut body["purchase_units"][0]["payments"]["captures"][0];
        capture["status"] = status.into();
        capture["processor_response"] = json!({ "response_code": code });
        capture["status_details"] = json!({ "reason": reason });
        Paypal
            .observe(Leg::Charge, Some(&request), None, &incoming(201, &body))
            .outcome
    };
    let fraud = Some("DECLINED_BY_RISK_FRAUD_FILTERS");
    assert_eq!(
        read("DECLINED", Some("0500"), None),
        Outcome::Declined(DeclineClass::Soft)
    );
    assert_eq!(
        read("DECLINED", Some("0500"), fraud),
        Outcome::Declined(DeclineClass::Fraud)
    );
    assert_eq!(read("DECLINED", None, fraud), Outcome::Declined(DeclineClass::Fraud));
    assert_eq!(read("DECLINED", None, None), Outcome::Declined(DeclineClass::Soft));
    // An error of PayPal's own, after which nobody says that another try is welcome.
    assert_eq!(read("FAILED", None, None), Outcome::Declined(DeclineClass::Hard));
}

#[test]
fn errors_prove_what_paypal_says_they_do() {
    let outcome = |leg: Leg, status: u16, name: &str, issue: &str| {
        let body =
            json!({"name": name, "message": "m", "debug_id": "d", "details": [{"issue": issue, "description": "x"}]});
        Paypal.observe(leg, None, None, &incoming(status, &body)).outcome
    };
    let unprocessable = |issue: &str| outcome(Leg::Charge, 422, "UNPROCESSABLE_ENTITY", issue);
    assert_eq!(
        unprocessable("INSTRUMENT_DECLINED"),
        Outcome::Declined(DeclineClass::Soft)
    );
    assert_eq!(unprocessable("CARD_EXPIRED"), Outcome::Declined(DeclineClass::Hard));
    assert_eq!(
        unprocessable("COMPLIANCE_VIOLATION"),
        Outcome::Declined(DeclineClass::Fraud)
    );
    assert_eq!(unprocessable("AMOUNT_MISMATCH"), Outcome::Rejected(Rejection::Request));
    assert_eq!(
        unprocessable("PERMISSION_DENIED"),
        Outcome::Rejected(Rejection::Account)
    );
    assert_eq!(unprocessable("PAYER_ACTION_REQUIRED"), Outcome::ActionRequired);
    assert_eq!(
        unprocessable("ORDER_NOT_APPROVED"),
        Outcome::Rejected(Rejection::Request)
    );
    for unclear in [
        "DUPLICATE_INVOICE_ID",
        "ORDER_ALREADY_CAPTURED",
        "ORDER_COMPLETION_IN_PROGRESS",
        "BRAND_NEW",
        "PREVIOUSLY_CAPTURED",
    ] {
        assert_eq!(unprocessable(unclear), Outcome::Unknown, "{unclear}");
    }
    assert_eq!(
        outcome(Leg::Void, 422, "UNPROCESSABLE_ENTITY", "PREVIOUSLY_VOIDED"),
        Outcome::Succeeded
    );
    assert_eq!(
        outcome(Leg::Charge, 409, "RESOURCE_CONFLICT", "PREVIOUS_REQUEST_IN_PROGRESS"),
        Outcome::Unknown
    );
    assert_eq!(
        outcome(Leg::Charge, 400, "INVALID_REQUEST", "MISSING_REQUIRED_PARAMETER"),
        Outcome::Rejected(Rejection::Request)
    );
    assert_eq!(
        outcome(Leg::Charge, 401, "AUTHENTICATION_FAILURE", ""),
        Outcome::Rejected(Rejection::Account)
    );
    assert_eq!(
        outcome(Leg::Charge, 429, "RATE_LIMIT_REACHED", ""),
        Outcome::Rejected(Rejection::Transient)
    );
    assert_eq!(
        outcome(Leg::Charge, 404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID"),
        Outcome::Rejected(Rejection::Request)
    );
    assert_eq!(
        outcome(Leg::Lookup, 404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID"),
        Outcome::Unknown
    );
    for status in [500, 502, 503, 504] {
        assert_eq!(
            outcome(Leg::Charge, status, "INTERNAL_SERVER_ERROR", ""),
            Outcome::Unknown
        );
    }
    for (status, body) in [
        (200, "<html>"),
        (403, "<html>"),
        (429, "{}"),
        (201, "{}"),
        (302, "{}"),
        (204, ""),
    ] {
        let answer = Incoming {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.into(),
        };
        assert_eq!(
            Paypal.observe(Leg::Void, None, None, &answer).outcome,
            Outcome::Unknown,
            "{status} {body}"
        );
    }
    let mut voided = incoming(204, &Value::Null);
    voided.body = Bytes::new();
    assert_eq!(
        Paypal.observe(Leg::Void, None, None, &voided).outcome,
        Outcome::Succeeded
    );
    assert_eq!(Paypal.observe(Leg::Fence, None, None, &voided).outcome, Outcome::Fenced);
}

#[test]
fn only_an_authorisation_with_an_id_is_fenced_and_an_order_is_looked_up() {
    let earlier = EarlierAttempt {
        charge: Some("AUTH1".to_owned()),
        object: Some("ORDER1".to_owned()),
        ..EarlierAttempt::default()
    };
    assert_eq!(
        Paypal.fence(&earlier, &account()).unwrap().target,
        "/v2/payments/authorizations/AUTH1/void"
    );
    assert_eq!(
        Paypal.lookup(&earlier, &account()).unwrap().target,
        "/v2/checkout/orders/ORDER1"
    );
    assert!(
        Paypal
            .fence(
                &EarlierAttempt {
                    automatic_capture: true,
                    ..earlier.clone()
                },
                &account()
            )
            .is_none()
    );
    assert!(Paypal.lookup(&EarlierAttempt::default(), &account()).is_none());
}

fn view(status: Status, capture: CaptureMode) -> View {
    let amount = Amount::from_decimal(Dialect::Paypal, "20.00", "USD").unwrap();
    let taken = if status == Status::Captured {
        amount
    } else {
        Amount::zero(amount.currency)
    };
    View {
        ids: ViewIds {
            payment: "ORDER00000000000A".to_owned(),
            charge: "CHARGE0000000000A".to_owned(),
            capture: None,
            request: String::new(),
        },
        status,
        amount,
        captured: taken,
        refunded: Amount::zero(amount.currency),
        taking: None,
        kept: None,
        captures: Vec::new(),
        capture,
        created: 1_795_597_200,
        voided_at: None,
        instrument: None,
        card: Some(CardView {
            brand: Some("visa".to_owned()),
            last4: Some("1881".to_owned()),
            expiry_month: Some(2),
            expiry_year: Some(2030),
        }),
        customer: None,
        reference: Some("6735".to_owned()),
        description: None,
        statement: None,
        metadata: IndexMap::from([("custom_id".to_owned(), "op-1".to_owned())]),
        buyer: Buyer::default(),
        decline: None,
        refunds: Vec::new(),
        live: false,
        redirect: None,
        network_transaction_id: None,
        approval_code: None,
    }
}

#[test]
fn what_is_rendered_is_read_back_as_what_it_was() {
    let mut head = head(Method::POST, "/v2/checkout/orders");
    let render = |answer: &Answer, head: &Head| {
        let (parts, body) = Paypal.render(answer, head, b"{}").into_parts();
        Incoming {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    };
    let sold = Answer::Payment(
        Operation::Sale,
        Box::new(view(Status::Captured, CaptureMode::Automatic)),
    );
    let minimal: Value = serde_json::from_slice(&render(&sold, &head).body).unwrap();
    assert_eq!(
        minimal.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["id", "status", "links"]
    );
    head.headers
        .insert("prefer", HeaderValue::from_static("return=representation"));
    let request = parse("/v2/checkout/orders", &sale().to_string()).unwrap();
    let read =
        |leg, answer: &Answer, head: &Head| Paypal.observe(leg, Some(&request), Some("op-1"), &render(answer, head));
    let observation = read(Leg::Charge, &sold, &head);
    assert_eq!(observation.outcome, Outcome::Succeeded);
    assert_eq!(observation.charge_id.as_deref(), Some("CHARGE0000000000A"));
    let held = Answer::Payment(
        Operation::Authorize,
        Box::new(view(Status::Authorised, CaptureMode::Manual)),
    );
    assert_eq!(read(Leg::Auth, &held, &head).outcome, Outcome::Authorised);
    let body: Value = serde_json::from_slice(&render(&held, &head).body).unwrap();
    let link = &body["purchase_units"][0]["payments"]["authorizations"][0]["links"][1]["href"];
    assert_eq!(
        link,
        "http://127.0.0.1:8082/v2/payments/authorizations/CHARGE0000000000A/capture"
    );
    let doubt = Answer::InDoubt {
        payment: "p".to_owned(),
        running: false,
        view: Some(Box::new(view(Status::Processing, CaptureMode::Automatic))),
    };
    let pending = read(Leg::Charge, &doubt, &head);
    assert_eq!((pending.outcome, pending.pending), (Outcome::Unknown, true));
    let decline = |class| Decline {
        canonical: "lost_or_stolen".to_owned(),
        class,
        raw_code: "x".to_owned(),
        message: "stolen".to_owned(),
        advice: None,
    };
    let refused = Answer::Declined(
        Box::new(view(Status::Declined, CaptureMode::Automatic)),
        decline(DeclineClass::Fraud),
    );
    assert!(matches!(
        read(Leg::Charge, &refused, &head).outcome,
        Outcome::Declined(_)
    ));
    assert!(!String::from_utf8_lossy(&render(&refused, &head).body).contains("stolen"));
    let voided = Answer::Payment(Operation::Void, Box::new(view(Status::Voided, CaptureMode::Manual)));
    assert_eq!(
        Paypal.observe(Leg::Void, None, None, &render(&voided, &head)).outcome,
        Outcome::Succeeded
    );
    head.headers.clear();
    let silent = render(&voided, &head);
    assert_eq!((silent.status.as_u16(), silent.body.len()), (204, 0));
    assert_eq!(
        Paypal.observe(Leg::Void, None, None, &silent).outcome,
        Outcome::Succeeded
    );
}
