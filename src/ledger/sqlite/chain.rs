//! The chains: one for each payment, one over all events.
//!
//! An event's hash covers the hash before it in its payment, its own columns and the digest of its payload, under a key:
//! nothing in a payment's history can be changed, dropped or added without the key. The chain over all adds every
//! event's hash in the order of recording, and its end is kept apart (`meta`), so that no whole payment and no tail can
//! vanish. Erasing a payload keeps its digest: the chain still verifies.

use aws_lc_rs::digest;
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::super::LedgerError;
use super::super::keys::Keys;
use super::super::rows::Event;
use super::codec;
use super::start::StartError;

/// How many events lie between two kept links of the chain over all; what is verified at start is no longer than two.
pub(super) const STRIDE: i64 = 4096;

/// A hash.
pub(super) type Hash = [u8; 32];

/// The end of the chain over all events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub position: i64,
    pub hash: Hash,
    /// The latest time recorded.
    pub at: i64,
}

impl Chain {
    /// Before any event.
    pub const START: Self = Self {
        position: 0,
        hash: [0; 32],
        at: 0,
    };

    /// The end after one more event.
    pub fn next(self, keys: &Keys, event: &Hash, at: i64) -> Self {
        Self {
            position: self.position + 1,
            hash: keys.link(&[b"all", &self.hash, event]),
            at: self.at.max(at),
        }
    }
}

/// The digest that stands for a payload.
pub(super) fn digest(payload: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, payload.as_bytes()).as_ref());
    hash
}

/// What an event's hash covers.
pub(super) struct Link<'a> {
    pub before: &'a Hash,
    pub payment: Uuid,
    pub seq: i64,
    pub version: i64,
    pub epoch: i64,
    pub at: i64,
    pub op_id: Option<Uuid>,
    pub kind: &'a str,
    pub digest: &'a Hash,
}

impl Link<'_> {
    pub fn hash(&self, keys: &Keys) -> Hash {
        let numbers = [self.seq, self.version, self.epoch, self.at]
            .map(i64::to_be_bytes)
            .concat();
        let op_id = self.op_id.unwrap_or_default();
        keys.link(&[
            b"one",
            self.before,
            self.payment.as_bytes(),
            &numbers,
            op_id.as_bytes(),
            self.kind.as_bytes(),
            self.digest,
        ])
    }
}

/// The columns that [`Stored::read`] wants.
pub(super) const COLUMNS: &str =
    "position, payment, seq, version, epoch, at, op_id, kind, payload, erased, hash, previous";

/// An event as it lies in the table.
pub(super) struct Stored {
    pub event: Event,
    /// The position of the payment's event before it; 0 for the first.
    pub previous: i64,
    pub version: i64,
    pub epoch: i64,
    pub op_id: Option<Uuid>,
    /// Whether only its payload's digest is left.
    pub erased: bool,
    digest: Hash,
}

impl Stored {
    pub fn read(row: &Row<'_>) -> Result<Self, LedgerError> {
        let payload: Option<String> = codec::get(row, 8)?;
        let erased: Option<Hash> = codec::get(row, 9)?;
        let position: i64 = codec::get(row, 0)?;
        let digest = match (&payload, erased) {
            (Some(payload), None) => digest(payload),
            (None, Some(digest)) => digest,
            _ => return Err(damaged(position)),
        };
        Ok(Self {
            event: Event {
                position,
                payment: codec::uuid(row, 1)?,
                seq: codec::get(row, 2)?,
                at: codec::get(row, 5)?,
                kind: codec::get(row, 7)?,
                payload: payload.unwrap_or_default(),
                hash: codec::get(row, 10)?,
            },
            previous: codec::get(row, 11)?,
            version: codec::get(row, 3)?,
            epoch: codec::get(row, 4)?,
            op_id: codec::get::<Option<[u8; 16]>>(row, 6)?.map(Uuid::from_bytes),
            erased: erased.is_some(),
            digest,
        })
    }

    /// Whether it is what was written after the event with this hash.
    pub fn verify(&self, keys: &Keys, before: &Hash) -> Result<(), LedgerError> {
        let link = Link {
            before,
            payment: self.event.payment,
            seq: self.event.seq,
            version: self.version,
            epoch: self.epoch,
            at: self.event.at,
            op_id: self.op_id,
            kind: &self.event.kind,
            digest: &self.digest,
        };
        if link.hash(keys) == self.event.hash {
            Ok(())
        } else {
            Err(damaged(self.event.position))
        }
    }
}

fn damaged(position: i64) -> LedgerError {
    LedgerError::Damaged(format!("event {position} is not what was recorded"))
}

/// A payment's events from the one at `last` back to its first: each names the one before it.
pub(super) fn backwards(connection: &Connection, payment: Uuid, last: i64) -> Result<Vec<Stored>, LedgerError> {
    let sql = format!("SELECT {COLUMNS} FROM events WHERE position = ?1");
    let mut statement = connection.prepare_cached(&sql).map_err(codec::disk)?;
    let (mut at, mut found) = (last, Vec::new());
    while at > 0 {
        let mut rows = statement.query([at]).map_err(codec::disk)?;
        let row = rows.next().map_err(codec::disk)?.ok_or_else(|| damaged(at))?;
        let stored = Stored::read(row)?;
        // Ever further back, or it would never end.
        if stored.event.payment != payment || stored.previous >= at {
            return Err(damaged(at));
        }
        at = stored.previous;
        found.push(stored);
    }
    Ok(found)
}

/// The ids that a payment's events name, oldest event first: each list as it was written.
pub(super) fn named(connection: &Connection, payment: Uuid) -> Result<Vec<String>, LedgerError> {
    let mut at: i64 = connection
        .prepare_cached("SELECT last FROM payments WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([payment.as_bytes()], |row| row.get(0)).optional())
        .map_err(codec::disk)?
        .unwrap_or(0);
    let mut statement = connection
        .prepare_cached("SELECT named, previous FROM events WHERE position = ?1 AND payment = ?2")
        .map_err(codec::disk)?;
    let mut found = Vec::new();
    while at > 0 {
        let mut rows = statement
            .query(rusqlite::params![at, payment.as_bytes()])
            .map_err(codec::disk)?;
        let row = rows.next().map_err(codec::disk)?.ok_or_else(|| damaged(at))?;
        found.extend(codec::get::<Option<String>>(row, 0)?);
        let previous = codec::get(row, 1)?;
        // Ever further back, or it would never end.
        if previous >= at {
            return Err(damaged(at));
        }
        at = previous;
    }
    found.reverse();
    Ok(found)
}

/// Reads the kept end of the chain over all, and verifies that the table ends exactly there.
pub(super) fn end(connection: &Connection, keys: &Keys) -> Result<Chain, StartError> {
    let kept = stored_end(connection)?;
    let broken = |what: &str| StartError::Damaged(format!("the chain of events {what}"));
    let from = connection
        .query_row(
            "SELECT position, hash FROM checkpoints WHERE position <= ?1 ORDER BY position DESC LIMIT 1",
            [kept.position - STRIDE],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)),
        )
        .optional()?;
    let mut chain = Chain::START;
    if let Some((position, hash)) = from {
        let hash = hash.try_into().map_err(|_| broken("has a damaged checkpoint"))?;
        chain = Chain { position, hash, at: 0 };
    }
    let mut statement =
        connection.prepare("SELECT position, hash, at FROM events WHERE position > ?1 ORDER BY position")?;
    let mut rows = statement.query([chain.position])?;
    while let Some(row) = rows.next()? {
        let (position, hash, at): (i64, Vec<u8>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let hash: Hash = hash.try_into().map_err(|_| broken("has a damaged link"))?;
        chain = chain.next(keys, &hash, at);
        if chain.position != position {
            return Err(broken("has a gap"));
        }
    }
    if (chain.position, chain.hash) == (kept.position, kept.hash) {
        Ok(Chain {
            at: chain.at.max(kept.at),
            ..chain
        })
    } else {
        Err(broken("does not end where it was left"))
    }
}

/// The end as it was kept.
pub(super) fn stored_end(connection: &Connection) -> Result<Chain, StartError> {
    let value: Option<Vec<u8>> = connection
        .query_row("SELECT value FROM meta WHERE name = 'chain'", [], |row| row.get(0))
        .optional()?;
    let Some(value) = value else { return Ok(Chain::START) };
    let bytes: [u8; 48] = value
        .try_into()
        .map_err(|_| StartError::Damaged("the end of the chain of events is damaged".to_owned()))?;
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at..at + 8]);
        i64::from_be_bytes(number)
    };
    let mut hash = [0; 32];
    hash.copy_from_slice(&bytes[16..]);
    Ok(Chain {
        position: number(0),
        hash,
        at: number(8),
    })
}

/// Keeps the end.
pub(super) fn keep(connection: &Connection, chain: &Chain) -> rusqlite::Result<()> {
    let mut value = Vec::with_capacity(48);
    value.extend_from_slice(&chain.position.to_be_bytes());
    value.extend_from_slice(&chain.at.to_be_bytes());
    value.extend_from_slice(&chain.hash);
    let kept = connection
        .prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'chain'")?
        .execute([&value])?;
    if kept == 0 {
        connection.execute("INSERT INTO meta (name, value) VALUES ('chain', ?1)", [&value])?;
    }
    Ok(())
}
