//! The first steps of the product's guide, to the letter: the calls themselves, with `curl`.

use std::process::Command;

use serde_json::Value;

use super::house::{House, parsed, text};

/// Runs a `curl` call as the guide prints it, with the address of this test's listener in the place of the guide's.
fn curl(house: &House, call: &str) -> Value {
    let call = call.replace("http://localhost:8080", &format!("http://{}", house.shared));
    let output = Command::new("sh")
        .args(["-c", &format!("{call} --silent --show-error")])
        .output()
        .expect("sh");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{call}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_answers_a_key_a_token_and_the_dashboard_and_the_token_chooses_gateways() {
    let house = House::open("");
    let account = curl(
        &house,
        r#"curl -X POST http://localhost:8080/api/v1/customers/register \
  -H "Content-Type: application/json" \
  -d '{
    "email": "your-email@company.com",
    "password": "YourSecurePassword123!",
    "companyName": "Your Company Name"
  }'"#,
    );
    assert!(text(&account, "apiKey").starts_with("sk_"), "{account}");
    assert_eq!(text(&account, "token").split('.').count(), 3, "{account}");
    assert_eq!(text(&account, "dashboardUrl"), "http://localhost:3000");
    let profile = curl(
        &house,
        &r#"curl -X PUT http://localhost:8080/api/v1/customers/profile \
  -H "Authorization: Bearer YOUR_JWT_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "primaryGateway": "stripe",
    "secondaryGateway": "paypal"
  }'"#
        .replace("YOUR_JWT_TOKEN", text(&account, "token")),
    );
    assert_eq!(text(&profile, "primaryGateway"), "stripe");
    assert_eq!(text(&profile, "secondaryGateway"), "paypal");
    let shown = parsed(
        &house
            .ask("GET", "/api/v1/customers/profile", text(&account, "token"), None)
            .await,
    );
    assert_eq!(shown, profile);
    for gateway in ["stripe", "paypal", "braintree", "square", "razorpay", "adyen"] {
        let chosen = serde_json::json!({ "primaryGateway": gateway });
        let answer = house
            .ask(
                "PUT",
                "/api/v1/customers/profile",
                text(&account, "token"),
                Some(&chosen),
            )
            .await;
        assert_eq!(answer.status(), 200, "{gateway}: {}", answer.text());
    }
    let chosen = serde_json::json!({ "primaryGateway": "nobody" });
    let answer = house
        .ask(
            "PUT",
            "/api/v1/customers/profile",
            text(&account, "token"),
            Some(&chosen),
        )
        .await;
    assert_eq!(answer.status(), 422, "{}", answer.text());
    assert_eq!(parsed(&answer)["errors"][0]["field"], "primaryGateway");
}

/// The words in capitals of the page's calls, and what stands for them here.
fn filled(call: &str, account: &Value, key: &str) -> String {
    call.replace("YOUR_JWT_TOKEN", text(account, "token"))
        .replace("YOUR_API_KEY", text(account, "apiKey"))
        .replace("YOUR_REFRESH_TOKEN", text(account, "refreshToken"))
        .replace("/keys/YOUR_ID", &format!("/keys/{key}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_on_the_documentation_page_works_as_it_stands() {
    let house = House::open("");
    let page = house.ask("GET", "/api/v1/docs", "", None).await.text();
    let mut calls = Vec::new();
    for part in page.split("<pre tabindex=\"0\"><code>").skip(1) {
        let call = part.split("</code>").next().expect("a call");
        let call = call.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
        calls.push(call.replace("&#39;", "'").replace("&amp;", "&"));
    }
    assert!(calls.len() >= 18, "{} calls", calls.len());
    let account = curl(
        &house,
        calls
            .iter()
            .find(|call| call.contains("/register"))
            .expect("registering"),
    );
    let keys = parsed(&house.ask("GET", "/api/v1/keys", text(&account, "token"), None).await);
    let key = text(&keys["keys"][0], "id").to_owned();
    // What ends the session, a key or a password comes last, in an order that leaves each its turn.
    let late = ["/rotate", "/revoke", "/refresh", "/password", "/logout"];
    let place = |call: &String| late.iter().position(|end| call.contains(end)).map_or(0, |at| at + 1);
    calls.sort_by_key(place);
    let mut session = account.clone();
    for call in calls.iter().filter(|call| !call.contains("/register")) {
        let sent = filled(call, &session, &key).replace("http://localhost:8080", &format!("http://{}", house.shared));
        if sent.contains("YOUR_") {
            continue;
        }
        let run = format!("{sent} --silent --show-error --write-out '\\n%{{http_code}}'");
        let output = Command::new("sh").args(["-c", &run]).output().expect("sh");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = told.rsplit_once('\n').expect("a status");
        assert!(status.starts_with("20"), "{call}\n{status} {body}");
        if call.contains("/refresh") || call.contains("/password") {
            let next: Value = serde_json::from_str(body).expect("a session");
            for name in ["token", "refreshToken"] {
                session[name] = next[name].clone();
            }
        }
    }
}
