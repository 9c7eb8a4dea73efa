//! The instrument map through the whole binary: by the API, by a file, by the request itself; bound to accounts, and
//! readable nowhere.

use std::path::Path;

use serde_json::{Value, json};

use super::house::{House, parsed, raw, text};
use super::tenancy::{CREDENTIALS, house, store};
use crate::support::gateway::Gateway;
use crate::support::merchant::adyen_numbered;
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::Message;

const TARGETS: [&str; 5] = [
    "8415000000000001",
    "8415000000000002",
    "8415000000000003",
    "8415000000000004",
    "8415000000000005",
];

/// Adyen, with an id of its own for each payment.
async fn adyen() -> Gateway {
    Gateway::answering(None, adyen_numbered).await
}

/// A tenant with credentials at Stripe, which is down, and at Adyen.
async fn tenant(house: &House) -> Value {
    let account = house.register("a@example.com").await;
    for (gateway, fields) in CREDENTIALS.into_iter().take(2) {
        store(house, text(&account, "token"), gateway, fields).await;
    }
    account
}

async fn pay(house: &House, key: &str, token: &str, more: (&str, &str)) -> Message {
    let (header, field) = more;
    let fields = format!(
        "Authorization: Bearer {key}\r\nIdempotency-Key: {token}\r\n{header}Content-Type: application/x-www-form-urlencoded\r\n"
    );
    let body = format!("amount=1999&currency=eur&confirm=true&payment_method={token}&off_session=true{field}");
    raw(house.shared, "POST", "/stripe/v1/payment_intents", &fields, &body).await
}

/// Whether a text stands in a file below a directory.
fn stands(directory: &Path, wanted: &str) -> bool {
    let entries = std::fs::read_dir(directory).expect("a directory").flatten();
    entries.map(|entry| entry.path()).any(|path| match path.is_dir() {
        true => stands(&path, wanted),
        false => {
            let bytes = std::fs::read(&path).unwrap_or_default();
            bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes())
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_name_an_instrument_leads_to_its_token_and_none_is_readable_at_rest() {
    let adyen = adyen().await;
    let house = house(free_port(), adyen.address, "");
    let account = tenant(&house).await;
    let key = text(&account, "apiKey").to_owned();
    let target =
        |token: &str, account: &str| json!({"adyen": {"token": token, "account": account, "customer": "shopper-1"}});
    let put = json!({"gateway": "stripe", "token": "pm_by_api", "targets": target(TARGETS[0], "TheirsECOM")});
    let kept = house.ask("PUT", "/api/v1/instruments", &key, Some(&put)).await;
    assert_eq!(kept.status(), 204, "{}", kept.text());
    let lines = format!(
        "{}\n\n{}\n",
        json!({"gateway": "stripe", "token": "pm_by_file", "targets": target(TARGETS[1], "TheirsECOM")}),
        json!({"gateway": "stripe", "token": "pm_elsewhere", "targets": target(TARGETS[4], "AnotherECOM")}),
    );
    let fields = format!("Authorization: Bearer {key}\r\nContent-Type: application/x-ndjson\r\n");
    let imported = parsed(&raw(house.shared, "POST", "/api/v1/instruments/import", &fields, &lines).await);
    assert_eq!((&imported["kept"], &imported["rejected"]), (&json!(2), &json!([])));

    let header = format!("Sentinel-Instrument: adyen=shopper-1/{}\r\n", TARGETS[2]);
    let metadata = format!("&metadata[sentinel_adyen]=shopper-1/{}", TARGETS[3]);
    for (index, (token, more)) in [
        ("pm_by_api", ("", "")),
        ("pm_by_file", ("", "")),
        ("pm_by_header", (header.as_str(), "")),
        ("pm_by_metadata", ("", metadata.as_str())),
    ]
    .into_iter()
    .enumerate()
    {
        let paid = pay(&house, &key, token, more).await;
        assert_eq!(paid.status(), 200, "{token}: {}", paid.text());
        let seen = adyen.seen();
        let sent: Value = serde_json::from_slice(&seen.last().expect("a request").body).expect("JSON");
        assert_eq!(sent["paymentMethod"]["storedPaymentMethodId"], TARGETS[index], "{sent}");
        assert_eq!(sent["shopperReference"], "shopper-1", "{sent}");
        // What names the instrument is for Sentinel alone, and Stripe's token for Stripe.
        let sent = sent.to_string();
        assert!(!sent.contains("sentinel_adyen") && !sent.contains(token), "{sent}");
    }
    // A token of another account's vault is none of this account's.
    let asked = adyen.seen().len();
    let refused = pay(&house, &key, "pm_elsewhere", ("", "")).await;
    assert_eq!(
        refused.header("sentinel-failover"),
        Some("unavailable; reason=no_portable_instrument"),
        "{} {}",
        refused.start,
        refused.text()
    );
    assert_eq!(adyen.seen().len(), asked);

    // Nothing of the map can be read in any file, before and after a crash, and the map is still there.
    let config = std::fs::read_to_string(house.sentinel.config()).expect("the configuration");
    let shared = house.shared;
    let directory = house.sentinel.kill();
    for token in TARGETS
        .iter()
        .chain(&["pm_by_api", "pm_by_file", "pm_elsewhere", "AnotherECOM"])
    {
        assert!(!stands(directory.path(), token), "{token} can be read");
    }
    let house = House {
        sentinel: Sentinel::start_in(directory, &config, &[]),
        shared,
    };
    let listed = parsed(&house.ask("GET", "/api/v1/instruments", &key, None).await);
    assert_eq!(listed["instruments"].as_array().map(Vec::len), Some(3), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_token_is_not_taken_and_not_repeated() {
    let adyen = adyen().await;
    let house = house(free_port(), adyen.address, "");
    let account = tenant(&house).await;
    let key = text(&account, "apiKey");
    let target = json!({"adyen": {"token": "8415000000000001", "account": "TheirsECOM"}});
    for (what, body) in [
        (
            "a card",
            json!({"gateway": "stripe", "token": "4111111111111111", "targets": target}),
        ),
        (
            "a card there",
            json!({"gateway": "stripe", "token": "pm_1",
                "targets": {"adyen": {"token": "4111 1111 1111 1111", "account": "TheirsECOM"}}}),
        ),
        ("nowhere", json!({"gateway": "stripe", "token": "pm_1", "targets": {}})),
        ("itself", json!({"gateway": "adyen", "token": "x", "targets": target})),
        (
            "spaces",
            json!({"gateway": "stripe", "token": "pm 1", "targets": target}),
        ),
    ] {
        let refused = house.ask("PUT", "/api/v1/instruments", key, Some(&body)).await;
        assert!(matches!(refused.status(), 400 | 422), "{what}: {}", refused.text());
        let told = refused.text().replace(' ', "");
        assert!(!told.contains("4111111111111111"), "{what}: {told}");
    }
    let listed = parsed(&house.ask("GET", "/api/v1/instruments", key, None).await);
    assert_eq!(listed["instruments"], json!([]));
    assert!(!stands(&house.sentinel.path(""), "4111111111111111"));
}
