//! The real binary on a generated ledger: what its API and its dashboard answer over HTTP, and how fast, while payments
//! pass through it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use sentinel::sandbox::Kind;
use sentinel::sandbox::server::{self, Options, Sandbox, Serve};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Payments a second that pass through meanwhile.
const TRAFFIC: u64 = 50;

/// The binary, in a directory with a ledger of its own.
pub struct Running {
    process: Child,
    pub shared: SocketAddr,
    dashboard: SocketAddr,
}

/// Where everything of a stage is, whoever runs on it.
pub struct Stage {
    directory: PathBuf,
    sandbox: Sandbox,
    shared: SocketAddr,
    dashboard: SocketAddr,
    admin: SocketAddr,
}

/// A tenant's credentials.
pub struct Account {
    pub id: String,
    pub key: String,
    token: String,
}

fn free_port() -> SocketAddr {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    probe.local_addr().expect("an address")
}

impl Stage {
    pub async fn set(directory: &Path) -> Self {
        let sandbox = server::serve(Options {
            gateways: [Kind::Stripe, Kind::Adyen].map(Serve::new).into(),
            ..Options::default()
        });
        Self {
            directory: directory.to_owned(),
            sandbox: sandbox.await.expect("simulators"),
            shared: free_port(),
            dashboard: free_port(),
            admin: free_port(),
        }
    }

    /// Starts the binary, and waits until it is ready.
    pub async fn run(&self) -> Running {
        let url = |name: &str| self.sandbox.gateway(name).expect("a simulator").url().to_owned();
        let config = format!(
            "listeners: {{ shared: '{}', dashboard: '{}', admin: '{}' }}
ledger: {{ sqlite: '{}/ledger.db', strict: false }}
log: {{ level: error }}
gateways:
  stripe: {{ dialect: stripe, endpoint: '{}', allow_private: true, credentials: {{ secret_key: sk_test_sandbox }} }}
  adyen: {{ dialect: adyen, endpoint: '{}', allow_private: true, capture: automatic, credentials: {{ api_key: sandbox, merchant_account: AcmeECOM }} }}
routes:
  - {{ name: live, path_prefix: /stripe, dialect: stripe, gateways: [stripe, adyen], lend_credentials: true }}
",
            self.shared,
            self.dashboard,
            self.admin,
            self.directory.display(),
            url("stripe"),
            url("adyen"),
        );
        let file = self.directory.join("sentinel.yaml");
        std::fs::write(&file, config).expect("writes");
        let process = Command::new(env!("CARGO_BIN_EXE_sentinel"))
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .expect("starts");
        let mut running = Running {
            process,
            shared: self.shared,
            dashboard: self.dashboard,
        };
        loop {
            if let Ok(mut client) = Client::to(self.admin).await
                && client.get("/ready", "").await.0 == 200
            {
                return running;
            }
            assert!(running.process.try_wait().expect("a process").is_none(), "it ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Running {
    pub async fn register(&self) -> Account {
        let mut client = Client::to(self.shared).await.expect("connects");
        let body = r#"{"email":"books@example.com","password":"a long enough passphrase","companyName":"Books"}"#;
        let (status, told) = client
            .send("POST", "/api/v1/customers/register", "", "application/json", body)
            .await;
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&told));
        let told: Value = serde_json::from_slice(&told).expect("JSON");
        let text = |name: &str| told[name].as_str().expect("a text").to_owned();
        Account {
            id: text("customerId"),
            key: text("apiKey"),
            token: text("token"),
        }
    }

    /// Ends it as a supervisor would, and waits.
    pub async fn stop(mut self) {
        let pid = self.process.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(told.expect("kill").success());
        loop {
            if let Some(status) = self.process.try_wait().expect("a process") {
                assert!(status.success(), "{status}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks everything a tenant asks, many times, while payments pass; prints how long answers took, and holds the promised
    /// ones against their bounds.
    pub async fn time(&self, account: &Account) {
        let stop = Arc::new(AtomicBool::new(false));
        let passed = Arc::new(AtomicU64::new(0));
        let traffic = tokio::spawn(traffic(
            self.shared,
            account.key.clone(),
            Arc::clone(&stop),
            Arc::clone(&passed),
        ));
        let mut client = Client::to(self.shared).await.expect("connects");
        let first = client.json("/api/v1/analytics/events?limit=100", &account.key).await;
        let (one, cursor) = (first["events"][50]["id"].clone(), first["nextCursor"].clone());
        let statements = client.json("/api/v1/billing/statements", &account.key).await;
        let month = statements["statements"][0]["month"].clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let asked = [
            ("overview", "/api/v1/metrics/overview".to_owned(), 20.0),
            (
                "overview, all of time",
                "/api/v1/metrics/overview?period=all".to_owned(),
                20.0,
            ),
            ("events, 100", "/api/v1/analytics/events?limit=100".to_owned(), 100.0),
            (
                "events, the next 100",
                format!("/api/v1/analytics/events?limit=100&cursor={}", text(&cursor)),
                100.0,
            ),
            (
                "payments by currency",
                "/api/v1/analytics/events?kind=payments&currency=KWD".to_owned(),
                100.0,
            ),
            (
                "one payment's timeline",
                format!("/api/v1/analytics/events/{}", text(&one)),
                100.0,
            ),
            ("gateways", "/api/v1/analytics/gateways".to_owned(), 100.0),
            ("statements", "/api/v1/billing/statements".to_owned(), 100.0),
            (
                "a statement, 1000 lines",
                format!("/api/v1/billing/statements/{}/USD", text(&month)),
                100.0,
            ),
            ("profile", "/api/v1/customers/profile".to_owned(), 100.0),
            ("keys", "/api/v1/keys".to_owned(), 100.0),
            ("status", "/api/v1/status".to_owned(), 100.0),
        ];
        println!(
            "{:<36} {:>9} {:>9} {:>9}",
            "milliseconds over HTTP", "p50", "p95", "max"
        );
        let mut late = Vec::new();
        let mut all = Vec::new();
        for (name, path, bound) in &asked {
            let credential = match *name {
                "profile" | "keys" => &account.token,
                _ => &account.key,
            };
            let mut took = Vec::new();
            // A question every few milliseconds: faster than that, few payments would pass meanwhile.
            let mut pace = tokio::time::interval(Duration::from_millis(5));
            for _ in 0..200 {
                pace.tick().await;
                let begun = Instant::now();
                let (status, body) = client.get(path, credential).await;
                took.push(begun.elapsed());
                assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
            }
            all.extend_from_slice(&took);
            row(name, &mut took);
            if super::quantile(&mut took, 95) > *bound {
                late.push(format!("{name}: p95 above {bound} ms"));
            }
        }
        row("all of these", &mut all);
        let mut page = Client::to(self.dashboard).await.expect("connects");
        let cookie = page.operate(self.dashboard).await;
        for (name, path) in [
            ("dashboard: overview", "/"),
            ("dashboard: payments", "/payments?kind=payments"),
        ] {
            let mut took = Vec::new();
            for _ in 0..50 {
                let begun = Instant::now();
                let (status, _) = page.get_with(path, &cookie).await;
                took.push(begun.elapsed());
                assert_eq!(status, 200, "{path}");
            }
            row(name, &mut took);
        }
        stop.store(true, Ordering::Relaxed);
        traffic.await.expect("traffic");
        println!("{} payments passed meanwhile", passed.load(Ordering::Relaxed));
        assert!(passed.load(Ordering::Relaxed) > 100, "traffic flows");
        assert!(late.is_empty(), "{late:#?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn row(name: &str, took: &mut [Duration]) {
    let mut at = |percent| super::quantile(took, percent);
    println!("{name:<36} {:>9.2} {:>9.2} {:>9.2}", at(50), at(95), at(100));
}

/// Payments at an even pace, each answered by the first gateway.
async fn traffic(at: SocketAddr, key: String, stop: Arc<AtomicBool>, passed: Arc<AtomicU64>) {
    let mut client = Client::to(at).await.expect("connects");
    let mut next = tokio::time::interval(Duration::from_millis(1000 / TRAFFIC));
    let body = "amount=1999&currency=eur&confirm=true&payment_method=pm_card_visa&payment_method_types[0]=card\
                &metadata[sentinel_adyen]=shopper-1/8415698462516992";
    while !stop.load(Ordering::Relaxed) {
        next.tick().await;
        let (status, told) = client
            .send(
                "POST",
                "/stripe/v1/payment_intents",
                &key,
                "application/x-www-form-urlencoded",
                body,
            )
            .await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&told));
        passed.fetch_add(1, Ordering::Relaxed);
    }
}

/// One connection that is kept.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    count: u64,
}

impl Client {
    pub async fn to(at: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender, count: 0 })
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> (u16, http::HeaderMap, Bytes) {
        self.sender.ready().await.expect("the connection is kept");
        let answer = self.sender.send_request(request).await.expect("an answer");
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.expect("a whole answer").to_bytes();
        (parts.status.as_u16(), parts.headers, body)
    }

    pub async fn send(&mut self, method: &str, path: &str, token: &str, kind: &str, body: &str) -> (u16, Bytes) {
        self.count += 1;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "127.0.0.1");
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if !body.is_empty() {
            let key = format!("books-{}", self.count);
            request = request
                .header(header::CONTENT_TYPE, kind)
                .header("idempotency-key", key);
        }
        let request = request.body(Full::from(body.to_owned())).expect("a request");
        let (status, _, body) = self.exchange(request).await;
        (status, body)
    }

    pub async fn get(&mut self, path: &str, token: &str) -> (u16, Bytes) {
        self.send("GET", path, token, "", "").await
    }

    pub async fn json(&mut self, path: &str, token: &str) -> Value {
        let (status, body) = self.get(path, token).await;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("JSON")
    }

    /// Goes on as operator; answers the cookie.
    async fn operate(&mut self, at: SocketAddr) -> String {
        let request = Request::post("/operator")
            .header(header::HOST, at.to_string())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::default())
            .expect("a request");
        let (status, headers, _) = self.exchange(request).await;
        assert_eq!(status, 303);
        let cookie = headers[header::SET_COOKIE].to_str().expect("a text");
        format!("{}\n{at}", cookie.split(';').next().expect("a pair"))
    }

    async fn get_with(&mut self, path: &str, cookie: &str) -> (u16, Bytes) {
        let (cookie, host) = cookie.split_once('\n').expect("a cookie and its host");
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::COOKIE, cookie)
            .body(Full::default())
            .expect("a request");
        let (status, _, body) = self.exchange(request).await;
        (status, body)
    }
}
