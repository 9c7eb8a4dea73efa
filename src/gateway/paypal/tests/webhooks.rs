use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SigningKey,
};
use rustls::pki_types::TrustAnchor;

const NOW: i64 = 1_795_597_200;
const URL: &str = "https://api.paypal.com/v1/notifications/certs/CERT-1";

struct Signer {
    root: TrustAnchor<'static>,
    pem: String,
    key: KeyPair,
}

fn signer(name: &str) -> Signer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    let root = webpki::anchor_from_trusted_cert(ca.der()).unwrap().to_owned();
    Signer {
        root,
        pem: leaf.pem(),
        key,
    }
}

fn headers(signer: &Signer, body: &[u8], time: &str) -> HeaderMap {
    let crc = checksum(body);
    let signature = signer.key.sign(format!("T-1|{time}|WH-1|{crc}").as_bytes()).unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("paypal-transmission-id", "T-1".to_owned()),
        ("paypal-transmission-time", time.to_owned()),
        ("paypal-transmission-sig", STANDARD.encode(signature)),
        ("paypal-cert-url", URL.to_owned()),
        ("paypal-auth-algo", "SHA256withRSA".to_owned()),
    ] {
        headers.insert(name, HeaderValue::from_str(&value).unwrap());
    }
    headers
}

/// Another way to the same checksum than the code under test: polynomial division bit by bit, mirrored.
fn checksum(bytes: &[u8]) -> u32 {
    let mut rest: u32 = !0;
    for byte in bytes {
        for bit in 0..8 {
            let top = (rest >> 31) ^ u32::from(byte >> bit & 1);
            rest = (rest << 1) ^ if top & 1 == 1 { 0x04C1_1DB7 } else { 0 };
        }
    }
    (!rest).reverse_bits()
}

fn event() -> Vec<u8> {
    json!({"id": "WH-EVENT-1", "event_type": "PAYMENT.CAPTURE.COMPLETED", "create_time": "2026-11-25T09:00:00Z",
        "resource": {"id": "3C679366HH908993F", "status": "COMPLETED", "custom_id": "snt-0001",
            "amount": {"currency_code": "USD", "value": "20.00"},
            "supplementary_data": {"related_ids": {"order_id": "5O190127TN364715T"}}}})
    .to_string()
    .into_bytes()
}

fn verify(
    signer: &Signer,
    headers: &HeaderMap,
    body: &[u8],
    pem: Option<&str>,
) -> Result<Vec<WebhookFact>, WebhookError> {
    let keys = WebhookKeys {
        secret: None,
        webhook_id: Some("WH-1"),
        notification_url: None,
        certificate: pem.map(str::as_bytes),
    };
    webhook::verify_with(&keys, headers, body, NOW, std::slice::from_ref(&signer.root))
}

#[test]
fn a_signed_delivery_is_believed_and_nothing_else() {
    let signer = signer("messageverificationcerts.paypal.com");
    let (body, time) = (event(), "2026-11-25T09:00:00Z");
    let good = headers(&signer, &body, time);
    assert_eq!(
        verify(&signer, &good, &body, None),
        Err(WebhookError::CertificateWanted { url: URL.to_owned() })
    );
    let facts = verify(&signer, &good, &body, Some(&signer.pem)).unwrap();
    assert_eq!(facts[0].leg, Some(Leg::Charge));
    assert_eq!(facts[0].observation.outcome, Outcome::Succeeded);
    assert_eq!(facts[0].observation.payment_id.as_deref(), Some("5O190127TN364715T"));
    assert_eq!(facts[0].reference.as_deref(), Some("snt-0001"));
    let mut changed = body.clone();
    changed[10] ^= 1;
    assert_eq!(
        verify(&signer, &good, &changed, Some(&signer.pem)),
        Err(WebhookError::Forged)
    );
    let late = headers(&signer, &body, "2026-11-20T09:00:00Z");
    assert_eq!(
        verify(&signer, &late, &body, Some(&signer.pem)),
        Err(WebhookError::Stale)
    );
    for url in [
        "http://api.paypal.com/c",
        "https://paypal.com.evil.example/c",
        "https://evil.example/paypal.com",
        "https://evil.example@api.paypal.com/c",
        "https://evilpaypal.com/c",
    ] {
        let mut elsewhere = good.clone();
        elsewhere.insert("paypal-cert-url", HeaderValue::from_str(url).unwrap());
        assert_eq!(
            verify(&signer, &elsewhere, &body, Some(&signer.pem)),
            Err(WebhookError::Forged),
            "{url}"
        );
    }
    let mut unsigned = good;
    unsigned.remove("paypal-transmission-sig");
    assert_eq!(
        verify(&signer, &unsigned, &body, Some(&signer.pem)),
        Err(WebhookError::Unsigned)
    );
}

#[test]
fn a_certificate_of_somebody_else_is_not_paypals() {
    let (body, time) = (event(), "2026-11-25T09:00:00Z");
    let stranger = signer("evil.example");
    let signed = headers(&stranger, &body, time);
    assert_eq!(
        verify(&stranger, &signed, &body, Some(&stranger.pem)),
        Err(WebhookError::Forged)
    );
    let (ours, theirs) = (
        signer("messageverificationcerts.paypal.com"),
        signer("messageverificationcerts.paypal.com"),
    );
    let signed = headers(&theirs, &body, time);
    assert_eq!(
        verify(&ours, &signed, &body, Some(&theirs.pem)),
        Err(WebhookError::Forged),
        "another root"
    );
}
