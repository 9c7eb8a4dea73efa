//! Generated payments, views and accounts.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use proptest::option;
use proptest::prelude::*;
use sentinel::config::model::{Credentials, Dialect};
use sentinel::gateway::canonical::*;
use sentinel::gateway::outcome::{Decline, DeclineClass};
use sentinel::gateway::{AccessToken, Account, Head};
use sentinel::money::{Amount, Currency};

pub fn account(credentials: &[(&str, &str)]) -> Account {
    let credentials: BTreeMap<String, String> = credentials
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Account {
        gateway: "target".to_owned(),
        credentials: Credentials::new(credentials),
        idempotency_key: "snt-4f1c9a02be7d4f6c9a".to_owned(),
        reference: "snt-01JDQ8Z5W3X7YB".to_owned(),
        settings: BTreeMap::new(),
        prepared: BTreeMap::new(),
        token: Some(AccessToken {
            value: "A21AAtoken".to_owned().into(),
            expires_in: 32_400,
        }),
    }
}

pub fn head(path: &str, full: bool) -> Head {
    let mut headers = http::HeaderMap::new();
    if full {
        headers.insert("prefer", http::HeaderValue::from_static("return=representation"));
    }
    Head {
        method: http::Method::POST,
        path: path.to_owned(),
        query: None,
        headers,
        base: "http://127.0.0.1:8080/gateway".to_owned(),
    }
}

pub fn currency() -> impl Strategy<Value = Currency> {
    proptest::sample::select(Currency::all().collect::<Vec<_>>())
}

/// An amount as the dialect itself could have written it.
pub fn amount(dialect: Dialect) -> impl Strategy<Value = Amount> {
    (currency(), 1..10_000_000_i64).prop_filter_map("the dialect takes the currency", move |(currency, value)| {
        let amount = Amount::from_minor(dialect, value, currency.code()).ok()?;
        amount.to_minor(dialect).is_ok().then_some(amount)
    })
}

fn text(max: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 1..max).prop_map(|chars| chars.into_iter().collect())
}

fn address() -> impl Strategy<Value = Address> {
    let part = || option::of(text(40));
    let country = option::of(proptest::sample::select(vec!["US", "DE", "in"]).prop_map(str::to_owned));
    (part(), part(), part(), part(), option::of("[A-Z0-9]{1,10}"), country).prop_map(
        |(line1, line2, city, state, postal_code, country)| Address {
            line1,
            line2,
            city,
            state,
            postal_code,
            country,
        },
    )
}

pub fn buyer() -> impl Strategy<Value = Buyer> {
    let email = option::of("[a-z]{1,8}@shop\\.example");
    (
        option::of(text(60)),
        email,
        option::of("[0-9]{5,12}"),
        option::of(address()),
        option::of(address()),
    )
        .prop_map(|(name, email, phone, billing, shipping)| Buyer {
            name,
            email,
            phone,
            ip: Some("192.0.2.7".to_owned()),
            billing,
            shipping,
        })
}

/// Instruments a target may be given; `token` is one of its own vault.
fn instrument(token: &'static str) -> impl Strategy<Value = Instrument> {
    let card = (option::of("[0-9]{3}"), option::of(text(30)), 1..=12_u8).prop_map(|(cvc, holder, month)| {
        Instrument::Card(Card {
            number: "4111111111111111".to_owned(),
            expiry_month: format!("{month:02}"),
            expiry_year: "2030".to_owned(),
            cvc,
            holder,
        })
    });
    let eci = option::of(proptest::sample::select(vec!["05", "06", "07", "02", "01"]).prop_map(str::to_owned));
    let network = (option::of("[A-Za-z0-9+/]{20,28}"), eci).prop_map(|(cryptogram, eci)| {
        Instrument::NetworkToken(NetworkToken {
            number: "4895370012003478".to_owned(),
            expiry_month: "11".to_owned(),
            expiry_year: "2031".to_owned(),
            cryptogram,
            eci,
        })
    });
    prop_oneof![card, network, Just(Instrument::Token(token.to_owned()))]
}

fn three_ds() -> impl Strategy<Value = ThreeDs> {
    let eci = option::of(proptest::sample::select(vec!["05", "06", "02", "01", "07"]).prop_map(str::to_owned));
    (eci, "[A-Za-z0-9+/]{27}=", option::of("[a-f0-9]{8}-[a-f0-9]{4}")).prop_map(|(eci, cryptogram, transaction_id)| {
        ThreeDs {
            version: "2.2.0".to_owned(),
            eci,
            cryptogram,
            transaction_id,
        }
    })
}

fn metadata() -> impl Strategy<Value = IndexMap<String, String>> {
    proptest::collection::vec((text(40), text(200)), 0..25).prop_map(|pairs| pairs.into_iter().collect())
}

/// A payment whose amount some dialect wrote.
pub fn pay(token: &'static str) -> impl Strategy<Value = Pay> {
    let source = proptest::sample::select(vec![Dialect::Stripe, Dialect::Adyen, Dialect::Paypal]);
    let what = (
        source.prop_flat_map(amount),
        instrument(token),
        any::<bool>(),
        any::<bool>(),
        option::of(three_ds()),
    );
    let words = (
        option::of(text(140)),
        option::of(text(200)),
        option::of(text(40)),
        metadata(),
        buyer(),
    );
    let links = (
        option::of(Just("https://shop.example/return".to_owned())),
        option::of("[0-9]{15}"),
    );
    (what, words, links).prop_map(
        |(
            (amount, instrument, manual, merchant, three_ds),
            (reference, description, statement, metadata, buyer),
            links,
        )| {
            Pay {
                operation: if manual { Operation::Authorize } else { Operation::Sale },
                confirms: None,
                amount: Some(amount),
                capture: if manual {
                    CaptureMode::Manual
                } else {
                    CaptureMode::Automatic
                },
                instrument: Some(instrument),
                customer: None,
                initiator: if merchant {
                    Initiator::Merchant
                } else {
                    Initiator::Customer
                },
                reference,
                description,
                statement,
                metadata,
                buyer,
                return_url: links.0,
                three_ds,
                network_transaction_id: links.1,
                unportable: Vec::new(),
            }
        },
    )
}

pub const STATUSES: [Status; 7] = [
    Status::Created,
    Status::ActionRequired,
    Status::Processing,
    Status::Authorised,
    Status::Captured,
    Status::Voided,
    Status::Declined,
];

/// A payment as an answer in `dialect` shows it.
pub fn view(dialect: Dialect) -> impl Strategy<Value = View> {
    let brand = proptest::sample::select(vec!["visa", "mastercard", "amex", "unionpay", "unknown"]);
    let card = option::of(
        (brand, "[0-9]{4}", 1..=12_u8, 2026..2040_u16).prop_map(|(brand, last4, month, year)| CardView {
            brand: Some(brand.to_owned()),
            last4: Some(last4),
            expiry_month: Some(month),
            expiry_year: Some(year),
        }),
    );
    let state = (
        proptest::sample::select(STATUSES.to_vec()),
        any::<bool>(),
        0..1_900_000_000_i64,
        1..=3_i64,
    );
    let words = (
        option::of("[A-Za-z0-9 -]{1,60}"),
        option::of("[A-Za-z0-9 ]{1,20}"),
        option::of("[0-9]{15}"),
    );
    let redirect = option::of(Just("https://bank.example/challenge".to_owned()));
    (amount(dialect), state, card, words, redirect).prop_map(
        |(amount, (status, manual, created, refunds), card, (reference, statement, network), redirect)| {
            let zero = Amount::zero(amount.currency);
            let part = Amount {
                units: amount.units / refunds,
                ..amount
            };
            let refund = RefundView {
                id: "REFUND0000000001".to_owned(),
                amount,
                status: RefundStatus::Succeeded,
                created,
                reason: None,
                reference: None,
                metadata: IndexMap::new(),
            };
            View {
                ids: ViewIds {
                    payment: "PAYMENT000000001".to_owned(),
                    charge: "CHARGE0000000001".to_owned(),
                    capture: None,
                    request: "90957fca61718".to_owned(),
                },
                status,
                amount,
                captured: if status == Status::Captured { amount } else { zero },
                refunded: if status == Status::Captured && refunds == 1 {
                    part
                } else {
                    zero
                },
                taking: None,
                kept: None,
                captures: Vec::new(),
                capture: if manual {
                    CaptureMode::Manual
                } else {
                    CaptureMode::Automatic
                },
                created,
                voided_at: (status == Status::Voided).then_some(created),
                instrument: None,
                card,
                customer: None,
                reference,
                description: None,
                statement,
                metadata: IndexMap::from([("custom_id".to_owned(), "op-1".to_owned())]),
                buyer: Buyer::default(),
                decline: None,
                refunds: if status == Status::Captured && refunds == 1 {
                    vec![refund]
                } else {
                    Vec::new()
                },
                live: false,
                redirect,
                network_transaction_id: network,
                approval_code: Some("044925".to_owned()),
            }
        },
    )
}

pub fn decline() -> impl Strategy<Value = Decline> {
    let names = vec![
        "insufficient_funds",
        "expired_card",
        "generic_decline",
        "invalid_cvc",
        "lost_or_stolen",
        "authentication_required",
    ];
    let classes = vec![
        DeclineClass::Hard,
        DeclineClass::Soft,
        DeclineClass::Fraud,
        DeclineClass::RetryLater,
    ];
    (
        proptest::sample::select(names),
        proptest::sample::select(classes),
        option::of("[0-9]{2}"),
    )
        .prop_map(|(canonical, class, advice)| Decline {
            canonical: canonical.to_owned(),
            class,
            raw_code: "raw".to_owned(),
            message: "declined".to_owned(),
            advice,
        })
}
