//! Disks that lie and processes that die: an exact prefix of what was acknowledged, or a refusal; never anything else.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

/// A ledger with some payments, closed, and its events as they were.
async fn filled(directory: &Path, payments: usize) -> Vec<Event> {
    let ledger = ledger(directory);
    for n in 0..payments {
        let (id, position) = opened(&ledger, opening(&format!("k{n}"))).await;
        ledger.append(change(id, position, "observed")).await.expect("appends");
    }
    ledger.events_after(0, usize::MAX).await.expect("events")
}

fn tampered(directory: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(directory.join("ledger.db")).expect("opens");
    let changed = connection.execute(sql, []).expect("tampers");
    assert!(changed > 0, "{sql}");
}

#[tokio::test]
async fn tampering_with_any_column_is_found() {
    for sql in [
        "UPDATE events SET payload = replace(payload, 'observed', 'observee') WHERE position = 3",
        "UPDATE events SET kind = 'declined' WHERE position = 3",
        "UPDATE events SET at = at + 1 WHERE position = 2",
        "UPDATE events SET version = version + 1 WHERE position = 2",
        "UPDATE events SET epoch = epoch + 1 WHERE position = 2",
        "UPDATE events SET op_id = zeroblob(16) WHERE position = 1",
        "UPDATE events SET payment = (SELECT payment FROM events WHERE position = 4), seq = 9 WHERE position = 3",
        "UPDATE events SET payload = NULL, erased = zeroblob(32) WHERE position = 3",
        "UPDATE events SET previous = 0 WHERE position = 3",
        "UPDATE events SET previous = previous + 1 WHERE position = 3",
        "UPDATE payments SET last = last - 1 WHERE n = 1",
        "UPDATE payments SET amount = 1 WHERE n = 1",
        "UPDATE payments SET folded = '{}' WHERE n = 1",
        "UPDATE payments SET state = 'failed' WHERE n = 1",
        "UPDATE payments SET terminal = 1 WHERE n = 1",
        "UPDATE payments SET obligations = 1 WHERE n = 1",
        "UPDATE payments SET lease_until = 0 WHERE n = 1",
        "UPDATE payments SET head = zeroblob(32) WHERE n = 1",
        "UPDATE sealed SET value = (SELECT value FROM sealed ORDER BY n DESC LIMIT 1)",
        "UPDATE sealed SET n = n + 64 * 9 WHERE n = (SELECT max(n) FROM sealed)",
        "DELETE FROM payments WHERE n = 2",
    ] {
        let directory = tempfile::tempdir().expect("directory");
        filled(directory.path(), 3).await;
        tampered(directory.path(), sql);
        let found = match SqliteLedger::open(&options(directory.path()), keys()) {
            Ok(ledger) => ledger.verify().await.is_err(),
            Err(StartError::Damaged(_)) => true,
            Err(other) => panic!("{sql}: {other}"),
        };
        assert!(found, "{sql}");
    }
}

#[tokio::test]
async fn a_lost_or_changed_end_of_the_chain_refuses_the_start() {
    for sql in [
        "DELETE FROM events WHERE position = 9",
        "DELETE FROM events WHERE position = 4",
        "UPDATE events SET hash = zeroblob(32) WHERE position = 9",
        "UPDATE meta SET value = zeroblob(48) WHERE name = 'chain'",
        "DELETE FROM meta WHERE name = 'chain'",
        "DELETE FROM meta WHERE name = 'key_check'",
    ] {
        let directory = tempfile::tempdir().expect("directory");
        filled(directory.path(), 3).await;
        tampered(directory.path(), sql);
        let started = SqliteLedger::open(&options(directory.path()), keys());
        assert!(matches!(started, Err(StartError::Damaged(_))), "{sql}: {started:?}");
    }
}

#[tokio::test]
async fn an_emptied_or_replaced_file_is_not_taken_for_a_new_ledger() {
    let directory = tempfile::tempdir().expect("directory");
    filled(directory.path(), 1).await;
    let file = directory.path().join("ledger.db");
    std::fs::write(&file, b"").expect("empties");
    let emptied = SqliteLedger::open(&options(directory.path()), keys());
    assert!(matches!(emptied, Err(StartError::Replaced(_))), "{emptied:?}");
    let other = tempfile::tempdir().expect("directory");
    filled(other.path(), 1).await;
    std::fs::copy(other.path().join("ledger.db"), &file).expect("copies");
    let replaced = SqliteLedger::open(&options(directory.path()), keys());
    assert!(matches!(replaced, Err(StartError::Replaced(_))), "{replaced:?}");
    std::fs::remove_file(directory.path().join("ledger.db.lock")).expect("accepts the loss");
    ledger(directory.path());
}

/// The events that a damaged copy still has, or `None` when it refuses to start or to answer.
async fn survivors(directory: &Path) -> Option<Vec<Event>> {
    let ledger = SqliteLedger::open(&options(directory), keys()).ok()?;
    ledger.verify().await.ok()?;
    ledger.events_after(0, usize::MAX).await.ok()
}

/// Copies a ledger as it stands while in use, as a power cut would leave it.
fn snapshot(from: &Path) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let read = |name: &str| std::fs::read(from.join(name)).expect("file");
    (read("ledger.db"), read("ledger.db-wal"), read("ledger.db.lock"))
}

#[tokio::test]
async fn a_log_cut_or_flipped_anywhere_gives_an_exact_prefix_or_a_refusal() {
    let (directory, copy) = (
        tempfile::tempdir().expect("directory"),
        tempfile::tempdir().expect("directory"),
    );
    let ledger = ledger(directory.path());
    for n in 0..4 {
        let (id, position) = opened(&ledger, opening(&format!("k{n}"))).await;
        ledger.append(change(id, position, "observed")).await.expect("appends");
    }
    let all = ledger.events_after(0, usize::MAX).await.expect("events");
    let (database, mut log, lock) = snapshot(directory.path());
    drop(ledger);
    // What lies behind the log's end is only room.
    log.truncate(log.iter().rposition(|byte| *byte != 0).expect("a log") + 1);
    let file = |name: &str| copy.path().join(name);
    let mut lengths = std::collections::BTreeSet::new();
    let step = (log.len() / 150).max(1) | 1;
    for at in (0..log.len()).step_by(step) {
        for flip in [false, true] {
            let mut damaged = log.clone();
            if flip {
                damaged[at] ^= 1 << (at % 8);
            } else {
                damaged.truncate(at);
            }
            std::fs::write(file("ledger.db"), &database).expect("writes");
            std::fs::write(file("ledger.db-wal"), &damaged).expect("writes");
            std::fs::write(file("ledger.db.lock"), &lock).expect("writes");
            let _ = std::fs::remove_file(file("ledger.db-shm"));
            if let Some(events) = survivors(copy.path()).await {
                assert_eq!(events[..], all[..events.len()], "cut or flipped at {at}");
                lengths.insert(events.len());
            }
        }
    }
    assert!(
        lengths.len() > 4,
        "the cuts reached into different changes: {lengths:?}"
    );
}

#[tokio::test]
async fn a_file_cut_or_flipped_anywhere_is_whole_or_refused() {
    let (directory, copy) = (
        tempfile::tempdir().expect("directory"),
        tempfile::tempdir().expect("directory"),
    );
    let all = filled(directory.path(), 8).await;
    let database = std::fs::read(directory.path().join("ledger.db")).expect("file");
    let lock = std::fs::read(directory.path().join("ledger.db.lock")).expect("file");
    let file = |name: &str| copy.path().join(name);
    let (mut whole, mut refused) = (0, 0);
    let step = (database.len() / 300).max(1) | 1;
    for at in (0..database.len()).step_by(step) {
        for flip in [false, true] {
            let mut damaged = database.clone();
            if flip {
                damaged[at] ^= 1 << (at % 8);
            } else {
                damaged.truncate(at);
            }
            std::fs::write(file("ledger.db"), &damaged).expect("writes");
            std::fs::write(file("ledger.db.lock"), &lock).expect("writes");
            for name in ["ledger.db-wal", "ledger.db-shm"] {
                let _ = std::fs::remove_file(file(name));
            }
            match survivors(copy.path()).await {
                // Free space, and tables that only constrain, hold bits that no event depends on.
                Some(events) => {
                    assert_eq!(events, all, "cut or flipped at {at}");
                    whole += 1;
                }
                None => refused += 1,
            }
        }
    }
    println!("{whole} whole, {refused} refused");
    assert!(refused > whole);
}

const CHILD: &str = "SENTINEL_LEDGER_TEST_CHILD";

/// Not a test of its own: the process that [`no_acknowledged_change_is_lost_by_a_kill`] kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_acknowledges_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let ledger = Arc::new(ledger(Path::new(&directory)));
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move {
                for n in 0.. {
                    let key = format!("{}/{task}/{n}", std::process::id());
                    let (id, position) = opened(&ledger, opening(&key)).await;
                    say(&format!("{id} 2"));
                    ledger.append(change(id, position, "observed")).await.expect("appends");
                    say(&format!("{id} 3"));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("runs");
    }
}

/// One write, so that lines of different tasks do not mix and a killed process leaves whole ones but for the last.
fn say(line: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(format!("ACK {line}\n").as_bytes());
}

#[tokio::test]
async fn no_acknowledged_change_is_lost_by_a_kill() {
    let directory = tempfile::tempdir().expect("directory");
    let mut told: std::collections::HashMap<Uuid, i64> = std::collections::HashMap::new();
    for round in 0..20_u32 {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args([
                "child_that_acknowledges_until_it_is_killed",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CHILD, directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawns");
        let mut lines = std::io::BufReader::new(child.stderr.take().expect("pipe"));
        let mut line = String::new();
        // Killed after a different number of acknowledgements each time, while others are under way.
        let mut left = 20 + round * 7;
        while std::io::BufRead::read_line(&mut lines, &mut line).expect("reads") > 0 {
            if let Some((id, seq)) = line.trim_end().strip_prefix("ACK ").and_then(|ack| ack.split_once(' ')) {
                if let (true, Ok(id), Ok(seq)) = (line.ends_with('\n'), Uuid::try_parse(id), seq.parse()) {
                    told.insert(id, seq);
                }
                left = left.saturating_sub(1);
                if left == 0 {
                    child.kill().expect("kills");
                }
            }
            line.clear();
        }
        child.wait().expect("ends");
        let ledger = ledger(directory.path());
        ledger.verify().await.expect("whole");
        for (id, seq) in &told {
            let payment = ledger
                .get(*id)
                .await
                .expect("reads")
                .expect("an acknowledged payment is there");
            assert!(payment.position.seq >= *seq, "an acknowledged change is there");
        }
    }
    assert!(told.len() > 200, "{} payments acknowledged", told.len());
}

/// Not a test of its own: the process whose disk fails in [`a_failed_write_ends_the_ledger`].
#[tokio::test]
async fn child_whose_disk_fails() {
    let Ok(directory) = std::env::var("SENTINEL_LEDGER_TEST_FAILING") else {
        return;
    };
    let failing = Options {
        on_fatal: Arc::new(|_| say("fatal")),
        ..options(Path::new(&directory))
    };
    let ledger = SqliteLedger::open(&failing, keys()).expect("starts");
    for n in 0..100_000 {
        let open = opening(&format!("k{n}"));
        let id = open.payment;
        match ledger.open(open).await {
            Ok(Opened::New(_)) => say(&id.to_string()),
            Err(LedgerError::Fatal(_)) => {
                let again = ledger.open(opening("again")).await;
                assert!(
                    matches!(again, Err(LedgerError::Fatal(_))),
                    "nothing is tried after that: {again:?}"
                );
                say("refused");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    // As the real hook does: no destructor runs, nothing more is written.
    std::process::exit(0);
}

#[tokio::test]
async fn a_failed_write_ends_the_ledger() {
    let directory = tempfile::tempdir().expect("directory");
    drop(ledger(directory.path()));
    // The shell ignores SIGXFSZ and limits file sizes, so that writes past the limit fail with EFBIG.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().expect("this binary"))
        .args(["child_whose_disk_fails", "--nocapture", "--test-threads=1"])
        .env("SENTINEL_LEDGER_TEST_FAILING", directory.path())
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("ACK fatal\n") && said.contains("ACK refused\n"),
        "{said:.2000}"
    );
    let ledger = ledger(directory.path());
    ledger.verify().await.expect("whole");
    let mut acknowledged = 0;
    for id in said
        .lines()
        .filter_map(|line| Uuid::try_parse(line.strip_prefix("ACK ")?).ok())
    {
        assert!(
            ledger.get(id).await.expect("reads").is_some(),
            "acknowledged before the disk failed"
        );
        acknowledged += 1;
    }
    assert!(acknowledged > 0);
}
