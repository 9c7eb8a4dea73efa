//! Two tenants beside each other: whatever one asks of any endpoint and any page, nothing of the other's shows or changes.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::house::{House, PASSWORD, parsed, raw, text};
use crate::support::gateway::Gateway;
use crate::support::merchant::{adyen_authorised, sale};
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::{Message, once};

/// A house with a dashboard; its first gateway refuses connections, the second takes everything.
fn house(gateway: SocketAddr, dashboard: SocketAddr) -> House {
    let shared = free_port();
    let config = format!(
        "listeners: {{ shared: '{shared}', dashboard: '{dashboard}' }}
ledger: {{ sqlite: '{{dir}}/ledger.db', strict: false }}
accounts: {{ collect: {{ gateway: adyen }} }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{}', allow_private: true, credentials: {{ secret_key: sk_config }} }}
  adyen: {{ dialect: adyen, endpoint: 'http://{gateway}', allow_private: true, capture: automatic, credentials: {{ api_key: k, merchant_account: M }} }}
routes:
  - name: stripe
    path_prefix: /stripe
    dialect: stripe
    gateways: [stripe, adyen]
    failover: {{ require_certificate: false, attempt_timeout: 1500ms, deadline: 4s }}
    breaker: {{ consecutive: 1000, min_calls: 10000 }}
  - {{ name: canary-route, path_prefix: /bound, dialect: stripe, gateways: [stripe], tenant: tn_aaaaaaaaaaaaaaaaaaaa }}
",
        free_port()
    );
    House {
        sentinel: Sentinel::start(&config),
        shared,
    }
}

/// A tenant with something in every drawer.
struct Furnished {
    account: Value,
    payment: String,
    /// Its key's id.
    key: String,
    /// What only it may see.
    canaries: Vec<String>,
}

async fn furnish(house: &House) -> Furnished {
    let body = json!({ "email": "owner@canary.example", "password": PASSWORD, "companyName": "Canary Holdings" });
    let account = parsed(&house.ask("POST", "/api/v1/customers/register", "", Some(&body)).await);
    let token = text(&account, "token");
    for (method, path, body) in [
        (
            "PUT",
            "/api/v1/credentials/stripe",
            json!({ "credentials": { "secret_key": "sk_canary_stripe" } }),
        ),
        (
            "PUT",
            "/api/v1/credentials/adyen",
            json!({ "credentials": { "api_key": "canary-adyen", "merchant_account": "CanaryECOM" } }),
        ),
        (
            "PUT",
            "/api/v1/instruments",
            json!({ "gateway": "stripe", "token": "pm_canary", "targets": { "adyen": { "token": "canary-token", "account": "CanaryECOM", "customer": "s" } } }),
        ),
        (
            "PUT",
            "/api/v1/billing/instrument",
            json!({ "token": "canary-billing", "customer": "canary-shopper" }),
        ),
        (
            "PUT",
            "/api/v1/customers/profile",
            json!({ "primaryGateway": "stripe", "secondaryGateway": "adyen" }),
        ),
    ] {
        let done = house.ask(method, path, token, Some(&body)).await;
        assert!((200..300).contains(&done.status()), "{path}: {}", done.text());
        assert!(!done.text().contains("canary-"), "{path} tells a secret back");
    }
    let fields = format!(
        "Authorization: Bearer {}\r\nIdempotency-Key: canary-order\r\nSentinel-Instrument: adyen=shopper-1/8415698462516992\r\nContent-Type: application/x-www-form-urlencoded\r\n",
        text(&account, "apiKey")
    );
    let form = sale("54321", "").replace("order-7", "canary-order");
    let paid = raw(house.shared, "POST", "/stripe/v1/payment_intents", &fields, &form).await;
    assert_eq!(paid.status(), 200, "{}", paid.text());
    let payment = paid.header("sentinel-payment").expect("an id").to_owned();
    while parsed(&house.ask("GET", "/api/v1/billing/statements", token, None).await)["statements"] == json!([]) {
        tokio::task::yield_now().await;
    }
    let keys = parsed(&house.ask("GET", "/api/v1/keys", token, None).await);
    let key = text(&keys["keys"][0], "id").to_owned();
    let canaries = [
        text(&account, "customerId"),
        text(&account, "apiKey"),
        token,
        &payment,
        &key,
        // No time of day has three digits before its point.
        "543.21",
    ];
    let canaries = canaries.into_iter().map(str::to_owned);
    let canaries = canaries.chain(["canary".to_owned(), "Canary".to_owned()]).collect();
    Furnished {
        account,
        payment,
        key,
        canaries,
    }
}

/// Everything that the tenant itself can see, but for when its key was last used.
async fn seen(house: &House, token: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    for path in [
        "/api/v1/customers/profile",
        "/api/v1/keys",
        "/api/v1/credentials",
        "/api/v1/instruments",
        "/api/v1/billing/instrument",
        "/api/v1/billing/statements",
        "/api/v1/analytics/events",
        "/api/v1/metrics/overview",
        "/api/v1/audit",
    ] {
        let answer = house.ask("GET", path, token, None).await;
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        let mut shown = parsed(&answer);
        for key in shown["keys"].as_array_mut().into_iter().flatten() {
            key["lastUsedAt"] = Value::Null;
        }
        seen.push(shown);
    }
    seen
}

/// A request as the document describes it, with another tenant's names in its path.
struct Operation {
    name: String,
    method: String,
    path: String,
    /// Whether the path names something of the other tenant's.
    foreign: bool,
    fields: String,
    body: String,
}

fn operations(document: &Value, of: &Furnished, month: &str) -> Vec<Operation> {
    let mut found = Vec::new();
    for (template, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let Some(name) = operation["operationId"].as_str() else {
                continue;
            };
            let id = if template.contains("/keys/") {
                &of.key
            } else {
                &of.payment
            };
            let path = template
                .replace("{id}", id)
                .replace("{month}", month)
                .replace("{currency}", "EUR")
                .replace("{gateway}", "stripe");
            let foreign = template.contains("{id}") || template.contains("{month}");
            let (mut fields, mut body) = (String::new(), String::new());
            if let Some(content) = operation["requestBody"]["content"].as_object() {
                let (kind, media) = content.iter().next().expect("a media type");
                fields = format!("Content-Type: {kind}\r\n");
                let example = match &media["example"] {
                    Value::Null => &media["examples"]["default"]["value"],
                    example => example,
                };
                body = match example {
                    Value::String(text) => text.clone(),
                    Value::Null => "{}".to_owned(),
                    other => other.to_string(),
                };
            }
            found.push(Operation {
                name: name.to_owned(),
                method: method.to_uppercase(),
                path,
                foreign,
                fields,
                body,
            });
        }
    }
    // What ends the asker's session comes last.
    found.sort_by_key(|operation| (operation.name == "logout", operation.name == "changePassword"));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_endpoint_shows_or_changes_anything_of_another_tenants() {
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let house = house(adyen.address, free_port());
    let owner = furnish(&house).await;
    let owned = text(&owner.account, "token");
    let before = seen(&house, owned).await;
    let month = text(&before[5]["statements"][0], "month").to_owned();
    let other = house.register("other@example.com").await;
    let session = text(&other, "token").to_owned();
    let mut callers = vec![(text(&other, "apiKey").to_owned(), "a live key")];
    for (mode, what) in [
        ("live", "a key with every scope"),
        ("test", "a test key with every scope"),
    ] {
        let scopes = ["payments", "analytics", "billing", "instruments"];
        let asked = json!({ "name": what, "mode": mode, "scopes": scopes });
        let made = house.ask("POST", "/api/v1/keys", &session, Some(&asked)).await;
        assert_eq!(made.status(), 201, "{}", made.text());
        callers.push((text(&parsed(&made), "apiKey").to_owned(), what));
    }
    callers.push((session.clone(), "a session"));
    let document = parsed(&house.ask("GET", "/api/v1/openapi.json", "", None).await);
    let operations = operations(&document, &owner, &month);
    assert!(operations.len() >= 30, "{} operations", operations.len());
    let mut refused = 0;
    for (credential, what) in &callers {
        for operation in &operations {
            let fields = format!("Authorization: Bearer {credential}\r\n{}", operation.fields);
            let answer = raw(
                house.shared,
                &operation.method,
                &operation.path,
                &fields,
                &operation.body,
            )
            .await;
            let shown = answer.text();
            let place = format!(
                "{what}: {} {}: {} {shown}",
                operation.method,
                operation.path,
                answer.status()
            );
            // An error may repeat nothing either. (The document itself knows no tenant.)
            for canary in &owner.canaries {
                assert!(!shown.contains(canary.as_str()), "{canary} shows: {place}");
            }
            if operation.foreign {
                assert!([403, 404].contains(&answer.status()), "{place}");
                refused += 1;
            }
            assert!(answer.status() < 500, "{place}");
        }
    }
    assert!(refused >= 4 * 4, "{refused} foreign names were refused");
    assert_eq!(seen(&house, owned).await, before, "the owner sees what it saw");
    // And it still works for the owner.
    let story = format!("/api/v1/analytics/events/{}", owner.payment);
    assert_eq!(house.ask("GET", &story, owned, None).await.status(), 200);
}

/// A client of the dashboard.
struct Browser {
    at: SocketAddr,
    cookie: String,
}

impl Browser {
    async fn send(&self, method: &str, path: &str, form: &str) -> Message {
        let bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{form}",
            self.at,
            self.cookie,
            form.len()
        );
        once(self.at, bytes).await
    }

    async fn enter(at: SocketAddr, path: &str, form: &str) -> Self {
        let mut browser = Self {
            at,
            cookie: String::new(),
        };
        let entered = browser.send("POST", path, form).await;
        assert_eq!(entered.status(), 303, "{}", entered.text());
        let cookie = entered.header("set-cookie").expect("a cookie");
        browser.cookie = format!("Cookie: {}\r\n", cookie.split(';').next().expect("a pair"));
        browser
    }

    /// The token that this session's forms carry.
    async fn csrf(&self) -> String {
        let page = self.send("GET", "/billing", "").await.text();
        let after = page.split("name=\"csrf\" value=\"").nth(1).expect("a form");
        after[..64].to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_shows_or_changes_anything_of_another_tenants() {
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let dashboard = free_port();
    let house = house(adyen.address, dashboard);
    let owner = furnish(&house).await;
    let owned = text(&owner.account, "token");
    let before = seen(&house, owned).await;
    let month = text(&before[5]["statements"][0], "month").to_owned();
    house.register("other@example.com").await;
    let login = format!("email=other%40example.com&password={}", PASSWORD.replace('!', "%21"));
    let other = Browser::enter(dashboard, "/login", &login).await;
    let csrf = other.csrf().await;
    let books = text(&owner.account, "customerId");
    for path in [
        "/".to_owned(),
        "/payments".to_owned(),
        format!("/payments?q={}", owner.payment),
        "/payments?q=canary-order".to_owned(),
        "/payments?kind=payments&format=csv".to_owned(),
        "/gateways".to_owned(),
        "/doubt".to_owned(),
        "/billing".to_owned(),
        "/account".to_owned(),
        format!("/payments/{}", owner.payment),
        format!("/billing/{books}/{month}/EUR"),
        format!("/billing/{books}/{month}/EUR?format=csv"),
        "/configuration".to_owned(),
    ] {
        let page = other.send("GET", &path, "").await;
        let shown = page.text().replace("canary-order", "");
        for canary in &owner.canaries {
            let asked = path.contains(canary.as_str());
            assert!(
                asked || !shown.contains(canary.as_str()),
                "{path} shows {canary}: {shown}"
            );
        }
        let foreign = path.contains(books) || path.starts_with(&format!("/payments/{}", owner.payment));
        if foreign || path == "/configuration" {
            assert!([403, 404].contains(&page.status()), "{path}: {}", page.status());
        }
    }
    for path in [
        format!("/payments/{}/resolve", owner.payment),
        format!("/billing/{books}/{month}/EUR/close"),
        format!("/billing/{books}/{month}/EUR/collect"),
        format!("/account/keys/{}", owner.key),
        "/gateways/stripe/stripe".to_owned(),
        "/configuration/reload".to_owned(),
    ] {
        let form = format!("csrf={csrf}&what=revoke&command=open&choice=1&operator=Eve&reason=mine");
        let answer = other.send("POST", &path, &form).await;
        assert!(
            [403, 404, 422].contains(&answer.status()),
            "{path}: {} {}",
            answer.status(),
            answer.text()
        );
    }
    assert_eq!(seen(&house, owned).await, before, "the owner sees what it saw");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gateways_and_merchants_write_is_shown_as_text() {
    const HOSTILE: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'";
    let quoted = HOSTILE.replace('"', "\\\"");
    let refusal = format!(
        r#"{{"status":422,"errorCode":"14_030","message":"{quoted}","errorType":"validation","pspReference":"{quoted}"}}"#
    );
    let adyen = Gateway::answering(None, move |_, _| crate::support::gateway::json(422, &refusal)).await;
    let dashboard = free_port();
    let house = house(adyen.address, dashboard);
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("amount", "1999")
        .append_pair("currency", "eur")
        .append_pair("confirm", "true")
        .append_pair("payment_method", "pm_card_visa")
        .append_pair("payment_method_types[0]", "card")
        .append_pair("description", HOSTILE)
        .append_pair("metadata[order_id]", HOSTILE);
    let fields = "Authorization: Bearer sk_test_shop\r\nIdempotency-Key: k-<b>1</b>\r\nSentinel-Instrument: adyen=shopper-1/8415698462516992\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let told = raw(
        house.shared,
        "POST",
        "/stripe/v1/payment_intents",
        fields,
        &form.finish(),
    )
    .await;
    let payment = told.header("sentinel-payment").expect("an id").to_owned();
    let operator = Browser::enter(dashboard, "/operator", "").await;
    while !operator
        .send("GET", "/payments?kind=payments", "")
        .await
        .text()
        .contains(&payment)
    {
        tokio::task::yield_now().await;
    }
    let search: String = form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect();
    for path in [
        "/".to_owned(),
        "/payments?kind=payments".to_owned(),
        format!("/payments?q={search}x"),
        format!("/payments/{payment}"),
        "/doubt".to_owned(),
        "/gateways".to_owned(),
    ] {
        let page = operator.send("GET", &path, "").await.text();
        for tag in ["<script>alert", "<img src=x", "<b>1</b>"] {
            assert!(!page.contains(tag), "{path} has {tag}: {page}");
        }
        if path.starts_with("/payments?q=") {
            assert!(
                page.contains("&lt;script&gt;alert(1)"),
                "what was searched for is shown: {page}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_log_ins_is_turned_away_and_holds_nobody_else_up() {
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let house = house(adyen.address, free_port());
    house.register("a@example.com").await;
    let flood = (0..200).map(|n| {
        let body = json!({ "email": format!("nobody-{n}@example.com"), "password": "a wrong password" });
        let shared = house.shared;
        tokio::spawn(async move {
            super::house::ask(shared, "POST", "/api/v1/customers/login", "", Some(&body))
                .await
                .status()
        })
    });
    let flood: Vec<_> = flood.collect();
    // Payments and questions that need no password go on beside it.
    let fields = "Authorization: Bearer sk_test_shop\r\nIdempotency-Key: k-1\r\nSentinel-Instrument: adyen=shopper-1/8415698462516992\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let paid = raw(
        house.shared,
        "POST",
        "/stripe/v1/payment_intents",
        fields,
        &sale("1999", ""),
    )
    .await;
    assert_eq!(paid.status(), 200, "{}", paid.text());
    let mut turned_away = 0;
    for one in flood {
        let status = one.await.expect("an answer");
        assert!([401, 429, 503].contains(&status), "{status}");
        turned_away += usize::from(status != 401);
    }
    assert!(turned_away > 100, "{turned_away} of 200 cost no password's work");
    assert_eq!(house.ask("GET", "/api/v1/status", "", None).await.status(), 200);
}
