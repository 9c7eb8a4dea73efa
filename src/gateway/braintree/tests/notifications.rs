use super::*;
use crate::gateway::outcome::{Outcome, Rejection};
use crate::gateway::webhook::{WebhookError, WebhookKeys};

#[test]
fn notifications_are_believed_when_the_accounts_own_keys_signed_them() {
    let account = |private: &str| {
        Credentials::new(BTreeMap::from([
            ("public_key".to_owned(), "integration_public_key".to_owned()),
            ("private_key".to_owned(), private.to_owned()),
        ]))
    };
    let ours = account("integration_private_key");
    // The official SDK's own test vector.
    let challenge = "bt_challenge=20f9f8ed05f77439fe955c977e4c8a53";
    let answered = "integration_public_key|d9b899556c966b3f06945ec21311865d35df3ce4";
    assert_eq!(Braintree.challenge(challenge, &ours).as_deref(), Some(answered));
    for other in [
        "bt_challenge=",
        "bt_challenge=%3Cxml%3E",
        "",
        "bt_challenge=PHhtbD48L3htbD48L3htbD48L3htbD4=",
    ] {
        assert_eq!(Braintree.challenge(other, &ours), None, "nothing else is ever signed");
    }
    let own = "0199c0de-0000-7000-8000-000000000001";
    let xml = |kind: &str, transaction: &str| {
        format!(
            "<notification><kind>{kind}</kind><timestamp type=\"datetime\">2026-11-25T09:00:00Z</timestamp><subject>{transaction}</subject></notification>"
        )
    };
    let settled = format!(
        "<transaction><id>abc123</id><status>settled</status><type>sale</type><amount>19.99</amount>\
         <currency-iso-code>EUR</currency-iso-code><order-id>order-1.{own}</order-id></transaction>"
    );
    let read = |account: &Credentials, xml: &str, tamper: &dyn Fn(&mut String, &mut String)| {
        let mut payload = signature::payload(xml);
        let mut signed = signature::sign("integration_public_key", "integration_private_key", payload.as_bytes());
        tamper(&mut signed, &mut payload);
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("bt_signature", &signed)
            .append_pair("bt_payload", &payload)
            .finish();
        let keys = WebhookKeys {
            secret: None,
            webhook_id: None,
            notification_url: None,
            account: Some(account),
            vouched: false,
        };
        Braintree.webhook(&keys, &http::HeaderMap::new(), body.as_bytes(), 0)
    };
    let as_it_is = |_: &mut String, _: &mut String| {};
    let facts = read(&ours, &xml("transaction_settled", &settled), &as_it_is).unwrap();
    let fact = &facts[0];
    assert_eq!(
        (fact.leg, fact.observation.outcome),
        (Some(Leg::Charge), Outcome::Succeeded)
    );
    assert_eq!(fact.observation.payment_id.as_deref(), Some("abc123"));
    assert_eq!(
        fact.reference.as_deref(),
        Some(own),
        "Sentinel's own stands behind the merchant's"
    );
    assert_eq!(fact.occurred_at, Some(1_795_597_200));
    let credit = settled
        .replace(">sale<", ">credit<")
        .replace(">settled<", ">processor_declined<");
    let failed = read(&ours, &xml("refund_failed", &credit), &as_it_is).unwrap();
    assert_eq!(failed[0].leg, Some(Leg::Refund));
    assert_eq!(failed[0].observation.outcome, Outcome::Rejected(Rejection::Request));
    assert_eq!(failed[0].observation.modification_id.as_deref(), Some("abc123"));
    let check = read(&ours, &xml("check", "<check type=\"boolean\">true</check>"), &as_it_is).unwrap();
    assert_eq!(check[0].leg, None);
    // Among the signatures of other keys, and without the last line's end.
    let among = |signed: &mut String, payload: &mut String| {
        *signed = format!("other_key|00&{signed}");
        payload.pop();
    };
    assert!(read(&ours, &xml("transaction_settled", &settled), &among).is_ok());
    let forged = [
        |_: &mut String, payload: &mut String| payload.insert(0, 'A'),
        |signed: &mut String, _: &mut String| signed.push('0'),
        |signed: &mut String, _: &mut String| *signed = signed.replace("integration_public_key", "other_key"),
        |signed: &mut String, _: &mut String| *signed = "integration_public_key|".to_owned(),
    ];
    for tamper in forged {
        let told = read(&ours, &xml("transaction_settled", &settled), &tamper);
        assert_eq!(told, Err(WebhookError::Forged));
    }
    let theirs = account("another_private_key");
    assert_eq!(
        read(&theirs, &xml("transaction_settled", &settled), &as_it_is),
        Err(WebhookError::Forged)
    );
    assert_eq!(
        read(&ours, "<other><a>1</a></other>", &as_it_is),
        Err(WebhookError::Malformed("notification"))
    );
    assert_eq!(
        read(&Credentials::default(), &xml("check", ""), &as_it_is),
        Err(WebhookError::Unconfigured("public_key"))
    );
}
