use super::*;
use crate::config::model::{FEES, Mode, Secret};

const GOOD: &str = "listeners: { admin: 127.0.0.1:9901 }
gateways:
  stripe: { dialect: stripe, endpoint: https://api.stripe.com }
routes:
  - name: checkout
    listen: 127.0.0.1:8081
    dialect: stripe
    gateways: [stripe]
";

fn problems(text: &str) -> Vec<String> {
    parse(Path::new("s.yaml"), text)
        .err()
        .unwrap_or_default()
        .iter()
        .map(Problem::to_string)
        .collect()
}

#[test]
fn a_small_file_is_enough() {
    let config = parse(Path::new("s.yaml"), GOOD).unwrap();
    assert_eq!((config.workers, config.routes.len()), (1, 1));
    assert_eq!(config.gateways["stripe"].endpoint.port, 443);
}

#[test]
fn webhooks_need_a_ledger() {
    let text = GOOD.replace("admin:", "webhooks: 127.0.0.1:8090, admin:");
    let found = problems(&text);
    assert!(
        found
            .iter()
            .any(|problem| problem.contains("is of no use without a ledger")),
        "{found:#?}"
    );
}

#[test]
fn every_problem_of_shape_and_of_meaning_is_told_at_once_with_its_place() {
    let text = "workers: four
listeners: { admin: 127.0.0.1, shred: x }
gateways:
  stripe:
    dialect: strype
    endpoint: https://api.stripe.com
  adyen: { dialect: adyen, endpoint: ftp://x, pool: { idle: 5 s, max_idle: [1] } }
routes:
  - name: checkout
    listn: 127.0.0.1:8081
    dialect: stripe
    gateways: [stripe, adyem]
    limits: { in_flight: -1, queue: '7' }
  - listen: { tls: local_ca }
  - name: 7
    listen: 127.0.0.1:8082
    dialect: adyen
    gateways: []
    failover: { mode: fense, attempt_timeout: 26s }
    x-mine: 1
";
    let found = problems(text);
    let wanted = [
        "s.yaml:1:10: workers: expected a whole number",
        "s.yaml:2:21: listeners.admin: is not an address and port; write as in 127.0.0.1:8081 or [::1]:8081",
        "s.yaml:2:32: listeners: unknown field `shred`; did you mean `shared`?",
        "s.yaml:5:14: gateways.stripe.dialect: expected stripe, paypal, braintree, square, razorpay, adyen or custom; did you mean `stripe`?",
        "s.yaml:7:38: gateways.adyen.endpoint: is not an endpoint; write https://host, with :port and /base where needed",
        "s.yaml:7:61: gateways.adyen.pool.idle: is not a duration; write a number and ms, s, m, h or d, as in 250ms or 5s",
        "s.yaml:7:76: gateways.adyen.pool.max_idle: expected a whole number, found a list",
        "s.yaml:10:5: routes[0]: unknown field `listn`; did you mean `listen`?",
        "s.yaml:12:24: routes[0].gateways[1]: there is no gateway `adyem`; did you mean `adyen`?",
        "s.yaml:13:26: routes[0].limits.in_flight: expected a whole number",
        "s.yaml:13:37: routes[0].limits.queue: expected a whole number; without quotation marks",
        "s.yaml:14:5: routes[1]: `name` is missing; add `name`: text",
        "s.yaml:14:5: routes[1]: `dialect` is missing; add `dialect`: stripe, paypal, braintree, square, razorpay, adyen or custom",
        "s.yaml:14:5: routes[1]: `gateways` is missing; add `gateways`: a list",
        "s.yaml:14:15: routes[1].listen: `address` is missing; add `address`: text",
        "s.yaml:18:5: routes[2].gateways: names no gateway",
        "s.yaml:19:23: routes[2].failover.mode: expected off, fence, gated or compensate; did you mean `fence`?",
        "s.yaml:19:47: routes[2].failover.attempt_timeout: must be above 0 and no longer than failover.deadline",
        "s.yaml:12:5: routes[0].gateways: failover needs a ledger, so that no crash can charge twice",
        "s.yaml:19:5: routes[2].failover: failover needs a ledger",
        "s.yaml:20:5: routes[2]: unknown field `x-mine`; known here: name, listen",
    ];
    for wanted in wanted {
        assert!(
            found.iter().any(|found| found.starts_with(wanted)),
            "{wanted}\n{found:#?}"
        );
    }
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
}

#[test]
fn an_excerpt_points_at_the_value_and_shows_no_secret() {
    let text = GOOD.replace(
        "api.stripe.com }",
        "api.stripe.com, credentials: { secret_key: sk_live_51Habcdef, secret_kee: 'whsec_9' }, protocl: h1 } # old: sk_live_old",
    );
    let problems = parse(Path::new("s.yaml"), &text).unwrap_err();
    let told: Vec<String> = problems.iter().map(|problem| format!("{problem:#}")).collect();
    let all = told.join("\n");
    for secret in ["sk_live", "51H", "whsec", "old"] {
        assert!(!all.contains(secret), "{all}");
    }
    assert!(
        all.contains("did you mean `secret_key`?") && all.contains("^^^^^^^^^^"),
        "{all}"
    );
    assert!(all.contains("did you mean `protocol`?"), "{all}");
    assert!(
        all.contains("dialect: stripe, endpoint: https://api.stripe.com"),
        "{all}"
    );

    let text = GOOD.replace("[stripe]", "[stripo]");
    let told = format!("{:#}", parse(Path::new("s.yaml"), &text).unwrap_err()[0]);
    assert_eq!(
        told,
        "s.yaml:8:16: routes[0].gateways[0]: there is no gateway `stripo`
 8 |     gateways: [stripo]
   |                ^^^^^^ did you mean `stripe`?"
    );
}

#[test]
fn a_secret_in_a_text_that_is_no_yaml_or_in_a_wrong_place_is_not_told() {
    for text in [
        "gateways:\n  stripe: { credentials: { secret_key: \"sk_live_51Habcdef }\n",
        "gateways:\n  stripe: { secret_key: sk_live_51Habcdef: x }\n",
        "gateways:\n  sk_live_51Habcdef\nroutes: [",
        "gateways:\n  stripe: { credentials: sk_live_51Habcdef }\n",
        "gateways:\n  stripe: { credentials: { sk_live_51Habcdef } }\n",
        "gateways:\n  stripe: { dialect: stripe, endpoint: https://sk_live_51Habcdef@x }\n",
        "gateways: &sk_live_51Habcdef [1]\nroutes: *x\n",
        "sk_live_51Habcdef\n",
        "admin: { token: [sk_live_51Habcdef] }\n",
        "admin: { token: '${sk_live_51Habcdef +}' }\n",
    ] {
        let problems = parse(Path::new("s.yaml"), text).unwrap_err();
        let told: String = problems.iter().map(|problem| format!("{problem:#}\n")).collect();
        assert!(!told.contains("51Habcdef"), "{told}");
        assert!(!format!("{problems:?}").contains("51Habcdef"), "{problems:?}");
    }
}

#[test]
fn a_number_is_text_where_text_is_wanted_and_a_variable_is_what_is_wanted() {
    let text = GOOD.replace("checkout", "1") + "admin: { token: '${PATH}' }\nworkers: ${SENTINEL_TEST_ABSENT:-2}\n";
    let config = parse(Path::new("s.yaml"), &text).unwrap();
    assert_eq!((config.routes[0].name.as_str(), config.workers), ("1", 2));
    let token = config.admin.token.as_ref().map(Secret::expose);
    assert_eq!(token, std::env::var("PATH").ok().as_deref());
}

#[test]
fn what_comes_from_the_environment_is_never_told() {
    // A whole configuration's worth of wrong places for one variable.
    let path = std::env::var("PATH").unwrap();
    let text = "workers: '${PATH}'
listeners: { admin: '${PATH}', shared: ['${PATH}'] }
ledger: { sqlite: '/absent${PATH}/x' }
gateways:
  a: { dialect: '${PATH}', endpoint: x }
  b: { dialect: stripe, endpoint: '${PATH}' }
  c: { dialect: stripe, endpoint: https://x, pins: ['${PATH}'], roots: '${PATH}', pool: { idle: '${PATH}' } }
routes:
  - { name: '${PATH}', dialect: stripe, gateways: ['${PATH}'], listen: { address: 'x', tls: { cert: '${PATH}', key: '${PATH}' } } }
  - { name: '${PATH}', dialect: stripe, gateways: [c], retry: { budget: '${PATH}' } }
admin: { token: { file: '${PATH}' } }
";
    let problems = parse(Path::new("s.yaml"), text).unwrap_err();
    assert!(problems.len() >= 14, "{problems:#?}");
    for problem in &problems {
        assert!(!format!("{problem:#} {problem:?}").contains(&path), "{problem:#}");
    }
}

#[test]
fn a_missing_variable_is_named_and_a_default_is_taken() {
    let found = problems(&GOOD.replace("https://api.stripe.com", "'${SENTINEL_TEST_ABSENT}'"));
    assert!(found[0].contains("no variable SENTINEL_TEST_ABSENT"), "{found:#?}");
    assert!(problems(&GOOD.replace("https://api.stripe.com", "'${SENTINEL_TEST_ABSENT:-https://x}'")).is_empty());
}

#[test]
fn an_empty_field_is_as_good_as_none_and_a_field_of_ones_own_may_hold_anchors() {
    let text = GOOD.replace(
        "    dialect: stripe\n",
        "    dialect: stripe\n    limits:\n    host: ~\n    breaker: *careful\n",
    );
    let text = format!("x-breaker: &careful {{ consecutive: 2 }}\n{text}");
    let config = parse(Path::new("s.yaml"), &text).unwrap();
    assert_eq!(config.routes[0].breaker.consecutive, 2);
    assert_eq!(config.routes[0].host, None);
    assert!(problems(&GOOD.replace("dialect: stripe\n", "dialect:\n"))[0].contains("has no value; expected stripe"));
}

#[test]
fn a_file_that_is_no_text_or_too_large_or_a_device_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.yaml");
    let told = |content: &[u8]| {
        std::fs::write(&file, content).unwrap();
        load(&file).unwrap_err()[0].to_string()
    };
    assert!(told(b"a: 1\nb: \xff\n").ends_with("is not UTF-8 text, from line 2 on"));
    assert!(told(&[b'#'; (1 << 20) + 1]).contains("is larger than"));
    assert!(told(b"").contains("is empty"));
    assert!(
        load(Path::new("/dev/zero")).unwrap_err()[0]
            .to_string()
            .contains("is larger than")
    );
    assert!(load(dir.path()).unwrap_err()[0].to_string().contains("cannot be read"));
    assert!(
        load(Path::new("/absent")).unwrap_err()[0]
            .to_string()
            .contains("cannot be read")
    );
    let deep = problems(&format!("gateways: {}", "[".repeat(50_000)));
    assert!(deep[0].contains("nested"), "{deep:?}");
    let odd = problems("gateways: { 'a.b': x }");
    assert!(
        odd.iter().any(|odd| odd.contains("this name cannot be used")),
        "{odd:?}"
    );
    let many: String = (0..100).map(|n| format!("unknown{n}: 1\n")).collect();
    let many = problems(&many);
    assert_eq!(many.len(), MAX_PROBLEMS + 1);
    assert!(many[MAX_PROBLEMS].contains("more problem(s)"));
}

/// `GOOD` with a second gateway and what failover needs, but for what a test takes away.
fn failing_over() -> String {
    GOOD.replace("api.stripe.com }", "api.stripe.com, credentials: { secret_key: sk_test_x } }\n  adyen: { dialect: adyen, endpoint: https://checkout-test.adyen.com, capture: manual, credentials: { api_key: key, merchant_account: Acme } }")
        .replace("[stripe]", "[stripe, adyen]")
        + "ledger: { sqlite: ledger.db }\n"
}

#[test]
fn several_gateways_fail_over_with_careful_defaults_and_one_gateway_does_not() {
    let config = parse(Path::new("s.yaml"), &failing_over()).unwrap();
    let failover = &config.routes[0].failover;
    assert_eq!(failover.mode, Mode::Fence);
    assert!(!failover.raw_cards && failover.require_certificate && failover.assume_quiescent_after.is_none());
    assert_eq!(
        config.gateways["adyen"].credentials.get("merchant_account"),
        Some("Acme")
    );
    assert_eq!(config.gateways["adyen"].settings["capture"], "manual");
    assert_eq!(config.ledger.unwrap().key_file, Path::new("ledger.db.key"));
    let alone = parse(Path::new("s.yaml"), GOOD).unwrap();
    assert_eq!(alone.routes[0].failover.mode, Mode::Off);
    let off = failing_over().replace("[stripe, adyen]", "[stripe, adyen]\n    failover: { mode: off }");
    assert_eq!(
        parse(Path::new("s.yaml"), &off).unwrap().routes[0].failover.mode,
        Mode::Off
    );
}

#[test]
fn a_disk_that_forgets_is_refused_where_a_payment_rests_on_it() {
    let strict = |text: &str| parse(Path::new("s.yaml"), text).unwrap().ledger.unwrap().strict;
    let forwarding = GOOD.to_owned() + "ledger: { sqlite: ledger.db }\n";
    assert!(strict(&failing_over()) && !strict(&forwarding));
    let said = |text: String, word: &str| text.replace("ledger.db }", &format!("ledger.db, strict: {word} }}"));
    assert!(!strict(&said(failing_over(), "false")) && strict(&said(forwarding, "true")));
    let collecting =
        failing_over().replace("[stripe, adyen]", "[stripe]") + "accounts: { collect: { gateway: adyen } }\n";
    assert!(strict(&collecting));
}

#[test]
fn fees_are_collected_by_a_route_of_their_own_that_no_listener_leads_to() {
    let text = failing_over() + "accounts: { collect: { gateway: adyen } }\n";
    let config = parse(Path::new("s.yaml"), &text).unwrap();
    let fees = config.routes.last().unwrap();
    assert_eq!(
        (fees.name.as_str(), fees.gateways.as_slice()),
        (FEES, ["adyen".to_owned()].as_slice())
    );
    assert!(fees.listen.is_empty() && fees.path_prefix.is_empty());
    assert_eq!(config.data_listeners().len(), 1);
    for (from, to, wanted) in [
        ("gateway: adyen }", "gateway: adien }", "is not a gateway"),
        (
            "name: checkout",
            "name: fees",
            "is the name of what accounts.collect makes",
        ),
        ("ledger: { sqlite: ledger.db }", "", "statements stand in the ledger"),
        (
            ", credentials: { api_key: key, merchant_account: Acme }",
            "",
            "has no credentials, with which Sentinel would charge there",
        ),
    ] {
        let found = problems(&text.replace(from, to));
        assert!(found.iter().any(|found| found.contains(wanted)), "{wanted}\n{found:#?}");
    }
}

#[test]
fn failover_without_what_makes_it_safe_is_refused() {
    for (from, to, wanted) in [
        ("ledger: { sqlite: ledger.db }", "", "failover needs a ledger"),
        (
            ", credentials: { secret_key: sk_test_x }",
            "",
            "add `credentials` with secret_key",
        ),
        ("api_key: key, ", "", "adyen credentials need `api_key`"),
        (
            "api_key: key, merchant_account: Acme",
            "",
            "adyen credentials need `api_key`",
        ),
        (
            "api_key: key, merchant_account: Acme",
            "",
            "adyen credentials need `merchant_account`",
        ),
        ("api_key: key", "api_key: ''", "is empty"),
        (
            "secret_key: sk_test_x",
            "api_key: sk_test_x",
            "the stripe dialect does not read this",
        ),
        (
            "capture: manual",
            "mit_exemption: true",
            "the adyen dialect does not read this",
        ),
        (
            "[stripe, adyen]",
            "[adyen, stripe]",
            "the first gateway must speak the route's dialect",
        ),
        ("[stripe, adyen]", "[stripe, stripe]", "is named twice"),
        (
            "[stripe, adyen]",
            "[stripe]\n    failover: { mode: fence }",
            "failover needs a second gateway",
        ),
        (
            "[stripe, adyen]",
            "[stripe, adyen]\n    failover: { attempt_timeout: 26s }",
            "no longer than failover.deadline",
        ),
        ("capture: manual", "pins: [sha256/x]", "is not a pin"),
        (
            "sqlite: ledger.db",
            "sqlite: /absent/deeper/ledger.db",
            "its directory is not there",
        ),
        (
            "listen: 127.0.0.1:8081",
            "listen: { address: '127.0.0.1:8081', tls: local_ca }",
            "run `sentinel ca`",
        ),
        (
            "listen: 127.0.0.1:8081",
            "listen: 127.0.0.1:9901",
            "is the admin listener",
        ),
        (
            "admin: 127.0.0.1:9901",
            "admin: 127.0.0.1:9901, webhooks: 127.0.0.1:8081",
            "webhooks need one of their own",
        ),
    ] {
        let text = failing_over();
        assert!(text.contains(from), "{from}");
        let found = problems(&text.replace(from, to));
        assert!(found.iter().any(|problem| problem.contains(wanted)), "{to}: {found:#?}");
        assert!(!found.iter().any(|problem| problem.contains("sk_test_x")), "{found:#?}");
    }
}

#[test]
fn a_secret_in_a_file_is_read_without_its_line_end_and_changes_the_hash() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let text = format!("{GOOD}admin: {{ token: {{ file: '{}' }} }}\n", file.display());
    let first = parse(Path::new("s.yaml"), &text).unwrap();
    assert_eq!(first.admin.token.as_ref().map(Secret::expose), Some("s3cret"));
    assert_eq!(first.files, std::slice::from_ref(&file));
    assert!(!format!("{first:?}").contains("s3cret"));
    std::fs::write(&file, "other").unwrap();
    assert_ne!(parse(Path::new("s.yaml"), &text).unwrap().hash, first.hash);
    std::fs::remove_file(&file).unwrap();
    assert!(problems(&text)[0].contains("cannot be read"));
}

#[test]
fn what_would_be_unsafe_or_useless_is_refused() {
    for (from, to, wanted) in [
        ("127.0.0.1:9901", "0.0.0.0:9901", "needs admin.token"),
        ("https://api.stripe.com", "ftp://x", "is not an endpoint"),
        (
            "https://api.stripe.com",
            "https://user:secret@x",
            "must not hold credentials",
        ),
        ("    listen: 127.0.0.1:8081\n", "", "no request can reach this route"),
        (
            "    dialect: stripe",
            "    dialect: adyen",
            "would speak adyen to a gateway that speaks stripe",
        ),
        ("    listen:", "    gateways: [x]\n    listen:", "this key stands twice"),
    ] {
        let found = problems(&GOOD.replace(from, to));
        assert!(found.iter().any(|problem| problem.contains(wanted)), "{to}: {found:#?}");
    }
}

#[test]
fn where_webhooks_go_is_checked_for_what_the_dialect_needs() {
    let with = |notify: &str, webhook: &str, ledger: bool| {
        let ledger = if ledger {
            "ledger: { sqlite: /tmp/ledger.db }\n"
        } else {
            ""
        };
        let text = format!(
            "{ledger}gateways:
  stripe: {{ dialect: stripe, endpoint: 'https://a', credentials: {{ secret_key: sk }} }}
  adyen: {{ dialect: adyen, endpoint: 'https://b', capture: manual, credentials: {{ api_key: k, merchant_account: M }} }}
  paypal: {{ dialect: paypal, endpoint: 'https://c', credentials: {{ client_id: i, client_secret: s }}{webhook} }}
  braintree: {{ dialect: braintree, endpoint: 'https://d', credentials: {{ merchant_id: m, public_key: p, private_key: q }} }}
routes:
  - {{ name: r, listen: 127.0.0.1:8081, {notify} }}
"
        );
        parse(Path::new("s.yaml"), &text)
    };
    let stripe = |notify: &str| format!("dialect: stripe, gateways: [stripe, adyen], notify: {{ {notify} }}");
    let config = with(
        &stripe("url: 'https://shop.example:8443/hooks?a=1', secret: whsec_1"),
        "",
        true,
    )
    .unwrap();
    let notify = config.routes[0].notify.as_ref().unwrap();
    assert_eq!(
        (notify.to.endpoint.host.as_str(), notify.to.endpoint.port),
        ("shop.example", 8443)
    );
    assert_eq!((notify.target.as_str(), notify.to.endpoint.tls), ("/hooks?a=1", true));
    assert_eq!(notify.give_up, std::time::Duration::from_secs(3 * 86_400));
    assert!(!format!("{config:?}").contains("whsec_1"));

    let url = "url: 'http://127.0.0.1:3000/hooks'";
    let adyen =
        |secret: &str| format!("dialect: adyen, gateways: [adyen, stripe], notify: {{ {url}, secret: {secret} }}");
    let paypal = format!("dialect: paypal, gateways: [paypal, stripe], notify: {{ {url}, secret: s }}");
    let braintree =
        |more: &str| format!("dialect: braintree, gateways: [braintree, stripe], notify: {{ {url}{more} }}");
    let alone = format!("dialect: stripe, gateways: [stripe], notify: {{ {url}, secret: s }}");
    for (notify, webhook, wanted) in [
        (stripe(url), "", "needs a `secret`"),
        (stripe("url: 127.0.0.1:3000, secret: s"), "", "is not an address"),
        (
            stripe("url: 'http://user@127.0.0.1/', secret: s"),
            "",
            "is not an address",
        ),
        (
            stripe(&format!("{url}, secret: s, give_up: 8d")),
            "",
            "is out of bounds",
        ),
        (adyen("xyz"), "", "is not a key in hexadecimal"),
        (paypal.clone(), "", "webhook.webhook_id"),
        (
            braintree(", secret: s"),
            "",
            "is not what braintree's applications verify with",
        ),
        (alone, "", "is of no use"),
    ] {
        let problems = with(&notify, webhook, true).unwrap_err();
        assert!(
            problems.iter().any(|problem| problem.message.contains(wanted)),
            "{wanted}: {problems:#?}"
        );
    }
    assert!(with(&paypal, ", webhook: { webhook_id: WH-1 }", true).is_ok());
    assert!(with(&braintree(""), "", true).is_ok());
    assert!(with(&adyen("00ff"), "", true).is_ok());
}

#[test]
fn an_accounts_currencies_are_such_as_its_gateway_takes() {
    let text = |currencies: &str| {
        let razorpay =
            format!("razorpay: {{ dialect: razorpay, endpoint: https://api.razorpay.com, currencies: {currencies} }}");
        GOOD.replace("routes:", &format!("  {razorpay}\nroutes:"))
    };
    let config = parse(Path::new("s.yaml"), &text("[INR, USD]")).unwrap();
    assert_eq!(config.gateways["razorpay"].settings["currencies"], "INR,USD");
    let found = problems(&text("[INR, usd, AFN]"));
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].contains("currencies[1]") && found[0].contains("is not a currency"),
        "{found:#?}"
    );
    assert!(
        found[1].contains("currencies[2]") && found[1].contains("does not take it"),
        "{found:#?}"
    );
    let foreign = GOOD.replace("api.stripe.com }", "api.stripe.com, currencies: [USD] }");
    assert!(problems(&foreign)[0].contains("the stripe dialect does not read this"));
}
