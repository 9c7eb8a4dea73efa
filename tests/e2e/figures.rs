//! What a tenant reads of its payments: overview, events, timelines, gateways and statements, by its API key.

use serde_json::Value;

use crate::support::gateway::Gateway;
use crate::support::merchant::{ADYEN_TOKEN, adyen_authorised, sale};
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::{Message, once};

struct Stand {
    sentinel: Sentinel,
    listen: std::net::SocketAddr,
    shared: std::net::SocketAddr,
    dashboard: std::net::SocketAddr,
    key: String,
    config: String,
}

impl Stand {
    /// A sidecar whose first gateway refuses connections, and a tenant with its key.
    async fn open(adyen: &Gateway) -> Self {
        let (listen, shared, dashboard) = (free_port(), free_port(), free_port());
        let config = format!(
            "listeners: {{ shared: {shared}, dashboard: {dashboard} }}
ledger: {{ sqlite: '{{dir}}/ledger.db', strict: false }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{}', allow_private: true, credentials: {{ secret_key: sk_test_sentinel }} }}
  adyen: {{ dialect: adyen, endpoint: 'http://{}', allow_private: true, capture: automatic, credentials: {{ api_key: adyen-key, merchant_account: AcmeECOM }} }}
routes:
  - name: checkout
    listen: {listen}
    dialect: stripe
    gateways: [stripe, adyen]
    failover: {{ require_certificate: false, attempt_timeout: 4s, deadline: 6s }}
    breaker: {{ consecutive: 100, min_calls: 1000 }}
",
            free_port(),
            adyen.address,
        );
        let mut stand = Self {
            sentinel: Sentinel::start(&config),
            listen,
            shared,
            dashboard,
            key: String::new(),
            config,
        };
        let account = r#"{"email":"ada@example.com","password":"a long enough passphrase","companyName":"Ada"}"#;
        let made = stand.ask("POST", "/api/v1/customers/register", account).await;
        assert_eq!(made.status(), 201, "{}", made.text());
        stand.key = parsed(&made)["apiKey"].as_str().expect("a key").to_owned();
        stand
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Message {
        let key = match self.key.as_str() {
            "" => String::new(),
            key => format!("Authorization: Bearer {key}\r\n"),
        };
        let kind = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/json\r\n"
        };
        let bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{key}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        once(self.shared, bytes).await
    }

    async fn read(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, "").await;
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        parsed(&answer)
    }

    /// Goes on as operator; answers the session's cookie as a line of a head.
    async fn operate(&self) -> String {
        let bytes = format!(
            "POST /operator HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.dashboard
        );
        let entered = once(self.dashboard, bytes).await;
        assert_eq!(entered.status(), 303, "{}", entered.text());
        let cookie = entered.header("set-cookie").expect("a cookie");
        format!("Cookie: {}\r\n", cookie.split(';').next().expect("a pair"))
    }

    /// A page of the dashboard, or the one that it leads to; nothing where it leads to the way in.
    async fn page(&self, path: &str, session: &str) -> String {
        let mut path = path.to_owned();
        loop {
            let bytes = format!(
                "GET {path} HTTP/1.1\r\nHost: {}\r\n{session}Connection: close\r\n\r\n",
                self.dashboard
            );
            let answer = once(self.dashboard, bytes).await;
            match (answer.status(), answer.header("location")) {
                (200, _) => return answer.text(),
                (303, Some(to)) if to.starts_with("/login") => return String::new(),
                (303, Some(to)) => path = to.to_owned(),
                (status, _) => panic!("{path}: {status} {}", answer.text()),
            }
        }
    }

    /// Pays with the gateway's own key; answers Sentinel's id of the payment.
    async fn pay(&self, key: &str) -> String {
        let form = sale("1999", "");
        let bytes = format!(
            "POST /v1/payment_intents HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk_test_1\r\nIdempotency-Key: {key}\r\nSentinel-Instrument: adyen={ADYEN_TOKEN}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        let answer = once(self.listen, bytes).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.header("sentinel-payment").expect("an id").to_owned()
    }
}

fn parsed(answer: &Message) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("no JSON: {}", answer.text()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tenant_reads_zeros_in_the_documented_shape() {
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let stand = Stand::open(&adyen).await;
    // Payments of the route belong to nobody's key: this tenant never sees them.
    let others = stand.pay("somebody-else").await;
    let overview = stand.read("/api/v1/metrics/overview").await;
    for (field, value) in [
        ("totalEvents", "0"),
        ("successfulRecoveries", "0"),
        ("recoveredRevenue", "0.00"),
        ("avgRecoveryTime", "0.0"),
        ("failoverRate", "\"0.0%\""),
    ] {
        assert!(overview.get(field).is_some(), "{field} is missing: {overview}");
        let raw = stand.ask("GET", "/api/v1/metrics/overview", "").await.text();
        assert!(raw.contains(&format!("\"{field}\":{value}")), "{field}: {raw}");
    }
    assert_eq!(
        stand.read("/api/v1/analytics/events").await["events"],
        serde_json::json!([])
    );
    assert_eq!(
        stand.read("/api/v1/billing/statements").await["statements"],
        serde_json::json!([])
    );
    let story = stand
        .ask("GET", &format!("/api/v1/analytics/events/{others}"), "")
        .await;
    assert_eq!(story.status(), 404, "{}", story.text());
    for wrong in [
        "/api/v1/metrics/overview?period=fortnight",
        "/api/v1/metrics/overview?nonsense=1",
        "/api/v1/metrics/overview?currency=EURO",
        "/api/v1/analytics/events?limit=0",
        "/api/v1/analytics/events?cursor=abc",
        "/api/v1/analytics/events?outcome=lost",
        "/api/v1/analytics/events?format=xml",
    ] {
        let answer = stand.ask("GET", wrong, "").await;
        assert_eq!(answer.status(), 422, "{wrong}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_was_recovered_is_counted_listed_told_and_billed_and_survives_a_crash() {
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let stand = Stand::open(&adyen).await;
    let session = stand.operate().await;
    let payment = stand.pay("order-1").await;
    // The figures follow the ledger within a moment.
    let row = loop {
        let file = stand.page("/payments?kind=recovered&format=ndjson", &session).await;
        if let Some(line) = file.lines().next() {
            break serde_json::from_str::<Value>(line).expect("a line of JSON");
        }
        tokio::task::yield_now().await;
    };
    for (field, value) in [
        ("id", Value::from(payment.as_str())),
        ("outcome", "succeeded".into()),
        ("firstGateway", "stripe".into()),
        ("gateway", "adyen".into()),
        ("failureReason", "not_sent".into()),
        ("recovered", true.into()),
        ("amount", "19.99".into()),
        ("captured", "19.99".into()),
        ("refunded", "0.00".into()),
        ("currency", "EUR".into()),
    ] {
        assert_eq!(row[field], value, "{field}: {row}");
    }
    for (path, shown) in [
        ("/", "19.99"),
        ("/payments?q=order-7", &payment),
        ("/gateways", "Recovered here"),
        ("/billing", "0.40"),
    ] {
        assert!(
            stand.page(path, &session).await.contains(shown),
            "{path} does not show {shown}"
        );
    }
    let story = stand.page(&format!("/payments/{payment}"), &session).await;
    assert!(
        story.contains("class=\"timeline\"") && story.contains("adyen"),
        "{story}"
    );
    let billing = stand.page("/billing", &session).await;
    let link = billing
        .split("href=\"/billing/local/")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let statement = format!("/billing/local/{}?format=csv", link.expect("a statement"));
    let csv = stand.page(&statement, &session).await;
    assert!(csv.contains(&payment) && csv.contains(",19.99,EUR"), "{csv}");
    // A crash loses nothing, counts nothing twice, and logs nobody out.
    let dir = stand.sentinel.kill();
    let stand = Stand {
        sentinel: Sentinel::start_in(dir, &stand.config, &[]),
        ..stand
    };
    assert!(
        !stand.page("/billing", &session).await.is_empty(),
        "the session is there"
    );
    let again = stand.page("/payments?kind=recovered&format=ndjson", &session).await;
    assert_eq!(serde_json::from_str::<Value>(&again).expect("one line of JSON"), row);
    assert_eq!(stand.page(&statement, &session).await, csv);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_gives_nothing_to_whoever_is_not_logged_in_or_comes_from_elsewhere() {
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let stand = Stand::open(&adyen).await;
    let get = async |path: &str, more: &str| {
        let bytes = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n{more}Connection: close\r\n\r\n",
            stand.dashboard
        );
        once(stand.dashboard, bytes).await
    };
    for path in [
        "/",
        "/payments",
        "/gateways",
        "/doubt",
        "/billing",
        "/configuration",
        "/account",
        "/live/overview",
    ] {
        let answer = get(path, "").await;
        assert_eq!(answer.status(), 303, "{path}");
        assert!(
            answer.header("location").is_some_and(|to| to.starts_with("/login")),
            "{path}"
        );
    }
    let login = get("/login", "").await;
    let policy = login.header("content-security-policy").expect("a policy");
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(login.text().contains("Go on as operator"));
    let proxied = get("/login", "X-Forwarded-For: 203.0.113.9\r\n").await;
    assert!(
        !proxied.text().contains("Go on as operator"),
        "behind a proxy nobody is an operator without a token"
    );
    let post = async |path: &str, more: &str, form: &str| {
        let bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{more}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{form}",
            stand.dashboard,
            form.len()
        );
        once(stand.dashboard, bytes).await
    };
    assert_eq!(
        post("/operator", "Origin: http://evil.example\r\n", "").await.status(),
        403
    );
    assert_eq!(
        post("/operator", "X-Forwarded-For: 203.0.113.9\r\n", "").await.status(),
        401
    );
    let rebound = "GET /login HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(once(stand.dashboard, rebound).await.status(), 421);
    let entered = post("/operator", "", "").await;
    assert_eq!(entered.status(), 303);
    let cookie = entered.header("set-cookie").expect("a cookie");
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let session = format!("Cookie: {}\r\n", cookie.split(';').next().expect("a pair"));
    let gateways = get("/gateways", &session).await;
    assert_eq!(gateways.status(), 200);
    // A form without the session's token does nothing, one with it does.
    let forced = post("/gateways/checkout/adyen", &session, "command=open&csrf=0").await;
    assert_eq!(forced.status(), 403);
    let token = gateways
        .text()
        .split("name=\"csrf\" value=\"")
        .nth(1)
        .map(|rest| rest[..64].to_owned());
    let form = format!("command=open&csrf={}", token.expect("a token"));
    assert_eq!(post("/gateways/checkout/adyen", &session, &form).await.status(), 303);
    assert!(
        get("/gateways", &session).await.text().contains("dashboard"),
        "the note says who forced it"
    );
}
