//! The audit trail: who changed what about an account, from where. Written with the change, never altered.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AccountError, put, read};
use crate::ledger::Ledger;

const SPACE: &str = "audit";

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "actor", rename_all = "snake_case")]
pub enum Actor {
    /// The tenant, in a session.
    Session,
    /// An API key.
    Key {
        /// Its id.
        id: String,
    },
    /// Somebody who did not get in.
    Nobody,
    /// An operator of this Sentinel.
    Operator,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// The account was made.
    Registered,
    /// A session was opened.
    LoggedIn,
    /// A password was wrong.
    LoginFailed,
    /// A password was wrong so often that the account is locked for a while.
    LockedOut,
    /// A session was ended.
    LoggedOut,
    /// The password was changed and all sessions ended.
    PasswordChanged,
    /// Other gateways were chosen.
    ProfileChanged,
    /// An API key was made.
    KeyIssued {
        /// Its id.
        key: String,
    },
    /// An API key was replaced.
    KeyRotated {
        /// The old one's id.
        key: String,
        /// The new one's id.
        by: String,
    },
    /// An API key was revoked.
    KeyRevoked {
        /// Its id.
        key: String,
    },
    /// Credentials for a gateway were stored.
    CredentialsStored {
        /// The gateway.
        gateway: String,
    },
    /// Credentials for a gateway were deleted.
    CredentialsDeleted {
        /// The gateway.
        gateway: String,
    },
    /// Instruments were kept or forgotten.
    InstrumentsChanged {
        /// How many.
        count: u64,
    },
    /// What fees are paid with was stored.
    PaidWithStored,
    /// What fees are paid with was forgotten.
    PaidWithDeleted,
    /// The collection of a fee was asked for.
    FeeCollected {
        /// Its month, `2026-11`.
        month: String,
    },
    /// A monthly statement was closed.
    StatementClosed {
        /// Its month, `2026-11`.
        month: String,
    },
}

/// A line of the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Unix milliseconds.
    pub at: i64,
    /// The client's address.
    pub from: IpAddr,
    /// Who.
    #[serde(flatten)]
    pub actor: Actor,
    /// What.
    #[serde(flatten)]
    pub action: Action,
}

pub(super) async fn write(
    ledger: &dyn Ledger,
    tenant: &str,
    actor: Actor,
    action: Action,
    from: IpAddr,
) -> Result<(), AccountError> {
    let at = ledger.now();
    let line = Line {
        at,
        from,
        actor,
        action,
    };
    // Newest first in the order of keys, and no two lines under one key.
    let key = format!("{tenant}/{:016x}-{}", i64::MAX - at, Uuid::now_v7().simple());
    put(ledger, SPACE, key, &line, Some(0)).await
}

/// A tenant's trail, newest first, with the cursor of each line.
pub async fn lines(
    ledger: &dyn Ledger,
    tenant: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Line)>, AccountError> {
    let prefix = format!("{tenant}/");
    let after = after.map(|after| format!("{prefix}{after}"));
    let documents = ledger.documents(SPACE, prefix.clone(), after, limit).await?;
    documents
        .into_iter()
        .map(|document| {
            let cursor = document.key.strip_prefix(&prefix).unwrap_or_default().to_owned();
            Ok((cursor, read(&document.value)?))
        })
        .collect()
}
