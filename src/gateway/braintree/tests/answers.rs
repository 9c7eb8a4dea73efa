//! Braintree answers, against what fixtures and documents record, and the way there and back in every currency.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::gateway::outcome::{Decline, DeclineClass, Outcome, Rejection};
use crate::money::declines;

#[test]
fn a_status_says_what_became_of_a_payment() {
    for (status, outcome) in [
        ("authorized", Outcome::Authorised),
        ("submitted_for_settlement", Outcome::Succeeded),
        ("settling", Outcome::Succeeded),
        ("settled", Outcome::Succeeded),
        ("settlement_pending", Outcome::Succeeded),
        ("voided", Outcome::Fenced),
        ("authorization_expired", Outcome::Fenced),
        ("authorizing", Outcome::Unknown),
        ("failed", Outcome::Unknown),
        ("settlement_declined", Outcome::Unknown),
        ("brand_new", Outcome::Unknown),
    ] {
        let seen = observe(Leg::Charge, &sale(), 201, &transaction(status, ""));
        assert_eq!(seen.outcome, outcome, "{status}: {}", seen.rule);
        assert_eq!(seen.payment_id.as_deref(), Some("abc123"));
    }
    let seen = observe(Leg::Charge, &sale(), 201, &transaction("authorized", ""));
    assert_eq!(seen.card.unwrap().last4.as_deref(), Some("1111"));
}

#[test]
fn an_answer_about_something_else_is_a_conflict() {
    let good = transaction("authorized", "");
    for (from, to) in [
        ("<amount>10.00</amount>", "<amount>10.01</amount>"),
        ("<amount>10.00</amount>", "<amount>1000</amount>"),
        ("<amount>10.00</amount>", ""),
        ("USD", "EUR"),
        (REFERENCE, "01936b1e-0000-7000-8000-0000000000ff"),
    ] {
        let seen = observe(Leg::Charge, &sale(), 201, &good.replace(from, to));
        assert_eq!(seen.outcome, Outcome::Conflict, "{from} -> {to}: {}", seen.rule);
    }
    let target = Target {
        payment: Some("other".to_owned()),
        ..Target::default()
    };
    let void = Request::Void { target, reason: None };
    assert_eq!(
        observe(Leg::Void, &void, 200, &transaction("voided", "")).outcome,
        Outcome::Conflict
    );
}

#[test]
fn what_is_not_braintrees_own_proves_nothing() {
    for (status, body) in [
        (200, "<html><body>ok</body></html>"),
        (200, "{}"),
        (422, "<html/>"),
        (201, "<transaction"),
    ] {
        assert_eq!(
            observe(Leg::Charge, &sale(), status, body).outcome,
            Outcome::Unknown,
            "{body}"
        );
    }
    let mut page = incoming(201, &transaction("authorized", ""));
    page.headers
        .insert("content-type", HeaderValue::from_static("text/html"));
    assert_eq!(
        Braintree.observe(Leg::Charge, None, None, &page).outcome,
        Outcome::Unknown
    );
    for status in [401, 403, 404, 429] {
        let mut page = incoming(status, "<html>edge</html>");
        page.headers
            .insert("content-type", HeaderValue::from_static("text/html"));
        assert_eq!(
            Braintree.observe(Leg::Charge, None, None, &page).outcome,
            Outcome::Unknown,
            "{status}"
        );
    }
    for (status, outcome) in [
        (401, Outcome::Rejected(Rejection::Account)),
        (403, Outcome::Rejected(Rejection::Account)),
        (404, Outcome::Rejected(Rejection::Request)),
        (426, Outcome::Rejected(Rejection::Account)),
        (429, Outcome::Rejected(Rejection::Transient)),
        (408, Outcome::Unknown),
        (500, Outcome::Unknown),
        (504, Outcome::Unknown),
    ] {
        assert_eq!(observe(Leg::Charge, &sale(), status, "").outcome, outcome, "{status}");
    }
    assert_eq!(observe(Leg::Lookup, &sale(), 404, "").outcome, Outcome::Unknown);
}

fn decline(status: &str, more: &str) -> String {
    let inner = transaction(status, more);
    let inner = inner.split_once("?>\n").unwrap().1;
    let inner = match status {
        "gateway_rejected" => inner.replacen("<gateway-rejection-reason nil=\"true\"/>", "", 1),
        _ => inner.to_owned(),
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<api-error-response><errors><errors type=\"array\"/></errors><message>Do Not Honor</message>{inner}</api-error-response>"
    )
}

#[test]
fn every_row_of_the_decline_table_reaches_its_class() {
    let table = include_str!("../../../money/declines.csv");
    let mut seen = 0;
    for row in table.lines().filter_map(|line| line.strip_prefix("braintree,")) {
        let mut cells = row.split(',');
        let (code, canonical, class) = (cells.next().unwrap(), cells.next().unwrap(), cells.next().unwrap());
        let (status, more) = match code.split_once(':') {
            Some(("rejection", reason)) => (
                "gateway_rejected",
                format!(
                    "<gateway-rejection-reason>{reason}</gateway-rejection-reason><processor-response-code></processor-response-code>"
                ),
            ),
            // Settlement events and bare statuses are no declines; their answers are judged elsewhere.
            Some(_) => continue,
            None => {
                let code = code.split('-').next().unwrap();
                let status = if code == "3000" { "failed" } else { "processor_declined" };
                (
                    status,
                    format!("<processor-response-code>{code}</processor-response-code>"),
                )
            }
        };
        let told = observe(Leg::Charge, &sale(), 422, &decline(status, &more));
        seen += 1;
        if class == "ambiguous" {
            assert_eq!(told.outcome, Outcome::Unknown, "{row}: {}", told.rule);
            continue;
        }
        let decline = told.decline.unwrap_or_else(|| panic!("{row}: {}", told.rule));
        assert_eq!(decline.canonical, canonical, "{row}");
        assert_eq!(told.outcome, Outcome::Declined(decline.class), "{row}");
        let wanted = match class {
            "hard" => DeclineClass::Hard,
            "soft" => DeclineClass::Soft,
            "fraud" => DeclineClass::Fraud,
            "config" => DeclineClass::Config,
            _ => DeclineClass::RetryLater,
        };
        assert_eq!(decline.class, wanted, "{row}");
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn braintrees_own_word_and_the_networks_make_a_decline_stricter() {
    let with = |more: &str| {
        observe(
            Leg::Charge,
            &sale(),
            422,
            &decline(
                "processor_declined",
                &format!("<processor-response-code>2000</processor-response-code>{more}"),
            ),
        )
        .decline
        .unwrap()
        .class
    };
    assert_eq!(
        with("<processor-response-type>soft_declined</processor-response-type>"),
        DeclineClass::Soft
    );
    assert_eq!(
        with("<processor-response-type>hard_declined</processor-response-type>"),
        DeclineClass::Hard
    );
    assert_eq!(
        with("<network-response-code>57</network-response-code>"),
        DeclineClass::Hard,
        "Visa category 1"
    );
}

#[test]
fn a_decline_without_a_code_stops() {
    let seen = observe(Leg::Charge, &sale(), 422, &decline("processor_declined", ""));
    assert_eq!(seen.outcome, Outcome::Declined(DeclineClass::Hard));
}

fn validation(code: &str) -> String {
    format!(
        "<api-error-response><errors><errors type=\"array\"/><transaction><errors type=\"array\"><error><code>{code}</code>\
         <attribute type=\"symbol\">base</attribute><message>No.</message></error></errors><credit-card><errors type=\"array\"/></credit-card></transaction></errors><params/><message>No.</message></api-error-response>"
    )
}

#[test]
fn a_validation_error_made_no_transaction_and_a_keys_error_may_have() {
    for (leg, code, outcome) in [
        (Leg::Charge, "81501", Outcome::Rejected(Rejection::Request)),
        (Leg::Charge, "91564", Outcome::Rejected(Rejection::Request)),
        (Leg::Charge, "91577", Outcome::Rejected(Rejection::Account)),
        (Leg::Charge, "915231", Outcome::Rejected(Rejection::Account)),
        (Leg::Charge, "915232", Outcome::Unknown),
        (Leg::Charge, "915233", Outcome::Unknown),
        (Leg::Charge, "915235", Outcome::Unknown),
        (Leg::Charge, "915234", Outcome::Rejected(Rejection::Request)),
        (Leg::Void, "91504", Outcome::Rejected(Rejection::Request)),
        (Leg::Refund, "91506", Outcome::Rejected(Rejection::Request)),
        (Leg::Fence, "915234", Outcome::Fenced),
        (Leg::Fence, "81502", Outcome::Unknown),
        (Leg::Fence, "915231", Outcome::Unknown),
    ] {
        let seen = observe(leg, &sale(), 422, &validation(code));
        assert_eq!(seen.outcome, outcome, "{leg:?} {code}: {}", seen.rule);
        assert!(!seen.arrived);
    }
    assert!(observe(Leg::Fence, &sale(), 422, &validation("915232")).arrived);
}

#[test]
fn a_key_is_claimed_by_a_sale_that_cannot_be_executed_and_a_known_hold_is_voided() {
    let lost = EarlierAttempt {
        idempotency_key: Some("k-1".to_owned()),
        reference: Some(REFERENCE.to_owned()),
        amount: Some(usd(1000)),
        sent_at: 1_795_000_060,
        ..EarlierAttempt::default()
    };
    assert!(
        Braintree.fence(&lost, &account(&[])).is_none(),
        "without keys there is nothing to claim"
    );
    let claim = Braintree.fence(&lost, &account(&[("request_keys", "true")])).unwrap();
    assert_eq!(
        claim.body,
        "<transaction><type>sale</type><api_request_key>k-1</api_request_key></transaction>"
    );
    let search = Braintree.lookup(&lost, &account(&[])).unwrap();
    assert_eq!(search.target, "/merchants/acme/transactions/advanced_search_ids");
    assert_eq!(
        search.body,
        format!(
            "<search><order_id><ends_with>{REFERENCE}</ends_with></order_id><amount><is>10.00</is></amount>\
             <created_at><min type=\"datetime\">2026-11-18T11:06:40Z</min></created_at></search>"
        )
    );
    let known = EarlierAttempt {
        object: Some("abc123".to_owned()),
        ..lost
    };
    assert_eq!(
        Braintree.fence(&known, &account(&[])).unwrap().target,
        "/merchants/acme/transactions/abc123/void"
    );
    assert_eq!(
        Braintree.lookup(&known, &account(&[])).unwrap().target,
        "/merchants/acme/transactions/abc123"
    );
    let claim = Braintree.fence(&known, &account(&[("request_keys", "true")])).unwrap();
    assert_eq!(
        claim.target, "/merchants/acme/transactions",
        "what is known to be there is not ended by a claim"
    );
    let results = |ids: &str| {
        format!(
            "<search-results><page-size type=\"integer\">50</page-size><ids type=\"array\">{ids}</ids></search-results>"
        )
    };
    let found = observe(Leg::Lookup, &sale(), 200, &results("<item>abc123</item>"));
    assert_eq!(
        (found.outcome, found.payment_id.as_deref()),
        (Outcome::Unknown, Some("abc123"))
    );
    for ids in ["", "<item>a</item><item>b</item>"] {
        let seen = observe(Leg::Lookup, &sale(), 200, &results(ids));
        assert_eq!((seen.outcome, seen.payment_id), (Outcome::Unknown, None));
    }
}

#[test]
fn a_reversal_is_done_by_a_void_or_by_a_credit() {
    let target = Target {
        payment: Some("abc123".to_owned()),
        amount: Some(usd(1000)),
        ..Target::default()
    };
    let refund = Request::Refund {
        target,
        amount: Some(usd(1000)),
        units: None,
        reason: None,
        reference: None,
        metadata: IndexMap::new(),
    };
    let voided = observe(Leg::Refund, &refund, 201, &transaction("voided", ""));
    assert_eq!(
        (voided.outcome, voided.rule.as_str()),
        (Outcome::Succeeded, "voided_instead")
    );
    let credit = transaction(
        "submitted_for_settlement",
        "<refunded-transaction-id>abc123</refunded-transaction-id>",
    )
    .replace("<type>sale</type>", "<type>credit</type>")
    .replace("<id>abc123</id>", "<id>def456</id>");
    let refunded = observe(Leg::Refund, &refund, 201, &credit);
    assert_eq!(refunded.outcome, Outcome::Succeeded, "{}", refunded.rule);
    assert_eq!(refunded.modification_id.as_deref(), Some("def456"));
    let other = credit.replace("<refunded-transaction-id>abc123", "<refunded-transaction-id>zzz");
    assert_eq!(observe(Leg::Refund, &refund, 201, &other).outcome, Outcome::Conflict);
    let less = credit.replace("<amount>10.00</amount>", "<amount>9.00</amount>");
    assert_eq!(observe(Leg::Refund, &refund, 201, &less).outcome, Outcome::Conflict);
}

fn view(amount: Amount, status: Status) -> View {
    View {
        ids: ViewIds {
            payment: "k5v8tz9pq2w1".to_owned(),
            charge: "k5v8tz9pq2w1".to_owned(),
            capture: None,
            request: "req".to_owned(),
        },
        status,
        amount,
        captured: if status == Status::Captured {
            amount
        } else {
            Amount::zero(amount.currency)
        },
        refunded: Amount::zero(amount.currency),
        taking: None,
        kept: None,
        captures: Vec::new(),
        capture: CaptureMode::Automatic,
        created: 1_795_000_000,
        voided_at: None,
        instrument: None,
        card: None,
        customer: None,
        reference: Some("6735".to_owned()),
        description: None,
        statement: None,
        metadata: IndexMap::from([
            ("note".to_owned(), "a<b".to_owned()),
            ("x><y".to_owned(), "z".to_owned()),
        ]),
        buyer: Buyer::default(),
        decline: None,
        refunds: Vec::new(),
        live: false,
        redirect: None,
        network_transaction_id: None,
        approval_code: None,
    }
}

fn rendered(answer: &Answer, method: Method, path: &str) -> (u16, serde_json::Map<String, serde_json::Value>, String) {
    let reply = Braintree.render(answer, &head(method, path, "application/xml"), b"");
    let document = xml::read(reply.body()).unwrap();
    let root = document.root.clone();
    (reply.status().as_u16(), document.object().unwrap(), root)
}

#[test]
fn answers_have_the_shape_that_the_sdks_read() {
    let taken = Answer::Payment(Operation::Sale, Box::new(view(usd(1000), Status::Captured)));
    let (status, body, root) = rendered(&taken, Method::POST, SALE_PATH);
    assert_eq!((status, root.as_str()), (201, "transaction"));
    assert_eq!(body["status"], "submitted_for_settlement");
    assert_eq!(body["amount"], "10.00");
    assert_eq!(body["currency_iso_code"], "USD");
    assert_eq!(
        body["custom_fields"],
        json!({"note": "a<b"}),
        "no name from outside becomes an element"
    );
    for node in [
        "credit_card",
        "customer",
        "billing",
        "shipping",
        "descriptor",
        "subscription",
        "disbursement_details",
    ] {
        assert!(body[node].is_object(), "{node}: {body:?}");
    }
    let decline = Decline {
        canonical: "insufficient_funds".to_owned(),
        class: DeclineClass::Hard,
        raw_code: "51".to_owned(),
        message: String::new(),
        advice: None,
    };
    let declined = Answer::Declined(Box::new(view(usd(1000), Status::Declined)), decline.clone());
    let (status, body, root) = rendered(&declined, Method::POST, SALE_PATH);
    assert_eq!((status, root.as_str()), (422, "api_error_response"));
    assert_eq!(body["message"], "Insufficient Funds");
    assert_eq!(body["transaction"]["processor_response_code"], "2001");
    assert_eq!(body["transaction"]["status"], "processor_declined");
    let hidden = Decline {
        canonical: "lost_or_stolen".to_owned(),
        class: DeclineClass::Fraud,
        ..decline
    };
    let declined = Answer::Declined(Box::new(view(usd(1000), Status::Declined)), hidden);
    let (_, body, _) = rendered(&declined, Method::POST, SALE_PATH);
    assert_eq!(
        body["transaction"]["processor_response_code"], "2000",
        "the reason is not told"
    );
    let doubt = Answer::InDoubt {
        payment: "p".to_owned(),
        running: true,
        view: Some(Box::new(view(usd(1000), Status::Processing))),
    };
    assert_eq!(
        rendered(&doubt, Method::POST, SALE_PATH).0,
        504,
        "never a result that says: not paid"
    );
    let refund = RefundView {
        id: "r1".to_owned(),
        amount: usd(300),
        status: RefundStatus::Succeeded,
        created: 1,
        reason: None,
        reference: None,
        metadata: IndexMap::new(),
    };
    let refunded = Answer::Refund(Box::new(view(usd(1000), Status::Captured)), refund);
    let (status, body, _) = rendered(
        &refunded,
        Method::POST,
        "/merchants/acme/transactions/k5v8tz9pq2w1/refund",
    );
    assert_eq!(
        (status, &body["type"], &body["amount"]),
        (201, &json!("credit"), &json!("3.00"))
    );
    assert_eq!(body["refunded_transaction_id"], "k5v8tz9pq2w1");
}

#[test]
fn sentinels_own_errors_are_results_where_the_application_can_mend_them() {
    let error = |status: u16, code: &'static str, path: &str| {
        let own = OwnError {
            status: StatusCode::from_u16(status).unwrap(),
            code,
            message: "why".to_owned(),
            retry: false,
        };
        let reply = Braintree.render_error(&own, &head(Method::PUT, path, "application/xml"));
        let map = xml::read(reply.body()).unwrap().object().unwrap();
        let code = map["errors"]["transaction"]["errors"][0]["code"]
            .as_str()
            .map(str::to_owned);
        (reply.status().as_u16(), code)
    };
    let void = "/merchants/acme/transactions/abc/void";
    assert_eq!(error(400, "wrong_state", void), (422, Some("91504".to_owned())));
    assert_eq!(
        error(400, "idempotency_key_reused", void),
        (422, Some("915232".to_owned()))
    );
    assert_eq!(error(503, "ledger_unavailable", void).0, 503);
    assert_eq!(error(401, "invalid_token", void).0, 401);
}

/// Every currency that Braintree takes, with an account.
fn everywhere() -> (Account, Vec<Currency>) {
    let mut account = account(&[]);
    let taken: Vec<Currency> = Currency::all()
        .filter(|currency| Amount::from_minor(Dialect::Braintree, 1, currency.code()).is_ok())
        .collect();
    let mut credentials = BTreeMap::from(
        [("merchant_id", "acme"), ("public_key", "p"), ("private_key", "s")].map(|(n, v)| (n.to_owned(), v.to_owned())),
    );
    for currency in &taken {
        let name = format!("merchant_accounts.{}", currency.code());
        credentials.insert(name.clone(), format!("acme_{}", currency.lower()));
        account.settings.insert(name, format!("acme_{}", currency.lower()));
    }
    account.credentials = Credentials::new(credentials);
    (account, taken)
}

proptest! {
    /// Canonical to Braintree and back, in every currency: the same amount, currency, order and capture, and the answer
    /// rendered from it says the same.
    #[test]
    fn nothing_is_lost_on_the_way(
        units in 1_i64..=99_999_999_999,
        pick in any::<prop::sample::Index>(),
        order in "[ -~äöü€]{1,60}",
        manual in any::<bool>(),
    ) {
        let (account, currencies) = everywhere();
        let currency = pick.get(&currencies);
        let amount = Amount::from_minor(Dialect::Braintree, units, currency.code()).unwrap();
        let mut asked = pay(amount, token());
        asked.reference = Some(order.clone());
        asked.capture = if manual { CaptureMode::Manual } else { CaptureMode::Automatic };
        let outgoing = Braintree.encode(&Request::Pay(Box::new(asked.clone())), &account).unwrap();
        let head = head(Method::POST, SALE_PATH, "application/xml");
        let recognised = Braintree.recognise(&Method::POST, &outgoing.target);
        let back = Braintree.parse(&recognised, &head, &outgoing.body, &account.settings).unwrap();
        let Request::Pay(back) = back else { panic!() };
        prop_assert_eq!(back.amount, Some(amount));
        prop_assert_eq!(back.capture, asked.capture);
        prop_assert_eq!(back.reference.unwrap(), format!("{order}.{REFERENCE}"));
        let status = if manual { Status::Authorised } else { Status::Captured };
        let mut shown = view(amount, status);
        shown.reference = Some(order);
        let reply = Braintree.render(&Answer::Payment(asked.operation, Box::new(shown)), &head, b"");
        let answer = Incoming { status: reply.status(), headers: reply.headers().clone(), body: reply.body().clone() };
        let seen = Braintree.observe(Leg::Charge, Some(&Request::Pay(Box::new(asked))), None, &answer);
        prop_assert_eq!(seen.amount, Some(amount));
        let wanted = if manual { Outcome::Authorised } else { Outcome::Succeeded };
        prop_assert_eq!(seen.outcome, wanted, "{}", seen.rule);
    }

    /// Bytes that changed on the way never become another amount of a success.
    #[test]
    fn a_damaged_answer_is_never_another_success(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = transaction("authorized", "").into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        let mut answer = incoming(201, "");
        answer.body = body.into();
        let seen = Braintree.observe(Leg::Charge, Some(&sale()), Some(REFERENCE), &answer);
        if matches!(seen.outcome, Outcome::Authorised | Outcome::Succeeded) {
            prop_assert_eq!(seen.amount, Some(usd(1000)));
        }
    }
}

#[test]
fn every_canonical_decline_has_a_braintree_code_that_classifies_back() {
    for name in [
        "insufficient_funds",
        "expired_card",
        "authentication_required",
        "gateway_unavailable",
        "no_such_name",
    ] {
        let code = declines::code_for(Dialect::Braintree, name, declines::DeclineClass::Soft);
        let verdict = declines::classify(Dialect::Braintree, code, &declines::Advice::default());
        assert!(verdict.known, "{name}: {code}");
    }
}
