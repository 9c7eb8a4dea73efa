//! What an operator sees of payments, and can say of one: `sentinel payments` on the real binary.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::support::gateway::Gateway;
use crate::support::merchant::{Merchant, adyen_authorised};
use crate::support::patience::until;
use crate::support::sentinel::{command, free_port};

/// Runs `sentinel payments ...` against a running sidecar.
fn ask(admin: SocketAddr, args: &[&str]) -> (i32, String, String) {
    let admin = admin.to_string();
    let mut all = vec!["payments", args[0], "--admin", &admin];
    all.extend(&args[1..]);
    command(&all, Path::new("/"))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

/// A gateway that reads every request whole and closes without a word.
async fn silent() -> Gateway {
    Gateway::scripted(None, std::sync::Arc::new(|_, _, _| Box::pin(async { None }))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_moved_is_told_attempt_by_attempt_with_its_evidence() {
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let merchant = Merchant::start(free_port(), adyen.address, "");
    let answer = merchant.pay("key-1").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let payment = answer.header("sentinel-payment").unwrap().to_owned();
    let intent = parsed(&answer.text())["id"].as_str().unwrap().to_owned();

    let (code, listed, _) = ask(merchant.admin, &["list", "--moved"]);
    assert_eq!(code, 0);
    for word in [
        payment.as_str(),
        "19.99 EUR",
        "succeeded",
        "stripe -> adyen",
        "checkout",
    ] {
        assert!(listed.contains(word), "{word}: {listed}");
    }
    let (_, none, _) = ask(merchant.admin, &["list", "--in-doubt"]);
    assert_eq!(none, "no payments\n");

    // By its id, the beginning of it, the application's id and the gateway's.
    let (code, shown, _) = ask(merchant.admin, &["show", &payment]);
    assert_eq!(code, 0);
    for word in [
        "Money was taken, once: by attempt 2 at adyen.",
        "the application was told: succeeded, by attempt 2 at adyen",
        "attempt 1 at stripe: not sent",
        "evidence: not one byte was handed over",
        "another gateway may be asked: attempt 1 provably had no effect and never will",
        "the whole request was handed over",
        "QFQTPCQ8HXSKGK82",
        intent.as_str(),
    ] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let (_, whole, _) = ask(merchant.admin, &["show", &payment, "--json"]);
    for name in [&payment[..13], &intent, "QFQTPCQ8HXSKGK82"] {
        let (code, other, _) = ask(merchant.admin, &["show", name, "--json"]);
        assert_eq!((code, other.as_str()), (0, whole.as_str()), "{name}");
    }
    let story = parsed(&whole);
    assert_eq!(story["attempts"][0]["outcome"], "not sent");
    assert_eq!(story["attempts"][1]["winner"], true);
    assert_eq!(story["resolutions"], serde_json::json!([]));
    assert_eq!(story["events"][0]["record"]["record"], "intent_opened");

    // The same from the file: beside the running sidecar, and without it.
    let file = merchant.sentinel.path("ledger.db").display().to_string();
    let beside = command(
        &["payments", "show", &intent, "--ledger", &file, "--json"],
        Path::new("/"),
    );
    assert_eq!(beside, (0, whole.clone(), String::new()));
    let dir = merchant.sentinel.kill();
    let alone = command(
        &["payments", "show", &intent, "--ledger", &file, "--json"],
        Path::new("/"),
    );
    assert_eq!(alone, (0, whole, String::new()));
    let (code, list, _) = command(
        &["payments", "list", "--ledger", &file, "--since", "1h"],
        Path::new("/"),
    );
    assert!(code == 0 && list.contains(&payment), "{list}");
    let (code, _, error) = command(&["payments", "show", "pi_unknown", "--ledger", &file], Path::new("/"));
    assert!(code == 1 && error.contains("knows no payment by that name"), "{error}");
    // Another key opens nothing.
    let other = dir.path().join("other.key");
    std::fs::write(&other, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let other = other.display().to_string();
    let (code, _, error) = command(
        &["payments", "list", "--ledger", &file, "--key-file", &other],
        Path::new("/"),
    );
    assert!(
        code == 1 && error.contains("not the one this ledger was made with"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_resolves_what_no_machine_can_and_the_application_hears_it_under_its_key() {
    let stripe = silent().await;
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let merchant = Merchant::start(stripe.address, adyen.address, "");
    let doubtful = merchant.pay("key-1").await;
    assert_eq!(doubtful.status(), 500, "{}", doubtful.text());
    let payment = doubtful.header("sentinel-payment").unwrap().to_owned();

    let (_, listed, _) = ask(merchant.admin, &["list", "--in-doubt", "--json"]);
    assert_eq!(parsed(&listed)[0]["id"], payment.as_str());
    let (_, shown, _) = ask(merchant.admin, &["show", &payment]);
    for word in [
        "attempt 1 at stripe may have been executed",
        "the whole request was handed over",
        "not one byte came back",
        &format!("sentinel payments resolve {payment} --succeeded 1 --reason"),
        "not --continue: nobody holds it",
    ] {
        assert!(shown.contains(word), "{word}: {shown}");
    }

    let resolve = |more: &[&str]| {
        let mut args = vec!["resolve", payment.as_str(), "--operator", "ann"];
        args.extend(more);
        ask(merchant.admin, &args)
    };
    let seen = "pi_3native is succeeded in the dashboard";
    let (code, _, error) = resolve(&["--succeeded", "1", "--reason", seen]);
    assert!(code == 1 && error.contains("--yes"), "{error}");
    let (code, _, error) = resolve(&["--succeeded", "2", "--reason", seen, "--yes"]);
    assert!(
        code == 1 && error.contains("none of its attempts to take the payment"),
        "{error}"
    );
    let (code, _, error) = resolve(&["--succeeded", "1", "--reason", "card 4242 4242 4242 4242", "--yes"]);
    assert!(code == 1 && error.contains("looks like a card number"), "{error}");
    let (code, _, error) = resolve(&["--succeeded", "1", "--reason", " ", "--yes"]);
    assert!(code == 1 && error.contains("must not be empty"), "{error}");
    let (code, _, _) = resolve(&["--succeeded", "1", "--failed", "--reason", seen, "--yes"]);
    assert_eq!(code, 64);

    let (code, after, error) = resolve(&["--succeeded", "1", "--reason", seen, "--yes", "--json"]);
    assert_eq!(code, 0, "{error}");
    let story = parsed(&after);
    assert_eq!(story["state"], "succeeded");
    assert_eq!(story["finished"], true);
    assert_eq!(story["told"], "succeeded, by attempt 1 at stripe");
    let events = story["events"].as_array().unwrap();
    let said = events.iter().find(|event| event["kind"] == "manual_resolved").unwrap();
    assert_eq!(said["record"]["operator"], "ann");
    assert_eq!(said["record"]["reason"], seen);

    // Said once; nobody says otherwise afterwards.
    for again in [&["--succeeded", "1"][..], &["--failed"]] {
        let (code, _, error) = resolve(&[again, &["--reason", seen, "--yes"]].concat());
        assert!(
            code == 1 && error.contains("a person has resolved it already"),
            "{error}"
        );
    }
    let told = merchant.pay("key-1").await;
    assert_eq!(told.status(), 200, "{}", told.text());
    assert_eq!(parsed(&told.text())["status"], "succeeded");
    assert_eq!(told.header("sentinel-gateway"), Some("stripe"));
    assert_eq!(told.header("idempotent-replayed"), Some("true"));
    assert!(adyen.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_in_doubt_is_given_to_a_person_when_it_is_old() {
    let stripe = silent().await;
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let merchant = Merchant::start(stripe.address, adyen.address, "");
    let doubtful = merchant.pay("key-1").await;
    let payment = doubtful.header("sentinel-payment").unwrap().to_owned();
    let dir = merchant.sentinel.kill();
    let merchant = Merchant::start_in(dir, stripe.address, adyen.address, ", manual_after: 1s");
    let shown = async || {
        let (_, shown, _) = ask(merchant.admin, &["show", &payment]);
        shown
            .contains("two hours before the gateway forgets its key")
            .then_some(shown)
    };
    let shown = until("a person is called", shown).await;
    assert!(
        shown.contains(&format!("sentinel payments resolve {payment} --continue")),
        "{shown}"
    );
    assert!(adyen.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_against_a_proof() {
    let adyen = Gateway::answering(None, |_, request| adyen_authorised(request)).await;
    let merchant = Merchant::start(free_port(), adyen.address, "");
    let answer = merchant.pay("key-1").await;
    let payment = answer.header("sentinel-payment").unwrap().to_owned();
    let (_, before, _) = ask(merchant.admin, &["show", &payment, "--json"]);
    for said in [
        &["--failed"][..],
        &["--succeeded", "1"],
        &["--succeeded", "2"],
        &["--released", "2"],
        &["--continue"],
    ] {
        let args = [
            &[
                "resolve",
                payment.as_str(),
                "--operator",
                "bob",
                "--reason",
                "a guess",
                "--yes",
            ],
            said,
        ]
        .concat();
        let (code, _, error) = ask(merchant.admin, &args);
        assert!(code == 1 && error.contains("nothing was recorded"), "{said:?}: {error}");
    }
    let (_, after, _) = ask(merchant.admin, &["show", &payment, "--json"]);
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_answers_the_file_is_named() {
    let nobody = free_port();
    let (code, _, error) = ask(nobody, &["list"]);
    assert!(code == 1 && error.contains("--ledger"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes.txt");
    std::fs::write(
        &file,
        "this is no ledger, but a text that is long enough to be looked at as a file of one",
    )
    .unwrap();
    std::fs::write(
        dir.path().join("notes.txt.key"),
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    )
    .unwrap();
    std::fs::set_permissions(
        dir.path().join("notes.txt.key"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let file = file.display().to_string();
    let (code, _, error) = command(&["payments", "list", "--ledger", &file], Path::new("/"));
    assert!(code == 1 && error.contains("not a sentinel ledger"), "{error}");
}
