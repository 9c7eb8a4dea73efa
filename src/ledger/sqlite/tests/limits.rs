//! What is refused: at the start, when the queue is full, when the disk is full.

use super::file::LedgerFile;
use super::*;

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

/// A ledger of the third version with what is in one of this version.
fn third_version(from: &Path, to: &Path) {
    let mut connection = rusqlite::Connection::open(to).expect("opens");
    schema::migrate(&mut connection, 0, 3).expect("the third version");
    connection
        .execute("ATTACH ?1 AS new", [from.to_str().expect("a path")])
        .expect("attaches");
    let columns = "n, id, tenant, route, key_hash, fingerprint, fp_version, amount, currency, order_ref, holds_order,
        first_gateway, gateway, state, folded, version, epoch, seq, head, owner, lease_until, deadline, created_at,
        updated_at, terminal, in_doubt, manual, obligations, tombstone, mac";
    let event = "position, payment, seq, version, epoch, at, op_id, kind, payload, erased, hash";
    connection
        .execute_batch(&format!(
            "INSERT INTO meta SELECT * FROM new.meta;
             INSERT INTO payments ({columns}) SELECT {columns} FROM new.payments;
             INSERT INTO events ({event}) SELECT {event} FROM new.events;
             INSERT INTO attempts SELECT a.payment, a.n, 'stripe', 'charge', a.key_hash, a.n IS p.winner, p.created_at
                 FROM new.attempts AS a JOIN new.payments AS p ON p.id = a.payment;
             INSERT INTO ids (scope, id, payment, kind) SELECT scope, id, payment, kind FROM new.ids;
             INSERT INTO sealed SELECT p.id, s.name, s.value FROM new.sealed AS s JOIN new.payments AS p ON p.n = s.n / 64;"
        ))
        .expect("fills");
}

#[tokio::test]
async fn a_ledger_of_the_third_version_keeps_all_it_knew() {
    let (directory, older) = (
        tempfile::tempdir().expect("directory"),
        tempfile::tempdir().expect("directory"),
    );
    let first = ledger(directory.path());
    let (won, position) = opened(&first, opening("k1")).await;
    let (open, still) = opened(&first, opening("k2")).await;
    let winning = Change {
        winner: Winner::Set(2),
        attempts: vec![attempt(2, "k1-2")],
        ..change(won, position, "authorised")
    };
    let position = first.append(winning.clone()).await.expect("appends");
    let known = (first.get(won).await, first.events(won).await, first.events(open).await);
    let named = (first.ids(won).await, first.unseal(won, "buyer".to_owned()).await);
    assert!(
        named.0.as_ref().is_ok_and(|ids| !ids.is_empty()) && named.1 != Ok(None),
        "{named:?}"
    );
    drop(first);
    third_version(&directory.path().join("ledger.db"), &older.path().join("ledger.db"));
    let read = LedgerFile::open(&older.path().join("ledger.db"), keys());
    assert!(matches!(read, Err(StartError::Older { found: 3 })), "{read:?}");

    let ledger = ledger(older.path());
    assert_eq!(ledger.verify().await, Ok(5));
    assert_eq!(
        (
            ledger.get(won).await,
            ledger.events(won).await,
            ledger.events(open).await
        ),
        known
    );
    assert_eq!(
        (ledger.ids(won).await, ledger.unseal(won, "buyer".to_owned()).await),
        named
    );
    assert_eq!(ledger.append(winning).await, Ok(position), "applied already");
    let second = Change {
        winner: Winner::Set(1),
        ..change(won, position, "authorised")
    };
    assert_eq!(ledger.append(second).await, Err(LedgerError::Taken(Constraint::Winner)));
    let again = Open {
        attempts: vec![attempt(1, "k1-2")],
        ..opening("k3")
    };
    assert_eq!(ledger.open(again).await, Err(LedgerError::Taken(Constraint::Attempt)));
    let found = ledger.by_id(app("local"), "pi_k1".to_owned()).await.expect("reads");
    assert_eq!(found.expect("there").0.id, won);
    ledger.append(change(open, still, "observed")).await.expect("goes on");
    assert_eq!(ledger.verify().await, Ok(6));
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
