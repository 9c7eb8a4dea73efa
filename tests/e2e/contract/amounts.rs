//! Amounts on their way from every dialect to every gateway and back: exact, or refused.

use http::{HeaderMap, HeaderValue, StatusCode};
use indexmap::IndexMap;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sentinel::config::model::Dialect;
use sentinel::gateway::canonical::{Refusal, Request, Target};
use sentinel::gateway::{Account, Incoming, Leg, for_dialect};
use sentinel::money::{Amount, Currency};
use serde_json::{Value, json};

use super::arbitrary;

const DIALECTS: [Dialect; 6] = [
    Dialect::Stripe,
    Dialect::Adyen,
    Dialect::Paypal,
    Dialect::Square,
    Dialect::Razorpay,
    Dialect::Braintree,
];

fn account(gateway: Dialect, currency: Currency) -> Account {
    if gateway == Dialect::Braintree {
        let accounts = format!("merchant_accounts.{}", currency.code());
        return arbitrary::account(&[
            ("merchant_id", "acme"),
            ("public_key", "public"),
            ("private_key", "private"),
            (&accounts, "acme_account"),
        ]);
    }
    arbitrary::account(match gateway {
        Dialect::Stripe => &[("secret_key", "sk_test_1")],
        Dialect::Adyen => &[("api_key", "key"), ("merchant_account", "AcmeECOM")],
        Dialect::Paypal => &[("client_id", "id"), ("client_secret", "secret")],
        Dialect::Square => &[("access_token", "token"), ("location_id", "L1")],
        _ => &[("key_id", "rzp_test_1"), ("key_secret", "secret")],
    })
}

fn refund(amount: Amount) -> Request {
    let id = |prefix: &str| Some(format!("{prefix}993617894903480A"));
    Request::Refund {
        target: Target {
            payment: id(""),
            charge: id(""),
            amount: Some(amount),
            ..Target::default()
        },
        amount: Some(amount),
        units: None,
        reason: None,
        reference: None,
        metadata: IndexMap::new(),
    }
}

/// Braintree's answer to a refund.
fn credit(body: &[u8], currency: Currency) -> String {
    let asked = String::from_utf8_lossy(body);
    let amount = asked
        .split("<amount>")
        .nth(1)
        .and_then(|rest| rest.split("</amount>").next());
    let (amount, code) = (amount.expect("an amount"), currency.code());
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><transaction><id>credit1</id><status>submitted_for_settlement</status>\
         <type>credit</type><currency-iso-code>{code}</currency-iso-code><amount>{amount}</amount>\
         <refunded-transaction-id>993617894903480A</refunded-transaction-id></transaction>"
    )
}

/// The gateway's answer to a refund: it names what it was asked for, as it was written.
fn answered(gateway: Dialect, body: &[u8], currency: Currency) -> (Value, &'static str) {
    let json = || serde_json::from_slice::<Value>(body).expect("JSON");
    let payment = "993617894903480A";
    match gateway {
        Dialect::Stripe => {
            let amount = form_urlencoded::parse(body).find(|(name, _)| name == "amount");
            let amount: i64 = amount.expect("an amount").1.parse().expect("an integer");
            let refund = json!({"id": "re_1", "object": "refund", "status": "succeeded", "amount": amount,
                "currency": currency.lower(), "payment_intent": payment});
            (refund, "request-id")
        }
        Dialect::Adyen => (
            json!({"status": "received", "pspReference": "R993617894903480", "paymentPspReference": payment,
                "amount": json()["amount"]}),
            "pspreference",
        ),
        Dialect::Paypal => (
            json!({"id": "R1", "status": "COMPLETED", "amount": json()["amount"]}),
            "paypal-debug-id",
        ),
        Dialect::Square => (
            json!({"refund": {"id": "R1", "status": "COMPLETED", "payment_id": payment,
                "amount_money": json()["amount_money"]}}),
            "square-version",
        ),
        _ => (
            json!({"id": "rfnd_1", "entity": "refund", "status": "processed", "payment_id": payment,
                "amount": json()["amount"], "currency": currency.code()}),
            "x-none",
        ),
    }
}

/// Whether the target took it; panics when it took another amount.
fn carried(target: Dialect, amount: Amount) -> bool {
    let gateway = for_dialect(target).expect("a dialect");
    let request = refund(amount);
    let outgoing = match gateway.encode(&request, &account(target, amount.currency)) {
        Ok(outgoing) => outgoing,
        Err(Refusal::Currency(_) | Refusal::Amount(_) | Refusal::Limit(_)) => return false,
        Err(other) => panic!("{target:?}: {amount:?}: {other}"),
    };
    let mut headers = HeaderMap::new();
    let body = match target {
        Dialect::Braintree => {
            let xml = HeaderValue::from_static("application/xml; charset=utf-8");
            headers.insert(http::header::CONTENT_TYPE, xml);
            credit(&outgoing.body, amount.currency)
        }
        _ => {
            let (body, header) = answered(target, &outgoing.body, amount.currency);
            headers.insert(header, HeaderValue::from_static("req_1"));
            body.to_string()
        }
    };
    let status = match target {
        Dialect::Adyen | Dialect::Braintree => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    let incoming = Incoming {
        status,
        headers,
        body: body.clone().into(),
    };
    let reference = account(target, amount.currency).reference;
    let seen = gateway.observe(Leg::Refund, Some(&request), Some(&reference), &incoming);
    assert_eq!(seen.amount, Some(amount), "{target:?}: {body}");
    // One unit more is another amount, and never what was asked for.
    let more = Amount {
        units: amount.units + 1,
        ..amount
    };
    let other = gateway.observe(Leg::Refund, Some(&refund(more)), Some(&reference), &incoming);
    assert_eq!(
        other.outcome,
        sentinel::gateway::outcome::Outcome::Conflict,
        "{target:?}: {body} for {more:?}"
    );
    true
}

#[test]
fn every_currency_goes_from_every_dialect_to_every_gateway_exactly_or_not_at_all() {
    let mut table = std::collections::BTreeMap::<(Dialect, Dialect), usize>::new();
    for currency in Currency::all() {
        for source in DIALECTS {
            for value in [100_i64, 12_300, 12_345, 99_999_990] {
                let Ok(amount) = Amount::from_minor(source, value, currency.code()) else {
                    continue;
                };
                for target in DIALECTS {
                    *table.entry((source, target)).or_default() += usize::from(carried(target, amount));
                }
            }
        }
    }
    for ((source, target), count) in &table {
        assert!(*count > 0, "nothing goes from {source:?} to {target:?}");
    }
    assert_eq!(table.len(), DIALECTS.len() * DIALECTS.len());
}

#[test]
fn any_amount_of_any_dialect_is_read_back_as_it_was() {
    let source = proptest::sample::select(DIALECTS.to_vec());
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(2_000)
    });
    runner
        .run(
            &(
                source.prop_flat_map(arbitrary::amount),
                proptest::sample::select(DIALECTS.to_vec()),
            ),
            |(amount, target)| {
                carried(target, amount);
                Ok(())
            },
        )
        .unwrap_or_else(|error| panic!("{error}"));
}
