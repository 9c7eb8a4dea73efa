//! Documents that wait for a payment.

use super::*;
use crate::ledger::rows::Awaited;

const SPACE: &str = "orders";

async fn put(ledger: &SqliteLedger, key: &str, until: i64, payment: Awaited) {
    let waiting = Waiting { until, payment };
    let put = ledger.put_waiting(SPACE, key.to_owned(), "{}".to_owned(), None, waiting);
    put.await.expect("puts");
}

async fn left(ledger: &SqliteLedger) -> Vec<String> {
    let documents = ledger.documents(SPACE, String::new(), None, 100).await.expect("lists");
    documents.into_iter().map(|document| document.key).collect()
}

const fn swept(removed: usize, kept: usize) -> Result<Waited, LedgerError> {
    Ok(Waited { removed, kept })
}

#[tokio::test]
async fn what_waited_in_vain_is_removed_and_what_a_payment_names_is_not() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = ledger(directory.path());
    let (paid, position) = opened(&ledger, opening("paid")).await;
    let now = ledger.now();
    put(&ledger, "by its key", now - 3, Awaited::Key(opening("paid").key_hash)).await;
    put(&ledger, "by its id", 0, Awaited::Id(paid)).await;
    put(&ledger, "unpaid", now - 2, Awaited::Key(opening("never").key_hash)).await;
    put(
        &ledger,
        "unpaid for a shorter time",
        now + 60_000,
        Awaited::Key([1; 32]),
    )
    .await;
    put(&ledger, "of nobody", now - 1, Awaited::Id(Uuid::now_v7())).await;
    ledger
        .put_document(SPACE, "for ever".to_owned(), "{}".to_owned(), None)
        .await
        .expect("puts");
    assert_eq!(ledger.sweep_waiting(100).await, swept(2, 2));
    let all = ["by its id", "by its key", "for ever", "unpaid for a shorter time"];
    assert_eq!(left(&ledger).await, all);
    // What is kept is not looked at again at once.
    assert_eq!(ledger.sweep_waiting(100).await, swept(0, 0));

    // Once the payment is a tombstone nobody can be told of it any more.
    let done = Change {
        terminal: true,
        ..change(paid, position, "succeeded")
    };
    ledger.append(done).await.expect("appends");
    let everything = Retention {
        before: i64::MAX,
        limit: 100,
    };
    assert_eq!(ledger.sweep(everything).await, Ok(Swept { sealed: 1, payments: 1 }));
    put(&ledger, "by its key", now - 1, Awaited::Key(opening("paid").key_hash)).await;
    put(&ledger, "by its id", 0, Awaited::Id(paid)).await;
    assert_eq!(ledger.sweep_waiting(100).await, swept(2, 0));
    assert_eq!(left(&ledger).await, ["for ever", "unpaid for a shorter time"]);
    assert_eq!(ledger.verify().await, Ok(3));
}

#[tokio::test]
async fn no_sweep_looks_at_more_than_its_portion_and_the_oldest_go_first() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = ledger(directory.path());
    let (paid, _) = opened(&ledger, opening("paid")).await;
    for age in 0..10 {
        let payment = match age % 3 {
            0 => Awaited::Id(paid),
            _ => Awaited::Id(Uuid::now_v7()),
        };
        put(&ledger, &format!("{age}"), 9 - age, payment).await;
    }
    assert_eq!(ledger.sweep_waiting(4).await, swept(2, 2));
    assert_eq!(left(&ledger).await, ["0", "1", "2", "3", "4", "5", "6", "9"]);
    assert_eq!(ledger.sweep_waiting(4).await, swept(3, 1));
    assert_eq!(ledger.sweep_waiting(4).await, swept(1, 1));
    assert_eq!(ledger.sweep_waiting(4).await, swept(0, 0));
    assert_eq!(left(&ledger).await, ["0", "3", "6", "9"]);
}

#[tokio::test]
async fn what_an_older_program_wrote_waits_for_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    let mut connection = rusqlite::Connection::open(directory.path().join("ledger.db")).expect("opens");
    schema::migrate(&mut connection, 0, 5).expect("the fifth version");
    let sealed = keys().seal(&document_place(SPACE, "old"), b"{}").expect("seals");
    connection
        .execute(
            "INSERT INTO documents (space, key, version, updated_at, value) VALUES (?1, 'old', 1, 1, ?2)",
            rusqlite::params![SPACE, sealed],
        )
        .expect("writes");
    drop(connection);
    let ledger = ledger(directory.path());
    assert_eq!(ledger.sweep_waiting(100).await, swept(0, 0));
    assert_eq!(left(&ledger).await, ["old"]);
}
