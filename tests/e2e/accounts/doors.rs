//! What attackers try at the interface, and what it answers.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde_json::{Value, json};

use super::house::{House, PASSWORD, ask, parsed, raw, text};
use crate::support::sentinel::free_port;

const PROFILE: &str = "/api/v1/customers/profile";

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_open_nothing() {
    let house = House::open("");
    let account = house.register("a@example.com").await;
    let token = text(&account, "token");
    let parts: Vec<&str> = token.split('.').collect();
    let header: Value = serde_json::from_slice(&B64.decode(parts[0]).expect("base64")).expect("a header");
    let kid = text(&header, "kid");
    let headed =
        |header: &str, signature: &str| format!("{}.{}.{signature}", B64.encode(header.replace("KID", kid)), parts[1]);
    let mut claims: Value = serde_json::from_slice(&B64.decode(parts[1]).expect("base64")).expect("claims");
    claims["nbf"] = "0".into();
    let retyped = format!("{}.{}.{}", parts[0], B64.encode(claims.to_string()), parts[2]);
    for forged in [
        headed(r#"{"alg":"none","kid":"KID"}"#, ""),
        headed(r#"{"alg":"none","kid":"KID"}"#, parts[2]),
        headed(r#"{"alg":"RS256","kid":"KID"}"#, parts[2]),
        headed(r#"{"alg":"HS256","kid":"../../../dev/null"}"#, parts[2]),
        headed(r#"{"alg":"HS256","kid":"KID","jwk":{"kty":"oct","k":"AA"}}"#, parts[2]),
        retyped,
        "x".repeat(8000),
        text(&account, "refreshToken").to_owned(),
        "sk_snt_live_".to_owned(),
    ] {
        let refused = house.ask("GET", PROFILE, &forged, None).await;
        let shown: String = forged.chars().take(60).collect();
        assert_eq!(refused.status(), 401, "{shown}: {}", refused.text());
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        assert!(refused.header("www-authenticate").is_some());
        assert!(!refused.text().contains(&shown), "nothing is told back");
    }
    for fields in [
        String::new(),
        "Authorization: Bearer\r\n".to_owned(),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: {token}\r\n"),
        format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n"),
        format!("Cookie: token={token}\r\n"),
    ] {
        assert_eq!(
            raw(house.shared, "GET", PROFILE, &fields, "").await.status(),
            401,
            "{fields}"
        );
    }
    assert_eq!(house.ask("GET", PROFILE, token, None).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_cannot_be_made_to_ask() {
    let house = House::open("");
    let account = house.register("a@example.com").await;
    let bearer = format!("Authorization: Bearer {}\r\n", text(&account, "token"));
    let json = "Content-Type: application/json\r\n";
    let chosen = json!({ "primaryGateway": "stripe" }).to_string();
    for (method, fields, wanted) in [
        ("PUT", format!("{bearer}Content-Type: text/plain\r\n"), 415),
        (
            "PUT",
            format!("{bearer}Content-Type: application/x-www-form-urlencoded\r\n"),
            415,
        ),
        ("PUT", bearer.clone(), 415),
        ("PUT", format!("{bearer}{json}Origin: http://evil.example\r\n"), 403),
        ("PUT", format!("{bearer}{json}Origin: null\r\n"), 403),
        ("PUT", format!("{bearer}{json}Sec-Fetch-Site: cross-site\r\n"), 403),
        ("PUT", format!("Host: rebound.example\r\n{bearer}{json}"), 421),
        ("PUT", format!("Host: 127.0.0.1.evil.example\r\n{bearer}{json}"), 421),
        (
            "PUT",
            format!("{bearer}{json}Origin: http://localhost\r\nSec-Fetch-Site: same-origin\r\n"),
            200,
        ),
        (
            "OPTIONS",
            format!("{bearer}Origin: http://evil.example\r\nAccess-Control-Request-Method: PUT\r\n"),
            403,
        ),
    ] {
        let answer = raw(house.shared, method, PROFILE, &fields, &chosen).await;
        assert_eq!(answer.status(), wanted, "{fields}: {}", answer.text());
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let page = raw(house.shared, "GET", "/api/v1/docs", "", "").await;
    assert_eq!(page.status(), 200);
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(
        !page.text().contains("<script") && !page.text().contains("style="),
        "neither script nor inline style"
    );
    assert!(
        !page.text().contains("src=\"http") && !page.text().contains("href=\"http"),
        "nothing from elsewhere"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_an_account_is_not_told_and_who_guesses_is_locked_out() {
    let house = House::open("");
    let account = house.register("a@example.com").await;
    let mut told = Vec::new();
    for email in ["a@example.com", "nobody@example.com"] {
        let mut answers = Vec::new();
        for attempt in 0..6 {
            let body = json!({ "email": email, "password": format!("wrong password {attempt}") });
            let refused = house.ask("POST", "/api/v1/customers/login", "", Some(&body)).await;
            let mut problem = parsed(&refused);
            problem.as_object_mut().expect("a problem").remove("requestId");
            answers.push((refused.status(), problem, refused.header("retry-after").is_some()));
        }
        told.push(answers);
    }
    assert_eq!(told[0], told[1], "the same for both");
    assert_eq!(
        told[0].iter().map(|(status, ..)| *status).collect::<Vec<_>>(),
        [401, 401, 401, 401, 401, 429]
    );
    assert!(told[0][5].2, "with the time to wait");
    let right = json!({ "email": "a@example.com", "password": PASSWORD });
    let locked = house.ask("POST", "/api/v1/customers/login", "", Some(&right)).await;
    assert_eq!(locked.status(), 429, "also with the right password");
    // The session that is there is not concerned, and its owner can read what happened.
    let trail = parsed(&house.ask("GET", "/api/v1/audit", text(&account, "token"), None).await);
    let actions: Vec<&str> = trail["lines"]
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| text(line, "action"))
        .collect();
    assert_eq!(
        actions,
        [
            "locked_out",
            "login_failed",
            "login_failed",
            "login_failed",
            "login_failed",
            "registered"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn registration_is_closed_outside_loopback_unless_configured() {
    let body = json!({ "email": "a@example.com", "password": PASSWORD, "companyName": "Acme" });
    let outside = SocketAddr::from(([0, 0, 0, 0], free_port().port()));
    let here = SocketAddr::from(([127, 0, 0, 1], outside.port()));
    let _house = House::at(outside, "");
    let refused = ask(here, "POST", "/api/v1/customers/register", "", Some(&body)).await;
    assert_eq!(refused.status(), 403, "{}", refused.text());
    assert_eq!(parsed(&refused)["code"], "registration_closed");
    assert_eq!(ask(here, "GET", "/api/v1/status", "", None).await.status(), 200);
    let outside = SocketAddr::from(([0, 0, 0, 0], free_port().port()));
    let here = SocketAddr::from(([127, 0, 0, 1], outside.port()));
    let _open = House::at(
        outside,
        "accounts: { registration: open, dashboard: 'https://pay.example.com/' }",
    );
    let made = ask(here, "POST", "/api/v1/customers/register", "", Some(&body)).await;
    assert_eq!(parsed(&made)["dashboardUrl"], "https://pay.example.com");
    let closed = House::open("accounts: { registration: closed }");
    let refused = closed.ask("POST", "/api/v1/customers/register", "", Some(&body)).await;
    assert_eq!(refused.status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_refresh_once_end_and_die_with_the_password() {
    let house = House::open("");
    let account = house.register("a@example.com").await;
    let body = json!({ "refreshToken": text(&account, "refreshToken") });
    let next = parsed(&house.ask("POST", "/api/v1/customers/refresh", "", Some(&body)).await);
    let token = text(&next, "token");
    assert_eq!(house.ask("GET", PROFILE, token, None).await.status(), 200);
    let stolen = house.ask("POST", "/api/v1/customers/refresh", "", Some(&body)).await;
    assert_eq!(stolen.status(), 401, "used twice");
    assert_eq!(
        house.ask("GET", PROFILE, token, None).await.status(),
        401,
        "its session ended"
    );
    let login = json!({ "email": "A@Example.com ", "password": PASSWORD });
    let first = parsed(&house.ask("POST", "/api/v1/customers/login", "", Some(&login)).await);
    let second = parsed(&house.ask("POST", "/api/v1/customers/login", "", Some(&login)).await);
    assert_eq!(
        house
            .ask("POST", "/api/v1/customers/logout", text(&first, "token"), None)
            .await
            .status(),
        204
    );
    assert_eq!(
        house.ask("GET", PROFILE, text(&first, "token"), None).await.status(),
        401
    );
    let change = json!({ "currentPassword": PASSWORD, "newPassword": "another long passphrase" });
    let changed = house
        .ask(
            "PUT",
            "/api/v1/customers/password",
            text(&second, "token"),
            Some(&change),
        )
        .await;
    assert_eq!(changed.status(), 200, "{}", changed.text());
    assert_eq!(
        house.ask("GET", PROFILE, text(&second, "token"), None).await.status(),
        401
    );
    assert_eq!(
        house
            .ask("GET", PROFILE, text(&parsed(&changed), "token"), None)
            .await
            .status(),
        200
    );
    let old = house.ask("POST", "/api/v1/customers/login", "", Some(&login)).await;
    assert_eq!(old.status(), 401, "{}", old.text());
    let log = house.sentinel.log();
    for secret in [PASSWORD, "another long passphrase", token, text(&account, "apiKey")] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_belong_to_a_tenant_and_rotate_with_an_overlap() {
    let house = House::open("");
    let (a, b) = (
        house.register("a@example.com").await,
        house.register("b@example.com").await,
    );
    let (mine, theirs) = (text(&a, "token"), text(&b, "token"));
    let asked = json!({ "name": "checkout", "scopes": ["instruments"] });
    let made = house.ask("POST", "/api/v1/keys", mine, Some(&asked)).await;
    assert_eq!(made.status(), 201, "{}", made.text());
    let made = parsed(&made);
    let id = text(&made, "id");
    for path in [format!("/api/v1/keys/{id}/revoke"), format!("/api/v1/keys/{id}/rotate")] {
        let body = path.ends_with("rotate").then(|| json!({}));
        let foreign = house.ask("POST", &path, theirs, body.as_ref()).await;
        assert_eq!(
            foreign.status(),
            404,
            "another tenant's key is no key: {}",
            foreign.text()
        );
    }
    let overlap = json!({ "overlapHours": 24 });
    let rotated = house
        .ask("POST", &format!("/api/v1/keys/{id}/rotate"), mine, Some(&overlap))
        .await;
    assert_eq!(rotated.status(), 201, "{}", rotated.text());
    for key in [text(&made, "apiKey"), text(&parsed(&rotated), "apiKey")] {
        assert_eq!(
            house.ask("GET", "/api/v1/instruments", key, None).await.status(),
            200,
            "both are good"
        );
        assert_eq!(
            house.ask("GET", PROFILE, key, None).await.status(),
            403,
            "a key is no session"
        );
    }
    let listed = house.ask("GET", "/api/v1/keys", mine, None).await;
    assert!(!listed.text().contains("sk_snt_"), "shown once only");
    assert_eq!(parsed(&listed)["keys"].as_array().expect("keys").len(), 3);
    for bad in [
        json!({}),
        json!({ "name": "x", "mode": "prod" }),
        json!({ "name": "x", "scopes": [] }),
        json!({ "name": 1 }),
    ] {
        let refused = house.ask("POST", "/api/v1/keys", mine, Some(&bad)).await;
        assert_eq!(refused.status(), 422, "{bad}: {}", refused.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_unknown_or_no_json_is_refused_by_name() {
    let house = House::open("");
    let register = "/api/v1/customers/register";
    let json = "Content-Type: application/json\r\n";
    let large = format!(r#"{{"email":"{}"}}"#, "a".repeat(20_000));
    assert_eq!(raw(house.shared, "POST", register, json, &large).await.status(), 413);
    assert_eq!(
        raw(house.shared, "POST", register, json, "{\"email\":").await.status(),
        400
    );
    let refused = raw(
        house.shared,
        "POST",
        register,
        json,
        r#"{"email":"hunter2","pasword":"hunter2"}"#,
    )
    .await;
    assert_eq!(refused.status(), 422);
    let named: Vec<String> = parsed(&refused)["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|error| text(error, "field").to_owned())
        .collect();
    for field in ["password", "companyName", "pasword"] {
        assert!(named.iter().any(|name| name == field), "{named:?}");
    }
    assert!(!refused.text().contains("hunter2"));
    let unknown = house.ask("GET", "/api/v1/nowhere", "", None).await;
    assert_eq!(
        (unknown.status(), unknown.header("content-type")),
        (404, Some("application/problem+json"))
    );
    let wrong = house.ask("DELETE", register, "", None).await;
    assert_eq!((wrong.status(), wrong.header("allow")), (405, Some("POST")));
    // A path beside the interface is a gateway's business.
    assert_eq!(
        house
            .ask("GET", "/api/v10/status", "", None)
            .await
            .header("sentinel-request-id"),
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_outlive_the_process_and_have_no_secret_in_the_file() {
    let house = House::open("");
    let account = house.register("a@example.com").await;
    let canary = "sk_test_canary_of_the_file";
    let stored = json!({ "credentials": { "secret_key": canary } });
    house
        .ask(
            "PUT",
            "/api/v1/credentials/stripe",
            text(&account, "token"),
            Some(&stored),
        )
        .await;
    let secret = text(&account, "apiKey")
        .rsplit('_')
        .next()
        .expect("a secret")
        .to_owned();
    let House { sentinel, .. } = house;
    let dir = sentinel.kill();
    for entry in std::fs::read_dir(dir.path()).expect("reads") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        for hidden in [canary, PASSWORD, secret.as_str(), "a@example.com"] {
            let found = bytes.windows(hidden.len()).any(|window| window == hidden.as_bytes());
            assert!(!found, "{hidden} is in {}", path.display());
        }
    }
}
