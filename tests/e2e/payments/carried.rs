//! What a payment brings beside its money, through the front door: the result of an authentication and the network's id of
//! the first payment reach the gateway that has a field for them, others are left out with their reason; and what only the
//! application's own gateway can do is refused for a payment that another one took.

use serde_json::{Value, json};

use super::own::{Over, Own, Paid, Step};
use crate::support::shop::{Setup, Shop, parsed};
use crate::support::wire::{Message, once};

/// A card's number in Adyen's dialect, with no token of any other gateway beside it.
async fn card(shop: &Shop, key: &str, more: &Value) -> Message {
    let mut body = json!({
        "amount": {"currency": "EUR", "value": 1999}, "reference": key, "merchantAccount": "AcmeECOM",
        "returnUrl": "https://shop.example/", "captureDelayHours": 0,
        "paymentMethod": {"type": "scheme", "number": "4242424242424242", "expiryMonth": "03", "expiryYear": "2030"},
    });
    for (name, value) in more.as_object().expect("an object") {
        match (body.get_mut(name).and_then(Value::as_object_mut), value.as_object()) {
            (Some(old), Some(new)) => old.extend(new.clone()),
            _ => body[name] = value.clone(),
        }
    }
    let body = body.to_string();
    let bytes = format!(
        "POST /v71/payments HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: sandbox\r\nIdempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    once(shop.adyen, bytes).await
}

/// The body of the last request of this path at a simulator.
fn last(shop: &Shop, gateway: &str, path: &str) -> String {
    let requests = shop.gateway(gateway).requests();
    let of_path = requests.iter().rev().find(|request| request.path == path);
    let body = of_path.and_then(|request| request.body.clone()).expect("a request");
    String::from_utf8_lossy(&body).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authentication_done_elsewhere_and_a_networks_id_go_where_they_can() {
    let shop = Shop::with(Setup {
        adyen: "adyen, paypal, square, stripe, braintree",
        failover: "raw_cards: true",
        ..Setup::default()
    })
    .await;
    shop.down("adyen").await;
    let proof = json!({"mpiData": {"cavv": "AAABAWFlmQAAAABjRWWZEEFgFz8=", "eci": "05", "threeDSVersion": "2.2.0",
        "dsTransID": "c4e59ceb-a382-4d6a-bc87-385d591fa09d", "directoryResponse": "Y", "authenticationResponse": "Y"},
        "paymentMethod": {"cvc": "737"}});
    let answer = card(&shop, "proof", &proof).await;
    assert_eq!(parsed(&answer)["resultCode"], "Authorised", "{}", answer.text());
    assert_eq!(answer.header("sentinel-gateway"), Some("stripe"));
    assert_eq!(
        answer.header("sentinel-refused"),
        Some("paypal=three_ds_not_portable, square=three_ds_not_portable")
    );
    let form = last(&shop, "stripe", "/v1/payment_intents");
    let fields: Vec<(String, String)> = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    for (field, value) in [
        ("cryptogram", "AAABAWFlmQAAAABjRWWZEEFgFz8="),
        ("electronic_commerce_indicator", "05"),
        ("transaction_id", "c4e59ceb-a382-4d6a-bc87-385d591fa09d"),
        ("version", "2.2.0"),
    ] {
        let name = format!("payment_method_options[card][three_d_secure][{field}]");
        assert!(fields.contains(&(name, value.to_owned())), "{field}: {form}");
    }

    // The merchant alone, on the strength of the first payment: Stripe takes such an id of accounts that it allows only.
    let merchant = json!({"shopperInteraction": "ContAuth", "recurringProcessingModel": "UnscheduledCardOnFile",
        "paymentMethod": {"networkPaymentReference": "MCC123456789012"}});
    let answer = card(&shop, "merchant", &merchant).await;
    assert_eq!(parsed(&answer)["resultCode"], "Authorised", "{}", answer.text());
    assert_eq!(answer.header("sentinel-gateway"), Some("paypal"));
    let refused = answer.header("sentinel-refused").unwrap_or_default();
    assert_eq!(refused, "square=no_portable_instrument, stripe=parameter_not_portable");
    let order: Value = serde_json::from_str(&last(&shop, "paypal", "/v2/checkout/orders")).expect("JSON");
    let stored = &order["payment_source"]["card"]["stored_credential"];
    assert_eq!(stored["payment_initiator"], "MERCHANT", "{order}");
    assert_eq!(
        stored["previous_network_transaction_reference"]["id"],
        "MCC123456789012"
    );

    shop.down("paypal").await;
    let answer = card(&shop, "merchant-2", &merchant).await;
    assert_eq!(
        answer.header("sentinel-gateway"),
        Some("braintree"),
        "{}",
        answer.text()
    );
    let xml = last(&shop, "braintree", "/merchants/sandbox/transactions");
    let vault = "<previous_network_transaction_id>MCC123456789012</previous_network_transaction_id>";
    assert!(
        xml.contains(vault) && xml.contains("<transaction_source>unscheduled<"),
        "{xml}"
    );
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
}

/// Holds 19.99 in a dialect while its gateway is down.
async fn held(shop: &Shop, own: Own) -> (String, String) {
    let token = own.token(shop).await;
    shop.down(own.name()).await;
    let paid = Paid {
        order: "order-held",
        over: Over::Euros,
        token: &token,
        id: "",
    };
    let answer = own.ask(shop, Step::Hold, "key-of-hold", &paid).send().await;
    assert_ne!(answer.header("sentinel-gateway"), Some(own.name()), "{}", answer.text());
    (own.id(Step::Hold, &answer).expect("an id"), token)
}

async fn captured(shop: &Shop) -> i64 {
    let audit = shop.audit().await;
    assert!(audit.clean(), "{audit:#?}");
    audit.live("order-held").first().map_or(0, |position| position.captured)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_counts_on_the_rest_and_a_change_of_the_hold_are_refused_and_nothing_is_lost() {
    for owner in ["adyen", "paypal", "braintree", "square"] {
        let shop = Shop::with(Setup::default().of("stripe", &["stripe", owner])).await;
        let (id, _) = held(&shop, Own::Stripe).await;
        let path = format!("/v1/payment_intents/{id}");
        for (call, form, why) in [
            (
                "capture",
                "amount_to_capture=500&final_capture=false",
                "keeping the rest of a hold",
            ),
            ("increment_authorization", "amount=2500", "cannot do this"),
        ] {
            // PayPal keeps the rest: see the captures in parts.
            if (owner, call) == ("paypal", "capture") {
                continue;
            }
            let refused = shop.stripe_post(&format!("{path}/{call}"), call, form).await;
            assert_eq!(refused.status(), 400, "{owner} {call}: {}", refused.text());
            let error = &parsed(&refused)["error"];
            assert_eq!(error["code"], "operation_not_supported", "{owner} {call}");
            assert!(error["message"].as_str().unwrap().contains(why), "{owner}: {error}");
        }
        let updated = shop.stripe_post(&path, "update", "description=later").await;
        assert_eq!(updated.status(), 400, "{owner}: {}", updated.text());
        assert_eq!(captured(&shop).await, 0, "{owner}");
        let last = shop
            .stripe_post(&format!("{path}/capture"), "last", "amount_to_capture=500")
            .await;
        assert_eq!(last.status(), 200, "{owner}: {}", last.text());
        assert_eq!(captured(&shop).await, 500, "{owner}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paypals_and_adyens_applications_are_told_the_same() {
    let shop = Shop::with(Setup::default().of("paypal", &["paypal", "stripe"])).await;
    let (id, token) = held(&shop, Own::Paypal).await;
    let path = format!("/v2/payments/authorizations/{id}");
    let part = |last: bool| json!({"amount": {"currency_code": "EUR", "value": "5.00"}, "final_capture": last});
    for (call, body) in [("capture", part(false)), ("reauthorize", json!({}))] {
        let body = body.to_string();
        let refused = shop
            .paypal_send("POST", &format!("{path}/{call}"), &token, call, &body)
            .await;
        assert!((400..=422).contains(&refused.status()), "{call}: {}", refused.text());
        assert!(
            refused.text().contains("taken by another gateway"),
            "{call}: {}",
            refused.text()
        );
    }
    assert_eq!(captured(&shop).await, 0);
    let body = part(true).to_string();
    let last = shop
        .paypal_send("POST", &format!("{path}/capture"), &token, "last", &body)
        .await;
    assert_eq!(last.status(), 201, "{}", last.text());
    assert_eq!(captured(&shop).await, 500);

    let shop = Shop::with(Setup::default().of("adyen", &["adyen", "stripe"])).await;
    let (id, _) = held(&shop, Own::Adyen).await;
    let body = json!({"merchantAccount": "AcmeECOM", "amount": {"currency": "EUR", "value": 2500}, "industryUsage": "delayedCharge"});
    let path = format!("/v71/payments/{id}/amountUpdates");
    let refused = shop.adyen_post(&path, "more", &body).await;
    assert!((400..=422).contains(&refused.status()), "{}", refused.text());
    assert!(
        refused.text().contains("taken by another gateway"),
        "{}",
        refused.text()
    );
    assert_eq!(captured(&shop).await, 0);
}
