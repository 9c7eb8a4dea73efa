//! A shop with its gateways: simulators on real sockets, the real binary in front of them, and one set of books.

use std::net::SocketAddr;

use sentinel::sandbox::fault::{Fault, Match, Rule};
use sentinel::sandbox::server::{self, Gateway, Received, Sandbox};
use sentinel::sandbox::{Kind, books::Audit};
use serde_json::Value;

use super::metrics::scrape;
use super::patience::{PATIENCE, until};
use super::sentinel::{Sentinel, free_port};
use super::wire::{Message, once};

/// Saved tokens: the same card in each vault. Adyen's is written with its shopper.
pub const STRIPE_TOKEN: &str = "pm_card_visa";
/// In Adyen's vault.
pub const ADYEN_TOKEN: &str = "shopper-1/8415698462516992";
/// In PayPal's vault.
pub const PAYPAL_TOKEN: &str = "8kk845";
/// In Braintree's vault.
pub const BRAINTREE_TOKEN: &str = "tok_4111";
/// In Square's vault, written with its customer.
pub const SQUARE_TOKEN: &str = "CUST1/ccof:customer-card-id-ok";
/// A mandate at Razorpay, written with its customer.
pub const RAZORPAY_TOKEN: &str = "cust_1Aa00000000001/token_1Aa00000000001";
/// All of them, as an application sends them beside a request.
pub const INSTRUMENTS: &str = "stripe=pm_card_visa; adyen=shopper-1/8415698462516992; paypal=8kk845; braintree=tok_4111; square=CUST1/ccof:customer-card-id-ok; razorpay=cust_1Aa00000000001/token_1Aa00000000001";

/// The address that Square was told to notify: what its signatures are over.
pub const NOTIFICATION_URL: &str = "https://shop.example/square";
/// The id of the webhook at PayPal.
pub const WEBHOOK_ID: &str = "WH-SANDBOX";

/// What webhooks of a dialect are signed with, by the simulator and by Sentinel.
pub fn webhook_secret(dialect: &str) -> &'static str {
    match dialect {
        "stripe" => "whsec_sandbox",
        "adyen" => "00ff",
        _ => "hook-secret",
    }
}

/// Its parts.
pub struct Shop {
    /// The simulators.
    pub sandbox: Sandbox,
    /// The process.
    pub sentinel: Sentinel,
    /// Listeners by dialect: stripe, adyen, paypal.
    pub stripe: SocketAddr,
    /// The Adyen route.
    pub adyen: SocketAddr,
    /// The PayPal route.
    pub paypal: SocketAddr,
    /// The Braintree route.
    pub braintree: SocketAddr,
    /// The Square route.
    pub square: SocketAddr,
    /// The Razorpay route.
    pub razorpay: SocketAddr,
    /// The operators' listener.
    pub admin: SocketAddr,
    /// Where gateways post their webhooks.
    pub webhooks: SocketAddr,
    config: String,
}

/// How a shop is set up. Orders are of gateways, own first.
pub struct Setup {
    /// Gateways of the Stripe route.
    pub stripe: &'static str,
    /// Gateways of the Adyen route.
    pub adyen: &'static str,
    /// More settings of the Adyen account.
    pub adyen_account: &'static str,
    /// Gateways of the PayPal route.
    pub paypal: &'static str,
    /// Gateways of the Braintree route.
    pub braintree: &'static str,
    /// More settings of the Braintree account.
    pub braintree_account: &'static str,
    /// More settings of the Razorpay account.
    pub razorpay_account: &'static str,
    /// Gateways of the Square route.
    pub square: &'static str,
    /// Gateways of the Razorpay route.
    pub razorpay: &'static str,
    /// Whether only a certificate makes a fence count; there is none at first.
    pub certified: bool,
    /// More failover settings of every route.
    pub failover: &'static str,
    /// More settings of every breaker.
    pub breaker: &'static str,
    /// How long one attempt may take.
    pub attempt: &'static str,
    /// More settings of every gateway.
    pub gateway: &'static str,
    /// More top-level settings.
    pub process: &'static str,
    /// Where every route's application takes webhooks; every account's own are then verified, too.
    pub notify: Option<String>,
    /// More settings of it.
    pub give_up: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            stripe: "stripe, adyen, paypal",
            adyen: "adyen, stripe, paypal",
            adyen_account: "",
            paypal: "paypal, stripe, adyen",
            braintree: "braintree, stripe, adyen",
            braintree_account: ", request_keys: true",
            razorpay_account: "",
            square: "square, stripe, adyen",
            razorpay: "razorpay, stripe, adyen",
            certified: false,
            failover: "",
            breaker: "consecutive: 50, min_calls: 1000",
            attempt: "1500ms",
            gateway: "",
            process: "",
            notify: None,
            give_up: "",
        }
    }
}

impl Setup {
    /// The same with these gateways on the route of one dialect.
    #[must_use]
    pub fn of(mut self, dialect: &str, gateways: &[&str]) -> Self {
        let route = match dialect {
            "stripe" => &mut self.stripe,
            "adyen" => &mut self.adyen,
            "paypal" => &mut self.paypal,
            "braintree" => &mut self.braintree,
            "square" => &mut self.square,
            "razorpay" => &mut self.razorpay,
            other => panic!("no route speaks {other}"),
        };
        *route = gateways.join(", ").leak();
        self
    }
}

impl Shop {
    /// Opens one with the ordinary setup.
    pub async fn open() -> Self {
        Self::with(Setup::default()).await
    }

    /// Opens one.
    pub async fn with(setup: Setup) -> Self {
        Self::with_env(setup, &[]).await
    }

    /// Opens one whose process has more environment.
    pub async fn with_env(setup: Setup, env: &[(&str, &str)]) -> Self {
        let sandbox = server::start(&Kind::ALL).await.expect("a sandbox");
        let url = |name: &str| sandbox.gateway(name).expect("a simulator").url().to_owned();
        let [stripe, adyen, paypal, braintree, square, razorpay, admin, webhooks] =
            std::array::from_fn(|_| free_port());
        let failover = format!(
            "{}attempt_timeout: {}, deadline: 4s{}{}",
            if setup.certified {
                ""
            } else {
                "require_certificate: false, "
            },
            setup.attempt,
            if setup.failover.is_empty() { "" } else { ", " },
            setup.failover
        );
        let notifying = setup.notify.is_some();
        let notify = |dialect: &str| match (&setup.notify, dialect) {
            (None, _) => String::new(),
            (Some(url), "braintree") => format!("    notify: {{ url: '{url}' }}\n"),
            (Some(url), _) => format!(
                "    notify: {{ url: '{url}', secret: {}{} }}\n",
                webhook_secret(dialect),
                setup.give_up
            ),
        };
        let webhook = |dialect: &str| match dialect {
            _ if !notifying => String::new(),
            "square" => format!(
                ", webhook: {{ secret: {}, notification_url: '{NOTIFICATION_URL}' }}",
                webhook_secret(dialect)
            ),
            "paypal" => format!(", webhook: {{ webhook_id: {WEBHOOK_ID} }}"),
            _ => format!(", webhook: {{ secret: {} }}", webhook_secret(dialect)),
        };
        let (paypal_webhook, square_webhook, razorpay_webhook) =
            (webhook("paypal"), webhook("square"), webhook("razorpay"));
        let route = |dialect: &str, listen: SocketAddr, gateways: &str| {
            format!(
                "  - name: {dialect}\n    listen: {listen}\n    dialect: {dialect}\n    gateways: [{gateways}]\n    failover: {{ {failover} }}\n    breaker: {{ {} }}\n{}",
                setup.breaker,
                notify(dialect)
            )
        };
        let gateway = setup.gateway;
        let config = format!(
            "{}listeners: {{ admin: {admin}, webhooks: {webhooks} }}
admin: {{ faults: true }}
ledger: {{ sqlite: '{{dir}}/ledger.db', strict: false }}
gateways:
  stripe: {{ dialect: stripe, endpoint: '{}', allow_private: true, credentials: {{ secret_key: sk_test_sandbox }}, webhook: {{ secret: [whsec_next, whsec_sandbox] }}{gateway} }}
  adyen: {{ dialect: adyen, endpoint: '{}', allow_private: true, capture: automatic, credentials: {{ api_key: sandbox, merchant_account: AcmeECOM }}, webhook: {{ secret: 00ff }}{}{gateway} }}
  paypal: {{ dialect: paypal, endpoint: '{}', allow_private: true, credentials: {{ client_id: sandbox, client_secret: sandbox }}{paypal_webhook}{gateway} }}
  braintree: {{ dialect: braintree, endpoint: '{}', allow_private: true, credentials: {{ merchant_id: sandbox, public_key: sandbox, private_key: sandbox, merchant_accounts: {{ EUR: sandbox_eur }} }}{}{gateway} }}
  square: {{ dialect: square, endpoint: '{}', allow_private: true, credentials: {{ access_token: sandbox, location_id: L88917AVBK2S5 }}{square_webhook}{gateway} }}
  razorpay: {{ dialect: razorpay, endpoint: '{}', allow_private: true, capture: automatic, credentials: {{ key_id: rzp_test_sandbox, key_secret: sandbox }}{}{razorpay_webhook}{gateway} }}
routes:
{}{}{}{}{}{}",
            setup.process,
            url("stripe"),
            url("adyen"),
            setup.adyen_account,
            url("paypal"),
            url("braintree"),
            setup.braintree_account,
            url("square"),
            url("razorpay"),
            setup.razorpay_account,
            route("stripe", stripe, setup.stripe),
            route("adyen", adyen, setup.adyen),
            route("paypal", paypal, setup.paypal),
            route("braintree", braintree, setup.braintree),
            route("square", square, setup.square),
            route("razorpay", razorpay, setup.razorpay),
        );
        Self {
            sentinel: Sentinel::start_in(tempfile::tempdir().expect("a directory"), &config, env),
            sandbox,
            stripe,
            adyen,
            paypal,
            braintree,
            square,
            razorpay,
            admin,
            webhooks,
            config,
        }
    }

    /// Has a simulator post its webhooks to Sentinel.
    pub fn notifies(&self, name: &str) {
        let gateway = self.gateway(name);
        match name {
            "adyen" | "square" | "razorpay" => {
                gateway.set("webhook_secret", webhook_secret(name)).expect("a setting");
            }
            "braintree" => gateway.set("notifies", "true").expect("a setting"),
            "paypal" => gateway.set("webhook_id", WEBHOOK_ID).expect("a setting"),
            _ => {}
        }
        if name == "square" {
            gateway.set("notification_url", NOTIFICATION_URL).expect("a setting");
        }
        let url = format!("http://{}/{name}", self.webhooks);
        gateway.webhooks_to(Some(&url)).expect("a URL");
    }

    /// SIGKILL, and a new process on the same ledger.
    #[must_use]
    pub fn crash(self) -> Self {
        let dir = self.sentinel.kill();
        Self {
            sentinel: Sentinel::start_in(dir, &self.config, &[]),
            ..self
        }
    }

    /// SIGKILL, and a new process for which so many days have passed: what waits in the ledger has that much less time.
    #[must_use]
    pub fn later(self, days: i64) -> Self {
        let dir = self.sentinel.kill();
        let ledger = rusqlite::Connection::open(dir.path().join("ledger.db")).expect("the ledger's file");
        ledger
            .execute("UPDATE documents SET until = until - ?1", [days * 24 * 3_600_000])
            .expect("time passes");
        drop(ledger);
        Self {
            sentinel: Sentinel::start_in(dir, &self.config, &[]),
            ..self
        }
    }

    /// SIGKILL, and a new process on the same ledger that may end before it is ready.
    #[must_use]
    pub fn crash_again(self, env: &[(&str, &str)]) -> Self {
        let dir = self.sentinel.kill();
        Self {
            sentinel: Sentinel::start_unready(dir, &self.config, env),
            ..self
        }
    }

    /// The ledger's file, to be read.
    pub fn ledger(&self) -> rusqlite::Connection {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        rusqlite::Connection::open_with_flags(self.sentinel.path("ledger.db"), flags).expect("the ledger's file")
    }

    /// What the ledger recorded of a payment, event by event.
    pub fn timeline(&self, payment: &str) -> String {
        let ledger = self.ledger();
        let id: uuid::Uuid = payment.parse().expect("a payment's id");
        let mut statement = ledger
            .prepare("SELECT kind, payload FROM events WHERE payment = ?1 ORDER BY seq")
            .expect("a statement");
        let lines = statement
            .query_map([id.as_bytes()], |row| {
                Ok(format!("{} {}\n", row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })
            .expect("rows");
        lines.map(|line| line.expect("a row")).collect()
    }

    /// A simulator.
    pub fn gateway(&self, name: &str) -> &Gateway {
        self.sandbox.gateway(name).expect("a simulator")
    }

    /// Takes a simulator down: from now on the system refuses its connections.
    pub async fn down(&self, name: &str) {
        let gateway = self.gateway(name);
        gateway.fault(Rule::always(Match::default(), Fault::Refuse { ms: None }));
        gateway.refusing().await;
    }

    /// Takes its script from a simulator; from now on it takes connections.
    pub async fn up(&self, name: &str) {
        let gateway = self.gateway(name);
        gateway.clear_faults();
        gateway.accepting().await;
    }

    /// Asks, and hangs up once a simulator has a request to this path whole, if it is not answered by then.
    pub async fn hung_up(&self, name: &str, path: &str, asking: impl Future<Output = Message>) {
        let gateway = self.gateway(name);
        gateway.forget_requests();
        let whole = until("the request is there whole", async || {
            scrape(self.admin).await;
            let requests = gateway.requests();
            let whole = |request: &Received| request.path == path && request.body.is_some();
            requests.iter().any(whole).then_some(())
        });
        tokio::select! {
            _ = asking => {}
            () = whole => {}
        }
    }

    /// The books, once nothing is under way any more.
    pub async fn audit(&self) -> Audit {
        for gateway in self.sandbox.gateways() {
            let quiet = tokio::time::timeout(PATIENCE, gateway.quiet()).await;
            assert!(quiet.is_ok(), "{} never comes to rest", gateway.name());
        }
        self.sandbox.books().audit()
    }

    /// A sale in Stripe's dialect.
    pub async fn pay(&self, key: &str, order: &str) -> Message {
        let form = stripe_form(order, "automatic", STRIPE_TOKEN);
        self.stripe_post("/v1/payment_intents", key, &form).await
    }

    /// A hold in Stripe's dialect.
    pub async fn hold(&self, key: &str, order: &str) -> Message {
        let form = stripe_form(order, "manual", STRIPE_TOKEN);
        self.stripe_post("/v1/payment_intents", key, &form).await
    }

    /// Any POST in Stripe's dialect, with the other gateways' tokens beside it.
    pub async fn stripe_post(&self, path: &str, key: &str, form: &str) -> Message {
        let key = if key.is_empty() {
            String::new()
        } else {
            format!("Idempotency-Key: {key}\r\n")
        };
        let bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk_test_shop\r\n{key}Sentinel-Instrument: adyen={ADYEN_TOKEN}; paypal={PAYPAL_TOKEN}; braintree={BRAINTREE_TOKEN}; square={SQUARE_TOKEN}; razorpay={RAZORPAY_TOKEN}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        once(self.stripe, bytes).await
    }

    /// A POST in Stripe's dialect with nothing beside it.
    pub async fn stripe_post_bare(&self, path: &str, key: &str, form: &str) -> Message {
        let bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk_test_shop\r\nIdempotency-Key: {key}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        once(self.stripe, bytes).await
    }

    /// Any GET in Stripe's dialect.
    pub async fn stripe_get(&self, path: &str) -> Message {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk_test_shop\r\n\r\n");
        once(self.stripe, bytes).await
    }

    /// Any POST in Adyen's dialect.
    pub async fn adyen_post(&self, path: &str, key: &str, body: &Value) -> Message {
        let body = body.to_string();
        let key = if key.is_empty() {
            String::new()
        } else {
            format!("Idempotency-Key: {key}\r\n")
        };
        let bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: sandbox\r\n{key}Sentinel-Instrument: stripe={STRIPE_TOKEN}; paypal={PAYPAL_TOKEN}; braintree={BRAINTREE_TOKEN}; square={SQUARE_TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        once(self.adyen, bytes).await
    }

    /// Any request in PayPal's dialect.
    pub async fn paypal_send(&self, method: &str, path: &str, token: &str, key: &str, body: &str) -> Message {
        let key = if key.is_empty() {
            String::new()
        } else {
            format!("PayPal-Request-Id: {key}\r\n")
        };
        let bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\n{key}Prefer: return=representation\r\nSentinel-Instrument: stripe={STRIPE_TOKEN}; adyen={ADYEN_TOKEN}; square={SQUARE_TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        once(self.paypal, bytes).await
    }

    /// Any request in Braintree's dialect, with the other gateways' tokens beside it.
    pub async fn braintree_send(&self, method: &str, path: &str, body: &str) -> Message {
        let bytes = format!(
            "{method} /merchants/sandbox/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic c2FuZGJveDpzYW5kYm94\r\nX-ApiVersion: 6\r\nAccept: application/xml\r\nContent-Type: application/xml\r\nSentinel-Instrument: stripe={STRIPE_TOKEN}; adyen={ADYEN_TOKEN}; paypal={PAYPAL_TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        once(self.braintree, bytes).await
    }

    /// Any request in Square's dialect.
    pub async fn square_send(&self, method: &str, path: &str, body: &Value) -> Message {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sandbox\r\nSentinel-Instrument: stripe={STRIPE_TOKEN}; adyen={ADYEN_TOKEN}; paypal={PAYPAL_TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        once(self.square, bytes).await
    }

    /// Any request in Razorpay's dialect; a refund may have a key.
    pub async fn razorpay_send(&self, method: &str, path: &str, key: &str, body: &Value) -> Message {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let key = if key.is_empty() {
            String::new()
        } else {
            format!("X-Refund-Idempotency: {key}\r\n")
        };
        let bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic cnpwX3Rlc3Rfc2FuZGJveDpzYW5kYm94\r\n{key}Sentinel-Instrument: stripe={STRIPE_TOKEN}; adyen={ADYEN_TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        once(self.razorpay, bytes).await
    }

    /// An access token, as PayPal's SDKs fetch one: the value of an `Authorization` header.
    pub async fn paypal_token(&self) -> String {
        let body = "grant_type=client_credentials";
        let bytes = format!(
            "POST /v1/oauth2/token HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic c2FuZGJveDpzYW5kYm94\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = once(self.paypal, bytes).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        format!("Bearer {}", parsed(&answer)["access_token"].as_str().expect("a token"))
    }
}

/// The form of a confirmed intent over 19.99 EUR.
pub fn stripe_form(order: &str, capture: &str, token: &str) -> String {
    format!(
        "amount=1999&currency=eur&confirm=true&capture_method={capture}&payment_method={token}&metadata[order_id]={order}&payment_method_types[0]=card"
    )
}

/// An answer's JSON.
pub fn parsed(answer: &Message) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("no JSON: {} {}", answer.start, answer.text()))
}
