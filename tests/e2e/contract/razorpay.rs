//! Razorpay's API v1, which no machine-readable description exists of: the fields that its documentation names.

use std::cell::RefCell;

use http::{HeaderValue, Method, StatusCode};
use indexmap::IndexMap;
use jsonschema::Validator;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sentinel::config::model::Dialect;
use sentinel::gateway::canonical::*;
use sentinel::gateway::razorpay::Razorpay;
use sentinel::gateway::{Account, Gateway, Incoming, Outgoing, OwnError};
use sentinel::money::Amount;
use serde_json::{Value, json};

use super::arbitrary;

const TOKEN: &str = "cust_1Aa00000000001/token_1Aa00000000001";
const PAYMENT: &str = "pay_G3P9vcIhRs3NV4";

/// An object of exactly these fields; those of the second list may be missing.
fn object(fields: &Value, optional: &[&str]) -> Value {
    let names = fields.as_object().expect("fields").keys();
    let required: Vec<&String> = names.filter(|name| !optional.contains(&name.as_str())).collect();
    json!({"type": "object", "properties": fields, "required": required, "additionalProperties": false})
}

fn compiled(schema: &Value) -> Validator {
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .build(schema)
        .expect("a schema")
}

fn check(schema: &Value, document: &Value) {
    let errors: Vec<String> = compiled(schema)
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}

fn text() -> Value {
    json!({"type": "string"})
}

fn maybe_text() -> Value {
    json!({"type": ["string", "null"]})
}

fn id(kind: &str) -> Value {
    json!({"type": "string", "pattern": format!("^{kind}_[A-Za-z0-9]{{14}}$")})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

/// Notes are an array where there are none.
fn notes() -> Value {
    json!({"anyOf": [
        {"type": "array", "maxItems": 0},
        {"type": "object", "maxProperties": 15, "additionalProperties": {"type": "string", "maxLength": 256}},
    ]})
}

fn order() -> Value {
    let options = object(
        &json!({"automatic_expiry_period": {"type": "integer", "minimum": 12},
            "manual_expiry_period": {"type": "integer", "maximum": 7200},
            "refund_speed": {"enum": ["normal", "optimum"]}}),
        &["automatic_expiry_period", "manual_expiry_period", "refund_speed"],
    );
    let payment = object(
        &json!({"capture": {"enum": ["automatic", "manual"]}, "capture_options": options}),
        &["capture_options"],
    );
    object(
        &json!({"amount": {"type": "integer", "minimum": 1}, "currency": text(),
            "receipt": {"type": "string", "minLength": 1, "maxLength": 40}, "notes": notes(), "payment": payment,
            "customer_id": id("cust"), "method": text(), "partial_payment": {"type": "boolean"}}),
        &["customer_id", "method", "partial_payment", "payment", "notes"],
    )
}

fn recurring() -> Value {
    object(
        &json!({"email": {"type": "string", "maxLength": 40}, "contact": {"type": "string", "maxLength": 15},
            "amount": {"type": "integer", "minimum": 1}, "currency": text(), "order_id": id("order"),
            "customer_id": id("cust"), "token": id("token"), "recurring": {"enum": [true, "1"]},
            "description": text(), "notes": notes()}),
        &["description", "notes"],
    )
}

fn payment() -> Value {
    let card = object(
        &json!({"id": text(), "entity": {"const": "card"}, "name": text(), "last4": maybe_text(), "network": text(),
            "type": text(), "issuer": maybe_text(), "international": {"type": "boolean"}, "emi": {"type": "boolean"},
            "sub_type": text(), "token_iin": maybe_text()}),
        &[],
    );
    object(
        &json!({"id": text(), "entity": {"const": "payment"}, "amount": count(), "currency": text(),
            "status": {"enum": ["created", "authorized", "captured", "refunded", "failed"]}, "order_id": maybe_text(),
            "invoice_id": maybe_text(), "international": {"type": "boolean"}, "method": {"const": "card"},
            "amount_refunded": count(), "refund_status": {"enum": [null, "partial", "full"]},
            "captured": {"type": "boolean"}, "description": maybe_text(), "card_id": maybe_text(), "card": card,
            "bank": maybe_text(), "wallet": maybe_text(), "vpa": maybe_text(), "email": maybe_text(),
            "contact": maybe_text(), "customer_id": maybe_text(), "token_id": maybe_text(), "notes": notes(),
            "fee": {"type": ["integer", "null"]}, "tax": {"type": ["integer", "null"]}, "error_code": maybe_text(),
            "error_description": maybe_text(), "error_source": maybe_text(), "error_step": maybe_text(),
            "error_reason": maybe_text(), "acquirer_data": {"type": "object"}, "created_at": count()}),
        &["card"],
    )
}

fn refund() -> Value {
    object(
        &json!({"id": text(), "entity": {"const": "refund"}, "amount": count(), "currency": text(),
            "payment_id": text(), "notes": notes(), "receipt": maybe_text(), "acquirer_data": {"type": "object"},
            "created_at": count(), "batch_id": maybe_text(), "status": {"enum": ["pending", "processed", "failed"]},
            "speed_processed": {"enum": ["normal", "instant", "optimum"]},
            "speed_requested": {"enum": ["normal", "optimum"]}}),
        &[],
    )
}

fn begun() -> Value {
    object(
        &json!({"razorpay_payment_id": text(), "razorpay_order_id": text(),
            "razorpay_signature": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "next": {"type": "array", "items": object(&json!({"action": text(), "url": text()}), &[])}}),
        &["razorpay_order_id", "razorpay_signature", "next"],
    )
}

fn error() -> Value {
    let fault = object(
        &json!({"code": {"enum": ["BAD_REQUEST_ERROR", "GATEWAY_ERROR", "SERVER_ERROR"]}, "description": text(),
            "source": text(), "step": text(), "reason": text(), "field": maybe_text(), "metadata": {"type": "object"}}),
        &[],
    );
    object(&json!({ "error": fault }), &[])
}

fn account() -> Account {
    let account = arbitrary::account(&[("key_id", "rzp_test_1"), ("key_secret", "secret")]);
    Account {
        reference: "0197a3c0-6d1f-7000-8000-000000000001".to_owned(),
        ..account
    }
}

/// Holds a request against the documentation, and gives the amount that it names.
fn check_request(outgoing: &Outgoing) -> Option<i64> {
    if outgoing.method == Method::GET {
        assert!(outgoing.body.is_empty());
        return None;
    }
    let body: Value = serde_json::from_slice(&outgoing.body).expect("JSON");
    let schema = match outgoing.target.rsplit('/').next() {
        Some("orders") => order(),
        Some("recurring") => recurring(),
        Some("capture") => object(&json!({"amount": count(), "currency": text()}), &[]),
        Some("refund") => object(
            &json!({"amount": count(), "speed": {"enum": ["normal", "optimum"]},
                "receipt": {"type": "string", "maxLength": 40}, "notes": notes()}),
            &["receipt", "notes", "speed"],
        ),
        other => panic!("{other:?}"),
    };
    check(&schema, &body);
    body["amount"].as_i64()
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    })
}

fn answered(body: &Value) -> Incoming {
    Incoming {
        status: StatusCode::OK,
        headers: http::HeaderMap::from_iter([(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )]),
        body: body.to_string().into(),
    }
}

#[test]
fn every_request_that_is_written_is_what_the_documentation_names_and_keeps_its_amount() {
    let (written, charged) = (RefCell::new(0), RefCell::new(0));
    // Mandates are in rupees.
    let rupees =
        (100..10_000_000_i64).prop_map(|units| Amount::from_minor(Dialect::Razorpay, units, "INR").expect("rupees"));
    let strategy = (
        arbitrary::pay(TOKEN),
        prop_oneof![rupees, arbitrary::amount(Dialect::Razorpay)],
    );
    runner(256)
        .run(&strategy, |(pay, amount)| {
            let pay = Pay {
                amount: Some(amount),
                instrument: Some(Instrument::Token(TOKEN.to_owned())),
                initiator: Initiator::Merchant,
                three_ds: None,
                buyer: Buyer {
                    email: Some("a@shop.example".to_owned()),
                    phone: Some("+919000090000".to_owned()),
                    ..pay.buyer.clone()
                },
                ..pay
            };
            let units = amount.to_minor(Dialect::Razorpay).expect("its own amount");
            let target = Target {
                payment: Some(PAYMENT.to_owned()),
                amount: Some(amount),
                ..Target::default()
            };
            let mut account = account();
            let request = Request::Pay(Box::new(pay.clone()));
            // No order yet, one is opened, it is unpaid, and then it is charged.
            let order = "order_IluGWxBm9U8zJ8";
            let steps = [
                json!({"entity": "collection", "count": 0, "items": []}),
                json!({"id": order, "entity": "order", "amount": units, "amount_paid": 0, "amount_due": units,
                    "currency": amount.currency.code(), "receipt": account.reference, "status": "created",
                    "attempts": 0, "notes": [], "created_at": 1_795_000_000}),
                json!({"entity": "collection", "count": 0, "items": []}),
            ];
            for answer in steps {
                let Ok(Some(outgoing)) = Razorpay.before(&request, &account) else {
                    break;
                };
                if let Some(sent) = check_request(&outgoing) {
                    prop_assert_eq!(sent, units);
                    *written.borrow_mut() += 1;
                }
                if Razorpay.prepared(&request, &mut account, &answered(&answer)).is_err() {
                    break;
                }
            }
            let capture = Request::Capture {
                target: target.clone(),
                amount: Some(amount),
                units: None,
                last: true,
            };
            let back = Request::Refund {
                target,
                amount: Some(amount),
                units: None,
                reason: None,
                reference: pay.reference.clone(),
                metadata: pay.metadata.clone(),
            };
            for (index, request) in [request, capture, back].into_iter().enumerate() {
                let Ok(outgoing) = Razorpay.encode(&request, &account) else {
                    continue;
                };
                prop_assert_eq!(check_request(&outgoing), Some(units));
                *written.borrow_mut() += 1;
                *charged.borrow_mut() += u32::from(index == 0);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(*written.borrow() > 400, "{} written", written.borrow());
    assert!(*charged.borrow() > 10, "{} charged", charged.borrow());
}

#[test]
fn every_answer_that_is_minted_is_an_entity_with_all_its_fields() {
    runner(256)
        .run(
            &(
                arbitrary::view(Dialect::Razorpay),
                arbitrary::decline(),
                arbitrary::buyer(),
            ),
            |(view, decline, buyer)| {
                let view = View { buyer, ..view };
                let units = view.amount.to_minor(Dialect::Razorpay).expect("its own amount");
                let one = RefundView {
                    id: Razorpay.mint(ObjectKind::Refund, &[7; 16]),
                    amount: view.amount,
                    status: RefundStatus::Pending,
                    created: view.created,
                    reason: None,
                    reference: Some("R-1".to_owned()),
                    metadata: IndexMap::new(),
                };
                let boxed = || Box::new(view.clone());
                let list = |items: Value| {
                    object(
                        &json!({"entity": {"const": "collection"}, "count": count(),
                            "items": {"type": "array", "items": items}}),
                        &[],
                    )
                };
                let doubt = |running| Answer::InDoubt {
                    payment: "p".to_owned(),
                    running,
                    view: Some(boxed()),
                };
                let answers = [
                    (begun(), Answer::Payment(Operation::Sale, boxed())),
                    (payment(), Answer::Payment(Operation::Capture, boxed())),
                    (payment(), Answer::Payment(Operation::Retrieve, boxed())),
                    (refund(), Answer::Refund(boxed(), one.clone())),
                    (list(refund()), Answer::Refunds(boxed(), vec![one])),
                    (list(payment()), Answer::List(vec![view.clone()])),
                    (begun(), Answer::Declined(boxed(), decline)),
                    (begun(), doubt(true)),
                    (begun(), doubt(false)),
                ];
                for (schema, answer) in answers {
                    let reply = Razorpay.render(&answer, &arbitrary::head("/v1/payments", false), b"");
                    let body: Value = serde_json::from_slice(reply.body()).expect("JSON");
                    match reply.status().is_success() {
                        true => check(&schema, &body),
                        false => check(&error(), &body),
                    }
                    let shown = if body["entity"] == "collection" {
                        &body["items"][0]
                    } else {
                        &body
                    };
                    if let Some(amount) = shown.get("amount") {
                        prop_assert_eq!(amount.as_i64(), Some(units));
                        let read = Amount::from_minor(Dialect::Razorpay, units, view.amount.currency.code());
                        prop_assert_eq!(read, Ok(view.amount));
                    }
                }
                Ok(())
            },
        )
        .unwrap_or_else(|error| panic!("{error}"));
    for status in [400, 401, 404, 409, 422, 429, 500, 503, 504] {
        let own = OwnError {
            status: StatusCode::from_u16(status).expect("a status"),
            code: "circuit_open",
            message: "The gateway is down.".to_owned(),
            retry: false,
        };
        let reply = Razorpay.render_error(&own, &arbitrary::head("/v1/payments", false));
        check(&error(), &serde_json::from_slice(reply.body()).expect("JSON"));
    }
}
