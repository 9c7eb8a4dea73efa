//! The ids that lead to a payment.
//!
//! They are looked up by themselves, in a table of their own. Which ones a payment has is asked for by people only: the
//! first event of the change that brought them names them, and an index that every payment would have to be entered in
//! is saved. The table has the last word on whose an id is.

use std::sync::LazyLock;

use rusqlite::{Connection, ToSql, params};
use uuid::Uuid;

use super::super::keys::Keys;
use super::super::rows::Id;
use super::super::{Constraint, LedgerError};
use super::chain;
use super::codec::{self, disk};

/// Ids written by one statement at most: a gateway names a payment and its execution, each for two scopes.
const TOGETHER: usize = 4;

static INSERTIONS: LazyLock<[String; TOGETHER]> = LazyLock::new(|| {
    std::array::from_fn(|more| {
        let rows = vec!["(?, ?, ?, ?)"; more + 1].join(", ");
        format!("INSERT OR IGNORE INTO ids (scope, id, payment, kind) VALUES {rows}")
    })
});

/// A change's ids, made ready on the caller's thread.
#[derive(Debug, Default)]
pub(super) struct Named {
    ids: Vec<(String, Id)>,
    /// Scope and id of each, JSON, for the event; `None` without any.
    pub listed: Option<String>,
}

impl Named {
    pub fn new(ids: &mut Vec<Id>) -> Self {
        let labelled = |id: Id| (Keys::scope_label(&id.scope), id);
        let ids: Vec<_> = std::mem::take(ids).into_iter().map(labelled).collect();
        let pairs: Vec<_> = ids.iter().map(|(label, id)| (label, &id.id)).collect();
        let listed = (!pairs.is_empty()).then(|| serde_json::to_string(&pairs).unwrap_or_default());
        Self { ids, listed }
    }

    /// Enters them. One that leads to another payment refuses the change.
    pub fn keep(&self, connection: &Connection, payment: Uuid) -> Result<(), LedgerError> {
        for ids in self.ids.chunks(TOGETHER) {
            let mut values: Vec<&dyn ToSql> = Vec::with_capacity(4 * TOGETHER);
            for (label, id) in ids {
                values.extend([label as &dyn ToSql, &id.id, payment.as_bytes(), &id.kind]);
            }
            let inserted = connection
                .prepare_cached(&INSERTIONS[ids.len() - 1])
                .and_then(|mut statement| statement.execute(&*values))
                .map_err(disk)?;
            if inserted < ids.len() {
                owned(connection, payment, ids)?;
            }
        }
        Ok(())
    }
}

/// Whether all of these lead to this payment.
fn owned(connection: &Connection, payment: Uuid, ids: &[(String, Id)]) -> Result<(), LedgerError> {
    for (label, id) in ids {
        let holder: [u8; 16] = connection
            .prepare_cached("SELECT payment FROM ids WHERE scope = ?1 AND id = ?2")
            .and_then(|mut statement| statement.query_row([label, &id.id], |row| row.get(0)))
            .map_err(disk)?;
        if holder != *payment.as_bytes() {
            return Err(LedgerError::Taken(Constraint::Id));
        }
    }
    Ok(())
}

/// The ids that lead to a payment, by scope.
pub(super) fn of(connection: &Connection, payment: Uuid) -> Result<Vec<Id>, LedgerError> {
    // One read transaction: the payment, its events and the table are of the same moment.
    let snapshot = connection.unchecked_transaction().map_err(disk)?;
    let mut found = std::collections::BTreeMap::new();
    for listed in chain::named(&snapshot, payment)? {
        let pairs: Vec<(String, String)> =
            serde_json::from_str(&listed).map_err(|_| LedgerError::Damaged("a list of ids is not one".to_owned()))?;
        for (label, id) in pairs {
            let mut statement = snapshot
                .prepare_cached("SELECT kind FROM ids WHERE scope = ?1 AND id = ?2 AND payment = ?3")
                .map_err(disk)?;
            let mut rows = statement.query(params![label, id, payment.as_bytes()]).map_err(disk)?;
            if let Some(row) = rows.next().map_err(disk)? {
                found.insert((label, id), codec::get::<String>(row, 0)?);
            }
        }
    }
    let read = |((label, id), kind): ((String, String), String)| {
        let scope = Keys::read_scope(&label).ok_or_else(|| LedgerError::Damaged("an id has no scope".to_owned()))?;
        Ok(Id { scope, id, kind })
    };
    found.into_iter().map(read).collect()
}
