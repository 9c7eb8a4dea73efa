//! Fees of closed months, charged to tenants at the operator's gateway by the real binary: once, whatever happens.

use sentinel::analytics::billing::{Rate, Statement};
use sentinel::analytics::period::Month;
use sentinel::ledger::Ledger as _;
use sentinel::ledger::keys::Keys;
use sentinel::ledger::sqlite::{Options, SqliteLedger};
use sentinel::sandbox::server::{self, Sandbox};
use sentinel::sandbox::{Kind, books::Position};
use serde_json::{Value, json};

use super::house::{House, PASSWORD, parsed, raw, text};
use crate::support::merchant::sale;
use crate::support::patience::PATIENCE;
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::once;

/// An operator whose own account is at Stripe, and a tenant who owes the fee of a closed month.
struct Stand {
    house: House,
    sandbox: Sandbox,
    dashboard: std::net::SocketAddr,
    config: String,
    account: Value,
    month: String,
}

/// What is owed, in cents.
const FEE: i64 = 24_000;

impl Stand {
    /// Opens one; once more where a month ended meanwhile.
    async fn open() -> Self {
        let month = || jiff::Timestamp::now().to_string()[..7].to_owned();
        loop {
            let (begun, stand) = (month(), Self::in_this_month().await);
            if month() == begun {
                return stand;
            }
        }
    }

    async fn in_this_month() -> Self {
        let sandbox = server::start(&[Kind::Stripe, Kind::Adyen]).await.expect("simulators");
        let url = |name: &str| sandbox.gateway(name).expect("a simulator").url().to_owned();
        let (shared, dashboard) = (free_port(), free_port());
        let config = format!(
            "listeners: {{ shared: '{shared}', dashboard: '{dashboard}' }}
ledger: {{ sqlite: '{{dir}}/ledger.db', strict: false }}
accounts: {{ collect: {{ gateway: operator }} }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{}', allow_private: true, credentials: {{ secret_key: sk_test_sandbox }} }}
  adyen: {{ dialect: adyen, endpoint: '{}', allow_private: true, capture: automatic, credentials: {{ api_key: sandbox, merchant_account: AcmeECOM }} }}
  operator: {{ dialect: stripe, endpoint: '{}', allow_private: true, credentials: {{ secret_key: sk_test_sandbox }} }}
routes:
  - name: checkout
    path_prefix: /stripe
    dialect: stripe
    gateways: [stripe, adyen]
    lend_credentials: true
    failover: {{ require_certificate: false, attempt_timeout: 1500ms, deadline: 4s }}
    breaker: {{ consecutive: 1000, min_calls: 10000 }}
",
            free_port(),
            url("adyen"),
            url("stripe"),
        );
        let house = House {
            sentinel: Sentinel::start(&config),
            shared,
        };
        let body = json!({ "email": "a@example.com", "password": PASSWORD, "companyName": "Acme" });
        let account = parsed(&house.ask("POST", "/api/v1/customers/register", "", Some(&body)).await);
        // A recovered payment, so that the tenant is one that is billed at all.
        let fields = format!(
            "Authorization: Bearer {}\r\nIdempotency-Key: order-1\r\nSentinel-Instrument: adyen=shopper-1/8415698462516992\r\nContent-Type: application/x-www-form-urlencoded\r\n",
            text(&account, "apiKey")
        );
        let paid = raw(
            house.shared,
            "POST",
            "/stripe/v1/payment_intents",
            &fields,
            &sale("1999", ""),
        )
        .await;
        assert_eq!(paid.status(), 200, "{}", paid.text());
        let stand = Self {
            house,
            sandbox,
            dashboard,
            config,
            account,
            month: String::new(),
        };
        stand.statements().await;
        stand.with_last_month_closed().await
    }

    /// Restarts with the statement of the month before in the ledger, as closing it would have left it.
    async fn with_last_month_closed(self) -> Self {
        let tenant = text(&self.account, "customerId").to_owned();
        let House { sentinel, shared } = self.house;
        let dir = sentinel.kill();
        let keys = Keys::load_or_create(&dir.path().join("ledger.db.key")).expect("its key");
        let options = Options {
            strict: false,
            ..Options::new(dir.path().join("ledger.db"))
        };
        let ledger = SqliteLedger::open(&options, keys).expect("its ledger");
        let month = sentinel::analytics::period::month_of(ledger.now()).number() - 1;
        let statement = Statement {
            tenant: tenant.clone(),
            month,
            currency: "USD".to_owned(),
            recoveries: 240,
            recovered: 1_200_000,
            refunded: 0,
            reversed: 0,
            net: 1_200_000,
            rate: Rate::DEFAULT,
            fee: FEE,
            lines: 240,
            digest: Some("0".repeat(64)),
            closed_at: Some(ledger.now()),
        };
        let month = Month::from_number(month).expect("a month").to_string();
        let value = serde_json::to_string(&statement).expect("JSON");
        let written = ledger.put_document("statements", format!("{tenant}/{month}/USD"), value, Some(0));
        written.await.expect("is written");
        drop(ledger);
        let sentinel = Sentinel::start_in(dir, &self.config, &[]);
        Self {
            house: House { sentinel, shared },
            month,
            ..self
        }
    }

    fn restarted(self) -> Self {
        let House { sentinel, shared } = self.house;
        let sentinel = Sentinel::start_in(sentinel.kill(), &self.config, &[]);
        Self {
            house: House { sentinel, shared },
            ..self
        }
    }

    async fn pay_with(&self, token: &str) {
        let body = json!({ "token": token });
        let token = text(&self.account, "token");
        let stored = self
            .house
            .ask("PUT", "/api/v1/billing/instrument", token, Some(&body))
            .await;
        assert_eq!(stored.status(), 200, "{}", stored.text());
        assert!(!stored.text().contains("pm_"), "never told back: {}", stored.text());
    }

    /// The statements, once there are any.
    async fn statements(&self) -> Vec<Value> {
        loop {
            let key = text(&self.account, "apiKey");
            let answer = parsed(&self.house.ask("GET", "/api/v1/billing/statements", key, None).await);
            let all = answer["statements"].as_array().expect("statements").clone();
            if !all.is_empty() {
                return all;
            }
            tokio::task::yield_now().await;
        }
    }

    /// How the fee of the closed month stands, once it is as wanted.
    async fn until(&self, wanted: &str) -> Value {
        let begun = std::time::SystemTime::now();
        loop {
            let all = self.statements().await;
            let closed = all.iter().find(|one| one["month"] == self.month.as_str());
            let collection = closed.expect("the month's")["collection"].clone();
            if collection["state"] == wanted {
                return collection;
            }
            let waited = begun.elapsed().unwrap_or_default();
            assert!(waited < PATIENCE, "{wanted} does not come: {collection}");
            tokio::task::yield_now().await;
        }
    }

    /// What the operator's gateway has of fees.
    async fn charged(&self) -> Vec<Position> {
        self.sandbox.gateway("stripe").expect("a simulator").quiet().await;
        let audit = self.sandbox.books().audit();
        assert!(
            audit.doubled.is_empty() && audit.violations.is_empty(),
            "{:?} {:?}",
            audit.doubled,
            audit.violations
        );
        let fees = audit.positions.into_iter().filter(|position| {
            position.gateway == "stripe" && position.captured > 0 && {
                let order = position.order.as_deref().unwrap_or_default();
                order.starts_with("fee-")
            }
        });
        fees.collect()
    }

    fn fault(&self, fault: &str) {
        let rule = fault.parse().expect("a fault");
        self.sandbox.gateway("stripe").expect("a simulator").fault(rule);
    }

    /// Somebody who runs this Sentinel asks for the fee; answers the statement's page afterwards.
    async fn operator_collects(&self) -> String {
        let at = self.dashboard;
        let send = async |method: &str, path: &str, cookie: &str, form: &str| {
            let bytes = format!(
                "{method} {path} HTTP/1.1\r\nHost: {at}\r\n{cookie}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{form}",
                form.len()
            );
            once(at, bytes).await
        };
        let entered = send("POST", "/operator", "", "").await;
        let cookie = entered.header("set-cookie").expect("a cookie");
        let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().expect("a pair"));
        let page = format!("/billing/{}/{}/USD", text(&self.account, "customerId"), self.month);
        let shown = send("GET", &page, &cookie, "").await.text();
        let csrf = shown.split("name=\"csrf\" value=\"").nth(1).expect("a form")[..64].to_owned();
        let done = send("POST", &format!("{page}/collect"), &cookie, &format!("csrf={csrf}")).await;
        assert_eq!(done.status(), 303, "{}", done.text());
        send("GET", &page, &cookie, "").await.text()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fee_is_charged_once_and_stays_so_over_restarts_and_haste() {
    let mut stand = Stand::open().await;
    stand.until("no_instrument").await;
    stand.pay_with("pm_card_visa").await;
    let (one, other) = tokio::join!(stand.operator_collects(), stand.operator_collects());
    assert!(one.contains("paid") || other.contains("paid"), "{one}");
    let paid = stand.until("paid").await;
    assert_eq!(paid["attempts"], 1, "{paid}");
    for _ in 0..2 {
        stand = stand.restarted();
        assert_eq!(stand.until("paid").await, paid);
    }
    let charged = stand.charged().await;
    assert_eq!(charged.len(), 1, "{charged:?}");
    assert_eq!((charged[0].captured, charged[0].currency.as_str()), (FEE, "USD"));
    // It is the operator's payment, and none of the tenant's.
    let id = text(&paid, "payment");
    let token = text(&stand.account, "token");
    let path = format!("/api/v1/analytics/events/{id}");
    assert_eq!(stand.house.ask("GET", &path, token, None).await.status(), 404);
    let trail = stand.house.ask("GET", "/api/v1/audit", token, None).await.text();
    assert!(
        trail.contains("paid_with_stored") && trail.contains("fee_collected"),
        "{trail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_fee_waits_for_another_card_and_is_then_charged_once() {
    let mut stand = Stand::open().await;
    stand.pay_with("pm_card_chargeDeclined").await;
    stand.operator_collects().await;
    let declined = stand.until("declined").await;
    // The clock may have asked, too, a moment before.
    let tries = declined["attempts"].as_i64().expect("a count");
    stand = stand.restarted();
    assert_eq!(stand.until("declined").await, declined, "nobody asks again by himself");
    assert!(stand.charged().await.is_empty());
    stand.pay_with("pm_card_visa").await;
    stand.operator_collects().await;
    let paid = stand.until("paid").await;
    assert_eq!(paid["attempts"], tries + 1, "{paid}");
    stand = stand.restarted();
    assert_eq!(stand.until("paid").await, paid);
    assert_eq!(stand.charged().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fee_whose_answer_was_lost_is_not_asked_for_again_but_found_out_about() {
    let mut stand = Stand::open().await;
    stand.pay_with("pm_card_visa").await;
    stand.fault("lost,method=POST,path=/v1/payment_intents");
    let page = stand.operator_collects().await;
    let first = stand.statements().await;
    let closed = first.iter().find(|one| one["month"] == stand.month.as_str());
    let closed = closed.expect("the month's");
    assert_eq!(closed["collection"]["attempts"], 1, "{page}");
    // The recovery asks the gateway; the collector only looks.
    let found = loop {
        let page = stand.operator_collects().await;
        if page.contains("badge good\">paid") {
            break stand.until("paid").await;
        }
    };
    assert_eq!(found["attempts"], 1, "{found}");
    stand = stand.restarted();
    assert_eq!(stand.until("paid").await, found);
    assert_eq!(stand.charged().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fee_that_the_gateway_did_not_take_is_asked_for_again_as_another_payment() {
    let mut stand = Stand::open().await;
    stand.pay_with("pm_card_visa").await;
    stand.fault("refuse");
    stand.operator_collects().await;
    let failed = stand.until("failed").await;
    // The clock may have asked, too, a moment before.
    let tries = failed["attempts"].as_i64().expect("a count");
    stand.sandbox.gateway("stripe").expect("a simulator").clear_faults();
    stand = stand.restarted();
    let paid = stand.until("paid").await;
    assert_eq!(paid["attempts"], tries + 1, "{paid}");
    assert_eq!(stand.charged().await.len(), 1);
}
