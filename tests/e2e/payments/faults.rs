//! Every kind of fault at the first gateway, and the audit of all books after it: at most one live effect, and what the
//! application was told is true.

use sentinel::sandbox::NativeError;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};

use crate::support::metrics::scrape;
use crate::support::patience::until;
use crate::support::shop::{Setup, Shop, parsed};
use crate::support::wire::Message;

/// What must come of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// One of them has it; which, depends on the connection it went by.
    Somewhere,
    /// The own gateway has it.
    Own,
    /// The next one has it.
    Elsewhere,
    /// Nobody knows yet, and one effect at most is there.
    Doubt,
    /// Declined or refused; nothing is there.
    Nothing,
}

/// The faults of one request at Stripe, and what follows from each in `fence` mode with an F3 fence.
fn faults() -> Vec<(&'static str, Fault, Then)> {
    let foreign = |status, when| Fault::Foreign {
        status,
        when,
        body: None,
        content_type: None,
        location: None,
    };
    let native = |error, when, stored| Fault::Native {
        error,
        when,
        retry_after: None,
        stored,
    };
    vec![
        (
            "connection reset",
            Fault::CutConnection { cut: Cut::Rst },
            Then::Somewhere,
        ),
        (
            "connection closed",
            Fault::CutConnection { cut: Cut::Fin },
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
        (
            "executed, answer lost",
            Fault::CutAnswer {
                byte: 0,
                cut: Cut::Rst,
                when: When::After,
            },
            Then::Own,
        ),
        (
            "executed, answer cut",
            Fault::CutAnswer {
                byte: 120,
                cut: Cut::Fin,
                when: When::After,
            },
            Then::Own,
        ),
        (
            "not executed, answer lost",
            Fault::CutAnswer {
                byte: 0,
                cut: Cut::Fin,
                when: When::Before,
            },
            Then::Elsewhere,
        ),
        (
            "rate limit",
            native(NativeError::RateLimit, When::Before, false),
            Then::Elsewhere,
        ),
        (
            "503 before",
            native(NativeError::Unavailable, When::Before, false),
            Then::Elsewhere,
        ),
        (
            "500 after",
            native(NativeError::Internal, When::After, false),
            Then::Own,
        ),
        ("edge 502 before", foreign(502, When::Before), Then::Elsewhere),
        ("edge 502 after", foreign(502, When::After), Then::Own),
        ("edge 403 before", foreign(403, When::Before), Then::Elsewhere),
        ("edge 200 after", foreign(200, When::After), Then::Own),
        ("truncated body", Fault::TruncateBody { bytes: 60 }, Then::Own),
        (
            "no request id",
            Fault::Header {
                name: "request-id".to_owned(),
                value: None,
            },
            Then::Own,
        ),
        (
            "unauthorized",
            native(NativeError::Unauthorized, When::Before, false),
            Then::Nothing,
        ),
        (
            "another amount",
            Fault::Patch {
                pointer: "/amount".to_owned(),
                value: 1.into(),
            },
            Then::Doubt,
        ),
    ]
}

/// The payment's own request. Of one that is cut nothing but its head is known.
fn first(fault: &Fault, order: &str) -> Match {
    let cut = matches!(fault, Fault::CutConnection { .. } | Fault::CutRequest { .. });
    Match {
        contains: (!cut).then(|| order.to_owned()),
        ..Match::path("POST", "/v1/payment_intents")
    }
}

/// Holds an answer against the books.
pub(super) async fn judge(shop: &Shop, name: &str, order: &str, answer: &Message) -> Then {
    let audit = shop.audit().await;
    assert!(audit.clean(), "{name}: {audit:#?}");
    let live = audit.live(order);
    let gateway = answer.header("sentinel-gateway").unwrap_or("none").to_owned();
    match answer.status() {
        200 => {
            assert_eq!(parsed(answer)["status"], "succeeded", "{name}: {}", answer.text());
            assert_eq!(live.len(), 1, "{name}: told of success: {audit:#?}");
            assert_eq!(live[0].gateway, gateway, "{name}");
            if gateway == "stripe" {
                Then::Own
            } else {
                Then::Elsewhere
            }
        }
        400..=403 => {
            assert!(live.is_empty(), "{name}: told of failure: {audit:#?}");
            Then::Nothing
        }
        _ if answer
            .header("sentinel-outcome")
            .is_some_and(|outcome| outcome.starts_with("unknown")) =>
        {
            assert!(live.len() <= 1, "{name}: {audit:#?}");
            Then::Doubt
        }
        status => panic!("{name}: {status} {}", answer.text()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_at_the_first_gateway_there_is_one_effect_and_the_truth_is_told() {
    let shop = Shop::open().await;
    let mut wrong = Vec::new();
    for (index, (name, fault, expected)) in faults().into_iter().enumerate() {
        let (key, order) = (format!("key-{index}"), format!("order-{index}"));
        let stripe = shop.gateway("stripe");
        stripe.fault(Rule::once(first(&fault, &order), fault));
        let answer = shop.pay(&key, &order).await;
        stripe.clear_faults();
        let then = judge(&shop, name, &order, &answer).await;
        let somewhere = expected == Then::Somewhere && matches!(then, Then::Own | Then::Elsewhere);
        if then != expected && !somewhere {
            let payment = answer.header("sentinel-payment").unwrap_or_default();
            wrong.push(format!(
                "{name}: {then:?} instead of {expected:?}: {} {} {}\n{}",
                answer.start,
                answer.header("sentinel-failover").unwrap_or(""),
                answer.text().chars().take(200).collect::<String>(),
                shop.timeline(payment)
            ));
        }
        // The application asks again with the same key: never another effect, never another truth.
        let again = shop.pay(&key, &order).await;
        let later = judge(&shop, name, &order, &again).await;
        if answer.status() == 200 {
            assert_eq!(later, then, "{name}: {} then {}", answer.text(), again.text());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_an_unknown_outcome_stays_where_it_is() {
    let shop = Shop::open().await;
    for (index, (name, fault, expected)) in faults().into_iter().enumerate() {
        let order = format!("order-{index}");
        let stripe = shop.gateway("stripe");
        stripe.fault(Rule::once(first(&fault, &order), fault));
        let answer = shop.pay("", &order).await;
        stripe.clear_faults();
        let then = judge(&shop, name, &order, &answer).await;
        let proven = matches!(name, "rate limit" | "unauthorized");
        if proven {
            assert_eq!(then, expected, "{name}: {}", answer.text());
        } else {
            let elsewhere = then == Then::Elsewhere && expected != Then::Somewhere;
            assert!(!elsewhere, "{name}: {}", answer.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gated_sale_goes_to_a_healthy_first_gateway_alone() {
    let shop = Shop::with(Setup {
        stripe: "stripe, adyen",
        failover: "mode: gated, hedge_after: 3s",
        ..Setup::default()
    })
    .await;
    let answer = shop.pay("key", "order").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(parsed(&answer)["status"], "succeeded");
    assert_eq!(answer.header("sentinel-gateway"), Some("stripe"));
    let audit = shop.audit().await;
    assert_eq!(audit.live("order").len(), 1, "{audit:#?}");
    assert_eq!(shop.gateway("adyen").requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gated_sale_survives_a_first_gateway_that_says_nothing() {
    let shop = Shop::with(Setup {
        stripe: "stripe, adyen",
        failover: "mode: gated, hedge_after: 100ms",
        ..Setup::default()
    })
    .await;
    shop.gateway("stripe").fault(Rule::once(
        Match::path("POST", "/v1/payment_intents"),
        Fault::DelayExecution { ms: Some(3500) },
    ));
    let answer = shop.pay("key", "order").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("sentinel-gateway"), Some("adyen"), "{}", answer.text());
    // The late hold at the first gateway is voided; money is taken once.
    until("the loser is voided", async || {
        scrape(shop.admin).await;
        let audit = shop.audit().await;
        let captured = audit.positions.iter().filter(|p| p.captured > 0).count();
        assert_eq!(captured, 1, "{audit:#?}");
        let seen_late = audit.positions.iter().any(|p| p.gateway == "stripe");
        (seen_late && audit.live("order").len() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_leaves_one_effect_and_the_truth() {
    let mut shop = Shop::open().await;
    for (index, fault) in [
        Fault::DelayAnswer { ms: Some(700) },
        Fault::DelayExecution { ms: Some(700) },
        Fault::DelayArrival { ms: Some(700) },
    ]
    .into_iter()
    .enumerate()
    {
        let (key, order) = (format!("key-{index}"), format!("order-{index}"));
        shop.gateway("stripe")
            .fault(Rule::once(Match::path("POST", "/v1/payment_intents"), fault));
        shop.hung_up("stripe", "/v1/payment_intents", shop.pay(&key, &order))
            .await;
        shop = shop.crash();
        let answer = until(&order, async || {
            let answer = shop.pay(&key, &order).await;
            (answer.status() == 200).then_some(answer)
        })
        .await;
        let then = judge(&shop, "crash", &order, &answer).await;
        assert!(
            matches!(then, Then::Own | Then::Elsewhere),
            "{index}: {} {}",
            answer.start,
            answer.text()
        );
    }
}

/// State of every payment in the ledger, and whether anything is left to do.
fn states(shop: &Shop) -> Vec<(String, bool)> {
    let ledger = rusqlite::Connection::open_with_flags(
        shop.sentinel.path("ledger.db"),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    )
    .expect("the ledger's file");
    let mut statement = ledger
        .prepare("SELECT state, terminal = 1 AND obligations = 0 FROM payments ORDER BY n")
        .expect("a statement");
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_the_truth_is_found_without_anybody_asking() {
    let shop = Shop::open().await;
    shop.gateway("stripe").fault(Rule::once(
        Match::path("POST", "/v1/payment_intents"),
        Fault::DelayAnswer { ms: Some(700) },
    ));
    shop.hung_up("stripe", "/v1/payment_intents", shop.pay("key", "order"))
        .await;
    let shop = shop.crash();
    let state = until("the truth is found", async || {
        scrape(shop.admin).await;
        match &states(&shop)[..] {
            [(state, true)] => Some(state.clone()),
            _ => None,
        }
    })
    .await;
    assert_eq!(state, "succeeded");
    assert_eq!(shop.audit().await.live("order").len(), 1);
    let again = shop.pay("key", "order").await;
    assert_eq!(again.status(), 200, "{}", again.text());
    assert_eq!(shop.audit().await.live("order").len(), 1);
}

/// A gateway that answers with the id of another payment says nothing of this one: it is neither told as paid, nor is the
/// other one captured in its place.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_another_payment_has_is_believed_of_no_payment() {
    for (gateways, failover) in [
        ("stripe, adyen, paypal", ""),
        ("stripe, adyen", "mode: gated, hedge_after: 3s"),
    ] {
        let shop = Shop::with(Setup {
            stripe: gateways,
            failover,
            ..Setup::default()
        })
        .await;
        let first = shop.pay("key-1", "order-1").await;
        assert_eq!(first.status(), 200, "{}", first.text());
        let stripe = shop.gateway("stripe");
        let fault = Fault::Patch {
            pointer: "/id".to_owned(),
            value: parsed(&first)["id"].clone(),
        };
        stripe.fault(Rule::once(
            Match {
                contains: Some("order-2".to_owned()),
                ..Match::path("POST", "/v1/payment_intents")
            },
            fault,
        ));
        let answer = shop.pay("key-2", "order-2").await;
        let then = judge(&shop, failover, "order-2", &answer).await;
        let text = answer.text();
        assert_eq!(then, Then::Doubt, "{failover}: {text}");
        let told = shop.timeline(answer.header("sentinel-payment").unwrap_or_default());
        assert!(told.contains("id_of_another_payment"), "{failover}: {told}");
        assert_eq!(shop.audit().await.live("order-1").len(), 1, "{failover}");
        // The other one is what it was.
        let again = shop.pay("key-1", "order-1").await;
        assert_eq!((again.status(), again.text()), (200, first.text()), "{failover}");
    }
}
