//! Braintree requests, against what its SDKs send; its answers stand in [`answers`].

mod answers;
mod notifications;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use indexmap::IndexMap;

use super::*;
use crate::config::model::Credentials;
use crate::gateway::canonical::*;
use crate::money::{Amount, Currency};

const REFERENCE: &str = "01936b1e-0000-7000-8000-00000000002a";

fn settings(more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let base = [
        ("currency", "USD"),
        ("merchant_accounts.USD", "acme_usd"),
        ("merchant_accounts.EUR", "acme_eur"),
        ("merchant_accounts.JPY", "acme_jpy"),
    ];
    let all = base.iter().chain(more);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn account(more: &[(&str, &str)]) -> Account {
    let credentials = [
        ("merchant_id", "acme"),
        ("public_key", "pub"),
        ("private_key", "hidden"),
        ("merchant_accounts.EUR", "acme_eur"),
        ("merchant_accounts.JPY", "acme_jpy"),
    ];
    let credentials = credentials.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Account {
        gateway: "braintree".to_owned(),
        credentials: Credentials::new(BTreeMap::from(credentials)),
        idempotency_key: "snt-key-1".to_owned(),
        reference: REFERENCE.to_owned(),
        settings: settings(more),
        token: None,
        prepared: BTreeMap::new(),
    }
}

fn head(method: Method, path: &str, content_type: &'static str) -> Head {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(content_type));
    Head {
        method,
        path: path.to_owned(),
        query: None,
        headers,
        base: "http://127.0.0.1:8083".to_owned(),
    }
}

const SALE_PATH: &str = "/merchants/acme/transactions";

fn parse_as(content_type: &'static str, body: &str) -> Result<Pay, Refusal> {
    let head = head(Method::POST, SALE_PATH, content_type);
    let recognised = Braintree.recognise(&Method::POST, SALE_PATH);
    match Braintree.parse(&recognised, &head, body.as_bytes(), &settings(&[]))? {
        Request::Pay(pay) => Ok(*pay),
        other => panic!("{other:?}"),
    }
}

fn parse(body: &str) -> Result<Pay, Refusal> {
    parse_as("application/xml", body)
}

fn pay(amount: Amount, instrument: Instrument) -> Pay {
    Pay {
        operation: Operation::Sale,
        confirms: None,
        amount: Some(amount),
        capture: CaptureMode::Automatic,
        instrument: Some(instrument),
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

fn usd(units: i64) -> Amount {
    Amount::from_minor(Dialect::Braintree, units, "USD").unwrap()
}

fn token() -> Instrument {
    Instrument::Token("tok_1".to_owned())
}

fn written(request: &Request, account: &Account) -> Result<(String, String), Refusal> {
    let outgoing = Braintree.encode(request, account)?;
    let body = String::from_utf8(outgoing.body.to_vec()).unwrap();
    Ok((format!("{} {}", outgoing.method, outgoing.target), body))
}

fn incoming(status: u16, body: &str) -> Incoming {
    let mut headers = HeaderMap::new();
    headers.insert(
        "content-type",
        HeaderValue::from_static("application/xml; charset=utf-8"),
    );
    Incoming {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        body: Bytes::from(body.to_owned()),
    }
}

fn transaction(status: &str, more: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<transaction>\n <id>abc123</id><status>{status}</status><type>sale</type>\
         <currency-iso-code>USD</currency-iso-code><amount>10.00</amount><order-id>6735.{REFERENCE}</order-id>\
         <gateway-rejection-reason nil=\"true\"/>{more}<refund-ids type=\"array\"/>\
         <credit-card><token nil=\"true\"/><last-4>1111</last-4><card-type>Visa</card-type>\
         <expiration-month>12</expiration-month><expiration-year>2030</expiration-year></credit-card></transaction>"
    )
}

fn observe(leg: Leg, request: &Request, status: u16, body: &str) -> Observation {
    Braintree.observe(leg, Some(request), Some(REFERENCE), &incoming(status, body))
}

fn sale() -> Request {
    Request::Pay(Box::new(pay(usd(1000), token())))
}

#[test]
fn every_call_that_moves_money_is_recognised() {
    let call = |method: Method, path: &str| {
        Braintree
            .recognise(&method, &format!("/merchants/acme/{path}"))
            .operation
    };
    assert_eq!(call(Method::POST, "transactions"), Operation::Sale);
    assert_eq!(call(Method::GET, "transactions/abc"), Operation::Retrieve);
    assert_eq!(
        call(Method::PUT, "transactions/abc/submit_for_settlement"),
        Operation::Capture
    );
    assert_eq!(call(Method::PUT, "transactions/abc/void"), Operation::Void);
    assert_eq!(call(Method::POST, "transactions/abc/reverse"), Operation::Void);
    assert_eq!(call(Method::POST, "transactions/abc/refund"), Operation::Refund);
    for opaque in [
        "transactions/advanced_search_ids",
        "transactions/advanced_search",
        "client_token",
        "customers",
    ] {
        assert_eq!(call(Method::POST, opaque), Operation::Opaque, "{opaque}");
    }
    // Recognised, and refused for what is another gateway's.
    for path in [
        "submit_for_partial_settlement",
        "adjust_authorization",
        "update_details",
    ] {
        let path = format!("/merchants/acme/transactions/abc/{path}");
        let method = if path.ends_with("partial_settlement") {
            Method::POST
        } else {
            Method::PUT
        };
        let recognised = Braintree.recognise(&method, &path);
        assert_eq!(recognised.object.as_deref(), Some("abc"));
        let parsed = Braintree.parse(
            &recognised,
            &head(method, &path, "application/xml"),
            b"",
            &settings(&[]),
        );
        assert!(matches!(parsed, Err(Refusal::Operation(_))), "{path}: {parsed:?}");
    }
}

#[test]
fn the_four_request_dialects_mean_one_payment() {
    let python = "<transaction><amount>10.00</amount><payment_method_token>tok_1</payment_method_token><order_id>6735</order_id><api_request_key>k1</api_request_key><options><submit_for_settlement type=\"boolean\">true</submit_for_settlement></options><type>sale</type></transaction>";
    let java = "<transaction><amount>10.00</amount><paymentMethodToken>tok_1</paymentMethodToken><orderId>6735</orderId><apiRequestKey>k1</apiRequestKey><options><submitForSettlement type=\"boolean\">true</submitForSettlement></options><type>sale</type></transaction>";
    let ruby = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<transaction>\n  <amount>10.00</amount>\n  <payment-method-token>tok_1</payment-method-token>\n  <order-id>6735</order-id>\n <api-request-key>k1</api-request-key>\n  <options>\n    <submit-for-settlement type=\"boolean\">true</submit-for-settlement>\n  </options>\n  <type>sale</type>\n</transaction>";
    let node = r#"{"transaction":{"amount":"10.00","payment_method_token":"tok_1","order_id":"6735","api_request_key":"k1","options":{"submit_for_settlement":true},"type":"sale"}}"#;
    for (content_type, body) in [
        ("application/xml", python),
        ("application/xml", java),
        ("application/xml", ruby),
        ("application/json", node),
    ] {
        let pay = parse_as(content_type, body).unwrap();
        assert_eq!(pay.amount, Some(usd(1000)), "{body}");
        assert_eq!(pay.capture, CaptureMode::Automatic);
        assert_eq!(pay.reference.as_deref(), Some("6735"));
        assert!(matches!(&pay.instrument, Some(Instrument::Token(token)) if token == "tok_1"));
        assert!(pay.unportable.is_empty(), "{:?}", pay.unportable);
        let key = Braintree.idempotency_key(&head(Method::POST, SALE_PATH, content_type), body.as_bytes());
        assert_eq!(key, Ok(Some("k1".to_owned())));
    }
    // The content type is not a matter of taste: a body of the other kind is not understood.
    assert!(parse_as("application/json", python).is_err());
    assert!(parse_as("application/xml", node).is_err());
    assert!(parse_as("text/plain", python).is_err());
}

#[test]
fn the_currency_is_the_merchant_accounts_or_the_payment_stays() {
    let with = |account: &str| {
        parse(&format!(
            "<transaction><type>sale</type><amount>10</amount>{account}<payment_method_token>t</payment_method_token></transaction>"
        ))
    };
    assert_eq!(with("").unwrap().amount.unwrap().currency.code(), "USD");
    let euro = with("<merchant_account_id>acme_eur</merchant_account_id>").unwrap();
    assert_eq!(euro.amount.unwrap().currency.code(), "EUR");
    let unknown = with("<merchant_account_id>acme_chf</merchant_account_id>");
    assert!(matches!(unknown, Err(Refusal::Account(_))));
    let yen = "<transaction><type>sale</type><amount>10.00</amount><merchant_account_id>acme_jpy</merchant_account_id><payment_method_token>t</payment_method_token></transaction>";
    assert!(parse(yen).is_err(), "yen have no decimals");
    let other = Request::Pay(Box::new(pay(
        Amount::from_minor(Dialect::Braintree, 1000, "CHF").unwrap(),
        token(),
    )));
    assert!(matches!(written(&other, &account(&[])), Err(Refusal::Currency(code)) if code == "CHF"));
}

#[test]
fn what_only_braintree_can_do_is_named() {
    let with = |more: &str| {
        parse(&format!(
            "<transaction><type>sale</type><amount>10</amount><payment_method_token>t</payment_method_token>{more}</transaction>"
        ))
        .unwrap()
        .unportable
    };
    assert!(with("<device_data>x</device_data><channel>shop</channel>").is_empty());
    for (more, name) in [
        ("<service_fee_amount>1.00</service_fee_amount>", "service_fee_amount"),
        (
            "<three_d_secure_authentication_id>x</three_d_secure_authentication_id>",
            "three_d_secure_authentication_id",
        ),
        (
            "<options><store_in_vault_on_success type=\"boolean\">true</store_in_vault_on_success></options>",
            "options.store_in_vault_on_success",
        ),
        (
            "<options><hold_in_escrow type=\"boolean\">true</hold_in_escrow></options>",
            "options.hold_in_escrow",
        ),
        (
            "<options><three_d_secure><required type=\"boolean\">true</required></three_d_secure></options>",
            "options.three_d_secure.required",
        ),
        ("<transaction_source>moto</transaction_source>", "transaction_source"),
        ("<customer><id>c1</id></customer>", "customer.id"),
    ] {
        assert_eq!(with(more), [name], "{more}");
    }
    let nonce = parse("<transaction><type>sale</type><amount>10</amount><payment_method_nonce>fake-valid-nonce</payment_method_nonce></transaction>").unwrap();
    assert!(
        matches!(nonce.instrument, Some(Instrument::Bound(_))),
        "good once, and only here"
    );
    let credit = parse(
        "<transaction><type>credit</type><amount>10</amount><payment_method_token>t</payment_method_token></transaction>",
    );
    assert!(matches!(credit, Err(Refusal::Operation(_))));
    let float = parse_as(
        "application/json",
        r#"{"transaction":{"type":"sale","amount":10.5,"payment_method_token":"t"}}"#,
    );
    assert!(matches!(float, Err(Refusal::Amount(_))), "no float is an amount");
}

#[test]
fn a_sale_is_written_as_the_sdks_write_it() {
    let mut asked = pay(usd(1000), token());
    asked.three_ds = Some(ThreeDs {
        version: "2.2.0".to_owned(),
        eci: Some("05".to_owned()),
        cryptogram: "AAAB".to_owned(),
        transaction_id: Some("ds-1".to_owned()),
    });
    asked.buyer.email = Some("a&b@example.com".to_owned());
    let request = Request::Pay(Box::new(asked));
    let (line, body) = written(&request, &account(&[])).unwrap();
    assert_eq!(line, "POST /merchants/acme/transactions");
    assert_eq!(
        body,
        format!(
            "<transaction><type>sale</type><amount>10.00</amount><order_id>6735.{REFERENCE}</order_id>\
             <payment_method_token>tok_1</payment_method_token><three_d_secure_pass_thru><eci_flag>05</eci_flag>\
             <cavv>AAAB</cavv><three_d_secure_version>2.2.0</three_d_secure_version>\
             <ds_transaction_id>ds-1</ds_transaction_id></three_d_secure_pass_thru>\
             <customer><email>a&amp;b@example.com</email></customer>\
             <options><submit_for_settlement type=\"boolean\">true</submit_for_settlement></options></transaction>"
        )
    );
    let outgoing = Braintree.encode(&request, &account(&[])).unwrap();
    assert_eq!(outgoing.headers["authorization"], "Basic cHViOmhpZGRlbg==");
    assert!(outgoing.headers["authorization"].is_sensitive());
    assert_eq!(outgoing.headers["x-apiversion"], "6");
    let (_, keyed) = written(&request, &account(&[("request_keys", "true")])).unwrap();
    assert!(
        keyed.contains("<api_request_key>snt-key-1</api_request_key>"),
        "{keyed}"
    );
}

#[test]
fn what_cannot_be_carried_honestly_is_refused() {
    let refused = |change: &dyn Fn(&mut Pay)| {
        let mut asked = pay(usd(1000), token());
        change(&mut asked);
        written(&Request::Pay(Box::new(asked)), &account(&[]))
            .unwrap_err()
            .label()
    };
    assert_eq!(refused(&|pay| pay.instrument = None), "no_portable_instrument");
    assert_eq!(refused(&|pay| pay.amount = Some(usd(0))), "amount_not_representable");
    assert_eq!(
        refused(&|pay| pay.unportable.push("x".to_owned())),
        "parameter_not_portable"
    );
    assert_eq!(
        refused(&|pay| pay.reference = Some("x".repeat(250))),
        "parameter_not_portable"
    );
    assert_eq!(
        refused(&|pay| {
            pay.initiator = Initiator::Merchant;
            pay.instrument = Some(Instrument::Card(Card {
                number: "4111111111111111".to_owned(),
                expiry_month: "12".to_owned(),
                expiry_year: "2030".to_owned(),
                cvc: None,
                holder: None,
            }));
        }),
        "parameter_not_portable"
    );
    assert_eq!(
        refused(&|pay| pay.three_ds = Some(ThreeDs {
            version: "1.0.2".to_owned(),
            eci: Some("05".to_owned()),
            cryptogram: "A".to_owned(),
            transaction_id: None,
        })),
        "three_ds_not_portable"
    );
    let nowhere = Request::Void {
        target: Target {
            payment: Some("../customers".to_owned()),
            ..Target::default()
        },
        reason: None,
    };
    assert!(
        written(&nowhere, &account(&[])).is_err(),
        "an id never leaves its segment"
    );
}

#[test]
fn a_refund_of_everything_is_a_reversal_and_of_a_part_a_refund() {
    let refund = |amount: Option<i64>, untouched: Option<i64>| {
        let target = Target {
            payment: Some("abc123".to_owned()),
            untouched: untouched.map(usd),
            ..Target::default()
        };
        let request = Request::Refund {
            target,
            amount: amount.map(usd),
            units: None,
            reason: None,
            reference: Some("r-1".to_owned()),
            metadata: IndexMap::new(),
        };
        written(&request, &account(&[])).unwrap()
    };
    assert_eq!(refund(None, None).0, "POST /merchants/acme/transactions/abc123/reverse");
    assert_eq!(
        refund(Some(1000), Some(1000)).0,
        "POST /merchants/acme/transactions/abc123/reverse"
    );
    let (line, body) = refund(Some(300), Some(1000));
    assert_eq!(line, "POST /merchants/acme/transactions/abc123/refund");
    assert!(
        body.contains("<amount>3.00</amount>") && body.contains(&format!("r-1.{REFERENCE}")),
        "{body}"
    );
    assert!(
        refund(Some(700), None).0.ends_with("/refund"),
        "the rest, after a part was given back"
    );
}

#[test]
fn hundredths_become_an_amount_of_the_payments_currency() {
    let capture = |body: &str, currency: &str| -> Result<Option<Amount>, Refusal> {
        let path = "/merchants/acme/transactions/abc/submit_for_settlement";
        let recognised = Braintree.recognise(&Method::PUT, path);
        let head = head(Method::PUT, path, "application/xml");
        let mut request = Braintree.parse(&recognised, &head, body.as_bytes(), &settings(&[]))?;
        request.in_currency(Dialect::Braintree, Currency::parse(currency).unwrap())?;
        match request {
            Request::Capture { amount, .. } => Ok(amount),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        capture("<transaction><amount>5.00</amount></transaction>", "USD").unwrap(),
        Some(usd(500))
    );
    assert_eq!(
        capture("<transaction><amount></amount></transaction>", "USD").unwrap(),
        None
    );
    assert_eq!(capture("", "USD").unwrap(), None);
    let yen = capture("<transaction><amount>500</amount></transaction>", "JPY").unwrap();
    assert_eq!(yen, Some(Amount::from_minor(Dialect::Braintree, 500, "JPY").unwrap()));
    assert!(capture("<transaction><amount>5.50</amount></transaction>", "JPY").is_err());
    assert!(capture("<transaction><amount>5.001</amount></transaction>", "USD").is_err());
}
