//! The simulator against Razorpay's documented behaviour.

use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::sandbox::books::{Books, Kind};

struct Bench {
    razorpay: Razorpay,
    books: Books,
    now: i64,
    scheduled: Vec<String>,
    webhooks: usize,
}

impl Bench {
    fn new() -> Self {
        let mut razorpay = Razorpay::default();
        razorpay.set("webhook_secret", "secret").unwrap();
        Self {
            razorpay,
            books: Books::default(),
            now: 1_795_000_000,
            scheduled: Vec::new(),
            webhooks: 0,
        }
    }

    fn request(method: Method, target: &str, key: Option<&str>, body: &Value) -> Request {
        let mut headers = HeaderMap::new();
        let pair = STANDARD.encode("rzp_test_sandbox:sandbox");
        headers.insert("authorization", format!("Basic {pair}").parse().unwrap());
        if let Some(key) = key {
            headers.insert("x-refund-idempotency", key.parse().unwrap());
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Request {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: if body.is_null() {
                Bytes::new()
            } else {
                body.to_string().into()
            },
            base: "http://127.0.0.1:1".to_owned(),
        }
    }

    fn answer(&mut self, request: &Request) -> (u16, Value) {
        let answer = match self.razorpay.admit(self.now, request) {
            Err(answer) => *answer,
            Ok(()) => {
                let (answer, turn) = self.razorpay.execute(self.now, request);
                self.take(turn);
                answer
            }
        };
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap())
    }

    fn get(&mut self, target: &str) -> (u16, Value) {
        self.answer(&Self::request(Method::GET, target, None, &Value::Null))
    }

    fn post(&mut self, target: &str, body: &Value) -> (u16, Value) {
        self.answer(&Self::request(Method::POST, target, None, body))
    }

    fn take(&mut self, turn: Turn) {
        self.books.record(self.now, "razorpay", turn.effects);
        self.scheduled.extend(turn.scheduled.into_iter().map(|due| due.token));
        self.webhooks += turn.webhooks.len();
    }

    fn settle(&mut self) {
        for token in std::mem::take(&mut self.scheduled) {
            let turn = self.razorpay.fire(self.now, &token);
            self.take(turn);
        }
    }

    fn kinds(&self) -> Vec<Kind> {
        self.books.entries().iter().map(|entry| entry.effect.kind).collect()
    }

    fn order(&mut self, receipt: &str, capture: &str) -> String {
        let body = json!({"amount": 50_000, "currency": "INR", "receipt": receipt, "payment": {"capture": capture,
            "capture_options": {"automatic_expiry_period": 12, "manual_expiry_period": 7200}}});
        let answer = self.post("/v1/orders", &body);
        assert_eq!((answer.0, &answer.1["notes"]), (200, &json!([])));
        answer.1["id"].as_str().unwrap().to_owned()
    }

    /// A mandate's charge, decided.
    fn charge(&mut self, order: &str, token: &str) -> String {
        let answer = self.post("/v1/payments/create/recurring", &charge(order, token));
        assert_eq!(answer.0, 200, "{}", answer.1);
        let id = answer.1["razorpay_payment_id"].as_str().unwrap().to_owned();
        assert_eq!(self.get(&format!("/v1/payments/{id}")).1["status"], "created");
        self.settle();
        id
    }

    fn status(&mut self, payment: &str) -> String {
        self.get(&format!("/v1/payments/{payment}")).1["status"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

fn charge(order: &str, token: &str) -> Value {
    json!({"email": "a@example.com", "contact": "9000090000", "amount": 50_000, "currency": "INR", "order_id": order,
        "customer_id": "cust_1Aa00000000001", "token": token, "recurring": true})
}

fn reason(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["reason"].as_str().unwrap_or_default())
}

const GOOD: &str = "token_1Aa00000000001";

#[test]
fn an_order_is_paid_once_and_found_by_its_receipt() {
    let mut bench = Bench::new();
    let order = bench.order("r1", "automatic");
    let payment = bench.charge(&order, GOOD);
    assert_eq!(bench.status(&payment), "captured");
    let again = bench.post("/v1/payments/create/recurring", &charge(&order, GOOD));
    assert_eq!(reason(&again), (400, "order_already_paid"));
    let found = bench.get("/v1/orders?receipt=r1&expand[]=payments").1;
    assert_eq!(
        (&found["count"], &found["items"][0]["status"]),
        (&json!(1), &json!("paid"))
    );
    assert_eq!(found["items"][0]["payments"]["items"][0]["id"], payment.as_str());
    assert_eq!(
        bench.get("/v1/orders?receipt=r2").1,
        json!({"entity": "collection", "count": 0, "items": []})
    );
    assert_eq!(bench.get(&format!("/v1/orders/{order}/payments")).1["count"], 1);
    assert_eq!(bench.kinds(), [Kind::Auth, Kind::Capture]);
    // Receipts are repeated, unless the account has them unique.
    assert_ne!(bench.order("r1", "manual"), order);
    bench.razorpay.set("receipts", "unique").unwrap();
    let taken = bench.post(
        "/v1/orders",
        &json!({"amount": 50_000, "currency": "INR", "receipt": "r1"}),
    );
    assert_eq!(reason(&taken), (400, "input_validation_failed"));
    assert!(taken.1["error"]["metadata"]["order_id"].is_string());
    let mismatch = bench.order("r3", "manual");
    let mut other = charge(&mismatch, GOOD);
    other["amount"] = 49_900.into();
    assert_eq!(
        reason(&bench.post("/v1/payments/create/recurring", &other)),
        (400, "order_amount_mismatch")
    );
}

#[test]
fn a_second_success_on_one_order_is_returned_at_once() {
    let mut bench = Bench::new();
    let order = bench.order("r1", "automatic");
    for _ in 0..2 {
        assert_eq!(
            bench.post("/v1/payments/create/recurring", &charge(&order, GOOD)).0,
            200
        );
    }
    bench.settle();
    assert_eq!(bench.kinds(), [Kind::Auth, Kind::Capture, Kind::Auth, Kind::Void]);
    assert!(bench.books.audit().clean());
}

#[test]
fn a_payment_that_timed_out_may_still_be_authorised() {
    let mut bench = Bench::new();
    bench.razorpay.set("late_ms", "1").unwrap();
    let order = bench.order("r1", "manual");
    let payment = bench.charge(&order, "token_TimedOut000001");
    let failed = bench.get(&format!("/v1/payments/{payment}")).1;
    assert_eq!(
        (&failed["status"], &failed["error_reason"]),
        (&json!("failed"), &json!("payment_timed_out"))
    );
    bench.settle();
    assert_eq!(bench.status(&payment), "authorized");
    // Nobody captures it, and it is returned.
    bench.now += 7200 * 60 + 1;
    assert_eq!(bench.status(&payment), "refunded");
    assert_eq!(bench.kinds(), [Kind::Auth, Kind::Void]);
    let order = bench.order("r2", "manual");
    let declined = bench.charge(&order, "token_Declined000001");
    bench.settle();
    assert_eq!(bench.status(&declined), "failed");
    assert!(bench.webhooks >= 3, "{}", bench.webhooks);
}

#[test]
fn captures_take_the_whole_once() {
    let mut bench = Bench::new();
    let order = bench.order("r1", "manual");
    let payment = bench.charge(&order, GOOD);
    let path = format!("/v1/payments/{payment}/capture");
    let part = bench.post(&path, &json!({"amount": 49_900, "currency": "INR"}));
    assert_eq!(reason(&part), (400, "input_validation_failed"));
    let done = bench.post(&path, &json!({"amount": 50_000, "currency": "INR"}));
    assert_eq!((done.0, &done.1["captured"]), (200, &json!(true)));
    let again = bench.post(&path, &json!({"amount": 50_000, "currency": "INR"}));
    assert_eq!(reason(&again), (400, "NA"));
    assert_eq!(bench.kinds(), [Kind::Auth, Kind::Capture]);
}

#[test]
fn refunds_have_a_key_that_belongs_to_one_body() {
    let mut bench = Bench::new();
    let order = bench.order("r1", "automatic");
    let payment = bench.charge(&order, GOOD);
    let path = format!("/v1/payments/{payment}/refund");
    let refund = |key: &str, amount: i64| Bench::request(Method::POST, &path, Some(key), &json!({"amount": amount}));
    let first = bench.answer(&refund("refund-key-1", 20_000));
    assert_eq!((first.0, &first.1["status"]), (200, &json!("pending")));
    assert_eq!(bench.answer(&refund("refund-key-1", 20_000)), first);
    assert_eq!(bench.answer(&refund("refund-key-1", 20_001)).0, 409);
    assert_eq!(bench.answer(&refund("short", 100)).0, 400);
    let running = refund("refund-key-2", 100);
    bench.razorpay.admit(bench.now, &running).unwrap();
    assert_eq!(bench.answer(&running).0, 409);
    bench.razorpay.abandon(&running);
    bench.settle();
    assert_eq!(
        reason(&bench.answer(&refund("refund-key-3", 30_001))),
        (400, "refund_limit_crossed")
    );
    let shown = bench.get(&format!("/v1/payments/{payment}")).1;
    assert_eq!(
        (&shown["refund_status"], &shown["amount_refunded"]),
        (&json!("partial"), &json!(20_000))
    );
    assert_eq!(bench.get(&format!("/v1/payments/{payment}/refunds")).1["count"], 1);
    bench.razorpay.set("refunds_fail", "true").unwrap();
    bench.answer(&refund("refund-key-4", 30_000));
    bench.settle();
    assert_eq!(bench.books.audit().positions[0].refunded, 20_000);
}

#[test]
fn a_servers_card_payment_waits_for_its_shopper() {
    let mut bench = Bench::new();
    let order = bench.order("r1", "automatic");
    let mut body = charge(&order, GOOD);
    body["method"] = "card".into();
    body["card"] = json!({"number": "4100280000001007", "expiry_month": "12", "expiry_year": "30", "cvv": "123"});
    let begun = bench.post("/v1/payments/create/json", &body).1;
    let id = begun["razorpay_payment_id"].as_str().unwrap().to_owned();
    assert!(begun["next"][0]["url"].as_str().unwrap().ends_with("/authenticate"));
    let path = format!("/v1/payments/{id}/otp/submit");
    assert_eq!(
        reason(&bench.post(&path, &json!({"otp": "123"}))),
        (400, "incorrect_otp")
    );
    let done = bench.post(&path, &json!({"otp": "1234"})).1;
    let signed = answers::signature("sandbox", format!("{order}|{id}").as_bytes());
    assert_eq!(done["razorpay_signature"], signed.as_str());
    assert_eq!(bench.status(&id), "captured");
    let order = bench.order("r2", "automatic");
    body["order_id"] = order.into();
    body["card"]["number"] = "4100280000080001".into();
    let begun = bench.post("/v1/payments/create/json", &body).1;
    let path = format!(
        "/v1/payments/{}/otp/submit",
        begun["razorpay_payment_id"].as_str().unwrap()
    );
    assert_eq!(
        reason(&bench.post(&path, &json!({"otp": "1234"}))),
        (400, "insufficient_funds")
    );
}

#[test]
fn strangers_and_unknown_paths_are_refused() {
    let mut bench = Bench::new();
    assert_eq!(bench.get("/v1/nothing").0, 400);
    assert_eq!(bench.get("/v1/payments/pay_00000000000000").0, 400);
    let mut stranger = Bench::request(Method::GET, "/v1/payments", None, &Value::Null);
    let pair = STANDARD.encode("rzp_test_sandbox:sandbox");
    // The scheme is compared letter by letter.
    stranger
        .headers
        .insert("authorization", format!("basic {pair}").parse().unwrap());
    assert_eq!(bench.answer(&stranger).0, 401);
}
