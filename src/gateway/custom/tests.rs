//! A described gateway: what is written, what is read, and what nothing may become.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use indexmap::IndexMap;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::load;
use crate::config::model::Credentials;
use crate::config::model::custom::DECLINES;
use crate::gateway::canonical::*;
use crate::gateway::outcome::{DeclineClass, Outcome, Rejection};
use crate::money::declines::{self, Advice};
use crate::money::{Amount, Currency};

const REFERENCE: &str = "01936b1e-0000-7000-8000-00000000002a";

/// The shipped example.
fn example() -> &'static Custom {
    example_with("accepted: [202]").unwrap()
}

/// The same with other words for how captures, voids and refunds are answered.
fn example_with(modifications: &str) -> Result<&'static Custom, String> {
    let text = include_str!("../../../examples/custom-gateway/checkout-com.yaml")
        .replace("${STRIPE_SECRET_KEY}", "sk_test_1")
        .replace("${CHECKOUT_SECRET_KEY}", "sk_checkout")
        .replace("${CHECKOUT_PROCESSING_CHANNEL}", "pc_1")
        .replace("accepted: [202]", modifications);
    let config =
        load::parse(std::path::Path::new("example.yaml"), &text).map_err(|problems| format!("{problems:?}"))?;
    Ok(of(config.gateways["checkout_com"].custom.as_ref().unwrap()))
}

fn account() -> Account {
    let credentials = [("secret_key", "sk_checkout"), ("processing_channel", "pc_1")];
    Account {
        gateway: "checkout_com".to_owned(),
        credentials: Credentials::new(credentials.map(|(n, v)| (n.to_owned(), v.to_owned())).into()),
        idempotency_key: "snt-key-1".to_owned(),
        reference: REFERENCE.to_owned(),
        settings: BTreeMap::new(),
        token: None,
        prepared: BTreeMap::new(),
    }
}

fn eur(units: i64) -> Amount {
    Amount::from_minor(Dialect::Custom, units, "EUR").unwrap()
}

fn pay(amount: Amount, capture: CaptureMode) -> Pay {
    Pay {
        operation: Operation::Sale,
        confirms: None,
        amount: Some(amount),
        capture,
        instrument: Some(Instrument::Token("src_1".to_owned())),
        customer: None,
        initiator: Initiator::Customer,
        reference: Some("6735".to_owned()),
        description: None,
        statement: None,
        metadata: IndexMap::new(),
        buyer: Buyer::default(),
        return_url: None,
        three_ds: None,
        network_transaction_id: None,
        unportable: Vec::new(),
    }
}

fn written(request: &Request) -> Result<(String, Value), Refusal> {
    let outgoing = example().encode(request, &account())?;
    let body = serde_json::from_slice(&outgoing.body).unwrap_or(Value::Null);
    Ok((format!("{} {}", outgoing.method, outgoing.target), body))
}

fn incoming(status: u16, body: &Value) -> Incoming {
    let mut headers = HeaderMap::new();
    headers.insert("cko-request-id", HeaderValue::from_static("r-1"));
    Incoming {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        body: Bytes::from(body.to_string()),
    }
}

fn answered(status: &str) -> Value {
    json!({"id": "pay_1", "status": status, "amount": 1999, "currency": "EUR", "reference": REFERENCE,
        "response_code": "10000", "source": {"last4": "4242"}, "scheme_id": "638"})
}

fn observe(leg: Leg, capture: CaptureMode, status: u16, body: &Value) -> Observation {
    let request = Request::Pay(Box::new(pay(eur(1999), capture)));
    example().observe(leg, Some(&request), Some(REFERENCE), &incoming(status, body))
}

#[test]
fn one_description_is_one_gateway() {
    assert!(std::ptr::eq(example(), example()));
    let capabilities = example().capabilities();
    assert_eq!(capabilities.fence, FenceStrength::F1, "configuration claims no fence");
    assert!(capabilities.manual_capture && capabilities.void && capabilities.server_side_card);
    assert_eq!(capabilities.idempotency_hours, 24);
}

#[test]
fn requests_are_written_as_they_are_described() {
    let (line, body) = written(&Request::Pay(Box::new(pay(eur(1999), CaptureMode::Automatic)))).unwrap();
    assert_eq!(line, "POST /payments");
    assert_eq!(
        body,
        json!({"source": {"type": "id", "id": "src_1"}, "amount": 1999, "currency": "EUR", "capture": true,
            "reference": REFERENCE, "processing_channel_id": "pc_1", "metadata": {"order": "6735"}})
    );
    let mut card = pay(eur(1999), CaptureMode::Manual);
    card.instrument = Some(Instrument::Card(Card {
        number: "4242424242424242".to_owned(),
        expiry_month: "06".to_owned(),
        expiry_year: "2030".to_owned(),
        cvc: Some("100".to_owned()),
        holder: None,
    }));
    let (_, body) = written(&Request::Pay(Box::new(card))).unwrap();
    assert_eq!(body["capture"], false);
    assert_eq!(
        body["source"],
        json!({"type": "card", "number": "4242424242424242", "expiry_month": 6, "expiry_year": 2030, "cvv": "100"})
    );
    let target = Target {
        payment: Some("pay/../x".to_owned()),
        amount: Some(eur(1999)),
        ..Target::default()
    };
    let (line, _) = written(&Request::Void { target, reason: None }).unwrap();
    assert_eq!(
        line, "POST /payments/pay%2F..%2Fx/voids",
        "a value never leaves its segment"
    );
    let nowhere = Request::Void {
        target: Target::default(),
        reason: None,
    };
    assert!(written(&nowhere).is_err());
    let outgoing = example().encode(&Request::Pay(Box::new(pay(eur(1), CaptureMode::Automatic))), &account());
    let headers = outgoing.unwrap().headers;
    assert_eq!(headers["cko-idempotency-key"], "snt-key-1");
    assert!(headers["authorization"].is_sensitive());
}

#[test]
fn what_no_template_can_carry_is_refused() {
    let refused = |change: &dyn Fn(&mut Pay)| {
        let mut asked = pay(eur(1999), CaptureMode::Automatic);
        change(&mut asked);
        written(&Request::Pay(Box::new(asked))).unwrap_err().label()
    };
    assert_eq!(refused(&|pay| pay.amount = Some(eur(0))), "amount_not_representable");
    let rupees = Amount::from_minor(Dialect::Custom, 100, "INR").unwrap();
    assert_eq!(refused(&|pay| pay.amount = Some(rupees)), "currency_not_supported");
    assert_eq!(
        refused(&|pay| pay.instrument = Some(Instrument::Bound("x".to_owned()))),
        "no_portable_instrument"
    );
    assert_eq!(
        refused(&|pay| pay.initiator = Initiator::Merchant),
        "parameter_not_portable"
    );
    assert_eq!(
        refused(&|pay| pay.unportable.push("x".to_owned())),
        "parameter_not_portable"
    );
    assert_eq!(
        refused(&|pay| pay.three_ds = Some(ThreeDs {
            version: "2.2.0".to_owned(),
            eci: None,
            cryptogram: "A".to_owned(),
            transaction_id: None,
        })),
        "three_ds_not_portable"
    );
}

#[test]
fn words_statuses_and_codes_mean_what_is_described_and_nothing_else() {
    use CaptureMode::{Automatic, Manual};
    for (capture, word, outcome) in [
        (Manual, "Authorized", Outcome::Authorised),
        (Automatic, "Authorized", Outcome::Succeeded),
        (Automatic, "Captured", Outcome::Succeeded),
        (Manual, "Voided", Outcome::Fenced),
        (Automatic, "Pending", Outcome::Unknown),
        (Automatic, "Brand New", Outcome::Unknown),
    ] {
        let seen = observe(Leg::Charge, capture, 201, &answered(word));
        assert_eq!(seen.outcome, outcome, "{word}: {}", seen.rule);
    }
    for (code, class) in [
        ("20051", DeclineClass::Hard),
        ("20005", DeclineClass::Soft),
        ("30041", DeclineClass::Fraud),
        ("20091", DeclineClass::RetryLater),
        ("77777", DeclineClass::Hard),
    ] {
        let mut body = answered("Declined");
        body["response_code"] = code.into();
        assert_eq!(
            observe(Leg::Charge, Automatic, 201, &body).outcome,
            Outcome::Declined(class),
            "{code}"
        );
    }
    let mut duplicate = answered("Declined");
    duplicate["response_code"] = "20094".into();
    assert_eq!(
        observe(Leg::Charge, Automatic, 201, &duplicate).outcome,
        Outcome::Unknown
    );
    for (status, outcome) in [
        (401, Outcome::Rejected(Rejection::Account)),
        (422, Outcome::Rejected(Rejection::Request)),
        (429, Outcome::Unknown),
        (500, Outcome::Unknown),
        (302, Outcome::Unknown),
    ] {
        assert_eq!(
            observe(Leg::Charge, Automatic, status, &json!({})).outcome,
            outcome,
            "{status}"
        );
    }
    let mut page = incoming(201, &answered("Captured"));
    page.headers.clear();
    assert_eq!(
        example().observe(Leg::Charge, None, None, &page).outcome,
        Outcome::Unknown
    );
    for (pointer, value) in [
        ("/amount", json!(1998)),
        ("/amount", json!("1999")),
        ("/currency", json!("USD")),
        ("/reference", json!("other")),
    ] {
        let mut body = answered("Captured");
        *body.pointer_mut(pointer).unwrap() = value;
        assert_eq!(
            observe(Leg::Charge, Automatic, 201, &body).outcome,
            Outcome::Conflict,
            "{pointer}"
        );
    }
    let listed = |items: Value| observe(Leg::Lookup, Automatic, 200, &json!({"data": items})).outcome;
    assert_eq!(listed(json!([answered("Captured")])), Outcome::Succeeded);
    assert_eq!(listed(json!([])), Outcome::Unknown, "an index may lag behind");
    assert_eq!(
        listed(json!([answered("Captured"), answered("Captured")])),
        Outcome::Unknown
    );
    let refund = Request::Void {
        target: Target::default(),
        reason: None,
    };
    let accepted = example().observe(
        Leg::Refund,
        Some(&refund),
        None,
        &incoming(202, &json!({"action_id": "act_1"})),
    );
    assert!(accepted.pending && accepted.outcome == Outcome::Unknown);
    assert_eq!(accepted.modification_id.as_deref(), Some("act_1"));
}

#[test]
fn a_modification_is_what_its_word_says_where_the_status_does_not_tell() {
    let gateway = example_with("status: /state, states: { done: Done, accepted: Queued, refused: [Denied, Late] }");
    let gateway = gateway.unwrap();
    let observed = |status: u16, body: Value| {
        let seen = gateway.observe(Leg::Void, None, None, &incoming(status, &body));
        (seen.outcome, seen.pending)
    };
    let unknown = (Outcome::Unknown, false);
    assert_eq!(observed(200, json!({"state": "Done"})), (Outcome::Succeeded, false));
    assert_eq!(observed(202, json!({"state": "Done"})), (Outcome::Succeeded, false));
    assert_eq!(observed(200, json!({"state": "Queued"})), (Outcome::Unknown, true));
    for word in ["Denied", "Late"] {
        let refused = (Outcome::Rejected(Rejection::Request), false);
        assert_eq!(observed(200, json!({"state": word})), refused);
    }
    for body in [
        json!({"state": "done"}),
        json!({"state": null}),
        json!({}),
        json!(["Done"]),
    ] {
        assert_eq!(observed(200, body), unknown);
    }
    assert_eq!(
        observed(203, json!({"state": "Done"})),
        unknown,
        "a status nobody described"
    );
    // Either without the other is a mistake, and so is a word with two meanings.
    for wrong in [
        "status: /state",
        "states: { done: Done }",
        "states: { refused: Denied }",
        "status: /state, states: { refused: Denied }",
        "status: /state, states: { done: Done, refused: Done }",
    ] {
        let errors = example_with(wrong).unwrap_err();
        assert!(errors.contains("modifications.states"), "{wrong}: {errors}");
    }
}

#[test]
fn the_names_of_declines_are_those_of_the_table() {
    for name in DECLINES {
        let code = declines::code_for(Dialect::Stripe, name, declines::DeclineClass::Soft);
        assert!(
            declines::classify(Dialect::Stripe, code, &Advice::default()).known,
            "{name}"
        );
    }
}

proptest! {
    /// Canonical to the described gateway and back: the same amount and currency, in all of its currencies.
    #[test]
    fn no_amount_becomes_another(units in 1_i64..=9_999_999_999, pick in any::<prop::sample::Index>(), manual in any::<bool>()) {
        let code = pick.get(&example().description.currencies);
        let amount = Amount::from_minor(Dialect::Custom, units, code).unwrap();
        let capture = if manual { CaptureMode::Manual } else { CaptureMode::Automatic };
        let request = Request::Pay(Box::new(pay(amount, capture)));
        let (_, body) = written(&request).unwrap();
        let answer = json!({"id": "pay_1", "status": if manual { "Authorized" } else { "Captured" },
            "amount": body["amount"], "currency": body["currency"], "reference": body["reference"]});
        let seen = example().observe(Leg::Charge, Some(&request), Some(REFERENCE), &incoming(201, &answer));
        prop_assert_eq!(seen.amount, Some(amount));
        prop_assert_eq!(seen.amount.unwrap().currency, Currency::parse(code).unwrap());
        let wanted = if manual { Outcome::Authorised } else { Outcome::Succeeded };
        prop_assert_eq!(seen.outcome, wanted);
    }
}
