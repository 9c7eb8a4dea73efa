//! The embedded ledger on real files.

mod damage;

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::ledger::Constraint;
use crate::ledger::rows::{NewAttempt, NewEvent, Winner};

fn keys() -> Keys {
    Keys::new(&[7; 32])
}

/// Test directories may lie on an overlay or tmpfs.
fn options(directory: &Path) -> Options {
    Options {
        strict: false,
        reserve: 0,
        ..Options::new(directory.join("ledger.db"))
    }
}

fn ledger(directory: &Path) -> SqliteLedger {
    SqliteLedger::open(&options(directory), keys()).expect("ledger starts")
}

fn event(kind: &str) -> NewEvent {
    NewEvent {
        kind: kind.to_owned(),
        payload: format!("{{\"what\":\"{kind}\"}}"),
    }
}

fn attempt(n: u32, key: &str) -> NewAttempt {
    NewAttempt {
        n,
        gateway: "stripe".to_owned(),
        leg: "charge".to_owned(),
        gateway_key: key.to_owned(),
    }
}

fn app(tenant: &str) -> Scope {
    Scope::Application {
        tenant: tenant.to_owned(),
        dialect: "stripe".to_owned(),
    }
}

fn opening(key: &str) -> Open {
    Open {
        payment: Uuid::now_v7(),
        op_id: Uuid::now_v7(),
        tenant: "local".to_owned(),
        route: "checkout".to_owned(),
        key_hash: keys().hash(crate::ledger::keys::Purpose::IdempotencyKey, &[key.as_bytes()]),
        fingerprint: [3; 32],
        fp_version: 1,
        amount: Some(2000),
        currency: Some("USD".to_owned()),
        gateway: "stripe".to_owned(),
        deadline: 10,
        lease_ms: 60_000,
        state: "trying".to_owned(),
        folded: "{\"n\":1}".to_owned(),
        events: vec![event("intent_opened"), event("attempt_planned")],
        attempts: vec![attempt(1, key)],
        ids: vec![Id {
            scope: app("local"),
            id: format!("pi_{key}"),
            kind: "payment".to_owned(),
        }],
        seal: vec![Sealed {
            name: "buyer".to_owned(),
            value: b"jane@example.com".to_vec(),
        }],
        ..Open::default()
    }
}

fn change(payment: Uuid, position: Position, kind: &str) -> Change {
    Change {
        payment,
        op_id: Uuid::now_v7(),
        version: position.version,
        epoch: position.epoch,
        state: kind.to_owned(),
        folded: format!("{{\"state\":\"{kind}\"}}"),
        gateway: "stripe".to_owned(),
        holds_order: true,
        events: vec![event(kind)],
        ..Change::default()
    }
}

async fn opened(ledger: &SqliteLedger, open: Open) -> (Uuid, Position) {
    let id = open.payment;
    match ledger.open(open).await.expect("opens") {
        Opened::New(position) => (id, position),
        other => panic!("not new: {other:?}"),
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let directory = tempfile::tempdir().expect("directory");
    let first = ledger(directory.path());
    let (id, position) = opened(&first, opening("k1")).await;
    assert_eq!(
        position,
        Position {
            version: 1,
            epoch: 1,
            seq: 2
        }
    );
    let succeeded = Change {
        terminal: true,
        gateway: "adyen".to_owned(),
        attempts: vec![attempt(2, "k1-2")],
        winner: Winner::Set(2),
        seal: vec![Sealed {
            name: "response".to_owned(),
            value: b"{\"id\":1}".to_vec(),
        }],
        ..change(id, position, "succeeded")
    };
    let position = first.append(succeeded).await.expect("appends");
    assert_eq!(
        position,
        Position {
            version: 2,
            epoch: 1,
            seq: 3
        }
    );
    let before = first.get(id).await.expect("reads");
    drop(first);
    let second = ledger(directory.path());
    let payment = second.get(id).await.expect("reads").expect("there");
    assert_eq!(Some(&payment), before.as_ref());
    assert_eq!(
        (payment.state.as_str(), payment.gateway.as_str()),
        ("succeeded", "adyen")
    );
    assert_eq!(payment.first_gateway, "stripe");
    let kinds: Vec<String> = second
        .events(id)
        .await
        .expect("events")
        .into_iter()
        .map(|event| event.kind)
        .collect();
    assert_eq!(kinds, ["intent_opened", "attempt_planned", "succeeded"]);
    let winners: Vec<bool> = second
        .attempts(id)
        .await
        .expect("attempts")
        .iter()
        .map(|attempt| attempt.winner)
        .collect();
    assert_eq!(winners, [false, true]);
    assert_eq!(
        second.unseal(id, "response".to_owned()).await,
        Ok(Some(b"{\"id\":1}".to_vec()))
    );
    assert_eq!(
        second.unseal(id, "buyer".to_owned()).await,
        Ok(Some(b"jane@example.com".to_vec()))
    );
    assert_eq!(second.verify().await, Ok(3));
    let found = second
        .by_id(app("local"), "pi_k1".to_owned())
        .await
        .expect("reads")
        .expect("there");
    assert_eq!((found.0.id, found.1.as_str()), (id, "payment"));
    assert_eq!(
        second.by_id(app("other"), "pi_k1".to_owned()).await,
        Ok(None),
        "another tenant's id does not exist"
    );
    assert_eq!(second.ids(id).await.map(|ids| ids.len()), Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_twins_one_is_new() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = Arc::new(ledger(directory.path()));
    let twins: Vec<_> = (0..100)
        .map(|_| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move { ledger.open(opening("same")).await.expect("answers") })
        })
        .collect();
    let mut news = 0;
    let mut ids = std::collections::HashSet::new();
    for twin in twins {
        match twin.await.expect("runs") {
            Opened::New(_) => news += 1,
            Opened::Existing(payment) => {
                ids.insert(payment.id);
            }
            Opened::OrderTaken(_) => panic!("no order guard here"),
        }
    }
    assert_eq!((news, ids.len()), (1, 1));
    assert_eq!(ledger.verify().await, Ok(2));
}

#[tokio::test]
async fn a_refused_change_leaves_its_batch_alone() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = ledger(directory.path());
    let (id, position) = opened(&ledger, opening("k1")).await;
    // All are queued before the first is awaited, so they share transactions.
    let good = ledger.append(change(id, position, "good"));
    let stale = ledger.append(change(id, position, "stale"));
    let other = ledger.open(opening("k2"));
    let taken = ledger.open(Open {
        attempts: vec![attempt(1, "k1")],
        ..opening("k3")
    });
    let last = ledger.open(opening("k4"));
    assert_eq!(good.await.map(|position| position.version), Ok(2));
    assert_eq!(stale.await, Err(LedgerError::Conflict { version: 2, epoch: 1 }));
    assert!(matches!(other.await, Ok(Opened::New(_))));
    assert_eq!(taken.await, Err(LedgerError::Taken(Constraint::Attempt)));
    assert!(matches!(last.await, Ok(Opened::New(_))));
    assert_eq!(
        ledger.by_key(opening("k3").key_hash).await,
        Ok(None),
        "nothing of a refused change stands"
    );
    assert_eq!(ledger.verify().await, Ok(7));
}

#[tokio::test]
async fn an_operation_is_applied_once() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = ledger(directory.path());
    let open = opening("k1");
    let (id, position) = opened(&ledger, open.clone()).await;
    assert_eq!(
        ledger.open(open).await,
        Ok(Opened::New(position)),
        "the same operation again"
    );
    let append = change(id, position, "observed");
    let once = ledger.append(append.clone()).await.expect("appends");
    ledger.append(change(id, once, "more")).await.expect("appends");
    assert_eq!(
        ledger.append(append.clone()).await,
        Ok(once),
        "answers as the first time, although it has moved on"
    );
    assert_eq!(ledger.events(id).await.map(|events| events.len()), Ok(4));
    let (other, at) = opened(&ledger, opening("k2")).await;
    let foreign = Change {
        op_id: append.op_id,
        ..change(other, at, "observed")
    };
    assert!(matches!(ledger.append(foreign).await, Err(LedgerError::Invalid(_))));
}

#[tokio::test]
async fn a_payment_has_one_winner_and_a_revoked_one_frees_the_place() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = ledger(directory.path());
    let (id, position) = opened(&ledger, opening("k1")).await;
    let won = Change {
        winner: Winner::Set(1),
        attempts: vec![attempt(2, "b")],
        ..change(id, position, "authd")
    };
    let position = ledger.append(won).await.expect("wins");
    let second = Change {
        winner: Winner::Set(2),
        ..change(id, position, "authd")
    };
    assert_eq!(
        ledger.append(second.clone()).await,
        Err(LedgerError::Taken(Constraint::Winner))
    );
    let missing = Change {
        winner: Winner::Set(9),
        ..change(id, position, "authd")
    };
    assert!(matches!(ledger.append(missing).await, Err(LedgerError::Invalid(_))));
    let revoked = Change {
        winner: Winner::Revoke,
        ..change(id, position, "winner_revoked")
    };
    let position = ledger.append(revoked).await.expect("revokes");
    let second = Change {
        version: position.version,
        ..second
    };
    ledger.append(second).await.expect("wins");
}

#[tokio::test]
async fn the_order_guard_allows_one_live_payment_and_a_failed_one_frees_it() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = ledger(directory.path());
    let guarded = |key: &str| Open {
        order_ref_hash: Some([9; 32]),
        order_guard: true,
        ..opening(key)
    };
    let (id, position) = opened(&ledger, guarded("k1")).await;
    assert_eq!(ledger.open(guarded("k2")).await, Ok(Opened::OrderTaken(id)));
    let elsewhere = Open {
        tenant: "acme".to_owned(),
        ids: vec![],
        ..guarded("k3")
    };
    assert!(
        matches!(ledger.open(elsewhere).await, Ok(Opened::New(_))),
        "another tenant's orders are its own"
    );
    let unguarded = Open {
        order_guard: false,
        ..guarded("k4")
    };
    let (other, at) = opened(&ledger, unguarded).await;
    let grab = ledger.append(change(other, at, "trying")).await;
    assert_eq!(
        grab,
        Err(LedgerError::Taken(Constraint::Order)),
        "it cannot take the order later either"
    );
    let failed = Change {
        holds_order: false,
        terminal: true,
        ..change(id, position, "failed")
    };
    ledger.append(failed).await.expect("fails");
    assert!(matches!(ledger.open(guarded("k5")).await, Ok(Opened::New(_))));
}

#[tokio::test]
async fn an_id_belongs_to_one_payment() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = ledger(directory.path());
    let (id, position) = opened(&ledger, opening("k1")).await;
    let name = |payment, position| Change {
        ids: vec![Id {
            scope: Scope::Gateway {
                name: "adyen".to_owned(),
            },
            id: "PSP1".to_owned(),
            kind: "payment".to_owned(),
        }],
        ..change(payment, position, "observed")
    };
    let position = ledger.append(name(id, position)).await.expect("names");
    ledger.append(name(id, position)).await.expect("the same again");
    let (other, at) = opened(&ledger, opening("k2")).await;
    assert_eq!(
        ledger.append(name(other, at)).await,
        Err(LedgerError::Taken(Constraint::Id))
    );
}

#[tokio::test]
async fn leases_change_hands_only_when_they_ran_out_or_their_owner_is_dead() {
    let directory = tempfile::tempdir().expect("directory");
    let first = ledger(directory.path());
    let (id, position) = opened(&first, opening("k1")).await;
    assert_eq!(first.take_lease(id, 1000).await, Ok(None), "it is being worked on");
    assert_eq!(first.renew_lease(id, position.epoch, 1000).await, Ok(true));
    let (expired, _) = opened(
        &first,
        Open {
            lease_ms: -1,
            ..opening("k2")
        },
    )
    .await;
    let taken = first.take_lease(expired, 1000).await.expect("answers").expect("taken");
    assert_eq!(taken.position.epoch, 2);
    drop(first);
    let second = ledger(directory.path());
    let taken = second
        .take_lease(id, 60_000)
        .await
        .expect("answers")
        .expect("its owner is dead");
    assert_eq!((taken.owner, taken.position.epoch), (second.owner(), 2));
    assert_eq!(
        second.renew_lease(id, position.epoch, 1000).await,
        Ok(false),
        "the old epoch is lost"
    );
    let stale = second.append(change(id, position, "observed")).await;
    assert_eq!(stale, Err(LedgerError::Conflict { version: 2, epoch: 2 }));
    let kinds: Vec<String> = second
        .events(id)
        .await
        .expect("events")
        .into_iter()
        .map(|event| event.kind)
        .collect();
    assert_eq!(kinds.last().map(String::as_str), Some(apply::LEASE_TAKEN));
}

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
    let beginning = ids[0].to_string()[..8].to_owned();
    assert_eq!(
        list(Filter {
            text: Some(beginning),
            ..Filter::default()
        })
        .await
        .len(),
        6,
        "made in one minute"
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
    let nothing = Retention {
        sealed_before: 0,
        bodies_before: 0,
        limit: 100,
    };
    assert_eq!(ledger.sweep(nothing).await, Ok(Swept::default()));
    let later = ledger.now() + 1;
    let sealed = Retention {
        sealed_before: later,
        bodies_before: 0,
        limit: 100,
    };
    assert_eq!(ledger.sweep(sealed).await, Ok(Swept { sealed: 1, payments: 0 }));
    assert_eq!(ledger.unseal(done, "buyer".to_owned()).await, Ok(None));
    let all = Retention {
        sealed_before: later,
        bodies_before: later,
        limit: 100,
    };
    assert_eq!(ledger.sweep(all).await, Ok(Swept { sealed: 0, payments: 1 }));
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

#[test]
fn a_second_process_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let first = ledger(directory.path());
    let second = SqliteLedger::open(&options(directory.path()), keys());
    let holder = std::process::id().to_string();
    assert!(matches!(second, Err(StartError::InUse { holder: found, .. }) if found == holder));
    drop(first);
    ledger(directory.path());
}

#[test]
fn a_wrong_key_a_newer_schema_and_a_foreign_file_are_refused() {
    let directory = tempfile::tempdir().expect("directory");
    drop(ledger(directory.path()));
    let wrong = SqliteLedger::open(&options(directory.path()), Keys::new(&[8; 32]));
    assert!(matches!(wrong, Err(StartError::WrongKey)));
    let file = directory.path().join("ledger.db");
    let connection = rusqlite::Connection::open(&file).expect("opens");
    connection
        .pragma_update(None, "user_version", schema::VERSION + 1)
        .expect("sets");
    drop(connection);
    let newer = SqliteLedger::open(&options(directory.path()), keys());
    assert!(matches!(newer, Err(StartError::Newer { .. })));
    assert!(newer.expect_err("refused").to_string().contains("newer sentinel"));
    let elsewhere = tempfile::tempdir().expect("directory");
    let connection = rusqlite::Connection::open(elsewhere.path().join("ledger.db")).expect("opens");
    connection.execute_batch("CREATE TABLE mine (a)").expect("creates");
    drop(connection);
    let foreign = SqliteLedger::open(&options(elsewhere.path()), keys());
    assert!(matches!(foreign, Err(StartError::NotALedger)));
    std::fs::write(elsewhere.path().join("ledger.db"), vec![b'x'; 8192]).expect("writes");
    assert!(matches!(
        SqliteLedger::open(&options(elsewhere.path()), keys()),
        Err(StartError::NotALedger)
    ));
}

#[tokio::test]
async fn an_older_ledger_is_brought_up_step_by_step() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ledger.db");
    let mut connection = rusqlite::Connection::open(&path).expect("opens");
    schema::migrate(&mut connection, 0, 1).expect("the first version");
    drop(connection);
    let ledger = ledger(directory.path());
    opened(&ledger, opening("k1")).await;
    assert_eq!(
        ledger
            .put_document("accounts", "a".to_owned(), "{}".to_owned(), None)
            .await,
        Ok(1)
    );
}

#[test]
fn file_systems_that_forget_are_refused_in_strict_mode() {
    let shm = Path::new("/dev/shm/ledger.db");
    if !shm.parent().is_some_and(Path::is_dir) {
        println!("skipped: no tmpfs here");
        return;
    }
    assert!(matches!(
        start::check_file_system(shm),
        Err(StartError::FileSystem { kind: "tmpfs", .. })
    ));
    let missing = Options::new("/nonexistent/ledger.db");
    assert!(matches!(
        SqliteLedger::open(&missing, keys()),
        Err(StartError::Io { .. })
    ));
}

#[tokio::test]
async fn a_full_queue_is_busy_at_once() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = SqliteLedger::open(
        &Options {
            queue: 2,
            ..options(directory.path())
        },
        keys(),
    )
    .expect("starts");
    let waiting: Vec<_> = (0..2000).map(|n| ledger.open(opening(&format!("k{n}")))).collect();
    let (mut news, mut busy) = (0, 0);
    for answer in waiting {
        match answer.await {
            Ok(Opened::New(_)) => news += 1,
            Err(LedgerError::Busy) => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(news >= 2 && busy > 0, "{news} new, {busy} busy");
    assert_eq!(ledger.verify().await, Ok(news * 2), "exactly what was acknowledged");
}

#[tokio::test]
async fn a_full_disk_refuses_new_payments_and_recovers_when_space_returns() {
    let directory = tempfile::tempdir().expect("directory");
    let limited = Options {
        max_pages: Some(120),
        ..options(directory.path())
    };
    let ledger = SqliteLedger::open(&limited, keys()).expect("starts");
    let (first, position) = opened(&ledger, opening("first")).await;
    let mut news = 1;
    let mut refused = false;
    for n in 0..2000 {
        match ledger.open(opening(&format!("k{n}"))).await {
            Ok(Opened::New(_)) => news += 1,
            Err(LedgerError::Full) => refused = true,
            other => panic!("{other:?}"),
        }
        if refused {
            break;
        }
    }
    assert!(refused && ledger.health().full && !ledger.health().fatal);
    assert_eq!(ledger.open(opening("another")).await, Err(LedgerError::Full));
    assert!(
        matches!(ledger.open(opening("first")).await, Ok(Opened::Existing(_))),
        "twins are still answered"
    );
    assert_eq!(ledger.verify().await, Ok(news * 2));
    // Something small still fits, or is refused as full: never anything else.
    let small = ledger.append(change(first, position, "observed")).await;
    assert!(matches!(small, Ok(_) | Err(LedgerError::Full)), "{small:?}");
    drop(ledger);
    let ledger = SqliteLedger::open(&options(directory.path()), keys()).expect("starts");
    opened(&ledger, opening("another")).await;
}

#[tokio::test]
async fn too_little_free_space_refuses_new_payments_only() {
    let directory = tempfile::tempdir().expect("directory");
    let open = ledger(directory.path());
    let (id, position) = opened(&open, opening("k1")).await;
    drop(open);
    let starved = Options {
        reserve: u64::MAX,
        ..options(directory.path())
    };
    let ledger = SqliteLedger::open(&starved, keys()).expect("starts");
    assert_eq!(ledger.open(opening("k2")).await, Err(LedgerError::Full));
    ledger
        .append(change(id, position, "observed"))
        .await
        .expect("an open payment goes on");
}

#[tokio::test]
async fn the_clock_never_runs_behind_what_was_recorded() {
    let directory = tempfile::tempdir().expect("directory");
    let first = ledger(directory.path());
    opened(&first, opening("k1")).await;
    let recorded = first.now();
    first.gauges.tick(recorded + 3_600_000);
    opened(&first, opening("k2")).await;
    drop(first);
    assert!(
        ledger(directory.path()).now() >= recorded + 3_600_000,
        "although the wall clock says less"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_are_committed_in_groups() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = Arc::new(ledger(directory.path()));
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move {
                for n in 0..20 {
                    let (id, position) = opened(&ledger, opening(&format!("{task}/{n}"))).await;
                    ledger.append(change(id, position, "observed")).await.expect("appends");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("runs");
    }
    assert_eq!(ledger.verify().await, Ok(64 * 20 * 3));
    let commits = ledger.health().commits;
    assert!(commits < 64 * 20 * 2 / 2, "{commits} commits for 2560 changes");
}
