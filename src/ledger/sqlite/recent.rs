//! Payments that the writer wrote a moment ago.
//!
//! A payment's next change comes within a gateway's answer, so its row need not be read, decoded and verified again. There is one
//! writer, so nobody else changes it; what a transaction that is taken back had put here is forgotten with it.

use std::collections::HashMap;

use uuid::Uuid;

use super::codec::Stored;

/// Payments kept: some seconds of a busy ledger. Beyond, all are forgotten and read anew.
const KEPT: usize = 2048;

/// The kept ones.
#[derive(Debug, Default)]
pub(super) struct Recent(HashMap<Uuid, Stored>);

impl Recent {
    /// A payment as it was written last, to be changed and put back.
    pub fn take(&mut self, id: Uuid) -> Option<Stored> {
        self.0.remove(&id)
    }

    /// Keeps a payment as it was just written; one that is over is not asked for again soon.
    pub fn put(&mut self, stored: Stored) {
        let id = stored.payment.id;
        if stored.payment.terminal {
            self.0.remove(&id);
            return;
        }
        if self.0.len() >= KEPT {
            self.0.clear();
        }
        self.0.insert(id, stored);
    }

    /// Forgets all.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}
