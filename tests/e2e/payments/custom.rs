//! A gateway that the configuration describes: the shipped example against the simulator of what it describes.

use std::net::SocketAddr;
use std::path::Path;

use sentinel::config::load;
use sentinel::sandbox::books::Audit;
use sentinel::sandbox::custom::Custom;
use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
use sentinel::sandbox::server::{self, Options, Sandbox, Serve};
use sentinel::sandbox::{Kind, NativeError};

use crate::support::patience::until;
use crate::support::sentinel::{Sentinel, command, free_port};
use crate::support::shop::{parsed, stripe_form};
use crate::support::wire::{Message, once};

const EXAMPLE: &str = "examples/custom-gateway/checkout-com.yaml";

/// The example with values for its variables.
fn example() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLE);
    std::fs::read_to_string(file)
        .expect("the example")
        .replace("${STRIPE_SECRET_KEY}", "sk_test_sandbox")
        .replace("${CHECKOUT_SECRET_KEY}", "sk_checkout_secret")
        .replace("${CHECKOUT_PROCESSING_CHANNEL}", "pc_1")
}

struct Bench {
    sandbox: Sandbox,
    sentinel: Sentinel,
    listen: SocketAddr,
    shared: SocketAddr,
}

impl Bench {
    async fn open() -> Self {
        Self::of(example()).await
    }

    async fn of(text: String) -> Self {
        let config = load::parse(Path::new(EXAMPLE), &text).expect("the example is right");
        let description = config.gateways["checkout_com"].custom.clone().expect("a description");
        let serve = |name: &str, simulator| Serve {
            simulator,
            ..Serve::new(Kind::Stripe).named(name)
        };
        let sandbox = server::serve(Options {
            gateways: vec![
                Serve::new(Kind::Stripe),
                serve("checkout_com", Box::new(Custom::new("checkout_com", description))),
            ],
            ..Options::default()
        })
        .await
        .expect("a sandbox");
        let url = |name: &str| sandbox.gateway(name).expect("a simulator").url().to_owned();
        let (listen, admin, shared) = (free_port(), free_port(), free_port());
        let private = |name: &str| format!("{}\n    allow_private: true", url(name));
        let config = text
            .replace("https://api.stripe.com", &private("stripe"))
            .replace("https://api.sandbox.checkout.com", &private("checkout_com"))
            .replace("sqlite: ledger.db }", "sqlite: '{dir}/ledger.db', strict: false }")
            .replace("127.0.0.1:8081", &listen.to_string())
            .replace("127.0.0.1:9901", &format!("{admin}, shared: '{shared}'"))
            .replace(
                "deadline: 25s, attempt_timeout: 10s }",
                "require_certificate: false, deadline: 4s, attempt_timeout: 1500ms }\n    breaker: { consecutive: 50, min_calls: 1000 }",
            );
        Self {
            sentinel: Sentinel::start(&config),
            sandbox,
            listen,
            shared,
        }
    }

    fn gateway(&self, name: &str) -> &server::Gateway {
        self.sandbox.gateway(name).expect("a simulator")
    }

    async fn audit(&self) -> Audit {
        for gateway in self.sandbox.gateways() {
            gateway.quiet().await;
        }
        self.sandbox.books().audit()
    }

    async fn post(&self, path: &str, key: &str, token: &str, form: &str) -> Message {
        let bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk_test_shop\r\nIdempotency-Key: {key}\r\nSentinel-Instrument: checkout_com={token}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        once(self.listen, bytes).await
    }

    async fn pay(&self, key: &str, capture: &str, token: &str) -> Message {
        let form = stripe_form(&format!("order-{key}"), capture, "pm_card_visa");
        self.post("/v1/payment_intents", key, token, &form).await
    }

    async fn stripe_is_down(&self) {
        let stripe = self.gateway("stripe");
        stripe.fault(Rule::always(Match::default(), Fault::Refuse { ms: None }));
        stripe.refusing().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_what_the_described_word_says_and_not_the_status() {
    let words = |words: &str| {
        let states = format!("accepted: [202], status: /state, states: {{ {words} }}");
        example().replace("accepted: [202]", &states)
    };
    for (described, status) in [("done: Done", "succeeded"), ("done: Done, accepted: Queued", "pending")] {
        let bench = Bench::of(words(described)).await;
        bench.stripe_is_down().await;
        let paid = bench.pay("sale", "automatic", "src_1").await;
        let id = parsed(&paid)["id"].as_str().unwrap_or_default().to_owned();
        let refund = format!("payment_intent={id}&amount=500");
        let refunded = bench.post("/v1/refunds", "refund", "src_1", &refund).await;
        assert_eq!(parsed(&refunded)["status"], status, "{described}: {}", refunded.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_described_gateway_takes_what_the_first_one_cannot() {
    let bench = Bench::open().await;
    let own = bench.pay("own", "automatic", "src_1").await;
    assert_eq!(own.header("sentinel-gateway"), Some("stripe"), "{}", own.text());
    bench.stripe_is_down().await;
    let paid = bench.pay("sale", "automatic", "src_1").await;
    assert_eq!(paid.status(), 200, "{}\n{}", paid.text(), bench.sentinel.log());
    assert_eq!(parsed(&paid)["status"], "succeeded");
    assert_eq!(paid.header("sentinel-gateway"), Some("checkout_com"));
    let again = bench.pay("sale", "automatic", "src_1").await;
    assert_eq!(again.text(), paid.text());
    let sent = bench.gateway("checkout_com").requests();
    assert_eq!(sent.len(), 1, "one request, one effect");
    let body: serde_json::Value = serde_json::from_slice(sent[0].body.as_ref().unwrap()).unwrap();
    assert_eq!(body["amount"], 1999);
    assert_eq!(body["currency"], "EUR");
    assert_eq!(body["source"], serde_json::json!({"type": "id", "id": "src_1"}));
    assert_eq!(body["metadata"]["order"], "order-sale");
    assert!(body.get("customer").is_none(), "what is not known is left out: {body}");
    assert_eq!(sent[0].headers["authorization"], "Bearer sk_checkout_secret");
    assert!(sent[0].headers.contains_key("cko-idempotency-key"));
    let id = parsed(&paid)["id"].as_str().unwrap().to_owned();
    let refund = format!("payment_intent={id}&amount=500");
    let refunded = bench.post("/v1/refunds", "refund", "src_1", &refund).await;
    assert_eq!(refunded.status(), 200, "{}", refunded.text());
    assert_eq!(parsed(&refunded)["status"], "pending", "accepted is not done");

    for (key, call, form) in [("part", "capture", "amount_to_capture=1500"), ("end", "cancel", "")] {
        let held = bench.pay(key, "manual", "src_1").await;
        assert_eq!(parsed(&held)["status"], "requires_capture", "{}", held.text());
        let id = parsed(&held)["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/payment_intents/{id}/{call}");
        let done = bench.post(&path, &format!("{key}-{call}"), "src_1", form).await;
        assert_eq!(done.status(), 200, "{}", done.text());
    }
    let audit = bench.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    let of = |order: &str| {
        audit
            .positions
            .iter()
            .find(|p| p.order.as_deref() == Some(order))
            .unwrap()
    };
    assert_eq!((of("order-sale").captured, of("order-sale").refunded), (1999, 500));
    assert_eq!((of("order-part").captured, of("order-part").held), (1500, 0));
    assert_eq!((of("order-end").captured, of("order-end").held), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn its_declines_are_told_in_the_applications_words() {
    let bench = Bench::open().await;
    bench.stripe_is_down().await;
    for (code, told) in [
        ("20051", "insufficient_funds"),
        ("30041", "generic_decline"),
        ("99999", "generic_decline"),
    ] {
        let answer = bench.pay(code, "automatic", &format!("decline_{code}")).await;
        assert_eq!(answer.status(), 402, "{code}: {}", answer.text());
        assert_eq!(parsed(&answer)["error"]["decline_code"], told, "{code}");
    }
    assert!(bench.audit().await.positions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_there_is_found_out_or_stays_in_doubt() {
    let bench = Bench::open().await;
    bench.stripe_is_down().await;
    let foreign = |status, when| Fault::Foreign {
        status,
        when,
        body: None,
        content_type: None,
        location: None,
    };
    let native = |error, when| Fault::Native {
        error,
        when,
        retry_after: None,
        stored: false,
    };
    let cut = |when| Fault::CutAnswer {
        byte: 0,
        cut: Cut::Rst,
        when,
    };
    let header = Fault::Header {
        name: "cko-request-id".to_owned(),
        value: None,
    };
    let patch = |pointer: &str, value: serde_json::Value| Fault::Patch {
        pointer: pointer.to_owned(),
        value,
    };
    // What must be told in the end: 200, 402 or 503 for a proven end, 0 for what stays in doubt.
    for (name, fault, end) in [
        ("answer lost", cut(When::After), 200),
        ("not executed", cut(When::Before), 0),
        ("500 after", native(NativeError::Internal, When::After), 200),
        ("edge 200 after", foreign(200, When::After), 200),
        ("not its own answer", header, 200),
        ("truncated", Fault::TruncateBody { bytes: 20 }, 200),
        ("unauthorized", native(NativeError::Unauthorized, When::Before), 502),
        ("another amount", patch("/amount", 1.into()), 0),
        ("another reference", patch("/reference", "other".into()), 0),
        ("a state nobody described", patch("/status", "Brand New".into()), 200),
    ] {
        let key = name.replace(' ', "-");
        bench
            .gateway("checkout_com")
            .fault(Rule::once(Match::path("POST", "/payments"), fault));
        let answer = until(name, async || {
            let answer = bench.pay(&key, "automatic", "src_1").await;
            let outcome = answer.header("sentinel-outcome").unwrap_or_default();
            (end == 0 || !outcome.starts_with("unknown")).then_some(answer)
        })
        .await;
        bench.gateway("checkout_com").clear_faults();
        let audit = bench.audit().await;
        assert!(audit.clean(), "{name}: {audit:#?}");
        let live = audit.live(&format!("order-{key}")).len();
        let doubt = answer
            .header("sentinel-outcome")
            .is_some_and(|o| o.starts_with("unknown"));
        match end {
            0 => assert!(doubt && live <= 1, "{name}: {} {}", answer.start, answer.text()),
            end => {
                assert_eq!(answer.status(), end, "{name}: {}", answer.text());
                assert_eq!(live, usize::from(end == 200), "{name}: {audit:#?}");
            }
        }
    }
}

#[test]
fn check_points_at_what_is_wrong_with_a_description() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sentinel.yaml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        command(&["check", "--config", "sentinel.yaml"], dir.path())
    };
    let good = example();
    let (code, told, trouble) = check(&good);
    assert_eq!(code, 0, "{trouble}");
    assert!(told.contains("fails over to checkout_com"), "{told}");
    for (from, to, wanted) in [
        (
            "\"amount\": \"{amount}\", \"currency\": \"{currency}\", \"capture\": true",
            "\"amount\": \"{amout}\", \"currency\": \"{currency}\", \"capture\": true",
            "did you mean `{amount}`?",
        ),
        ("\"capture\": true,", "\"capture\": true", "is not JSON: see its line 2"),
        ("id: /id\n", "id: id\n", "is not a JSON pointer"),
        ("\"/payments/{id}/voids\"", "/payments/voids", "does not say its id"),
        (
            "insufficient_funds: [",
            "insuficient_funds: [",
            "did you mean `insufficient_funds`?",
        ),
        (
            "account: [401]",
            "account: [401, 500]",
            "500 does not say that nothing was executed",
        ),
        (
            "secret_key: \"sk_checkout_secret\"",
            "secret_kay: \"sk_checkout_secret\"",
            "did you mean `{credential.secret_kay}`?",
        ),
        ("currencies: [AUD", "currencies: [aud", "is not a currency"),
        (
            "authorised: Authorized",
            "authorized: Authorized",
            "did you mean `authorised`?",
        ),
        (
            "dialect: stripe\n    gateways: [stripe, checkout_com]",
            "dialect: custom\n    gateways: [checkout_com, stripe]",
            "applications speak",
        ),
        (
            "declined: Declined",
            "declined: [Declined, Voided]",
            "means something else",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        let (code, _, trouble) = check(&good.replacen(from, to, 1));
        assert_eq!(code, 78, "{to}: {trouble}");
        assert!(trouble.contains(wanted), "{to}: {trouble}");
        let place = trouble.lines().any(|line| {
            let mut parts = line.trim_start_matches("error: ").split(':');
            let numbers = [parts.nth(1), parts.next()];
            numbers
                .iter()
                .all(|part| part.is_some_and(|part| part.trim().parse::<u32>().is_ok()))
        });
        assert!(place, "no line and column: {trouble}");
        assert!(!trouble.contains("sk_checkout_secret"), "{trouble}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_payment_is_taken_there_with_the_tenants_own_credentials() {
    let bench = Bench::open().await;
    let ask = async |method: &str, path: &str, token: &str, body: serde_json::Value| {
        let body = body.to_string();
        let bearer = match token {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        once(bench.shared, bytes).await
    };
    let account =
        serde_json::json!({"email": "a@example.com", "password": "YourSecurePassword123!", "companyName": "Acme"});
    let account = ask("POST", "/api/v1/customers/register", "", account).await;
    assert_eq!(account.status(), 201, "{}", account.text());
    let account = parsed(&account);
    let (token, key) = (account["token"].as_str().unwrap(), account["apiKey"].as_str().unwrap());
    for (fields, status) in [
        // The names are the description's: all of them, and no others.
        (serde_json::json!({"secret_key": "sk_theirs"}), 422),
        (
            serde_json::json!({"secret_key": "sk_theirs", "processing_channel": "pc_theirs", "merchant": "m"}),
            422,
        ),
        (
            serde_json::json!({"secret_key": "sk_theirs", "processing_channel": "pc_theirs"}),
            200,
        ),
    ] {
        let body = serde_json::json!({ "credentials": fields });
        let stored = ask("PUT", "/api/v1/credentials/checkout_com", token, body).await;
        assert_eq!(stored.status(), status, "{}", stored.text());
        assert!(!stored.text().contains("sk_theirs"), "{}", stored.text());
    }
    let body = serde_json::json!({"credentials": {"secret_key": "sk_test_sandbox"}});
    let stored = ask("PUT", "/api/v1/credentials/stripe", token, body).await;
    assert_eq!(stored.status(), 200, "{}", stored.text());
    bench.stripe_is_down().await;
    let form = stripe_form("order-tenant", "automatic", "pm_card_visa");
    let bytes = format!(
        "POST /v1/payment_intents HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nIdempotency-Key: key-1\r\nSentinel-Instrument: checkout_com=src_1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let paid = once(bench.listen, bytes).await;
    assert_eq!(paid.status(), 200, "{}", paid.text());
    assert_eq!(paid.header("sentinel-gateway"), Some("checkout_com"));
    let requests = bench.gateway("checkout_com").requests();
    let sent = requests
        .iter()
        .rev()
        .find(|request| request.path == "/payments")
        .expect("a payment");
    let authorization = sent.headers.get("authorization").expect("a credential");
    assert_eq!(authorization, "Bearer sk_theirs");
    let body = String::from_utf8_lossy(sent.body.as_ref().expect("a body")).into_owned();
    assert!(body.contains("pc_theirs") && !body.contains("sk_snt_"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_gateway_is_certified_by_what_its_description_says() {
    let bench = Bench::open().await;
    let config = bench.sentinel.config();
    let mut args = vec![
        "certify",
        "--gateway",
        "checkout_com",
        "--instrument",
        "checkout_com=src_1",
        "--json",
    ];
    args.extend(["--config", config.to_str().unwrap()]);
    let (code, out, error) = command(&args, bench.sentinel.dir.path());
    let all: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {out} {error}"));
    assert_eq!((code, &all[0]["fence"]), (0, &"F1".into()), "{all:#}");
    let checks = all[0]["certificate"]["checks"].as_array().expect("checks");
    for name in ["replay", "mismatch", "look"] {
        let held = checks
            .iter()
            .any(|check| check["name"] == name && check["holds"] == true);
        assert!(held, "{name}: {all:#}");
    }
    // At the gateway itself nothing tells whether the account is for tests.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sentinel.yaml"), example()).unwrap();
    let args = ["certify", "--gateway", "checkout_com", "--config", "sentinel.yaml"];
    let (code, _, error) = command(&args, dir.path());
    assert_eq!(code, 64, "{error}");
    assert!(error.contains("--test-account checkout_com"), "{error}");
}

#[tokio::test]
async fn the_sandbox_simulates_what_a_configuration_describes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sentinel.yaml"), example()).unwrap();
    let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_sentinel"))
        .args(["sandbox", "--custom", "sentinel.yaml", "--free-ports", "--json"])
        .current_dir(dir.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sentinel starts");
    let mut line = String::new();
    let mut output = std::io::BufReader::new(process.stdout.take().expect("its output"));
    std::io::BufRead::read_line(&mut output, &mut line).expect("a line");
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let gateways = line["gateways"].as_object().unwrap();
    assert_eq!(
        gateways.keys().collect::<Vec<_>>(),
        ["checkout_com"],
        "no other was named"
    );
    let address: SocketAddr = gateways["checkout_com"]["address"].as_str().unwrap().parse().unwrap();
    let body = serde_json::json!({"source": {"type": "id", "id": "src_1"}, "amount": 1999, "currency": "EUR",
        "capture": true, "reference": "r-1", "processing_channel_id": "pc_1"});
    let send = |body: String| {
        format!(
            "POST /payments HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer anything\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let paid = once(address, send(body.to_string())).await;
    assert_eq!(paid.status(), 201, "{}", paid.text());
    assert_eq!(parsed(&paid)["status"], "Authorized", "a sale's own word");
    assert!(paid.header("cko-request-id").is_some());
    let read = format!(
        "GET /payments/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer anything\r\n\r\n",
        parsed(&paid)["id"].as_str().unwrap()
    );
    assert_eq!(parsed(&once(address, read).await)["reference"], "r-1");
    // What the description does not know is nothing that the gateway was told.
    let mut other = body.clone();
    other["unknown"] = true.into();
    assert_eq!(once(address, send(other.to_string())).await.status(), 422);
    process.kill().expect("it ends");
    process.wait().expect("it ended");
}
