//! The simulator against Square's documented behaviour.

use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::sandbox::books::{Books, Kind};

struct Bench {
    square: Square,
    books: Books,
    now: i64,
    scheduled: Vec<String>,
    webhooks: usize,
}

impl Bench {
    fn new() -> Self {
        let mut square = Square::default();
        square.set("webhook_secret", "secret").unwrap();
        Self {
            square,
            books: Books::default(),
            now: 1_795_000_000,
            scheduled: Vec::new(),
            webhooks: 0,
        }
    }

    fn request(method: Method, target: &str, body: &Value) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer sandbox".parse().unwrap());
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
            base: String::new(),
        }
    }

    fn send(&mut self, method: Method, target: &str, body: &Value) -> (u16, Value) {
        let request = Self::request(method, target, body);
        let answer = match self.square.admit(self.now, &request) {
            Err(answer) => *answer,
            Ok(()) => {
                let (answer, turn) = self.square.execute(self.now, &request);
                self.take(turn);
                answer
            }
        };
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap())
    }

    fn take(&mut self, turn: Turn) {
        self.books.record(self.now, "square", turn.effects);
        self.scheduled.extend(turn.scheduled.into_iter().map(|due| due.token));
        self.webhooks += turn.webhooks.len();
    }

    fn post(&mut self, target: &str, body: &Value) -> (u16, Value) {
        self.send(Method::POST, target, body)
    }

    fn settle(&mut self) {
        for token in std::mem::take(&mut self.scheduled) {
            let turn = self.square.fire(self.now, &token);
            self.take(turn);
        }
    }

    fn kinds(&self) -> Vec<Kind> {
        self.books.entries().iter().map(|entry| entry.effect.kind).collect()
    }
}

fn sale(key: &str) -> Value {
    json!({"source_id": "cnon:card-nonce-ok", "idempotency_key": key, "reference_id": "order-1",
        "amount_money": {"amount": 1000, "currency": "EUR"}})
}

fn hold(key: &str) -> Value {
    let mut body = sale(key);
    body["autocomplete"] = false.into();
    body
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["errors"][0]["code"].as_str().unwrap_or_default())
}

#[test]
fn a_key_answers_once_it_made_a_payment_and_belongs_to_one_body() {
    let mut bench = Bench::new();
    let first = bench.post("/v2/payments", &sale("k"));
    assert_eq!((first.0, &first.1["payment"]["status"]), (200, &json!("COMPLETED")));
    assert_eq!(bench.post("/v2/payments", &sale("k")), first);
    let mut other = sale("k");
    other["amount_money"]["amount"] = 1001.into();
    assert_eq!(
        code(&bench.post("/v2/payments", &other)),
        (400, "IDEMPOTENCY_KEY_REUSED")
    );
    // A refused request stores nothing.
    let mut wrong = sale("k2");
    wrong["colour"] = "red".into();
    assert_eq!(
        code(&bench.post("/v2/payments", &wrong)),
        (400, "UNKNOWN_BODY_PARAMETER")
    );
    assert_eq!(bench.post("/v2/payments", &sale("k2")).0, 200);
    // A declined payment does.
    let mut declined = sale("k3");
    declined["source_id"] = "cnon:card-nonce-declined".into();
    let first = bench.post("/v2/payments", &declined);
    assert_eq!(code(&first), (400, "GENERIC_DECLINE"));
    assert_eq!(first.1["payment"]["approved_money"]["amount"], 0);
    assert_eq!(bench.post("/v2/payments", &declined), first);
    assert_eq!(
        code(&bench.post("/v2/payments", &sale(&"k".repeat(46)))),
        (400, "VALUE_TOO_LONG")
    );
    let running = Bench::request(Method::POST, "/v2/payments", &sale("k4"));
    bench.square.admit(bench.now, &running).unwrap();
    assert_eq!(code(&bench.post("/v2/payments", &sale("k4"))), (409, "CONFLICT"));
    bench.square.abandon(&running);
    assert_eq!(bench.post("/v2/payments", &sale("k4")).0, 200);
    assert_eq!(bench.kinds().len(), 6);
}

#[test]
fn cancelling_by_key_says_200_and_ends_what_has_arrived_only() {
    let mut bench = Bench::new();
    let cancel = json!({"idempotency_key": "k"});
    assert_eq!(bench.post("/v2/payments/cancel", &cancel), (200, json!({})));
    assert_eq!(bench.post("/v2/payments", &hold("k")).0, 200);
    assert_eq!(bench.post("/v2/payments/cancel", &cancel), (200, json!({})));
    assert_eq!(bench.kinds(), [Kind::Auth, Kind::Void]);
    bench.post("/v2/payments", &sale("s"));
    assert_eq!(
        bench.post("/v2/payments/cancel", &json!({"idempotency_key": "s"})).0,
        200
    );
    assert_eq!(bench.kinds(), [Kind::Auth, Kind::Void, Kind::Auth, Kind::Capture]);
}

#[test]
fn a_capture_takes_the_whole_of_what_the_payment_was_lowered_to() {
    let mut bench = Bench::new();
    let held = bench.post("/v2/payments", &hold("k")).1;
    let path = format!("/v2/payments/{}", held["payment"]["id"].as_str().unwrap());
    let old = held["payment"]["version_token"].clone();
    let lower = |value: i64| json!({"idempotency_key": format!("e{value}"), "payment": {"amount_money": {"amount": value, "currency": "EUR"}}});
    let lowered = bench.send(Method::PUT, &path, &lower(600));
    assert_eq!(lowered.1["payment"]["amount_money"]["amount"], 600);
    let stale = bench.post(&format!("{path}/complete"), &json!({"version_token": old}));
    assert_eq!(code(&stale), (400, "BAD_REQUEST"));
    let done = bench.post(&format!("{path}/complete"), &json!({}));
    assert_eq!(done.1["payment"]["status"], "COMPLETED");
    assert_eq!(
        code(&bench.post(&format!("{path}/complete"), &json!({}))),
        (400, "DELAYED_TRANSACTION_CAPTURED")
    );
    let position = bench.books.audit().positions[0].clone();
    assert_eq!((position.captured, position.held), (600, 0));
    let mut fixed = hold("f");
    fixed["source_id"] = "cnon:card-edit-not-allowed".into();
    let fixed = bench.post("/v2/payments", &fixed).1;
    let path = format!("/v2/payments/{}", fixed["payment"]["id"].as_str().unwrap());
    assert_eq!(code(&bench.send(Method::PUT, &path, &lower(500))), (400, "BAD_REQUEST"));
}

#[test]
fn refunds_are_pending_first_and_never_more_than_was_taken() {
    let mut bench = Bench::new();
    let paid = bench.post("/v2/payments", &sale("k")).1;
    let refund = |key: &str, value: i64| {
        json!({"idempotency_key": key, "payment_id": paid["payment"]["id"],
        "amount_money": {"amount": value, "currency": "EUR"}})
    };
    let first = bench.post("/v2/refunds", &refund("r1", 600));
    assert_eq!(first.1["refund"]["status"], "PENDING");
    assert_eq!(bench.post("/v2/refunds", &refund("r1", 600)), first);
    assert_eq!(
        code(&bench.post("/v2/refunds", &refund("r2", 401))),
        (400, "REFUND_AMOUNT_INVALID")
    );
    bench.settle();
    let path = format!("/v2/refunds/{}", first.1["refund"]["id"].as_str().unwrap());
    assert_eq!(
        bench.send(Method::GET, &path, &Value::Null).1["refund"]["status"],
        "COMPLETED"
    );
    bench.square.set("refunds_fail", "true").unwrap();
    bench.post("/v2/refunds", &refund("r3", 400));
    bench.settle();
    assert_eq!(bench.books.audit().positions[0].refunded, 600);
    let held = bench.post("/v2/payments", &hold("h")).1;
    let early = json!({"idempotency_key": "r4", "payment_id": held["payment"]["id"],
        "amount_money": {"amount": 1, "currency": "EUR"}});
    assert_eq!(
        code(&bench.post("/v2/refunds", &early)),
        (400, "REFUND_ERROR_PAYMENT_NEEDS_COMPLETION")
    );
    assert!(bench.webhooks >= 6, "{}", bench.webhooks);
}

#[test]
fn the_list_lags_holds_end_and_strangers_are_refused() {
    let mut bench = Bench::new();
    let mut short = hold("k");
    short["delay_duration"] = "PT36H".into();
    bench.post("/v2/payments", &short);
    let list = |bench: &mut Bench, query: &str| bench.send(Method::GET, &format!("/v2/payments{query}"), &Value::Null);
    assert_eq!(list(&mut bench, ""), (200, json!({})));
    bench.now += 2;
    assert_eq!(
        list(&mut bench, "?total=1000&limit=1").1["payments"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(list(&mut bench, "?total=999"), (200, json!({})));
    assert_eq!(
        code(&list(&mut bench, "?reference_id=order-1")),
        (400, "UNKNOWN_QUERY_PARAMETER")
    );
    bench.now += 36 * 3600;
    assert_eq!(list(&mut bench, "").1["payments"][0]["status"], "CANCELED");
    assert_eq!(bench.kinds(), [Kind::Auth, Kind::Void]);
    let mut foreign = sale("c");
    foreign["amount_money"]["currency"] = "USD".into();
    assert_eq!(code(&bench.post("/v2/payments", &foreign)), (400, "CURRENCY_MISMATCH"));
    let mut saved = sale("s");
    saved["source_id"] = "ccof:customer-card-id-ok".into();
    assert_eq!(
        code(&bench.post("/v2/payments", &saved)),
        (400, "MISSING_REQUIRED_PARAMETER")
    );
    let mut stranger = Bench::request(Method::GET, "/v2/payments", &Value::Null);
    stranger
        .headers
        .insert("authorization", "Bearer other".parse().unwrap());
    assert_eq!(bench.square.admit(bench.now, &stranger).unwrap_err().status(), 401);
}
