//! The simulator against Stripe's documented behaviour.

use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::sandbox::books::{Books, Kind};

struct Bench {
    stripe: Stripe,
    books: Books,
    now: i64,
    turn: Turn,
    version: Option<&'static str>,
}

struct Told {
    status: u16,
    body: Value,
    headers: HeaderMap,
}

impl Told {
    fn id(&self) -> &str {
        self.body["id"].as_str().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

const SALE: &str = "amount=2000&currency=usd&payment_method=pm_card_visa&confirm=true&payment_method_types[]=card&metadata[order_id]=6735";

impl Bench {
    fn new() -> Self {
        Self {
            stripe: Stripe::default(),
            books: Books::default(),
            now: 1_795_000_000,
            turn: Turn::default(),
            version: None,
        }
    }

    fn request(&self, method: Method, target: &str, key: Option<&str>, body: &str) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer sk_test_sandbox".parse().unwrap());
        if let Some(key) = key {
            headers.insert("idempotency-key", key.parse().unwrap());
        }
        if let Some(version) = self.version {
            headers.insert("stripe-version", version.parse().unwrap());
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Request {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: body.to_owned().into(),
            base: "http://127.0.0.1:1".to_owned(),
        }
    }

    fn send(&mut self, request: &Request) -> Told {
        let answer = match self.stripe.admit(self.now, request) {
            Err(answer) => *answer,
            Ok(()) => {
                let (answer, turn) = self.stripe.execute(self.now, request);
                self.take(turn);
                answer
            }
        };
        let (parts, body) = answer.into_parts();
        Told {
            status: parts.status.as_u16(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            headers: parts.headers,
        }
    }

    fn take(&mut self, mut turn: Turn) {
        self.books.record(self.now, "stripe", std::mem::take(&mut turn.effects));
        self.turn = turn;
    }

    fn post(&mut self, path: &str, key: Option<&str>, body: &str) -> Told {
        let request = self.request(Method::POST, path, key, body);
        self.send(&request)
    }

    fn get(&mut self, target: &str) -> Told {
        let request = self.request(Method::GET, target, None, "");
        self.send(&request)
    }

    fn settle(&mut self) {
        for scheduled in std::mem::take(&mut self.turn.scheduled) {
            let turn = self.stripe.fire(self.now, &scheduled.token);
            self.take(turn);
        }
    }

    fn kinds(&self) -> Vec<(Kind, i64)> {
        self.books
            .entries()
            .iter()
            .map(|entry| (entry.effect.kind, entry.effect.units))
            .collect()
    }
}

#[test]
fn a_sale_is_held_and_taken_and_refunded_in_parts_and_no_further() {
    let mut bench = Bench::new();
    let sale = bench.post("/v1/payment_intents", None, SALE);
    assert_eq!((sale.status, &sale.body["status"]), (200, &json!("succeeded")));
    assert_eq!(bench.kinds(), [(Kind::Auth, 2000), (Kind::Capture, 2000)]);
    let refund =
        |bench: &mut Bench, rest: &str| bench.post("/v1/refunds", None, &format!("payment_intent={}{rest}", sale.id()));
    assert_eq!(refund(&mut bench, "&amount=500").body["status"], "succeeded");
    assert_eq!(refund(&mut bench, "&amount=1501").status, 400);
    assert_eq!(refund(&mut bench, "").body["amount"], 1500);
    assert_eq!(refund(&mut bench, "").body["error"]["code"], "charge_already_refunded");
    let charge = bench.get(&format!(
        "/v1/charges/{}?expand[]=refunds",
        sale.body["latest_charge"].as_str().unwrap()
    ));
    assert_eq!(
        (&charge.body["refunded"], &charge.body["refunds"]["data"][0]["amount"]),
        (&json!(true), &json!(1500))
    );
    let audit = bench.books.audit();
    assert!(audit.clean() && audit.live("6735").is_empty());
}

#[test]
fn a_hold_is_captured_in_part_and_the_rest_released_or_cancelled_or_expires() {
    let mut bench = Bench::new();
    let hold = |bench: &mut Bench| bench.post("/v1/payment_intents", None, &format!("{SALE}&capture_method=manual"));
    let first = hold(&mut bench);
    assert_eq!(
        (&first.body["status"], &first.body["amount_capturable"]),
        (&json!("requires_capture"), &json!(2000))
    );
    let path = format!("/v1/payment_intents/{}", first.id());
    assert_eq!(
        bench
            .post(&format!("{path}/capture"), None, "amount_to_capture=2001")
            .body["error"]["code"],
        "amount_too_large"
    );
    let captured = bench.post(&format!("{path}/capture"), None, "amount_to_capture=700");
    assert_eq!(
        (&captured.body["amount_received"], &captured.body["amount_capturable"]),
        (&json!(700), &json!(0))
    );
    let late = bench.post(&format!("{path}/cancel"), None, "");
    assert_eq!(late.body["error"]["code"], "payment_intent_unexpected_state");
    assert_eq!(late.body["error"]["payment_intent"]["status"], "succeeded");
    let second = hold(&mut bench);
    let void = bench.post(
        &format!("/v1/payment_intents/{}/cancel", second.id()),
        None,
        "cancellation_reason=duplicate",
    );
    assert_eq!(
        (&void.body["status"], &void.body["cancellation_reason"]),
        (&json!("canceled"), &json!("duplicate"))
    );
    let third = hold(&mut bench);
    bench.now += 7 * 86_400;
    let old = bench.get(&format!("/v1/payment_intents/{}", third.id()));
    assert_eq!(
        (&old.body["status"], &old.body["cancellation_reason"]),
        (&json!("canceled"), &json!("automatic"))
    );
    let audit = bench.books.audit();
    assert!(audit.clean());
    assert_eq!(
        audit
            .positions
            .iter()
            .map(|position| (position.held, position.captured))
            .collect::<Vec<_>>(),
        [(0, 700), (0, 0), (0, 0)]
    );
}

#[test]
fn keys_replay_refuse_and_expire_as_documented() {
    let mut bench = Bench::new();
    let first = bench.post("/v1/payment_intents", Some("k"), SALE);
    let again = bench.post("/v1/payment_intents", Some("k"), &SALE.replace("types[]", "types[0]"));
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("original-request"), first.header("request-id"));
    assert_eq!(again.header("idempotency-key"), Some("k"));
    let other = bench.post("/v1/payment_intents", Some("k"), &SALE.replace("2000", "2001"));
    assert_eq!(
        (other.status, &other.body["error"]["type"]),
        (400, &json!("idempotency_error"))
    );
    let elsewhere = bench.post("/v1/refunds", Some("k"), SALE);
    assert_eq!(elsewhere.body["error"]["type"], "idempotency_error");
    assert_eq!(bench.books.audit().positions.len(), 1);
    // A decline is kept as well; what fails validation is not.
    let declined = SALE.replace("pm_card_visa", "pm_card_visa_chargeDeclined");
    let decline = bench.post("/v1/payment_intents", Some("d"), &declined);
    assert_eq!(
        (
            decline.status,
            bench.post("/v1/payment_intents", Some("d"), &declined).body
        ),
        (402, decline.body)
    );
    assert_eq!(
        bench.post("/v1/payment_intents", Some("v"), "currency=usd").body["error"]["code"],
        "parameter_missing"
    );
    assert_eq!(
        bench.post("/v1/payment_intents", Some("v"), SALE).status,
        200,
        "a failed validation leaves the key free"
    );
    bench.now += 86_400;
    let new = bench.post("/v1/payment_intents", Some("k"), SALE);
    assert_ne!(new.body["id"], first.body["id"], "a day later the key is new");
}

#[test]
fn a_running_twin_and_a_locked_object_are_told_apart() {
    let mut bench = Bench::new();
    let request = bench.request(Method::POST, "/v1/payment_intents", Some("k"), SALE);
    bench.stripe.admit(bench.now, &request).unwrap();
    let twin = bench.send(&request);
    assert_eq!(
        (twin.status, &twin.body["error"]["code"]),
        (409, &json!("idempotency_key_in_use"))
    );
    bench.stripe.abandon(&request);
    let intent = bench.send(&request);
    assert_eq!(intent.status, 200, "abandoned, it left nothing behind");
    let created = bench.post(
        "/v1/payment_intents",
        None,
        &SALE.replace("confirm=true", "confirm=false"),
    );
    assert_eq!(created.body["status"], "requires_confirmation");
    let confirm = bench.request(
        Method::POST,
        &format!("/v1/payment_intents/{}/confirm", created.id()),
        Some("c"),
        "",
    );
    bench.stripe.admit(bench.now, &confirm).unwrap();
    let cancel = bench.post(&format!("/v1/payment_intents/{}/cancel", created.id()), None, "");
    assert_eq!(
        (cancel.status, &cancel.body["error"]["code"]),
        (429, &json!("lock_timeout"))
    );
    let (answer, _) = bench.stripe.execute(bench.now, &confirm);
    assert_eq!(answer.status(), 200);
}

#[test]
fn cancelled_first_a_late_confirmation_has_no_effect() {
    let mut bench = Bench::new();
    let created = bench.post(
        "/v1/payment_intents",
        None,
        &SALE.replace("confirm=true", "confirm=false"),
    );
    let path = format!("/v1/payment_intents/{}", created.id());
    assert_eq!(bench.post(&format!("{path}/cancel"), None, "").status, 200);
    let late = bench.post(&format!("{path}/confirm"), None, "");
    assert_eq!(
        (late.status, &late.body["error"]["code"]),
        (400, &json!("payment_intent_unexpected_state"))
    );
    assert!(bench.books.entries().is_empty());
}

#[test]
fn a_stored_error_is_replayed_although_the_money_moved() {
    let mut bench = Bench::new();
    let request = bench.request(Method::POST, "/v1/payment_intents", Some("k"), SALE);
    bench.send(&request);
    let error = bench.stripe.native_error(NativeError::Internal, &request);
    bench.stripe.remember(bench.now, &request, &error);
    let again = bench.send(&request);
    assert_eq!((again.status, again.header("idempotent-replayed")), (500, Some("true")));
}

#[test]
fn a_decline_leaves_the_intent_open_to_another_card() {
    let mut bench = Bench::new();
    let body = SALE.replace("pm_card_visa", "pm_card_chargeDeclinedInsufficientFunds");
    let declined = bench.post("/v1/payment_intents", None, &body);
    let error = &declined.body["error"];
    assert_eq!(
        (declined.status, &error["code"], &error["decline_code"]),
        (402, &json!("card_declined"), &json!("insufficient_funds"))
    );
    let intent = &error["payment_intent"];
    assert_eq!(
        (&intent["status"], &intent["payment_method"]),
        (&json!("requires_payment_method"), &Value::Null)
    );
    assert!(bench.books.entries().is_empty());
    let path = format!("/v1/payment_intents/{}/confirm", intent["id"].as_str().unwrap());
    let paid = bench.post(&path, None, "payment_method=pm_card_mastercard");
    assert_eq!(
        (&paid.body["status"], &paid.body["last_payment_error"]),
        (&json!("succeeded"), &Value::Null)
    );
    for (card, code) in [
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error"),
        ("pm_card_radarBlock", "card_declined"),
    ] {
        let declined = bench.post("/v1/payment_intents", None, &SALE.replace("pm_card_visa", card));
        assert_eq!(declined.body["error"]["code"], code, "{card}");
    }
}

#[test]
fn a_challenge_waits_for_the_customer_unless_nobody_can_be_asked() {
    let mut bench = Bench::new();
    let body = format!(
        "{}&return_url=https://shop.example/back",
        SALE.replace("pm_card_visa", "pm_card_authenticationRequired")
    );
    let waiting = bench.post("/v1/payment_intents", None, &body);
    assert_eq!(waiting.body["status"], "requires_action");
    let url = waiting.body["next_action"]["redirect_to_url"]["url"].as_str().unwrap();
    let path = url.strip_prefix("http://127.0.0.1:1").unwrap().to_owned();
    assert!(bench.books.entries().is_empty(), "no money moves before");
    let back = bench.get(&path);
    assert_eq!(back.status, 302);
    assert!(
        back.header("location")
            .unwrap()
            .starts_with("https://shop.example/back?payment_intent=pi_")
    );
    let paid = bench.get(&format!("/v1/payment_intents/{}?expand[]=latest_charge", waiting.id()));
    assert_eq!(paid.body["status"], "succeeded");
    assert_eq!(
        paid.body["latest_charge"]["payment_method_details"]["card"]["three_d_secure"]["result"],
        "authenticated"
    );
    let refused = bench.post("/v1/payment_intents", None, &body);
    bench.get(&format!("/_3ds/{}?fail", refused.id()));
    assert_eq!(
        bench.get(&format!("/v1/payment_intents/{}", refused.id())).body["status"],
        "requires_payment_method"
    );
    for alone in ["&off_session=true", "&error_on_requires_action=true"] {
        let declined = bench.post("/v1/payment_intents", None, &format!("{body}{alone}"));
        assert_eq!(
            (declined.status, &declined.body["error"]["code"]),
            (402, &json!("authentication_required"))
        );
    }
}

#[test]
fn instruments_are_saved_charged_again_and_given_up() {
    let mut bench = Bench::new();
    let customer = bench.post("/v1/customers", None, "email=jenny@example.com&name=Jenny");
    let card = "type=card&card[number]=4242424242424242&card[exp_month]=12&card[exp_year]=2034&card[cvc]=314";
    let method = bench.post("/v1/payment_methods", None, card);
    assert_eq!(method.body["card"]["last4"], "4242");
    let attach = bench.post(
        &format!("/v1/payment_methods/{}/attach", method.id()),
        None,
        &format!("customer={}", customer.id()),
    );
    assert_eq!(attach.body["customer"], customer.body["id"]);
    let pay = |bench: &mut Bench, more: &str| {
        bench.post(
            "/v1/payment_intents",
            None,
            &format!(
                "amount=900&currency=eur&confirm=true&payment_method_types[]=card&payment_method={}{more}",
                method.id()
            ),
        )
    };
    assert_eq!(pay(&mut bench, "").status, 400, "it belongs to a customer");
    for _ in 0..2 {
        assert_eq!(
            pay(&mut bench, &format!("&customer={}&off_session=true", customer.id())).body["status"],
            "succeeded"
        );
    }
    let listed = bench.get(&format!("/v1/customers/{}/payment_methods", customer.id()));
    assert_eq!(listed.body["data"].as_array().unwrap().len(), 1);
    bench.post(&format!("/v1/payment_methods/{}/detach", method.id()), None, "");
    assert_eq!(pay(&mut bench, "").status, 400, "detached, it never pays again");
    let bad = bench.post(
        "/v1/payment_methods/pm_card_chargeDeclined/attach",
        None,
        &format!("customer={}", customer.id()),
    );
    assert_eq!(bad.status, 402);
    assert!(!format!("{:?}", bench.stripe.methods).contains("4242424242424242"));
    let token = bench.post("/v1/tokens", None, card.trim_start_matches("type=card&"));
    let inline = format!(
        "amount=900&currency=eur&confirm=true&payment_method_types[]=card&payment_method_data[type]=card&payment_method_data[card][token]={}",
        token.id()
    );
    assert_eq!(bench.post("/v1/payment_intents", None, &inline).status, 200);
    assert_eq!(
        bench.post("/v1/payment_intents", None, &inline).body["error"]["code"],
        "token_already_used"
    );
}

#[test]
fn charges_without_an_intent_are_taken_held_captured_and_released() {
    let mut bench = Bench::new();
    let charge = bench.post(
        "/v1/charges",
        None,
        "amount=1000&currency=gbp&source=tok_visa&capture=false",
    );
    assert_eq!(
        (&charge.body["captured"], &charge.body["payment_intent"]),
        (&json!(false), &Value::Null)
    );
    let captured = bench.post(&format!("/v1/charges/{}/capture", charge.id()), None, "amount=400");
    assert_eq!(
        (&captured.body["captured"], &captured.body["amount_captured"]),
        (&json!(true), &json!(400))
    );
    let held = bench.post(
        "/v1/charges",
        None,
        "amount=1000&currency=gbp&source=tok_visa&capture=false",
    );
    assert_eq!(
        bench.post("/v1/refunds", None, &format!("charge={}", held.id())).status,
        200
    );
    assert_eq!(
        bench
            .post(&format!("/v1/charges/{}/capture", held.id()), None, "")
            .status,
        400
    );
    assert_eq!(
        bench
            .post(
                "/v1/charges",
                None,
                "amount=1000&currency=gbp&source=tok_chargeDeclined"
            )
            .status,
        402
    );
    let kinds = [Kind::Auth, Kind::Capture, Kind::Void, Kind::Auth, Kind::Void];
    assert_eq!(bench.kinds().iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), kinds);
    assert!(bench.books.audit().clean());
}

#[test]
fn refunds_fail_or_succeed_later_and_events_tell() {
    let mut bench = Bench::new();
    let sale = bench.post(
        "/v1/payment_intents",
        None,
        &SALE.replace("pm_card_visa", "pm_card_refundFail"),
    );
    let refund = bench.post("/v1/refunds", None, &format!("payment_intent={}", sale.id()));
    assert_eq!(refund.body["status"], "succeeded");
    bench.settle();
    assert_eq!(
        bench.get(&format!("/v1/refunds/{}", refund.id())).body["status"],
        "failed"
    );
    assert_eq!(bench.books.audit().live("6735").len(), 1, "the money stays taken");
    let sale = bench.post(
        "/v1/payment_intents",
        None,
        &SALE.replace("pm_card_visa", "pm_card_pendingRefund"),
    );
    let refund = bench.post("/v1/refunds", None, &format!("payment_intent={}", sale.id()));
    assert_eq!(refund.body["status"], "pending");
    bench.settle();
    assert_eq!(
        bench.get(&format!("/v1/refunds/{}", refund.id())).body["status"],
        "succeeded"
    );
    let events = bench.get("/v1/events?limit=100");
    let kinds: Vec<&str> = events.body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    for kind in [
        "payment_intent.created",
        "payment_intent.succeeded",
        "charge.succeeded",
        "charge.refunded",
        "refund.failed",
        "refund.updated",
    ] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
}

#[test]
fn webhooks_hold_under_the_secret_that_verifies_them() {
    let mut bench = Bench::new();
    bench.stripe.set("webhook_secret", "whsec_test").unwrap();
    bench.post("/v1/payment_intents", None, SALE);
    assert_eq!(bench.turn.webhooks.len(), 3);
    for webhook in &bench.turn.webhooks {
        let header = webhook.headers["stripe-signature"].to_str().unwrap();
        let (time, signature) = header.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
        use hmac::{Hmac, KeyInit, Mac};
        let mut mac = Hmac::<Sha256>::new_from_slice(b"whsec_test").unwrap();
        mac.update(format!("{time}.{}", String::from_utf8_lossy(&webhook.body)).as_bytes());
        let hex: String = mac
            .finalize()
            .into_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, signature);
    }
}

#[test]
fn lists_turn_pages_and_search_lags_behind_them() {
    let mut bench = Bench::new();
    let mut ids = Vec::new();
    for number in 0..5 {
        let sale = bench.post("/v1/payment_intents", None, &SALE.replace("6735", &number.to_string()));
        ids.push(sale.id().to_owned());
        bench.now += 10;
    }
    let page = bench.get("/v1/payment_intents?limit=2");
    assert_eq!(
        (&page.body["data"][0]["id"], &page.body["has_more"]),
        (&json!(ids[4]), &json!(true))
    );
    let next = bench.get(&format!("/v1/payment_intents?limit=10&starting_after={}", ids[3]));
    assert_eq!(
        (next.body["data"].as_array().unwrap().len(), &next.body["has_more"]),
        (3, &json!(false))
    );
    let back = bench.get(&format!("/v1/payment_intents?limit=2&ending_before={}", ids[0]));
    assert_eq!(
        (&back.body["data"][1]["id"], &back.body["has_more"]),
        (&json!(ids[1]), &json!(true))
    );
    let both = bench.get(&format!(
        "/v1/payment_intents?starting_after={}&ending_before={}",
        ids[3], ids[0]
    ));
    assert_eq!(
        (both.status, &both.body["error"]["param"]),
        (400, &json!("ending_before"))
    );
    let from = bench.now - 25;
    let window = bench.get(&format!(
        "/v1/payment_intents?created[gte]={from}&expand[]=data.latest_charge"
    ));
    assert_eq!(window.body["data"].as_array().unwrap().len(), 2);
    assert_eq!(window.body["data"][0]["latest_charge"]["object"], "charge");
    let search = |bench: &mut Bench, query: &str| {
        let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        bench.get(&format!("/v1/payment_intents/search?query={query}"))
    };
    let recent = search(&mut bench, "metadata['order_id']:'4'");
    assert_eq!(recent.body["data"], json!([]), "not indexed yet");
    bench.now += 60;
    let found = search(
        &mut bench,
        "metadata['order_id']:'4' AND amount>=2000 AND status:'succeeded'",
    );
    assert_eq!(
        (&found.body["object"], &found.body["data"][0]["id"]),
        (&json!("search_result"), &json!(ids[4]))
    );
    assert_eq!(search(&mut bench, "-status:'succeeded'").body["data"], json!([]));
    assert_eq!(search(&mut bench, "colour:'red'").status, 400);
}

#[test]
fn wrong_requests_are_refused_in_stripes_words() {
    let mut bench = Bench::new();
    for (body, code) in [
        ("currency=usd", "parameter_missing"),
        ("amount=2000&currency=usd&colour=red", "parameter_unknown"),
        ("amount=x&currency=usd", "parameter_invalid_integer"),
        ("amount=1&currency=usd", "amount_too_small"),
        ("amount=100000000&currency=usd", "amount_too_large"),
        ("amount=1001&currency=kwd", "parameter_invalid_integer"),
        ("amount=1050&currency=ugx", "parameter_invalid_integer"),
        ("amount=2000&currency=usd&payment_method=pm_nobody", "resource_missing"),
        ("amount=2000&currency=usd&customer=cus_nobody", "resource_missing"),
        (
            "amount=2000&currency=usd&confirm=true&payment_method_types[]=card",
            "payment_intent_unexpected_state",
        ),
    ] {
        let refused = bench.post("/v1/payment_intents", None, body);
        assert_eq!(
            (refused.status / 100, &refused.body["error"]["code"]),
            (4, &json!(code)),
            "{body}"
        );
        assert!(refused.header("request-id").unwrap().starts_with("req_"));
    }
    let dynamic = SALE.replace("&payment_method_types[]=card", "");
    assert_eq!(
        bench.post("/v1/payment_intents", None, &dynamic).body["error"]["param"],
        "return_url"
    );
    assert_eq!(
        bench
            .post(
                "/v1/payment_intents",
                None,
                &format!(
                    "{dynamic}&automatic_payment_methods[enabled]=true&automatic_payment_methods[allow_redirects]=never"
                )
            )
            .status,
        200
    );
    assert_eq!(bench.get("/v1/payment_intents/pi_nobody").status, 404);
    assert_eq!(bench.get("/v1/nothing").status, 404);
    assert_eq!(
        bench
            .post("/v1/payment_intents", None, &format!("{SALE}&expand[]=colour"))
            .status,
        400
    );
    let before = bench.books.entries().len();
    for (key, status) in [
        ("Bearer sk_live_1", 401),
        ("Bearer sk_test_wrong", 401),
        ("Basic c2tfdGVzdF8xOg==", 200),
    ] {
        let mut request = bench.request(Method::GET, "/v1/balance", None, "");
        request.headers.insert("authorization", key.parse().unwrap());
        assert_eq!(bench.send(&request).status, status, "{key}");
    }
    assert_eq!(bench.books.entries().len(), before);
}

#[test]
fn the_list_of_types_has_one_name_in_each_version() {
    let mut bench = Bench::new();
    let renamed = SALE.replace("payment_method_types[]", "allowed_payment_method_types[]");
    for (version, old, new) in [("2025-09-30.clover", 200, 400), ("2026-10-28.endive", 400, 200)] {
        bench.version = Some(version);
        for (body, status) in [(SALE, old), (renamed.as_str(), new)] {
            let answer = bench.post("/v1/payment_intents", None, body);
            assert_eq!(answer.status, status, "{version} {body}");
        }
    }
}

#[test]
fn versions_have_their_shapes() {
    let mut bench = Bench::new();
    bench.version = Some("2020-08-27");
    let old = bench.post("/v1/payment_intents", None, SALE.trim_end_matches("x"));
    assert_eq!(old.body["charges"]["data"][0]["refunds"]["object"], "list");
    assert!(old.body.get("latest_charge").is_none());
    assert_eq!(old.header("stripe-version"), Some("2020-08-27"));
    bench.version = Some("nonsense");
    assert_eq!(bench.get("/v1/balance").status, 400);
}
