//! The simulator against PayPal's documented behaviour.

use http::HeaderMap;

use super::*;
use crate::sandbox::books::Books;

struct Bench {
    paypal: Paypal,
    books: Books,
    now: i64,
    token: String,
}

type Answer = (u16, Value);

impl Bench {
    fn new() -> Self {
        let mut bench = Self {
            paypal: Paypal::default(),
            books: Books::default(),
            now: 1_795_000_000,
            token: String::new(),
        };
        bench.fetch();
        bench
    }

    fn fetch(&mut self) -> Answer {
        let mut request = self.request("POST", "/v1/oauth2/token", None, "grant_type=client_credentials");
        request
            .headers
            .insert("authorization", "Basic c2FuZGJveDpzYW5kYm94".parse().unwrap());
        let answer = self.send(&request);
        self.token = answer.1["access_token"].as_str().unwrap_or_default().to_owned();
        answer
    }

    fn request(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        headers.insert("prefer", "return=representation".parse().unwrap());
        if let Some(key) = key {
            headers.insert("paypal-request-id", key.parse().unwrap());
        }
        Request {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            query: String::new(),
            headers,
            body: body.to_owned().into(),
            base: "http://sandbox".to_owned(),
        }
    }

    fn send(&mut self, request: &Request) -> Answer {
        let answer = match self.paypal.admit(self.now, request) {
            Err(answer) => *answer,
            Ok(()) => {
                let (answer, turn) = self.paypal.execute(self.now, request);
                self.books.record(self.now, "paypal", turn.effects);
                answer
            }
        };
        (
            answer.status().as_u16(),
            serde_json::from_slice(answer.body()).unwrap_or_default(),
        )
    }

    fn post(&mut self, path: &str, key: Option<&str>, body: &str) -> Answer {
        let request = self.request("POST", path, key, body);
        self.send(&request)
    }

    fn get(&mut self, path: &str) -> Answer {
        let request = self.request("GET", path, None, "");
        self.send(&request)
    }

    fn pay(&mut self, intent: &str, key: &str, holder: &str) -> Answer {
        let body = json!({"intent": intent, "purchase_units": [{"custom_id": "op-1", "invoice_id": "order-1",
            "amount": {"currency_code": "USD", "value": "20.00"}}], "payment_source": {"card": {"name": holder,
            "number": "4012888888881881", "expiry": "2030-02", "security_code": "123"}}});
        self.post("/v2/checkout/orders", Some(key), &body.to_string())
    }
}

fn issue(answer: &Answer) -> &str {
    answer.1["details"][0]["issue"].as_str().unwrap_or_default()
}

#[test]
fn a_card_sale_is_refunded_in_parts_and_no_further() {
    let mut bench = Bench::new();
    let (status, order) = bench.pay("CAPTURE", "k", "Jane");
    assert_eq!((status, order["status"].as_str()), (201, Some("COMPLETED")));
    let capture = order["purchase_units"][0]["payments"]["captures"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v2/payments/captures/{capture}/refund");
    let part = r#"{"amount":{"currency_code":"USD","value":"5.00"}}"#;
    assert_eq!(bench.post(&path, Some("r1"), part).0, 201);
    assert_eq!(bench.post(&path, Some("r1"), part).0, 201, "a replay refunds nothing");
    let too_much = bench.post(
        &path,
        Some("r2"),
        r#"{"amount":{"currency_code":"USD","value":"15.01"}}"#,
    );
    assert_eq!(issue(&too_much), "REFUND_AMOUNT_EXCEEDED");
    assert_eq!(bench.post(&path, None, "").1["amount"]["value"], "15.00");
    assert_eq!(issue(&bench.post(&path, None, "{}")), "CAPTURE_FULLY_REFUNDED");
    assert_eq!(
        bench.get(&format!("/v2/payments/captures/{capture}")).1["status"],
        "REFUNDED"
    );
    let audit = bench.books.audit();
    assert!(audit.clean());
    assert_eq!((audit.positions[0].captured, audit.positions[0].refunded), (2000, 2000));
}

#[test]
fn a_request_id_answers_with_the_latest_state_for_six_hours() {
    let mut bench = Bench::new();
    let (_, first) = bench.pay("CAPTURE", "k", "Jane");
    let capture = first["purchase_units"][0]["payments"]["captures"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    bench.post(&format!("/v2/payments/captures/{capture}/refund"), None, "");
    let (status, again) = bench.pay("CAPTURE", "k", "CCREJECT-IF");
    assert_eq!((status, &again["id"]), (200, &first["id"]), "whatever the body says");
    assert_eq!(
        again["purchase_units"][0]["payments"]["captures"][0]["status"],
        "REFUNDED"
    );
    bench.now += ORDER_KEY_LIFE;
    assert_eq!(bench.pay("CAPTURE", "k", "Jane").0, 201, "forgotten: it pays again");
}

#[test]
fn declines_come_in_both_forms_and_leave_the_key_free() {
    let mut bench = Bench::new();
    let refused = bench.pay("CAPTURE", "k", "CCREJECT-IF");
    assert_eq!((refused.0, issue(&refused)), (422, "INSTRUMENT_DECLINED"));
    bench.paypal.set("declines_inside", "true").unwrap();
    let (status, order) = bench.pay("CAPTURE", "k", "CCREJECT-IF");
    assert_eq!((status, order["status"].as_str()), (201, Some("COMPLETED")));
    let capture = &order["purchase_units"][0]["payments"]["captures"][0];
    assert_eq!(
        (&capture["status"], &capture["processor_response"]["response_code"]),
        (&json!("DECLINED"), &json!("5120"))
    );
    assert!(bench.books.entries().is_empty());
}

#[test]
fn a_hold_is_captured_in_parts_or_voided_once() {
    let mut bench = Bench::new();
    let hold = |bench: &mut Bench, key: &str| {
        let (_, order) = bench.pay("AUTHORIZE", key, "Jane");
        order["purchase_units"][0]["payments"]["authorizations"][0]["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let id = hold(&mut bench, "a");
    let capture = |value: &str, last: bool| {
        json!({"amount": {"currency_code": "USD", "value": value}, "final_capture": last}).to_string()
    };
    let path = format!("/v2/payments/authorizations/{id}");
    assert_eq!(
        bench.post(&format!("{path}/capture"), None, &capture("8.00", false)).0,
        201
    );
    assert_eq!(bench.get(&path).1["status"], "PARTIALLY_CAPTURED");
    assert_eq!(
        issue(&bench.post(&format!("{path}/capture"), None, &capture("12.01", false))),
        "MAX_CAPTURE_AMOUNT_EXCEEDED"
    );
    assert_eq!(
        bench.post(&format!("{path}/capture"), None, &capture("2.00", true)).0,
        201
    );
    assert_eq!(
        issue(&bench.post(&format!("{path}/capture"), None, "")),
        "AUTHORIZATION_ALREADY_CAPTURED"
    );
    assert_eq!(
        issue(&bench.post(&format!("{path}/void"), None, "")),
        "PREVIOUSLY_CAPTURED"
    );
    let other = format!("/v2/payments/authorizations/{}", hold(&mut bench, "b"));
    assert_eq!(bench.post(&format!("{other}/void"), None, "").1["status"], "VOIDED");
    assert_eq!(
        issue(&bench.post(&format!("{other}/void"), None, "")),
        "PREVIOUSLY_VOIDED"
    );
    let audit = bench.books.audit();
    assert!(audit.violations.is_empty(), "{:?}", audit.violations);
    assert_eq!(
        (
            audit.positions[0].captured,
            audit.positions[0].held,
            audit.positions[1].held
        ),
        (1000, 0, 0)
    );
    let late = format!("/v2/payments/authorizations/{}", hold(&mut bench, "c"));
    bench.now += 29 * 86_400;
    bench.fetch();
    assert_eq!(
        issue(&bench.post(&format!("{late}/capture"), None, "")),
        "AUTHORIZATION_EXPIRED"
    );
    assert!(!bench.books.audit().positions[2].live());
}

#[test]
fn wallet_orders_wait_for_their_buyer_and_expire() {
    let mut bench = Bench::new();
    let body = r#"{"intent":"CAPTURE","purchase_units":[{"amount":{"currency_code":"JPY","value":"500"}}]}"#;
    let (_, order) = bench.post("/v2/checkout/orders", None, body);
    assert_eq!(order["links"][1]["rel"], "approve");
    let capture = format!("/v2/checkout/orders/{}/capture", order["id"].as_str().unwrap());
    bench.paypal.set("auto_approve", "false").unwrap();
    assert_eq!(issue(&bench.post(&capture, None, "")), "ORDER_NOT_APPROVED");
    bench.paypal.set("auto_approve", "true").unwrap();
    assert_eq!(bench.post(&capture, Some("c"), "").0, 201);
    assert_eq!(bench.post(&capture, Some("c"), "").0, 200, "a replay");
    assert_eq!(issue(&bench.post(&capture, Some("d"), "")), "ORDER_ALREADY_CAPTURED");
    let (_, late) = bench.post("/v2/checkout/orders", None, body);
    bench.now += 6 * 3600;
    assert_eq!(
        bench
            .get(&format!("/v2/checkout/orders/{}", late["id"].as_str().unwrap()))
            .0,
        404
    );
}

#[test]
fn twins_tokens_and_amounts_are_refused_as_paypal_does() {
    let mut bench = Bench::new();
    let running = bench.request("POST", "/v2/checkout/orders", Some("k"), "{}");
    bench.paypal.admit(bench.now, &running).unwrap();
    let twin = bench.pay("CAPTURE", "k", "Jane");
    assert_eq!((twin.0, issue(&twin)), (409, "PREVIOUS_REQUEST_IN_PROGRESS"));
    bench.paypal.abandon(&running);
    let capture = bench.request("POST", "/v2/checkout/orders/X/capture", Some("a"), "");
    bench.paypal.admit(bench.now, &capture).unwrap();
    assert_eq!(
        issue(&bench.post("/v2/checkout/orders/X/capture", Some("b"), "")),
        "ORDER_COMPLETION_IN_PROGRESS"
    );
    let order = |code: &str, value: &str| {
        json!({"intent": "CAPTURE", "purchase_units": [{"amount": {"currency_code": code, "value": value}}]})
            .to_string()
    };
    for (code, value, wanted) in [
        ("JPY", "5.50", "DECIMALS_NOT_SUPPORTED"),
        ("KWD", "1.00", "CURRENCY_NOT_SUPPORTED"),
        ("USD", "1.001", "DECIMAL_PRECISION"),
        ("USD", "-1", "INVALID_PARAMETER_VALUE"),
    ] {
        assert_eq!(
            issue(&bench.post("/v2/checkout/orders", None, &order(code, value))),
            wanted
        );
    }
    let without_id = json!({"intent": "CAPTURE", "purchase_units": [{"amount": {"currency_code": "USD", "value": "1"}}], "payment_source": {"card": {}}});
    assert_eq!(
        issue(&bench.post("/v2/checkout/orders", None, &without_id.to_string())),
        "PAYPAL_REQUEST_ID_REQUIRED"
    );
    let mut mocked = bench.request("POST", "/v2/checkout/orders", None, &order("USD", "1.00"));
    mocked.headers.insert(
        "paypal-mock-response",
        r#"{"mock_application_codes":"DUPLICATE_INVOICE_ID"}"#.parse().unwrap(),
    );
    assert_eq!(issue(&bench.send(&mocked)), "DUPLICATE_INVOICE_ID");
    bench.paypal.set("unique_invoices", "true").unwrap();
    bench.pay("CAPTURE", "one", "Jane");
    assert_eq!(issue(&bench.pay("CAPTURE", "two", "Jane")), "DUPLICATE_INVOICE_ID");
    bench.now += TOKEN_LIFE;
    assert_eq!(
        bench.pay("CAPTURE", "three", "Jane").1["name"],
        "AUTHENTICATION_FAILURE"
    );
    bench.paypal.set("token_limit", "0").unwrap();
    assert_eq!(bench.fetch().0, 429);
}
