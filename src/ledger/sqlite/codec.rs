//! Rows to columns and back, and the seal over a payment's row.
//!
//! SQLite keeps no checksum over its pages, so a payment's row carries a keyed one of its own: a flipped bit in a
//! version, an amount or the folded state is found when the row is read, and never acted upon.

use rusqlite::types::FromSql;
use rusqlite::{Row, params};
use uuid::Uuid;

use super::super::LedgerError;
use super::super::keys::Keys;
use super::super::rows::{Payment, Position};
use super::chain::Hash;

/// The columns that [`payment`] reads, in its order.
pub(super) const COLUMNS: &str = "id, tenant, route, key_hash, fingerprint, fp_version, amount, currency, order_ref, \
     holds_order, first_gateway, gateway, state, folded, version, epoch, seq, owner, lease_until, deadline, created_at, \
     updated_at, terminal, in_doubt, manual, obligations, tombstone, head, last, attempts, winner, mac, n";

/// A payment with the end of its chain, and what only constrains.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub payment: Payment,
    /// Its row; 0 before it has one.
    pub n: i64,
    pub head: Hash,
    /// The position of its last event.
    pub last: i64,
    /// The highest number of an attempt.
    pub attempts: u32,
    /// The attempt that won. One column: a payment has no two.
    pub winner: Option<u32>,
}

/// What an error of SQLite means for the caller.
pub(super) fn disk(error: rusqlite::Error) -> LedgerError {
    use rusqlite::ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(Code::DiskFull) => LedgerError::Full,
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => LedgerError::Busy,
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => LedgerError::Damaged(error.to_string()),
        _ => LedgerError::Fatal(error.to_string()),
    }
}

/// A column. A value of another type than was written is damage.
pub(super) fn get<T: FromSql>(row: &Row<'_>, at: usize) -> Result<T, LedgerError> {
    row.get(at).map_err(|error| match error.sqlite_error_code() {
        Some(_) => disk(error),
        None => LedgerError::Damaged(error.to_string()),
    })
}

/// An id.
pub(super) fn uuid(row: &Row<'_>, at: usize) -> Result<Uuid, LedgerError> {
    get::<[u8; 16]>(row, at).map(Uuid::from_bytes)
}

fn number<T: TryFrom<i64>>(row: &Row<'_>, at: usize) -> Result<T, LedgerError> {
    T::try_from(get::<i64>(row, at)?).map_err(|_| LedgerError::Damaged(format!("column {at} is out of range")))
}

/// What a payment's folded state is likely to grow by until it is over.
const GROWTH: usize = 256;

/// A folded state with room to grow: a row that does not fit its page any more has its neighbours moved to other pages,
/// which takes longer to write than the row. White space at the end of JSON means nothing.
fn padded(folded: &str) -> String {
    let mut padded = String::with_capacity(folded.len() + GROWTH);
    padded.push_str(folded);
    padded.extend(std::iter::repeat_n(' ', GROWTH));
    padded
}

fn unpadded(mut folded: String) -> String {
    folded.truncate(folded.trim_end_matches(' ').len());
    folded
}

/// Reads a payment and verifies its seal.
pub(super) fn payment(row: &Row<'_>, keys: &Keys) -> Result<Stored, LedgerError> {
    let stored = Stored {
        payment: Payment {
            id: uuid(row, 0)?,
            tenant: get(row, 1)?,
            route: get(row, 2)?,
            key_hash: get(row, 3)?,
            fingerprint: get(row, 4)?,
            fp_version: number(row, 5)?,
            amount: get(row, 6)?,
            currency: get(row, 7)?,
            order_ref_hash: get(row, 8)?,
            holds_order: get(row, 9)?,
            first_gateway: get(row, 10)?,
            gateway: get(row, 11)?,
            state: get(row, 12)?,
            folded: unpadded(get(row, 13)?),
            position: Position {
                version: get(row, 14)?,
                epoch: get(row, 15)?,
                seq: get(row, 16)?,
            },
            owner: uuid(row, 17)?,
            lease_until: get(row, 18)?,
            deadline: get(row, 19)?,
            created_at: get(row, 20)?,
            updated_at: get(row, 21)?,
            terminal: get(row, 22)?,
            in_doubt: get(row, 23)?,
            manual: get(row, 24)?,
            obligations: number(row, 25)?,
            tombstone: get(row, 26)?,
        },
        n: get(row, 32)?,
        head: get(row, 27)?,
        last: get(row, 28)?,
        attempts: number(row, 29)?,
        winner: get(row, 30)?,
    };
    if get::<Hash>(row, 31)? == stored.mac(keys) {
        Ok(stored)
    } else {
        Err(LedgerError::Damaged(format!(
            "payment {} is not what was recorded",
            stored.payment.id
        )))
    }
}

impl Stored {
    /// The seal over every column.
    fn mac(&self, keys: &Keys) -> Hash {
        let Payment { position, .. } = &self.payment;
        let payment = &self.payment;
        let flag = i64::from;
        let numbers = [
            i64::from(payment.fp_version),
            payment.amount.map_or(-1, |amount| amount),
            flag(payment.holds_order),
            position.version,
            position.epoch,
            position.seq,
            payment.lease_until,
            payment.deadline,
            payment.created_at,
            payment.updated_at,
            flag(payment.terminal),
            flag(payment.in_doubt),
            flag(payment.manual),
            i64::from(payment.obligations),
            flag(payment.tombstone),
        ]
        .map(i64::to_be_bytes)
        .concat();
        keys.row_mac(&[
            payment.id.as_bytes(),
            payment.tenant.as_bytes(),
            payment.route.as_bytes(),
            &payment.key_hash,
            &payment.fingerprint,
            payment.currency.as_deref().unwrap_or_default().as_bytes(),
            payment.order_ref_hash.as_ref().map_or(&[][..], |hash| &hash[..]),
            payment.first_gateway.as_bytes(),
            payment.gateway.as_bytes(),
            payment.state.as_bytes(),
            payment.folded.as_bytes(),
            payment.owner.as_bytes(),
            &numbers,
            &self.head,
        ])
    }

    /// Writes a new row.
    pub fn insert(&mut self, connection: &rusqlite::Connection, keys: &Keys) -> rusqlite::Result<()> {
        let payment = &self.payment;
        connection
            .prepare_cached(
                "INSERT INTO payments (id, tenant, route, key_hash, fingerprint, fp_version, amount, currency, order_ref,
                     holds_order, first_gateway, gateway, state, folded, version, epoch, seq, owner, lease_until, deadline,
                     created_at, updated_at, terminal, in_doubt, manual, obligations, tombstone, head, last, attempts,
                     winner, mac)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
                     ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32)",
            )?
            .execute(params![
                payment.id.as_bytes(),
                payment.tenant,
                payment.route,
                payment.key_hash,
                payment.fingerprint,
                payment.fp_version,
                payment.amount,
                payment.currency,
                payment.order_ref_hash,
                payment.holds_order,
                payment.first_gateway,
                payment.gateway,
                payment.state,
                padded(&payment.folded),
                payment.position.version,
                payment.position.epoch,
                payment.position.seq,
                payment.owner.as_bytes(),
                payment.lease_until,
                payment.deadline,
                payment.created_at,
                payment.updated_at,
                payment.terminal,
                payment.in_doubt,
                payment.manual,
                payment.obligations,
                payment.tombstone,
                self.head,
                self.last,
                self.attempts,
                self.winner,
                self.mac(keys),
            ])?;
        self.n = connection.last_insert_rowid();
        Ok(())
    }

    /// Writes the columns that can change.
    pub fn update(&self, connection: &rusqlite::Connection, keys: &Keys) -> rusqlite::Result<()> {
        let payment = &self.payment;
        connection
            .prepare_cached(
                "UPDATE payments SET amount = ?2, currency = ?3, holds_order = ?4, gateway = ?5, state = ?6, folded = ?7,
                     version = ?8, epoch = ?9, seq = ?10, owner = ?11, lease_until = ?12, updated_at = ?13, terminal = ?14,
                     in_doubt = ?15, manual = ?16, obligations = ?17, tombstone = ?18, head = ?19, last = ?20,
                     attempts = ?21, winner = ?22, mac = ?23
                 WHERE n = ?1",
            )?
            .execute(params![
                self.n,
                payment.amount,
                payment.currency,
                payment.holds_order,
                payment.gateway,
                payment.state,
                payment.folded,
                payment.position.version,
                payment.position.epoch,
                payment.position.seq,
                payment.owner.as_bytes(),
                payment.lease_until,
                payment.updated_at,
                payment.terminal,
                payment.in_doubt,
                payment.manual,
                payment.obligations,
                payment.tombstone,
                self.head,
                self.last,
                self.attempts,
                self.winner,
                self.mac(keys),
            ])?;
        Ok(())
    }
}
