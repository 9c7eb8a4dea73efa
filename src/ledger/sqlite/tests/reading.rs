//! What can be found, for how long, and what cannot be read in the file.

use super::*;

#[tokio::test]
async fn recovery_sees_obligations_first_and_pages_through_the_rest() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = ledger(directory.path());
    let mut ids = Vec::new();
    for n in 0..7 {
        let (id, position) = opened(&ledger, opening(&format!("k{n}"))).await;
        ids.push(id);
        let (terminal, obligations) = [(true, 0), (false, 0), (true, 1)][n % 3];
        let changed = Change {
            terminal,
            obligations,
            ..change(id, position, "changed")
        };
        ledger.append(changed).await.expect("appends");
    }
    let expected = [ids[2], ids[5], ids[1], ids[4]];
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = ledger.unfinished(after, 2).await.expect("reads");
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page.iter().map(|payment| payment.id));
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn lists_filter_search_and_page_newest_first() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = ledger(directory.path());
    let mut ids = Vec::new();
    for n in 0..6 {
        let currency = Some(if n % 2 == 0 { "USD" } else { "EUR" }.to_owned());
        let (id, position) = opened(
            &ledger,
            Open {
                currency,
                ..opening(&format!("k{n}"))
            },
        )
        .await;
        let gateway = if n < 2 { "adyen" } else { "stripe" }.to_owned();
        let moved = Change {
            gateway,
            in_doubt: n == 3,
            manual: n == 4,
            ..change(id, position, "changed")
        };
        ledger.append(moved).await.expect("appends");
        ids.push(id);
    }
    let list = async |filter: Filter| -> Vec<usize> {
        let found = ledger.list(filter).await.expect("lists");
        found
            .iter()
            .map(|payment| ids.iter().position(|id| *id == payment.id).expect("known"))
            .collect()
    };
    assert_eq!(list(Filter::default()).await, [5, 4, 3, 2, 1, 0]);
    assert_eq!(
        list(Filter {
            limit: 2,
            ..Filter::default()
        })
        .await,
        [5, 4]
    );
    assert_eq!(
        list(Filter {
            limit: 2,
            before: Some(ids[4]),
            ..Filter::default()
        })
        .await,
        [3, 2]
    );
    assert_eq!(
        list(Filter {
            currency: Some("EUR".to_owned()),
            ..Filter::default()
        })
        .await,
        [5, 3, 1]
    );
    assert_eq!(
        list(Filter {
            gateway: Some("adyen".to_owned()),
            ..Filter::default()
        })
        .await,
        [1, 0]
    );
    assert_eq!(
        list(Filter {
            gateway: Some("stripe".to_owned()),
            ..Filter::default()
        })
        .await
        .len(),
        6
    );
    assert_eq!(
        list(Filter {
            moved: true,
            ..Filter::default()
        })
        .await,
        [1, 0]
    );
    assert_eq!(
        list(Filter {
            in_doubt: true,
            ..Filter::default()
        })
        .await,
        [3]
    );
    assert_eq!(
        list(Filter {
            manual: true,
            ..Filter::default()
        })
        .await,
        [4]
    );
    assert_eq!(
        list(Filter {
            owing: true,
            ..Filter::default()
        })
        .await,
        [0; 0]
    );
    assert_eq!(
        list(Filter {
            text: Some("pi_k2".to_owned()),
            ..Filter::default()
        })
        .await,
        [2]
    );
    assert_eq!(
        list(Filter {
            text: Some(ids[1].to_string()),
            ..Filter::default()
        })
        .await,
        [1]
    );
    // The beginning of an id is a minute of time, and all of them are of the same one or of two.
    let beginning = ids[0].to_string()[..8].to_owned();
    let alike = ids.iter().filter(|id| id.to_string().starts_with(&beginning)).count();
    assert_eq!(
        list(Filter {
            text: Some(beginning),
            ..Filter::default()
        })
        .await
        .len(),
        alike
    );
    assert_eq!(
        list(Filter {
            text: Some("' OR 1=1 --".to_owned()),
            ..Filter::default()
        })
        .await,
        [0; 0]
    );
    assert_eq!(
        list(Filter {
            tenant: Some("acme".to_owned()),
            ..Filter::default()
        })
        .await,
        [0; 0]
    );
    assert_eq!(
        list(Filter {
            created_to: Some(0),
            ..Filter::default()
        })
        .await,
        [0; 0]
    );
    let feed = ledger.events_after(3, 4).await.expect("feed");
    assert_eq!(
        feed.iter().map(|event| event.position).collect::<Vec<_>>(),
        [4, 5, 6, 7]
    );
}

#[tokio::test]
async fn a_sweep_erases_bodies_and_keeps_keys_and_chains() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = ledger(directory.path());
    let (done, position) = opened(&ledger, opening("done")).await;
    ledger
        .append(Change {
            terminal: true,
            ..change(done, position, "succeeded")
        })
        .await
        .expect("appends");
    let (owing, position) = opened(&ledger, opening("owing")).await;
    let owes = Change {
        terminal: true,
        obligations: 1,
        ..change(owing, position, "succeeded")
    };
    ledger.append(owes).await.expect("appends");
    let (open, _) = opened(&ledger, opening("open")).await;
    let nothing = Retention { before: 0, limit: 100 };
    assert_eq!(ledger.sweep(nothing).await, Ok(Swept::default()));
    let later = ledger.now() + 1;
    let all = Retention {
        before: later,
        limit: 100,
    };
    assert_eq!(ledger.sweep(all).await, Ok(Swept { sealed: 1, payments: 1 }));
    assert_eq!(ledger.unseal(done, "buyer".to_owned()).await, Ok(None));
    assert_eq!(ledger.sweep(all).await, Ok(Swept::default()));
    let payment = ledger.get(done).await.expect("reads").expect("a tombstone");
    assert!(payment.tombstone && payment.folded.is_empty() && payment.state == "succeeded");
    assert!(matches!(ledger.open(opening("done")).await, Ok(Opened::Existing(found)) if found.id == done));
    assert!(
        ledger
            .events(done)
            .await
            .expect("verifies")
            .iter()
            .all(|event| event.payload.is_empty())
    );
    for id in [owing, open] {
        assert!(!ledger.get(id).await.expect("reads").expect("there").tombstone);
        assert!(ledger.unseal(id, "buyer".to_owned()).await.expect("reads").is_some());
    }
    assert_eq!(ledger.verify().await, Ok(8));
}

#[tokio::test]
async fn documents_are_sealed_and_compare_versions() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = ledger(directory.path());
    let put = async |key: &str, value: &str, expected| {
        ledger
            .put_document("accounts", key.to_owned(), value.to_owned(), expected)
            .await
    };
    assert_eq!(put("a/1", "SECRETVALUE", Some(0)).await, Ok(1));
    assert_eq!(
        put("a/1", "x", Some(0)).await,
        Err(LedgerError::Taken(Constraint::Document))
    );
    assert_eq!(put("a/1", "second", Some(1)).await, Ok(2));
    assert_eq!(put("a/2", "SECRETVALUE", None).await, Ok(1));
    assert_eq!(put("b/1", "other", None).await, Ok(1));
    let read = ledger
        .document("accounts", "a/1".to_owned())
        .await
        .expect("reads")
        .expect("there");
    assert_eq!((read.value.as_str(), read.version), ("second", 2));
    assert_eq!(ledger.document("elsewhere", "a/1".to_owned()).await, Ok(None));
    let keys = |documents: Vec<Document>| documents.into_iter().map(|document| document.key).collect::<Vec<_>>();
    let page = async |after: Option<&str>, limit| {
        keys(
            ledger
                .documents("accounts", "a/".to_owned(), after.map(str::to_owned), limit)
                .await
                .expect("lists"),
        )
    };
    assert_eq!(page(None, 9).await, ["a/1", "a/2"]);
    assert_eq!(page(Some("a/1"), 9).await, ["a/2"]);
    assert_eq!(ledger.delete_document("accounts", "b/1".to_owned()).await, Ok(true));
    assert_eq!(ledger.delete_document("accounts", "b/1".to_owned()).await, Ok(false));
    drop(ledger);
    let file = std::fs::read(directory.path().join("ledger.db")).expect("file");
    assert!(!file.windows(11).any(|window| window == b"SECRETVALUE"), "sealed");
}

#[tokio::test]
async fn secrets_and_keys_of_applications_are_not_in_the_file() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = ledger(directory.path());
    opened(
        &ledger,
        Open {
            ids: vec![],
            ..opening("jane.doe@example.org")
        },
    )
    .await;
    let mut files = vec![
        directory.path().join("ledger.db"),
        directory.path().join("ledger.db-wal"),
    ];
    let in_use: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("file")).collect();
    drop(ledger);
    files.truncate(1);
    for bytes in in_use.iter().chain(&[std::fs::read(&files[0]).expect("file")]) {
        for secret in ["jane.doe@example.org", "jane@example.com"] {
            assert!(
                !bytes.windows(secret.len()).any(|window| window == secret.as_bytes()),
                "{secret}"
            );
        }
    }
    let mode = std::fs::metadata(&files[0]).expect("file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_payment_lists_every_id_that_leads_to_it_once() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = ledger(directory.path());
    let (id, position) = opened(&ledger, opening("k1")).await;
    let named = |scope: Scope, id: &str, kind: &str| Id {
        scope,
        id: id.to_owned(),
        kind: kind.to_owned(),
    };
    let stripe = Scope::Gateway {
        name: "stripe".to_owned(),
    };
    let learned = Change {
        ids: vec![
            named(app("local"), "pi_k1", "payment"),
            named(app("local"), "ch_k1", "charge"),
            named(stripe.clone(), "pi_k1", "payment"),
        ],
        ..change(id, position, "observed")
    };
    let position = ledger.append(learned).await.expect("appends");
    let several = (0..6).map(|n| named(stripe.clone(), &format!("re_{n}"), "refund"));
    let more = Change {
        ids: several.collect(),
        ..change(id, position, "observed")
    };
    ledger.append(more).await.expect("appends");
    let (other, _) = opened(&ledger, opening("k2")).await;
    let ids = ledger.ids(id).await.expect("reads");
    assert_eq!(ids.len(), 9, "{ids:?}");
    assert_eq!(ids[0], named(app("local"), "ch_k1", "charge"));
    assert_eq!(ids[1], named(app("local"), "pi_k1", "payment"));
    assert_eq!(ledger.ids(other).await.map(|ids| ids.len()), Ok(1));
    assert_eq!(ledger.ids(Uuid::now_v7()).await, Ok(Vec::new()));
}
