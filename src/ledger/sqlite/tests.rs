//! The embedded ledger on real files.

mod changes;
mod damage;
mod limits;
mod reading;
mod waiting;

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
