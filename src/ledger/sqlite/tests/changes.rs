//! What a change does, once and whole.

use super::*;

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
    let another = Change {
        winner: Winner::Set(1),
        ..change(id, position, "winner")
    };
    assert_eq!(
        second.append(another).await,
        Err(LedgerError::Taken(Constraint::Winner)),
        "the winner is remembered"
    );
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
    drop(ledger);
    let ledger = super::ledger(directory.path());
    assert_eq!(ledger.append(append).await, Ok(once), "and after a restart");
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
