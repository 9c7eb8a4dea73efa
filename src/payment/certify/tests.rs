use super::*;

fn check_of(name: &str, needed_for: FenceStrength, holds: bool) -> Check {
    check(name, needed_for, holds, String::new())
}

#[test]
fn a_fence_is_worth_what_its_weakest_assumption_is_worth() {
    use FenceStrength::{F1, F2, F3};
    let checks = |idempotent: bool, permanent: bool| {
        vec![
            check_of("replay", F2, idempotent),
            check_of("late_original", F3, permanent),
            check_of("void_twice", F3, true),
        ]
    };
    assert_eq!(strength(F3, &checks(true, true)), F3);
    assert_eq!(strength(F3, &checks(true, false)), F2);
    assert_eq!(strength(F3, &checks(false, true)), F1);
    assert_eq!(strength(F2, &checks(true, true)), F2);
    assert_eq!(strength(F1, &checks(true, true)), F1);
}

fn config(dialect: &str, endpoint: &str, credentials: &str) -> Arc<GatewayConfig> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("sentinel.yaml");
    let text = format!(
        "gateways:\n  own: {{ dialect: {dialect}, endpoint: '{endpoint}', allow_private: true, credentials: {{ {credentials} }} }}\n\
         routes:\n  - {{ name: a, listen: '127.0.0.1:40001', dialect: {dialect}, gateways: [own] }}\n"
    );
    std::fs::write(&file, text).expect("writes");
    let config = crate::config::load::load(&file).expect("a configuration");
    Arc::clone(&config.gateways["own"])
}

#[test]
fn live_accounts_are_refused_and_so_is_what_cannot_be_told() {
    let adyen = "api_key: a, merchant_account: b";
    let paypal = "client_id: a, client_secret: b";
    for (dialect, endpoint, credentials, takes) in [
        ("stripe", "https://api.stripe.com", "secret_key: sk_test_1", true),
        ("stripe", "https://api.stripe.com", "secret_key: rk_test_1", true),
        ("stripe", "https://api.stripe.com", "secret_key: sk_live_1", false),
        ("stripe", "http://127.0.0.1:1", "secret_key: sk_live_1", false),
        ("stripe", "http://127.0.0.1:1", "secret_key: sk_test_1", true),
        ("adyen", "https://checkout-test.adyen.com", adyen, true),
        (
            "adyen",
            "https://1797a841fbb37ca7-AcmeECOM-checkout-live.adyenpayments.com/checkout",
            adyen,
            false,
        ),
        ("adyen", "https://checkout-test.adyen.com.example.com", adyen, false),
        ("paypal", "https://api-m.sandbox.paypal.com", paypal, true),
        ("paypal", "https://api-m.paypal.com", paypal, false),
    ] {
        let config = config(dialect, endpoint, credentials);
        assert_eq!(test_account(&config).is_ok(), takes, "{endpoint} {credentials}");
        // Nobody's word makes a live account of a known gateway one for tests.
        assert_eq!(TestAccount::of(&config, true).is_ok(), takes, "{endpoint}");
    }
}
