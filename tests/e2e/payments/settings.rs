//! What a route's failover settings do, through the real binary: natural keys, the order guard, soft declines, card
//! numbers, several workers, a reload and an end in the middle of a payment.

use sentinel::sandbox::fault::{Fault, Match, Rule};

use super::audit::at_rest;
use crate::support::shop::{Setup, Shop, parsed, stripe_form};
use crate::support::wire::{get, once, post};

fn setup(failover: &'static str) -> Setup {
    Setup {
        stripe: "stripe, adyen",
        failover,
        ..Setup::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_names_its_payment_where_the_application_sends_no_key() {
    let shop = Shop::with(setup("key: natural")).await;
    shop.down("stripe").await;
    let first = shop.pay("", "order").await;
    assert_eq!(first.status(), 200, "{}", first.text());
    assert_eq!(first.header("sentinel-gateway"), Some("adyen"));
    let again = shop.pay("", "order").await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{}", again.text());
    assert_eq!(parsed(&again)["id"], parsed(&first)["id"]);
    let other = shop.pay("", "another").await;
    assert_eq!(other.status(), 200, "{}", other.text());
    assert_ne!(parsed(&other)["id"], parsed(&first)["id"]);
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    assert_eq!((audit.live("order").len(), audit.live("another").len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_declined_may_be_paid_anew() {
    let shop = Shop::with(setup("key: natural")).await;
    let form = |token| stripe_form("order", "automatic", token);
    let declined = shop
        .stripe_post("/v1/payment_intents", "", &form("pm_card_chargeDeclinedLostCard"))
        .await;
    assert_eq!(declined.status(), 402, "{}", declined.text());
    let paid = shop.stripe_post("/v1/payment_intents", "", &form("pm_card_visa")).await;
    assert_eq!(paid.status(), 200, "{}", paid.text());
    assert_eq!(shop.audit().await.live("order").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_guard_stops_a_second_payment_under_another_key() {
    let shop = Shop::with(setup("order_guard: true")).await;
    let first = shop.pay("key-1", "order").await;
    assert_eq!(first.status(), 200, "{}", first.text());
    let second = shop.pay("key-2", "order").await;
    assert_eq!(second.status(), 409, "{}", second.text());
    assert!(second.text().contains("possible_duplicate"), "{}", second.text());
    // The first one's own repeat is no second payment.
    let again = shop.pay("key-1", "order").await;
    assert_eq!(again.status(), 200, "{}", again.text());
    assert_eq!(shop.audit().await.live("order").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_decline_is_tried_elsewhere_only_where_the_route_says_so() {
    for (failover, taken) in [("on_soft_decline: true", true), ("on_soft_decline: false", false)] {
        let shop = Shop::with(setup(failover)).await;
        let form = stripe_form("order", "automatic", "pm_card_chargeDeclined");
        let answer = shop.stripe_post("/v1/payment_intents", "key", &form).await;
        let audit = shop.audit().await;
        assert!(audit.clean(), "{audit:#?}");
        if taken {
            assert_eq!(answer.status(), 200, "{}", answer.text());
            assert_eq!(answer.header("sentinel-gateway"), Some("adyen"));
            assert_eq!(audit.live("order").len(), 1, "{audit:#?}");
        } else {
            assert_eq!(answer.status(), 402, "{}", answer.text());
            assert!(audit.live("order").is_empty(), "{audit:#?}");
        }
        // A hard decline is final everywhere.
        let form = stripe_form("stolen", "automatic", "pm_card_chargeDeclinedStolenCard");
        let answer = shop.stripe_post("/v1/payment_intents", "key-2", &form).await;
        assert_eq!(answer.status(), 402, "{}", answer.text());
        assert!(shop.audit().await.live("stolen").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_workers_take_the_twins_of_one_key_once() {
    let shop = Shop::with(Setup {
        process: "workers: 3\n",
        attempt: "3s",
        ..setup("mode: fence")
    })
    .await;
    shop.gateway("stripe").fault(Rule::once(
        Match::path("POST", "/v1/payment_intents"),
        Fault::DelayAnswer { ms: Some(400) },
    ));
    let twins = futures_util::future::join_all((0..60).map(|_| shop.pay("key", "order"))).await;
    for twin in &twins {
        assert_eq!(twin.status(), 200, "{}", twin.text());
        assert_eq!(parsed(twin)["id"], parsed(&twins[0])["id"]);
    }
    let late = futures_util::future::join_all((0..20).map(|_| shop.pay("key", "order"))).await;
    assert!(late.iter().all(|late| parsed(late)["id"] == parsed(&twins[0])["id"]));
    assert_eq!(shop.audit().await.live("order").len(), 1);
    assert_eq!(shop.gateway("stripe").requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_in_the_middle_leaves_a_payment_its_plan() {
    let mut shop = Shop::with(Setup {
        attempt: "3s",
        ..setup("mode: fence")
    })
    .await;
    let stripe = shop.gateway("stripe").clone();
    stripe.fault(Rule::once(
        Match::path("POST", "/v1/payment_intents"),
        Fault::DelayAnswer { ms: Some(1200) },
    ));
    let config = std::fs::read_to_string(shop.sentinel.config()).expect("the configuration");
    let paying = shop.pay("key", "order");
    let reloading = async {
        stripe.received(1).await;
        let turned = config.replace("gateways: [stripe, adyen]", "gateways: [stripe, paypal]");
        std::fs::write(shop.sentinel.config(), turned).expect("the configuration is written");
        shop.sentinel.signal("HUP");
    };
    let (answer, ()) = tokio::join!(paying, reloading);
    shop.sentinel.wait_for("READY=1");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("sentinel-gateway"), Some("stripe"));
    // Payments that begin later follow the new order.
    shop.down("stripe").await;
    let later = shop.pay("key-2", "order-2").await;
    assert_eq!(later.header("sentinel-gateway"), Some("paypal"), "{}", later.text());
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    assert_eq!((audit.live("order").len(), audit.live("order-2").len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_whose_application_hung_up_is_finished_before_the_process_ends() {
    let mut shop = Shop::with(Setup {
        process: "shutdown: { min: 0s, max: 20s }\n",
        attempt: "3s",
        ..setup("mode: fence")
    })
    .await;
    let stripe = shop.gateway("stripe").clone();
    stripe.fault(Rule::once(
        Match::path("POST", "/v1/payment_intents"),
        Fault::DelayAnswer { ms: Some(900) },
    ));
    tokio::select! {
        answer = shop.pay("key", "order") => panic!("answered early: {}", answer.text()),
        () = stripe.received(1) => {}
    }
    shop.sentinel.signal("TERM");
    let status = shop.sentinel.wait();
    assert!(status.success(), "{status}: {}", shop.sentinel.log());
    assert!(at_rest(&shop.ledger(), None), "{}", shop.sentinel.log());
    // The next process has nothing to find out.
    let asked = stripe.requests().len();
    let shop = shop.crash();
    let again = shop.pay("key", "order").await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{}", again.text());
    assert_eq!(stripe.requests().len(), asked);
    assert_eq!(shop.audit().await.live("order").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_wait_does_not_hold_up_the_end() {
    let mut shop = Shop::with(Setup {
        process: "shutdown: { min: 0s, max: 60s }\n",
        ..setup("mode: fence")
    })
    .await;
    // In doubt, and its gateway stays away: nothing can be finished.
    shop.gateway("stripe").fault(Rule::once(
        Match::path("POST", "/v1/payment_intents"),
        Fault::DelayArrival { ms: Some(300_000) },
    ));
    let answer = shop.pay("", "order").await;
    assert!(answer.header("sentinel-outcome").is_some(), "{}", answer.text());
    shop.sentinel.signal("TERM");
    assert!(shop.sentinel.wait().success());
    let log = shop.sentinel.log();
    assert!(!log.contains("still in flight"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_gateway_of_a_route_has_a_breaker_of_its_own_to_force() {
    let shop = Shop::with(Setup {
        stripe: "stripe, adyen, paypal",
        ..Setup::default()
    })
    .await;
    let shown = parsed(&once(shop.admin, get("/breakers", "")).await);
    let shown = shown.as_array().expect("a list").iter();
    let of_route: Vec<&str> = shown
        .filter(|breaker| breaker["route"] == "stripe")
        .filter_map(|breaker| breaker["gateway"].as_str())
        .collect();
    assert_eq!(of_route, ["stripe", "adyen", "paypal"]);
    for (forced, taker) in [
        ("stripe/open", "adyen"),
        ("adyen/open", "paypal"),
        ("adyen/reset", "adyen"),
        ("stripe/reset", "stripe"),
    ] {
        let done = once(shop.admin, post(&format!("/breakers/stripe/{forced}"), "", "")).await;
        assert_eq!(done.status(), 204, "{forced}: {}", done.text());
        let order = forced.replace('/', "-");
        let paid = shop.pay(&order, &order).await;
        assert_eq!(
            paid.header("sentinel-gateway"),
            Some(taker),
            "{forced}: {}",
            paid.text()
        );
        assert_eq!(shop.audit().await.live(&order).len(), 1, "{forced}");
    }
}
