//! `sentinel certify`, and what routes make of its certificates: an unknown outcome is fenced and taken elsewhere only
//! where the fence was seen to hold.

use std::time::Duration;

use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use serde_json::Value;
use tokio::time::Instant;

use crate::support::sentinel::command;
use crate::support::shop::{Setup, Shop};
use crate::support::wire::Message;

/// A sidecar that believes a new certificate does so within seconds; a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

async fn wary() -> Shop {
    Shop::with(Setup {
        stripe: "stripe, adyen",
        certified: true,
        ..Setup::default()
    })
    .await
}

/// Pays with an outcome that nobody is told: the first gateway executes nothing and closes the connection.
async fn pay_unheard(shop: &Shop, name: &str) -> Message {
    let stripe = shop.gateway("stripe");
    stripe.clear_faults();
    stripe.fault(Rule::once(
        Match {
            contains: Some(name.to_owned()),
            ..Match::path("POST", "/v1/payment_intents")
        },
        Fault::CutAnswer {
            byte: 0,
            cut: Cut::Fin,
            when: When::Before,
        },
    ));
    shop.pay(name, name).await
}

fn in_doubt(answer: &Message) -> bool {
    answer
        .header("sentinel-outcome")
        .is_some_and(|told| told.starts_with("unknown"))
}

/// Pays until a payment is taken elsewhere (or, where not `elsewhere`, stays in doubt); every other answer must be the
/// honest one of before.
async fn until(shop: &Shop, elsewhere: bool) -> String {
    let begun = Instant::now();
    for number in 0.. {
        let order = format!("order-{elsewhere}-{number}");
        let answer = pay_unheard(shop, &order).await;
        if in_doubt(&answer) {
            assert!(shop.audit().await.live(&order).is_empty(), "{}", answer.text());
        } else {
            assert_eq!(answer.status(), 200, "{}", answer.text());
            assert_eq!(answer.header("sentinel-gateway"), Some("adyen"));
        }
        if in_doubt(&answer) != elsewhere {
            return order;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{} {}\n{}",
            answer.start,
            answer.text(),
            shop.sentinel.log()
        );
    }
    unreachable!("the loop ends by itself")
}

fn certify(shop: &Shop) -> (i32, Value) {
    let config = shop.sentinel.config();
    let (code, out, error) = command(
        &[
            "certify",
            "--gateway",
            "stripe",
            "--json",
            "--config",
            config.to_str().unwrap(),
        ],
        shop.sentinel.dir.path(),
    );
    let mut all: Vec<Value> = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {out} {error}"));
    (code, all.remove(0))
}

fn check(shop: &Shop) -> String {
    let config = shop.sentinel.config();
    let (code, out, error) = command(
        &["check", "--config", config.to_str().unwrap()],
        shop.sentinel.dir.path(),
    );
    assert_eq!(code, 0, "{out} {error}");
    out
}

fn broken(done: &Value) -> Vec<&str> {
    let checks = done["certificate"]["checks"].as_array().expect("checks");
    let broken = checks.iter().filter(|check| check["holds"] == false);
    broken.map(|check| check["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_is_believed_with_a_certificate_and_no_longer_than_it_counts() {
    let shop = wary().await;
    let answer = pay_unheard(&shop, "order-before").await;
    assert!(in_doubt(&answer), "{} {}", answer.start, answer.text());
    assert!(shop.audit().await.live("order-before").is_empty());
    assert!(check(&shop).contains("fence at stripe: F2"), "{}", check(&shop));

    let (code, done) = certify(&shop);
    assert_eq!((code, &done["fence"]), (0, &Value::from("F3")), "{done:#}");
    assert!(broken(&done).is_empty(), "{done:#}");
    assert!(check(&shop).contains("fence at stripe: F3"), "{}", check(&shop));
    let order = until(&shop, true).await;
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    let live = audit.live(&order);
    assert_eq!(live.len(), 1);
    assert_eq!((live[0].gateway.as_str(), live[0].captured), ("adyen", 1999));

    // One that was altered counts for nothing: the fence falls again.
    let file = done["file"].as_str().unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(
        file,
        text.replace("\"holds\": true", "\"holds\":  true")
            .replace("key", "kex"),
    )
    .unwrap();
    assert!(check(&shop).contains("altered"), "{}", check(&shop));
    let order = until(&shop, false).await;
    assert!(shop.audit().await.live(&order).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_lets_a_late_original_through_gets_no_fence() {
    let shop = wary().await;
    for (setting, fails, fence) in [
        (
            "keys_ignore_parameters",
            ["late_original", "mismatch", "race"].as_slice(),
            "F1",
        ),
        ("cancels_are_undone", &["late_confirm"], "F2"),
    ] {
        shop.gateway("stripe").set(setting, "true").unwrap();
        let (code, done) = certify(&shop);
        assert_eq!((code, &done["fence"]), (1, &Value::from(fence)), "{done:#}");
        for name in fails.iter().filter(|name| **name != "race") {
            assert!(broken(&done).contains(name), "{done:#}");
        }
        assert!(
            check(&shop).contains(&format!("fence at stripe: {fence}")),
            "{}",
            check(&shop)
        );
        let answer = pay_unheard(&shop, setting).await;
        assert!(in_doubt(&answer), "{} {}", answer.start, answer.text());
        assert!(shop.audit().await.live(setting).is_empty());
        shop.gateway("stripe").set(setting, "false").unwrap();
    }
    assert_eq!(certify(&shop).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_accounts_are_never_asked_and_simulators_vouch_for_nothing_but_themselves() {
    let shop = wary().await;
    let dir = shop.sentinel.dir.path();
    let config = std::fs::read_to_string(shop.sentinel.config()).unwrap();
    let live = config.replace("sk_test_sandbox", "sk_live_1");
    std::fs::write(dir.join("live.yaml"), &live).unwrap();
    let before = shop.gateway("stripe").requests().len();
    let (code, _, error) = command(&["certify", "-g", "stripe", "--config", "live.yaml"], dir);
    assert_eq!(code, 64, "{error}");
    assert!(error.contains("live key"), "{error}");

    let far = live.replace(shop.gateway("stripe").url(), "https://api.stripe.com");
    std::fs::write(dir.join("far.yaml"), &far).unwrap();
    let (code, _, error) = command(
        &[
            "certify",
            "-g",
            "stripe",
            "--config",
            "far.yaml",
            "--with",
            "sentinel.yaml",
        ],
        dir,
    );
    assert_eq!(code, 64, "{error}");
    assert!(error.contains("simulator"), "{error}");
    assert_eq!(shop.gateway("stripe").requests().len(), before);
    let (code, _, error) = command(&["certify", "-g", "nobody", "--config", "live.yaml"], dir);
    assert_eq!(code, 64, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_braintree_account_has_keys_is_found_out_without_moving_money() {
    for (account, has, advice) in [
        (", request_keys: true", true, ""),
        ("", true, "write `request_keys: true`"),
        (", request_keys: true", false, "take `request_keys: true` away"),
        ("", false, ""),
    ] {
        let shop = Shop::with(Setup {
            braintree_account: account,
            ..Setup::default()
        })
        .await;
        let switch = if has { "true" } else { "false" };
        shop.gateway("braintree").set("request_keys", switch).unwrap();
        let config = shop.sentinel.config();
        let args = [
            "certify",
            "--gateway",
            "braintree",
            "--json",
            "--config",
            config.to_str().unwrap(),
        ];
        let (code, out, error) = command(&args, shop.sentinel.dir.path());
        let all: Vec<Value> = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {out} {error}"));
        let done = &all[0];
        let checks = done["certificate"]["checks"].as_array().expect("checks");
        let check = checks
            .iter()
            .find(|check| check["name"] == "request_keys")
            .expect("the check");
        assert_eq!(check["holds"], has, "{done:#}");
        assert!(
            check["seen"].as_str().is_some_and(|seen| seen.contains(advice)),
            "{done:#}"
        );
        let fence = if has && !account.is_empty() { "F3" } else { "F1" };
        assert_eq!(done["fence"], fence, "{done:#}");
    }
}
