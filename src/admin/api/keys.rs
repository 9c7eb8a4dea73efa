//! API keys.

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reply;
use super::call::{Call, json, time};
use super::problem::Problem;
use crate::account::api_key::{ApiKey, IssuedKey, Mode, NewKey, Scope};
use crate::account::audit::Action;

/// How long a replaced key stays good unless asked otherwise: a day's deployments.
const OVERLAP: u32 = 24;

/// An API key, without its secret.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// Its id.
    pub id: String,
    /// What it is for, for people.
    pub name: String,
    /// Production or staging.
    pub mode: Mode,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Whether it is good now.
    pub active: bool,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When it ends by itself: a rotation sets it.
    pub expires_at: Option<String>,
    /// When it was revoked.
    pub revoked_at: Option<String>,
    /// The id of the key that replaces it.
    pub replaced_by: Option<String>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<String>,
}

impl Key {
    fn of(key: ApiKey, now: i64) -> Self {
        Self {
            active: key.good(now),
            id: key.id,
            name: key.name,
            mode: key.mode,
            scopes: key.scopes,
            created_at: time(key.created_at),
            expires_at: key.expires_at.map(time),
            revoked_at: key.revoked_at.map(time),
            replaced_by: key.replaced_by,
            last_used_at: key.last_used_at.map(time),
        }
    }
}

/// An API key with its secret.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewlyIssued {
    /// The key.
    #[serde(flatten)]
    pub key: Key,
    /// The whole key as the application sends it. It is shown this once.
    pub api_key: String,
}

impl NewlyIssued {
    fn of(issued: IssuedKey, now: i64) -> Self {
        Self {
            key: Key::of(issued.key, now),
            api_key: issued.secret,
        }
    }
}

/// All keys.
#[derive(Serialize, JsonSchema)]
pub struct Keys {
    /// The newest first.
    pub keys: Vec<Key>,
}

/// What making a key takes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// What it is for, for people: 1 to 100 characters.
    #[schemars(length(min = 1, max = 100))]
    name: String,
    /// Production or staging. Default `live`.
    #[serde(default = "live")]
    mode: Mode,
    /// What it may do. Default: everything.
    #[serde(default = "everything")]
    #[schemars(length(min = 1))]
    scopes: Vec<Scope>,
}

fn live() -> Mode {
    Mode::Live
}

fn everything() -> Vec<Scope> {
    Scope::ALL.to_vec()
}

/// Makes a key.
pub async fn issue(call: Call) -> Result<Reply, Problem> {
    let asked: Asked = call.json()?;
    let (accounts, caller) = (call.api().accounts(), call.caller()?);
    let asked = NewKey {
        name: asked.name,
        mode: asked.mode,
        scopes: asked.scopes,
    };
    let issued = accounts.keys().issue(&caller.tenant, asked).await?;
    let action = Action::KeyIssued {
        key: issued.key.id.clone(),
    };
    accounts.note(caller, action, call.from()).await?;
    json(StatusCode::CREATED, &NewlyIssued::of(issued, call.api().ledger().now()))
}

/// Lists the keys.
pub async fn list(call: Call) -> Result<Reply, Problem> {
    let now = call.api().ledger().now();
    let keys = call.api().accounts().keys().list(&call.caller()?.tenant).await?;
    let keys = keys.into_iter().map(|key| Key::of(key, now)).collect();
    json(StatusCode::OK, &Keys { keys })
}

/// What rotating takes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rotation {
    /// Hours for which the old key stays good beside the new one, 0 to 720. Default 24.
    #[serde(default = "overlap")]
    #[schemars(range(max = 720))]
    overlap_hours: u32,
}

fn overlap() -> u32 {
    OVERLAP
}

/// Replaces a key.
pub async fn rotate(call: Call) -> Result<Reply, Problem> {
    let asked: Rotation = call.json()?;
    let (accounts, caller, id) = (call.api().accounts(), call.caller()?, call.parameter(0));
    let issued = accounts.keys().rotate(&caller.tenant, id, asked.overlap_hours).await?;
    let action = Action::KeyRotated {
        key: id.to_owned(),
        by: issued.key.id.clone(),
    };
    accounts.note(caller, action, call.from()).await?;
    json(StatusCode::CREATED, &NewlyIssued::of(issued, call.api().ledger().now()))
}

/// Revokes a key.
pub async fn revoke(call: Call) -> Result<Reply, Problem> {
    let (accounts, caller, id) = (call.api().accounts(), call.caller()?, call.parameter(0));
    let key = accounts.keys().revoke(&caller.tenant, id).await?;
    let action = Action::KeyRevoked { key: id.to_owned() };
    accounts.note(caller, action, call.from()).await?;
    json(StatusCode::OK, &Key::of(key, call.api().ledger().now()))
}
