//! Card numbers: only where the route allows them, only in memory, and nowhere else: not in the log, the ledger, a metric,
//! an answer or a core file, whatever happens to the process.

use std::path::{Path, PathBuf};

use sentinel::sandbox::fault::{Fault, Match, Rule};

use crate::support::shop::{Setup, Shop, parsed};
use crate::support::wire::{Message, get, once};

const NUMBER: &str = "4111111111111111";
const CODE: &str = "code-7739-4401";

/// A sale with the card's own fields.
fn form(order: &str) -> String {
    format!(
        "amount=1999&currency=eur&confirm=true&payment_method_data[type]=card&payment_method_data[card][number]={NUMBER}&payment_method_data[card][exp_month]=11&payment_method_data[card][exp_year]=2030&payment_method_data[card][cvc]=737&metadata[order_id]={order}"
    )
}

async fn shop(failover: &'static str) -> Shop {
    let shop = Shop::with(Setup {
        stripe: "stripe, adyen",
        failover,
        process: "log: { level: trace }\n",
        ..Setup::default()
    })
    .await;
    shop.down("stripe").await;
    shop
}

/// Files below a directory in which a text stands.
fn found(directory: &Path, text: &str) -> Vec<PathBuf> {
    let mut there = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            there.extend(found(&path, text));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(text.len()).any(|window| window == text.as_bytes())
        {
            there.push(path);
        }
    }
    there
}

/// Panics where the number stands: in a file of the process, or in what it tells.
async fn nowhere(shop: &Shop) {
    let directory = shop.sentinel.path("");
    assert!(!found(&directory, "order-").is_empty() || !shop.sentinel.log().is_empty());
    assert_eq!(found(&directory, NUMBER), Vec::<PathBuf>::new());
    assert_eq!(found(&directory, CODE), Vec::<PathBuf>::new());
    for path in ["/metrics", "/payments", "/routes", "/gateways"] {
        let told = once(shop.admin, get(path, "")).await;
        assert_eq!(told.status(), 200, "{path}");
        assert!(!told.text().contains(NUMBER) && !told.text().contains(CODE), "{path}");
    }
}

/// The process may leave no picture of its memory behind.
fn no_core(shop: &Shop) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", shop.sentinel.pid())).expect("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = core.unwrap_or_default().split_whitespace().collect();
    assert_eq!(words.get(4..6), Some(&["0", "0"][..]), "{limits}");
}

fn bodies(shop: &Shop, gateway: &str) -> Vec<String> {
    let seen = shop.gateway(gateway).requests();
    let bodies = seen.into_iter().filter_map(|request| request.body);
    bodies.map(|body| String::from_utf8_lossy(&body).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_goes_to_another_gateway_only_where_the_route_allows_it() {
    for (failover, allowed) in [("raw_cards: true", true), ("raw_cards: false", false), ("", false)] {
        let shop = shop(failover).await;
        let answer = shop
            .stripe_post_bare("/v1/payment_intents", "key-1", &form("order-1"))
            .await;
        let sent = bodies(&shop, "adyen");
        if allowed {
            assert_eq!(answer.status(), 200, "{}", answer.text());
            assert_eq!(answer.header("sentinel-gateway"), Some("adyen"));
            assert_eq!(shop.audit().await.live("order-1").len(), 1);
            assert!(sent.iter().any(|body| body.contains(NUMBER)), "the gateway gets it");
            // The same card under the same key is the same payment, by a keyed digest of it.
            let again = shop
                .stripe_post_bare("/v1/payment_intents", "key-1", &form("order-1"))
                .await;
            assert_eq!(parsed(&again)["id"], parsed(&answer)["id"]);
            let other = form("order-1").replace(NUMBER, "5555555555554444");
            let other = shop.stripe_post_bare("/v1/payment_intents", "key-1", &other).await;
            assert_eq!(other.status(), 400, "{}", other.text());
            assert_eq!(shop.audit().await.live("order-1").len(), 1);
        } else {
            assert_eq!(answer.status(), 503, "{}", answer.text());
            assert_eq!(
                answer.header("sentinel-failover"),
                Some("unavailable; reason=card_data_not_allowed")
            );
            assert!(sent.is_empty(), "{failover}: nothing is sent there");
        }
        assert!(!answer.text().contains(NUMBER));
        no_core(&shop);
        nowhere(&shop).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_with_a_card_in_its_hands_leaves_none_behind() {
    let shop = shop("raw_cards: true").await;
    shop.gateway("adyen").fault(Rule::once(
        Match::path("POST", "/v71/payments"),
        Fault::DelayAnswer { ms: Some(800) },
    ));
    let body = form("order-1");
    {
        let asked = shop.stripe_post_bare("/v1/payment_intents", "key-1", &body);
        tokio::select! {
            answer = asked => panic!("answered too early: {}", answer.text()),
            () = shop.gateway("adyen").received(1) => {}
        }
    }
    let shop = shop.crash();
    nowhere(&shop).await;
    let answer = loop {
        let answer: Message = shop.stripe_post_bare("/v1/payment_intents", "key-1", &body).await;
        if answer.header("sentinel-outcome") != Some("unknown") {
            break answer;
        }
    };
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(shop.audit().await.live("order-1").len(), 1);
    nowhere(&shop).await;
}

/// A merchant who puts card numbers where none belong: they are the first gateway's to see, and nobody's to keep.
#[tokio::test(flavor = "multi_thread")]
async fn a_card_number_in_the_wrong_place_is_kept_nowhere() {
    let shop = shop("raw_cards: true").await;
    let token = "payment_method=pm_card_visa&amount=1999&currency=eur&confirm=true";
    for (index, more) in [
        format!("metadata[order_id]=order-a&metadata[note]={NUMBER}"),
        format!("metadata[order_id]=order-b&description=card+{NUMBER}"),
        format!("metadata[order_id]={NUMBER}"),
        format!("metadata[order_id]=order-c&statement_descriptor_suffix=A{NUMBER}"),
        format!("metadata[order_id]=order-d&receipt_email={NUMBER}@shop.example"),
        format!("metadata[order_id]=order-e&shipping[name]={NUMBER}&shipping[address][line1]={NUMBER}"),
        format!("metadata[order_id]=order-f&unknown[{NUMBER}]={CODE}"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = shop
            .stripe_post(
                "/v1/payment_intents",
                &format!("key-{index}"),
                &format!("{token}&{more}"),
            )
            .await;
        assert!(matches!(answer.status(), 200 | 503), "{more}: {}", answer.text());
    }
    let keyed = shop.stripe_post("/v1/payment_intents", NUMBER, &form("order-g")).await;
    assert_eq!(keyed.status(), 200, "{}", keyed.text());
    let looked = shop
        .stripe_get(&format!("/v1/payment_intents/pi_{NUMBER}?client_secret={NUMBER}"))
        .await;
    assert!(looked.status() >= 400);
    nowhere(&shop).await;
}
