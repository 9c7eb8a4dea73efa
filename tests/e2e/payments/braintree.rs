//! Braintree as the application's gateway and as the one that takes the payment, with everything that goes wrong.

use sentinel::sandbox::NativeError;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};

use crate::support::patience::until;
use crate::support::shop::{BRAINTREE_TOKEN, Setup, Shop, parsed};
use crate::support::wire::Message;

/// A payment over 19.99 EUR, as the Python SDK writes it.
fn payment(order: &str, key: &str, submit: &str) -> String {
    let key = match key {
        "" => String::new(),
        key => format!("<api_request_key>{key}</api_request_key>"),
    };
    format!(
        "<transaction><amount>19.99</amount><payment_method_token>{BRAINTREE_TOKEN}</payment_method_token>\
         <merchant_account_id>sandbox_eur</merchant_account_id><order_id>{order}</order_id>{key}\
         <options><submit_for_settlement type=\"boolean\">{submit}</submit_for_settlement></options><type>sale</type></transaction>"
    )
}

async fn sale(shop: &Shop, order: &str, key: &str) -> Message {
    shop.braintree_send("POST", "transactions", &payment(order, key, "true"))
        .await
}

/// The text of the first element of this name.
fn element(answer: &Message, name: &str) -> String {
    let text = answer.text();
    let from = text.find(&format!("<{name}>")).map(|at| at + name.len() + 2);
    let text = from.map_or("", |from| &text[from..]);
    text.split('<').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn braintrees_application_is_served_by_each_of_the_others() {
    for (gateways, owner) in [
        ("braintree, stripe", "stripe"),
        ("braintree, adyen", "adyen"),
        ("braintree, paypal", "paypal"),
    ] {
        let shop = Shop::with(Setup {
            braintree: gateways,
            ..Setup::default()
        })
        .await;
        let own = sale(&shop, "order-0", "key-0").await;
        assert_eq!(own.status(), 201, "{}", own.text());
        assert_eq!(own.header("sentinel-failover"), Some("false"));
        assert_eq!(element(&own, "status"), "submitted_for_settlement");
        shop.down("braintree").await;
        let answer = sale(&shop, "order-1", "key-1").await;
        assert_eq!(answer.status(), 201, "{owner}: {}", answer.text());
        assert_eq!(element(&answer, "status"), "submitted_for_settlement", "{owner}");
        assert_eq!(element(&answer, "amount"), "19.99");
        assert_eq!(element(&answer, "currency-iso-code"), "EUR");
        assert_eq!(element(&answer, "order-id"), "order-1");
        assert_eq!(answer.header("sentinel-gateway"), Some(owner));
        let id = element(&answer, "id");
        let refund = "<transaction><amount>5.00</amount><api_request_key>key-2</api_request_key></transaction>";
        let refunded = shop
            .braintree_send("POST", &format!("transactions/{id}/refund"), refund)
            .await;
        assert_eq!(refunded.status(), 201, "{owner}: {}", refunded.text());
        assert_eq!(element(&refunded, "type"), "credit");
        assert_eq!(element(&refunded, "refunded-transaction-id"), id);
        let shown = shop.braintree_send("GET", &format!("transactions/{id}"), "").await;
        assert_eq!(shown.status(), 200, "{}", shown.text());
        assert_eq!(element(&shown, "id"), id);
        for refused in ["POST submit_for_partial_settlement", "PUT adjust_authorization"] {
            let (method, call) = refused.split_once(' ').unwrap();
            let body = "<transaction><amount>1.00</amount></transaction>";
            let answer = shop
                .braintree_send(method, &format!("transactions/{id}/{call}"), body)
                .await;
            assert_eq!(answer.status(), 422, "{refused}: {}", answer.text());
            assert!(answer.text().contains("taken by another gateway"), "{}", answer.text());
        }
        let audit = shop.audit().await;
        assert!(audit.clean(), "{audit:#?}");
        let position = audit.positions.iter().find(|p| p.gateway == owner).unwrap();
        assert_eq!((position.captured, position.refunded), (1999, 500), "{audit:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_of_what_another_gateway_took_gives_it_back() {
    for (submit, captured) in [("true", 1999), ("false", 0)] {
        let shop = Shop::with(Setup {
            braintree: "braintree, stripe",
            ..Setup::default()
        })
        .await;
        shop.down("braintree").await;
        let paid = shop
            .braintree_send("POST", "transactions", &payment("order-1", "key-1", submit))
            .await;
        assert_eq!(paid.status(), 201, "{}", paid.text());
        let id = element(&paid, "id");
        let voided = shop.braintree_send("PUT", &format!("transactions/{id}/void"), "").await;
        assert_eq!(voided.status(), 200, "{}", voided.text());
        assert_eq!(element(&voided, "status"), "voided");
        let audit = shop.audit().await;
        assert!(audit.clean() && audit.live("order-1").is_empty(), "{audit:#?}");
        let position = audit.positions.iter().find(|p| p.gateway == "stripe").unwrap();
        assert_eq!(position.captured, captured, "{audit:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonces_and_unknown_accounts_stay_where_they_are() {
    let shop = Shop::open().await;
    let unknown = payment("order-1", "key-1", "true").replace("sandbox_eur", "sandbox_gbp");
    let answer = shop.braintree_send("POST", "transactions", &unknown).await;
    assert_eq!(answer.status(), 201, "{}", answer.text());
    let why = answer.header("sentinel-failover").unwrap_or_default();
    assert_eq!(why, "unavailable; reason=account_incomplete");
    shop.down("braintree").await;
    let answer = shop.braintree_send("POST", "transactions", &unknown).await;
    assert!(answer.status() >= 500, "{}", answer.text());
    let audit = shop.audit().await;
    assert_eq!(audit.positions.len(), 1, "{audit:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stripes_application_is_served_by_braintree() {
    let shop = Shop::with(Setup {
        stripe: "stripe, braintree",
        ..Setup::default()
    })
    .await;
    shop.down("stripe").await;
    let paid = shop.pay("sale", "order-1").await;
    assert_eq!(paid.status(), 200, "{}", paid.text());
    assert_eq!(parsed(&paid)["status"], "succeeded");
    assert_eq!(paid.header("sentinel-gateway"), Some("braintree"));
    let id = parsed(&paid)["id"].as_str().unwrap().to_owned();
    // Not settled yet: a part cannot be given back, the whole can.
    let part = format!("payment_intent={id}&amount=500");
    let refused = shop.stripe_post("/v1/refunds", "part", &part).await;
    assert_eq!(refused.status(), 400, "{}", refused.text());
    let whole = shop
        .stripe_post("/v1/refunds", "whole", &format!("payment_intent={id}"))
        .await;
    assert_eq!(parsed(&whole)["status"], "succeeded", "{}", whole.text());
    assert!(shop.audit().await.live("order-1").is_empty());

    let settled = shop.pay("sale-2", "order-2").await;
    let id = parsed(&settled)["id"].as_str().unwrap().to_owned();
    shop.gateway("braintree").set("settle", "now").unwrap();
    for (key, amount) in [("part-2", "500"), ("rest-2", "1499")] {
        let form = format!("payment_intent={id}&amount={amount}");
        let refunded = shop.stripe_post("/v1/refunds", key, &form).await;
        assert_eq!(parsed(&refunded)["status"], "succeeded", "{}", refunded.text());
    }

    let held = parsed(&shop.hold("hold", "order-3").await);
    assert_eq!(held["status"], "requires_capture");
    let id = held["id"].as_str().unwrap().to_owned();
    let captured = shop
        .stripe_post(
            &format!("/v1/payment_intents/{id}/capture"),
            "capture",
            "amount_to_capture=1500",
        )
        .await;
    assert_eq!(parsed(&captured)["status"], "succeeded", "{}", captured.text());
    let refunded = shop
        .stripe_post("/v1/refunds", "back", &format!("payment_intent={id}"))
        .await;
    assert_eq!(parsed(&refunded)["amount"], 1500, "{}", refunded.text());

    let held = parsed(&shop.hold("hold-2", "order-4").await);
    let id = held["id"].as_str().unwrap().to_owned();
    let voided = shop
        .stripe_post(&format!("/v1/payment_intents/{id}/cancel"), "void", "")
        .await;
    assert_eq!(parsed(&voided)["status"], "canceled", "{}", voided.text());
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    assert!(audit.positions.iter().all(|position| !position.live()), "{audit:#?}");
}

/// What must come of a fault in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// One of them has it; which, depends on the connection it went by.
    Somewhere,
    /// As the evidence comes out: one of them has it, or it is in doubt. Books and answers agree all the same.
    Open,
    /// The first gateway has it.
    Own,
    /// The next one has it.
    Elsewhere,
    /// Nobody may say more than that it is in doubt.
    Doubt,
    /// Refused; nothing is there.
    Nothing,
}

fn faults() -> Vec<(&'static str, Fault, Then)> {
    let foreign = |status, when| Fault::Foreign {
        status,
        when,
        body: None,
        content_type: None,
        location: None,
    };
    let native = |error, when| Fault::Native {
        error,
        when,
        retry_after: None,
        stored: false,
    };
    let lost = |byte, when| Fault::CutAnswer {
        byte,
        cut: Cut::Rst,
        when,
    };
    let replace = |from: &str, to: &str| Fault::Replace {
        from: from.to_owned(),
        to: to.to_owned(),
    };
    vec![
        (
            "connection reset",
            Fault::CutConnection { cut: Cut::Rst },
            Then::Somewhere,
        ),
        (
            "request cut",
            Fault::CutRequest {
                byte: 100,
                cut: Cut::Rst,
            },
            Then::Somewhere,
        ),
        ("arrives late", Fault::DelayArrival { ms: Some(2500) }, Then::Elsewhere),
        ("executes late", Fault::DelayExecution { ms: Some(2500) }, Then::Own),
        ("answers late", Fault::DelayAnswer { ms: Some(2500) }, Then::Own),
        ("executed, answer lost", lost(0, When::After), Then::Own),
        ("executed, answer cut", lost(300, When::After), Then::Own),
        ("not executed, answer lost", lost(0, When::Before), Then::Elsewhere),
        (
            "rate limit",
            native(NativeError::RateLimit, When::Before),
            Then::Elsewhere,
        ),
        (
            "503 before",
            native(NativeError::Unavailable, When::Before),
            Then::Elsewhere,
        ),
        ("500 after", native(NativeError::Internal, When::After), Then::Own),
        ("504 after", foreign(504, When::After), Then::Own),
        ("edge 502 before", foreign(502, When::Before), Then::Elsewhere),
        ("edge 200 after", foreign(200, When::After), Then::Own),
        ("truncated body", Fault::TruncateBody { bytes: 200 }, Then::Own),
        (
            "unauthorized",
            native(NativeError::Unauthorized, When::Before),
            Then::Nothing,
        ),
        ("another amount", replace("19.99", "1.99"), Then::Doubt),
        ("another currency", replace("EUR", "USD"), Then::Doubt),
    ]
}

/// Holds an answer against the books.
async fn judge(shop: &Shop, name: &str, order: &str, answer: &Message) -> Then {
    let audit = shop.audit().await;
    assert!(audit.clean(), "{name}: {audit:#?}");
    let live = audit.live(order);
    let gateway = answer.header("sentinel-gateway").unwrap_or("none").to_owned();
    match answer.status() {
        201 => {
            assert_eq!(element(answer, "status"), "submitted_for_settlement", "{name}");
            assert_eq!(live.len(), 1, "{name}: told of success: {audit:#?}");
            assert_eq!(live[0].gateway, gateway, "{name}");
            if gateway == "braintree" {
                Then::Own
            } else {
                Then::Elsewhere
            }
        }
        401 | 403 | 422 => {
            assert!(live.is_empty(), "{name}: told of failure: {audit:#?}");
            Then::Nothing
        }
        504 => {
            let outcome = answer.header("sentinel-outcome").unwrap_or_default();
            assert!(outcome.starts_with("unknown"), "{name}: {outcome}");
            assert!(live.len() <= 1, "{name}: {audit:#?}");
            Then::Doubt
        }
        status => panic!("{name}: {status} {}", answer.text()),
    }
}

async fn every_fault(gateways: &'static str, account: &'static str, expected: fn(Then, &str) -> Then) {
    let shop = Shop::with(Setup {
        braintree: gateways,
        braintree_account: account,
        ..Setup::default()
    })
    .await;
    let braintree = shop.gateway("braintree");
    braintree.set("search_lag", "0").unwrap();
    let mut wrong = Vec::new();
    for (index, (name, fault, then)) in faults().into_iter().enumerate() {
        let (key, order) = (format!("key-{index}"), format!("order-{index}"));
        let expected = expected(then, name);
        let hit = match &fault {
            Fault::CutConnection { .. } => Match::default(),
            Fault::CutRequest { .. } => Match::path("POST", "/merchants/sandbox/transactions"),
            _ => Match {
                contains: Some(order.clone()),
                ..Match::path("POST", "/merchants/sandbox/transactions")
            },
        };
        braintree.fault(Rule::once(hit, fault));
        let answer = sale(&shop, &order, &key).await;
        braintree.clear_faults();
        let mut found = judge(&shop, name, &order, &answer).await;
        let mut last = answer;
        // The application asks again with the same key: never another effect, never another truth.
        until(name, async || {
            let told = found;
            let again = sale(&shop, &order, &key).await;
            found = judge(&shop, name, &order, &again).await;
            if told != Then::Doubt {
                assert_eq!(found, told, "{name}: {} then {}", last.text(), again.text());
            }
            last = again;
            (told != Then::Doubt || matches!(expected, Then::Doubt | Then::Open)).then_some(())
        })
        .await;
        let may = match expected {
            Then::Somewhere => matches!(found, Then::Own | Then::Elsewhere),
            Then::Open => true,
            _ => found == expected,
        };
        if !may {
            let payment = last.header("sentinel-payment").unwrap_or_default();
            wrong.push(format!(
                "{name}: {found:?} instead of {expected:?}: {} {}\n{}",
                last.start,
                last.text().chars().take(300).collect::<String>(),
                shop.timeline(payment)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_at_braintree_there_is_one_effect_and_stripe_takes_what_it_may() {
    every_fault("braintree, stripe", ", request_keys: true", |then, _| then).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_at_braintree_there_is_one_effect_and_adyen_takes_what_it_may() {
    every_fault("braintree, adyen", ", request_keys: true", |then, _| then).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_only_what_provably_was_not_executed_moves() {
    every_fault("braintree, stripe", "", |then, name| match (then, name) {
        (Then::Elsewhere, "rate limit") => Then::Elsewhere,
        // A search finds it, once it was executed, and proves nothing by finding nothing.
        (Then::Elsewhere, "arrives late") => Then::Own,
        (Then::Elsewhere, _) => Then::Doubt,
        // Where the end of a connection overtakes the commit byte it is proven, else it stays in doubt.
        (Then::Somewhere, _) => Then::Open,
        (then, _) => then,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_at_braintree_as_the_second_one_there_is_one_effect() {
    let shop = Shop::with(Setup {
        stripe: "stripe, braintree",
        ..Setup::default()
    })
    .await;
    let braintree = shop.gateway("braintree");
    braintree.set("search_lag", "0").unwrap();
    shop.down("stripe").await;
    for (index, (name, fault, expected)) in faults().into_iter().enumerate() {
        let (key, order) = (format!("key-{index}"), format!("order-{index}"));
        braintree.fault(Rule::once(
            Match::path("POST", "/merchants/sandbox/transactions"),
            fault,
        ));
        let mut answer = shop.pay(&key, &order).await;
        braintree.clear_faults();
        let stays = matches!(expected, Then::Doubt | Then::Open);
        until(name, async || {
            let audit = shop.audit().await;
            assert!(audit.clean(), "{name}: {audit:#?}");
            let live = audit.live(&order).len();
            let outcome = answer.header("sentinel-outcome").unwrap_or_default();
            if answer.status() != 200 && outcome.starts_with("unknown") {
                assert!(live <= 1, "{name}: {audit:#?}");
                if stays {
                    return Some(());
                }
                answer = shop.pay(&key, &order).await;
                return None;
            }
            let told = usize::from(answer.status() == 200);
            assert_eq!(live, told, "{name}: {} {audit:#?}", answer.text());
            Some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_leaves_one_effect_and_the_truth_whoever_was_asked() {
    for stripe_first in [false, true] {
        let mut shop = Shop::with(Setup {
            braintree: "braintree, stripe",
            stripe: "stripe, braintree",
            ..Setup::default()
        })
        .await;
        shop.gateway("braintree").set("search_lag", "0").unwrap();
        if stripe_first {
            shop.down("stripe").await;
        }
        for (index, fault) in [
            Fault::DelayAnswer { ms: Some(700) },
            Fault::DelayExecution { ms: Some(700) },
            Fault::DelayArrival { ms: Some(700) },
        ]
        .into_iter()
        .enumerate()
        {
            let (key, order) = (format!("key-{index}"), format!("order-{index}"));
            shop.gateway("braintree").fault(Rule::once(
                Match::path("POST", "/merchants/sandbox/transactions"),
                fault,
            ));
            let ask = async |shop: &Shop| match stripe_first {
                true => shop.pay(&key, &order).await,
                false => sale(shop, &order, &key).await,
            };
            shop.hung_up("braintree", "/merchants/sandbox/transactions", ask(&shop))
                .await;
            shop = shop.crash();
            let answer = until(&format!("fault {index}"), async || {
                let answer = ask(&shop).await;
                let audit = shop.audit().await;
                assert!(audit.clean(), "{index}: {audit:#?}");
                let outcome = answer.header("sentinel-outcome").unwrap_or_default();
                (!outcome.starts_with("unknown")).then_some(answer)
            })
            .await;
            let audit = shop.audit().await;
            let live = audit.live(&order);
            assert!(live.len() <= 1, "{index}: {audit:#?}");
            match answer.status() {
                200 | 201 => assert_eq!(live.len(), 1, "{index}: told of success: {audit:#?}"),
                status => {
                    // Nobody but the next gateway can still be asked, and there is none behind it.
                    assert!(
                        stripe_first && status >= 500,
                        "{index}: {} {}",
                        answer.start,
                        answer.text()
                    );
                }
            }
        }
    }
}
