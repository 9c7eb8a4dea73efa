//! A Sentinel key instead of gateway credentials: whose credentials reach the gateway, and whose payment it is.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::house::{House, parsed, raw, text};
use crate::support::gateway::{Gateway, json as answer};
use crate::support::merchant::{adyen_authorised, adyen_numbered, sale, stripe_intent};
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::Message;

/// Every dialect behind one listener, all at one stub; the Stripe route fails over to Adyen.
pub(super) fn house(stripe: SocketAddr, gateway: SocketAddr, tenant: &str) -> House {
    let shared = free_port();
    let mut config = format!(
        "listeners: {{ shared: '{shared}' }}\nledger: {{ sqlite: '{{dir}}/ledger.db', strict: false }}\ngateways:\n"
    );
    for dialect in ["paypal", "braintree", "square", "razorpay"] {
        config +=
            &format!("  {dialect}: {{ dialect: {dialect}, endpoint: 'http://{gateway}', allow_private: true }}\n");
    }
    config += &format!(
        "  stripe: {{ dialect: stripe, endpoint: 'http://{stripe}', allow_private: true, credentials: {{ secret_key: sk_config }} }}
  adyen: {{ dialect: adyen, endpoint: 'http://{gateway}', allow_private: true, capture: automatic, credentials: {{ api_key: config-key, merchant_account: ConfigECOM }} }}
routes:
"
    );
    for dialect in ["paypal", "braintree", "square", "razorpay", "adyen"] {
        config +=
            &format!("  - {{ name: {dialect}, path_prefix: /{dialect}, dialect: {dialect}, gateways: [{dialect}] }}\n");
    }
    config += &format!(
        "  - name: stripe
    path_prefix: /stripe
    dialect: stripe
    gateways: [stripe, adyen]
    failover: {{ require_certificate: false, attempt_timeout: 1500ms, deadline: 4s }}
{tenant}"
    );
    House {
        sentinel: Sentinel::start(&config),
        shared,
    }
}

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

/// Credentials for every dialect.
pub(super) const CREDENTIALS: [(&str, &[(&str, &str)]); 6] = [
    ("stripe", &[("secret_key", "sk_test_theirs")]),
    (
        "adyen",
        &[("api_key", "adyen-theirs"), ("merchant_account", "TheirsECOM")],
    ),
    ("paypal", &[("client_id", "theirs"), ("client_secret", "secret")]),
    (
        "braintree",
        &[
            ("merchant_id", "theirs"),
            ("public_key", "pub"),
            ("private_key", "priv"),
        ],
    ),
    ("square", &[("access_token", "square-theirs")]),
    ("razorpay", &[("key_id", "rzp_theirs"), ("key_secret", "secret")]),
];

pub(super) async fn store(house: &House, token: &str, gateway: &str, fields: &[(&str, &str)]) {
    let fields: serde_json::Map<String, Value> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let body = json!({ "credentials": fields });
    let path = format!("/api/v1/credentials/{gateway}");
    let stored = house.ask("PUT", &path, token, Some(&body)).await;
    assert_eq!(stored.status(), 200, "{}", stored.text());
    for value in fields.values() {
        assert!(!stored.text().contains(&format!("{value}")), "never read back");
    }
}

/// A payment on the Stripe route with this credential.
async fn pay(house: &House, credential: &str, key: &str) -> Message {
    let fields = format!(
        "Authorization: Bearer {credential}\r\nIdempotency-Key: {key}\r\nSentinel-Instrument: adyen=shopper-1/8415698462516992\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    );
    raw(
        house.shared,
        "POST",
        "/stripe/v1/payment_intents",
        &fields,
        &sale("1999", ""),
    )
    .await
}

/// The books of each payment in the ledger, oldest first.
fn books(house: &House) -> Vec<String> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let ledger = rusqlite::Connection::open_with_flags(house.sentinel.path("ledger.db"), flags).expect("the ledger");
    let mut rows = ledger
        .prepare("SELECT tenant FROM payments ORDER BY id")
        .expect("a statement");
    let rows = rows.query_map([], |row| row.get(0)).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_dialect_gets_the_tenants_own_credentials_as_its_sdk_carries_them_and_never_the_key() {
    let gateway = Gateway::answering(None, |_, request| match request.start.contains("/v1/oauth2/token") {
        true => answer(
            200,
            r#"{"access_token":"A21-theirs","token_type":"Bearer","expires_in":32400}"#,
        ),
        false => answer(200, "{}"),
    })
    .await;
    let house = house(gateway.address, gateway.address, "");
    let account = house.register("a@example.com").await;
    let (token, key) = (text(&account, "token"), text(&account, "apiKey"));
    let bearer = format!("Authorization: Bearer {key}\r\n");
    let early = raw(house.shared, "GET", "/stripe/v1/balance", &bearer, "").await;
    assert_eq!(
        early.status(),
        403,
        "nothing is stored yet, and nobody else's is taken: {}",
        early.text()
    );
    assert!(gateway.seen().is_empty());
    for (name, fields) in CREDENTIALS {
        store(&house, token, name, fields).await;
    }
    let as_user = format!("Authorization: {}\r\n", basic(&format!("{key}:")));
    let as_password = format!("Authorization: {}\r\n", basic(&format!("x:{key}")));
    let x_api_key = format!("X-API-Key: {key}\r\n");
    for (path, sent, field, wanted) in [
        (
            "/stripe/v1/balance",
            &bearer,
            "authorization",
            "Bearer sk_test_theirs".to_owned(),
        ),
        (
            "/stripe/v1/balance",
            &as_user,
            "authorization",
            "Bearer sk_test_theirs".to_owned(),
        ),
        (
            "/adyen/v71/storedPaymentMethods",
            &x_api_key,
            "x-api-key",
            "adyen-theirs".to_owned(),
        ),
        (
            "/paypal/v1/invoicing/invoices",
            &bearer,
            "authorization",
            "Bearer A21-theirs".to_owned(),
        ),
        (
            "/braintree/merchants/theirs/plans",
            &as_password,
            "authorization",
            basic("pub:priv"),
        ),
        (
            "/square/v2/locations",
            &bearer,
            "authorization",
            "Bearer square-theirs".to_owned(),
        ),
        (
            "/razorpay/v1/items",
            &as_user,
            "authorization",
            basic("rzp_theirs:secret"),
        ),
    ] {
        let answer = raw(house.shared, "GET", path, sent, "").await;
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        let seen = gateway.seen();
        let last = seen.last().expect("a request");
        assert_eq!(last.header(field), Some(wanted.as_str()), "{path}");
    }
    // PayPal's SDKs fetch a token first, with the key for a client id.
    let fields = format!("{as_user}Content-Type: application/x-www-form-urlencoded\r\n");
    let body = "grant_type=client_credentials";
    let fetched = raw(house.shared, "POST", "/paypal/v1/oauth2/token", &fields, body).await;
    let fetched = parsed(&fetched);
    let bearer = format!("Authorization: Bearer {}\r\n", text(&fetched, "access_token"));
    let answer = raw(house.shared, "GET", "/paypal/v1/invoicing/invoices", &bearer, "").await;
    assert_eq!(answer.status(), 200);
    for request in gateway.seen() {
        assert!(!format!("{request:?}").contains("sk_snt_"), "{request:?}");
        assert!(!format!("{request:?}").contains(&STANDARD.encode(key)), "{request:?}");
    }
    // Whoever brings the gateway's own credentials passes as he is.
    raw(
        house.shared,
        "GET",
        "/square/v2/locations",
        "Authorization: Bearer his-own\r\n",
        "",
    )
    .await;
    assert_eq!(
        gateway.seen().last().expect("a request").header("authorization"),
        Some("Bearer his-own")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_wrong_revoked_or_in_the_wrong_place_is_refused_in_the_dialects_shape() {
    let gateway = Gateway::answering(None, |_, _| answer(200, "{}")).await;
    let house = house(gateway.address, gateway.address, "");
    let account = house.register("a@example.com").await;
    let (token, key) = (text(&account, "token"), text(&account, "apiKey").to_owned());
    for (name, fields) in CREDENTIALS {
        store(&house, token, name, fields).await;
    }
    let forged = format!("{}a", &key[..key.len() - 1]);
    let forged = if forged == key {
        format!("{}b", &key[..key.len() - 1])
    } else {
        forged
    };
    for (path, at) in [
        ("/stripe/v1/balance", "/error/message"),
        ("/adyen/v71/x", "/message"),
        ("/paypal/v1/x", "/message"),
        ("/square/v2/x", "/errors/0/detail"),
        ("/razorpay/v1/x", "/error/description"),
        ("/braintree/x", "/detail"),
    ] {
        for key in [forged.as_str(), "sk_snt_live_x", "sk_snt_"] {
            let fields = format!("Authorization: Bearer {key}\r\nX-API-Key: {key}\r\n");
            let refused = raw(house.shared, "GET", path, &fields, "").await;
            assert_eq!(refused.status(), 401, "{path}: {}", refused.text());
            assert!(parsed(&refused).pointer(at).is_some(), "{path}: {}", refused.text());
            assert_eq!(refused.header("sentinel-outcome"), Some("not_sent"));
            assert!(!refused.text().contains(key) || key == "sk_snt_", "{}", refused.text());
        }
    }
    let bearer = format!("Authorization: Bearer {key}\r\n");
    for (path, fields) in [
        (format!("/stripe/v1/balance?key={key}"), bearer.clone()),
        (
            format!("/stripe/v1/balance?key={key}"),
            "Authorization: Bearer sk_test\r\n".to_owned(),
        ),
        (
            "/stripe/v1/balance".to_owned(),
            format!("{bearer}X-Debug: was {key}\r\n"),
        ),
    ] {
        let refused = raw(house.shared, "GET", &path, &fields, "").await;
        assert_eq!(refused.status(), 400, "{}", refused.text());
    }
    let figures = json!({ "name": "figures", "scopes": ["analytics"] });
    let figures = parsed(&house.ask("POST", "/api/v1/keys", token, Some(&figures)).await);
    let fields = format!("Authorization: Bearer {}\r\n", text(&figures, "apiKey"));
    let refused = raw(house.shared, "GET", "/stripe/v1/balance", &fields, "").await;
    assert_eq!(refused.status(), 403, "{}", refused.text());
    assert!(gateway.seen().is_empty(), "nothing of all that reached a gateway");
    assert_eq!(
        raw(house.shared, "GET", "/stripe/v1/balance", &bearer, "")
            .await
            .status(),
        200
    );
    let keys = parsed(&house.ask("GET", "/api/v1/keys", token, None).await);
    let first = keys["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .find(|key| key["name"] == "first key")
        .expect("a key");
    let revoked = house
        .ask(
            "POST",
            &format!("/api/v1/keys/{}/revoke", text(first, "id")),
            token,
            None,
        )
        .await;
    assert_eq!(revoked.status(), 200, "{}", revoked.text());
    assert_eq!(
        raw(house.shared, "GET", "/stripe/v1/balance", &bearer, "")
            .await
            .status(),
        401,
        "at once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_payment_is_its_own_from_key_to_failover_to_follow_up() {
    let adyen = Gateway::answering(None, adyen_numbered).await;
    let house = house(free_port(), adyen.address, "");
    let (a, b) = (
        house.register("a@example.com").await,
        house.register("b@example.com").await,
    );
    for account in [&a, &b] {
        let name = text(account, "customerId");
        let secret = format!("sk_{name}");
        store(
            &house,
            text(account, "token"),
            "stripe",
            &[("secret_key", secret.as_str())],
        )
        .await;
        store(
            &house,
            text(account, "token"),
            "adyen",
            &[("api_key", name), ("merchant_account", "TheirsECOM")],
        )
        .await;
    }
    // The same idempotency key of three tenants is three payments, each with its own account at the second gateway.
    for (credential, api_key) in [
        (text(&a, "apiKey"), text(&a, "customerId")),
        (text(&b, "apiKey"), text(&b, "customerId")),
        ("sk_test_local", "config-key"),
    ] {
        let paid = pay(&house, credential, "order-1").await;
        assert_eq!(paid.status(), 200, "{}", paid.text());
        assert_eq!(paid.header("sentinel-failover"), Some("true"));
        let seen = adyen.seen();
        let last = seen.last().expect("a request");
        assert_eq!(last.header("x-api-key"), Some(api_key));
        assert!(!format!("{last:?}").contains("sk_snt_"));
        let again = pay(&house, credential, "order-1").await;
        assert_eq!(again.text(), paid.text());
        assert_eq!(adyen.seen().len(), seen.len(), "a repeat is answered from the ledger");
        // What one tenant was answered means nothing in another's hands.
        let id = parsed(&paid)["id"].as_str().expect("an id").to_owned();
        for (other, wanted) in [(credential, 200), (text(&a, "apiKey"), 503), (text(&b, "apiKey"), 503)] {
            let wanted = if other == credential { 200 } else { wanted };
            let fields = format!("Authorization: Bearer {other}\r\n");
            let looked = raw(
                house.shared,
                "GET",
                &format!("/stripe/v1/payment_intents/{id}"),
                &fields,
                "",
            )
            .await;
            assert_eq!(looked.status(), wanted, "{}", looked.text());
        }
    }
    let mut wanted = vec![
        text(&a, "customerId").to_owned(),
        text(&b, "customerId").to_owned(),
        "local".to_owned(),
    ];
    assert_eq!(books(&house), wanted);
    // A staging key has staging credentials, or none.
    let staging = json!({ "name": "staging", "mode": "test" });
    let staging = parsed(
        &house
            .ask("POST", "/api/v1/keys", text(&a, "token"), Some(&staging))
            .await,
    );
    assert_eq!(pay(&house, text(&staging, "apiKey"), "order-1").await.status(), 403);
    let body = json!({ "mode": "test", "credentials": { "secret_key": "sk_staging" } });
    house
        .ask("PUT", "/api/v1/credentials/stripe", text(&a, "token"), Some(&body))
        .await;
    let body = json!({ "mode": "test", "credentials": { "api_key": "staging", "merchant_account": "TheirsTEST" } });
    house
        .ask("PUT", "/api/v1/credentials/adyen", text(&a, "token"), Some(&body))
        .await;
    let paid = pay(&house, text(&staging, "apiKey"), "order-1").await;
    assert_eq!(paid.status(), 200, "{}", paid.text());
    assert_eq!(
        adyen.seen().last().expect("a request").header("x-api-key"),
        Some("staging")
    );
    wanted.push(format!("{}/test", text(&a, "customerId")));
    assert_eq!(books(&house), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_is_bound_to_a_tenant_is_nobody_elses() {
    let stripe = Gateway::answering(None, |_, request| stripe_intent("succeeded", request)).await;
    let owner = "tn_aaaaaaaaaaaaaaaaaaaa";
    let house = house(stripe.address, free_port(), &format!("    tenant: {owner}\n"));
    let stranger = house.register("a@example.com").await;
    let refused = pay(&house, text(&stranger, "apiKey"), "order-1").await;
    assert_eq!(refused.status(), 403, "{}", refused.text());
    assert!(stripe.seen().is_empty());
    let paid = pay(&house, "sk_test_owner", "order-1").await;
    assert_eq!(paid.status(), 200, "{}", paid.text());
    assert_eq!(stripe.seen()[0].header("authorization"), Some("Bearer sk_test_owner"));
    assert_eq!(books(&house), [owner]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_instrument_map_is_a_tenants_own_and_makes_its_payments_portable() {
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let house = house(free_port(), adyen.address, "");
    let (a, b) = (
        house.register("a@example.com").await,
        house.register("b@example.com").await,
    );
    for account in [&a, &b] {
        store(&house, text(account, "token"), "stripe", CREDENTIALS[0].1).await;
        store(&house, text(account, "token"), "adyen", CREDENTIALS[1].1).await;
    }
    let key = text(&a, "apiKey");
    let fields = format!("Authorization: Bearer {key}\r\nContent-Type: text/csv\r\n");
    let csv = "gateway,token,target,target_token,target_account,target_customer\nstripe,pm_1,adyen,8415698462516992,TheirsECOM,shopper-1\nstripe,4242424242424242,adyen,8415,TheirsECOM,x\n";
    let imported = parsed(&raw(house.shared, "POST", "/api/v1/instruments/import", &fields, csv).await);
    assert_eq!(imported["kept"], 1, "{imported}");
    assert_eq!(imported["rejected"][0]["line"], 3, "{imported}");
    assert!(!imported.to_string().contains("4242"), "{imported}");
    let listed = parsed(&house.ask("GET", "/api/v1/instruments", key, None).await);
    assert_eq!(
        listed["instruments"][0]["targets"]["adyen"]["token"], "8415698462516992",
        "{listed}"
    );
    let others = parsed(&house.ask("GET", "/api/v1/instruments", text(&b, "apiKey"), None).await);
    assert_eq!(others["instruments"], json!([]));
    for (account, wanted) in [(&a, 200), (&b, 503)] {
        let fields = format!(
            "Authorization: Bearer {}\r\nIdempotency-Key: k\r\nContent-Type: application/x-www-form-urlencoded\r\n",
            text(account, "apiKey")
        );
        let body = "amount=1999&currency=eur&confirm=true&payment_method=pm_1&off_session=true&customer=cus_1";
        let paid = raw(house.shared, "POST", "/stripe/v1/payment_intents", &fields, body).await;
        assert_eq!(paid.status(), wanted, "{}", paid.text());
    }
    let sent: Value = serde_json::from_slice(&adyen.seen()[0].body).expect("JSON");
    assert_eq!(
        sent["paymentMethod"]["storedPaymentMethodId"], "8415698462516992",
        "{sent}"
    );
    let gone = house
        .ask("DELETE", "/api/v1/instruments?gateway=stripe&token=pm_1", key, None)
        .await;
    assert_eq!(gone.status(), 204, "{}", gone.text());
    let gone = house
        .ask("DELETE", "/api/v1/instruments?gateway=stripe&token=pm_1", key, None)
        .await;
    assert_eq!(gone.status(), 404);
}
