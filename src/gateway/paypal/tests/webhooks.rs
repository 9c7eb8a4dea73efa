use super::*;

const NOW: i64 = 1_795_597_200;
const TIME: &str = "2026-11-25T09:00:00Z";

fn headers(time: &str, certificate: &str, algorithm: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("paypal-transmission-id", "T-1"),
        ("paypal-transmission-time", time),
        ("paypal-transmission-sig", "c2lnbmVk"),
        ("paypal-cert-url", certificate),
        ("paypal-auth-algo", algorithm),
    ] {
        headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn good() -> HeaderMap {
    let certificate = "https://api.paypal.com/v1/notifications/certs/CERT-1";
    headers(TIME, certificate, "SHA256withRSA")
}

/// With spaces as PayPal may write it: what is asked has to be what came.
fn event() -> Vec<u8> {
    br#"{ "id": "WH-EVENT-1",  "event_type":"PAYMENT.CAPTURE.COMPLETED", "create_time": "2026-11-25T09:00:00Z",
        "resource": {"id": "3C679366HH908993F", "status": "COMPLETED", "custom_id": "snt-0001",
            "amount": {"currency_code": "USD", "value": "20.00"},
            "supplementary_data": {"related_ids": {"order_id": "5O190127TN364715T"}}}}"#
        .to_vec()
}

fn keys(webhook_id: Option<&'static str>, vouched: bool) -> WebhookKeys<'static> {
    WebhookKeys {
        secret: Some("shared"),
        webhook_id,
        notification_url: None,
        account: None,
        vouched,
    }
}

#[test]
fn a_delivery_is_believed_once_paypal_vouches_for_it() {
    let read =
        |headers: &HeaderMap, body: &[u8], vouched| Paypal.webhook(&keys(Some("WH-1"), vouched), headers, body, NOW);
    assert_eq!(read(&good(), &event(), false), Err(WebhookError::ToBeVouched));
    let facts = read(&good(), &event(), true).unwrap();
    assert_eq!(facts[0].leg, Some(Leg::Charge));
    assert_eq!(facts[0].observation.outcome, Outcome::Succeeded);
    assert_eq!(facts[0].observation.payment_id.as_deref(), Some("5O190127TN364715T"));
    assert_eq!(facts[0].reference.as_deref(), Some("snt-0001"));
    assert_eq!(
        Paypal.webhook(&keys(None, true), &good(), &event(), NOW),
        Err(WebhookError::Unconfigured("webhook_id"))
    );
    // Nobody is asked about what does not look like PayPal's.
    for url in [
        "http://api.paypal.com/c",
        "https://paypal.com.evil.example/c",
        "https://evil.example/paypal.com",
        "https://evil.example@api.paypal.com/c",
        "https://evilpaypal.com/c",
        "urn:sentinel:no-certificate",
    ] {
        let forged = headers(TIME, url, "SHA256withRSA");
        assert_eq!(read(&forged, &event(), false), Err(WebhookError::Forged), "{url}");
    }
    let url = "https://api.paypal.com/c";
    for algorithm in ["none", "SENTINEL-HMAC-SHA256"] {
        let forged = headers(TIME, url, algorithm);
        assert_eq!(read(&forged, &event(), false), Err(WebhookError::Forged));
    }
    for time in ["2026-11-20T09:00:00Z", "2026-11-25T10:00:00Z"] {
        let late = headers(time, url, "SHA256withRSA");
        assert_eq!(read(&late, &event(), false), Err(WebhookError::Stale), "{time}");
    }
    let mut unsigned = good();
    unsigned.remove("paypal-transmission-sig");
    assert_eq!(read(&unsigned, &event(), false), Err(WebhookError::Unsigned));
    let mut twice = good();
    twice.append("paypal-transmission-id", HeaderValue::from_static("T-2"));
    assert_eq!(read(&twice, &event(), false), Err(WebhookError::Unsigned));
    // One object and nothing behind it: the question must not grow a member of its sender's making.
    for body in [&b"[]"[..], br#"{},"webhook_id":"x""#, b"{}{}", b""] {
        assert_eq!(read(&good(), body, false), Err(WebhookError::Unsigned));
    }
}

#[test]
fn the_question_holds_the_event_byte_by_byte() {
    let asked = Paypal
        .vouching(&keys(Some("WH-1"), false), &good(), &event(), &account())
        .unwrap();
    assert_eq!(asked.target, "/v1/notifications/verify-webhook-signature");
    assert_eq!(asked.headers["authorization"], "Bearer A21AAtoken");
    assert!(asked.body.windows(event().len()).any(|part| part == event()));
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(body["webhook_id"], "WH-1");
    assert_eq!(body["transmission_sig"], "c2lnbmVk");
    assert_eq!(body["webhook_event"]["id"], "WH-EVENT-1");
    let said = |status, body: &'static str| {
        Paypal.vouched(&Incoming {
            status,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        })
    };
    assert_eq!(said(StatusCode::OK, r#"{"verification_status":"SUCCESS"}"#), Some(true));
    assert_eq!(
        said(StatusCode::OK, r#"{"verification_status":"FAILURE"}"#),
        Some(false)
    );
    assert_eq!(said(StatusCode::OK, r#"{"verification_status":"success"}"#), None);
    assert_eq!(
        said(StatusCode::BAD_REQUEST, r#"{"verification_status":"SUCCESS"}"#),
        None
    );
    assert_eq!(said(StatusCode::OK, "<html>"), None);
}

#[test]
fn what_sentinel_writes_is_verified_by_sentinel_and_by_nobody_mistaken_for_paypals() {
    let view = view(Status::Captured, CaptureMode::Automatic);
    let webhook = crate::config::model::Webhook {
        webhook_id: Some("WH-1".to_owned()),
        ..crate::config::model::Webhook::default()
    };
    let account = account();
    let told = Announcement {
        news: super::super::super::announcement::News::Succeeded,
        view: &view,
        amount: view.amount,
        seed: [7; 16],
        account: &account,
        webhook: &webhook,
        secret: Some("shared"),
        url: "http://127.0.0.1:3000/hooks",
        base: "http://127.0.0.1:8082",
        at: NOW - 60,
        now: NOW,
    };
    let written = Paypal.announce(&told).remove(0);
    let header = |name: &str| written.headers[name].to_str().unwrap().to_owned();
    // A receiver of PayPal's refuses it, and PayPal is never asked about it.
    assert_eq!(
        Paypal.webhook(&keys(Some("WH-1"), true), &written.headers, &written.body, NOW),
        Err(WebhookError::Forged)
    );
    let event: Value = serde_json::from_slice(&written.body).unwrap();
    assert_eq!(event["event_type"], "PAYMENT.CAPTURE.COMPLETED");
    let asked = |event: &Value, webhook_id: &str, algorithm: &str| {
        json!({"webhook_event": event, "webhook_id": webhook_id, "auth_algo": algorithm,
            "transmission_id": header("paypal-transmission-id"), "transmission_time": header("paypal-transmission-time"),
            "transmission_sig": header("paypal-transmission-sig"), "cert_url": header("paypal-cert-url")})
    };
    let ask = |body: Value, now: i64| {
        let reply = Paypal.verification(body.to_string().as_bytes(), &keys(Some("WH-1"), false), now)?;
        serde_json::from_slice::<Value>(reply.body()).unwrap()["verification_status"]
            .as_str()
            .map(str::to_owned)
    };
    let algorithm = header("paypal-auth-algo");
    assert_eq!(ask(asked(&event, "WH-1", &algorithm), NOW).as_deref(), Some("SUCCESS"));
    let mut changed = event.clone();
    changed["resource"]["amount"]["value"] = json!("1.00");
    for (body, now) in [
        (asked(&changed, "WH-1", &algorithm), NOW),
        (asked(&event, "WH-2", &algorithm), NOW),
        (asked(&event, "WH-1", &algorithm), NOW + 5 * 86_400),
    ] {
        assert_eq!(ask(body, now).as_deref(), Some("FAILURE"));
    }
    // The gateway's own: PayPal answers.
    assert_eq!(ask(asked(&event, "WH-1", "SHA256withRSA"), NOW), None);
    // The same news again have the same id, and the time of their delivery.
    let again = Paypal
        .announce(&Announcement {
            now: NOW + 3600,
            ..told
        })
        .remove(0);
    assert_eq!(again.body, written.body);
    assert_ne!(
        again.headers["paypal-transmission-time"],
        written.headers["paypal-transmission-time"]
    );
}
