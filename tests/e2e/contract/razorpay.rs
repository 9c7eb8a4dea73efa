//! Razorpay's API v1, which no machine-readable description exists of: the fields that its documentation names.

use http::StatusCode;
use indexmap::IndexMap;
use jsonschema::Validator;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sentinel::config::model::Dialect;
use sentinel::gateway::canonical::*;
use sentinel::gateway::razorpay::Razorpay;
use sentinel::gateway::{Gateway, OwnError};
use sentinel::money::Amount;
use serde_json::{Value, json};

use super::arbitrary;

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

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    })
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
