//! The simulator against Braintree's documented behaviour.

use http::HeaderMap;

use super::*;
use crate::sandbox::books::Books;

struct Bench {
    braintree: Braintree,
    books: Books,
    now: i64,
}

impl Bench {
    fn new() -> Self {
        Self {
            braintree: Braintree::default(),
            books: Books::default(),
            now: 1_795_000_000,
        }
    }

    fn request(method: &str, path: &str, content_type: &str, body: &str) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Basic c2FuZGJveDpzYW5kYm94".parse().unwrap());
        headers.insert("x-apiversion", "6".parse().unwrap());
        headers.insert("content-type", content_type.parse().unwrap());
        Request {
            method: method.parse().unwrap(),
            path: format!("/merchants/sandbox/{path}"),
            query: String::new(),
            headers,
            body: body.to_owned().into(),
            base: "http://sandbox".to_owned(),
        }
    }

    fn send(&mut self, request: &Request) -> (u16, String) {
        let answer = match self.braintree.admit(self.now, request) {
            Err(answer) => *answer,
            Ok(()) => {
                let (answer, turn) = self.braintree.execute(self.now, request);
                self.books.record(self.now, "braintree", turn.effects);
                answer
            }
        };
        (
            answer.status().as_u16(),
            String::from_utf8_lossy(answer.body()).into_owned(),
        )
    }

    fn call(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.send(&Self::request(method, path, "application/xml", body))
    }

    fn sale(&mut self, amount: &str, more: &str) -> (u16, String) {
        let body = format!(
            "<transaction><amount>{amount}</amount><type>sale</type><payment_method_token>tok</payment_method_token>{more}</transaction>"
        );
        self.call("POST", "transactions", &body)
    }
}

fn element<'a>(text: &'a str, name: &str) -> &'a str {
    let from = text
        .find(&format!("<{name}>"))
        .map_or(text.len(), |at| at + name.len() + 2);
    text[from..].split('<').next().unwrap_or_default()
}

const SUBMIT: &str = "<options><submit_for_settlement type=\"boolean\">true</submit_for_settlement></options>";

#[test]
fn four_request_dialects_make_the_same_sale() {
    let mut bench = Bench::new();
    for (content_type, body) in [
        (
            "application/xml",
            "<transaction><amount>10.00</amount><order_id>1</order_id><payment_method_nonce>fake-valid-nonce</payment_method_nonce><options><submit_for_settlement type=\"boolean\">true</submit_for_settlement></options><type>sale</type></transaction>",
        ),
        (
            "application/xml",
            "<transaction><amount>10.00</amount><orderId>2</orderId><paymentMethodNonce>fake-valid-nonce</paymentMethodNonce><options><submitForSettlement type=\"boolean\">true</submitForSettlement></options><type>sale</type></transaction>",
        ),
        (
            "application/xml",
            "<transaction><amount>10.00</amount><order-id>3</order-id><payment-method-nonce>fake-valid-nonce</payment-method-nonce><options><submit-for-settlement type=\"boolean\">true</submit-for-settlement></options><type>sale</type></transaction>",
        ),
        (
            "application/json",
            r#"{"transaction":{"amount":"10.00","order_id":"4","payment_method_nonce":"fake-valid-nonce","options":{"submit_for_settlement":true},"type":"sale"}}"#,
        ),
    ] {
        let (status, answer) = bench.send(&Bench::request("POST", "transactions", content_type, body));
        assert_eq!(
            (status, element(&answer, "status")),
            (201, "submitted_for_settlement"),
            "{answer}"
        );
        assert_eq!(element(&answer, "currency-iso-code"), "USD");
    }
    assert_eq!(bench.books.audit().positions.len(), 4);
    assert!(bench.books.audit().clean());
}

#[test]
fn what_is_submitted_is_voided_and_what_is_settled_is_refunded() {
    let mut bench = Bench::new();
    let (_, first) = bench.sale("10.00", SUBMIT);
    let id = element(&first, "id").to_owned();
    let refund = format!("transactions/{id}/refund");
    let (status, answer) = bench.call("POST", &refund, "<transaction><amount>3.00</amount></transaction>");
    assert_eq!((status, element(&answer, "code")), (422, "91506"), "{answer}");
    bench.braintree.set("settle", "now").unwrap();
    let (status, answer) = bench.call("POST", &refund, "<transaction><amount>3.00</amount></transaction>");
    assert_eq!((status, element(&answer, "type")), (201, "credit"), "{answer}");
    assert_eq!(element(&answer, "refunded-transaction-id"), id);
    let (_, too_much) = bench.call("POST", &refund, "<transaction><amount>7.01</amount></transaction>");
    assert_eq!(element(&too_much, "code"), "91521");
    let (_, void) = bench.call("PUT", &format!("transactions/{id}/void"), "");
    assert_eq!(element(&void, "code"), "91504");
    bench.call("POST", &format!("transactions/{id}/reverse"), "");
    let (_, again) = bench.call("POST", &refund, "");
    assert_eq!(element(&again, "code"), "91512");

    bench.now += 60;
    let (_, second) = bench.sale("10.00", SUBMIT);
    let id = element(&second, "id").to_owned();
    let (status, reversed) = bench.call("POST", &format!("transactions/{id}/reverse"), "");
    assert_eq!((status, element(&reversed, "status")), (201, "voided"));
    let audit = bench.books.audit();
    assert!(audit.clean(), "{audit:#?}");
    assert!(audit.positions.iter().all(|position| !position.live()));
}

#[test]
fn a_hold_is_captured_in_part_and_the_rest_is_released() {
    let mut bench = Bench::new();
    let (_, held) = bench.sale("20.00", "");
    assert_eq!(element(&held, "status"), "authorized");
    let path = format!("transactions/{}/submit_for_settlement", element(&held, "id"));
    let (_, more) = bench.call("PUT", &path, "<transaction><amount>20.01</amount></transaction>");
    assert_eq!(element(&more, "code"), "91522");
    let (status, taken) = bench.call("PUT", &path, "<transaction><amount>8.00</amount></transaction>");
    assert_eq!((status, element(&taken, "amount")), (200, "8.00"));
    assert_eq!(element(&bench.call("PUT", &path, "").1, "code"), "91507");
    let audit = bench.books.audit();
    assert_eq!((audit.positions[0].captured, audit.positions[0].held), (800, 0));
    assert!(audit.clean());
}

#[test]
fn a_key_answers_with_the_current_status_and_with_its_own_errors() {
    let mut bench = Bench::new();
    let key = format!("<api_request_key>k1</api_request_key>{SUBMIT}");
    let (_, first) = bench.sale("10.00", &key);
    let id = element(&first, "id").to_owned();
    bench.call("PUT", &format!("transactions/{id}/void"), "");
    let (status, again) = bench.sale("10.00", &key);
    assert_eq!(
        (status, element(&again, "id"), element(&again, "status")),
        (201, id.as_str(), "voided")
    );
    let (_, other) = bench.sale("11.00", &key);
    assert_eq!(element(&other, "code"), "915232");
    // A request that makes nothing keeps its key from everybody.
    let claim = "<transaction><type>sale</type><api_request_key>k2</api_request_key></transaction>";
    assert_eq!(element(&bench.call("POST", "transactions", claim).1, "code"), "81502");
    assert_eq!(element(&bench.call("POST", "transactions", claim).1, "code"), "915234");
    assert_eq!(
        element(&bench.sale("10.00", "<api_request_key>k2</api_request_key>").1, "code"),
        "915234"
    );
    // While it runs, its twin waits.
    let running = Bench::request(
        "POST",
        "transactions",
        "application/xml",
        "<transaction><type>sale</type><amount>1</amount><payment_method_token>t</payment_method_token><api_request_key>k3</api_request_key></transaction>",
    );
    bench.braintree.admit(bench.now, &running).unwrap();
    assert_eq!(element(&bench.send(&running).1, "code"), "915233");
    bench.braintree.abandon(&running);
    assert_eq!(bench.send(&running).0, 201);
    bench.now += KEY_LIFE;
    assert_eq!(bench.send(&running).0, 201, "thirty days later it is another payment");
    bench.braintree.set("request_keys", "false").unwrap();
    assert_eq!(element(&bench.sale("10.00", &key).1, "code"), "915231");
}

#[test]
fn without_a_key_the_same_again_is_a_rejected_duplicate_for_thirty_seconds() {
    let mut bench = Bench::new();
    let order = "<order_id>6735</order_id>";
    assert_eq!(bench.sale("10.00", order).0, 201);
    let (status, twin) = bench.sale("10.00", order);
    assert_eq!(
        (status, element(&twin, "gateway-rejection-reason")),
        (422, "duplicate"),
        "{twin}"
    );
    assert_eq!(element(&twin, "message"), "Gateway Rejected: duplicate");
    assert_eq!(bench.sale("10.00", "<order_id>6736</order_id>").0, 201);
    bench.now += 30;
    assert_eq!(bench.sale("10.00", order).0, 201);
}

#[test]
fn amounts_nonces_and_tokens_choose_what_comes_of_a_sale() {
    let mut bench = Bench::new();
    for (amount, status, code) in [
        ("2000.00", "processor_declined", "2000"),
        ("2046.99", "processor_declined", "2046"),
        ("3000.50", "failed", "3000"),
        ("5001.00", "gateway_rejected", ""),
        ("1999.99", "authorized", "1000"),
    ] {
        let (_, answer) = bench.sale(amount, "");
        assert_eq!(
            (element(&answer, "status"), element(&answer, "processor-response-code")),
            (status, code),
            "{amount}"
        );
    }
    for (amount, code) in [
        ("", "81502"),
        ("-1", "81501"),
        ("0.00", "81531"),
        ("1.001", "81503"),
        ("1e3", "81503"),
        ("12345678901", "81528"),
    ] {
        assert_eq!(element(&bench.sale(amount, "").1, "code"), code, "{amount}");
    }
    let nonce = |name: &str| {
        format!(
            "<transaction><type>sale</type><amount>5.00</amount><payment_method_nonce>{name}</payment_method_nonce></transaction>"
        )
    };
    for (name, code) in [
        ("fake-consumed-nonce", "91564"),
        ("fake-luhn-invalid-nonce", "81715"),
        ("made-up", "91565"),
    ] {
        assert_eq!(
            element(&bench.call("POST", "transactions", &nonce(name)).1, "code"),
            code
        );
    }
    let made = bench.call("POST", "payment_methods/tok/nonces", "").1;
    let once = nonce(element(&made, "nonce"));
    assert_eq!(bench.call("POST", "transactions", &once).0, 201);
    assert_eq!(element(&bench.call("POST", "transactions", &once).1, "code"), "91564");
    let yen = bench
        .sale("500", "<merchant_account_id>sandbox_jpy</merchant_account_id>")
        .1;
    assert_eq!(
        (element(&yen, "currency-iso-code"), element(&yen, "amount")),
        ("JPY", "500")
    );
    assert_eq!(
        element(
            &bench.sale("5", "<merchant_account_id>none</merchant_account_id>").1,
            "code"
        ),
        "91513"
    );
}

#[test]
fn a_search_lags_behind_and_finds_by_order_amount_and_time() {
    let mut bench = Bench::new();
    let reference = "01936b1e-0000-7000-8000-00000000002a";
    let (_, made) = bench.sale("10.00", &format!("<order_id>6735.{reference}</order_id>"));
    let id = element(&made, "id").to_owned();
    let search = format!(
        "<search><order_id><ends_with>{reference}</ends_with></order_id><amount><is>10.00</is></amount></search>"
    );
    assert!(
        !bench
            .call("POST", "transactions/advanced_search_ids", &search)
            .1
            .contains("<item>")
    );
    bench.now += 1;
    assert_eq!(
        element(
            &bench.call("POST", "transactions/advanced_search_ids", &search).1,
            "item"
        ),
        id
    );
    let other = search.replace("10.00", "10.01");
    assert!(
        !bench
            .call("POST", "transactions/advanced_search_ids", &other)
            .1
            .contains("<item>")
    );
    let second = format!(
        "<search><order_id><ends_with>{reference}</ends_with></order_id><ids type=\"array\"><item>{id}</item></ids></search>"
    );
    assert_eq!(
        element(&bench.call("POST", "transactions/advanced_search", &second).1, "id"),
        id
    );
    let position = &bench.books.audit().positions[0];
    assert_eq!(
        (position.order.as_deref(), position.reference.as_deref()),
        (Some("6735"), Some(reference))
    );
}

#[test]
fn credentials_version_and_path_come_first() {
    let mut bench = Bench::new();
    let mut request = Bench::request("GET", "transactions/none", "application/xml", "");
    assert_eq!(bench.send(&request).0, 404);
    request.headers.remove("x-apiversion");
    assert_eq!(bench.send(&request).0, 426);
    request.headers.insert("x-apiversion", "6".parse().unwrap());
    request.path = "/merchants/other/transactions/none".to_owned();
    assert_eq!(bench.send(&request).0, 403);
    request.headers.insert("authorization", "Basic eDp5".parse().unwrap());
    assert_eq!(bench.send(&request).0, 401);
    assert_eq!(bench.call("POST", "transactions", "<!DOCTYPE t><transaction/>").0, 403);
}
