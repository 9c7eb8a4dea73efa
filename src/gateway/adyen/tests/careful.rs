//! What Adyen leaves out, repeats or does not allow.

use super::*;

#[test]
fn a_cancel_by_reference_that_is_asked_for_again_is_carried_out_again() {
    // It acts on what has arrived by then: under a key, the second one would only hear what the first came to.
    let earlier = EarlierAttempt {
        reference: Some("snt-0000".to_owned()),
        ..EarlierAttempt::default()
    };
    let fence = Adyen.fence(&earlier, &account()).unwrap();
    assert!(fence.headers.get(KEY_HEADER).is_none(), "{:?}", fence.headers);
}

#[test]
fn a_refusal_without_a_code_allows_no_more_than_its_reason() {
    let request = parse("/v71/payments", &sale(), &[]).unwrap();
    let refused = |reason: Option<&str>| {
        let mut body = json!({"pspReference": "883574118820108A", "resultCode": "Refused",
            "merchantReference": "order-123"});
        if let Some(reason) = reason {
            body["refusalReason"] = reason.into();
        }
        observe(Leg::Charge, Some(&request), None, 200, &body).outcome
    };
    assert_eq!(refused(Some("FRAUD")), Outcome::Declined(DeclineClass::Fraud));
    assert_eq!(refused(Some("Expired Card")), Outcome::Declined(DeclineClass::Hard));
    assert_eq!(refused(Some("Acquirer Error")), Outcome::Unknown);
    assert_eq!(refused(Some("Refused")), Outcome::Declined(DeclineClass::Soft));
    assert_eq!(
        refused(Some("Blocked by a rule of yours")),
        Outcome::Declined(DeclineClass::Hard)
    );
    assert_eq!(refused(None), Outcome::Declined(DeclineClass::Hard));
}

#[test]
fn a_statement_holds_what_adyen_allows() {
    let mut payment = pay(parse("/v71/payments", &sale(), &[]).unwrap());
    payment.statement = Some("Caf\u{e9} <Zo\u{eb}> *4711 & Co., 2nd".to_owned());
    let outgoing = Adyen.encode(&Request::Pay(Box::new(payment)), &account()).unwrap();
    let body: Value = serde_json::from_slice(&outgoing.body).unwrap();
    assert_eq!(body["shopperStatement"], "Caf Zo *4711  Co., 2nd");
}
