//! Configuration on the real binary: listeners with TLS, reload, and what `check` says.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncWriteExt;

use crate::support::gateway::{Gateway, json};
use crate::support::sentinel::{Sentinel, command, free_port};
use crate::support::wire::{Reader, once, post};

#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_that_refuses_plain_http_is_served_by_the_local_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (code, told, trouble) = command(&["ca", "--dir", "tls"], dir.path());
    assert_eq!(code, 0, "{trouble}");
    assert!(told.contains("NODE_EXTRA_CA_CERTS"), "{told}");
    let tls = dir.path().join("tls");
    let ca = CertificateDer::from_pem_file(tls.join("ca.pem")).unwrap();

    let gateway = Gateway::answering(None, |_, _| json(200, r#"{"pspReference":"1"}"#)).await;
    let (plain, secure) = (free_port(), free_port());
    let _sentinel = Sentinel::start(&format!(
        "local_ca: '{}'
gateways:
  adyen: {{ dialect: adyen, endpoint: 'http://{}', allow_private: true }}
routes:
  - name: adyen
    listen: ['{plain}', {{ address: '{secure}', tls: local_ca }}]
    dialect: adyen
    gateways: [adyen]
",
        tls.display(),
        gateway.address
    ));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = tokio::net::TcpStream::connect(secure).await.unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), socket)
        .await
        .unwrap();
    stream
        .write_all(post("/v71/payments", "", "{}").as_bytes())
        .await
        .unwrap();
    let answer = Reader::default().message(&mut stream, false).await.unwrap();
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.text(), r#"{"pspReference":"1"}"#);

    let answer = once(plain, post("/v71/payments", "", "{}")).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let seen = gateway.seen();
    assert_eq!(seen.len(), 2);
    assert!(
        seen.iter()
            .all(|request| request.start == "POST /v71/payments HTTP/1.1"),
        "{seen:?}"
    );
}

#[test]
fn check_says_what_a_configuration_means_and_where_it_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sentinel.yaml");
    let text = "ledger: { sqlite: ledger.db }
gateways:
  stripe: { dialect: stripe, endpoint: https://api.stripe.com, credentials: { secret_key: sk_test_secret } }
  adyen: { dialect: adyen, endpoint: https://checkout-test.adyen.com, credentials: { api_key: k_secret, merchant_account: Acme } }
routes:
  - { name: checkout, listen: 127.0.0.1:8081, dialect: stripe, gateways: [stripe, adyen] }
";
    std::fs::write(&file, text).unwrap();
    let (code, told, trouble) = command(&["check", "--config", "sentinel.yaml"], dir.path());
    assert_eq!(code, 0, "{trouble}");
    for wanted in [
        "checkout: http://127.0.0.1:8081 speaks stripe",
        "forwards to stripe at https://api.stripe.com",
        "fails over to adyen at https://checkout-test.adyen.com",
        "failover: fence; fence at stripe: F",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    let (code, told, _) = command(&["check", "--config", "sentinel.yaml", "--format", "json"], dir.path());
    let meaning: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (code, &meaning["routes"][0]["failover"]),
        (0, &serde_json::json!("fence"))
    );
    assert!(!told.contains("_secret"), "{told}");

    std::fs::write(&file, text.replace("gateways: [stripe", "gateway: [stripe")).unwrap();
    let (code, _, trouble) = command(&["check", "--config", "sentinel.yaml"], dir.path());
    assert_eq!(code, 78);
    assert!(
        trouble.contains("sentinel.yaml:6:") && trouble.contains("did you mean `gateways`?"),
        "{trouble}"
    );
    let (code, told, _) = command(&["check", "--config", "sentinel.yaml", "--format", "json"], dir.path());
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["problems"][0]["line"]), (78, &serde_json::json!(6)));

    let more = "ledger: { sqlite: ledger.db }
gateways:
  stripe: { dialect: stripe, endpoint: https://api.stripe.com, credentials: { secret_key: sk_test_secret } }
  adyen: { dialect: adyen, endpoint: https://checkout-test.adyen.com, credentials: { api_key: k, merchant_account: Acme },
      takes: { EUR: {}, USD: { min: '1.00', max: '2500.00' } } }
  square: { dialect: square, endpoint: https://connect.squareupsandbox.com, credentials: { access_token: t } }
  razorpay: { dialect: razorpay, endpoint: https://api.razorpay.com, credentials: { key_id: k, key_secret: s } }
routes:
  - { name: checkout, listen: 127.0.0.1:8081, dialect: stripe, gateways: [stripe, adyen, square, razorpay],
      failover: { raw_cards: true } }
  - { name: gated, listen: 127.0.0.1:8082, dialect: stripe, gateways: [stripe, razorpay], failover: { mode: gated } }
";
    std::fs::write(&file, more).unwrap();
    let (code, told, trouble) = command(&["check", "--config", "sentinel.yaml"], dir.path());
    assert_eq!(code, 0, "{trouble}");
    for wanted in [
        "plan: stripe (fence F3 once certified) -> adyen: card by map, card by number, only EUR and USD 1.00 to 2500.00 -> \
         square: card by map, no server-side card, \
         no 3-D Secure of elsewhere -> razorpay: merchant-initiated mandate by map, no server-side card, whole captures only, \
         no release of a hold, no 3-D Secure of elsewhere, only INR\n",
        "plan: stripe (fence F3 once certified) -> razorpay: never, no hold that can be captured and released",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    let (_, told, _) = command(&["check", "--config", "sentinel.yaml", "--format", "json"], dir.path());
    let meaning: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(meaning["routes"][1]["plan"]["then"][0]["never"], "cannot_be_gated");
    assert_eq!(meaning["routes"][0]["plan"]["then"][2]["charges"][0], "mandate");
    assert_eq!(meaning["routes"][0]["plan"]["then"][0]["takes"][1]["max"], "2500.00");

    for (wrong, why) in [
        ("min: '1.005'", "is not an amount of this currency"),
        ("min: '3000.00', max: '2500.00'", "min is more than max"),
    ] {
        let broken = more.replace("min: '1.00', max: '2500.00'", wrong);
        std::fs::write(&file, broken).unwrap();
        let (code, _, trouble) = command(&["check", "--config", "sentinel.yaml"], dir.path());
        assert!(code == 78 && trouble.contains(why), "{wrong}: {trouble}");
    }

    let (code, schema, _) = command(&["schema"], dir.path());
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert_eq!((code, &schema["title"]), (0, &serde_json::json!("API Sentinel")));
}
