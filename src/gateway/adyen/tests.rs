//! Adyen requests, answers and webhooks, against the examples of its documentation.

mod careful;

use http::{HeaderValue, StatusCode};
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::*;
use crate::config::model::Credentials;
use crate::gateway::canonical::*;
use crate::gateway::outcome::{Decline, DeclineClass, Outcome, Rejection};
use crate::gateway::{AccessToken, json as reading};
use crate::money::Amount;

fn account() -> Account {
    Account {
        gateway: "adyen".to_owned(),
        credentials: Credentials::new(BTreeMap::from([
            ("api_key".to_owned(), "AQE-secret".to_owned()),
            ("merchant_account".to_owned(), "AcmeECOM".to_owned()),
        ])),
        idempotency_key: "snt-key-1".to_owned(),
        reference: "snt-0001".to_owned(),
        settings: BTreeMap::new(),
        prepared: BTreeMap::new(),
        token: None::<AccessToken>,
    }
}

fn head(path: &str) -> Head {
    Head {
        method: Method::POST,
        path: path.to_owned(),
        query: None,
        headers: HeaderMap::new(),
        base: "http://127.0.0.1:8086".to_owned(),
    }
}

fn parse(path: &str, body: &Value, settings: &[(&str, &str)]) -> Result<Request, Refusal> {
    let recognised = Adyen.recognise(&Method::POST, path);
    let settings = settings
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Adyen.parse(&recognised, &head(path), body.to_string().as_bytes(), &settings)
}

fn sale() -> Value {
    json!({"amount": {"currency": "USD", "value": 1000}, "reference": "order-123", "merchantAccount": "AcmeECOM",
        "returnUrl": "https://shop.example/return",
        "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "M5N7TQ4TG5PFWR50"},
        "shopperReference": "shopper-9", "shopperInteraction": "ContAuth",
        "recurringProcessingModel": "UnscheduledCardOnFile", "captureDelayHours": 0})
}

fn pay(request: Request) -> Pay {
    match request {
        Request::Pay(pay) => *pay,
        other => panic!("{other:?}"),
    }
}

fn observe(leg: Leg, request: Option<&Request>, reference: Option<&str>, status: u16, body: &Value) -> Observation {
    let answer = Incoming {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: body.to_string().into(),
    };
    Adyen.observe(leg, request, reference, &answer)
}

#[test]
fn paths_of_every_known_version_are_recognised_and_no_other() {
    let operation = |path: &str| Adyen.recognise(&Method::POST, path).operation;
    for version in ["v68", "v71", "v72"] {
        assert_eq!(operation(&format!("/{version}/payments")), Operation::Sale);
        assert_eq!(
            operation(&format!("/checkout/{version}/payments/details")),
            Operation::Confirm
        );
        let capture = Adyen.recognise(&Method::POST, &format!("/{version}/payments/993617894903480A/captures"));
        assert_eq!(capture.operation, Operation::Capture);
        assert_eq!(capture.object.as_deref(), Some("993617894903480A"));
    }
    assert_eq!(operation("/v71/payments/X/cancels"), Operation::Void);
    assert_eq!(operation("/v71/payments/X/refunds"), Operation::Refund);
    assert_eq!(operation("/v71/cancels"), Operation::Void);
    for other in [
        "/v67/payments",
        "/v73/payments",
        "/payments",
        "/v71/paymentMethods",
        "/v71/payments/X/captures/Y",
        "/v71/payments/X",
    ] {
        assert_eq!(operation(other), Operation::Opaque, "{other}");
    }
    assert_eq!(
        Adyen.recognise(&Method::GET, "/v71/payments").operation,
        Operation::Opaque
    );
}

#[test]
fn a_payment_on_a_stored_card_is_understood() {
    let pay = pay(parse("/v71/payments", &sale(), &[]).unwrap());
    assert_eq!(pay.operation, Operation::Sale);
    assert_eq!(pay.initiator, Initiator::Merchant);
    assert_eq!(pay.customer.as_deref(), Some("shopper-9"));
    assert!(matches!(&pay.instrument, Some(Instrument::Token(token)) if token == "M5N7TQ4TG5PFWR50"));
    assert_eq!(pay.amount.unwrap().to_minor(Dialect::Adyen), Ok(1000));
    assert!(pay.unportable.is_empty(), "{:?}", pay.unportable);
}

#[test]
fn when_money_is_taken_comes_from_the_request_or_the_configuration_or_forbids_the_way_elsewhere() {
    let mut body = sale();
    body.as_object_mut().unwrap().remove("captureDelayHours");
    assert_eq!(
        pay(parse("/v71/payments", &body, &[]).unwrap()).unportable,
        ["capture mode of the account"]
    );
    let capture =
        |settings: &[(&str, &str)], body: &Value| pay(parse("/v71/payments", body, settings).unwrap()).capture;
    assert_eq!(capture(&[("capture", "manual")], &body), CaptureMode::Manual);
    assert_eq!(capture(&[("capture", "automatic")], &body), CaptureMode::Automatic);
    body["additionalData"] = json!({"manualCapture": "true"});
    assert_eq!(capture(&[("capture", "automatic")], &body), CaptureMode::Manual);
    body["additionalData"] = json!({});
    body["captureDelayHours"] = 48.into();
    assert_eq!(
        pay(parse("/v71/payments", &body, &[]).unwrap()).unportable,
        ["captureDelayHours"]
    );
}

#[test]
fn what_only_adyen_understands_is_named() {
    let mut body = sale();
    body["splits"] = json!([{"type": "BalanceAccount"}]);
    body["storePaymentMethod"] = true.into();
    body["applicationInfo"] = json!({"merchantApplication": {"name": "shop"}});
    body["mpiData"] = json!({"xid": "x"});
    let mut names = pay(parse("/v71/payments", &body, &[]).unwrap()).unportable;
    names.sort();
    assert_eq!(names, ["mpiData.xid", "splits", "storePaymentMethod"]);
    body["paymentMethod"] = json!({"type": "scheme", "encryptedCardNumber": "eyJhbGciOi", "encryptedExpiryMonth": "x",
        "encryptedExpiryYear": "y", "encryptedSecurityCode": "z"});
    let encrypted = pay(parse("/v71/payments", &body, &[]).unwrap());
    assert!(matches!(encrypted.instrument, Some(Instrument::Bound(_))));
    body["paymentMethod"] = json!({"type": "ideal", "issuer": "1121"});
    assert!(matches!(
        pay(parse("/v71/payments", &body, &[]).unwrap()).instrument,
        Some(Instrument::Bound(_))
    ));
}

#[test]
fn bad_amounts_and_missing_fields_are_refused() {
    for value in [json!(1000.0), json!("1000"), json!(-1), json!(null), json!(1e30)] {
        let mut body = sale();
        body["amount"]["value"] = value.clone();
        assert!(parse("/v71/payments", &body, &[]).is_err(), "{value}");
    }
    for field in ["amount", "reference", "merchantAccount", "paymentMethod", "returnUrl"] {
        let mut body = sale();
        body.as_object_mut().unwrap().remove(field);
        assert!(
            matches!(parse("/v71/payments", &body, &[]), Err(Refusal::Malformed(_))),
            "{field}"
        );
    }
    let twice = br#"{"merchantAccount":"A","amount":{"currency":"USD","value":1,"value":2}}"#;
    let recognised = Adyen.recognise(&Method::POST, "/v71/payments");
    assert!(
        Adyen
            .parse(&recognised, &head("/v71/payments"), twice, &BTreeMap::new())
            .is_err()
    );
}

#[test]
fn a_card_payment_survives_parse_and_encode() {
    let mut body = sale();
    body["paymentMethod"] = json!({"type": "scheme", "number": "4111111111111111", "expiryMonth": "3",
        "expiryYear": "2030", "cvc": "737", "holderName": "J. Smith"});
    body["shopperInteraction"] = "Ecommerce".into();
    body["mpiData"] = json!({"cavv": "AAABBJkZUQAAAABjRWWZEEFgFz8=", "eci": "05", "dsTransID": "d-1",
        "threeDSVersion": "2.2.0", "directoryResponse": "Y", "authenticationResponse": "Y"});
    body["billingAddress"] =
        json!({"street": "Main", "houseNumberOrName": "1", "city": "Town", "postalCode": "12345", "country": "US"});
    let request = parse("/v71/payments", &body, &[]).unwrap();
    let outgoing = Adyen.encode(&request, &account()).unwrap();
    assert_eq!(outgoing.target, "/v71/payments");
    assert_eq!(outgoing.headers["idempotency-key"], "snt-key-1");
    assert!(outgoing.headers["x-api-key"].is_sensitive());
    let sent: Value = serde_json::from_slice(&outgoing.body).unwrap();
    assert_eq!(sent["amount"], body["amount"]);
    assert_eq!(sent["reference"], "snt-0001");
    assert_eq!(sent["merchantOrderReference"], "order-123");
    assert_eq!(sent["captureDelayHours"], 0);
    assert_eq!(sent["paymentMethod"]["expiryMonth"], "03");
    assert_eq!(sent["mpiData"], body["mpiData"]);
    assert_eq!(sent["billingAddress"]["street"], "Main 1");
    let again = pay(parse("/v71/payments", &sent, &[]).unwrap());
    assert!(again.unportable.is_empty(), "{:?}", again.unportable);
    assert_eq!(again.amount, pay(request).amount);
}

#[test]
fn what_adyen_cannot_carry_honestly_is_refused() {
    let mut account = account();
    let base = pay(parse("/v71/payments", &sale(), &[]).unwrap());
    let refusal = |change: &dyn Fn(&mut Pay), account: &Account| {
        let mut pay = base.clone();
        change(&mut pay);
        Adyen.encode(&Request::Pay(Box::new(pay)), account).unwrap_err()
    };
    let no_shopper = |pay: &mut Pay| pay.customer = None;
    assert_eq!(refusal(&no_shopper, &account), Refusal::NoPortableInstrument);
    let bound = |pay: &mut Pay| pay.instrument = Some(Instrument::Bound("paypal".to_owned()));
    assert_eq!(refusal(&bound, &account), Refusal::NoPortableInstrument);
    let foreign = |pay: &mut Pay| pay.unportable.push("transfer_data".to_owned());
    assert_eq!(
        refusal(&foreign, &account),
        Refusal::Parameter("transfer_data".to_owned())
    );
    let cents = |pay: &mut Pay| pay.amount = Some(Amount::from_minor(Dialect::Stripe, 150, "idr").unwrap());
    assert!(matches!(refusal(&cents, &account), Refusal::Amount(_)));
    account.settings.insert("capture".to_owned(), "manual".to_owned());
    assert!(matches!(refusal(&|_| (), &account), Refusal::Operation(_)));
    let incomplete = Account {
        credentials: Credentials::default(),
        ..account
    };
    assert!(matches!(
        refusal(&|_| (), &incomplete),
        Refusal::Operation(_) | Refusal::Account(_)
    ));
    assert!(
        Adyen
            .encode(
                &Request::Retrieve {
                    target: Target::default()
                },
                &incomplete
            )
            .is_err()
    );
    let nowhere = Target {
        payment: Some("../cancels".to_owned()),
        ..Target::default()
    };
    assert!(
        Adyen
            .encode(
                &Request::Void {
                    target: nowhere,
                    reason: None
                },
                &self::account()
            )
            .is_err()
    );
}

#[test]
fn only_a_payment_that_waits_for_its_capture_is_fenced() {
    let earlier = EarlierAttempt {
        reference: Some("snt-0000".to_owned()),
        ..EarlierAttempt::default()
    };
    let fence = Adyen.fence(&earlier, &account()).unwrap();
    assert_eq!(fence.target, "/v71/cancels");
    let body: Value = serde_json::from_slice(&fence.body).unwrap();
    assert_eq!(body["paymentReference"], "snt-0000");
    assert!(
        Adyen
            .fence(
                &EarlierAttempt {
                    automatic_capture: true,
                    ..earlier
                },
                &account()
            )
            .is_none()
    );
    let received =
        json!({"merchantAccount": "A", "paymentReference": "snt-0000", "pspReference": "P", "status": "received"});
    let observation = observe(Leg::Fence, None, None, 201, &received);
    assert_eq!(
        (observation.outcome, observation.pending),
        (Outcome::Unknown, true),
        "a queued cancel proves nothing"
    );
}

#[test]
fn an_answer_is_read_by_its_result_code() {
    let request = parse("/v71/payments", &sale(), &[]).unwrap();
    let answer = json!({"additionalData": {"authCode": "044925", "networkTxReference": "123", "cardSummary": "1111",
        "paymentMethod": "visa", "expiryDate": "3/2030"}, "pspReference": "993617895204576J", "resultCode": "Authorised",
        "amount": {"currency": "USD", "value": 1000}, "merchantReference": "order-123"});
    let read = |body: &Value| observe(Leg::Charge, Some(&request), None, 200, body);
    let paid = read(&answer);
    assert_eq!(paid.outcome, Outcome::Succeeded);
    assert_eq!(paid.payment_id.as_deref(), Some("993617895204576J"));
    assert_eq!(paid.card.unwrap().expiry_year, Some(2030));
    let with = |name: &str, value: Value| {
        let mut body = answer.clone();
        body[name] = value;
        read(&body).outcome
    };
    assert_eq!(with("resultCode", "Error".into()), Outcome::Unknown);
    assert_eq!(with("resultCode", "Pending".into()), Outcome::Unknown);
    assert_eq!(with("resultCode", "PartiallyAuthorised".into()), Outcome::Conflict);
    assert_eq!(with("resultCode", "BrandNew".into()), Outcome::Unknown);
    assert_eq!(with("resultCode", "IdentifyShopper".into()), Outcome::ActionRequired);
    assert_eq!(
        with("amount", json!({"currency": "USD", "value": 100})),
        Outcome::Conflict
    );
    assert_eq!(
        with("amount", json!({"currency": "EUR", "value": 1000})),
        Outcome::Conflict
    );
    assert_eq!(with("merchantReference", "order-124".into()), Outcome::Conflict);
    assert_eq!(with("pspReference", Value::Null), Outcome::Unknown);
    let refusal = json!({"additionalData": {"refusalReasonRaw": "51 : Not sufficient funds"},
        "pspReference": "883574118820108A", "refusalReason": "Not enough balance", "resultCode": "Refused",
        "refusalReasonCode": "12", "merchantReference": "order-123"});
    let declined = read(&refusal);
    assert_eq!(declined.outcome, Outcome::Declined(DeclineClass::Hard));
    assert_eq!(declined.decline.unwrap().canonical, "insufficient_funds");
    let mut unclear = refusal;
    unclear["refusalReasonCode"] = "4".into();
    assert_eq!(
        read(&unclear).outcome,
        Outcome::Unknown,
        "an acquirer error may have moved money"
    );
}

#[test]
fn errors_prove_what_adyen_says_they_do() {
    let outcome = |status: u16, code: &str, kind: &str, transient: bool| {
        let body = json!({"status": status, "errorCode": code, "message": "m", "errorType": kind, "pspReference": "P"});
        let mut headers = HeaderMap::new();
        if transient {
            headers.insert("transient-error", HeaderValue::from_static("true"));
        }
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Incoming {
            status,
            headers,
            body: body.to_string().into(),
        };
        Adyen.observe(Leg::Charge, None, None, &answer).outcome
    };
    let rejected = |kind| Outcome::Rejected(kind);
    assert_eq!(outcome(401, "000", "security", false), rejected(Rejection::Account));
    assert_eq!(outcome(403, "010", "security", false), rejected(Rejection::Account));
    assert_eq!(outcome(422, "101", "validation", false), rejected(Rejection::Request));
    assert_eq!(
        outcome(422, "14_030", "validation", false),
        rejected(Rejection::Request)
    );
    assert_eq!(outcome(422, "999", "validation", false), rejected(Rejection::Request));
    assert_eq!(outcome(422, "999", "internal", false), Outcome::Unknown);
    assert_eq!(outcome(429, "x", "internal", false), rejected(Rejection::Transient));
    assert_eq!(
        outcome(500, "905", "configuration", false),
        rejected(Rejection::Account)
    );
    assert_eq!(outcome(500, "903", "internal", false), Outcome::Unknown);
    assert_eq!(outcome(500, "903", "internal", true), rejected(Rejection::Transient));
    assert_eq!(outcome(503, "703", "internal", true), rejected(Rejection::Transient));
    assert_eq!(outcome(503, "703", "internal", false), Outcome::Unknown);
    for status in [409, 422] {
        assert_eq!(
            outcome(status, "704", "validation", true),
            Outcome::Unknown,
            "a twin is running"
        );
    }
    assert_eq!(outcome(408, "1", "internal", false), Outcome::Unknown);
    for (status, body) in [
        (200, "<html>"),
        (403, "<html>"),
        (429, "{}"),
        (200, "{}"),
        (503, ""),
        (302, "{}"),
        (200, "{\"resultCode\":\"Authorised\""),
    ] {
        let answer = Incoming {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.into(),
        };
        assert_eq!(
            Adyen.observe(Leg::Charge, None, None, &answer).outcome,
            Outcome::Unknown,
            "{status} {body}"
        );
    }
}

#[test]
fn modifications_are_pending_until_a_webhook() {
    let body =
        json!({"merchantAccount": "AcmeECOM", "amount": {"value": 2000, "currency": "EUR"}, "reference": "cap-1"});
    let request = parse("/v71/payments/993617894903480A/captures", &body, &[]).unwrap();
    let answer = json!({"merchantAccount": "AcmeECOM", "paymentPspReference": "993617894903480A", "reference": "cap-1",
        "pspReference": "993617894906488A", "status": "received", "amount": {"value": 2000, "currency": "EUR"}});
    let observation = observe(Leg::Capture, Some(&request), None, 201, &answer);
    assert!(observation.pending);
    assert_eq!(observation.outcome, Outcome::Unknown);
    assert_eq!(observation.modification_id.as_deref(), Some("993617894906488A"));
    let mut other = answer.clone();
    other["paymentPspReference"] = "X".into();
    assert_eq!(
        observe(Leg::Capture, Some(&request), None, 201, &other).outcome,
        Outcome::Conflict
    );
    other = answer;
    other["amount"]["value"] = 2001.into();
    assert_eq!(
        observe(Leg::Capture, Some(&request), None, 201, &other).outcome,
        Outcome::Conflict
    );
}

fn view(status: Status) -> View {
    let amount = Amount::from_minor(Dialect::Adyen, 1000, "USD").unwrap();
    View {
        ids: ViewIds {
            payment: "ABCDEFGHIJKLMNOP".to_owned(),
            ..ViewIds::default()
        },
        status,
        amount,
        captured: Amount::zero(amount.currency),
        refunded: Amount::zero(amount.currency),
        taking: None,
        kept: None,
        captures: Vec::new(),
        capture: CaptureMode::Manual,
        created: 0,
        voided_at: None,
        instrument: None,
        card: Some(CardView {
            brand: Some("mastercard".to_owned()),
            last4: Some("4444".to_owned()),
            ..CardView::default()
        }),
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

#[test]
fn what_is_rendered_is_read_back_as_what_it_was() {
    let render = |answer: &Answer, path: &str, body: &Value| {
        let reply = Adyen.render(answer, &head(path), body.to_string().as_bytes());
        let (parts, body) = reply.into_parts();
        (parts.status.as_u16(), serde_json::from_slice::<Value>(&body).unwrap())
    };
    let (status, body) = render(
        &Answer::Payment(Operation::Authorize, Box::new(view(Status::Authorised))),
        "/v71/payments",
        &json!({}),
    );
    let read = observe(Leg::Auth, None, Some("order-123"), status, &body);
    assert_eq!(
        (read.outcome, read.amount),
        (Outcome::Authorised, Some(view(Status::Authorised).amount))
    );
    assert_eq!(body["paymentMethod"], json!({"type": "scheme", "brand": "mc"}));
    let decline = |canonical: &str, class| Decline {
        canonical: canonical.to_owned(),
        class,
        raw_code: "insufficient_funds".to_owned(),
        message: "no".to_owned(),
        advice: None,
    };
    let funds = decline("insufficient_funds", DeclineClass::Hard);
    let (status, body) = render(
        &Answer::Declined(Box::new(view(Status::Declined)), funds),
        "/v71/payments",
        &json!({}),
    );
    assert_eq!((status, body["refusalReasonCode"].as_str()), (200, Some("12")));
    let fraud = decline("lost_or_stolen", DeclineClass::Fraud);
    let (_, body) = render(
        &Answer::Declined(Box::new(view(Status::Declined)), fraud),
        "/v71/payments",
        &json!({}),
    );
    assert_eq!(body["refusalReason"], "FRAUD");
    let doubt = Answer::InDoubt {
        payment: "p".to_owned(),
        running: false,
        view: Some(Box::new(view(Status::Processing))),
    };
    assert_eq!(render(&doubt, "/v71/payments", &json!({})).1["resultCode"], "Received");
    let running = Answer::InDoubt {
        payment: "p".to_owned(),
        running: true,
        view: None,
    };
    let (status, body) = render(&running, "/v71/payments", &json!({}));
    assert_eq!((status, body["errorCode"].as_str()), (422, Some("704")));
    let asked =
        json!({"merchantAccount": "AcmeECOM", "amount": {"currency": "USD", "value": 400}, "reference": "cap-1"});
    let capture = Answer::Payment(Operation::Capture, Box::new(view(Status::Captured)));
    let (status, body) = render(&capture, "/v71/payments/X/captures", &asked);
    assert_eq!(
        (status, &body["amount"], &body["reference"]),
        (201, &asked["amount"], &asked["reference"])
    );
    assert_eq!(body["paymentPspReference"], "ABCDEFGHIJKLMNOP");
}

#[test]
fn own_errors_have_adyens_shape_and_its_word_for_try_again() {
    let error = OwnError {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "circuit_open",
        message: "down".to_owned(),
        retry: true,
    };
    let reply = Adyen.render_error(&error, &head("/v71/payments"));
    assert_eq!(reply.headers()["transient-error"], "true");
    let body = reading::object(reply.body()).unwrap();
    assert_eq!(body["status"], 503);
    assert!(body["message"].as_str().unwrap().contains("circuit_open"));
}

#[test]
fn minted_references_look_like_adyens_and_are_stable() {
    let seed = [7; 16];
    let psp = Adyen.mint(ObjectKind::Payment, &seed);
    assert!(
        psp.len() == 16
            && psp
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    );
    assert_eq!(psp, Adyen.mint(ObjectKind::Payment, &seed));
    assert_ne!(psp, Adyen.mint(ObjectKind::Refund, &seed));
}

mod webhooks {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, KeyInit, Mac};

    const KEY: &str = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056";

    fn keys(secret: &str) -> WebhookKeys<'_> {
        WebhookKeys {
            secret: Some(secret),
            webhook_id: None,
            notification_url: None,
            account: None,
            vouched: false,
        }
    }

    fn item(event: &str, success: &str) -> Value {
        json!({"amount": {"currency": "EUR", "value": 1130}, "eventCode": event, "eventDate": "2026-11-25T10:00:00+01:00",
            "merchantAccountCode": "TestMerchant", "merchantReference": "TestPayment-1407325143704", "reason": "",
            "paymentMethod": "visa", "pspReference": "7914073381342284", "success": success})
    }

    fn signed(mut item: Value) -> Value {
        let key: Vec<u8> = (0..KEY.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&KEY[at..at + 2], 16).unwrap())
            .collect();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(webhook::signed_text(item.as_object().unwrap()).as_bytes());
        item["additionalData"]["hmacSignature"] = STANDARD.encode(mac.finalize().into_bytes()).into();
        item
    }

    fn verify(item: Value, secret: &str) -> Result<Vec<WebhookFact>, WebhookError> {
        let body = json!({"live": "false", "notificationItems": [{"NotificationRequestItem": item}]});
        Adyen.webhook(&keys(secret), &HeaderMap::new(), body.to_string().as_bytes(), 0)
    }

    #[test]
    fn the_example_of_adyens_documentation_verifies() {
        // Key, item and signature as published with Adyen's HMAC documentation and in its official libraries' tests.
        let mut item = item("AUTHORISATION", "true");
        item["additionalData"] = json!({"hmacSignature": "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="});
        let facts = verify(item, KEY).unwrap();
        assert_eq!(facts[0].observation.outcome, Outcome::Authorised);
        assert_eq!(facts[0].reference.as_deref(), Some("TestPayment-1407325143704"));
        assert_eq!(facts[0].occurred_at, Some(1_795_597_200));
    }

    #[test]
    fn nothing_unsigned_or_forged_is_believed() {
        assert_eq!(verify(item("CAPTURE", "true"), KEY), Err(WebhookError::Unsigned));
        let mut changed = signed(item("CAPTURE", "false"));
        changed["success"] = "true".into();
        assert_eq!(verify(changed, KEY), Err(WebhookError::Forged));
        let other = KEY.replace("44", "45");
        assert_eq!(
            verify(signed(item("CAPTURE", "true")), &other),
            Err(WebhookError::Forged)
        );
        assert_eq!(
            verify(signed(item("CAPTURE", "true")), "xyz"),
            Err(WebhookError::Unconfigured("secret"))
        );
        assert_eq!(
            Adyen.webhook(&keys(KEY), &HeaderMap::new(), b"{}", 0),
            Err(WebhookError::Unsigned)
        );
    }

    #[test]
    fn every_event_says_what_it_proves() {
        let outcome = |event: &str, success: &str| {
            let mut item = item(event, success);
            item["originalReference"] = "ORIGINAL".into();
            let fact = verify(signed(item), KEY).unwrap().remove(0);
            assert_eq!(fact.observation.payment_id.as_deref(), Some("ORIGINAL"));
            (fact.leg, fact.observation.outcome)
        };
        assert_eq!(outcome("CAPTURE", "true"), (Some(Leg::Capture), Outcome::Succeeded));
        assert_eq!(
            outcome("CAPTURE_FAILED", "true").1,
            Outcome::Rejected(Rejection::Request)
        );
        assert_eq!(outcome("REFUND", "true"), (Some(Leg::Refund), Outcome::Succeeded));
        assert_eq!(outcome("REFUND", "false").1, Outcome::Rejected(Rejection::Request));
        assert_eq!(outcome("TECHNICAL_CANCEL", "true"), (Some(Leg::Fence), Outcome::Fenced));
        assert_eq!(outcome("TECHNICAL_CANCEL", "false").1, Outcome::Unknown);
        assert_eq!(outcome("CHARGEBACK", "true").0, None);
        let mut refused = item("AUTHORISATION", "false");
        refused["reason"] = "Not enough balance".into();
        let fact = verify(signed(refused), KEY).unwrap().remove(0);
        assert_eq!(fact.observation.outcome, Outcome::Declined(DeclineClass::Hard));
    }
}
