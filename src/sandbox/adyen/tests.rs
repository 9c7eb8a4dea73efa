//! The simulator against Adyen's documented behaviour.

use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::sandbox::books::{Books, Kind};

struct Bench {
    adyen: Adyen,
    books: Books,
    now: i64,
    turn: Turn,
}

impl Bench {
    fn new() -> Self {
        let mut adyen = Adyen::default();
        adyen.set("webhook_secret", "00ff").unwrap();
        Self {
            adyen,
            books: Books::default(),
            now: 1_795_000_000,
            turn: Turn::default(),
        }
    }

    fn request(path: &str, key: Option<&str>, body: &Value) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", "sandbox".parse().unwrap());
        if let Some(key) = key {
            headers.insert("idempotency-key", key.parse().unwrap());
        }
        Request {
            method: Method::POST,
            path: path.to_owned(),
            query: String::new(),
            headers,
            body: body.to_string().into(),
            base: String::new(),
        }
    }

    fn post(&mut self, path: &str, key: Option<&str>, body: &Value) -> (u16, Value, HeaderMap) {
        let request = Self::request(path, key, body);
        let answer = match self.adyen.admit(self.now, &request) {
            Err(answer) => *answer,
            Ok(()) => {
                let (answer, turn) = self.adyen.execute(self.now, &request);
                self.take(turn);
                answer
            }
        };
        let (parts, body) = answer.into_parts();
        (
            parts.status.as_u16(),
            serde_json::from_slice(&body).unwrap(),
            parts.headers,
        )
    }

    fn take(&mut self, mut turn: Turn) {
        self.books.record(self.now, "adyen", std::mem::take(&mut turn.effects));
        self.turn = turn;
    }

    /// Lets everything scheduled happen; gives back the events told.
    fn settle(&mut self) -> Vec<(String, String)> {
        let mut events = Vec::new();
        while !self.turn.scheduled.is_empty() {
            for scheduled in std::mem::take(&mut self.turn.scheduled) {
                let turn = self.adyen.fire(self.now, &scheduled.token);
                self.take(turn);
                for webhook in &self.turn.webhooks {
                    let body: Value = serde_json::from_slice(&webhook.body).unwrap();
                    let item = &body["notificationItems"][0]["NotificationRequestItem"];
                    events.push((
                        item["eventCode"].as_str().unwrap().to_owned(),
                        item["success"].as_str().unwrap().to_owned(),
                    ));
                }
            }
        }
        events
    }

    fn pay(&mut self, key: Option<&str>, change: &dyn Fn(&mut Value)) -> (u16, Value, HeaderMap) {
        let mut body = json!({"amount": {"currency": "EUR", "value": 1000}, "merchantAccount": "AcmeECOM",
            "reference": "order-1", "returnUrl": "https://shop.example/", "additionalData": {"manualCapture": "true"},
            "paymentMethod": {"type": "scheme", "number": "4111111111111111", "expiryMonth": "03", "expiryYear": "2030",
                "cvc": "737", "holderName": "J. Smith"}});
        change(&mut body);
        self.post("/v71/payments", key, &body)
    }

    fn modify(&mut self, psp: &Value, verb: &str, value: i64) -> (u16, Value, HeaderMap) {
        let body = json!({"merchantAccount": "AcmeECOM", "amount": {"currency": "EUR", "value": value}});
        self.post(&format!("/v71/payments/{}/{verb}", psp.as_str().unwrap()), None, &body)
    }
}

fn unchanged(_: &mut Value) {}

#[test]
fn a_hold_is_captured_and_refunded_only_when_the_webhook_says_so() {
    let mut bench = Bench::new();
    let (_, paid, _) = bench.pay(None, &unchanged);
    let psp = &paid["pspReference"];
    assert_eq!(bench.modify(psp, "captures", 1000).0, 201);
    assert_eq!(bench.books.audit().positions[0].captured, 0, "received is not done");
    assert_eq!(bench.settle(), [("CAPTURE".to_owned(), "true".to_owned())]);
    bench.modify(psp, "refunds", 400);
    bench.settle();
    assert_eq!(bench.modify(psp, "refunds", 601).0, 201, "over-refunds are accepted");
    assert_eq!(
        bench.settle(),
        [("REFUND".to_owned(), "false".to_owned())],
        "and fail later"
    );
    let audit = bench.books.audit();
    assert_eq!((audit.positions[0].captured, audit.positions[0].refunded), (1000, 400));
    assert!(audit.clean());
}

#[test]
fn over_captures_fail_and_a_partial_capture_releases_the_rest() {
    let mut bench = Bench::new();
    let (_, paid, _) = bench.pay(None, &unchanged);
    assert_eq!(bench.modify(&paid["pspReference"], "captures", 1001).0, 201);
    assert_eq!(bench.settle(), [("CAPTURE".to_owned(), "false".to_owned())]);
    bench.modify(&paid["pspReference"], "captures", 600);
    bench.settle();
    let audit = bench.books.audit();
    assert_eq!((audit.positions[0].captured, audit.positions[0].held), (600, 0));
}

#[test]
fn a_key_answers_with_the_stored_answer_for_seven_days_whatever_the_body() {
    let mut bench = Bench::new();
    let (_, first, headers) = bench.pay(Some("k"), &unchanged);
    assert_eq!(headers["idempotency-key"], "k");
    let (_, again, _) = bench.pay(Some("k"), &|body| body["amount"]["value"] = 5.into());
    assert_eq!(first, again);
    assert_eq!(bench.books.entries().len(), 1);
    bench.now += KEY_LIFE;
    let (_, later, _) = bench.pay(Some("k"), &unchanged);
    assert_ne!(first["pspReference"], later["pspReference"]);
    bench.pay(None, &unchanged);
    bench.pay(None, &unchanged);
    assert_eq!(
        bench.books.audit().doubled["order-1"],
        4,
        "without a key every request pays"
    );
}

#[test]
fn a_twin_in_flight_is_refused_and_transient_errors_leave_the_key_free() {
    let mut bench = Bench::new();
    let request = Bench::request("/v71/payments", Some("k"), &json!({}));
    bench.adyen.admit(0, &request).unwrap();
    let (status, body, headers) = bench.pay(Some("k"), &unchanged);
    assert_eq!((status, body["errorCode"].as_str()), (422, Some("704")));
    assert_eq!(headers["transient-error"], "true");
    bench.adyen.abandon(&request);
    let transient =
        |body: &mut Value| body["additionalData"]["RequestedTestErrorResponseCode"] = "NO_CONNECTION_AVAILABLE".into();
    let (status, _, headers) = bench.pay(Some("k"), &transient);
    assert_eq!((status, headers["transient-error"].to_str().unwrap()), (503, "true"));
    let broken =
        |body: &mut Value| body["additionalData"]["RequestedTestErrorResponseCode"] = "IOEXCEPTION_RECEIVED".into();
    assert_eq!(bench.pay(Some("k"), &broken).0, 500);
    assert_eq!(bench.pay(Some("k"), &unchanged).0, 500, "the error is stored");
}

#[test]
fn magic_values_choose_the_outcome() {
    let mut bench = Bench::new();
    let mut result = |holder: &str| {
        let (status, body, _) = bench.pay(None, &|body| body["paymentMethod"]["holderName"] = holder.into());
        assert_eq!(status, 200);
        (
            body["resultCode"].as_str().unwrap().to_owned(),
            body["refusalReasonCode"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(result("NOT_ENOUGH_BALANCE"), pair("Refused", "12"));
    assert_eq!(result("ERROR"), pair("Error", "4"));
    assert_eq!(result("FRAUD_CANCELLED"), pair("Cancelled", "22"));
    assert_eq!(result("PENDING"), pair("Received", ""));
    assert_eq!(result("APPROVED"), pair("Authorised", ""));
    let (_, body, _) = bench.pay(None, &|body| {
        body["additionalData"]["RequestedTestAcquirerResponseCode"] = "6".into()
    });
    assert_eq!(body["refusalReason"], "Expired Card");
    for (field, value, code) in [
        ("number", "4111111111111112", "101"),
        ("expiryYear", "2020", "129"),
        ("cvc", "1", "103"),
    ] {
        let (status, body, _) = bench.pay(None, &|body| body["paymentMethod"][field] = value.into());
        assert_eq!((status, body["errorCode"].as_str()), (422, Some(code)));
    }
}

#[test]
fn a_challenge_is_finished_once() {
    let mut bench = Bench::new();
    let (_, body, _) = bench.pay(None, &|body| {
        body["paymentMethod"]["number"] = "5454545454545454".into()
    });
    assert_eq!(body["resultCode"], "RedirectShopper");
    let details = json!({"details": {"redirectResult": body["pspReference"]}});
    let (_, done, _) = bench.post("/v71/payments/details", None, &details);
    assert_eq!(done["resultCode"], "Authorised");
    assert_eq!(
        bench.post("/v71/payments/details", None, &details).1["errorCode"],
        "704"
    );
    assert_eq!(bench.books.entries().len(), 1);
}

#[test]
fn a_cancel_by_reference_takes_the_latest_and_only_what_has_arrived() {
    let mut bench = Bench::new();
    let cancel = json!({"merchantAccount": "AcmeECOM", "paymentReference": "order-1"});
    assert_eq!(bench.post("/v71/cancels", None, &cancel).0, 201);
    assert_eq!(bench.settle(), [("TECHNICAL_CANCEL".to_owned(), "false".to_owned())]);
    bench.pay(None, &unchanged);
    let (_, second, _) = bench.pay(None, &unchanged);
    bench.post("/v71/cancels", None, &cancel);
    assert_eq!(bench.settle(), [("TECHNICAL_CANCEL".to_owned(), "true".to_owned())]);
    let last = bench.books.entries().pop().unwrap();
    assert_eq!(
        (last.effect.kind, Some(last.effect.payment.as_str())),
        (Kind::Void, second["pspReference"].as_str())
    );
}

#[test]
fn accounts_paths_and_fields_are_checked() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.pay(None, &|body| body["merchantAccount"] = "Other".into()).1["errorCode"],
        "901"
    );
    assert_eq!(bench.pay(None, &|body| body["unknown"] = 1.into()).0, 422);
    assert_eq!(bench.modify(&json!("NOSUCHPSP"), "captures", 1).1["errorCode"], "167");
    assert_eq!(bench.post("/v50/payments", None, &json!({})).0, 404);
    bench.adyen.set("api_key", "other").unwrap();
    assert_eq!(bench.pay(None, &unchanged).1["errorCode"], "000");
    assert!(bench.adyen.set("colour", "red").is_err());
}

#[test]
fn a_hold_lapses_after_28_days() {
    let mut bench = Bench::new();
    let (_, paid, _) = bench.pay(None, &unchanged);
    bench.now += AUTHORISATION_LIFE;
    bench.modify(&paid["pspReference"], "captures", 1000);
    assert_eq!(bench.settle(), [("CAPTURE".to_owned(), "false".to_owned())]);
    assert!(!bench.books.audit().positions[0].live());
}
