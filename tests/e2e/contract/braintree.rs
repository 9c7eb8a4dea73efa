//! Braintree's classic gateway, which no machine-readable description exists of: the elements that its reference names for
//! requests, and those that its SDKs read of every transaction without asking whether they are there.

use std::cell::RefCell;

use http::{Method, StatusCode};
use indexmap::IndexMap;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use quick_xml::events::Event;
use sentinel::config::model::Dialect;
use sentinel::gateway::braintree::Braintree;
use sentinel::gateway::canonical::*;
use sentinel::gateway::{Account, Gateway, Outgoing, OwnError};
use sentinel::money::{Amount, Currency};

use super::arbitrary;

/// An element.
#[derive(Clone, Debug, Default)]
struct Node {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    inside: Vec<Node>,
}

impl Node {
    /// Reads a document of one element; panics where it is not well formed.
    fn read(document: &[u8]) -> Self {
        let text = std::str::from_utf8(document).expect("UTF-8");
        let mut reader = quick_xml::Reader::from_str(text);
        let mut open = vec![Self::default()];
        let named = |start: &quick_xml::events::BytesStart<'_>| Self {
            name: start.name().as_ref().to_owned(),
            attributes: start
                .attributes()
                .map(|attribute| attribute.expect("an attribute"))
                .map(|attribute| (attribute.key.as_ref().to_owned(), attribute.value.into_owned()))
                .collect(),
            ..Self::default()
        };
        loop {
            match reader.read_event().expect("well formed") {
                Event::Start(start) => open.push(named(&start)),
                Event::Empty(start) => open.last_mut().expect("open").inside.push(named(&start)),
                Event::End(_) => {
                    let done = open.pop().expect("open");
                    open.last_mut().expect("open").inside.push(done);
                }
                Event::Text(text) => {
                    open.last_mut().expect("open").text.push_str(&text.xml10_content());
                }
                Event::Eof => break,
                _ => {}
            }
        }
        let mut root = open.pop().expect("the document");
        assert!(open.is_empty() && root.inside.len() == 1, "{text}");
        root.inside.remove(0)
    }

    fn get(&self, name: &str) -> Option<&Self> {
        self.inside.iter().find(|node| node.name == name)
    }

    fn has(&self, attribute: &str, value: &str) -> bool {
        self.attributes
            .iter()
            .any(|(name, found)| name == attribute && found == value)
    }
}

/// The elements a transaction may have in a request, and what may stand in them.
const ASKED: [(&str, &[&str]); 14] = [
    ("type", &[]),
    ("amount", &[]),
    ("merchant_account_id", &[]),
    ("order_id", &[]),
    ("payment_method_token", &[]),
    ("transaction_source", &[]),
    ("api_request_key", &[]),
    (
        "credit_card",
        &[
            "number",
            "cvv",
            "expiration_month",
            "expiration_year",
            "cardholder_name",
            "network_tokenization_attributes",
        ],
    ),
    ("external_vault", &["status", "previous_network_transaction_id"]),
    (
        "three_d_secure_pass_thru",
        &["eci_flag", "cavv", "xid", "ds_transaction_id", "three_d_secure_version"],
    ),
    ("descriptor", &["name", "phone", "url"]),
    ("customer", &["first_name", "last_name", "company", "email", "phone"]),
    ("billing", ADDRESS),
    ("shipping", ADDRESS),
];

const ADDRESS: &[&str] = &[
    "first_name",
    "last_name",
    "company",
    "street_address",
    "extended_address",
    "locality",
    "region",
    "postal_code",
    "country_code_alpha2",
];

/// What Java and .NET read of a transaction in any case, and the other SDKs in some.
const SHOWN: [&str; 30] = [
    "id",
    "global-id",
    "status",
    "type",
    "currency-iso-code",
    "amount",
    "merchant-account-id",
    "order-id",
    "created-at",
    "updated-at",
    "gateway-rejection-reason",
    "processor-authorization-code",
    "processor-response-code",
    "processor-response-text",
    "network-transaction-id",
    "avs-error-response-code",
    "cvv-response-code",
    "refund-ids",
    "refunded-transaction-id",
    "status-history",
    "credit-card",
    "customer",
    "billing",
    "shipping",
    "custom-fields",
    "descriptor",
    "subscription",
    "disbursement-details",
    "payment-instrument-type",
    "three-d-secure-info",
];

const STATUSES: [&str; 9] = [
    "authorizing",
    "authorized",
    "submitted_for_settlement",
    "settling",
    "settled",
    "voided",
    "processor_declined",
    "gateway_rejected",
    "failed",
];

fn account(currency: Currency) -> Account {
    let accounts = format!("merchant_accounts.{}", currency.code());
    let mut account = arbitrary::account(&[
        ("merchant_id", "acme"),
        ("public_key", "public"),
        ("private_key", "private"),
        (&accounts, "acme_account"),
    ]);
    account.settings.insert("request_keys".to_owned(), "true".to_owned());
    account
}

/// Holds a request against the reference, and gives its amount.
fn check_request(outgoing: &Outgoing) -> Option<String> {
    if outgoing.body.is_empty() {
        return None;
    }
    let root = Node::read(&outgoing.body);
    if root.name == "search" {
        for criterion in &root.inside {
            let known = ["order_id", "amount", "created_at", "ids"];
            assert!(known.contains(&criterion.name.as_str()), "{criterion:?}");
        }
        return None;
    }
    assert_eq!(root.name, "transaction");
    for field in &root.inside {
        if field.name == "options" {
            assert!(
                field.inside.iter().all(|option| option.has("type", "boolean")),
                "{field:?}"
            );
            continue;
        }
        let known = ASKED.iter().find(|(name, _)| *name == field.name);
        let (_, inside) = known.unwrap_or_else(|| panic!("an unknown element: {field:?}"));
        for inner in &field.inside {
            assert!(inside.contains(&inner.name.as_str()), "{}: {inner:?}", field.name);
        }
    }
    let mut names: Vec<&str> = root.inside.iter().map(|field| field.name.as_str()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "an element is there twice");
    root.get("amount").map(|amount| amount.text.clone())
}

fn check_transaction(transaction: &Node) {
    for name in SHOWN {
        assert!(transaction.get(name).is_some(), "no {name} in {transaction:#?}");
    }
    let status = &transaction.get("status").expect("a status").text;
    assert!(STATUSES.contains(&status.as_str()), "{status}");
    let kind = &transaction.get("type").expect("a type").text;
    assert!(["sale", "credit"].contains(&kind.as_str()), "{kind}");
    for moment in ["created-at", "updated-at"] {
        let at = transaction.get(moment).expect("a moment");
        assert!(
            at.has("type", "datetime") && at.text.parse::<jiff::Timestamp>().is_ok(),
            "{at:?}"
        );
    }
    for array in ["refund-ids", "status-history"] {
        assert!(transaction.get(array).expect("an array").has("type", "array"));
    }
}

/// Holds an answer against what SDKs read, and gives its transaction.
fn check_answer(status: StatusCode, body: &[u8]) -> Option<Node> {
    let root = Node::read(body);
    if status.is_success() {
        assert_eq!(root.name, "transaction");
        check_transaction(&root);
        return Some(root);
    }
    assert_eq!(root.name, "api-error-response");
    let errors = root.get("errors").expect("errors");
    assert!(errors.get("errors").is_some_and(|errors| errors.has("type", "array")));
    assert!(root.get("message").is_some_and(|message| !message.text.is_empty()));
    let transaction = root.get("transaction").cloned();
    if let Some(transaction) = &transaction {
        check_transaction(transaction);
    }
    transaction
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    })
}

fn target(amount: Amount) -> Target {
    Target {
        payment: Some("abc123".to_owned()),
        amount: Some(amount),
        ..Target::default()
    }
}

#[test]
fn every_request_that_is_written_is_what_the_reference_names_and_keeps_its_amount() {
    let written = RefCell::new(0);
    runner(256)
        .run(&arbitrary::pay("tok_4111"), |pay| {
            let amount = pay.amount.expect("an amount");
            let account = account(amount.currency);
            let requests = [
                Request::Capture {
                    target: target(amount),
                    amount: Some(amount),
                    units: None,
                    last: true,
                },
                Request::Void {
                    target: target(amount),
                    reason: None,
                },
                Request::Refund {
                    target: target(amount),
                    amount: Some(amount),
                    units: None,
                    reason: None,
                    reference: pay.reference.clone(),
                    metadata: IndexMap::new(),
                },
                Request::Refund {
                    target: target(amount),
                    amount: None,
                    units: None,
                    reason: None,
                    reference: None,
                    metadata: IndexMap::new(),
                },
                Request::Retrieve { target: target(amount) },
                Request::Pay(Box::new(pay)),
            ];
            for request in requests {
                let Ok(outgoing) = Braintree.encode(&request, &account) else {
                    continue;
                };
                if let Some(text) = check_request(&outgoing) {
                    let read = Amount::from_decimal(Dialect::Braintree, &text, amount.currency.code());
                    prop_assert_eq!(read, Ok(amount));
                }
                *written.borrow_mut() += 1;
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(*written.borrow() > 600, "{} written", written.borrow());
    let currency = Currency::all().find(|currency| currency.code() == "USD").expect("USD");
    let earlier = EarlierAttempt {
        idempotency_key: Some("key-1".to_owned()),
        reference: Some("snt-1".to_owned()),
        amount: Amount::from_decimal(Dialect::Braintree, "19.99", "USD").ok(),
        sent_at: 1_795_000_000,
        ..EarlierAttempt::default()
    };
    let account = account(currency);
    let asked = [
        Braintree.fence(&earlier, &account),
        Braintree.lookup(&earlier, &account),
        Braintree.probe(&account),
    ];
    for outgoing in asked {
        check_request(&outgoing.expect("a request"));
    }
}

#[test]
fn every_answer_that_is_minted_has_what_the_sdks_read() {
    runner(256)
        .run(
            &(arbitrary::view(Dialect::Braintree), arbitrary::decline()),
            |(view, decline)| {
                let view = View {
                    refunds: Vec::new(),
                    ..view
                };
                let text = view.amount.to_decimal(Dialect::Braintree).expect("its own amount");
                let refund = |status| RefundView {
                    id: "credit1".to_owned(),
                    amount: view.amount,
                    status,
                    created: view.created,
                    reason: None,
                    reference: Some("R-1".to_owned()),
                    metadata: IndexMap::new(),
                };
                let boxed = || Box::new(view.clone());
                let answers = [
                    (Method::POST, Answer::Payment(Operation::Sale, boxed())),
                    (Method::POST, Answer::Declined(boxed(), decline)),
                    (Method::PUT, Answer::Payment(Operation::Capture, boxed())),
                    (Method::PUT, Answer::Payment(Operation::Void, boxed())),
                    (Method::GET, Answer::Payment(Operation::Retrieve, boxed())),
                    (Method::POST, Answer::Refund(boxed(), refund(RefundStatus::Succeeded))),
                    (Method::POST, Answer::Refund(boxed(), refund(RefundStatus::Failed))),
                    (Method::GET, Answer::Refund(boxed(), refund(RefundStatus::Pending))),
                    (
                        Method::POST,
                        Answer::InDoubt {
                            payment: "p".to_owned(),
                            running: false,
                            view: None,
                        },
                    ),
                ];
                for (method, answer) in answers {
                    let head = sentinel::gateway::Head {
                        method,
                        ..arbitrary::head("/merchants/acme/transactions", false)
                    };
                    let reply = Braintree.render(&answer, &head, b"");
                    if let Some(transaction) = check_answer(reply.status(), reply.body()) {
                        let amount = transaction.get("amount").map(|amount| amount.text.as_str());
                        prop_assert_eq!(amount, Some(text.as_str()));
                        let currency = transaction.get("currency-iso-code").map(|code| code.text.as_str());
                        prop_assert_eq!(currency, Some(view.amount.currency.code()));
                    }
                }
                Ok(())
            },
        )
        .unwrap_or_else(|error| panic!("{error}"));
    for status in [400, 401, 403, 404, 409, 422, 429, 500, 503, 504] {
        let error = OwnError {
            status: StatusCode::from_u16(status).expect("a status"),
            code: "circuit_open",
            message: "The gateway is down: <&>.".to_owned(),
            retry: false,
        };
        let reply = Braintree.render_error(&error, &arbitrary::head("/merchants/acme/transactions", false));
        check_answer(reply.status(), reply.body());
    }
}
