//! API keys: what an application sends instead of gateway credentials, and to read its own figures.
//!
//! `sk_snt_live_` or `sk_snt_test_`, who and which key it is, and 160 random bits. The prefix tells it from every
//! gateway's own keys (Stripe's begin with `sk_live_`), so that neither can ever be taken for the other. Only a digest is
//! kept; a digest without a work factor is enough, because nobody can guess 160 bits.

use std::sync::Arc;

use dashmap::DashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::{AccountError, By, Caller, digest, put, random_label, read};
use crate::ledger::Ledger;

const SPACE: &str = "api_keys";
/// What every key begins with.
pub const PREFIX: &str = "sk_snt_";
const TENANT: usize = 20;
const ID: usize = 12;
const SECRET: usize = 32;
/// Keys a tenant may have that are neither revoked nor expired.
const MOST: usize = 100;
/// How long a key that was looked up is trusted without looking again, in milliseconds. A revocation in this process
/// counts at once.
const FRESH: i64 = 60_000;
/// How often the time of last use is written down, in milliseconds.
const NOTE_USE: i64 = 60_000;
/// The longest overlap of a rotation, in hours.
pub const LONGEST_OVERLAP: u32 = 30 * 24;

/// Which payments a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Production.
    Live,
    /// Staging.
    Test,
}

impl Mode {
    /// As the key spells it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Send payments through Sentinel with the tenant's gateway credentials.
    Payments,
    /// Read events, payments and figures.
    Analytics,
    /// Read statements.
    Billing,
    /// Write the instrument map.
    Instruments,
}

impl Scope {
    /// All of them: what the first key has.
    pub const ALL: [Self; 4] = [Self::Payments, Self::Analytics, Self::Billing, Self::Instruments];

    /// The word for it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Payments => "payments",
            Self::Analytics => "analytics",
            Self::Billing => "billing",
            Self::Instruments => "instruments",
        }
    }
}

/// What a new key is asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// What it is for, for people: 1 to 100 characters.
    pub name: String,
    /// Live or test.
    pub mode: Mode,
    /// What it may do; not empty.
    pub scopes: Vec<Scope>,
}

/// A key as kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// Live or test.
    pub mode: Mode,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// SHA-256 of the secret part.
    digest: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// When it ends by itself: set by a rotation.
    pub expires_at: Option<i64>,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
    /// The key that replaces it.
    pub replaced_by: Option<String>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<i64>,
}

impl ApiKey {
    /// Whether it is good at this time.
    pub fn good(&self, now: i64) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| at > now)
    }
}

/// A key with its secret, shown this once.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedKey {
    /// As kept.
    pub key: ApiKey,
    /// The whole key as the application sends it.
    pub secret: String,
}

impl std::fmt::Debug for IssuedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedKey")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Seen {
    key: ApiKey,
    version: i64,
    at: i64,
}

/// The API keys of all tenants.
pub struct ApiKeys {
    ledger: Arc<dyn Ledger>,
    seen: DashMap<String, Seen>,
}

impl ApiKeys {
    pub(super) fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self {
            ledger,
            seen: DashMap::new(),
        }
    }

    /// Makes a key.
    pub async fn issue(&self, tenant: &str, asked: NewKey) -> Result<IssuedKey, AccountError> {
        let name = asked.name.trim();
        if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
            return Err(AccountError::invalid(
                "name",
                "must be 1 to 100 characters without control characters",
            ));
        }
        if asked.scopes.is_empty() {
            return Err(AccountError::invalid("scopes", "must name at least one scope"));
        }
        let now = self.ledger.now();
        if self.list(tenant).await?.iter().filter(|key| key.good(now)).count() >= MOST {
            return Err(AccountError::invalid("name", "100 keys are in use; revoke one first"));
        }
        let mut scopes = asked.scopes;
        scopes.sort_by_key(|scope| *scope as u8);
        scopes.dedup();
        let (id, secret) = (random_label(ID)?, random_label(SECRET)?);
        let key = ApiKey {
            name: name.to_owned(),
            mode: asked.mode,
            scopes,
            digest: digest(&secret),
            created_at: now,
            expires_at: None,
            revoked_at: None,
            replaced_by: None,
            last_used_at: None,
            id,
        };
        put(&*self.ledger, SPACE, place(tenant, &key.id), &key, Some(0)).await?;
        let owner = tenant.strip_prefix("tn_").unwrap_or(tenant);
        let secret = format!("{PREFIX}{}_{owner}{}_{secret}", key.mode.label(), key.id);
        Ok(IssuedKey { key, secret })
    }

    /// Replaces a key: the new one is good at once, the old one for the overlap in hours.
    pub async fn rotate(&self, tenant: &str, id: &str, overlap_hours: u32) -> Result<IssuedKey, AccountError> {
        if overlap_hours > LONGEST_OVERLAP {
            return Err(AccountError::invalid("overlapHours", "must be 720 or fewer"));
        }
        let now = self.ledger.now();
        let (mut old, version) = self.load(tenant, id).await?;
        if !old.good(now) || old.replaced_by.is_some() {
            return Err(AccountError::invalid("id", "is of a key that was revoked or replaced"));
        }
        let asked = NewKey {
            name: old.name.clone(),
            mode: old.mode,
            scopes: old.scopes.clone(),
        };
        let issued = self.issue(tenant, asked).await?;
        old.expires_at = Some(now + i64::from(overlap_hours) * 3_600_000);
        old.replaced_by = Some(issued.key.id.clone());
        let kept = put(&*self.ledger, SPACE, place(tenant, id), &old, Some(version)).await;
        self.seen.remove(&place(tenant, id));
        if let Err(error) = kept {
            // Somebody else revoked or rotated it meanwhile: the new key must not outlive that.
            self.revoke(tenant, &issued.key.id).await?;
            return Err(error);
        }
        Ok(issued)
    }

    /// Revokes a key, at once. Revoking a revoked key is no error.
    pub async fn revoke(&self, tenant: &str, id: &str) -> Result<ApiKey, AccountError> {
        loop {
            let (mut key, version) = self.load(tenant, id).await?;
            if key.revoked_at.is_some() {
                return Ok(key);
            }
            key.revoked_at = Some(self.ledger.now());
            let kept = put(&*self.ledger, SPACE, place(tenant, id), &key, Some(version)).await;
            self.seen.remove(&place(tenant, id));
            match kept {
                Ok(()) => return Ok(key),
                Err(AccountError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A tenant's keys, the newest first.
    pub async fn list(&self, tenant: &str) -> Result<Vec<ApiKey>, AccountError> {
        let (mut keys, mut after): (Vec<ApiKey>, _) = (Vec::new(), None);
        loop {
            let page = self.ledger.documents(SPACE, format!("{tenant}/"), after, 500).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for document in &page {
                keys.push(read(&document.value)?);
            }
        }
        keys.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        Ok(keys)
    }

    /// Who sends this key.
    pub async fn verify(&self, sent: &str) -> Result<Caller, AccountError> {
        const WRONG: AccountError = AccountError::Unauthorised("the API key is not valid, or no longer");
        let (mode, rest) = parts(sent).ok_or(WRONG)?;
        let (tenant, id, secret) = rest;
        let tenant = format!("tn_{tenant}");
        let place = place(&tenant, id);
        let now = self.ledger.now();
        let known = self.seen.get(&place).map(|seen| seen.clone());
        let seen = match known.filter(|seen| seen.at + FRESH > now) {
            Some(seen) => seen,
            None => {
                let (key, version) = self.load(&tenant, id).await.map_err(|error| match error {
                    AccountError::NotFound(_) => WRONG,
                    error => error,
                })?;
                let seen = Seen { key, version, at: now };
                self.seen.insert(place.clone(), seen.clone());
                seen
            }
        };
        let right: bool = seen.key.digest.as_bytes().ct_eq(digest(secret).as_bytes()).into();
        if !right || seen.key.mode != mode || !seen.key.good(now) {
            return Err(WRONG);
        }
        self.note_use(&tenant, place, &seen, now).await?;
        Ok(Caller {
            tenant,
            by: By::Key {
                id: seen.key.id,
                mode,
                scopes: seen.key.scopes,
            },
        })
    }

    async fn note_use(&self, tenant: &str, place: String, seen: &Seen, now: i64) -> Result<(), AccountError> {
        if seen.key.last_used_at.is_some_and(|at| at + NOTE_USE > now) {
            return Ok(());
        }
        let mut key = seen.key.clone();
        key.last_used_at = Some(now);
        match put(&*self.ledger, SPACE, place.clone(), &key, Some(seen.version)).await {
            Ok(()) => {
                let seen = Seen {
                    key,
                    version: seen.version + 1,
                    at: seen.at,
                };
                self.seen.insert(place, seen);
            }
            // Changed meanwhile, perhaps revoked: look again next time. A key whose use cannot be written down is still
            // good; a full disk must not stop payments.
            Err(error) => {
                tracing::debug!(%tenant, %error, "the use of an API key was not noted");
                self.seen.remove(&place);
            }
        }
        Ok(())
    }

    async fn load(&self, tenant: &str, id: &str) -> Result<(ApiKey, i64), AccountError> {
        let document = self.ledger.document(SPACE, place(tenant, id)).await?;
        let document = document.ok_or(AccountError::NotFound("key"))?;
        Ok((read(&document.value)?, document.version))
    }
}

fn place(tenant: &str, id: &str) -> String {
    format!("{tenant}/{id}")
}

/// Tenant, id and secret of a key that has the form of ours.
fn parts(sent: &str) -> Option<(Mode, (&str, &str, &str))> {
    let rest = sent.strip_prefix(PREFIX)?;
    let (mode, rest) = match rest.split_once('_')? {
        ("live", rest) => (Mode::Live, rest),
        ("test", rest) => (Mode::Test, rest),
        _ => return None,
    };
    let (name, secret) = rest.split_once('_')?;
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    if name.len() != TENANT + ID || secret.len() != SECRET || !plain(name) || !plain(secret) {
        return None;
    }
    let (tenant, id) = name.split_at(TENANT);
    Some((mode, (tenant, id, secret)))
}
